# Cells as the engine counts them: units, the finest groups of cells that a call needs,
# and strata, the pairs of sets of units that are compared.

# Cells that either side of a comparison needs.
min_test_cells <- 2

#' Units and strata of a call
#'
#' @param contrasts What [resolve_contrasts()] says.
#' @param cells A list of factors with one value for each cell: `group`, and `within`,
#'   `block` and `sample` where the call has them. A cell that lacks a value takes no part.
#' @param keep_missing Whether cells without a group count to the rest.
#' @param min_cells Cells that each side of a comparison needs.
#' @param min_block_cells Cells that each side of a block needs.
#' @returns A list: the engine's `unit`, `n_units`, `group_units`, `reference_units`,
#'   `stratum_of`, `unit_sample`; `comparisons`, a data frame of what is tested with
#'   `group`, `reference`, `within` (positions; `NA` for the rest) and `n_blocks`; and the
#'   data frames `skipped` and `blocks_dropped`.
#' @noRd
resolve_units <- function(
  contrasts,
  cells,
  keep_missing = FALSE,
  min_cells = min_test_cells,
  min_block_cells = 1,
  call = caller_env()
) {
  # Cells without a group are one more group where they count to the rest.
  group <- if (keep_missing) addNA(cells$group, ifany = TRUE) else cells$group
  one <- factor(rep(1L, length(group)))
  parts <- list(
    within = cells$within %||% one,
    block = cells$block %||% one,
    group = group,
    sample = cells$sample %||% one
  )
  code <- factor_codes(parts)
  keys <- sort(unique(code))
  unit <- match(code, keys) - 1L
  units <- unit_parts(keys, parts)
  units$n <- tabulate(unit + 1L, length(keys))
  strata <- find_strata(contrasts, units, parts)
  kept <- keep_strata(strata, min_cells, min_block_cells, !is.null(cells$block))
  labels <- list(
    set = contrasts$labels,
    within = if (!is.null(cells$within)) levels(cells$within),
    block = if (!is.null(cells$block)) levels(cells$block)
  )
  skipped <- skipped_table(strata, kept, labels)
  blocks_dropped <- dropped_table(strata, kept, labels)
  stay <- stay_in_rest(strata, kept)
  tell_skipped(skipped, blocks_dropped, stay, kept, call)
  strata <- strata[kept$stratum, ]
  list(
    unit = unit,
    n_units = length(keys),
    group_units = lapply(strata$group_units, `-`, 1L),
    reference_units = lapply(strata$reference_units, `-`, 1L),
    stratum_of = match(strata$comparison, unique(strata$comparison)) - 1L,
    unit_sample = if (!is.null(cells$sample)) units$sample - 1L,
    samples = if (!is.null(cells$sample)) levels(cells$sample),
    comparisons = comparison_table(strata, labels),
    skipped = skipped,
    blocks_dropped = blocks_dropped
  )
}

# The levels of each part of each key, from 1.
unit_parts <- function(keys, parts) {
  units <- list()
  for (name in rev(names(parts))) {
    n <- nlevels(parts[[name]])
    units[[name]] <- as.integer(keys %% n) + 1L
    keys <- keys %/% n
  }
  units
}

# Every comparison in every level of `within` and every block, comparisons in order of
# within, then of the contrasts. A comparison is one number over all its blocks.
find_strata <- function(contrasts, units, parts) {
  n_groups <- nlevels(parts$group)
  n_within <- nlevels(parts$within)
  n_blocks <- nlevels(parts$block)
  n_contrasts <- length(contrasts$group)
  in_stratum <- split(
    seq_along(units$n),
    list(
      factor(units$group, seq_len(n_groups)),
      factor(units$block, seq_len(n_blocks)),
      factor(units$within, seq_len(n_within))
    )
  )
  at <- expand.grid(
    block = seq_len(n_blocks),
    contrast = seq_len(n_contrasts),
    within = seq_len(n_within)
  )
  of_groups <- function(groups, within, block) {
    first <- ((within - 1) * n_blocks + block - 1) * n_groups
    unlist(in_stratum[first + groups], use.names = FALSE) %||% integer()
  }
  rest <- setdiff(seq_len(n_groups), contrasts$exclude)
  groups <- contrasts$sets[contrasts$group]
  references <- Map(
    \(group, reference) {
      if (is.na(reference)) {
        setdiff(rest, group)
      } else {
        contrasts$sets[[reference]]
      }
    },
    groups,
    contrasts$reference
  )
  units_of <- function(sets) {
    Map(
      \(k, w, b) of_groups(sets[[k]], w, b),
      at$contrast,
      at$within,
      at$block
    )
  }
  group_units <- units_of(groups)
  reference_units <- units_of(references)
  count <- \(units_of) vapply(units_of, \(u) sum(units$n[u]), 0)
  strata <- data.frame(
    comparison = (at$within - 1L) * n_contrasts + at$contrast,
    group = contrasts$group[at$contrast],
    reference = contrasts$reference[at$contrast],
    within = at$within,
    block = at$block,
    n_group = count(group_units),
    n_reference = count(reference_units)
  )
  strata$group_units <- group_units
  strata$reference_units <- reference_units
  strata
}

#' Which strata are tested
#'
#' @returns A list: `stratum`, a logical for each; `reason`, why its comparison is
#'   skipped, or `NA`.
#' @noRd
keep_strata <- function(strata, min_cells, min_block_cells, blocked) {
  smaller <- pmin(strata$n_group, strata$n_reference)
  usable <- smaller >= if (blocked) min_block_cells else min_cells
  total <- \(n) sum_by(n * usable, strata$comparison)
  enough <- pmin(total(strata$n_group), total(strata$n_reference)) >= min_cells
  any_usable <- total(rep(1, nrow(strata))) > 0
  reason <- rep(NA_character_, nrow(strata))
  few <- if (min_cells == 2) "fewer than 2" else paste("fewer than", min_cells)
  reason[!enough] <- paste(few, "cells on a side")
  if (blocked) {
    whole <- \(n) sum_by(n, strata$comparison)
    both <- pmin(whole(strata$n_group), whole(strata$n_reference)) >= min_cells
    reason[!any_usable & both] <- "no block has cells on both sides"
  }
  list(stratum = usable & enough, reason = reason)
}

# The sum over each value's group, for each value.
sum_by <- function(values, group) {
  group <- match(group, unique(group))
  rowsum(values, group, reorder = FALSE)[group]
}

# What tables call a comparison.
comparison_names <- function(strata, labels) {
  reference <- labels$set[strata$reference]
  reference[is.na(reference)] <- "rest"
  named <- list(group = labels$set[strata$group], reference = reference)
  if (!is.null(labels$within)) {
    named$within <- factor(labels$within[strata$within], labels$within)
  }
  named
}

skipped_table <- function(strata, kept, labels) {
  blocks <- \(n) sum_by(n, strata$comparison)
  gone <- !is.na(kept$reason) & !duplicated(strata$comparison)
  strata$n_group <- blocks(strata$n_group)
  strata$n_reference <- blocks(strata$n_reference)
  strata <- strata[gone, ]
  as_frame(c(
    comparison_names(strata, labels),
    list(
      n_group = as.integer(strata$n_group),
      n_reference = as.integer(strata$n_reference),
      reason = kept$reason[gone]
    )
  ))
}

dropped_table <- function(strata, kept, labels) {
  # A block without any cell of a comparison is no block of it.
  present <- strata$n_group + strata$n_reference > 0
  gone <- !kept$stratum & is.na(kept$reason) & present
  strata <- strata[gone & !is.null(labels$block), ]
  as_frame(c(
    comparison_names(strata, labels),
    list(
      block = labels$block[strata$block] %||% character(),
      n_group = as.integer(strata$n_group),
      n_reference = as.integer(strata$n_reference)
    )
  ))
}

comparison_table <- function(strata, labels) {
  first <- !duplicated(strata$comparison)
  n_blocks <- tabulate(match(strata$comparison, unique(strata$comparison)))
  groups <- unique(labels$set[sort(unique(strata$group))])
  named <- comparison_names(strata[first, ], labels)
  named$group <- factor(named$group, groups)
  if (!is.null(labels$block)) {
    named$n_blocks <- n_blocks
  }
  as_frame(named)
}

as_frame <- function(columns) {
  structure(
    columns,
    row.names = .set_row_names(length(columns[[1]])),
    class = "data.frame"
  )
}

# Whether cells of groups that are skipped count to the rest of others, in any level.
stay_in_rest <- function(strata, kept) {
  of_rest <- is.na(strata$reference)
  skipped <- strata$group_units[of_rest & !is.na(kept$reason)]
  rests <- strata$reference_units[of_rest & kept$stratum]
  any(unlist(skipped) %in% unlist(rests))
}

tell_skipped <- function(skipped, blocks_dropped, stay, kept, call) {
  if (!any(kept$stratum)) {
    abort_all_skipped(skipped, call)
  }
  if (nrow(skipped)) {
    names <- unique(describe_comparison(skipped))
    shown <- head_of(names, 10)
    more <- length(names) - length(shown)
    scoom_warn(
      c(
        "{length(names)} comparison{?s} {?is/are} skipped: {.val {shown}}{if (more > 0) paste0(' and ', more, ' more')}.",
        x = "{sentence(unique(skipped$reason))}",
        i = if (stay && is.null(skipped[["within"]])) {
          "Their cells stay in the rest of the other groups."
        } else if (stay) {
          "Their cells stay in the rest of the other groups of the same level."
        }
      ),
      class = "groups_skipped",
      call = call,
      skipped = skipped
    )
  }
  if (nrow(blocks_dropped)) {
    names <- unique(blocks_dropped$block)
    shown <- head_of(names, 10)
    more <- length(names) - length(shown)
    scoom_inform(
      c(
        i = "{length(names)} block{?s} lack{?s/} a side in some comparison and drop{?s/} out of it: {.val {shown}}{if (more > 0) paste0(' and ', more, ' more')}."
      ),
      class = "blocks_dropped",
      blocks = blocks_dropped
    )
  }
}

# `a`, `a vs b`, `a (in c)`: what messages call comparisons.
describe_comparison <- function(table) {
  versus <- table$reference != "rest"
  name <- ifelse(versus, paste(table$group, "vs", table$reference), table$group)
  within <- table[["within"]]
  if (is.null(within)) name else paste0(name, " (in ", within, ")")
}

abort_all_skipped <- function(skipped, call) {
  if (any(skipped$reason == "no block has cells on both sides")) {
    scoom_abort(
      c(
        "No block has cells on both sides of a comparison.",
        x = "Each level of {.arg block} lies on one side: it is nested in the groups.",
        i = "Cells can't tell such blocks from groups. {.fn test_pseudobulk} compares them as samples."
      ),
      class = "nested_blocks",
      call = call,
      skipped = skipped
    )
  }
  names <- head_of(unique(describe_comparison(skipped)), 10)
  scoom_abort(
    c(
      "There are too few cells to test.",
      x = "{.val {names}}: {unique(skipped$reason)}."
    ),
    class = "group_too_small",
    call = call,
    skipped = skipped
  )
}
