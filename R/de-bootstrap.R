# What depends on the draw of cells.

#' Find markers in repeated draws of cells
#'
#' Draws cells as [downsample_cells()] does, several times, tests each draw as
#' [find_markers()] does, and says how often each gene came out.
#'
#' @details
#' 1. Each replicate draws `n` cells of every group in `by`, without replacement, from
#'    random numbers that depend on `seed`, the replicate and the cell's row alone.
#' 2. The draws are tested together: a cell that several of them drew is read once. For
#'    t-tests and `"binomial"` the memory is that of `groups x n_replicates` groups in
#'    [find_markers()], for rank tests that of all drawn values, spilled where the
#'    budget ends. Where the tables would have more than 10 million rows together the
#'    replicates are dealt to several reads.
#' 3. 8 bytes are kept for each gene, comparison and replicate, then summarised.
#'
#' The draws show what rests on few cells or on the sample that has most of them. They
#' are no biological replicates: for the difference between conditions use
#' [test_pseudobulk()].
#'
#' @inheritParams find_markers
#' @inheritParams downsample_cells
#' @param x What [find_markers()] takes.
#' @param n_replicates How often to draw.
#' @param n_top A gene is at the top of a draw when it is among the first `n_top`
#'   of its comparison.
#' @param max_p_adj Largest adjusted p-value of a significant gene.
#' @param interval The share of the draws that lie between `log2_fc_low` and `log2_fc_high`.
#' @param ... Further arguments of [find_markers()]: `groups`, `reference`, `method`,
#'   `features`, `block` ... None that leaves out rows, nor `within`.
#' @returns A data frame of class `scoom_stability` with a row for each gene and
#'   comparison: `feature`, `group`, `reference`; `n_draws`, the draws that tested it;
#'   `share_significant` and `share_top`, fractions of these; `log2_fc`, the median, with
#'   `log2_fc_low` and `log2_fc_high`. Genes of a comparison come by
#'   `share_top`, then `share_significant`, then `log2_fc`.
#' @seealso [downsample_cells()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' stable <- bootstrap_markers(
#'   x,
#'   group_by = "cell_type",
#'   by = c("donor", "cell_type"),
#'   method = "t-test",
#'   n_replicates = 10
#' )
#' head(stable)
bootstrap_markers <- function(
  x,
  group_by = NULL,
  by,
  n = NULL,
  ...,
  n_replicates = 50,
  n_top = 50,
  max_p_adj = 0.05,
  interval = 0.95,
  layer = NULL,
  use_raw = FALSE,
  seed = 0
) {
  call <- current_env()
  check_given(x, marker_inputs)
  check_given(by, "names of columns of the cells")
  check_sample_size(n, call)
  check_count(n_replicates, min = 1)
  check_count(n_top, min = 1)
  check_number(max_p_adj, min = 0, max = 1)
  check_number(interval, min = 0, max = 1)
  check_seed(seed)
  options <- list(...)
  check_bootstrap_options(options, call)
  source <- de_source(x, layer, use_raw, "tested", call)
  tell_choices(x, layer, use_raw)
  # Draws are put together by the names of genes.
  source$genes <- unique_names(source$genes, "gene", call)
  source$plan <- settle_log(source, call)
  group <- source_groups(source, group_by, call)
  drawing <- sampling_groups(by, source$column, source$n_cells, call)
  rows <- source$plan$rows %||% seq_len(source$n_cells)
  drawn <- lapply(
    random_seeds(seed, n_replicates),
    \(seed) draw_cells(drawing, n, rows, seed)
  )
  tell_drawn(drawn[[1]], source$n_cells)
  cells <- lapply(drawn, \(d) d$cells[!is.na(group[d$cells])])
  n_tables <- nlevels(group) *
    if (identical(options$reference, "each")) nlevels(group) else 1
  at_once <- max(1, max_table_rows %/% (n_tables * length(source$genes)))
  batches <- split(
    seq_len(n_replicates),
    (seq_len(n_replicates) - 1) %/% at_once
  )
  label <- if (is_string(group_by)) group_by
  tables <- lapply(batches, \(batch) {
    tested <- find_drawn(source, cells[batch], batch, group, options)
    draws_of(tested, n_top, max_p_adj)
  })
  new_stability(tables, n_replicates, interval, levels(group))
}

check_bootstrap_options <- function(options, call) {
  if (length(options) && !is_named(options)) {
    scoom_abort(
      "Arguments after {.arg n} must be named.",
      class = "invalid_input",
      call = call
    )
  }
  own <- c("within", "min_pct", "min_log2_fc", "only_up", "n_genes")
  known <- setdiff(names(formals(find_markers)), c("x", own))
  for (name in setdiff(names(options), known)) {
    scoom_abort(
      c(
        "{.fn bootstrap_markers} takes no {.arg {name}}.",
        i = if (name %in% own) {
          "Every draw needs all genes, and is a level of its own."
        }
      ),
      class = "invalid_input",
      call = call,
      argument = name
    )
  }
}

# Seeds of the replicates: neighbouring seeds share none.
random_seeds <- function(seed, n) {
  floor(random_uniform(seed, seq_len(n)) * 2^52)
}

# All draws of a batch in one call, each a level of `within`. A cell comes as often as it
# was drawn, in the order of the file, so that its row is read once.
find_drawn <- function(source, cells, replicates, group, options) {
  position <- unlist(cells)
  replicate <- rep(replicates, lengths(cells))
  rows <- (source$plan$rows %||% seq_len(source$n_cells))[position]
  order <- order(rows, position, replicate, method = "radix")
  args <- list(
    x = source_cells(source, position[order]),
    group_by = group[position[order]],
    within = factor(replicate[order], replicates),
    min_pct = 0,
    min_log2_fc = 0,
    n_genes = Inf
  )
  inject(find_markers(!!!args, !!!options))
}

#' One row for each gene, comparison and draw
#'
#' @returns A data frame: `feature`, `group`, `reference`, `draw`, `significant`, `top`,
#'   `log2_fc`.
#' @noRd
draws_of <- function(tested, n_top, max_p_adj) {
  comparison <- comparison_of(tested)
  # Rows of a comparison stand together.
  first <- match(comparison, comparison)
  data.frame(
    feature = tested$feature,
    group = as.character(tested$group),
    reference = tested$reference,
    significant = !is.na(tested$p_adj) & tested$p_adj <= max_p_adj,
    top = seq_along(first) - first < n_top,
    log2_fc = tested$log2_fc
  )
}

new_stability <- function(tables, n_replicates, interval, levels) {
  all <- do.call(rbind, unname(tables))
  comparison <- paste(all$group, all$reference, sep = "\r")
  key <- paste(comparison, all$feature, sep = "\r")
  first <- which(!duplicated(key))
  of <- match(key, key[first])
  n_draws <- tabulate(of, length(first))
  share <- \(flag) tabulate(of[flag], length(first)) / n_draws
  # Sorted within each gene; quantiles interpolate as quantile() does.
  change <- all$log2_fc[order(of, all$log2_fc, method = "radix")]
  start <- cumsum(n_draws) - n_draws
  quantile_at <- function(p) {
    place <- 1 + p * (n_draws - 1)
    low <- change[start + floor(place)]
    high <- change[start + ceiling(place)]
    low + (place - floor(place)) * (high - low)
  }
  groups <- unique(all$group)
  stability <- data.frame(
    feature = all$feature[first],
    group = factor(
      all$group[first],
      if (all(groups %in% levels)) levels else groups
    ),
    reference = all$reference[first],
    n_draws = n_draws,
    share_significant = share(all$significant),
    share_top = share(all$top),
    log2_fc = quantile_at(0.5),
    log2_fc_low = quantile_at((1 - interval) / 2),
    log2_fc_high = quantile_at((1 + interval) / 2)
  )
  references <- unique(stability$reference)
  stability <- stability[
    order(
      stability$group,
      match(stability$reference, references),
      -stability$share_top,
      -stability$share_significant,
      -stability$log2_fc,
      method = "radix"
    ),
  ]
  attr(stability, "row.names") <- .set_row_names(nrow(stability))
  structure(
    stability,
    class = c("scoom_stability", "data.frame"),
    n_replicates = n_replicates
  )
}

#' @export
print.scoom_stability <- function(x, ..., n = 5) {
  n_replicates <- attr(x, "n_replicates")
  if (is.null(n_replicates) || !all(c("group", "reference") %in% names(x))) {
    return(invisible(NextMethod()))
  }
  rows <- comparison_rows(x)
  shown <- unlist(lapply(head_of(rows, 20), head_of, n), use.names = FALSE)
  writeLines(sprintf(
    "# %s: %s of %s",
    counted(nrow(x), "row"),
    counted(length(rows), "comparison"),
    counted(n_replicates, "draw")
  ))
  frame <- as.data.frame(unclass(x)[names(x)])[shown, , drop = FALSE]
  print(format(frame, digits = 3), row.names = FALSE)
  if (length(shown) < nrow(x)) {
    writeLines(paste0("# the first ", n, " rows of each"))
  }
  invisible(x)
}
