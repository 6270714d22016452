//! Small matrices written to HDF5 in every layout that hdf5-metno can write.

use std::path::Path;
use std::sync::Arc;

use hdf5_metno::{File, Group, H5Type, types::VarLenUnicode};
use proptest::prelude::*;
use scoom_core::error::{Error, Result};
use scoom_core::matrix::{GridSpec, Opener, Source, open_matrix_with};

use crate::oracle::Dense;

/// Which of the three encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Sparse rows.
    Csr,
    /// Sparse columns.
    Csc,
    /// All values.
    Dense,
}

/// A number type of HDF5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

const TYPES: [Type; 10] = [
    Type::I8,
    Type::I16,
    Type::I32,
    Type::I64,
    Type::U8,
    Type::U16,
    Type::U32,
    Type::U64,
    Type::F32,
    Type::F64,
];

/// Chunks and filters of one array.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunking {
    /// Elements of a chunk in one dimension, cut to the array's length; `None`:
    /// contiguous, without filters.
    pub chunk: Option<usize>,
    /// Columns of a chunk in two dimensions.
    pub columns: usize,
    /// Level of gzip.
    pub gzip: Option<u8>,
    /// Bytes of elements apart.
    pub shuffle: bool,
    /// A checksum at the end of each chunk.
    pub fletcher32: bool,
}

/// How a matrix is stored.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Rows, columns or all.
    pub encoding: Encoding,
    /// Type of values.
    pub values: Type,
    /// Type of indices.
    pub indices: Type,
    /// Type of offsets.
    pub offsets: Type,
    /// Chunks of the values.
    pub data_chunks: Chunking,
    /// Chunks of the indices.
    pub index_chunks: Chunking,
    /// Indices of a row fall instead of rising.
    pub is_reversed: bool,
    /// Each so many zeros, one is stored; 0: none.
    pub stored_zeros: usize,
}

impl Layout {
    /// The plain layout of an encoding: what anndata writes without compression.
    #[must_use]
    pub fn plain(encoding: Encoding) -> Self {
        Layout {
            encoding,
            values: Type::F32,
            indices: Type::I32,
            offsets: Type::I32,
            data_chunks: Chunking::default(),
            index_chunks: Chunking::default(),
            is_reversed: false,
            stored_zeros: 0,
        }
    }

    /// The same with chunks of `chunk` elements under gzip.
    #[must_use]
    pub fn gzip(mut self, chunk: usize) -> Self {
        let chunking =
            Chunking { chunk: Some(chunk), columns: 3, gzip: Some(4), ..Chunking::default() };
        (self.data_chunks, self.index_chunks) = (chunking, chunking);
        self
    }
}

/// The arrays of a compressed sparse matrix.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    /// Offsets.
    pub indptr: Vec<u64>,
    /// Columns (rows, for csc).
    pub indices: Vec<u64>,
    /// Values.
    pub data: Vec<f64>,
}

/// The arrays of `dense` in the order and with the stored zeros of `layout`.
#[must_use]
pub fn compress(dense: &Dense, layout: &Layout) -> Sparse {
    let is_csc = layout.encoding == Encoding::Csc;
    let (major, minor) =
        if is_csc { (dense.n_vars, dense.n_obs) } else { (dense.n_obs, dense.n_vars) };
    let mut sparse = Sparse { indptr: vec![0], ..Sparse::default() };
    let mut zeros = 0;
    for i in 0..major {
        let order: Vec<usize> =
            if layout.is_reversed { (0..minor).rev().collect() } else { (0..minor).collect() };
        for j in order {
            let at = if is_csc { j * dense.n_vars + i } else { i * dense.n_vars + j };
            let value = dense.values[at];
            let mut stored = value != 0.0;
            if !stored && layout.stored_zeros > 0 {
                zeros += 1;
                stored = zeros % layout.stored_zeros == 0;
            }
            if stored {
                sparse.indices.push(j as u64);
                sparse.data.push(value);
            }
        }
        sparse.indptr.push(sparse.data.len() as u64);
    }
    sparse
}

/// Writes a matrix as the element `X`.
///
/// # Panics
/// When libhdf5 refuses.
pub fn write(path: &Path, dense: &Dense, layout: &Layout) {
    let file = File::create(path).expect("a file can be made");
    if layout.encoding == Encoding::Dense {
        let shape = [dense.n_obs, dense.n_vars];
        write_numbers(&file, "X", &dense.values, &shape, layout.values, layout.data_chunks);
        return;
    }
    let encoding = if layout.encoding == Encoding::Csc { "csc_matrix" } else { "csr_matrix" };
    let sparse = compress(dense, layout);
    let group = sparse_group(&file, encoding, &[dense.n_obs as i64, dense.n_vars as i64]);
    let plain = Chunking::default();
    write_numbers(&group, "indptr", &sparse.indptr, &[sparse.indptr.len()], layout.offsets, plain);
    let n = sparse.data.len();
    write_numbers(&group, "indices", &sparse.indices, &[n], layout.indices, layout.index_chunks);
    write_numbers(&group, "data", &sparse.data, &[n], layout.values, layout.data_chunks);
}

/// A group `X` with the attributes of a sparse matrix.
///
/// # Panics
/// When libhdf5 refuses.
#[must_use]
pub fn sparse_group(file: &File, encoding: &str, shape: &[i64]) -> Group {
    let group = file.create_group("X").expect("a group can be made");
    let text: VarLenUnicode = encoding.parse().expect("it has no zero byte");
    let attribute = group.new_attr::<VarLenUnicode>().create("encoding-type");
    attribute.expect("an attribute can be made").write_scalar(&text).expect("it can be written");
    let attribute = group.new_attr_builder().with_data(shape).create("shape");
    attribute.expect("an attribute can be made");
    group
}

/// A number that fits each type it is written as.
pub trait Number: Copy {
    /// As float64.
    fn wide(self) -> f64;
}

impl Number for f64 {
    fn wide(self) -> f64 {
        self
    }
}

impl Number for u64 {
    fn wide(self) -> f64 {
        self as f64
    }
}

/// Writes numbers as any type, in one or two dimensions.
///
/// # Panics
/// When libhdf5 refuses.
pub fn write_numbers<N: Number>(
    group: &Group,
    name: &str,
    values: &[N],
    shape: &[usize],
    dtype: Type,
    chunking: Chunking,
) {
    macro_rules! as_type {
        ($t:ty) => {{
            let cast: Vec<$t> = values.iter().map(|v| v.wide() as $t).collect();
            write_typed(group, name, &cast, shape, chunking);
        }};
    }
    match dtype {
        Type::I8 => as_type!(i8),
        Type::I16 => as_type!(i16),
        Type::I32 => as_type!(i32),
        Type::I64 => as_type!(i64),
        Type::U8 => as_type!(u8),
        Type::U16 => as_type!(u16),
        Type::U32 => as_type!(u32),
        Type::U64 => as_type!(u64),
        Type::F32 => as_type!(f32),
        Type::F64 => as_type!(f64),
    }
}

/// Writes numbers of a type that HDF5 knows.
///
/// # Panics
/// When libhdf5 refuses.
pub fn write_typed<T: H5Type>(
    group: &Group,
    name: &str,
    values: &[T],
    shape: &[usize],
    chunking: Chunking,
) {
    let mut builder = group.new_dataset::<T>().shape(shape.to_vec());
    let some = shape.iter().all(|&d| d > 0);
    if let Some(chunk) = chunking.chunk.filter(|_| some) {
        let mut chunks = vec![chunk.clamp(1, shape[0])];
        if let Some(&columns) = shape.get(1) {
            chunks.push(chunking.columns.clamp(1, columns));
        }
        builder = builder.chunk(chunks);
        if chunking.shuffle {
            builder = builder.shuffle();
        }
        if let Some(level) = chunking.gzip {
            builder = builder.deflate(level);
        }
        if chunking.fletcher32 {
            builder = builder.fletcher32();
        }
    }
    let dataset = builder.create(name).expect("a dataset can be made");
    if some {
        dataset.write_raw(values).expect("it can be written");
    }
}

/// What opens a file anew for each sweep.
#[must_use]
pub fn opener(path: &Path) -> Opener {
    let path = path.to_owned();
    Arc::new(move || File::open(&path).map_err(|_| Error::NotHdf5 { path: path.clone() }))
}

/// Opens the element `X`.
///
/// # Errors
/// As [`open_matrix_with`].
pub fn open(path: &Path, spec: &GridSpec) -> Result<Box<dyn Source>> {
    open_matrix_with(path, "X", opener(path), spec)
}

/// A matrix, written in a layout, opened on a grid.
#[derive(Debug)]
pub struct Stored {
    /// What was written.
    pub dense: Dense,
    /// How.
    pub layout: Layout,
    /// How fine the grid is.
    pub spec: GridSpec,
}

impl Stored {
    /// Writes the matrix into `folder` and opens it.
    ///
    /// # Panics
    /// When it can't be written or opened.
    #[must_use]
    pub fn open_in(&self, folder: &Path) -> Box<dyn Source> {
        let path = folder.join("matrix.h5");
        write(&path, &self.dense, &self.layout);
        open(&path, &self.spec).expect("what was written opens")
    }
}

/// Small matrices of counts: empty rows, a full row, no rows, no columns.
pub fn any_dense() -> impl Strategy<Value = Dense> {
    let shape = prop_oneof![
        8 => (1usize..40, 1usize..24),
        1 => Just((0usize, 5usize)),
        1 => Just((5usize, 0usize)),
        1 => Just((1usize, 300usize)),
    ];
    (shape, 0u32..100, any::<bool>()).prop_flat_map(|((n_obs, n_vars), density, full)| {
        let value = (0u32..100, 1u32..110)
            .prop_map(move |(at, value)| if at < density { f64::from(value) } else { 0.0 });
        prop::collection::vec(value, n_obs * n_vars).prop_map(move |mut values| {
            if full && n_obs > 2 {
                values[n_vars..2 * n_vars].fill(7.0);
                values[2 * n_vars..3 * n_vars].fill(0.0);
            }
            Dense { n_obs, n_vars, values }
        })
    })
}

fn any_chunking() -> impl Strategy<Value = Chunking> {
    let chunk = prop_oneof![
        2 => Just(None),
        5 => (1usize..40).prop_map(Some),
        1 => Just(Some(1024)),
        1 => Just(Some(usize::MAX)),
    ];
    let gzip = prop_oneof![Just(None), (0u8..=9).prop_map(Some)];
    (chunk, 1usize..30, gzip, any::<bool>(), any::<bool>()).prop_map(
        |(chunk, columns, gzip, shuffle, fletcher32)| Chunking {
            chunk,
            columns,
            gzip,
            shuffle,
            fletcher32,
        },
    )
}

/// Any layout of an encoding.
pub fn any_layout(encoding: impl Strategy<Value = Encoding>) -> impl Strategy<Value = Layout> {
    let index = || {
        prop::sample::select(vec![Type::I16, Type::I32, Type::I64, Type::U16, Type::U32, Type::U64])
    };
    (
        (encoding, prop::sample::select(TYPES.to_vec())),
        (index(), index()),
        (any_chunking(), any_chunking()),
        (any::<bool>(), 0usize..4),
    )
        .prop_map(|((encoding, values), (indices, offsets), chunks, (is_reversed, zeros))| {
            Layout {
                encoding,
                values,
                indices,
                offsets,
                data_chunks: chunks.0,
                index_chunks: chunks.1,
                is_reversed,
                stored_zeros: zeros,
            }
        })
}

/// Any of the three encodings.
pub fn any_encoding() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![Encoding::Csr, Encoding::Csc, Encoding::Dense])
}

/// Grids so fine that small matrices have many blocks and ranges.
pub fn any_spec() -> impl Strategy<Value = GridSpec> {
    (1u64..120, 1u64..9, 1u64..60, 1usize..9).prop_map(
        |(range_values, max_ranges, block_values, block_rows)| GridSpec {
            range_values,
            max_ranges,
            block_values,
            block_rows,
        },
    )
}

/// Any small matrix in any layout on any grid.
pub fn any_stored() -> impl Strategy<Value = Stored> {
    (any_dense(), any_layout(any_encoding()), any_spec()).prop_map(|(dense, layout, spec)| Stored {
        dense,
        layout,
        spec,
    })
}
