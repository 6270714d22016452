skip_if_not_installed("SeuratObject")

seurat_values <- function(object, name) {
  is_new <- utils::packageVersion("SeuratObject") >= "5.0.0"
  args <- set_names(list(object, name), c("", if (is_new) "layer" else "slot"))
  do.call(SeuratObject::GetAssayData, args)
}

example_with_pca <- function() {
  open_h5ad(example_h5ad())[1:300, ] |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = 60) |>
    scale_genes(max_value = 10) |>
    run_pca(n_comps = 5)
}

test_that("counts, data and columns arrive", {
  x <- example_with_pca()
  object <- suppressMessages(as_Seurat(x))
  counts <- open_h5ad(example_h5ad())[1:300, ]
  logged <- log1p(normalize_total(counts, target_sum = 1e4))
  expect_s4_class(object, "Seurat")
  expect_identical(
    as.matrix(seurat_values(object, "counts")),
    t(as.matrix(counts$X))
  )
  expect_identical(
    as.matrix(seurat_values(object, "data")),
    t(as.matrix(logged$X))
  )
  expect_equal(object$nCount_RNA, rowSums(counts$X))
  expect_equal(colnames(object), obs_names(x))
  for (name in names(x$obs)) {
    expect_identical(object@meta.data[[name]], x$obs[[name]])
  }
  expect_equal(rownames(object@meta.data), obs_names(x))
})

test_that("variable genes come in the order of their rank", {
  x <- example_with_pca()
  object <- suppressMessages(as_Seurat(x))
  rank <- x$var$highly_variable_rank
  marked <- which(x$var$highly_variable)
  wanted <- var_names(x)[marked[order(rank[marked])]]
  expect_equal(SeuratObject::VariableFeatures(object), wanted)
  expect_equal(object[["RNA"]][["means"]][[1]], x$var$means)
})

test_that("reductions have scores, loadings, deviations and keys", {
  x <- example_with_pca()
  x$obsm$X_umap <- x$obsm$X_pca[, 1:2]
  x$obsm$X_my.own <- x$obsm$X_pca[, 1:3]
  object <- suppressMessages(as_Seurat(x))
  expect_setequal(SeuratObject::Reductions(object), c("pca", "umap", "my.own"))
  pca <- object[["pca"]]
  scores <- SeuratObject::Embeddings(pca)
  expect_equal(dimnames(scores), list(obs_names(x), paste0("PC_", 1:5)))
  expect_equal(as.vector(scores), as.vector(x$obsm$X_pca))
  loadings <- SeuratObject::Loadings(pca)
  expect_equal(rownames(loadings), var_names(x)[x$var$highly_variable])
  expect_equal(
    as.vector(loadings),
    as.vector(x$varm$PCs[x$var$highly_variable, ])
  )
  expect_equal(SeuratObject::Stdev(pca), sqrt(x$uns$pca$variance))
  expect_equal(SeuratObject::Key(object[["umap"]]), "UMAP_", ignore_attr = TRUE)
  expect_equal(
    SeuratObject::Key(object[["my.own"]]),
    "myown_",
    ignore_attr = TRUE
  )
})

test_that("columns of every type survive, missing values too", {
  x <- open_h5ad(fixture_path("columns"))
  object <- suppressMessages(as_Seurat(x))
  for (name in names(x$obs)) {
    expect_identical(object@meta.data[[name]], x$obs[[name]])
  }
})

test_that("graphs and misc go along where asked for", {
  x <- open_h5ad(fixture_path("containers"))
  expect_message(
    suppressMessages(
      object <- as_Seurat(x, graphs_mapping = "connectivities"),
      classes = "scoom_message_assays_guessed"
    ),
    class = "scoom_message_left_out"
  )
  graph <- object[["RNA_connectivities"]]
  expect_s4_class(graph, "Graph")
  expect_equal(
    as.matrix(graph),
    as.matrix(x$obsp$connectivities),
    ignore_attr = TRUE
  )
  expect_equal(SeuratObject::DefaultAssay(graph), "RNA")
  expect_equal(object@misc$cluster_colors, x$uns$cluster_colors)
  none <- suppressMessages(as_Seurat(x, misc_mapping = FALSE))
  expect_equal(none@misc, list())
  expect_length(SeuratObject::Graphs(none), 0)
})

test_that("underscores and repeated names are changed and said to be", {
  x <- open_h5ad(example_h5ad())[1:20, 1:10]
  x$var_names <- c("A_1", "A-1", "B|2", letters[1:7])
  expect_warning(
    expect_message(
      object <- as_Seurat(x),
      class = "scoom_message_names_changed"
    ),
    class = "scoom_warning_duplicate_names"
  )
  expect_equal(rownames(object), c("A-1", "A-1.1", "B-2", letters[1:7]))
  x <- suppressWarnings(open_h5ad(fixture_path("duplicate-names")))
  object <- suppressMessages(suppressWarnings(as_Seurat(x)))
  expect_equal(colnames(object), make.unique(obs_names(x)))
  expect_equal(
    unname(as.matrix(seurat_values(object, "counts"))),
    unname(t(as.matrix(x$X)))
  )
})

test_that("matrices are chosen by name, or guessed", {
  x <- open_h5ad(example_h5ad())[1:20, 1:30]
  expect_equal(
    sum(seurat_values(suppressMessages(as_Seurat(x)), "counts")),
    sum(rowSums(x$X))
  )
  x$layers$raw <- x$X
  x$X <- as.matrix(x$X) / 2
  object <- as_Seurat(x, assays_mapping = c(counts = "raw", data = "X"))
  expect_equal(
    as.matrix(seurat_values(object, "counts")),
    2 * as.matrix(seurat_values(object, "data"))
  )
  expect_error(
    as_Seurat(x, assays_mapping = c(spliced = "raw")),
    class = "scoom_error_assay_missing"
  )
  # Nothing but values that are no counts.
  x$layers$raw <- NULL
  object <- suppressMessages(as_Seurat(x))
  expect_equal(as.matrix(seurat_values(object, "data")), t(as.matrix(x$X)))
})

test_that("names of the assay and the project are the user's", {
  x <- open_h5ad(example_h5ad())[1:20, 1:30]
  object <- suppressMessages(as_Seurat(x, assay = "ADT", project = "study"))
  expect_equal(SeuratObject::Assays(object), "ADT")
  expect_equal(object@project.name, "study")
  expect_equal(unname(SeuratObject::Key(object[["ADT"]])), "adt_")
})

test_that("empty objects and other things are refused", {
  expect_error(
    as_Seurat(open_h5ad(fixture_path("no-cells"))),
    class = "scoom_error_empty"
  )
  expect_error(as_Seurat(matrix(1)), class = "scoom_error_invalid_input")
})

test_that("Seurat's own functions work on the result", {
  skip_if_not_installed("Seurat")
  object <- suppressMessages(as_Seurat(example_with_pca()))
  found <- Seurat::FindMarkers(
    object,
    "B cell",
    group.by = "cell_type",
    features = c("MS4A1", "CD79A"),
    verbose = FALSE
  )
  expect_true(all(found$avg_log2FC > 0))
})
