#' Regress out columns of the cells
#'
#' Replaces the values of every gene by the residuals of a linear regression on columns of
#' obs, such as the percentage of mitochondrial counts or the batch. One pass over the file
#' finds the coefficients; residuals are lazy, computed whenever values are read.
#'
#' @details
#' 1. Factors, strings and logicals are coded as groups, numbers as they are. The model has
#'    an intercept.
#' 2. The factor with most levels gives a mean to each of its groups. All other columns are
#'    centred within those groups and made orthonormal (Gram-Schmidt, twice), so that
#'    the pass has sums of products alone to collect and nothing is inverted. Fitted values
#'    are those of `lm()` to about 1e-10.
#' 3. Residuals are \eqn{z_{ij} = x_{ij} - \bar{x}_{g(i)j} - \sum_k q_{ik} \beta_{kj}}, for every
#'    gene of every cell.
#'
#' Cells and genes that are selected afterwards keep their residuals. With numbers, and with
#' one factor, these are the residuals of scanpy's `pp.regress_out()`; as there, a gene that does
#' not vary comes back as it is from one factor, and as zeros from numbers. Several
#' columns of any kind may be mixed, which scanpy does not allow.
#'
#' Columns with missing or infinite values are an error of class
#' `scoom_error_missing_covariates`. A column that has one value, or that follows from those
#' before it, is an error of class `scoom_error_collinear_covariates` that names it (where what is
#' left of its standard deviation is 1e-7 or less, as in `lm()`). As many coefficients as cells
#' are an error of class `scoom_error_too_few_cells`. Stored values that are negative may be
#' scaled, and a message of class `scoom_message_looks_scaled` says so. Metrics of [calc_qc_metrics()] from before
#' [downsample_counts()] warn with class `scoom_warning_stale_qc`.
#'
#' @inheritSection normalize_pearson_residuals Values without zeros
#' @section Memory:
#' 8 bytes for each cell and column (a factor with \eqn{l} levels has \eqn{l - 1}, but for the
#' one with most levels 4 bytes a cell in all) and for each gene and coefficient. The
#' pass: 32 bytes for each gene and group and 8 for each gene and further column, for each
#' thread twice; where that exceeds half of `options(scoom.memory)`, genes are fitted in slices,
#' with a pass for each.
#'
#' @inheritParams calc_qc_metrics
#' @param covariates Names of columns of obs.
#' @returns `x`, whose X is residuals.
#' @references
#' Satija, Farrell, Gennert, Schier, Regev (2015) Spatial reconstruction of
#' single-cell gene expression data. *Nature Biotechnology* 33, 495.
#' \doi{10.1038/nbt.3192}
#' @seealso [combat()], [scale_genes()], [run_pca()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   calc_qc_metrics() |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   regress_out("total_counts")
#' as.matrix(x$X[1:3, 1:5])
regress_out <- function(
  x,
  covariates,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_column_names(covariates, "covariates", call)
  recipe <- x_recipe(x, call)
  check_not_scaled(recipe, call)
  values <- covariate_columns(x, covariates, call)
  check_has_cells(x, call)
  note_counts(x, recipe, NULL, call)
  note_scaled(x, recipe, NULL, adjust_hint, call)
  # Totals over all genes are what variable genes are regressed on.
  warn_stale_qc(x, "obs", covariates, call, depth_only = TRUE)
  design <- regression_design(values, call)
  n_coefficients <- design$n_groups + length(design$columns)
  if (n_coefficients >= n_obs(x)) {
    scoom_abort(
      c(
        "There are too few cells to regress on {.field {covariates}}.",
        x = "{counted(n_obs(x), 'cell')} {cli::qty(n_obs(x))}{?leaves/leave} nothing after {counted(n_coefficients, 'coefficient')}."
      ),
      class = "too_few_cells",
      call = call
    )
  }
  basis <- design_basis(design, n_obs(x), call)
  run <- list(threads = threads, BPPARAM = BPPARAM, progress = progress)
  fit <- fit_genes(x, design, basis, by_group = FALSE, run, call)
  offset <- -fit$mean
  # As scanpy, which regresses on the means of the groups and leaves out what is constant.
  if (length(values) == 1 && !length(design$columns)) {
    offset[is_constant_gene(fit), ] <- 0
  }
  op <- list(
    op = "adjust",
    verb = "regress_out",
    covariates = covariates,
    n_columns = length(design$columns),
    design = matrix(basis$rows, length(design$columns), n_obs(x)),
    coefficients = fit$products,
    groups = if (design$n_groups > 1) design$groups,
    offset = offset,
    scale = NULL
  )
  add_op(x, op, call)
}

is_constant_gene <- function(fit) {
  rowSums(fit$squares) == 0 & rowSums(fit$mean != fit$mean[, 1]) == 0
}

# What regress_out() and combat() share -------------------------------------------------

adjust_hint <- "Usually logarithms are corrected, and {.fn scale_genes} comes after."

check_column_names <- function(names, arg, call, allow_null = FALSE) {
  check_given(names, "names of columns of obs", arg, call)
  if (is.null(names) && allow_null) {
    return(invisible())
  }
  is_names <- is.character(names) && length(names) && !anyNA(names)
  if (!is_names || anyDuplicated(names)) {
    abort_type(names, "names of columns of obs, each once", arg, call)
  }
}

#' Columns of the cells to fit
#'
#' @returns A named list of numbers and of factors without unused levels.
#' @noRd
covariate_columns <- function(x, names, call) {
  columns <- lapply(set_names(names), \(name) {
    value <- obs_column(x, name, call)
    if (is.numeric(value) && is.null(dim(value))) {
      as.double(value)
    } else if (is.atomic(value) && is.null(dim(value))) {
      droplevels(as.factor(value))
    } else {
      abort_type(value, "a column of numbers or groups", name, call)
    }
  })
  n_missing <- vapply(columns, \(v) sum(is.na(v) | is.infinite(v)), 0)
  bad <- which(n_missing > 0)
  if (length(bad)) {
    words <- sprintf(
      "%s (%s)",
      names[bad],
      vapply(n_missing[bad], \(n) counted(n, "cell"), "")
    )
    scoom_abort(
      c(
        "Covariates can't have missing or infinite values.",
        x = verbatim(paste("They do in", paste(words, collapse = ", "))),
        i = "Leave such cells out first, such as with {.code filter_cells(x, !is.na({names[bad[[1]]]}))}."
      ),
      class = "missing_covariates",
      call = call,
      columns = names[bad],
      n_missing = unname(n_missing[bad])
    )
  }
  columns
}

# The factor with most levels becomes the groups, all others columns.
regression_design <- function(values, call) {
  n_levels <- vapply(values, nlevels, 0L)
  single <- names(values)[n_levels == 1]
  if (length(single)) {
    abort_collinear(single, rep(TRUE, length(single)), "", call)
  }
  widest <- if (any(n_levels > 0)) names(values)[[which.max(n_levels)]]
  code_design(values[[widest %||% NA_character_]], without(values, widest), "")
}

#' Groups and columns of numbers
#'
#' @param groups A factor, or `NULL` for one group.
#' @param values A named list of numbers and factors.
#' @param beside What the groups are, for messages.
#' @returns A list: `groups`, codes from 0, `n_groups`, `columns`, and for each
#'   `covariate`, the name it comes from.
#' @noRd
code_design <- function(groups, values, beside) {
  columns <- lapply(values, \(value) {
    if (!is.factor(value)) {
      return(list(value))
    }
    lapply(levels(value)[-1], \(level) as.double(value == level))
  })
  list(
    groups = if (!is.null(groups)) as.integer(groups) - 1L,
    n_groups = if (is.null(groups)) 1L else nlevels(groups),
    columns = unlist(unname(columns), recursive = FALSE),
    covariate = rep(names(values), lengths(columns)),
    beside = beside
  )
}

design_basis <- function(design, n_rows, call) {
  args <- list(
    columns = design$columns %||% list(),
    groups = design$groups,
    n_groups = design$n_groups,
    n_rows = n_rows
  )
  basis <- rs_unwrap(rs_adjust_basis(args), call)
  if (!is.null(basis$collinear)) {
    names <- design$covariate[basis$collinear]
    first <- !duplicated(names)
    abort_collinear(names[first], basis$constant[first], design$beside, call)
  }
  basis
}

abort_collinear <- function(names, constant, beside, call) {
  follows <- names[!constant]
  scoom_abort(
    c(
      "Covariates must add something to each other.",
      x = if (any(constant)) {
        "{.field {names[constant]}} {cli::qty(sum(constant))}{?has/have} one value only."
      },
      x = if (length(follows)) {
        paste0(
          "{.field {follows}} {cli::qty(length(follows))}{?follows/follow} from ",
          if (nzchar(beside)) beside else "the other covariates",
          "."
        )
      },
      i = "Leave {cli::qty(length(names))}{?it/them} out."
    ),
    class = "collinear_covariates",
    call = call,
    columns = names
  )
}

#' Fit every gene
#'
#' @param by_group Whether products with the basis are told apart by group.
#' @returns Matrices of genes by groups, `mean` and `squares`, and by columns (of each
#'   group), `products`.
#' @noRd
fit_genes <- function(x, design, basis, by_group, run, call) {
  recipe <- x_recipe(x, call)
  n_columns <- length(design$columns)
  n_products <- n_columns * if (by_group) design$n_groups else 1
  args <- list(
    groups = design$groups,
    basis = basis,
    by_group = by_group
  )
  shapes <- c(
    mean = design$n_groups,
    squares = design$n_groups,
    products = n_products
  )
  slices <- fit_slices(n_vars(x), 32 * design$n_groups + 8 * n_products, run)
  parts <- lapply(slices, \(genes) {
    part <- if (length(slices) > 1) recipe_genes(recipe, genes) else recipe
    found <- run_pass(
      rs_adjust_fit,
      recipe_plan(x, part, call = call),
      args,
      threads = run$threads,
      BPPARAM = run$BPPARAM,
      progress = run$progress,
      label = "Fitting genes",
      call = call
    )
    Map(\(values, n) matrix(values, length(genes), n), found, shapes)
  })
  fit <- lapply(set_names(names(shapes)), \(name) {
    do.call(rbind, lapply(parts, `[[`, name))
  })
  check_fit(fit, x, call)
  fit
}

# Positions of the genes of each pass: partials of two runs for each thread and the
# total, in half of the budget.
fit_slices <- function(n_genes, bytes, run) {
  threads <- run$threads %||% option_threads()
  at_once <- option_memory() / 2 / (bytes * (2 * threads + 2))
  n <- min(max(1, ceiling(n_genes / max(1, at_once))), max(1, n_genes))
  if (n_genes == 0) list(integer()) else deal(seq_len(n_genes), n)
}

check_fit <- function(fit, x, call) {
  sums <- rowSums(fit$mean) + rowSums(fit$squares) + rowSums(fit$products)
  bad <- which(!is.finite(sums))
  if (length(bad)) {
    scoom_abort(
      c(
        "{length(bad)} gene{?s} {?has/have} values that are not finite.",
        x = "The first is {.val {view_names(x, 'var')[[bad[[1]]]]}}."
      ),
      class = "invalid_values",
      call = call
    )
  }
}
