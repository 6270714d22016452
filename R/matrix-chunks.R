#' Go through a lazy matrix in blocks of rows
#'
#' `chunk_apply()` calls a function with block after block of a lazy matrix.
#' `m$chunks(n)` gives an iterator for loops of your own.
#'
#' @details
#' The iterator has three functions:
#'
#' * `it$next_chunk()`: `list(rows =, matrix =)` with the positions of the
#'   block's rows in `m` and their values, or `NULL` after the last;
#' * `it$reset()`: starts again;
#' * `it$n_chunks`: how many there are.
#'
#' The matrix has cells in rows. It is a dgCMatrix, or, where the chain scales or makes
#' residuals or corrected values, a dense matrix. Blocks are read ahead in larger portions, within an eighth of
#' `options(scoom.memory)`, so that a file stored by columns is not read again for
#' each block.
#'
#' One pass over the file. What `fun` raises ends the loop.
#'
#' @param m A lazy matrix such as `x$X`.
#' @param fun A function of a block's matrix.
#' @param n Rows in a block; `NULL` for about ten million stored values.
#' @param ... Passed on to `fun`.
#' @returns A list with what `fun` returned for each block, in order.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' parts <- chunk_apply(x$X, \(m) Matrix::colSums(m > 0), n = 500)
#' detected <- Reduce(`+`, parts)
#' head(detected)
#'
#' it <- x$X$chunks(500)
#' while (!is.null(chunk <- it$next_chunk())) {
#'   print(range(chunk$rows))
#' }
chunk_apply <- function(m, fun, n = NULL, ...) {
  check_lazy_matrix(m)
  check_given(fun, "a function of a block of rows")
  fun <- as_function(fun)
  chunks <- matrix_chunks(m, n)
  results <- vector("list", chunks$n_chunks)
  for (k in seq_along(results)) {
    results[k] <- list(fun(chunks$next_chunk()$matrix, ...))
  }
  results
}

matrix_chunks <- function(m, n = NULL, call = caller_env()) {
  check_count(n, min = 1, allow_null = TRUE, call = call)
  n_rows <- nrow(m)
  row_values <- values_per_row(m, call)
  n <- min(n %||% max(1, floor(1e7 / row_values)), max(n_rows, 1))
  # A value takes 12 bytes, twice while it is turned.
  portion <- floor(option_memory(call) / 8 / (24 * row_values))
  portion <- max(1, floor(min(portion, 1e8 / row_values) / n)) * n
  n_chunks <- ceiling(n_rows / n)
  at <- 0
  buffer <- NULL
  next_chunk <- function() {
    if (at >= n_chunks) {
      buffer <<- NULL
      return(NULL)
    }
    rows <- seq.int(at * n + 1, min((at + 1) * n, n_rows))
    if (is.null(buffer) || rows[[1]] > buffer$last) {
      buffer <<- read_portion(
        m,
        rows[[1]],
        min(rows[[1]] + portion - 1, n_rows)
      )
    }
    at <<- at + 1
    list(rows = rows, matrix = buffer$take(rows - buffer$first + 1))
  }
  reset <- function() {
    at <<- 0
    buffer <<- NULL
    invisible()
  }
  structure(
    list(next_chunk = next_chunk, reset = reset, n_chunks = n_chunks),
    class = "scoom_chunks"
  )
}

# Rows `first` to `last`, so that runs of them are quick to take.
read_portion <- function(m, first, last, call = caller_env()) {
  part <- m[seq.int(first, last), , drop = FALSE]
  take <- if (has_no_zeros(m)) {
    values <- collect_dense(part, call)
    \(rows) values[rows, , drop = FALSE]
  } else {
    values <- collect_sparse(part, "genes_by_cells", call)
    \(rows) Matrix::t(values[, rows, drop = FALSE])
  }
  list(first = first, last = last, take = take)
}

# Stored values in a row, about; of the file, since selections only take away.
values_per_row <- function(m, call) {
  info <- matrix_info(matrix_recipe(m, call), field(m, "x"))
  if (is.null(info) || has_no_zeros(m) || info$kind == "dense") {
    return(max(1, ncol(m)))
  }
  max(1, min(ncol(m), info$nnz / max(1, info$shape[[1]])))
}

#' @export
print.scoom_chunks <- function(x, ...) {
  writeLines(sprintf(
    "<scoom_chunks> %s blocks; $next_chunk() gives one after the other, then NULL",
    format_count(x$n_chunks)
  ))
  invisible(x)
}
