op_normalize <- list(op = "normalize", target = 1e4, excluded = integer())
op_log1p <- list(op = "log1p", base = NULL)
op_scale <- list(op = "scale", zero_center = TRUE, max_value = 10)

# The chain in base R, in double precision.
normalized <- \(m, target = 1e4) m * target / rowSums(m)

standardized <- function(m, max_value = 10) {
  z <- scale(m)
  z[is.nan(z)] <- 0
  attributes(z) <- attributes(m)
  pmin(pmax(z, -max_value), max_value)
}

test_that("loading gives what the file holds, in the file's orientation", {
  x <- open_example()
  m <- as.matrix(x$X)
  expect_identical(dim(m), dim(x))
  expect_identical(dimnames(m), list(x$obs_names, x$var_names))
  s <- as(x$X, "dgCMatrix")
  expect_s4_class(s, "dgCMatrix")
  expect_true(validObject(s))
  expect_identical(as.matrix(s), m)
  for (class in c("CsparseMatrix", "sparseMatrix", "Matrix")) {
    expect_identical(as(x$X, class), s)
  }
  expect_identical(as(x$X, "matrix"), m)
  g <- collect_sparse(x$X, "genes_by_cells")
  expect_true(validObject(g))
  expect_identical(g, Matrix::t(s))
})

test_that("one row or column alone is a named vector", {
  x <- open_example()
  m <- as.matrix(x$X)
  expect_identical(x$X[, "MS4A1"], m[, "MS4A1"])
  expect_identical(x$X[, 7], m[, 7])
  expect_identical(x$X[12, ], m[12, ])
  expect_identical(x$X[12, 7:9], m[12, 7:9])
  expect_identical(x$X[12, 7], m[[12, 7]])
  expect_identical(dim(x$X[, 7, drop = FALSE]), c(2000L, 1L))
  expect_s3_class(x$X[, 7, drop = FALSE], "scoom_matrix")
  expect_s3_class(x$X[1:2, ], "scoom_matrix")
  expect_identical(as.matrix(x$X[1:3, 4:5]), m[1:3, 4:5])
  expect_identical(as.matrix(head(x$X, 2)), m[1:2, ])
  expect_identical(length(x$X), 4000000L)
  expect_identical(rownames(x$X), x$obs_names)
})

test_that("loaded values are those after the chain", {
  x <- open_example()[1:400, 1:300]
  m <- as.matrix(x$X)
  # Totals are of the genes that are selected when the chain normalises.
  keep <- rowSums(m) > 0
  x <- x[keep, ]
  m <- m[keep, ]
  x <- add_op(x, op_normalize)
  expect_equal(as.matrix(x$X), normalized(m), tolerance = 1e-14)
  x <- add_op(x, op_log1p)
  logged <- log1p(normalized(m))
  expect_equal(as.matrix(x$X), logged, tolerance = 1e-14)
  expect_equal(as.matrix(as(x$X, "dgCMatrix")), logged, tolerance = 1e-14)
  expect_equal(rowSums(x$X), rowSums(logged), tolerance = 1e-13)
  expect_equal(as.matrix(x[, 5:1]$X), logged[, 5:1], tolerance = 1e-14)
  x <- add_op(x, op_scale)
  expected <- standardized(logged)
  expect_equal(as.matrix(x$X), expected, tolerance = 1e-12)
  expect_error(as(x$X, "dgCMatrix"), class = "scoom_error_not_sparse")
  # Means are those of the cells that were there when the chain was scaled.
  y <- x[10:1, c(4, 2)]
  expect_equal(
    as.matrix(y$X),
    expected[10:1, c(4, 2)],
    tolerance = 1e-12,
    ignore_attr = TRUE
  )
  expect_equal(colSums(x$X), colSums(expected), tolerance = 1e-9)
  expect_equal(x$X[, 3], expected[, 3], tolerance = 1e-12)
  expect_error(add_op(x, op_log1p), class = "scoom_error_already_scaled")
})

test_that("sums, means and variances stream, and agree with base R", {
  for (file in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_fixture(file)
    m <- as.matrix(x$X)
    expect_identical(rowSums(x$X), rowSums(m))
    expect_identical(colSums(x$X), colSums(m))
    expect_equal(rowMeans(x$X), rowMeans(m), tolerance = 1e-14)
    expect_equal(colMeans(x$X), colMeans(m), tolerance = 1e-14)
    expect_equal(col_vars(x$X), apply(m, 2, var), tolerance = 1e-12)
    expect_equal(row_vars(x$X), apply(m, 1, var), tolerance = 1e-12)
    y <- x[c(5, 5, 200), c(9, 3, 1)]
    expect_equal(
      unname(row_vars(y$X)),
      unname(apply(m[c(5, 5, 200), c(9, 3, 1)], 1, var))
    )
  }
})

test_that("the generics of base R, Matrix and Bioconductor all find the methods", {
  x <- open_fixture("engine-csr")
  m <- as.matrix(x$X)
  expect_identical(Matrix::rowSums(x$X), rowSums(m))
  expect_identical(Matrix::colMeans(x$X), scoom::colMeans(x$X))
  skip_if_not_installed("MatrixGenerics")
  expect_identical(MatrixGenerics::rowVars(x$X), row_vars(x$X))
  expect_identical(MatrixGenerics::colVars(x$X), col_vars(x$X))
  skip_if_not_installed("BiocGenerics")
  loadNamespace("BiocGenerics")
  expect_identical(scoom::rowSums(x$X), rowSums(m))
})

test_that("sums are the same to the bit for any number of threads and workers", {
  x <- open_fixture("engine-csr")
  x <- add_op(add_op(x, op_normalize), op_log1p)
  one <- col_vars(x$X, threads = 1)
  expect_identical(col_vars(x$X, threads = 2), one)
  expect_identical(col_vars(x$X, threads = 4), one)
})

test_that("what a lazy matrix can't do is an error that says what can", {
  m <- open_example()$X
  expect_error(m + 1, class = "scoom_error_not_supported")
  expect_error(sqrt(m), class = "scoom_error_not_supported")
  expect_error(max(m), class = "scoom_error_not_supported")
  expect_error(t(m), class = "scoom_error_not_supported")
  expect_error(m[1, 1] <- 0, class = "scoom_error_read_only_field")
  expect_error(m[["a"]], class = "scoom_error_invalid_index")
  expect_error(m[1], class = "scoom_error_invalid_index")
  expect_error(m[, "MS4A2"], class = "scoom_error_gene_missing")
  expect_error(rowSums(m, dims = 2), class = "scoom_error_invalid_input")
  expect_error(col_vars(1), class = "scoom_error_invalid_input")
  expect_error(col_vars(m, threads = 0), class = "scoom_error_invalid_input")
  expect_equal(as.matrix(log1p(m)[1:3, 1:3]), log1p(as.matrix(m[1:3, 1:3])))
  expect_snapshot(error = TRUE, {
    m + 1
    t(m)
    m[1, 1] <- 0
  })
})

# An object that claims to be larger than it is.
claim <- function(x, ...) {
  set_field(x, "file", utils::modifyList(field(x, "file"), list(...)))
}

test_that("a matrix past what R holds is an error that names the ways out", {
  x <- open_example()
  many <- claim(x, X = list(nnz = 2^31))
  expect_error(as(many$X, "dgCMatrix"), class = "scoom_error_too_large")
  expect_identical(dim(as(many[1:3, ]$X, "dgCMatrix")), c(3L, 2000L))
  tall <- claim(x, n_obs = 2e9)
  expect_error(as.matrix(tall$X), class = "scoom_error_too_large")
  expect_snapshot(error = TRUE, as(many$X, "dgCMatrix"))
})
