# Variable genes from counts: `flavor = "seurat_v3"`, `"seurat_v3_paper"` and
# `"pearson_residuals"`. Two passes: sums first, then what needs them.

by_clipped_variance <- function(x, layer, settings, batches, run) {
  plan <- counts_plan(x, layer, settings$flavor, run$call)
  counts <- count_moments(x, plan, FALSE, settings$flavor, batches, run)
  args <- list(
    mean = counts$mean,
    var = counts$var,
    sd = expected_deviations(counts, batches, settings$span, run$call)
  )
  variances <- run_batch_pass(rs_hvg_clipped, plan, args, batches, run)
  batches_first <- settings$flavor == "seurat_v3_paper"
  genes <- rank_genes(variances, batches_first, settings, batches, run$call)
  genes$highly_variable_intersection <- NULL
  list(x = x, genes = counted_genes(genes, counts, "variances_norm"))
}

by_residuals <- function(x, layer, settings, batches, run) {
  plan <- counts_plan(x, layer, settings$flavor, run$call)
  counts <- count_moments(x, plan, TRUE, settings$flavor, batches, run)
  args <- list(
    sum = counts$sum,
    totals = counts$totals,
    theta = settings$theta,
    clip = as.double(settings$clip %||% sqrt(first_batch_size(batches)))
  )
  variances <- run_batch_pass(rs_hvg_residuals, plan, args, batches, run)
  genes <- rank_genes(variances, TRUE, settings, batches, run$call)
  list(x = x, genes = counted_genes(genes, counts, "residual_variances"))
}

# scanpy clips all batches as it clips the first.
first_batch_size <- function(batches) {
  if (is.null(batches$names)) {
    return(batches$sizes)
  }
  batches$sizes[[order(batches$names, method = "radix")[[1]]]]
}

# Counts -------------------------------------------------------------------------

# The plan of counts: the stored values with the chain's selections and downsampling
# alone.
counts_plan <- function(x, layer, flavor, call) {
  recipe <- if (is.null(layer)) x_recipe(x, call)
  layer <- layer %||% counts_layer(x, call)
  if (!is.null(layer)) {
    recipe <- layer_recipe(x, layer, call)
  }
  plan <- scoom_plan(x, layer = layer, drop_scale = TRUE, call = call)
  plan$ops <- Filter(is_count_op, plan$ops)
  plan["stored_log"] <- list(NULL)
  seen <- peek_values(x, recipe, call)
  if (!is.null(seen)) {
    check_first_values(seen, x, call)
  }
  marked <- !is.null(stored_log(x, recipe, call))
  is_log <- is_true(seen$is_log_normalized) ||
    !is.null(seen) && looks_logged(seen)
  if (marked || is_log) {
    abort_logs(x, layer, flavor, marked, call)
  }
  plan
}

abort_logs <- function(x, layer, flavor, marked, call) {
  what <- if (is.null(layer)) "X" else paste("Layer", layer)
  layers <- setdiff(field(x, "slots")$layers$keys, layer)
  scoom_abort(
    c(
      "{.code flavor = \"{flavor}\"} needs counts.",
      x = if (marked) {
        "{.field uns/log1p} of the file says that {what} holds logarithms."
      } else {
        "{what} holds small values that are not whole: logarithms, by all appearance."
      },
      i = if (length(layers)) {
        "If a layer holds the counts, name it: {.code layer = {.str {layers[[1]]}}}."
      },
      i = "{.code flavor = \"seurat\"} takes logarithms."
    ),
    class = "not_counts",
    call = call
  )
}

# The sums of the first pass.
count_moments <- function(x, plan, totals, flavor, batches, run) {
  args <- list(totals = totals)
  counts <- run_batch_pass(rs_hvg_counts, plan, args, batches, run)
  negative <- counts$negative
  if (negative$count > 0) {
    gene <- view_names(x, "var")[[negative$gene]]
    scoom_abort(
      c(
        "{format_count(negative$count)} value{cli::qty(negative$count)}{?s} {?is/are} negative.",
        x = "The first gene with one is {.val {gene}}.",
        i = "Counts can't be negative: were the values scaled? Take a layer with counts."
      ),
      class = "invalid_values",
      call = run$call,
      gene = negative$gene
    )
  }
  fractional <- counts$fractional
  if (fractional$count > 0) {
    gene <- view_names(x, "var")[[fractional$gene]]
    scoom_warn(
      c(
        "{.code flavor = \"{flavor}\"} expects counts.",
        x = "{format_count(fractional$count)} value{cli::qty(fractional$count)}{?s} {?is/are} not whole; the first gene with one is {.val {gene}}."
      ),
      class = "not_counts",
      call = run$call
    )
  }
  counts
}

rank_genes <- function(variances, batches_first, settings, batches, call) {
  n_batches <- length(batches$sizes)
  args <- list(
    variances = variances,
    n_groups = as.double(n_batches),
    n_genes = length(variances) / n_batches,
    n_top = settings$n_top,
    batches_first = batches_first
  )
  rs_unwrap(rs_hvg_rank(args), call)
}

counted_genes <- function(genes, counts, name) {
  names(genes)[names(genes) == "variance"] <- name
  first <- c("highly_variable", "highly_variable_rank")
  moments <- list(means = counts$overall_mean, variances = counts$overall_var)
  c(genes[first], moments, genes[setdiff(names(genes), first)])
}

# The trend ----------------------------------------------------------------------

#' The deviations that genes of such means have
#'
#' @returns Genes x batches as a vector; 1 for a gene that does not vary.
#' @noRd
expected_deviations <- function(counts, batches, span, call) {
  n_batches <- length(batches$sizes)
  n_genes <- length(counts$mean) / n_batches
  sd <- rep(1, length(counts$mean))
  for (batch in seq_len(n_batches)) {
    at <- (batch - 1) * n_genes + seq_len(n_genes)
    name <- batches$names[batch]
    sd[at] <- trend(counts$mean[at], counts$var[at], span, name, call)
  }
  sd
}

trend <- function(mean, var, span, name, call) {
  sd <- rep(1, length(mean))
  varies <- which(var > 0)
  if (!length(varies)) {
    return(sd)
  }
  points <- list(x = log10(mean[varies]), y = log10(var[varies]))
  complaints <- character()
  # The statistics of the fit would take most of the time, and nobody asks for them.
  fit <- tryCatch(
    withCallingHandlers(
      stats::loess(
        y ~ x,
        points,
        span = span,
        degree = 2,
        control = stats::loess.control(statistics = "none")
      ),
      warning = \(w) {
        complaints <<- c(complaints, conditionMessage(w))
        invokeRestart("muffleWarning")
      }
    ),
    error = \(e) e
  )
  where <- if (!is.null(name)) " of batch {.val {name}}"
  if (inherits(fit, "error") || !all(is.finite(fit$fitted))) {
    scoom_abort(
      c(
        paste0("The trend of variances", where, " can't be fitted."),
        x = "{format_count(length(varies))} gene{cli::qty(length(varies))}{?s} {?varies/vary}.",
        i = "Try a larger {.arg span}, more genes or larger batches."
      ),
      class = "trend_failed",
      call = call,
      parent = if (inherits(fit, "error")) fit
    )
  }
  if (length(complaints)) {
    scoom_warn(
      c(
        paste0("The trend of variances", where, " is not well determined."),
        x = "{.fn loess} says: {trimws(complaints[[1]])}",
        i = "A larger {.arg span} helps where few genes or cells make means coincide."
      ),
      class = "trend_unstable",
      call = call
    )
  }
  sd[varies] <- sqrt(10^fit$fitted)
  sd
}
