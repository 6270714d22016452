# What conversions share: which matrix becomes which assay, which elements go
# along, and loading the values.

#' The assays that a conversion makes
#'
#' @param mapping `TRUE` to guess, `FALSE` for none, or a named vector: names of
#'   assays, and for each the matrix, `"X"` or the name of a layer.
#' @param called What X is called by what it holds, unless that is counts: `logged`,
#'   `normalized`, `other`, and `adjusted` unless `residuals` and `corrected` will do.
#' @returns A named list of lazy matrices.
#' @noRd
choose_assays <- function(x, mapping, called, call = caller_env()) {
  x <- without_scaling(x)
  if (is_false(mapping)) {
    return(set_names(list(), character()))
  }
  if (is_true(mapping)) {
    return(guess_assays(x, called, call))
  }
  mapping <- check_mapping(
    mapping,
    c(if (!is.null(field(x, "X"))) "X", names(x$layers)),
    "assays_mapping",
    "matrix",
    call
  )
  lapply(mapping, \(name) {
    new_lazy_matrix(x, layer = if (name != "X") name)
  })
}

# Scaled values are dense and serve PCA alone.
without_scaling <- function(x) {
  if (!has_op(x, "scale")) {
    return(x)
  }
  scoom_inform(
    c(
      i = "{.fn scale_genes} is left out: {.field X} goes along as it was before.",
      i = "{.code as.matrix(x$X)} has the scaled values."
    ),
    class = "scale_left_out"
  )
  set_field(x, "X", without_scale(field(x, "X")))
}

guess_assays <- function(x, called, call) {
  layers <- names(x$layers)
  assays <- set_names(lapply(layers, \(name) x$layers[[name]]), layers)
  from <- set_names(sprintf("layers$%s", layers), layers)
  recipe <- field(x, "X")
  if (!is.null(recipe)) {
    name <- name_of_x(x, recipe, called, call)
    if (name %in% layers) {
      name <- "X"
    }
    assays[[name]] <- x$X
    from[[name]] <- "X"
    source <- unprocessed(x)
    is_processed <- !identical(field(source, "X")$ops, recipe$ops)
    if (
      is_processed &&
        !"counts" %in% names(assays) &&
        looks_raw(source, field(source, "X"), call)
    ) {
      assays[["counts"]] <- source$X
      from[["counts"]] <- "X before its chain"
    }
  }
  # The names that others look for come first.
  order <- union(
    intersect(c("counts", called$logged), names(assays)),
    names(assays)
  )
  if (length(assays)) {
    scoom_inform(
      c(i = "Assays: {paste(order, 'from', from[order])}."),
      class = "assays_guessed"
    )
  }
  assays[order]
}

name_of_x <- function(x, recipe, called, call) {
  state <- chain_state(x)
  adjusted <- Find(is_dense_op, rev(recipe$ops))
  if (!is.null(adjusted)) {
    called$adjusted %||%
      if (identical(adjusted$verb, "combat")) "corrected" else "residuals"
  } else if (state$logged) {
    called$logged
  } else if (state$normalized) {
    called$normalized
  } else if (looks_raw(x, recipe, call)) {
    "counts"
  } else {
    called$other
  }
}

# The object with the counts of X.
unprocessed <- function(x) {
  recipe <- field(x, "X")
  recipe$ops <- Filter(is_count_op, recipe$ops)
  set_field(x, "X", recipe)
}

#' Which elements go along, under which names
#'
#' @param mapping `TRUE` for all under their names, `FALSE` for none, or a vector of
#'   names, itself named where the new names differ.
#' @param choices The names that there are.
#' @param what What they are, for messages.
#' @returns A named character vector: new names, old names.
#' @noRd
check_mapping <- function(mapping, choices, arg, what, call = caller_env()) {
  if (is_true(mapping)) {
    return(set_names(choices, choices))
  }
  if (is_false(mapping) || length(mapping) == 0) {
    return(set_names(character(), character()))
  }
  mapping <- unlist(mapping)
  if (!is.character(mapping) || anyNA(mapping)) {
    abort_type(
      mapping,
      "{.code TRUE}, {.code FALSE} or a named character vector",
      arg,
      call
    )
  }
  new <- names(mapping) %||% rep("", length(mapping))
  new <- ifelse(nzchar(new), new, mapping)
  for (name in setdiff(mapping, choices)) {
    abort_missing(name, choices, what, "element_missing", call)
  }
  if (anyDuplicated(new)) {
    scoom_abort(
      "{.arg {arg}} names {.val {new[duplicated(new)][[1]]}} twice.",
      class = "invalid_input",
      call = call,
      argument = arg
    )
  }
  set_names(unname(mapping), new)
}

# The values of a lazy matrix, genes x cells: sparse where the file is sparse.
load_assay <- function(m, call = caller_env()) {
  recipe <- matrix_recipe(m, call)
  is_dense <- is_dense_recipe(recipe) ||
    identical(recipe$matrix$kind, "dense") ||
    identical(matrix_info(recipe, field(m, "x"))$kind, "dense")
  explain_too_large(m, call, {
    if (is_dense) {
      t(collect_dense(m, call))
    } else {
      collect_sparse(m, "genes_by_cells", call)
    }
  })
}

# The error of a matrix that R can't hold, with the ways out of a conversion.
explain_too_large <- function(m, call, expr) {
  tryCatch(
    expr,
    scoom_error_too_large = \(e) {
      scoom_abort(
        c(
          "The matrix is too large to load.",
          x = "It is {format_shape(dim(m))}; a sparse matrix of R holds at most 2^31 - 1 values.",
          i = "Select cells or genes first, such as {.code x[, x$var$highly_variable]}.",
          i = "{.code as_SingleCellExperiment(x, lazy = TRUE)} leaves the values in the file.",
          i = "{.fn pseudobulk} and {.fn find_markers} work on the file as it is."
        ),
        class = "too_large",
        call = call
      )
    }
  )
}

# Says which elements have no place in the result.
inform_left_out <- function(what) {
  if (length(what)) {
    scoom_inform(
      c(i = "Left out, for want of a place: {.field {what}}."),
      class = "left_out",
      elements = what
    )
  }
}

# The base of the logarithms that a lazy matrix holds; NULL if it holds none.
matrix_log_base <- function(m, call = caller_env()) {
  recipe <- matrix_recipe(m, call)
  if (recipe_has(recipe, "log1p")) {
    plan_log_base(recipe)
  } else {
    stored_log(field(m, "x"), recipe, call)
  }
}

# The base that as_SingleCellExperiment() noted for an assay; NULL if it did not.
assay_log_base <- function(x, assay) {
  if (!inherits(x, "SingleCellExperiment")) {
    return(NULL)
  }
  bases <- SingleCellExperiment::int_metadata(x)$scoom$log_base
  if (assay %in% names(bases)) bases[[assay]]
}
