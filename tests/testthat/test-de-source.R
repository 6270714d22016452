# The same values as matrices of DelayedArray's: with what is known to be sparse, with
# what is not, in a file, with an operation that waits.
delayed_of <- function(values) {
  sparse <- methods::as(values, "CsparseMatrix")
  compact(list(
    sparse = DelayedArray::DelayedArray(sparse),
    dense = DelayedArray::DelayedArray(values),
    waiting = DelayedArray::DelayedArray(values / 2) * 2,
    file = if (requireNamespace("HDF5Array", quietly = TRUE)) {
      HDF5Array::writeHDF5Array(values, with.dimnames = TRUE)
    }
  ))
}

test_that("a DelayedMatrix is tested and summed as the matrix that it stands for", {
  skip_if_not_installed("DelayedArray")
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  find <- \(x, ...) as.list(suppressMessages(find_markers(x, ...)))
  want <- find(values, data$groups)
  for (x in delayed_of(values)) {
    expect_s4_class(x, "DelayedMatrix")
    expect_identical(find(x, data$groups), want)
  }
  by <- list(group = data$groups)
  sums <- pseudobulk(data$counts, by)
  for (x in delayed_of(data$counts)) {
    expect_identical(suppressMessages(pseudobulk(x, by)), sums)
  }
})

test_that("an assay that is a DelayedMatrix gives the same as one in memory", {
  skip_if_not_installed("SingleCellExperiment")
  skip_if_not_installed("DelayedArray")
  data <- small_matrix(n_cells = 120)
  cells <- data.frame(type = data$groups, donor = rep(paste0("s", 1:4), 30))
  made <- \(counts) {
    SingleCellExperiment::SingleCellExperiment(
      list(counts = counts, logcounts = log1p(counts) / log(2)),
      colData = cells
    )
  }
  quiet <- suppressMessages
  memory <- made(methods::as(data$counts, "CsparseMatrix"))
  want <- as.list(quiet(find_markers(memory, "type")))
  sums <- quiet(pseudobulk(memory, c("donor", "type")))
  calls <- quiet(check_calibration(memory, "donor", methods = "wilcoxon"))
  for (counts in delayed_of(data$counts)) {
    sce <- made(counts)
    got <- as.list(quiet(find_markers(sce, "type")))
    expect_equal(got, want, tolerance = 1e-12)
    expect_identical(quiet(pseudobulk(sce, c("donor", "type"))), sums)
    expect_equal(
      quiet(check_calibration(sce, "donor", methods = "wilcoxon")),
      calls
    )
  }
})

test_that("a lazy assay of ours gives what the object gives", {
  skip_if_not_installed("SingleCellExperiment")
  skip_if_not_installed("DelayedArray")
  x <- open_example()[1:200, ]
  sce <- as_SingleCellExperiment(x, c(counts = "X"), lazy = TRUE)
  by <- c("donor", "cell_type")
  expect_identical(
    as.matrix(suppressMessages(pseudobulk(sce, by))$counts),
    as.matrix(suppressMessages(pseudobulk(x, by))$counts)
  )
})

test_that("a lazy assay of ours is read from its file", {
  skip_if_not_installed("SingleCellExperiment")
  skip_if_not_installed("DelayedArray")
  local_quiet()
  x <- log1p(normalize_total(open_example()[1:200, ], target_sum = 1e4))
  sce <- as_SingleCellExperiment(x, c(logcounts = "X"), lazy = TRUE)
  not_loaded <- function(code) {
    expect_no_message(code, class = "scoom_message_brought_into_memory")
  }
  rlang::local_options(scoom.quiet = FALSE)
  not_loaded(got <- find_markers(sce, "cell_type"))
  want <- find_markers(x, "cell_type")
  expect_identical(as.list(got), as.list(want))

  # Selections of genes, in another order, and of cells, one of them twice.
  genes <- c(40:1, 51)
  cells <- c(5:150, 5)
  not_loaded(got <- find_markers(sce[genes, ][, cells], "cell_type"))
  want <- find_markers(x[cells, genes], "cell_type")
  expect_identical(as.list(got), as.list(want))

  # As a matrix, and after something that is more than a selection.
  logs <- SummarizedExperiment::assay(sce, "logcounts")
  not_loaded(got <- find_markers(logs, x$obs$cell_type))
  want <- find_markers(x, "cell_type")
  expect_equal(as.list(got), as.list(want), tolerance = 0, ignore_attr = TRUE)
  expect_message(
    twice <- find_markers(logs * 2, x$obs$cell_type),
    class = "scoom_message_brought_into_memory"
  )
  expect_equal(twice$auc, got$auc)
  expect_message(
    find_markers(logs[c(1, 1:30), ], x$obs$cell_type),
    class = "scoom_message_brought_into_memory"
  )
})

test_that("assays that we make keep the base of their logarithms", {
  skip_if_not_installed("SingleCellExperiment")
  local_quiet()
  counts <- normalize_total(open_example()[1:200, ], target_sum = 1e4)
  for (x in list(log1p(counts), log_transform(counts, base = 10))) {
    sce <- as_SingleCellExperiment(x)
    got <- find_markers(sce, "cell_type")
    want <- find_markers(x, "cell_type")
    expect_equal(as.list(got), as.list(want), tolerance = 1e-12)
  }
  # Without a note they are to base 2, as scuttle makes them.
  SingleCellExperiment::int_metadata(sce)$scoom <- NULL
  other <- find_markers(sce, "cell_type")
  expect_equal(other$auc, got$auc)
  expect_gt(max(abs(other$log2_fc - got$log2_fc)), 0.1)
})

test_that("what is brought into memory is told, once a call", {
  skip_if_not_installed("DelayedArray")
  data <- small_matrix()
  x <- DelayedArray::DelayedArray(data$counts)
  by <- list(group = data$groups)
  expect_message(
    pseudobulk(x, by),
    "30 x 60 values.*2.16 kB",
    class = "scoom_message_brought_into_memory"
  )
  told <- function(code) {
    n <- 0
    withCallingHandlers(
      code,
      scoom_message_brought_into_memory = \(m) n <<- n + 1,
      message = \(m) invokeRestart("muffleMessage")
    )
    n
  }
  logs <- log1p(x * 1.5)
  expect_identical(told(find_markers(logs, data$groups)), 1)
  sample <- rep(paste0("s", 1:4), 15)
  expect_identical(
    told(check_calibration(logs, sample, methods = "wilcoxon")),
    1
  )
  expect_identical(told(find_markers(log1p(data$counts), data$groups)), 0)
  local_quiet()
  expect_no_message(pseudobulk(x, by))
})

test_that("a DelayedMatrix that is not sparse is read in blocks of columns", {
  skip_if_not_installed("DelayedArray")
  local_quiet()
  values <- small_matrix()$counts
  x <- DelayedArray::DelayedArray(values)
  want <- methods::as(values, "CsparseMatrix")
  # Blocks of one column, of seven with a rest, of all.
  for (n_block in c(1, 7 * 30, 1e6)) {
    expect_identical(load_delayed(x, "x", NULL, n_block), want)
  }
  expect_identical(dim(load_delayed(x[, 0], "x", NULL)), c(30L, 0L))
  expect_identical(dim(load_delayed(x[0, ], "x", NULL)), c(0L, 60L))
  expect_identical(
    as.matrix(load_delayed(x > 0, "x", NULL, 100)),
    values > 0
  )
})

test_that("a DelayedMatrix of words is refused", {
  skip_if_not_installed("DelayedArray")
  x <- DelayedArray::DelayedArray(matrix(letters[1:4], 2))
  expect_error(
    find_markers(x, c("a", "b")),
    "character",
    class = "scoom_error_invalid_input"
  )
})
