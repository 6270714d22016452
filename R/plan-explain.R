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
#' times, as `reads` says. The first pass over such a file reads half of it once more, to see how
#' many values each row has.
#'
#' The bound is what a verb holds over what R holds already, the returned table apart.
#' Each thread has the blocks it works on (up to 50 MB); to that come 8 bytes for each
#' row of the file, 16 for each selected row, and the verb's own part: a
#' formula in the numbers of `cells`, `genes`, `stored` values of the selection
#' (estimated from the file's density), `values` of the chain (the stored ones, or all
#' where [regress_out()] or its like leave no zeros), `groups`, `batches`, variable genes (`top`), `threads` and
#' the `budget`. Verbs that would need more than the budget read the file
#' more often instead, as `passes` says.
#'
#' `normalize_total()` reads nothing where `target_sum` is given, `filter_genes()`
#' nothing where [calc_qc_metrics()] has counted the same cells. `score_genes()` reads once
#' where the means of genes are known; its groups are the sets.
#'
#' Where the covariance of the genes takes more than a quarter of the budget, [run_pca()]
#' iterates. With values that do not stay in memory each iteration is a pass, and their number
#' is known afterwards only: 40 are assumed, fewer where they span all genes. On published
#' counts it was 23 to 39. `vectors` are those of its basis.
#'
#' For `"run_pipeline"` there is a row for each step of [run_pipeline()] that is left to do, with
#' the settings that it would have, and at last one for all: their passes, and the largest
#' memory. Cells and genes that filters will take out are counted as if they stayed; the look at
#' the first values, which of a small file may be all of it, is not counted. Verbs that do
#' not read the file, such as [find_neighbors()], have no passes; `comps` and `neighbors` of
#' each cell are what their memory goes by, and the graph counts as part of it.
#'
#' @param x An object opened by [open_h5ad()].
#' @param verb The name of a verb such as `"run_pca"`, or `NULL` for all.
#' @param n_groups,n_genes,n_batches The numbers of groups, of variable genes and of
#'   batches that the bounds are evaluated for.
#' @param settings Arguments of [run_pipeline()] that differ from its defaults, or from those of
#'   the earlier call on `x`, as a list: `list(target_sum = NULL, n_comps = 30)`. Its `n_comps`
#'   and `n_neighbors` are those of the bounds of all verbs.
#' @returns Invisibly, a list: `source`, `selection` and `chain` (strings), `n_obs`,
#'   `n_vars`, `n_values` (stored values), `n_ranges` (the units that
#'   worker processes are given), `n_blocks`, `reads_per_pass`, `threads`,
#'   `memory_bytes`, and the data frame `verbs`: `verb`, `method` (`NA` where there
#'   is one), `passes`, `reads` (of the file), `memory_bytes`, `formula`.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' explain_plan(x)
#' explain_plan(x[1:500, ], "run_pca")
#' explain_plan(x, "run_pipeline", settings = list(target_sum = NULL, n_top = 1000))
explain_plan <- function(
  x,
  verb = NULL,
  n_groups = 20,
  n_genes = 2000,
  n_batches = 1,
  settings = list()
) {
  call <- current_env()
  check_scoom(x)
  left <- pipeline_left(x, settings, call)
  if (identical(verb, "run_pipeline")) {
    x <- left$x
  }
  check_count(n_groups, min = 1)
  check_count(n_genes, min = 1)
  check_count(n_batches, min = 1)
  recipe <- x_recipe(x, call)
  ctx <- scoom_ctx(call = call)
  # Explaining must not run the pass that a scaling needs.
  plan <- recipe_plan(x, without_scale(recipe), call = call)
  info <- rs_unwrap(rs_plan_info(plan, ctx), call)
  shape <- source_shape(recipe, x)
  info$source_obs <- shape[[1]]
  info$source_vars <- shape[[2]]
  by_columns <- identical(matrix_info(recipe, x)$kind, "csc")
  numbers <- list(
    groups = n_groups,
    top = min(n_genes, info$n_vars),
    batches = n_batches,
    comps = left$settings$n_comps,
    neighbors = left$settings$n_neighbors
  )
  symbols <- cost_symbols(info, ctx, recipe, numbers)
  shared <- pass_bytes(info, ctx, recipe, by_columns)
  verbs <- verb_costs(symbols, recipe, shared, info$reads_per_sweep)
  steps <- step_costs(left, symbols, recipe, shared, info$reads_per_sweep)
  if (identical(verb, "run_pipeline")) {
    verbs <- steps
  } else {
    verbs <- rbind(verbs, steps[nrow(steps), ])
    rownames(verbs) <- NULL
  }
  if (!is.null(verb) && !identical(verb, "run_pipeline")) {
    check_string(verb)
    if (!verb %in% verbs$verb) {
      abort_missing(verb, unique(verbs$verb), "verb", "verb_missing", call)
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

# Cells and genes of the matrix that a recipe selects from.
source_shape <- function(recipe, x) {
  if (!is.null(recipe$matrix)) {
    return(rev(recipe$matrix$dim))
  }
  matrix_info(recipe, x)$shape %||% dim(x)
}

without_scale <- function(recipe) {
  recipe$ops <- Filter(\(op) op$op != "scale", recipe$ops)
  recipe
}

# What a verb holds besides what every pass does; and in `tables`, what it splits
# into several passes where that takes more than half of the budget.
verb_memory <- function(symbols) {
  list(
    calc_qc_metrics = quote(120 * cells + 64 * genes * threads),
    filter_genes = quote(120 * cells + 64 * genes * threads),
    normalize_total = quote(16 * cells),
    downsample_counts = quote(40 * cells),
    normalize_pearson_residuals = quote(128 * cells + 72 * genes * threads),
    regress_out = quote(
      min(80 * genes * (2 * threads + 2), budget / 2) + 40 * cells
    ),
    combat = quote(
      min(40 * groups * genes * (2 * threads + 2), budget / 2) +
        80 * groups * genes +
        40 * cells
    ),
    `find_variable_genes seurat` = quote(
      64 *
        genes *
        threads +
        min(128 * batches * genes, budget / 2) +
        16 * batches * genes
    ),
    `find_variable_genes cell_ranger` = quote(
      64 *
        genes *
        threads +
        min(64 * batches * genes, budget / 2) +
        16 * batches * genes
    ),
    `find_variable_genes seurat_v3` = quote(
      min(64 * batches * genes, budget / 2) + 56 * batches * genes + 16 * cells
    ),
    `find_variable_genes pearson_residuals` = quote(
      min(64 * batches * genes, budget / 2) + 56 * batches * genes + 48 * cells
    ),
    run_pca = if (iterates(symbols)) {
      # The basis as it grows, its projection, and products of the threads.
      quote(
        min(2 * stored + 80 * cells, budget / 2) +
          16 * top * vectors +
          24 * vectors^2 +
          8 * top * min(max(comps, 4), 64) * (2 * threads + 4) +
          8 * comps * cells
      )
    } else {
      quote(
        min(2 * stored + 80 * cells, budget / 2) + 24 * top^2 + 400 * cells
      )
    },
    project_pca = quote(400 * cells),
    # A bound: 2 to 3 where values repeat within cells, as counts do.
    `find_markers wilcoxon` = quote(min(9 * values, 2 / 3 * budget)),
    # 64 where all values are counts: then in half of the budget.
    `find_markers t-test` = quote(min(80 * groups * genes, 5 / 8 * budget)),
    `find_markers binomial` = quote(min(80 * groups * genes, 5 / 8 * budget)),
    `find_markers logreg` = quote(
      min(10 * stored, budget / 2) +
        8 * groups * genes * (10 + 3 * threads) +
        16 * groups * cells
    ),
    `find_markers lr` = quote(
      min(12 * values, 2 / 3 * budget) + 100 * cells * threads
    ),
    score_genes = quote(16 * groups * cells + 16 * genes * threads),
    # Of one sample: its counts, then what its variable genes and doublets take.
    find_doublets = quote(
      min(34 * values, 0.7 * budget) + 24 * top^2 + 3000 * cells
    ),
    `find_neighbors exact` = quote(
      max(8 * cells * comps, 4 * cells * comps + 12 * cells * neighbors) +
        32 * cells +
        30 * cells * neighbors
    ),
    `find_neighbors hnsw` = quote(
      max(8 * cells * comps, 4 * cells * comps + 12 * cells * neighbors) +
        32 * cells +
        30 * cells * neighbors +
        cells * (4 * comps + 150)
    ),
    # Entries of the graph: at most two for each neighbour.
    cluster_leiden = quote(60 * cells + 24 * cells * neighbors),
    run_umap = quote(90 * cells + 20 * cells * neighbors),
    # Words of 8 bytes while all values are counts, then 16.
    pseudobulk = quote(32 * groups * genes),
    rowSums = quote(24 * cells),
    colSums = quote(64 * genes * threads)
  )
}

# What the formulas are of.
cost_symbols <- function(info, ctx, recipe, numbers) {
  stored <- values_in_view(info, recipe)
  symbols <- c(
    list(
      cells = info$n_obs,
      genes = info$n_vars,
      values = if (is_dense_recipe(recipe)) {
        info$n_obs * info$n_vars
      } else {
        stored
      },
      stored = stored,
      threads = ctx$threads,
      budget = ctx$memory
    ),
    numbers
  )
  with_basis(symbols)
}

# One row for each verb. Each formula is R code over the symbols, so that what is shown
# is what is evaluated. `shared` bytes are what each pass holds.
verb_costs <- function(symbols, recipe, shared, reads_per_pass) {
  formulas <- verb_memory(symbols)
  passes <- vapply(names(formulas), verb_passes, 0, symbols, recipe)
  names <- strsplit(names(formulas), " ")
  cost_rows(
    vapply(names, `[`, "", 1),
    vapply(names, `[`, "", 2),
    unname(passes),
    formulas,
    symbols,
    shared,
    reads_per_pass
  )
}

cost_rows <- function(
  verb,
  method,
  passes,
  formulas,
  symbols,
  shared,
  reads_per_pass
) {
  own <- vapply(formulas, \(formula) as.double(eval(formula, symbols)), 0)
  data.frame(
    verb = verb,
    method = method,
    passes = passes,
    reads = passes * reads_per_pass,
    memory_bytes = unname(own) + ifelse(passes > 0, shared, 0),
    formula = vapply(formulas, deparse1, "", USE.NAMES = FALSE)
  )
}

# The steps of a pipeline that are left, in order, and in the last row all of them.
step_costs <- function(left, symbols, recipe, shared, reads_per_pass) {
  s <- left$settings
  symbols$top <- min(s$n_top %||% symbols$top, symbols$genes)
  symbols <- with_basis(symbols)
  formulas <- verb_memory(symbols)
  keys <- vapply(
    names(left$steps),
    \(name) step_key(name, left$steps[[name]], symbols$cells),
    ""
  )
  own <- lapply(keys, \(key) formulas[[key]] %||% 0)
  passes <- vapply(
    seq_along(keys),
    \(i) step_passes(keys[[i]], s, symbols),
    0
  )
  lazy <- passes == 0 & names(left$steps) %in% c(pipeline_lazy, "filter_genes")
  own[lazy] <- list(0)
  rows <- cost_rows(
    names(left$steps) %||% character(),
    sub("^[^ ]* ?", "", keys),
    passes,
    own,
    symbols,
    shared,
    reads_per_pass
  )
  rows$method[rows$method == ""] <- NA
  rbind(
    rows,
    data.frame(
      verb = "run_pipeline",
      method = NA_character_,
      passes = sum(rows$passes),
      reads = sum(rows$reads),
      memory_bytes = max(rows$memory_bytes, 0),
      formula = "the largest of its steps"
    )
  )
}

# The row of verb_memory() that a step is.
step_key <- function(name, args, n_cells) {
  if (name == "find_variable_genes") {
    flavor <- sub("_paper$", "", args$flavor %||% "seurat")
    return(paste(name, flavor))
  }
  if (name == "find_neighbors") {
    method <- args$method %||% "auto"
    if (method == "auto") {
      approximate <- n_cells > exact_limit() && args$metric != "manhattan"
      hnsw <- approximate && is_installed("RcppHNSW")
      method <- if (hnsw) "hnsw" else "exact"
    }
    return(paste(name, method))
  }
  name
}

# Only these leave the means and deviations that scaling takes.
is_moments_flavor <- function(flavor) {
  (flavor %||% "seurat") %in% c("seurat", "cell_ranger")
}

step_passes <- function(key, settings, symbols) {
  name <- sub(" .*", "", key)
  switch(
    name,
    # Counted with the metrics.
    filter_genes = 0,
    # The totals of the metrics are of all genes.
    normalize_total = {
      own <- settings$args$normalize_total
      target <- settings$target_sum
      excludes <- is_true(own$exclude_highly_expressed)
      selected <- !is.null(settings$min_cells) ||
        length(settings$args$filter_genes) > 0
      asks <- is.null(target) && (excludes || selected)
      excludes + asks
    },
    # Other flavors leave neither moments nor numbers of values, so that packing is tried.
    run_pca = if (is_moments_flavor(settings$args$find_variable_genes$flavor)) {
      pca_passes(symbols, scales = FALSE)
    } else {
      pca_passes(symbols, settings$scale, tries = TRUE)
    },
    calc_qc_metrics = 1,
    find_variable_genes = verb_passes(key, symbols, NULL),
    0
  )
}

verb_passes <- function(verb, symbols, recipe) {
  slices <- function(bytes) max(1, ceiling(bytes / (symbols$budget / 2)))
  cells <- symbols$groups * symbols$genes
  in_batches <- symbols$batches * symbols$genes
  switch(
    verb,
    # Without batches the sums are small.
    `find_variable_genes seurat` = if (symbols$batches > 1) {
      slices(128 * in_batches)
    } else {
      1
    },
    `find_variable_genes cell_ranger` = if (symbols$batches > 1) {
      slices(64 * in_batches)
    } else {
      1
    },
    `find_variable_genes seurat_v3` = slices(64 * in_batches) +
      slices(48 * in_batches),
    `find_variable_genes pearson_residuals` = slices(64 * in_batches) +
      slices(32 * in_batches),
    # The variable genes stay in memory where they fit.
    run_pca = pca_passes(symbols, needs_moments(recipe)),
    `find_markers t-test` = ,
    `find_markers binomial` = slices(64 * cells),
    # Looks at the data until a regression converges, about.
    `find_markers logreg` = if (10 * symbols$stored <= symbols$budget / 2) {
      1
    } else {
      300
    },
    # The means of the genes, then the scores.
    score_genes = 2,
    # One sample; a sample that does not fit is read for each step.
    find_doublets = if (10 * symbols$values <= symbols$budget / 5) 1 else 10,
    regress_out = slices(80 * symbols$genes * (2 * symbols$threads + 2)),
    combat = slices(40 * cells * (2 * symbols$threads + 2)),
    `find_neighbors exact` = ,
    `find_neighbors hnsw` = ,
    cluster_leiden = ,
    run_umap = 0,
    1
  )
}

# Without the covariance there are moments, scores, and a pass for each iteration.
pca_passes <- function(symbols, scales, tries = FALSE) {
  if (packs_genes(symbols)) {
    return(1)
  }
  if (!iterates(symbols)) {
    return(2 + tries + scales)
  }
  2 + tries + scales + ceiling(symbols$vectors / krylov_block(symbols$comps))
}

krylov_block <- function(n_comps) min(max(n_comps, 4), 64)

# Vectors of the basis when the iterations end: 23 to 39 blocks on published counts.
with_basis <- function(symbols) {
  symbols$vectors <- min(40 * krylov_block(symbols$comps), symbols$top)
  symbols
}

# As the engine decides: the covariance may take a quarter of the budget.
iterates <- function(symbols) {
  24 * symbols$top^2 > symbols$budget / 4
}

# Whether values that come from counts stay in memory, packed.
packs_genes <- function(symbols) {
  2 * symbols$stored + 80 * symbols$cells <= symbols$budget / 2
}

# Stored values of the selected cells and genes, if all have equal shares.
values_in_view <- function(info, recipe) {
  n_file <- info$nnz
  if (is.nan(n_file)) {
    return(info$n_obs * info$n_vars)
  }
  share <- info$n_obs / info$source_obs * info$n_vars / info$source_vars
  n_file * if (is.finite(share)) share else 0
}

needs_moments <- function(recipe) {
  any(vapply(recipe$ops, \(op) op$op == "scale" && is.null(op$mean), NA))
}

# What every pass holds: blocks of the threads, offsets of rows, the selection,
# and for a file stored by columns the part of it that is being turned.
pass_bytes <- function(info, ctx, recipe, by_columns) {
  offsets <- 8 * info$source_obs
  selection <- if (is.null(recipe$rows)) 0 else 16 * info$n_obs
  turned <- if (by_columns) min(ctx$memory / 2, 12 * info$nnz) else 0
  5e7 * ctx$threads + offsets + selection + turned
}

format_explained <- function(e, recipe) {
  table <- data.frame(
    verb = ifelse(
      is.na(e$verbs$method),
      e$verbs$verb,
      paste0(e$verbs$verb, ", ", e$verbs$method)
    ),
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
      "scale: means and deviations take one more pass when as.matrix(x$X) needs them"
    },
    "",
    lines
  )
}
