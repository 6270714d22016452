# Values of every gene less what lm() fits.
lm_residuals <- function(values, formula, data) {
  design <- model.matrix(formula, data)
  unname(lm.fit(design, values)$residuals)
}

# An object of small logarithms with covariates of every kind.
with_covariates <- function(values = log1p(small_counts())) {
  x <- object_of(values)
  n <- nrow(values)
  x$obs$depth <- 1e4 + (seq_len(n) * 37) %% 101
  x$obs$share <- sin(seq_len(n))
  x$obs$batch <- factor(rep(c("a", "b", "c"), length.out = n))
  x$obs$sex <- rep(c("f", "f", "m", "m", "f"), length.out = n)
  x$obs$treated <- rep(c(TRUE, FALSE, FALSE, TRUE), length.out = n)
  x
}

covariates <- function(x) as.data.frame(x$obs)

test_that("residuals are those of lm()", {
  values <- log1p(small_counts())
  x <- with_covariates()
  cases <- list(
    list("depth", ~depth),
    list(c("depth", "share"), ~ depth + share),
    list("batch", ~batch),
    list(c("treated", "depth"), ~ treated + depth),
    list(c("sex", "share", "batch", "depth"), ~ sex + share + batch + depth)
  )
  for (case in cases) {
    y <- quietly(regress_out(x, case[[1]]))
    expected <- lm_residuals(values, case[[2]], covariates(x))
    expect_equal(dense(y), expected, tolerance = 1e-10)
  }
})

test_that("large and almost collinear covariates stay exact", {
  x <- with_covariates()
  values <- log1p(small_counts())
  x$obs$large <- 1e8 + x$obs$share
  x$obs$close <- x$obs$large + 1e-3 * cos(seq_len(30) * 1.7)
  centred <- data.frame(
    large = x$obs$large - 1e8,
    close = x$obs$close - x$obs$large
  )
  y <- quietly(regress_out(x, c("large", "close")))
  # The columns themselves have 1e-8 left of their digits, the second 1e-5.
  expect_equal(
    dense(y),
    lm_residuals(values, ~ large + close, centred),
    tolerance = 1e-8
  )
})

test_that("selections afterwards, repeats and orders keep residuals", {
  x <- with_covariates()
  values <- log1p(small_counts())
  expected <- lm_residuals(values, ~ batch + share, covariates(x))
  y <- quietly(regress_out(x, c("batch", "share")))
  cells <- c(8, 8, 30, 1)
  genes <- c(12, 3, 3, 9)
  expect_equal(
    dense(y[cells, genes]),
    expected[cells, genes],
    tolerance = 1e-10
  )
  expect_equal(
    dense(y[, genes][cells, ][2:4, 2:3]),
    expected[cells, genes][2:4, 2:3],
    tolerance = 1e-10
  )
  # Repeated cells count as often as they are there.
  z <- x[c(1:30, 4, 4, 17), ]
  y <- quietly(regress_out(z, c("batch", "share")))
  expect_equal(
    dense(y),
    lm_residuals(values[c(1:30, 4, 4, 17), ], ~ batch + share, covariates(z)),
    tolerance = 1e-10
  )
})

test_that("constant genes are as in scanpy", {
  values <- log1p(small_counts())
  values[, 2] <- 1.5
  x <- with_covariates(values)
  expect_identical(dense(quietly(regress_out(x, "batch")))[, 2], rep(1.5, 30))
  expect_equal(dense(quietly(regress_out(x, "share")))[, 2], rep(0, 30))
  # A gene without counts has none left.
  expect_equal(dense(quietly(regress_out(x, "batch")))[, 12], rep(0, 30))
})

test_that("scaling and components follow", {
  # No gene is constant, not even within batches.
  values <- log1p(small_counts()) + outer(1:30, 1:12, \(i, j) abs(sin(i * j)))
  x <- with_covariates(values)
  z <- lm_residuals(values, ~batch, covariates(x))
  y <- quietly(regress_out(x, "batch"))
  expect_equal(
    dense(scale_genes(y, max_value = 1)),
    pmin(pmax(unname(scale(z)), -1), 1),
    tolerance = 1e-10,
    ignore_attr = TRUE
  )
  y <- quietly(run_pca(y, n_comps = 3))
  expect_equal(y$uns$pca$variance, prcomp(z)$sdev[1:3]^2, tolerance = 1e-10)
  # One after the other is another model, but a chain that runs.
  twice <- quietly(x |> regress_out("batch") |> regress_out("share"))
  expect_equal(
    dense(twice),
    lm_residuals(z, ~share, covariates(x)),
    tolerance = 1e-10
  )
  expect_match(
    format(twice$X)[[3]],
    "regress out batch > regress out share",
    fixed = TRUE
  )
})

test_that("columns that can't be regressed on are named", {
  x <- with_covariates()
  error <- function(x, covariates, class) {
    expect_error(quietly(regress_out(x, covariates)), class = class)
  }
  missing <- x
  missing$obs$share[c(2, 5)] <- NA
  e <- error(missing, c("depth", "share"), "scoom_error_missing_covariates")
  expect_equal(e$columns, "share")
  expect_equal(unname(e$n_missing), 2)
  missing$obs$share[c(2, 5)] <- Inf
  error(missing, "share", "scoom_error_missing_covariates")
  missing$obs$batch[3] <- NA
  error(missing, "batch", "scoom_error_missing_covariates")
  collinear <- "scoom_error_collinear_covariates"
  x$obs$twice <- 2 * x$obs$depth + 1
  expect_equal(error(x, c("depth", "twice"), collinear)$columns, "twice")
  x$obs$one <- 0.1
  expect_equal(error(x, c("depth", "one"), collinear)$columns, "one")
  x$obs$same <- factor("all")
  expect_equal(error(x, c("same", "depth"), collinear)$columns, "same")
  x$obs$again <- factor(ifelse(x$obs$batch == "a", "yes", "no"))
  expect_equal(error(x, c("again", "batch"), collinear)$columns, "again")
  error(x, "nothing", "scoom_error_column_missing")
  error(x, c("depth", "depth"), "scoom_error_invalid_input")
  error(x, 3, "scoom_error_invalid_input")
  error(x[1:3, ], "batch", "scoom_error_too_few_cells")
  error(x[integer(), ], "depth", "scoom_error_no_cells")
})

test_that("counts give a note, values that are not finite an error", {
  x <- with_covariates(small_counts())
  expect_message(
    regress_out(x, "depth"),
    class = "scoom_message_not_normalized"
  )
  values <- log1p(small_counts())
  values[4, 3] <- Inf
  expect_error(
    quietly(regress_out(with_covariates(values), "depth")),
    class = "scoom_error_invalid_values"
  )
})

test_that("files of any storage give the residuals of their values", {
  x <- open_h5ad(example_h5ad())[1:300, 1:50]
  x <- log1p(normalize_total(x, target_sum = 1e3))
  x$obs$number <- cos(seq_len(300))
  values <- unname(as.matrix(x$X))
  y <- quietly(regress_out(x, "number"))
  expect_equal(
    dense(y),
    lm_residuals(values, ~number, data.frame(number = cos(seq_len(300)))),
    tolerance = 1e-10
  )
  x$X <- values
  expect_equal(
    dense(quietly(regress_out(x, "number"))),
    dense(y),
    tolerance = 1e-10
  )
})

test_that("metrics of counts before they were downsampled warn", {
  local_quiet()
  stale <- "scoom_warning_stale_qc"
  qc <- \(x) calc_qc_metrics(x, gene_sets = NULL, percent_top = NULL)
  x <- qc(with_covariates(small_counts()))
  before <- downsample_counts(x, 10)
  expect_warning(regress_out(before, "n_genes"), "another depth", class = stale)
  expect_warning(combat(before, "batch", "n_genes"), class = stale)
  # Totals of all genes are what a selection of genes is regressed on.
  expect_no_warning(regress_out(x[, 1:8], "n_genes"))
  expect_no_warning(regress_out(qc(before), "n_genes"))
  expect_no_warning(regress_out(before, "depth"))
})

test_that("regression and batch correction each read the file once", {
  local_quiet()
  x <- log1p(normalize_total(open_example(), target_sum = 1e4))
  x$obs$age <- seq_len(n_obs(x)) %% 37
  before <- file_reads()
  regress_out(x, c("age", "sex"))
  expect_equal(file_reads() - before, 1, tolerance = 1e-6)
  before <- file_reads()
  combat(x, "donor")
  expect_equal(file_reads() - before, 1, tolerance = 1e-6)
})
