//! Fixtures in every storage, and files that are damaged or claim nonsense: an
//! error that says where, never a panic, never a hang, no memory for nothing.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use hdf5_metno::File;
use scoom_core::error::{Error, Result};
use scoom_core::h5ad::H5File;
use scoom_core::matrix::{GridSpec, open_matrix_with};
use scoom_tests::oracle::{Dense, collect_all, ctx};
use scoom_tests::store::{
    Chunking, Encoding, Layout, Type, open, sparse_group, write, write_numbers,
};
use scoom_tests::{in_time, root};

const FINE: GridSpec =
    GridSpec { range_values: 200, max_ranges: 5, block_values: 13, block_rows: 3 };

fn fixture(name: &str) -> PathBuf {
    root().join("tests/testthat/fixtures").join(name)
}

fn read_element(path: &Path, element: &str, spec: &GridSpec, threads: usize) -> Result<Dense> {
    let at = path.to_owned();
    let open = std::sync::Arc::new(move || Ok(H5File::open(&at)?.hdf5().clone()));
    let source = open_matrix_with(path, element, open, spec)?;
    collect_all(source.as_ref(), &ctx(threads, 1 << 30))
}

/// Layers that hold the same matrix as `X`, whatever their storage.
#[test]
fn every_storage_of_the_fixtures_reads_the_same() {
    let mut n = 0;
    for name in [
        "csr-dtypes",
        "csc-dtypes",
        "dense-dtypes",
        "indices",
        "csr-storage",
        "csc-storage",
        "dense-storage",
        "chunk-indexes",
    ] {
        let path = fixture(&format!("{name}.anndata-v0.12.19.h5ad"));
        let expected = read_element(&path, "X", &GridSpec::default(), 1).expect("X reads");
        assert!(expected.values.iter().any(|x| *x != 0.0));
        let file = File::open(&path).expect("it opens");
        let layers = file.group("layers").expect("it has layers").member_names().expect("names");
        drop(file);
        for layer in layers {
            let element = format!("layers/{layer}");
            for spec in [GridSpec::default(), FINE] {
                let (path, element) = (path.clone(), element.clone());
                let read = in_time(move || read_element(&path, &element, &spec, 3));
                let read = read.unwrap_or_else(|e| panic!("{name} {layer}: {e}"));
                assert_eq!(read, expected, "{name} {layer}");
            }
            n += 1;
        }
    }
    assert!(n > 100, "{n} layers");
}

#[test]
fn damaged_fixtures_are_classed_errors() {
    for (name, kinds) in [
        ("no-shape", &["corrupt"][..]),
        ("no-indices", &["element_missing"]),
        ("index-too-large", &["corrupt"]),
        ("index-negative", &["corrupt"]),
        ("indptr-decreasing", &["corrupt"]),
        ("indptr-start", &["corrupt"]),
        ("indptr-past-end", &["corrupt"]),
        ("indptr-length", &["corrupt"]),
        ("data-length", &["corrupt"]),
        ("string-data", &["corrupt"]),
        ("x-encoding", &["unsupported_encoding"]),
        ("huge-shape", &["too_large", "corrupt"]),
        ("damaged-gzip", &["corrupt"]),
        ("damaged-lzf", &["corrupt"]),
        ("damaged-fletcher32", &["corrupt"]),
        ("filter-blosc", &["unsupported_filter"]),
    ] {
        for spec in [GridSpec::default(), FINE] {
            for threads in [1, 4] {
                let path = fixture(&format!("bad/{name}.h5ad"));
                let error = in_time(move || read_element(&path, "X", &spec, threads))
                    .expect_err(&format!("{name} is bad"));
                assert!(kinds.contains(&error.kind()), "{name}: {} {error}", error.kind());
                if error.kind() != "too_large" {
                    let fields = error.fields();
                    let has =
                        |field: &str| fields.iter().any(|(f, v)| *f == field && !v.is_empty());
                    assert!(has("path") && has("element"), "{name}: {error}");
                }
            }
        }
    }
}

/// The arrays of a sparse matrix with one of them changed.
struct Broken {
    shape: Vec<i64>,
    indptr: Vec<f64>,
    indices: Vec<f64>,
    data: Vec<f64>,
    types: [Type; 3],
}

impl Default for Broken {
    fn default() -> Self {
        Broken {
            shape: vec![3, 4],
            indptr: vec![0.0, 2.0, 2.0, 5.0],
            indices: vec![0.0, 3.0, 1.0, 2.0, 3.0],
            data: vec![1.0, 2.0, 3.0, 4.0, 5.0],
            types: [Type::I64, Type::I32, Type::F32],
        }
    }
}

impl Broken {
    fn read(&self, encoding: &str) -> Result<Dense> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.h5");
        let file = File::create(&path).expect("a file can be made");
        let group = sparse_group(&file, encoding, &self.shape);
        let arrays = [("indptr", &self.indptr), ("indices", &self.indices), ("data", &self.data)];
        for ((name, values), dtype) in arrays.into_iter().zip(self.types) {
            write_numbers(&group, name, values, &[values.len()], dtype, Chunking::default());
        }
        drop((group, file));
        in_time(move || {
            let source = open(&path, &GridSpec::default())?;
            collect_all(source.as_ref(), &ctx(2, 1 << 30))
        })
    }
}

#[test]
fn arrays_that_contradict_each_other_are_refused() {
    assert!(Broken::default().read("csr_matrix").is_ok());
    let cases: Vec<(&str, Broken)> = vec![
        ("rows negative", Broken { shape: vec![-3, 4], ..Broken::default() }),
        ("columns negative", Broken { shape: vec![3, -4], ..Broken::default() }),
        ("three numbers", Broken { shape: vec![3, 4, 1], ..Broken::default() }),
        ("one number", Broken { shape: vec![3], ..Broken::default() }),
        ("too many rows", Broken { shape: vec![4, 4], ..Broken::default() }),
        ("rows beyond", Broken { shape: vec![i64::MAX, 4], ..Broken::default() }),
        ("columns beyond", Broken { shape: vec![3, 1 << 40], ..Broken::default() }),
        ("too few columns", Broken { shape: vec![3, 3], ..Broken::default() }),
        ("no columns", Broken { shape: vec![3, 0], ..Broken::default() }),
        ("falling", Broken { indptr: vec![0.0, 3.0, 2.0, 5.0], ..Broken::default() }),
        ("not from 0", Broken { indptr: vec![1.0, 2.0, 2.0, 5.0], ..Broken::default() }),
        ("below 0", Broken { indptr: vec![-1.0, 2.0, 2.0, 5.0], ..Broken::default() }),
        ("beyond", Broken { indptr: vec![0.0, 2.0, 2.0, 6.0], ..Broken::default() }),
        ("short", Broken { indptr: vec![0.0, 2.0, 2.0, 4.0], ..Broken::default() }),
        ("empty", Broken { indptr: vec![], ..Broken::default() }),
        (
            "huge",
            Broken {
                indptr: vec![0.0, 2.0, 2.0, 1.8e19],
                types: [Type::U64, Type::I32, Type::F32],
                ..Broken::default()
            },
        ),
        ("float offsets", Broken { types: [Type::F64, Type::I32, Type::F32], ..Broken::default() }),
        ("float indices", Broken { types: [Type::I64, Type::F32, Type::F32], ..Broken::default() }),
        ("index too large", Broken { indices: vec![0.0, 4.0, 1.0, 2.0, 3.0], ..Broken::default() }),
        ("index below 0", Broken { indices: vec![0.0, -1.0, 1.0, 2.0, 3.0], ..Broken::default() }),
        ("indices short", Broken { indices: vec![0.0; 4], ..Broken::default() }),
        ("data short", Broken { data: vec![0.0; 4], ..Broken::default() }),
        ("data long", Broken { data: vec![0.0; 6], ..Broken::default() }),
    ];
    for (what, broken) in cases {
        let error = broken.read("csr_matrix").expect_err(what);
        assert!(matches!(error.kind(), "corrupt" | "too_large"), "{what}: {error}");
    }
    let mut turned = Broken { shape: vec![4, 3], ..Broken::default() };
    assert!(turned.read("csc_matrix").is_ok());
    turned.indices[4] = 4.0;
    assert_eq!(turned.read("csc_matrix").expect_err("beyond").kind(), "corrupt");
    assert_eq!(turned.read("coo_matrix").expect_err("unknown").kind(), "unsupported_encoding");
}

/// Tiny files that claim much: no memory is taken for what is not there.
#[test]
fn absurd_claims_are_refused() {
    for (what, shape, n) in [
        ("offsets", [1i64 << 30, 5], 1usize << 30),
        ("values", [1, 5], 1 << 45),
        ("unwritten values", [1, 5], 1 << 40),
    ] {
        for encoding in ["csr_matrix", "csc_matrix"] {
            let error = in_time(move || {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("x.h5");
                let file = File::create(&path).expect("a file can be made");
                let is_csc = encoding == "csc_matrix";
                let shape = if is_csc { [shape[1], shape[0]] } else { shape };
                let group = sparse_group(&file, encoding, &shape);
                let unwritten = |name: &str, n: usize| {
                    group.new_dataset::<i64>().shape(n).chunk(1000).create(name).expect("a claim");
                };
                if what == "offsets" {
                    unwritten("indptr", n + 1);
                    unwritten("indices", 0);
                    unwritten("data", 0);
                } else {
                    let indptr = [0u64, n as u64];
                    write_numbers(&group, "indptr", &indptr, &[2], Type::U64, Chunking::default());
                    unwritten("indices", n);
                    unwritten("data", n);
                }
                drop((group, file));
                open(&path, &GridSpec::default())
                    .and_then(|s| collect_all(s.as_ref(), &ctx(2, 1 << 30)))
            });
            assert_eq!(error.expect_err(what).kind(), "corrupt", "{what} {encoding}");
        }
    }
    for shape in [[1usize << 40, 3], [1 << 30, 1 << 30], [3, 1 << 33], [1 << 20, 1 << 20]] {
        let error = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("x.h5");
            let file = File::create(&path).expect("a file can be made");
            file.new_dataset::<f32>()
                .shape(shape)
                .chunk([shape[0].min(100), 2])
                .create("X")
                .expect("a claim");
            drop(file);
            open(&path, &GridSpec::default()).map(|_| ())
        });
        assert!(matches!(error.expect_err("absurd").kind(), "corrupt" | "too_large"), "{shape:?}");
    }
}

/// What can't be cut smaller than the budget is refused before it is read.
#[test]
fn chunks_and_rows_beyond_the_budget_are_refused() {
    for encoding in ["csr_matrix", "csc_matrix", "array", "one row"] {
        let error = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("x.h5");
            let file = File::create(&path).expect("a file can be made");
            let n = 20_000_000usize;
            if encoding == "array" {
                let new = file.new_dataset::<f32>().shape([n / 100, 100]).chunk([n / 100, 100]);
                new.create("X").expect("a dataset");
            } else {
                let (name, chunk) =
                    if encoding == "one row" { ("csr_matrix", 10_000) } else { (encoding, n) };
                let shape = if encoding == "csc_matrix" { [n as i64, 1] } else { [1, n as i64] };
                let group = sparse_group(&file, name, &shape);
                write_numbers(
                    &group,
                    "indptr",
                    &[0u64, n as u64],
                    &[2],
                    Type::U64,
                    Chunking::default(),
                );
                for name in ["indices", "data"] {
                    group
                        .new_dataset::<f32>()
                        .shape(n)
                        .chunk(chunk)
                        .create(name)
                        .expect("a dataset");
                }
            }
            drop(file);
            let source = open(&path, &GridSpec::default())?;
            collect_all(source.as_ref(), &ctx(2, 70 << 20))
        });
        let error = error.expect_err(encoding);
        let Error::OverBudget { what, needed_bytes, budget_bytes } = &error else {
            panic!("{encoding}: {error}")
        };
        assert!(what.contains('X') && *needed_bytes >= 80_000_000, "{error}");
        assert_eq!(*budget_bytes, 70 << 20);
    }
}

/// Flips each of a number of bytes of the stored chunks: the file reads, as
/// something or other, or is refused; with a checksum it is never misread.
#[test]
fn flipped_bytes_are_errors_or_numbers() {
    let n_vars = 9;
    let values = (0..60 * n_vars).map(|i| f64::from(i as u32 % 4)).collect();
    let dense = Dense { n_obs: 60, n_vars, values };
    for encoding in [Encoding::Csr, Encoding::Csc, Encoding::Dense] {
        for fletcher32 in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("x.h5");
            let mut layout = Layout::plain(encoding).gzip(50);
            layout.data_chunks.fletcher32 = fletcher32;
            layout.index_chunks.fletcher32 = fletcher32;
            write(&path, &dense, &layout);
            let mut refused = 0;
            let names =
                if encoding == Encoding::Dense { vec!["X"] } else { vec!["X/data", "X/indices"] };
            for name in names {
                let file = File::open(&path).expect("it opens");
                let dataset = file.dataset(name).expect("it is there");
                let chunks: Vec<(u64, u64)> = (0..dataset.num_chunks().expect("it is chunked"))
                    .map(|i| dataset.chunk_info(i).expect("it is there"))
                    .map(|chunk| (chunk.addr, chunk.size))
                    .collect();
                drop((dataset, file));
                for (k, (address, size)) in chunks.into_iter().enumerate() {
                    let at = address + (k as u64 * 7) % size;
                    let old = swap(&path, at, None);
                    let (path_too, dense) = (path.clone(), dense.clone());
                    let outcome = in_time(move || {
                        let threads = 1 + k % 4;
                        let source = open(&path_too, &FINE)?;
                        collect_all(source.as_ref(), &ctx(threads, 1 << 30))
                    });
                    match outcome {
                        // Where bands cut tiles, libhdf5 decodes them.
                        Err(Error::Corrupt { element, .. } | Error::Hdf5 { element, .. }) => {
                            assert_eq!(element, name);
                            refused += 1;
                        }
                        Err(other) => panic!("{other}"),
                        Ok(read) => assert!(
                            !fletcher32 && (read.n_obs, read.n_vars) == (60, 9) || read == dense
                        ),
                    }
                    swap(&path, at, Some(old));
                }
            }
            assert!(refused > 5, "{encoding:?}: {refused}");
        }
    }
}

/// Replaces a byte, by its complement or by what was there; returns the old one.
fn swap(path: &Path, at: u64, by: Option<u8>) -> u8 {
    let mut file = std::fs::File::options().read(true).write(true).open(path).expect("it opens");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("it is there");
    file.read_exact(&mut byte).expect("it reads");
    let new = by.unwrap_or(!byte[0]);
    file.seek(SeekFrom::Start(at)).expect("it is there");
    file.write_all(&[new]).expect("it writes");
    byte[0]
}

/// Chunks that were never written hold the fill value, on the border between
/// blocks too.
#[test]
fn unwritten_chunks_hold_the_fill_value() {
    for gzip in [false, true] {
        let read = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("x.h5");
            let file = File::create(&path).expect("a file can be made");
            let group = sparse_group(&file, "csr_matrix", &[10, 3]);
            let indptr: Vec<u64> = (0..=10).map(|i| 3 * i).collect();
            write_numbers(&group, "indptr", &indptr, &[11], Type::I32, Chunking::default());
            let indices: Vec<u64> = (0..30).map(|i| i % 3).collect();
            write_numbers(&group, "indices", &indices, &[30], Type::I32, Chunking::default());
            let mut new = group.new_dataset::<f32>().shape(30).chunk(7).fill_value(2.5f32);
            if gzip {
                new = new.deflate(4);
            }
            let data = new.create("data").expect("a dataset");
            data.write_slice(&[1f32; 7], 7..14).expect("it can be written");
            drop((data, group, file));
            let source = open(&path, &FINE).expect("it opens");
            collect_all(source.as_ref(), &ctx(3, 1 << 30)).expect("it reads")
        });
        let expected: Vec<f64> =
            (0..30).map(|i| if (7..14).contains(&i) { 1.0 } else { 2.5 }).collect();
        assert_eq!(read.values, expected);
    }
}
