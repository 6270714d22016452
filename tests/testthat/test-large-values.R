# A file with more stored values than an R vector, or a 32-bit offset, can count. It is
# small on disk: all chunks but the last were never written.

# CSR of `n_obs` x 8 whose last row holds 1 to 5 in columns 2, 3, 5, 7, 8; the rows
# before it share the other values, zeros of the first column.
local_large_h5ad <- function(
  n_obs = 400,
  nnz = 2^31 + 1000,
  env = parent.frame()
) {
  skip_if_not_installed("hdf5r")
  path <- withr::local_tempfile(fileext = ".h5ad", .local_envir = env)
  file <- hdf5r::H5File$new(path, "w")
  withr::defer(file$close_all())
  encode <- function(object, type, version) {
    hdf5r::h5attr(object, "encoding-type") <- type
    hdf5r::h5attr(object, "encoding-version") <- version
  }
  encode(file, "anndata", "0.1.0")
  for (frame in list(list("obs", "c", n_obs), list("var", "g", 8))) {
    group <- file$create_group(frame[[1]])
    encode(group, "dataframe", "0.2.0")
    hdf5r::h5attr(group, "_index") <- "_index"
    group$create_attr(
      "column-order",
      dtype = hdf5r::h5types$H5T_NATIVE_DOUBLE,
      space = hdf5r::H5S$new("simple", dims = 0, maxdims = 0)
    )
    group[["_index"]] <- paste0(frame[[2]], seq_len(frame[[3]]))
    encode(group[["_index"]], "string-array", "0.2.0")
  }
  x <- file$create_group("X")
  encode(x, "csr_matrix", "0.1.0")
  hdf5r::h5attr(x, "shape") <- as.integer(c(n_obs, 8))
  before <- nnz - 5
  offsets <- c(round(before / (n_obs - 1) * seq(0, n_obs - 1)), nnz)
  x$create_dataset(
    "indptr",
    offsets,
    dtype = hdf5r::h5types$H5T_NATIVE_INT64
  )
  parts <- list(
    data = list(hdf5r::h5types$H5T_NATIVE_FLOAT, 1:5),
    indices = list(hdf5r::h5types$H5T_NATIVE_INT32, c(1L, 2L, 4L, 6L, 7L))
  )
  for (name in names(parts)) {
    part <- x$create_dataset(
      name,
      dtype = parts[[name]][[1]],
      dims = nnz,
      chunk_dims = 2^16,
      gzip_level = 1
    )
    part[before + 1:5] <- parts[[name]][[2]]
  }
  path
}

test_that("values past the 2^31st are read where they are asked for", {
  path <- local_large_h5ad()
  expect_lt(file.size(path), 5e6)
  x <- open_h5ad(path)
  expect_output(print(x), "2,147,484,648 values", fixed = TRUE)
  last <- x[400, ]
  want <- c(0, 1, 2, 0, 3, 0, 4, 5)
  expect_identical(unname(as.matrix(last$X)[1, ]), want)
  expect_identical(unname(as.matrix(as(last$X, "dgCMatrix"))[1, ]), want)
  expect_identical(unname(colSums(last$X)), want)
  expect_identical(last$X[, "g8"], 5)
})

test_that("what R can't hold is an error that names the ways out", {
  x <- open_h5ad(local_large_h5ad())
  m <- x$X
  error <- expect_error(as(m, "dgCMatrix"), class = "scoom_error_too_large")
  expect_match(conditionMessage(error), "chunk_apply", fixed = TRUE)
  expect_error(
    suppressMessages(as_SingleCellExperiment(x)),
    class = "scoom_error_too_large"
  )
  expect_error(suppressMessages(as_Seurat(x)), class = "scoom_error_too_large")
})
