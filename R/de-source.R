# What tests and sums read: an object of ours, of Seurat's or Bioconductor's, or a
# plain matrix, as a plan with the names of its genes and the columns of its cells.

#' A source of values for tests and sums
#'
#' @param x An object with cells.
#' @param layer,use_raw Which matrix, or `NULL` and `FALSE` for the default one.
#' @param what `"tested"`: values as they are tested, the chain without scaling.
#'   `"counts"`: counts, with the selections and the downsampling of the chain alone.
#' @returns A list: `plan`; `genes`, names; `n_cells`; `columns`, names of what is
#'   known of the cells; `column(name)`; `var()`, the data frame of the genes; `groups`,
#'   the default grouping or `NULL`; `label`, what the matrix is called; `object`, the
#'   object where it is ours.
#' @noRd
de_source <- function(x, layer, use_raw, what, call) {
  UseMethod("de_source")
}

#' @export
de_source.scoom <- function(x, layer, use_raw, what, call) {
  check_flag(use_raw, call = call)
  check_string(layer, allow_null = TRUE, call = call)
  if (use_raw && !is.null(layer)) {
    scoom_abort(
      "Give either {.arg layer} or {.code use_raw = TRUE}.",
      class = "invalid_input",
      call = call
    )
  }
  plan <- scoom_plan(x, layer, use_raw, drop_scale = TRUE, call = call)
  if (what == "counts") {
    plan$ops <- Filter(is_count_op, plan$ops)
    plan["stored_log"] <- list(NULL)
  }
  genes_of <- if (use_raw) x$raw else x
  list(
    plan = plan,
    genes = var_names(genes_of),
    n_cells = n_obs(x),
    columns = frame_names(x, "obs"),
    column = \(name) obs_column(x, name, call),
    var = \() view_frame(genes_of, "var", call),
    groups = NULL,
    label = if (use_raw) {
      "raw"
    } else if (is.null(layer)) {
      "X"
    } else {
      paste0("layers$", layer)
    },
    object = x
  )
}

#' @export
de_source.Seurat <- function(x, layer, use_raw, what, call) {
  check_suggested("SeuratObject", "install.packages", call)
  refuse_raw(use_raw, call)
  assay <- SeuratObject::DefaultAssay(x)
  layer <- layer %||% if (what == "counts") "counts" else "data"
  matrix <- seurat_matrix(x, assay, layer, call)
  cells <- colnames(matrix)
  columns <- x[[]][match(cells, colnames(x)), , drop = FALSE]
  source <- matrix_source(matrix, columns, layer, call)
  source$groups <- SeuratObject::Idents(x)[cells]
  source$var <- \() as.data.frame(x[[assay]][[]])[source$genes, , drop = FALSE]
  is_data <- layer == "data" || startsWith(layer, "data.")
  source$plan["stored_log"] <- list(if (is_data) exp(1))
  source
}

# The values of a layer, under its name or as the only part of one that is split, such
# as "data.a". GetAssayData() would take "scale.data" where there is no "data".
seurat_matrix <- function(x, assay, layer, call) {
  # The argument was renamed in SeuratObject 5.
  is_new <- utils::packageVersion("SeuratObject") >= "5.0.0"
  layers <- if (is_new) {
    getExportedValue("SeuratObject", "Layers")(x[[assay]])
  } else {
    c("counts", "data", "scale.data")
  }
  parts <- layers[startsWith(layers, paste0(layer, "."))]
  name <- if (layer %in% layers) layer else parts
  if (length(name) > 1) {
    abort_split(assay, layer, parts, call)
  }
  if (length(name)) {
    args <- set_names(
      list(x, assay, name),
      c("object", "assay", if (is_new) "layer" else "slot")
    )
    matrix <- do.call(SeuratObject::GetAssayData, args)
  }
  if (!length(name) || !length(matrix)) {
    scoom_abort(
      c(
        "The assay {.val {assay}} has no {.val {layer}}.",
        i = if (layer == "data") {
          "{.code Seurat::NormalizeData()} makes it; or name a {.arg layer}."
        }
      ),
      class = "layer_missing",
      call = call
    )
  }
  n_missing <- ncol(x) - ncol(matrix)
  if (n_missing > 0) {
    scoom_inform(
      c(
        i = "{format_count(n_missing)} {cli::qty(n_missing)}cell{?s} that {.val {name}} does not hold {cli::qty(n_missing)}{?is/are} left out."
      ),
      class = "cells_left_out"
    )
  }
  matrix
}

abort_split <- function(assay, layer, parts, call) {
  joined <- c("counts", "data", "scale.data")
  named <- if (!layer %in% joined) paste0(", layers = \"", layer, "\"")
  join <- paste0("SeuratObject::JoinLayers(x", named, ")")
  scoom_abort(
    c(
      "The assay {.val {assay}} has {.val {layer}} in {length(parts)} layers.",
      x = "They are {.val {parts}}.",
      i = "{.code x <- {join}} makes one of them; or name one as {.arg layer}."
    ),
    class = "layers_split",
    call = call,
    layers = parts
  )
}

#' @export
de_source.SummarizedExperiment <- function(x, layer, use_raw, what, call) {
  check_suggested("SummarizedExperiment", "BiocManager::install", call)
  refuse_raw(use_raw, call)
  layer <- layer %||% if (what == "counts") "counts" else "logcounts"
  assays <- SummarizedExperiment::assayNames(x)
  if (!layer %in% assays) {
    abort_missing(layer, assays, "assay", "layer_missing", call)
  }
  matrix <- SummarizedExperiment::assay(x, layer)
  columns <- as.data.frame(SummarizedExperiment::colData(x), optional = TRUE)
  source <- matrix_source(matrix, columns, layer, call)
  source$var <- \() {
    as.data.frame(SummarizedExperiment::rowData(x), optional = TRUE)
  }
  # What stays in a file of ours knows by itself.
  if (!source$lazy) {
    base <- assay_log_base(x, layer) %||% if (layer == "logcounts") 2
    source$plan["stored_log"] <- list(base)
  }
  source
}

#' @export
de_source.default <- function(x, layer, use_raw, what, call) {
  is_matrix <- is.matrix(x) && (is.numeric(x) || is.logical(x))
  if (!is_matrix && !inherits(x, "Matrix") && !inherits(x, "DelayedMatrix")) {
    scoom_abort(
      c(
        "{.arg x} must be an object opened by {.fn open_h5ad}, a Seurat or SingleCellExperiment object, or a matrix with genes in rows.",
        x = "It is {.obj_type_friendly {x}}."
      ),
      class = "invalid_input",
      call = call
    )
  }
  refuse_raw(use_raw, call)
  if (!is.null(layer)) {
    scoom_abort(
      "A matrix has no {.arg layer}.",
      class = "invalid_input",
      call = call
    )
  }
  matrix_source(x, NULL, "x", call)
}

# A source that was made before: a selection of the cells of another.
#' @export
de_source.scoom_source <- function(x, layer, use_raw, what, call) x

#' Cells of a source, in any order and repeated
#'
#' @param position Positions among the cells of the source.
#' @returns A source.
#' @noRd
source_cells <- function(source, position) {
  column <- source$column
  selected <- source
  selected$plan <- recipe_rows(source$plan, position)
  selected$n_cells <- length(position)
  selected$column <- \(name) column(name)[position]
  selected["groups"] <- list(source$groups[position])
  # Its columns are no longer those of an object.
  selected["object"] <- list(NULL)
  structure(selected, class = "scoom_source")
}

refuse_raw <- function(use_raw, call) {
  if (!identical(use_raw, FALSE)) {
    scoom_abort(
      "{.arg use_raw} is for objects opened by {.fn open_h5ad}.",
      class = "invalid_input",
      call = call
    )
  }
}

# Values of a dense DelayedMatrix that are read at a time: 160 MB.
delayed_block <- 2e7

#' A DelayedMatrix as a sparse matrix in memory
#'
#' What is stored sparse is read in one go. Other matrices, such as those of HDF5Array or
#' with operations that DelayedArray knows nothing sparse of, are read in blocks of
#' columns, because they are larger than what is left of them.
#' @param n_block Values of a block.
#' @noRd
load_delayed <- function(matrix, label, call, n_block = delayed_block) {
  check_suggested("DelayedArray", "BiocManager::install", call)
  type <- DelayedArray::type(matrix)
  if (!type %in% c("double", "integer", "logical")) {
    scoom_abort(
      c(
        "{.field {label}} must hold numbers.",
        x = "It is a DelayedMatrix of type {.val {type}}."
      ),
      class = "invalid_input",
      call = call
    )
  }
  tell_loaded(matrix, label)
  if (DelayedArray::is_sparse(matrix) || !length(matrix)) {
    return(as(matrix, "CsparseMatrix"))
  }
  n_cols <- max(1, n_block %/% nrow(matrix))
  first <- seq(1, ncol(matrix), by = n_cols)
  blocks <- lapply(first, \(from) {
    to <- min(from + n_cols - 1, ncol(matrix))
    as(as.matrix(matrix[, from:to, drop = FALSE]), "CsparseMatrix")
  })
  do.call(cbind, blocks)
}

tell_loaded <- function(matrix, label) {
  shape <- as.double(dim(matrix))
  tenth <- format_bytes(1.2 * prod(shape))
  scoom_inform(
    c(
      "!" = "{.field {label}} is a {.cls {class(matrix)[[1]]}} of {format_shape(shape)} values and is brought into memory: 12 bytes for each that is not zero, {tenth} if one in ten is.",
      i = "{.fn open_h5ad} opens {.file .h5ad} files whose matrix stays where it is."
    ),
    class = "brought_into_memory"
  )
}

memory_plan <- function(matrix) {
  if (!is.matrix(matrix) && !inherits(matrix, "sparseMatrix")) {
    matrix <- as(matrix, "CsparseMatrix")
  }
  plan <- memory_recipe(matrix)
  plan$log1p <- NULL
  plan
}

# Genes in rows, as everywhere in R.
matrix_source <- function(matrix, columns, label, call) {
  is_delayed <- inherits(matrix, "DelayedMatrix")
  lazy <- if (is_delayed) lazy_behind(matrix)
  plan <- if (!is.null(lazy)) {
    matrix_plan(lazy, call)
  } else if (is_delayed) {
    memory_plan(load_delayed(matrix, label, call))
  } else {
    memory_plan(matrix)
  }
  genes <- rownames(matrix) %||% as.character(seq_len(nrow(matrix)))
  list(
    lazy = !is.null(lazy),
    plan = plan,
    genes = genes,
    n_cells = ncol(matrix),
    columns = names(columns),
    column = \(name) {
      if (!name %in% names(columns)) {
        class <- "column_missing"
        abort_missing(name, names(columns), "column of cells", class, call)
      }
      columns[[name]]
    },
    var = \() new_frame(list(), genes),
    groups = NULL,
    label = label,
    object = NULL
  )
}

# The grouping of the cells of a source: a column, a vector, or its default.
source_groups <- function(source, group_by, call, arg = "group_by") {
  if (is.null(group_by)) {
    if (is.null(source$groups)) {
      scoom_abort(
        c(
          "{.arg group_by} is missing.",
          i = if (length(source$columns)) {
            "Name a column of the cells: {.or {.val {head_of(source$columns, 10)}}}."
          } else {
            "Give a vector with one value for each cell (column of the matrix)."
          }
        ),
        class = "invalid_input",
        call = call,
        argument = "group_by"
      )
    }
    return(group_factor(source$groups, "Idents", call))
  }
  if (!is.null(source$object)) {
    return(resolve_group(source$object, group_by, call, arg))
  }
  is_name <- is_string(group_by) && length(source$columns)
  label <- if (is_name) group_by else arg
  values <- if (is_name) source$column(group_by) else group_by
  check_cell_values(values, source$n_cells, label, call)
  group_factor(values, label, call)
}

check_cell_values <- function(values, n_cells, label, call) {
  if (!is.atomic(values) || !is.null(dim(values)) || is.null(values)) {
    what <- "a column of the cells, or a vector with one value for each cell"
    abort_type(values, what, label, call)
  }
  if (length(values) != n_cells) {
    scoom_abort(
      c(
        "{.arg {label}} must have one value for each cell.",
        x = "There are {format_count(n_cells)} cells and {format_count(length(values))} values.",
        i = "A matrix has genes in rows and cells in columns."
      ),
      class = "invalid_input",
      call = call,
      argument = label
    )
  }
}

# Positions of the genes to test, or NULL for all.
source_genes <- function(source, features, call) {
  if (is.null(features)) {
    return(NULL)
  }
  n <- length(source$genes)
  if (is.function(features)) {
    features <- features(source$var())
  }
  index <- resolve_index(features, n, \() source$genes, "gene", call)
  index <- index %||% seq_len(n)
  if (!length(index) || anyDuplicated(index)) {
    scoom_abort(
      "{.arg features} must name at least one gene, each once.",
      class = "invalid_input",
      call = call,
      argument = "features"
    )
  }
  index
}

# The values of the first cells.
first_values <- function(plan, n_cells, call) {
  n <- min(n_cells, 100)
  plan <- recipe_rows(plan, seq_len(n))
  args <- list(form = "genes_by_cells")
  rs_unwrap(rs_matrix_collect(plan, args, scoom_ctx()), call)$x
}

is_whole <- function(values) all(values >= 0 & values == trunc(values))

#' Settle whether values are logarithms
#'
#' Where neither the chain nor a mark in the file says so, the first values are
#' looked at.
#' @returns The plan, with `stored_log` set where values are taken as logarithms.
#' @noRd
settle_log <- function(source, call) {
  plan <- source$plan
  if (is_dense_recipe(plan)) {
    return(plan)
  }
  has <- \(name) any(vapply(plan$ops, \(op) op$op == name, NA))
  if (!is.null(plan$stored_log) || has("log1p") || source$n_cells == 0) {
    return(plan)
  }
  # What is not finite is an error of the engine, which says where.
  values <- first_values(plan, source$n_cells, call)
  values <- values[is.finite(values)]
  # No pipeline leaves logarithms of expression above 25.
  looks_logged <- !has("normalize") &&
    !is_whole(values) &&
    all(values >= 0 & values <= 25)
  if (looks_logged) {
    plan$stored_log <- exp(1)
    scoom_inform(
      c(
        i = "{.field {source$label}} is taken as natural logarithms: its values are small and not whole."
      ),
      class = "assumed_log"
    )
  } else {
    negative <- any(values < 0)
    scoom_warn(
      c(
        "Tests run on values that are not logarithms.",
        x = if (negative) {
          "{.field {source$label}} holds negative values."
        } else if (has("normalize")) {
          "{.field {source$label}} is normalized, but its logarithm was not taken."
        } else if (is_whole(values)) {
          "{.field {source$label}} holds counts."
        },
        i = if (negative) {
          "Fold changes of scaled values mean nothing: test the values before scaling."
        } else {
          "{.code normalize_total(x) |> log1p()} comes before a test."
        }
      ),
      class = "not_logged",
      call = call
    )
  }
  plan
}
