# Recipes and plans. A recipe says which matrix, which rows of it and what is done
# to them: list(path, size, mtime, element | matrix, rows, ops). A plan is a recipe
# as the engine takes it: scaling knows its means, `stored_log` is settled.

file_recipe <- function(file, element) {
  list(
    path = file$path,
    size = file$size,
    mtime = file$mtime,
    element = element,
    log1p = file$log1p,
    rows = NULL,
    ops = list()
  )
}

# A matrix in memory, genes x cells as everywhere in R.
memory_recipe <- function(matrix) {
  list(matrix = engine_matrix(matrix), log1p = FALSE, rows = NULL, ops = list())
}

engine_matrix <- function(matrix) {
  if (inherits(matrix, "sparseMatrix")) {
    matrix <- as(as(as(matrix, "dMatrix"), "generalMatrix"), "CsparseMatrix")
    list(
      kind = "csc",
      p = matrix@p,
      i = matrix@i,
      x = matrix@x,
      dim = matrix@Dim
    )
  } else {
    matrix <- as.matrix(matrix)
    list(kind = "dense", x = as.double(matrix), dim = dim(matrix))
  }
}

#' A value for X or a layer as a recipe
#'
#' @param value A matrix with cells in rows and genes in columns, or a lazy matrix.
#' @noRd
as_recipe <- function(x, value, label, call = caller_env()) {
  is_lazy <- inherits(value, "scoom_matrix")
  is_matrix <- is.matrix(value) && (is.numeric(value) || is.logical(value))
  if (!is_lazy && !is_matrix && !inherits(value, "Matrix")) {
    abort_type(
      value,
      "a numeric matrix (cells in rows) or a lazy matrix such as {.code x$X}",
      label,
      call
    )
  }
  if (!identical(dim(value), dim(x))) {
    scoom_abort(
      c(
        "{.field {label}} must have {format_shape(dim(x))} values, cells in rows.",
        x = "The value has {format_shape(dim(value))}.",
        i = if (identical(rev(dim(value)), dim(x))) {
          "It seems to have genes in rows: use {.fn t}."
        }
      ),
      class = "wrong_shape",
      call = call
    )
  }
  if (is_lazy) {
    return(matrix_recipe(value))
  }
  if (anyNA(value)) {
    scoom_abort(
      "{.field {label}} can't have missing values.",
      class = "invalid_values",
      call = call
    )
  }
  memory_recipe(if (is_matrix) t(value) else Matrix::t(value))
}

# Selections -------------------------------------------------------------------

recipe_rows <- function(recipe, index) {
  recipe["rows"] <- list(compose(recipe$rows, index))
  recipe$ops <- lapply(recipe$ops, op_rows, index)
  recipe
}

# What an operation knows of each cell follows a selection of cells ...
op_rows <- function(op, index) {
  switch(
    op$op,
    residuals = op$totals <- op$totals[index],
    adjust = {
      op$design <- op$design[, index, drop = FALSE]
      op["groups"] <- list(op$groups[index])
    }
  )
  op
}

# ... and what it knows of each gene a selection of genes.
op_genes <- function(op, index) {
  take <- \(value) if (!is.null(value)) value[index, , drop = FALSE]
  switch(
    op$op,
    residuals = op$shares <- op$shares[index],
    adjust = {
      op$coefficients <- take(op$coefficients)
      op$offset <- take(op$offset)
      op["scale"] <- list(take(op$scale))
    },
    scale = if (!is.null(op$mean)) {
      op$mean <- op$mean[index]
      op$sd <- op$sd[index]
    }
  )
  op
}

# After these all genes of a cell have a value.
is_dense_op <- function(op) op$op %in% c("residuals", "adjust")

is_dense_recipe <- function(recipe) any(vapply(recipe$ops, is_dense_op, NA))

# Genes are selected before operations that treat every gene by itself, so that these
# run on the selected ones alone; the engine runs no selection of genes after them.
recipe_genes <- function(recipe, index) {
  ops <- recipe$ops
  by_gene <- vapply(ops, \(op) is_dense_op(op) || op$op == "scale", NA)
  first <- seq_along(ops) <= max(0, which(!by_gene))
  select <- list(op = "select_genes", genes = index)
  recipe$ops <- c(
    append_selection(ops[first], select),
    lapply(ops[!first], op_genes, index)
  )
  recipe
}

append_selection <- function(ops, select) {
  last <- length(ops)
  if (last > 0 && ops[[last]]$op == "select_genes") {
    ops[[last]]$genes <- ops[[last]]$genes[select$genes]
    return(ops)
  }
  c(ops, list(select))
}

# The chain --------------------------------------------------------------------

#' Add an operation to the chain of X
#'
#' @param op `list(op = "downsample", rows, counts, replace, keep_fewer, seed)`,
#'   `list(op = "normalize", target, excluded)`, `list(op = "log1p", base)`,
#'   `list(op = "residuals", theta, clip, totals, shares)`, `list(op = "adjust",
#'   n_columns, design, coefficients, groups, offset, scale)` or `list(op = "scale",
#'   zero_center, max_value)`; a scaling without `mean` and `sd` gets those of the cells
#'   selected now, when they are needed.
#' @noRd
add_op <- function(x, op, call = caller_env()) {
  recipe <- x_recipe(x, call)
  check_not_scaled(recipe, call)
  if (!op$op %in% c("adjust", "scale")) {
    check_not_adjusted(recipe, "The chain can't go on so.", call)
  }
  if (op$op == "scale" && is.null(op$mean)) {
    op["rows"] <- list(recipe$rows)
    op$cells <- lapply(Filter(is_dense_op, recipe$ops), \(op) {
      op[names(op) %in% cell_fields]
    })
  }
  recipe$ops <- c(recipe$ops, list(op))
  set_field(x, "X", recipe)
}

# What operations know of cells; see op_rows().
cell_fields <- c("totals", "design", "groups")

check_not_scaled <- function(recipe, call) {
  if (recipe_has(recipe, "scale")) {
    scoom_abort(
      c(
        "X is scaled already.",
        i = "Scaling is the last operation of a chain; start again from the object before {.fn scale_genes}."
      ),
      class = "already_scaled",
      call = call
    )
  }
}

#' Refuse values that have no zeros any more
#'
#' @param message What can't be done.
#' @noRd
check_not_adjusted <- function(recipe, message, call) {
  op <- Find(is_dense_op, recipe$ops)
  if (is.null(op)) {
    return(invisible())
  }
  verb <- op$verb %||% "normalize_pearson_residuals"
  what <- if (verb == "combat") "corrected values" else "residuals"
  scoom_abort(
    c(
      message,
      x = "{.field X} holds {what} of {.fn {verb}}.",
      i = "Start again from the object before {.fn {verb}}."
    ),
    class = "already_adjusted",
    call = call,
    verb = verb
  )
}

x_recipe <- function(x, call = caller_env()) {
  recipe <- field(x, "X")
  if (is.null(recipe)) {
    check_not_unread(x, "X", call)
    layers <- field(x, "slots")$layers$keys
    scoom_abort(
      c(
        "This object has no {.field X}.",
        i = if (length(layers)) {
          "It has layers: {.code x$X <- x$layers[[{.str {layers[[1]]}}]]} makes one of them X."
        },
        i = if (!is.null(field(x, "file")$raw)) {
          "It has {.field raw}: {.code x$raw} is an object of its own."
        }
      ),
      class = "x_missing",
      call = call
    )
  }
  recipe
}

recipe_has <- function(recipe, name) {
  any(vapply(recipe$ops, \(op) op$op == name, NA))
}

has_op <- function(x, name) {
  recipe <- field(x, "X")
  !is.null(recipe) && recipe_has(recipe, name)
}

# What the chain of X has done so far. `log_base` is NULL for natural logarithms
# and for values that are none.
chain_state <- function(x) {
  recipe <- field(x, "X")
  log <- Find(\(op) op$op == "log1p", recipe$ops)
  stored <- if (!is.null(recipe)) stored_log(x, recipe)
  list(
    normalized = recipe_has(recipe, "normalize"),
    logged = !is.null(log) || !is.null(stored),
    log_base = log$base %||% if (!identical(stored, exp(1))) stored,
    scaled = recipe_has(recipe, "scale"),
    stored_log = stored
  )
}

# Plans ------------------------------------------------------------------------

#' The plan of a matrix of an object
#'
#' @param layer A layer, or `NULL` for X with its chain. Layers of the file come
#'   as they are stored; the chain belongs to X.
#' @param use_raw Take `raw`, as it is stored.
#' @param drop_scale Leave out a scaling.
#' @returns The list that `rs_*` functions take as `plan`.
#' @noRd
scoom_plan <- function(
  x,
  layer = NULL,
  use_raw = FALSE,
  drop_scale = FALSE,
  call = caller_env()
) {
  if (use_raw) {
    raw <- raw_view(x)
    if (is.null(raw)) {
      scoom_abort(
        c(
          "This object has no {.field raw}.",
          i = "Use {.code use_raw = FALSE}."
        ),
        class = "raw_missing",
        call = call
      )
    }
    return(scoom_plan(raw, drop_scale = drop_scale, call = call))
  }
  recipe <- if (is.null(layer)) {
    x_recipe(x, call)
  } else {
    layer_recipe(x, layer, call)
  }
  recipe_plan(x, recipe, drop_scale, call)
}

layer_recipe <- function(x, layer, call = caller_env()) {
  check_string(layer, call = call)
  slot <- field(x, "slots")$layers
  if (!layer %in% slot$keys) {
    check_not_unread(x, paste0("layers/", layer), call)
    abort_missing(layer, slot$keys, "layer", "layer_missing", call)
  }
  if (layer %in% names(slot$set)) {
    return(slot$set[[layer]])
  }
  file <- field(x, "file")
  recipe <- file_recipe(file, file$layers[[layer]]$element)
  recipe["rows"] <- list(field(x, "rows"))
  cols <- field(x, "cols")
  if (is.null(cols)) recipe else recipe_genes(recipe, cols)
}

recipe_plan <- function(x, recipe, drop_scale = FALSE, call = caller_env()) {
  if (!is.null(recipe$path)) {
    check_stamp(recipe, call)
  }
  plan <- recipe[intersect(
    c("path", "size", "mtime", "element", "matrix", "rows", "ops"),
    names(recipe)
  )]
  # Set by tests alone, to cut a small file into several ranges. It is part of the
  # plan, so that workers cut alike.
  plan$range_values <- getOption("scoom.range_values")
  if (drop_scale) {
    plan$ops <- Filter(\(op) op$op != "scale", plan$ops)
  }
  plan["stored_log"] <- list(stored_log(x, recipe, call))
  plan$ops <- lapply(seq_along(plan$ops), \(k) {
    op <- plan$ops[[k]]
    if (op$op == "scale") resolve_scale(x, plan, k, call) else op
  })
  plan
}

# Means and standard deviations of the cells that were selected when the chain
# was scaled, of the genes that are selected now.
resolve_scale <- function(x, plan, k, call) {
  op <- plan$ops[[k]]
  if (is.null(op$mean)) {
    before <- plan
    before["rows"] <- list(op$rows)
    before$ops <- plan$ops[seq_len(k - 1)]
    dense <- vapply(before$ops, is_dense_op, NA)
    before$ops[dense] <- Map(
      \(op, cells) c(without(op, names(cells)), cells),
      before$ops[dense],
      op$cells
    )
    key <- paste0("scale:", hash(before))
    moments <- cached(x, key, \() {
      args <- list(margin = "columns")
      run_pass(
        rs_matrix_sums,
        before,
        args,
        label = "Moments for scaling",
        call = call
      )
    })
    op$mean <- moments$mean
    # A gene that does not vary stays as it is, centred.
    sd <- sqrt(moments$var)
    op$sd <- replace(sd, !is.finite(sd) | sd == 0, 1)
  }
  op[c("rows", "cells")] <- NULL
  op
}

#' The base of logarithms that the file holds
#'
#' scanpy marks an object whose logarithm was taken in `uns/log1p`. Layers and
#' raw of such a file may hold counts all the same, so the first values are looked
#' at: counts are whole numbers.
#' @returns The base, or `NULL`.
#' @noRd
stored_log <- function(x, recipe, call = caller_env()) {
  if (!is_true(recipe$log1p)) {
    return(NULL)
  }
  base <- cached(x, paste0("log1p:", recipe$path, ":", recipe$element), \() {
    if (holds_counts(x, recipe, call)) NA_real_ else log_base_of_file(x, call)
  })
  if (is.na(base)) NULL else base
}

log_base_of_file <- function(x, call) {
  file <- field(x, "file")
  base <- rs_unwrap(
    rs_h5ad_read(file$path, file$size, file$mtime, "uns/log1p"),
    call
  )$base
  if (is.numeric(base) && length(base) == 1) as.double(base) else exp(1)
}

# Whether the first stored values are whole numbers from zero on.
holds_counts <- function(x, recipe, call = caller_env()) {
  plan <- recipe[c("path", "size", "mtime", "element")]
  info <- rs_unwrap(rs_plan_info(plan, scoom_ctx()), call)
  plan$rows <- seq_len(min(info$n_obs, 100))
  args <- list(form = "genes_by_cells")
  values <- rs_unwrap(rs_matrix_collect(plan, args, scoom_ctx()), call)$x
  all(values >= 0 & values == trunc(values))
}
