#' Compute quality metrics of cells and genes
#'
#' Counts, detected genes and the share of gene sets for every cell; cells,
#' counts and dropout for every gene. A running verb: one pass over the file gives
#' all of them.
#'
#' @details
#' With \eqn{x_{ij}} the count of gene \eqn{j} in cell \eqn{i}, for every cell:
#'
#' 1. `total_counts` \eqn{= \sum_j x_{ij}}.
#' 2. `n_genes`: the number of genes with \eqn{x_{ij} \ne 0}. Zeros that the file
#'    stores are not detected.
#' 3. For every set: `total_counts_<set>`, the sum over its genes, and `pct_<set>`,
#'    100 times this over `total_counts`; `NaN` in a cell without counts.
#' 4. `pct_top_<k>`: the percentage of counts in the cell's `k` largest genes.
#'
#' For every gene: `n_cells` with \eqn{x_{ij} \ne 0}, `total_counts`,
#' `mean_counts` over all cells, and `pct_dropout`, the percentage of cells
#' without the gene. With `log1p` there is \eqn{\ln(1 + v)} of counts and
#' means. The numbers are those of scanpy's `calculate_qc_metrics()`.
#'
#' Sums of counts are exact and do not depend on threads or workers. Values that
#' are not whole numbers (logarithms, for instance) give a message, negative and
#' missing ones an error.
#'
#' The object remembers which genes and cells the metrics were computed on.
#' Filtering by a metric after the selection changed, or after [downsample_counts()], warns
#' with class `scoom_warning_stale_qc`.
#'
#' Memory: 8 bytes per cell and column; 32 bytes per gene and about 40 MB per thread.
#'
#' @param x An object opened by [open_h5ad()].
#' @param layer The layer that holds counts; `NULL` for X.
#' @param gene_sets A named list of sets. One string is a regular expression over
#'   gene names, several strings are gene names; logicals and positions select as in
#'   `x[, j]`. `NULL` for none. A set without genes gives a warning.
#' @param percent_top Numbers of genes for `pct_top_<k>`; `NULL` for none. Those larger
#'   than the number of genes are left out.
#' @param log1p Whether to add the `log1p_` columns.
#' @param threads Threads to use; `NULL` for `options(scoom.threads)`.
#' @param BPPARAM A BiocParallel backend whose workers share the reading, or `NULL`
#'   for threads alone. The result is the same.
#' @param progress `TRUE` or `FALSE`, whether to show progress; `NULL` for
#'   `options(scoom.progress)`.
#' @returns `x` with the columns above in `obs` and `var`.
#' @references
#' McCarthy, Campbell, Lun, Wills (2017) Scater: pre-processing, quality control,
#' normalization and visualization of single-cell RNA-seq data in R.
#' *Bioinformatics* 33, 1179. \doi{10.1093/bioinformatics/btw777}
#' @seealso [filter_cells()], [filter_genes()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' x <- calc_qc_metrics(x, gene_sets = list(mt = "^MT-", ribo = "^RP[LS]"))
#' summary(x$obs$pct_mt)
#' head(x$var)
calc_qc_metrics <- function(
  x,
  layer = NULL,
  gene_sets = list(mt = "^MT-"),
  percent_top = c(50, 100, 200, 500),
  log1p = TRUE,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  check_scoom(x)
  check_string(layer, allow_null = TRUE)
  check_flag(log1p)
  qc_metrics(
    x,
    layer,
    gene_sets,
    percent_top,
    log1p,
    NULL,
    threads,
    BPPARAM,
    progress,
    current_env()
  )
}

# Metrics of an object's X; genes are counted over the cells within `bounds` too, a list
# by the names of cell_conditions().
qc_within <- function(
  x,
  bounds,
  gene_sets,
  percent_top = c(50, 100, 200, 500),
  log1p = TRUE,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL,
  call = caller_env()
) {
  check_flag(log1p, call = call)
  qc_metrics(
    x,
    NULL,
    gene_sets,
    percent_top,
    log1p,
    bounds,
    threads,
    BPPARAM,
    progress,
    call
  )
}

qc_metrics <- function(
  x,
  layer,
  gene_sets,
  percent_top,
  log1p,
  bounds,
  threads,
  BPPARAM,
  progress,
  call
) {
  if (is.null(layer)) {
    message <- "Quality metrics are of counts."
    check_not_adjusted(x_recipe(x, call), message, call)
  }
  sets <- resolve_gene_sets(x, gene_sets, call)
  tops <- resolve_percent_top(percent_top, n_vars(x), call)
  plan <- scoom_plan(x, layer = layer, drop_scale = TRUE, call = call)
  args <- list(sets = unname(sets), tops = tops)
  if (length(bounds)) {
    args$bounds <- engine_bounds(bounds, names(sets))
  }
  found <- run_pass(
    rs_qc_metrics,
    plan,
    args,
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress,
    label = "Quality metrics",
    call = call
  )
  check_count_values(found$check, x, call)
  x <- set_obs(x, cell_metrics(found, names(sets), tops, log1p))
  x <- set_var(x, gene_metrics(found, n_obs(x), log1p))
  x <- remember_qc(x, layer, found, names(sets), tops)
  if (length(bounds)) remember_kept(x, bounds, found) else x
}

engine_bounds <- function(bounds, sets) {
  list(
    detected = c(bounds$min_genes %||% -Inf, bounds$max_genes %||% Inf),
    total = c(bounds$min_counts %||% -Inf, bounds$max_counts %||% Inf),
    set = if (!is.null(bounds$max_pct_mt)) match("mt", sets),
    below = as.double(bounds$max_pct_mt)
  )
}

cell_metrics <- function(found, sets, tops, log1p) {
  columns <- list(n_genes = found$detected, total_counts = found$totals)
  for (k in seq_along(sets)) {
    total <- found$set_totals[[k]]
    columns[[paste0("total_counts_", sets[[k]])]] <- total
    columns[[paste0("pct_", sets[[k]])]] <- 100 * total / found$totals
  }
  for (k in seq_along(tops)) {
    name <- paste0("pct_top_", format(tops[[k]], scientific = FALSE))
    columns[[name]] <- 100 * found$top_sums[[k]] / found$totals
  }
  with_logs(columns, c("n_genes", "total_counts"), log1p)
}

gene_metrics <- function(found, n_obs, log1p) {
  columns <- list(
    n_cells = found$gene_detected,
    total_counts = found$gene_totals,
    mean_counts = found$gene_mean,
    pct_dropout = 100 * (1 - found$gene_detected / n_obs)
  )
  with_logs(columns, c("total_counts", "mean_counts"), log1p)
}

with_logs <- function(columns, stems, log1p) {
  if (!log1p) {
    return(columns)
  }
  pattern <- paste0("^(", paste(stems, collapse = "|"), ")(_|$)")
  counted <- columns[grepl(pattern, names(columns))]
  names(counted) <- paste0("log1p_", names(counted))
  c(columns, lapply(counted, \(v) base::log1p(v)))
}

# Gene sets ----------------------------------------------------------------------

# A named list of positions.
resolve_gene_sets <- function(x, gene_sets, call = caller_env()) {
  if (!length(gene_sets)) {
    return(set_names(list(), character()))
  }
  is_valid <- is.list(gene_sets) && is_named(gene_sets)
  if (!is_valid || anyDuplicated(names(gene_sets))) {
    scoom_abort(
      c(
        "{.arg gene_sets} must be a list with unique names.",
        i = "For example {.code list(mt = \"^MT-\", markers = c(\"CD3D\", \"MS4A1\"))}."
      ),
      class = "invalid_input",
      call = call,
      argument = "gene_sets"
    )
  }
  sets <- list()
  for (name in names(gene_sets)) {
    sets[[name]] <- resolve_gene_set(x, gene_sets[[name]], name, call)
  }
  sets
}

resolve_gene_set <- function(x, set, name, call) {
  if (!is.character(set)) {
    return(resolve_genes(x, set, call))
  }
  genes <- var_names(x)
  if (length(set) == 1) {
    index <- match_pattern(set, genes, name, call)
  } else {
    index <- which(genes %in% set)
    warn_absent_genes(setdiff(set, genes), name, genes, call)
  }
  if (!length(index)) {
    scoom_warn(
      c(
        "No gene is in the set {.field {name}}: its counts are 0.",
        i = if (length(genes)) {
          "Names of genes are like {.val {head_of(genes, 3)}}."
        },
        i = if (is_string(set)) {
          "The pattern {.val {set}} tells capital and small letters apart."
        }
      ),
      class = "empty_gene_set",
      call = call,
      set = name
    )
  }
  index
}

match_pattern <- function(pattern, genes, name, call) {
  tryCatch(
    suppressWarnings(grep(pattern, genes)),
    error = function(e) {
      scoom_abort(
        c(
          "{.arg gene_sets}: the set {.field {name}} is not a regular expression.",
          x = "It is {.val {pattern}}."
        ),
        class = "invalid_input",
        call = call,
        argument = "gene_sets"
      )
    }
  )
}

warn_absent_genes <- function(absent, name, genes, call) {
  if (!length(absent)) {
    return(invisible())
  }
  scoom_warn(
    c(
      "{length(absent)} gene{?s} of the set {.field {name}} {cli::qty(length(absent))}{?is/are} not there: {.val {head_of(absent, 5)}}.",
      did_you_mean(absent[[1]], genes)
    ),
    class = "genes_absent",
    call = call,
    genes = absent
  )
}

resolve_percent_top <- function(percent_top, n_vars, call) {
  if (!length(percent_top)) {
    return(numeric())
  }
  if (!is_integerish(percent_top, finite = TRUE) || any(percent_top < 1)) {
    abort_type(percent_top, "whole numbers from 1 on", "percent_top", call)
  }
  tops <- sort(unique(as.double(percent_top)))
  too_large <- tops[tops > n_vars]
  if (length(too_large)) {
    scoom_inform(
      c(
        i = "There {cli::qty(n_vars)}{?is/are} {n_vars} gene{?s}: no percentage for the top {too_large}."
      ),
      class = "percent_top_left_out"
    )
  }
  setdiff(tops, too_large)
}

# Values -------------------------------------------------------------------------

#' Refuse values that counts can't have
#'
#' @param found The `check` of a pass: `nonfinite`, `negative`, `fractional`.
#' @param note Whether values that are not whole numbers give a message.
#' @noRd
check_count_values <- function(found, x, call = caller_env(), note = TRUE) {
  for (kind in c("nonfinite", "negative")) {
    first <- found[[kind]]$first
    if (!is.null(first)) {
      abort_value(found[[kind]]$count, first, kind, x, call)
    }
  }
  first <- found$fractional
  if (note && !is.null(first)) {
    scoom_inform(
      c(
        "!" = "The values are not counts: cell {place_cell(x, first)} has {signif(first$value, 4)} for gene {place_gene(x, first)}.",
        i = "Metrics mean most on raw counts; {.arg layer} takes those of a layer."
      ),
      class = "not_counts"
    )
  }
  invisible()
}

abort_value <- function(count, first, kind, x, call) {
  what <- if (kind == "negative") "negative" else "not finite"
  scoom_abort(
    c(
      "{format_count(count)} value{cli::qty(count)}{?s} {?is/are} {what}.",
      x = "The first is {first$value}, of cell {place_cell(x, first)} and gene {place_gene(x, first)}.",
      i = if (kind == "negative") {
        "Counts can't be negative: were the values scaled? Take a layer with counts."
      } else {
        "Leave such cells or genes out, or take another layer."
      }
    ),
    class = "invalid_values",
    call = call,
    cell = first$cell,
    gene = first$gene
  )
}

place_cell <- function(x, place) {
  cli::format_inline("{.val {view_names(x, 'obs')[[place$cell]]}}")
}

place_gene <- function(x, place) {
  cli::format_inline("{.val {view_names(x, 'var')[[place$gene]]}}")
}

# What the first stored values of a recipe look like, or NULL where a look would
# take a pass (columns on disk) or there is nothing to see.
peek_values <- function(x, recipe, call = caller_env()) {
  if (identical(recipe_kind(x, recipe), "csc")) {
    return(NULL)
  }
  look <- \() {
    plan <- recipe[names(recipe) %in% source_fields]
    args <- list(first = TRUE)
    rs_unwrap(rs_qc_check(plan, args, scoom_ctx(), NULL), call)
  }
  if (is.null(recipe$path)) {
    return(look())
  }
  cached(x, paste0("values:", recipe$path, ":", recipe$element), look)
}

# Refuses negative and missing values among the first ones; the rest is not read.
check_first_values <- function(found, x, call = caller_env()) {
  for (kind in c("nonfinite", "negative")) {
    first <- found$check[[kind]]$first
    if (!is.null(first)) {
      scoom_abort(
        c(
          "The values can't be counts.",
          x = "The file has {first$value} in row {first$cell}, column {first$gene}.",
          i = if (kind == "negative") {
            "Were the values scaled? Take a layer with counts: {.code x$X <- x$layers$counts}."
          }
        ),
        class = "invalid_values",
        call = call
      )
    }
  }
  invisible()
}

source_fields <- c("path", "size", "mtime", "element", "matrix")

recipe_kind <- function(x, recipe) {
  file <- field(x, "file")
  infos <- c(list(file$X, file$raw$X), file$layers)
  for (info in infos) {
    if (identical(info$element, recipe$element)) {
      return(info$kind)
    }
  }
  NULL
}

# What was computed on which selection ----------------------------------------------

# Source, selection and operations of a matrix now. A selection of genes at the
# end of the chain changes no value.
matrix_state <- function(x, recipe) {
  ops <- recipe$ops
  last <- length(ops)
  if (last > 0 && ops[[last]]$op == "select_genes") {
    ops <- ops[-last]
  }
  list(
    source = recipe[names(recipe) %in% source_fields],
    ops = ops,
    rows = field(x, "rows"),
    cols = field(x, "cols")
  )
}

remember_qc <- function(x, layer, found, sets, tops) {
  recipe <- if (is.null(layer)) x_recipe(x) else layer_recipe(x, layer)
  set_field(
    x,
    "qc",
    list(
      state = matrix_state(x, recipe),
      layer = layer,
      obs = names(cell_metrics(found, sets, tops, TRUE)),
      var = names(gene_metrics(found, n_obs(x), TRUE)),
      totals = found$totals,
      gene_detected = found$gene_detected,
      gene_totals = found$gene_totals,
      whole = is.null(found$check$fractional)
    )
  )
}

# Beside the metrics, the counts of genes over the cells within bounds. Sums of values that
# are no counts depend on the order of adding, so that these are not kept.
remember_kept <- function(x, bounds, found) {
  keep <- in_bounds(found$detected, bounds$min_genes, bounds$max_genes) &
    in_bounds(found$totals, bounds$min_counts, bounds$max_counts)
  if (!is.null(bounds$max_pct_mt)) {
    pct_mt <- obs_column(x, "pct_mt")
    keep <- keep & !is.nan(pct_mt) & pct_mt < bounds$max_pct_mt
  }
  if (!is.null(found$check$fractional) || sum(keep) != found$kept$n_cells) {
    return(x)
  }
  qc <- field(x, "qc")
  rows <- if (all(keep)) qc$state$rows else compose(qc$state$rows, which(keep))
  qc$kept <- c(list(rows = rows), found$kept)
  set_field(x, "qc", qc)
}

# Warns where `used` are metrics of another selection or of other counts: those of cells
# depend on the genes, those of genes on the cells. With `depth_only` another selection
# does not matter.
warn_stale_qc <- function(
  x,
  margin,
  used,
  call = caller_env(),
  depth_only = FALSE
) {
  qc <- field(x, "qc")
  used <- intersect(used, qc[[margin]])
  along <- if (margin == "obs") "cols" else "rows"
  other <- if (margin == "obs") "genes" else "cells"
  of <- c(
    if (!depth_only && !identical(qc$state[[along]], field(x, along))) {
      paste("on other", other)
    },
    if (!is_same_depth(qc, x)) "on counts of another depth"
  )
  if (!length(used) || !length(of)) {
    return(invisible())
  }
  again <- if (margin == "obs") {
    ""
  } else {
    " So do {.arg min_cells} and {.arg min_counts}."
  }
  scoom_warn(
    c(
      "{.field {used}} {cli::qty(length(used))}{?was/were} computed {of}.",
      i = paste0("{.fn calc_qc_metrics} computes anew.", again)
    ),
    class = "stale_qc",
    call = call,
    columns = used
  )
}

# Whether the chain of X draws counts as it did for the metrics; nothing draws from a layer.
is_same_depth <- function(qc, x) {
  drawn <- \(ops) Filter(\(op) op$op == "downsample", ops)
  !is.null(qc$layer) ||
    identical(drawn(qc$state$ops), drawn(field(x, "X")$ops))
}

# Totals of the cells selected now, or NULL where the metrics can't tell.
known_totals <- function(x) {
  qc <- field(x, "qc")
  now <- matrix_state(x, x_recipe(x))
  if (!same_values(qc$state, now) || !identical(qc$state$cols, now$cols)) {
    return(NULL)
  }
  at <- positions_in(qc$state$rows, now$rows)
  if (anyNA(at)) {
    NULL
  } else if (is.null(at)) {
    qc$totals
  } else {
    qc$totals[at]
  }
}

# Whether the metrics have found whole numbers only, in the stored values of a recipe or in
# more of them.
known_whole <- function(x, recipe) {
  qc <- field(x, "qc")
  stored <- vapply(qc$state$ops, \(op) op$op == "select_genes", NA)
  is_true(qc$whole) &&
    all(stored) &&
    identical(qc$state$source, recipe[names(recipe) %in% source_fields]) &&
    !anyNA(positions_in(qc$state$rows, field(x, "rows"))) &&
    !anyNA(positions_in(qc$state$cols, field(x, "cols")))
}

# Cells and counts of the genes selected now, or NULL where the metrics can't tell.
known_gene_counts <- function(x, layer) {
  qc <- field(x, "qc")
  recipe <- if (is.null(layer)) x_recipe(x) else layer_recipe(x, layer)
  now <- matrix_state(x, recipe)
  if (!same_values(qc$state, now)) {
    return(NULL)
  }
  if (!identical(qc$state$rows, now$rows)) {
    # Those of the cells that were going to be kept.
    if (is.null(qc$kept) || !identical(qc$kept$rows, now$rows)) {
      return(NULL)
    }
    qc <- utils::modifyList(qc, qc$kept[c("gene_detected", "gene_totals")])
  }
  at <- positions_in(qc$state$cols, now$cols)
  if (anyNA(at)) {
    return(NULL)
  }
  at <- at %||% seq_len(n_vars(x))
  list(n_cells = qc$gene_detected[at], counts = qc$gene_totals[at])
}

same_values <- function(then, now) {
  !is.null(then) &&
    identical(then$source, now$source) &&
    identical(then$ops, now$ops)
}

# Where the positions selected now are among those selected then; NULL for the same.
positions_in <- function(then, now) {
  if (identical(then, now)) {
    return(NULL)
  }
  if (is.null(then)) {
    now
  } else if (is.null(now)) {
    NA
  } else {
    match(now, then)
  }
}
