#' Lay cells out in few dimensions: t-SNE
#'
#' The Barnes-Hut t-SNE of the package Rtsne on exact neighbours that the engine finds. A
#' running verb that does not read the file.
#'
#' @details
#' 1. The \eqn{3 \times} `perplexity` nearest neighbours of each cell in the embedding, see
#'    [find_neighbors()]. Its graph is not used: it has too few of them.
#' 2. The start: the first dimensions of the embedding, scaled to a standard deviation of 1e-4, which keeps
#'    large distances meaningful (Kobak & Berens 2019).
#' 3. Gradient descent by Rtsne: 250 iterations with attraction exaggerated, momentum
#'    0.5, then momentum 0.8. The learning rate is a twelfth of the number of cells, at
#'    least 200 (Belkina et al. 2019).
#'
#' Nothing is random with this start. Rtsne adds forces in an order that depends on the
#' threads; for the same bits each time it runs on one unless `threads` is given.
#'
#' Memory: \eqn{24 n k} bytes for n cells and \eqn{k = 3 \times} `perplexity` neighbours, and the
#' same again in Rtsne.
#'
#' @inheritParams find_neighbors
#' @param perplexity Effective number of neighbours. There must be more than three
#'   times as many cells.
#' @param n_components Dimensions of the layout: 1, 2 or 3.
#' @param theta Speed against accuracy, from 0.01 (slow) to 1.
#' @param learning_rate Step of the descent; `NULL` for the default above.
#' @param exaggeration Factor of the attraction in the first 250 iterations.
#' @param n_iterations Iterations of the descent.
#' @param key The name of the layout in `obsm`.
#' @param threads Threads of the descent, 1 by default; neighbours are searched
#'   with those of `options(scoom.threads)`.
#' @returns `x` with `obsm$X_tsne`, cells x `n_components`, and `uns$tsne` with its
#'   `params` and the Kullback-Leibler `divergence` of the layout.
#' @references
#' van der Maaten (2014) Accelerating t-SNE using tree-based algorithms. *Journal of
#' Machine Learning Research* 15, 3221.
#'
#' Kobak, Berens (2019) The art of using t-SNE for single-cell transcriptomics.
#' *Nature Communications* 10, 5416. \doi{10.1038/s41467-019-13056-x}
#'
#' Belkina et al. (2019) Automated optimized parameters for T-distributed stochastic
#' neighbor embedding improve visualization and analysis of large datasets. *Nature
#' Communications* 10, 5415. \doi{10.1038/s41467-019-13055-y}
#' @seealso [run_umap()]
#' @export
#' @examplesIf rlang::is_installed("Rtsne")
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   run_pca(n_comps = 20) |>
#'   run_tsne(perplexity = 10, n_iterations = 300)
#' head(x$obsm$X_tsne)
run_tsne <- function(
  x,
  perplexity = 30,
  n_components = 2,
  metric = c("euclidean", "cosine", "correlation", "manhattan"),
  method = c("auto", "exact", "hnsw"),
  use_rep = "X_pca",
  n_pcs = NULL,
  theta = 0.5,
  learning_rate = NULL,
  exaggeration = 12,
  n_iterations = 1000,
  key = "X_tsne",
  threads = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_number(perplexity, min = 1)
  check_count(n_components, min = 1, max = 3)
  metric <- check_choice(metric, eval(formals()$metric))
  method <- check_choice(method, eval(formals()$method))
  check_number(theta, min = 0.01, max = 1)
  check_number(learning_rate, min = 1e-6, allow_null = TRUE)
  check_number(exaggeration, min = 1)
  check_count(n_iterations, min = 1)
  check_string(key)
  check_count(threads, min = 1, allow_null = TRUE)
  check_suggested("Rtsne", "install.packages", call)
  rep <- embedding(x, use_rep, n_pcs, call)
  check_perplexity(perplexity, nrow(rep), call)
  if (n_components > ncol(rep)) {
    embedding(x, use_rep, n_components, call, arg = "n_components")
  }
  method <- search_method(method, metric, nrow(rep), call)
  k <- floor(3 * perplexity)
  ctx <- scoom_ctx(NULL, progress, "Neighbours", call)
  args <- nearest_args(rep, k, metric)
  if (method == "hnsw") {
    args$candidates <- hnsw_candidates(rep, k + 1, metric, ctx$threads)
  }
  table <- rs_unwrap(rs_graph_nearest(args, ctx), call)
  table <- lapply(table, matrix, nrow = nrow(rep))
  start <- without_dimnames(rep[, seq_len(n_components), drop = FALSE])
  start <- start * (1e-4 / max(stats::sd(start[, 1]), 1e-300))
  learning_rate <- learning_rate %||% max(200, nrow(rep) / 12)
  early <- min(250L, n_iterations)
  found <- Rtsne::Rtsne_neighbors(
    table$index,
    table$distance,
    dims = n_components,
    perplexity = perplexity,
    theta = theta,
    max_iter = n_iterations,
    Y_init = start,
    stop_lying_iter = early,
    mom_switch_iter = early,
    eta = learning_rate,
    exaggeration_factor = exaggeration,
    num_threads = threads %||% 1,
    verbose = FALSE
  )
  layout <- found$Y
  dimnames(layout) <- list(NULL, paste0("TSNE", seq_len(n_components)))
  x <- set_obsm(x, key, layout)
  params <- list(
    perplexity = perplexity,
    metric = metric,
    use_rep = use_rep,
    n_pcs = ncol(rep),
    theta = theta,
    learning_rate = learning_rate,
    exaggeration = exaggeration,
    n_iterations = n_iterations
  )
  info <- list(params = params, divergence = sum(found$costs))
  set_uns(x, if (key == "X_tsne") "tsne" else key, info)
}

check_perplexity <- function(perplexity, n, call) {
  most <- (n - 1) / 3
  if (perplexity <= most) {
    return(invisible())
  }
  scoom_abort(
    c(
      "{.arg perplexity} is too large.",
      x = paste(
        "{counted(n, 'cell')} {cli::qty(n)}{?has/have} a perplexity of at most",
        "{format_count(max(floor(most), 0))}, not {perplexity}."
      )
    ),
    class = "too_few_cells",
    call = call,
    argument = "perplexity",
    maximum = most
  )
}
