# Every verb on the same matrix stored by rows, by columns and dense, from the file and
# in memory, also where the budget holds only a part of it.

answers <- function(x) {
  withr::local_options(scoom.quiet = TRUE)
  group <- rep(c("a", "b", "c"), length.out = n_obs(x))
  logs <- log1p(normalize_total(x, target_sum = 100))
  metrics <- calc_qc_metrics(
    x,
    gene_sets = list(odd = c(1L, 3L)),
    percent_top = 5
  )
  scaled <- scale_genes(logs[, 1:40], max_value = 3)
  pca <- run_pca(scaled, n_comps = 3, features = 1:40)
  list(
    obs = as.list(metrics$obs)[c(
      "n_genes",
      "total_counts",
      "pct_odd",
      "pct_top_5"
    )],
    var = as.list(metrics$var)[c("n_cells", "mean_counts")],
    kept = var_names(filter_genes(x, min_cells = 20, min_counts = 30)),
    median = rowSums(normalize_total(x)$X),
    excluded = rowSums(normalize_total(x, exclude_highly_expressed = TRUE)$X),
    variable = find_variable_genes(logs, n_top = 30)$var$highly_variable,
    scores = pca$obsm$X_pca,
    variance = pca$uns$pca$variance,
    wilcoxon = as.list(find_markers(logs, group)),
    t_test = as.list(find_markers(logs, group, method = "t-test")),
    pair = as.list(find_markers(logs, group, groups = "a", reference = "b")),
    design = as.list(find_markers(
      logs,
      group,
      groups = list(ab = c("a", "b")),
      within = rep(c("u", "v"), each = 60, length.out = n_obs(x)),
      block = rep(1:4, each = 3, length.out = n_obs(x)),
      sample_by = rep(1:5, length.out = n_obs(x))
    )),
    detection = as.list(find_markers(logs, group, method = "binomial")),
    sums = pseudobulk(x, list(group = group))$counts,
    drawn = as.matrix(downsample_counts(x, 20, seed = 3)$X),
    shared = as.matrix(downsample_counts(x, total_counts = 900, seed = 3)$X),
    gene = x$X[, 7],
    blocks = as.matrix(do.call(rbind, chunk_apply(x$X, as.matrix, n = 90)))
  )
}

test_that("verbs give the same for every storage", {
  by_rows <- open_fixture("engine-csr")
  values <- as.matrix(by_rows$X)
  skip_if(
    any(values < 0 | values != round(values)),
    "the fixture holds no counts"
  )
  want <- answers(by_rows)
  for (name in c("engine-csc", "engine-dense")) {
    got <- answers(open_fixture(name))
    for (part in names(want)) {
      expect_equal(got[[part]], want[[part]], tolerance = 1e-10, info = part)
    }
  }
  loaded <- by_rows
  loaded$X <- as(by_rows$X, "dgCMatrix")
  got <- answers(loaded)
  for (part in names(want)) {
    expect_equal(got[[part]], want[[part]], tolerance = 1e-10, info = part)
  }
})

test_that("a small budget changes no bit, whatever the storage", {
  for (name in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_fixture(name)
    want <- answers(x)
    got <- withr::with_options(list(scoom.memory = "1MB"), answers(x))
    expect_identical(got, want, info = name)
  }
})
