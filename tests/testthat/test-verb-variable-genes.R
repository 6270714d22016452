pbmc3k_logged <- function() {
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  withr::local_options(scoom.quiet = TRUE)
  x |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p()
}

test_that("the genes are those of scanpy 1.11.5 on pbmc3k", {
  x <- pbmc3k_logged()
  scanpy <- reference_table("pbmc3k", "variable_genes")
  expect_identical(var_names(x), row.names(scanpy))
  y <- find_variable_genes(x)
  expect_identical(
    which(y$var$highly_variable),
    which(scanpy$highly_variable == 1)
  )
  expect_identical(sum(y$var$highly_variable), 2000L)
  expect_equal(y$var$means, scanpy$means, tolerance = 1e-10)
  for (column in c("dispersions", "dispersions_norm")) {
    expect_identical(is.nan(y$var[[column]]), is.nan(scanpy[[column]]))
    expect_equal(y$var[[column]], scanpy[[column]], tolerance = 1e-9)
  }
  ranked <- order(y$var$highly_variable_rank)[1:2000]
  expect_setequal(ranked, which(y$var$highly_variable))
  expect_false(is.unsorted(-y$var$dispersions_norm[ranked]))

  y <- find_variable_genes(x, n_top = NULL)
  expect_identical(
    which(y$var$highly_variable),
    which(scanpy$highly_variable_default == 1)
  )
})

test_that("moments are those of two passes in double precision on pbmc3k", {
  x <- pbmc3k_logged()
  reference <- reference_table("pbmc3k", "moments")
  moments <- function(x) {
    run_pass(rs_qc_gene_moments, scoom_plan(x), list(linear = FALSE))$values
  }
  found <- moments(x)
  relative <- function(a, b) {
    max(abs(a - b) / pmax(abs(b), .Machine$double.xmin))
  }
  expect_lt(relative(found$mean, reference$mean_log), 1e-10)
  expect_lt(relative(found$var, reference$variance_log), 1e-10)
  raw <- quietly(
    filter_genes(
      open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad")),
      min_cells = 3
    )
  )
  found <- moments(raw)
  expect_lt(relative(found$mean, reference$mean_counts), 1e-10)
  expect_lt(relative(found$var, reference$variance_counts), 1e-10)
})

test_that("threads, workers and the base of the logarithm change nothing", {
  x <- normalize_total(open_h5ad(example_h5ad()), target_sum = 1e4)
  one <- find_variable_genes(log1p(x), n_top = 300, threads = 1)
  expect_identical(
    find_variable_genes(log1p(x), n_top = 300, threads = 4)$var,
    one$var
  )
  expect_identical(
    find_variable_genes(log_transform(x, 2), n_top = 300)$var,
    one$var
  )
  skip_if_not_installed("BiocParallel")
  other <- find_variable_genes(
    log1p(x),
    n_top = 300,
    BPPARAM = BiocParallel::SerialParam()
  )
  expect_identical(other$var, one$var)
})

test_that("logarithms in the file are recognised", {
  x <- log1p(normalize_total(
    open_h5ad(example_h5ad())[1:300, 1:400],
    target_sum = 1e4
  ))
  expected <- find_variable_genes(x, n_top = 50)
  stored <- open_h5ad(example_h5ad())[1:300, 1:400]
  stored$X <- as.matrix(x$X)
  expect_message(
    y <- find_variable_genes(stored, n_top = 50),
    class = "scoom_message_assumed_logged"
  )
  expect_identical(y$var$highly_variable, expected$var$highly_variable)
  expect_equal(y$var$dispersions, expected$var$dispersions, tolerance = 1e-10)
})

test_that("subset keeps the marked genes", {
  x <- log1p(normalize_total(open_h5ad(example_h5ad()), target_sum = 1e4))
  y <- find_variable_genes(x, n_top = 100, subset = TRUE)
  expect_identical(n_vars(y), 100L)
  expect_true(all(y$var$highly_variable))
  expect_identical(y$uns$hvg$flavor, "seurat")
})

test_that("more genes than vary give a message", {
  x <- log1p(normalize_total(object_of(small_counts()), 1e4))
  expect_message(
    y <- find_variable_genes(x, n_top = 12),
    class = "scoom_message_n_top_differs"
  )
  expect_false(y$var$highly_variable[[12]])
  expect_identical(y$var$highly_variable_rank[[12]], NA_real_)
})

test_that("raw counts, no cells and bad arguments are errors", {
  x <- object_of(small_counts())
  expect_error(find_variable_genes(x), class = "scoom_error_not_logged")
  logged <- log1p(normalize_total(x, 1e4))
  expect_error(
    find_variable_genes(logged[integer(), ]),
    class = "scoom_error_no_cells"
  )
  bad <- function(...) {
    expect_error(
      find_variable_genes(logged, ...),
      class = "scoom_error_invalid_input"
    )
  }
  bad(flavor = "cellranger")
  bad(n_top = 0)
  bad(n_bins = 0)
  bad(n_top = NULL, min_mean = NA)
  bad(n_top = 10, min_mean = 1)
  bad(subset = "yes")
})
