//! What sparse rows and sparse columns on disk have in common: offsets, and data
//! and indices of one length.
//!
//! Offsets are read whole and checked, 8 bytes a row or column; data and
//! indices stream.

use std::sync::Arc;

use hdf5_metno::File;

use super::chunks::check_chunks;
use super::grid::MOST_VALUES;
use super::location::Location;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::h5ad::raw::RawArray;

/// Bytes of a decoded entry: column and value.
pub(crate) const ENTRY_BYTES: u64 = 12;

/// A compressed sparse matrix of a file.
pub(crate) struct Compressed {
    location: Location,
    indptr: Vec<u64>,
}

/// Its arrays, for one sweep, and the file that they are in.
pub(crate) struct Arrays {
    pub(crate) data: Arc<RawArray>,
    pub(crate) indices: Arc<RawArray>,
    pub(crate) file: File,
}

impl Compressed {
    /// Reads and checks the offsets of a matrix with `n_major` rows (csr) or
    /// columns (csc).
    ///
    /// # Errors
    /// When they do not fit `n_major`, the data or the indices.
    pub(crate) fn new(location: Location, n_major: usize) -> Result<Self> {
        let file = location.open()?;
        let array = location.array_inside(&file, "indptr")?;
        let indptr = array.read_offsets(n_major as u64 + 1)?;
        if indptr[0] != 0 || indptr.windows(2).any(|w| w[0] > w[1]) {
            return Err(array.corrupt("its offsets do not increase from 0".into()));
        }
        let nnz = indptr[n_major];
        if nnz > MOST_VALUES {
            return Err(array.corrupt(format!("it claims {nnz} values")));
        }
        for name in ["data", "indices"] {
            let values = location.array_inside(&file, name)?;
            if values.dims != [nnz] {
                return Err(values.corrupt(format!(
                    "its dimensions are {:?} where the offsets ask for {nnz} values",
                    values.dims
                )));
            }
            values.check_claim(1 << 20)?;
        }
        Ok(Compressed { location, indptr })
    }

    /// The name of the element.
    pub(crate) fn element(&self) -> &str {
        self.location.element()
    }

    /// Offsets of the rows or columns, from 0 to the number of values.
    pub(crate) fn indptr(&self) -> &[u64] {
        &self.indptr
    }

    /// Stored values.
    pub(crate) fn nnz(&self) -> u64 {
        self.indptr[self.indptr.len() - 1]
    }

    /// Opens the arrays.
    ///
    /// # Errors
    /// When the file has changed, or one chunk of each does not fit the budget.
    pub(crate) fn arrays(&self, ctx: &Ctx) -> Result<Arrays> {
        let file = self.location.open()?;
        let array = |name| self.location.array_inside(&file, name).map(Arc::new);
        let (data, indices) = (array("data")?, array("indices")?);
        if [&data, &indices].iter().any(|array| array.dims != [self.nnz()]) {
            return Err(self.location.changed());
        }
        check_chunks(self.element(), &[&data, &indices], ctx)?;
        Ok(Arrays { data, indices, file })
    }
}
