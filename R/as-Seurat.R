#' Convert to a Seurat object
#'
#' Loads the matrices and turns the object into a Seurat object of the
#' installed generation (SeuratObject 4 or 5).
#'
#' @details
#' What goes where:
#'
#' | object | Seurat |
#' |---|---|
#' | X before its chain, or a layer called `counts`, if that is counts | `counts` of the assay |
#' | X with its pending operations, if it is normalised | `data` of the assay |
#' | other `layers` | layers of the assay (SeuratObject 5), left out before |
#' | `obs`, `var` | `meta.data`, `meta.features` of the assay |
#' | `var$highly_variable` | `VariableFeatures()`, in the order of `highly_variable_rank` |
#' | `obsm` | reductions; `X_pca` becomes `pca` with keys `PC_1`, others lose `X_` |
#' | `varm$PCs`, `uns$pca` | loadings and standard deviations of `pca` |
#' | `obsp` | graphs, with `graphs_mapping = TRUE` |
#' | `uns` | `misc` |
#'
#' A message says which matrix was taken for what; `assays_mapping` chooses
#' otherwise. A scaling is left out, and so is `raw`. With no matrix for `data`,
#' Seurat takes the counts for it until `NormalizeData()` is called; with `layers`
#' of SeuratObject 5 there is none until then.
#'
#' Seurat allows no underscores in names of genes: they become dashes, with a
#' message. It needs unique names: repeated ones get a suffix, with a warning.
#'
#' Memory: 12 bytes for each stored value of each matrix, twice while it is loaded;
#' one pass over the file for each. R's sparse matrices hold at most 2^31 - 1
#' values; past that loading is an error of class `scoom_error_too_large`.
#'
#' @inheritParams as_SingleCellExperiment
#' @param assay The name of the assay.
#' @param project The name of the project.
#' @param assays_mapping A named vector: for `counts` and `data`, `"X"` or the name
#'   of a layer.
#' @param meta_data_mapping Columns of `obs`.
#' @param reductions_mapping Elements of `obsm`.
#' @param graphs_mapping Elements of `obsp`.
#' @param misc_mapping Elements of `uns`.
#' @returns A Seurat object.
#' @seealso [as_SingleCellExperiment()]
#' @export
#' @examplesIf rlang::is_installed("SeuratObject")
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' as_Seurat(x[1:200, ])
as_Seurat <- function(
  x,
  assay = "RNA",
  project = "scoom",
  assays_mapping = TRUE,
  meta_data_mapping = TRUE,
  reductions_mapping = TRUE,
  graphs_mapping = FALSE,
  misc_mapping = TRUE
) {
  call <- current_env()
  check_scoom(x)
  check_string(assay)
  check_string(project)
  check_suggested("SeuratObject", "install.packages", call)
  if (any(dim(x) == 0)) {
    scoom_abort(
      c(
        "Seurat objects can't be empty.",
        x = "There are {n_obs(x)} cells and {n_vars(x)} genes."
      ),
      class = "empty",
      call = call
    )
  }
  mappings <- list(
    obs = check_frame(x, "obs", meta_data_mapping, "meta_data_mapping", call),
    obsm = check_slot(
      x,
      "obsm",
      reductions_mapping,
      "reductions_mapping",
      call
    ),
    obsp = check_slot(x, "obsp", graphs_mapping, "graphs_mapping", call),
    uns = check_slot(x, "uns", misc_mapping, "misc_mapping", call)
  )
  chosen <- seurat_layers(x, assays_mapping, call)
  names <- list(
    genes = seurat_genes(var_names(x), call),
    cells = unique_names(obs_names(x), "cell", call)
  )
  layers <- lapply(chosen, \(m) {
    values <- load_assay(m, call)
    dimnames(values) <- unname(names)
    values
  })
  # Without counts there is nothing to count; Seurat would warn about it.
  count <- if (is.null(layers$counts)) FALSE
  object <- with_options(
    SeuratObject::CreateSeuratObject(
      new_seurat_assay(layers, assay, x, names, call),
      project = project,
      assay = assay
    ),
    Seurat.object.assay.calcn = count %||%
      getOption("Seurat.object.assay.calcn")
  )
  frame <- seurat_frame(x, "obs", mappings$obs, names$cells, call)
  object <- add_meta_data(object, "meta.data", frame)
  object <- add_reductions(object, x, mappings$obsm, names, assay, call)
  object <- add_graphs(object, x, mappings$obsp, names, assay, call)
  misc <- take_elements(x, "uns", mappings$uns, call)
  if (length(misc)) {
    methods::slot(object, "misc") <- misc
  }
  object
}

# Matrices -------------------------------------------------------------------------

is_seurat5 <- function() {
  utils::packageVersion("SeuratObject") >= "5.0.0" &&
    identical(getOption("Seurat.object.assay.version", "v5"), "v5")
}

# Lazy matrices for `counts`, `data` and, where there is room, others.
seurat_layers <- function(x, mapping, call) {
  # Whatever is normalised is what Seurat calls data.
  called <- list(
    logged = "data",
    normalized = "data",
    adjusted = "data",
    other = "data"
  )
  chosen <- choose_assays(x, mapping, called, call)
  if (!any(c("counts", "data") %in% names(chosen))) {
    scoom_abort(
      c(
        "There is no matrix for {.field counts} or {.field data}.",
        i = "{.arg assays_mapping} names them, such as {.code c(counts = \"X\")}."
      ),
      class = "assay_missing",
      call = call
    )
  }
  if (!is_seurat5()) {
    extra <- setdiff(names(chosen), c("counts", "data"))
    inform_left_out(ifelse(extra == "X", "X", sprintf("layers$%s", extra)))
    chosen <- chosen[setdiff(names(chosen), extra)]
  }
  chosen
}

new_seurat_assay <- function(layers, name, x, names, call) {
  assay <- if (is_seurat5()) seurat5_assay(layers) else seurat4_assay(layers)
  SeuratObject::Key(assay) <- reduction_key(tolower(name))
  keys <- frame_names(x, "var")
  frame <- seurat_frame(x, "var", set_names(keys, keys), names$genes, call)
  assay <- if (is_seurat5()) {
    if (length(frame)) SeuratObject::AddMetaData(assay, frame) else assay
  } else {
    add_meta_data(assay, "meta.features", frame)
  }
  genes <- variable_genes_in_order(x, call)
  if (length(genes)) {
    SeuratObject::VariableFeatures(assay) <- names$genes[genes]
  }
  assay
}

# Beside Seurat's own columns, which those of the object replace. Seurat's
# AddMetaData() would change names that are not syntactic.
add_meta_data <- function(object, slot, frame) {
  own <- methods::slot(object, slot)
  own[names(frame)] <- frame
  methods::slot(object, slot) <- own
  object
}

seurat4_assay <- function(layers) {
  if (is.null(layers$counts)) {
    return(SeuratObject::CreateAssayObject(data = layers$data))
  }
  assay <- SeuratObject::CreateAssayObject(counts = layers$counts)
  if (!is.null(layers$data)) {
    assay <- set_seurat_layer(assay, "data", layers$data)
  }
  assay
}

seurat5_assay <- function(layers) {
  create <- getExportedValue("SeuratObject", "CreateAssay5Object")
  # Sparse, as Seurat makes them with a warning.
  main <- lapply(
    layers[intersect(c("counts", "data"), names(layers))],
    \(values) if (is.matrix(values)) as(values, "dgCMatrix") else values
  )
  assay <- do.call(create, main)
  for (name in setdiff(names(layers), c("counts", "data"))) {
    assay <- set_seurat_layer(assay, name, layers[[name]])
  }
  assay
}

# `slot` became `layer` in SeuratObject 5.
set_seurat_layer <- function(assay, name, values) {
  is_new <- utils::packageVersion("SeuratObject") >= "5.0.0"
  args <- list(assay, new.data = values)
  args[[if (is_new) "layer" else "slot"]] <- name
  do.call(SeuratObject::SetAssayData, args)
}

variable_genes_in_order <- function(x, call) {
  keys <- frame_names(x, "var")
  if (!"highly_variable" %in% keys) {
    return(integer())
  }
  marked <- var_column(x, "highly_variable", call)
  if (!is.logical(marked)) {
    return(integer())
  }
  marked <- which(marked)
  if ("highly_variable_rank" %in% keys) {
    rank <- var_column(x, "highly_variable_rank", call)
    marked <- marked[order(rank[marked])]
  }
  marked
}

# Names ----------------------------------------------------------------------------

seurat_genes <- function(names, call) {
  changed <- grep("[_|]", names)
  n <- length(changed)
  if (n > 0) {
    names <- gsub("[_|]", "-", names)
    scoom_inform(
      c(
        i = paste(
          "Seurat allows no underscores in names of genes: {format_count(n)}",
          "{cli::qty(n)}name{?s} {?has/have} dashes instead, such as",
          "{.val {names[[changed[[1]]]]}}."
        )
      ),
      class = "names_changed"
    )
  }
  unique_names(names, "gene", call)
}

seurat_frame <- function(x, margin, mapping, names, call) {
  frame <- view_frame(x, margin, call)
  new_frame(set_names(unclass(frame)[mapping], names(mapping)), names)
}

# Reductions and graphs --------------------------------------------------------------

add_reductions <- function(object, x, mapping, names, assay, call) {
  renamed <- names(mapping) != mapping
  names(mapping)[!renamed] <- sub("^X_", "", mapping[!renamed])
  left_out <- character()
  for (name in names(mapping)) {
    reduction <- seurat_reduction(x, name, mapping[[name]], names, assay, call)
    if (is.null(reduction)) {
      left_out <- c(left_out, paste0("obsm$", mapping[[name]]))
    } else {
      object[[name]] <- reduction
    }
  }
  inform_left_out(c(
    left_out,
    if (!is.null(field(x, "file")$raw)) "raw"
  ))
  object
}

# NULL for what Seurat can't hold: it needs a matrix of numbers.
seurat_reduction <- function(x, name, element, names, assay, call) {
  values <- view_element(x, "obsm", element, call)
  if (inherits(values, "Matrix") || is.data.frame(values)) {
    values <- as.matrix(values)
  }
  if (!is.matrix(values) || !is.numeric(values) || ncol(values) == 0) {
    return(NULL)
  }
  key <- reduction_key(name)
  axes <- paste0(key, seq_len(ncol(values)))
  dimnames(values) <- list(names$cells, axes)
  pca <- pca_of(x, element, call)
  args <- list(embeddings = values, key = key, assay = assay)
  if (!is.null(pca$loadings)) {
    genes <- names$genes[match(rownames(pca$loadings), var_names(x))]
    dimnames(pca$loadings) <- list(genes, axes)
    args$loadings <- pca$loadings
  }
  if (!is.null(pca$variance)) {
    args$stdev <- sqrt(pca$variance)
  }
  do.call(SeuratObject::CreateDimReducObject, args)
}

# The keys that Seurat's own functions use; letters and digits otherwise.
reduction_key <- function(name) {
  known <- c(pca = "PC_", umap = "UMAP_", tsne = "tSNE_")
  if (name %in% names(known)) {
    return(known[[name]])
  }
  key <- gsub("[^A-Za-z0-9]", "", name)
  paste0(if (!grepl("^[A-Za-z]", key)) "K", key, "_")
}

add_graphs <- function(object, x, mapping, names, assay, call) {
  for (name in names(mapping)) {
    values <- as(take_pairs(x, "obsp", mapping[[name]], call), "dgCMatrix")
    dimnames(values) <- list(names$cells, names$cells)
    graph <- SeuratObject::as.Graph(values)
    SeuratObject::DefaultAssay(graph) <- assay
    object[[paste0(assay, "_", name)]] <- graph
  }
  object
}
