#!/usr/bin/env bash
# Writes src/rust/vendor.tar.xz, the sources of all crates, with which a release
# tarball installs offline; and LICENSE.note and inst/AUTHORS, which name them.
source "$(dirname "$0")/lib.sh"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# The configuration that --quiet keeps to itself is written by tools/config.R.
cargo vendor --quiet --locked --versioned-dirs \
  --manifest-path src/rust/Cargo.toml "$work/vendor"
# What the enabled features of windows-sys are, version by version.
cargo metadata --locked --format-version 1 --manifest-path src/rust/Cargo.toml \
  >"$work/metadata.json"
Rscript dev/vendor.R "$work"

# The same sources give the same archive.
XZ_OPT=-9e tar --create --xz --file "$work/vendor.tar.xz" --directory "$work" \
  --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu vendor
mv "$work/vendor.tar.xz" src/rust/vendor.tar.xz
printf 'src/rust/vendor.tar.xz: %s crates, %.2f MB (%s unpacked)\n' \
  "$(find "$work/vendor" -mindepth 1 -maxdepth 1 | wc -l)" \
  "$(awk "BEGIN { print $(stat -c %s src/rust/vendor.tar.xz) / 1e6 }")" \
  "$(du -sh "$work/vendor" | cut -f 1)"
