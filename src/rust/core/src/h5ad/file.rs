//! Opening a file: what can be wrong with it is found out, in words, before
//! libhdf5 is asked.
//!
//! A [`H5File`] lives for one call. It is opened read-only. HDF5's file lock is
//! taken where the file system has one and left out where it has none (NFS,
//! read-only mounts); a file that another process is writing to is refused.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use hdf5_metno as hdf5;

use super::node::Node;
use super::raw::plugins;
use crate::error::{Error, Result};

/// What tells that a file is still the one that was opened before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change, in seconds since 1970.
    pub mtime: f64,
}

impl Stamp {
    /// The stamp of the file at `path`.
    ///
    /// # Errors
    ///
    /// `FileMissing`, `IsDirectory` or `Permission`.
    pub fn of(path: &Path) -> Result<Self> {
        let meta = fs::metadata(path).map_err(|e| refused(path, &e))?;
        if meta.is_dir() {
            return Err(Error::IsDirectory { path: path.to_path_buf() });
        }
        let mtime = meta
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0.0, |elapsed| elapsed.as_secs_f64());
        Ok(Self { size: meta.len(), mtime })
    }
}

/// An open `AnnData` file.
pub struct H5File {
    path: Arc<Path>,
    stamp: Stamp,
    file: hdf5::File,
}

impl H5File {
    /// Opens a file for reading and checks that it holds an `AnnData` object.
    ///
    /// # Errors
    ///
    /// `FileMissing`, `IsDirectory`, `Permission`, `NotHdf5`, `Truncated`,
    /// `NotAnnData`, or `Hdf5` with the library's reason.
    pub fn open(path: &Path) -> Result<Self> {
        let stamp = Stamp::of(path)?;
        check_superblock(path, stamp.size)?;
        plugins::lend();
        let file = open_hdf5(path)?;
        let file = Self { path: Arc::from(path), stamp, file };
        check_anndata(&file.root()?, path)?;
        Ok(file)
    }

    /// Opens a file that was opened before.
    ///
    /// # Errors
    ///
    /// `FileChanged` when its stamp differs, otherwise as [`H5File::open`].
    pub fn reopen(path: &Path, stamp: Stamp) -> Result<Self> {
        check_stamp(path, stamp)?;
        Self::open(path)
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size and time of change when it was opened.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The library's own handle.
    #[must_use]
    pub fn hdf5(&self) -> &hdf5::File {
        &self.file
    }

    /// The root group.
    pub(crate) fn root(&self) -> Result<Node> {
        Node::root(Arc::clone(&self.path), &self.file)
    }

    /// Opens a dataset, such as `X/data`.
    ///
    /// # Errors
    ///
    /// `ElementMissing`, or `Corrupt` where a group stands there.
    pub fn dataset(&self, element: &str) -> Result<hdf5::Dataset> {
        self.root()?.child(element)?.dataset().cloned()
    }

    /// Opens a group, such as `X`.
    ///
    /// # Errors
    ///
    /// `ElementMissing`, or `Corrupt` where a dataset stands there.
    pub fn group(&self, element: &str) -> Result<hdf5::Group> {
        self.root()?.child(element)?.group().cloned()
    }
}

/// Checks that a file is still the one a handle describes.
///
/// # Errors
///
/// `FileChanged`, or what [`Stamp::of`] finds.
pub fn check_stamp(path: &Path, expected: Stamp) -> Result<()> {
    let found = Stamp::of(path)?;
    let reason = if found.size != expected.size {
        format!("it had {} bytes and has {} now", expected.size, found.size)
    } else if (found.mtime - expected.mtime).abs() > 1e-6 {
        format!("it was written to {:.3} s later", found.mtime - expected.mtime)
    } else {
        return Ok(());
    };
    Err(Error::FileChanged { path: path.to_path_buf(), reason })
}

fn refused(path: &Path, error: &std::io::Error) -> Error {
    let path = path.to_path_buf();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::FileMissing { path },
        _ => Error::Permission { path, reason: error.to_string() },
    }
}

/// The first eight bytes of an HDF5 superblock.
const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// Looks for the superblock and compares the length it states with the file's.
fn check_superblock(path: &Path, size: u64) -> Result<()> {
    let mut file = fs::File::open(path).map_err(|e| refused(path, &e))?;
    let mut start = 0;
    let mut block = [0; 64];
    // The superblock lies at 0, or behind a user block of 512, 1024, 2048 ... bytes.
    loop {
        let n = read_at(&mut file, start, &mut block).map_err(|e| refused(path, &e))?;
        if n >= SIGNATURE.len() && block[..SIGNATURE.len()] == SIGNATURE {
            break;
        }
        start = if start == 0 { 512 } else { start * 2 };
        if start >= size {
            return Err(Error::NotHdf5 { path: path.to_path_buf() });
        }
    }
    match stated_end(&block) {
        Some(end) if end > size => Err(Error::Truncated {
            path: path.to_path_buf(),
            reason: format!("it has {size} bytes, but says that it has {end}"),
        }),
        _ => Ok(()),
    }
}

fn read_at(file: &mut fs::File, start: u64, block: &mut [u8]) -> std::io::Result<usize> {
    file.seek(SeekFrom::Start(start))?;
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// The end-of-file address of a superblock (HDF5 File Format Specification III.A)
/// with eight-byte addresses; other widths are left to the library.
fn stated_end(block: &[u8; 64]) -> Option<u64> {
    let (width, at) = match block[8] {
        0 => (block[13], 24 + 2 * 8),
        1 => (block[13], 28 + 2 * 8),
        2 | 3 => (block[9], 12 + 2 * 8),
        _ => return None,
    };
    let bytes = block.get(at..at + 8)?.try_into().ok()?;
    (width == 8).then(|| u64::from_le_bytes(bytes))
}

/// Opens with the library, without its file lock where that fails for want of one.
fn open_hdf5(path: &Path) -> Result<hdf5::File> {
    let error = match hdf5::File::open(path) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    let detail = details(&error);
    let in_use = |text: &str| {
        text.contains("errno = 11,")
            || text.contains("errno = 35,")
            || text.contains("Resource temporarily unavailable")
    };
    if detail.contains("unable to lock file") {
        if in_use(&detail) {
            return Err(Error::FileInUse { path: path.to_path_buf() });
        }
        return open_without_lock(path)
            .map_err(|e| failed_to_open(path, &details(&e), &e.to_string()));
    }
    Err(failed_to_open(path, &detail, &error.to_string()))
}

#[cfg(hdf5_file_locking)]
fn open_without_lock(path: &Path) -> hdf5::Result<hdf5::File> {
    hdf5::File::with_options().with_fapl(|access| access.file_locking(false)).open(path)
}

/// Before 1.10.7 the library is told by its environment variable alone.
#[cfg(not(hdf5_file_locking))]
fn open_without_lock(_path: &Path) -> hdf5::Result<hdf5::File> {
    Err("the file system can't lock files; set HDF5_USE_FILE_LOCKING=FALSE before loading".into())
}

fn failed_to_open(path: &Path, detail: &str, reason: &str) -> Error {
    let path = path.to_path_buf();
    if detail.contains("truncated file") {
        Error::Truncated { path, reason: reason.to_owned() }
    } else if detail.contains("file signature not found") {
        Error::NotHdf5 { path }
    } else {
        Error::Hdf5 { path, element: "/".to_owned(), action: "open", reason: reason.to_owned() }
    }
}

/// All frames of the library's error stack as one text.
fn details(error: &hdf5::Error) -> String {
    let Some(stack) = error.stack() else {
        return error.to_string();
    };
    let frames: Vec<String> = stack.iter().map(|frame| frame.desc().to_owned()).collect();
    frames.join("; ")
}

fn check_anndata(root: &Node, path: &Path) -> Result<()> {
    let kind = root.attr_string("encoding-type").unwrap_or_default();
    if kind.as_deref() == Some("anndata") || (root.has("obs") && root.has("var")) {
        return Ok(());
    }
    let reason = if kind.as_deref() == Some("MuData") || root.has("mod") {
        "it is a MuData file, which holds several AnnData objects"
    } else if root.has("matrix/barcodes") || root.has("matrix/features") {
        "it is a 10x Genomics matrix"
    } else if root.has("row_attrs") && root.has("col_attrs") {
        "it is a loom file"
    } else if root.has("assays") && root.has("cell.names") {
        "it is an h5Seurat file"
    } else {
        "it has no `obs` and no `var`"
    };
    Err(Error::NotAnnData { path: path.to_path_buf(), reason: reason.to_owned() })
}
