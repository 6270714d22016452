//! Passes on what the linked libhdf5 can do: `H5Pset_file_locking` came with
//! 1.10.7 and, on the 1.12 branch, with 1.12.1.

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(hdf5_file_locking)");
    println!("cargo::rerun-if-changed=build.rs");
    let has = |version: &str| env::var_os(format!("DEP_HDF5_VERSION_{version}")).is_some();
    if has("1_12_1") || (has("1_10_7") && !has("1_12_0")) {
        println!("cargo::rustc-cfg=hdf5_file_locking");
    }
}
