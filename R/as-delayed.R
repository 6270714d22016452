# The lazy matrix as the seed of a DelayedMatrix, genes x cells: blocks are read
# from the file when DelayedArray asks for them.

#' The seed of a lazy assay
#'
#' What a `DelayedMatrix` of [as_SingleCellExperiment()] reads from: the lazy
#' matrix `x$X` or a layer, with genes in rows.
#'
#' @param x A seed.
#' @return For `dim()` two counts, genes first; for `dimnames()` a list of names.
#' @name scoom_seed-class
#' @aliases scoom_seed dim,scoom_seed-method dimnames,scoom_seed-method
#' @keywords internal
NULL

methods::setClass("scoom_seed", slots = c(matrix = "ANY"))

delayed_assay <- function(m, call = caller_env()) {
  DelayedArray::DelayedArray(new("scoom_seed", matrix = m))
}

methods::setMethod("dim", "scoom_seed", \(x) rev(dim(x@matrix)))

methods::setMethod("dimnames", "scoom_seed", \(x) rev(dimnames(x@matrix)))

# The part at `index`, a list of positions or NULL for each dimension.
seed_part <- function(seed, index) {
  m <- seed@matrix
  cells <- index[[2]] %||% seq_len(nrow(m))
  genes <- index[[1]] %||% seq_len(ncol(m))
  m[cells, genes, drop = FALSE]
}

seed_array <- function(x, index) {
  values <- t(collect_dense(seed_part(x, index)))
  dimnames(values) <- NULL
  values
}

seed_is_sparse <- function(x) {
  m <- x@matrix
  !has_no_zeros(m) &&
    !identical(matrix_info(matrix_recipe(m), field(m, "x"))$kind, "dense")
}

# Two generations of DelayedArray, with sparse arrays of their own.
seed_sparse_array <- function(x, index) {
  values <- collect_sparse(seed_part(x, index), "genes_by_cells")
  dimnames(values) <- list(NULL, NULL)
  # The generic moved to SparseArray together with what it returns.
  generic <- get("extract_sparse_array", asNamespace("DelayedArray"))
  is_old <- identical(generic@package, "DelayedArray")
  as(values, if (is_old) "SparseArraySeed" else "SVT_SparseMatrix")
}

# Whole cells in a file stored by rows, whole genes in one stored by columns;
# about a million values.
seed_chunkdim <- function(x) {
  m <- x@matrix
  shape <- dim(x)
  by_genes <- identical(
    matrix_info(matrix_recipe(m), field(m, "x"))$kind,
    "csc"
  )
  whole <- if (by_genes) 2 else 1
  chunk <- shape
  chunk[-whole] <- max(1, min(shape[-whole], 1e6 %/% max(shape[whole], 1)))
  as.integer(chunk)
}

#' The lazy matrix of ours behind a DelayedMatrix
#'
#' @returns A lazy matrix that has the same values, cells in rows; `NULL` where there is none,
#'   because something other than a selection was done to it.
#' @noRd
lazy_behind <- function(matrix) {
  node <- matrix@seed
  index <- list(NULL, NULL)
  inner <- \(taken, index) if (is.null(index)) taken else compose(taken, index)
  while (!inherits(node, "scoom_seed")) {
    if (inherits(node, "DelayedSubset")) {
      index <- Map(inner, node@index, index)
    } else if (!inherits(node, "DelayedSetDimnames")) {
      return(NULL)
    }
    node <- node@seed
  }
  # An object has each gene once.
  if (anyDuplicated(index[[1]])) {
    return(NULL)
  }
  x <- subset_cells(field(node@matrix, "x"), index[[2]])
  new_lazy_matrix(subset_genes(x, index[[1]]), field(node@matrix, "layer"))
}

# DelayedArray is suggested only: methods are set when it is loaded.
register_delayed_methods <- function() {
  methods <- list(
    extract_array = seed_array,
    extract_sparse_array = seed_sparse_array,
    is_sparse = seed_is_sparse,
    chunkdim = seed_chunkdim
  )
  set <- function(...) {
    # Generics that DelayedArray imports are found from its namespace too.
    namespace <- asNamespace("DelayedArray")
    where <- new.env(parent = topenv())
    for (name in names(methods)) {
      generic <- get(name, namespace)
      methods::setMethod(generic, "scoom_seed", methods[[name]], where = where)
    }
  }
  if (isNamespaceLoaded("DelayedArray")) {
    set()
  }
  setHook(packageEvent("DelayedArray", "onLoad"), set)
}
