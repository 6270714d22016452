test_that("blocks of any size make up the matrix, in order", {
  x <- open_example()[c(1500:1, 7, 7), 1:200]
  m <- as.matrix(x$X)
  for (n in list(1, 7, 500, 1502, 5000, NULL)) {
    y <- if (identical(n, 1)) x[1:20, ] else x
    it <- y$X$chunks(n)
    rows <- list()
    parts <- list()
    while (!is.null(chunk <- it$next_chunk())) {
      rows <- c(rows, list(chunk$rows))
      parts <- c(parts, list(chunk$matrix))
      expect_s4_class(chunk$matrix, "CsparseMatrix")
    }
    expect_identical(as.integer(unlist(rows)), seq_len(nrow(y)))
    expect_length(parts, it$n_chunks)
    expect_identical(as.matrix(do.call(rbind, parts)), m[seq_len(nrow(y)), ])
    expect_null(it$next_chunk())
  }
})

test_that("an iterator can start again", {
  it <- open_example()$X$chunks(600)
  first <- it$next_chunk()
  it$next_chunk()
  it$reset()
  expect_identical(it$next_chunk(), first)
  expect_output(print(it), "4 blocks")
})

test_that("blocks are the same where memory allows only small portions", {
  withr::local_options(scoom.memory = "1MB")
  for (file in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_fixture(file)
    parts <- chunk_apply(x$X, as.matrix, n = 10)
    expect_identical(do.call(rbind, parts), as.matrix(x$X))
  }
})

test_that("chunk_apply passes arguments on and keeps NULL", {
  x <- open_fixture("engine-csr")
  sums <- chunk_apply(x$X, \(m, k) sum(m) * k, n = 50, k = 2)
  expect_identical(sum(unlist(sums)), 2 * sum(rowSums(x$X)))
  expect_identical(chunk_apply(x$X, \(m) NULL, n = 100), vector("list", 3))
  expect_error(
    chunk_apply(x$X, sum, n = 0),
    class = "scoom_error_invalid_input"
  )
  expect_error(chunk_apply(matrix(1), sum), class = "scoom_error_invalid_input")
})

test_that("blocks of a scaled chain are dense, of no cells none", {
  x <- open_fixture("engine-csr")
  x <- add_op(x, list(op = "scale", zero_center = TRUE, max_value = NULL))
  parts <- chunk_apply(x$X, identity, n = 100)
  expect_identical(do.call(rbind, parts), as.matrix(x$X))
  expect_identical(chunk_apply(x[0, ]$X, identity), list())
})
