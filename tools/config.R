# Chooses the HDF5 library and writes src/Makevars from src/Makevars.in.
# Run by `configure` after msrv.R; base R only, no network.
#
# Environment variables:
#   SCOOM_HDF5        "system" or "static"; unset: system if found, else static
#   SCOOM_TARGET_DIR  directory that keeps cargo's build between installations
#                     (CARGO_TARGET_DIR is honoured too); unset: a temporary one
#   SCOOM_JOBS        number of parallel compilations, default 2
#   SCOOM_RUST_DIR    compile these Rust sources, not the package's own: spares
#                     dev/test.sh a second compilation of the same files

source(file.path("tools", "toolchain.R"))

windows <- .Platform$OS.type == "windows"
macos <- Sys.info()[["sysname"]] == "Darwin"
min_hdf5 <- "1.10.3"
min_cmake <- "3.26"

# ---- HDF5 ------------------------------------------------------------------

# The system's HDF5 as list(version, libs, env), or NULL. `env` is what cargo
# needs to find the same library: the sys crate asks pkg-config for "hdf5" only.
system_hdf5 <- function() {
  if (windows) {
    return(NULL)
  }
  searches <- list(
    \() hdf5_by_pkg_config("hdf5"),
    \() hdf5_by_pkg_config("hdf5-serial"),
    hdf5_by_h5cc
  )
  for (search in searches) {
    found <- search()
    if (!is.null(found) && at_least(found$version, min_hdf5)) {
      return(found)
    }
  }
  NULL
}

hdf5_by_pkg_config <- function(name) {
  pkg_config <- Sys.which("pkg-config")[[1L]]
  version <- first_version(output_of(pkg_config, c("--modversion", name)))
  libs <- output_of(pkg_config, c("--libs", name))
  if (is.na(version) || !length(libs)) {
    return(NULL)
  }
  env <- character()
  if (name != "hdf5") {
    # The same description under the name that the sys crate looks for.
    dir <- file.path(getwd(), "src", "rust", ".cargo", "pkgconfig")
    dir.create(dir, recursive = TRUE, showWarnings = FALSE)
    from <- output_of(pkg_config, c("--variable=pcfiledir", name))
    file.copy(
      file.path(from, paste0(name, ".pc")),
      file.path(dir, "hdf5.pc"),
      overwrite = TRUE
    )
    paths <- c(dir, Sys.getenv("PKG_CONFIG_PATH"))
    env <- paste0(
      "PKG_CONFIG_PATH=",
      shQuote(paste(paths[nzchar(paths)], collapse = ":"))
    )
  }
  list(version = version, libs = trimws(libs[[1L]]), env = env, by = name)
}

hdf5_by_h5cc <- function() {
  h5cc <- Sys.which("h5cc")[[1L]]
  config <- output_of(h5cc, "-showconfig")
  version <- first_version(grep("HDF5 Version", config, value = TRUE))
  root <- dirname(dirname(normalizePath(h5cc, mustWork = FALSE)))
  if (is.na(version) || !file.exists(file.path(root, "include", "hdf5.h"))) {
    return(NULL)
  }
  lib <- file.path(root, "lib")
  list(
    version = version,
    libs = paste0("-L", shQuote(lib), " -Wl,-rpath,", shQuote(lib), " -lhdf5"),
    env = paste0("HDF5_DIR=", shQuote(root)),
    by = "h5cc"
  )
}

# The bundled HDF5 2.x is configured by cmake.
check_cmake <- function(why) {
  cmake <- c(Sys.getenv("CMAKE"), Sys.which("cmake")[[1L]])
  cmake <- c(cmake[nzchar(cmake)], "")[[1L]]
  found <- tool_version(cmake)
  if (at_least(found, min_cmake)) {
    return(invisible())
  }
  halt(
    why,
    sprintf(
      "Building the bundled HDF5 needs cmake >= %s; %s.",
      min_cmake,
      if (is.na(found)) "none is found" else paste("found", found)
    ),
    "What to do, whichever suits you:",
    "  * use the system's HDF5 (recommended, and quicker to build):",
    "      Debian, Ubuntu:  sudo apt-get install libhdf5-dev pkg-config",
    "      Fedora:          sudo dnf install hdf5-devel pkgconf",
    "      macOS:           brew install hdf5 pkg-config",
    sprintf(
      "  * install cmake >= %s (pip install cmake has it) and, if it is not in",
      min_cmake
    ),
    "    the PATH, name it:  CMAKE=/path/to/cmake",
    "and install scoom again."
  )
}

choice <- Sys.getenv("SCOOM_HDF5")
if (!choice %in% c("", "system", "static")) {
  halt(sprintf("SCOOM_HDF5 is '%s'; it can be 'system' or 'static'.", choice))
}
hdf5 <- if (choice != "static") system_hdf5()
if (is.null(hdf5)) {
  if (choice == "system") {
    halt(
      sprintf(
        "SCOOM_HDF5=system, but no HDF5 >= %s with headers is found",
        min_hdf5
      ),
      "by pkg-config or h5cc. Debian, Ubuntu:  sudo apt-get install libhdf5-dev pkg-config"
    )
  }
  check_cmake(
    if (choice == "static") {
      "SCOOM_HDF5=static asks for the bundled HDF5."
    } else {
      sprintf(
        "No HDF5 >= %s is found on this system by pkg-config or h5cc.",
        min_hdf5
      )
    }
  )
  message("using the bundled HDF5")
} else {
  message("using the system's HDF5 ", hdf5$version, " (found by ", hdf5$by, ")")
}

# ---- cargo -----------------------------------------------------------------

env <- hdf5$env
args <- "--locked"

archive <- file.path("src", "rust", "vendor.tar.xz")
vendored <- file.exists(archive)
if (vendored) {
  rust <- file.path("src", "rust")
  unlink(file.path(rust, "vendor"), recursive = TRUE)
  if (utils::untar(archive, exdir = rust, tar = "internal") != 0L) {
    halt(paste(archive, "cannot be unpacked: is the download complete?"))
  }
  # A private CARGO_HOME: neither the user's configuration nor their cache has a
  # part in an offline build.
  cargo_home <- file.path(getwd(), rust, ".cargo")
  dir.create(cargo_home, showWarnings = FALSE)
  writeLines(
    c(
      "[source.crates-io]",
      "replace-with = \"vendored-sources\"",
      "[source.vendored-sources]",
      sprintf("directory = \"%s\"", file.path(getwd(), rust, "vendor"))
    ),
    file.path(cargo_home, "config.toml")
  )
  env <- c(env, paste0("CARGO_HOME=", shQuote(cargo_home)))
  args <- c(args, "--offline")
  message("using the vendored crates")
}

if (is.null(hdf5)) {
  args <- c(args, "--features static")
}
if (windows) {
  args <- c(args, "--target x86_64-pc-windows-gnu")
}

kept <- c(Sys.getenv("SCOOM_TARGET_DIR"), Sys.getenv("CARGO_TARGET_DIR"))
kept <- kept[nzchar(kept)]
target_dir <- if (length(kept)) {
  normalizePath(kept[[1L]], winslash = "/", mustWork = FALSE)
} else {
  "rust/target"
}

jobs <- suppressWarnings(as.integer(Sys.getenv("SCOOM_JOBS", "2")))
if (is.na(jobs) || jobs < 1L) {
  halt("SCOOM_JOBS must be a positive whole number.")
}

# ---- linker ----------------------------------------------------------------

# Only R_init_scoom is visible: another HDF5 may live in the same process. Debug
# information of Rust's own library is left out, symbols stay for profilers.
link <- if (windows) {
  ""
} else if (macos) {
  "-Wl,-dead_strip -Wl,-S -Wl,-exported_symbol,_R_init_scoom"
} else {
  "-Wl,--gc-sections -Wl,--strip-debug -Wl,--exclude-libs,ALL"
}
libs <- if (windows) {
  "-lws2_32 -ladvapi32 -luserenv -lbcrypt -lshlwapi -lntdll"
} else if (macos) {
  "-lm"
} else {
  "-lpthread -ldl -lm"
}

# ---- Makevars --------------------------------------------------------------

values <- c(
  CARGO = shQuote(find_tool("cargo")),
  CARGO_ARGS = paste(args, collapse = " "),
  CARGO_ENV = paste(env, collapse = " "),
  CLEAN = if (length(kept)) "" else "clean-rust",
  JOBS = as.character(jobs),
  LIBS = paste(c(hdf5$libs, libs), collapse = " "),
  LINK = link,
  RUST_DIR = Sys.getenv("SCOOM_RUST_DIR", "rust"),
  RUST_PATH = dirname(find_tool("rustc")),
  TARGET_DIR = target_dir
)
name <- if (windows) "Makevars.win" else "Makevars"
text <- readLines(file.path("src", paste0(name, ".in")))
for (key in names(values)) {
  text <- gsub(paste0("@", key, "@"), values[[key]], text, fixed = TRUE)
}
writeLines(text, file.path("src", name))
