# Embeddings and graphs for the tests of what follows from neighbours.

# 700 published cells with 50 components, and no graph yet.
open_reduced <- function() {
  suppressWarnings(
    open_h5ad(
      shared_data_path("h5ad_fixtures", "scanpy_10x_pbmc68k_reduced.h5ad")
    ),
    classes = "scoom_warning"
  )
}

# pbmc3k as in the reference: 2,700 cells, 50 components.
pbmc3k_components <- function() {
  open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad")) |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = 2000) |>
    scale_genes(max_value = 10) |>
    run_pca(n_comps = 50)
}

# The first cells of the example with an embedding of some blobs far apart.
blobs <- function(sizes = c(40, 30, 20), d = 5, apart = 20, seed = 1) {
  x <- open_example()[seq_len(sum(sizes)), ]
  blob <- rep(seq_along(sizes), sizes)
  withr::with_seed(seed, {
    centers <- matrix(stats::rnorm(length(sizes) * d), ncol = d) * apart
    rep <- centers[blob, ] + matrix(stats::rnorm(sum(sizes) * d), ncol = d)
  })
  x$obsm$X_pca <- rep
  x$obs$blob <- paste0("b", blob)
  x
}

# A reference in coordinates, counted from 0, as a dense matrix.
reference_square <- function(table, n) {
  t <- reference_table("graph", table)
  m <- matrix(0, n, n)
  m[cbind(t$row + 1, t$column + 1)] <- t$value
  m
}

adjusted_rand_index <- function(a, b) {
  t <- table(a, b)
  pairs <- function(n) sum(n * (n - 1) / 2)
  together <- pairs(t)
  rows <- pairs(rowSums(t))
  columns <- pairs(colSums(t))
  expected <- rows * columns / pairs(sum(t))
  (together - expected) / ((rows + columns) / 2 - expected)
}

# Venna & Kaski (2001), as scikit-learn.
trustworthiness <- function(high, low, k = 15) {
  n <- nrow(high)
  d_high <- as.matrix(stats::dist(high))
  d_low <- as.matrix(stats::dist(low))
  diag(d_high) <- diag(d_low) <- Inf
  penalty <- 0
  for (i in seq_len(n)) {
    rank <- order(order(d_high[i, ]))
    near <- order(d_low[i, ])[seq_len(k)]
    penalty <- penalty + sum(pmax(rank[near] - k, 0))
  }
  1 - penalty * 2 / (n * k * (2 * n - 3 * k - 1))
}

# As if a package were not installed, until the caller ends.
local_missing_package <- function(package, env = parent.frame()) {
  imports <- parent.env(asNamespace("scoom"))
  real <- imports$is_installed
  replace <- function(value) {
    unlockBinding("is_installed", imports)
    assign("is_installed", value, imports)
    lockBinding("is_installed", imports)
  }
  replace(\(pkg, ...) !pkg %in% package && real(pkg, ...))
  withr::defer(replace(real), env)
}

# The error of a call that needs `package`, as if it were not installed.
expect_missing_package <- function(
  object,
  package,
  command = "install.packages"
) {
  local_missing_package(package)
  error <- expect_error(object, class = "scoom_error_package_missing")
  expect_match(conditionMessage(error), package)
  expect_match(conditionMessage(error), command, fixed = TRUE)
}
