# The lazy matrix: an object and which of its matrices is meant.

#' Lazy matrices
#'
#' @description
#' `x$X`, `x$layers$counts` and `x$raw$X` are lazy matrices: cells in rows, genes in
#' columns, as in the file, with the values that the pending operations give
#' ([normalize_total()], [log1p()][log1p.scoom], [regress_out()], [scale_genes()] ...). They stay in the file
#' until you ask for values.
#'
#' * `m[cells, genes]` selects, lazily. One gene or one cell alone comes as a named
#'   numeric vector, unless `drop = FALSE`.
#' * `as(m, "dgCMatrix")`, `as.matrix(m)` load the values.
#' * `rowSums()`, `colSums()`, `rowMeans()`, `colMeans()`, [row_vars()] and
#'   [col_vars()] read the file once and hold one number for each cell or gene.
#' * `m$chunks(n)` and [chunk_apply()] hand out blocks of rows.
#' * `dim()`, `dimnames()`, `head()`.
#'
#' @details
#' A sparse matrix in R holds at most 2^31 - 1 values, a dense one what memory
#' holds: past that loading is an error of class `scoom_error_too_large`.
#' Scaled, residual and corrected matrices are not sparse any more; load them with
#' `as.matrix()`.
#'
#' @param x A lazy matrix.
#' @param i,j Which cells and genes: see [subset_scoom].
#' @param ... Not used.
#' @param drop Whether one row or column becomes a vector.
#' @param na.rm Not used: the file's values are never missing, and `NaN` counts.
#' @param dims Must be 1.
#' @returns `[`: a lazy matrix, or a numeric vector. `as.matrix()`: a matrix with
#'   dimnames. Sums and means: a named numeric vector.
#' @name scoom_matrix
#' @aliases scoom_matrix-class
#' @examples
#' x <- open_h5ad(example_h5ad())
#' x$X
#' x$X[1:5, c("MS4A1", "NKG7")]
#' as.matrix(x$X[1:5, c("MS4A1", "NKG7")])
#' summary(x$X[, "MS4A1"])
#' head(rowSums(x$X))
NULL

methods::setOldClass("scoom_matrix")

new_lazy_matrix <- function(x, layer = NULL) {
  structure(list(x = x, layer = layer), class = "scoom_matrix")
}

matrix_recipe <- function(m, call = caller_env()) {
  x <- field(m, "x")
  layer <- field(m, "layer")
  if (is.null(layer)) x_recipe(x, call) else layer_recipe(x, layer, call)
}

matrix_plan <- function(m, call = caller_env()) {
  scoom_plan(field(m, "x"), layer = field(m, "layer"), call = call)
}

# Whether zeros of the file have become something else.
has_no_zeros <- function(m) {
  recipe <- matrix_recipe(m)
  recipe_has(recipe, "scale") || is_dense_recipe(recipe)
}

#' @export
dim.scoom_matrix <- function(x) dim(field(x, "x"))

#' @export
dimnames.scoom_matrix <- function(x) {
  x <- field(x, "x")
  list(view_names(x, "obs"), view_names(x, "var"))
}

#' @export
length.scoom_matrix <- function(x) {
  n <- prod(dim(x))
  if (n <= .Machine$integer.max) as.integer(n) else n
}

#' @export
names.scoom_matrix <- function(x) NULL

#' @rdname scoom_matrix
#' @export
`[.scoom_matrix` <- function(x, i, j, ..., drop = TRUE) {
  call <- caller_env()
  n_index <- nargs() - 1 - (!missing(drop))
  if (n_index == 0 || n_index == 1 && missing(i)) {
    return(x)
  }
  if (n_index != 2) {
    scoom_abort(
      c(
        "A lazy matrix has two dimensions, cells and genes.",
        i = "Select with {.code m[cells, genes]}."
      ),
      class = "invalid_index",
      call = call
    )
  }
  owner <- field(x, "x")
  if (!missing(i)) {
    rows <- resolve_index(
      i,
      n_obs(owner),
      \() view_names(owner, "obs", call),
      "cell",
      call
    )
    owner <- subset_cells(owner, rows)
  }
  if (!missing(j)) {
    cols <- resolve_index(
      j,
      n_vars(owner),
      \() view_names(owner, "var", call),
      "gene",
      call
    )
    owner <- subset_genes(owner, cols)
  }
  m <- new_lazy_matrix(owner, field(x, "layer"))
  if (drop && any(dim(m) == 1) && !(missing(i) && missing(j))) {
    return(drop(collect_dense(m, call = call)))
  }
  m
}

#' @export
`[[.scoom_matrix` <- function(x, i, ...) {
  scoom_abort(
    c(
      "A lazy matrix has no elements by one index.",
      i = "Select with {.code m[cells, genes]}."
    ),
    class = "invalid_index",
    call = caller_env()
  )
}

#' @export
`[<-.scoom_matrix` <- function(x, i, j, ..., value) {
  scoom_abort(
    c(
      "The values of a file can't be assigned to.",
      i = "Load the matrix, change it, and put it into a layer: {.code x$layers$new <- m}."
    ),
    class = "read_only_field",
    call = caller_env()
  )
}

matrix_methods <- c("chunks", "shape")

#' @export
`$.scoom_matrix` <- function(x, name) {
  switch(
    name,
    chunks = function(n = NULL) matrix_chunks(x, n),
    shape = dim(x),
    abort_missing(
      name,
      matrix_methods,
      "method of a lazy matrix",
      "field_missing",
      caller_env()
    )
  )
}

#' @export
`$<-.scoom_matrix` <- function(x, name, value) `[<-.scoom_matrix`(x)

#' @export
.DollarNames.scoom_matrix <- function(x, pattern = "") {
  grep(pattern, matrix_methods, value = TRUE)
}

#' @export
print.scoom_matrix <- function(x, ...) {
  writeLines(format(x, ...))
  invisible(x)
}

#' @export
format.scoom_matrix <- function(x, ...) {
  recipe <- matrix_recipe(x)
  steps <- describe_chain(recipe)
  layer <- field(x, "layer")
  at <- if (is.null(layer)) "X" else paste0("layers/", layer)
  c(
    sprintf("<scoom_matrix> %s (cells x genes)", format_shape(dim(x))),
    paste0("    ", describe_recipe(recipe, field(x, "x"), at)),
    if (length(steps)) paste("    pending:", paste(steps, collapse = " > "))
  )
}

#' @export
str.scoom_matrix <- function(object, ...) writeLines(format(object)[[1]])

# Values ---------------------------------------------------------------------------

#' @rdname scoom_matrix
#' @export
as.matrix.scoom_matrix <- function(x, ...) collect_dense(x, call = caller_env())

#' @export
as.array.scoom_matrix <- function(x, ...) collect_dense(x, call = caller_env())

collect_dense <- function(m, call = caller_env()) {
  parts <- collect(m, "dense", call)
  # In place: `x` is ours and may be large.
  value <- parts$x
  dim(value) <- dim(m)
  dimnames(value) <- dimnames(m)
  value
}

#' Values of a lazy matrix as a sparse matrix
#'
#' @param form `"cells_by_genes"` as in the file, `"genes_by_cells"` as elsewhere in R.
#' @returns A dgCMatrix with dimnames.
#' @noRd
collect_sparse <- function(m, form = "cells_by_genes", call = caller_env()) {
  if (has_no_zeros(m)) {
    scoom_abort(
      c(
        if (is_dense_recipe(matrix_recipe(m))) {
          "Residuals and corrected values are not sparse."
        } else {
          "A scaled matrix is not sparse."
        },
        i = "{.fn as.matrix} loads it as a dense matrix."
      ),
      class = "not_sparse",
      call = call
    )
  }
  parts <- collect(m, form, call)
  names <- dimnames(m)
  new(
    "dgCMatrix",
    i = parts$i,
    p = parts$p,
    x = parts$x,
    Dim = parts$dim,
    Dimnames = if (form == "genes_by_cells") rev(names) else names
  )
}

collect <- function(m, form, call = caller_env()) {
  check_loadable(m, form, call)
  plan <- matrix_plan(m, call)
  ctx <- scoom_ctx(progress = NULL, label = "Loading", call = call)
  withCallingHandlers(
    rs_unwrap(rs_matrix_collect(plan, list(form = form), ctx), call),
    scoom_error_too_large = \(e) abort_too_large(conditionMessage(e), call)
  )
}

# What can be known to be too large before it is read.
check_loadable <- function(m, form, call) {
  x <- field(m, "x")
  if (form == "dense") {
    needed <- 8 * prod(dim(m))
    if (needed > memory_limit()) {
      reason <- sprintf(
        "%s values need %s, and there is %s.",
        format_shape(dim(m)),
        format_bytes(needed),
        format_bytes(memory_limit())
      )
      abort_too_large(reason, call)
    }
    return(invisible())
  }
  info <- matrix_info(matrix_recipe(m, call), x)
  is_whole <- is.null(field(x, "rows")) && is.null(field(x, "cols"))
  most <- .Machine$integer.max
  if (is_whole && !is.null(info) && info$kind != "dense" && info$nnz > most) {
    reason <- sprintf(
      "It has %s stored values; a sparse matrix in R holds %s.",
      format_count(info$nnz),
      format_count(most)
    )
    abort_too_large(reason, call)
  }
}

abort_too_large <- function(reason, call) {
  scoom_abort(
    c(
      "The matrix is too large to load.",
      x = verbatim(reason),
      i = "{.code m$chunks(n)} hands it out in blocks of rows, {.fn chunk_apply} applies a function to them.",
      i = "Sums, means and variances work on the file; a selection such as {.code m[cells, genes]} may fit."
    ),
    class = "too_large",
    call = call
  )
}

methods::setAs("scoom_matrix", "dgCMatrix", \(from) collect_sparse(from))
methods::setAs("scoom_matrix", "CsparseMatrix", \(from) collect_sparse(from))
methods::setAs("scoom_matrix", "sparseMatrix", \(from) collect_sparse(from))
methods::setAs("scoom_matrix", "dMatrix", \(from) collect_sparse(from))
methods::setAs("scoom_matrix", "Matrix", \(from) collect_sparse(from))
methods::setAs("scoom_matrix", "matrix", \(from) collect_dense(from))

#' @export
t.scoom_matrix <- function(x) {
  scoom_abort(
    c(
      "A lazy matrix can't be transposed.",
      i = "Load it first: {.code t(as(m, \"dgCMatrix\"))}."
    ),
    class = "not_supported",
    call = caller_env()
  )
}

#' @export
Math.scoom_matrix <- function(x, ...) {
  if (.Generic != "log1p") {
    abort_operation(.Generic, caller_env())
  }
  owner <- field(x, "x")
  owner <- set_field(owner, "X", matrix_recipe(x))
  new_lazy_matrix(add_op(owner, list(op = "log1p", base = NULL)))
}

#' @export
Ops.scoom_matrix <- function(e1, e2) abort_operation(.Generic, caller_env())

#' @export
Summary.scoom_matrix <- function(..., na.rm = FALSE) {
  abort_operation(.Generic, caller_env())
}

abort_operation <- function(name, call) {
  scoom_abort(
    c(
      "{.code {name}} is not defined for a lazy matrix.",
      i = "Load the values it needs with {.code as(m[cells, genes], \"dgCMatrix\")}, or work on blocks of rows with {.fn chunk_apply}."
    ),
    class = "not_supported",
    call = call
  )
}
