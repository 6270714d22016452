#' Explain what will be read
#'
#' Shows the source, the selection and the chain of an object, and for each verb how
#' often it reads the file and how much memory it may take.
#'
#' @details
#' A *pass* goes once over all rows of the selection. A file that is stored by rows
#' is read once in a pass (rows that are not selected are skipped where whole blocks
#' of the file hold none that are). A file stored by columns has to be turned: where its
#' values take more than half of `options(scoom.memory)`, a pass reads it several
#' times, as `reads` says.
#'
#' The bound is what a verb holds over what R holds already, the returned table apart.
#' Each thread has the blocks it works on (about 30 MB); to that come the verb's own
#' sums, and 8 bytes for each row of a file stored by rows.
#'
#' @param x An object opened by [open_h5ad()].
#' @param verb The name of a verb such as `"run_pca"`, or `NULL` for all.
#' @param n_groups,n_genes The numbers of groups and of variable genes that the
#'   bounds are evaluated for.
#' @returns Invisibly, a list: `source`, `selection` and `chain` (strings), `n_obs`,
#'   `n_vars`, `n_values` (stored values), `n_ranges` (the units that
#'   worker processes are given), `n_blocks`, `reads_per_pass`, `threads`,
#'   `memory_bytes`, and the data frame `verbs`: `verb`, `passes`, `reads` (of the
#'   file), `memory_bytes`, `formula`.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' explain_plan(x)
#' explain_plan(x[1:500, ], "run_pca")
explain_plan <- function(x, verb = NULL, n_groups = 20, n_genes = 2000) {
  call <- current_env()
  check_scoom(x)
  check_count(n_groups, min = 1)
  check_count(n_genes, min = 1)
  recipe <- x_recipe(x, call)
  ctx <- scoom_ctx(call = call)
  # Explaining must not run the pass that a scaling needs.
  plan <- recipe_plan(x, without_scale(recipe), call = call)
  info <- rs_unwrap(rs_plan_info(plan, ctx), call)
  by_columns <- identical(matrix_info(recipe, x)$kind, "csc")
  verbs <- verb_costs(info, ctx, recipe, by_columns, n_groups, n_genes)
  if (!is.null(verb)) {
    check_string(verb)
    if (!verb %in% verbs$verb) {
      abort_missing(verb, verbs$verb, "verb", "verb_missing", call)
    }
    verbs <- verbs[verbs$verb == verb, ]
  }
  explained <- list(
    source = paste0(describe_file(x), ": ", describe_recipe(recipe, x)),
    selection = describe_selection(x),
    chain = describe_chain(recipe),
    n_obs = info$n_obs,
    n_vars = info$n_vars,
    n_values = info$nnz,
    n_ranges = info$n_ranges,
    n_blocks = info$n_blocks,
    reads_per_pass = info$reads_per_sweep,
    threads = ctx$threads,
    memory_bytes = ctx$memory,
    verbs = verbs
  )
  writeLines(format_explained(explained, recipe))
  invisible(explained)
}

without_scale <- function(recipe) {
  recipe$ops <- Filter(\(op) op$op != "scale", recipe$ops)
  recipe
}

# One row for each verb that reads the matrix. Each formula is R code over the
# symbols below, so that what is shown is what is evaluated.
verb_costs <- function(
  info,
  ctx,
  recipe,
  by_columns,
  n_groups,
  n_genes
) {
  costs <- list(
    calc_qc_metrics = list(1, quote(120 * cells + 64 * genes * threads)),
    filter_cells = list(1, quote(24 * cells)),
    filter_genes = list(1, quote(64 * genes * threads)),
    normalize_total = list(1, quote(16 * cells)),
    find_variable_genes = list(1, quote(64 * genes * threads)),
    run_pca = list(2, quote(24 * top^2 + 8 * 50 * cells)),
    find_markers = list(1, quote(80 * groups * genes)),
    pseudobulk = list(1, quote(32 * groups * genes)),
    rowSums = list(1, quote(24 * cells)),
    colSums = list(1, quote(64 * genes * threads))
  )
  symbols <- list(
    cells = info$n_obs,
    genes = info$n_vars,
    groups = n_groups,
    top = min(n_genes, info$n_vars),
    threads = ctx$threads
  )
  own <- vapply(costs, \(cost) eval(cost[[2]], symbols), 0)
  passes <- vapply(costs, \(cost) cost[[1]], 0)
  if (needs_moments(recipe)) {
    passes[["run_pca"]] <- passes[["run_pca"]] + 1
  }
  data.frame(
    verb = names(costs),
    passes = unname(passes),
    reads = unname(passes * info$reads_per_sweep),
    memory_bytes = unname(own) + pass_bytes(info, ctx, recipe, by_columns),
    formula = vapply(costs, \(cost) deparse1(cost[[2]]), "", USE.NAMES = FALSE)
  )
}

needs_moments <- function(recipe) {
  any(vapply(recipe$ops, \(op) op$op == "scale" && is.null(op$mean), NA))
}

# What every pass holds: blocks of the threads, offsets of rows, the selection,
# and for a file stored by columns the part of it that is being turned.
pass_bytes <- function(info, ctx, recipe, by_columns) {
  offsets <- 8 * info$n_obs
  selection <- if (is.null(recipe$rows)) 0 else 16 * info$n_obs
  turned <- if (by_columns) min(ctx$memory / 2, 12 * info$nnz) else 0
  3e7 * ctx$threads + offsets + selection + turned
}

format_explained <- function(e, recipe) {
  table <- data.frame(
    verb = e$verbs$verb,
    passes = e$verbs$passes,
    `reads of file` = e$verbs$reads,
    `memory at most` = vapply(e$verbs$memory_bytes, format_bytes, ""),
    `own part, bytes` = e$verbs$formula,
    check.names = FALSE
  )
  lines <- format_table(table)
  c(
    paste("source:", e$source),
    if (!is.null(e$selection)) {
      paste("selection:", sub("^select ", "", e$selection))
    },
    paste(
      "chain:",
      if (length(e$chain)) paste(e$chain, collapse = " > ") else "none"
    ),
    sprintf(
      "grid: %s cells x %s genes in %s, %s",
      format_count(e$n_obs),
      format_count(e$n_vars),
      counted(e$n_ranges, "range"),
      counted(e$n_blocks, "block")
    ),
    sprintf(
      "budget: %s, %s",
      format_bytes(e$memory_bytes),
      counted(e$threads, "thread")
    ),
    if (e$reads_per_pass > 1) {
      sprintf(
        "stored by columns: a pass reads the file %s times; options(scoom.memory) lowers this",
        format_count(e$reads_per_pass)
      )
    },
    if (needs_moments(recipe)) {
      "scale: means and deviations take one pass when they are first needed"
    },
    "",
    lines
  )
}
