test_that("logarithms are those of base R, to any base", {
  x <- object_of(small_counts())
  y <- log1p(x)
  expect_s3_class(y, "scoom")
  expect_equal(dense(y), log1p(small_counts()), tolerance = 1e-15)
  expect_equal(
    dense(log_transform(x)),
    log1p(small_counts()),
    tolerance = 1e-15
  )
  expect_equal(
    dense(log_transform(x, base = 2)),
    log2(1 + small_counts()),
    tolerance = 1e-15
  )
  expect_identical(log_transform(x, base = 2)$uns$log1p$base, 2)
  expect_null(y$uns$log1p$base)
  expect_identical(dense(x), small_counts())
})

test_that("the base function is not masked", {
  expect_identical(log1p(1), base::log1p(1))
})

test_that("logarithms are not taken twice", {
  x <- object_of(small_counts())
  expect_error(log1p(log1p(x)), class = "scoom_error_already_logged")
  expect_error(log_transform(log1p(x), 2), class = "scoom_error_already_logged")
  # Values that are logarithms of cells with one total give themselves away.
  stored <- object_of(as.matrix(log1p(normalize_total(x, 1e4))$X)[1:29, ])
  expect_error(log1p(stored), class = "scoom_error_already_logged")
  small <- object_of(small_counts() / 3)
  expect_warning(log1p(small), class = "scoom_warning_looks_logged")
  expect_no_warning(log1p(normalize_total(small, 10)))
})

test_that("negative values and bad bases are errors", {
  values <- small_counts()
  values[2, 2] <- -3
  expect_error(log1p(object_of(values)), class = "scoom_error_invalid_values")
  x <- object_of(small_counts())
  for (base in list(0, -2, 1, "e", c(2, 10))) {
    expect_error(log_transform(x, base), class = "scoom_error_invalid_input")
  }
})
