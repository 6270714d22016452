#' Project new cells on the components of others
#'
#' Gives the cells of one object coordinates in the principal components of another, so
#' that new data can be compared with a reference that stays as it is. A running verb:
#' the file of the query is read once.
#'
#' @details
#' 1. Genes are matched by name. Those that the query lacks contribute nothing, as if
#'    each cell had the reference's mean; a warning of class
#'    `scoom_warning_genes_missing` counts them, and where fewer than `min_share` are
#'    there it is an error of class `scoom_error_genes_missing`.
#' 2. The values of the query's chain are standardised and clipped as those of the reference
#'    were, with the reference's means and deviations; a [scale_genes()] of the query's
#'    own chain is left out.
#' 3. Scores are the values less the reference's centres, times its loadings.
#'
#' So the scores of the reference's own cells are those of [run_pca()]. The query is not
#' centred at its own means, as `scanpy.tl.ingest()` does, which moves a query of
#' other composition.
#'
#' Values must have come about alike. Where the two chains differ, in the target of
#' [normalize_total()] for example, a warning of class `scoom_warning_chains_differ`
#' shows both.
#'
#' Memory: \eqn{24 n k} bytes of scores for n cells and k components, and about 40 MB
#' per thread.
#'
#' @inheritParams run_pca
#' @param query An object opened by [open_h5ad()], whose chain gives values comparable
#'   with those of the reference.
#' @param reference An object with components by [run_pca()].
#' @param layer A layer of the query; `NULL` for X with its chain.
#' @param pca The name of the reference's scores, the `key` of its [run_pca()].
#' @param key The name of the query's scores in `obsm`.
#' @param min_share The share of the reference's genes that the query must have, from 0
#'   to 1.
#' @returns `query` with
#'   * `obsm$X_pca`: scores, cells x components, columns `PC1`, `PC2`, ...;
#'   * `uns$pca`: a list of `params`, with `projected = TRUE` and the numbers of genes
#'     that were used and missing.
#' @seealso [transfer_labels()] and [project_umap()] after it
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p() |>
#'   find_variable_genes(n_top = 500) |>
#'   scale_genes(max_value = 10)
#' reference <- run_pca(x[x$obs$donor != x$obs$donor[[1]], ], n_comps = 20)
#' query <- project_pca(x[x$obs$donor == x$obs$donor[[1]], ], reference)
#' query$obsm$X_pca[1:3, 1:4]
project_pca <- function(
  query,
  reference,
  layer = NULL,
  pca = "X_pca",
  key = "X_pca",
  min_share = 0.5,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(query)
  check_scoom(reference)
  check_string(layer, allow_null = TRUE)
  check_string(key)
  check_number(min_share, min = 0, max = 1)
  basis <- pca_basis(reference, pca, call)
  recipe <- if (is.null(layer)) {
    x_recipe(query, call)
  } else {
    layer_recipe(query, layer, call)
  }
  recipe <- without_scale(recipe)
  compare_chains(query, recipe, basis, call)
  at <- match_genes(basis$genes$feature, query, min_share, call)
  present <- which(!is.na(at))
  recipe <- recipe_genes(recipe, at[present])
  genes <- basis$genes[present, ]
  if (!is.null(genes$sd)) {
    scale <- list(
      op = "scale",
      zero_center = basis$params$zero_center,
      max_value = basis$params$max_value,
      mean = genes$mean,
      sd = genes$sd
    )
    recipe$ops <- c(recipe$ops, list(scale))
  }
  args <- list(
    loadings = basis$loadings[present, , drop = FALSE],
    center = genes$center
  )
  scores <- run_pass(
    rs_pca_project,
    recipe_plan(query, recipe, call = call),
    args,
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress,
    label = "Projecting cells",
    call = call
  )$scores
  n_comps <- ncol(basis$loadings)
  dim(scores) <- c(n_obs(query), n_comps)
  dimnames(scores) <- list(NULL, paste0("PC", seq_len(n_comps)))
  query <- set_obsm(query, key, scores)
  params <- list(
    n_comps = n_comps,
    projected = TRUE,
    n_features = length(present),
    n_missing = sum(is.na(at)),
    layer = layer
  )
  set_uns(query, if (key == "X_pca") "pca" else key, list(params = params))
}

#' The components of a reference
#'
#' @returns A list: `genes`, the data frame that [run_pca()] keeps; `loadings`, a row
#'   for each of them; `params`.
#' @noRd
pca_basis <- function(reference, pca, call) {
  check_string(pca, arg = "pca", call = call)
  is_default <- pca == "X_pca"
  names <- list(
    uns = if (is_default) "pca" else pca,
    varm = if (is_default) "PCs" else pca
  )
  slots <- field(reference, "slots")
  for (slot in names(names)) {
    if (!names[[slot]] %in% slots[[slot]]$keys) {
      scoom_abort(
        c(
          "{.arg reference} has no components {.val {pca}}.",
          x = "{.code {slot}${names[[slot]]}} is not there.",
          i = "{.fn run_pca} computes them."
        ),
        class = "pca_missing",
        call = call
      )
    }
  }
  summary <- view_element(reference, "uns", names$uns, call)
  genes <- if (is.list(summary)) summary$genes
  at <- match(genes$feature, var_names(reference))
  problem <- if (!is.data.frame(genes) || is.null(genes$center)) {
    "{.code uns${names$uns}} does not have the means of its genes."
  } else if (anyDuplicated(genes$feature)) {
    "Several of its genes have the same name."
  } else if (anyNA(at)) {
    "Genes were taken from it since: {sum(is.na(at))} of the {length(at)} it needs."
  }
  if (!is.null(problem)) {
    scoom_abort(
      c(
        "The components of {.arg reference} can't be projected on.",
        x = problem,
        i = "{.fn run_pca} on the reference computes what is needed."
      ),
      class = "pca_incomplete",
      call = call
    )
  }
  loadings <- view_element(reference, "varm", names$varm, call)
  loadings <- unname(as.matrix(loadings)[at, , drop = FALSE])
  list(genes = genes, loadings = loadings, params = summary$params)
}

# Positions of the reference's genes in the query, NA for those that are not there.
match_genes <- function(features, query, min_share, call) {
  names <- var_names(query)
  twice <- intersect(features, names[duplicated(names)])
  if (length(twice)) {
    scoom_abort(
      c(
        "Genes can't be matched by name.",
        x = "The query has several named {.val {head_of(twice, 5)}}."
      ),
      class = "duplicated_genes",
      call = call
    )
  }
  at <- match(features, names)
  n_missing <- sum(is.na(at))
  if (n_missing == 0) {
    return(at)
  }
  missing <- features[is.na(at)]
  lines <- c(
    "The query lacks {format_count(n_missing)} of the {format_count(length(at))} genes of the components.",
    x = "Among them {cli::qty(n_missing)}{?is/are} {.val {head_of(missing, 5)}}."
  )
  if (n_missing == length(at) || n_missing > (1 - min_share) * length(at)) {
    scoom_abort(
      c(
        lines,
        i = "Are the names of the genes of one kind? {.arg min_share} is the least share that must be there."
      ),
      class = "genes_missing",
      call = call,
      genes = missing
    )
  }
  scoom_warn(
    c(lines, i = "Each cell is taken to have the reference's mean of them."),
    class = "genes_missing",
    call = call,
    genes = missing
  )
  at
}

compare_chains <- function(query, recipe, basis, call) {
  now <- value_history(query, recipe, call)
  then <- as.character(basis$params$chain)
  if (identical(now, then)) {
    return(invisible())
  }
  as_text <- \(steps) {
    if (length(steps)) paste(steps, collapse = " > ") else "none"
  }
  scoom_warn(
    c(
      "The values of the query may not be comparable with those of the reference.",
      x = "The chain of the query is: {verbatim(as_text(now))}.",
      x = "That of the reference was: {verbatim(as_text(then))}."
    ),
    class = "chains_differ",
    call = call
  )
}
