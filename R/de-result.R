# Marker tables: making, printing, filtering, renaming.

marker_columns <- c(
  "feature",
  "group",
  "reference",
  "log2_fc",
  "statistic",
  "p_value",
  "p_adj",
  "log10_p",
  "auc",
  "mean_group",
  "mean_reference",
  "pct_group",
  "pct_reference",
  "n_group",
  "n_reference"
)

#' The engine's columns as a table
#'
#' @param units What [resolve_units()] says: comparisons and what was skipped.
#' @param group_levels Levels of the column `group`.
#' @param call_of What the table says of the call that made it: `method`, `compat`,
#'   `group_by`, `layer`, `use_raw`, `p_adjust`, `n_features`.
#' @noRd
new_markers <- function(columns, genes, units, group_levels, call_of) {
  at <- columns$comparison
  comparisons <- units$comparisons
  auc <- columns$auc
  auc[is.nan(auc)] <- NA_real_
  table <- list(
    feature = genes[columns$feature],
    group = factor(as.character(comparisons$group)[at], group_levels),
    reference = comparisons$reference[at],
    log2_fc = columns$log2_fc,
    statistic = columns$statistic,
    p_value = columns$p_value,
    p_adj = columns$p_adj,
    log10_p = columns$log10_p,
    auc = auc,
    mean_group = columns$mean_group,
    mean_reference = columns$mean_reference,
    pct_group = columns$pct_group,
    pct_reference = columns$pct_reference,
    n_group = as.integer(columns$n_group)[at],
    n_reference = as.integer(columns$n_reference)[at]
  )
  table$within <- comparisons[["within"]][at]
  table$n_blocks <- comparisons[["n_blocks"]][at]
  if (!is.null(units$samples)) {
    table <- c(table, sample_columns(columns, units$samples))
  }
  structure(
    table,
    row.names = .set_row_names(length(at)),
    class = c("scoom_markers", "data.frame"),
    skipped = units$skipped,
    blocks_dropped = if (nrow(units$blocks_dropped)) units$blocks_dropped,
    method = call_of$method,
    call_of = call_of
  )
}

# What a table says of itself beside its columns.
marker_attributes <- c("skipped", "blocks_dropped", "method", "call_of")

check_markers <- function(
  markers,
  arg = caller_arg(markers),
  call = caller_env()
) {
  if (is.data.frame(markers) && all(marker_columns %in% names(markers))) {
    return(invisible(markers))
  }
  abort_type(markers, "a table made by {.fn find_markers}", arg, call)
}

# Whether genes are higher in the group. A table of areas has no statistic.
is_higher <- function(markers) {
  by_statistic <- markers$statistic > 0
  ifelse(is.na(by_statistic), markers$auc > 0.5, by_statistic)
}

# Where p-values decide, a table without any would pass for one without significant genes.
check_has_p_values <- function(table, name, arg, call) {
  if (!nrow(table) || !all(is.na(table$p_adj))) {
    return(invisible())
  }
  scoom_abort(
    c(
      "{.arg {arg}} needs p-values.",
      x = "{name} has none.",
      i = "Methods {.val auc} and {.val logreg} give none, others do."
    ),
    class = "invalid_input",
    call = call,
    argument = arg
  )
}

# The number of the comparison of each row, in the order of the table.
comparison_of <- function(markers) {
  parts <- unclass(markers)[intersect(
    c("within", "group", "reference"),
    names(markers)
  )]
  key <- do.call(paste, c(unname(lapply(parts, as.character)), sep = "\r"))
  match(key, unique(key))
}

# Row numbers of each comparison, in the order of the table.
comparison_rows <- function(markers) {
  of <- comparison_of(markers)
  split(seq_along(of), factor(of, seq_len(max(of, 0))))
}

# What to call each comparison: by its group alone where that is enough.
comparison_labels <- function(markers) {
  first <- markers[!duplicated(comparison_of(markers)), ]
  label <- as.character(first$group)
  if (length(unique(first$reference)) > 1) {
    label <- paste(label, "vs", first$reference)
  }
  within <- first[["within"]]
  if (is.null(within)) label else paste0(within, ": ", label)
}

# A selection of rows that keeps what the table says of itself.
take_markers <- function(markers, rows) {
  taken <- markers[rows, , drop = FALSE]
  attr(taken, "row.names") <- .set_row_names(nrow(taken))
  for (name in marker_attributes) {
    attr(taken, name) <- attr(markers, name)
  }
  taken
}

#' Select markers
#'
#' `top_markers()` keeps the first genes of each comparison, in the order of the table.
#' `filter_markers()` keeps the genes that pass all thresholds.
#'
#' @param markers A table made by [find_markers()]; `top_markers()` takes those of
#'   [test_pseudobulk()] too.
#' @param n Genes to keep of each comparison.
#' @param max_p_adj Largest adjusted p-value. Tables without p-values are not
#'   filtered by it.
#' @param min_log2_fc Smallest log2 fold change; its absolute value where
#'   `only_up = FALSE`. With 0, rows without a fold change stay.
#' @param min_auc Smallest AUC. Tables of t-tests have none.
#' @param min_pct Smallest fraction of cells with the gene, in the group or in the
#'   reference.
#' @param only_up Whether to keep genes that are higher in the group alone.
#' @returns A table with the columns of `markers`.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' markers <- find_markers(x, group_by = "cell_type")
#' top_markers(markers, 2)
#' filter_markers(markers, min_log2_fc = 1, min_pct = 0.25) |>
#'   top_markers(3)
top_markers <- function(markers, n = 10) {
  check_count(n, min = 1)
  if (inherits(markers, "scoom_pseudobulk_tests")) {
    return(top_tests(markers, n))
  }
  check_markers(markers)
  first <- lapply(comparison_rows(markers), head_of, n)
  take_markers(markers, unlist(first, use.names = FALSE))
}

#' @rdname top_markers
#' @export
filter_markers <- function(
  markers,
  max_p_adj = 0.05,
  min_log2_fc = 0,
  min_auc = NULL,
  min_pct = 0,
  only_up = TRUE
) {
  check_markers(markers)
  check_number(max_p_adj, min = 0, max = 1)
  check_number(min_log2_fc, min = 0)
  check_number(min_auc, min = 0, max = 1, allow_null = TRUE)
  check_number(min_pct, min = 0, max = 1)
  check_flag(only_up)
  change <- if (only_up) markers$log2_fc else abs(markers$log2_fc)
  without_p <- nrow(markers) && all(is.na(markers$p_adj))
  # A table of residuals has no fold changes.
  any_change <- min_log2_fc == 0 & is.na(change)
  keep <- (without_p | markers$p_adj <= max_p_adj) &
    (any_change | change >= min_log2_fc) &
    pmax(markers$pct_group, markers$pct_reference) >= min_pct
  if (only_up) {
    keep <- keep & is_higher(markers)
  }
  if (!is.null(min_auc)) {
    if (all(is.na(markers$auc)) && nrow(markers)) {
      scoom_abort(
        c(
          "{.arg min_auc} needs an AUC.",
          x = "This table has none.",
          i = "Use {.code find_markers(method = \"wilcoxon\")}."
        ),
        class = "invalid_input",
        call = current_env(),
        argument = "min_auc"
      )
    }
    keep <- keep & markers$auc >= min_auc
  }
  take_markers(markers, which(keep))
}

#' @export
print.scoom_markers <- function(x, ..., n = NULL) {
  if (!all(marker_columns %in% names(x))) {
    return(invisible(NextMethod()))
  }
  comparisons <- comparison_rows(x)
  # A table that someone has cut to size is shown whole.
  n <- n %||% if (nrow(x) <= 60) nrow(x) else 3
  header <- paste0(
    "# ",
    format_count(nrow(x)),
    " rows: ",
    length(comparisons),
    if (length(comparisons) == 1) " comparison" else " comparisons",
    if (!is.null(attr(x, "method"))) paste0(", ", attr(x, "method"))
  )
  shown <- unlist(
    lapply(head_of(comparisons, 20), head_of, n),
    use.names = FALSE
  )
  frame <- as.data.frame(unclass(x)[names(x)])[shown, , drop = FALSE]
  writeLines(header)
  print(format(frame, digits = 3), row.names = FALSE)
  if (length(shown) < nrow(x)) {
    writeLines(paste0(
      "# the first ",
      n,
      " rows of each; top_markers(n) has more"
    ))
  }
  skipped <- attr(x, "skipped")
  if (NROW(skipped)) {
    names <- unique(describe_comparison(skipped))
    more <- length(names) - 10
    writeLines(paste0(
      "# skipped: ",
      paste(head_of(names, 10), collapse = ", "),
      if (more > 0) paste0(" and ", more, " more")
    ))
  }
  invisible(x)
}
