//! Sparse rows on disk: the `csr_matrix` encoding.
//!
//! Row offsets are read whole (8 bytes a row); data and indices stream. Memory
//! beside the offsets: per worker one block (about 2^20 entries of 12 bytes)
//! and its encoded chunks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::RowBlock;
use super::chunks::{Cursor, Pieces, Stream, check_chunks};
use super::grid::{Grid, GridSpec, MOST_VALUES};
use super::source::{Emit, Fetched, Reader, Scratch, Source};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::h5ad::raw::RawArray;

/// Bytes of a decoded entry: column and value.
pub(crate) const ENTRY_BYTES: u64 = 12;

/// Opens the file anew for each sweep.
pub type Opener = Arc<dyn Fn() -> Result<hdf5_metno::File> + Send + Sync>;

/// A `csr_matrix` element of a file.
pub struct CsrSource {
    path: PathBuf,
    element: String,
    open: Opener,
    n_obs: usize,
    n_vars: usize,
    indptr: Arc<[u64]>,
    grid: Grid,
}

impl CsrSource {
    /// Reads the row offsets of `element` and checks them.
    ///
    /// # Errors
    /// When an array is missing, offsets decrease, or lengths do not match.
    pub fn new(
        path: &Path,
        element: &str,
        shape: (usize, usize),
        open: Opener,
        spec: &GridSpec,
    ) -> Result<Self> {
        let file = open()?;
        let indptr = read_indptr(&file, path, element, shape.0)?;
        let grid = Grid::from_indptr(&indptr, spec);
        Ok(CsrSource {
            path: path.into(),
            element: element.into(),
            open,
            n_obs: shape.0,
            n_vars: shape.1,
            indptr: indptr.into(),
            grid,
        })
    }

    /// The row offsets.
    #[must_use]
    pub fn indptr(&self) -> &[u64] {
        &self.indptr
    }
}

/// Reads and checks the offsets of a compressed sparse matrix with `n_major`
/// rows (csr) or columns (csc).
///
/// # Errors
/// When they do not fit `n_major`, the data or the indices.
pub fn read_indptr(
    file: &hdf5_metno::File,
    path: &Path,
    element: &str,
    n_major: usize,
) -> Result<Vec<u64>> {
    let array = RawArray::open(file, path, &format!("{element}/indptr"))?;
    let indptr = array.read_offsets(n_major as u64 + 1)?;
    if indptr[0] != 0 || indptr.windows(2).any(|w| w[0] > w[1]) {
        return Err(array.corrupt("its offsets do not increase from 0".into()));
    }
    let nnz = indptr[n_major];
    if nnz > MOST_VALUES {
        return Err(array.corrupt(format!("it claims {nnz} values")));
    }
    for name in ["data", "indices"] {
        let values = RawArray::open(file, path, &format!("{element}/{name}"))?;
        if values.dims != [nnz] {
            return Err(values.corrupt(format!(
                "its dimensions are {:?} where the offsets ask for {nnz} values",
                values.dims
            )));
        }
        values.check_claim(1 << 20)?;
    }
    Ok(indptr)
}

impl Source for CsrSource {
    fn n_obs(&self) -> usize {
        self.n_obs
    }

    fn n_vars(&self) -> usize {
        self.n_vars
    }

    fn grid(&self) -> &Grid {
        &self.grid
    }

    fn nnz(&self) -> Option<u64> {
        self.indptr.last().copied()
    }

    fn reader<'a>(&'a self, ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        let file = (self.open)()?;
        let array = |name: &str| {
            RawArray::open(&file, &self.path, &format!("{}/{name}", self.element)).map(Arc::new)
        };
        let (data, indices) = (array("data")?, array("indices")?);
        let nnz = self.nnz().unwrap_or(0);
        if data.dims != [nnz] || indices.dims != [nnz] {
            return Err(Error::FileChanged {
                path: self.path.clone(),
                reason: format!("`{}` has another length", self.element),
            });
        }
        check_chunks(&self.element, &[&data, &indices], ctx)?;
        Ok(Box::new(CsrReader {
            source: self,
            ctx,
            data: Stream::new(data),
            indices: Stream::new(indices),
            _file: file,
        }))
    }
}

struct CsrReader<'a> {
    source: &'a CsrSource,
    ctx: &'a Ctx<'a>,
    data: Stream,
    indices: Stream,
    _file: hdf5_metno::File,
}

impl<'a> Reader<'a> for CsrReader<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        let rows = self.source.grid.rows(block);
        let span = self.source.indptr[rows.start]..self.source.indptr[rows.end];
        self.ctx.check_budget(
            || format!("rows {} to {} of `{}`", rows.start + 1, rows.end, self.source.element),
            (span.end - span.start) * ENTRY_BYTES,
        )?;
        Ok(Box::new(CsrFetched {
            source: self.source,
            rows,
            indices: self.indices.fetch(span.clone())?,
            data: self.data.fetch(span)?,
            data_array: Arc::clone(self.data.array()),
            index_array: Arc::clone(self.indices.array()),
        }))
    }
}

struct CsrFetched<'a> {
    source: &'a CsrSource,
    rows: std::ops::Range<usize>,
    indices: Pieces,
    data: Pieces,
    data_array: Arc<RawArray>,
    index_array: Arc<RawArray>,
}

impl Fetched for CsrFetched<'_> {
    fn decode(
        self: Box<Self>,
        scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        let Scratch { inflater, data, indices } = scratch;
        let (index_array, data_array) = (&*self.index_array, &*self.data_array);
        let mut columns = Cursor::new(self.indices, index_array, inflater, indices)?;
        let mut values = Cursor::new(self.data, data_array, inflater, data)?;
        let offsets = &self.source.indptr[self.rows.start..=self.rows.end];
        let n_vars = self.source.n_vars as u64;
        let mut row = 0;
        while row < self.rows.len() {
            let first = offsets[row];
            let mut end = row + 1;
            while end < self.rows.len() && ((offsets[end] - first) as usize) < slab_values {
                end += 1;
            }
            let n = (offsets[end] - first) as usize;
            slab.clear();
            slab.indptr.extend(offsets[row..=end].iter().map(|&o| (o - first) as usize));
            slab.rows.extend(self.rows.start + row..self.rows.start + end);
            columns.take(n, inflater, |bytes| {
                if index_array.dtype.append_indices(bytes, n_vars, &mut slab.indices) {
                    Ok(())
                } else {
                    Err(index_array.corrupt(format!("it points outside the {n_vars} columns")))
                }
            })?;
            values.take(n, inflater, |bytes| {
                data_array.dtype.append_f64(bytes, &mut slab.values);
                Ok(())
            })?;
            slab.sum_duplicates();
            emit(slab)?;
            row = end;
        }
        Ok(())
    }
}
