check_reference <- function(set, file) {
  index <- reference_index(set)
  keys <- index$keys
  x <- open_h5ad(shared_data_path("counts", file))
  pb <- suppressMessages(pseudobulk(x, by = keys))
  groups <- reference_table(set, "groups")
  expect_identical(nrow(pb$samples), nrow(groups))
  expect_equal(pb$samples$n_cells, groups$n_cells)
  for (key in keys) {
    codes <- groups[[paste0("code_", key)]]
    expect_identical(
      as.character(pb$samples[[key]]),
      index$levels[[key]][codes]
    )
  }
  genes <- reference_names(set, "genes")
  sums <- as.matrix(reference_table(set, "sums"))
  detected <- as.matrix(reference_table(set, "detected"))
  expect_equal(
    unname(as.matrix(pb$counts[genes, ])),
    unname(sums),
    tolerance = 0
  )
  expect_equal(unname(pb$detected[genes, ]), unname(detected), tolerance = 0)
}

test_that("sums of real data are exact", {
  check_reference("pseudobulk-kang2018", "kang2018_pbmc_ifnb_2000cells.h5ad")
  check_reference("pseudobulk-muscat", "muscat_example_sce_kang_subset.h5ad")
})

test_that("sums agree with rowsum(), whatever the chain, threads and workers", {
  x <- open_h5ad(example_h5ad())
  x <- x[withr::with_seed(1, sample(n_obs(x), 700, replace = TRUE)), 100:1]
  counts <- as.matrix(x$X)
  key <- paste(x$obs$donor, x$obs$cell_type, sep = "_")
  want <- t(rowsum(counts, key))
  by <- c("donor", "cell_type")
  pb <- pseudobulk(x, by, min_cells = 1)
  expect_setequal(colnames(pb$counts), colnames(want))
  expect_equal(pb$counts, want[, colnames(pb$counts)], tolerance = 0)
  seen <- t(rowsum((counts > 0) + 0, key))[, colnames(pb$counts)]
  expect_equal(pb$detected, seen, tolerance = 0)
  expect_identical(pb$samples$total_counts, unname(colSums(pb$counts)))
  expect_identical(rownames(pb$samples), colnames(pb$counts))
  expect_identical(pseudobulk(log_chain(x), by, min_cells = 1), pb)
  expect_identical(pseudobulk(x, by, min_cells = 1, threads = 4), pb)
  if (requireNamespace("BiocParallel", quietly = TRUE)) {
    backend <- BiocParallel::SerialParam()
    got <- pseudobulk(x, by, min_cells = 1, BPPARAM = backend)
    expect_identical(got, pb)
  }
  means <- pseudobulk(x, by, fun = "mean", min_cells = 1)
  expect_equal(means$counts, sweep(pb$counts, 2, pb$samples$n_cells, `/`))
})

test_that("columns that are constant within samples are carried over", {
  x <- open_h5ad(example_h5ad())
  x$obs$batch <- paste0("batch of ", x$obs$donor)
  x$obs$cell_number <- seq_len(n_obs(x))
  pb <- pseudobulk(x, by = "donor")
  expect_identical(pb$samples$batch, paste0("batch of ", pb$samples$donor))
  expect_false("cell_number" %in% names(pb$samples))
  # Donors are nested in conditions.
  expect_true("condition" %in% names(pb$samples))
  expect_true(all(c("cell_number", "cell_type") %in% pb$varying))
  expect_false(any(pb$varying %in% names(pb$samples)))
})

test_that("small samples are dropped and reported", {
  x <- open_h5ad(example_h5ad())
  by <- c("donor", "cell_type")
  few <- x[1:200, ]
  expect_message(
    all <- pseudobulk(few, by),
    "min_cells = 10",
    class = "scoom_message_small_samples"
  )
  expect_match(capture.output(print(all)), "fewer than 10", all = FALSE)
  expect_no_message(pseudobulk(few, by, min_cells = 1))
  sizes <- pseudobulk(x, by)$samples$n_cells
  limit <- sort(sizes)[[3]]
  expect_message(
    pb <- pseudobulk(x, by, min_cells = limit),
    class = "scoom_message_samples_dropped"
  )
  expect_identical(sum(sizes < limit), nrow(pb$dropped))
  expect_true(all(pb$samples$n_cells >= limit))
  expect_error(
    pseudobulk(x, by, min_cells = 1e6),
    class = "scoom_error_no_samples"
  )
})

test_that("matrices, Seurat and SingleCellExperiment objects are summed", {
  data <- small_matrix()
  by <- list(group = data$groups)
  pb <- pseudobulk(data$counts, by)
  expect_equal(pb$counts, t(rowsum(t(data$counts), data$groups)), tolerance = 0)
  sparse <- methods::as(data$counts, "CsparseMatrix")
  expect_identical(pseudobulk(sparse, by)$counts, pb$counts)
  if (requireNamespace("SingleCellExperiment", quietly = TRUE)) {
    sce <- SingleCellExperiment::SingleCellExperiment(
      list(counts = sparse),
      colData = data.frame(group = data$groups)
    )
    expect_identical(pseudobulk(sce, "group")$counts, pb$counts)
    expect_s4_class(as_SummarizedExperiment(pb), "SummarizedExperiment")
  }
  if (requireNamespace("SeuratObject", quietly = TRUE)) {
    object <- suppressWarnings(SeuratObject::CreateSeuratObject(sparse))
    object$group <- data$groups
    expect_identical(pseudobulk(object, "group")$counts, pb$counts)
  }
})

test_that("values that are no counts are refused", {
  data <- small_matrix()
  by <- list(group = data$groups)
  halves <- data$counts / 2
  expect_error(pseudobulk(halves, by), class = "scoom_error_not_counts")
  expect_error(pseudobulk(-data$counts, by), class = "scoom_error_not_counts")
  # Logarithms, which are what cells are tested on.
  expect_error(
    pseudobulk(log1p(data$counts), by),
    "layer",
    class = "scoom_error_not_counts"
  )
  got <- pseudobulk(halves, by, require_counts = FALSE)
  expect_equal(got$counts, pseudobulk(data$counts, by)$counts / 2)
})

test_that("impossible requests are errors that say so", {
  x <- open_h5ad(example_h5ad())
  expect_error(
    pseudobulk(x, "donr"),
    "donor",
    class = "scoom_error_column_missing"
  )
  expect_error(pseudobulk(x, character()), class = "scoom_error_invalid_input")
  expect_error(
    pseudobulk(x, "donor", fun = "max"),
    class = "scoom_error_invalid_input"
  )
  expect_error(pseudobulk(x, list(1:3)), class = "scoom_error_invalid_input")
  expect_error(pseudobulk(x[0, ], "donor"), class = "scoom_error_no_samples")
  missing <- list(group = rep(NA, n_obs(x)))
  expect_error(pseudobulk(x, missing), class = "scoom_error_invalid_group")
  expect_error(as_SummarizedExperiment(1), class = "scoom_error_invalid_input")
  pb <- pseudobulk(open_example(), "donor")
  expect_missing_package(
    as_SummarizedExperiment(pb),
    "SummarizedExperiment",
    "BiocManager::install"
  )
})

test_that("printing and subsetting", {
  x <- open_h5ad(example_h5ad())
  pb <- pseudobulk(x, by = c("donor", "cell_type"), min_cells = 1)
  expect_identical(dim(pb), dim(pb$counts))
  expect_identical(dim(pb[1:5, 2:3]), c(5L, 2L))
  expect_identical(nrow(pb[1:5, 2:3]$samples), 2L)
  expect_match(capture.output(print(pb))[[2]], "donor x cell_type")
})
