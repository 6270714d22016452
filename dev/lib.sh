# Shared by the scripts in dev/: sourced, not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
# One build directory for everything, kept in the clone; absolute, as scripts and
# R CMD INSTALL run cargo from several places.
CARGO_TARGET_DIR="${SCOOM_TARGET_DIR:-${CARGO_TARGET_DIR:-.cache/target}}"
case "$CARGO_TARGET_DIR" in
  /*) ;;
  *) CARGO_TARGET_DIR="$PWD/$CARGO_TARGET_DIR" ;;
esac
export CARGO_TARGET_DIR
export SCOOM_TARGET_DIR="$CARGO_TARGET_DIR"

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
# version_at_least FOUND MINIMUM
version_at_least() {
  [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}
# copy_sources DIRECTORY: the package's files without what builds have left. R CMD
# build copies all that it finds before it leaves anything out.
copy_sources() {
  mkdir -p "$1"
  tar --create --exclude-vcs --exclude=./.cache --exclude=target . |
    tar --extract --directory "$1"
}
msrv() { sed -n 's/^rust-version = "\(.*\)"/\1/p' src/rust/Cargo.toml; }
# Clippy on all targets of the workspace here. Each Rust brings new lints: those
# of versions after the one named are shown, and fail nothing.
clippy_workspace() {
  local lints_of=1.95 deny=()
  if version_at_least "$lints_of.99" "$(rustc --version | awk '{ print $2 }')"; then
    deny=(-D warnings)
  fi
  cargo clippy --quiet --workspace --all-targets --locked -- ${deny[@]+"${deny[@]}"}
}
if have R; then R_HOME="$(R RHOME)"; export R_HOME; fi
