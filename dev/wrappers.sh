#!/usr/bin/env bash
# Writes R/extendr-wrappers.R from the Rust sources; with --check, compares.
source "$(dirname "$0")/lib.sh"

wrappers=R/extendr-wrappers.R
out="$(mktemp)"
trap 'rm -f "$out"' EXIT
# In the profile that installation builds, to share what it has compiled.
cargo run --quiet --release --manifest-path src/rust/Cargo.toml --locked \
  --example document -- "$out"

if [ "${1:-}" != --check ]; then
  cp "$out" "$wrappers"
elif ! diff -u "$wrappers" "$out"; then
  echo "$wrappers is stale: run dev/wrappers.sh"
  exit 1
fi
