#' Keep cells or genes that meet conditions
#'
#' Conditions are R expressions over the columns of `obs` (cells) or `var` (genes),
#' evaluated at once; what is kept becomes a lazy selection, as by `x[i, j]`.
#'
#' @details
#' Several conditions all have to hold. A condition that is `NA` for a cell or gene
#' drops it; a message says how many. `.data` and `.env` of rlang and `!!` work.
#'
#' `min_cells`, `max_cells`, `min_counts` and `max_counts` of `filter_genes()` are
#' counted over the cells selected now: in one pass over the file, or in none where
#' [calc_qc_metrics()] has counted the same cells. A cell counts for a gene when its
#' value is not zero. Conditions on the columns `n_cells` or `total_counts`
#' read what is in `var`; when cells were dropped or counts downsampled since, that warns with
#' class `scoom_warning_stale_qc`.
#'
#' A message says how many are kept; a warning when none is.
#' A condition that is not one `TRUE` or `FALSE` for each cell or gene is an error of
#' class `scoom_error_invalid_condition`.
#'
#' Memory of the pass: that of [calc_qc_metrics()].
#'
#' @inheritParams calc_qc_metrics
#' @param ... Conditions: logical expressions over columns of `obs` or `var`.
#' @param layer The layer to count in; `NULL` for X.
#' @param min_cells,max_cells Least and largest number of cells in which a gene is
#'   detected; `NULL` for no bound. Bounds are kept.
#' @param min_counts,max_counts Least and largest sum of a gene's values.
#' @returns `x` with the cells or genes that are kept, in their order.
#' @seealso [calc_qc_metrics()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   calc_qc_metrics() |>
#'   filter_cells(n_genes >= 200, pct_mt < 20) |>
#'   filter_genes(min_cells = 3)
#' dim(x)
filter_cells <- function(x, ...) {
  check_scoom(x)
  keep <- meets_conditions(x, "obs", enquos(...), current_env())
  keep_margin(x, "obs", keep)
}

#' @rdname filter_cells
#' @export
filter_genes <- function(
  x,
  ...,
  layer = NULL,
  min_cells = NULL,
  max_cells = NULL,
  min_counts = NULL,
  max_counts = NULL,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  check_scoom(x)
  check_string(layer, allow_null = TRUE)
  check_number(min_cells, allow_null = TRUE)
  check_number(max_cells, allow_null = TRUE)
  check_number(min_counts, allow_null = TRUE)
  check_number(max_counts, allow_null = TRUE)
  call <- current_env()
  keep <- meets_conditions(x, "var", enquos(...), call)
  by_cells <- !is.null(min_cells) || !is.null(max_cells)
  by_counts <- !is.null(min_counts) || !is.null(max_counts)
  if (by_cells || by_counts) {
    found <- known_gene_counts(x, layer) %||%
      count_genes(x, layer, by_counts, threads, BPPARAM, progress, call)
    keep <- keep &
      in_bounds(found$n_cells, min_cells, max_cells) &
      in_bounds(found$counts, min_counts, max_counts)
  }
  keep_margin(x, "var", keep)
}

in_bounds <- function(values, least, largest) {
  values >= (least %||% -Inf) & values <= (largest %||% Inf)
}

# Cells and counts of every gene, from one pass. Which values are zero does not
# depend on normalisation and logarithm, so that these are not computed for cells.
count_genes <- function(x, layer, by_counts, threads, BPPARAM, progress, call) {
  if (is.null(layer)) {
    message <- "Genes are filtered by their counts."
    check_not_adjusted(x_recipe(x, call), message, call)
  }
  plan <- scoom_plan(x, layer = layer, drop_scale = TRUE, call = call)
  if (!by_counts) {
    plan$ops <- Filter(is_count_op, plan$ops)
  }
  found <- run_pass(
    rs_qc_metrics,
    plan,
    list(sets = list(), tops = numeric()),
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress,
    label = "Counting genes",
    call = call
  )
  check_count_values(found$check, x, call, note = FALSE)
  list(n_cells = found$gene_detected, counts = found$gene_totals)
}

# Conditions ---------------------------------------------------------------------

# TRUE for the cells ("obs") or genes ("var") that meet all conditions.
meets_conditions <- function(x, margin, conditions, call) {
  n <- if (margin == "obs") n_obs(x) else n_vars(x)
  keep <- rep(TRUE, n)
  if (!length(conditions)) {
    return(keep)
  }
  check_unnamed(conditions, margin, call)
  used <- condition_columns(x, margin, conditions)
  warn_stale_qc(x, margin, used, call)
  columns <- lapply(set_names(used), \(name) {
    frame_column(x, margin, name, call)
  })
  for (condition in conditions) {
    keep <- keep & evaluate_condition(condition, columns, x, margin, n, call)
  }
  n_missing <- sum(is.na(keep))
  if (n_missing > 0) {
    what <- margin_word(margin)
    scoom_inform(
      c(
        i = "{format_count(n_missing)} {what}{cli::qty(n_missing)}{?s} {?is/are} dropped because a condition is {.val {NA}}."
      ),
      class = "condition_missing"
    )
  }
  !is.na(keep) & keep
}

margin_word <- function(margin) if (margin == "obs") "cell" else "gene"

# A condition with a name is an assignment where a comparison was meant.
check_unnamed <- function(conditions, margin, call) {
  named <- names2(conditions)
  named <- named[nzchar(named)]
  if (!length(named)) {
    return(invisible())
  }
  name <- named[[1]]
  value <- as_label(conditions[[name]])
  scoom_abort(
    c(
      "Conditions can't have names.",
      x = "{.code {name} = {value}} is none.",
      i = if (!grepl("^(min|max)_", name)) {
        "Compare with {.code {name} == {value}} or {.code {name} >= {value}}."
      } else if (margin == "obs") {
        "Bounds are conditions on columns, such as {.code n_genes >= 200}."
      } else {
        "The bounds are {.arg min_cells}, {.arg max_cells}, {.arg min_counts} and {.arg max_counts}."
      }
    ),
    class = "invalid_input",
    call = call
  )
}

# Columns that conditions may read: those they name, or all for `.data`.
condition_columns <- function(x, margin, conditions) {
  have <- frame_names(x, margin)
  named <- unlist(lapply(conditions, \(q) all.names(quo_squash(q))))
  if (".data" %in% named) have else intersect(have, named)
}

evaluate_condition <- function(condition, columns, x, margin, n, call) {
  value <- tryCatch(
    eval_tidy(condition, data = columns),
    error = function(e) abort_condition(condition, e, x, margin, call)
  )
  if (is.logical(value) && length(value) %in% c(1L, n)) {
    return(rep_len(as.vector(value), n))
  }
  what <- margin_word(margin)
  scoom_abort(
    c(
      "A condition must be {.code TRUE} or {.code FALSE} for every {what}.",
      x = if (is.logical(value)) {
        "{.code {as_label(condition)}} has {format_count(length(value))} values for {format_count(n)} {what}s."
      } else {
        "{.code {as_label(condition)}} is {.obj_type_friendly {value}}."
      },
      i = "To select by position or name use {.code {if (margin == 'obs') 'x[i, ]' else 'x[, j]'}}."
    ),
    class = "invalid_condition",
    call = call
  )
}

# Columns that calc_qc_metrics() adds.
qc_columns <- "^(log1p_)?(n_genes|n_cells|total_counts|mean_counts|pct)(_|$)"

abort_condition <- function(condition, error, x, margin, call) {
  have <- frame_names(x, margin)
  named <- all.vars(quo_squash(condition))
  env <- quo_get_env(condition)
  unknown <- named[
    !named %in% have & !vapply(named, env_has, NA, env = env, inherit = TRUE)
  ]
  if (length(unknown)) {
    what <- paste("column of", margin)
    hint <- if (grepl(qc_columns, unknown[[1]]) && is.null(field(x, "qc"))) {
      "{.fn calc_qc_metrics} computes columns such as this."
    }
    abort_missing(unknown[[1]], have, what, "column_missing", call, hint)
  }
  scoom_abort(
    "Can't evaluate the condition {.code {as_label(condition)}}.",
    class = "invalid_condition",
    call = call,
    parent = error
  )
}

keep_margin <- function(x, margin, keep) {
  what <- margin_word(margin)
  n <- length(keep)
  n_kept <- sum(keep)
  if (n_kept == 0 && n > 0) {
    scoom_warn(
      "No {what} is kept of {format_count(n)}.",
      class = "empty_selection",
      call = NULL
    )
  } else {
    scoom_inform(
      "Kept {format_count(n_kept)} of {format_count(n)} {what}{cli::qty(n)}{?s}.",
      class = "filtered"
    )
  }
  if (n_kept == n) {
    return(x)
  }
  if (margin == "obs") {
    subset_cells(x, which(keep))
  } else {
    subset_genes(x, which(keep))
  }
}
