test_that("the numbers are harmonypy's from the same centres in the same order", {
  x <- open_reduced()
  # harmonypy turns round cells whose coordinates are all negative.
  x <- x[apply(x$obsm$X_pca[, 1:10], 1, max) > 0, ]
  rep <- unname(x$obsm$X_pca[, 1:10])
  storage.mode(rep) <- "double"
  batches <- list(
    phase = factor(as.character(x$obs$phase)),
    third = factor(paste0("t", (seq_len(n_obs(x)) - 1) %% 3))
  )
  centers <- unname(as.matrix(reference_table("harmony", "centers")))
  defaults <- list(
    theta = 2,
    lambda = 1,
    sigma = 0.1,
    n_clusters = 12,
    tau = 0,
    max_iter = 10,
    seed = 0
  )
  run <- function(batches, ...) {
    harmonize(
      rep,
      batches,
      seq_len(nrow(rep)),
      utils::modifyList(defaults, list(...)),
      scoom_ctx(2),
      centers = centers,
      shuffle = FALSE
    )
  }
  cases <- list(
    phase = run(batches["phase"], max_iter = 4),
    both = run(batches, theta = c(2, 0.5), lambda = c(1, 3), tau = 5)
  )
  for (name in names(cases)) {
    found <- cases[[name]]
    expect_equal(
      found$rounds,
      reference_index("harmony")[[paste0("rounds_", name)]],
      info = name
    )
    # Sums in another order, iterated.
    expect_equal(
      found$objective,
      reference_table("harmony", paste0("objective_", name))$value,
      tolerance = 1e-8,
      info = name
    )
    # The reference is stored in float32, values up to 20.
    aligned <- as.matrix(reference_table("harmony", paste0("aligned_", name)))
    difference <- matrix(found$corrected, ncol = 10) - aligned
    expect_lt(max(abs(difference)), 2e-6)
    expect_gt(max(abs(aligned - rep)), 0.5)
  }
})

test_that("on kang2018 types mix over conditions and stay apart", {
  local_quiet()
  x <- kang_components()
  y <- suppressWarnings(
    run_harmony(x, group_by = c("donor", "condition"), max_iter = 20),
    classes = "scoom_warning_not_converged"
  )
  type <- as.character(x$obs$seurat_annotations)
  condition <- as.character(x$obs$condition)
  common <- names(which(table(type) >= 100))
  measure <- function(embedding) {
    # Conditions among cells of one type, types among all.
    mixing <- vapply(
      common,
      \(t) {
        cells <- which(type == t)
        mean(lisi(embedding[cells, ], condition[cells]))
      },
      0
    )
    known <- !is.na(type)
    list(mixing = mixing, apart = mean(lisi(embedding[known, ], type[known])))
  }
  before <- measure(x$obsm$X_pca)
  after <- measure(y$obsm$X_pca_harmony)
  # Two conditions: 1 is apart, 2 evenly mixed.
  expect_lt(before$mixing[["CD14 Mono"]], 1.1)
  expect_gt(after$mixing[["CD14 Mono"]], 1.5)
  expect_gt(mean(after$mixing), mean(before$mixing) + 0.2)
  expect_gt(mean(after$mixing), 1.5)
  # One type around each cell, as before.
  expect_lt(after$apart, before$apart + 0.1)
  # The neighbours follow the aligned embedding.
  graph <- find_neighbors(y, use_rep = "X_pca_harmony")
  expect_identical(graph$uns$neighbors$params$use_rep, "X_pca_harmony")
})

test_that("threads, runs and order of the session change no bit", {
  local_quiet()
  x <- blobs(c(120, 100, 80))
  x$obs$batch <- rep(c("a", "b", "c"), length.out = 300)
  run <- \(...) suppressWarnings(run_harmony(x, "batch", n_clusters = 5, ...))
  one <- run(threads = 1)
  for (threads in c(2, 4)) {
    other <- run(threads = threads)
    expect_identical(other$obsm$X_pca_harmony, one$obsm$X_pca_harmony)
    expect_identical(other$uns$harmony, one$uns$harmony)
  }
  expect_false(identical(
    run(seed = 1)$uns$harmony$objective,
    one$uns$harmony$objective
  ))
  withr::with_seed(1, before <- stats::runif(1))
  withr::with_seed(1, {
    run()
    expect_identical(stats::runif(1), before)
  })
})

test_that("the result says how it came about", {
  local_quiet()
  x <- blobs(c(120, 100, 80))
  x$obs$batch <- rep(c("a", "b", "c"), length.out = 300)
  y <- suppressWarnings(run_harmony(x, "batch", n_pcs = 3, key = "X_aligned"))
  expect_identical(dim(y$obsm$X_aligned), c(300L, 3L))
  expect_identical(
    names(y$uns$X_aligned),
    c("params", "converged", "n_iter", "objective", "rounds")
  )
  expect_length(y$uns$X_aligned$objective, y$uns$X_aligned$n_iter + 1)
  expect_identical(y$uns$X_aligned$params$n_clusters, 10)
  # The input stays as it is.
  expect_identical(y$obsm$X_pca, x$obsm$X_pca)
  expect_warning(
    run_harmony(x, "batch", max_iter = 1),
    class = "scoom_warning_not_converged"
  )
})

test_that("bad input has its classes", {
  local_quiet()
  x <- blobs(c(40, 30, 20))
  x$obs$batch <- rep(c("a", "b", "c"), 30)
  invalid <- "scoom_error_invalid_input"
  expect_error(run_harmony(x), class = invalid)
  expect_error(run_harmony(1, "batch"), class = invalid)
  expect_error(run_harmony(x, 1), class = invalid)
  expect_error(run_harmony(x, c("batch", "batch")), class = invalid)
  expect_error(run_harmony(x, "bach"), class = "scoom_error_column_missing")
  expect_error(
    run_harmony(x, "batch", use_rep = "X_none"),
    class = "scoom_error_element_missing"
  )
  for (bad in list(-1, NA, "a", c(1, 2), numeric())) {
    expect_error(run_harmony(x, "batch", theta = bad), class = invalid)
  }
  expect_error(run_harmony(x, "batch", lambda = 0), class = invalid)
  expect_error(run_harmony(x, "batch", sigma = 0), class = invalid)
  expect_error(run_harmony(x, "batch", tau = -1), class = invalid)
  expect_error(run_harmony(x, "batch", max_iter = 0), class = invalid)
  expect_error(run_harmony(x, "batch", seed = 0.5), class = invalid)
  expect_error(
    run_harmony(x, "batch", n_clusters = 91),
    class = "scoom_error_too_few_cells"
  )
  x$obs$one <- "a"
  x$obs$gap <- replace(x$obs$batch, 4, NA)
  expect_error(run_harmony(x, "one"), class = "scoom_error_invalid_group")
  expect_error(run_harmony(x, "gap"), class = "scoom_error_invalid_group")
  x$obs$single <- replace(x$obs$batch, 4, "d")
  expect_warning(
    suppressWarnings(
      run_harmony(x, "single"),
      classes = "scoom_warning_not_converged"
    ),
    class = "scoom_warning_small_batches"
  )
  rep <- x$obsm$X_pca
  rep[3, ] <- 0
  x$obsm$X_pca <- rep
  expect_error(run_harmony(x, "batch"), class = "scoom_error_invalid_values")
})
