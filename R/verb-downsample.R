#' Draw the same number of molecules from every cell
#'
#' Takes counts down to a common depth, so that cells or samples that were sequenced
#' deeper no longer stand out. The draw itself is lazy; the totals of the cells take one
#' pass over the file.
#'
#' @details
#' 1. One pass finds the total of every cell over the genes that are selected now, and
#'    checks that all values are counts. Logarithms, normalised and other values
#'    that are not whole numbers are an error of class `scoom_error_not_counts`.
#' 2. With `counts_per_cell`, each cell with more counts than that keeps so many of its
#'    molecules, drawn at random: without replacement a multivariate hypergeometric draw,
#'    with `replace = TRUE` a multinomial one. Cells with fewer stay as they
#'    are, as in scanpy; a message says how many.
#' 3. With `total_counts`, the molecules are drawn from the whole matrix: first how many
#'    come from each cell, in the same way, then those of the cell. A matrix with fewer
#'    counts stays as it is.
#'
#' The distributions are exact: each count is drawn given those before it. Draws
#' of more than 16 molecules at a time use the ratio of uniforms with rejection, as
#' numpy does.
#'
#' What a cell draws depends on `seed`, its row in the file and its counts alone: not
#' on threads, workers, the storage of the matrix, the order in which cells are selected or
#' how often one is. With `total_counts` how much falls to a cell also depends on which
#' cells are selected when the verb is called. R's own random numbers are not touched.
#'
#' Genes selected later do not change what was drawn. Everything that follows reads
#' the counts that were drawn, and so do [pseudobulk()], [calc_qc_metrics()], [find_doublets()] and
#' the counts of [as_Seurat()]; layers and `raw` of the file stay as they are stored. Metrics computed
#' before are those of the full counts: [calc_qc_metrics()] computes them anew, and filtering by
#' them or regressing on them warns with class `scoom_warning_stale_qc`.
#'
#' Memory: 40 bytes per cell and about 40 MB per thread. Each later pass draws anew
#' and holds 16 bytes per cell.
#'
#' @inheritParams calc_qc_metrics
#' @param counts_per_cell The number of counts that a cell keeps at most: one for all
#'   cells or one for each.
#' @param total_counts The number of counts that all cells together keep, instead of
#'   `counts_per_cell`.
#' @param replace Whether a molecule may be drawn again.
#' @param seed A whole number from 0 on.
#' @returns `x`, whose X holds the counts drawn.
#' @references
#' Kachitvichyanukul, Schmeiser (1985) Computer generation of hypergeometric random
#' variates. *Journal of Statistical Computation and Simulation* 22, 127.
#' \doi{10.1080/00949658508810839}
#'
#' Stadlober (1990) The ratio of uniforms approach for generating discrete random
#' variates. *Journal of Computational and Applied Mathematics* 31, 181.
#' \doi{10.1016/0377-0427(90)90349-5}
#' @seealso [downsample_cells()] for equal numbers of cells.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' range(rowSums(x$X))
#' even <- downsample_counts(x, counts_per_cell = 400)
#' range(rowSums(even$X))
downsample_counts <- function(
  x,
  counts_per_cell = NULL,
  total_counts = NULL,
  replace = FALSE,
  seed = 0,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_depth(counts_per_cell, total_counts, n_obs(x), call)
  check_flag(replace)
  check_seed(seed)
  recipe <- x_recipe(x, call)
  check_undrawn(x, recipe, call)
  rows <- recipe$rows
  if (!is.null(total_counts) && anyDuplicated(rows)) {
    abort_repeated(
      "{.arg total_counts} needs each cell once.",
      "Repeat cells after {.fn downsample_counts}.",
      call
    )
  }
  found <- run_pass(
    rs_qc_totals,
    scoom_plan(x, call = call),
    list(excluded = integer()),
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress,
    label = "Totals of cells",
    call = call
  )
  check_drawable(found$check, x, call)
  op <- list(
    op = "downsample",
    rows = NULL,
    counts = counts_per_cell,
    replace = replace,
    keep_fewer = TRUE,
    seed = as.double(seed),
    total = total_counts
  )
  if (is.null(total_counts)) {
    tell_shallow(found$totals, counts_per_cell)
    if (length(counts_per_cell) != 1) {
      op <- draw_by_cell(op, rows, call)
    }
  } else {
    all <- sum(found$totals)
    if (all <= total_counts) {
      scoom_inform(
        c(
          i = "All {format_count(all)} counts are kept: there are not more than {.arg total_counts}."
        ),
        class = "counts_kept"
      )
      return(x)
    }
    args <- list(
      rows = rows %||% seq_len(n_obs(x)),
      totals = found$totals,
      n = total_counts,
      replace = replace,
      seed = seed
    )
    op$counts <- rs_unwrap(rs_plan_split_total(args), call)
    # A cell's share may exceed its counts where molecules are drawn again.
    op$keep_fewer <- FALSE
    op["rows"] <- list(rows)
  }
  op$counts <- as.double(op$counts)
  add_op(x, op, call)
}

check_depth <- function(counts_per_cell, total_counts, n_cells, call) {
  if (is.null(counts_per_cell) == is.null(total_counts)) {
    scoom_abort(
      "Give one of {.arg counts_per_cell} and {.arg total_counts}.",
      class = "invalid_input",
      call = call,
      argument = "counts_per_cell"
    )
  }
  check_count(
    total_counts,
    min = 1,
    max = 2^53,
    allow_null = TRUE,
    arg = "total_counts",
    call = call
  )
  if (is.null(counts_per_cell)) {
    return(invisible())
  }
  is_number <- is_integerish(counts_per_cell, finite = TRUE) &&
    !is.logical(counts_per_cell) &&
    all(counts_per_cell >= 0 & counts_per_cell <= 2^53)
  if (!is_number || !length(counts_per_cell) %in% c(1, n_cells)) {
    what <- "a whole number from 0 on, or one for each cell"
    abort_type(counts_per_cell, what, "counts_per_cell", call)
  }
}

# Counts alone can be drawn from, and once: a second draw would use the same random
# numbers.
check_undrawn <- function(x, recipe, call) {
  if (recipe_has(recipe, "downsample")) {
    scoom_abort(
      c(
        "The counts are downsampled already.",
        i = "Start again from the object before {.fn downsample_counts}."
      ),
      class = "already_downsampled",
      call = call
    )
  }
  others <- Filter(\(op) !is_count_op(op), recipe$ops)
  if (length(others) || !is.null(stored_log(x, recipe, call))) {
    scoom_abort(
      c(
        "Only counts can be downsampled.",
        x = if (length(others)) {
          "The chain of X has changed them: {describe_chain(list(ops = others))}."
        } else {
          "{.field uns/log1p} of the file says that X holds logarithms."
        },
        i = "Downsample first, or make counts X: {.code x$X <- x$layers$counts}."
      ),
      class = "not_counts",
      call = call
    )
  }
}

check_drawable <- function(found, x, call) {
  check_count_values(found, x, call, note = FALSE)
  first <- found$fractional
  if (!is.null(first)) {
    scoom_abort(
      c(
        "Only counts can be downsampled.",
        x = "Cell {place_cell(x, first)} has {signif(first$value, 4)} for gene {place_gene(x, first)}.",
        i = "If a layer holds the counts, make it X: {.code x$X <- x$layers$counts}."
      ),
      class = "not_counts",
      call = call
    )
  }
}

tell_shallow <- function(totals, wanted) {
  n <- sum(totals < wanted)
  if (n > 0) {
    scoom_inform(
      c(
        i = "{format_count(n)} of {format_count(length(totals))} cells {cli::qty(n)}{?has/have} fewer counts and {?keeps/keep} all."
      ),
      class = "shallow_cells",
      n_cells = n
    )
  }
}

# One number for each row of the matrix.
draw_by_cell <- function(op, rows, call) {
  again <- duplicated(rows)
  if (any(again)) {
    first <- match(rows, rows)
    if (any(op$counts != op$counts[first])) {
      abort_repeated(
        "A cell that is selected several times can't have several depths.",
        "Give it the same of {.arg counts_per_cell} each time.",
        call
      )
    }
    op$counts <- op$counts[!again]
    rows <- rows[!again]
  }
  op["rows"] <- list(rows)
  op
}

abort_repeated <- function(message, hint, call) {
  scoom_abort(
    c(message, x = "Some cells are selected several times.", i = hint),
    class = "repeated_cells",
    call = call
  )
}

# Operations after which counts are still counts.
is_count_op <- function(op) op$op %in% c("select_genes", "downsample")

# Those of a chain, selections that meet taken together.
count_ops <- function(ops) {
  add <- function(ops, op) {
    if (op$op == "select_genes") append_selection(ops, op) else c(ops, list(op))
  }
  Reduce(add, Filter(is_count_op, ops), list())
}

describe_downsample <- function(op) {
  how <- if (op$replace) " with replacement" else ""
  if (!is.null(op$total)) {
    sprintf("downsample to %s counts in all%s", format_count(op$total), how)
  } else {
    depth <- if (length(op$counts)) unique(range(op$counts)) else 0
    depth <- paste(format_count(depth), collapse = " to ")
    sprintf("downsample to %s counts a cell%s", depth, how)
  }
}
