# Sums, means and variances that read the file once and hold one number for each
# cell or gene. The first four are methods of the generics that base R, Matrix and
# Bioconductor share.

streaming_method <- function(margin, what) {
  force(margin)
  force(what)
  function(x, na.rm = FALSE, dims = 1, ...) {
    check_dims(dims)
    matrix_sums(x, margin, what)
  }
}

#' @importFrom Matrix rowSums colSums rowMeans colMeans
#' @rdname scoom_matrix
#' @exportMethod rowSums
#' @aliases rowSums,scoom_matrix-method
methods::setMethod("rowSums", "scoom_matrix", streaming_method("rows", "sum"))

#' @rdname scoom_matrix
#' @exportMethod colSums
#' @aliases colSums,scoom_matrix-method
methods::setMethod(
  "colSums",
  "scoom_matrix",
  streaming_method("columns", "sum")
)

#' @rdname scoom_matrix
#' @exportMethod rowMeans
#' @aliases rowMeans,scoom_matrix-method
methods::setMethod("rowMeans", "scoom_matrix", streaming_method("rows", "mean"))

#' @rdname scoom_matrix
#' @exportMethod colMeans
#' @aliases colMeans,scoom_matrix-method
methods::setMethod(
  "colMeans",
  "scoom_matrix",
  streaming_method("columns", "mean")
)

#' Variances of cells or genes
#'
#' Variances of the rows (cells) or columns (genes) of a lazy matrix, in one pass
#' over the file.
#'
#' @details
#' Unbiased (divided by n - 1) as [stats::var()], zeros included, accumulated in
#' double precision around the mean. Where MatrixGenerics is loaded, its `rowVars()`
#' and `colVars()` do the same. Memory: one block of the file for each
#' thread, and two numbers for each cell or gene. A file that is stored by columns
#' may be read more than once; [explain_plan()] says how often.
#'
#' @param m A lazy matrix such as `x$X`.
#' @param threads Threads to use; `NULL` for `options(scoom.threads)`.
#' @param BPPARAM A BiocParallel backend whose workers share the work, or `NULL`.
#' @returns A named numeric vector, one variance for each cell or gene.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' head(sort(col_vars(x$X), decreasing = TRUE))
col_vars <- function(m, threads = NULL, BPPARAM = NULL) {
  check_lazy_matrix(m)
  matrix_sums(m, "columns", "var", threads = threads, BPPARAM = BPPARAM)
}

#' @rdname col_vars
#' @export
row_vars <- function(m, threads = NULL, BPPARAM = NULL) {
  check_lazy_matrix(m)
  matrix_sums(m, "rows", "var", threads = threads, BPPARAM = BPPARAM)
}

check_lazy_matrix <- function(m, arg = caller_arg(m), call = caller_env()) {
  check_given(m, "a lazy matrix such as {.code x$X}", arg, call)
  if (!inherits(m, "scoom_matrix")) {
    abort_type(m, "a lazy matrix such as {.code x$X}", arg, call)
  }
}

matrix_sums <- function(
  m,
  margin,
  what,
  threads = NULL,
  BPPARAM = NULL,
  call = caller_env()
) {
  sums <- run_pass(
    rs_matrix_sums,
    matrix_plan(m, call),
    list(margin = margin),
    threads = threads,
    BPPARAM = BPPARAM,
    label = "Summing",
    call = call
  )
  set_names(sums[[what]], dimnames(m)[[if (margin == "rows") 1 else 2]])
}

check_dims <- function(dims, call = caller_env()) {
  if (!identical(as.numeric(dims), 1)) {
    abort_type(dims, "1", "dims", call)
  }
}

# Bioconductor's names for the same, for whoever has them loaded, now or later.
register_matrix_generics <- function() {
  methods <- list(rowVars = row_vars, colVars = col_vars)
  set <- function(...) {
    generics <- asNamespace("MatrixGenerics")
    # Our namespace is locked by the time that MatrixGenerics may be loaded.
    where <- new.env(parent = topenv())
    for (name in names(methods)) {
      generic <- get(name, generics)
      method <- as.function(c(
        formals(generic),
        bquote(.(methods[[name]])(x))
      ))
      methods::setMethod(generic, "scoom_matrix", method, where = where)
    }
  }
  if (isNamespaceLoaded("MatrixGenerics")) {
    set()
  }
  setHook(packageEvent("MatrixGenerics", "onLoad"), set)
}
