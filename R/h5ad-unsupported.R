# What base R would do to an object or a lazy matrix as if it were a list, said in
# the field's words instead.

methods::setOldClass(c("scoom_raw", "scoom"))

abort_sums <- function(name) {
  force(name)
  function(x, na.rm = FALSE, dims = 1, ...) {
    scoom_abort(
      c(
        "{.fn {name}} needs a matrix, and an object has several.",
        i = "Take one: {.code {name}(x$X)}, or {.code {name}(x$layers$name)}."
      ),
      class = "not_supported",
      call = caller_env()
    )
  }
}

for (name in c("rowSums", "colSums", "rowMeans", "colMeans")) {
  methods::setMethod(name, "scoom", abort_sums(name))
}
rm(name)

abort_bind <- function(call) {
  scoom_abort(
    c(
      "Objects and lazy matrices can't be put together.",
      i = "{.code x[cells, genes]} selects and repeats cells and genes of one file.",
      i = "Load what is small enough first: {.code as(x$X, \"dgCMatrix\")}."
    ),
    class = "not_supported",
    call = call
  )
}

#' @export
rbind.scoom <- function(..., deparse.level = 1) abort_bind(caller_env())

#' @export
cbind.scoom <- rbind.scoom

#' @export
c.scoom <- function(...) abort_bind(caller_env())

#' @export
rbind.scoom_matrix <- rbind.scoom

#' @export
cbind.scoom_matrix <- rbind.scoom

#' @export
c.scoom_matrix <- c.scoom

abort_arithmetic <- function(name, call) {
  scoom_abort(
    c(
      "{.code {name}} is not defined for an object.",
      i = "The values are {.code x$X}; {.fn log1p} and {.fn log_transform} take logarithms."
    ),
    class = "not_supported",
    call = call
  )
}

#' @export
Math.scoom <- function(x, ...) abort_arithmetic(.Generic, caller_env())

#' @export
Ops.scoom <- function(e1, e2) abort_arithmetic(.Generic, caller_env())

#' @export
Summary.scoom <- function(..., na.rm = FALSE) {
  abort_arithmetic(.Generic, caller_env())
}

#' @export
t.scoom <- function(x) abort_arithmetic("t()", caller_env())

# The number of cells, as AnnData's.
#' @export
length.scoom <- function(x) n_obs(x)
