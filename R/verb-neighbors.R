#' Find the nearest neighbours of cells
#'
#' The graph of neighbouring cells in an embedding, from which clusters, UMAP and
#' trajectories follow. A running verb that does not read the file's matrix.
#'
#' @details
#' 1. The `n_neighbors - 1` nearest other cells of each cell in the embedding, by
#'    `method`:
#'    * `"exact"` compares all pairs. The result does not depend on threads or
#'      machine, to the last bit; cells at the same distance are ordered by
#'      position. Products of a few leading dimensions in float32 rule out, with a
#'      rigorous bound, nearly all pairs, and groups of cells that are far apart are not compared: 100,000
#'      cells took four to seven seconds on two cores, a million 260 to 400; pairs grow with the square of
#'      the cells.
#'    * `"hnsw"` builds a hierarchical navigable small world graph with the package
#'      RcppHNSW, on one thread so that it is the same each time, and searches it on
#'      all. Distances are computed anew in float64. Its recall, the share of true neighbours found,
#'      is above 0.98 at the defaults (`M = 16`, `ef = 200`) on 50 components
#'      of single-cell data (a test holds it to that), and was 0.999 for 100,000 simulated cells
#'      of 40 clusters and 0.951 for as many of uniform noise in 50 dimensions, the hard case.
#'    * `"auto"` is exact up to four million cells, and `"hnsw"` beyond where the metric and the package
#'      allow it: on two cores 100,000 cells took `"hnsw"` 112 s, a million more than half an hour, and by
#'      how both grow they take as long at about four million. More cores help all of `"exact"`, but the
#'      search alone of `"hnsw"`.
#' 2. Connectivities, a symmetric weight of each edge:
#'    * `"umap"`: the fuzzy union of UMAP, scanpy's default. The membership of neighbour j
#'      in the surroundings of cell i is \eqn{\exp(-(d_{ij} - \rho_i) / \sigma_i)} with
#'      \eqn{\rho_i} the distance to the nearest cell and \eqn{\sigma_i} such that memberships
#'      sum to \eqn{\log_2 k}; memberships a and b of the two directions give \eqn{a + b - ab}.
#'    * `"gaussian"`: \eqn{\sqrt{2 \sigma_i \sigma_j / (\sigma_i^2 + \sigma_j^2)}
#'      \exp(-d_{ij}^2 / (\sigma_i^2 + \sigma_j^2))} with \eqn{\sigma_i^2} the median
#'      squared distance of cell i, as scanpy's `method = "gauss"`.
#'    * `"snn"`: the Jaccard index of the neighbourhoods, themselves included, as
#'      Seurat; less than `prune` is zero. Seurat's default for `n_neighbors` is 20.
#'
#' Memory: for n cells, d dimensions and k neighbours \eqn{8 n d} bytes while cells are put in
#' order, \eqn{4 n d + 12 n k} for the search, and about \eqn{32 n} beside the graph, which
#' takes about \eqn{30 n k}, is part of the result and is written where it stays;
#' \eqn{60 n k} and the result for `"snn"`. `"hnsw"` holds \eqn{n (4 d + 150)} bytes more.
#'
#' @inheritParams calc_qc_metrics
#' @param n_neighbors Size of the neighbourhood, counting the cell itself as scanpy
#'   and Seurat do.
#' @param metric Distance: `"euclidean"`, `"cosine"` (one minus the cosine),
#'   `"correlation"` (one minus Pearson's) or `"manhattan"`.
#' @param method How neighbours are found.
#' @param use_rep An element of `obsm`.
#' @param n_pcs Take the first dimensions of it only; `NULL` for all.
#' @param connectivities How distances become weights.
#' @param prune The least weight that `"snn"` keeps.
#' @param key The name under which later verbs find the graph. Other names than the
#'   default prefix the names in `obsp`.
#' @returns `x` with
#'   * `obsp$distances`: a sparse matrix; row i has the distances to the neighbours of
#'     cell i, itself left out;
#'   * `obsp$connectivities`: a sparse symmetric matrix of weights from 0 to 1;
#'   * `uns$neighbors`: the names of the two, and `params`.
#' @references
#' McInnes, Healy, Melville (2018) UMAP: uniform manifold approximation and projection
#' for dimension reduction. arXiv:1802.03426
#'
#' Haghverdi, Büttner, Wolf, Buettner, Theis (2016) Diffusion pseudotime robustly
#' reconstructs lineage branching. *Nature Methods* 13, 845. \doi{10.1038/nmeth.3971}
#'
#' Malkov, Yashunin (2020) Efficient and robust approximate nearest neighbor search using
#' hierarchical navigable small world graphs. *IEEE Transactions on Pattern Analysis
#' and Machine Intelligence* 42, 824. \doi{10.1109/TPAMI.2018.2889473}
#' @seealso [run_pca()] before it; [cluster_leiden()], [run_umap()], [run_diffmap()] after it
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   run_pca(n_comps = 20) |>
#'   find_neighbors()
#' x$obsp$connectivities[1:3, 1:5]
#' x$uns$neighbors$params$n_neighbors
find_neighbors <- function(
  x,
  n_neighbors = 15,
  metric = c("euclidean", "cosine", "correlation", "manhattan"),
  method = c("auto", "exact", "hnsw"),
  use_rep = "X_pca",
  n_pcs = NULL,
  connectivities = c("umap", "gaussian", "snn"),
  prune = 1 / 15,
  key = "neighbors",
  threads = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_count(n_neighbors, min = 2)
  metric <- check_choice(metric, eval(formals()$metric))
  method <- check_choice(method, eval(formals()$method))
  kernel <- check_choice(connectivities, eval(formals()$connectivities))
  check_number(prune, min = 0, max = 1)
  check_string(key)
  check_n_neighbors(n_neighbors, n_obs(x), call)
  rep <- embedding(x, use_rep, n_pcs, call)
  method <- search_method(method, metric, nrow(rep), call)
  args <- nearest_args(rep, n_neighbors - 1, metric)
  ctx <- scoom_ctx(threads, progress, "Neighbours", call)
  if (method == "hnsw") {
    args$candidates <- hnsw_candidates(rep, n_neighbors, metric, ctx$threads)
  }
  args$kernel <- kernel
  args$prune <- prune
  found <- rs_unwrap(rs_graph_neighbors(args, ctx), call)
  params <- list(
    n_neighbors = as.integer(n_neighbors),
    method = if (kernel == "gaussian") "gauss" else kernel,
    metric = metric,
    use_rep = use_rep,
    n_pcs = ncol(rep),
    search = method
  )
  note_components(found$n_components, "neighbours", key)
  add_graph(x, found, params, key)
}

check_n_neighbors <- function(n_neighbors, n, call) {
  if (n_neighbors <= n) {
    return(invisible())
  }
  scoom_abort(
    c(
      "{.arg n_neighbors} is too large.",
      x = paste(
        "It counts the cell itself and can be at most the number of cells,",
        "{format_count(n)}, not {format_count(n_neighbors)}."
      )
    ),
    class = "too_few_cells",
    call = call,
    argument = "n_neighbors",
    maximum = n
  )
}

# The embedding ------------------------------------------------------------------

# An element of obsm as a matrix of doubles, its first `n_dims` columns.
embedding <- function(
  x,
  use_rep,
  n_dims = NULL,
  call = caller_env(),
  arg = "n_pcs"
) {
  check_string(use_rep, arg = "use_rep", call = call)
  slot <- field(x, "slots")$obsm
  if (!use_rep %in% slot$keys) {
    check_not_unread(x, paste0("obsm/", use_rep), call)
    hint <- if (use_rep == "X_pca") "{.fn run_pca} computes it."
    class <- "element_missing"
    abort_missing(use_rep, slot$keys, "element of obsm", class, call, hint)
  }
  # Not through x$obsm, which would copy a large matrix to name its rows.
  rep <- slot$set[[use_rep]] %||% view_element(x, "obsm", use_rep, call)
  if (is.data.frame(rep) || methods::is(rep, "Matrix")) {
    rep <- as.matrix(rep)
  }
  if (!is.numeric(rep) || length(dim(rep)) != 2) {
    scoom_abort(
      c(
        "{.code obsm${use_rep}} can't be used as an embedding.",
        x = "It must be a matrix of numbers, not {.obj_type_friendly {rep}}."
      ),
      class = "invalid_input",
      call = call
    )
  }
  check_count(n_dims, min = 1, allow_null = TRUE, arg = arg, call = call)
  n_dims <- n_dims %||% ncol(rep)
  if (n_dims > ncol(rep) || ncol(rep) == 0) {
    scoom_abort(
      c(
        "{.arg {arg}} is too large.",
        x = "{.code obsm${use_rep}} has {ncol(rep)} dimension{?s}, not {format_count(n_dims)}."
      ),
      class = "too_many_components",
      call = call,
      argument = arg,
      maximum = ncol(rep)
    )
  }
  if (n_dims < ncol(rep)) {
    rep <- rep[, seq_len(n_dims), drop = FALSE]
  }
  if (!is.double(rep)) {
    storage.mode(rep) <- "double"
  }
  rep
}

# For what is not checked by the engine.
check_finite <- function(rep, use_rep, call) {
  # One sum is finite unless a value is not, or overflows.
  if (is.finite(sum(rep))) {
    return(invisible(rep))
  }
  bad <- which(!is.finite(rep))
  if (!length(bad)) {
    return(invisible(rep))
  }
  cell <- (bad[[1]] - 1) %% nrow(rep) + 1
  scoom_abort(
    c(
      "{.code obsm${use_rep}} has {length(bad)} value{?s} that {?is/are} not finite.",
      x = "The first is in cell {format_count(cell)}."
    ),
    class = "invalid_values",
    call = call
  )
}

# Searching ----------------------------------------------------------------------

# Cells up to which all pairs are compared by default.
exact_limit <- function() 4e6

search_method <- function(method, metric, n, call) {
  by_hnsw <- metric != "manhattan"
  if (method == "auto") {
    if (n <= exact_limit() || !by_hnsw) {
      return("exact")
    }
    if (is_installed("RcppHNSW")) {
      return("hnsw")
    }
    note_exact(n)
    return("exact")
  }
  if (method == "hnsw") {
    if (!by_hnsw) {
      scoom_abort(
        c(
          "{.code method = \"hnsw\"} has no {.val {metric}} distance.",
          i = "Use {.code method = \"exact\"}, or another {.arg metric}."
        ),
        class = "invalid_input",
        call = call
      )
    }
    check_suggested("RcppHNSW", "install.packages", call)
  }
  method
}

# All pairs of so many cells take hours.
note_exact <- function(n) {
  scoom_inform(
    c(
      "!" = "All pairs of {format_count(n)} cells are compared, since {.pkg RcppHNSW} is not installed.",
      i = "With {.code install.packages(\"RcppHNSW\")} the search is approximate and much faster."
    ),
    class = "exact_search"
  )
}

nearest_args <- function(rep, k, metric, candidates = NULL) {
  list(
    x = rep,
    n_obs = nrow(rep),
    k = k,
    metric = metric,
    candidates = candidates
  )
}

# More candidates than neighbours: float32 distances may order the last ones
# differently, and the cell itself is among them.
hnsw_candidates <- function(rep, n_neighbors, metric, threads) {
  if (metric == "correlation") {
    rep <- rep - rowMeans(rep)
  }
  distance <- if (metric == "euclidean") "l2" else "cosine"
  k <- min(n_neighbors + 5, nrow(rep))
  index <- RcppHNSW::hnsw_build(
    rep,
    distance = distance,
    M = 16,
    ef = 200,
    n_threads = 0
  )
  found <- RcppHNSW::hnsw_search(
    rep,
    index,
    k = k,
    ef = max(200, 2 * k),
    n_threads = threads
  )$idx
  storage.mode(found) <- "integer"
  found
}

# The graph ----------------------------------------------------------------------

graph_keys <- function(key) {
  prefix <- if (key == "neighbors") "" else paste0(key, "_")
  list(
    connectivities_key = paste0(prefix, "connectivities"),
    distances_key = paste0(prefix, "distances")
  )
}

add_graph <- function(x, found, params, key) {
  keys <- graph_keys(key)
  n <- n_obs(x)
  x <- set_obsp(x, keys$distances_key, as_graph(found$distances, n))
  graph <- as_graph(found$connectivities, n)
  x <- set_obsp(x, keys$connectivities_key, graph)
  set_uns(x, key, c(keys, list(params = params)))
}

as_graph <- function(parts, n) {
  methods::new(
    "dgCMatrix",
    p = parts$p,
    i = parts$i,
    x = parts$x,
    Dim = c(as.integer(n), as.integer(n))
  )
}

# What uns says about the graph `key`, with the names in obsp.
graph_info <- function(x, key, call) {
  check_string(key, arg = "neighbors", call = call)
  keys <- field(x, "slots")$uns$keys
  info <- if (key %in% keys) view_element(x, "uns", key, call) else list()
  if (!is.list(info)) {
    info <- list()
  }
  utils::modifyList(graph_keys(key), info)
}

#' A matrix of the graph, `"connectivities"` or `"distances"`
#'
#' @returns A dgCMatrix without names.
#' @noRd
graph_matrix <- function(x, key, what, call = caller_env()) {
  name <- graph_info(x, key, call)[[paste0(what, "_key")]]
  slot <- field(x, "slots")$obsp
  if (!name %in% slot$keys) {
    check_not_unread(x, paste0("obsp/", name), call)
    scoom_abort(
      c(
        "There is no graph of neighbours{if (key != 'neighbors') paste0(' ', verbatim(key))}.",
        x = "{.code obsp${name}} is not there.",
        i = "{.fn find_neighbors} computes it."
      ),
      class = "neighbors_missing",
      call = call
    )
  }
  graph <- slot$set[[name]] %||% view_element(x, "obsp", name, call)
  if (!methods::is(graph, "dgCMatrix")) {
    graph <- methods::as(graph, "dMatrix")
    graph <- methods::as(graph, "generalMatrix")
    graph <- methods::as(graph, "CsparseMatrix")
  }
  graph@Dimnames <- list(NULL, NULL)
  graph
}

graph_args <- function(graph, ...) {
  list2(p = graph@p, i = graph@i, x = graph@x, ...)
}

graph_components <- function(graph, call = caller_env()) {
  rs_unwrap(rs_graph_components(graph_args(graph)), call)
}

# The neighbours of each cell as list(index =, distance =), cells in rows.
neighbor_table <- function(x, key, call = caller_env()) {
  distances <- graph_matrix(x, key, "distances", call)
  found <- rs_unwrap(rs_graph_table(graph_args(distances)), call)
  if (is.null(found$index) || !length(found$index)) {
    abort_incomplete_graph(call)
  }
  lapply(found, matrix, nrow = n_obs(x))
}

abort_incomplete_graph <- function(call) {
  scoom_abort(
    c(
      "The graph of neighbours is not complete.",
      x = "Cells have different numbers of neighbours.",
      i = "Were cells selected since {.fn find_neighbors}? Run it again."
    ),
    class = "incomplete_graph",
    call = call
  )
}

note_components <- function(n, what, key) {
  if (n > 1) {
    scoom_inform(
      c(
        "!" = "The graph of {what} falls into {format_count(n)} components.",
        i = "No path leads from one to another: trajectories are confined to one.",
        i = "A larger {.arg n_neighbors} may join them."
      ),
      class = "disconnected_graph"
    )
  }
}
