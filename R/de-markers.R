#' Find marker genes
#'
#' Tests every gene between groups of cells, exactly and in bounded memory: each
#' group against the rest, against other groups or sets of them, inside every cell type,
#' over blocks, with what the samples say one by one.
#'
#' @details
#' # Methods
#'
#' * `"wilcoxon"`: the rank sum test of Wilcoxon, Mann and Whitney. Values are sorted gene by
#'   gene, once for all comparisons; ranks, ties and rank sums are integers, zeros enter in
#'   closed form.
#' * `"t-test"`: Welch's. Moments of every group and gene are accumulated (shifted sums,
#'   merged by the formula of Chan et al.). `"t-test_overestim_var"`: with the size of the
#'   group for that of the reference, as scanpy has it.
#' * `"binomial"`: detection. Whether more cells of one side have a nonzero value, as
#'   `scran::pairwiseBinom()` tests it; `log2_fc` is the ratio of these fractions, blocks are
#'   combined by Stouffer's method with their cells as weights. A block in which no cell has the
#'   gene says nothing of it and is left out; scran's p-value is 1 then.
#' * `"auc"`: the area under the ROC curve alone, without a test.
#' * `"lr"`: gene by gene, the logistic regression of the two sides on the gene and the `latent`
#'   columns against that on `latent` alone, as `stats::glm(family = binomial)` fits them and
#'   as Seurat's `test.use = "LR"`. `statistic` is the root of the gain in deviance with the
#'   sign of the gene's coefficient; its square has a chi-square distribution with one degree of
#'   freedom. Where a gene separates the sides the limit of the deviance is taken. Latent
#'   columns that are constant within a comparison drop out of it.
#' * `"logreg"`: one logistic regression of the groups on all genes, with the objective of
#'   scikit-learn's `LogisticRegression` (`C = 1`), run to convergence. Against the rest all
#'   groups share one multinomial model, in which each group of the cells is a class, whether
#'   it is tested or not; against a named group each comparison is a model of its two
#'   sides. `statistic` is the gene's coefficient; it depends on the scale of the gene and on all
#'   other genes, and there is no p-value.
#'
#' Values are those of the chain of `x` without `scale_genes()`. p-values come from the
#' tail of the distribution, `log10_p` from the logarithm of the tail, so that p-values below
#' 1e-308 keep their order. A gene that is absent or constant has statistic 0, p-value 1,
#' AUC 0.5 and log2 fold change 0.
#'
#' # What is compared
#'
#' `groups` and `reference` name groups, or sets of them: `groups = list(T = c("CD4", "CD8"))`
#' tests a set. Cells without a value in `group_by`, `within`, `block` or `sample_by` are
#' left out, with a message. A comparison with fewer than two cells on a side is skipped with
#' a warning and listed in the attribute `skipped`; cells of a group that is too small stay
#' in the rest of the others.
#' If nothing is left to test, that is an error.
#'
#' `within` makes every comparison once in each of its levels, from the same read.
#'
#' `block` compares inside each block and combines: Wilcoxon by van Elteren's test,
#' `Z = sum((W - E) / (N + 1)) / sqrt(sum(Var / (N + 1)^2))` with ties per block and one
#' correction for continuity; t-tests by Stouffer's method, signed normal deviates weighted
#' by `1 / sqrt(1 / n + 1 / m)`. Fold changes, means, percentages and AUC are averaged with
#' the weights of the statistic. A block with cells on one side only (t-tests: fewer than
#' two on a side) drops out of that comparison, with a message and a line in the
#' attribute `blocks_dropped`. If all do, because donors are nested in conditions, that is an
#' error: [test_pseudobulk()] is the test for it.
#'
#' # Samples
#'
#' Cells of a sample are no replicates of each other. `sample_by` shows what a p-value does
#' not: whether one sample makes the difference. Where a condition is tested by cells without
#' it, a message says so once in a session; a grouping counts as a condition when a column
#' that is called like samples (`sample`, `donor_id`, `patient`, `orig.ident` ...) has several
#' values and each of them lies in one group alone. Where samples have cells of several groups,
#' as in paired designs, it counts as one when it is called so (`condition`, `treatment`, `stim`,
#' `disease`, `time_point` ...) or compared `within` types of cells, unless samples are the `block`.
#'
#' # Conventions of other tools
#'
#' `compat = "scanpy"` gives the numbers of `scanpy.tl.rank_genes_groups()`: no continuity
#' or tie correction (for `tie_correct` a value you give counts), fold changes from means of
#' logarithms, rows ordered by the statistic, and cells without a group kept in the rest. For
#' `"logreg"` the model has the tested groups alone (and the reference where one is named) as
#' classes; with two classes there is one vector of coefficients, which speaks for the later
#' in the order of levels, while scanpy files it under the group that is listed first: where
#' that is the earlier one its sign is reversed, and so it is here.
#'
#' `compat = "seurat_v4"` and `"seurat"` (version 5) give those of `Seurat::FindMarkers()`:
#' its thresholds (`min_pct` 0.1 and `min_log2_fc` 0.25; 0.01 and 0.1 in version 5) and
#' three cells on a side; p-values adjusted by Bonferroni over all genes, tested or not;
#' `pct_*` rounded to three digits; rows by p-value, then by fold change, in version 5 by the
#' difference of percentages; fold changes with 1 added to the means, in version 5 to the
#' sums. [as_seurat_markers()] gives the table its columns.
#'
#' # Passes and memory
#'
#' The matrix is read once, whatever the comparisons.
#'
#' For t-tests and `"binomial"` 80 bytes for each gene and group (group x `within` x `block` x
#' `sample_by`); where that is more than half of `options(scoom.memory)`, genes are tested
#' in slices, with a read for each slice. Rank tests take 2 bytes for each nonzero value
#' and 12 for each distinct value of a cell (9 for each nonzero value where values hardly repeat
#' within cells) as far as the budget allows; the rest is kept in a temporary file in
#' `options(scoom.scratch)`, which is gone when the call ends, by error or interrupt too.
#' `"lr"` takes them too, and 100 bytes a cell and thread. `"logreg"` looks at the values some
#' hundred times: where they fit half of the memory budget, at 2 to 10 bytes each, the file is read
#' once, otherwise at every look, with a message; whatever `BPPARAM`, it runs in this
#' session, because every look needs the answer to the one before. Adjustment takes 8 bytes for each gene and comparison. The table takes 120 bytes a
#' row: thresholds and `n_genes` are applied before it is made.
#'
#' @param x An object opened by [open_h5ad()], a Seurat object (its `data` and
#'   `Idents()`), a SingleCellExperiment (its `logcounts`), or a matrix with
#'   genes in rows and cells in columns, dense or sparse. A DelayedMatrix, as such or as an
#'   assay, is brought into memory, with a message; lazy assays of [as_SingleCellExperiment()] are
#'   read from their file.
#' @param group_by A column of the cells (`obs`, metadata, `colData`), or a vector with
#'   one value for each cell. `NULL`: `Idents()` of a Seurat object.
#' @param groups Groups to test: names, or a named list of vectors of names, each a set that is
#'   tested as one. `NULL`: all of them.
#' @param reference `"rest"`: all other cells that have a group. One or more names: these
#'   groups as one. A list of vectors of names: each in turn. `"each"`: every other group in
#'   turn (for sets in `groups`: every other set).
#' @param method The test, see Methods.
#' @param exclude Groups that are in no rest. With `groups = NULL` they are not tested either.
#' @param within A column of the cells (or a vector): the comparisons are made in each of its
#'   levels. `NULL`: in all cells.
#' @param block A column of the cells (or a vector), such as a batch: cells are compared
#'   inside blocks alone, and the blocks combined.
#' @param sample_by A column of the cells (or a vector): the sample of each. Adds columns.
#' @param latent Covariates for `method = "lr"`: names of columns of the cells, or a named list of
#'   vectors with a value for each cell. `NULL`: none.
#' @param layer A layer (an assay of a SingleCellExperiment) to test instead of the
#'   default matrix. Of a layer of Seurat 5 that is split, one part may be named; all are tested
#'   after `SeuratObject::JoinLayers()`.
#' @param use_raw Test `raw`.
#' @param features Genes to test, by name, position or logical; negative positions leave
#'   out. Or a function that takes the data frame of the genes (`var`; its row names are the
#'   genes' names) and returns one of these, such as
#'   `\(var) !var$chromosome %in% c("X", "Y")`. `NULL`: all. p-values are adjusted over
#'   the genes that are tested.
#' @param alternative `"two.sided"`, `"greater"` (higher in the group) or `"less"`.
#' @param tie_correct Wilcoxon: account for ties. `NULL`: `TRUE`, but `FALSE` for
#'   `compat = "scanpy"`.
#' @param continuity Wilcoxon: correct for continuity. `NULL`: `TRUE`, but `FALSE` for
#'   `compat = "scanpy"`.
#' @param pseudocount What is added to both means before the fold change. `NULL`:
#'   1e-5 times the target of [normalize_total()], 0.1 where that is not known.
#' @param p_adjust How p-values are adjusted: `"BH"`, `"BY"`, `"bonferroni"`, `"holm"` or
#'   `"none"`. `NULL`: `"BH"`, but `"bonferroni"` for Seurat's conventions.
#' @param adjust_over `"comparison"`: the genes of each comparison together. `"all"`: all tests
#'   of the call together.
#' @param min_pct,min_log2_fc,only_up,max_p_adj Which rows to keep: genes that at least this
#'   fraction of the cells of either side express, whose fold change is at least this (in
#'   absolute value), is above zero, whose adjusted p-value is at most this. All genes are
#'   tested and adjusted for; rows are dropped after that. `NULL`: all rows, but Seurat's
#'   thresholds for its conventions.
#' @param n_genes Rows to keep of each comparison, the first of its order. `NULL`: all, but
#'   100 where the table would exceed 10 million rows, with a message; `Inf`: all.
#' @param rank_by The order of genes: `"auc"`, `"statistic"`, `"log2_fc"` (descending) or
#'   `"p_value"`. `NULL`: by AUC where there is one, by statistic otherwise.
#' @param compat `"none"`, or the tool whose conventions to follow: `"seurat"`, `"seurat_v4"` or
#'   `"scanpy"`.
#' @param threads Number of threads. `NULL`: `options(scoom.threads)`.
#' @param BPPARAM A BiocParallel backend whose workers share the reading, or `NULL`.
#' @param progress Whether to show a progress bar. `NULL`: `options(scoom.progress)`.
#'
#' @returns A data frame of class `scoom_markers`: levels of `within`, groups in the order of
#'   their levels, genes by descending AUC (t-tests: by statistic). Columns:
#'
#' * `feature`, `group`, `reference`: the gene, the group, what it is compared with.
#' * `log2_fc`: `log2((mean_group + c) / (mean_reference + c))`, c the pseudocount.
#' * `statistic`: the normal deviate z, or t. Positive: higher in the group.
#' * `p_value`, `p_adj`, `log10_p`: by `alternative`, adjusted, its decimal logarithm.
#' * `auc`: the probability that a cell of the group is above one of the reference;
#'   `NA` unless values are ranked.
#' * `mean_group`, `mean_reference`: means of the expression before the logarithm.
#' * `pct_group`, `pct_reference`: fractions of cells with a nonzero value.
#' * `n_group`, `n_reference`: numbers of cells.
#' * with `within`: `within`, its level. With `block`: `n_blocks`, the blocks combined; the
#'   statistic of t-tests is then a normal deviate.
#' * with `sample_by`: `n_samples_expressing`, samples of the group with a nonzero value;
#'   `top_sample`, the one with the largest share of the group's expression, `top_sample_signal`,
#'   that share, and `top_sample_cells`, its share of the group's cells; `sign_agreement`, the
#'   fraction of the group's samples whose own mean is on the group's side of the
#'   mean of the reference; `worst_log2_fc`, the fold change nearest to zero, or furthest past
#'   it, when one sample is left out.
#'
#' Its attribute `skipped` is a data frame of the comparisons that were not tested, with
#' the reason.
#' @references
#' Mann & Whitney (1947) Ann. Math. Statist. 18, 50. Welch (1947) Biometrika 34, 28.
#' van Elteren (1960) Bull. Int. Stat. Inst. 37, 351. Stouffer et al. (1949) The American
#' Soldier 1. Chan, Golub & LeVeque (1983) Am. Stat. 37, 242. Soneson & Robinson (2018)
#' Nat. Methods 15, 255. Squair et al. (2021) Nat. Commun. 12, 5692.
#' Ntranos et al. (2019) Nat. Methods 16, 163. Pedregosa et al. (2011) JMLR 12, 2825.
#' @seealso [top_markers()], [filter_markers()], [as_seurat_markers()],
#'   [compare_methods()], [bootstrap_markers()]; [test_pseudobulk()] for comparing conditions
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' markers <- find_markers(x, group_by = "cell_type")
#' top_markers(markers, 3)
#'
#' find_markers(x, "cell_type", groups = "B cell", reference = "NK cell", method = "t-test")
#'
#' # Conditions within every cell type, and who makes the difference.
#' find_markers(
#'   x,
#'   group_by = "condition",
#'   groups = levels(x$obs$condition)[1],
#'   within = "cell_type",
#'   sample_by = "donor",
#'   n_genes = 2
#' )
find_markers <- function(
  x,
  group_by = NULL,
  groups = NULL,
  reference = "rest",
  method = c(
    "wilcoxon",
    "t-test",
    "t-test_overestim_var",
    "binomial",
    "auc",
    "logreg",
    "lr"
  ),
  exclude = NULL,
  within = NULL,
  block = NULL,
  sample_by = NULL,
  latent = NULL,
  layer = NULL,
  use_raw = FALSE,
  features = NULL,
  alternative = c("two.sided", "greater", "less"),
  tie_correct = NULL,
  continuity = NULL,
  pseudocount = NULL,
  p_adjust = NULL,
  adjust_over = c("comparison", "all"),
  min_pct = NULL,
  min_log2_fc = NULL,
  only_up = FALSE,
  max_p_adj = NULL,
  n_genes = NULL,
  rank_by = NULL,
  compat = c("none", "seurat", "seurat_v4", "scanpy"),
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_given(x, marker_inputs)
  method <- check_choice(method, marker_methods)
  compat <- check_choice(compat, compat_tools)
  asked <- list(
    alternative = check_choice(alternative, c("two.sided", "greater", "less")),
    adjust_over = check_choice(adjust_over, c("comparison", "all")),
    only_up = only_up,
    max_p_adj = max_p_adj,
    n_genes = n_genes,
    tie_correct = tie_correct,
    continuity = continuity,
    pseudocount = pseudocount,
    p_adjust = p_adjust,
    min_pct = min_pct,
    min_log2_fc = min_log2_fc,
    rank_by = rank_by
  )
  check_marker_options(asked, call)
  check_method_options(method, block, sample_by, latent, asked, call)
  rules <- conventions(compat, method, asked)

  source <- de_source(x, layer, use_raw, "tested", call)
  tell_choices(x, layer, use_raw)
  keep_missing <- rules$scanpy && identical(reference, "rest")
  cells <- marker_cells(
    source,
    group_by,
    within,
    block,
    sample_by,
    keep_missing,
    call
  )
  check_two_groups(cells$group, keep_missing, call)
  levels <- levels(cells$group)
  contrasts <- resolve_contrasts(levels, groups, reference, exclude, call)
  units <- resolve_units(
    contrasts,
    cells,
    keep_missing && anyNA(cells$group),
    rules$min_cells,
    if (is_t_test(method)) 2 else 1,
    call
  )
  if (is.null(sample_by) && !method %in% c("auc", "logreg")) {
    # Draws of bootstrap_markers() are no types of cells.
    inside <- if (!inherits(x, "scoom_source")) within
    tell_condition(source, cells$group, group_by, inside, block)
  }
  index <- source_genes(source, features, call)
  plan <- settle_log(source, call)
  has_change <- has_fold_changes(plan)
  if (!has_change) {
    check_without_fold_changes(asked, compat, call)
  }
  n_features <- length(source$genes)
  if (!is.null(index)) {
    plan <- recipe_genes(plan, index)
    source$genes <- source$genes[index]
  }
  asked$n_genes <- table_limit(
    n_genes,
    nrow(units$comparisons),
    length(source$genes)
  )
  args <- engine_args(units, asked, rules, plan, n_features)
  running <- list(
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress,
    call = call
  )
  columns <- switch(
    method,
    logreg = inject(run_logreg(
      plan,
      args,
      contrasts$to_rest,
      rules$scanpy,
      filed = listed_first(groups, units$comparisons$group),
      !!!running
    )),
    lr = inject(run_lr(
      plan,
      args,
      latent_values(source, latent, call),
      !!!running
    )),
    inject(run_marker_test(method, plan, args, !!!running))
  )
  if (!has_change) {
    columns <- without_fold_changes(columns)
  }
  call_of <- list(
    method = method,
    compat = compat,
    group_by = if (is_string(group_by)) group_by,
    layer = layer,
    use_raw = use_raw,
    p_adjust = rules$p_adjust
  )
  markers <- new_markers(
    columns,
    source$genes,
    units,
    group_levels(cells$group, contrasts),
    call_of
  )
  if (!rules$seurat) {
    return(markers)
  }
  finish_seurat(
    markers,
    rules$min_pct,
    source$genes,
    method == "auc",
    compat
  )
}

marker_methods <- c(
  "wilcoxon",
  "t-test",
  "t-test_overestim_var",
  "binomial",
  "auc",
  "logreg",
  "lr"
)
p_adjust_methods <- c("BH", "BY", "bonferroni", "holm", "none")
marker_orders <- c("auc", "statistic", "p_value", "log2_fc")

is_t_test <- function(method) startsWith(method, "t-test")

check_marker_options <- function(asked, call) {
  number <- function(name, ...) {
    value <- asked[[name]]
    check_number(value, ..., allow_null = TRUE, arg = name, call = call)
  }
  flag <- function(name) {
    if (!is.null(asked[[name]])) {
      check_flag(asked[[name]], arg = name, call = call)
    }
  }
  choice <- function(name, choices) {
    if (!is.null(asked[[name]])) {
      check_choice(asked[[name]], choices, arg = name, call = call)
    }
  }
  number("pseudocount", min = 0)
  number("min_pct", min = 0, max = 1)
  number("min_log2_fc", min = 0)
  number("max_p_adj", min = 0, max = 1)
  check_flag(asked$only_up, arg = "only_up", call = call)
  flag("tie_correct")
  flag("continuity")
  choice("p_adjust", p_adjust_methods)
  choice("rank_by", marker_orders)
  n_genes <- asked$n_genes
  if (!is.null(n_genes) && !identical(n_genes, Inf)) {
    check_count(n_genes, min = 1, arg = "n_genes", call = call)
  }
}

# The comparison of the group that the user names first; the table has the order of levels.
listed_first <- function(groups, tested) {
  if (is.character(groups)) match(groups[[1]], as.character(tested), 1L) else 1L
}

# Options that a method has no use for are errors: none is ignored in silence.
check_method_options <- function(
  method,
  block,
  sample_by,
  latent,
  asked,
  call
) {
  refuse <- function(arg, fits, hint = NULL) {
    scoom_abort(
      c(
        "{.code method = \"{method}\"} takes no {.arg {arg}}.",
        i = hint %||% "{.arg {arg}} is for {.or {.val {fits}}}."
      ),
      class = "invalid_input",
      call = call,
      argument = arg
    )
  }
  tested <- setdiff(marker_methods, c("auc", "logreg"))
  if (!is.null(latent) && method != "lr") {
    refuse("latent", "lr")
  }
  if (!is.null(block) && method %in% c("logreg", "lr")) {
    hint <- if (method == "lr") "Name the block in {.arg latent}."
    refuse("block", setdiff(marker_methods, c("logreg", "lr")), hint)
  }
  if (!is.null(sample_by) && method %in% c("logreg", "lr")) {
    refuse("sample_by", setdiff(marker_methods, c("logreg", "lr")))
  }
  if (!is.null(asked$max_p_adj) && !method %in% tested) {
    refuse("max_p_adj", tested)
  }
  if (asked$alternative != "two.sided" && !method %in% setdiff(tested, "lr")) {
    refuse("alternative", setdiff(tested, "lr"))
  }
  if (identical(asked$rank_by, "auc") && !method %in% c("wilcoxon", "auc")) {
    refuse(
      "rank_by",
      NULL,
      "{.val auc} comes from {.code method = \"wilcoxon\"}."
    )
  }
  for (name in c("tie_correct", "continuity")) {
    if (!is.null(asked[[name]]) && method != "wilcoxon") {
      refuse(name, "wilcoxon")
    }
  }
}

# Covariates as a named list of vectors, one value for each cell.
latent_values <- function(source, latent, call) {
  if (!length(latent)) {
    return(list())
  }
  if (is.character(latent) && !anyNA(latent)) {
    latent <- set_names(lapply(latent, source$column), latent)
  }
  if (!is.list(latent) || !is_named(latent)) {
    what <- "names of columns of the cells, or a named list of values"
    abort_type(latent, what, "latent", call)
  }
  latent <- as.list(latent)
  for (name in names(latent)) {
    check_cell_values(latent[[name]], source$n_cells, name, call)
  }
  latent
}

# Runs the engine's test of a method; columns that a method does not fill are NA.
run_marker_test <- function(
  method,
  plan,
  args,
  threads,
  BPPARAM,
  progress,
  call
) {
  fn <- switch(
    method,
    wilcoxon = ,
    auc = rs_de_wilcoxon,
    binomial = rs_de_binomial,
    rs_de_ttest
  )
  args$overestimated <- method == "t-test_overestim_var"
  args$p_values <- method != "auc"
  label <- "Testing genes"
  run_pass(fn, plan, args, threads, BPPARAM, progress, label, call)
}

#' The cells of a call by group and whatever else tells them apart
#'
#' @returns A list of factors: `group`, and `within`, `block`, `sample` where named.
#' @noRd
marker_cells <- function(
  source,
  group_by,
  within,
  block,
  sample_by,
  keep_missing,
  call
) {
  more <- compact(list(within = within, block = block, sample_by = sample_by))
  factors <- list()
  for (arg in names(more)) {
    by <- more[[arg]]
    # A column with two roles is told of once.
    same <- Find(\(other) identical(more[[other]], by), names(factors))
    factors[[arg]] <- if (is.null(same)) {
      source_groups(source, by, call, arg)
    } else {
      factors[[same]]
    }
  }
  names(factors)[names(factors) == "sample_by"] <- "sample"
  c(list(group = marker_groups(source, group_by, keep_missing, call)), factors)
}

# Tests adjusted for where Seurat's numbers are wanted: all genes, filtered or not.
n_adjusted <- function(n_features, units, asked) {
  all <- asked$adjust_over == "all"
  n_features * if (all) nrow(units$comparisons) else 1
}

# Rows of a table that is made without being asked for: 1.2 GB.
max_table_rows <- 1e7
first_genes <- 100

# `n_genes`, or a number of its own where the whole table would be too large; `NULL` for
# all genes.
table_limit <- function(n_genes, n_comparisons, n_features) {
  if (identical(n_genes, Inf)) {
    return(NULL)
  }
  if (!is.null(n_genes) || n_comparisons * n_features <= max_table_rows) {
    return(n_genes)
  }
  scoom_inform(
    c(
      i = "{format_count(n_comparisons)} comparisons of {format_count(n_features)} genes: the table keeps the first {first_genes} genes of each.",
      i = "{.arg n_genes} sets another number; {.code n_genes = Inf} keeps all."
    ),
    class = "table_cut"
  )
  first_genes
}

# What the engine takes beside the plan.
engine_args <- function(units, asked, rules, plan, n_features) {
  ln_base <- log(plan$stored_log %||% plan_log_base(plan))
  list(
    unit = units$unit,
    n_units = units$n_units,
    group_units = units$group_units,
    reference_units = units$reference_units,
    stratum_of = units$stratum_of,
    sample = if (!is.null(units$samples)) {
      list(unit_sample = units$unit_sample, n_samples = length(units$samples))
    },
    tie_correct = rules$tie_correct,
    continuity = rules$continuity,
    alternative = asked$alternative,
    fold_change = rules$fold_change,
    pseudocount = rules$pseudocount %||%
      if (!rules$scanpy) default_pseudocount(plan),
    ln_base = ln_base,
    order = rules$rank_by,
    p_adjust = rules$p_adjust,
    adjust_over = asked$adjust_over,
    n_adjust = if (rules$seurat) n_adjusted(n_features, units, asked),
    n_genes = asked$n_genes,
    min_pct = max(0, rules$min_pct - if (rules$seurat) seurat_slack else 0),
    min_log2_fc = rules$min_log2_fc,
    only_up = asked$only_up,
    max_p_adj = asked$max_p_adj
  )
}

# Levels of the column `group`: those of the grouping, or the sets of the call.
group_levels <- function(factor, contrasts) {
  labels <- unique(contrasts$labels[contrasts$group])
  if (all(labels %in% levels(factor))) levels(factor) else labels
}

check_two_groups <- function(group, keep_missing, call) {
  levels <- levels(group)
  if (length(levels) + (keep_missing && anyNA(group)) < 2) {
    scoom_abort(
      c(
        "There is nothing to compare.",
        x = if (length(levels)) {
          "All cells are in group {.val {levels}}."
        } else {
          "No cell has a group."
        }
      ),
      class = "one_group",
      call = call
    )
  }
}

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

# What `x` can be, for messages.
marker_inputs <- paste(
  "an object opened by {.fn open_h5ad},",
  "a Seurat or SingleCellExperiment object, or a matrix"
)

# Residuals are no logarithms of anything; corrected values still are.
has_fold_changes <- function(plan) {
  is_residual <- \(op) is_dense_op(op) && !identical(op$verb, "combat")
  !any(vapply(plan$ops, is_residual, NA))
}

check_without_fold_changes <- function(asked, compat, call) {
  used <- c(
    if (isTRUE(asked$min_log2_fc > 0)) "min_log2_fc",
    if (asked$only_up) "only_up",
    if (identical(asked$rank_by, "log2_fc")) "rank_by",
    if (!is.null(asked$pseudocount)) "pseudocount",
    if (compat != "none") "compat"
  )
  if (length(used)) {
    scoom_abort(
      c(
        "Residuals have no fold changes, which {.arg {used}} need{?s/}.",
        i = "Test the values before {.fn regress_out} or {.fn normalize_pearson_residuals}, or a layer."
      ),
      class = "no_fold_changes",
      call = call,
      argument = used[[1]]
    )
  }
  scoom_inform(
    c(
      i = "Tests use the residuals: {.field mean_group} and {.field mean_reference} are their means, {.field log2_fc} is {.val {NA}}."
    ),
    class = "tests_on_residuals"
  )
}

without_fold_changes <- function(columns) {
  for (name in intersect(names(columns), c("log2_fc", "worst_log2_fc"))) {
    columns[[name]] <- rep(NA_real_, length(columns[[name]]))
  }
  columns
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
