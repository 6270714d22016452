test_that("all splits are listed where they are few", {
  one <- factor(rep("all", 8))
  halves <- draw_splits(one, NULL, 100, 0, NULL)
  expect_identical(dim(halves$splits), c(8L, 35L))
  expect_equal(halves$n_possible, 35)
  expect_true(all(colSums(halves$splits) == 4))
  expect_true(all(halves$splits[1, ]))
  expect_false(anyDuplicated(t(halves$splits)) > 0)
  # The true split and its mirror are none.
  truth <- rep(c(FALSE, TRUE), 4)
  labels <- draw_splits(one, truth, 100, 0, NULL)$splits
  expect_identical(ncol(labels), 34L)
  same <- apply(labels, 2, \(s) identical(s, truth) || identical(s, !truth))
  expect_false(any(same))
  # Sides of different size have no mirror.
  uneven <- draw_splits(one, rep(c(TRUE, FALSE), c(3, 5)), 100, 0, NULL)$splits
  expect_identical(dim(uneven), c(8L, 55L))
  expect_true(all(colSums(uneven) == 3))
  # In pairs each donor keeps one sample on each side.
  donors <- factor(rep(1:5, each = 2))
  truth <- rep(c(TRUE, FALSE), 5)
  pairs <- draw_splits(donors, truth, 100, 0, NULL)
  expect_identical(dim(pairs$splits), c(10L, 15L))
  expect_equal(pairs$n_possible, 15)
  sides <- apply(pairs$splits, 2, \(s) tapply(s, donors, sum))
  expect_true(all(sides == 1))
  # A block with one condition stays as it is.
  part <- draw_splits(factor(c(1, 1, 2, 2, 3)), c(truth[1:4], TRUE), 9, 0, NULL)
  expect_identical(ncol(part$splits), 3L)
  expect_true(all(part$splits[5, ]))
})

test_that("some splits are drawn where they are many, by the seed alone", {
  one <- factor(rep("all", 8))
  all <- draw_splits(one, NULL, 100, 0, NULL)$splits
  some <- draw_splits(one, NULL, 6, 3, NULL)$splits
  expect_identical(dim(some), c(8L, 6L))
  key <- \(splits) apply(splits, 2, paste, collapse = "")
  expect_true(all(key(some) %in% key(all)))
  expect_identical(draw_splits(one, NULL, 6, 3, NULL)$splits, some)
  other <- draw_splits(one, NULL, 6, 4, NULL)$splits
  expect_false(setequal(key(other), key(some)))
  single <- draw_splits(one, NULL, 1, 3, NULL)$splits
  expect_identical(dim(single), c(8L, 1L))
  set.seed(1)
  before <- .Random.seed
  truth <- rep(c(TRUE, FALSE), 15)
  many <- draw_splits(factor(rep("all", 30)), truth, 25, 0, NULL)
  expect_identical(.Random.seed, before)
  expect_equal(many$n_possible, choose(30, 15) / 2 - 1)
  expect_identical(dim(many$splits), c(30L, 25L))
  expect_true(all(colSums(many$splits) == 15))
  expect_false(anyDuplicated(t(many$splits)) > 0)
})

test_that("counts are those of the tests themselves", {
  skip_if_not_installed("edgeR")
  x <- log_chain(open_h5ad(example_h5ad()))
  x <- x[x$obs$condition == "ctrl", 1:600]
  methods <- c("t_test", "wilcoxon", "edgeR", "t-test")
  cal <- check_calibration(
    x,
    "donor",
    cell_type = "cell_type",
    methods = methods,
    max_p_adj = 0.2
  )
  expect_identical(
    names(cal),
    c(
      "method",
      "permutation",
      "cell_type",
      "n_genes",
      "n_called",
      "p_below_0.05"
    )
  )
  expect_identical(levels(cal$method), methods)
  splits <- attr(cal, "splits")
  expect_identical(dim(splits), c(4L, 3L))
  side <- splits[as.character(x$obs$donor), 2]
  type <- "T cell"
  cells <- which(x$obs$cell_type == type)
  row <- function(method) {
    at <- cal$method == method & cal$permutation == 2 & cal$cell_type == type
    as.list(cal[at, ])[c("n_genes", "n_called", "p_below_0.05")]
  }
  of <- function(tests) {
    p <- tests$p_value[!is.na(tests$p_value)]
    list(
      n_genes = length(p),
      n_called = sum(tests$p_adj <= 0.2, na.rm = TRUE),
      p_below_0.05 = mean(p < 0.05)
    )
  }
  for (method in c("wilcoxon", "t-test")) {
    group <- ifelse(side[cells], "a", "b")
    markers <- find_markers(x[cells, ], group, "a", "b", method = method)
    expect_identical(row(method), of(markers))
    expect_gt(row(method)$n_called, 0)
  }
  x$obs$side <- ifelse(side, "a", "b")
  pb <- suppressMessages(
    pseudobulk(x[cells, ], c("donor", "side"), min_cells = 10)
  )
  for (method in c("edgeR", "t_test")) {
    tests <- test_pseudobulk(pb, ~side, "sideb", NULL, method = method)
    expect_identical(row(method), of(tests))
  }
})

test_that("likelihood ratios are permuted too, with their covariates", {
  data <- small_matrix(n_cells = 160)
  values <- log1p(data$counts * 1.5)
  sample <- rep(paste0("s", 1:4), 40)
  # Genes that two samples have more of, and a column that follows one of them.
  values[5:12, sample %in% c("s1", "s3")] <-
    values[5:12, sample %in% c("s1", "s3")] + 1
  depth <- values[5, ] + rep(c(0.1, 0.3, 0.2, 0), 40)
  run <- \(...) suppressMessages(check_calibration(values, sample, ...))
  plain <- run(methods = "lr")
  covaried <- run(methods = c("wilcoxon", "lr"), latent = list(depth = depth))
  for (cal in list(plain, covaried)) {
    i <- which(attr(cal, "splits")["s3", ])[[1]]
    side <- attr(cal, "splits")[sample, i]
    markers <- suppressMessages(find_markers(
      values,
      ifelse(side, "a", "b"),
      groups = "a",
      method = "lr",
      latent = if (nrow(cal) > 3) list(depth = depth)
    ))
    row <- cal[cal$method == "lr" & cal$permutation == i, ]
    expect_identical(row$n_called, sum(markers$p_adj <= 0.05))
    expect_equal(row$p_below_0.05, mean(markers$p_value < 0.05))
    expect_gt(row$n_called, 0)
  }
  expect_false(identical(
    plain$p_below_0.05,
    covaried$p_below_0.05[covaried$method == "lr"]
  ))
  expect_error(
    run(methods = "wilcoxon", latent = list(depth = depth)),
    class = "scoom_error_invalid_input"
  )
  # What has no p-value can't be calibrated.
  for (method in c("auc", "logreg")) {
    expect_error(run(methods = method), class = "scoom_error_invalid_input")
  }
})

test_that("cell-level tests call genes where samples do not differ, sums do not", {
  skip_if_not_installed("edgeR")
  x <- log_chain(kang_object())
  controls <- x[x$obs$condition == "ctrl" & !is.na(x$obs$donor), ]
  cal <- check_calibration(controls, "donor", n_permutations = 8)
  expect_equal(attr(cal, "n_possible"), 35)
  counts <- summary(cal)
  expect_identical(counts$n_permutations, c(8L, 8L))
  expect_gte(counts$median_called[counts$method == "wilcoxon"], 10)
  expect_lte(counts$n_with_calls[counts$method == "edgeR"], 1)
})

test_that("labels are exchanged within donors", {
  x <- log_chain(open_h5ad(example_h5ad()))[, 1:300]
  # Every donor in both conditions.
  x$obs$half <- rep(c("one", "two"), 1000)
  # Names that mean nothing here.
  x$obs$split <- x$obs$block <- seq_len(2000)
  cal <- check_calibration(
    x,
    c("donor", "half"),
    condition = "half",
    block = "donor",
    methods = c("t_test", "t-test"),
    n_permutations = 5
  )
  splits <- attr(cal, "splits")
  expect_identical(dim(splits), c(16L, 5L))
  expect_equal(attr(cal, "n_possible"), 127)
  donor <- sub("_.*", "", rownames(splits))
  expect_true(all(apply(splits, 2, \(s) tapply(s, donor, sum)) == 1))
  expect_identical(nrow(cal), 10L)
  pb <- suppressMessages(pseudobulk(x, c("donor", "half")))
  pb$samples$side <- ifelse(splits[colnames(pb$counts), 3], "b", "a")
  tests <- suppressMessages(test_pseudobulk(
    pb,
    ~ donor + side,
    "sideb",
    cell_type = NULL,
    method = "t_test"
  ))
  row <- cal[cal$method == "t_test" & cal$permutation == 3, ]
  expect_identical(row$n_called, sum(tests$p_adj <= 0.05, na.rm = TRUE))
  expect_equal(row$p_below_0.05, mean(tests$p_value < 0.05, na.rm = TRUE))
})

test_that("matrices can be checked, and results print", {
  data <- small_matrix(n_cells = 120)
  sample <- rep(paste0("s", 1:4), 30)
  cal <- suppressWarnings(
    check_calibration(data$counts, sample, methods = c("wilcoxon", "t_test"))
  )
  expect_identical(nrow(cal), 6L)
  lines <- capture.output(print(cal))
  expect_match(lines[[1]], "3 splits of 4 samples")
  expect_match(lines, "wilcoxon +3", all = FALSE)
  expect_output(print(cal["n_called"]), "n_called")
})

test_that("sums alone need counts alone", {
  skip_if_not_installed("SingleCellExperiment")
  data <- small_matrix(n_cells = 120)
  sce <- SingleCellExperiment::SingleCellExperiment(
    list(counts = data$counts),
    colData = data.frame(donor = rep(paste0("s", 1:4), 30))
  )
  cal <- check_calibration(sce, "donor", methods = "t_test")
  expect_identical(cal$permutation, 1:3)
  expect_error(
    check_calibration(sce, "donor", methods = "wilcoxon"),
    class = "scoom_error_layer_missing"
  )
})

test_that("what can't be permuted is an error that says so", {
  x <- log_chain(open_h5ad(example_h5ad()))
  run <- function(...) check_calibration(x, ..., methods = "t_test")
  expect_error(
    run("donor", condition = "cell_type"),
    class = "scoom_error_varies_within_sample"
  )
  expect_error(
    run(c("donor", "cell_type"), condition = "cell_type"),
    "has 4",
    class = "scoom_error_invalid_group"
  )
  expect_error(run("sex", condition = "sex"), class = "scoom_error_no_splits")
  expect_error(
    run("donor", condition = "condition", block = "donor"),
    class = "scoom_error_no_splits"
  )
  expect_error(run("doner"), "donor", class = "scoom_error_column_missing")
  expect_error(
    check_calibration(x, "donor", methods = "edger"),
    "edgeR",
    class = "scoom_error_invalid_input"
  )
  expect_error(
    check_calibration(x, "donor", methods = character()),
    class = "scoom_error_invalid_input"
  )
})
