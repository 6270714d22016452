# Trajectories on the graph of neighbours: diffusion maps, pseudotime, PAGA.

#' Lay out trajectories by diffusion
#'
#' Diffusion components of the cells and a pseudotime from a root cell, as scanpy
#' computes them. Running verbs on the graph of [find_neighbors()] that do not
#' read the file.
#'
#' @details
#' `run_diffmap()`:
#'
#' 1. With W the connectivities and Q their row sums, \eqn{K = Q^{-1} W Q^{-1}} removes
#'    the density of cells.
#' 2. \eqn{T = Z^{-1} K Z^{-1}}, with \eqn{Z^2} the row sums of K, has the eigenvalues of
#'    the random walk on K.
#' 3. Its leading eigenvectors; the entry of largest size of each is positive. The first
#'    is the stationary state, and shows no trajectory. Up to 20,000 cells they are computed
#'    to machine precision by Lanczos; beyond by Chebyshev-filtered subspaces, which take
#'    less memory, to residuals of 1e-10.
#'
#' `run_dpt()`: the diffusion distance of each cell to the root,
#' \deqn{\textstyle\sqrt{\sum_k (\frac{\lambda_k}{1 - \lambda_k})^2 (\psi_{k,root} - \psi_{k,i})^2}}
#' over the largest one. Eigenvalues from 0.9994 on count with weight one, which
#' is scanpy's rule for the stationary state. Cells in other components of the graph than the root are `Inf`,
#' with a message.
#'
#' Results are the same for any number of threads, to the last bit.
#'
#' Memory beside the stored graph: \eqn{8 n (4 c + 17)} bytes for n cells and c components; up
#' to 20,000 cells 100 MB.
#'
#' @inheritParams cluster_leiden
#' @inheritParams find_neighbors
#' @param n_comps The number of components, the stationary one counted.
#' @param key The name of the components in `obsm`, or the new column of `obs`.
#' @returns `run_diffmap()`: `x` with `obsm$X_diffmap`, cells x components, and
#'   `uns$diffmap_evals`, their eigenvalues. `run_dpt()`: `x` with `obs$dpt_pseudotime`, from 0 to 1, and
#'   `uns$iroot`, the position of the root counted from 0 as in scanpy.
#' @references
#' Coifman et al. (2005) Geometric diffusions as a tool for harmonic analysis and structure
#' definition of data: diffusion maps. *PNAS* 102, 7426.
#' \doi{10.1073/pnas.0500334102}
#'
#' Zhou, Saad (2007) A Chebyshev-Davidson algorithm for large symmetric eigenproblems. *SIAM
#' Journal on Matrix Analysis and Applications* 29, 954. \doi{10.1137/050630404}
#'
#' Haghverdi, Büttner, Wolf, Buettner, Theis (2016) Diffusion pseudotime robustly
#' reconstructs lineage branching. *Nature Methods* 13, 845. \doi{10.1038/nmeth.3971}
#' @seealso [run_paga()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   run_pca(n_comps = 20) |>
#'   find_neighbors() |>
#'   run_diffmap(n_comps = 10) |>
#'   run_dpt(root = 1)
#' x$uns$diffmap_evals
#' summary(x$obs$dpt_pseudotime)
run_diffmap <- function(
  x,
  n_comps = 15,
  key = "X_diffmap",
  neighbors = "neighbors",
  threads = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_count(n_comps, min = 2)
  check_string(key)
  graph <- graph_matrix(x, neighbors, "connectivities", call)
  check_n_diffusion(n_comps, n_obs(x), "n_comps", call)
  components <- graph_components(graph, call)
  note_components(max(components), neighbors)
  check_no_lonely(graph, call)
  ctx <- scoom_ctx(threads, progress, "Diffusion", call)
  args <- graph_args(graph, n_comps = n_comps, kind = "diffusion")
  found <- rs_unwrap(rs_graph_diffusion(args, ctx), call)
  vectors <- found$vectors
  found$vectors <- NULL
  dim(vectors) <- c(n_obs(x), n_comps)
  dimnames(vectors) <- list(NULL, paste0("DC", seq_len(n_comps)))
  x <- set_obsm(x, key, vectors)
  set_uns(x, evals_key(key), found$values)
}

check_n_diffusion <- function(n_comps, n, arg, call) {
  if (n_comps < n) {
    return(invisible())
  }
  scoom_abort(
    c(
      "{.arg {arg}} is too large.",
      x = "{counted(n, 'cell')} {cli::qty(n)}{?has/have} fewer than {format_count(n_comps)} components."
    ),
    class = "too_many_components",
    call = call,
    argument = arg,
    maximum = max(n - 1, 0)
  )
}

evals_key <- function(key) {
  if (key == "X_diffmap") "diffmap_evals" else paste0(key, "_evals")
}

check_no_lonely <- function(graph, call) {
  lonely <- which(diff(graph@p) == 0)
  if (!length(lonely)) {
    return(invisible())
  }
  scoom_abort(
    c(
      "{format_count(length(lonely))} cell{?s} {?has/have} no neighbours in the graph.",
      x = "The first is cell {format_count(lonely[[1]])}.",
      i = "Were cells selected since {.fn find_neighbors}? Run it again."
    ),
    class = "incomplete_graph",
    call = call
  )
}

#' @rdname run_diffmap
#' @param root The cell where time begins: its name, or its position counted from 1.
#' @param n_dcs Diffusion components to use, the stationary one counted. They are
#'   computed first where they are not there.
#' @param diffmap The name of the components in `obsm`.
#' @export
run_dpt <- function(
  x,
  root,
  n_dcs = 10,
  key = "dpt_pseudotime",
  diffmap = "X_diffmap",
  neighbors = "neighbors",
  threads = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_count(n_dcs, min = 2)
  check_string(key)
  check_string(diffmap)
  root <- root_cell(x, root, call)
  slots <- field(x, "slots")
  if (!diffmap %in% slots$obsm$keys && diffmap == "X_diffmap") {
    check_n_diffusion(n_dcs, n_obs(x), "n_dcs", call)
    scoom_inform(
      c(
        i = "There are no diffusion components: {.fn run_diffmap} computes them."
      ),
      class = "diffmap_computed"
    )
    x <- run_diffmap(
      x,
      n_comps = max(n_dcs, min(15, n_obs(x) - 1)),
      neighbors = neighbors,
      threads = threads
    )
  }
  vectors <- embedding(x, diffmap, n_dcs, call, arg = "n_dcs")
  check_finite(vectors, diffmap, call)
  name <- evals_key(diffmap)
  if (!name %in% field(x, "slots")$uns$keys) {
    keys <- field(x, "slots")$uns$keys
    hint <- "{.fn run_diffmap} computes it."
    class <- "element_missing"
    abort_missing(name, keys, "element of uns", class, call, hint)
  }
  values <- as.double(view_element(x, "uns", name, call))[seq_len(n_dcs)]
  graph <- graph_matrix(x, neighbors, "connectivities", call)
  component <- graph_components(graph, call)
  args <- list(
    values = values,
    vectors = vectors,
    component = component,
    root = root
  )
  time <- rs_unwrap(rs_graph_pseudotime(args), call)
  n_apart <- sum(is.infinite(time))
  if (n_apart > 0) {
    scoom_inform(
      c(
        "!" = "{counted(n_apart, 'cell')} can't be reached from the root.",
        i = "{cli::qty(n_apart)}{?It lies/They lie} in other components of the graph; the pseudotime is {.code Inf}."
      ),
      class = "disconnected_graph"
    )
  }
  x <- set_obs(x, set_names(list(time), key))
  set_uns(x, "iroot", root - 1L)
}

root_cell <- function(x, root, call) {
  check_given(root, "one cell, by name or position", "root", call)
  if (!is_string(root) && !is_integerish(root, n = 1, finite = TRUE)) {
    abort_type(root, "one cell, by name or position", "root", call)
  }
  index <- resolve_index(root, n_obs(x), \() obs_names(x), "cell", call)
  index <- index %||% seq_len(n_obs(x))
  if (length(index) != 1) {
    abort_type(root, "one cell, by name or position", "root", call)
  }
  as.integer(index)
}

# PAGA -----------------------------------------------------------------------------

#' Abstract the graph of cells to groups: PAGA
#'
#' How strongly groups of cells are connected in the graph of neighbours, against
#' chance: partition-based graph abstraction, model 1.2 of scanpy. Running verbs on
#' the graph of [find_neighbors()] that do not read the file.
#'
#' @details
#' Each neighbour of a cell is an edge. The connectivity of groups i and j is the number
#' of edges between them, in both directions, over
#' \eqn{(e_i n_j + e_j n_i) / (n - 1)}, the number if the edges \eqn{e_i} of a group of \eqn{n_i} cells
#' were thrown at random; at most 1.
#'
#' `paga_layout()` places the groups in the plane with igraph: `"fr"`
#' (Fruchterman-Reingold), `"kk"` (Kamada-Kawai) or `"tree"` (Reingold-Tilford, on the
#' spanning tree, below `root`).
#'
#' @inheritParams cluster_leiden
#' @param group_by A column of `obs`, or a factor with one value for each cell. Cells
#'   without a group count nowhere.
#' @param key The name of the result in `uns`.
#' @returns `run_paga()`: `x` with a list `uns$paga` of `connectivities` and
#'   `connectivities_tree`, symmetric sparse matrices of groups x groups with their
#'   names, the latter the spanning tree of the strongest connectivities (a forest
#'   where groups are not connected); `groups`, the column; and `sizes`, the numbers of cells.
#'
#'   `paga_layout()`: a data frame with columns `group`, `x`, `y` and `size`, one row a group.
#' @references
#' Wolf et al. (2019) PAGA: graph abstraction reconciles clustering with trajectory
#' inference through a topology preserving map of single cells. *Genome Biology* 20, 59.
#' \doi{10.1186/s13059-019-1663-x}
#' @seealso [run_dpt()]
#' @export
#' @examplesIf rlang::is_installed("igraph")
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   run_pca(n_comps = 20) |>
#'   find_neighbors() |>
#'   cluster_leiden() |>
#'   run_paga(group_by = "leiden")
#' x$uns$paga$connectivities
#' paga_layout(x)
run_paga <- function(x, group_by, key = "paga", neighbors = "neighbors") {
  call <- current_env()
  check_scoom(x)
  check_string(key)
  group <- resolve_group(x, group_by, call)
  if (nlevels(group) < 2) {
    scoom_abort(
      c(
        "There is nothing to connect.",
        x = "{.arg group_by} has {nlevels(group)} group{?s}."
      ),
      class = "too_few_groups",
      call = call
    )
  }
  distances <- graph_matrix(x, neighbors, "distances", call)
  codes <- as.integer(group) - 1L
  args <- graph_args(distances, groups = codes, n_groups = nlevels(group))
  found <- rs_unwrap(rs_graph_paga(args), call)
  note_parts(found$tree, found$sizes)
  as_groups <- function(values) {
    names <- levels(group)
    full <- matrix(values, nlevels(group), dimnames = list(names, names))
    methods::as(Matrix::Matrix(full, sparse = TRUE), "generalMatrix")
  }
  info <- list(
    connectivities = as_groups(found$connectivities),
    connectivities_tree = as_groups(found$tree),
    groups = if (is_string(group_by)) group_by else "given",
    sizes = set_names(as.integer(found$sizes), levels(group))
  )
  set_uns(x, key, info)
}

# A tree has one edge less than groups, a forest as many fewer as it has trees.
note_parts <- function(tree, sizes) {
  n_parts <- sum(sizes > 0) - sum(tree > 0) / 2
  if (n_parts > 1) {
    scoom_inform(
      c(
        "!" = "The groups fall into {format_count(n_parts)} parts without an edge between them.",
        i = "Connectivities between parts are 0; the tree is a forest."
      ),
      class = "disconnected_graph"
    )
  }
}

#' @rdname run_paga
#' @param layout How groups are placed.
#' @param root The group at the top of `layout = "tree"`; the largest one by default.
#' @param threshold Connectivities below it are not looked at.
#' @export
paga_layout <- function(
  x,
  layout = c("fr", "kk", "tree"),
  root = NULL,
  threshold = 0.01,
  key = "paga",
  seed = 0
) {
  call <- current_env()
  check_scoom(x)
  layout <- check_choice(layout, c("fr", "kk", "tree"))
  check_number(threshold, min = 0, max = 1)
  check_string(key)
  check_r_seed(seed)
  check_suggested("igraph", "install.packages", call)
  keys <- field(x, "slots")$uns$keys
  if (!key %in% keys) {
    hint <- "{.fn run_paga} computes it."
    class <- "element_missing"
    abort_missing(key, keys, "element of uns", class, call, hint)
  }
  info <- view_element(x, "uns", key, call)
  names <- names(info$sizes) %||% as.character(seq_along(info$sizes))
  weights <- info[[
    if (layout == "tree") "connectivities_tree" else "connectivities"
  ]]
  weights <- as.matrix(weights)
  weights[weights < threshold] <- 0
  dimnames(weights) <- NULL
  graph <- igraph::graph_from_adjacency_matrix(
    weights,
    mode = "max",
    weighted = TRUE,
    diag = FALSE
  )
  place <- switch(
    layout,
    fr = \() igraph::layout_with_fr(graph),
    # Strong connections are short.
    kk = \() {
      igraph::layout_with_kk(graph, weights = 1 / igraph::E(graph)$weight)
    },
    tree = {
      top <- tree_root(root, names, info$sizes, call)
      \() igraph::layout_as_tree(graph, root = top, mode = "all")
    }
  )
  at <- with_own_seed(seed, place())
  data.frame(
    group = factor(names, names),
    x = at[, 1],
    y = at[, 2],
    size = as.integer(info$sizes)
  )
}

tree_root <- function(root, names, sizes, call) {
  if (is.null(root)) {
    return(which.max(sizes))
  }
  root <- as.character(root)
  check_string(root, arg = "root", call = call)
  if (!root %in% names) {
    abort_missing(root, names, "group", "group_missing", call)
  }
  match(root, names)
}
