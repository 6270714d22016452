test_that("an object is not taken for a matrix or a list", {
  x <- open_example()
  unsupported <- function(expr) {
    expect_error({{ expr }}, class = "scoom_error_not_supported")
  }
  for (sums in list(rowSums, colSums, rowMeans, colMeans)) {
    unsupported(sums(x))
    unsupported(sums(open_fixture("containers")$raw))
  }
  unsupported(rbind(x, x))
  unsupported(cbind(x, x))
  unsupported(c(x, x))
  unsupported(rbind(x$X, x$X))
  unsupported(cbind(x$X, x$X))
  unsupported(c(x$X, x$X))
  unsupported(x + 1)
  unsupported(-x)
  unsupported(x == x)
  unsupported(sqrt(x))
  unsupported(sum(x))
  unsupported(t(x))
  expect_error(colSums(x), "colSums(x$X)", fixed = TRUE)
})

test_that("an object is as long as it has cells", {
  x <- open_example()
  expect_length(x, 2000)
  expect_length(x[1:3, ], 3)
})

test_that("sums of an X that can't be read keep the class of the error", {
  x <- suppressWarnings(open_h5ad(bad_fixture_path("indptr-length")))
  for (sums in list(rowSums, colSums, rowMeans, colMeans)) {
    expect_error(sums(x$X), class = "scoom_error_element_unread")
  }
  expect_error(print(x$X), class = "scoom_error_element_unread")
  expect_error(as(x$X, "dgCMatrix"), class = "scoom_error_element_unread")
  expect_error(
    as.matrix(x$X[1, , drop = FALSE]),
    class = "scoom_error_element_unread"
  )
})

test_that("a missing argument is named", {
  x <- open_example()
  verbs <- list(
    open_h5ad,
    n_obs,
    n_vars,
    obs_names,
    var_names,
    relocate,
    explain_plan,
    calc_qc_metrics,
    filter_cells,
    filter_genes,
    normalize_total,
    log_transform,
    scale_genes,
    find_variable_genes,
    run_pca,
    col_vars,
    row_vars,
    chunk_apply,
    as_Seurat,
    as_SingleCellExperiment
  )
  for (verb in verbs) {
    error <- expect_error(verb(), class = "scoom_error_invalid_input")
    expect_identical(error$argument, names(formals(verb))[[1]])
  }
  error <- expect_error(relocate(x), class = "scoom_error_invalid_input")
  expect_identical(error$argument, "path")
  error <- expect_error(chunk_apply(x$X), class = "scoom_error_invalid_input")
  expect_identical(error$argument, "fun")
})

test_that("missing components name the verb that computes them", {
  x <- open_example()
  expect_error(x$obsm$X_pca, "run_pca", class = "scoom_error_element_missing")
  expect_error(x$varm$PCs, "run_pca", class = "scoom_error_element_missing")
})
