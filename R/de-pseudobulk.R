#' Sum counts per sample
#'
#' Adds up the counts of the cells of each sample, cell type, or any combination of
#' columns: the start of every test between conditions that respects replicates.
#'
#' @details
#' The matrix is read once. Sums are sums of the stored counts, before the chain's
#' normalisation, over the cells and genes that are selected, or of the counts that
#' [downsample_counts()] drew where the chain has it; sums of whole numbers are exact. Where `layer` is `NULL` and `X` does not hold counts, the layer `counts`
#' is taken if there is one, with a message.
#'
#' Columns of the cells that have one value within every sample, such as the donor's
#' age or the batch, are carried over to `samples`. The names of the others are kept
#' in `varying`.
#'
#' Memory: 32 bytes for each group and gene (16 where all values are counts), and the two matrices of the result.
#'
#' @param x An object opened by [open_h5ad()], a Seurat object (its `counts`), a
#'   SingleCellExperiment (its `counts`), or a matrix with genes in rows. A DelayedMatrix, as
#'   such or as an assay, is brought into memory, with a message; lazy assays of [as_SingleCellExperiment()] are
#'   read from their file.
#' @param by Columns of the cells whose combinations make the samples. For a matrix: a
#'   data frame, or a named list of vectors, with one value for each cell.
#' @param layer A layer (an assay of a SingleCellExperiment) with the counts.
#' @param fun `"sum"`, or `"mean"`: the sum divided by the number of cells.
#' @param min_cells Samples of fewer cells are dropped, with a message. By default all
#'   are kept, and a message says how many have fewer than 10.
#' @param require_counts Whether to refuse values that are negative or not whole.
#' @inheritParams find_markers
#'
#' @returns A list of class `scoom_pseudobulk`:
#'
#' * `counts`: matrix of genes x samples, the sums or means. Sparse where more than
#'   half of it is zero and it has more than a million values.
#' * `detected`: integer matrix of genes x samples, cells with a nonzero value.
#' * `samples`: data frame with a row for each sample: the columns of `by` as factors,
#'   `n_cells`, `total_counts` (of all genes, also where some are selected later), and what is
#'   constant within every sample.
#' * `varying`: names of the columns that are not constant within samples.
#' * `dropped`: data frame of the combinations that were dropped, with `n_cells`.
#' * `by`, `fun`: as given.
#'
#' `dim()`, `as.matrix()`, `pb[genes, samples]` work on it;
#' [as_SummarizedExperiment()] hands it to Bioconductor.
#' @references Squair et al. (2021) Nat. Commun. 12, 5692. Crowell et al. (2020) Nat.
#' Commun. 11, 6077.
#' @seealso [test_pseudobulk()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' pb <- pseudobulk(x, by = c("donor", "condition", "cell_type"), min_cells = 5)
#' pb
#' pb$counts[1:3, 1:3]
pseudobulk <- function(
  x,
  by,
  layer = NULL,
  fun = c("sum", "mean"),
  min_cells = 1,
  require_counts = TRUE,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_given(x, "an object with cells")
  check_given(by, "names of columns of the cells")
  fun <- check_choice(fun, c("sum", "mean"))
  check_count(min_cells, min = 1)
  check_flag(require_counts)
  layer <- layer %||% counts_layer(x, call)
  source <- de_source(x, layer, FALSE, "counts", call)
  keys <- sample_keys(source, by, call)
  samples <- sample_table(keys, min_cells, call)
  if (missing(min_cells)) {
    tell_small(samples$kept$n_cells)
  }
  args <- list(group = samples$codes, n_groups = nrow(samples$kept))
  label <- "Summing counts"
  sums <- run_pass(
    rs_de_pseudobulk,
    source$plan,
    args,
    threads,
    BPPARAM,
    progress,
    label,
    call
  )
  if (require_counts && !sums$counts) {
    scoom_abort(
      c(
        "{.field {source$label}} does not hold counts.",
        x = "It has values that are negative or not whole.",
        i = "Name the {.arg layer} with the counts, or sum these values with {.code require_counts = FALSE}."
      ),
      class = "not_counts",
      call = call
    )
  }
  new_pseudobulk(sums, source, samples, keys, fun)
}

# "counts" where X holds something else and there is such a layer.
counts_layer <- function(x, call) {
  if (!inherits(x, "scoom")) {
    return(NULL)
  }
  layers <- field(x, "slots")$layers$keys
  recipe <- field(x, "X")
  if (!"counts" %in% layers || n_obs(x) == 0) {
    return(NULL)
  }
  if (!is.null(recipe)) {
    plan <- recipe_plan(x, recipe, drop_scale = TRUE, call = call)
    plan$ops <- Filter(is_count_op, plan$ops)
    if (is_whole(first_values(plan, n_obs(x), call))) {
      return(NULL)
    }
  }
  scoom_inform(
    c(
      i = "Counts are taken from the layer {.val counts}: {.field X} holds none."
    ),
    class = "counts_layer"
  )
  "counts"
}

# Sums of a few cells are noisy. Ten is what most people ask for.
tell_small <- function(n_cells, limit = 10) {
  n <- sum(n_cells < limit)
  if (n > 0) {
    scoom_inform(
      c(
        i = "{n} of {length(n_cells)} samples {cli::qty(n)}{?has/have} fewer than {limit} cells; {.code min_cells = {limit}} drops {cli::qty(n)}{?it/them}."
      ),
      class = "small_samples"
    )
  }
}

# The grouping columns, a named list of factors with a value for each cell.
sample_keys <- function(source, by, call) {
  if (is.character(by) && length(source$columns) && !anyNA(by)) {
    if (!length(by) || anyDuplicated(by)) {
      abort_type(by, "names of columns, each once", "by", call)
    }
    by <- set_names(lapply(by, source$column), by)
  } else if (is.atomic(by) && !is.null(by)) {
    by <- list(sample = by)
  }
  if (!is.list(by) || !length(by) || !is_named(by)) {
    what <- "names of columns of the cells, or a data frame with a row for each cell"
    abort_type(by, what, "by", call)
  }
  by <- as.list(by)
  for (name in names(by)) {
    check_cell_values(by[[name]], source$n_cells, name, call)
    by[[name]] <- key_factor(by[[name]])
  }
  by
}

# Any values can be keys, also numbers that are not whole.
key_factor <- function(values) {
  if (is.factor(values)) {
    return(droplevels(values))
  }
  factor(values, sort(unique(values), method = "radix"))
}

#' The samples of a pseudobulk
#'
#' @returns A list: `codes`, the sample of each cell from 0, `NA` for none; `kept` and
#'   `dropped`, data frames of the keys and `n_cells`, the last key running fastest.
#' @noRd
sample_table <- function(keys, min_cells, call) {
  missing <- Reduce(`|`, lapply(keys, is.na))
  if (!length(missing)) {
    scoom_abort(
      "There are no cells to sum.",
      class = "no_samples",
      call = call
    )
  }
  if (all(missing)) {
    scoom_abort(
      c(
        "No cell has a value in all of {.field {names(keys)}}.",
        i = "There is nothing to sum."
      ),
      class = "invalid_group",
      call = call
    )
  }
  n_missing <- sum(missing)
  if (n_missing > 0) {
    scoom_inform(
      c(
        i = "{format_count(n_missing)} {cli::qty(n_missing)}cell{?s} without a value in {.or {.field {names(keys)}}} {cli::qty(n_missing)}{?is/are} left out."
      ),
      class = "cells_left_out"
    )
  }
  # Doubles hold more combinations than integers.
  cell <- rep(0, length(missing))
  for (key in keys) {
    cell <- cell * nlevels(key) + (as.integer(key) - 1)
  }
  found <- sort(unique(cell[!missing]))
  sizes <- tabulate(match(cell, found), length(found))
  first <- match(found, cell)
  table <- as.data.frame(lapply(keys, `[`, first), optional = TRUE)
  names(table) <- names(keys)
  table$n_cells <- sizes
  keep <- sizes >= min_cells
  if (!any(keep)) {
    scoom_abort(
      c(
        "No sample has {min_cells} cell{?s}.",
        x = "The largest has {max(sizes)}."
      ),
      class = "no_samples",
      call = call
    )
  }
  dropped <- table[!keep, , drop = FALSE]
  rownames(dropped) <- NULL
  if (nrow(dropped)) {
    scoom_inform(
      c(
        i = "{nrow(dropped)} sample{?s} of fewer than {min_cells} cells {cli::qty(nrow(dropped))}{?is/are} dropped, with {format_count(sum(dropped$n_cells))} cells."
      ),
      class = "samples_dropped"
    )
  }
  kept <- table[keep, , drop = FALSE]
  rownames(kept) <- NULL
  codes <- match(cell, found[keep]) - 1L
  list(codes = codes, kept = kept, dropped = dropped)
}

new_pseudobulk <- function(sums, source, samples, keys, fun) {
  parts <- lapply(samples$kept[names(keys)], as.character)
  names <- make.unique(do.call(paste, c(unname(parts), sep = "_")))
  dimnames <- list(source$genes, names)
  shape <- lengths(dimnames)
  counts <- matrix(sums$sum, shape[[1]], shape[[2]], dimnames = dimnames)
  totals <- colSums(counts)
  if (fun == "mean") {
    counts <- sweep(counts, 2, sums$n_cells, `/`)
  }
  if (length(counts) > 1e6 && mean(counts == 0) > 0.5) {
    counts <- as(counts, "CsparseMatrix")
  }
  frame <- samples$kept
  frame$total_counts <- totals
  carried <- carried_columns(source, samples$codes, names(keys), nrow(frame))
  frame <- c(frame, carried$columns)
  detected <- matrix(sums$detected, shape[[1]], shape[[2]], dimnames = dimnames)
  structure(
    list(
      counts = counts,
      detected = detected,
      samples = structure(frame, row.names = names, class = "data.frame"),
      varying = carried$varying,
      dropped = samples$dropped,
      by = names(keys),
      fun = fun
    ),
    class = "scoom_pseudobulk"
  )
}

# Columns of the cells with one value within every sample, that value for each; and
# the names of those with more.
carried_columns <- function(source, codes, keys, n_samples) {
  inside <- !is.na(codes)
  code <- codes[inside] + 1L
  first <- match(seq_len(n_samples), code)
  columns <- list()
  varying <- character()
  for (name in setdiff(source$columns, c(keys, "n_cells", "total_counts"))) {
    values <- source$column(name)
    if (!is.atomic(values) || !is.null(dim(values))) {
      next
    }
    values <- values[inside]
    same <- if (is.factor(values)) as.integer(values) else match(values, values)
    same[is.na(values)] <- 0L
    if (all(same == same[first][code])) {
      columns[[name]] <- values[first]
    } else {
      varying <- c(varying, name)
    }
  }
  list(columns = columns, varying = varying)
}

#' @export
dim.scoom_pseudobulk <- function(x) dim(x$counts)

#' @export
dimnames.scoom_pseudobulk <- function(x) dimnames(x$counts)

#' @export
as.matrix.scoom_pseudobulk <- function(x, ...) as.matrix(x$counts)

#' @export
`[.scoom_pseudobulk` <- function(x, i, j) {
  x$counts <- x$counts[i, j, drop = FALSE]
  x$detected <- x$detected[i, j, drop = FALSE]
  x$samples <- x$samples[j, , drop = FALSE]
  x
}

#' @export
print.scoom_pseudobulk <- function(x, ...) {
  samples <- x$samples
  what <- if (x$fun == "sum") "sums of counts" else "means of counts"
  shape <- format_shape(dim(x))
  lines <- c(
    paste0("Pseudobulk: ", what, ", ", shape, " (genes x samples)"),
    paste0("    by: ", paste(x$by, collapse = " x ")),
    if (nrow(samples)) {
      paste0(
        "    cells: ",
        format_count(sum(samples$n_cells)),
        ", from ",
        format_count(min(samples$n_cells)),
        " to ",
        format_count(max(samples$n_cells)),
        " a sample",
        if (any(samples$n_cells < 10)) {
          paste0(" (", sum(samples$n_cells < 10), " with fewer than 10)")
        }
      )
    },
    paste0("    samples: ", paste(names(samples), collapse = ", ")),
    if (nrow(x$dropped)) {
      paste0(
        "    dropped: ",
        nrow(x$dropped),
        " samples with ",
        format_count(sum(x$dropped$n_cells)),
        " cells"
      )
    }
  )
  writeLines(lines)
  invisible(x)
}

#' Convert to a SummarizedExperiment
#'
#' @param x The result of [pseudobulk()].
#' @returns A `SummarizedExperiment` with the assays `counts` (or `means`) and `detected`,
#'   and the samples as `colData`.
#' @export
#' @examplesIf requireNamespace("SummarizedExperiment", quietly = TRUE)
#' x <- open_h5ad(example_h5ad())
#' as_SummarizedExperiment(pseudobulk(x, by = c("donor", "cell_type")))
as_SummarizedExperiment <- function(x) {
  if (!inherits(x, "scoom_pseudobulk")) {
    abort_type(x, "the result of {.fn pseudobulk}", "x", current_env())
  }
  check_suggested(
    "SummarizedExperiment",
    "BiocManager::install",
    current_env()
  )
  assays <- list(x$counts, x$detected)
  names(assays) <- c(if (x$fun == "sum") "counts" else "means", "detected")
  SummarizedExperiment::SummarizedExperiment(
    assays = assays,
    colData = x$samples,
    metadata = list(by = x$by, dropped = x$dropped)
  )
}
