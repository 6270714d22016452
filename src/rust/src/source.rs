//! The matrix of a plan: an element of a file, or a matrix of R's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use extendr_api::prelude::*;
use scoom_core::error::Result;
use scoom_core::h5ad::{H5File, Stamp};
use scoom_core::matrix::memory::{DenseRows, SparseRows};
use scoom_core::matrix::{GridSpec, Source, open_matrix_with};

use crate::convert::{Args, wrong};

/// What tells a matrix on disk from others.
#[derive(Clone, PartialEq)]
struct Origin {
    path: PathBuf,
    stamp: Stamp,
    element: String,
    /// Only tests ask for another grid, to cut small files into several ranges.
    range_values: Option<u64>,
}

/// The matrix that was opened last, if it is stored by columns.
///
/// Counting the values of its rows reads half of the file. Kept, it is counted once for all
/// calls on it. Memory: 4 bytes a row and 8 a column.
static BY_COLUMNS: Mutex<Option<(Origin, Arc<dyn Source>)>> = Mutex::new(None);

/// The element of a file that a plan names.
///
/// # Errors
/// When the file changed since the plan was made; as [`open_matrix_with`].
pub fn on_disk(args: &Args) -> Result<Arc<dyn Source>> {
    let origin = Origin {
        path: PathBuf::from(args.text("path")?),
        stamp: Stamp { size: args.number("size")? as u64, mtime: args.number("mtime")? },
        element: args.text("element")?,
        range_values: args.number_opt("range_values")?.map(|values| (values as u64).max(1)),
    };
    let mut kept = BY_COLUMNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, source)) = &*kept {
        if *of == origin {
            return Ok(Arc::clone(source));
        }
    }
    let (at, stamp) = (origin.path.clone(), origin.stamp);
    let open = Arc::new(move || Ok(H5File::reopen(&at, stamp)?.hdf5().clone()));
    let spec = origin.range_values.map_or_else(GridSpec::default, |range_values| GridSpec {
        range_values,
        block_values: range_values.div_ceil(4),
        ..GridSpec::default()
    });
    let source: Arc<dyn Source> =
        open_matrix_with(Path::new(&origin.path), &origin.element, open, &spec)?.into();
    if source.reads_in_order() {
        *kept = Some((origin, Arc::clone(&source)));
    }
    Ok(source)
}

/// A matrix of R's, genes by cells, whose columns become rows without a copy.
///
/// # Errors
/// When a field is missing or the parts do not fit each other.
pub fn in_memory<'r>(plan: &'r Robj) -> Result<Arc<dyn Source + 'r>> {
    let fields = Args::new(plan).inner("matrix")?;
    // The element outlives this function inside `plan`; `Args` gives slices for
    // as long as its owner lives, so the owner has to be `plan`'s own element.
    let matrix: Args<'r> = Args::within(plan, fields);
    let dim = matrix.integers("dim")?;
    let &[n_vars, n_obs] = dim else { return Err(wrong("matrix", "must have two dimensions")) };
    let (n_obs, n_vars) = (n_obs as usize, n_vars as usize);
    let values = matrix.doubles("x")?;
    if matrix.text("kind")? == "dense" {
        return Ok(Arc::new(DenseRows::new(n_obs, n_vars, values)?));
    }
    let (indptr, indices) = (matrix.integers("p")?, matrix.integers("i")?);
    Ok(Arc::new(SparseRows::new(n_obs, n_vars, indptr, indices, values)?))
}
