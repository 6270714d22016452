//! Strings of an HDF5 file: variable or fixed length, UTF-8 or ASCII, padded
//! with NULs or blanks.
//!
//! They are kept end to end in one buffer: 30 bytes a cell name instead of 60.
//! What is not valid UTF-8 gets U+FFFD in its place and is counted, as is a NUL
//! inside a string, which no R string can hold.

use hdf5_metno::types::{TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5_metno::{self as hdf5, Container};

use super::raw::values;

/// Values taken from the file at a time, which bounds what lies in memory twice.
const SLICE: usize = 1 << 18;

/// A column of strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    ends: Vec<usize>,
    n_repaired: usize,
}

impl Strings {
    /// An empty column with room for `n` strings.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        Self { text: String::new(), ends: Vec::with_capacity(n), n_repaired: 0 }
    }

    /// Appends a string.
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
    }

    /// Appends bytes, replacing what is not UTF-8 and any NUL.
    pub fn push_bytes(&mut self, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(value) if !value.contains('\0') => self.push(value),
            _ => {
                self.n_repaired += 1;
                self.push(&String::from_utf8_lossy(value).replace('\0', "\u{fffd}"));
            }
        }
    }

    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The `i`-th string.
    ///
    /// # Panics
    ///
    /// When `i` is not below [`Strings::len`].
    #[must_use]
    pub fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    /// All strings in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// How many strings held bytes that had to be replaced.
    #[must_use]
    pub fn n_repaired(&self) -> usize {
        self.n_repaired
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(values: I) -> Self {
        let mut out = Self::default();
        for value in values {
            out.push(value.as_ref());
        }
        out
    }
}

/// Reads all strings of a dataset or attribute, in the order of the file.
///
/// # Errors
///
/// When the values are not strings or the library can't read them.
pub(crate) fn read(source: &Container) -> hdf5::Result<Strings> {
    match source.dtype()?.to_descriptor()? {
        TypeDescriptor::VarLenUnicode => read_variable::<VarLenUnicode>(source),
        TypeDescriptor::VarLenAscii => read_variable::<VarLenAscii>(source),
        TypeDescriptor::FixedUnicode(width) | TypeDescriptor::FixedAscii(width) => {
            Ok(split_fixed(&values::fixed_strings(source, None)?, width))
        }
        other => Err(format!("{other} where strings are expected").into()),
    }
}

/// Cuts a buffer of strings of one width, which are padded with NULs.
pub(crate) fn split_fixed(bytes: &[u8], width: usize) -> Strings {
    let mut out = Strings::with_capacity(bytes.len() / width.max(1));
    for value in bytes.chunks_exact(width.max(1)) {
        let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        out.push_bytes(&value[..end]);
    }
    out
}

/// Gathers strings that the library allocated one by one.
pub(crate) fn gather<T: AsRef<[u8]>>(values: &[T], out: &mut Strings) {
    for value in values {
        out.push_bytes(value.as_ref());
    }
}

fn read_variable<T: hdf5::H5Type + AsRef<[u8]>>(source: &Container) -> hdf5::Result<Strings> {
    let shape = source.get_shape()?;
    let n: usize = source.space()?.size();
    let mut out = Strings::with_capacity(n.min(SLICE));
    let sliced = shape.len() == 1 && n > SLICE;
    if sliced {
        for start in (0..n).step_by(SLICE) {
            let part = source.read_slice_1d::<T, _>(start..n.min(start + SLICE))?;
            gather(part.as_slice().unwrap_or_default(), &mut out);
        }
    } else if n > 0 {
        gather(&source.read_raw::<T>()?, &mut out);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_lie_end_to_end() {
        let all: Strings = ["a", "", "größe"].into_iter().collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all.iter().collect::<Vec<_>>(), ["a", "", "größe"]);
    }

    #[test]
    fn bad_bytes_are_replaced_and_counted() {
        let mut all = Strings::default();
        all.push_bytes(b"fine");
        all.push_bytes(b"caf\xe9");
        all.push_bytes(b"a\0b");
        assert_eq!(all.iter().collect::<Vec<_>>(), ["fine", "caf\u{fffd}", "a\u{fffd}b"]);
        assert_eq!(all.n_repaired(), 2);
    }

    #[test]
    fn padding_is_cut() {
        let all = split_fixed(b"ab\0\0cdef\0\0\0\0", 4);
        assert_eq!(all.iter().collect::<Vec<_>>(), ["ab", "cdef", ""]);
    }
}
