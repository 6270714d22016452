#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, as root or with sudo:
#   dev/setup.sh run    what installing and using scoom needs (default)
#   dev/setup.sh test   what the tests need as well
# What is there already, from wherever it came, is left alone.
source "$(dirname "$0")/lib.sh"

purpose="${1:-run}"
min_r=4.2

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    echo "Root rights are needed for: $*" >&2
    echo "Run it as root, or install sudo, then start again." >&2
    exit 1
  fi
}

apt_updated=no
apt_install() {
  [ $# -gt 0 ] || return 0
  if ! have apt-get; then
    echo "This system has no apt-get. Please install by its own means: $*" >&2
    exit 1
  fi
  if [ "$apt_updated" = no ]; then
    as_root apt-get update -qq
    apt_updated=yes
  fi
  say "Installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Of the packages named, those that the distribution has.
in_distribution() {
  local name
  for name in "$@"; do
    if apt-cache show "$name" >/dev/null 2>&1; then echo "$name"; fi
  done
}

# Of the R packages named, those that R does not have.
r_missing() {
  Rscript --vanilla -e 'for (p in commandArgs(TRUE)) if (!nzchar(system.file(package = p))) cat(p, "")' "$@"
}

# r_install required|optional NAME...: the distribution's build of each missing
# package; required ones that it does not have come from CRAN as source.
r_install() {
  local need="$1" missing wanted=() name lower
  shift
  missing="$(r_missing "$@")"
  [ -n "$missing" ] || return 0
  have apt-get && [ "$apt_updated" = no ] && as_root apt-get update -qq && apt_updated=yes
  for name in $missing; do
    lower="$(echo "$name" | tr '[:upper:]' '[:lower:]')"
    wanted+=("$(in_distribution "r-cran-$lower" "r-bioc-$lower" | head -n 1)")
  done
  # shellcheck disable=SC2046
  apt_install $(printf '%s\n' "${wanted[@]}" | sed '/^$/d')
  missing="$(r_missing "$@")"
  [ -n "$missing" ] || return 0
  if [ "$need" = required ]; then
    say "Installing from CRAN: $missing"
    # shellcheck disable=SC2086
    Rscript --vanilla -e '
      lib <- .libPaths()[1]
      if (file.access(lib, 2) != 0) {
        lib <- Sys.getenv("R_LIBS_USER")
        dir.create(lib, recursive = TRUE, showWarnings = FALSE)
      }
      install.packages(commandArgs(TRUE), lib = lib, quiet = TRUE,
                       repos = "https://cloud.r-project.org")' $missing
    missing="$(r_missing "$@")"
    [ -z "$missing" ] || { echo "These R packages can't be installed: $missing" >&2; exit 1; }
  else
    echo "Not available here, tests that use them are skipped: $missing"
  fi
}

# ---- compiler, R, HDF5 -------------------------------------------------------

tools=()
have make && have cc || tools+=(build-essential)
have R || tools+=(r-base-core r-base-dev)
have curl || tools+=(curl ca-certificates)
if [ "${SCOOM_HDF5:-}" = static ]; then
  version_at_least "$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')" 3.26 ||
    [ -n "${CMAKE:-}" ] || tools+=(cmake)
else
  have pkg-config || tools+=(pkg-config)
  { have pkg-config && pkg-config --exists hdf5; } || have h5cc || tools+=(libhdf5-dev)
fi
apt_install ${tools[@]+"${tools[@]}"}

r_version="$(Rscript --vanilla -e 'cat(format(getRversion()))')"
if ! version_at_least "$r_version" "$min_r"; then
  echo "scoom needs R >= $min_r; this is R $r_version." >&2
  echo "Newer builds for this system: https://cran.r-project.org/bin/linux/" >&2
  exit 1
fi

r_install required cli rlang Matrix

# ---- Rust --------------------------------------------------------------------

rust_version() { rustc --version 2>/dev/null | awk '{ print $2 }'; }
if ! have cargo || ! version_at_least "$(rust_version)" "$(msrv)"; then
  packaged=""
  if have apt-cache && ! have cargo; then
    [ "$apt_updated" = yes ] || { as_root apt-get update -qq; apt_updated=yes; }
    packaged="$(apt-cache policy rustc | sed -n 's/^ *Candidate: *//p')"
  fi
  if version_at_least "$packaged" "$(msrv)"; then
    apt_install cargo rustc
  elif have rustup; then
    say "Updating Rust"
    rustup toolchain install stable --profile minimal --no-self-update
    rustup default stable
  else
    say "Installing Rust for this user, by rustup"
    # What sh.rustup.rs serves, from the host that the toolchain comes from too.
    curl --proto '=https' --tlsv1.2 -sSf https://static.rust-lang.org/rustup/rustup-init.sh |
      sh -s -- -y --quiet --profile minimal --no-modify-path
  fi
fi

[ "$purpose" = test ] || exit 0

# ---- tests -------------------------------------------------------------------

if have rustup; then
  cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
  cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
else
  cargo fmt --version >/dev/null 2>&1 || apt_install rustfmt
  cargo clippy --version >/dev/null 2>&1 || apt_install rust-clippy
fi
tools=()
have pandoc || tools+=(pandoc)
have git || tools+=(git)
apt_install ${tools[@]+"${tools[@]}"}
r_install required testthat knitr rmarkdown withr jsonlite
# Objects and files of other packages; then packages that results are compared with.
r_install optional ggplot2 SingleCellExperiment SummarizedExperiment S4Vectors \
  BiocGenerics DelayedArray MatrixGenerics SeuratObject Seurat BiocParallel \
  rhdf5 hdf5r HDF5Array \
  edgeR limma statmod DESeq2 glmGamPoi scran igraph RcppHNSW Rtsne
