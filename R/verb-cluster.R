# Clusters of cells: communities of the graph, and of the embedding itself.

#' Cluster cells by their graph
#'
#' Communities of the graph that [find_neighbors()] made, by the Leiden or the
#' Louvain algorithm. Running verbs that do not read the file.
#'
#' @details
#' Edges weigh as the connectivities say. The quality of a partition is its weighted
#' modularity \deqn{Q = \frac{1}{2m} \sum_{ij} (A_{ij} - \gamma \frac{k_i k_j}{2m})
#' \delta(c_i, c_j)} with resolution \eqn{\gamma}, which is scanpy's objective, or
#' the constant Potts model. Clusters are named `"0"`, `"1"`, ... from the
#' largest to the smallest; of equal size, the one with the first cell comes
#' first.
#'
#' An iteration of Leiden:
#' 1. Cells move to the community of a neighbour where they add most to the quality, from a queue in
#'    random order; the neighbours of one that moves are looked at again, until none would move.
#' 2. Within each community, cells that are alone join parts that are well connected to the rest of it,
#'    with a probability proportional to \eqn{\exp(\Delta / \beta)} among those that do not lower the quality
#'    (\eqn{\Delta} is what the sum over pairs gains, in units of weights).
#' 3. Parts become the nodes of a smaller graph, which starts from the communities of step 1 and is
#'    divided in the same way, until nothing moves.
#'
#' Each cluster is connected. The next iteration begins with the clusters of the one before. Louvain is one
#' iteration without step 2, and its clusters need not be connected.
#'
#' Each resolution starts from `seed` anew: its result is the same whatever others
#' are asked for with it. `.Random.seed` is left alone. Random numbers and the order of sums are scoom's own, so
#' that the same graph gives the same clusters on every machine.
#'
#' With `within`, the cells of each of its groups are clustered on their own part of the graph, and
#' named by both, as scanpy does: `"3,0"`, `"3,1"`, ... are parts of group `"3"`. `groups`
#' restricts this to some groups; the other ones stay as they are.
#'
#' The graph must be symmetric, without negative weights; its diagonal and stored zeros do not count.
#'
#' Memory: about 60 bytes a cell and at most 12 for each entry of the graph, beside it: 340 to 415 bytes a cell for
#' 100,000 cells with 15 neighbours (igraph takes 2,300), and 42 for Louvain.
#'
#' @inheritParams find_neighbors
#' @param resolution One or more resolutions: larger ones give more clusters.
#' @param objective `"modularity"`, or `"CPM"` for the constant Potts model.
#' @param n_iterations Iterations of the Leiden algorithm; `NULL` to iterate until
#'   the quality no longer rises, which takes several times as long.
#' @param beta Randomness of its refinement; 0 for none.
#' @param within A column of `obs` whose groups are clustered separately, or `NULL`.
#' @param groups Groups of `within` to cluster; `NULL` for all.
#' @param key The new column of `obs`. Several resolutions append theirs: `leiden_0.5`.
#' @param neighbors The graph: the `key` of [find_neighbors()].
#' @param seed A whole number.
#' @returns `x` with the factor `obs$leiden` or `obs$louvain`, and a list of `params` and
#'   `modularity` (at resolution 1, weighted) of the same name in `uns`. With `within`
#'   there is no modularity.
#' @references
#' Traag, Waltman, van Eck (2019) From Louvain to Leiden: guaranteeing well-connected
#' communities. *Scientific Reports* 9, 5233. \doi{10.1038/s41598-019-41695-z}
#'
#' Blondel, Guillaume, Lambiotte, Lefebvre (2008) Fast unfolding of communities in large
#' networks. *Journal of Statistical Mechanics*, P10008.
#' \doi{10.1088/1742-5468/2008/10/P10008}
#' @seealso [cluster_kmeans()] for clusters without a graph
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   run_pca(n_comps = 20) |>
#'   find_neighbors() |>
#'   cluster_leiden(resolution = c(0.5, 1))
#' table(x$obs$leiden_0.5, x$obs$leiden_1)
cluster_leiden <- function(
  x,
  resolution = 1,
  objective = c("modularity", "CPM"),
  n_iterations = 2,
  beta = 0.01,
  within = NULL,
  groups = NULL,
  key = "leiden",
  neighbors = "neighbors",
  seed = 0
) {
  call <- current_env()
  check_scoom(x)
  objective <- check_choice(objective, c("modularity", "CPM"))
  check_count(n_iterations, min = 1, allow_null = TRUE)
  check_number(beta, min = 0)
  how <- list(
    algorithm = "leiden",
    objective = objective,
    n_iterations = n_iterations,
    beta = beta
  )
  params <- list(
    objective = objective,
    n_iterations = n_iterations %||% -1L,
    beta = beta
  )
  cluster_graph(
    x,
    how,
    params,
    resolution,
    within,
    groups,
    key,
    neighbors,
    seed,
    call
  )
}

#' @rdname cluster_leiden
#' @export
cluster_louvain <- function(
  x,
  resolution = 1,
  within = NULL,
  groups = NULL,
  key = "louvain",
  neighbors = "neighbors",
  seed = 0
) {
  call <- current_env()
  check_scoom(x)
  cluster_graph(
    x,
    list(algorithm = "louvain", objective = "modularity"),
    list(),
    resolution,
    within,
    groups,
    key,
    neighbors,
    seed,
    call
  )
}

#' What Leiden and Louvain share
#'
#' @param how The arguments of the engine that are the algorithm's own.
#' @noRd
cluster_graph <- function(
  x,
  how,
  params,
  resolution,
  within,
  groups,
  key,
  neighbors,
  seed,
  call
) {
  check_resolution(resolution, call)
  check_string(key, call = call)
  check_r_seed(seed, call)
  graph <- graph_matrix(x, neighbors, "connectivities", call)
  parts <- cluster_parts(x, within, groups, call)
  args <- graph_args(
    graph,
    !!!how,
    parts = if (!is.null(within)) parts$cells,
    resolution = as.double(resolution),
    seed = seed
  )
  ctx <- scoom_ctx(label = "Communities", call = call)
  found <- rs_unwrap(rs_graph_communities(args, ctx), call)
  keys <- resolution_keys(key, resolution)
  for (at in seq_along(resolution)) {
    labels <- part_labels(found[[at]]$of, parts)
    x <- set_obs(x, set_names(list(labels), keys[[at]]))
    about <- c(params, list(resolution = resolution[[at]], random_state = seed))
    info <- list(params = c(about, part_params(within, groups, neighbors)))
    info$modularity <- found[[at]]$modularity
    x <- set_uns(x, keys[[at]], info)
  }
  x
}

# The columns of obs: one, or one for each of several resolutions.
resolution_keys <- function(key, resolution) {
  if (length(resolution) == 1) {
    return(key)
  }
  paste0(key, "_", format(resolution, trim = TRUE, drop0trailing = TRUE))
}

part_params <- function(within, groups, neighbors = NULL) {
  compact(list(neighbors = neighbors, within = within, groups = groups))
}

check_resolution <- function(resolution, call) {
  good <- is.numeric(resolution) &&
    length(resolution) > 0 &&
    all(is.finite(resolution)) &&
    all(resolution >= 0)
  if (!good) {
    abort_type(
      resolution,
      "one or more different numbers, at least 0",
      "resolution",
      call
    )
  }
  repeated <- unique(resolution[duplicated(resolution)])
  if (length(repeated)) {
    scoom_abort(
      c(
        "The numbers of {.arg resolution} must be different.",
        x = "{.val {repeated}} {cli::qty(length(repeated))}{?is/are} given more than once."
      ),
      class = "invalid_input",
      call = call,
      argument = "resolution"
    )
  }
}

# Parts and labels -----------------------------------------------------------------

# What is clustered separately: list(cells =, names =, base =). `cells` are positions for
# each part, or NULL for all; `base` is the label of the cells of no part.
cluster_parts <- function(x, within, groups, call) {
  if (is.null(within)) {
    if (!is.null(groups)) {
      scoom_abort(
        "{.arg groups} are groups of {.arg within}, which is not given.",
        class = "invalid_input",
        call = call
      )
    }
    return(list(cells = list(NULL), names = NULL, base = NULL))
  }
  check_string(within, arg = "within", call = call)
  base <- resolve_group(x, within, call)
  groups <- groups %||% levels(base)
  unknown <- setdiff(as.character(groups), levels(base))
  if (length(unknown)) {
    what <- paste("group of", within)
    abort_missing(unknown[[1]], levels(base), what, "group_missing", call)
  }
  groups <- intersect(levels(base), as.character(groups))
  list(
    cells = lapply(groups, \(group) which(base == group)),
    names = groups,
    base = base
  )
}

# The factor of all cells from the memberships found in each part.
part_labels <- function(found, parts) {
  if (is.null(parts$names)) {
    return(by_size(found[[1]]))
  }
  levels <- as.list(levels(parts$base))
  names(levels) <- levels(parts$base)
  labels <- as.character(parts$base)
  for (at in seq_along(found)) {
    name <- parts$names[[at]]
    own <- by_size(found[[at]])
    levels[[name]] <- paste(name, levels(own), sep = ",")
    labels[parts$cells[[at]]] <- paste(name, own, sep = ",")
  }
  factor(labels, unlist(levels, use.names = FALSE))
}

# Clusters "0", "1", ... from the largest on; of equal size the first seen first.
by_size <- function(membership) {
  seen <- unique(membership)
  at <- match(membership, seen)
  size <- tabulate(at, length(seen))
  place <- order(order(-size, seq_along(seen)))
  # Not by factor(), which would make a string of each cell.
  structure(
    place[at],
    levels = as.character(seq_along(seen) - 1L),
    class = "factor"
  )
}

# Clusters of the embedding --------------------------------------------------------

#' Cluster cells in an embedding
#'
#' @description
#' Clusters without a graph: around centres, by [stats::kmeans()], or by merging,
#' with [stats::hclust()]. Running verbs that do not read the file.
#'
#' Merging needs the distances of all pairs. Beyond some ten thousand cells cluster the means of
#' groups instead, with `group_by`: of fine clusters, for example.
#'
#' @details
#' Clusters are named `"0"`, `"1"`, ... from the largest to the smallest. `within` and
#' `groups` divide groups of cells further, as in [cluster_leiden()].
#'
#' Memory: `cluster_kmeans()` \eqn{16 n d} bytes for n cells in d dimensions;
#' `cluster_hierarchical()` \eqn{12 m^2} bytes for m cells or groups, which must fit
#' `options(scoom.memory)`.
#'
#' @inheritParams cluster_leiden
#' @inheritParams find_neighbors
#' @param n_clusters The number of clusters (of each group with `within`).
#' @param n_starts Random starts, of which the best is kept.
#' @param max_iterations Iterations of a start.
#' @param key The new column of `obs`.
#' @param linkage How far two clusters are: a `method` of [stats::hclust()].
#' @param metric Distance of cells or means: `"euclidean"` or `"manhattan"`.
#' @param group_by A column of `obs`, or one value for each cell: cluster the means
#'   of these groups, and give each cell the cluster of its group. Cells
#'   without a group have no cluster.
#' @returns `x` with the factor `obs$kmeans` or `obs$hierarchical`. In `uns`, under the same name,
#'   a list of `params` and
#'   * for `cluster_kmeans()` without `within`: `centers`, clusters x dimensions, and
#'     `within_ss`, the sum of squares around them;
#'   * for `cluster_hierarchical()` without `within`: `merge`, `height`, `order` and
#'     `labels` of the tree, see [stats::hclust()].
#' @references
#' Hartigan, Wong (1979) A K-means clustering algorithm. *Applied Statistics* 28, 100.
#' \doi{10.2307/2346830}
#' @seealso [cluster_leiden()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   run_pca(n_comps = 20) |>
#'   cluster_kmeans(n_clusters = 4) |>
#'   cluster_hierarchical(n_clusters = 4)
#' table(x$obs$kmeans, x$obs$hierarchical)
cluster_kmeans <- function(
  x,
  n_clusters,
  use_rep = "X_pca",
  n_pcs = NULL,
  n_starts = 10,
  max_iterations = 100,
  within = NULL,
  groups = NULL,
  key = "kmeans",
  seed = 0
) {
  call <- current_env()
  check_scoom(x)
  check_count(n_clusters, min = 1)
  check_count(n_starts, min = 1)
  check_count(max_iterations, min = 1)
  check_string(key)
  check_r_seed(seed)
  rep <- embedding(x, use_rep, n_pcs, call)
  check_finite(rep, use_rep, call)
  parts <- cluster_parts(x, within, groups, call)
  runs <- lapply(seq_along(parts$cells), \(at) {
    part <- part_of(rep, parts, at)
    check_n_clusters(n_clusters, part, part_words(parts, within, at), call)
    run_kmeans(part, n_clusters, n_starts, max_iterations, seed, call)
  })
  labels <- part_labels(lapply(runs, `[[`, "cluster"), parts)
  x <- set_obs(x, set_names(list(labels), key))
  info <- list(
    params = c(
      list(
        n_clusters = n_clusters,
        use_rep = use_rep,
        n_pcs = ncol(rep),
        random_state = seed
      ),
      part_params(within, groups)
    )
  )
  if (is.null(within)) {
    first <- match(levels(labels), labels)
    own <- runs[[1]]$cluster[first]
    info$centers <- without_dimnames(runs[[1]]$centers[own, , drop = FALSE])
    info$within_ss <- runs[[1]]$withinss[own]
  }
  set_uns(x, key, info)
}

without_dimnames <- function(m) {
  dimnames(m) <- NULL
  m
}

run_kmeans <- function(rep, k, n_starts, max_iterations, seed, call) {
  late <- NULL
  found <- withCallingHandlers(
    with_own_seed(
      seed,
      stats::kmeans(rep, k, iter.max = max_iterations, nstart = n_starts)
    ),
    warning = function(w) {
      late <<- conditionMessage(w)
      invokeRestart("muffleWarning")
    }
  )
  if (!is.null(late)) {
    scoom_warn(
      c(
        "K-means has not converged in each of its starts.",
        x = verbatim(late),
        i = "A larger {.arg max_iterations} may help."
      ),
      class = "not_converged",
      call = call
    )
  }
  found
}

# The rows of an embedding that are a part.
part_of <- function(rep, parts, at) {
  cells <- parts$cells[[at]]
  if (is.null(cells)) rep else rep[cells, , drop = FALSE]
}

# Which part a message is about, or nothing where there is only one.
part_words <- function(parts, within, at) {
  if (is.null(within)) {
    return("")
  }
  cli::format_inline(
    " in group {.val {parts$names[[at]]}} of {.field {within}}"
  )
}

check_n_clusters <- function(n_clusters, rep, where, call) {
  n <- if (n_clusters == 1) min(nrow(rep), 1) else nrow(unique(rep))
  if (n_clusters <= n) {
    return(invisible())
  }
  scoom_abort(
    c(
      "{.arg n_clusters} is too large.",
      x = paste(
        "There {cli::qty(n)}{?is/are} {format_count(n)} different",
        "point{cli::qty(n)}{?s} to cluster{where}, fewer than {format_count(n_clusters)}."
      )
    ),
    class = "too_few_cells",
    call = call,
    argument = "n_clusters",
    maximum = n
  )
}

#' @rdname cluster_kmeans
#' @export
cluster_hierarchical <- function(
  x,
  n_clusters,
  linkage = c("ward.D2", "average", "complete", "single"),
  metric = c("euclidean", "manhattan"),
  group_by = NULL,
  use_rep = "X_pca",
  n_pcs = NULL,
  within = NULL,
  groups = NULL,
  key = "hierarchical"
) {
  call <- current_env()
  check_scoom(x)
  check_count(n_clusters, min = 1)
  linkage <- check_choice(linkage, eval(formals()$linkage))
  metric <- check_choice(metric, eval(formals()$metric))
  check_string(key)
  rep <- embedding(x, use_rep, n_pcs, call)
  check_finite(rep, use_rep, call)
  if (!is.null(group_by) && !is.null(within)) {
    scoom_abort(
      "{.arg group_by} and {.arg within} can't be used together.",
      class = "invalid_input",
      call = call
    )
  }
  params <- list(
    n_clusters = n_clusters,
    linkage = linkage,
    metric = metric,
    use_rep = use_rep,
    n_pcs = ncol(rep)
  )
  if (is.null(group_by)) {
    parts <- cluster_parts(x, within, groups, call)
    trees <- lapply(seq_along(parts$cells), \(at) {
      part <- part_of(rep, parts, at)
      where <- part_words(parts, within, at)
      merge_tree(part, n_clusters, linkage, metric, call, where)
    })
    found <- lapply(trees, stats::cutree, k = n_clusters)
    labels <- part_labels(found, parts)
    params <- c(params, part_params(within, groups))
  } else {
    group <- resolve_group(x, group_by, call)
    used <- !is.na(group)
    sums <- rowsum(rep[used, , drop = FALSE], as.integer(group)[used])
    means <- sums / tabulate(group, nlevels(group))
    trees <- list(merge_tree(means, n_clusters, linkage, metric, call))
    labels <- by_size(stats::cutree(trees[[1]], k = n_clusters)[group[used]])
    labels <- labels[replace(
      rep_len(NA_integer_, length(group)),
      which(used),
      seq_along(labels)
    )]
    params$group_by <- if (is_string(group_by)) group_by else "given"
  }
  x <- set_obs(x, set_names(list(labels), key))
  info <- list(params = params)
  if (is.null(within)) {
    info <- c(info, unclass(trees[[1]])[c("merge", "height", "order")])
    info$labels <- if (!is.null(group_by)) levels(group)
  }
  set_uns(x, key, info)
}

merge_tree <- function(rep, n_clusters, linkage, metric, call, where = "") {
  n <- nrow(rep)
  if (n_clusters > n || n < 2) {
    scoom_abort(
      c(
        "There are too few cells or groups to merge.",
        x = "{format_count(n)}{where} can't give {counted(n_clusters, 'cluster')}."
      ),
      class = "too_few_cells",
      call = call
    )
  }
  # The distances, and the copy that merging works on.
  needed <- 12 * n^2
  budget <- option_memory(call)
  if (needed > max(budget, 64 * 2^20)) {
    scoom_abort(
      c(
        "Merging {format_count(n)} cells one by one does not fit the memory.",
        x = paste(
          "It takes {format_bytes(needed)}, more than",
          "{.code options(scoom.memory)}, {format_bytes(budget)}."
        ),
        i = "Merge the means of groups: {.code group_by = \"leiden\"}."
      ),
      class = "over_budget",
      call = call
    )
  }
  stats::hclust(stats::dist(rep, metric), linkage)
}
