//! From R values to Rust values, with errors that name the argument.

use std::marker::PhantomData;

use extendr_api::prelude::*;
use scoom_core::error::{Error, Result};

/// The fields of a named list from R.
///
/// Fields are looked up by name; a missing field and `NULL` are the same.
pub struct Args<'r> {
    list: Robj,
    /// What keeps the fields alive while slices of them are in use.
    owner: PhantomData<&'r Robj>,
}

impl<'r> Args<'r> {
    /// The fields of `list`.
    pub fn new(list: &'r Robj) -> Self {
        Args { list: list.clone(), owner: PhantomData }
    }

    /// The fields of `list`, an element somewhere inside `owner`.
    pub fn within(_owner: &'r Robj, list: Robj) -> Self {
        Args { list, owner: PhantomData }
    }

    /// The field, unless it is missing or `NULL`.
    pub fn get(&self, name: &str) -> Option<Robj> {
        let list = self.list.as_list()?;
        let value = list.iter().find(|(key, _)| *key == name).map(|(_, value)| value)?;
        (!value.is_null()).then_some(value)
    }

    /// The field.
    pub fn need(&self, name: &'static str) -> Result<Robj> {
        self.get(name).ok_or_else(|| wrong(name, "is missing"))
    }

    /// A number.
    pub fn number(&self, name: &'static str) -> Result<f64> {
        number(&self.need(name)?).ok_or_else(|| wrong(name, "must be one number"))
    }

    /// A number, or `None` where the field is missing.
    pub fn number_opt(&self, name: &'static str) -> Result<Option<f64>> {
        self.get(name)
            .map(|value| number(&value).ok_or_else(|| wrong(name, "must be one number")))
            .transpose()
    }

    /// A whole number from zero on.
    pub fn count(&self, name: &'static str) -> Result<usize> {
        let value = self.number(name)?;
        if value >= 0.0 && value.fract() == 0.0 && value <= 2f64.powi(53) {
            Ok(value as usize)
        } else {
            Err(wrong(name, "must be a whole number from zero on"))
        }
    }

    /// A truth value.
    pub fn flag(&self, name: &'static str) -> Result<bool> {
        self.need(name)?.as_bool().ok_or_else(|| wrong(name, "must be TRUE or FALSE"))
    }

    /// A string.
    pub fn text(&self, name: &'static str) -> Result<String> {
        self.need(name)?
            .as_str()
            .map(ToOwned::to_owned)
            .ok_or_else(|| wrong(name, "must be one string"))
    }

    /// Numbers, whole ones included.
    pub fn numbers(&self, name: &'static str) -> Result<Vec<f64>> {
        let value = self.need(name)?;
        if let Some(slice) = value.as_real_slice() {
            return Ok(slice.to_vec());
        }
        let slice = value.as_integer_slice().ok_or_else(|| wrong(name, "must be numbers"))?;
        Ok(slice.iter().map(|&v| if v == i32::MIN { f64::NAN } else { f64::from(v) }).collect())
    }

    /// Positions counted from one, as positions from zero; `None` where missing.
    pub fn positions(&self, name: &'static str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let bad = || wrong(name, "must be positions counted from one");
        if let Some(slice) = value.as_integer_slice() {
            return slice
                .iter()
                .map(|&v| usize::try_from(v).ok().and_then(|v| v.checked_sub(1)).ok_or_else(bad))
                .collect::<Result<_>>()
                .map(Some);
        }
        let slice = value.as_real_slice().ok_or_else(bad)?;
        slice
            .iter()
            .map(|&v| if v >= 1.0 && v.fract() == 0.0 { Ok(v as usize - 1) } else { Err(bad()) })
            .collect::<Result<_>>()
            .map(Some)
    }

    /// Codes counted from zero, with `None` for `NA`: the groups of cells.
    pub fn codes(&self, name: &'static str) -> Result<Vec<Option<u32>>> {
        let value = self.need(name)?;
        let slice = value.as_integer_slice().ok_or_else(|| wrong(name, "must be integers"))?;
        Ok(slice.iter().map(|&v| u32::try_from(v).ok()).collect())
    }

    /// The named list in a field.
    pub fn inner(&self, name: &'static str) -> Result<Robj> {
        let value = self.need(name)?;
        if value.is_list() { Ok(value) } else { Err(wrong(name, "must be a list")) }
    }

    /// R's own doubles in a field, without a copy.
    pub fn doubles(&self, name: &'static str) -> Result<&'r [f64]> {
        let value = self.need(name)?;
        let slice = value.as_real_slice().ok_or_else(|| wrong(name, "must be doubles"))?;
        // SAFETY: the vector is an element of the owner, which the caller
        // keeps protected and unchanged for 'r; R does not move vectors.
        Ok(unsafe { std::slice::from_raw_parts(slice.as_ptr(), slice.len()) })
    }

    /// R's own integers in a field, without a copy.
    pub fn integers(&self, name: &'static str) -> Result<&'r [i32]> {
        let value = self.need(name)?;
        let slice = value.as_integer_slice().ok_or_else(|| wrong(name, "must be integers"))?;
        // SAFETY: as in `doubles`.
        Ok(unsafe { std::slice::from_raw_parts(slice.as_ptr(), slice.len()) })
    }
}

/// R's own integers as positions from zero on, without a copy; `None` where one is
/// negative or missing.
pub fn unsigned(slice: &[i32]) -> Option<&[u32]> {
    if slice.iter().any(|&at| at < 0) {
        return None;
    }
    // SAFETY: both types have the same size and alignment, and all bits are valid.
    Some(unsafe { std::slice::from_raw_parts(slice.as_ptr().cast(), slice.len()) })
}

/// One number, whole or not.
fn number(value: &Robj) -> Option<f64> {
    value.as_real().or_else(|| value.as_integer().map(f64::from))
}

/// An error about an argument.
pub fn wrong(argument: &'static str, what: &str) -> Error {
    Error::InvalidInput { argument, message: format!("`{argument}` {what}") }
}

/// Serialised partials for R: a list of raw vectors.
pub fn raws(parts: &[Vec<u8>]) -> Robj {
    List::from_values(parts.iter().map(|bytes| Raw::from_bytes(bytes))).into()
}

/// A named list for R.
pub fn named(fields: Vec<(&str, Robj)>) -> Robj {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    List::from_names_and_values(names, values).unwrap_or_default().into()
}
