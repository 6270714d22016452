#' Pearson residuals of counts
#'
#' Turns counts into analytic Pearson residuals: how far a count is from what the cell's
#' depth and the gene's share of all counts lead one to expect, in standard deviations.
#' Residuals are lazy: they are computed whenever values are read. What they need
#' is one pass over the file, or none after [calc_qc_metrics()].
#'
#' @details
#' 1. The total \eqn{t_i} of every cell, the total \eqn{g_j} of every gene and the total
#'    \eqn{T} of all counts, over the cells and genes that are selected now.
#' 2. Expected counts \eqn{\mu_{ij} = t_i g_j / T}.
#' 3. Residuals \eqn{z_{ij} = (x_{ij} - \mu_{ij}) / \sqrt{\mu_{ij} + \mu_{ij}^2 / \theta}}: of a
#'    negative binomial model with one overdispersion \eqn{\theta} for all genes.
#' 4. Values above \eqn{c} become \eqn{c}, those below \eqn{-c} become \eqn{-c}; by default
#'    \eqn{c = \sqrt{n}} for \eqn{n} cells.
#'
#' These are the numbers of scanpy's `experimental.pp.normalize_pearson_residuals()`. Where
#' nothing is expected, in a cell without counts or of a gene without, the residual is 0
#' (scanpy: `NaN`). Genes and cells that are selected later keep their residuals: totals
#' stay those of all genes that were there. For residuals within some genes, select these
#' first: `x[, genes] |> normalize_pearson_residuals()`.
#'
#' Logarithms are an error of class `scoom_error_already_logged`, normalised values
#' `scoom_error_already_normalized`, negative values `scoom_error_invalid_values`, and values that
#' are not whole a warning of class `scoom_warning_not_counts`. Nothing but [regress_out()],
#' [combat()] and [scale_genes()] can follow.
#'
#' @section Values without zeros:
#' Every gene of every cell has a value after [normalize_pearson_residuals()],
#' [regress_out()] and [combat()]. The engine never holds them all: rows are written out
#' some at a time (12 MB at most), whatever the size of the file. What reads few genes is
#' as quick as ever, and [run_pca()] packs the sparse values from which they come;
#' work on all genes grows with cells times genes. `as.matrix(x$X)` and the conversions have
#' the values, as a dense matrix; `as(x$X, "dgCMatrix")` is an error of class
#' `scoom_error_not_sparse`.
#'
#' Tests such as [find_markers()] take these values as they are. Residuals are differences
#' from an expectation: no expression before a logarithm belongs to them, so fold changes are
#' `NA`, `mean_group` and `mean_reference` are means of the residuals, and a message of class
#' `scoom_message_tests_on_residuals` says so. Values of [combat()] stay on the scale of what
#' went in, so that their fold changes mean what they meant. [calc_qc_metrics()],
#' [normalize_total()], [log1p()][log1p.scoom], [filter_genes()] by counts and
#' [find_variable_genes()] belong before, and are errors of class
#' `scoom_error_already_adjusted` after. [pseudobulk()] sums the counts below the chain.
#'
#' Memory: 8 bytes for each cell and gene; the pass takes what [calc_qc_metrics()] takes
#' without gene sets.
#'
#' @inheritParams calc_qc_metrics
#' @param theta The overdispersion, above 0; a large one gives residuals of a Poisson model.
#' @param clip Residuals are clipped to this and its negative, at least 0; `NULL` for the
#'   square root of the number of cells.
#' @returns `x`, whose X is residuals. `uns$pearson_residuals_normalization` has `theta`, `clip`
#'   and `computed_on`.
#' @references
#' Lause, Berens, Kobak (2021) Analytic Pearson residuals for normalization of single-cell
#' RNA-seq UMI data. *Genome Biology* 22, 258. \doi{10.1186/s13059-021-02451-7}
#' @seealso [regress_out()], [combat()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_pearson_residuals()
#' as.matrix(x$X[1:3, 1:5])
normalize_pearson_residuals <- function(
  x,
  theta = 100,
  clip = NULL,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_number(theta)
  check_number(clip, min = 0, allow_null = TRUE)
  if (theta <= 0) {
    abort_type(theta, "a number above 0", "theta", call)
  }
  check_has_counts(x, call)
  found <- count_totals(x, threads, BPPARAM, progress, call)
  total <- sum(found$genes)
  if (!total > 0) {
    scoom_abort(
      c(
        "There are no counts.",
        x = if (n_obs(x) == 0) {
          "There are no cells."
        } else {
          "All selected values are zero."
        }
      ),
      class = "no_counts",
      call = call
    )
  }
  n_empty <- sum(found$cells == 0)
  if (n_empty > 0) {
    scoom_inform(
      c(
        i = "{format_count(n_empty)} cell{cli::qty(n_empty)}{?s} without counts {?has/have} residuals of 0."
      ),
      class = "cells_without_counts"
    )
  }
  clip <- as.double(clip %||% sqrt(n_obs(x)))
  op <- list(
    op = "residuals",
    theta = as.double(theta),
    clip = clip,
    totals = as.double(found$cells),
    shares = found$genes / total
  )
  x <- add_op(x, op, call)
  params <- list(theta = theta, clip = clip, computed_on = "X")
  set_uns(x, "pearson_residuals_normalization", params)
}

# Counts are needed, and nothing may have been done to them.
check_has_counts <- function(x, call) {
  recipe <- x_recipe(x, call)
  check_not_scaled(recipe, call)
  check_not_adjusted(recipe, "Pearson residuals need counts.", call)
  state <- chain_state(x)
  seen <- peek_values(x, recipe, call)
  if (state$logged || is_true(seen$is_log_normalized)) {
    abort_logged(x, "Pearson residuals need counts.", state, call)
  }
  if (state$normalized) {
    scoom_abort(
      c(
        "Pearson residuals need counts.",
        x = "X is normalised.",
        i = "Start again from the object before {.fn normalize_total}."
      ),
      class = "already_normalized",
      call = call
    )
  }
  if (!is.null(seen)) {
    check_first_values(seen, x, call)
  }
}

# Totals of cells and genes, of the metrics where those still hold.
count_totals <- function(x, threads, BPPARAM, progress, call) {
  cells <- known_totals(x)
  genes <- known_gene_counts(x, NULL)$counts
  if (!is.null(cells) && !is.null(genes)) {
    warn_not_counts(peek_values(x, x_recipe(x, call), call)$check, x, call)
    return(list(cells = cells, genes = genes))
  }
  found <- run_pass(
    rs_qc_metrics,
    scoom_plan(x, call = call),
    list(sets = list(), tops = numeric()),
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress,
    label = "Totals of cells and genes",
    call = call
  )
  check_count_values(found$check, x, call, note = FALSE)
  warn_not_counts(found$check, x, call)
  list(cells = found$totals, genes = found$gene_totals)
}

warn_not_counts <- function(check, x, call) {
  first <- check$fractional
  if (!is.null(first)) {
    scoom_warn(
      c(
        "Pearson residuals expect counts.",
        x = "There is a value of {signif(first$value, 4)}."
      ),
      class = "not_counts",
      call = call
    )
  }
}
