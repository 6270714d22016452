#' Compute principal components
#'
#' Exact principal components of the cells, by default on the highly variable
#' genes. A running verb: the file is read once where the genes fit into
#' memory, otherwise two or three times.
#'
#' @details
#' The chain decides what is decomposed. With [scale_genes()] in it, genes are
#' standardised and clipped as it says, and centred again, since clipping moves
#' their means: so do scanpy and scikit-learn. Without it, genes are centred
#' only. Residuals and corrected values ([normalize_pearson_residuals()], [regress_out()],
#' [combat()]) are computed from sparse values, which are what is packed; steps 3 and 5
#' then cost cells times genes, and the covariance is multiplied as dense matrices.
#'
#' 1. The values of the genes are packed into memory as the file is read, where
#'    half of `options(scoom.memory)` holds them. Otherwise each further step
#'    reads the file.
#' 2. Means and standard deviations of the genes, if the chain scales and
#'    [find_variable_genes()] has not computed them on the same cells.
#' 3. The covariance of the genes in float64. A standardised value is a constant
#'    of its gene plus a part that is nonzero only where the matrix is, so
#'    that nothing becomes dense: \eqn{C = (\sum_i s_i s_i^T - S S^T / n) / (n - 1)}
#'    with \eqn{S = \sum_i s_i}.
#' 4. Its leading eigenvectors to machine precision are the loadings, its
#'    eigenvalues the variances. The sign of each loading vector is such that its
#'    largest entry by size is positive.
#' 5. The scores: centred values times loadings.
#'
#' There are no random projections and there is no fixed number of iterations:
#' the result is that of a full singular value decomposition of the dense
#' matrix. Where the covariance takes more than a quarter of the memory budget
#' (more than 4,500 genes at 2 GB), block Krylov iterations with a test of
#' convergence replace steps 3 and 4; each is a pass over the packed genes or the
#' file. An iteration adds as many vectors as there are components (4 to 64) to the basis, which
#' is kept whole. They end when for each component the residual
#' \eqn{\|C v - \lambda v\|} is at most \eqn{10^{-14}} times the largest eigenvalue; this is
#' looked at when the basis has four times as many vectors as components, and then whenever it
#' has grown by a quarter. Results do not depend on threads or workers, to the last bit.
#'
#' Memory: \eqn{2 v + 80 n + 24 g^2} bytes for the \eqn{v} stored values of the \eqn{g} genes in
#' \eqn{n} cells (or \eqn{24 g^2} and two or three reads where half of the budget does not hold the
#' first two terms), and \eqn{24 n k} bytes of scores for \eqn{k} components, of which
#' \eqn{8 n k} while the values are in memory. Packing keeps for each cell its different values
#' once, of which there are few where they come from counts; values that are all different take 9
#' bytes each instead of 2.
#'
#' Workers of `BPPARAM` each read their part of the file once for the
#' covariance and once for the scores, and once more for the moments where they
#' are not known.
#'
#' More components than genes or cells allow are an error of class
#' `scoom_error_too_many_components`, values that are `NaN` or infinite
#' `scoom_error_invalid_values`, and a covariance that is too large for the workers of
#' `BPPARAM` `scoom_error_over_budget`. Counts that are not normalised are a message of class
#' `scoom_message_not_normalized`, components without variance, which constant genes or
#' few different cells leave, a warning of class `scoom_warning_no_variance`.
#'
#' @inheritParams calc_qc_metrics
#' @param n_comps The number of components; fewer than there are cells and genes.
#' @param features Genes to use, by name, position or logical. `NULL` takes those of
#'   `mask`.
#' @param mask Genes to use, instead of `features`: a logical with one value for each gene, or the name of a
#'   logical column of `var`, as scanpy's `mask_var`. `NULL` takes those marked in
#'   `var$highly_variable`, or all genes where there is no such column.
#' @param layer A layer to decompose; `NULL` for X with its chain.
#' @param key The name of the scores in `obsm`. Loadings and variances are
#'   `varm$PCs` and `uns$pca` for the default, otherwise they have this name too.
#' @returns `x` with
#'   * `obsm$X_pca`: scores, cells x components, columns `PC1`, `PC2`, ...;
#'   * `varm$PCs`: loadings, genes x components; zero for genes that were not used;
#'   * `uns$pca`: a list of `params`, `variance` (of each component, divisor
#'     \eqn{n - 1}), `variance_ratio` (its share in the variance of all genes used),
#'     `total_variance` (of all genes used) and `genes`, a data frame with what
#'     [project_pca()] needs of each gene used: its name, `feature`, the mean of its
#'     values as they were decomposed, `center`, and where the chain scales the `mean` and
#'     `sd` that it was standardised by.
#' @references
#' Pearson (1901) On lines and planes of closest fit to systems of points in
#' space. *Philosophical Magazine* 2, 559. \doi{10.1080/14786440109462720}
#'
#' Wolf, Angerer, Theis (2018) SCANPY: large-scale single-cell gene expression data
#' analysis. *Genome Biology* 19, 15. \doi{10.1186/s13059-017-1382-0}
#' @seealso [find_variable_genes()], [scale_genes()]; [project_pca()] for new cells,
#'   [run_harmony()] to align batches
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   scale_genes(max_value = 10) |>
#'   run_pca(n_comps = 20)
#' x$obsm$X_pca[1:3, 1:4]
#' round(x$uns$pca$variance_ratio, 4)
run_pca <- function(
  x,
  n_comps = 50,
  features = NULL,
  mask = NULL,
  layer = NULL,
  key = "X_pca",
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_count(n_comps, min = 1)
  check_string(layer, allow_null = TRUE)
  check_string(key)
  mask_name <- check_mask(mask, features, x, call)
  genes <- pca_genes(x, features, mask, call)
  check_n_comps(n_comps, n_obs(x), length(genes), call)
  recipe <- if (is.null(layer)) {
    x_recipe(x, call)
  } else {
    layer_recipe(x, layer, call)
  }
  note_counts(x, recipe, layer, call)
  if (length(genes) < n_vars(x)) {
    recipe <- recipe_genes(recipe, genes)
  }
  run <- list(
    threads = threads,
    progress = progress,
    label = "Components",
    n_values = known_values(x, genes, layer, call)
  )
  found <- if (is.null(BPPARAM)) {
    pca_here(x, recipe, n_comps, run, call)
  } else {
    pca_on_workers(x, recipe, n_comps, BPPARAM, run, call)
  }
  warn_flat(found$variance, found$total_variance, call)
  scale <- Find(\(op) op$op == "scale", recipe$ops)
  params <- list(
    n_comps = as.integer(n_comps),
    features = if (is.null(features)) mask_name else "given",
    n_features = length(genes),
    layer = layer,
    scaled = !is.null(scale),
    zero_center = scale$zero_center,
    max_value = scale$max_value,
    chain = value_history(x, recipe, call)
  )
  add_pca(x, found, genes, key, params)
}

# How values came about, but for scaling, one line for each operation.
value_history <- function(x, recipe, call) {
  stored <- if (!is.null(stored_log(x, recipe, call))) "stored logarithms"
  as.character(c(stored, describe_chain(without_scale(recipe))))
}

# Genes ---------------------------------------------------------------------------

# What a mask is called: the column of var, "given" or "all".
check_mask <- function(mask, features, x, call) {
  if (is.null(mask)) {
    return(
      if ("highly_variable" %in% frame_names(x, "var")) {
        "highly_variable"
      } else {
        "all"
      }
    )
  }
  if (!is.null(features)) {
    scoom_abort(
      "Give {.arg features} or {.arg mask}, not both.",
      class = "invalid_input",
      call = call,
      argument = "mask"
    )
  }
  if (is_string(mask) && !is.na(mask)) {
    return(mask)
  }
  if (!is.logical(mask)) {
    what <- "a logical with one value for each gene, or the name of a column of var"
    abort_type(mask, what, "mask", call)
  }
  "given"
}

# Positions in ascending order: the result must not depend on the order given.
pca_genes <- function(x, features, mask, call) {
  genes <- if (!is.null(features)) {
    resolve_genes(x, features, call)
  } else if (is.logical(mask)) {
    masked_genes(mask, x, call)
  } else if (is_string(mask)) {
    marked_genes(x, mask, call)
  } else {
    variable_genes(x, call)
  }
  n_repeated <- sum(duplicated(genes))
  if (n_repeated > 0) {
    scoom_inform(
      c(
        i = "{n_repeated} repeated gene{?s} of {.arg features} {?is/are} used once."
      ),
      class = "features_repeated"
    )
  }
  if (!length(genes)) {
    column <- mask %||% "highly_variable"
    scoom_abort(
      c(
        "There are no genes to compute components of.",
        x = if (n_vars(x) == 0) {
          "The object has no genes."
        } else if (!is.null(features)) {
          "{.arg features} selects none."
        } else if (is.logical(mask)) {
          "{.arg mask} is {.code FALSE} for all of them."
        } else {
          "No gene is marked in {.code var${column}}."
        }
      ),
      class = "no_features",
      call = call
    )
  }
  sort(unique(genes))
}

# A single TRUE is no mask: it says nothing of which genes.
masked_genes <- function(mask, x, call) {
  if (length(mask) != n_vars(x) || anyNA(mask)) {
    scoom_abort(
      c(
        "{.arg mask} must be {.code TRUE} or {.code FALSE} for every gene.",
        x = if (length(mask) != n_vars(x)) {
          "There are {counted(n_vars(x), 'gene')} and {counted(length(mask), 'value')}."
        } else {
          "{counted(sum(is.na(mask)), 'value')} {cli::qty(sum(is.na(mask)))}{?is/are} {.val {NA}}."
        }
      ),
      class = "invalid_index",
      call = call,
      argument = "mask"
    )
  }
  which(mask)
}

variable_genes <- function(x, call) {
  if ("highly_variable" %in% frame_names(x, "var")) {
    return(marked_genes(x, "highly_variable", call))
  }
  scoom_inform(
    c(
      i = "No genes are marked as highly variable: all {format_count(n_vars(x))} are used.",
      i = "{.fn find_variable_genes} marks them; {.arg features} takes others."
    ),
    class = "all_genes_used"
  )
  seq_len(n_vars(x))
}

marked_genes <- function(x, column, call) {
  marked <- var_column(x, column, call)
  if (!is.logical(marked) || anyNA(marked)) {
    scoom_abort(
      c(
        "{.code var${column}} must be {.code TRUE} or {.code FALSE} for every gene.",
        x = if (is.logical(marked)) {
          "{counted(sum(is.na(marked)), 'value')} {cli::qty(sum(is.na(marked)))}{?is/are} {.val {NA}}."
        } else {
          "It is {.obj_type_friendly {marked}}."
        },
        i = "{.arg features} takes the genes themselves."
      ),
      class = "invalid_input",
      call = call
    )
  }
  which(marked)
}

check_n_comps <- function(n_comps, n_cells, n_genes, call) {
  most <- max(min(n_cells, n_genes) - 1, 0)
  if (n_comps <= most) {
    return(invisible())
  }
  scoom_abort(
    c(
      "{.arg n_comps} is too large.",
      x = paste0(
        counted(n_cells, "cell"),
        " and ",
        counted(n_genes, "gene"),
        " have at most ",
        counted(most, "component"),
        ", not {format_count(n_comps)}."
      )
    ),
    class = "too_many_components",
    call = call,
    argument = "n_comps",
    maximum = most
  )
}

# Components of raw counts show the depth of sequencing before anything else.
note_counts <- function(x, recipe, layer, call) {
  if (!looks_raw(x, recipe, call)) {
    return(invisible())
  }
  what <- if (is.null(layer)) "X" else paste0("layers$", layer)
  scoom_inform(
    c(
      "!" = "{.field {what}} holds counts that are not normalised.",
      i = "Usually {.code normalize_total(target_sum = 1e4) |> log1p()} comes first."
    ),
    class = "not_normalized"
  )
}

# Whether nothing was done to a matrix whose first values are whole numbers.
looks_raw <- function(x, recipe, call = caller_env()) {
  done <- recipe_has(recipe, "normalize") ||
    recipe_has(recipe, "log1p") ||
    is_dense_recipe(recipe)
  if (done || !is.null(stored_log(x, recipe, call))) {
    return(FALSE)
  }
  seen <- peek_values(x, recipe, call)$check
  !is.null(seen) && is.null(seen$fractional) && is.null(seen$negative$first)
}

# Running -------------------------------------------------------------------------

# The engine standardises by itself: it packs the plain values, and takes means
# and deviations from them where these are of the same cells.
pca_here <- function(x, recipe, n_comps, run, call) {
  scale <- Find(\(op) op$op == "scale", recipe$ops)
  own_cells <- is.null(scale$mean) && identical(scale$rows, recipe$rows)
  if (!is.null(scale) && !own_cells) {
    scale <- Find(
      \(op) op$op == "scale",
      recipe_plan(x, recipe, call = call)$ops
    )
  }
  plan <- recipe_plan(x, recipe, drop_scale = TRUE, call = call)
  args <- list(
    n_comps = n_comps,
    scale = if (!is.null(scale)) without(scale, c("op", "rows", "cells")),
    n_values = run$n_values
  )
  ctx <- scoom_ctx(run$threads, run$progress, run$label, call)
  rs_unwrap(rs_pca(plan, args, ctx), call)
}

# Stored values of some genes of X, where the moments of the same cells tell them: zeros
# that are stored aside.
known_values <- function(x, genes, layer, call) {
  moments <- field(x, "moments")
  if (is.null(moments$detected) || !is.null(layer)) {
    return(NULL)
  }
  now <- matrix_state(x, without_scale(x_recipe(x, call)))
  then <- moments$state
  if (!same_values(then, now) || !identical(then$rows, now$rows)) {
    return(NULL)
  }
  at <- positions_in(then$cols, now$cols) %||% seq_len(n_vars(x))
  if (!anyNA(at)) sum(moments$detected[at[genes]])
}

pca_on_workers <- function(x, recipe, n_comps, BPPARAM, run, call) {
  check_covariance_fits(recipe, x, call)
  # Two or three passes, but workers start once.
  if (is_idle_backend(BPPARAM)) {
    BiocParallel::bpstart(BPPARAM)
    on.exit(BiocParallel::bpstop(BPPARAM))
  }
  on_workers <- function(fn, plan, args) {
    run_pass(
      fn,
      plan,
      args,
      threads = run$threads,
      BPPARAM = BPPARAM,
      progress = run$progress,
      label = run$label,
      call = call
    )
  }
  plan <- recipe_plan(x, without_scale(recipe), call = call)
  scale <- Find(\(op) op$op == "scale", recipe$ops)
  if (!is.null(scale)) {
    own_cells <- is.null(scale$mean) && identical(scale$rows, recipe$rows)
    if (own_cells) {
      moments <- on_workers(rs_matrix_sums, plan, list(margin = "columns"))
      scale$mean <- moments$mean
      scale$sd <- sqrt(moments$var)
      scale[c("rows", "cells")] <- NULL
      plan$ops <- c(plan$ops, list(scale))
    } else {
      plan <- recipe_plan(x, recipe, call = call)
    }
  }
  found <- on_workers(rs_pca_loadings, plan, list(n_comps = n_comps))
  args <- list(
    loadings = found$loadings,
    sums = found$sums,
    n_obs = n_obs(x)
  )
  found$scores <- on_workers(rs_pca_scores, plan, args)$scores
  scale <- Find(\(op) op$op == "scale", plan$ops)
  found$mean <- scale$mean
  found$sd <- scale$sd
  found
}

# Anything else than a backend is refused by run_pass().
is_idle_backend <- function(BPPARAM) {
  inherits(BPPARAM, "BiocParallelParam") &&
    is_installed("BiocParallel") &&
    !BiocParallel::bpisup(BPPARAM)
}

# As the engine decides when it works alone; past it, it iterates, which
# workers can't.
check_covariance_fits <- function(recipe, x, call) {
  selected <- Find(\(op) op$op == "select_genes", rev(recipe$ops))
  n_genes <- if (is.null(selected)) n_vars(x) else length(selected$genes)
  needed <- 24 * n_genes^2
  budget <- option_memory(call)
  if (needed <= budget / 4) {
    return(invisible())
  }
  scoom_abort(
    c(
      "The covariance of {format_count(n_genes)} genes is too large for workers.",
      x = paste(
        "It takes {format_bytes(needed)}, more than a quarter of",
        "{.code options(scoom.memory)}, {format_bytes(budget)}."
      ),
      i = "Use fewer genes, a larger budget, or no {.arg BPPARAM}."
    ),
    class = "over_budget",
    call = call
  )
}

# Components beyond the rank of the values, whose variance is rounding.
warn_flat <- function(variance, total, call) {
  flat <- sum(variance <= 1e-14 * total)
  if (flat == 0) {
    return(invisible())
  }
  n <- length(variance)
  scoom_warn(
    c(
      if (total > 0) {
        "{flat} of {n} component{cli::qty(n)}{?s} {cli::qty(flat)}{?has/have} no variance."
      } else {
        "The components have no variance."
      },
      x = if (total > 0) {
        "{counted(n - flat, 'component')} {cli::qty(n - flat)}{?holds/hold} all that the genes vary."
      } else {
        "None of the genes that are used varies."
      },
      i = if (total > 0) "Use fewer {.arg n_comps}." else "Use other genes."
    ),
    class = "no_variance",
    call = call,
    n_components = flat
  )
}

add_pca <- function(x, found, genes, key, params) {
  n_comps <- params$n_comps
  names <- paste0("PC", seq_len(n_comps))
  scores <- found$scores
  # In place: the scores may be large.
  dim(scores) <- c(n_obs(x), n_comps)
  dimnames(scores) <- list(NULL, names)
  loadings <- matrix(0, n_vars(x), n_comps, dimnames = list(NULL, names))
  loadings[genes, ] <- found$loadings
  is_default <- key == "X_pca"
  x <- set_obsm(x, key, scores)
  x <- set_varm(x, if (is_default) "PCs" else key, loadings)
  summary <- list(
    params = params,
    variance = found$variance,
    variance_ratio = found$variance_ratio,
    total_variance = found$total_variance,
    genes = data.frame(compact(list(
      feature = var_names(x)[genes],
      center = found$center,
      mean = found$mean,
      sd = found$sd
    )))
  )
  set_uns(x, if (is_default) "pca" else key, summary)
}
