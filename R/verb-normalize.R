#' Normalise every cell to the same total
#'
#' Divides the counts of every cell by the cell's total and multiplies them by
#' `target_sum`. Lazy when the target is given; without one, the median total is
#' found first, in one pass over the file.
#'
#' @details
#' 1. A cell's total \eqn{t_i} is the sum over the genes that are selected now, as in
#'    scanpy's `normalize_total()`.
#' 2. With `exclude_highly_expressed`, genes that take more than `max_fraction` of
#'    the total in any cell are left out of the totals, but are scaled as all
#'    others. One more pass finds them.
#' 3. Without `target_sum` the target \eqn{T} is the median of the totals above zero
#'    over the cells that are selected now. No pass is needed when
#'    [calc_qc_metrics()] has computed the totals of the same genes.
#' 4. Values become \eqn{(x_{ij} T) / t_i}, rounded once, so that equal shares stay
#'    equal. Cells without counts stay as they are: zero. Where the totals are known, from
#'    the pass for the median or from [calc_qc_metrics()] on the same genes, a message of
#'    class `scoom_message_empty_cells` says how many.
#'
#' The first values of the file are looked at, unless [calc_qc_metrics()] has found whole
#' numbers only: negative values and logarithms are errors. Normalising twice warns.
#'
#' Memory of a pass: 16 bytes per cell and about 40 MB per thread.
#'
#' @inheritParams calc_qc_metrics
#' @param target_sum The common total; `NULL` for the median.
#' @param exclude_highly_expressed Whether to leave genes with a large share out of
#'   the totals.
#' @param max_fraction The share, from 0 to 1.
#' @returns `x`, whose X is normalised.
#' @references
#' Weinreb, Wolock, Klein (2018) SPRING: a kinetic interface for visualizing high
#' dimensional single-cell expression data. *Bioinformatics* 34, 1246 (for leaving
#' out highly expressed genes). \doi{10.1093/bioinformatics/btx792}
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4)
#' range(rowSums(x$X))
normalize_total <- function(
  x,
  target_sum = NULL,
  exclude_highly_expressed = FALSE,
  max_fraction = 0.05,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  check_scoom(x)
  check_number(target_sum, allow_null = TRUE)
  check_flag(exclude_highly_expressed)
  check_number(max_fraction, min = 0, max = 1)
  call <- current_env()
  if (!is.null(target_sum) && target_sum <= 0) {
    abort_type(target_sum, "a number above 0", "target_sum", call)
  }
  check_normalizable(x, call)
  pass <- function(fn, args) {
    run_pass(
      fn,
      scoom_plan(x, call = call),
      args,
      threads = threads,
      BPPARAM = BPPARAM,
      progress = progress,
      label = "Totals of cells",
      call = call
    )
  }
  excluded <- integer()
  if (exclude_highly_expressed) {
    args <- list(max_fraction = max_fraction)
    excluded <- pass(rs_qc_highly_expressed, args)
    scoom_inform(
      "{length(excluded)} highly expressed gene{?s} {?is/are} left out of the totals.",
      class = "genes_excluded"
    )
  }
  # A cell that has excluded genes alone is not empty.
  totals <- if (!length(excluded)) known_totals(x)
  if (is.null(target_sum)) {
    found <- median_total(x, totals, excluded, pass, call)
    target_sum <- found$median
    totals <- if (!length(excluded)) found$totals
  }
  note_empty_cells(totals)
  op <- list(
    op = "normalize",
    target = as.double(target_sum),
    excluded = excluded
  )
  add_op(x, op, call)
}

# The median of the totals above zero, and the totals, which take a pass where they are
# not known.
median_total <- function(x, totals, excluded, pass, call) {
  found <- if (is.null(totals)) {
    pass(rs_qc_totals, list(excluded = excluded))
  } else {
    list(totals = totals, median = rs_unwrap(rs_qc_median(totals), call))
  }
  if (!is.null(found$check)) {
    check_count_values(found$check, x, call, note = FALSE)
  }
  if (is.nan(found$median)) {
    scoom_abort(
      c(
        "There is no median total.",
        x = if (n_obs(x) == 0) {
          "There are no cells."
        } else {
          "No cell has a count."
        },
        i = "Give {.arg target_sum}."
      ),
      class = "no_counts",
      call = call
    )
  }
  found
}

note_empty_cells <- function(totals) {
  n <- sum(totals == 0)
  if (n == 0) {
    return(invisible())
  }
  scoom_inform(
    c(
      "!" = "{counted(n, 'cell')} {cli::qty(n)}{?has/have} no counts and {?stays/stay} zero.",
      i = "{.fn calc_qc_metrics} and then {.code filter_cells(x, total_counts > 0)} remove {cli::qty(n)}{?it/them}."
    ),
    class = "empty_cells"
  )
}

check_normalizable <- function(x, call) {
  recipe <- x_recipe(x, call)
  check_not_adjusted(recipe, "Only counts can be normalised.", call)
  state <- chain_state(x)
  # All values were looked at where metrics were computed on them.
  seen <- if (!known_whole(x, recipe)) peek_values(x, recipe, call)
  if (state$logged || is_true(seen$is_log_normalized)) {
    abort_logged(x, "Can't normalise logarithms.", state, call)
  }
  if (!is.null(seen)) {
    check_first_values(seen, x, call)
  }
  if (state$normalized) {
    scoom_warn(
      c(
        "X is normalised already.",
        i = "It is normalised once more."
      ),
      class = "already_normalized",
      call = call
    )
  }
}
