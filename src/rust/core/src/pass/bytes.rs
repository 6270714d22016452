//! Partials as bytes, for another process.
//!
//! Bytes begin with a header: four letters, the number of the format, and the
//! version that wrote them. The layout of what follows is that of the Rust types,
//! so both have to be those of the reader.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

const MAGIC: [u8; 4] = *b"scpt";
/// To be raised when the layout of a partial changes within a version.
const FORMAT: u8 = 1;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A partial as bytes.
///
/// # Errors
/// When it can't be encoded.
pub fn to_bytes<T: Serialize>(partial: &T) -> Result<Vec<u8>> {
    postcard::to_extend(partial, partial_header())
        .map_err(|e| Error::BadPartial { reason: e.to_string() })
}

/// A partial from [`to_bytes`].
///
/// # Errors
/// [`Error::PartialVersion`] when another version wrote it, [`Error::BadPartial`] when
/// the bytes are none of the expected type.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let (partial, rest) = postcard::take_from_bytes(partial_body(bytes)?)
        .map_err(|e| Error::BadPartial { reason: e.to_string() })?;
    if rest.is_empty() {
        return Ok(partial);
    }
    Err(Error::BadPartial { reason: format!("{} bytes are left over", rest.len()) })
}

/// What follows the header.
pub(crate) fn partial_body(bytes: &[u8]) -> Result<&[u8]> {
    let none = || Error::BadPartial { reason: "it does not begin as one".into() };
    let (format, rest) =
        bytes.strip_prefix(&MAGIC).and_then(<[u8]>::split_first).ok_or_else(none)?;
    let (length, rest) = rest.split_first().ok_or_else(none)?;
    let (version, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(none)?;
    if *format == FORMAT && version == VERSION.as_bytes() {
        return Ok(rest);
    }
    Err(Error::PartialVersion {
        found: format!("{}, format {format}", String::from_utf8_lossy(version)),
        expected: format!("{VERSION}, format {FORMAT}"),
    })
}

/// What every partial begins with.
pub(crate) fn partial_header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend([FORMAT, VERSION.len() as u8]);
    header.extend_from_slice(VERSION.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        let partial = (vec![1.5, -2.0], 7u64, String::from("x"));
        let bytes = to_bytes(&partial).unwrap();
        assert_eq!(from_bytes::<(Vec<f64>, u64, String)>(&bytes).unwrap(), partial);
    }

    #[test]
    fn another_version_is_named_beside_this_one() {
        let bytes = to_bytes(&5u64).unwrap();
        let mut other = bytes.clone();
        other[4] += 1;
        let error = from_bytes::<u64>(&other).unwrap_err();
        assert_eq!(error.kind(), "partial_version");
        let text = error.to_string();
        assert!(text.contains(&format!("{VERSION}, format {FORMAT}")), "{text}");
        assert!(text.contains(&format!("{VERSION}, format {}", FORMAT + 1)), "{text}");
        let mut other = bytes;
        other[6] = b'9';
        assert!(matches!(from_bytes::<u64>(&other), Err(Error::PartialVersion { .. })));
    }

    #[test]
    fn other_bytes_are_no_partial() {
        let bytes = to_bytes(&vec![1u64, 2, 3]).unwrap();
        for n in 0..bytes.len() {
            assert!(matches!(from_bytes::<Vec<u64>>(&bytes[..n]), Err(Error::BadPartial { .. })));
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(from_bytes::<Vec<u64>>(&longer), Err(Error::BadPartial { .. })));
        assert!(matches!(from_bytes::<u64>(b"PK\x03\x04 ..."), Err(Error::BadPartial { .. })));
    }
}
