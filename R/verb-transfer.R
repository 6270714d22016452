#' Label cells by their nearest neighbours in a reference
#'
#' Each cell of a query gets the label that most of its nearest neighbours in the reference
#' have, with a confidence. A running verb that does not read the file's matrix.
#'
#' @details
#' 1. The `n_neighbors` nearest cells of the reference for each cell of the query, in an embedding that
#'    both have, by comparing all pairs; cells at the same distance are ordered by
#'    position. [project_pca()] gives the query coordinates in the reference's components.
#' 2. Each neighbour has one vote, as in `scanpy.tl.ingest()`, or with
#'    `weights = "distance"` one over its distance. The label with most votes wins; of equal
#'    ones the first level.
#' 3. The confidence is the winner's share of all votes. Neighbours without a label vote
#'    for none; a cell that has only such gets `NA`.
#'
#' Results do not depend on threads, to the last bit.
#'
#' Memory: for n cells of the reference, m of the query, d dimensions and k neighbours
#' \eqn{8 n d + 4 m d + 12 m k} bytes.
#'
#' @inheritParams find_neighbors
#' @param query,reference Objects opened by [open_h5ad()].
#' @param labels Columns of the reference's `obs` to transfer.
#' @param use_rep An element of `obsm` of both.
#' @param n_neighbors The number of neighbours that vote.
#' @param weights What a vote counts.
#' @param key Names of the new columns of the query; `NULL` for those of `labels`.
#' @returns `query` with, for each of `labels`, a factor in `obs` with the reference's levels,
#'   and its confidence from 0 to 1 in a column with `_confidence` appended.
#' @references
#' Wolf, Angerer, Theis (2018) SCANPY: large-scale single-cell gene expression data
#' analysis. *Genome Biology* 19, 15. \doi{10.1186/s13059-017-1382-0}
#' @seealso [project_pca()] before it, [project_umap()] for places in the reference's layout
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500)
#' is_query <- x$obs$donor == x$obs$donor[[1]]
#' reference <- run_pca(x[!is_query, ], n_comps = 20)
#' query <- project_pca(x[is_query, ], reference) |>
#'   transfer_labels(reference, "cell_type", key = "predicted")
#' table(query$obs$predicted, query$obs$cell_type)
transfer_labels <- function(
  query,
  reference,
  labels,
  use_rep = "X_pca",
  n_pcs = NULL,
  n_neighbors = 15,
  metric = c("euclidean", "cosine", "correlation", "manhattan"),
  weights = c("uniform", "distance"),
  key = NULL,
  threads = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(query)
  check_scoom(reference)
  check_given(labels, "names of columns of the reference's cells")
  check_count(n_neighbors, min = 1)
  metric <- check_choice(metric, eval(formals()$metric))
  weights <- check_choice(weights, eval(formals()$weights))
  check_label_names(labels, key, call)
  factors <- lapply(labels, \(name) {
    group_factor(obs_column(reference, name, call), name, call)
  })
  here <- shared_embedding(query, "query", use_rep, n_pcs, call)
  there <- shared_embedding(reference, "reference", use_rep, n_pcs, call)
  args <- c(
    nearest_reference_args(here, there, use_rep, n_neighbors, metric, call),
    list(
      labels = lapply(factors, \(factor) as.integer(factor) - 1L),
      n_labels = vapply(factors, nlevels, 0L),
      by_distance = weights == "distance"
    )
  )
  ctx <- scoom_ctx(threads, progress, "Neighbours", call)
  found <- if (nrow(here)) {
    rs_unwrap(rs_graph_transfer(args, ctx), call)
  } else {
    lapply(labels, \(name) list(code = integer(), share = numeric()))
  }
  key <- key %||% labels
  columns <- list()
  for (i in seq_along(labels)) {
    levels <- levels(factors[[i]])
    columns[[key[[i]]]] <- factor(levels[found[[i]]$code], levels)
    columns[[paste0(key[[i]], "_confidence")]] <- found[[i]]$share
  }
  set_obs(query, columns)
}

check_label_names <- function(labels, key, call) {
  is_names <- \(x) {
    is.character(x) && length(x) && !anyNA(x) && !anyDuplicated(x)
  }
  if (!is_names(labels)) {
    what <- "names of columns of the reference's cells, each once"
    abort_type(labels, what, "labels", call)
  }
  if (!is.null(key) && (!is_names(key) || length(key) != length(labels))) {
    what <- "one name for each of {.arg labels}, or {.code NULL}"
    abort_type(key, what, "key", call)
  }
}

# What the search takes for the neighbours in a reference of the cells of a query.
nearest_reference_args <- function(
  here,
  there,
  use_rep,
  n_neighbors,
  metric,
  call
) {
  check_same_space(here, there, use_rep, call)
  check_n_reference(n_neighbors, nrow(there), call)
  list(
    query = here,
    n_query = nrow(here),
    x = there,
    n_obs = nrow(there),
    k = n_neighbors,
    metric = metric
  )
}

check_n_reference <- function(n_neighbors, n, call) {
  if (n_neighbors <= n) {
    return(invisible())
  }
  scoom_abort(
    c(
      "{.arg n_neighbors} is too large.",
      x = "{.arg reference} has {counted(n, 'cell')}, fewer than {format_count(n_neighbors)}."
    ),
    class = "too_few_cells",
    call = call,
    argument = "n_neighbors",
    maximum = n
  )
}

shared_embedding <- function(x, arg, use_rep, n_pcs, call, hint = NULL) {
  check_string(use_rep, arg = "use_rep", call = call)
  if (!use_rep %in% field(x, "slots")$obsm$keys) {
    scoom_abort(
      c(
        "{.arg {arg}} has no embedding {.val {use_rep}}.",
        i = if (use_rep != "X_pca") {
          hint
        } else if (arg == "query") {
          "{.fn project_pca} gives it coordinates in the components of the reference."
        } else {
          "{.fn run_pca} computes it."
        }
      ),
      class = "element_missing",
      call = call,
      name = use_rep
    )
  }
  embedding(x, use_rep, n_pcs, call)
}

check_same_space <- function(here, there, use_rep, call) {
  if (ncol(here) == ncol(there)) {
    return(invisible())
  }
  scoom_abort(
    c(
      "The embeddings {.val {use_rep}} are not of one space.",
      x = "The query has {ncol(here)} dimension{?s}, the reference {ncol(there)}.",
      i = "{.fn project_pca} gives the query coordinates in the components of the reference."
    ),
    class = "wrong_shape",
    call = call
  )
}
