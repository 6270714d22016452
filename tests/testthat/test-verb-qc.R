test_that("metrics are those of scanpy 1.11.5 on pbmc3k", {
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  x <- calc_qc_metrics(x, gene_sets = list(mt = "^MT-", ribo = "^RP[SL]"))
  scanpy <- reference_table("pbmc3k", "qc_obs")
  names(scanpy) <- sub("_by_counts$", "", names(scanpy))
  names(scanpy) <- sub(
    "^pct_counts_in_top_(\\d+)_genes$",
    "pct_top_\\1",
    names(scanpy)
  )
  names(scanpy) <- sub("^pct_counts_", "pct_", names(scanpy))
  expect_setequal(setdiff(names(x$obs), "louvain"), names(scanpy))
  expect_equal(x$obs[names(scanpy)], scanpy, tolerance = 1e-13)
  for (exact in c("n_genes", "total_counts", "total_counts_mt")) {
    expect_identical(x$obs[[exact]], scanpy[[exact]])
  }

  scanpy <- reference_table("pbmc3k", "qc_var")
  names(scanpy) <- sub("_by_counts$", "", names(scanpy))
  expect_equal(x$var[names(scanpy)], scanpy, tolerance = 1e-12)
  expect_identical(x$var$n_cells, scanpy$n_cells)
})

test_that("metrics are those of base R on the example", {
  x <- open_h5ad(example_h5ad())[c(5:1, 100:300, 7, 7), 200:1]
  sets <- list(
    first = 1:50,
    named = var_names(x)[c(3, 60)],
    odd = rep(c(TRUE, FALSE), 100)
  )
  x <- calc_qc_metrics(x, gene_sets = sets, percent_top = c(100, 3))
  counts <- dense(x)
  total <- rowSums(counts)
  expect_equal(x$obs$total_counts, total)
  expect_equal(x$obs$n_genes, rowSums(counts > 0))
  expect_equal(x$obs$total_counts_first, rowSums(counts[, 1:50]))
  expect_equal(x$obs$pct_named, 100 * rowSums(counts[, c(3, 60)]) / total)
  expect_equal(x$obs$pct_odd, 100 * rowSums(counts[, c(TRUE, FALSE)]) / total)
  top <- apply(counts, 1, \(v) sum(sort(v, decreasing = TRUE)[1:3]))
  expect_equal(x$obs$pct_top_3, 100 * top / total)
  expect_equal(x$obs$log1p_total_counts, log1p(total))
  expect_equal(x$var$n_cells, colSums(counts > 0))
  expect_equal(x$var$mean_counts, colMeans(counts))
  expect_equal(x$var$pct_dropout, 100 * colMeans(counts == 0))
  expect_equal(x$var$log1p_mean_counts, log1p(colMeans(counts)))
})

test_that("threads and workers give the same bits", {
  x <- open_h5ad(example_h5ad())
  one <- calc_qc_metrics(x, threads = 1)
  for (threads in c(2, 4)) {
    other <- calc_qc_metrics(x, threads = threads)
    expect_identical(other$obs, one$obs)
    expect_identical(other$var, one$var)
  }
  skip_if_not_installed("BiocParallel")
  other <- calc_qc_metrics(x, BPPARAM = BiocParallel::SerialParam())
  expect_identical(other$obs, one$obs)
  expect_identical(other$var, one$var)
})

test_that("every layout has the same metrics", {
  names <- c("engine-csr", "engine-csc", "engine-dense")
  metrics <- lapply(names, \(name) {
    x <- suppressWarnings(open_h5ad(fixture_path(name)))
    x <- quietly(calc_qc_metrics(x, gene_sets = NULL, percent_top = 5))
    as.list(x$obs[c("n_genes", "total_counts", "pct_top_5")])
  })
  expect_equal(metrics[[2]], metrics[[1]])
  expect_equal(metrics[[3]], metrics[[1]])
})

test_that("the old object stays as it was, and columns can be left out", {
  x <- open_h5ad(example_h5ad())
  y <- calc_qc_metrics(x, gene_sets = NULL, percent_top = NULL, log1p = FALSE)
  expect_false("n_genes" %in% names(x$obs))
  expect_setequal(
    setdiff(names(y$obs), names(x$obs)),
    c("n_genes", "total_counts")
  )
  expect_setequal(
    setdiff(names(y$var), names(x$var)),
    c("n_cells", "total_counts", "mean_counts", "pct_dropout")
  )
})

test_that("empty selections and empty cells have metrics", {
  x <- object_of(small_counts())
  metrics <- \(x) {
    quietly(calc_qc_metrics(x, gene_sets = list(a = 1L), percent_top = 2))
  }
  y <- metrics(x)
  expect_identical(y$obs$total_counts[[30]], 0)
  expect_identical(y$obs$pct_a[[30]], NaN)
  expect_identical(y$var$n_cells[[12]], 0)
  expect_identical(y$var$pct_dropout[[12]], 100)
  expect_identical(dim(metrics(x[integer(), ])), c(0L, 12L))
  expect_identical(
    metrics(x[1, ])$var$mean_counts,
    as.double(small_counts()[1, ])
  )
  no_genes <- quietly(calc_qc_metrics(x[, integer()], gene_sets = NULL))
  expect_identical(no_genes$obs$n_genes, rep(0, 30))
})

test_that("gene sets that match nothing warn with the names there are", {
  x <- open_h5ad(example_h5ad())
  expect_warning(
    y <- calc_qc_metrics(x, gene_sets = list(mt = "^mt-")),
    "Names of genes are like",
    class = "scoom_warning_empty_gene_set"
  )
  expect_identical(y$obs$pct_mt, rep(0, n_obs(x)))
  expect_warning(
    calc_qc_metrics(x, gene_sets = list(t = c("CD3DD", "CD3D"))),
    class = "scoom_warning_genes_absent"
  )
  expect_message(
    calc_qc_metrics(x[, 1:60], gene_sets = NULL),
    class = "scoom_message_percent_top_left_out"
  )
})

test_that("arguments are checked", {
  x <- open_h5ad(example_h5ad())
  bad <- function(...) {
    expect_error(calc_qc_metrics(x, ...), class = "scoom_error_invalid_input")
  }
  bad(gene_sets = "^MT-")
  bad(gene_sets = list("^MT-"))
  bad(gene_sets = list(a = "(", b = "x"))
  bad(percent_top = 0.5)
  bad(log1p = NA)
  bad(threads = 0)
  expect_error(
    calc_qc_metrics(x, layer = "nothing"),
    class = "scoom_error_layer_missing"
  )
  expect_error(calc_qc_metrics(1), class = "scoom_error_invalid_input")
})

test_that("negative and infinite values are errors that name cell and gene", {
  values <- small_counts()
  values[4, 2] <- -1
  x <- object_of(values)
  expect_error(
    calc_qc_metrics(x, gene_sets = NULL),
    obs_names(x)[[4]],
    class = "scoom_error_invalid_values"
  )
  values[4, 2] <- Inf
  expect_error(
    calc_qc_metrics(object_of(values), gene_sets = NULL),
    var_names(x)[[2]],
    class = "scoom_error_invalid_values"
  )
})

test_that("values that are not counts give a message", {
  x <- object_of(small_counts() / 3)
  expect_message(
    calc_qc_metrics(x, gene_sets = NULL, percent_top = NULL),
    class = "scoom_message_not_counts"
  )
})
