//! Elements of a file as R values.
//!
//! * Integers become `integer` where every value fits, `double` otherwise; past
//!   2^53 a double is rounded and the attribute `inexact` counts how often.
//! * Arrays keep AnnData's orientation: HDF5 stores the last dimension fastest, R
//!   the first, so values change places, not dimensions.
//! * Text is UTF-8; the attribute `repaired` counts strings whose bytes were not.

use extendr_api::prelude::*;
use scoom_core::error::{Error, Result};
use scoom_core::h5ad::{
    Array, Categorical, DataFrame, Dict, Element, Records, Sparse, SparseKind, Unread, Values,
};

/// An element; data frames as `data.frame`, dicts as named lists.
pub(super) fn element(value: &Element) -> Result<Robj> {
    match value {
        Element::Null => Ok(().into()),
        Element::Array(value) => array(value),
        Element::Categorical(value) => factor(value),
        Element::DataFrame(value) => data_frame(value),
        Element::Sparse(value) => sparse(value),
        Element::Records(value) => records(value),
        Element::Dict(value) => dict(value),
    }
}

/// A data frame as `list(index =, columns =, index_name =, unread =)`: row names
/// that repeat, which a `data.frame` can't have, are the caller's to deal with.
pub(super) fn frame_parts(frame: &DataFrame) -> Result<Robj> {
    Ok(named([
        ("index", array(&frame.index)?),
        ("columns", columns(frame)?),
        ("index_name", Robj::from(frame.index_name.as_str())),
        ("unread", unread(&frame.unread)),
    ]))
}

fn columns(frame: &DataFrame) -> Result<Robj> {
    let mut columns = Vec::with_capacity(frame.columns.len());
    for (name, column) in &frame.columns {
        columns.push((name.as_str(), element(column)?));
    }
    Ok(named(columns))
}

fn data_frame(frame: &DataFrame) -> Result<Robj> {
    let unique = frame.index.n_missing() == 0 && {
        let mut seen = std::collections::HashSet::new();
        match &frame.index.values {
            Values::Text(names) => names.iter().all(|name| seen.insert(name.to_owned())),
            _ => false,
        }
    };
    let rows = if unique { array(&frame.index)? } else { automatic_rows(frame.index.len())? };
    let mut out = as_data_frame(columns(frame)?, rows)?;
    if !frame.unread.is_empty() {
        set(&mut out, "unread", unread(&frame.unread))?;
    }
    Ok(out)
}

fn records(records: &Records) -> Result<Robj> {
    let mut fields = Vec::with_capacity(records.fields.len());
    for (name, values) in &records.fields {
        fields.push((name.as_str(), vector(values, None, &[records.n])?));
    }
    as_data_frame(named(fields), automatic_rows(records.n)?)
}

/// R's compact form of the row names 1 to n.
fn automatic_rows(n: usize) -> Result<Robj> {
    Ok(Robj::from(vec![Rint::na(), Rint::from(-small(n)?)]))
}

fn as_data_frame(mut columns: Robj, rows: Robj) -> Result<Robj> {
    set(&mut columns, "row.names", rows)?;
    set(&mut columns, "class", Robj::from("data.frame"))?;
    Ok(columns)
}

fn dict(dict: &Dict) -> Result<Robj> {
    let mut entries = Vec::with_capacity(dict.entries.len());
    for (name, value) in &dict.entries {
        entries.push((name.as_str(), element(value)?));
    }
    let mut out = named(entries);
    if !dict.unread.is_empty() {
        set(&mut out, "unread", unread(&dict.unread))?;
    }
    Ok(out)
}

fn unread(list: &[Unread]) -> Robj {
    named([
        ("element", text(list.iter().map(|u| u.element.as_str()))),
        ("reason", text(list.iter().map(|u| u.reason.as_str()))),
    ])
}

fn sparse(matrix: &Sparse) -> Result<Robj> {
    let kind = match matrix.kind {
        SparseKind::Csr => "csr",
        SparseKind::Csc => "csc",
    };
    Ok(named([
        ("i", Robj::from(matrix.indices.as_slice())),
        ("p", Robj::from(matrix.indptr.as_slice())),
        ("x", Robj::from(matrix.values.as_slice())),
        ("dim", dims(&matrix.shape)?),
        ("kind", Robj::from(kind)),
    ]))
}

/// A factor. Categories that are no strings keep their own values in the attribute
/// `categories`.
fn factor(column: &Categorical) -> Result<Robj> {
    let codes = column.codes.iter().map(|&code| match code {
        -1 => Rint::na(),
        code => Rint::from(code + 1),
    });
    let mut out: Robj = Integers::from_values(codes).into();
    let labels = column.categories.values.to_text();
    set(&mut out, "levels", text(labels.iter()))?;
    let class: &[&str] = if column.ordered { &["ordered", "factor"] } else { &["factor"] };
    set(&mut out, "class", text(class.iter()))?;
    match &column.categories.values {
        Values::Text(labels) => note(&mut out, "repaired", labels.n_repaired())?,
        _ => set(&mut out, "categories", array(&column.categories)?)?,
    }
    Ok(out)
}

/// A vector, or an array of two and more dimensions.
pub(super) fn array(array: &Array) -> Result<Robj> {
    let mut out = vector(&array.values, array.missing.as_deref(), &array.shape)?;
    if array.shape.len() > 1 {
        set(&mut out, "dim", dims(&array.shape)?)?;
    }
    Ok(out)
}

fn vector(values: &Values, missing: Option<&[bool]>, shape: &[usize]) -> Result<Robj> {
    let gone = |at: usize| missing.is_some_and(|mask| mask[at]);
    let order = ColumnMajor::new(shape);
    Ok(match values {
        Values::Bool(values) => Logicals::from_values(
            order.map(|at| if gone(at) { Rbool::na() } else { Rbool::from(values[at]) }),
        )
        .into(),
        Values::Text(values) => {
            let mut out =
                text(order.map(|at| if gone(at) { <&str>::na() } else { values.get(at) }));
            note(&mut out, "repaired", values.n_repaired())?;
            out
        }
        Values::Float32(values) => doubles(order, gone, |at| f64::from(values[at])),
        Values::Float64(values) => doubles(order, gone, |at| values[at]),
        Values::Int32(values) => integers(order, gone, |at| i128::from(values[at]))?,
        Values::Int64(values) => integers(order, gone, |at| i128::from(values[at]))?,
        Values::UInt64(values) => integers(order, gone, |at| i128::from(values[at]))?,
    })
}

fn doubles(order: ColumnMajor, gone: impl Fn(usize) -> bool, value: impl Fn(usize) -> f64) -> Robj {
    let cell = |at| Rfloat::from(if gone(at) { f64::na() } else { value(at) });
    Doubles::from_values(order.map(cell)).into()
}

/// `integer` where every value fits (the smallest stands for `NA` in R), else `double`.
fn integers(
    order: ColumnMajor,
    gone: impl Fn(usize) -> bool,
    value: impl Fn(usize) -> i128,
) -> Result<Robj> {
    const EXACT: u128 = 1 << 53;
    let present = || (0..order.len()).filter(|&at| !gone(at)).map(&value);
    let narrow = i128::from(i32::MIN) + 1..=i128::from(i32::MAX);
    if present().all(|value| narrow.contains(&value)) {
        let cell = |at| if gone(at) { Rint::na() } else { Rint::from(value(at) as i32) };
        return Ok(Integers::from_values(order.map(cell)).into());
    }
    let inexact = present()
        .filter(|value| value.unsigned_abs() > EXACT && (*value as f64) as i128 != *value)
        .count();
    let mut out = doubles(order, gone, |at| value(at) as f64);
    note(&mut out, "inexact", inexact)?;
    Ok(out)
}

/// The positions of an array's values in the file, in the order that R wants them.
struct ColumnMajor {
    shape: Vec<usize>,
    strides: Vec<usize>,
    index: Vec<usize>,
    at: usize,
    left: usize,
}

impl ColumnMajor {
    fn new(shape: &[usize]) -> Self {
        let mut strides = vec![1; shape.len()];
        for k in (1..shape.len()).rev() {
            strides[k - 1] = strides[k] * shape[k];
        }
        Self {
            shape: shape.to_vec(),
            strides,
            index: vec![0; shape.len()],
            at: 0,
            left: shape.iter().product(),
        }
    }
}

impl Iterator for ColumnMajor {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let now = self.at;
        for k in 0..self.shape.len() {
            self.index[k] += 1;
            self.at += self.strides[k];
            if self.index[k] < self.shape[k] {
                break;
            }
            self.at -= self.strides[k] * self.shape[k];
            self.index[k] = 0;
        }
        Some(now)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ColumnMajor {}

/// A named list.
pub(super) fn named<N: AsRef<str>>(fields: impl IntoIterator<Item = (N, Robj)>) -> Robj {
    let (names, values): (Vec<N>, Vec<Robj>) = fields.into_iter().unzip();
    let mut list: Robj = List::from_values(values).into();
    set(&mut list, "names", text(names.iter()))
        .expect("as many names as values, made in this function");
    list
}

/// A character vector.
pub(super) fn text<S: AsRef<str>>(
    values: impl IntoIterator<Item = S, IntoIter: ExactSizeIterator>,
) -> Robj {
    Strings::from_values(values).into()
}

/// A number of things: `integer` where it fits.
pub(super) fn count(n: usize) -> Robj {
    i32::try_from(n).map_or_else(|_| Robj::from(n as f64), Robj::from)
}

/// Numbers of things, as `double`.
pub(super) fn counts(n: &[usize]) -> Robj {
    Doubles::from_values(n.iter().map(|&n| Rfloat::from(n as f64))).into()
}

fn dims(shape: &[usize]) -> Result<Robj> {
    let dims: Vec<i32> = shape.iter().map(|&n| small(n)).collect::<Result<_>>()?;
    Ok(Robj::from(dims))
}

fn small(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::TooLarge {
        message: format!("a dimension of {n} is more than R can hold"),
    })
}

/// Leaves a count on a value, if there is anything to count.
fn note(value: &mut Robj, name: &str, n: usize) -> Result<()> {
    if n > 0 { set(value, name, count(n)) } else { Ok(()) }
}

fn set(value: &mut Robj, name: &str, attribute: Robj) -> Result<()> {
    match value.set_attrib(name, attribute) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::InvalidValues { message: format!("can't set `{name}`: {e}") }),
    }
}
