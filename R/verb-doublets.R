#' Find doublets
#'
#' Scores each cell by how many simulated doublets are among its nearest neighbours, and
#' calls those above a threshold: Scrublet, sample by sample. A running verb: where
#' samples stand together in the file, each part of it is read once.
#'
#' @details
#' For every sample by itself, as `scanpy.pp.scrublet()` of scanpy 1.11:
#'
#' 1. Genes in fewer than 3 of its cells are left out, then cells with fewer than 3 genes.
#' 2. Counts are normalised to the median total; variable genes are those of
#'    [find_variable_genes()] with `n_top = NULL`.
#' 3. `sim_doublet_ratio` doublets for each cell: the summed counts of two cells, drawn
#'    without drawing a pair twice.
#' 4. Cells and doublets are normalised to the same total over the variable genes, standardised by
#'    means and standard deviations of the cells, and projected on the cells' exact
#'    principal components.
#' 5. With \eqn{k = \textrm{round}(\sqrt{n} / 2)} for \eqn{n} cells and \eqn{r} doublets for each,
#'    \eqn{k' = \textrm{round}(k (1 + r))}. Of the \eqn{k' - 1} nearest others of a point (exactly, by
#'    Euclidean distance) \eqn{d} are simulated. With \eqn{q = (d + 1) / (k' + 2)} and the expected rate \eqn{\rho}
#'    the score is \deqn{\frac{q \rho / r}{1 - \rho - q (1 - \rho - \rho / r)}}
#' 6. The threshold is the lowest point between the two modes of the simulated scores: their
#'    histogram of 256 bins is smoothed until it has two maxima. Where it never has, a
#'    warning of class `scoom_warning_no_threshold` says so, and no cell is called.
#'
#' Differences from scanpy: principal components and neighbours are exact; values are float64;
#' a simulated doublet is never its own neighbour, which in scanpy depends on whether points
#' coincide. Parents are drawn by scoom's own generator; with the same `parents` the scores
#' of cells are scanpy's.
#'
#' Counts are read: of X without its chain but for selections and [downsample_counts()], or of a
#' layer, which nothing downsamples. Logarithms are an error of
#' class `scoom_error_not_counts`; counts that are not whole, such as those with ambient RNA
#' taken off, are a message. Samples with too few cells or variable genes for `n_comps` are
#' skipped with a warning (`scoom_warning_samples_skipped`), and an error
#' (`scoom_error_too_few_cells`) where no sample is left. Cells without a score, those of
#' skipped samples, without a sample or with fewer than 3 genes, have the score `NA` and are not called.
#'
#' Memory and passes: the counts of a group of samples are packed in memory, at most 10 bytes a stored
#' value, as many samples at a time as a fifth of `options(scoom.memory)` holds, and those of one
#' sample twice more, 24 bytes. Only blocks of the file that hold cells of the group are read: one
#' read of the file in all where samples stand together or all of them fit, otherwise one for each
#' group. A sample that does not fit alone is read eight to ten times. To that come, for the largest
#' sample, \eqn{24 g^2} bytes for \eqn{g} variable genes and \eqn{32 c n (1 + r)} for \eqn{c} components. Time
#' grows with the square of the cells of a sample.
#'
#' Results do not depend on threads, on the other samples or on how the file is stored, to the last bit. A sample
#' that is read from the file for each step agrees to rounding.
#'
#' @inheritParams calc_qc_metrics
#' @param sample_by Samples, in which doublets are sought each by itself: a column of `obs`, or
#'   a vector with one value for each cell. `NULL` for one sample.
#' @param sim_doublet_ratio The number of simulated doublets for each cell.
#' @param expected_doublet_rate,stdev_doublet_rate The expected share of doublets and its
#'   uncertainty.
#' @param n_comps The number of principal components.
#' @param n_neighbors \eqn{k} above; `NULL` for \eqn{\textrm{round}(\sqrt{n} / 2)}.
#' @param threshold The score above which a cell is called; `NULL` to find it.
#' @param parents The parents of simulated doublets, instead of drawing them: a matrix of two
#'   columns of positions of cells in `x`, both of one sample, as `uns$scrublet` keeps them (for
#'   several samples those of all, one below the other).
#' @param seed A whole number that random draws follow from. Those of a sample do not depend on
#'   the others.
#' @returns `x` with `obs$doublet_score`, `obs$predicted_doublet` (logical, never `NA`) and
#'   `uns$scrublet`: a list of `doublet_scores_sim`, `doublet_parents` (a matrix of positions of
#'   cells in `x`, counted from 1), `threshold` (`NULL` where there is none),
#'   `detected_doublet_rate`, `detectable_doublet_fraction`, `overall_doublet_rate` (the first over
#'   the second), and `parameters`. With `sample_by` a list of `batches`, one such list for
#'   each sample, and `batched_by`, as in scanpy.
#' @references
#' Wolock, Lopez, Klein (2019) Scrublet: computational identification of cell doublets in
#' single-cell transcriptomic data. *Cell Systems* 8, 281. \doi{10.1016/j.cels.2018.11.005}
#'
#' Prewitt, Mendelsohn (1966) The analysis of cell images. *Annals of the New York Academy
#' of Sciences* 128, 1035. \doi{10.1111/j.1749-6632.1965.tb11715.x}
#' @seealso [filter_cells()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' x <- find_doublets(x[1:300, ], n_comps = 10, threshold = 0.25)
#' summary(x$obs$doublet_score)
#' x$uns$scrublet$detectable_doublet_fraction
find_doublets <- function(
  x,
  sample_by = NULL,
  layer = NULL,
  sim_doublet_ratio = 2,
  expected_doublet_rate = 0.05,
  stdev_doublet_rate = 0.02,
  n_comps = 30,
  n_neighbors = NULL,
  threshold = NULL,
  parents = NULL,
  seed = 0,
  threads = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  check_string(layer, allow_null = TRUE)
  check_number(sim_doublet_ratio, min = 1e-6, max = 1e3)
  check_number(expected_doublet_rate, min = 1e-6, max = 1 - 1e-6)
  check_number(stdev_doublet_rate, min = 0)
  check_count(n_comps, min = 1)
  check_count(n_neighbors, min = 1, allow_null = TRUE)
  check_number(threshold, allow_null = TRUE)
  check_seed(seed, call)
  samples <- doublet_samples(x, sample_by, call)
  parents <- check_parents(parents, samples, call)
  recipe <- doublet_recipe(x, layer, call)
  ctx <- scoom_ctx(threads, progress, "Doublets", call)
  args <- list(
    ratio = as.double(sim_doublet_ratio),
    expected = expected_doublet_rate,
    stdev = stdev_doublet_rate,
    n_comps = n_comps,
    n_neighbors = n_neighbors,
    threshold = if (!is.null(threshold)) as.double(threshold),
    seed = seed
  )
  found <- doublets_of(x, recipe, samples, parents, args, ctx, call)
  parameters <- list(
    sim_doublet_ratio = sim_doublet_ratio,
    expected_doublet_rate = expected_doublet_rate,
    stdev_doublet_rate = stdev_doublet_rate,
    n_comps = as.integer(n_comps),
    layer = layer,
    seed = seed
  )
  tell_small_samples(found, samples, n_comps, call)
  add_doublets(x, found, samples, sample_by, parameters, call)
}

# A factor; one level where there is one sample.
doublet_samples <- function(x, sample_by, call) {
  check_has_cells(x, call)
  if (is.null(sample_by)) {
    return(factor(rep("all", n_obs(x))))
  }
  resolve_group(x, sample_by, call, arg = "sample_by")
}

# For each sample `a` and `b`, positions in x.
check_parents <- function(parents, samples, call) {
  if (is.null(parents)) {
    return(NULL)
  }
  is_pairs <- is.matrix(parents) &&
    is_integerish(parents, finite = TRUE) &&
    ncol(parents) == 2 &&
    nrow(parents) > 0 &&
    all(parents >= 1 & parents <= length(samples))
  if (!is_pairs) {
    abort_type(
      parents,
      "a matrix of two columns of positions of cells",
      "parents",
      call
    )
  }
  code <- as.integer(samples)
  of <- code[parents[, 1]]
  if (!identical(of, code[parents[, 2]]) || anyNA(of)) {
    scoom_abort(
      "Both {.arg parents} of a doublet must be cells of the same sample.",
      class = "invalid_input",
      call = call,
      argument = "parents"
    )
  }
  lapply(seq_len(nlevels(samples)), \(k) {
    list(a = parents[of == k, 1], b = parents[of == k, 2])
  })
}

# The matrix of counts: of a chain what leaves counts. Logarithms are refused.
doublet_recipe <- function(x, layer, call) {
  recipe <- if (is.null(layer)) {
    x_recipe(x, call)
  } else {
    layer_recipe(x, layer, call)
  }
  recipe$ops <- count_ops(recipe$ops)
  logged <- !is.null(stored_log(x, recipe, call))
  seen <- if (!logged) peek_values(x, recipe, call)
  if (!is.null(seen)) {
    check_first_values(seen, x, call)
    logged <- is_true(seen$is_log_normalized) || looks_logged(seen)
  }
  if (logged) {
    what <- if (is.null(layer)) "X" else paste0("layers$", layer)
    scoom_abort(
      c(
        "Doublets are found in counts.",
        x = "{.field {what}} holds logarithms.",
        i = "{.arg layer} takes a layer with counts; {.code find_doublets(x$raw)} those of {.field raw}."
      ),
      class = "not_counts",
      call = call
    )
  }
  if (!is.null(seen$check$fractional)) {
    scoom_inform(
      c("!" = "The values are not whole numbers; they are taken for counts."),
      class = "not_counts"
    )
  }
  recipe["log1p"] <- list(FALSE)
  recipe
}

# Running -------------------------------------------------------------------------

# One entry for each sample. Groups of samples whose counts should fit are read
# together; one that does not fit is halved.
doublets_of <- function(x, recipe, samples, parents, args, ctx, call) {
  sizes <- tabulate(samples, nlevels(samples))
  cell_bytes <- doublet_bytes(x, recipe, ctx, call) / n_obs(x)
  groups <- group_samples(sizes * cell_bytes, ctx$memory / 5 / 1.2)
  found <- vector("list", nlevels(samples))
  while (length(groups)) {
    group <- groups[[1]]
    answer <- doublets_of_group(
      x,
      recipe,
      samples,
      group,
      parents,
      args,
      ctx,
      call
    )
    groups <- groups[-1]
    if (is.null(answer)) {
      half <- seq_along(group) <= length(group) / 2
      groups <- c(list(group[half], group[!half]), groups)
    } else {
      found[group] <- answer
    }
  }
  set_names(found, levels(samples))
}

# Bytes of all counts of a recipe, packed; an estimate where genes are selected, a bound where
# counts are downsampled.
doublet_bytes <- function(x, recipe, ctx, call) {
  info <- rs_unwrap(
    rs_plan_info(recipe_plan(x, recipe, call = call), ctx),
    call
  )
  shape <- source_shape(recipe, x)
  info$source_obs <- shape[[1]]
  info$source_vars <- shape[[2]]
  10 * values_in_view(info, recipe) + 16 * info$n_obs
}

# Consecutive samples whose bytes add up to at most `budget`.
group_samples <- function(bytes, budget) {
  group <- integer(length(bytes))
  current <- 1L
  taken <- 0
  for (k in seq_along(bytes)) {
    if (taken > 0 && taken + bytes[[k]] > budget) {
      current <- current + 1L
      taken <- 0
    }
    taken <- taken + bytes[[k]]
    group[[k]] <- current
  }
  unname(split(seq_along(bytes), group))
}

doublets_of_group <- function(
  x,
  recipe,
  samples,
  group,
  parents,
  args,
  ctx,
  call
) {
  code <- match(as.integer(samples), group)
  cells <- which(!is.na(code))
  if (!length(cells)) {
    return(rep(list(list(n_cells = 0, n_genes = 0)), length(group)))
  }
  if (length(cells) < length(code)) {
    recipe <- recipe_rows(recipe, cells)
  }
  args$samples <- code[cells] - 1L
  args$n_samples <- length(group)
  if (!is.null(parents)) {
    args$parents <- lapply(parents[group], \(pairs) {
      lapply(pairs, \(at) match(at, cells))
    })
  }
  plan <- recipe_plan(x, recipe, call = call)
  found <- rs_unwrap(rs_doublets(plan, args, ctx), call)
  if (is.null(found)) {
    return(NULL)
  }
  lapply(found, \(one) {
    for (part in c("cells", "a", "b")) {
      one[[part]] <- if (!is.null(one[[part]])) cells[one[[part]]]
    }
    one
  })
}

tell_small_samples <- function(found, samples, n_comps, call) {
  is_small <- vapply(found, \(one) is.null(one$scores), NA)
  if (!any(is_small)) {
    return(invisible())
  }
  at <- which(is_small)[[1]]
  n_cells <- tabulate(samples, nlevels(samples))[[at]]
  left <- found[[at]]$n_cells
  n_genes <- found[[at]]$n_genes
  here <- if (length(found) > 1) {
    "{.val {names(found)[[at]]}} has"
  } else {
    "there are"
  }
  why <- c(
    x = paste(
      "{.arg n_comps} = {n_comps} needs more cells and more variable genes than",
      paste0("that; ", here),
      "{counted(n_cells, 'cell')}, {format_count(left)} with enough genes,",
      "and {counted(n_genes, 'variable gene')}."
    ),
    i = "Use fewer {.arg n_comps}."
  )
  if (all(is_small)) {
    scoom_abort(
      c(
        if (length(found) > 1) {
          "All samples are too small for doublets to be found."
        } else {
          "There are too few cells or variable genes to find doublets."
        },
        why
      ),
      class = "too_few_cells",
      call = call,
      argument = "n_comps"
    )
  }
  names <- names(found)[is_small]
  scoom_warn(
    c(
      "{length(names)} sample{?s} {?is/are} too small and {?is/are} skipped: {.val {head_of(names, 5)}}.",
      why
    ),
    class = "samples_skipped",
    call = call,
    samples = names
  )
}

# Results -------------------------------------------------------------------------

add_doublets <- function(x, found, samples, sample_by, parameters, call) {
  score <- rep(NA_real_, n_obs(x))
  called <- logical(n_obs(x))
  scored <- Filter(\(one) !is.null(one$scores), found)
  for (one in scored) {
    score[one$cells] <- one$scores
    if (!is.null(one$threshold)) {
      called[one$cells] <- one$scores > one$threshold
    }
  }
  without <- names(Filter(\(one) is.null(one$threshold), scored))
  if (length(without)) {
    scoom_warn(
      c(
        if (is.null(sample_by)) {
          "There is no threshold between singlets and doublets."
        } else {
          "{length(without)} sample{?s} {?has/have} no threshold between singlets and doublets: {.val {head_of(without, 5)}}."
        },
        x = "The simulated scores do not have two modes.",
        i = "{cli::qty(length(without))}{?Its/Their} cells are not called; look at {.code uns$scrublet} and give a {.arg threshold}."
      ),
      class = "no_threshold",
      call = call,
      samples = without
    )
  }
  n_poor <- sum(samples %in% names(scored)) - sum(!is.na(score))
  if (n_poor > 0) {
    scoom_inform(
      c(
        "!" = "{counted(n_poor, 'cell')} with fewer than 3 genes {cli::qty(n_poor)}{?has/have} no doublet score."
      ),
      class = "cells_not_scored"
    )
  }
  x <- set_obs(x, list(doublet_score = score, predicted_doublet = called))
  tables <- lapply(scored, doublet_table, parameters)
  result <- if (is.null(sample_by)) {
    tables[[1]]
  } else {
    list(
      batches = tables,
      batched_by = if (is_string(sample_by)) sample_by
    )
  }
  set_uns(x, "scrublet", result)
}

doublet_table <- function(one, parameters) {
  parents <- cbind(one$a, one$b)
  parameters$n_neighbors <- one$n_neighbors
  parameters$n_cells <- one$n_cells
  parameters$n_genes <- one$n_genes
  table <- list(
    doublet_scores_sim = one$simulated,
    doublet_parents = parents,
    parameters = parameters
  )
  if (!is.null(one$threshold)) {
    detected <- mean(one$scores > one$threshold)
    detectable <- mean(one$simulated > one$threshold)
    table <- c(
      table,
      list(
        threshold = one$threshold,
        detected_doublet_rate = detected,
        detectable_doublet_fraction = detectable,
        overall_doublet_rate = detected / detectable
      )
    )
  }
  table
}
