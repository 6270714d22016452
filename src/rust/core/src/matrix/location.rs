//! Where a matrix of a file is: what sources on disk open anew for each sweep.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_metno::File;

use crate::error::{Error, Result};
use crate::h5ad::raw::RawArray;

/// Opens the file anew for each sweep.
pub type Opener = Arc<dyn Fn() -> Result<File> + Send + Sync>;

/// An element of a file.
#[derive(Clone)]
pub struct Location {
    path: PathBuf,
    element: String,
    open: Opener,
}

impl Location {
    /// The element `element` of the file `path`, which `open` opens.
    #[must_use]
    pub fn new(path: &Path, element: &str, open: Opener) -> Self {
        Location { path: path.into(), element: element.into(), open }
    }

    /// The name of the element.
    #[must_use]
    pub fn element(&self) -> &str {
        &self.element
    }

    /// Opens the file.
    ///
    /// # Errors
    /// When it is gone, has changed, or can't be opened.
    pub fn open(&self) -> Result<File> {
        (self.open)()
    }

    /// Opens the element itself as an array.
    ///
    /// # Errors
    /// As [`RawArray::open`].
    pub fn array(&self, file: &File) -> Result<RawArray> {
        RawArray::open(file, &self.path, &self.element)
    }

    /// Opens the array `name` inside the element.
    ///
    /// # Errors
    /// As [`RawArray::open`].
    pub fn array_inside(&self, file: &File, name: &str) -> Result<RawArray> {
        RawArray::open(file, &self.path, &format!("{}/{name}", self.element))
    }

    /// The error that the element has changed since it was opened.
    #[must_use]
    pub fn changed(&self) -> Error {
        Error::FileChanged {
            path: self.path.clone(),
            reason: format!("`{}` has other dimensions", self.element),
        }
    }
}
