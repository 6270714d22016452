//! Whole files: made here, those of the R tests, and the collected ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use hdf5_metno::types::{FixedAscii, FixedUnicode, VarLenAscii, VarLenUnicode};
use hdf5_metno::{self as hdf5, Group, Location};

use super::*;
use crate::error::Error;

/// A path of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        static N: AtomicUsize = AtomicUsize::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("scoom-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/testthat/fixtures")
}

/// The collected files, where this machine has them.
fn shared() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared");
    let root = std::env::var_os("SCOOM_SHARED").map_or(here, PathBuf::from);
    Some(root.join("data/h5ad_fixtures")).filter(|folder| folder.is_dir())
}

fn unicode(text: &str) -> VarLenUnicode {
    text.parse().unwrap()
}

fn set(place: &Location, name: &str, value: &str) {
    place.new_attr::<VarLenUnicode>().create(name).unwrap().write_scalar(&unicode(value)).unwrap();
}

fn set_all(place: &Location, name: &str, values: &[&str]) {
    let values: Vec<_> = values.iter().map(|value| unicode(value)).collect();
    place.new_attr_builder().with_data(&values).create(name).unwrap();
}

fn encode(place: &Location, encoding: &str) {
    set(place, "encoding-type", encoding);
    set(place, "encoding-version", "0.2.0");
}

fn text_dataset(group: &Group, name: &str, values: &[&str]) {
    let values: Vec<_> = values.iter().map(|value| unicode(value)).collect();
    let dataset = group.new_dataset_builder().with_data(&values).create(name).unwrap();
    encode(&dataset, "string-array");
}

/// A file of three cells and two genes with the given columns of `obs`.
fn write(path: &Path, columns: &[&str], fill: impl FnOnce(&hdf5::File, &Group)) {
    let file = hdf5::File::create(path).unwrap();
    encode(&file, "anndata");
    for (frame, names) in [("obs", vec!["c1", "c2", "c3"]), ("var", vec!["g1", "g2"])] {
        let group = file.create_group(frame).unwrap();
        encode(&group, "dataframe");
        set(&group, "_index", "_index");
        text_dataset(&group, "_index", &names);
        if frame == "obs" && !columns.is_empty() {
            set_all(&group, "column-order", columns);
        } else {
            let empty: Vec<f64> = Vec::new();
            group.new_attr_builder().with_data(&empty).create("column-order").unwrap();
        }
    }
    fill(&file, &file.group("obs").unwrap());
}

fn read(path: &Path, element: &str) -> crate::error::Result<Element> {
    read_element(&H5File::open(path)?, element)
}

fn strings(element: Element) -> Vec<String> {
    match element {
        Element::Array(Array { values: Values::Text(text), .. }) => {
            text.iter().map(str::to_owned).collect()
        }
        other => panic!("no strings: {other:?}"),
    }
}

#[test]
fn what_is_no_anndata_file_is_named() {
    let scratch = Scratch::new("absent.h5ad");
    let kind = |path: &Path| describe(path).unwrap_err().kind();
    assert_eq!(kind(&scratch.0), "file_missing");
    assert_eq!(kind(scratch.0.parent().unwrap()), "is_directory");
    fs::write(&scratch.0, b"").unwrap();
    assert_eq!(kind(&scratch.0), "not_hdf5");
    fs::write(&scratch.0, "not HDF5 at all".repeat(100)).unwrap();
    assert_eq!(kind(&scratch.0), "not_hdf5");
    fs::write(&scratch.0, b"\x89HDF\r\n\x1a\n").unwrap();
    assert!(describe(&scratch.0).is_err());
}

#[test]
fn a_truncated_file_says_how_much_is_missing() {
    let scratch = Scratch::new("cut.h5ad");
    write(&scratch.0, &[], |_, _| {});
    let whole = fs::read(&scratch.0).unwrap();
    fs::write(&scratch.0, &whole[..whole.len() / 2]).unwrap();
    let error = describe(&scratch.0).unwrap_err();
    assert_eq!(error.kind(), "truncated");
    assert!(error.to_string().contains(&whole.len().to_string()), "{error}");
}

#[test]
fn other_formats_are_recognised() {
    for (members, word) in [
        (vec!["matrix/barcodes"], "10x"),
        (vec!["row_attrs", "col_attrs"], "loom"),
        (vec!["mod/rna"], "MuData"),
        (vec!["something"], "no `obs`"),
    ] {
        let scratch = Scratch::new("other.h5");
        let file = hdf5::File::create(&scratch.0).unwrap();
        for member in members {
            let nested = hdf5::Group::create_group_builder(&file).create_intermediate_group(true);
            nested.create(member).unwrap();
        }
        drop(file);
        match describe(&scratch.0) {
            Err(Error::NotAnnData { reason, .. }) => assert!(reason.contains(word), "{reason}"),
            other => panic!("{word}: {other:?}"),
        }
    }
}

#[test]
fn percent_signs_in_a_path_are_harmless() {
    let scratch = Scratch::new("100%s %n.h5ad");
    write(&scratch.0, &[], |_, _| {});
    assert_eq!(describe(&scratch.0).unwrap().n_obs, 3);
    let error = read(&scratch.0, "obs/%s").unwrap_err();
    assert_eq!(error.kind(), "element_missing");
    assert!(error.to_string().contains("100%s %n.h5ad"));
}

#[test]
fn a_changed_file_is_noticed() {
    let scratch = Scratch::new("a.h5ad");
    write(&scratch.0, &[], |_, _| {});
    let stamp = describe(&scratch.0).unwrap().stamp;
    assert!(H5File::reopen(&scratch.0, stamp).is_ok());
    let later = Stamp { mtime: stamp.mtime + 1.0, ..stamp };
    assert_eq!(check_stamp(&scratch.0, later).unwrap_err().kind(), "file_changed");
    let longer = Stamp { size: stamp.size + 1, ..stamp };
    assert_eq!(check_stamp(&scratch.0, longer).unwrap_err().kind(), "file_changed");
}

#[test]
fn nothing_stays_open() {
    let scratch = Scratch::new("a.h5ad");
    write(&scratch.0, &[], |_, _| {});
    describe(&scratch.0).unwrap();
    read(&scratch.0, "obs").unwrap();
    let file = hdf5::File::open_rw(&scratch.0).unwrap();
    file.create_group("uns").unwrap();
    drop(file);
    assert!(describe(&scratch.0).unwrap().uns.is_empty());
}

#[test]
fn strings_of_every_kind_are_read() {
    let scratch = Scratch::new("a.h5ad");
    let names = ["fixed", "fixed8", "ascii", "vlen"];
    write(&scratch.0, &names, |_, obs| {
        let fixed: Vec<_> =
            ["a", "", "abcd"].iter().map(|s| FixedAscii::<4>::from_ascii(s).unwrap()).collect();
        obs.new_dataset_builder().with_data(&fixed).create("fixed").unwrap();
        let fixed8: Vec<FixedUnicode<8>> =
            ["é", "größe", "x"].iter().map(|s| s.parse().unwrap()).collect();
        obs.new_dataset_builder().with_data(&fixed8).create("fixed8").unwrap();
        let ascii: Vec<_> =
            ["p", "", "qr"].iter().map(|s| VarLenAscii::from_ascii(s).unwrap()).collect();
        obs.new_dataset_builder().with_data(&ascii).create("ascii").unwrap();
        text_dataset(obs, "vlen", &["α", "", "β"]);
    });
    assert_eq!(strings(read(&scratch.0, "obs/fixed").unwrap()), ["a", "", "abcd"]);
    assert_eq!(strings(read(&scratch.0, "obs/fixed8").unwrap()), ["é", "größe", "x"]);
    assert_eq!(strings(read(&scratch.0, "obs/ascii").unwrap()), ["p", "", "qr"]);
    assert_eq!(strings(read(&scratch.0, "obs/vlen").unwrap()), ["α", "", "β"]);
}

#[test]
fn a_shape_beyond_what_is_stored_is_refused() {
    let scratch = Scratch::new("a.h5ad");
    write(&scratch.0, &[], |file, _| {
        let uns = file.create_group("uns").unwrap();
        uns.new_dataset::<f64>().chunk(16).shape(1 << 40).create("numbers").unwrap();
        uns.new_dataset::<VarLenUnicode>().chunk(16).shape(1 << 40).create("text").unwrap();
    });
    for element in ["uns/numbers", "uns/text"] {
        assert_eq!(read(&scratch.0, element).unwrap_err().kind(), "corrupt");
    }
}

#[test]
fn more_strings_than_a_slice_come_in_order() {
    let scratch = Scratch::new("a.h5ad");
    let n = (1 << 18) + 7;
    write(&scratch.0, &[], |file, _| {
        let uns = file.create_group("uns").unwrap();
        let many: Vec<_> = (0..n).map(|i| unicode(&i.to_string())).collect();
        uns.new_dataset_builder().with_data(&many).create("many").unwrap();
    });
    let many = strings(read(&scratch.0, "uns/many").unwrap());
    assert_eq!(many.len(), n);
    assert!(many.iter().enumerate().all(|(i, text)| *text == i.to_string()));
}

#[test]
fn a_broken_column_leaves_the_others() {
    let scratch = Scratch::new("a.h5ad");
    write(&scratch.0, &["good", "short", "absent", "codes"], |_, obs| {
        obs.new_dataset_builder().with_data(&[1_u8, 2, 3]).create("good").unwrap();
        obs.new_dataset_builder().with_data(&[1.5, 2.5]).create("short").unwrap();
        let codes = obs.create_group("codes").unwrap();
        encode(&codes, "categorical");
        codes.new_dataset_builder().with_data(&[0_i8, 2, -1]).create("codes").unwrap();
        text_dataset(&codes, "categories", &["x", "y"]);
        text_dataset(obs, "stray", &["a", "b", "c"]);
    });
    let found = describe(&scratch.0).unwrap();
    assert_eq!(found.obs.columns, ["good", "codes"]);
    let unread: Vec<_> = found.unread.iter().map(|u| u.element.as_str()).collect();
    assert_eq!(unread, ["obs/short", "obs/absent", "obs/stray"]);
    let Element::DataFrame(frame) = read(&scratch.0, "obs").unwrap() else { panic!() };
    assert_eq!(frame.columns.len(), 1);
    assert_eq!(frame.columns[0].0, "good");
    let codes = frame.unread.iter().find(|u| u.element == "obs/codes").unwrap();
    assert!(codes.reason.contains("code 2 is outside of -1 to 1"), "{}", codes.reason);
}

#[test]
fn masks_and_truth_values_are_read() {
    let scratch = Scratch::new("a.h5ad");
    write(&scratch.0, &["flag", "n", "name"], |_, obs| {
        obs.new_dataset_builder().with_data(&[true, false, true]).create("flag").unwrap();
        let n = obs.create_group("n").unwrap();
        encode(&n, "nullable-integer");
        n.new_dataset_builder().with_data(&[7_i64, 8, 1 << 40]).create("values").unwrap();
        n.new_dataset_builder().with_data(&[false, true, false]).create("mask").unwrap();
        let name = obs.create_group("name").unwrap();
        encode(&name, "nullable-string-array");
        text_dataset(&name, "values", &["a", "", "NA"]);
        name.new_dataset_builder().with_data(&[false, true, false]).create("mask").unwrap();
    });
    let Element::Array(flag) = read(&scratch.0, "obs/flag").unwrap() else { panic!() };
    assert_eq!(flag.values, Values::Bool(vec![true, false, true]));
    let Element::Array(n) = read(&scratch.0, "obs/n").unwrap() else { panic!() };
    assert_eq!(n.values, Values::Int64(vec![7, 8, 1 << 40]));
    assert_eq!(n.missing, Some(vec![false, true, false]));
    let Element::Array(name) = read(&scratch.0, "obs/name").unwrap() else { panic!() };
    assert_eq!(name.n_missing(), 1);
}

#[test]
fn row_names_come_from_any_kind_of_index() {
    let scratch = Scratch::new("a.h5ad");
    write(&scratch.0, &[], |_, obs| {
        obs.unlink("_index").unwrap();
        let index = obs.create_group("_index").unwrap();
        encode(&index, "nullable-string-array");
        text_dataset(&index, "values", &["a", "b", "c"]);
        index.new_dataset_builder().with_data(&[false, false, true]).create("mask").unwrap();
    });
    let file = H5File::open(&scratch.0).unwrap();
    let names = read_names(&file, "obs").unwrap();
    assert_eq!((names.len(), names.n_missing()), (3, 1));
    drop(file);
    assert_eq!(describe(&scratch.0).unwrap().n_obs, 3);

    let file = hdf5::File::open_rw(&scratch.0).unwrap();
    let obs = file.group("obs").unwrap();
    obs.unlink("_index").unwrap();
    obs.new_dataset_builder().with_data(&[10_i64, 20, 30]).create("_index").unwrap();
    drop((obs, file));
    let names = read_names(&H5File::open(&scratch.0).unwrap(), "obs").unwrap();
    assert_eq!(strings(Element::Array(names)), ["10", "20", "30"]);
}

#[test]
fn each_bad_file_fails_where_it_should() {
    for (name, kind) in [
        ("empty-file", "not_hdf5"),
        ("plain-text", "not_hdf5"),
        ("truncated", "truncated"),
        ("not-anndata", "not_anndata"),
        ("no-obs", "element_missing"),
        ("no-index", "corrupt"),
        ("x-rows", "corrupt"),
        ("x-columns", "corrupt"),
        ("huge-shape", "corrupt"),
    ] {
        let error = describe(&fixtures().join(format!("bad/{name}.h5ad"))).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
    for (name, element, kind) in [
        ("x-encoding", "X", "unsupported_encoding"),
        ("no-shape", "X", "corrupt"),
        ("no-indices", "X", "element_missing"),
        ("index-too-large", "X", "corrupt"),
        ("index-negative", "X", "corrupt"),
        ("indptr-decreasing", "X", "corrupt"),
        ("indptr-start", "X", "corrupt"),
        ("indptr-past-end", "X", "corrupt"),
        ("indptr-length", "X", "corrupt"),
        ("data-length", "X", "corrupt"),
        ("string-data", "X", "corrupt"),
        ("codes-out-of-range", "obs/x", "corrupt"),
        ("column-missing", "obs/x", "element_missing"),
        ("damaged-gzip", "X", "hdf5"),
        ("damaged-lzf", "X", "hdf5"),
        ("damaged-fletcher32", "X", "hdf5"),
        ("filter-blosc", "X", "unsupported_filter"),
    ] {
        let path = fixtures().join(format!("bad/{name}.h5ad"));
        assert!(describe(&path).is_ok(), "{name}");
        let error = read(&path, element).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
    for (name, element) in [
        ("x-encoding", "X"),
        ("no-shape", "X"),
        ("no-indices", "X"),
        ("indptr-length", "X"),
        ("data-length", "X"),
        ("string-data", "X"),
        ("column-length", "obs/x"),
        ("column-missing", "obs/x"),
        ("layer-shape", "layers/x"),
    ] {
        let found = describe(&fixtures().join(format!("bad/{name}.h5ad"))).unwrap();
        assert!(found.unread.iter().any(|u| u.element == element), "{name}: {:?}", found.unread);
    }
}

#[test]
fn every_good_file_is_read_in_full() {
    for entry in fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "h5ad") && !name.starts_with("unread") {
            read_in_full(&path);
        }
    }
}

#[test]
fn what_is_unread_is_listed() {
    let found = describe(&fixtures().join("unread.anndata-v0.12.19.h5ad")).unwrap();
    let mut unread: Vec<_> = found.unread.iter().map(|u| u.element.as_str()).collect();
    unread.sort_unstable();
    assert_eq!(unread, ["layers/odd", "obs/a", "obsm/awkward", "uns/odd"]);
}

#[test]
fn every_collected_file_is_read_in_full() {
    let Some(folder) = shared() else { return };
    let mut n_read = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match describe(&path) {
            Ok(_) => {
                read_in_full(&path);
                n_read += 1;
            }
            Err(Error::UnsupportedLegacy { element, .. }) => assert_eq!(element, "obs"),
            Err(Error::Truncated { .. }) => assert!(path.ends_with("scp_truncated_bad.h5")),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(n_read >= 20, "{n_read}");
}

fn read_in_full(path: &Path) {
    let found = describe(path).unwrap();
    assert_eq!(found.unread, [], "{}", path.display());
    for element in ["obs", "var", "obsm", "varm", "obsp", "varp", "uns"] {
        match read(path, element) {
            Ok(value) => assert_complete(&value, path),
            Err(Error::ElementMissing { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn assert_complete(value: &Element, path: &Path) {
    match value {
        Element::Dict(dict) => {
            assert_eq!(dict.unread, [], "{}", path.display());
            dict.entries.iter().for_each(|(_, value)| assert_complete(value, path));
        }
        Element::DataFrame(frame) => assert_eq!(frame.unread, [], "{}", path.display()),
        _ => {}
    }
}

#[test]
fn streams_of_lent_filters_decode_without_a_known_length() {
    let text = b"abcabcabcabcabcabc, and so on, ".repeat(50);
    let packed = zstd::bulk::compress(&text, 3).unwrap();
    assert_eq!(filters::decode_stream(filters::ZSTD, &[], &packed).unwrap(), text);
    let block = lz4_flex::block::compress(&text);
    let mut packed = (text.len() as u64).to_be_bytes().to_vec();
    packed.extend((text.len() as u32).to_be_bytes());
    packed.extend((block.len() as u32).to_be_bytes());
    packed.extend(block);
    assert_eq!(filters::decode_stream(filters::LZ4, &[], &packed).unwrap(), text);
    // A literal run "abc", then a copy of 6 bytes from 3 back.
    let packed = [2, b'a', b'b', b'c', 4 << 5, 2];
    assert_eq!(filters::decode_stream(filters::LZF, &[4, 261, 9], &packed).unwrap(), b"abcabcabc");
    assert!(filters::decode_stream(filters::LZF, &[], &[40, 0]).is_err());
    assert!(filters::decode_stream(filters::ZSTD, &[], b"nothing").is_err());
}
