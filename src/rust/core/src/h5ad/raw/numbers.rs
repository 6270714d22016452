//! Numbers as they lie in a file: integers and floats of any width, in either
//! byte order.

/// A number's storage type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NumKind {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

/// A storage type with its byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumType {
    /// What the bytes mean.
    pub kind: NumKind,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
}

/// A number of a fixed width.
trait Word: Copy {
    /// From as many bytes as it is wide.
    fn from_le(bytes: &[u8]) -> Self;
    /// The same, the most significant byte first.
    fn from_be(bytes: &[u8]) -> Self;
}

macro_rules! words {
    ($($t:ty)*) => {$(
        impl Word for $t {
            fn from_le(bytes: &[u8]) -> Self {
                let mut word = [0; size_of::<$t>()];
                word.copy_from_slice(bytes);
                <$t>::from_le_bytes(word)
            }

            fn from_be(bytes: &[u8]) -> Self {
                let mut word = [0; size_of::<$t>()];
                word.copy_from_slice(bytes);
                <$t>::from_be_bytes(word)
            }
        }
    )*};
}

words!(i8 i16 i32 i64 u8 u16 u32 u64 f32 f64);

/// `$body` with `$t` the integer type of `$kind`, or what the other arms say.
macro_rules! with_integer {
    ($kind:expr, $t:ident => $body:expr, $($other:tt)*) => {
        match $kind {
            NumKind::I8 => { type $t = i8; $body }
            NumKind::I16 => { type $t = i16; $body }
            NumKind::I32 => { type $t = i32; $body }
            NumKind::I64 => { type $t = i64; $body }
            NumKind::U8 => { type $t = u8; $body }
            NumKind::U16 => { type $t = u16; $body }
            NumKind::U32 => { type $t = u32; $body }
            NumKind::U64 => { type $t = u64; $body }
            $($other)*
        }
    };
}

impl NumType {
    /// Bytes of one number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self.kind {
            NumKind::I8 | NumKind::U8 => 1,
            NumKind::I16 | NumKind::U16 | NumKind::F16 => 2,
            NumKind::I32 | NumKind::U32 | NumKind::F32 => 4,
            NumKind::I64 | NumKind::U64 | NumKind::F64 => 8,
        }
    }

    /// The name numpy gives the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.kind {
            NumKind::I8 => "int8",
            NumKind::I16 => "int16",
            NumKind::I32 => "int32",
            NumKind::I64 => "int64",
            NumKind::U8 => "uint8",
            NumKind::U16 => "uint16",
            NumKind::U32 => "uint32",
            NumKind::U64 => "uint64",
            NumKind::F16 => "float16",
            NumKind::F32 => "float32",
            NumKind::F64 => "float64",
        }
    }

    /// Appends the numbers in `bytes` to `out`.
    ///
    /// # Numerics
    /// Exact, but for 64-bit integers beyond 2^53, which are rounded to the
    /// nearest float64.
    pub fn append_f64(self, bytes: &[u8], out: &mut Vec<f64>) {
        with_integer!(self.kind, T => self.append(bytes, out, |v: T| v as f64),
            NumKind::F16 => self.append(bytes, out, half_to_f64),
            NumKind::F32 => self.append(bytes, out, |v: f32| f64::from(v)),
            NumKind::F64 => self.append(bytes, out, |v: f64| v),
        );
    }

    /// Appends the indices in `bytes` to `out`; `false` when one of them is
    /// negative, not whole, or not below `bound`.
    #[must_use]
    #[allow(clippy::unnecessary_cast, reason = "the type is any of eight")]
    pub fn append_indices(self, bytes: &[u8], bound: u64, out: &mut Vec<u32>) -> bool {
        let from = out.len();
        // Bits that do not fit an index; a negative number has them, or becomes a
        // huge index, and fails the bound either way.
        let mut excess = 0;
        with_integer!(self.kind, T => {
            self.append(bytes, out, |v: T| {
                if size_of::<T>() > 4 {
                    excess |= v as u64 >> 32;
                }
                v as u32
            });
        }, NumKind::F16 | NumKind::F32 | NumKind::F64 => return false);
        let largest = out[from..].iter().fold(0, |most, &v| most.max(v));
        bytes.is_empty() || (excess == 0 && u64::from(largest) < bound)
    }

    /// The numbers in `bytes` as offsets; `None` when one is negative or no integer type.
    #[must_use]
    #[allow(clippy::unnecessary_cast, reason = "the type is any of eight")]
    pub fn to_u64(self, bytes: &[u8]) -> Option<Vec<u64>> {
        let mut out = Vec::with_capacity(bytes.len() / self.bytes());
        let mut whole = true;
        with_integer!(self.kind, T => {
            self.append(bytes, &mut out, |v: T| {
                whole &= i128::from(v) >= 0;
                v as u64
            });
        }, NumKind::F16 | NumKind::F32 | NumKind::F64 => return None);
        whole.then_some(out)
    }

    /// Appends the numbers in `bytes`, converted. One loop for each byte order,
    /// so that they run in vector registers.
    fn append<T: Word, U>(self, bytes: &[u8], out: &mut Vec<U>, mut convert: impl FnMut(T) -> U) {
        let words = bytes.chunks_exact(size_of::<T>());
        if self.big_endian {
            out.extend(words.map(|word| convert(T::from_be(word))));
        } else {
            out.extend(words.map(|word| convert(T::from_le(word))));
        }
    }
}

/// IEEE binary16 to float64, exactly.
fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f64.powi(-24)),
            (0x3555, 0.333_251_953_125),
        ] {
            assert_eq!(half_to_f64(bits).to_bits(), f64::to_bits(value));
        }
        assert!(half_to_f64(0x7e00).is_nan());
        assert_eq!(half_to_f64(0xfc00).to_bits(), f64::NEG_INFINITY.to_bits());
    }

    /// One number of every type, in both byte orders.
    #[test]
    fn every_type_is_read_in_either_order() {
        macro_rules! check {
            ($($kind:ident $t:ty, $value:expr;)*) => {$(
                let value: $t = $value;
                for (big_endian, bytes) in
                    [(false, value.to_le_bytes()), (true, value.to_be_bytes())]
                {
                    let dtype = NumType { kind: NumKind::$kind, big_endian };
                    let (mut out, mut indices) = (Vec::new(), Vec::new());
                    dtype.append_f64(&bytes, &mut out);
                    assert_eq!(out, [value as f64], "{dtype:?}");
                    let is_index = NumKind::$kind != NumKind::F32
                        && NumKind::$kind != NumKind::F64
                        && value >= 0 as $t;
                    let below = dtype.append_indices(&bytes, 1 << 31, &mut indices);
                    assert_eq!(below, is_index && (value as f64) < (1u64 << 31) as f64);
                    if is_index {
                        assert_eq!(indices, [value as u32], "{dtype:?}");
                    }
                    let offsets = dtype.to_u64(&bytes);
                    assert_eq!(offsets, is_index.then(|| vec![value as u64]), "{dtype:?}");
                }
            )*};
        }
        check! {
            I8 i8, 100; I8 i8, -3; I16 i16, 1000; I16 i16, -1000; I32 i32, 1 << 20; I32 i32, -9;
            I64 i64, 1 << 35; I64 i64, 1 << 50; I64 i64, -1; U8 u8, 200; U16 u16, 60_000;
            U32 u32, 3 << 30; U64 u64, 5 << 33; F32 f32, -1.5; F64 f64, 0.1;
        }
    }

    #[test]
    fn indices_out_of_bounds_are_noticed() {
        let t = NumType { kind: NumKind::I32, big_endian: false };
        let bytes: Vec<u8> = [0i32, 4, -1].iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut out = Vec::new();
        assert!(t.append_indices(&bytes[..8], 5, &mut out));
        assert_eq!(out, [0, 4]);
        assert!(!t.append_indices(&bytes[..8], 4, &mut out));
        assert!(!t.append_indices(&bytes[8..], 5, &mut out));
    }
}
