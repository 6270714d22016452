logged_example <- function() {
  open_example() |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = 300)
}

test_that("the reference's own cells have the scores of run_pca()", {
  local_quiet()
  x <- logged_example()
  chains <- list(
    plain = x,
    scaled = scale_genes(x, max_value = 3),
    not_centred = scale_genes(x, zero_center = FALSE, max_value = 2)
  )
  for (name in names(chains)) {
    reference <- run_pca(chains[[name]], n_comps = 12)
    query <- project_pca(chains[[name]], reference)
    expect_lt(
      max(abs(query$obsm$X_pca - reference$obsm$X_pca)),
      1e-10,
      label = name
    )
    # In any order, repeated, with the chain before scaling, genes in another order.
    cells <- c(20, 3, 3, 900)
    query <- project_pca(x[cells, rev(seq_len(n_vars(x)))], reference)
    expect_lt(
      max(abs(query$obsm$X_pca - reference$obsm$X_pca[cells, ])),
      1e-10,
      label = name
    )
  }
})

test_that("new cells are standardised and centred as the reference", {
  local_quiet()
  x <- scale_genes(logged_example(), max_value = 2)
  known <- which(x$obs$donor != x$obs$donor[[1]])
  reference <- run_pca(x[known, ], n_comps = 8)
  query <- project_pca(x[-known, ], reference)
  used <- which(x$var$highly_variable)
  values <- as.matrix(logged_example()$X[, used])
  mean <- colMeans(values)
  sd <- apply(values, 2, stats::sd)
  # The moments of scale_genes() are those of all cells here.
  z <- sweep(sweep(values, 2, mean), 2, ifelse(sd > 0, sd, 1), "/")
  z <- pmin(pmax(z, -2), 2)
  z <- sweep(z, 2, colMeans(z[known, ]))
  want <- z[-known, ] %*% reference$varm$PCs[used, ]
  expect_equal(query$obsm$X_pca, want, tolerance = 1e-9, ignore_attr = TRUE)
  expect_true(query$uns$pca$params$projected)
})

test_that("moments of the reference's own cells serve too", {
  local_quiet()
  x <- logged_example()
  known <- which(x$obs$donor != x$obs$donor[[1]])
  reference <- run_pca(scale_genes(x[known, ]), n_comps = 8)
  expect_named(reference$uns$pca$genes, c("feature", "center", "mean", "sd"))
  query <- project_pca(x[-known, ], reference)
  used <- which(x$var$highly_variable)
  values <- as.matrix(x$X[, used])
  z <- scale(
    values,
    colMeans(values[known, ]),
    apply(values[known, ], 2, stats::sd)
  )
  want <- z[-known, ] %*% reference$varm$PCs[used, ]
  expect_equal(query$obsm$X_pca, want, tolerance = 1e-9, ignore_attr = TRUE)
})

test_that("missing genes count as the reference's mean", {
  local_quiet()
  x <- logged_example()
  reference <- run_pca(x, n_comps = 6)
  used <- which(x$var$highly_variable)
  lost <- used[1:20]
  expect_warning(
    query <- project_pca(x[, -lost], reference),
    class = "scoom_warning_genes_missing"
  )
  values <- as.matrix(x$X[, used[-(1:20)]])
  z <- sweep(values, 2, colMeans(values))
  want <- z %*% reference$varm$PCs[used[-(1:20)], ]
  expect_equal(query$obsm$X_pca, want, tolerance = 1e-9, ignore_attr = TRUE)
  expect_identical(query$uns$pca$params$n_missing, 20L)
  expect_error(
    project_pca(x[, -lost], reference, min_share = 0.99),
    class = "scoom_error_genes_missing"
  )
  expect_error(
    project_pca(x[, -used], reference, min_share = 0),
    class = "scoom_error_genes_missing"
  )
})

test_that("threads and workers change no bit, and no cells are fine", {
  local_quiet()
  x <- scale_genes(logged_example())
  reference <- run_pca(x, n_comps = 6)
  one <- project_pca(x, reference, threads = 1)$obsm$X_pca
  expect_identical(project_pca(x, reference, threads = 4)$obsm$X_pca, one)
  withr::local_options(scoom.range_values = 50000)
  cut <- project_pca(x, reference)$obsm$X_pca
  expect_identical(cut, one)
  skip_if_not_installed("BiocParallel")
  expect_identical(
    project_pca(x, reference, BPPARAM = BiocParallel::SerialParam())$obsm$X_pca,
    one
  )
  expect_identical(dim(project_pca(x[0, ], reference)$obsm$X_pca), c(0L, 6L))
})

test_that("bad input has its classes", {
  local_quiet()
  x <- logged_example()
  reference <- run_pca(x, n_comps = 6)
  invalid <- "scoom_error_invalid_input"
  expect_error(project_pca(1, reference), class = invalid)
  expect_error(project_pca(x, 1), class = invalid)
  expect_error(project_pca(x), class = invalid)
  expect_error(project_pca(x, reference, min_share = 2), class = invalid)
  expect_error(project_pca(x, reference, key = 1), class = invalid)
  expect_error(project_pca(x, x), class = "scoom_error_pca_missing")
  expect_error(
    project_pca(x, reference, pca = "X"),
    class = "scoom_error_pca_missing"
  )
  cut <- reference[, -which(x$var$highly_variable)[1:3]]
  expect_error(project_pca(x, cut), class = "scoom_error_pca_incomplete")
  # A file of scanpy's has components, but no means of genes.
  expect_error(
    project_pca(x, open_reduced()),
    class = "scoom_error_pca_incomplete"
  )
  expect_warning(
    project_pca(normalize_total(open_example(), 1e4), reference),
    class = "scoom_warning_chains_differ"
  )
  expect_warning(
    project_pca(log1p(normalize_total(open_example(), 1e3)), reference),
    class = "scoom_warning_chains_differ"
  )
})
