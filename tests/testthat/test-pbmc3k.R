# The main job on 2,700 real cells against base R and scanpy, gene by gene; the agreement
# with scikit-learn and scipy, and scanpy's tables, are in the tests of each verb.

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

# z (tie corrected, by `continuity`) and t with its degrees of freedom of every gene and
# group: the formulas of wilcox.test() and t.test(), each gene ranked once.
all_genes <- function(values, label, continuity) {
  n1 <- as.vector(table(label))
  n <- nrow(values)
  n2 <- n - n1
  sums <- \(m) rowsum(m, label, reorder = TRUE)
  mean1 <- sums(values) / n1
  mean2 <- (rep(colSums(values), each = length(n1)) - sums(values)) / n2
  deviations <- \(group) {
    inside <- label == levels(label)[[group]]
    a <- sweep(values[inside, ], 2, mean1[group, ])
    b <- sweep(values[!inside, ], 2, mean2[group, ])
    rbind(
      colSums(a^2) / (n1[[group]] - 1) / n1[[group]],
      colSums(b^2) / (n2[[group]] - 1) / n2[[group]]
    )
  }
  ranks <- apply(values, 2, rank)
  ties <- apply(ranks, 2, \(r) sum(tabulate(2 * r)^3 - tabulate(2 * r)))
  d <- sums(ranks) - n1 * (n1 + 1) / 2 - n1 * n2 / 2
  sigma <- sqrt(outer(n1 * n2 / 12, (n + 1) - ties / (n * (n - 1))))
  z <- lapply(continuity, \(on) (d - sign(d) * on / 2) / sigma)
  se <- lapply(seq_along(n1), deviations)
  first <- t(vapply(se, \(v) v[1, ], double(ncol(values))))
  second <- t(vapply(se, \(v) v[2, ], double(ncol(values))))
  t <- (mean1 - mean2) / sqrt(first + second)
  df <- (first + second)^2 / (first^2 / (n1 - 1) + second^2 / (n2 - 1))
  list(z = z, t = t, df = df)
}

test_that("all genes agree with the formulas of base R in every group", {
  skip_on_cran()
  x <- pbmc3k_verbs()
  label <- x$obs$louvain
  cells <- !is.na(label)
  values <- as.matrix(x[cells, ]$X)
  label <- droplevels(label[cells])
  want <- all_genes(values, label, continuity = c(TRUE, FALSE))
  find <- \(...) suppressMessages(find_markers(x, "louvain", ...))
  log10_of <- \(log_p) (log(2) + log_p) / log(10)
  check <- function(markers, statistic, log10_p) {
    at <- cbind(as.integer(markers$group), match(markers$feature, var_names(x)))
    none <- !is.finite(statistic[at])
    expect_true(all(markers$p_value[none] == 1))
    found <- markers$statistic[!none]
    wanted <- statistic[at][!none]
    # Where the difference of two means is all rounding, so is its quotient.
    off <- abs(found - wanted) / pmax(abs(wanted), 1e-6)
    expect_lt(max(off), 1e-6)
    wanted <- log10_p[at][!none]
    off <- abs(markers$log10_p[!none] - wanted) / pmax(1, abs(wanted))
    expect_lt(max(off), 1e-8)
  }
  for (on in 1:2) {
    z <- want$z[[on]]
    p <- log10_of(stats::pnorm(-abs(z), log.p = TRUE))
    check(find(continuity = on == 1), z, p)
  }
  p <- log10_of(stats::pt(-abs(want$t), want$df, log.p = TRUE))
  check(find(method = "t-test"), want$t, p)
})

test_that("p-values of all genes are scanpy's in every group", {
  skip_on_cran()
  x <- pbmc3k_verbs()
  x <- x[!is.na(x$obs$louvain), ]
  check <- function(set, ...) {
    markers <- find_markers(x, "louvain", compat = "scanpy", ...)
    log10_p <- as.matrix(reference_table("pbmc3k", paste0(set, "_log10_p")))
    expect_identical(rownames(log10_p), var_names(x))
    wanted <- log10_p[cbind(markers$feature, as.character(markers$group))]
    sure <- !is.na(wanted)
    # Those below 1e-300 are not in the reference.
    expect_gt(sum(sure), 8 * 13714 - 20)
    expect_lt(max(markers$log10_p[!sure], -Inf), -299.9)
    off <- abs(markers$log10_p - wanted)[sure] / pmax(1, abs(wanted[sure]))
    expect_lt(max(off), 1e-8)
  }
  check("scanpy_t_test", method = "t-test")
  check("scanpy_wilcoxon")
  check("scanpy_wilcoxon_tie_correct", tie_correct = TRUE)
})
