# Which groups are compared with which.

# Cells that either side of a test needs.
min_test_cells <- 2

#' The comparisons of a call
#'
#' @param factor The groups of the cells, a factor.
#' @param groups The groups to test, or `NULL` for all.
#' @param reference `"rest"`, or the name of a group.
#' @param extra Cells without a group that count to the rest.
#' @returns A list: `compare` and `with`, codes from 0 (`NA` for the rest), and
#'   `skipped`, a data frame.
#' @noRd
resolve_contrasts <- function(factor, groups, reference, extra, call) {
  levels <- levels(factor)
  sizes <- as.integer(table(factor))
  if (!is_string(reference)) {
    what <- "{.val rest} or the name of a group"
    abort_type(reference, what, "reference", call)
  }
  to_rest <- reference == "rest"
  if (length(levels) + (extra > 0 && to_rest) < 2) {
    scoom_abort(
      c(
        "There is nothing to compare.",
        x = if (length(levels)) {
          "All cells are in group {.val {levels}}."
        } else {
          "No cell has a group."
        }
      ),
      class = "one_group",
      call = call
    )
  }
  if (!to_rest && !reference %in% levels) {
    choices <- c("rest", levels)
    abort_missing(reference, choices, "group", "group_missing", call)
  }
  unknown <- setdiff(as.character(groups), levels)
  if (length(unknown)) {
    abort_missing(unknown[[1]], levels, "group", "group_missing", call)
  }
  chosen <- if (is.null(groups)) levels else intersect(levels, groups)
  chosen <- match(setdiff(chosen, if (!to_rest) reference), levels)
  if (!length(chosen)) {
    scoom_abort(
      "{.arg groups} names no group but the reference.",
      class = "invalid_input",
      call = call,
      argument = "groups"
    )
  }
  with <- if (to_rest) NA_integer_ else match(reference, levels)
  others <- if (to_rest) length(factor) - sum(is.na(factor)) + extra - sizes
  others <- others %||% rep(sizes[with], length(sizes))
  if (!to_rest && sizes[with] < min_test_cells) {
    scoom_abort(
      c(
        "The reference is too small to test against.",
        x = "Group {.val {reference}} has {sizes[with]} cell{?s}."
      ),
      class = "group_too_small",
      call = call
    )
  }
  small <- sizes[chosen] < min_test_cells | others[chosen] < min_test_cells
  skipped <- data.frame(
    group = levels[chosen[small]],
    n_cells = sizes[chosen[small]],
    reason = rep("fewer than 2 cells on a side", sum(small))
  )
  if (any(small)) {
    names <- skipped$group
    scoom_warn(
      c(
        "{length(names)} group{?s} {?is/are} too small to test: {.val {names}}.",
        i = if (to_rest) "Their cells stay in the rest of the other groups."
      ),
      class = "groups_skipped",
      call = call,
      skipped = skipped
    )
  }
  chosen <- chosen[!small]
  list(
    compare = chosen - 1L,
    with = rep(with - 1L, length(chosen)),
    skipped = skipped
  )
}
