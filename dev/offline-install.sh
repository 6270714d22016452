#!/usr/bin/env bash
# Builds the release tarball with vendored crates and installs it as a machine
# without network would: empty CARGO_HOME, no kept build, and no network
# interface where the kernel lets us take it away. Then uses it once. A directory
# named as the argument keeps the tarball.
source "$(dirname "$0")/lib.sh"

keep="${1:-}"
root="$PWD"
work="$(mktemp -d)"
# The archive does not stay: later installations from here would use it.
trap 'rm -rf "$work" "$root/src/rust/vendor.tar.xz"' EXIT
bash dev/vendor.sh
mkdir "$work/library" "$work/cargo-home"

say "Building the tarball"
copy_sources "$work/sources"
(cd "$work" && R CMD build --no-build-vignettes sources)

no_network=()
if unshare --net true 2>/dev/null; then
  no_network=(unshare --net)
elif unshare --user --map-root-user --net true 2>/dev/null; then
  no_network=(unshare --user --map-root-user --net)
else
  echo "This kernel does not let us take the network away; cargo is told to be offline."
fi

say "Installing it offline"
# rustup's cargo finds its toolchain through RUSTUP_HOME.
env -u CARGO_TARGET_DIR -u SCOOM_TARGET_DIR \
  RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" CARGO_HOME="$work/cargo-home" \
  SCOOM_JOBS="$(nproc)" ${no_network[@]+"${no_network[@]}"} \
  R CMD INSTALL --library="$work/library" "$work"/scoom_*.tar.gz

say "Using it"
installed="$work/library/scoom"
Rscript --vanilla -e 'library(scoom, lib.loc = commandArgs(TRUE)); cat(example_h5ad(), "\n")' \
  "$work/library"
extra="$(find "$installed" \( -name target -o -name vendor -o -name '*.rs' \) | head -n 3)"
[ -z "$extra" ] || { echo "Left in the installed package: $extra"; exit 1; }
if [ -n "$(ls -A "$work/cargo-home")" ]; then
  echo "The build wrote into the user's CARGO_HOME"
  exit 1
fi
printf "tarball: %s bytes\n" "$(stat -c %s "$work"/scoom_*.tar.gz)"
echo "Installed offline: $(du -sh "$installed" | cut -f 1)"
[ -z "$keep" ] || cp "$work"/scoom_*.tar.gz "$keep"
