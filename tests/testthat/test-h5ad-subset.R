# The same selection on a base matrix and data frames.
expect_selects <- function(x, i, j) {
  m <- as.matrix(x$X)
  y <- x[i, j]
  rows <- seq_len(nrow(m))
  names(rows) <- rownames(m)
  cols <- seq_len(ncol(m))
  names(cols) <- colnames(m)
  rows <- unname(rows[i])
  cols <- unname(cols[j])
  expect_identical(dim(y), c(length(rows), length(cols)))
  expect_identical(y$obs_names, rownames(m)[rows])
  expect_identical(y$var_names, colnames(m)[cols])
  expect_identical(
    without_names(as.matrix(y$X)),
    without_names(m[rows, cols, drop = FALSE])
  )
  expect_identical(y$obs[[1]], x$obs[[1]][rows])
  expect_identical(y$var[[1]], x$var[[1]][cols])
}

test_that("selections of every kind match base R", {
  x <- open_example()
  names <- x$obs_names
  genes <- x$var_names
  withr::local_seed(1)
  every <- TRUE
  expect_selects(x, 1:10, every)
  expect_selects(x, c(900, 3, 3, 2000), c(5, 5, 1))
  expect_selects(x, -(11:2000), -1)
  expect_selects(x, x$obs$donor == "D3", x$var$chromosome == "chrX")
  expect_selects(x, names[c(50, 2)], genes[c(7, 3, 3)])
  expect_selects(x, sample(2000, 500, replace = TRUE), sample(2000, 300))
  expect_selects(x, 0, every)
  expect_selects(x, integer(), integer())
  expect_selects(x, rep(FALSE, 2000), 1:2)
  expect_selects(x, c(0, 5), genes[1])
})

test_that("chained selections compose, in any order, lazily", {
  x <- open_example()
  m <- as.matrix(x$X)
  withr::local_seed(2)
  for (round in 1:5) {
    y <- x
    rows <- seq_len(2000)
    cols <- seq_len(2000)
    for (step in 1:3) {
      i <- sample(nrow(y), 400, replace = TRUE)
      j <- sample(ncol(y), 200)
      y <- if (step %% 2) y[i, ][, j] else y[, j][i, ]
      rows <- rows[i]
      cols <- cols[j]
    }
    expect_identical(
      without_names(as.matrix(y$X)),
      without_names(m[rows, cols])
    )
    expect_identical(y$obs$donor, x$obs$donor[rows])
    expect_identical(y$var_names, x$var_names[cols])
  }
})

test_that("every storage selects the same", {
  for (file in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_fixture(file)
    m <- as.matrix(x$X)
    i <- c(300, 1, 17, 17, 250)
    j <- c(200, 3, 3, 100)
    expect_identical(
      without_names(as.matrix(x$X[i, j])),
      without_names(m[i, j])
    )
    expect_identical(
      without_names(as.matrix(as(x$X[i, j], "dgCMatrix"))),
      without_names(m[i, j])
    )
    expect_equal(unname(rowSums(x$X[i, j])), unname(rowSums(m[i, j])))
  }
})

test_that("what was computed follows a selection", {
  x <- open_example()
  x$obs$order <- 2000:1
  x$var$order <- 1:2000
  x$obsm$emb <- cbind(a = 1:2000, b = 0)
  y <- x[c(5, 3, 3), c(9, 1)][c(3, 1), 2]
  expect_identical(y$obs$order, c(1998L, 1996L))
  expect_identical(y$var$order, 1L)
  expect_identical(unname(y$obsm$emb[, "a"]), c(3, 5))
  y$obs$later <- c("u", "v")
  expect_identical(y[2, ]$obs$later, "v")
})

test_that("a selection of everything changes nothing", {
  x <- open_example()
  expect_identical(x[,], x)
  expect_identical(x[TRUE, TRUE], x)
  expect_identical(x[1:2000, ], x)
  expect_identical(x[], x)
})

test_that("indices that select nothing sensible are errors", {
  x <- open_example()
  index <- "scoom_error_invalid_index"
  expect_error(x[2001, ], class = index)
  expect_error(x[, -2001], class = index)
  expect_error(x[1.5, ], class = index)
  expect_error(x[c(1, NA), ], class = index)
  expect_error(x[c(-1, 1), ], class = index)
  expect_error(x[c(TRUE, FALSE), ], class = index)
  expect_error(x[c(NA, rep(TRUE, 1999)), ], class = index)
  expect_error(x[x$obs$donor, ], class = index)
  expect_error(x[list(1), ], class = index)
  expect_error(x[1], class = index)
  expect_error(x[1, 2, 3], class = index)
  expect_error(x["nobody", ], class = "scoom_error_cell_missing")
  expect_error(x[, NA_character_], class = "scoom_error_gene_missing")
  expect_snapshot(error = TRUE, {
    x[2001, ]
    x[c(TRUE, FALSE), ]
    x[, c("MS4A2", "NKG8", "nothing like it")]
    x[x$obs$donor, ]
    x[1]
  })
})
