# Pearson residuals by base R.
residuals_of <- function(counts, theta = 100, clip = sqrt(nrow(counts))) {
  mu <- outer(rowSums(counts), colSums(counts)) / sum(counts)
  z <- (counts - mu) / sqrt(mu + mu^2 / theta)
  z[mu == 0] <- 0
  pmin(pmax(z, -clip), clip)
}

with_residuals <- function(x, ...) quietly(normalize_pearson_residuals(x, ...))

test_that("residuals are those of base R", {
  counts <- small_counts()
  x <- object_of(counts)
  expect_equal(
    dense(with_residuals(x)),
    residuals_of(counts),
    tolerance = 1e-12
  )
  expect_equal(
    dense(with_residuals(x, theta = 3, clip = 0.7)),
    residuals_of(counts, 3, 0.7),
    tolerance = 1e-12
  )
  expect_equal(dense(with_residuals(x, clip = 0)), 0 * counts)
  y <- with_residuals(x)
  expect_equal(
    y$uns$pearson_residuals_normalization,
    list(theta = 100, clip = sqrt(30), computed_on = "X")
  )
})

test_that("cells and genes selected afterwards keep their residuals", {
  counts <- small_counts()
  y <- with_residuals(object_of(counts))
  cells <- c(7, 2, 2, 30, 11)
  genes <- c(5, 12, 1, 5)
  expected <- residuals_of(counts)[cells, genes]
  expect_equal(dense(y[cells, genes]), expected, tolerance = 1e-12)
  expect_equal(dense(y[, genes][cells, ]), expected, tolerance = 1e-12)
  expect_equal(
    dense(y[cells, ][2:3, genes]),
    expected[2:3, ],
    tolerance = 1e-12
  )
  expect_equal(dim(dense(y[integer(), ])), c(0, 12))
  expect_equal(dim(dense(y[, integer()])), c(30, 0))
  before <- with_residuals(object_of(counts)[, 1:4])
  expect_equal(dense(before), residuals_of(counts[, 1:4]), tolerance = 1e-12)
  expect_equal(unserialize(serialize(y, NULL))$X |> as.matrix(), as.matrix(y$X))
})

test_that("metrics spare the pass and change nothing", {
  x <- open_h5ad(example_h5ad())[1:200, ]
  from_metrics <- with_residuals(quietly(calc_qc_metrics(x)))
  expect_identical(dense(from_metrics), dense(with_residuals(x)))
})

test_that("residuals agree with scanpy", {
  path <- shared_data_path("counts", "pbmc3k_raw.h5ad")
  index <- reference_index("adjusted-pbmc3k")
  x <- quietly(open_h5ad(path) |> filter_genes(min_cells = index$min_cells))
  expect_equal(n_vars(x), index$n_genes)
  cells <- reference_names("adjusted-pbmc3k", "cells")
  genes <- reference_names("adjusted-pbmc3k", "genes")
  value <- \(y) t(unname(as.matrix(y$X[cells, genes])))
  expected <- \(name) {
    unname(as.matrix(reference_table("adjusted-pbmc3k", name)))
  }
  # Both work in double precision and divide once or twice.
  expect_equal(
    value(with_residuals(x)),
    expected("residuals"),
    tolerance = 1e-12
  )
  expect_equal(
    value(with_residuals(x, theta = 10, clip = 3)),
    expected("residuals_10_3"),
    tolerance = 1e-12
  )
  y <- quietly(
    calc_qc_metrics(x, gene_sets = list(mt = "^MT-")) |>
      normalize_total(target_sum = 1e4) |>
      log1p()
  )
  # The counts' totals of the genes that are left; the reference has those of all genes.
  whole <- quietly(calc_qc_metrics(open_h5ad(path)))
  y$obs$depth <- whole$obs$total_counts
  y$obs$mt <- whole$obs$total_counts_mt / whole$obs$total_counts
  # scanpy inverts the cross product of the raw columns: 1e-9 of values around 1.
  expect_equal(
    value(quietly(regress_out(y, c("depth", "mt")))),
    expected("regressed"),
    tolerance = 1e-8
  )
})

test_that("what is computed on residuals is what base R computes", {
  counts <- small_counts()
  z <- residuals_of(counts)
  y <- with_residuals(object_of(counts))
  expect_equal(unname(colMeans(y$X)), colMeans(z), tolerance = 1e-12)
  expect_equal(unname(col_vars(y$X)), apply(z, 2, var), tolerance = 1e-12)
  expect_equal(unname(rowSums(y$X)), rowSums(z), tolerance = 1e-11)
  parts <- chunk_apply(y$X, \(m) m, n = 7)
  expect_true(all(vapply(parts, is.matrix, NA)))
  expect_equal(unname(do.call(rbind, parts)), z, tolerance = 1e-12)
})

test_that("components of residuals are those of prcomp", {
  set.seed(1)
  counts <- matrix(rpois(80 * 15, rep(1:15, each = 80)), 80)
  z <- residuals_of(counts)
  y <- quietly(run_pca(with_residuals(object_of(counts)), n_comps = 4))
  expected <- prcomp(z)
  expect_equal(y$uns$pca$variance, expected$sdev[1:4]^2, tolerance = 1e-10)
  sign <- sign(colSums(y$varm$PCs * expected$rotation[, 1:4]))
  expect_equal(
    unname(y$obsm$X_pca),
    unname(sweep(expected$x[, 1:4], 2, sign, `*`)),
    tolerance = 1e-8
  )
  # Scaled and clipped, and of some genes.
  y <- with_residuals(object_of(counts)) |>
    scale_genes(max_value = 1.2) |>
    run_pca(n_comps = 3, features = 2:9) |>
    quietly()
  clipped <- pmin(pmax(scale(z[, 2:9]), -1.2), 1.2)
  expect_equal(
    y$uns$pca$variance,
    prcomp(clipped)$sdev[1:3]^2,
    tolerance = 1e-10
  )
})

test_that("threads, workers, slices and packing do not change a bit", {
  withr::local_options(scoom.quiet = TRUE, scoom.range_values = 3000)
  x <- open_h5ad(example_h5ad())
  adjust <- function(x, ...) {
    x |>
      normalize_total(target_sum = 1e4) |>
      log1p() |>
      regress_out("condition", ...) |>
      combat("donor", ...)
  }
  genes <- 1:60
  values <- \(x) dense(x[, genes])
  one <- adjust(x, threads = 1)
  expected <- values(one)
  expect_identical(values(adjust(x, threads = 4)), expected)
  withr::with_options(
    list(scoom.memory = "1MB"),
    expect_identical(values(adjust(x)), expected)
  )
  residuals <- normalize_pearson_residuals(x, threads = 1)
  pca <- \(...) {
    run_pca(residuals, features = genes, n_comps = 5, ...)$obsm$X_pca
  }
  expect_identical(pca(threads = 4), pca(threads = 1))
  skip_if_not_installed("BiocParallel")
  skip_on_cran()
  # Workers load the installed package.
  withr::local_envvar(
    R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep)
  )
  workers <- BiocParallel::SnowParam(2)
  expect_identical(values(adjust(x, BPPARAM = workers)), expected)
  expect_identical(
    dense(normalize_pearson_residuals(x, BPPARAM = workers)[, genes]),
    dense(residuals[, genes])
  )
  expect_identical(pca(BPPARAM = workers), pca())
})

test_that("scaling takes the moments of the cells that were there", {
  counts <- small_counts()
  z <- residuals_of(counts)
  y <- scale_genes(with_residuals(object_of(counts))[1:20, ])[
    c(3, 9, 3),
    c(5, 1)
  ]
  mean <- colMeans(z[1:20, ])
  sd <- apply(z[1:20, ], 2, sd)
  expected <- sweep(sweep(z, 2, mean), 2, sd, `/`)[c(3, 9, 3), c(5, 1)]
  expect_equal(dense(y), expected, tolerance = 1e-10)
  expect_error(scale_genes(y), class = "scoom_error_already_scaled")
  expect_error(
    quietly(regress_out(y, "donor")),
    class = "scoom_error_already_scaled"
  )
  expect_error(
    quietly(combat(y, "donor")),
    class = "scoom_error_already_scaled"
  )
  expect_error(with_residuals(y), class = "scoom_error_already_scaled")
})

test_that("conversions take the values", {
  counts <- small_counts()
  y <- with_residuals(object_of(counts)[-30, ])
  expect_error(as(y$X, "dgCMatrix"), class = "scoom_error_not_sparse")
  skip_if_not_installed("SingleCellExperiment")
  sce <- quietly(as_SingleCellExperiment(y))
  got <- SummarizedExperiment::assay(sce, "residuals")
  expect_equal(unname(t(got)), dense(y))
  expect_true("counts" %in% SummarizedExperiment::assayNames(sce))
  skip_if_not_installed("SeuratObject")
  seurat <- suppressWarnings(quietly(as_Seurat(y)))
  data <- suppressWarnings(SeuratObject::GetAssayData(seurat, slot = "data"))
  expect_equal(unname(t(as.matrix(data))), dense(y))
})

test_that("tests use the residuals and give no fold changes", {
  x <- open_h5ad(example_h5ad())[, 1:40]
  y <- with_residuals(x)
  group <- x$obs$condition
  expect_message(
    found <- find_markers(
      y,
      "condition",
      method = "t-test",
      reference = levels(group)[[2]]
    ),
    class = "scoom_message_tests_on_residuals"
  )
  expect_true(all(is.na(found$log2_fc)))
  z <- as.matrix(y$X)
  first <- found[found$group == levels(group)[[1]], ][1:5, ]
  for (k in 1:5) {
    value <- z[, first$feature[[k]]]
    in_group <- group == levels(group)[[1]]
    in_reference <- group == levels(group)[[2]]
    test <- t.test(value[which(in_group)], value[which(in_reference)])
    expect_equal(first$p_value[[k]], test$p.value, tolerance = 1e-8)
    expect_equal(
      first$mean_group[[k]],
      mean(value[which(in_group)]),
      tolerance = 1e-10
    )
  }
  wilcoxon <- quietly(find_markers(
    y,
    "condition",
    reference = levels(group)[[2]]
  ))
  row <- wilcoxon[wilcoxon$feature == first$feature[[1]], ][1, ]
  value <- z[, first$feature[[1]]]
  test <- wilcox.test(
    value[which(group == row$group)],
    value[which(group == row$reference)],
    exact = FALSE
  )
  expect_equal(row$p_value, test$p.value, tolerance = 1e-8)
  for (args in list(
    list(min_log2_fc = 1),
    list(only_up = TRUE),
    list(compat = "scanpy")
  )) {
    expect_error(
      quietly(do.call(find_markers, c(list(y, "condition"), args))),
      class = "scoom_error_no_fold_changes"
    )
  }
  # Sums are of the counts below the chain.
  expect_equal(
    quietly(pseudobulk(y, "donor"))$counts,
    quietly(pseudobulk(x, "donor"))$counts
  )
})

test_that("what belongs before is refused", {
  y <- with_residuals(object_of(small_counts()))
  class <- "scoom_error_already_adjusted"
  expect_error(quietly(normalize_total(y)), class = class)
  expect_error(log1p(y), class = class)
  expect_error(log_transform(y, 2), class = class)
  expect_error(with_residuals(y), class = class)
  expect_error(quietly(calc_qc_metrics(y)), class = class)
  expect_error(quietly(filter_genes(y, min_cells = 2)), class = class)
  expect_error(quietly(find_variable_genes(y)), class = class)
  expect_error(log1p(y$X), class = class)
})

test_that("bad input is refused or told of", {
  x <- object_of(small_counts())
  expect_error(
    normalize_pearson_residuals(x, theta = 0),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    normalize_pearson_residuals(x, clip = -1),
    class = "scoom_error_invalid_input"
  )
  expect_message(
    normalize_pearson_residuals(x),
    class = "scoom_message_cells_without_counts"
  )
  expect_error(with_residuals(x[30, ]), class = "scoom_error_no_counts")
  expect_error(with_residuals(x[integer(), ]), class = "scoom_error_no_counts")
  expect_error(
    with_residuals(log1p(x)),
    class = "scoom_error_already_logged"
  )
  expect_error(
    with_residuals(normalize_total(x, target_sum = 10)),
    class = "scoom_error_already_normalized"
  )
  expect_warning(
    with_residuals(object_of(small_counts() * 20.5)),
    class = "scoom_warning_not_counts"
  )
  expect_error(
    with_residuals(object_of(scale(small_counts()[-30, -12]))),
    class = "scoom_error_invalid_values"
  )
})

test_that("the chain says what it does, and what that costs", {
  y <- with_residuals(object_of(small_counts()), clip = 5)
  expect_match(
    format(y$X)[[3]],
    "Pearson residuals with theta 100, clipped at 5"
  )
  x <- open_h5ad(example_h5ad())
  capture.output(before <- explain_plan(x))
  capture.output(after <- explain_plan(with_residuals(x)))
  bytes <- \(plan, name) {
    plan$verbs$memory_bytes[
      plan$verbs$verb == name & plan$verbs$method %in% c(NA, "wilcoxon")
    ]
  }
  # The test holds all values, components what they are computed from.
  more <- 9 * (prod(dim(x)) - before$n_values)
  expect_equal(
    bytes(after, "find_markers"),
    bytes(before, "find_markers") + more
  )
  expect_equal(bytes(after, "run_pca"), bytes(before, "run_pca"))
})

# What leaves no zeros is never held as a whole: 4,000 cells and 8,192 genes would be 262 MB.
test_that("residuals and corrected values stay within the memory that is explained", {
  skip_if_not(reset_peak_memory())
  local_quiet()
  withr::local_options(scoom.memory = "32MB", scoom.threads = 1)
  counts <- \(gene, cell) (gene * 7 + cell * 13 + (gene * cell) %% 17) %% 11
  x <- open_h5ad(local_wide_h5ad(4000, counts))
  x$obs$batch <- rep_len(c("a", "b", "c"), n_obs(x))
  x$obs$age <- seq_len(n_obs(x)) %% 37
  logs <- log1p(normalize_total(x, target_sum = 1e4))
  explained <- function(x, verb, ...) {
    capture.output(e <- explain_plan(x, verb, ...))
    e$verbs$memory_bytes / 1e6
  }
  dense_mb <- 8 * prod(dim(x)) / 1e6
  # Tables of genes that R holds meanwhile, in and out of the engine, and what its
  # allocator keeps between calls.
  of_genes <- 20 * 8 * 3 * n_vars(x) / 1e6
  slack <- 16 + of_genes
  expect_within <- function(code, bound) {
    measured <- measure(code)
    expect_lt(measured$report$peak_mb, bound + slack)
    expect_lt(measured$report$peak_mb, dense_mb / 2)
    measured$value
  }
  # Buffers that the first read leaves behind are no part of what follows.
  col_vars(x$X)
  made <- list(
    expect_within(
      normalize_pearson_residuals(x),
      explained(x, "normalize_pearson_residuals")
    ),
    expect_within(regress_out(logs, "age"), explained(logs, "regress_out")),
    expect_within(
      combat(logs, "batch", "age"),
      explained(logs, "combat", n_groups = 3)
    )
  )
  for (y in made) {
    expect_true(is_dense_recipe(x_recipe(y)))
    # A pass over all of the values.
    variance <- expect_within(col_vars(y$X), explained(y, "colSums"))
    expect_true(all(variance > 0))
  }
})

test_that("genes are fitted in as many reads as are explained", {
  local_quiet()
  withr::local_options(scoom.memory = "1MB", scoom.threads = 1)
  x <- log1p(normalize_total(open_example(), target_sum = 1e4))
  columns <- withr::with_seed(1, matrix(stats::rnorm(6 * n_obs(x)), ncol = 6))
  names <- paste0("covariate", 1:6)
  for (k in 1:6) {
    x$obs[[names[[k]]]] <- columns[, k]
  }
  reads_of <- function(code) {
    before <- file_reads()
    force(code)
    file_reads() - before
  }
  explained <- function(verb, ...) {
    capture.output(e <- explain_plan(x, verb, ...))
    e$verbs$passes
  }
  # 80 bytes a gene with six columns, 40 a batch with one; partials of four runs in half of
  # the budget.
  wanted <- ceiling(80 * 2000 * 4 / 5e5)
  expect_identical(explained("regress_out"), wanted)
  expect_equal(reads_of(regress_out(x, names)), wanted, tolerance = 1e-6)
  n_batches <- length(unique(x$obs$donor))
  wanted <- ceiling(40 * n_batches * 2000 * 4 / 5e5)
  expect_identical(explained("combat", n_groups = n_batches), wanted)
  expect_equal(
    reads_of(combat(x, "donor", names[[1]])),
    wanted,
    tolerance = 1e-6
  )
})
