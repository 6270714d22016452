#!/usr/bin/env bash
# Formatting and lints of Rust and R; exits nonzero when one complains.
source "$(dirname "$0")/lib.sh"

status=0
for workspace in src/rust tests/rust; do
  say "rustfmt and clippy in $workspace"
  (
    cd "$workspace"
    cargo fmt --all --check && clippy_workspace
  ) || status=1
done
say "functions of R/ that are defined twice"
twice="$(grep -hoE '^[A-Za-z0-9_.]+ <- function' R/*.R | sort | uniq -d)"
[ -z "$twice" ] || { echo "$twice"; status=1; }
if have air; then
  say "air"
  air format --check . || status=1
fi
if Rscript -e 'quit(status = !requireNamespace("lintr", quietly = TRUE))'; then
  say "lintr"
  Rscript -e 'found <- lintr::lint_package(); print(found); quit(status = length(found) > 0)' ||
    status=1
fi
exit "$status"
