//! What a file holds, and its small elements, for R.

mod values;

use std::path::PathBuf;

use extendr_api::prelude::*;
use scoom_core::error::{Error, Result};
use scoom_core::h5ad::{
    self, Description, Element, Entry, FrameInfo, H5File, MatrixInfo, RawInfo, Stamp, Unread,
};

use crate::guard::guard;
use values::{count, counts, named, text};

/// What the file at `path` holds; reads no values.
/// @noRd
#[extendr]
fn rs_h5ad_describe(path: Robj) -> Robj {
    guard(|| Ok(description(&h5ad::describe(&path_of(&path)?)?)))
}

/// One element (`"obs"`, `"obsm/X_pca"`, `"uns/neighbors/params"`) of a file whose
/// size and time of change must still be `size` and `mtime`.
/// @noRd
#[extendr]
fn rs_h5ad_read(path: Robj, size: Robj, mtime: Robj, element: Robj) -> Robj {
    guard(|| {
        let file = reopen(&path, &size, &mtime)?;
        match h5ad::read_element(&file, string("element", &element)?)? {
            Element::DataFrame(frame) => values::frame_parts(&frame),
            other => values::element(&other),
        }
    })
}

/// The row names of a data frame (`"obs"`, `"var"`, `"raw/var"`).
/// @noRd
#[extendr]
fn rs_h5ad_names(path: Robj, size: Robj, mtime: Robj, frame: Robj) -> Robj {
    guard(|| {
        let file = reopen(&path, &size, &mtime)?;
        values::array(&h5ad::read_names(&file, string("frame", &frame)?)?)
    })
}

fn string<'r>(argument: &'static str, value: &'r Robj) -> Result<&'r str> {
    match value.as_str() {
        Some(value) if !value.is_na() => Ok(value),
        _ => Err(Error::InvalidInput {
            argument,
            message: format!("`{argument}` must be one string"),
        }),
    }
}

fn number(argument: &'static str, value: &Robj) -> Result<f64> {
    let found = value.as_real().or_else(|| value.as_integer().map(f64::from));
    found.filter(|value| value.is_finite()).ok_or_else(|| Error::InvalidInput {
        argument,
        message: format!("`{argument}` must be one number"),
    })
}

fn path_of(path: &Robj) -> Result<PathBuf> {
    string("path", path).map(PathBuf::from)
}

fn reopen(path: &Robj, size: &Robj, mtime: &Robj) -> Result<H5File> {
    let stamp = Stamp { size: number("size", size)? as u64, mtime: number("mtime", mtime)? };
    H5File::reopen(&path_of(path)?, stamp)
}

fn description(found: &Description) -> Robj {
    let entries = |entries: &[Entry]| named(entries.iter().map(|e| (e.name.as_str(), entry(e))));
    named([
        ("path", Robj::from(found.path.to_string_lossy().as_ref())),
        ("size", Robj::from(found.stamp.size as f64)),
        ("mtime", Robj::from(found.stamp.mtime)),
        ("n_obs", count(found.n_obs)),
        ("n_vars", count(found.n_vars)),
        ("obs", frame(&found.obs)),
        ("var", frame(&found.var)),
        ("X", found.x.as_ref().map_or_else(|| ().into(), matrix)),
        ("layers", named(found.layers.iter().map(|(name, info)| (name.as_str(), matrix(info))))),
        ("obsm", entries(&found.obsm)),
        ("varm", entries(&found.varm)),
        ("obsp", entries(&found.obsp)),
        ("varp", entries(&found.varp)),
        ("uns", entries(&found.uns)),
        ("raw", found.raw.as_ref().map_or_else(|| ().into(), raw)),
        ("unread", unread(&found.unread)),
    ])
}

fn frame(info: &FrameInfo) -> Robj {
    named([
        ("index", Robj::from(info.index.as_str())),
        ("columns", text(info.columns.iter().map(String::as_str))),
        ("encodings", text(info.encodings.iter().map(ToString::to_string))),
    ])
}

fn raw(info: &RawInfo) -> Robj {
    named([
        ("n_vars", count(info.n_vars)),
        ("X", info.x.as_ref().map_or_else(|| ().into(), matrix)),
        ("var", frame(&info.var)),
        ("varm", named(info.varm.iter().map(|e| (e.name.as_str(), entry(e))))),
    ])
}

fn matrix(info: &MatrixInfo) -> Robj {
    named([
        ("element", Robj::from(info.element.as_str())),
        ("kind", Robj::from(info.kind.name())),
        ("shape", counts(&info.shape)),
        ("dtype", Robj::from(info.dtype.as_str())),
        ("index_dtype", info.index_dtype.as_deref().map_or_else(|| ().into(), Robj::from)),
        ("nnz", Robj::from(info.nnz as f64)),
        ("chunk", info.chunk.as_ref().map_or_else(|| ().into(), |chunk| counts(chunk))),
        ("filters", text(info.filters.iter().map(String::as_str))),
        ("bytes", Robj::from(info.bytes.map_or(f64::na(), |bytes| bytes as f64))),
    ])
}

fn entry(entry: &Entry) -> Robj {
    named([
        ("element", Robj::from(entry.element.as_str())),
        ("encoding", Robj::from(entry.encoding.to_string())),
        ("shape", entry.shape.as_ref().map_or_else(|| ().into(), |shape| counts(shape))),
    ])
}

fn unread(list: &[Unread]) -> Robj {
    named([
        ("element", text(list.iter().map(|u| u.element.as_str()))),
        ("reason", text(list.iter().map(|u| u.reason.as_str()))),
    ])
}

extendr_module! {
    mod h5ad;
    fn rs_h5ad_describe;
    fn rs_h5ad_read;
    fn rs_h5ad_names;
}
