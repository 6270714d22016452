# A matrix whose cells have from 0 to some hundreds of counts.
deep_counts <- function(n_cells = 40, n_genes = 12, seed = 1) {
  withr::with_seed(seed, {
    depth <- seq(0, 30, length.out = n_cells)
    matrix(stats::rpois(n_cells * n_genes, depth) + 0, n_cells)
  })
}

test_that("cells keep the counts asked for, and no gene gains", {
  local_quiet()
  counts <- deep_counts()
  x <- object_of(counts)
  got <- dense(downsample_counts(x, counts_per_cell = 100))
  expect_identical(rowSums(got), pmin(rowSums(counts), 100))
  expect_true(all(got <= counts))
  expect_true(any(got < counts))
  shallow <- rowSums(counts) <= 100
  expect_identical(got[shallow, ], counts[shallow, ])
  # The object before is as it was.
  expect_identical(dense(x), counts)
  # One number for each cell.
  depth <- rep(c(0, 10, 1000, 50), 10)
  got <- dense(downsample_counts(x, counts_per_cell = depth))
  expect_identical(rowSums(got), pmin(rowSums(counts), depth))
  expect_true(all(got <= counts))
})

test_that("the whole matrix keeps the counts asked for", {
  local_quiet()
  counts <- deep_counts()
  x <- object_of(counts)
  got <- dense(downsample_counts(x, total_counts = 1000, seed = 4))
  expect_identical(sum(got), 1000)
  expect_true(all(got <= counts))
  # Not in exact proportion: drawn.
  share <- rowSums(counts) * 1000 / sum(counts)
  expect_gt(max(abs(rowSums(got) - share)), 1)
  # Six standard deviations of a hypergeometric count.
  p <- rowSums(counts) / sum(counts)
  sd <- sqrt(1000 * p * (1 - p))
  expect_true(all(abs(rowSums(got) - share) <= 6 * sd))
  same <- downsample_counts(x, total_counts = sum(counts))
  expect_identical(dense(same), counts)
})

test_that("draws have the mean and variance of the multivariate hypergeometric", {
  local_quiet()
  # The same counts in every cell: each row of the file draws for itself.
  n <- 2000
  of_gene <- c(300, 60, 30, 9, 1, 0)
  x <- object_of(matrix(of_gene, n, 6, byrow = TRUE))
  total <- sum(of_gene)
  drawn <- 150
  p <- of_gene / total
  # Means within six standard errors; variances within six of theirs, the kurtosis
  # being that of the normal or, for rare genes, bounded by 1 / variance.
  expect_moments <- function(got, variance) {
    expect_true(all(
      abs(colMeans(got) - drawn * p) <= 6 * sqrt(variance / n) + 1e-12
    ))
    varies <- variance > 0
    error <- sqrt((2 + 1 / variance[varies]) / n)
    ratio <- apply(got, 2, stats::var)[varies] / variance[varies]
    expect_true(all(abs(ratio - 1) <= 6 * error))
  }
  got <- dense(downsample_counts(x, drawn, seed = 9))
  expect_moments(got, drawn * p * (1 - p) * (total - drawn) / (total - 1))
  covariance <- stats::cov(got[, 1], got[, 2])
  exact <- -drawn * p[[1]] * p[[2]] * (total - drawn) / (total - 1)
  expect_lt(abs(covariance / exact - 1), 0.25)
  got <- dense(downsample_counts(x, drawn, replace = TRUE, seed = 9))
  expect_identical(rowSums(got), rep(drawn, n))
  expect_moments(got, drawn * p * (1 - p))
})

test_that("a draw depends on the seed and the row of the file alone", {
  local_quiet()
  x <- downsample_cells(open_example(), "cell_type", n = 30)
  y <- downsample_counts(x, 300, seed = 7)
  all <- dense(y)
  expect_identical(dense(downsample_counts(x, 300, seed = 7)), all)
  expect_false(identical(dense(downsample_counts(x, 300, seed = 8)), all))
  cells <- c(9, 3, 3, 40, 1, 9)
  expect_identical(dense(y[cells, ]), all[cells, ])
  expect_identical(
    dense(downsample_counts(x[cells, ], 300, seed = 7)),
    all[cells, ]
  )
  # Depths go with their cells.
  depth <- seq_len(n_obs(x)) * 3
  each <- downsample_counts(x, depth, seed = 7)
  expect_identical(
    dense(downsample_counts(x[cells, ], depth[cells], seed = 7)),
    dense(each)[cells, ]
  )
  # A share of the total is that of the cells selected when it was drawn.
  shared <- downsample_counts(x, total_counts = 5000, seed = 7)
  expect_identical(dense(shared[cells, ]), dense(shared)[cells, ])
  back <- rev(seq_len(n_obs(x)))
  expect_identical(
    dense(downsample_counts(x[back, ], total_counts = 5000, seed = 7)),
    dense(shared)[back, ]
  )
  withr::with_seed(1, before <- stats::runif(1))
  withr::with_seed(1, {
    downsample_counts(x, 300)
    expect_identical(stats::runif(1), before)
  })
})

test_that("genes selected later do not change the draw", {
  local_quiet()
  x <- open_example()[1:50, ]
  y <- downsample_counts(x, 200)
  genes <- c(40, 2, 2, 7)
  expect_identical(dense(y[, genes]), dense(y)[, genes])
  # Genes selected before do: their totals are what is drawn from.
  z <- downsample_counts(x[, 1:100], 20)
  expect_true(all(rowSums(dense(z)) <= 20))
})

test_that("what follows reads the counts that were drawn", {
  local_quiet()
  x <- open_example()
  y <- downsample_counts(x, 300, seed = 5)
  counts <- dense(y)
  m <- x
  m$X <- counts
  expect_identical(
    as.list(calc_qc_metrics(y, gene_sets = NULL)$obs[c(
      "n_genes",
      "total_counts"
    )]),
    as.list(calc_qc_metrics(m, gene_sets = NULL)$obs[c(
      "n_genes",
      "total_counts"
    )])
  )
  expect_identical(
    var_names(filter_genes(y, min_cells = 30)),
    var_names(filter_genes(m, min_cells = 30))
  )
  # A filter counts anew, though metrics of the full counts are there.
  known <- downsample_counts(
    calc_qc_metrics(x, gene_sets = NULL),
    300,
    seed = 5
  )
  expect_identical(
    var_names(filter_genes(known, min_cells = 30)),
    var_names(filter_genes(m, min_cells = 30))
  )
  logged <- \(x) log1p(normalize_total(x, 1e4))
  expect_identical(
    as.list(find_markers(logged(y), "cell_type")),
    as.list(find_markers(logged(m), "cell_type"))
  )
  by <- c("donor", "cell_type")
  # The sums are those of the counts drawn, before and after normalisation.
  sums <- pseudobulk(m, by)$counts
  expect_identical(pseudobulk(y, by)$counts, sums)
  expect_identical(pseudobulk(logged(y), by)$counts, sums)
  expect_false(identical(pseudobulk(x, by)$counts, sums))
  pca <- \(x) run_pca(scale_genes(logged(x)), n_comps = 5, features = 1:200)
  expect_equal(
    pca(y)$obsm$X_pca,
    pca(m)$obsm$X_pca,
    tolerance = 1e-10
  )
  expect_identical(
    describe_chain(field(logged(y), "X")),
    c("downsample to 300 counts a cell", "normalize to 10,000", "log1p")
  )
})

test_that("cells without enough counts are told", {
  x <- object_of(deep_counts())
  expect_message(
    downsample_counts(x, 100),
    class = "scoom_message_shallow_cells"
  )
  expect_no_message(downsample_counts(x, 0))
  expect_message(
    downsample_counts(x, total_counts = 1e6),
    class = "scoom_message_counts_kept"
  )
})

test_that("no cells, no genes and no counts are fine", {
  local_quiet()
  x <- open_example()
  expect_identical(dim(dense(downsample_counts(x[0, ], 10))), c(0L, 2000L))
  expect_identical(
    dim(dense(downsample_counts(x[0, ], numeric()))),
    c(0L, 2000L)
  )
  expect_identical(dim(dense(downsample_counts(x[, 0], 10))), c(2000L, 0L))
  zeros <- object_of(matrix(0, 4, 3))
  expect_identical(dense(downsample_counts(zeros, 10)), matrix(0, 4, 3))
  expect_identical(
    dense(downsample_counts(zeros, total_counts = 10)),
    matrix(0, 4, 3)
  )
})

test_that("bad arguments and values that are no counts are classed errors", {
  x <- object_of(deep_counts())
  invalid <- "scoom_error_invalid_input"
  expect_error(downsample_counts(x), class = invalid)
  expect_error(downsample_counts(x, 10, 10), class = invalid)
  for (bad in list(-1, 1.5, NA, "a", TRUE, c(1, 2), Inf)) {
    expect_error(downsample_counts(x, bad), class = invalid)
    expect_error(downsample_counts(x, total_counts = bad), class = invalid)
  }
  expect_error(downsample_counts(x, 10, replace = NA), class = invalid)
  expect_error(downsample_counts(x, 10, seed = -1), class = invalid)
  expect_error(downsample_counts(1, 10), class = invalid)
  not_counts <- "scoom_error_not_counts"
  expect_error(
    downsample_counts(normalize_total(x, 10), 10),
    class = not_counts
  )
  expect_error(downsample_counts(log1p(x), 10), class = not_counts)
  expect_error(downsample_counts(scale_genes(x), 10), class = not_counts)
  halves <- object_of(deep_counts() / 2)
  expect_error(downsample_counts(halves, 10), class = not_counts)
  expect_error(
    downsample_counts(object_of(-deep_counts()), 10),
    class = "scoom_error"
  )
  expect_error(
    quietly(downsample_counts(downsample_counts(x, 10), 5)),
    class = "scoom_error_already_downsampled"
  )
  repeated <- "scoom_error_repeated_cells"
  twice <- open_example()[c(5, 5, 6), ]
  expect_error(downsample_counts(twice, total_counts = 10), class = repeated)
  expect_error(quietly(downsample_counts(twice, c(5, 6, 7))), class = repeated)
  same <- quietly(downsample_counts(twice, c(5, 5, 7)))
  expect_identical(rowSums(dense(same)), c(5, 5, 7))
})
