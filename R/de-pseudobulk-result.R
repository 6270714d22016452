# Tables of tests on samples: making and printing.

pseudobulk_test_columns <- c(
  "feature",
  "cell_type",
  "contrast",
  "log2_fc",
  "mean_expr",
  "statistic",
  "p_value",
  "p_adj",
  "p_adj_global"
)

new_pseudobulk_tests <- function(
  tasks,
  answers,
  genes,
  contrasts,
  p_adjust,
  attributes
) {
  labels <- colnames(contrasts)
  done <- names(answers)[vapply(answers, \(a) !is.null(a$tables), NA)]
  parts <- list()
  for (type in done) {
    for (label in intersect(labels, names(answers[[type]]$tables))) {
      part <- test_rows(answers[[type]], label, length(genes), p_adjust)
      part$cell_type <- rep(match(type, names(tasks)), length(genes))
      part$contrast <- rep(match(label, labels), length(genes))
      parts <- c(parts, list(part))
    }
  }
  column <- function(name) unlist(lapply(parts, `[[`, name), use.names = FALSE)
  contrast <- column("contrast")
  p_value <- column("p_value")
  global <- stats::ave(p_value, contrast, FUN = \(p) {
    stats::p.adjust(p, p_adjust)
  })
  table <- list(
    feature = genes[column("gene")],
    cell_type = factor(names(tasks)[column("cell_type")], names(tasks)),
    contrast = factor(labels[contrast], labels),
    log2_fc = column("log2_fc"),
    mean_expr = column("mean_expr"),
    statistic = column("statistic"),
    p_value = p_value,
    p_adj = column("p_adj"),
    p_adj_global = global,
    reason = column("reason")
  )
  tested <- tasks[done]
  cell_types <- data.frame(
    cell_type = done,
    n_samples = vapply(tested, \(t) nrow(t$matrix), 0L, USE.NAMES = FALSE),
    df_residual = vapply(tested, \(t) t$df_residual, 0L, USE.NAMES = FALSE),
    n_genes = lengths(lapply(answers[done], `[[`, "genes"), use.names = FALSE)
  )
  out <- structure(
    table,
    row.names = .set_row_names(length(p_value)),
    class = c("scoom_pseudobulk_tests", "data.frame"),
    cell_types = cell_types,
    fit = lapply(answers[done], `[[`, "fit")
  )
  for (name in names(attributes)) {
    attr(out, name) <- attributes[[name]]
  }
  out
}

# The rows of one cell type and contrast: tested genes by p-value, then the others.
test_rows <- function(answer, label, n_genes, p_adjust) {
  table <- answer$tables[[label]]
  spread <- function(values) {
    replace(rep(NA_real_, n_genes), answer$genes, unname(values))
  }
  p_value <- spread(table$p_value)
  reason <- ifelse(answer$empty, "no counts", "few counts")
  reason[answer$genes] <- answer$without_p
  reason[!is.na(p_value)] <- NA
  rows <- list(
    gene = seq_len(n_genes),
    log2_fc = spread(table$log2_fc),
    mean_expr = spread(table$mean_expr),
    statistic = spread(table$statistic),
    p_value = p_value,
    p_adj = stats::p.adjust(p_value, p_adjust),
    reason = reason
  )
  order <- order(p_value, -abs(rows$statistic), is.na(rows$mean_expr))
  lapply(rows, `[`, order)
}

# Row numbers of each cell type and contrast, in the order of the table.
test_parts <- function(x) {
  key <- paste(x$cell_type, x$contrast, sep = "\r")
  unname(split(seq_len(nrow(x)), factor(key, unique(key))))
}

# The first genes of each cell type and contrast that were tested, with what the table
# says of itself.
top_tests <- function(x, n) {
  first <- lapply(test_parts(x), \(rows) {
    head_of(rows[!is.na(x$p_value[rows])], n)
  })
  taken <- x[unlist(first), , drop = FALSE]
  attr(taken, "row.names") <- .set_row_names(nrow(taken))
  for (name in setdiff(names(attributes(x)), names(attributes(taken)))) {
    attr(taken, name) <- attr(x, name)
  }
  taken
}

#' Count the genes that change
#'
#' @param object A table made by [test_pseudobulk()].
#' @param max_p_adj Largest adjusted p-value.
#' @param ... Not used.
#' @returns A data frame with a row for each cell type and contrast: `cell_type`, `contrast`,
#'   `n_genes` tested, and those that are higher (`n_up`) or lower (`n_down`).
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' pb <- pseudobulk(x, by = c("donor", "condition", "cell_type"), min_cells = 10)
#' summary(test_pseudobulk(pb, ~condition, method = "t_test"))
summary.scoom_pseudobulk_tests <- function(object, max_p_adj = 0.05, ...) {
  check_number(max_p_adj, min = 0, max = 1)
  parts <- test_parts(object)
  first <- vapply(parts, `[[`, 0L, 1)
  count <- function(test) vapply(parts, \(rows) sum(test[rows]), 0L)
  called <- !is.na(object$p_adj) & object$p_adj <= max_p_adj
  data.frame(
    cell_type = object$cell_type[first],
    contrast = object$contrast[first],
    n_genes = count(!is.na(object$p_value)),
    n_up = count(called & object$log2_fc > 0),
    n_down = count(called & object$log2_fc < 0)
  )
}

#' @export
print.scoom_pseudobulk_tests <- function(x, ..., n = NULL) {
  if (!all(pseudobulk_test_columns %in% names(x))) {
    return(invisible(NextMethod()))
  }
  parts <- test_parts(x)
  # A table that someone has cut to size is shown whole.
  whole <- nrow(x) <= 60
  n <- n %||% if (whole) nrow(x) else 3
  engine <- c(attr(x, "method"), attr(x, "version"))
  header <- paste0(
    "# ",
    counted(nrow(x), "row"),
    ": ",
    counted(length(unique(x$cell_type)), "cell type"),
    ", ",
    counted(length(unique(x$contrast)), "contrast"),
    if (length(engine)) paste0(", ", paste(engine, collapse = " "))
  )
  writeLines(header)
  if (!whole) {
    writeLines("# genes tested, up and down at an adjusted p of 0.05:")
    print(summary(x), row.names = FALSE)
  }
  shown <- unlist(lapply(head_of(parts, 20), head_of, n), use.names = FALSE)
  frame <- as.data.frame(unclass(x)[names(x)])[shown, , drop = FALSE]
  if (all(is.na(frame$reason))) {
    frame$reason <- NULL
  }
  print(format(frame, digits = 3), row.names = FALSE)
  if (length(shown) < nrow(x)) {
    writeLines(paste0("# the first ", n, " rows of each"))
  }
  skipped <- unique(attr(x, "skipped")$cell_type)
  if (length(skipped)) {
    writeLines(paste0("# skipped: ", paste(skipped, collapse = ", ")))
  }
  invisible(x)
}
