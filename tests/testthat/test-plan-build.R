op_normalize <- list(op = "normalize", target = 1e4, excluded = integer())
op_log1p <- list(op = "log1p", base = NULL)
op_scale <- list(op = "scale", zero_center = TRUE, max_value = 10)

op_names <- \(x) vapply(field(x, "X")$ops, \(op) op$op, "")

test_that("a plan holds the file, the selection and the chain", {
  x <- open_example()
  plan <- scoom_plan(x)
  expect_identical(plan$path, field(x, "file")$path)
  expect_identical(plan$element, "X")
  expect_null(plan$rows)
  expect_null(plan$stored_log)
  y <- add_op(add_op(x[c(3, 1), ], op_normalize), op_log1p)[, 5:4]
  plan <- scoom_plan(y)
  expect_identical(plan$rows, c(3L, 1L))
  expect_identical(op_names(y), c("normalize", "log1p", "select_genes"))
  expect_identical(plan$ops[[3]]$genes, 5:4)
})

test_that("selections of genes that follow each other become one", {
  x <- open_example()[, 10:1][, c(2, 4)]
  expect_identical(op_names(x), "select_genes")
  expect_identical(field(x, "X")$ops[[1]]$genes, c(9L, 7L))
})

test_that("genes are selected before a scaling, and its moments follow", {
  x <- add_op(open_example(), op_scale)[, c(9, 2)]
  expect_identical(op_names(x), c("select_genes", "scale"))
  plan <- scoom_plan(x)
  m <- as.matrix(open_example()$X)[, c(9, 2)]
  expect_equal(plan$ops[[2]]$mean, unname(colMeans(m)), tolerance = 1e-14)
  expect_equal(plan$ops[[2]]$sd, unname(apply(m, 2, sd)), tolerance = 1e-12)
  given <- add_op(
    open_example(),
    c(op_scale, list(mean = 1:2000 / 2, sd = rep(2, 2000)))
  )
  expect_identical(scoom_plan(given[, c(9, 2)])$ops[[2]]$mean, c(4.5, 1))
})

test_that("the moments of a scaling are of the cells selected then, and computed once", {
  x <- open_example()
  half <- add_op(x[1:1000, ], op_scale)
  m <- as.matrix(x$X)[1:1000, ]
  plan <- scoom_plan(half[5:1, ])
  expect_equal(plan$ops[[1]]$mean, unname(colMeans(m)), tolerance = 1e-14)
  keys <- ls(cache_of(half), pattern = "^scale:")
  expect_length(keys, 1)
  scoom_plan(half)
  expect_identical(ls(cache_of(half), pattern = "^scale:"), keys)
  expect_length(scoom_plan(half, drop_scale = TRUE)$ops, 0)
})

test_that("a gene that does not vary is centred and left alone by scaling", {
  x <- open_fixture("engine-csr")
  x$X <- matrix(3, nrow(x), ncol(x))
  x <- add_op(x, op_scale)
  expect_identical(unique(c(as.matrix(x$X))), 0)
})

test_that("layers come as stored, raw and X with their own", {
  x <- open_fixture("containers")
  logged <- add_op(x, op_log1p)
  expect_identical(scoom_plan(logged, layer = "counts")$ops, list())
  expect_identical(
    scoom_plan(logged, layer = "counts")$element,
    "layers/counts"
  )
  expect_identical(scoom_plan(logged, use_raw = TRUE)$element, "raw/X")
  expect_identical(scoom_plan(logged, use_raw = TRUE)$ops, list())
  y <- x[3:2, 4:3]
  expect_identical(scoom_plan(y, layer = "counts")$rows, 3:2)
  expect_identical(scoom_plan(y, layer = "counts")$ops[[1]]$genes, 4:3)
  expect_identical(scoom_plan(y, use_raw = TRUE)$rows, 3:2)
  expect_error(
    scoom_plan(x, layer = "count"),
    class = "scoom_error_layer_missing"
  )
  expect_error(
    scoom_plan(open_example(), use_raw = TRUE),
    class = "scoom_error_raw_missing"
  )
  expect_snapshot(error = TRUE, {
    scoom_plan(x, layer = "count")
    scoom_plan(open_example(), use_raw = TRUE)
  })
})

test_that("the state of the chain is told", {
  x <- open_example()
  expect_false(has_op(x, "log1p"))
  state <- chain_state(x)
  expect_identical(
    state[c("normalized", "logged", "scaled")],
    list(normalized = FALSE, logged = FALSE, scaled = FALSE)
  )
  x <- add_op(add_op(x, op_normalize), list(op = "log1p", base = 2))
  expect_true(has_op(x, "log1p"))
  expect_identical(
    chain_state(x)[c("normalized", "logged", "log_base", "scaled")],
    list(normalized = TRUE, logged = TRUE, log_base = 2, scaled = FALSE)
  )
  expect_true(chain_state(add_op(x, op_scale))$scaled)
})

test_that("logarithms that a file says it holds are known, counts beside them too", {
  skip_if_not_installed("hdf5r")
  path <- local_example_copy()
  file <- hdf5r::H5File$new(path, "r+")
  group <- file$create_group("uns/log1p")
  hdf5r::h5attr(group, "encoding-type") <- "dict"
  hdf5r::h5attr(group, "encoding-version") <- "0.1.0"
  file$close_all()
  # The mark is there, but the values are counts.
  x <- open_h5ad(path)
  expect_false(chain_state(x)$logged)
  file <- hdf5r::H5File$new(path, "r+")
  data <- file[["X/data"]]
  data[] <- log1p(data[])
  file$close_all()
  x <- open_h5ad(path)
  expect_identical(chain_state(x)$stored_log, exp(1))
  expect_true(chain_state(x)$logged)
  expect_identical(scoom_plan(x)$stored_log, exp(1))
})

test_that("matrices in memory stand in for X and follow selections", {
  x <- open_example()[1:30, 1:20]
  m <- as.matrix(x$X)
  for (value in list(
    m,
    as(m, "CsparseMatrix"),
    as(m, "RsparseMatrix"),
    m > 0
  )) {
    y <- x
    y$X <- value
    expect_identical(
      without_names(as.matrix(y[c(9, 1), 3:2]$X)),
      without_names(as.matrix(value) * 1)[c(9, 1), 3:2]
    )
  }
  expect_error(x$X <- m[1:3, ], class = "scoom_error_wrong_shape")
})
