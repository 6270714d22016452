#' Scale genes to unit variance
#'
#' Subtracts the mean of every gene and divides by its standard deviation. Lazy:
#' only [run_pca()] and what you read from `x$X` yourself use the scaled values.
#'
#' @details
#' Values become \eqn{z_{ij} = (x_{ij} - m_j) / s_j}, with mean \eqn{m_j} and standard
#' deviation \eqn{s_j} (divisor \eqn{n - 1}) over the cells that are selected now. A
#' gene that does not vary has \eqn{s_j = 1}. With `max_value` \eqn{c}, larger values
#' become \eqn{c} and, when centred, those below \eqn{-c} become \eqn{-c}.
#'
#' After [normalize_pearson_residuals()], [regress_out()] or [combat()] the residuals or
#' corrected values are scaled. Otherwise nothing becomes dense: zeros of a gene share one value, which the engine keeps
#' apart. Means and deviations come from [find_variable_genes()] where it has read
#' the same cells, otherwise from one pass over the file when they are first
#' needed. Tests such as [find_markers()] leave scaling out.
#'
#' Scaling twice is an error of class `scoom_error_already_scaled`; a file whose first values
#' are negative may hold scaled values, and a message of class `scoom_message_looks_scaled` says so.
#'
#' Memory: 16 bytes per gene; that of the pass is in [find_variable_genes()]. What is
#' computed on a scaled matrix stays sparse, but `as.matrix(x$X)` is dense, and
#' `as(x$X, "dgCMatrix")` an error of class `scoom_error_not_sparse`.
#'
#' @param x An object opened by [open_h5ad()].
#' @param zero_center Whether to subtract means.
#' @param max_value Values are clipped to this; `NULL` for no clipping. A common
#'   choice is 10.
#' @returns `x`, whose X is scaled.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   scale_genes(max_value = 10)
#' as.matrix(x$X[1:3, 1:5])
scale_genes <- function(x, zero_center = TRUE, max_value = NULL) {
  check_scoom(x)
  check_flag(zero_center)
  check_number(max_value, allow_null = TRUE)
  call <- current_env()
  if (!is.null(max_value) && max_value <= 0) {
    abort_type(max_value, "a number above 0", "max_value", call)
  }
  op <- list(
    op = "scale",
    zero_center = zero_center,
    max_value = if (!is.null(max_value)) as.double(max_value)
  )
  note_scaled(
    x,
    x_recipe(x, call),
    NULL,
    "{.fn run_pca} takes it as it is.",
    call
  )
  known <- known_moments(x, call)
  if (!is.null(known)) {
    op$mean <- known$mean
    op$sd <- known$sd
  }
  add_op(x, op, call)
}

# Counts and logarithms have no negative values, z-scores have. A chain of either is not
# looked at: its verbs have refused them.
note_scaled <- function(x, recipe, layer, hint, call) {
  ours <- !vapply(recipe$ops, is_count_op, NA)
  seen <- if (!any(ours)) peek_values(x, recipe, call)
  if (is.null(seen$check$negative$first)) {
    return(invisible())
  }
  what <- if (is.null(layer)) "X" else paste0("layers$", layer)
  scoom_inform(
    c(
      "!" = "{.field {what}} has negative values: it may be scaled already.",
      i = hint
    ),
    class = "looks_scaled"
  )
}

# Means and deviations of the genes selected now, if the same cells were read.
known_moments <- function(x, call) {
  moments <- field(x, "moments")
  now <- matrix_state(x, x_recipe(x, call))
  if (
    !same_values(moments$state, now) || !identical(moments$state$rows, now$rows)
  ) {
    return(NULL)
  }
  at <- positions_in(moments$state$cols, now$cols)
  if (anyNA(at)) {
    return(NULL)
  }
  at <- at %||% seq_len(n_vars(x))
  # A gene that does not vary stays as it is, centred.
  sd <- sqrt(moments$var[at])
  list(mean = moments$mean[at], sd = replace(sd, !is.finite(sd) | sd == 0, 1))
}
