#' Find highly variable genes
#'
#' Marks the genes whose expression varies more between cells than that of other
#' genes with a similar mean. A running verb: one or two passes over the file,
#' whatever the number of batches.
#'
#' @details
#' All flavours select the genes that scanpy 1.11 selects, over batches too.
#'
#' `flavor = "seurat"` (one pass), from the normalised values \eqn{x}, the chain before
#' its logarithm:
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
#' `flavor = "cell_ranger"` (one pass), from the values of the chain as they are: the
#' dispersion is \eqn{v_j / m_j}; bins end at the percentiles 10, 15, 20 ... of the
#' means; dispersions are standardised by the median and the median absolute deviation
#' of their bin.
#'
#' `flavor = "seurat_v3"` (two passes), from counts:
#'
#' 1. \eqn{\log_{10} v_j} on \eqn{\log_{10} m_j} by [stats::loess()] of degree 2 with
#'    `span`, over the genes that vary; its fit gives the expected deviation
#'    \eqn{s_j}.
#' 2. Counts are standardised, \eqn{(x_{ij} - m_j) / s_j}, and those above
#'    \eqn{\sqrt n} become \eqn{\sqrt n}. `variances_norm` is the sum of their squares
#'    over \eqn{n - 1}.
#' 3. The `n_top` genes with the largest are marked. This is Seurat's `vst`.
#'
#' `flavor = "pearson_residuals"` (two passes), from counts: with the sum \eqn{g_j} of a
#' gene, the total \eqn{t_i} of a cell and \eqn{T} of all, a count is expected to be
#' \eqn{\mu_{ij} = g_j t_i / T}. Its residual is
#' \eqn{(x_{ij} - \mu_{ij}) / \sqrt{\mu_{ij} + \mu_{ij}^2 / \theta}}, clipped to
#' \eqn{\pm}`clip`; 0 in a cell without counts. The `n_top` genes with the largest
#' variance of residuals (divisor \eqn{n}) are marked. The residuals of zeros are added up
#' in closed form, so that nothing becomes dense.
#'
#' @section Values:
#' `"seurat"` and `"cell_ranger"` need logarithms of normalised counts: raw counts are an
#' error of class `scoom_error_not_logged`. Scaling is left out. Means and variances of the
#' logarithms come from the same read and serve [scale_genes()] later.
#'
#' The others read counts: the stored values, before the chain normalises them or takes
#' logarithms. Where the means of few genes or cells coincide, the fit of `"seurat_v3"` is not
#' well determined: a warning of class `scoom_warning_trend_unstable`. Where X holds something
#' else and there is a layer `counts`, that is taken
#' with a message. Logarithms are an error of class `scoom_error_not_counts`, negative
#' values one of class `scoom_error_invalid_values`; other values that are not whole
#' give a warning of class `scoom_warning_not_counts`.
#'
#' @section Batches:
#' With `batch_key`, each batch is ranked alone, and a gene is preferred
#'
#' * `"seurat"`, `"cell_ranger"`: by the number of batches that would mark it, then by its
#'   mean standardised dispersion, then by name. Genes without a value in a batch
#'   count as zero there, and are not ranked in it. With `n_top = NULL` the bounds hold for
#'   the means over the batches.
#' * `"seurat_v3"`: by the median of its ranks in the batches where it is among the `n_top`
#'   first, then by the number of these batches.
#' * `"seurat_v3_paper"`, `"pearson_residuals"`: by the number of these batches first.
#'   This is Seurat's `SelectIntegrationFeatures()`.
#'
#' Ties within a batch go by the order of genes; scanpy leaves them to a sort whose
#' order depends on the processor. Cells without a batch are left out, with a message.
#' A batch of one cell has no variance and is left out, with a warning of class
#' `scoom_warning_batches_left_out`.
#'
#' Memory, with \eqn{b} batches and \eqn{g} genes: 64 bytes per gene and about 50 MB per
#' thread; 16 \eqn{b g} bytes, 56 \eqn{b g} for the flavours that take counts; and the sums
#' of a pass, 128 \eqn{b g} bytes for `"seurat"` and 64 \eqn{b g} for the others. Where these
#' exceed half of `options(scoom.memory)`, a pass takes slices of the genes and reads
#' the file once for each. `"pearson_residuals"` holds 48 bytes per cell too.
#'
#' @inheritParams calc_qc_metrics
#' @param layer A layer with logarithms, or with counts, as the flavour needs; `NULL`
#'   for X.
#' @param flavor The method.
#' @param n_top How many genes to mark; `NULL` to use the bounds, with `"seurat"` and
#'   `"cell_ranger"`.
#' @param min_mean,max_mean,min_disp,max_disp Bounds on `means` and
#'   `dispersions_norm` for `n_top = NULL`.
#' @param n_bins Number of bins, for `"seurat"`.
#' @param span The part of the genes that each point of the fit uses, for
#'   `"seurat_v3"` and `"seurat_v3_paper"`.
#' @param theta The dispersion of the negative binomial model, for
#'   `"pearson_residuals"`; `Inf` for Poisson.
#' @param clip The largest residual, for `"pearson_residuals"`. `NULL` for
#'   \eqn{\sqrt n}; over batches \eqn{n} is that of the first one in alphabetical order,
#'   as in scanpy.
#' @param batch_key A column of obs with batches, or a vector with one value for each
#'   cell; `NULL` for none.
#' @param subset Whether to keep only the marked genes, as `x[, j]` would.
#' @returns `x` with `uns$hvg$flavor` and columns in `var`: `highly_variable` and
#'   `highly_variable_rank`, and for
#'   * `"seurat"`, `"cell_ranger"`: `means`, `dispersions` and `dispersions_norm`. Ranks
#'     begin with 1 and are `NA` where there is no dispersion.
#'   * `"seurat_v3"`, `"seurat_v3_paper"`: `means`, `variances` and `variances_norm`, the
#'     mean over the batches. Ranks are scanpy's: they begin with 0, the median over the
#'     batches, `NA` for a gene that is among the `n_top` first of none.
#'   * `"pearson_residuals"`: `means`, `variances` and `residual_variances`, and such ranks.
#'
#'   With `batch_key` also `highly_variable_nbatches`, in how many batches a gene would be
#'   marked, and for all but `"seurat_v3"` and `"seurat_v3_paper"`
#'   `highly_variable_intersection`, whether it would be in all.
#' @references
#' Satija, Farrell, Gennert, Schier, Regev (2015) Spatial reconstruction of
#' single-cell gene expression data. *Nature Biotechnology* 33, 495.
#' \doi{10.1038/nbt.3192}
#'
#' Zheng et al. (2017) Massively parallel digital transcriptional profiling of single
#' cells. *Nature Communications* 8, 14049. \doi{10.1038/ncomms14049}
#'
#' Stuart et al. (2019) Comprehensive integration of single-cell data. *Cell* 177, 1888.
#' \doi{10.1016/j.cell.2019.05.031}
#'
#' Lause, Berens, Kobak (2021) Analytic Pearson residuals for normalization of
#' single-cell RNA-seq UMI data. *Genome Biology* 22, 258.
#' \doi{10.1186/s13059-021-02451-7}
#'
#' Wolf, Angerer, Theis (2018) SCANPY: large-scale single-cell gene expression data
#' analysis. *Genome Biology* 19, 15. \doi{10.1186/s13059-017-1382-0}
#' @seealso [run_pca()], [scale_genes()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500)
#' head(x$var[order(x$var$highly_variable_rank), ])
#'
#' # From counts, each condition alone
#' y <- find_variable_genes(
#'   x,
#'   flavor = "seurat_v3",
#'   n_top = 500,
#'   batch_key = "condition"
#' )
#' table(y$var$highly_variable_nbatches)
find_variable_genes <- function(
  x,
  layer = NULL,
  flavor = c(
    "seurat",
    "cell_ranger",
    "seurat_v3",
    "seurat_v3_paper",
    "pearson_residuals"
  ),
  n_top = 2000,
  min_mean = 0.0125,
  max_mean = 3,
  min_disp = 0.5,
  max_disp = Inf,
  n_bins = 20,
  span = 0.3,
  theta = 100,
  clip = NULL,
  batch_key = NULL,
  subset = FALSE,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_string(layer, allow_null = TRUE)
  flavor <- check_choice(flavor, names(flavor_settings()))
  check_count(n_top, min = 1, allow_null = TRUE)
  check_count(n_bins, min = 1)
  check_above_zero(span, call = call)
  check_above_zero(theta, infinite = TRUE, call = call)
  check_clip(clip, call)
  check_flag(subset)
  bounds <- list(
    min_mean = min_mean,
    max_mean = max_mean,
    min_disp = min_disp,
    max_disp = max_disp
  )
  for (name in names(bounds)) {
    check_bound(bounds[[name]], name, call)
  }
  given <- c(
    min_mean = !missing(min_mean),
    max_mean = !missing(max_mean),
    min_disp = !missing(min_disp),
    max_disp = !missing(max_disp),
    n_bins = !missing(n_bins),
    span = !missing(span),
    theta = !missing(theta),
    clip = !missing(clip)
  )
  check_flavor_settings(flavor, names(given)[given], n_top, call)
  check_cells(x, call)
  if (is.null(layer)) {
    message <- "Variable genes are found on counts or their logarithms."
    check_not_adjusted(x_recipe(x, call), message, call)
  }
  batches <- resolve_batches(x, batch_key, call)
  run <- list(
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress,
    label = "Variable genes",
    call = call
  )
  settings <- list(
    flavor = flavor,
    n_top = n_top,
    bounds = lapply(bounds, as.double),
    n_bins = as.double(n_bins),
    span = span,
    theta = as.double(theta),
    clip = clip
  )
  found <- switch(
    flavor,
    seurat = ,
    cell_ranger = by_dispersion(x, layer, settings, batches, run),
    seurat_v3 = ,
    seurat_v3_paper = by_clipped_variance(x, layer, settings, batches, run),
    pearson_residuals = by_residuals(x, layer, settings, batches, run)
  )
  add_variable_genes(found, settings, !is.null(batch_key), subset)
}

# Arguments ----------------------------------------------------------------------

# What each flavour takes beside the number of genes.
flavor_settings <- function() {
  bounds <- c("min_mean", "max_mean", "min_disp", "max_disp")
  list(
    seurat = c(bounds, "n_bins"),
    cell_ranger = bounds,
    seurat_v3 = "span",
    seurat_v3_paper = "span",
    pearson_residuals = c("theta", "clip")
  )
}

check_flavor_settings <- function(flavor, given, n_top, call) {
  takes <- flavor_settings()[[flavor]]
  other <- setdiff(given, takes)
  if (length(other)) {
    users <- Filter(\(takes) other[[1]] %in% takes, flavor_settings())
    scoom_abort(
      c(
        "{.arg {other[[1]]}} has no meaning for {.code flavor = \"{flavor}\"}.",
        i = "It is for {.or {.val {names(users)}}}."
      ),
      class = "invalid_input",
      call = call,
      argument = other[[1]]
    )
  }
  has_bounds <- "min_mean" %in% takes
  if (is.null(n_top) && !has_bounds) {
    scoom_abort(
      c(
        "{.code flavor = \"{flavor}\"} needs {.arg n_top}.",
        x = "It ranks genes and has no bounds."
      ),
      class = "invalid_input",
      call = call,
      argument = "n_top"
    )
  }
  if (!is.null(n_top) && has_bounds && length(setdiff(given, "n_bins"))) {
    scoom_abort(
      c(
        "{.arg n_top} and bounds can't be used together.",
        i = "Use {.code n_top = NULL} to select by bounds."
      ),
      class = "invalid_input",
      call = call
    )
  }
}

check_bound <- function(value, name, call) {
  if (!is.numeric(value) || length(value) != 1 || is.na(value)) {
    abort_type(value, "one number", name, call)
  }
}

check_above_zero <- function(
  x,
  infinite = FALSE,
  arg = caller_arg(x),
  call = caller_env()
) {
  is_number <- is.numeric(x) && length(x) == 1 && !is.na(x)
  if (!is_number || x <= 0 || (is.infinite(x) && !infinite)) {
    abort_type(x, "one number above 0", arg, call)
  }
}

check_clip <- function(clip, call) {
  is_number <- is.numeric(clip) && length(clip) == 1 && !is.na(clip)
  if (!is.null(clip) && (!is_number || clip < 0)) {
    abort_type(clip, "{.code NULL} or one number from 0 on", "clip", call)
  }
}

check_cells <- function(x, call) {
  check_has_cells(x, call)
  if (n_obs(x) == 1) {
    scoom_abort(
      c(
        "One cell is too few to find variable genes.",
        x = "Nothing varies."
      ),
      class = "too_few_cells",
      call = call
    )
  }
}

#' The batches of cells
#'
#' @returns A list: `group`, the batch of each cell from 0, `NA` for none, or `NULL`
#'   where there is one batch of all; `names` and `sizes` of the batches; `all`, whether
#'   every cell is in one.
#' @noRd
resolve_batches <- function(x, batch_key, call) {
  if (is.null(batch_key)) {
    return(list(group = NULL, names = NULL, sizes = n_obs(x), all = TRUE))
  }
  batch <- resolve_group(x, batch_key, call, "batch_key")
  sizes <- tabulate(batch, nlevels(batch))
  small <- levels(batch)[sizes < 2]
  if (length(small) == nlevels(batch)) {
    scoom_abort(
      c(
        "No batch has two cells.",
        x = "{.arg batch_key} has {length(small)} batch{?es} for {counted(n_obs(x), 'cell')}.",
        i = "Variances need at least two cells of a batch."
      ),
      class = "too_few_cells",
      call = call
    )
  }
  if (length(small)) {
    scoom_warn(
      c(
        "{length(small)} batch{?es} of one cell {cli::qty(length(small))}{?is/are} left out: {.val {head_of(small, 5)}}.",
        i = "Nothing varies in one cell."
      ),
      class = "batches_left_out",
      call = call,
      batches = small
    )
    batch <- factor(batch, setdiff(levels(batch), small))
  }
  list(
    group = as.integer(batch) - 1L,
    names = levels(batch),
    sizes = tabulate(batch, nlevels(batch)),
    all = !anyNA(batch)
  )
}

# What passes by batch take of them.
batch_args <- function(batches) {
  list(group = batches$group, n_groups = as.double(length(batches$sizes)))
}

run_batch_pass <- function(fn, plan, args, batches, run) {
  args <- c(args, batch_args(batches))
  do.call(run_pass, c(list(fn, plan, args), run))
}

# Results ------------------------------------------------------------------------

# `found` is a list: the object `x`, and `genes`, the columns.
add_variable_genes <- function(found, settings, in_batches, subset) {
  genes <- found$genes
  if (!in_batches) {
    genes$highly_variable_nbatches <- NULL
    genes$highly_variable_intersection <- NULL
  }
  x <- set_var(found$x, genes)
  x <- set_uns(x, "hvg", list(flavor = settings$flavor))
  marked <- which(genes$highly_variable)
  tell_n_marked(length(marked), settings, n_vars(x))
  if (subset) subset_genes(x, marked) else x
}

tell_n_marked <- function(n, settings, n_genes) {
  n_top <- settings$n_top
  if (is.null(n_top) || n == n_top) {
    return(invisible())
  }
  scoom_inform(
    c(
      i = "{format_count(n)} gene{cli::qty(n)}{?s} {?is/are} marked instead of {format_count(n_top)}.",
      i = if (n > n_top) {
        "Those that tie with the last are marked too."
      } else if (n == n_genes) {
        "There are no more."
      } else {
        "No other gene varies."
      }
    ),
    class = "n_top_differs"
  )
}
