//! From an element of a file to a source.

use std::path::Path;

use super::csc::CscSource;
use super::csr::CsrSource;
use super::dense::DenseSource;
use super::grid::{GridSpec, MOST_VALUES};
use super::location::{Location, Opener};
use super::source::Source;
use crate::error::{Error, Result};
use crate::h5ad::{Encoding, Node, Object, sparse_shape};

/// Opens the matrix `element` (`X`, `layers/counts`, `raw/X`) of the file that
/// `open` opens.
///
/// # Errors
/// When the element is absent, is no matrix, or contradicts itself; `TooLarge`
/// past 2^31 - 1 rows or columns, which no R object can number.
pub fn open_matrix(path: &Path, element: &str, open: Opener) -> Result<Box<dyn Source>> {
    open_matrix_with(path, element, open, &GridSpec::default())
}

/// The same with a grid of another fineness, for tests.
///
/// # Errors
/// As [`open_matrix`].
pub fn open_matrix_with(
    path: &Path,
    element: &str,
    open: Opener,
    spec: &GridSpec,
) -> Result<Box<dyn Source>> {
    let location = Location::new(path, element, open);
    let file = location.open()?;
    let node = Node::root(path.into(), &file)?.child(element)?;
    if let Object::Dataset(dataset) = node.object() {
        let &[n_obs, n_vars] = dataset.shape().as_slice() else {
            return Err(node.corrupt(format!("it has {} dimensions", dataset.shape().len())));
        };
        check_shape(element, n_obs, n_vars)?;
        if (n_obs as u64).saturating_mul(n_vars as u64) > MOST_VALUES {
            return Err(node.corrupt(format!("it claims {n_obs} x {n_vars} values")));
        }
        return Ok(Box::new(DenseSource::new(location, (n_obs, n_vars), spec)?));
    }
    let encoding = Encoding::of(&node)?;
    if !matches!(encoding, Encoding::Csr | Encoding::Csc) {
        return Err(node.unsupported(encoding.to_string()));
    }
    let [n_obs, n_vars] = sparse_shape(&node)?;
    check_shape(element, n_obs, n_vars)?;
    Ok(match encoding {
        Encoding::Csr => Box::new(CsrSource::new(location, (n_obs, n_vars), spec)?),
        _ => Box::new(CscSource::new(location, (n_obs, n_vars), spec)?),
    })
}

fn check_shape(element: &str, n_obs: usize, n_vars: usize) -> Result<()> {
    if i32::try_from(n_obs.max(n_vars)).is_ok() {
        return Ok(());
    }
    Err(Error::TooLarge {
        message: format!(
            "`{element}` is {n_obs} x {n_vars}; 2147483647 rows and columns are the most"
        ),
    })
}
