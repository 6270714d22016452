pca_example <- function(..., times = 1) {
  x <- open_h5ad(example_h5ad())
  if (times > 1) {
    x <- x[rep(seq_len(n_obs(x)), times), ]
  }
  x |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = 300) |>
    scale_genes(max_value = 10, ...)
}

# What a user would write in base R on the loaded matrix.
dense_pca <- function(values, max_value = NULL, scale = TRUE) {
  z <- scale(values, center = TRUE, scale = FALSE)
  if (scale) {
    sd <- apply(values, 2, stats::sd)
    z <- sweep(z, 2, ifelse(sd > 0, sd, 1), "/")
    z <- pmin(pmax(z, -max_value), max_value)
  }
  stats::prcomp(z, center = TRUE, scale. = FALSE)
}

expect_same_components <- function(found, wanted, k, tolerance = 1e-8) {
  cosine <- colSums(found[, 1:k] * wanted[, 1:k])
  expect_lt(max(1 - abs(cosine)), tolerance)
}

test_that("components of pbmc3k are those of LAPACK on the dense matrix", {
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad")) |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = 2000) |>
    scale_genes(max_value = 10) |>
    run_pca(n_comps = 50)
  genes <- reference_names("pbmc3k", "pca_genes")
  loadings <- as.matrix(reference_table("pbmc3k", "pca_loadings"))
  variance <- reference_table("pbmc3k", "pca_variance")
  scores <- as.matrix(reference_table("pbmc3k", "pca_scores"))

  expect_setequal(var_names(x)[x$var$highly_variable], genes)
  found <- x$varm$PCs
  expect_equal(dim(found), c(13714, 50))
  expect_true(all(found[!x$var$highly_variable, ] == 0))
  found <- found[genes, ]
  expect_same_components(found, loadings, 50)
  expect_equal(colSums(found^2), rep(1, 50), ignore_attr = TRUE)

  summary <- x$uns$pca
  expect_lt(max(abs(summary$variance_ratio - variance$variance_ratio)), 1e-8)
  expect_lt(max(abs(summary$variance / variance$variance - 1)), 1e-8)
  expect_equal(
    summary$total_variance,
    reference_index("pbmc3k")$pca$total_variance,
    tolerance = 1e-10
  )

  sign <- sign(colSums(found * loadings))
  difference <- sweep(x$obsm$X_pca[1:200, ], 2, sign, "*") - scores
  expect_lt(max(abs(difference)), 1e-6)
})

test_that("a scaled chain gives prcomp() of the scaled, clipped matrix", {
  x <- run_pca(pca_example(), n_comps = 15)
  marked <- x$var$highly_variable
  log <- open_h5ad(example_h5ad()) |>
    normalize_total(target_sum = 1e4) |>
    log1p()
  oracle <- dense_pca(as.matrix(log$X[, marked]), 10)
  expect_same_components(x$varm$PCs[marked, ], oracle$rotation, 15, 1e-10)
  expect_equal(x$uns$pca$variance, oracle$sdev[1:15]^2, tolerance = 1e-10)
  expect_equal(x$uns$pca$total_variance, sum(oracle$sdev^2), tolerance = 1e-10)
  expect_equal(
    x$uns$pca$variance_ratio,
    (oracle$sdev^2 / sum(oracle$sdev^2))[1:15],
    tolerance = 1e-10
  )
  expect_equal(abs(x$obsm$X_pca), abs(oracle$x[, 1:15]), tolerance = 1e-8)
  expect_equal(dimnames(x$obsm$X_pca), list(obs_names(x), paste0("PC", 1:15)))
  expect_equal(rownames(x$varm$PCs), var_names(x))
})

test_that("a chain without scaling is centred only", {
  x <- open_h5ad(example_h5ad()) |>
    normalize_total(target_sum = 1e4) |>
    log1p()
  genes <- var_names(x)[11:60]
  found <- run_pca(x, n_comps = 5, features = genes)
  oracle <- dense_pca(as.matrix(x$X[, genes]), scale = FALSE)
  expect_same_components(found$varm$PCs[genes, ], oracle$rotation, 5, 1e-10)
  expect_equal(found$uns$pca$variance, oracle$sdev[1:5]^2, tolerance = 1e-10)
  expect_false(found$uns$pca$params$scaled)
})

test_that("genes given in any way have the components of the dense matrix", {
  x <- open_h5ad(example_h5ad()) |>
    normalize_total(target_sum = 1e4) |>
    log1p()
  is_used <- seq_len(n_vars(x)) %in% seq(5, 400, by = 7)
  # Of base R: the singular values of the centred matrix.
  values <- scale(as.matrix(x$X[, is_used]), scale = FALSE)
  oracle <- svd(values, nu = 0, nv = 4)
  variance <- oracle$d^2 / (n_obs(x) - 1)
  x$var$mine <- is_used
  x$var$highly_variable <- !is_used
  marked <- x
  marked$var$highly_variable <- is_used
  ways <- list(
    given = run_pca(x, 4, mask = is_used),
    given = run_pca(x, 4, features = is_used),
    given = run_pca(x, 4, features = var_names(x)[is_used]),
    given = run_pca(x, 4, features = rev(which(is_used))),
    mine = run_pca(x, 4, mask = "mine"),
    highly_variable = run_pca(marked, 4, mask = "highly_variable"),
    highly_variable = run_pca(marked, 4)
  )
  for (k in seq_along(ways)) {
    found <- ways[[k]]
    # Both are eigenvectors to machine precision, of a matrix with gaps.
    expect_same_components(found$varm$PCs[is_used, ], oracle$v, 4, 1e-10)
    expect_true(all(found$varm$PCs[!is_used, ] == 0))
    summary <- found$uns$pca
    expect_equal(summary$variance, variance[1:4], tolerance = 1e-10)
    expect_equal(summary$total_variance, sum(variance), tolerance = 1e-10)
    expect_identical(summary$params$features, names(ways)[[k]])
    expect_equal(summary$params$n_features, sum(is_used))
    expect_identical(found$obsm$X_pca, ways[[1]]$obsm$X_pca)
  }
})

test_that("a mask that is none is refused", {
  x <- log1p(normalize_total(open_example()[, 1:20], target_sum = 1e4))
  x$var$share <- seq_len(20) / 20
  x$var$gaps <- c(NA, rep(TRUE, 19))
  mask <- rep(c(TRUE, FALSE), 10)
  refused <- function(mask, class, says, features = NULL) {
    expect_error(
      run_pca(x, 2, mask = mask, features = features),
      says,
      class = paste0("scoom_error_", class)
    )
  }
  refused(mask[-1], "invalid_index", "20 genes and 19 values")
  refused(TRUE, "invalid_index", "20 genes and 1 value")
  refused(c(NA, mask[-1]), "invalid_index", "1 value")
  refused(!logical(20) & FALSE, "no_features", "mask.*FALSE")
  refused(which(mask), "invalid_input", "one value for each gene")
  refused(c("a", "b"), "invalid_input", "one value for each gene")
  refused("shares", "column_missing", "Did you mean \"share\"")
  refused("share", "invalid_input", "double vector")
  refused("gaps", "invalid_input", "1 value")
  refused(mask, "invalid_input", "not both", features = 1:5)
})

test_that("the largest entry of every loading vector is positive", {
  loadings <- run_pca(pca_example(), n_comps = 20)$varm$PCs
  largest <- apply(loadings, 2, \(v) v[[which.max(abs(v))]])
  expect_true(all(largest > 0))
})

test_that("threads, memory and workers do not change a bit", {
  x <- pca_example()
  whole <- run_pca(x, n_comps = 10, threads = 1)
  results <- \(x) list(x$obsm$X_pca, x$varm$PCs, x$uns$pca)
  for (threads in c(2, 4)) {
    again <- run_pca(x, n_comps = 10, threads = threads)
    expect_identical(results(again), results(whole))
  }
  skip_if_not_installed("BiocParallel")
  workers <- BiocParallel::SnowParam(2)
  expect_identical(
    results(run_pca(x, n_comps = 10, BPPARAM = workers)),
    results(whole)
  )
  expect_false(BiocParallel::bpisup(workers))
  # Moments that find_variable_genes() does not know.
  cells <- x$obs$condition == "stim"
  fresh <- open_h5ad(example_h5ad())[cells, 1:100] |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    scale_genes()
  expect_identical(
    results(run_pca(fresh, 4, 1:60, BPPARAM = workers)),
    results(run_pca(fresh, 4, 1:60))
  )
})

test_that("genes that do not fit into memory are read from the file again", {
  # Every cell twice: half of 1 MB does not hold their values, a quarter holds their covariance.
  x <- pca_example(times = 2)
  common <- order(colSums(open_h5ad(example_h5ad())$X), decreasing = TRUE)
  recipe <- recipe_genes(x_recipe(x), sort(common[1:60]))
  run <- list(threads = 2, progress = FALSE, label = "")
  packed <- pca_here(x, recipe, 6, run, NULL)
  withr::local_options(scoom.memory = "1MB")
  streamed <- pca_here(x, recipe, 6, run, NULL)
  expect_equal(packed$reads, 1)
  expect_gt(streamed$reads, 2)
  expect_identical(without(streamed, "reads"), without(packed, "reads"))
})

test_that("iterations without the covariance agree with it", {
  x <- pca_example()
  exact <- run_pca(x, n_comps = 5)
  withr::local_options(scoom.memory = "1MB")
  found <- run_pca(x, n_comps = 5)
  expect_equal(
    found$uns$pca$variance,
    exact$uns$pca$variance,
    tolerance = 1e-10
  )
  expect_equal(found$varm$PCs, exact$varm$PCs, tolerance = 1e-8)
  expect_equal(found$obsm$X_pca, exact$obsm$X_pca, tolerance = 1e-8)
  skip_if_not_installed("BiocParallel")
  expect_error(
    run_pca(x, n_comps = 5, BPPARAM = BiocParallel::SerialParam()),
    class = "scoom_error_over_budget"
  )
  expect_error(
    run_pca(x, n_comps = 5, features = 1:50, BPPARAM = 2),
    class = "scoom_error_invalid_input"
  )
})

test_that("scaling keeps the means of the cells that it was asked for", {
  x <- pca_example()
  some <- x[x$obs$cell_type == "T cell", ]
  found <- run_pca(some, n_comps = 5)
  marked <- x$var$highly_variable
  oracle <- stats::prcomp(as.matrix(some$X[, marked]))
  expect_same_components(found$varm$PCs[marked, ], oracle$rotation, 5, 1e-9)
})

test_that("selections, layers and keys are followed", {
  x <- open_h5ad(example_h5ad())
  logged <- log1p(normalize_total(x, target_sum = 1e4))
  x$layers$logs <- logged$X
  genes <- c(7, 3, 20, 11, 40)
  a <- run_pca(x, 3, features = genes, layer = "logs", key = "X_few")
  b <- run_pca(logged, 3, features = sort(genes))
  expect_identical(a$obsm$X_few, b$obsm$X_pca)
  expect_identical(a$varm$X_few, b$varm$PCs)
  expect_identical(a$uns$X_few$variance, b$uns$pca$variance)
  expect_equal(a$uns$X_few$params$layer, "logs")

  rows <- c(500:1, 600:900)
  turned <- run_pca(logged[rows, ], 3, features = genes)
  kept <- run_pca(logged[sort(rows), ], 3, features = genes)
  expect_equal(
    kept$obsm$X_pca[obs_names(turned), ],
    turned$obsm$X_pca,
    tolerance = 1e-8
  )
  expect_identical(turned[5:9, ]$obsm$X_pca, turned$obsm$X_pca[5:9, ])
})

test_that("every storage gives the components of the loaded matrix", {
  for (name in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_h5ad(fixture_path(name))
    found <- suppressMessages(run_pca(x, n_comps = 3))
    oracle <- stats::prcomp(as.matrix(x$X))
    expect_same_components(found$varm$PCs, oracle$rotation, 3, 1e-9)
    expect_equal(found$uns$pca$variance, oracle$sdev[1:3]^2)
  }
})

test_that("what is asked for in vain is said", {
  x <- open_h5ad(example_h5ad())
  expect_message(
    expect_message(
      run_pca(x[1:100, 1:20], n_comps = 3),
      class = "scoom_message_all_genes_used"
    ),
    class = "scoom_message_not_normalized"
  )
  logged <- log1p(normalize_total(x, target_sum = 1e4))
  expect_no_message(
    run_pca(logged[, 1:20], n_comps = 3, features = 1:20),
    class = "scoom_message_not_normalized"
  )
  expect_error(
    run_pca(logged, n_comps = 20, features = 1:20),
    class = "scoom_error_too_many_components"
  )
  error <- expect_error(run_pca(logged[1:9, ], n_comps = 9, features = 1:20))
  expect_equal(error$maximum, 8)
  expect_error(
    run_pca(logged, features = "MS4A"),
    "Did you mean",
    class = "scoom_error_gene_missing"
  )
  expect_error(
    run_pca(logged, features = character()),
    class = "scoom_error_no_features"
  )
  expect_error(
    run_pca(logged, 3, layer = "no"),
    class = "scoom_error_layer_missing"
  )
  expect_error(
    run_pca(logged, n_comps = 0),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    run_pca(logged, n_comps = 2.5),
    class = "scoom_error_invalid_input"
  )
  expect_error(run_pca(as.matrix(1)), class = "scoom_error_invalid_input")
  expect_message(
    run_pca(logged, 2, features = c(1:5, 3)),
    class = "scoom_message_features_repeated"
  )
  none <- logged
  none$var$highly_variable <- FALSE
  expect_error(run_pca(none), class = "scoom_error_no_features")
  none$var$highly_variable <- "False"
  expect_error(run_pca(none), class = "scoom_error_invalid_input")
})

test_that("components without variance are a warning", {
  local_quiet()
  flat <- "scoom_warning_no_variance"
  constant <- object_of(matrix(3, 30, 10))
  for (x in list(
    constant,
    scale_genes(constant),
    object_of(matrix(0, 30, 10))
  )) {
    expect_warning(y <- run_pca(x, 2), "None of the genes", class = flat)
    expect_identical(y$uns$pca$total_variance, 0)
    expect_true(all(y$obsm$X_pca == 0))
  }
  # Two genes of ten vary.
  values <- matrix(1, 30, 10)
  values[, c(2, 7)] <- stats::rpois(60, 5)
  expect_warning(
    y <- run_pca(object_of(values), 4),
    "2 of 4 components have no variance",
    class = flat
  )
  oracle <- stats::prcomp(values)$sdev[1:2]^2
  expect_equal(y$uns$pca$variance, c(oracle, 0, 0), tolerance = 1e-10)
  expect_no_warning(run_pca(object_of(values), 2))
  # Three different cells span two dimensions.
  few <- object_of(small_counts()[rep(1:3, 10), ])
  expect_warning(run_pca(few, 3), "1 of 3 components has", class = flat)
  expect_no_warning(run_pca(pca_example(), 30))
})

test_that("z-scores that a file holds are taken as they are", {
  local_quiet()
  z <- scale(small_counts())
  z <- z[, colSums(is.na(z)) == 0]
  x <- object_of(z)
  withr::local_options(scoom.quiet = FALSE)
  expect_no_message(
    y <- run_pca(x, 3),
    class = "scoom_message_not_normalized"
  )
  expect_equal(y$uns$pca$variance, stats::prcomp(z)$sdev[1:3]^2)
})

test_that("values that are not finite are an error, here and in workers", {
  x <- open_h5ad(fixture_path("nonfinite"))
  expect_error(
    suppressMessages(run_pca(x, n_comps = 1)),
    class = "scoom_error_invalid_values"
  )
  skip_if_not_installed("BiocParallel")
  expect_error(
    suppressMessages(
      run_pca(x, n_comps = 1, BPPARAM = BiocParallel::SerialParam())
    ),
    class = "scoom_error_invalid_values"
  )
})
