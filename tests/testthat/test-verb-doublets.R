# What scanpy drew: for each doublet its sample and the positions of its parents in it.
reference_parents <- function(set, samples) {
  parents <- reference_table("doublets", paste0(set, "_parents"))
  cells <- lapply(split(parents, parents$batch), \(of) {
    at <- which(as.integer(samples) == of$batch[[1]] + 1)
    cbind(at[of$a + 1], at[of$b + 1])
  })
  do.call(rbind, cells)
}

same <- function(a, b) mean(abs(a - b) < 1e-6)

# Cells of three kinds, some of them sums of two kinds.
planted <- function(n = 200, n_planted = 20, n_genes = 300, seed = 1) {
  withr::local_seed(seed)
  cell <- \(kind) {
    rate <- ifelse(seq_len(n_genes) %% 5 == kind, 6, 0.6)
    stats::rpois(n_genes, rate * stats::rgamma(1, 20, 20))
  }
  single <- t(vapply(seq_len(n) %% 3, cell, double(n_genes)))
  double <- t(vapply(
    seq_len(n_planted) %% 3,
    \(kind) cell(kind) + cell((kind + 1) %% 3),
    double(n_genes)
  ))
  object_of(rbind(single, double))
}

auc_of <- function(score, is_case) {
  rank <- rank(score)
  n <- sum(is_case)
  (sum(rank[is_case]) - n * (n + 1) / 2) / (n * sum(!is_case))
}

test_that("scores are scanpy's with the parents that it drew", {
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  parents <- reference_parents("pbmc3k", rep(1, n_obs(x)))
  x <- find_doublets(x, parents = parents)
  wanted <- reference_table("doublets", "pbmc3k")
  index <- reference_index("doublets")
  # Scores take few values, one for each number of simulated neighbours: equal means
  # equal neighbours.
  expect_equal(x$obs$doublet_score, wanted$score, tolerance = 1e-10)
  expect_identical(x$obs$predicted_doublet, wanted$predicted == 1)
  found <- x$uns$scrublet
  simulated <- reference_table("doublets", "pbmc3k_simulated")$score
  expect_gt(same(found$doublet_scores_sim, simulated), 0.999)
  expect_equal(found$threshold, index$pbmc3k_threshold, tolerance = 1e-10)
  expect_equal(found$parameters$n_neighbors, index$pbmc3k_neighbors)
  expect_identical(found$doublet_parents, parents)
  called <- mean(x$obs$predicted_doublet)
  expect_equal(found$detected_doublet_rate, called)
  detectable <- mean(simulated > index$pbmc3k_threshold)
  expect_equal(found$overall_doublet_rate, called / detectable)
})

test_that("scores of samples are scanpy's", {
  local_quiet()
  x <- open_h5ad(shared_data_path(
    "counts",
    "kang2018_pbmc_ifnb_2000cells.h5ad"
  ))
  x <- x[!is.na(x$obs$sample_id), ]
  index <- reference_index("doublets")
  batches <- reference_names("doublets", "kang2018_batches")
  samples <- factor(x$obs$sample_id, batches)
  parents <- reference_parents("kang2018", samples)
  x <- suppressWarnings(
    find_doublets(x, sample_by = samples, parents = parents),
    classes = "scoom_warning_no_threshold"
  )
  wanted <- reference_table("doublets", "kang2018")
  # Where cells and doublets coincide (a doublet of one cell with itself), which of them
  # is the last neighbour is a matter of order: 16 of 1,971 cells have a neighbour more or
  # less that is simulated, and the rank correlation is 0.9987 for it.
  expect_gt(same(x$obs$doublet_score, wanted$score), 0.99)
  rho <- stats::cor(x$obs$doublet_score, wanted$score, method = "spearman")
  expect_gt(rho, 0.9985)
  # Samples without such a doublet agree in every cell.
  with_itself <- samples[parents[parents[, 1] == parents[, 2], 1]]
  without_itself <- setdiff(batches, with_itself)
  expect_gte(length(without_itself), 2)
  of <- samples %in% without_itself
  expect_equal(x$obs$doublet_score[of], wanted$score[of], tolerance = 1e-10)
  expect_named(x$uns$scrublet$batches, batches)
  all <- reference_table("doublets", "kang2018_simulated")$score
  batch <- reference_table("doublets", "kang2018_parents")$batch + 1
  for (k in seq_along(batches)) {
    found <- x$uns$scrublet$batches[[k]]
    simulated <- all[batch == k]
    if (index$kang2018_itself[[k]]) {
      # scanpy counted each doublet among its own neighbours.
      expect_true(all(found$doublet_scores_sim < simulated))
    } else {
      expect_gt(same(found$doublet_scores_sim, simulated), 0.96)
    }
  }
})

test_that("thresholds are scikit-image's", {
  # The threshold of given scores, through the engine's own histogram.
  wanted <- reference_index("doublets")$thresholds
  for (name in names(wanted)) {
    values <- reference_table("doublets", paste0("threshold_", name))$value
    found <- rs_unwrap(rs_doublets_threshold(values))
    expect_equal(found, wanted[[name]], tolerance = 1e-12, info = name)
  }
})

test_that("downsampled counts are scored as the same counts in memory", {
  local_quiet()
  x <- planted()
  x <- x[, withr::with_seed(4, sample(n_vars(x)))]
  draw <- downsample_counts(x, 150, seed = 3)
  pairs <- withr::with_seed(5, matrix(sample(n_obs(x), 880, TRUE), ncol = 2))
  score <- function(x) {
    x <- find_doublets(x, n_comps = 8, threshold = 0.3, parents = pairs)
    list(x$obs$doublet_score, x$uns$scrublet$doublet_scores_sim)
  }
  # The chain of the object, and what it gives in memory.
  in_memory <- function(y) object_of(dense(y))
  expect_identical(score(draw), score(in_memory(draw)))
  expect_false(identical(score(draw), score(x)))
  # Genes selected before and after; a chain that goes on; cells in another order.
  some <- draw[, seq(2, n_vars(x), by = 2)]
  expect_identical(score(some), score(in_memory(some)))
  later <- log1p(normalize_total(some, target_sum = 1e4))[, -1]
  expect_identical(score(later), score(in_memory(some[, -1])))
  back <- draw[rev(seq_len(n_obs(x))), ]
  expect_identical(score(back), score(in_memory(back)))
  # A sample that does not fit is read for each step, samples in groups of their own.
  samples <- rep(c("a", "b"), each = n_obs(x) / 2)
  by_sample <- function(x) {
    x <- find_doublets(x, samples, n_comps = 8, threshold = 0.3)
    x$obs$doublet_score
  }
  whole <- by_sample(draw)
  expect_identical(whole, by_sample(in_memory(draw)))
  withr::local_options(scoom.memory = "1MB")
  expect_equal(by_sample(draw), whole, tolerance = 1e-12)
})

test_that("planted doublets are found", {
  x <- find_doublets(planted(), n_comps = 8)
  is_planted <- rep(c(FALSE, TRUE), c(200, 20))
  expect_gt(auc_of(x$obs$doublet_score, is_planted), 0.97)
  rates <- x$uns$scrublet
  expect_gt(mean(x$obs$predicted_doublet[is_planted]), 0.8)
  expect_lt(mean(x$obs$predicted_doublet[!is_planted]), 0.1)
  # Two thirds of pairs are of different kinds.
  expect_gt(rates$detectable_doublet_fraction, 0.5)
  expect_lt(rates$detectable_doublet_fraction, 0.8)
})

test_that("samples are sought one by one, however they are grouped", {
  local_quiet()
  a <- as.matrix(planted(seed = 1)$X)
  b <- as.matrix(planted(n = 150, seed = 2)$X)
  order <- withr::with_seed(3, sample(nrow(a) + nrow(b)))
  x <- object_of(rbind(a, b)[order, ])
  x$obs$sample <- rep(c("a", "b"), c(nrow(a), nrow(b)))[order]
  find <- \(x, ...) {
    suppressWarnings(
      find_doublets(x, n_comps = 8, ...),
      classes = "scoom_warning_no_threshold"
    )
  }
  both <- find(x, sample_by = "sample")
  expect_equal(both$uns$scrublet$batched_by, "sample")
  for (sample in c("a", "b")) {
    of <- which(x$obs$sample == sample)
    one <- find(x[of, ])
    expect_identical(one$obs$doublet_score, both$obs$doublet_score[of])
    expect_identical(
      one$obs$predicted_doublet,
      both$obs$predicted_doublet[of]
    )
    together <- both$uns$scrublet$batches[[sample]]
    alone <- one$uns$scrublet
    expect_identical(
      of[alone$doublet_parents[, 1]],
      together$doublet_parents[, 1]
    )
    expect_identical(alone$doublet_scores_sim, together$doublet_scores_sim)
  }
  # Too little memory for both: groups. Too little for one: reads of the file, whose grid
  # rounds sums in another order.
  withr::local_options(scoom.memory = "5MB")
  small <- find(x, sample_by = "sample")
  expect_identical(small$obs, both$obs)
  expect_identical(small$uns$scrublet, both$uns$scrublet)
  withr::local_options(scoom.memory = "1MB")
  least <- find(x, sample_by = "sample")
  expect_equal(least$obs$doublet_score, both$obs$doublet_score)
})

test_that("threads and storages do not matter", {
  local_quiet()
  x <- planted()
  one <- find_doublets(x, n_comps = 8, threads = 1)
  four <- find_doublets(x, n_comps = 8, threads = 4)
  expect_identical(one$obs, four$obs)
  expect_identical(one$uns$scrublet, four$uns$scrublet)
  y <- x
  y$X <- as(as.matrix(x$X), "CsparseMatrix")
  expect_identical(find_doublets(y, n_comps = 8)$obs, one$obs)
  withr::local_options(scoom.range_values = 1000)
  scores <- lapply(c("engine-csr", "engine-csc", "engine-dense"), \(storage) {
    x <- open_fixture(storage)
    find <- \(...) {
      suppressWarnings(
        find_doublets(x, n_comps = 2, threshold = 0.3, ...)$obs$doublet_score
      )
    }
    expect_identical(find(threads = 1), find(threads = 4))
    find()
  })
  expect_identical(scores[[2]], scores[[1]])
  expect_identical(scores[[3]], scores[[1]])
})

test_that("draws follow from the seed, and can be given", {
  x <- planted()
  one <- find_doublets(x, n_comps = 8)
  again <- find_doublets(x, n_comps = 8)
  expect_identical(one$uns$scrublet, again$uns$scrublet)
  other <- find_doublets(x, n_comps = 8, seed = 1)
  expect_false(identical(one$uns$scrublet, other$uns$scrublet))
  parents <- one$uns$scrublet$doublet_parents
  expect_equal(nrow(unique(parents)), 2 * n_obs(x))
  given <- find_doublets(x, n_comps = 8, parents = parents, seed = 5)
  expect_identical(given$obs$doublet_score, one$obs$doublet_score)
})

test_that("a threshold is taken as it is", {
  x <- find_doublets(planted(), n_comps = 8, threshold = 0.1)
  expect_identical(x$obs$predicted_doublet, x$obs$doublet_score > 0.1)
  expect_equal(x$uns$scrublet$threshold, 0.1)
})

test_that("cells without a threshold are not called", {
  # All cells and doublets are the same but for noise of few genes, so that the scores have
  # one mode.
  values <- matrix(3, 60, 40)
  odd <- withr::with_seed(2, matrix(stats::rpois(60 * 10, 4), 60))
  expect_warning(
    x <- find_doublets(
      object_of(cbind(values, odd)),
      n_comps = 2,
      n_neighbors = 59
    ),
    class = "scoom_warning_no_threshold"
  )
  expect_false(anyNA(x$obs$doublet_score))
  expect_identical(x$obs$predicted_doublet, logical(60))
  expect_null(x$uns$scrublet$threshold)
  expect_null(x$uns$scrublet$overall_doublet_rate)
})

test_that("cells and samples that can't be scored", {
  values <- as.matrix(planted()$X)
  values[c(3, 9), ] <- 0
  values[9, 1:2] <- 1
  expect_message(
    x <- find_doublets(object_of(values), n_comps = 8),
    class = "scoom_message_cells_not_scored"
  )
  expect_equal(which(is.na(x$obs$doublet_score)), c(3, 9))
  expect_false(anyNA(x$obs$predicted_doublet))
  expect_false(any(x$uns$scrublet$doublet_parents %in% c(3, 9)))
  local_quiet()
  expect_error(
    find_doublets(object_of(values), n_comps = 8, parents = cbind(1:9, 1:9)),
    class = "scoom_error_invalid_input"
  )
  sample <- rep(c("large", "small", NA), c(180, 5, 35))
  expect_warning(
    x <- find_doublets(object_of(values), sample, n_comps = 8, threshold = 0.2),
    class = "scoom_warning_samples_skipped"
  )
  expect_named(x$uns$scrublet$batches, "large")
  expect_true(all(is.na(x$obs$doublet_score[181:220])))
  expect_false(anyNA(x$obs$predicted_doublet))
  expect_error(
    find_doublets(object_of(values)[1:20, ]),
    class = "scoom_error_too_few_cells"
  )
  expect_error(
    find_doublets(object_of(values)[, 1:2], n_comps = 2),
    class = "scoom_error_too_few_cells"
  )
  expect_error(
    find_doublets(object_of(values * 0), n_comps = 2),
    class = "scoom_error_too_few_cells"
  )
  expect_error(
    find_doublets(object_of(values)[0, ]),
    class = "scoom_error_no_cells"
  )
  expect_error(
    find_doublets(object_of(values)[, 0], n_comps = 2),
    class = "scoom_error_too_few_cells"
  )
})

test_that("the chain is left out, logarithms are refused", {
  local_quiet()
  x <- planted()
  one <- find_doublets(x, n_comps = 8)$obs$doublet_score
  logged <- scale_genes(log1p(normalize_total(x, target_sum = 1e4)))
  expect_identical(find_doublets(logged, n_comps = 8)$obs$doublet_score, one)
  x$layers$log <- base::log1p(as.matrix(x$X))
  expect_error(
    find_doublets(x, layer = "log", n_comps = 8),
    class = "scoom_error_not_counts"
  )
  x$layers$negative <- as.matrix(x$X) - 1
  expect_error(
    find_doublets(x, layer = "negative", n_comps = 8),
    class = "scoom_error_invalid_values"
  )
  x$layers$large <- as.matrix(x$X) * 7.25
  withr::local_options(scoom.quiet = FALSE)
  expect_message(
    y <- find_doublets(x, layer = "large", n_comps = 8),
    class = "scoom_message_not_counts"
  )
  expect_false(anyNA(y$obs$doublet_score))
  # A negative value that the first look does not see.
  values <- as.matrix(planted()$X)
  values[220, 150] <- -1
  expect_error(
    find_doublets(object_of(values), n_comps = 8),
    class = "scoom_error_invalid_values"
  )
})

test_that("arguments are checked", {
  x <- planted(n = 60, n_planted = 5)
  invalid <- list(
    list(sim_doublet_ratio = 0),
    list(expected_doublet_rate = 1),
    list(stdev_doublet_rate = -1),
    list(n_comps = 0),
    list(n_neighbors = 0),
    list(n_neighbors = 1e5),
    list(threshold = "high"),
    list(seed = -1),
    list(layer = 1),
    list(threads = 0),
    list(parents = 1:10),
    list(parents = cbind(1, 1000)),
    list(parents = cbind(1, 65), sample_by = rep(c("a", "b"), c(60, 5)))
  )
  for (args in invalid) {
    args <- utils::modifyList(list(x = x, n_comps = 3), args)
    expect_error(
      do.call(find_doublets, args),
      class = "scoom_error_invalid_input"
    )
  }
  expect_error(find_doublets(1), class = "scoom_error_invalid_input")
  expect_error(
    find_doublets(x, layer = "none"),
    class = "scoom_error_layer_missing"
  )
})

test_that("the sample that is too small is named with its cells", {
  x <- planted()
  sample <- rep(c("large", "single"), c(n_obs(x) - 1, 1))
  warning <- expect_warning(
    quietly(find_doublets(x, sample, n_comps = 8, threshold = 0.2)),
    class = "scoom_warning_samples_skipped"
  )
  text <- gsub("[[:space:]]+", " ", conditionMessage(warning))
  expect_match(text, "\"single\" has 1 cell, 0 with enough genes", fixed = TRUE)
})
