# What other tools do: their defaults, and the last steps of their tables.

compat_tools <- c("none", "seurat", "seurat_v4", "scanpy")

#' The conventions of a call
#'
#' @param given A list of the user's `tie_correct`, `continuity`, `pseudocount`, `p_adjust`,
#'   `min_pct`, `min_log2_fc` and `rank_by`, `NULL` where the user left them open.
#' @returns The list with all of them, and `fold_change`, `min_cells`, `seurat`, `scanpy`.
#' @noRd
conventions <- function(compat, method, given) {
  scanpy <- compat == "scanpy"
  seurat <- compat %in% c("seurat", "seurat_v4")
  ranked <- method %in% c("wilcoxon", "auc")
  list(
    tie_correct = given$tie_correct %||% !scanpy,
    continuity = given$continuity %||% !scanpy,
    pseudocount = given$pseudocount %||% if (seurat) 1,
    # Without a pseudocount means are those of logarithms, as scanpy has them.
    fold_change = if (seurat) compat else "means",
    p_adjust = given$p_adjust %||% if (seurat) "bonferroni" else "BH",
    min_pct = given$min_pct %||%
      switch(compat, seurat = 0.01, seurat_v4 = 0.1, 0),
    min_log2_fc = given$min_log2_fc %||%
      switch(compat, seurat = 0.1, seurat_v4 = 0.25, 0),
    rank_by = given$rank_by %||%
      if (seurat && method != "auc") {
        "p_value"
      } else if (ranked && !scanpy) {
        "auc"
      } else {
        "statistic"
      },
    min_cells = if (seurat) 3 else min_test_cells,
    seurat = seurat,
    scanpy = scanpy
  )
}

# Seurat filters by percentages that it has rounded to three digits: the engine passes
# what may round up, the rest is decided here.
seurat_slack <- 0.00051

# Rounds, filters and sorts a table as FindMarkers() does: by p-value, which may be zero
# for many, then by fold change, in version 5 by the difference of percentages; AUC
# tables by power, then AUC, then the last gene first.
finish_seurat <- function(markers, min_pct, genes, by_auc, compat) {
  markers$pct_group <- round(markers$pct_group, 3)
  markers$pct_reference <- round(markers$pct_reference, 3)
  keep <- which(pmax(markers$pct_group, markers$pct_reference) >= min_pct)
  sorting <- if (by_auc) {
    auc <- round(markers$auc, 3)
    list(-abs(auc - 0.5) * 2, -auc, -match(markers$feature, genes))
  } else if (compat == "seurat") {
    change <- abs(markers$pct_group - markers$pct_reference)
    list(markers$p_value, -change, match(markers$feature, genes))
  } else {
    list(markers$p_value, -markers$log2_fc)
  }
  sorting <- lapply(c(list(comparison_of(markers)), sorting), `[`, keep)
  take_markers(markers, keep[do.call(order, sorting)])
}

#' Rename marker tables
#'
#' Gives a marker table the columns that users of Seurat or scanpy know.
#'
#' @details
#' The numbers stay as they are: whether they are those of the other tool is decided by
#' `compat` in [find_markers()]. With `compat = "seurat_v4"` (versions 4) or `"seurat"` (5) there,
#' `as_seurat_markers()` gives the rows of `Seurat::FindMarkers()` in its order.
#' `Seurat::FindAllMarkers()` drops rows with `p_val >= 0.01` on top of that.
#'
#' @param markers A table made by [find_markers()].
#' @returns A data frame. `as_seurat_markers()`: `p_val`, `avg_log2FC`, `pct.1`, `pct.2`,
#'   `p_val_adj`, `cluster`, `gene`, with row names as `Seurat::FindAllMarkers()`; for
#'   `method = "auc"` as its `test.use = "roc"`: `myAUC`, `avg_diff`, `power`,
#'   `avg_log2FC`, `pct.1`, `pct.2`, `cluster`, `gene`.
#'   `as_scanpy_markers()`: `group`, `names`, `scores`, `logfoldchanges`, `pvals`,
#'   `pvals_adj`, `pct_nz_group`, `pct_nz_reference`, as
#'   `scanpy.get.rank_genes_groups_df()`; for `method = "logreg"` without the middle
#'   three. Where a group is compared several times, `reference` and `within` follow.
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
  tested <- if (identical(attr(markers, "method"), "auc")) {
    auc <- round(markers$auc, 3)
    list(
      myAUC = auc,
      avg_diff = log1p(markers$mean_group) - log1p(markers$mean_reference),
      power = abs(auc - 0.5) * 2
    )
  } else {
    list(p_val = markers$p_value)
  }
  columns <- c(
    tested,
    list(
      avg_log2FC = markers$log2_fc,
      pct.1 = markers$pct_group,
      pct.2 = markers$pct_reference
    ),
    if (!is.null(tested$p_val)) list(p_val_adj = markers$p_adj),
    list(cluster = markers$group, gene = markers$feature),
    comparison_columns(markers)
  )
  data.frame(columns, row.names = make.unique(markers$feature))
}

#' @rdname as_seurat_markers
#' @export
as_scanpy_markers <- function(markers) {
  check_markers(markers)
  columns <- list(
    group = markers$group,
    names = markers$feature,
    scores = markers$statistic,
    logfoldchanges = markers$log2_fc,
    pvals = markers$p_value,
    pvals_adj = markers$p_adj,
    pct_nz_group = markers$pct_group,
    pct_nz_reference = markers$pct_reference
  )
  if (identical(attr(markers, "method"), "logreg")) {
    columns <- without(columns, c("logfoldchanges", "pvals", "pvals_adj"))
  }
  data.frame(c(columns, comparison_columns(markers)))
}

# What tells the comparisons of a group apart, where the other tools have no word for it.
comparison_columns <- function(markers) {
  list <- list()
  if (length(unique(markers$reference)) > 1) {
    list$reference <- markers$reference
  }
  list$within <- markers[["within"]]
  list
}

#' Keep a marker table in the object
#'
#' Puts markers into `uns`, in the structure in which
#' `scanpy.tl.rank_genes_groups()` keeps its result. Names that stand for several genes are an error
#' of class `scoom_error_duplicate_names`.
#'
#' @details
#' `uns[[key]]` becomes a list: `params` (`groupby`, `reference`, `method`, `use_raw`, `layer`,
#' `corr_method`); `names`, `scores`, `logfoldchanges`, `pvals` and `pvals_adj`, data
#' frames with one column a group and one row a rank (scanpy's record arrays); `pts` and, where the reference is the rest, `pts_rest`, data frames with one row
#' a gene. Where groups have different numbers of genes the shorter ones are filled
#' with `NA`.
#'
#' @param x An object opened by [open_h5ad()].
#' @param markers A table made by [find_markers()], each group compared once.
#' @param key The name in `uns`.
#' @returns `x` with the entry.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' markers <- find_markers(x, group_by = "cell_type")
#' x <- set_markers(x, markers)
#' head(x$uns$rank_genes_groups$names)
set_markers <- function(x, markers, key = "rank_genes_groups") {
  call <- current_env()
  check_scoom(x)
  check_markers(markers)
  check_string(key)
  rows <- comparison_rows(markers)
  group <- as.character(markers$group)[vapply(rows, `[`, 0L, 1)]
  if (anyDuplicated(group)) {
    twice <- group[duplicated(group)][[1]]
    scoom_abort(
      c(
        "Each group can have one comparison here.",
        x = "Group {.val {twice}} is compared several times.",
        i = "Select one of them first: {.code markers[markers$reference == ...,]}."
      ),
      class = "invalid_input",
      call = call,
      argument = "markers"
    )
  }
  names(rows) <- group
  for (at in rows) {
    check_unique_features(markers$feature[at], call)
  }
  n <- max(lengths(rows), 0)
  by_rank <- function(values) {
    as_ranks <- lapply(rows, \(at) values[at][seq_len(n)])
    structure(as_ranks, row.names = .set_row_names(n), class = "data.frame")
  }
  by_gene <- function(values) {
    genes <- unique(markers$feature)
    columns <- lapply(rows, \(at) {
      values[at][match(genes, markers$feature[at])]
    })
    new_frame(columns, genes)
  }
  renamed <- as_scanpy_markers(markers)
  ranked <- intersect(
    c("names", "scores", "logfoldchanges", "pvals", "pvals_adj"),
    names(renamed)
  )
  value <- c(
    list(params = scanpy_params(markers)),
    lapply(unclass(renamed)[ranked], by_rank),
    list(pts = by_gene(markers$pct_group)),
    if (all(markers$reference == "rest")) {
      list(pts_rest = by_gene(markers$pct_reference))
    }
  )
  set_uns(x, key, value)
}

# Fractions of cells go by the names of genes.
check_unique_features <- function(features, call) {
  twice <- unique(features[duplicated(features)])
  if (!length(twice)) {
    return(invisible())
  }
  scoom_abort(
    c(
      "Genes go by their names here.",
      x = "{counted(length(twice), 'name')} {cli::qty(length(twice))}{?stands/stand} for several genes, such as {.val {head_of(twice, 3)}}.",
      i = "Keep one row of each: {.code markers[!duplicated(markers[c(\"group\", \"feature\")]), ]}."
    ),
    class = "duplicate_names",
    call = call,
    names = twice
  )
}

scanpy_params <- function(markers) {
  of <- attr(markers, "call_of")
  compact(list(
    groupby = of$group_by,
    reference = paste(unique(markers$reference), collapse = ", "),
    method = attr(markers, "method"),
    use_raw = of$use_raw,
    layer = of$layer,
    corr_method = switch(
      of$p_adjust %||% "none",
      BH = "benjamini-hochberg",
      none = NULL,
      of$p_adjust
    )
  ))
}
