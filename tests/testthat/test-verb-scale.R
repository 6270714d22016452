# What scaling does, with base R.
scaled <- function(values, zero_center = TRUE, max_value = Inf, cells = TRUE) {
  mean <- colMeans(values[cells, , drop = FALSE])
  sd <- apply(values[cells, , drop = FALSE], 2, sd)
  sd[is.na(sd) | sd == 0] <- 1
  z <- if (zero_center) sweep(values, 2, mean) else values
  z <- pmin(sweep(z, 2, sd, `/`), max_value)
  if (zero_center) pmax(z, -max_value) else z
}

test_that("scaled values are those of base R", {
  x <- object_of(small_counts())
  values <- small_counts()
  expect_equal(dense(scale_genes(x)), scaled(values), tolerance = 1e-12)
  expect_equal(
    dense(scale_genes(x, max_value = 0.8)),
    scaled(values, max_value = 0.8),
    tolerance = 1e-12
  )
  expect_equal(
    dense(scale_genes(x, zero_center = FALSE, max_value = 1.5)),
    scaled(values, FALSE, 1.5),
    tolerance = 1e-12
  )
})

test_that("moments are those of the cells selected when the verb is called", {
  x <- object_of(small_counts())
  values <- small_counts()
  y <- scale_genes(x[1:20, ])[c(3, 9), c(5, 2)]
  expect_equal(
    dense(y),
    scaled(values, cells = 1:20)[c(3, 9), c(5, 2)],
    tolerance = 1e-12
  )
  expect_equal(dense(scale_genes(x[4, ])), matrix(0, 1, 12))
})

test_that("moments of find_variable_genes() serve where they are the same", {
  withr::local_options(scoom.quiet = TRUE)
  x <- log1p(normalize_total(object_of(small_counts()), 1e4))
  known <- find_variable_genes(x, n_top = 5)
  expect_equal(
    dense(scale_genes(known)),
    dense(scale_genes(x)),
    tolerance = 1e-10
  )
  genes <- c(7, 2, 2)
  expect_equal(
    dense(scale_genes(known[, genes])),
    dense(scale_genes(x[, genes])),
    tolerance = 1e-10
  )
  # Other cells, other moments.
  expect_equal(
    dense(scale_genes(known[1:15, ])),
    dense(scale_genes(x[1:15, ])),
    tolerance = 1e-10
  )
})

test_that("arguments are checked, and scaling twice is an error", {
  x <- object_of(small_counts())
  expect_error(
    scale_genes(x, zero_center = 1),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    scale_genes(x, max_value = 0),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    scale_genes(scale_genes(x)),
    class = "scoom_error_already_scaled"
  )
})

test_that("values that may be scaled already are pointed out", {
  z <- scale(small_counts())
  z <- z[, colSums(is.na(z)) == 0]
  told <- "scoom_message_looks_scaled"
  expect_message(y <- scale_genes(object_of(z)), class = told)
  # They are scaled all the same, which changes nothing.
  expect_equal(dense(y), z, tolerance = 1e-12, ignore_attr = TRUE)
  counts <- object_of(small_counts())
  expect_no_message(scale_genes(counts), class = told)
  chain <- log1p(normalize_total(counts, target_sum = 10))
  expect_no_message(scale_genes(chain), class = told)
  residuals <- quietly(normalize_pearson_residuals(counts))
  expect_no_message(scale_genes(residuals), class = told)
})
