#!/usr/bin/env bash
# bash dev/test.sh
# Installs what the tests need, runs every suite, prints a summary and ends with
# "N passed, N failed". A check that is no test suite counts as one.
source "$(dirname "$0")/lib.sh"

bash dev/setup.sh test

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
lib="$work/library"
mkdir -p "$lib"
export R_LIBS="$lib${R_LIBS:+:$R_LIBS}"
jobs="$(nproc)"
export SCOOM_JOBS="$jobs"
# Names of files and levels are not all ASCII, also where no locale is set.
export LC_ALL=C.UTF-8
# Tests provoke panics on purpose; where they came from is in the message.
export RUST_BACKTRACE=0

total_passed=0
total_failed=0
summary=()

# record NAME PASSED FAILED SECONDS
record() {
  total_passed=$((total_passed + $2))
  total_failed=$((total_failed + $3))
  summary+=("$(printf '%-24s %5d passed %5d failed %5d s' "$1" "$2" "$3" "$4")")
}

# check NAME COMMAND...: passes when the command does.
check() {
  local name="$1" begin=$SECONDS
  shift
  say "$name"
  if "$@"; then
    record "$name" 1 0 $((SECONDS - begin))
  else
    record "$name" 0 1 $((SECONDS - begin))
  fi
}

# cargo_tests NAME ARGUMENTS...: counts the tests that cargo reports.
cargo_tests() {
  local name="$1" begin=$SECONDS ended=0 log="$work/cargo.log" passed failed
  shift
  say "$name"
  (cd tests/rust && cargo test --locked --no-fail-fast "$@") 2>&1 | tee "$log" ||
    ended=1
  passed="$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$log" | paste -sd+ | bc_sum)"
  failed="$(sed -n 's/^test result: .*; \([0-9]*\) failed.*/\1/p' "$log" | paste -sd+ | bc_sum)"
  # What does not compile or ends early reports no failed test.
  if [ "$ended" = 1 ] && [ "$failed" = 0 ]; then failed=1; fi
  record "$name" "$passed" "$failed" $((SECONDS - begin))
}
bc_sum() { local sum; read -r sum || true; echo $((${sum:-0})); }

testthat_suite() {
  local begin=$SECONDS counts="$work/testthat.counts" passed failed
  say "testthat"
  echo "0 1" >"$counts"
  Rscript dev/testthat.R "$counts" || true
  read -r passed failed <"$counts"
  record testthat "$passed" "$failed" $((SECONDS - begin))
}

rustfmt_clean() {
  (cd src/rust && cargo fmt --all --check) && (cd tests/rust && cargo fmt --all --check)
}

clippy_clean() {
  local workspace
  for workspace in src/rust tests/rust; do
    (cd "$workspace" && clippy_workspace) || return 1
  done
}

install_package() { R CMD INSTALL --library="$lib" .; }

# The tarball is compiled from its own sources in the check; the installation
# that R CMD build makes for the vignettes takes the ones already compiled here.
r_cmd_check() {
  local rust="$PWD/src/rust"
  copy_sources "$work/sources"
  (
    cd "$work" &&
      SCOOM_RUST_DIR="$rust" R CMD build sources &&
      _R_CHECK_FORCE_SUGGESTS_=false R CMD check --no-manual --no-tests scoom_*.tar.gz
  ) || return 1
  ! grep -E '^Status:.*(ERROR|WARNING)' "$work/scoom.Rcheck/00check.log"
}

check rustfmt rustfmt_clean
check clippy clippy_clean
# Both suites in the workspace of tests/rust, where they share one compilation.
cargo_tests "core unit tests" -p scoom-core
cargo_tests "properties and rules" -p scoom-tests
check "installation" install_package
check "wrappers up to date" bash dev/wrappers.sh --check
testthat_suite
check "R CMD check" r_cmd_check

say Summary
printf '%s\n' "${summary[@]}"
echo
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" = 0 ]
