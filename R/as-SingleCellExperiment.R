#' Convert to a SingleCellExperiment
#'
#' Loads the matrices and turns the object into a
#' SingleCellExperiment, with genes in rows as Bioconductor has them.
#' With `lazy = TRUE` the values stay in the file.
#'
#' @details
#' What goes where:
#'
#' | object | SingleCellExperiment |
#' |---|---|
#' | X with its pending operations | assay `logcounts`, `normcounts`, `counts` or `X` |
#' | X before its chain, if that is counts and no layer is called `counts` | assay `counts` |
#' | `layers` | assays of the same names |
#' | `obs`, `var` | `colData`, `rowData` |
#' | `obsm` | `reducedDims`: `PCA`, `UMAP`, `TSNE` for `X_pca` and so on, others lose `X_` |
#' | `varm$PCs`, `uns$pca` | attributes `rotation`, `varExplained`, `percentVar` of the PCA |
#' | `obsp`, `varp` | `colPairs`, `rowPairs` |
#' | `uns` | `metadata` |
#'
#' X is `logcounts` if the chain or the file says that it holds logarithms, and
#' `counts` if nothing was done to it and its first values are whole numbers. A
#' message says what was chosen; `assays_mapping` chooses otherwise. A
#' scaling is left out, and so is `raw`: `as_SingleCellExperiment(x$raw)` converts it.
#' The base of logarithms is kept inside the object, so that [find_markers()] knows it; other
#' packages take `logcounts` as logarithms to base 2.
#'
#' The mappings are `TRUE` for everything, `FALSE` for nothing, or names of what is
#' to go along, themselves named where the new names differ:
#' `reducedDims_mapping = c(PCA = "X_pca", VI = "X_scVI")`.
#'
#' Memory: 12 bytes for each stored value of each assay (8 for each value of a
#' dense one), twice while it is loaded; one pass over the file for each. R's sparse
#' matrices hold at most 2^31 - 1 values; past that loading is an error of class
#' `scoom_error_too_large`.
#'
#' Lazy assays are DelayedMatrix objects that read the file block by block. They
#' need no memory, work wherever DelayedArray does, and follow the file: it must
#' stay where it is. Taking columns is quick in files stored by rows (cells), taking
#' rows in files stored by columns (genes).
#'
#' @param x An object opened by [open_h5ad()].
#' @param assays_mapping Matrices, `"X"` or names of layers.
#' @param colData_mapping,rowData_mapping Columns of `obs` and `var`.
#' @param reducedDims_mapping Elements of `obsm`.
#' @param colPairs_mapping,rowPairs_mapping Elements of `obsp` and `varp`.
#' @param metadata_mapping Elements of `uns`.
#' @param lazy Whether assays stay in the file.
#' @returns A SingleCellExperiment.
#' @seealso [as_Seurat()], [chunk_apply()] for work in blocks.
#' @export
#' @examplesIf rlang::is_installed("SingleCellExperiment")
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' sce <- as_SingleCellExperiment(x[1:200, ])
#' sce
#' as_SingleCellExperiment(x, assays_mapping = c(logcounts = "X"), lazy = TRUE)
as_SingleCellExperiment <- function(
  x,
  assays_mapping = TRUE,
  colData_mapping = TRUE,
  rowData_mapping = TRUE,
  reducedDims_mapping = TRUE,
  colPairs_mapping = TRUE,
  rowPairs_mapping = TRUE,
  metadata_mapping = TRUE,
  lazy = FALSE
) {
  call <- current_env()
  check_scoom(x)
  check_flag(lazy)
  check_suggested(
    c("SingleCellExperiment", if (lazy) "DelayedArray"),
    "BiocManager::install",
    call
  )
  called <- list(logged = "logcounts", normalized = "normcounts", other = "X")
  chosen <- choose_assays(x, assays_mapping, called, call)
  dims <- check_reduced_dims(x, reducedDims_mapping, call)
  taken <- list(
    colData = check_frame(x, "obs", colData_mapping, "colData_mapping", call),
    rowData = check_frame(x, "var", rowData_mapping, "rowData_mapping", call),
    colPairs = check_slot(
      x,
      "obsp",
      colPairs_mapping,
      "colPairs_mapping",
      call
    ),
    rowPairs = check_slot(
      x,
      "varp",
      rowPairs_mapping,
      "rowPairs_mapping",
      call
    ),
    metadata = check_slot(x, "uns", metadata_mapping, "metadata_mapping", call)
  )
  load <- if (lazy) delayed_assay else load_assay
  assays <- lapply(chosen, \(m) unname_dims(load(m, call)))
  sce <- SingleCellExperiment::SingleCellExperiment(
    assays = assays,
    colData = take_frame(x, "obs", taken$colData, call),
    rowData = take_frame(x, "var", taken$rowData, call),
    metadata = take_elements(x, "uns", taken$metadata, call)
  )
  dimnames(sce) <- list(var_names(x), obs_names(x))
  bases <- unlist(lapply(chosen, matrix_log_base, call))
  SingleCellExperiment::int_metadata(sce)$scoom <- list(log_base = bases)
  dims <- lapply(dims, take_dims, x, call)
  fits <- vapply(dims, \(value) length(dim(value)) == 2, NA)
  SingleCellExperiment::reducedDims(sce) <- dims[fits]
  for (name in names(taken$colPairs)) {
    pairs <- take_pairs(x, "obsp", taken$colPairs[[name]], call)
    SingleCellExperiment::colPair(sce, name) <- pairs
  }
  for (name in names(taken$rowPairs)) {
    pairs <- take_pairs(x, "varp", taken$rowPairs[[name]], call)
    SingleCellExperiment::rowPair(sce, name) <- pairs
  }
  inform_left_out(c(
    if (any(!fits)) paste0("obsm$", names(dims)[!fits]),
    if (length(setdiff(names(x$varm), "PCs"))) {
      paste0("varm$", setdiff(names(x$varm), "PCs"))
    },
    if (!is.null(field(x, "file")$raw)) "raw"
  ))
  sce
}

# Names come once, from the object.
unname_dims <- function(assay) {
  dimnames(assay) <- list(NULL, NULL)
  assay
}

check_frame <- function(x, margin, mapping, arg, call) {
  choices <- frame_names(x, margin)
  check_mapping(mapping, choices, arg, paste("column of", margin), call)
}

check_slot <- function(x, slot, mapping, arg, call) {
  choices <- field(x, "slots")[[slot]]$keys
  check_mapping(mapping, choices, arg, paste("element of", slot), call)
}

take_frame <- function(x, margin, mapping, call) {
  frame <- view_frame(x, margin, call)
  columns <- set_names(unclass(frame)[mapping], names(mapping))
  n <- if (margin == "obs") n_obs(x) else n_vars(x)
  result <- S4Vectors::make_zero_col_DFrame(n)
  for (name in names(columns)) {
    result[[name]] <- columns[[name]]
  }
  result
}

take_elements <- function(x, slot, mapping, call) {
  lapply(mapping, \(name) view_element(x, slot, name, call))
}

# Names as Bioconductor's own functions give them.
check_reduced_dims <- function(x, mapping, call) {
  dims <- check_slot(x, "obsm", mapping, "reducedDims_mapping", call)
  if (is_true(mapping)) {
    names <- sub("^X_", "", dims)
    known <- names %in% c("pca", "umap", "tsne")
    names[known] <- toupper(names[known])
    repeated <- names %in% names[duplicated(names)]
    names[repeated] <- dims[repeated]
    names(dims) <- names
  }
  dims
}

take_dims <- function(name, x, call) {
  value <- view_element(x, "obsm", name, call)
  if (is.data.frame(value)) {
    value <- S4Vectors::DataFrame(value, check.names = FALSE)
  }
  if (length(dim(value)) > 2) {
    return(value)
  }
  rownames(value) <- NULL
  if (!is.matrix(value)) {
    return(value)
  }
  pca <- pca_of(x, name, call)
  attr(value, "rotation") <- pca$loadings
  attr(value, "varExplained") <- pca$variance
  attr(value, "percentVar") <- if (!is.null(pca$variance_ratio)) {
    100 * pca$variance_ratio
  }
  value
}

#' What belongs to the scores in `obsm`: loadings and variances
#'
#' @returns `list(loadings, variance, variance_ratio)`: loadings of the genes that
#'   have any, or `NULL` each.
#' @noRd
pca_of <- function(x, name, call = caller_env()) {
  is_default <- name == "X_pca"
  key <- if (is_default) "PCs" else name
  n_comps <- ncol(view_element(x, "obsm", name, call))
  loadings <- if (key %in% names(x$varm)) view_element(x, "varm", key, call)
  if (!is.matrix(loadings) || ncol(loadings) != n_comps) {
    loadings <- NULL
  } else {
    loadings <- loadings[rowSums(loadings != 0) > 0, , drop = FALSE]
  }
  key <- if (is_default) "pca" else name
  summary <- if (key %in% names(x$uns)) view_element(x, "uns", key, call)
  per_component <- function(field) {
    value <- if (is.list(summary)) summary[[field]]
    if (is.numeric(value) && length(value) == n_comps) as.numeric(value)
  }
  list(
    loadings = loadings,
    variance = per_component("variance"),
    variance_ratio = per_component("variance_ratio")
  )
}

take_pairs <- function(x, slot, name, call) {
  value <- view_element(x, slot, name, call)
  dimnames(value) <- list(NULL, NULL)
  as(as(value, "CsparseMatrix"), "generalMatrix")
}
