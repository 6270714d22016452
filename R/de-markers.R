#' Find marker genes
#'
#' Tests every gene between groups of cells, exactly and in bounded memory: each
#' group against the rest, or against one other group.
#'
#' @details
#' The matrix is read once:
#'
#' 1. Values are those of the chain of `x` without `scale_genes()`.
#' 2. `"t-test"`: moments of every group and gene are accumulated (shifted sums,
#'    merged by the formula of Chan et al.); Welch's t follows from them.
#' 3. `"wilcoxon"`: values are sorted gene by gene, each gene once for all groups;
#'    ranks, ties and rank sums are integers, zeros enter in closed form.
#' 4. p-values come from the tail of the distribution, `log10_p` from the logarithm
#'    of the tail, so that p-values below 1e-308 keep their order.
#'
#' A gene that is absent or constant has statistic 0, p-value 1, AUC 0.5 and
#' log2 fold change 0. Cells without a value in `group_by` are left out of both
#' sides, with a message. A group of fewer than two cells is skipped with a warning
#' and stays in the rest of the others.
#'
#' Memory: for t-tests 80 bytes for each group and gene; where that is more than
#' half of `options(scoom.memory)`, genes are tested in slices, with a read for each
#' slice. For Wilcoxon 9 bytes for each nonzero value as far as the budget allows;
#' the rest is kept in a temporary file in `options(scoom.scratch)`, which is
#' gone when the call ends, by error or interrupt too. The table itself takes 120
#' bytes a row.
#'
#' `compat = "scanpy"` gives the numbers of `scanpy.tl.rank_genes_groups()`: no
#' continuity or tie correction (for `tie_correct` a value you give counts), fold
#' changes from means of logarithms, rows ordered by the statistic, and cells
#' without a group kept in the rest.
#'
#' @param x An object opened by [open_h5ad()], a Seurat object (its `data` and
#'   `Idents()`), a SingleCellExperiment (its `logcounts`), or a matrix with
#'   genes in rows and cells in columns, dense or sparse.
#' @param group_by A column of the cells (`obs`, metadata, `colData`), or a vector with
#'   one value for each cell. `NULL`: `Idents()` of a Seurat object.
#' @param groups Groups to test. `NULL`: all of them.
#' @param reference `"rest"`: all other cells that have a group; or the name of a group.
#' @param method `"wilcoxon"`: the rank sum test of Wilcoxon, Mann and Whitney.
#'   `"t-test"`: Welch's. `"t-test_overestim_var"`: with the variance of the reference
#'   overestimated, as scanpy has it.
#' @param layer A layer (an assay of a SingleCellExperiment) to test instead of the
#'   default matrix.
#' @param use_raw Test `raw`.
#' @param features Genes to test, by name, position or logical; negative positions leave
#'   out. Or a function that takes the data frame of the genes (`var`; its row names are the
#'   genes' names) and returns one of these, such as
#'   `\\(var) !var$chromosome %in% c("X", "Y")`. `NULL`: all. p-values are adjusted over
#'   the genes that are tested.
#' @param tie_correct Wilcoxon: account for ties. `NULL`: `TRUE`, but `FALSE` for
#'   `compat = "scanpy"`.
#' @param continuity Wilcoxon: correct for continuity. `NULL`: as `tie_correct`.
#' @param pseudocount What is added to both means before the fold change. `NULL`:
#'   1e-5 times the target of [normalize_total()], 0.1 where that is not known.
#' @param p_adjust How p-values are adjusted within a comparison: `"BH"`, `"BY"`,
#'   `"bonferroni"`, `"holm"` or `"none"`.
#' @param compat `"none"`, or `"scanpy"` for that tool's conventions.
#' @param threads Number of threads. `NULL`: `options(scoom.threads)`.
#' @param BPPARAM A BiocParallel backend whose workers share the reading, or `NULL`.
#' @param progress Whether to show a progress bar. `NULL`: `options(scoom.progress)`.
#'
#' @returns A data frame of class `scoom_markers`: groups in the order of their levels,
#'   genes by descending AUC (t-tests: by statistic). Columns:
#'
#' * `feature`, `group`, `reference`: the gene, the group, what it is compared with.
#' * `log2_fc`: `log2((mean_group + c) / (mean_reference + c))`, c the pseudocount.
#' * `statistic`: the normal deviate z, or t. Positive: higher in the group.
#' * `p_value`, `p_adj`, `log10_p`: two-sided, adjusted, its decimal logarithm.
#' * `auc`: the probability that a cell of the group is above one of the reference;
#'   `NA` for t-tests.
#' * `mean_group`, `mean_reference`: means of the expression before the logarithm.
#' * `pct_group`, `pct_reference`: fractions of cells with a nonzero value.
#' * `n_group`, `n_reference`: numbers of cells.
#'
#' Its attribute `skipped` is a data frame of the groups that were not tested.
#' @references
#' Mann & Whitney (1947) Ann. Math. Statist. 18, 50. Welch (1947) Biometrika 34, 28.
#' Chan, Golub & LeVeque (1983) Am. Stat. 37, 242. Soneson & Robinson (2018)
#' Nat. Methods 15, 255.
#' @seealso [top_markers()], [filter_markers()], [as_seurat_markers()],
#'   [pseudobulk()] for comparing conditions
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' markers <- find_markers(x, group_by = "cell_type")
#' top_markers(markers, 3)
#'
#' find_markers(x, "cell_type", groups = "B cell", reference = "NK cell", method = "t-test")
find_markers <- function(
  x,
  group_by = NULL,
  groups = NULL,
  reference = "rest",
  method = c("wilcoxon", "t-test", "t-test_overestim_var"),
  layer = NULL,
  use_raw = FALSE,
  features = NULL,
  tie_correct = NULL,
  continuity = NULL,
  pseudocount = NULL,
  p_adjust = c("BH", "BY", "bonferroni", "holm", "none"),
  compat = c("none", "scanpy"),
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  method <- check_choice(method, marker_methods)
  p_adjust <- check_choice(p_adjust, p_adjust_methods)
  compat <- check_choice(compat, c("none", "scanpy"))
  check_number(pseudocount, min = 0, allow_null = TRUE)
  scanpy <- compat == "scanpy"
  tie_correct <- tie_correct %||% !scanpy
  continuity <- continuity %||% !scanpy
  check_flag(tie_correct)
  check_flag(continuity)

  source <- de_source(x, layer, use_raw, "tested", call)
  tell_choices(x, layer, use_raw)
  keep_missing <- scanpy && identical(reference, "rest")
  factor <- marker_groups(source, group_by, keep_missing, call)
  n_missing <- sum(is.na(factor))
  extra <- if (keep_missing) n_missing else 0L
  contrasts <- resolve_contrasts(factor, groups, reference, extra, call)
  index <- source_genes(source, features, call)
  plan <- settle_log(source, call)
  if (!is.null(index)) {
    plan <- recipe_genes(plan, index)
    source$genes <- source$genes[index]
  }

  levels <- levels(factor)
  codes <- as.integer(factor) - 1L
  if (extra > 0) {
    codes[is.na(codes)] <- length(levels)
  }
  ln_base <- if (is.null(plan$stored_log)) {
    plan_log_base(plan)
  } else {
    plan$stored_log
  }
  n_units <- length(levels) + (extra > 0)
  args <- list(
    unit = codes,
    n_units = n_units,
    group_units = as.list(contrasts$compare),
    reference_units = reference_units(contrasts, n_units),
    stratum_of = seq_along(contrasts$compare) - 1L,
    tie_correct = tie_correct,
    continuity = continuity,
    overestimated = method == "t-test_overestim_var",
    pseudocount = pseudocount %||% if (!scanpy) default_pseudocount(plan),
    ln_base = log(ln_base),
    order = if (method == "wilcoxon" && !scanpy) "auc" else "statistic",
    p_adjust = p_adjust
  )
  fn <- if (method == "wilcoxon") rs_de_wilcoxon else rs_de_ttest
  label <- "Testing genes"
  columns <- run_pass(fn, plan, args, threads, BPPARAM, progress, label, call)
  new_markers(columns, source$genes, levels, contrasts, method)
}

# Codes of the groups on the other side of each comparison.
reference_units <- function(contrasts, n_units) {
  units <- seq_len(n_units) - 1L
  Map(
    \(group, with) if (is.na(with)) setdiff(units, group) else with,
    contrasts$compare,
    contrasts$with
  )
}

marker_methods <- c("wilcoxon", "t-test", "t-test_overestim_var")
p_adjust_methods <- c("BH", "BY", "bonferroni", "holm", "none")

# Groups of the cells; where missing ones are kept the message says so.
marker_groups <- function(source, group_by, keep_missing, call) {
  if (!keep_missing) {
    return(source_groups(source, group_by, call))
  }
  factor <- withCallingHandlers(
    source_groups(source, group_by, call),
    scoom_message_cells_left_out = \(m) tryInvokeRestart("muffleMessage")
  )
  n_missing <- sum(is.na(factor))
  if (n_missing > 0) {
    scoom_inform(
      c(
        i = "{format_count(n_missing)} {cli::qty(n_missing)}cell{?s} without a group {cli::qty(n_missing)}{?is/are} kept in the rest, as scanpy does."
      ),
      class = "cells_kept"
    )
  }
  factor
}

# What was decided for the user and can be decided otherwise.
tell_choices <- function(x, layer, use_raw) {
  if (!inherits(x, "scoom") || !is.null(layer) || use_raw) {
    return(invisible())
  }
  if (has_op(x, "scale")) {
    scoom_inform(
      c(i = "Tests use the values before {.fn scale_genes}."),
      class = "before_scaling"
    )
  }
  if (!is.null(field(x, "file")$raw)) {
    scoom_inform(
      c(
        i = "Tests use {.field X}; the file has {.field raw} too: {.code use_raw = TRUE} takes that."
      ),
      class = "raw_not_used"
    )
  }
}

# Base of the logarithm that the chain takes; e where it takes none.
plan_log_base <- function(plan) {
  Find(\(op) op$op == "log1p", plan$ops)$base %||% exp(1)
}

default_pseudocount <- function(plan) {
  target <- Find(\(op) op$op == "normalize", plan$ops)$target
  1e-5 * (target %||% 1e4)
}
