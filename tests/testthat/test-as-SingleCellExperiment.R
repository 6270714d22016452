skip_if_not_installed("SingleCellExperiment")

logged_example <- function(cells = 1:300) {
  open_h5ad(example_h5ad())[cells, ] |>
    normalize_total(target_sum = 1e4) |>
    log1p()
}

assay_of <- function(sce, name) SummarizedExperiment::assay(sce, name)

test_that("assays are the values of the chain and the counts before it", {
  x <- logged_example()[, 1:500]
  expect_message(
    sce <- as_SingleCellExperiment(x),
    class = "scoom_message_assays_guessed"
  )
  counts <- open_h5ad(example_h5ad())[1:300, 1:500]
  expect_equal(SummarizedExperiment::assayNames(sce), c("counts", "logcounts"))
  expect_s4_class(assay_of(sce, "counts"), "dgCMatrix")
  expect_identical(as.matrix(assay_of(sce, "logcounts")), t(as.matrix(x$X)))
  expect_identical(as.matrix(assay_of(sce, "counts")), t(as.matrix(counts$X)))
  expect_equal(Matrix::colSums(assay_of(sce, "counts")), rowSums(counts$X))
  expect_equal(dimnames(sce), rev(dimnames(x$X)))
})

test_that("X is named after what it holds", {
  guessed <- function(x) {
    sce <- suppressMessages(as_SingleCellExperiment(x))
    SummarizedExperiment::assayNames(sce)
  }
  x <- open_h5ad(example_h5ad())[1:20, 1:30]
  expect_equal(guessed(x), "counts")
  expect_equal(guessed(normalize_total(x, 1e4)), c("counts", "normcounts"))
  with_layer <- log1p(x)
  with_layer$layers$counts <- x$X
  with_layer$layers$spliced <- x$X
  expect_equal(guessed(with_layer), c("counts", "logcounts", "spliced"))
  fractions <- x
  fractions$X <- as.matrix(x$X) / 3
  expect_equal(guessed(fractions), "X")
  none <- x
  none$X <- NULL
  expect_null(guessed(none))
})

test_that("a scaling is left out and said to be", {
  x <- logged_example()
  expect_message(
    sce <- as_SingleCellExperiment(scale_genes(x, max_value = 10)),
    class = "scoom_message_scale_left_out"
  )
  expect_identical(as.matrix(assay_of(sce, "logcounts")), t(as.matrix(x$X)))
})

test_that("columns keep their types, levels and missing values", {
  x <- open_h5ad(fixture_path("columns"))
  sce <- suppressMessages(as_SingleCellExperiment(x))
  obs <- as.data.frame(SummarizedExperiment::colData(sce), optional = TRUE)
  expect_equal(names(obs), names(x$obs))
  for (name in names(obs)) {
    expect_identical(obs[[name]], x$obs[[name]])
  }
  expect_true(anyNA(obs$factor))
  expect_s3_class(obs$ordered, "ordered")
  var <- as.data.frame(SummarizedExperiment::rowData(sce), optional = TRUE)
  expect_equal(unname(as.list(var)), unname(as.list(x$var)))
})

test_that("the other elements find their places", {
  x <- open_h5ad(fixture_path("containers"))
  expect_message(
    sce <- as_SingleCellExperiment(x),
    class = "scoom_message_left_out"
  )
  dims <- SingleCellExperiment::reducedDims(sce)
  expect_setequal(
    names(dims),
    c("PCA", "UMAP", "csc", "csr", "frame", "one_column")
  )
  expect_equal(as.vector(dims$PCA), as.vector(x$obsm$X_pca))
  expect_equal(rownames(dims$UMAP), obs_names(x))
  expect_equal(as.matrix(dims$csr), as.matrix(x$obsm$csr), ignore_attr = TRUE)
  pairs <- SingleCellExperiment::colPair(sce, "connectivities", asSparse = TRUE)
  expect_equal(
    as.matrix(pairs),
    as.matrix(x$obsp$connectivities),
    ignore_attr = TRUE
  )
  rows <- SingleCellExperiment::rowPair(sce, "correlation", asSparse = TRUE)
  expect_equal(
    as.matrix(rows),
    as.matrix(x$varp$correlation),
    ignore_attr = TRUE
  )
  metadata <- S4Vectors::metadata(sce)
  expect_equal(metadata$cluster_colors, x$uns$cluster_colors)
  expect_equal(names(metadata), names(x$uns))
})

test_that("components come with what scater attaches", {
  x <- run_pca(logged_example(), n_comps = 4, features = 1:50)
  sce <- suppressMessages(as_SingleCellExperiment(x))
  pca <- SingleCellExperiment::reducedDim(sce, "PCA")
  expect_equal(as.vector(pca), as.vector(x$obsm$X_pca))
  expect_equal(attr(pca, "percentVar"), 100 * x$uns$pca$variance_ratio)
  expect_equal(attr(pca, "varExplained"), x$uns$pca$variance)
  expect_equal(attr(pca, "rotation"), x$varm$PCs[1:50, ])
})

test_that("mappings choose and rename", {
  x <- run_pca(logged_example(), n_comps = 4, features = 1:50)
  sce <- as_SingleCellExperiment(
    x,
    assays_mapping = c(exprs = "X"),
    colData_mapping = c("donor", type = "cell_type"),
    rowData_mapping = FALSE,
    reducedDims_mapping = c(few = "X_pca"),
    metadata_mapping = "pca"
  )
  expect_equal(SummarizedExperiment::assayNames(sce), "exprs")
  expect_equal(names(SummarizedExperiment::colData(sce)), c("donor", "type"))
  expect_identical(sce$type, x$obs$cell_type)
  expect_equal(ncol(SummarizedExperiment::rowData(sce)), 0)
  expect_equal(SingleCellExperiment::reducedDimNames(sce), "few")
  expect_equal(names(S4Vectors::metadata(sce)), "pca")
  expect_error(
    as_SingleCellExperiment(x, assays_mapping = c(counts = "count")),
    class = "scoom_error_element_missing"
  )
  expect_error(
    as_SingleCellExperiment(x, FALSE, colData_mapping = "donr"),
    "Did you mean",
    class = "scoom_error_element_missing"
  )
  expect_error(
    as_SingleCellExperiment(
      x,
      FALSE,
      colData_mapping = c(a = "donor", a = "sex")
    ),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    as_SingleCellExperiment(x, FALSE, colData_mapping = 1),
    class = "scoom_error_invalid_input"
  )
})

test_that("lazy assays give the values of loaded ones", {
  skip_if_not_installed("DelayedArray")
  for (name in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_h5ad(fixture_path(name))[c(40:1, 41:90), 120:11]
    values <- t(as.matrix(x$X))
    sce <- as_SingleCellExperiment(x, c(counts = "X"), lazy = TRUE)
    lazy <- assay_of(sce, "counts")
    expect_s4_class(lazy, "DelayedMatrix")
    expect_identical(DelayedArray::is_sparse(lazy), name != "engine-dense")
    expect_identical(as.matrix(lazy), values)
    expect_identical(as.matrix(lazy[c(9, 2), 5:8]), values[c(9, 2), 5:8])
    expect_identical(as.matrix(lazy[0, ]), values[0, ])
    expect_equal(DelayedArray::colSums(lazy), colSums(values))
    expect_equal(as(lazy, "dgCMatrix"), as(values, "dgCMatrix"))
    # Small blocks, as on a large file.
    old <- DelayedArray::getAutoBlockSize()
    suppressMessages(DelayedArray::setAutoBlockSize(8000))
    on.exit(suppressMessages(DelayedArray::setAutoBlockSize(old)))
    expect_equal(DelayedArray::rowSums(log1p(lazy)), rowSums(log1p(values)))
  }
})

test_that("empty objects convert", {
  for (name in c("no-cells", "no-genes")) {
    x <- open_h5ad(fixture_path(name))
    sce <- suppressMessages(as_SingleCellExperiment(x))
    expect_equal(dim(sce), rev(dim(x)))
  }
})

test_that("repeated names are kept", {
  x <- suppressWarnings(open_h5ad(fixture_path("duplicate-names")))
  sce <- suppressMessages(as_SingleCellExperiment(x))
  expect_equal(dimnames(sce), list(var_names(x), obs_names(x)))
})

test_that("a matrix that R can't hold is an error with alternatives", {
  m <- open_h5ad(example_h5ad())$X
  expect_error(
    explain_too_large(m, NULL, abort("", class = "scoom_error_too_large")),
    "lazy = TRUE",
    class = "scoom_error_too_large"
  )
  expect_identical(explain_too_large(m, NULL, 1), 1)
})

test_that("a missing package is named with the command that installs it", {
  expect_error(
    check_suggested("notapackage", "BiocManager::install"),
    "BiocManager::install(\"notapackage\")",
    fixed = TRUE,
    class = "scoom_error_package_missing"
  )
})
