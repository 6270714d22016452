#!/usr/bin/env bash
# Writes R/extendr-wrappers.R, NAMESPACE and man/. The package is installed into
# a temporary library for it, with what is exported so far.
source "$(dirname "$0")/lib.sh"

bash dev/wrappers.sh
lib="$(mktemp -d)"
trap 'rm -rf "$lib"' EXIT
R CMD INSTALL --no-docs --no-test-load --library="$lib" . >/dev/null
R_LIBS="$lib${R_LIBS:+:$R_LIBS}" Rscript -e \
  'roxygen2::roxygenise(load_code = "installed")'
