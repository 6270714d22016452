//! Arrays of numbers, truth values or strings, of any rank, with or without a
//! mask of missing values.

use hdf5_metno::types::{EnumType, FloatSize, IntSize, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5_metno::{Dataset, H5Type};

use super::node::Node;
use super::raw::values::{self, TypeClass};
use super::strings::{self, Strings};
use crate::error::Result;

/// Values of one type, in the order of the file (the last dimension runs fastest).
///
/// Each stored type goes to the smallest of these that holds it exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Truth values.
    Bool(Vec<bool>),
    /// `int8` to `int32`, `uint8` and `uint16`.
    Int32(Vec<i32>),
    /// `uint32` and `int64`.
    Int64(Vec<i64>),
    /// `uint64`.
    UInt64(Vec<u64>),
    /// `float16` and `float32`.
    Float32(Vec<f32>),
    /// `float64`, and wider types rounded to it.
    Float64(Vec<f64>),
    /// Strings.
    Text(Strings),
}

impl Values {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::UInt64(values) => values.len(),
            Self::Float32(values) => values.len(),
            Self::Float64(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as text: numbers in their shortest form, truth values as `TRUE`
    /// and `FALSE`.
    #[must_use]
    pub fn to_text(&self) -> Strings {
        fn shown<T: ToString>(values: &[T]) -> Strings {
            values.iter().map(ToString::to_string).collect()
        }
        match self {
            Self::Bool(values) => {
                values.iter().map(|&value| if value { "TRUE" } else { "FALSE" }).collect()
            }
            Self::Int32(values) => shown(values),
            Self::Int64(values) => shown(values),
            Self::UInt64(values) => shown(values),
            Self::Float32(values) => shown(values),
            Self::Float64(values) => shown(values),
            Self::Text(values) => values.clone(),
        }
    }
}

/// An array of any rank; rank 0 is a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Lengths of the dimensions, the slowest first.
    pub shape: Vec<usize>,
    /// The values in the order of the file.
    pub values: Values,
    /// Which values are missing, where the encoding can say so.
    pub missing: Option<Vec<bool>>,
}

impl Array {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many values are missing.
    #[must_use]
    pub fn n_missing(&self) -> usize {
        self.missing.as_ref().map_or(0, |mask| mask.iter().filter(|&&gone| gone).count())
    }
}

/// Reads a dataset of numbers, truth values or strings.
///
/// # Errors
///
/// For types that are none of these (references, opaque, records).
pub(crate) fn read(node: &Node) -> Result<Array> {
    node.check_plausible()?;
    let dataset = node.dataset()?;
    let shape = dataset.get_shape().map_err(|e| node.hdf5("describe", &e))?;
    let dtype = dataset.dtype().map_err(|e| node.hdf5("describe", &e))?;
    let whole = |e: hdf5_metno::Error| node.unreadable(&e);
    let (values, missing) = match (values::class(&dtype), dtype.to_descriptor()) {
        (TypeClass::Text, _) => (Values::Text(strings::read(dataset).map_err(whole)?), None),
        (TypeClass::Enum, Ok(TypeDescriptor::Enum(kind))) => read_enum(node, dataset, &kind)?,
        (class, stored) => match NumberKind::of(class, stored.ok().as_ref(), dtype.size()) {
            Some(kind) => (kind.read(&Whole(dataset)).map_err(whole)?, None),
            None => return Err(node.unsupported(format!("a dataset of {dtype}"))),
        },
    };
    let n: usize = shape.iter().product();
    if values.len() != n {
        return Err(node.corrupt(format!("{} values for the shape {shape:?}", values.len())));
    }
    Ok(Array { shape, values, missing })
}

/// Reads one field of an array of records.
///
/// # Errors
///
/// For fields that hold neither numbers nor strings.
pub(crate) fn read_field(node: &Node, name: &str, stored: &TypeDescriptor) -> Result<Values> {
    let dataset = node.dataset()?;
    let failed = |e: hdf5_metno::Error| node.corrupt(format!("field `{name}` can't be read: {e}"));
    match stored {
        TypeDescriptor::VarLenUnicode => {
            let mut text = Strings::default();
            strings::gather(
                &values::field::<VarLenUnicode>(dataset, name).map_err(failed)?,
                &mut text,
            );
            Ok(Values::Text(text))
        }
        TypeDescriptor::VarLenAscii => {
            let mut text = Strings::default();
            strings::gather(
                &values::field::<VarLenAscii>(dataset, name).map_err(failed)?,
                &mut text,
            );
            Ok(Values::Text(text))
        }
        TypeDescriptor::FixedUnicode(width) | TypeDescriptor::FixedAscii(width) => {
            let bytes = values::fixed_strings(dataset, Some(name)).map_err(failed)?;
            Ok(Values::Text(strings::split_fixed(&bytes, *width)))
        }
        _ => match NumberKind::of(TypeClass::Other, Some(stored), stored.size()) {
            Some(kind) => kind.read(&Field(dataset, name)).map_err(failed),
            None => Err(node.unsupported(format!("field `{name}` of {stored}"))),
        },
    }
}

/// Reads a group of `values` and `mask`.
///
/// # Errors
///
/// When the two do not have one shape.
pub(crate) fn read_masked(node: &Node) -> Result<Array> {
    let mut array = read(&node.child("values")?)?;
    let mask = read(&node.child("mask")?)?;
    if mask.shape != array.shape {
        return Err(node.corrupt(format!(
            "the mask has shape {:?}, the values {:?}",
            mask.shape, array.shape
        )));
    }
    array.missing = Some(match mask.values {
        Values::Bool(mask) => mask,
        Values::Int32(mask) => mask.into_iter().map(|flag| flag != 0).collect(),
        _ => return Err(node.corrupt("the mask does not hold truth values")),
    });
    Ok(array)
}

/// Reads integers of any width as `i64`.
///
/// # Errors
///
/// When the dataset does not hold integers.
pub(crate) fn read_integers(node: &Node) -> Result<Vec<i64>> {
    let array = read(node)?;
    match array.values {
        Values::Int32(values) => Ok(values.into_iter().map(i64::from).collect()),
        Values::Int64(values) => Ok(values),
        Values::UInt64(values) => values
            .into_iter()
            .map(|value| i64::try_from(value).map_err(|_| node.corrupt("an index is out of range")))
            .collect(),
        _ => Err(node.corrupt("integers are expected")),
    }
}

/// The type in memory that a stored number type is read as.
#[derive(Clone, Copy)]
enum NumberKind {
    Bool,
    Int32,
    Int64,
    UInt64,
    Float32,
    Float64,
}

impl NumberKind {
    #[allow(clippy::match_same_arms, reason = "one line per stored type reads best")]
    /// `stored` is absent for the widths that hdf5-metno cannot describe, such as
    /// `float16`: class and size decide then, and libhdf5 converts.
    fn of(class: TypeClass, stored: Option<&TypeDescriptor>, size: usize) -> Option<Self> {
        use TypeDescriptor::{Boolean, Float, Integer, Unsigned};
        Some(match (stored, class) {
            (Some(Boolean), _) => Self::Bool,
            (Some(Unsigned(IntSize::U8)), _) => Self::UInt64,
            (Some(Integer(IntSize::U8) | Unsigned(IntSize::U4)), _) => Self::Int64,
            (Some(Integer(_) | Unsigned(_)), _) => Self::Int32,
            (Some(Float(FloatSize::U4)), _) => Self::Float32,
            (Some(Float(FloatSize::U8)), _) => Self::Float64,
            (None, TypeClass::Integer) => Self::Int64,
            (None, TypeClass::Float) if size <= 4 => Self::Float32,
            (None, TypeClass::Float) => Self::Float64,
            _ => return None,
        })
    }

    fn read(self, source: &impl ReadAs) -> hdf5_metno::Result<Values> {
        Ok(match self {
            Self::Bool => {
                let bytes: Vec<u8> = source.read_as()?;
                Values::Bool(bytes.into_iter().map(|byte| byte != 0).collect())
            }
            Self::Int32 => Values::Int32(source.read_as()?),
            Self::Int64 => Values::Int64(source.read_as()?),
            Self::UInt64 => Values::UInt64(source.read_as()?),
            Self::Float32 => Values::Float32(source.read_as()?),
            Self::Float64 => Values::Float64(source.read_as()?),
        })
    }
}

/// Something whose numbers libhdf5 can convert to a wanted type.
trait ReadAs {
    fn read_as<T: H5Type>(&self) -> hdf5_metno::Result<Vec<T>>;
}

/// A whole dataset.
struct Whole<'a>(&'a Dataset);

impl ReadAs for Whole<'_> {
    fn read_as<T: H5Type>(&self) -> hdf5_metno::Result<Vec<T>> {
        let n = self.0.space()?.size();
        // A damaged shape can claim any size; the library's reader would abort on it.
        drop(values::room::<T>(n)?);
        if n == 0 { Ok(Vec::new()) } else { self.0.read_raw() }
    }
}

/// One field of a dataset of records.
struct Field<'a>(&'a Dataset, &'a str);

impl ReadAs for Field<'_> {
    fn read_as<T: H5Type>(&self) -> hdf5_metno::Result<Vec<T>> {
        values::field(self.0, self.1)
    }
}

/// Reads an enumeration. One with members `TRUE` and `FALSE` holds truth values
/// (hdf5r adds a member `NA`); any other is read as its integers, as h5py does.
fn read_enum(
    node: &Node,
    dataset: &Dataset,
    kind: &EnumType,
) -> Result<(Values, Option<Vec<bool>>)> {
    let codes: Vec<i64> = Whole(dataset).read_as().map_err(|e| node.unreadable(&e))?;
    let member = |name: &str| {
        let found = kind.members.iter().find(|m| m.name.eq_ignore_ascii_case(name))?;
        Some(signed(found.value, kind))
    };
    let (Some(yes), Some(no)) = (member("TRUE"), member("FALSE")) else {
        return Ok((Values::Int64(codes), None));
    };
    let absent = member("NA");
    if let Some(code) = codes.iter().find(|&&c| c != yes && c != no && Some(c) != absent) {
        return Err(node.corrupt(format!("{code} is no truth value")));
    }
    let missing = absent.map(|absent| codes.iter().map(|&code| code == absent).collect());
    Ok((Values::Bool(codes.into_iter().map(|code| code == yes).collect()), missing))
}

/// The value of an enumeration's member, which comes zero-extended.
fn signed(value: u64, kind: &EnumType) -> i64 {
    match (kind.signed, kind.size) {
        (true, IntSize::U1) => i64::from(value as i8),
        (true, IntSize::U2) => i64::from(value as i16),
        (true, IntSize::U4) => i64::from(value as i32),
        _ => value as i64,
    }
}
