# Samples behind cells: who drives a gene, and when cells are not the replicates.

# What samples are called. A column with such a name is looked at, no other.
sample_pattern <- paste0(
  "^(bio)?(sample|donor|patient|subject|individual|participant|animal|mouse|",
  "specimen|replicate|orig[._]ident)s?[._ ]?(id|name|label|number|no)?$"
)

#' A message where a condition is tested as if cells were replicates
#'
#' The rule: some column of the cells is called like samples, has several values, and each
#' of them lies in one group alone. Clusters are not like that: a sample has cells
#' of many. The message comes once in a session.
#' @param group The groups of the cells, a factor.
#' @noRd
tell_condition <- function(source, group, group_by) {
  columns <- grep(
    sample_pattern,
    source$columns,
    value = TRUE,
    ignore.case = TRUE
  )
  grouped_by_sample <- is_string(group_by) &&
    grepl(sample_pattern, group_by, ignore.case = TRUE)
  if (!length(columns) || grouped_by_sample) {
    return(invisible())
  }
  nested <- Find(\(name) is_nested(source$column(name), group), columns)
  if (is.null(nested)) {
    return(invisible())
  }
  label <- if (is_string(group_by)) group_by else "group_by"
  scoom_inform(
    c(
      i = "Each {.field {nested}} has cells of one value of {.field {label}} alone: this compares samples, and cells of a sample are no replicates of each other.",
      i = "{.fn test_pseudobulk} tests such a condition; {.code sample_by = {.str {nested}}} shows what single samples contribute."
    ),
    class = "condition_by_cells",
    .frequency = "once",
    .frequency_id = "scoom_condition_by_cells"
  )
}

# Whether there are several samples and each has cells of one group alone.
is_nested <- function(sample, group) {
  if (!is.atomic(sample) || length(sample) != length(group)) {
    return(FALSE)
  }
  known <- !is.na(sample) & !is.na(group)
  sample <- match(sample[known], unique(sample[known]))
  pairs <- unique(sample * (nlevels(group) + 1) + as.integer(group)[known])
  n_samples <- max(sample, 0)
  n_samples > 1 && length(pairs) == n_samples && nlevels(group) > 1
}

# The columns that `sample_by` adds, from the engine's.
sample_columns <- function(columns, samples) {
  list(
    n_samples_expressing = as.integer(columns$n_samples_expressing),
    top_sample = samples[columns$top_sample],
    top_sample_signal = columns$top_sample_signal,
    top_sample_cells = columns$top_sample_cells,
    sign_agreement = columns$sign_agreement,
    worst_log2_fc = columns$worst_log2_fc
  )
}
