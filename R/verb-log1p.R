#' Take logarithms
#'
#' `log1p(x)` turns the values of X into \eqn{\ln(1 + x)}; `log_transform()` does the
#' same to any base. Both are lazy.
#'
#' @details
#' Values become \eqn{\ln(1 + x) / \ln(\mathrm{base})}. `uns$log1p` records the base,
#' as scanpy does. Zeros stay zero, so a sparse matrix stays sparse.
#'
#' Taking logarithms twice is an error of class `scoom_error_already_logged`: when
#' the chain has one, when `uns/log1p` of the file says that its values are
#' logarithms (and they are not whole numbers), or when the first values of the file
#' are logarithms of cells with one common total. When they are merely small and
#' not whole, a warning of class `scoom_warning_looks_logged` says so.
#'
#' The logarithm is computed by the engine with the same bits on every machine.
#' The file is not read for it, but for its first block of rows, which is looked at.
#'
#' @param x An object opened by [open_h5ad()].
#' @param base The base of the logarithm; `NULL` for natural logarithms.
#' @returns `x`, whose X is logarithms.
#' @seealso [normalize_total()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' as.matrix(x$X[1:3, 1:5])
#'
#' open_h5ad(example_h5ad()) |>
#'   log_transform(base = 2)
log_transform <- function(x, base = NULL) {
  check_scoom(x)
  call <- current_env()
  check_number(base, allow_null = TRUE)
  if (!is.null(base) && (base <= 0 || base == 1)) {
    abort_type(base, "a positive number other than 1", "base", call)
  }
  take_log(x, base, call)
}

#' @rdname log_transform
#' @export
log1p.scoom <- function(x) {
  # Dispatched from a primitive, whose frame has no call to show.
  take_log(x, NULL, quote(log1p()))
}

take_log <- function(x, base, call) {
  check_loggable(x, call)
  op <- list(op = "log1p", base = if (!is.null(base)) as.double(base))
  x <- add_op(x, op, call)
  set_uns(x, "log1p", list(base = base))
}

check_loggable <- function(x, call) {
  recipe <- x_recipe(x, call)
  check_not_adjusted(recipe, "Can't take logarithms.", call)
  state <- chain_state(x)
  seen <- if (!known_whole(x, recipe)) peek_values(x, recipe, call)
  if (state$logged || is_true(seen$is_log_normalized)) {
    abort_logged(x, "Can't take logarithms twice.", state, call)
  }
  if (is.null(seen)) {
    return(invisible())
  }
  check_first_values(seen, x, call)
  if (!state$normalized && looks_logged(seen)) {
    scoom_warn(
      c(
        "X may hold logarithms already.",
        x = "Its first values are not whole and at most {signif(seen$max, 3)}."
      ),
      class = "looks_logged",
      call = call
    )
  }
}

# Logarithms of counts stay below 15; what is not whole and larger is something else.
looks_logged <- function(seen) {
  !is.null(seen$check$fractional) && seen$max < 15
}

abort_logged <- function(x, message, state, call) {
  layers <- field(x, "slots")$layers$keys
  scoom_abort(
    c(
      message,
      x = if (has_op(x, "log1p")) {
        "The chain of X has a logarithm."
      } else if (state$logged) {
        "{.field uns/log1p} of the file says that X holds logarithms."
      } else {
        "The values of the file are logarithms of normalised counts."
      },
      i = if (!has_op(x, "log1p") && length(layers)) {
        "If a layer holds the counts, make it X: {.code x$X <- x$layers[[{.str {layers[[1]]}}]]}."
      }
    ),
    class = "already_logged",
    call = call
  )
}
