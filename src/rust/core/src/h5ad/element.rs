//! Any element of a file as a value in memory.

use super::Unread;
use super::array::{self, Array};
use super::dataframe::{self, Categorical, DataFrame};
use super::encoding::Encoding;
use super::file::H5File;
use super::node::Node;
use super::record::{self, Records};
use super::sparse::{self, Sparse};
use crate::error::Result;

/// An element read into memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// Nothing, stored as such.
    Null,
    /// Numbers, truth values or strings; rank 0 is a scalar.
    Array(Array),
    /// A categorical column.
    Categorical(Categorical),
    /// A data frame.
    DataFrame(DataFrame),
    /// A sparse matrix.
    Sparse(Sparse),
    /// An array of records.
    Records(Records),
    /// Named elements.
    Dict(Dict),
}

/// A group of named elements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dict {
    /// The elements by name.
    pub entries: Vec<(String, Element)>,
    /// The members that could not be read.
    pub unread: Vec<Unread>,
}

/// Reads one element, such as `obs`, `obs/louvain`, `obsm/X_pca` or
/// `uns/neighbors/params`, whole.
///
/// # Errors
///
/// `ElementMissing`, `UnsupportedEncoding`, `Corrupt`, or the library's refusal.
/// Columns of a frame and members of a dict that fail are listed in its `unread`
/// instead.
pub fn read_element(file: &H5File, path: &str) -> Result<Element> {
    let path = path.trim_matches('/');
    let root = file.root()?;
    if path.is_empty() { read(&root) } else { read(&root.child(path)?) }
}

/// Reads the row names of a data frame (`obs`, `var`, `raw/var`) as text.
///
/// # Errors
///
/// When the frame or its index is absent or damaged.
pub fn read_names(file: &H5File, frame: &str) -> Result<Array> {
    dataframe::Frame::open(file.root()?.child(frame.trim_matches('/'))?)?.names()
}

/// Reads the element behind a node.
pub(crate) fn read(node: &Node) -> Result<Element> {
    let encoding = Encoding::of(node)?;
    Ok(match &encoding {
        Encoding::Null => Element::Null,
        Encoding::Array | Encoding::StringArray | Encoding::String | Encoding::NumericScalar => {
            Element::Array(array::read(node)?)
        }
        Encoding::NullableInteger | Encoding::NullableBoolean | Encoding::NullableString => {
            Element::Array(array::read_masked(node)?)
        }
        Encoding::Categorical => Element::Categorical(dataframe::read_categorical(node)?),
        Encoding::CategoricalByReference => {
            Element::Categorical(dataframe::read_categorical_by_reference(node)?)
        }
        Encoding::DataFrame => Element::DataFrame(dataframe::read(node)?),
        Encoding::Csr | Encoding::Csc => Element::Sparse(sparse::read(node, &encoding)?),
        Encoding::RecArray => Element::Records(record::read(node)?),
        Encoding::Dict | Encoding::Raw | Encoding::AnnData => Element::Dict(read_dict(node)?),
        Encoding::Other(name) => return Err(node.unsupported(name.clone())),
    })
}

fn read_dict(node: &Node) -> Result<Dict> {
    let mut dict = Dict::default();
    for name in node.members()? {
        match node.child(&name).and_then(|child| read(&child)) {
            Ok(value) => dict.entries.push((name, value)),
            Err(error) => {
                dict.unread.push(Unread::new(&format!("{}/{name}", node.element()), &error));
            }
        }
    }
    Ok(dict)
}

/// The lengths of an element's dimensions, without reading its values; `None` for
/// elements that have none.
pub(crate) fn shape(node: &Node, encoding: &Encoding) -> Result<Option<Vec<usize>>> {
    let of = |node: &Node| -> Result<Option<Vec<usize>>> {
        node.dataset()?.get_shape().map(Some).map_err(|e| node.hdf5("describe", &e))
    };
    match encoding {
        Encoding::Array
        | Encoding::StringArray
        | Encoding::RecArray
        | Encoding::CategoricalByReference => of(node),
        Encoding::Categorical => of(&node.child("codes")?),
        Encoding::NullableInteger | Encoding::NullableBoolean | Encoding::NullableString => {
            of(&node.child("values")?)
        }
        Encoding::Csr | Encoding::Csc => sparse::shape(node).map(|shape| Some(shape.to_vec())),
        Encoding::DataFrame => {
            let frame = dataframe::Frame::open(node.clone())?;
            Ok(Some(vec![frame.n_rows()?, frame.columns.len()]))
        }
        _ => Ok(None),
    }
}
