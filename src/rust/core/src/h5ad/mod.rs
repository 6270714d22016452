//! Reading `.h5ad` files: the encodings of the anndata on-disk specification.
//!
//! [`describe`] tells what a file holds without reading values; [`read_element`]
//! reads one element whole; [`raw`] and [`filters`] hand the matrices' chunks to
//! the readers that stream them. Nothing here keeps an
//! HDF5 identifier between calls, and nothing trusts a file: lengths, codes and
//! offsets that contradict each other are errors or listed as [`Unread`].

mod array;
mod dataframe;
mod describe;
mod element;
mod encoding;
mod file;
pub mod filters;
mod node;
pub mod raw;
mod record;
mod sparse;
mod strings;
#[cfg(test)]
mod tests;

pub use array::{Array, Values};
pub use dataframe::{Categorical, DataFrame};
pub use describe::{Description, Entry, FrameInfo, MatrixInfo, MatrixKind, RawInfo, describe};
pub use element::{Dict, Element, read_element, read_names};
pub use encoding::Encoding;
pub use file::{H5File, Stamp, check_stamp};
pub use record::Records;
pub use sparse::{Sparse, SparseKind};
pub use strings::Strings;

pub(crate) use node::{Node, Object};
pub(crate) use sparse::shape as sparse_shape;

use crate::error::Error;

/// An element that is in the file and was not read, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The path inside the file.
    pub element: String,
    /// Why it was not read.
    pub reason: String,
}

impl Unread {
    /// Takes the reason from an error.
    pub(crate) fn new(element: &str, error: &Error) -> Self {
        let reason = match error {
            Error::Corrupt { element: at, reason, .. }
            | Error::UnsupportedLegacy { element: at, reason, .. }
                if at == element =>
            {
                reason.clone()
            }
            Error::Corrupt { element: at, reason, .. } => format!("`{at}`: {reason}"),
            Error::UnsupportedEncoding { found, .. } => {
                format!("encoding `{found}` is not supported")
            }
            Error::ElementMissing { element: at, .. } if at == element => "it is absent".to_owned(),
            Error::ElementMissing { element: at, .. } => format!("`{at}` is absent"),
            other => other.to_string(),
        };
        Self { element: element.to_owned(), reason }
    }
}
