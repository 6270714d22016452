//! A scratch file that leaves nothing behind.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Tells the spill files of one process apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file in the scratch directory that several threads append to and read.
///
/// Where the system allows it the file has no name as soon as it is open, so
/// that even a killed process leaves nothing; elsewhere it goes with this value.
#[derive(Debug)]
pub struct Spill {
    file: File,
    path: PathBuf,
    end: AtomicU64,
}

impl Spill {
    /// A new, empty file in `directory`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(directory: &Path) -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("scoom-{}-{number}.spill", std::process::id()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(windows)]
        {
            use std::os::windows::fs::OpenOptionsExt;
            const DELETE_ON_CLOSE: u32 = 0x0400_0000;
            options.custom_flags(DELETE_ON_CLOSE);
        }
        let file = options.open(&path).map_err(|source| failed("create", &path, source))?;
        #[cfg(unix)]
        std::fs::remove_file(&path).map_err(|source| failed("unlink", &path, source))?;
        Ok(Spill { file, path, end: AtomicU64::new(0) })
    }

    /// Appends bytes and returns where they begin.
    ///
    /// # Errors
    /// When they can't be written, as on a full disk.
    pub fn append(&self, bytes: &[u8]) -> Result<u64> {
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        write_all_at(&self.file, bytes, at)
            .map_err(|source| failed("write", &self.path, source))?;
        Ok(at)
    }

    /// Reads the bytes from `at` on that fill `bytes`.
    ///
    /// # Errors
    /// When there are not as many, or they can't be read.
    pub fn read(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        read_exact_at(&self.file, bytes, at).map_err(|source| failed("read", &self.path, source))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_path_buf(), source }
}

#[cfg(unix)]
use std::os::unix::fs::FileExt;

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(bytes, at)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => {
                bytes = &bytes[n..];
                at += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_read(bytes, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                bytes = &mut bytes[n..];
                at += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_comes_back_and_nothing_stays() {
        let directory = std::env::temp_dir().join(format!("scoom-spill-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let spill = Spill::new(&directory).unwrap();
        let places: Vec<u64> = std::thread::scope(|scope| {
            let spill = &spill;
            let writers: Vec<_> =
                (0..4_u8).map(|i| scope.spawn(move || spill.append(&[i; 1000]).unwrap())).collect();
            writers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        let mut bytes = [9; 1000];
        for (i, at) in places.into_iter().enumerate() {
            spill.read(&mut bytes, at).unwrap();
            assert_eq!(bytes, [i as u8; 1000]);
        }
        assert!(matches!(spill.read(&mut bytes, 3500), Err(Error::Io { action: "read", .. })));
        drop(spill);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let missing = std::env::temp_dir().join("scoom-no-such-directory");
        assert!(matches!(Spill::new(&missing), Err(Error::Io { action: "create", .. })));
    }
}
