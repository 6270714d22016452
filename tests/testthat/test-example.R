test_that("the example file is there and small", {
  path <- example_h5ad()
  expect_true(file.exists(path))
  expect_lte(file.size(path), 2e6)
})

test_that("the example has the documented shape and columns", {
  x <- open_h5ad(example_h5ad())
  expect_identical(dim(x), c(2000L, 2000L))
  expect_identical(
    names(x$obs),
    c("cell_type", "donor", "condition", "sex", "batch", "low_quality")
  )
  expect_identical(
    names(x$var),
    c(
      "chromosome",
      "planted_marker_of",
      "planted_marker_log2fc",
      "planted_condition_log2fc",
      "planted_condition_in",
      "outlier_of_donor"
    )
  )
  expect_identical(
    levels(x$obs$cell_type),
    c("T cell", "B cell", "NK cell", "Monocyte")
  )
})

test_that("donors are nested in conditions and differ in size", {
  obs <- open_h5ad(example_h5ad())$obs
  cells <- table(obs$donor, obs$condition)
  expect_true(all(rowSums(cells > 0) == 1))
  expect_identical(unname(colSums(cells > 0)), c(4, 4))
  expect_identical(range(rowSums(cells)), c(80, 450))
})

test_that("sex chromosomes agree with the donors' sex", {
  x <- open_h5ad(example_h5ad())
  is_y <- which(x$var$chromosome == "chrY")
  is_xist <- which(rownames(x$var) == "XIST")
  y_counts <- rowSums(as.matrix(x$X[, is_y]))
  xist_counts <- as.matrix(x$X[, is_xist])[, 1]
  expect_identical(sum(y_counts[x$obs$sex == "F"]), 0)
  expect_gt(sum(y_counts[x$obs$sex == "M"]), 1000)
  expect_identical(sum(xist_counts[x$obs$sex == "M"]), 0)
  expect_gt(sum(xist_counts[x$obs$sex == "F"]), 100)
})

test_that("X holds counts and the planted truth has the documented size", {
  x <- open_h5ad(example_h5ad())
  counts <- as.matrix(x$X)
  expect_identical(counts, round(counts))
  expect_gte(min(counts), 0)
  expect_identical(sum(grepl("^MT-", rownames(x$var))), 13L)
  expect_identical(as.vector(table(x$var$planted_marker_of)), rep(30L, 4))
  expect_identical(sum(!is.na(x$var$outlier_of_donor)), 20L)
  changed <- x$var$planted_condition_log2fc != 0
  expect_identical(changed, !is.na(x$var$planted_condition_in))
})
