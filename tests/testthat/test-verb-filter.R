test_that("conditions on columns select cells", {
  x <- calc_qc_metrics(open_h5ad(example_h5ad()))
  limit <- 20
  expect_message(
    y <- filter_cells(x, n_genes >= 200, pct_mt < limit),
    class = "scoom_message_filtered"
  )
  keep <- x$obs$n_genes >= 200 & x$obs$pct_mt < 20
  expect_identical(obs_names(y), obs_names(x)[keep])
  expect_identical(y$obs, x$obs[keep, ])
  expect_identical(dense(y), dense(x)[keep, ])
})

test_that("pronouns, injection, vectors and no condition work", {
  x <- quietly(calc_qc_metrics(object_of(small_counts()), gene_sets = NULL))
  withr::local_options(scoom.quiet = TRUE)
  n_genes <- 1e6
  limit <- 4
  expected <- obs_names(x)[x$obs$n_genes > 4]
  expect_identical(
    obs_names(filter_cells(x, .data$n_genes > .env$limit)),
    expected
  )
  expect_identical(obs_names(filter_cells(x, n_genes > !!limit)), expected)
  expect_identical(
    obs_names(filter_cells(x, rep(c(TRUE, FALSE), 15))),
    obs_names(x)[c(TRUE, FALSE)]
  )
  expect_identical(filter_cells(x), x)
})

test_that("genes are filtered by conditions and by counts of the cells left", {
  x <- object_of(small_counts())
  withr::local_options(scoom.quiet = TRUE)
  cells <- x[11:20, ]
  counts <- small_counts()[11:20, ]
  n_cells <- colSums(counts > 0)
  total <- colSums(counts)
  expect_kept <- function(y, keep) {
    expect_identical(var_names(y), var_names(cells)[keep])
  }
  expect_kept(filter_genes(cells, min_cells = 5), n_cells >= 5)
  expect_kept(filter_genes(cells, max_cells = 5), n_cells <= 5)
  expect_kept(filter_genes(cells, min_counts = 31), total >= 31)
  expect_kept(filter_genes(cells, max_counts = 31), total <= 31)
  expect_kept(
    filter_genes(cells, min_cells = 4, max_cells = 7, min_counts = 20),
    n_cells >= 4 & n_cells <= 7 & total >= 20
  )
  cells$var$chosen <- rep(c(TRUE, FALSE), 6)
  expect_kept(
    filter_genes(cells, chosen, min_cells = 5),
    cells$var$chosen & n_cells >= 5
  )
  # Metrics of all cells must not be taken for those of the cells left.
  known <- calc_qc_metrics(x, gene_sets = NULL)[11:20, ]
  expect_kept(filter_genes(known, min_cells = 5), n_cells >= 5)
  # Metrics of the same cells are used without reading.
  known <- calc_qc_metrics(cells, gene_sets = NULL)
  expect_kept(
    filter_genes(known[, 12:1], min_cells = 5)[, var_names(filter_genes(
      cells,
      min_cells = 5
    ))],
    n_cells >= 5
  )
  expect_kept(
    filter_genes(log1p(normalize_total(cells)), min_cells = 5),
    n_cells >= 5
  )
})

test_that("missing conditions drop with a message, and nothing is empty silently", {
  x <- object_of(small_counts())
  x$obs$score <- c(NA, 1:29)
  expect_message(
    filter_cells(x, score > 3),
    class = "scoom_message_condition_missing"
  )
  expect_identical(n_obs(quietly(filter_cells(x, score > 3))), 26L)
  expect_warning(
    y <- filter_cells(x, score > 100),
    class = "scoom_warning_empty_selection"
  )
  expect_identical(dim(y), c(0L, 12L))
  expect_warning(
    filter_genes(x, min_cells = 31),
    class = "scoom_warning_empty_selection"
  )
})

test_that("stale metrics warn, fresh ones do not", {
  x <- quietly(calc_qc_metrics(object_of(small_counts()), gene_sets = NULL))
  withr::local_options(scoom.quiet = TRUE)
  expect_warning(
    filter_cells(x[, 1:8], n_genes > 1),
    class = "scoom_warning_stale_qc"
  )
  expect_warning(
    filter_genes(x[1:8, ], n_cells > 1),
    class = "scoom_warning_stale_qc"
  )
  expect_no_warning(filter_cells(x[1:8, ], n_genes > 1))
  expect_no_warning(filter_genes(x[, 1:8], n_cells > 1))
  expect_no_warning(filter_cells(x[, 1:8], donor == "D1" | TRUE))
})

test_that("metrics of counts before they were downsampled warn, those of after do not", {
  local_quiet()
  stale <- "scoom_warning_stale_qc"
  x <- object_of(small_counts())
  qc <- \(x, ...) calc_qc_metrics(x, gene_sets = NULL, percent_top = NULL, ...)
  before <- downsample_counts(qc(x), 10)
  expect_warning(
    filter_cells(before, n_genes > 1),
    "another depth",
    class = stale
  )
  expect_warning(filter_genes(before, n_cells > 1), class = stale)
  expect_no_warning(filter_genes(before, min_cells = 1))
  expect_no_warning(filter_cells(before, !is.na(donor)))
  after <- qc(before)
  expect_no_warning(filter_cells(log1p(after), n_genes > 1))
  expect_no_warning(filter_genes(after, n_cells > 1))
  # Both reasons; and a chain that draws no longer.
  expect_warning(
    filter_cells(before[, 1:8], n_genes > 1),
    "other genes and on counts of another depth",
    class = stale
  )
  after$X <- small_counts()
  expect_warning(filter_cells(after, n_genes > 1), class = stale)
  # Metrics of a layer, which is not drawn from.
  x$layers$counts <- x$X
  layer <- downsample_counts(qc(x, layer = "counts"), 10)
  expect_no_warning(filter_cells(layer, n_genes > 1))
})

test_that("mistakes are named", {
  x <- quietly(calc_qc_metrics(object_of(small_counts()), gene_sets = NULL))
  expect_error(
    filter_cells(x, n_gene > 2),
    "Did you mean.*n_genes",
    class = "scoom_error_column_missing"
  )
  expect_error(
    filter_cells(x, n_genes = 200),
    "n_genes == 200",
    class = "scoom_error_invalid_input"
  )
  expect_error(
    filter_cells(x, n_genes),
    class = "scoom_error_invalid_condition"
  )
  expect_error(
    filter_cells(x, c(TRUE, FALSE)),
    class = "scoom_error_invalid_condition"
  )
  expect_error(
    filter_cells(x, stop("no")),
    class = "scoom_error_invalid_condition"
  )
  expect_error(
    filter_genes(x, min_cells = "3"),
    class = "scoom_error_invalid_input"
  )
  expect_error(filter_cells(1, TRUE), class = "scoom_error_invalid_input")
})

test_that("conditions on metrics and bounds by other names get a hint", {
  x <- open_h5ad(example_h5ad())
  expect_error(
    filter_cells(x, n_genes > 200),
    "calc_qc_metrics",
    class = "scoom_error_column_missing"
  )
  expect_error(filter_cells(x, min_genes = 200), "n_genes >= 200", fixed = TRUE)
  expect_error(filter_genes(x, min_cell = 3), "`min_cells`", fixed = TRUE)
  y <- calc_qc_metrics(x)
  missed <- tryCatch(filter_cells(y, n_gene > 200), error = conditionMessage)
  expect_match(missed, "n_genes")
  expect_no_match(missed, "calc_qc_metrics")
})
