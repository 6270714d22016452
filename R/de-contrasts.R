# Which groups are compared with which: what the user named, as sets of levels.

#' The comparisons of a call, before cells are counted
#'
#' @param levels The groups there are.
#' @param groups The groups to test: `NULL` for all, names, or a named list of
#'   vectors of names, each a set.
#' @param reference `"rest"`, `"each"`, one or more names that make one set, or a
#'   list of vectors of names, each a set.
#' @param exclude Groups that are in no rest.
#' @returns A list: `sets`, a list of integer vectors of levels, with `labels`; `group`
#'   and `reference`, positions in `sets`, one for each comparison, where a
#'   reference of `NA` is the rest; `exclude`, levels; `to_rest`.
#' @noRd
resolve_contrasts <- function(levels, groups, reference, exclude, call) {
  check_reference(reference, call)
  exclude <- level_positions(exclude, levels, "exclude", call)
  tested <- tested_sets(levels, groups, exclude, call)
  how <- if (is_string(reference) && reference %in% c("rest", "each")) {
    reference
  } else {
    "sets"
  }
  n <- length(tested)
  if (how == "rest") {
    group <- seq_len(n)
    against <- rep(NA_integer_, n)
    sets <- tested
  } else if (how == "each") {
    # Names of groups are tested against all other groups, sets among themselves.
    sets <- tested
    if (!is.list(groups) && !is.null(groups)) {
      others <- setdiff(seq_along(levels), c(unlist(tested), exclude))
      sets <- c(tested, set_names(as.list(others), levels[others]))
    }
    group <- rep(seq_len(n), each = length(sets))
    against <- rep(seq_along(sets), n)
    other <- group != against
    group <- group[other]
    against <- against[other]
  } else {
    references <- reference_sets(levels, reference, call)
    sets <- c(tested, references)
    group <- rep(seq_len(n), each = length(references))
    against <- rep(n + seq_along(references), n)
    # All groups, and lists of names, leave the reference itself out.
    if (!is.list(groups)) {
      inside <- mapply(\(g, r) all(sets[[g]] %in% sets[[r]]), group, against)
      group <- group[!inside]
      against <- against[!inside]
    }
  }
  if (!length(group)) {
    scoom_abort(
      "{.arg groups} names no group but the reference.",
      class = "invalid_input",
      call = call,
      argument = "groups"
    )
  }
  check_disjoint(sets, group, against, levels, call)
  list(
    sets = unname(sets),
    labels = names(sets),
    group = group,
    reference = against,
    exclude = exclude,
    to_rest = how == "rest"
  )
}

check_reference <- function(reference, call) {
  is_names <- \(x) is.character(x) && length(x) > 0 && !anyNA(x)
  is_sets <- is_bare_list(reference) &&
    length(reference) > 0 &&
    all(vapply(reference, is_names, NA))
  if (!is_names(reference) && !is_sets) {
    what <- "{.val rest}, {.val each}, names of groups or a list of such names"
    abort_type(reference, what, "reference", call)
  }
}

level_positions <- function(names, levels, arg, call) {
  if (is.null(names)) {
    return(integer())
  }
  if (!is.atomic(names) || anyNA(names)) {
    abort_type(names, "names of groups", arg, call)
  }
  unknown <- setdiff(as.character(names), levels)
  if (length(unknown)) {
    abort_missing(unknown[[1]], levels, "group", "group_missing", call)
  }
  match(unique(as.character(names)), levels)
}

# The sets on the left side: single groups in the order of their levels, or the
# user's sets in the user's order.
tested_sets <- function(levels, groups, exclude, call) {
  if (is_bare_list(groups)) {
    return(named_sets(groups, levels, "groups", call))
  }
  chosen <- if (is.null(groups)) {
    setdiff(seq_along(levels), exclude)
  } else {
    sort(level_positions(groups, levels, "groups", call))
  }
  set_names(as.list(chosen), levels[chosen])
}

reference_sets <- function(levels, reference, call) {
  if (is_bare_list(reference)) {
    return(named_sets(reference, levels, "reference", call))
  }
  unknown <- setdiff(reference, levels)
  if (length(unknown)) {
    choices <- c("rest", "each", levels)
    abort_missing(unknown[[1]], choices, "group", "group_missing", call)
  }
  named_sets(list(reference), levels, "reference", call)
}

# A list of names of groups as a named list of levels; a set without a name is called
# after its groups.
named_sets <- function(sets, levels, arg, call) {
  if (!length(sets)) {
    abort_type(sets, "at least one set of groups", arg, call)
  }
  found <- lapply(sets, \(names) {
    if (!length(names)) {
      abort_type(names, "names of groups", arg, call)
    }
    level_positions(names, levels, arg, call)
  })
  labels <- names(found) %||% rep("", length(found))
  nameless <- is.na(labels) | !nzchar(labels)
  labels[nameless] <- vapply(
    found[nameless],
    \(at) paste(levels[at], collapse = " + "),
    ""
  )
  if (anyDuplicated(labels)) {
    twice <- labels[duplicated(labels)][[1]]
    scoom_abort(
      "Two sets in {.arg {arg}} are called {.val {twice}}.",
      class = "invalid_input",
      call = call,
      argument = arg
    )
  }
  set_names(found, labels)
}

check_disjoint <- function(sets, group, against, levels, call) {
  known <- which(
    !is.na(against) & (lengths(sets)[group] > 1 | lengths(sets)[against] > 1)
  )
  for (k in known) {
    both <- intersect(sets[[group[[k]]]], sets[[against[[k]]]])
    if (length(both)) {
      scoom_abort(
        c(
          "A group can't be on both sides of a comparison.",
          x = "{.val {levels[both]}} {?is/are} in {.val {names(sets)[[group[[k]]]]}} and in {.val {names(sets)[[against[[k]]]]}}."
        ),
        class = "invalid_input",
        call = call,
        argument = "reference"
      )
    }
  }
}
