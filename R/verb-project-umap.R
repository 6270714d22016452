#' Place new cells in the UMAP of others
#'
#' Gives the cells of one object coordinates in the layout of another, so that new data can be
#' shown on a reference that stays as it is. A running verb that does not read the file's
#' matrix.
#'
#' @details
#' The algorithm is that of umap-learn 0.5's `transform()`, which `scanpy.tl.ingest()` uses:
#'
#' 1. The `n_neighbors` nearest cells of the reference for each cell of the query, in an embedding
#'    that both have, by comparing all pairs as [transfer_labels()] does. [project_pca()]
#'    gives the query coordinates in the reference's components.
#' 2. Memberships \eqn{\exp(-d / \sigma)} of neighbours at distances d, with \eqn{\sigma} such that
#'    those of all but the nearest sum to \eqn{\log_2 k} for k neighbours.
#' 3. Each cell starts at the mean of its neighbours in the layout, weighted by their
#'    memberships; one at no distance from a cell of the reference starts where this is.
#' 4. Stochastic gradient descent as in [run_umap()], from a quarter of the learning rate on, in which
#'    only cells of the query move: their neighbours attract them, and cells of the reference drawn at
#'    random repel them.
#'
#' The curve of distances is that of the reference: by the `min_dist` and `spread` of its
#' [run_umap()], or the `a` and `b` that scanpy stored; without these by the defaults of [run_umap()].
#'
#' As in umap-learn, repulsion drives cells to the rim of dense groups, where the reference is small to
#' rings: its cells attract new ones, but are not attracted themselves. With `n_epochs = 0`
#' cells stay at the mean of their neighbours; a `repulsion` below one is between the two.
#'
#' Cells unlike all of the reference are placed by their nearest ones there all the
#' same: a place in the layout does not say that a cell belongs there.
#'
#' **What differs from umap-learn.** The strongest edge of every cell attracts it in all epochs, where there
#' it is the strongest of all cells, and a given `n_epochs` is not divided by three. So a cell's
#' place depends on its own coordinates, the reference and the seed alone, not on the other
#' cells of the query or their order; cells with the same coordinates get the same place. Only the
#' default of `n_epochs` depends on their number.
#'
#' **Determinism.** Random numbers depend on the seed and on who the neighbours of a cell are. The same seed
#' gives the same bits for any number of threads. `.Random.seed` is left alone.
#'
#' Memory: for n cells of the reference, m of the query, d dimensions of the embedding, k neighbours
#' and a layout in the plane \eqn{8 n d + 4 m d + 12 m k} bytes for the search, then
#' \eqn{12 m k + 24 m + 8 n}.
#'
#' @inheritParams run_umap
#' @param query An object opened by [open_h5ad()].
#' @param reference An object with a layout by [run_umap()], or of scanpy's.
#' @param use_rep An element of `obsm` of both; `NULL` for that of the reference's graph of
#'   neighbours, `"X_pca"` where it has none.
#' @param n_pcs Take the first dimensions of it only; `NULL` for as many as the reference's
#'   graph has of this embedding, else all.
#' @param n_neighbors The number of neighbours in the reference; `NULL` for that of its
#'   graph, 15 where it has none.
#' @param metric `"euclidean"`, `"cosine"`, `"correlation"` or `"manhattan"`; `NULL` for that of
#'   the reference's graph, `"euclidean"` where it has none.
#' @param n_epochs Epochs of the descent; `NULL` for 100 up to 10,000 cells of the query and 30
#'   beyond. With 0, cells stay where they start.
#' @param learning_rate Four times the learning rate of the first epoch.
#' @param negative_sample_rate Cells that repel for each edge that attracts.
#' @param umap The name of the reference's layout, the `key` of its [run_umap()].
#' @param key The name of the query's layout in `obsm`.
#' @returns `query` with
#'   * `obsm$X_umap`: coordinates, cells x dimensions of the layout, columns `UMAP1`,
#'     `UMAP2`, ...;
#'   * `uns$umap`: a list of `params`, with `projected = TRUE` and the curve.
#' @references
#' McInnes, Healy, Melville (2018) UMAP: uniform manifold approximation and projection
#' for dimension reduction. arXiv:1802.03426
#'
#' Wolf, Angerer, Theis (2018) SCANPY: large-scale single-cell gene expression data
#' analysis. *Genome Biology* 19, 15. \doi{10.1186/s13059-017-1382-0}
#' @seealso [project_pca()] before it, [transfer_labels()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500)
#' is_query <- x$obs$donor == x$obs$donor[[1]]
#' reference <- run_pca(x[!is_query, ], n_comps = 20) |>
#'   find_neighbors() |>
#'   run_umap(n_epochs = 50)
#' query <- project_pca(x[is_query, ], reference) |>
#'   project_umap(reference)
#' head(query$obsm$X_umap)
project_umap <- function(
  query,
  reference,
  use_rep = NULL,
  n_pcs = NULL,
  n_neighbors = NULL,
  metric = NULL,
  n_epochs = NULL,
  learning_rate = 1,
  negative_sample_rate = 5,
  repulsion = 1,
  umap = "X_umap",
  key = "X_umap",
  seed = 0,
  threads = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(query)
  check_scoom(reference)
  check_string(use_rep, allow_null = TRUE)
  check_count(n_pcs, min = 1, allow_null = TRUE)
  check_count(n_neighbors, min = 1, allow_null = TRUE)
  check_count(n_epochs, max = 1e6, allow_null = TRUE)
  check_number(learning_rate, min = 0)
  check_count(negative_sample_rate, max = 1000)
  check_number(repulsion, min = 0)
  check_string(umap)
  check_string(key)
  check_r_seed(seed)
  made <- layout_params(reference, umap, call)
  graph <- stored_params(reference, made$neighbors, call)
  use_rep <- use_rep %||% string_or(graph$use_rep, "X_pca")
  if (use_rep == string_or(graph$use_rep, "X_pca")) {
    # scanpy's zero says that there were no components.
    stored <- number_or(graph$n_pcs, 0)
    n_pcs <- n_pcs %||% if (stored >= 1) stored
  }
  n_neighbors <- n_neighbors %||% number_or(graph$n_neighbors, 15)
  metric <- check_choice(
    metric %||% string_or(graph$metric, "euclidean"),
    eval(formals(transfer_labels)$metric),
    arg = "metric"
  )
  hint <- "{.fn run_umap} computes it."
  layout <- shared_embedding(reference, "reference", umap, NULL, call, hint)
  check_finite(layout, umap, call)
  there <- shared_embedding(reference, "reference", use_rep, n_pcs, call)
  # Fewer dimensions of the query are those of another space, not too few of this.
  here <- shared_embedding(query, "query", use_rep, NULL, call)
  if (!is.null(n_pcs) && n_pcs < ncol(here)) {
    here <- here[, seq_len(n_pcs), drop = FALSE]
  }
  args <- list2(
    !!!nearest_reference_args(
      here,
      there,
      use_rep,
      n_neighbors,
      metric,
      call
    ),
    layout = layout,
    n_dims = ncol(layout),
    !!!made$curve,
    n_epochs = n_epochs,
    learning_rate = learning_rate,
    negative_samples = negative_sample_rate,
    repulsion = repulsion,
    seed = seed
  )
  ctx <- scoom_ctx(threads, progress, "UMAP", call)
  placed <- if (nrow(here)) {
    rs_unwrap(rs_graph_place(args, ctx), call)
  } else {
    numeric()
  }
  dim(placed) <- c(n_obs(query), ncol(layout))
  colnames(placed) <- paste0("UMAP", seq_len(ncol(layout)))
  query <- set_obsm(query, key, placed)
  params <- list(
    projected = TRUE,
    n_neighbors = as.integer(n_neighbors),
    metric = metric,
    use_rep = use_rep,
    n_pcs = ncol(here),
    n_epochs = n_epochs,
    learning_rate = learning_rate,
    repulsion = repulsion,
    negative_sample_rate = negative_sample_rate,
    random_state = seed
  )
  set_uns(query, umap_name(key), list(params = compact(c(made$curve, params))))
}

#' How the layout of a reference was made
#'
#' @returns A list: `curve`, either `a` and `b`, as scanpy stores them, or `min_dist` and
#'   `spread`; `neighbors`, the key of its graph.
#' @noRd
layout_params <- function(reference, umap, call) {
  params <- stored_params(reference, umap_name(umap), call)
  neighbors <- string_or(params$neighbors, "neighbors")
  a <- number_or(params$a, 0)
  b <- number_or(params$b, 0)
  if (a > 0 && b > 0) {
    return(list(curve = list(a = a, b = b), neighbors = neighbors))
  }
  spread <- number_or(params$spread, 0)
  min_dist <- number_or(params$min_dist, -1)
  given <- spread > 0 && min_dist >= 0 && min_dist <= spread
  defaults <- as.list(formals(run_umap)[c("min_dist", "spread")])
  curve <- if (given) list(min_dist = min_dist, spread = spread) else defaults
  list(curve = curve, neighbors = neighbors)
}

# The `params` of an element of uns, empty where there are none.
stored_params <- function(x, key, call) {
  if (!key %in% field(x, "slots")$uns$keys) {
    return(list())
  }
  info <- view_element(x, "uns", key, call)
  if (is.list(info) && is.list(info$params)) info$params else list()
}

# What other programs stored may be of any type.
number_or <- function(x, default) {
  is_one <- is.numeric(x) && length(x) == 1 && is.finite(x)
  if (is_one) as.double(x) else default
}

string_or <- function(x, default) {
  if (is_string(x)) as.character(x) else default
}
