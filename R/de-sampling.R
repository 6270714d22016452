# Equal numbers of cells.

#' Keep equal numbers of cells of groups
#'
#' Draws cells at random, so that no sample or cluster outweighs the others. Nothing is
#' read but the columns.
#'
#' @details
#' Each cell draws a number that depends on `seed` and its row in the file alone, and
#' each group keeps the `n` cells with the smallest. So the draw is the same on
#' any machine and for any order of the cells, a smaller `n` keeps a subset of what a
#' larger one keeps, and R's own random numbers are not touched.
#'
#' With `by = c("sample", "cluster")` the groups are the samples within each cluster.
#' `n = NULL` then equalises the samples cluster by cluster: a cluster keeps
#' of every sample as many cells as its smallest sample has. `n = "min"` takes the
#' smallest of all groups for all clusters.
#'
#' Groups with fewer than `n` cells keep all; a message says which. Cells
#' without a value in `by` are left out, with a message.
#'
#' @param x An object opened by [open_h5ad()].
#' @param by Columns of `obs`; each combination of their values is a group.
#' @param n Cells to keep of each group. A number; `"min"`: as many as the smallest
#'   group has; `NULL`: as many as the smallest of the groups that differ in the
#'   first column alone. For one column the last two are the same.
#' @param seed A whole number from 0 on.
#' @returns An object of class `scoom` with the cells drawn, in the order of `x`.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' table(x$obs$donor)
#' even <- downsample_cells(x, by = c("donor", "cell_type"))
#' table(even$obs$donor, even$obs$cell_type)
downsample_cells <- function(x, by, n = NULL, seed = 0) {
  call <- current_env()
  check_scoom(x)
  check_given(by, "names of columns of the cells")
  check_sample_size(n, call)
  check_seed(seed)
  drawn <- draw_cells(
    sampling_groups(by, \(name) obs_column(x, name, call), n_obs(x), call),
    n,
    cell_rows(x),
    seed
  )
  tell_drawn(drawn, n_obs(x))
  subset_cells(x, drawn$cells)
}

check_sample_size <- function(n, call) {
  if (!is.null(n) && !identical(n, "min") && !is_count(n)) {
    what <- "a whole number, at least 1, {.val min} or {.code NULL}"
    abort_type(n, what, "n", call)
  }
}

is_count <- function(n) {
  is_integerish(n, n = 1, finite = TRUE) && !is.logical(n) && n >= 1
}

# Positions of the cells of a view in the file.
cell_rows <- function(x) field(x, "rows") %||% seq_len(n_obs(x))

# Numbers in [0, 1), one for each row.
random_uniform <- function(seed, index) {
  rs_unwrap(rs_random_uniform(list(seed = seed, index = as.double(index))))
}

#' The groups to draw from
#'
#' @param column A function from the name of a column to its values.
#' @returns A list: `table`, a data frame with a row for each group, its values in
#'   `by`, `n_cells` and `stratum`, which counts the combinations of all columns but
#'   the first; `of`, the row of the table that each cell belongs to, or `NA`.
#' @noRd
sampling_groups <- function(by, column, n_cells, call) {
  if (!is.character(by) || !length(by) || anyNA(by) || anyDuplicated(by)) {
    abort_type(by, "names of columns of the cells", "by", call)
  }
  factors <- lapply(set_names(by), \(name) {
    group_factor(column(name), name, call)
  })
  code <- factor_codes(factors)
  keys <- sort(unique(code))
  first <- match(keys, code)
  table <- as.data.frame(lapply(factors, `[`, first), optional = TRUE)
  stratum <- if (length(by) > 1) factor_codes(factors[-1])[first]
  of <- match(code, keys)
  table$n_cells <- tabulate(of, length(keys))
  table$stratum <- if (is.null(stratum)) {
    rep(1L, nrow(table))
  } else {
    match(stratum, unique(stratum))
  }
  list(table = table, of = of)
}

# One number for each combination of levels, the first factor slowest; NA where any is
# missing. Exact for up to 2^53 combinations.
factor_codes <- function(factors) {
  code <- 0
  for (factor in factors) {
    code <- code * nlevels(factor) + (as.integer(factor) - 1)
  }
  code
}

#' Draw cells of each group
#'
#' @param groups What [sampling_groups()] says.
#' @param rows The number that each cell's draw depends on.
#' @returns A list: `cells`, positions in order; `table` with columns `n_wanted` and
#'   `n_kept`.
#' @noRd
draw_cells <- function(groups, n, rows, seed) {
  table <- groups$table
  size <- table$n_cells
  table$n_wanted <- if (is.null(n)) {
    stats::ave(size, table$stratum, FUN = min)
  } else if (identical(n, "min")) {
    rep(min(size, Inf), length(size))
  } else {
    rep(as.integer(n), length(size))
  }
  table$n_kept <- pmin(size, table$n_wanted)
  order <- order(groups$of, random_uniform(seed, rows), method = "radix")
  order <- order[seq_len(sum(size))]
  place <- sequence(size)
  kept <- order[place <= rep(table$n_kept, size)]
  list(cells = sort(kept), table = table)
}

tell_drawn <- function(drawn, n_cells) {
  table <- drawn$table
  keys <- setdiff(
    names(table),
    c("n_cells", "stratum", "n_wanted", "n_kept")
  )
  small <- table$n_cells < table$n_wanted
  sizes <- if (any(!small)) {
    kept <- paste(unique(range(table$n_kept[!small])), collapse = " to ")
    paste0(" (", kept, " of each)")
  } else {
    ""
  }
  labels <- do.call(paste, c(unname(as.list(table[small, keys])), sep = ", "))
  shown <- paste0(labels, " (", table$n_cells[small], ")")
  shown <- head_of(shown, 5)
  more <- sum(small) - length(shown)
  scoom_inform(
    c(
      i = paste(
        "Kept {format_count(length(drawn$cells))} of {format_count(n_cells)} cells",
        "in {nrow(table)} group{?s}{sizes}."
      ),
      i = if (any(small)) {
        "{sum(small)} smaller group{?s} {?keeps/keep} all: {.val {shown}}{if (more > 0) paste0(' and ', more, ' more')}."
      }
    ),
    class = "cells_drawn",
    groups = table[setdiff(names(table), "stratum")]
  )
}
