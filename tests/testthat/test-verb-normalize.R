test_that("cells have the target as their total", {
  x <- object_of(small_counts())
  counts <- small_counts()
  y <- normalize_total(x, target_sum = 100)
  total <- rowSums(counts)
  expected <- counts * 100 / ifelse(total > 0, total, 1)
  expect_equal(dense(y), expected, tolerance = 1e-15)
  expect_identical(dense(x), counts)
  # Totals are those of the genes selected when the verb is called.
  y <- normalize_total(x[, 1:5], target_sum = 100)[, 2:3]
  part <- counts[, 1:5]
  expect_equal(dense(y), (part * 100 / pmax(rowSums(part), 1))[, 2:3])
})

test_that("the default target is the median total of cells with counts", {
  x <- object_of(small_counts())
  target <- \(x) max(rowSums(dense(normalize_total(x))))
  total <- rowSums(small_counts())
  middle <- \(total) median(total[total > 0])
  expect_equal(target(x), middle(total))
  expect_equal(target(x[1:7, ]), middle(total[1:7]))
  # With metrics at hand the same target comes without reading.
  y <- quietly(calc_qc_metrics(x, gene_sets = NULL))
  expect_equal(target(y), middle(total))
  expect_equal(target(y[c(1:6, 1), ]), middle(total[c(1:6, 1)]))
  # Metrics of other genes are not used, nor columns that the user wrote.
  part <- rowSums(small_counts()[, 1:6])
  expect_equal(target(y[, 1:6]), middle(part))
  y$obs$total_counts <- 1
  expect_equal(target(y), middle(total))
})

test_that("highly expressed genes are left out of totals", {
  counts <- small_counts()
  counts[3, 2] <- 500
  x <- object_of(counts)
  y <- quietly(
    normalize_total(x, exclude_highly_expressed = TRUE, max_fraction = 0.5)
  )
  excluded <- colSums(counts > 0.5 * rowSums(counts)) > 0
  expect_gt(sum(excluded), 0)
  total <- rowSums(counts[, !excluded])
  target <- median(total[total > 0])
  expected <- counts * target / ifelse(total > 0, total, target)
  expect_equal(dense(y), expected)
  expect_message(
    normalize_total(x, 10, exclude_highly_expressed = TRUE),
    class = "scoom_message_genes_excluded"
  )
})

test_that("normalising twice warns; logarithms and negative values are errors", {
  x <- object_of(small_counts())
  y <- normalize_total(x, 1e4)
  expect_warning(
    normalize_total(y, 1e4),
    class = "scoom_warning_already_normalized"
  )
  expect_error(
    normalize_total(log1p(y), 1e4),
    class = "scoom_error_already_logged"
  )
  stored <- object_of(as.matrix(log1p(y)$X)[1:29, ])
  expect_error(
    normalize_total(stored, 1e4),
    class = "scoom_error_already_logged"
  )
  values <- small_counts()
  values[2, 2] <- -3
  expect_error(
    normalize_total(object_of(values), 1e4),
    class = "scoom_error_invalid_values"
  )
})

test_that("arguments are checked, and a median needs counts", {
  x <- object_of(small_counts())
  expect_error(
    normalize_total(x, target_sum = 0),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    normalize_total(x, target_sum = "a"),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    normalize_total(x, max_fraction = 2),
    class = "scoom_error_invalid_input"
  )
  expect_error(normalize_total(x[30, ]), class = "scoom_error_no_counts")
  expect_error(normalize_total(x[integer(), ]), class = "scoom_error_no_counts")
})

test_that("cells without counts are told where the totals are known", {
  empty_rows <- which(rowSums(small_counts()) == 0)
  x <- object_of(small_counts()[-head(empty_rows, -1), ])
  empty <- "scoom_message_empty_cells"
  expect_message(y <- normalize_total(x), "1 cell has no counts", class = empty)
  expect_identical(sum(rowSums(dense(y)) == 0), 1L)
  known <- quietly(calc_qc_metrics(x, gene_sets = NULL, percent_top = NULL))
  expect_message(normalize_total(known, target_sum = 1e4), class = empty)
  filled <- filter_cells(known, total_counts > 0)
  expect_no_message(normalize_total(filled, target_sum = 1e4), class = empty)
  # No pass is spent on it.
  expect_no_message(normalize_total(x, target_sum = 1e4), class = empty)
  expect_message(
    normalize_total(object_of(small_counts())),
    paste(length(empty_rows), "cells have no counts and stay zero"),
    class = empty
  )
})
