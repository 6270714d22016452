# Stops with help when no Rust toolchain is new enough to build the package.
# Run by `configure`; base R only.

source(file.path("tools", "toolchain.R"))

required <- required_rust("DESCRIPTION")
cargo <- find_tool("cargo")
rustc <- find_tool("rustc")

advice <- c(
  "What to do, whichever suits you:",
  "  * Debian 13, Ubuntu 25.10 or newer:  sudo apt-get install cargo",
  "  * Fedora:                            sudo dnf install cargo",
  "  * macOS:                             brew install rust",
  "  * any system:                        install rustup from https://rustup.rs",
  "    (already there? then               rustup update stable)",
  "and install scoom again."
)

if (!nzchar(cargo) || !nzchar(rustc)) {
  missing <- c("cargo", "rustc")[!nzchar(c(cargo, rustc))]
  halt(
    paste(
      "scoom is built with Rust, and",
      paste(missing, collapse = " and "),
      "cannot be found."
    ),
    "Looked in the PATH, in $CARGO_HOME/bin and in ~/.cargo/bin.",
    advice
  )
}

found <- tool_version(rustc)
if (is.na(found)) {
  halt(
    paste0("'", rustc, " --version' does not answer with a version."),
    "With rustup this happens while no default toolchain is set:",
    "  rustup default stable"
  )
}
if (package_version(found) < required) {
  halt(
    sprintf(
      "scoom needs Rust >= %s; %s is version %s.",
      required,
      rustc,
      found
    ),
    advice
  )
}
message("using rustc ", found, " (", rustc, ")")
