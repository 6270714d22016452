# Objects that many tests start from.

open_example <- function() open_h5ad(example_h5ad())

# A fixture of tests/testthat/fixtures; warnings about what it lacks on purpose are
# the business of test-h5ad-open.R alone.
open_fixture <- function(name) {
  suppressWarnings(
    open_h5ad(fixture_path(name)),
    classes = "scoom_warning"
  )
}

# A copy of the example that a test may change.
local_example_copy <- function(env = parent.frame()) {
  path <- withr::local_tempfile(fileext = ".h5ad", .local_envir = env)
  file.copy(example_h5ad(), path)
  path
}

local_quiet <- function(env = parent.frame()) {
  withr::local_options(scoom.quiet = TRUE, .local_envir = env)
}

without_names <- function(m) {
  dimnames(m) <- NULL
  m
}

# A file with more than one range of the grid that is small on disk: a dense X of
# `n_obs` x 8192 whose chunks were never written, but for one in each fourth.
local_wide_h5ad <- function(
  n_obs = 20000,
  value = \(gene, cell) (gene * 7 + cell * 13) %% 11 / 7,
  env = parent.frame()
) {
  testthat::skip_if_not_installed("hdf5r")
  path <- withr::local_tempfile(fileext = ".h5ad", .local_envir = env)
  n_vars <- 8192
  file <- hdf5r::H5File$new(path, "w")
  withr::defer(file$close_all())
  encode <- function(object, type, version) {
    hdf5r::h5attr(object, "encoding-type") <- type
    hdf5r::h5attr(object, "encoding-version") <- version
  }
  encode(file, "anndata", "0.1.0")
  frame <- function(name, names) {
    group <- file$create_group(name)
    encode(group, "dataframe", "0.2.0")
    hdf5r::h5attr(group, "_index") <- "_index"
    hdf5r::h5attr(group, "column-order") <- "position"
    group[["position"]] <- seq_along(names)
    encode(group[["position"]], "array", "0.2.0")
    group[["_index"]] <- names
    encode(group[["_index"]], "string-array", "0.2.0")
  }
  frame("obs", paste0("cell", seq_len(n_obs)))
  frame("var", paste0("gene", seq_len(n_vars)))
  # hdf5r's order of dimensions is the reverse of the file's.
  x <- file$create_dataset(
    "X",
    dtype = hdf5r::h5types$H5T_NATIVE_FLOAT,
    dims = c(n_vars, n_obs),
    chunk_dims = c(n_vars, 100),
    gzip_level = 1
  )
  encode(x, "array", "0.2.0")
  for (first in seq(1, n_obs, by = 400)) {
    rows <- first:(first + 99)
    x[, rows] <- outer(seq_len(n_vars), rows, value)
  }
  path
}
