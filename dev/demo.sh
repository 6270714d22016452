#!/usr/bin/env bash
# bash dev/demo.sh [file.h5ad]
# Installs what is missing, installs scoom into the user's R library, and runs
# the main job on the file, or on the example that ships with the package.
file="${1:-}"
[ -z "$file" ] || file="$(realpath -- "$file")" || exit 1
source "$(dirname "$0")/lib.sh"

bash dev/setup.sh run

say "Installing scoom: minutes the first time, then seconds"
lib="$(Rscript --vanilla -e '
  lib <- .libPaths()[1]
  if (file.access(lib, 2) != 0) lib <- path.expand(Sys.getenv("R_LIBS_USER"))
  dir.create(lib, recursive = TRUE, showWarnings = FALSE)
  cat(lib)')"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
if ! SCOOM_JOBS="${SCOOM_JOBS:-$(nproc)}" \
  R CMD INSTALL --library="$lib" . >"$log" 2>&1; then
  cat "$log"
  exit 1
fi
echo "into $lib"

R_LIBS="$lib${R_LIBS:+:$R_LIBS}" Rscript dev/demo.R ${file:+"$file"}
