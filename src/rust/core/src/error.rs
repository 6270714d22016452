//! The crate's one error type. Every variant is a kind that a caller can act
//! on; it carries the path and the element that failed.

use std::path::PathBuf;

/// Shorthand for a result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No file at the path.
    #[error("there is no file at {path}")]
    FileMissing {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path names a directory.
    #[error("{path} is a directory, not a file")]
    IsDirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// The file may not be read.
    #[error("{path} can't be read: {reason}")]
    Permission {
        /// The path asked for.
        path: PathBuf,
        /// The operating system's reason.
        reason: String,
    },
    /// Another process holds the file's lock for writing.
    #[error("{path} is being written by another process")]
    FileInUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not HDF5.
    #[error("{path} is not an HDF5 file")]
    NotHdf5 {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before the HDF5 superblock says it does.
    #[error("{path} is truncated: {reason}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The file is HDF5, but holds no `AnnData` object.
    #[error("{path} is an HDF5 file, but not an AnnData file: {reason}")]
    NotAnnData {
        /// The file.
        path: PathBuf,
        /// What was looked for in vain.
        reason: String,
    },
    /// The file was written by an `AnnData` before 0.7 in a way that is not read.
    #[error("`{element}` in {path} is in a legacy encoding: {reason}")]
    UnsupportedLegacy {
        /// The file.
        path: PathBuf,
        /// The element.
        element: String,
        /// What is legacy about it.
        reason: String,
    },
    /// The file changed since its handle was made.
    #[error("{path} changed since it was opened: {reason}")]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// An element is absent.
    #[error("{path} has no element `{element}`")]
    ElementMissing {
        /// The file.
        path: PathBuf,
        /// The element asked for.
        element: String,
    },
    /// An element's encoding is unknown to this version.
    #[error("`{element}` in {path} has encoding `{found}`, which is not supported")]
    UnsupportedEncoding {
        /// The file.
        path: PathBuf,
        /// The element.
        element: String,
        /// The encoding found.
        found: String,
    },
    /// A chunk filter can't be undone here.
    #[error(
        "`{element}` in {path} is compressed with the filter `{filter}`, which is not available"
    )]
    UnsupportedFilter {
        /// The file.
        path: PathBuf,
        /// The element.
        element: String,
        /// The filter's name or number.
        filter: String,
    },
    /// An element contradicts itself or its neighbours.
    #[error("`{element}` in {path} is damaged: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The element.
        element: String,
        /// What does not fit.
        reason: String,
    },
    /// libhdf5 refused a call.
    #[error("HDF5 could not {action} `{element}` in {path}: {reason}")]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// The element.
        element: String,
        /// What was tried.
        action: &'static str,
        /// The library's words.
        reason: String,
    },
    /// An argument does not fit the data.
    #[error("{message}")]
    InvalidInput {
        /// The argument's name.
        argument: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Values are not what the method needs (NaN, negative counts ...).
    #[error("{message}")]
    InvalidValues {
        /// What was found, where.
        message: String,
    },
    /// A graph is not one of symmetric weights.
    #[error("{message}")]
    InvalidGraph {
        /// What was found, where.
        message: String,
    },
    /// The work does not fit the memory budget.
    #[error(
        "{what} needs {needed_bytes} bytes, more than the memory budget of {budget_bytes} bytes"
    )]
    OverBudget {
        /// What needs the memory.
        what: String,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes allowed.
        budget_bytes: u64,
    },
    /// The result can't be held by an R object of the kind asked for.
    #[error("{message}")]
    TooLarge {
        /// What is too large.
        message: String,
    },
    /// An iteration did not reach its tolerance.
    #[error("{message}")]
    NotConverged {
        /// What did not converge, and how far it came.
        message: String,
    },
    /// A partial result can't be decoded or does not belong to this pass.
    #[error("a partial result is unusable: {reason}")]
    BadPartial {
        /// What does not fit.
        reason: String,
    },
    /// A partial result was made by another version of the engine.
    #[error(
        "a partial result comes from scoom {found}, and this is scoom {expected}; \
         workers need the version that the session has"
    )]
    PartialVersion {
        /// Version and format of the partial.
        found: String,
        /// Those of this engine.
        expected: String,
    },
    /// The system refused to start a thread.
    #[error("can't start {wanted} threads: {source}")]
    Threads {
        /// Threads asked for.
        wanted: usize,
        /// The operating system's error.
        source: rayon::ThreadPoolBuildError,
    },
    /// The user interrupted the call.
    #[error("interrupted")]
    Interrupted,
    /// Reading or writing a scratch or output file failed.
    #[error("can't {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl Error {
    /// The kind, in the words that become R condition classes.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Error::FileMissing { .. } => "file_missing",
            Error::IsDirectory { .. } => "is_directory",
            Error::Permission { .. } => "permission",
            Error::FileInUse { .. } => "file_in_use",
            Error::NotHdf5 { .. } => "not_hdf5",
            Error::Truncated { .. } => "truncated",
            Error::NotAnnData { .. } => "not_anndata",
            Error::UnsupportedLegacy { .. } => "unsupported_legacy",
            Error::FileChanged { .. } => "file_changed",
            Error::ElementMissing { .. } => "element_missing",
            Error::UnsupportedEncoding { .. } => "unsupported_encoding",
            Error::UnsupportedFilter { .. } => "unsupported_filter",
            Error::Corrupt { .. } => "corrupt",
            Error::Hdf5 { .. } => "hdf5",
            Error::InvalidInput { .. } => "invalid_input",
            Error::InvalidValues { .. } => "invalid_values",
            Error::InvalidGraph { .. } => "invalid_graph",
            Error::OverBudget { .. } => "over_budget",
            Error::TooLarge { .. } => "too_large",
            Error::NotConverged { .. } => "not_converged",
            Error::BadPartial { .. } => "bad_partial",
            Error::PartialVersion { .. } => "partial_version",
            Error::Threads { .. } => "threads",
            Error::Interrupted => "interrupted",
            Error::Io { .. } => "io",
        }
    }

    /// The variant's fields by name, for conditions that carry them.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let path = |p: &PathBuf| ("path", p.display().to_string());
        match self {
            Error::FileMissing { path: p }
            | Error::IsDirectory { path: p }
            | Error::FileInUse { path: p }
            | Error::NotHdf5 { path: p } => vec![path(p)],
            Error::Permission { path: p, reason }
            | Error::Truncated { path: p, reason }
            | Error::NotAnnData { path: p, reason }
            | Error::FileChanged { path: p, reason } => {
                vec![path(p), ("reason", reason.clone())]
            }
            Error::ElementMissing { path: p, element } => {
                vec![path(p), ("element", element.clone())]
            }
            Error::UnsupportedLegacy { path: p, element, reason }
            | Error::Corrupt { path: p, element, reason }
            | Error::Hdf5 { path: p, element, reason, .. } => {
                vec![path(p), ("element", element.clone()), ("reason", reason.clone())]
            }
            Error::UnsupportedEncoding { path: p, element, found } => {
                vec![path(p), ("element", element.clone()), ("found", found.clone())]
            }
            Error::UnsupportedFilter { path: p, element, filter } => {
                vec![path(p), ("element", element.clone()), ("filter", filter.clone())]
            }
            Error::InvalidInput { argument, .. } => vec![("argument", (*argument).to_owned())],
            Error::OverBudget { what, needed_bytes, budget_bytes } => vec![
                ("what", what.clone()),
                ("needed_bytes", needed_bytes.to_string()),
                ("budget_bytes", budget_bytes.to_string()),
            ],
            Error::Threads { wanted, source } => {
                vec![("wanted", wanted.to_string()), ("reason", source.to_string())]
            }
            Error::PartialVersion { found, expected } => {
                vec![("found", found.clone()), ("expected", expected.clone())]
            }
            Error::BadPartial { reason } => vec![("reason", reason.clone())],
            Error::Io { path: p, source, .. } => vec![path(p), ("reason", source.to_string())],
            Error::InvalidValues { .. }
            | Error::InvalidGraph { .. }
            | Error::TooLarge { .. }
            | Error::NotConverged { .. }
            | Error::Interrupted => Vec::new(),
        }
    }
}
