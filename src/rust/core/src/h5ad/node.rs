//! One object of an open file, with the names its error messages need.
//!
//! Every reader of this module takes a [`Node`]. It holds an HDF5 identifier, so
//! none of them leaves the call that opened the file.

use std::path::Path;
use std::sync::Arc;

use hdf5_metno::{self as hdf5, Attribute, Dataset, Group, Location, LocationType};

use super::filters::FilterSpec;
use super::strings;
use crate::error::{Error, Result};

/// A group or a dataset, its path inside the file and the path of the file.
#[derive(Clone)]
pub(crate) struct Node {
    path: Arc<Path>,
    element: String,
    object: Object,
}

/// What a [`Node`] is on disk.
#[derive(Clone)]
pub(crate) enum Object {
    /// An HDF5 group.
    Group(Group),
    /// An HDF5 dataset.
    Dataset(Dataset),
}

impl Node {
    /// The root of an open file.
    pub(crate) fn root(path: Arc<Path>, file: &hdf5::File) -> Result<Self> {
        let group = file.group("/").map_err(|e| Error::Hdf5 {
            path: path.to_path_buf(),
            element: "/".to_owned(),
            action: "open",
            reason: e.to_string(),
        })?;
        Ok(Self { path, element: String::new(), object: Object::Group(group) })
    }

    /// A dataset reached by another way than its name, such as a reference.
    pub(crate) fn with_dataset(&self, element: String, dataset: Dataset) -> Self {
        Self { path: Arc::clone(&self.path), element, object: Object::Dataset(dataset) }
    }

    /// The path inside the file, without a leading slash; empty for the root.
    pub(crate) fn element(&self) -> &str {
        &self.element
    }

    /// The last part of the path inside the file.
    pub(crate) fn name(&self) -> &str {
        self.element.rsplit('/').next().unwrap_or_default()
    }

    /// Group or dataset.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// The group behind this node.
    pub(crate) fn group(&self) -> Result<&Group> {
        match &self.object {
            Object::Group(group) => Ok(group),
            Object::Dataset(_) => Err(self.corrupt("a dataset stands where a group is expected")),
        }
    }

    /// The dataset behind this node.
    pub(crate) fn dataset(&self) -> Result<&Dataset> {
        match &self.object {
            Object::Dataset(dataset) => Ok(dataset),
            Object::Group(_) => Err(self.corrupt("a group stands where a dataset is expected")),
        }
    }

    /// Refuses a dataset that claims far more bytes than its stored ones can stand
    /// for. libhdf5 would fill memory, or walk over chunks that do not exist for ever.
    pub(crate) fn check_plausible(&self) -> Result<()> {
        const FREE: u64 = 1 << 28;
        const MAX_RATIO: u64 = 1 << 14;
        let dataset = self.dataset()?;
        let describe = |e: hdf5::Error| self.hdf5("describe", &e);
        let n = dataset.space().map_err(describe)?.size() as u64;
        let claimed = n.saturating_mul(dataset.dtype().map_err(describe)?.size() as u64);
        if claimed > FREE && claimed / MAX_RATIO > dataset.storage_size() {
            return Err(self.corrupt(format!(
                "its shape {:?} stands for {claimed} bytes, but {} are stored",
                dataset.shape(),
                dataset.storage_size()
            )));
        }
        Ok(())
    }

    /// The names of a group's members, sorted, as h5py lists them.
    pub(crate) fn members(&self) -> Result<Vec<String>> {
        let mut names = self.group()?.member_names().map_err(|e| self.hdf5("list", &e))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Whether a member of this name exists (`a/b` asks for nested ones).
    pub(crate) fn has(&self, name: &str) -> bool {
        let Object::Group(group) = &self.object else {
            return false;
        };
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        ends.into_iter().all(|end| end > 0 && group.link_exists(&name[..end]))
    }

    /// Opens a member by name (`a/b` for nested ones).
    pub(crate) fn child(&self, name: &str) -> Result<Self> {
        let group = self.group()?;
        let element = if self.element.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.element)
        };
        if !self.has(name) {
            return Err(Error::ElementMissing { path: self.path.to_path_buf(), element });
        }
        let wrap = |e: hdf5::Error| Error::Hdf5 {
            path: self.path.to_path_buf(),
            element: element.clone(),
            action: "open",
            reason: e.to_string(),
        };
        let kind = group.loc_type_by_name(name).map_err(wrap)?;
        let object = if kind == LocationType::Group {
            Object::Group(group.group(name).map_err(wrap)?)
        } else if kind == LocationType::Dataset {
            Object::Dataset(group.dataset(name).map_err(wrap)?)
        } else {
            return Err(Error::UnsupportedEncoding {
                path: self.path.to_path_buf(),
                element,
                found: "a named datatype".to_owned(),
            });
        };
        Ok(Self { path: Arc::clone(&self.path), element, object })
    }

    /// The location that carries this node's attributes.
    fn location(&self) -> &Location {
        match &self.object {
            Object::Group(group) => group,
            Object::Dataset(dataset) => dataset,
        }
    }

    /// An attribute, or `None` where there is none of this name.
    pub(crate) fn attr(&self, name: &str) -> Option<Attribute> {
        self.location().attr(name).ok()
    }

    /// An attribute that holds one string.
    pub(crate) fn attr_string(&self, name: &str) -> Result<Option<String>> {
        let Some(attr) = self.attr(name) else {
            return Ok(None);
        };
        let text = strings::read(&attr).map_err(|e| self.bad_attr(name, &e))?;
        if text.len() == 1 {
            Ok(Some(text.get(0).to_owned()))
        } else {
            Err(self.corrupt(format!("attribute `{name}` holds {} strings, not one", text.len())))
        }
    }

    /// An attribute that holds a vector of strings. An empty vector may have any
    /// type: h5py writes it as floating point.
    pub(crate) fn attr_strings(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(attr) = self.attr(name) else {
            return Ok(None);
        };
        if attr.size() == 0 {
            return Ok(Some(Vec::new()));
        }
        let text = strings::read(&attr).map_err(|e| self.bad_attr(name, &e))?;
        Ok(Some(text.iter().map(str::to_owned).collect()))
    }

    /// An attribute that holds lengths.
    pub(crate) fn attr_lengths(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(attr) = self.attr(name) else {
            return Ok(None);
        };
        let values: Vec<i64> = attr.read_raw().map_err(|e| self.bad_attr(name, &e))?;
        let lengths: Option<Vec<usize>> =
            values.iter().map(|&value| usize::try_from(value).ok()).collect();
        lengths
            .map(Some)
            .ok_or_else(|| self.corrupt(format!("attribute `{name}` holds a negative length")))
    }

    /// An attribute that holds one truth value, however it is typed.
    pub(crate) fn attr_flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(attr) = self.attr(name) else {
            return Ok(None);
        };
        let values: Vec<i64> = attr.read_raw().map_err(|e| self.bad_attr(name, &e))?;
        match values.as_slice() {
            [value] => Ok(Some(*value != 0)),
            _ => {
                Err(self
                    .corrupt(format!("attribute `{name}` holds {} values, not one", values.len())))
            }
        }
    }

    fn bad_attr(&self, name: &str, error: &hdf5::Error) -> Error {
        self.corrupt(format!("attribute `{name}` can't be read: {error}"))
    }

    /// This element contradicts itself or its neighbours.
    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::Corrupt {
            path: self.path.to_path_buf(),
            element: self.shown(),
            reason: reason.into(),
        }
    }

    /// libhdf5 could not read this element, perhaps for want of a filter.
    pub(crate) fn unreadable(&self, error: &hdf5::Error) -> Error {
        let filters = match &self.object {
            Object::Dataset(dataset) => dataset.filters(),
            Object::Group(_) => Vec::new(),
        };
        match filters.iter().find(|filter| !filter.is_available()) {
            Some(filter) => Error::UnsupportedFilter {
                path: self.path.to_path_buf(),
                element: self.shown(),
                filter: FilterSpec { id: filter.id(), parameters: Vec::new() }.name(),
            },
            None => self.hdf5("read", error),
        }
    }

    /// libhdf5 refused a call on this element.
    pub(crate) fn hdf5(&self, action: &'static str, error: &hdf5::Error) -> Error {
        Error::Hdf5 {
            path: self.path.to_path_buf(),
            element: self.shown(),
            action,
            reason: error.to_string(),
        }
    }

    /// This element's encoding is not read.
    pub(crate) fn unsupported(&self, found: impl Into<String>) -> Error {
        Error::UnsupportedEncoding {
            path: self.path.to_path_buf(),
            element: self.shown(),
            found: found.into(),
        }
    }

    /// This element was written before `AnnData` 0.7 in a way that is not read.
    pub(crate) fn legacy(&self, reason: impl Into<String>) -> Error {
        Error::UnsupportedLegacy {
            path: self.path.to_path_buf(),
            element: self.shown(),
            reason: reason.into(),
        }
    }

    fn shown(&self) -> String {
        if self.element.is_empty() { "/".to_owned() } else { self.element.clone() }
    }
}
