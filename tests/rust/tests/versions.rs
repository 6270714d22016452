//! Facts that are written down in more than one file.

use scoom_tests::read;

/// What stands between `before` and `after` in a file of the repository.
fn between(path: &str, before: &str, after: &str) -> String {
    let text = read(path).split_whitespace().collect::<Vec<_>>().join(" ");
    let tail = text.split_once(before).unwrap_or_else(|| panic!("{path} lacks {before:?}")).1;
    tail.split_once(after).unwrap_or_else(|| panic!("{path} lacks {after:?}")).0.to_owned()
}

#[test]
fn the_minimum_rust_version_is_one() {
    let msrv = between("src/rust/Cargo.toml", "rust-version = \"", "\"");
    assert_eq!(msrv, between("DESCRIPTION", "rustc >= ", ","));
    assert_eq!(msrv, between("src/rust/clippy.toml", "msrv = \"", "\""));
    assert_eq!(msrv, between("tests/rust/Cargo.toml", "rust-version = \"", "\""));
}

#[test]
fn the_package_and_the_crates_have_one_version() {
    let crates = between("src/rust/Cargo.toml", "version = \"", "\"");
    assert_eq!(crates, between("DESCRIPTION", " Version: ", " "));
}

#[test]
fn the_minimum_hdf5_and_cmake_are_those_of_configure() {
    let hdf5 = between("tools/config.R", "min_hdf5 <- \"", "\"");
    assert_eq!(hdf5, between("DESCRIPTION", "libhdf5 >= ", " "));
    let cmake = between("tools/config.R", "min_cmake <- \"", "\"");
    assert_eq!(cmake, between("DESCRIPTION", "cmake >= ", " "));
}

#[test]
fn both_workspaces_test_with_one_profile() {
    let profile = |path| between(path, "[profile.dev] ", "debug = 1");
    assert_eq!(profile("src/rust/Cargo.toml"), profile("tests/rust/Cargo.toml"));
}
