# The main job on 2,700 real cells against base R, gene by gene; the agreement with
# scanpy, scikit-learn and scipy is in the tests of each verb.

pbmc3k_verbs <- function() {
  withr::local_options(scoom.quiet = TRUE)
  open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad")) |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p()
}

# log10 of p of wilcox.test(exact = FALSE), whose own p is 0 below 1e-308; its p
# where that is above, so that the formula is checked as well.
wilcox_log10_p <- function(a, b, correct) {
  log10_p <- wilcoxon_oracle(a, b, continuity = correct)$log10_p
  p <- stats::wilcox.test(a, b, exact = FALSE, correct = correct)$p.value
  if (is.nan(p)) {
    return(0)
  }
  if (p > 1e-290) {
    stopifnot(abs(log10(p) - log10_p) < 1e-9 * max(1, abs(log10_p)))
  }
  log10_p
}

# t and log10 of p of t.test(), from its log tail.
welch <- function(a, b) {
  if (stats::var(a) == 0 && stats::var(b) == 0) {
    return(list(t = 0, log10_p = 0))
  }
  test <- stats::t.test(a, b)
  t <- unname(test$statistic)
  log_p <- log(2) + stats::pt(-abs(t), test$parameter, log.p = TRUE)
  list(t = t, log10_p = unname(log_p) / log(10))
}

test_that("200 random genes agree with wilcox.test() and t.test() in every group", {
  x <- pbmc3k_verbs()
  expect_identical(dim(x), c(2700L, 13714L))
  label <- x$obs$louvain
  cells <- !is.na(label)
  genes <- withr::with_seed(20, sample(var_names(x), 200))
  values <- as.matrix(x[cells, genes]$X)
  label <- label[cells]
  find <- \(...) suppressMessages(find_markers(x, "louvain", ...))
  # All genes are tested, as users do; the random ones are compared.
  corrected <- find()
  plain <- find(continuity = FALSE)
  t_test <- find(method = "t-test")
  off <- \(found, wanted) abs(found - wanted) / pmax(1, abs(wanted))
  relative <- \(found, wanted) {
    ifelse(found == wanted, 0, abs(found / wanted - 1))
  }
  for (group in levels(label)) {
    a <- values[label == group, ]
    b <- values[label != group, ]
    each <- \(f, ...) {
      vapply(genes, \(g) unlist(f(a[, g], b[, g], ...)), double(2))
    }
    row <- marker_rows(corrected, genes, group)
    want <- each(\(a, b) {
      list(wilcoxon_oracle(a, b)$z, wilcox_log10_p(a, b, TRUE))
    })
    tested <- is.finite(want[1, ])
    expect_lt(max(relative(row$statistic, want[1, ])[tested]), 1e-6)
    expect_lt(max(off(row$log10_p, want[2, ])[tested]), 1e-8)
    row <- marker_rows(plain, genes, group)
    want <- each(\(a, b) {
      list(wilcoxon_oracle(a, b, FALSE)$z, wilcox_log10_p(a, b, FALSE))
    })
    expect_lt(max(relative(row$statistic, want[1, ])[tested]), 1e-6)
    expect_lt(max(off(row$log10_p, want[2, ])[tested]), 1e-8)
    # A gene without a value in these cells has no effect.
    expect_true(all(row$statistic[!tested] == 0 & row$log10_p[!tested] == 0))
    row <- marker_rows(t_test, genes, group)
    want <- each(welch)
    expect_lt(max(relative(row$statistic, want[1, ])), 1e-6)
    expect_lt(max(off(row$log10_p, want[2, ])), 1e-8)
  }
})

test_that("moments of counts are those of Seurat v3's table", {
  table <- utils::read.csv(
    gzfile(shared_data_path("reference", "scanpy_seurat_hvg_v3.csv.gz")),
    row.names = 1
  )
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  x <- suppressMessages(filter_genes(x, min_cells = 3))
  # Names that occur twice were made unique in different ways.
  shared <- intersect(var_names(x), rownames(table))
  expect_gte(length(shared), 13600)
  y <- x[, shared]
  relative <- \(a, b) max(abs(a / b - 1))
  expect_lt(relative(colMeans(y$X), table[shared, "mean"]), 1e-10)
  expect_lt(relative(col_vars(y$X), table[shared, "variance"]), 1e-10)
})
