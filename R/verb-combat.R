#' Correct batches with ComBat
#'
#' Brings the batches to a common mean and variance of every gene, with parameters that
#' are shrunk towards those of all genes (parametric empirical Bayes). One pass over the file
#' finds the parameters; corrected values are lazy, computed whenever values are read.
#'
#' @details
#' 1. Every gene is regressed on the batches and the covariates. With the pooled residual
#'    variance \eqn{\sigma_j^2} (divisor \eqn{n}) and \eqn{w_{ij}}, the mean of all cells
#'    moved by the covariates of the cell, values are standardised:
#'    \eqn{s_{ij} = (x_{ij} - w_{ij}) / \sigma_j}.
#' 2. Means \eqn{\hat\gamma_{bj}} and variances \eqn{\hat\delta_{bj}} (divisor \eqn{n_b - 1}) of
#'    \eqn{s} in each batch. A normal and an inverse gamma prior of each batch follow from
#'    their means and variances over the genes.
#' 3. Posterior means \eqn{\gamma^*_{bj}} and \eqn{\delta^*_{bj}}, one in terms of the other, until
#'    no parameter of the batch grows by more than 1e-4 of itself.
#' 4. Values become
#'    \eqn{\sigma_j (s_{ij} - \gamma^*_{bj}) / \sqrt{\delta^*_{bj}} + w_{ij}}.
#'
#' These are the steps of scanpy's `pp.combat()`, and those of `sva::ComBat()` but for the divisor
#' of the variance of \eqn{\hat\gamma} over genes. Genes that do not vary within batches
#' take no part, and come out with one mean; scanpy lets them end the search of step 3 after
#' one step. Covariates that are factors are coded as in `model.matrix()`.
#'
#' Correct logarithms of normalised counts; counts give a note, and so do stored values that
#' are negative and may be scaled (class `scoom_message_looks_scaled`). Cells and genes that are
#' selected afterwards keep their values.
#'
#' A batch of one cell is an error of class `scoom_error_small_batch`, one batch alone
#' `scoom_error_one_batch`, a cell without a batch or covariate
#' `scoom_error_missing_covariates`, and covariates that follow from the batches, or from
#' each other, `scoom_error_collinear_covariates`, which names them.
#'
#' @inheritSection normalize_pearson_residuals Values without zeros
#' @section Memory:
#' 8 bytes for each cell and column of the covariates, and for each gene twice the number of
#' batches. The pass: for each gene and batch 32 bytes and 8 for each column of the covariates,
#' for each thread twice; where that exceeds half of `options(scoom.memory)`, genes
#' are fitted in slices, with a pass for each.
#'
#' @inheritParams calc_qc_metrics
#' @param batch The column of obs that has the batches.
#' @param covariates Names of columns of obs whose effects are kept, such as a
#'   condition; `NULL` for none.
#' @returns `x`, whose X is corrected.
#' @references
#' Johnson, Li, Rabinovic (2007) Adjusting batch effects in microarray expression data using
#' empirical Bayes methods. *Biostatistics* 8, 118. \doi{10.1093/biostatistics/kxj037}
#'
#' Leek, Johnson, Parker, Jaffe, Storey (2012) The sva package for removing batch effects and
#' other unwanted variation in high-throughput experiments. *Bioinformatics* 28, 882.
#' \doi{10.1093/bioinformatics/bts034}
#' @seealso [regress_out()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   combat("donor")
#' as.matrix(x$X[1:3, 1:5])
combat <- function(
  x,
  batch,
  covariates = NULL,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_string(batch)
  check_column_names(covariates, "covariates", call, allow_null = TRUE)
  if (batch %in% covariates) {
    scoom_abort(
      "{.field {batch}} can't be both {.arg batch} and among {.arg covariates}.",
      class = "invalid_input",
      call = call,
      argument = "covariates"
    )
  }
  recipe <- x_recipe(x, call)
  check_not_scaled(recipe, call)
  values <- covariate_columns(x, c(batch, covariates), call)
  check_has_cells(x, call)
  batches <- batch_factor(values[[batch]], batch, call)
  note_counts(x, recipe, NULL, call)
  note_scaled(x, recipe, NULL, adjust_hint, call)
  warn_stale_qc(x, "obs", covariates, call, depth_only = TRUE)
  beside <- "the batches or the other covariates"
  design <- code_design(batches, without(values, batch), beside)
  single <- vapply(without(values, batch), nlevels, 0L) == 1
  if (any(single)) {
    abort_collinear(covariates[single], rep(TRUE, sum(single)), beside, call)
  }
  basis <- design_basis(design, n_obs(x), call)
  run <- list(threads = threads, BPPARAM = BPPARAM, progress = progress)
  fit <- fit_genes(x, design, basis, by_group = TRUE, run, call)
  args <- c(list(basis = basis, n_vars = n_vars(x)), fit)
  found <- rs_unwrap(rs_adjust_combat(args), call)
  by_batch <- c(n_vars(x), design$n_groups)
  op <- list(
    op = "adjust",
    verb = "combat",
    batch = batch,
    covariates = covariates,
    n_columns = length(design$columns),
    design = matrix(basis$rows, length(design$columns), n_obs(x)),
    coefficients = matrix(
      found$coefficients,
      n_vars(x),
      length(design$columns)
    ),
    groups = design$groups,
    offset = array(found$offset, by_batch),
    scale = array(found$scale, by_batch)
  )
  if (found$n_constant > 0) {
    scoom_inform(
      c(
        i = "{format_count(found$n_constant)} gene{cli::qty(found$n_constant)}{?s} {?does/do} not vary within batches and {?takes/take} no part."
      ),
      class = "constant_genes"
    )
  }
  add_op(x, op, call)
}

batch_factor <- function(values, name, call) {
  batches <- group_factor(values, name, call)
  sizes <- table(batches)
  if (length(sizes) < 2) {
    scoom_abort(
      c(
        "There is nothing to correct.",
        x = "All cells are of batch {.val {names(sizes)}} in {.field {name}}."
      ),
      class = "one_batch",
      call = call
    )
  }
  small <- names(sizes)[sizes < 2]
  if (length(small)) {
    scoom_abort(
      c(
        "Every batch needs two cells.",
        x = "{cli::qty(length(small))}Batch{?es} {.val {head_of(small, 5)}} of {.field {name}} {cli::qty(length(small))}{?has/have} one.",
        i = "Leave such cells out, or give them to another batch."
      ),
      class = "small_batch",
      call = call,
      batches = small
    )
  }
  batches
}
