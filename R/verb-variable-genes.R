#' Find highly variable genes
#'
#' Marks the genes whose expression varies more between cells than that of other
#' genes with a similar mean. A running verb: one pass over the file.
#'
#' @details
#' `flavor = "seurat"` is the dispersion method as scanpy 1.11 has it; it selects the
#' same genes. From the normalised values \eqn{x} (the chain before its logarithm):
#'
#' 1. Mean \eqn{m_j} and variance \eqn{v_j} (divisor \eqn{n - 1}) of every gene; a mean
#'    of 0 becomes \eqn{10^{-12}}.
#' 2. The dispersion is \eqn{\ln(v_j / m_j)}, `NaN` for a gene that does not vary; the
#'    mean is shown as \eqn{\ln(1 + m_j)}.
#' 3. Genes fall into `n_bins` bins of equal width by that mean. Within a bin,
#'    dispersions are standardised by their mean and standard deviation; in a bin
#'    with one gene the result is 1.
#' 4. With `n_top`, the genes with the largest standardised dispersion are marked,
#'    and those that tie with the last. With `n_top = NULL`, the genes strictly
#'    between the bounds are.
#'
#' The values have to be logarithms of normalised counts: raw counts are an error.
#' Scaling is left out. Means and variances of the logarithms come from the same
#' read and serve [scale_genes()] later.
#'
#' Memory: 64 bytes per gene and about 50 MB per thread.
#'
#' @inheritParams calc_qc_metrics
#' @param layer A layer with logarithms; `NULL` for X.
#' @param flavor The method: `"seurat"`.
#' @param n_top How many genes to mark; `NULL` to use the bounds.
#' @param min_mean,max_mean,min_disp,max_disp Bounds on `means` and
#'   `dispersions_norm` for `n_top = NULL`.
#' @param n_bins Number of bins.
#' @param subset Whether to keep only the marked genes, as `x[, j]` would.
#' @returns `x` with columns in `var`: `highly_variable`; `highly_variable_rank`, from
#'   1 for the largest standardised dispersion, `NA` where there is none; `means`,
#'   `dispersions` and `dispersions_norm`.
#' @references
#' Satija, Farrell, Gennert, Schier, Regev (2015) Spatial reconstruction of
#' single-cell gene expression data. *Nature Biotechnology* 33, 495.
#' \doi{10.1038/nbt.3192}
#'
#' Wolf, Angerer, Theis (2018) SCANPY: large-scale single-cell gene expression data
#' analysis. *Genome Biology* 19, 15. \doi{10.1186/s13059-017-1382-0}
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500)
#' head(x$var[order(x$var$highly_variable_rank), ])
find_variable_genes <- function(
  x,
  layer = NULL,
  flavor = "seurat",
  n_top = 2000,
  min_mean = 0.0125,
  max_mean = 3,
  min_disp = 0.5,
  max_disp = Inf,
  n_bins = 20,
  subset = FALSE,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  check_scoom(x)
  check_string(layer, allow_null = TRUE)
  check_choice(flavor, "seurat")
  check_count(n_top, min = 1, allow_null = TRUE)
  check_count(n_bins, min = 1)
  check_flag(subset)
  call <- current_env()
  bounds <- list(
    min_mean = min_mean,
    max_mean = max_mean,
    min_disp = min_disp,
    max_disp = max_disp
  )
  for (name in names(bounds)) {
    check_bound(bounds[[name]], name, call)
  }
  given <- !missing(min_mean) ||
    !missing(max_mean) ||
    !missing(min_disp) ||
    !missing(max_disp)
  if (given && !is.null(n_top)) {
    scoom_abort(
      c(
        "{.arg n_top} and bounds can't be used together.",
        i = "Use {.code n_top = NULL} to select by bounds."
      ),
      class = "invalid_input",
      call = call
    )
  }
  plan <- log_plan(x, layer, call)
  found <- run_pass(
    rs_qc_gene_moments,
    plan,
    list(linear = TRUE),
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress,
    label = "Variable genes",
    call = call
  )
  check_moments(found$values, x, call)
  args <- c(
    list(
      mean = found$linear$mean,
      var = found$linear$var,
      n_bins = as.double(n_bins),
      n_top = n_top
    ),
    lapply(bounds, as.double)
  )
  genes <- rs_unwrap(rs_hvg_seurat(args), call)
  if (is.null(layer)) {
    x <- remember_moments(x, found$values)
  }
  add_variable_genes(x, genes, n_top, subset)
}

check_bound <- function(value, name, call) {
  if (!is.numeric(value) || length(value) != 1 || is.na(value)) {
    abort_type(value, "one number", name, call)
  }
}

add_variable_genes <- function(x, genes, n_top, subset) {
  names(genes)[names(genes) == "rank"] <- "highly_variable_rank"
  x <- set_var(x, genes)
  x <- set_uns(x, "hvg", list(flavor = "seurat"))
  marked <- which(genes$highly_variable)
  if (!is.null(n_top) && length(marked) != n_top) {
    scoom_inform(
      c(
        i = "{format_count(length(marked))} gene{cli::qty(length(marked))}{?s} {?is/are} marked instead of {format_count(n_top)}.",
        i = if (length(marked) > n_top) {
          "Those that tie with the last are marked too."
        } else {
          "No other gene varies."
        }
      ),
      class = "n_top_differs"
    )
  }
  if (subset) subset_genes(x, marked) else x
}

# Kept beside the object's columns for scale_genes().
remember_moments <- function(x, moments) {
  recipe <- x_recipe(x)
  recipe$ops <- Filter(\(op) op$op != "scale", recipe$ops)
  set_field(
    x,
    "moments",
    list(
      state = matrix_state(x, recipe),
      mean = moments$mean,
      var = moments$var,
      detected = moments$detected
    )
  )
}

# The plan of logarithms; raw counts are refused. Where nothing but the values
# themselves says that they are logarithms, a message does.
log_plan <- function(x, layer, call = caller_env()) {
  plan <- scoom_plan(x, layer = layer, drop_scale = TRUE, call = call)
  in_chain <- any(vapply(
    plan$ops,
    \(op) op$op %in% c("normalize", "log1p"),
    NA
  ))
  if (in_chain || !is.null(plan$stored_log)) {
    return(plan)
  }
  recipe <- if (is.null(layer)) {
    x_recipe(x, call)
  } else {
    layer_recipe(x, layer, call)
  }
  seen <- peek_values(x, recipe, call)
  is_log <- is_true(seen$is_log_normalized) ||
    !is.null(seen) && looks_logged(seen)
  if (!is_log) {
    abort_not_logged(seen, layer, call)
  }
  check_first_values(seen, x, call)
  scoom_inform(
    c(
      i = "The file does not say what its values are; they are taken for natural logarithms."
    ),
    class = "assumed_logged"
  )
  plan$stored_log <- exp(1)
  plan
}

abort_not_logged <- function(seen, layer, call) {
  what <- if (is.null(layer)) "X" else paste("Layer", layer)
  scoom_abort(
    c(
      "{.code flavor = \"seurat\"} needs logarithms of normalised counts.",
      x = if (is.null(seen)) {
        "Nothing says that {what} holds logarithms."
      } else if (is.null(seen$check$fractional)) {
        "{what} holds counts."
      } else {
        "{what} holds values up to {signif(seen$max, 3)}."
      },
      i = "First {.code normalize_total(target_sum = 1e4) |> log1p()}."
    ),
    class = "not_logged",
    call = call
  )
}

check_moments <- function(moments, x, call) {
  if (n_obs(x) == 0) {
    scoom_abort("There are no cells.", class = "no_cells", call = call)
  }
  bad <- which(!is.finite(moments$mean))
  if (length(bad)) {
    gene <- view_names(x, "var")[[bad[[1]]]]
    scoom_abort(
      c(
        "{length(bad)} gene{?s} {?has/have} values that are not finite.",
        x = "The first is {.val {gene}}."
      ),
      class = "invalid_values",
      call = call
    )
  }
}
