# Samples behind cells: who drives a gene, and when cells are not the replicates.

# What samples are called. A column with such a name is looked at, no other.
sample_pattern <- paste0(
  "^(bio)?(sample|donor|patient|subject|individual|participant|animal|mouse|",
  "specimen|replicate|orig[._]ident)s?[._ ]?(id|name|label|number|no)?$"
)

# What conditions are called. Perturbations are not among them: in a pooled screen each
# cell has one of its own.
condition_pattern <- paste0(
  "^(condition|treatment|treated|stim|stimulus|stimulation|stimulated|disease|",
  "diagnosis|status|genotype|phenotype|time[._ ]?point|time|exposure|exposed|dose|",
  "dosage|drug|response|responder|infection|infected|intervention)s?",
  "[._ ]?(id|name|label|group|state|status|type)?$"
)

# What types of cells are called, in any part of the name, and the cell cycle.
type_pattern <- paste0(
  "cluster|leiden|louvain|cell[._ ]?(type|class|state|label|ident)|annot|",
  "subset|subtype|lineage|compartment|^(ident|phase)$"
)

is_called_like <- function(name, pattern) {
  is_string(name) && grepl(pattern, name, ignore.case = TRUE)
}

#' A message where a condition is tested as if cells were replicates
#'
#' The rule: some column of the cells is called like samples, has several values, and each
#' of them lies in one group alone. Clusters are not like that: a sample has cells
#' of many. Where samples have cells of several groups, as donors before and after a
#' treatment, names decide. The message comes once in a session.
#' @param group The groups of the cells, a factor.
#' @param group_by,within,block As the user gave them.
#' @noRd
tell_condition <- function(
  source,
  group,
  group_by,
  within = NULL,
  block = NULL
) {
  columns <- grep(
    sample_pattern,
    source$columns,
    value = TRUE,
    ignore.case = TRUE
  )
  if (!length(columns) || is_called_like(group_by, sample_pattern)) {
    return(invisible())
  }
  spread <- vapply(columns, \(name) spread_of(source$column(name), group), "")
  label <- if (is_string(group_by)) group_by else "group_by"
  if ("nested" %in% spread) {
    tell_nested(columns[match("nested", spread)], label)
  } else if ("crossed" %in% spread && is_condition(group_by, within, block)) {
    tell_crossed(columns[match("crossed", spread)], label)
  }
}

# Whether names say that groups with cells of the same samples are conditions: the
# grouping is called like one, or is compared inside every cell type. Who blocks on
# samples knows of them.
is_condition <- function(group_by, within, block) {
  if (is_called_like(block, sample_pattern)) {
    return(FALSE)
  }
  if (is_called_like(group_by, condition_pattern)) {
    return(TRUE)
  }
  # Types of cells inside every sample or condition are no conditions, nor are the
  # identities of a Seurat object, which stand for no `group_by`.
  !is.null(within) &&
    !is.null(group_by) &&
    !is_called_like(group_by, type_pattern) &&
    !is_called_like(within, sample_pattern) &&
    !is_called_like(within, condition_pattern)
}

tell_nested <- function(sample, label) {
  tell_replicates(c(
    i = "Each {.field {sample}} has cells of one value of {.field {label}} alone: this compares samples, and cells of a sample are no replicates of each other.",
    i = "{.fn test_pseudobulk} tests such a condition; {.code sample_by = {.str {sample}}} shows what single samples contribute."
  ))
}

tell_crossed <- function(sample, label) {
  condition <- if (label == "group_by") "condition" else label
  design <- paste("~", backticked(sample), "+", backticked(condition))
  tell_replicates(c(
    i = "{.field {sample}} has cells of several values of {.field {label}}: cells of a sample are no replicates of each other.",
    i = "{.fn test_pseudobulk} with the samples in the design, {.code {design}}, tests such a condition; {.code sample_by = {.str {sample}}} shows what single samples contribute."
  ))
}

tell_replicates <- function(message, env = parent.frame()) {
  scoom_inform(
    message,
    class = "condition_by_cells",
    .frequency = "once",
    .frequency_id = "scoom_condition_by_cells",
    .envir = env
  )
}

# A name as it stands in a formula.
backticked <- function(name) deparse(as.name(name), backtick = TRUE)

# How several samples lie in several groups: "nested", each in one group alone;
# "crossed", some in more; "none" where there are not several of both.
spread_of <- function(sample, group) {
  if (!is.atomic(sample) || length(sample) != length(group)) {
    return("none")
  }
  known <- !is.na(sample) & !is.na(group)
  sample <- match(sample[known], unique(sample[known]))
  group <- as.integer(group)[known]
  n_samples <- max(sample, 0)
  if (n_samples < 2 || length(unique(group)) < 2) {
    return("none")
  }
  pairs <- unique(sample * (max(group) + 1) + group)
  if (length(pairs) == n_samples) "nested" else "crossed"
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
