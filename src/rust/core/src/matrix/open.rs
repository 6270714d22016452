//! From an element of a file to a source.

use std::path::Path;

use super::csc::CscSource;
use super::csr::{CsrSource, Opener};
use super::dense::DenseSource;
use super::source::Source;
use crate::error::{Error, Result};

/// Opens the matrix `element` (`X`, `layers/counts`, `raw/X`) of the file that
/// `open` opens.
///
/// # Errors
/// When the element is absent, is no matrix, or contradicts itself.
pub fn open_matrix(path: &Path, element: &str, open: Opener) -> Result<Box<dyn Source>> {
    let file = open()?;
    let missing = || Error::ElementMissing { path: path.into(), element: element.into() };
    let corrupt =
        |reason: String| Error::Corrupt { path: path.into(), element: element.into(), reason };
    if !file.link_exists(element) {
        return Err(missing());
    }
    if let Ok(dataset) = file.dataset(element) {
        let &[n_obs, n_vars] = dataset.shape().as_slice() else {
            return Err(corrupt(format!("it has {} dimensions", dataset.shape().len())));
        };
        drop(dataset);
        return Ok(Box::new(DenseSource::new(path, element, (n_obs, n_vars), open)?));
    }
    let group = file.group(element).map_err(|_| missing())?;
    let text = |name: &str| -> Option<String> {
        let attribute = group.attr(name).ok()?;
        attribute
            .read_scalar::<hdf5_metno::types::VarLenUnicode>()
            .map(|s| s.to_string())
            .or_else(|_| {
                attribute.read_scalar::<hdf5_metno::types::VarLenAscii>().map(|s| s.to_string())
            })
            .ok()
    };
    let encoding = text("encoding-type").or_else(|| text("h5sparse_format")).unwrap_or_default();
    let shape = group
        .attr("shape")
        .or_else(|_| group.attr("h5sparse_shape"))
        .and_then(|a| a.read_raw::<u64>())
        .map_err(|_| corrupt("it has no shape".into()))?;
    let &[n_obs, n_vars] = shape.as_slice() else {
        return Err(corrupt(format!("its shape has {} numbers", shape.len())));
    };
    let shape = (n_obs as usize, n_vars as usize);
    match encoding.as_str() {
        "csr_matrix" | "csr" => Ok(Box::new(CsrSource::new(path, element, shape, open)?)),
        "csc_matrix" | "csc" => Ok(Box::new(CscSource::new(path, element, shape, open)?)),
        other => Err(Error::UnsupportedEncoding {
            path: path.into(),
            element: element.into(),
            found: other.into(),
        }),
    }
}
