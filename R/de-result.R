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

# The engine's columns as a table.
new_markers <- function(columns, genes, levels, contrasts, method) {
  at <- columns$comparison
  reference <- levels[contrasts$with + 1L]
  reference[is.na(reference)] <- "rest"
  auc <- columns$auc
  auc[is.nan(auc)] <- NA_real_
  table <- list(
    feature = genes[columns$feature],
    group = factor(levels[contrasts$compare + 1L][at], levels),
    reference = reference[at],
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
  structure(
    table,
    row.names = .set_row_names(length(at)),
    class = c("scoom_markers", "data.frame"),
    skipped = contrasts$skipped,
    method = method
  )
}

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

# Row numbers of each comparison, in the order of the table.
comparison_rows <- function(markers) {
  key <- paste(markers$group, markers$reference, sep = "\r")
  split(seq_len(nrow(markers)), factor(key, unique(key)))
}

# A selection of rows that keeps what the table says of itself.
take_markers <- function(markers, rows) {
  taken <- markers[rows, , drop = FALSE]
  attr(taken, "row.names") <- .set_row_names(nrow(taken))
  attr(taken, "skipped") <- attr(markers, "skipped")
  attr(taken, "method") <- attr(markers, "method")
  taken
}

#' Select markers
#'
#' `top_markers()` keeps the first genes of each comparison, in the order of the table.
#' `filter_markers()` keeps the genes that pass all thresholds.
#'
#' @param markers A table made by [find_markers()].
#' @param n Genes to keep of each comparison.
#' @param max_p_adj Largest adjusted p-value.
#' @param min_log2_fc Smallest log2 fold change; its absolute value where
#'   `only_up = FALSE`.
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
  check_markers(markers)
  check_count(n, min = 1)
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
  keep <- markers$p_adj <= max_p_adj &
    change >= min_log2_fc &
    pmax(markers$pct_group, markers$pct_reference) >= min_pct
  if (only_up) {
    keep <- keep & markers$statistic > 0
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

#' Rename marker tables
#'
#' Gives a marker table the columns that users of Seurat or scanpy know.
#'
#' @param markers A table made by [find_markers()].
#' @returns A data frame. `as_seurat_markers()`: `p_val`, `avg_log2FC`, `pct.1`, `pct.2`,
#'   `p_val_adj`, `cluster`, `gene`, with row names as `Seurat::FindAllMarkers()`.
#'   `as_scanpy_markers()`: `group`, `names`, `scores`, `logfoldchanges`, `pvals`,
#'   `pvals_adj`, `pct_nz_group`, `pct_nz_reference`, as
#'   `scanpy.get.rank_genes_groups_df()`. The numbers stay as they are.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' markers <- find_markers(x, group_by = "cell_type", method = "t-test")
#' head(as_seurat_markers(markers))
#' head(as_scanpy_markers(markers))
as_seurat_markers <- function(markers) {
  check_markers(markers)
  data.frame(
    p_val = markers$p_value,
    avg_log2FC = markers$log2_fc,
    pct.1 = markers$pct_group,
    pct.2 = markers$pct_reference,
    p_val_adj = markers$p_adj,
    cluster = markers$group,
    gene = markers$feature,
    row.names = make.unique(markers$feature)
  )
}

#' @rdname as_seurat_markers
#' @export
as_scanpy_markers <- function(markers) {
  check_markers(markers)
  data.frame(
    group = markers$group,
    names = markers$feature,
    scores = markers$statistic,
    logfoldchanges = markers$log2_fc,
    pvals = markers$p_value,
    pvals_adj = markers$p_adj,
    pct_nz_group = markers$pct_group,
    pct_nz_reference = markers$pct_reference
  )
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
    writeLines(paste0("# skipped: ", paste(skipped$group, collapse = ", ")))
  }
  invisible(x)
}
