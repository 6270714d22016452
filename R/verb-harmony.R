#' Align batches in an embedding
#'
#' Harmony: moves the cells of donors, conditions or other batches onto each other in the
#' embedding, so that cells of one type lie together whichever batch they come from. A
#' running verb that does not read the file's matrix.
#'
#' @details
#' Two steps in turn, until the objective no longer falls:
#'
#' 1. Soft clusters of the cells by the cosine. A cell's probability of cluster k is in
#'    proportion to \eqn{\exp(-2 (1 - \cos_{ik}) / \sigma)
#'    \sum_v ((E_{kb} + 1) / (O_{kb} + 1))^{\theta_v}}, b being its batch of variable v: the more
#'    cells of its batch a cluster has (\eqn{O}) beyond the share that it would have by chance
#'    (\eqn{E}), the less it attracts. Cells are updated in random blocks of 5 %; rounds
#'    end when the mean objective of three changes by less than \eqn{10^{-5}}, and after 20.
#' 2. In each cluster a ridge regression of the coordinates on the batches, with
#'    \eqn{\lambda} on all but the intercept. What the batches explain is subtracted
#'    from each cell in proportion to its probabilities.
#'
#' The first centres are those of the best of ten runs of k-means, on at most 10,000 cells or
#' 100 a cluster. The defaults are those of the R package harmony 1; harmonypy's
#' `theta` is 1.
#'
#' Cells are not centred, scaled or left out; counts and expression stay as they are.
#' Distances in the aligned embedding serve [find_neighbors()], clusters and layouts; tests
#' between conditions need the counts and a design with the batch instead.
#'
#' Random choices depend on `seed` and the rows of the file alone. Results do not depend on
#' threads, to the last bit; between machines they agree to rounding.
#'
#' Memory: \eqn{8 n (3 d + k)} bytes for n cells, d dimensions and k clusters, the
#' result included. Time grows with \eqn{n d k}: 100,000 cells in 50 dimensions take about a minute
#' on two threads.
#'
#' An embedding that is missing is an error of class `scoom_error_element_missing`; cells
#' without a batch, and a variable with one batch alone, are of class
#' `scoom_error_invalid_group`. Batches of one cell give a warning of class
#' `scoom_warning_small_batches`, an objective that still falls at the end one of class
#' `scoom_warning_not_converged`.
#'
#' @inheritParams find_neighbors
#' @param group_by Columns of `obs` with the batches; each is a variable of its own.
#' @param theta Weight of the penalty on uneven clusters, for all variables or one for each. 0
#'   leaves clusters as they are; larger values mix more.
#' @param lambda Ridge of the regression, above 0, for all variables or one for each. Larger
#'   values correct less.
#' @param sigma Width of the soft clusters.
#' @param n_clusters The number of clusters; `NULL` for one for each 30 cells, at most 100.
#' @param tau Weakens the penalty of batches with fewer than about `tau` cells a cluster,
#'   against overcorrection of small batches; 0 does not.
#' @param max_iter The most alternations of the two steps.
#' @param key The name of the aligned embedding in `obsm`.
#' @param seed A whole number from 0 on.
#' @returns `x` with
#'   * `obsm$X_pca_harmony`: the aligned embedding, cells x dimensions;
#'   * `uns$harmony` (or `uns[[key]]` where `key` is another): a list of `params`,
#'     `converged`, `n_iter`, `objective` (at the start and after each alternation) and
#'     `rounds` (of clustering in each).
#' @references
#' Korsunsky, Millard, Fan, Slowikowski, Zhang, Wei, Baglaenko, Brenner, Loh, Raychaudhuri
#' (2019) Fast, sensitive and accurate integration of single-cell data with Harmony.
#' *Nature Methods* 16, 1289. \doi{10.1038/s41592-019-0619-0}
#'
#' Arthur, Vassilvitskii (2007) k-means++: the advantages of careful seeding. *Proceedings of
#' the 18th Annual ACM-SIAM Symposium on Discrete Algorithms*, 1027.
#' @seealso [run_pca()] before it, [find_neighbors()] with `use_rep = "X_pca_harmony"` after it
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   run_pca(n_comps = 20) |>
#'   run_harmony(group_by = "donor") |>
#'   find_neighbors(use_rep = "X_pca_harmony")
#' x$uns$harmony$objective
run_harmony <- function(
  x,
  group_by,
  use_rep = "X_pca",
  n_pcs = NULL,
  theta = 2,
  lambda = 1,
  sigma = 0.1,
  n_clusters = NULL,
  tau = 0,
  max_iter = 10,
  key = "X_pca_harmony",
  seed = 0,
  threads = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_given(group_by, "names of columns of the cells")
  check_harmony_weights(theta, "theta", group_by, 0, call)
  check_harmony_weights(lambda, "lambda", group_by, 1e-12, call)
  check_number(sigma, min = 1e-6)
  check_count(n_clusters, min = 1, allow_null = TRUE)
  check_number(tau, min = 0)
  check_count(max_iter, min = 1)
  check_string(key)
  check_seed(seed)
  batches <- harmony_batches(x, group_by, call)
  rep <- embedding(x, use_rep, n_pcs, call)
  n_clusters <- n_clusters %||% max(1, min(round(nrow(rep) / 30), 100))
  if (n_clusters > nrow(rep)) {
    scoom_abort(
      c(
        "{.arg n_clusters} is too large.",
        x = "There are {counted(nrow(rep), 'cell')}, fewer than {format_count(n_clusters)}."
      ),
      class = "too_few_cells",
      call = call,
      argument = "n_clusters",
      maximum = nrow(rep)
    )
  }
  args <- list(
    theta = theta,
    lambda = lambda,
    sigma = sigma,
    n_clusters = n_clusters,
    tau = tau,
    max_iter = max_iter,
    seed = seed
  )
  ctx <- scoom_ctx(threads, progress, "Aligning cells", call)
  found <- harmonize(rep, batches, cell_rows(x), args, ctx, call)
  if (!found$converged) {
    scoom_warn(
      c(
        "Harmony has not converged in {max_iter} iteration{?s}.",
        i = "A larger {.arg max_iter} lets it go on."
      ),
      class = "not_converged",
      call = call
    )
  }
  aligned <- found$corrected
  # In place: it may be large.
  dim(aligned) <- dim(rep)
  dimnames(aligned) <- list(NULL, paste0("harmony", seq_len(ncol(rep))))
  x <- set_obsm(x, key, aligned)
  summary <- list(
    params = c(
      list(group_by = group_by, use_rep = use_rep, n_pcs = ncol(rep)),
      args
    ),
    converged = found$converged,
    n_iter = length(found$rounds),
    objective = found$objective,
    rounds = found$rounds
  )
  set_uns(x, if (key == "X_pca_harmony") "harmony" else key, summary)
}

#' Run Harmony on a matrix
#'
#' @param rep Cells in rows.
#' @param batches A list of factors without missing values.
#' @param rows What random choices depend on besides the seed.
#' @param args `theta`, `lambda`, `sigma`, `n_clusters`, `tau`, `max_iter`, `seed`.
#' @param centers First centres, clusters x dimensions, so that tests can start where
#'   others do.
#' @param shuffle Whether the order of cells is drawn anew in each round.
#' @returns What the engine answers.
#' @noRd
harmonize <- function(
  rep,
  batches,
  rows,
  args,
  ctx,
  call = caller_env(),
  centers = NULL,
  shuffle = TRUE
) {
  fixed <- list(
    x = rep,
    rows = rows,
    batches = unname(lapply(batches, \(batch) as.integer(batch) - 1L)),
    n_levels = vapply(unname(batches), nlevels, 0L),
    block_size = 0.05,
    max_iter_clusters = 20,
    epsilon_clusters = 1e-5,
    epsilon = 1e-4,
    shuffle = shuffle,
    centers = if (!is.null(centers)) as.double(t(centers))
  )
  for (name in c("theta", "lambda")) {
    args[[name]] <- rep_len(as.double(args[[name]]), length(batches))
  }
  rs_unwrap(rs_harmony(c(fixed, args), ctx), call)
}

check_harmony_weights <- function(x, arg, group_by, min, call) {
  is_number <- is.numeric(x) && length(x) > 0 && all(is.finite(x) & x >= min)
  if (!is_number || !length(x) %in% c(1, length(group_by))) {
    what <- if (min > 0) "numbers above 0" else "numbers from 0 on"
    what <- paste0(what, ": one, or one for each of {.arg group_by}")
    abort_type(x, what, arg, call)
  }
}

harmony_batches <- function(x, group_by, call) {
  if (
    !is.character(group_by) ||
      !length(group_by) ||
      anyNA(group_by) ||
      anyDuplicated(group_by)
  ) {
    what <- "names of columns of the cells, each once"
    abort_type(group_by, what, "group_by", call)
  }
  batches <- lapply(set_names(group_by), \(name) {
    values <- obs_column(x, name, call)
    n_missing <- sum(is.na(values))
    if (n_missing > 0) {
      scoom_abort(
        c(
          "Cells without a batch can't be aligned.",
          x = "{format_count(n_missing)} {cli::qty(n_missing)}cell{?s} {?has/have} no value in {.field {name}}.",
          i = "Leave such cells out, or give them a batch of their own."
        ),
        class = "invalid_group",
        call = call
      )
    }
    batch <- group_factor(values, name, call)
    if (nlevels(batch) < 2) {
      scoom_abort(
        c(
          "There is nothing to align.",
          x = "All cells have one value in {.field {name}}."
        ),
        class = "invalid_group",
        call = call
      )
    }
    batch
  })
  for (name in names(batches)) {
    sizes <- table(batches[[name]])
    single <- names(sizes)[sizes == 1]
    if (length(single)) {
      scoom_warn(
        c(
          "{length(single)} batch{?es} of {.field {name}} {cli::qty(length(single))}{?has/have} one cell: {.val {head_of(single, 5)}}.",
          i = "What sets a batch apart can't be told from one cell; the ridge keeps its correction small."
        ),
        class = "small_batches",
        call = call,
        batches = single
      )
    }
  }
  batches
}
