//! Data frames: `obs`, `var`, `raw/var`, and frames in `obsm`, `varm` or `uns`.
//!
//! A column that can't be read never hides the others: it is listed with the
//! reason. Frames written before 0.7 are datasets of records; they are refused in
//! one place, [`Frame::open`], which is where a reader for them belongs.

use super::Unread;
use super::array::{self, Array, Values};
use super::element::{self, Element};
use super::encoding::Encoding;
use super::node::{Node, Object};
use super::strings::Strings;
use crate::error::{Error, Result};

use hdf5_metno::{ObjectReference1, ReferencedObject};

/// The group that held the categories of all columns in data frames 0.1.0.
const CATEGORIES: &str = "__categories";

/// A categorical column.
#[derive(Clone, Debug, PartialEq)]
pub struct Categorical {
    /// The position of each value's category, -1 for a missing value.
    pub codes: Vec<i32>,
    /// The categories, of any type; no two are equal as text.
    pub categories: Array,
    /// Whether the categories have an order.
    pub ordered: bool,
}

/// A data frame in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFrame {
    /// The name of the index, `_index` where it has none.
    pub index_name: String,
    /// The row names.
    pub index: Array,
    /// The columns in their order: arrays of rank 1 and categoricals.
    pub columns: Vec<(String, Element)>,
    /// The columns that could not be read.
    pub unread: Vec<Unread>,
}

/// An open data frame, of which nothing but names has been read.
pub(crate) struct Frame {
    node: Node,
    /// The name of the index' dataset.
    pub(crate) index: String,
    /// The names of the columns in their order.
    pub(crate) columns: Vec<String>,
}

impl Frame {
    /// Reads the names of a frame's columns.
    ///
    /// # Errors
    ///
    /// `UnsupportedLegacy` for frames older than 0.7, `Corrupt` without an index.
    pub(crate) fn open(node: Node) -> Result<Self> {
        if let Object::Dataset(_) = node.object() {
            return Err(node.legacy("a data frame stored as an array of records (anndata < 0.7)"));
        }
        let index = match node.attr_string("_index")? {
            Some(name) if node.has(&name) => name,
            Some(name) => {
                return Err(node.corrupt(format!("the index `{name}` is absent")));
            }
            None => ["_index", "index"]
                .into_iter()
                .find(|name| node.has(name))
                .ok_or_else(|| node.corrupt("neither an attribute nor a dataset `_index`"))?
                .to_owned(),
        };
        let mut columns = match node.attr_strings("column-order")? {
            Some(columns) => columns,
            None => node.members()?.into_iter().filter(|name| name != CATEGORIES).collect(),
        };
        columns.retain(|name| *name != index);
        Ok(Self { node, index, columns })
    }

    /// The frame's own node.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Number of rows, from the shape of the index.
    pub(crate) fn n_rows(&self) -> Result<usize> {
        let node = self.node.child(&self.index)?;
        let encoding = Encoding::of(&node)?;
        match element::shape(&node, &encoding)?.as_deref() {
            Some(&[n]) => Ok(n),
            other => Err(node.corrupt(format!("the index has shape {other:?}, not a length"))),
        }
    }

    /// Members of the group that no column name leads to.
    pub(crate) fn strays(&self) -> Result<Vec<String>> {
        let known = |name: &String| {
            *name == self.index
                || name == CATEGORIES
                || self
                    .columns
                    .iter()
                    .any(|column| column == name || column.split('/').next() == Some(name.as_str()))
        };
        Ok(self.node.members()?.into_iter().filter(|name| !known(name)).collect())
    }

    /// The row names as text.
    ///
    /// # Errors
    ///
    /// When the index is no column of values.
    pub(crate) fn names(&self) -> Result<Array> {
        let node = self.node.child(&self.index)?;
        let array = match element::read(&node)? {
            Element::Array(array) => {
                Array { values: Values::Text(array.values.to_text()), ..array }
            }
            Element::Categorical(column) => column.to_array(),
            _ => return Err(node.corrupt("the index is no column of values")),
        };
        if array.shape.len() == 1 {
            Ok(array)
        } else {
            Err(node.corrupt(format!("the index has shape {:?}, not a length", array.shape)))
        }
    }

    /// One column, which must have `n_rows` values.
    ///
    /// # Errors
    ///
    /// When it is absent, of another length, or no column of values.
    pub(crate) fn column(&self, name: &str, n_rows: usize) -> Result<Element> {
        let node = self.node.child(name)?;
        let column = element::read(&node)?;
        let n = match &column {
            Element::Array(array) if array.shape.len() == 1 => array.len(),
            Element::Categorical(column) => column.codes.len(),
            _ => return Err(node.unsupported("a column that is not one-dimensional")),
        };
        if n == n_rows {
            Ok(column)
        } else {
            Err(node.corrupt(format!("{n} values in a frame of {n_rows} rows")))
        }
    }
}

impl Categorical {
    /// The values as text, with a mask of those that are missing.
    pub(crate) fn to_array(&self) -> Array {
        let labels = self.categories.values.to_text();
        let text: Strings = self
            .codes
            .iter()
            .map(|&code| usize::try_from(code).map_or("", |code| labels.get(code)))
            .collect();
        Array {
            shape: vec![self.codes.len()],
            values: Values::Text(text),
            missing: Some(self.codes.iter().map(|&code| code < 0).collect()),
        }
    }
}

/// Reads a whole frame.
pub(crate) fn read(node: &Node) -> Result<DataFrame> {
    let frame = Frame::open(node.clone())?;
    let index = frame.names()?;
    let mut columns = Vec::with_capacity(frame.columns.len());
    let mut unread = Vec::new();
    for name in &frame.columns {
        match frame.column(name, index.len()) {
            Ok(column) => columns.push((name.clone(), column)),
            Err(error) => unread.push(Unread::new(&format!("{}/{name}", node.element()), &error)),
        }
    }
    Ok(DataFrame { index_name: frame.index, index, columns, unread })
}

/// Reads a categorical stored as a group (0.2.0).
pub(crate) fn read_categorical(node: &Node) -> Result<Categorical> {
    let codes = node.child("codes")?;
    let categories = array_of_categories(&node.child("categories")?)?;
    let ordered = node.attr_flag("ordered")?.unwrap_or(false);
    categorical(&codes, categories, ordered)
}

/// Reads a categorical stored as codes that refer to their categories (0.1.0).
pub(crate) fn read_categorical_by_reference(node: &Node) -> Result<Categorical> {
    let categories = referenced_categories(node)?;
    let ordered = categories.attr_flag("ordered")?.unwrap_or(false);
    categorical(node, array_of_categories(&categories)?, ordered)
}

fn referenced_categories(node: &Node) -> Result<Node> {
    let attr = node.attr("categories").ok_or_else(|| node.corrupt("no attribute `categories`"))?;
    let reference: ObjectReference1 = attr
        .read_scalar()
        .map_err(|e| node.corrupt(format!("attribute `categories` is no reference: {e}")))?;
    match node.dataset()?.dereference(&reference) {
        Ok(ReferencedObject::Dataset(dataset)) => {
            Ok(node.with_dataset(format!("{} (its categories)", node.element()), dataset))
        }
        Ok(_) => Err(node.corrupt("attribute `categories` does not refer to a dataset")),
        Err(e) => Err(node.corrupt(format!("attribute `categories` refers to nothing: {e}"))),
    }
}

fn array_of_categories(node: &Node) -> Result<Array> {
    let Element::Array(array) = element::read(node)? else {
        return Err(node.corrupt("the categories are no array"));
    };
    if array.shape.len() != 1 {
        return Err(node.corrupt(format!("the categories have shape {:?}", array.shape)));
    }
    let text = array.values.to_text();
    let mut seen = std::collections::HashSet::with_capacity(text.len());
    match text.iter().find(|&label| !seen.insert(label.to_owned())) {
        Some(label) => Err(node.corrupt(format!("the category `{label}` occurs twice"))),
        None => Ok(array),
    }
}

fn categorical(codes: &Node, categories: Array, ordered: bool) -> Result<Categorical> {
    let n = categories.len() as i64;
    let checked: Result<Vec<i32>, Error> = array::read_integers(codes)?
        .into_iter()
        .map(|code| {
            if (-1..n).contains(&code) {
                Ok(code as i32)
            } else {
                Err(codes.corrupt(format!("code {code} is outside of -1 to {}", n - 1)))
            }
        })
        .collect();
    Ok(Categorical { codes: checked?, categories, ordered })
}
