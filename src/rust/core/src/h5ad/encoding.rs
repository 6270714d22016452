//! Which encoding of the anndata on-disk specification an element is in.
//!
//! From 0.8 on every element says so in its attribute `encoding-type`; what
//! carries none (0.7 and the files of other writers) is told from its shape.

use std::fmt;

use hdf5_metno::types::TypeDescriptor;

use super::node::{Node, Object};
use super::raw::values::{self, TypeClass};
use crate::error::Result;

/// An encoding of the anndata on-disk specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The root of a file.
    AnnData,
    /// The group `raw`.
    Raw,
    /// A data frame (0.1.0 with `__categories`, 0.2.0 with nested categoricals).
    DataFrame,
    /// A categorical column as a group of codes and categories.
    Categorical,
    /// A categorical column of a data frame 0.1.0: codes with a reference to
    /// their categories.
    CategoricalByReference,
    /// A numeric or boolean array of any rank.
    Array,
    /// An array of strings.
    StringArray,
    /// One string.
    String,
    /// One number or truth value.
    NumericScalar,
    /// Integers with a mask.
    NullableInteger,
    /// Truth values with a mask.
    NullableBoolean,
    /// Strings with a mask.
    NullableString,
    /// A group of named elements.
    Dict,
    /// A sparse matrix by rows.
    Csr,
    /// A sparse matrix by columns.
    Csc,
    /// An array of records.
    RecArray,
    /// Nothing.
    Null,
    /// Any other, by the name the file gives it.
    Other(String),
}

impl Encoding {
    /// Reads or infers the encoding of an element.
    ///
    /// # Errors
    ///
    /// When the attribute that names it is unreadable.
    pub(crate) fn of(node: &Node) -> Result<Self> {
        if let Some(name) = node.attr_string("encoding-type")? {
            if !name.is_empty() {
                return Ok(Self::from_name(&name));
            }
        }
        match node.object() {
            Object::Group(_) => Self::of_plain_group(node),
            Object::Dataset(_) => Self::of_plain_dataset(node),
        }
    }

    fn from_name(name: &str) -> Self {
        match name {
            "anndata" => Self::AnnData,
            "raw" => Self::Raw,
            "dataframe" => Self::DataFrame,
            "categorical" => Self::Categorical,
            "array" => Self::Array,
            "string-array" => Self::StringArray,
            "string" => Self::String,
            "numeric-scalar" => Self::NumericScalar,
            "nullable-integer" => Self::NullableInteger,
            "nullable-boolean" => Self::NullableBoolean,
            "nullable-string-array" => Self::NullableString,
            "dict" | "mapping" => Self::Dict,
            "csr_matrix" => Self::Csr,
            "csc_matrix" => Self::Csc,
            "rec-array" => Self::RecArray,
            "null" => Self::Null,
            other => Self::Other(other.to_owned()),
        }
    }

    fn of_plain_group(node: &Node) -> Result<Self> {
        Ok(match node.attr_string("h5sparse_format")?.as_deref() {
            Some("csr") => Self::Csr,
            Some("csc") => Self::Csc,
            Some(other) => Self::Other(format!("h5sparse {other}")),
            None if node.attr("_index").is_some() => Self::DataFrame,
            None => Self::Dict,
        })
    }

    fn of_plain_dataset(node: &Node) -> Result<Self> {
        let dataset = node.dataset()?;
        if node.attr("categories").is_some() {
            return Ok(Self::CategoricalByReference);
        }
        let dtype = dataset.dtype().map_err(|e| node.hdf5("describe", &e))?;
        let space = dataset.space().map_err(|e| node.hdf5("describe", &e))?;
        let scalar = space.ndim() == 0;
        Ok(match values::class(&dtype) {
            _ if space.is_null() => Self::Null,
            TypeClass::Text if scalar => Self::String,
            TypeClass::Text => Self::StringArray,
            TypeClass::Integer | TypeClass::Float | TypeClass::Enum if scalar => {
                Self::NumericScalar
            }
            TypeClass::Integer | TypeClass::Float | TypeClass::Enum => Self::Array,
            TypeClass::Compound => Self::RecArray,
            TypeClass::Other => Self::Other(format!("a dataset of {dtype}")),
        })
    }

    /// Whether [`super::read_element`] understands this encoding.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        !matches!(self, Self::Other(_))
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnnData => "anndata",
            Self::Raw => "raw",
            Self::DataFrame => "dataframe",
            Self::Categorical | Self::CategoricalByReference => "categorical",
            Self::Array => "array",
            Self::StringArray => "string-array",
            Self::String => "string",
            Self::NumericScalar => "numeric-scalar",
            Self::NullableInteger => "nullable-integer",
            Self::NullableBoolean => "nullable-boolean",
            Self::NullableString => "nullable-string-array",
            Self::Dict => "dict",
            Self::Csr => "csr_matrix",
            Self::Csc => "csc_matrix",
            Self::RecArray => "rec-array",
            Self::Null => "null",
            Self::Other(name) => name,
        })
    }
}

/// The name of a stored number type as numpy spells it (`float32`, `bool`, `str` ...).
pub(crate) fn dtype_name(dtype: &hdf5_metno::Datatype) -> String {
    let bits = 8 * dtype.size();
    match (dtype.to_descriptor(), values::class(dtype)) {
        (Ok(TypeDescriptor::Boolean), _) => "bool".to_owned(),
        (Ok(TypeDescriptor::Unsigned(_)), _) => format!("uint{bits}"),
        (_, TypeClass::Integer) => format!("int{bits}"),
        (_, TypeClass::Float) => format!("float{bits}"),
        (_, TypeClass::Text) => "str".to_owned(),
        (_, TypeClass::Enum) => "enum".to_owned(),
        (_, TypeClass::Compound) => "compound".to_owned(),
        (_, TypeClass::Other) => "other".to_owned(),
    }
}
