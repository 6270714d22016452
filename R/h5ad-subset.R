#' Select cells and genes
#'
#' `x[cells, genes]` selects lazily: nothing is read but the names that the
#' selection needs. Selections compose, and everything follows them: `obs`, `var`,
#' `obsm`, `obsp`, layers, pending operations, and what was computed since.
#'
#' @details
#' An index is one of
#'
#' * names; a name that belongs to several cells or genes is an error;
#' * positive positions, in any order, with repeats;
#' * negative positions, which leave out;
#' * logicals, one for each cell or gene;
#' * missing, for all.
#'
#' Positions and names that are not there are errors, never `NA`.
#'
#' @param x An object opened by [open_h5ad()].
#' @param i,j Which cells (`i`) and genes (`j`).
#' @param ... Nothing; there are two dimensions.
#' @param drop Ignored: the result is always an object.
#' @returns An object of class `scoom`.
#' @name subset_scoom
#' @examples
#' x <- open_h5ad(example_h5ad())
#' b_cells <- x[x$obs$cell_type == "B cell", ]
#' b_cells[1:10, c("MS4A1", "CD79A")]
NULL

#' @rdname subset_scoom
#' @export
`[.scoom` <- function(x, i, j, ..., drop = FALSE) {
  call <- caller_env()
  n_index <- nargs() - 1 - (!missing(drop))
  if (n_index == 0 || n_index == 1 && missing(i)) {
    return(x)
  }
  if (n_index != 2) {
    scoom_abort(
      c(
        "An object has two dimensions, cells and genes.",
        i = "Select cells with {.code x[cells, ]}, genes with {.code x[, genes]}."
      ),
      class = "invalid_index",
      call = call
    )
  }
  rows <- if (!missing(i)) {
    resolve_index(i, n_obs(x), \() view_names(x, "obs", call), "cell", call)
  }
  cols <- if (!missing(j)) {
    resolve_index(j, n_vars(x), \() view_names(x, "var", call), "gene", call)
  }
  subset_genes(subset_cells(x, rows), cols)
}

# Positions of the view, from 1; NULL for all in order.
subset_cells <- function(x, index) subset_margin(x, "obs", index)

subset_genes <- function(x, index) subset_margin(x, "var", index)

subset_margin <- function(x, margin, index) {
  if (is.null(index)) {
    return(x)
  }
  which <- if (margin == "obs") "rows" else "cols"
  x <- set_field(x, which, compose(field(x, which), index))
  subset_recipe <- if (margin == "obs") recipe_rows else recipe_genes
  if (!is.null(field(x, "X"))) {
    x <- set_field(x, "X", subset_recipe(field(x, "X"), index))
  }
  names <- field(x, "names")
  if (!is.null(names[[margin]])) {
    names[[margin]] <- names[[margin]][index]
    x <- set_field(x, "names", names)
  }
  slots <- field(x, "slots")
  for (name in names(slots)) {
    set <- slots[[name]]$set
    if (name == "layers") {
      slots[[name]]$set <- lapply(set, subset_recipe, index)
      next
    }
    for (along in which(slot_margins[[name]] == margin)) {
      set <- lapply(set, \(value) {
        if (along == 1) {
          take_rows(value, index)
        } else {
          value[, index, drop = FALSE]
        }
      })
    }
    slots[[name]]$set <- set
  }
  set_field(x, "slots", slots)
}

compose <- function(outer, index) {
  if (is.null(outer)) index else outer[index]
}
