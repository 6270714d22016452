#' Lay cells out in few dimensions: UMAP
#'
#' The UMAP of the package uwot on the neighbours that [find_neighbors()] found. A
#' running verb that does not read the file.
#'
#' @details
#' 1. Fuzzy memberships from the stored distances, whatever the connectivities are.
#' 2. The start: for `init = "spectral"` the leading eigenvectors of the normalised
#'    graph Laplacian, computed by the engine. Where the graph is not
#'    connected these only tell its components apart, and the first
#'    dimensions of the embedding that it was computed on are taken, with a message.
#' 3. Stochastic gradient descent by uwot on one thread, with attraction along edges and five
#'    repulsions each, 500 epochs up to 10,000 cells and 200 beyond, as umap-learn and
#'    scanpy. With `batch = TRUE` each epoch moves all cells at once, on all threads.
#'
#' The same seed gives the same layout, for any number of threads. `.Random.seed` is
#' left alone.
#'
#' Memory: \eqn{40 n k} bytes for n cells and k neighbours.
#'
#' @inheritParams cluster_leiden
#' @param n_components Dimensions of the layout.
#' @param min_dist,spread How near to each other points may lie, and the scale of
#'   the layout. The defaults are those of scanpy.
#' @param n_epochs Epochs of the descent; `NULL` for 500 or 200.
#' @param init `"spectral"`, `"rep"` for the first dimensions of the embedding, or a
#'   matrix with one row for each cell.
#' @param batch Whether to use all threads, for a layout that is somewhat different.
#' @param threads Number of threads. `NULL`: `options(scoom.threads)`.
#' @param key The name of the layout in `obsm`.
#' @returns `x` with `obsm$X_umap`, cells x `n_components`, and `uns$umap` with its
#'   `params`.
#' @references
#' McInnes, Healy, Melville (2018) UMAP: uniform manifold approximation and projection
#' for dimension reduction. arXiv:1802.03426
#' @seealso [run_tsne()], [find_neighbors()]
#' @export
#' @examplesIf rlang::is_installed("uwot")
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   run_pca(n_comps = 20) |>
#'   find_neighbors() |>
#'   run_umap(n_epochs = 50)
#' head(x$obsm$X_umap)
run_umap <- function(
  x,
  n_components = 2,
  min_dist = 0.5,
  spread = 1,
  n_epochs = NULL,
  init = "spectral",
  batch = FALSE,
  key = "X_umap",
  neighbors = "neighbors",
  seed = 0,
  threads = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_count(n_components, min = 1)
  check_number(spread, min = 1e-6)
  check_number(min_dist, min = 0, max = spread)
  check_count(n_epochs, min = 1, allow_null = TRUE)
  check_flag(batch)
  check_string(key)
  check_r_seed(seed)
  check_suggested("uwot", "install.packages", call)
  ctx <- scoom_ctx(threads, FALSE, "UMAP", call)
  table <- neighbor_table(x, neighbors, call)
  start <- umap_start(x, init, n_components, neighbors, seed, ctx, call)
  # uwot counts the cell itself as its first neighbour.
  itself <- list(index = seq_len(n_obs(x)), distance = 0)
  nearest <- list(
    idx = cbind(itself$index, table$index, deparse.level = 0),
    dist = cbind(itself$distance, table$distance, deparse.level = 0)
  )
  layout <- with_own_seed(
    seed,
    uwot::umap(
      NULL,
      nn_method = nearest,
      n_neighbors = ncol(nearest$idx),
      n_components = n_components,
      min_dist = min_dist,
      spread = spread,
      n_epochs = n_epochs,
      init = start,
      n_threads = ctx$threads,
      n_sgd_threads = if (batch) ctx$threads else 0,
      batch = batch,
      verbose = FALSE
    )
  )
  dimnames(layout) <- list(NULL, paste0("UMAP", seq_len(n_components)))
  x <- set_obsm(x, key, layout)
  params <- list(
    min_dist = min_dist,
    spread = spread,
    n_epochs = n_epochs,
    init = if (is_string(init)) init else "given",
    batch = batch,
    neighbors = neighbors,
    random_state = seed
  )
  name <- if (key == "X_umap") "umap" else key
  set_uns(x, name, list(params = compact(params)))
}

# The layout that the descent starts from.
umap_start <- function(x, init, n_components, neighbors, seed, ctx, call) {
  if (is.numeric(init) && length(dim(init)) == 2) {
    if (nrow(init) != n_obs(x) || ncol(init) != n_components) {
      scoom_abort(
        c(
          "{.arg init} must be a matrix of {format_shape(c(n_obs(x), n_components))} values.",
          x = "It has {format_shape(dim(init))}."
        ),
        class = "wrong_shape",
        call = call
      )
    }
    check_finite(init, "init", call)
    return(spread_start(without_dimnames(init), seed))
  }
  init <- check_choice(init, c("spectral", "rep"), call = call)
  graph <- graph_matrix(x, neighbors, "connectivities", call)
  n_components_found <- max(graph_components(graph, call))
  if (init == "spectral" && n_components_found > 1) {
    scoom_inform(
      c(
        "!" = "The graph of neighbours falls into {format_count(n_components_found)} components.",
        i = "The layout starts from the embedding instead of the graph."
      ),
      class = "disconnected_graph"
    )
    init <- "rep"
  }
  if (init == "rep") {
    params <- graph_info(x, neighbors, call)$params
    use_rep <- params$use_rep %||% "X_pca"
    rep <- embedding(x, use_rep, n_components, call, arg = "n_components")
    return(spread_start(without_dimnames(rep), seed))
  }
  check_n_layout(n_components, n_obs(x), call)
  args <- graph_args(graph, n_comps = n_components + 1, kind = "laplacian")
  found <- rs_unwrap(rs_graph_diffusion(args, ctx), call)
  vectors <- matrix(found$vectors, n_obs(x))
  spread_start(vectors[, -1, drop = FALSE], seed)
}

check_n_layout <- function(n_components, n, call) {
  if (n_components < n - 1) {
    return(invisible())
  }
  scoom_abort(
    c(
      "There are too few cells.",
      x = "{format_count(n)} cells can't be laid out in {n_components} dimension{?s}."
    ),
    class = "too_few_cells",
    call = call
  )
}

# As umap-learn: at most 10 from the origin, and a little noise, so that no two
# cells are in one place.
spread_start <- function(start, seed) {
  largest <- max(abs(start))
  if (largest > 0) {
    start <- start * (10 / largest)
  }
  noise <- with_own_seed(seed, stats::rnorm(length(start), sd = 1e-4))
  start + noise
}
