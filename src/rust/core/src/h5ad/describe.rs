//! What a file holds, without reading a value: shapes, names and encodings.
//!
//! The time this takes does not depend on the number of cells: row names are
//! counted, not read, and of the matrices only shapes and layouts are looked at.

use std::path::{Path, PathBuf};

use hdf5_metno::filters::Filter;
use hdf5_metno::{Dataset, Datatype};

use super::Unread;
use super::dataframe::Frame;
use super::element;
use super::encoding::{Encoding, dtype_name};
use super::file::{H5File, Stamp};
use super::filters::FilterSpec;
use super::node::{Node, Object};
use super::raw::values::{TypeClass, class};
use crate::error::Result;

/// Above this number of chunks the size on disk is not summed up: it costs a walk
/// over the dataset's whole index.
const MAX_CHUNKS_SUMMED: usize = 1 << 14;

/// What an `AnnData` file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The file.
    pub path: PathBuf,
    /// Its size and time of change.
    pub stamp: Stamp,
    /// Number of observations.
    pub n_obs: usize,
    /// Number of variables.
    pub n_vars: usize,
    /// The columns of `obs`.
    pub obs: FrameInfo,
    /// The columns of `var`.
    pub var: FrameInfo,
    /// The matrix `X`, where there is one.
    pub x: Option<MatrixInfo>,
    /// The layers by name.
    pub layers: Vec<(String, MatrixInfo)>,
    /// Arrays along the observations.
    pub obsm: Vec<Entry>,
    /// Arrays along the variables.
    pub varm: Vec<Entry>,
    /// Pairwise matrices of the observations.
    pub obsp: Vec<Entry>,
    /// Pairwise matrices of the variables.
    pub varp: Vec<Entry>,
    /// Unstructured elements, the top level.
    pub uns: Vec<Entry>,
    /// The unfiltered matrix with its own variables.
    pub raw: Option<RawInfo>,
    /// What is in the file and can't be read.
    pub unread: Vec<Unread>,
}

/// The columns of a data frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameInfo {
    /// The name of the index.
    pub index: String,
    /// The names of the readable columns in their order.
    pub columns: Vec<String>,
    /// Their encodings.
    pub encodings: Vec<Encoding>,
}

/// `raw`: a matrix over the same observations with its own variables.
#[derive(Clone, Debug, PartialEq)]
pub struct RawInfo {
    /// Number of variables.
    pub n_vars: usize,
    /// The matrix.
    pub x: Option<MatrixInfo>,
    /// The columns of `raw/var`.
    pub var: FrameInfo,
    /// Arrays along the variables of `raw`.
    pub varm: Vec<Entry>,
}

/// An element by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The name within its group.
    pub name: String,
    /// The path inside the file.
    pub element: String,
    /// The encoding.
    pub encoding: Encoding,
    /// The lengths of its dimensions, where it has any.
    pub shape: Option<Vec<usize>>,
}

/// How a matrix is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixKind {
    /// Sparse, by rows.
    Csr,
    /// Sparse, by columns.
    Csc,
    /// Dense, by rows.
    Dense,
}

impl MatrixKind {
    /// `csr`, `csc` or `dense`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Csr => "csr",
            Self::Csc => "csc",
            Self::Dense => "dense",
        }
    }
}

/// A matrix on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixInfo {
    /// The path inside the file.
    pub element: String,
    /// How it is laid out.
    pub kind: MatrixKind,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The stored type of the values, as numpy spells it.
    pub dtype: String,
    /// The stored type of the indices of a sparse matrix.
    pub index_dtype: Option<String>,
    /// Number of stored values.
    pub nnz: usize,
    /// The chunk shape of the values, where they are chunked.
    pub chunk: Option<Vec<usize>>,
    /// The filters on the values, in the order they were applied.
    pub filters: Vec<String>,
    /// Bytes on disk of values, indices and offsets; `None` where counting them
    /// would take long.
    pub bytes: Option<u64>,
}

/// Describes the file at `path`.
///
/// # Errors
///
/// What [`H5File::open`] finds, `UnsupportedLegacy` for files written before 0.7,
/// and `Corrupt` when `obs`, `var` and the shape of `X` do not fit together. Everything else
/// that is wrong is listed in [`Description::unread`].
pub fn describe(path: &Path) -> Result<Description> {
    let file = H5File::open(path)?;
    let root = file.root()?;
    let mut unread = Vec::new();
    let obs = Frame::open(root.child("obs")?)?;
    let var = Frame::open(root.child("var")?)?;
    let (n_obs, n_vars) = (obs.n_rows()?, var.n_rows()?);
    let x = matrix_x(&root, [n_obs, n_vars], &mut unread)?;
    let mut entries = |name: &str, along: &[usize]| entries(&root, name, along, &mut unread);
    let layer_entries = entries("layers", &[n_obs, n_vars])?;
    let obsm = entries("obsm", &[n_obs])?;
    let varm = entries("varm", &[n_vars])?;
    let obsp = entries("obsp", &[n_obs, n_obs])?;
    let varp = entries("varp", &[n_vars, n_vars])?;
    let uns = entries("uns", &[])?;
    let mut layers = Vec::new();
    for entry in layer_entries {
        match matrix(&root.child(&entry.element)?) {
            Ok(info) => layers.push((entry.name, info)),
            Err(error) => unread.push(Unread::new(&entry.element, &error)),
        }
    }
    let raw = raw(&root, n_obs, &mut unread);
    for name in root.members()? {
        if !KNOWN.contains(&name.as_str()) {
            unread.push(Unread { element: name, reason: "it is no part of AnnData".to_owned() });
        }
    }
    Ok(Description {
        path: path.to_path_buf(),
        stamp: file.stamp(),
        n_obs,
        n_vars,
        obs: frame(&obs, n_obs, &mut unread)?,
        var: frame(&var, n_vars, &mut unread)?,
        x,
        layers,
        obsm,
        varm,
        obsp,
        varp,
        uns,
        raw,
        unread,
    })
}

/// The members of a file's root that this reader knows.
const KNOWN: [&str; 10] =
    ["X", "layers", "obs", "obsm", "obsp", "raw", "uns", "var", "varm", "varp"];

fn frame(frame: &Frame, n_rows: usize, unread: &mut Vec<Unread>) -> Result<FrameInfo> {
    let mut info = FrameInfo { index: frame.index.clone(), ..FrameInfo::default() };
    let at = |name: &str| format!("{}/{name}", frame.node().element());
    for name in &frame.columns {
        match column(frame.node(), name, n_rows) {
            Ok(encoding) => {
                info.columns.push(name.clone());
                info.encodings.push(encoding);
            }
            Err(error) => unread.push(Unread::new(&at(name), &error)),
        }
    }
    for name in frame.strays()? {
        unread
            .push(Unread { element: at(&name), reason: "it is no column of its frame".to_owned() });
    }
    Ok(info)
}

fn column(frame: &Node, name: &str, n_rows: usize) -> Result<Encoding> {
    let node = frame.child(name)?;
    let encoding = Encoding::of(&node)?;
    match element::shape(&node, &encoding)?.as_deref() {
        Some(&[n]) if n == n_rows => Ok(encoding),
        Some(&[n]) => Err(node.corrupt(format!("{n} values in a frame of {n_rows} rows"))),
        _ => Err(node.unsupported(encoding.to_string())),
    }
}

/// The members of a group such as `obsm`, whose first dimensions must be `along`.
fn entries(
    parent: &Node,
    group: &str,
    along: &[usize],
    unread: &mut Vec<Unread>,
) -> Result<Vec<Entry>> {
    if !parent.has(group) {
        return Ok(Vec::new());
    }
    let node = parent.child(group)?;
    if Encoding::of(&node)? == Encoding::Null {
        return Ok(Vec::new());
    }
    if let Object::Dataset(_) = node.object() {
        unread
            .push(Unread::new(node.element(), &node.legacy("an array of records (anndata < 0.7)")));
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for name in node.members()? {
        let element = format!("{}/{name}", node.element());
        match node.child(&name).and_then(|child| entry(&child, along, unread)) {
            Ok(entry) => out.push(Entry { name, ..entry }),
            Err(error) => unread.push(Unread::new(&element, &error)),
        }
    }
    Ok(out)
}

fn entry(node: &Node, along: &[usize], unread: &mut Vec<Unread>) -> Result<Entry> {
    let encoding = Encoding::of(node)?;
    if let Encoding::Other(name) = &encoding {
        return Err(node.unsupported(name.clone()));
    }
    let shape = element::shape(node, &encoding)?;
    if !along.is_empty() {
        match &shape {
            Some(found) if found.starts_with(along) => {}
            Some(found) => {
                return Err(node.corrupt(format!("shape {found:?} where {along:?} is expected")));
            }
            None => return Err(node.unsupported(encoding.to_string())),
        }
    } else if encoding == Encoding::Dict {
        list_unread(node, unread)?;
    }
    Ok(Entry { name: node.name().to_owned(), element: node.element().to_owned(), encoding, shape })
}

/// Looks through nested groups for members that can't be read.
fn list_unread(node: &Node, unread: &mut Vec<Unread>) -> Result<()> {
    for name in node.members()? {
        let element = format!("{}/{name}", node.element());
        if let Err(error) = node.child(&name).and_then(|child| entry(&child, &[], unread)) {
            unread.push(Unread::new(&element, &error));
        }
    }
    Ok(())
}

/// `X` as far as it can be described. One of another shape than `obs` and `var`
/// makes the file useless; one that can't be read leaves the rest.
fn matrix_x(
    root: &Node,
    expected: [usize; 2],
    unread: &mut Vec<Unread>,
) -> Result<Option<MatrixInfo>> {
    if !root.has("X") {
        return Ok(None);
    }
    let node = root.child("X")?;
    let encoding = Encoding::of(&node)?;
    if encoding == Encoding::Null {
        return Ok(None);
    }
    if let Ok(Some(found)) = element::shape(&node, &encoding) {
        if found != expected {
            return Err(node.corrupt(format!(
                "it has shape {found:?}, but obs has {} rows and var {}",
                expected[0], expected[1]
            )));
        }
    }
    match matrix(&node) {
        Ok(info) => Ok(Some(info)),
        Err(error) => {
            unread.push(Unread::new("X", &error));
            Ok(None)
        }
    }
}

fn raw(root: &Node, n_obs: usize, unread: &mut Vec<Unread>) -> Option<RawInfo> {
    let is_null = |node: Node| Encoding::of(&node).is_ok_and(|found| found == Encoding::Null);
    if !root.has("raw") || root.child("raw").is_ok_and(is_null) {
        return None;
    }
    let mut own = Vec::new();
    let read = |own: &mut Vec<Unread>| -> Result<RawInfo> {
        let node = root.child("raw")?;
        let var = Frame::open(node.child("var")?)?;
        let n_vars = var.n_rows()?;
        let x = if node.has("X") { Some(matrix(&node.child("X")?)?) } else { None };
        if let Some(found) = x.as_ref().map(|x| x.shape) {
            if found != [n_obs, n_vars] {
                return Err(node.corrupt(format!(
                    "X has shape {found:?} where {:?} is expected",
                    [n_obs, n_vars]
                )));
            }
        }
        let varm = entries(&node, "varm", &[n_vars], own)?;
        Ok(RawInfo { n_vars, x, var: frame(&var, n_vars, own)?, varm })
    };
    match read(&mut own) {
        Ok(info) => {
            unread.append(&mut own);
            Some(info)
        }
        Err(error) => {
            unread.push(Unread::new("raw", &error));
            None
        }
    }
}

/// Describes the matrix behind a node and checks that its parts fit together.
fn matrix(node: &Node) -> Result<MatrixInfo> {
    let encoding = Encoding::of(node)?;
    match encoding {
        Encoding::Array => dense(node),
        Encoding::Csr | Encoding::Csc => sparse(node, &encoding),
        other => Err(node.unsupported(other.to_string())),
    }
}

fn dense(node: &Node) -> Result<MatrixInfo> {
    let dataset = node.dataset()?;
    let shape = match *length(node, dataset)? {
        [rows, columns] => [rows, columns],
        ref other => {
            return Err(node.corrupt(format!("the shape {other:?} is not that of a matrix")));
        }
    };
    let layout = Layout::of(node, dataset)?;
    Ok(MatrixInfo {
        element: node.element().to_owned(),
        kind: MatrixKind::Dense,
        shape,
        dtype: dtype_name(&layout.dtype),
        index_dtype: None,
        nnz: shape.iter().product(),
        chunk: layout.chunk,
        filters: layout.filters,
        bytes: layout.bytes,
    })
}

fn sparse(node: &Node, encoding: &Encoding) -> Result<MatrixInfo> {
    let shape = super::sparse::shape(node)?;
    let (kind, n_major) = match encoding {
        Encoding::Csc => (MatrixKind::Csc, shape[1]),
        _ => (MatrixKind::Csr, shape[0]),
    };
    let part = |name: &str| -> Result<(usize, Layout)> {
        let node = node.child(name)?;
        let dataset = node.dataset()?;
        match *length(&node, dataset)? {
            [n] => Ok((n, Layout::of(&node, dataset)?)),
            ref other => Err(node.corrupt(format!("the shape {other:?} is not a length"))),
        }
    };
    let (nnz, data) = part("data")?;
    let (n_indices, indices) = part("indices")?;
    let (n_offsets, indptr) = part("indptr")?;
    if n_indices != nnz {
        return Err(node.corrupt(format!("{n_indices} indices for {nnz} values")));
    }
    if n_offsets != n_major + 1 {
        return Err(node.corrupt(format!("{n_offsets} offsets, expected {}", n_major + 1)));
    }
    let bytes = [data.bytes, indices.bytes, indptr.bytes].into_iter().sum();
    Ok(MatrixInfo {
        element: node.element().to_owned(),
        kind,
        shape,
        dtype: dtype_name(&data.dtype),
        index_dtype: Some(dtype_name(&indices.dtype)),
        nnz,
        chunk: data.chunk,
        filters: data.filters,
        bytes,
    })
}

fn length(node: &Node, dataset: &Dataset) -> Result<Vec<usize>> {
    dataset.get_shape().map_err(|e| node.hdf5("describe", &e))
}

/// How one dataset lies on disk.
struct Layout {
    dtype: Datatype,
    chunk: Option<Vec<usize>>,
    filters: Vec<String>,
    bytes: Option<u64>,
}

impl Layout {
    fn of(node: &Node, dataset: &Dataset) -> Result<Self> {
        let failed = |e: hdf5_metno::Error| node.hdf5("describe", &e);
        let plist = dataset.dcpl().map_err(failed)?;
        let dtype = dataset.dtype().map_err(failed)?;
        if !matches!(class(&dtype), TypeClass::Integer | TypeClass::Float | TypeClass::Enum) {
            return Err(node.corrupt(format!("it holds {dtype}, not numbers")));
        }
        let chunk = plist.chunk();
        let n_chunks = chunk.as_ref().map_or(1, |chunk| {
            let shape = dataset.shape();
            shape.iter().zip(chunk).map(|(&n, &step)| n.div_ceil(step.max(1))).product()
        });
        Ok(Self {
            dtype,
            chunk,
            filters: plist.get_filters().map_err(failed)?.iter().map(filter_name).collect(),
            bytes: (n_chunks <= MAX_CHUNKS_SUMMED).then(|| dataset.storage_size()),
        })
    }
}

fn filter_name(filter: &Filter) -> String {
    FilterSpec { id: filter.id(), parameters: Vec::new() }.name()
}
