# What two lists of genes share: markers and known markers, methods among themselves.

#' Compare markers with lists of known genes
#'
#' How many of the first markers of each group are in each list: the first look at
#' which cell type a cluster is.
#'
#' @details
#' With a group's markers D and a list R, `"count"` is the size of their
#' intersection, `"coefficient"` that over the size of the smaller of the two, `"jaccard"`
#' that over the size of their union. Genes that are not in the data stay in R.
#'
#' @param markers A table made by [find_markers()].
#' @param reference A named list of vectors of genes, one for each cell type.
#' @param method `"count"`, `"coefficient"` or `"jaccard"`.
#' @param normalize For counts: divide by the length of the list (`"reference"`) or
#'   by the number of markers (`"markers"`). `NULL`: leave them.
#' @param n Markers of each comparison to use, the first of the table.
#' @param only_up Whether to use genes that are higher in the group alone.
#' @param max_p_adj Largest adjusted p-value of markers to use; `NULL`: any.
#' @returns A data frame: one row for each list, one column for each comparison.
#'   Where a group is compared several times, columns are called `group vs reference`.
#' @seealso [compare_methods()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' markers <- find_markers(x, group_by = "cell_type")
#' known <- list(B = c("MS4A1", "CD79A"), NK = c("NKG7", "GNLY"))
#' marker_overlap(markers, known)
marker_overlap <- function(
  markers,
  reference,
  method = c("count", "coefficient", "jaccard"),
  normalize = NULL,
  n = 100,
  only_up = TRUE,
  max_p_adj = NULL
) {
  call <- current_env()
  check_markers(markers)
  method <- check_choice(method, c("count", "coefficient", "jaccard"))
  if (!is.null(normalize)) {
    normalize <- check_choice(normalize, c("reference", "markers"))
    if (method != "count") {
      scoom_abort(
        "{.arg normalize} is for {.code method = \"count\"}.",
        class = "invalid_input",
        call = call,
        argument = "normalize"
      )
    }
  }
  check_count(n, min = 1)
  check_flag(only_up)
  check_number(max_p_adj, min = 0, max = 1, allow_null = TRUE)
  check_gene_lists(reference, call)
  if (!is.null(max_p_adj)) {
    check_has_p_values(markers, "This table", "max_p_adj", call)
  }
  reference <- lapply(reference, \(genes) unique(as.character(genes)))
  rows <- comparison_rows(markers)
  higher <- is_higher(markers)
  found <- lapply(rows, \(at) {
    if (only_up) {
      at <- at[which(higher[at])]
    }
    if (!is.null(max_p_adj)) {
      at <- at[which(markers$p_adj[at] <= max_p_adj)]
    }
    unique(head_of(markers$feature[at], n))
  })
  names(found) <- comparison_labels(markers)
  shared <- vapply(
    found,
    \(genes) vapply(reference, \(known) sum(known %in% genes), 0),
    numeric(length(reference))
  )
  shared <- matrix(
    shared,
    length(reference),
    dimnames = list(names(reference), names(found))
  )
  n_reference <- lengths(reference)
  n_found <- rep(lengths(found), each = length(reference))
  divisor <- switch(
    method,
    coefficient = pmin(n_reference, n_found),
    jaccard = n_reference + n_found - shared,
    count = switch(
      normalize %||% "no",
      reference = n_reference,
      markers = n_found,
      no = 1
    )
  )
  as.data.frame(shared / pmax(divisor, 1), optional = TRUE)
}

check_gene_lists <- function(reference, call) {
  is_genes <- \(genes) is.character(genes) || is.factor(genes)
  if (
    !is.list(reference) ||
      !length(reference) ||
      !is_named(reference) ||
      !all(vapply(reference, is_genes, NA))
  ) {
    what <- "a named list of vectors of gene names"
    abort_type(reference, what, "reference", call)
  }
}

#' Compare the results of several tests
#'
#' Which genes are significant in which of several tables: methods on the same
#' contrast, cell-level tests beside pseudobulk, two data sets. The table has the
#' form that packages for Venn and UpSet diagrams take.
#'
#' @param ... Tables made by [find_markers()] or other tests, each with a name; or one
#'   named list of them. A table needs the columns `feature` and `p_adj`.
#' @param max_p_adj Largest adjusted p-value of a significant gene.
#' @param min_log2_fc Smallest absolute log2 fold change of a significant gene.
#' @param direction `"any"`, `"up"` or `"down"`: the sign of the fold changes to look at.
#' @param n Take the first `n` significant genes of each comparison alone; `NULL`: all.
#' @returns A data frame of class `scoom_overlap` with a row for each gene that is
#'   significant in at least one table: the columns that say which comparison it is
#'   (those of `group`, `reference`, `within`, `cell_type` and `contrast` that all tables
#'   have and that differ somewhere; `within` stands for `cell_type` where a table has no other),
#'   `feature`, one logical column for each table, and
#'   `n_methods`, how many are `TRUE`. Printing counts the intersections.
#' @seealso [marker_overlap()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' shared <- compare_methods(
#'   wilcoxon = find_markers(x, "cell_type"),
#'   t_test = find_markers(x, "cell_type", method = "t-test")
#' )
#' shared
#' head(as.data.frame(shared))
compare_methods <- function(
  ...,
  max_p_adj = 0.05,
  min_log2_fc = 0,
  direction = c("any", "up", "down"),
  n = NULL
) {
  call <- current_env()
  tables <- list(...)
  if (length(tables) == 1 && is_bare_list(tables[[1]])) {
    tables <- tables[[1]]
  }
  check_tables(tables, call)
  check_number(max_p_adj, min = 0, max = 1)
  check_number(min_log2_fc, min = 0)
  direction <- check_choice(direction, c("any", "up", "down"))
  check_count(n, min = 1, allow_null = TRUE)
  for (name in names(tables)) {
    check_has_p_values(tables[[name]], name, "max_p_adj", call)
  }
  tables <- name_cell_types(tables)
  keys <- Reduce(intersect, lapply(tables, names))
  keys <- intersect(
    c("group", "reference", "within", "cell_type", "contrast"),
    keys
  )
  found <- lapply(tables, \(table) {
    significant(table, keys, max_p_adj, min_log2_fc, direction, n)
  })
  varies <- vapply(
    keys,
    \(key) {
      length(unique(unlist(lapply(tables, \(t) {
        unique(as.character(t[[key]]))
      })))) >
        1
    },
    NA
  )
  keys <- keys[varies]
  all <- do.call(rbind, unname(found))
  all <- all[!duplicated(row_keys(all, keys)), c(keys, "feature"), drop = FALSE]
  for (key in keys) {
    levels <- unique(unlist(lapply(tables, \(t) level_order(t[[key]]))))
    all[[key]] <- factor(all[[key]], levels)
  }
  id <- row_keys(all, keys)
  for (name in names(tables)) {
    all[[name]] <- id %in% row_keys(found[[name]], keys)
  }
  all$n_methods <- as.integer(rowSums(all[names(tables)]))
  sorting <- c(unname(as.list(all[keys])), list(-all$n_methods, all$feature))
  all <- all[do.call(order, c(sorting, method = "radix")), , drop = FALSE]
  attr(all, "row.names") <- .set_row_names(nrow(all))
  structure(
    all,
    class = c("scoom_overlap", "data.frame"),
    methods = names(tables),
    keys = keys
  )
}

# Cell-level tables call `within` what tests of samples call `cell_type`.
name_cell_types <- function(tables) {
  has <- \(name) vapply(tables, \(table) name %in% names(table), NA)
  if (!any(has("cell_type"))) {
    return(tables)
  }
  lapply(tables, \(table) {
    columns <- names(table)
    if ("within" %in% columns && !"cell_type" %in% columns) {
      names(table)[columns == "within"] <- "cell_type"
    }
    table
  })
}

level_order <- function(values) {
  if (is.factor(values)) levels(values) else unique(values)
}

check_tables <- function(tables, call) {
  fits <- \(t) is.data.frame(t) && all(c("feature", "p_adj") %in% names(t))
  if (
    length(tables) < 2 ||
      !is_named(tables) ||
      anyDuplicated(names(tables)) ||
      !all(vapply(tables, fits, NA))
  ) {
    scoom_abort(
      c(
        "{.fn compare_methods} takes two or more tables, each with a name of its own.",
        i = "Like {.code compare_methods(wilcoxon = a, t_test = b)}; each needs the columns {.field feature} and {.field p_adj}."
      ),
      class = "invalid_input",
      call = call
    )
  }
}

# The significant rows of a table, keys and features as strings.
significant <- function(table, keys, max_p_adj, min_log2_fc, direction, n) {
  keep <- table$p_adj <= max_p_adj
  change <- table$log2_fc
  if (!is.null(change)) {
    keep <- keep & abs(change) >= min_log2_fc
    keep <- switch(
      direction,
      any = keep,
      up = keep & change > 0,
      down = keep & change < 0
    )
  }
  columns <- lapply(unclass(table)[c(keys, "feature")], as.character)
  kept <- lapply(columns, `[`, which(keep))
  kept <- structure(
    kept,
    row.names = .set_row_names(sum(keep, na.rm = TRUE)),
    class = "data.frame"
  )
  if (is.null(n)) {
    return(kept)
  }
  comparison <- row_keys(kept, keys, feature = FALSE)
  place <- stats::ave(seq_along(comparison), comparison, FUN = seq_along)
  kept[place <= n, , drop = FALSE]
}

row_keys <- function(table, keys, feature = TRUE) {
  columns <- lapply(
    unclass(table)[c(keys, if (feature) "feature")],
    as.character
  )
  if (!length(columns)) {
    return(rep("", nrow(table)))
  }
  do.call(paste, c(unname(columns), sep = "\r"))
}

#' @export
print.scoom_overlap <- function(x, ..., n = 20) {
  methods <- attr(x, "methods")
  if (is.null(methods) || !all(methods %in% names(x))) {
    return(invisible(NextMethod()))
  }
  keys <- intersect(attr(x, "keys"), names(x))
  n_sets <- length(methods)
  sizes <- vapply(methods, \(m) sum(x[[m]]), 0)
  lines <- c(
    paste0(
      "# ",
      counted(nrow(x), "gene"),
      " significant in at least one of ",
      n_sets,
      " tables",
      if (length(keys)) {
        paste0(", by ", paste(keys, collapse = ", "))
      }
    ),
    paste0("# ", paste0(methods, ": ", format_count(sizes), collapse = ", "))
  )
  pattern <- do.call(
    paste,
    c(lapply(methods, \(m) ifelse(x[[m]], m, NA)), sep = "\r")
  )
  pattern <- vapply(
    strsplit(pattern, "\r", fixed = TRUE),
    \(p) paste(p[p != "NA"], collapse = " & "),
    ""
  )
  all <- paste(methods, collapse = " & ")
  counts <- sort(table(pattern), decreasing = TRUE)
  counts <- counts[order(names(counts) != all)]
  shown <- data.frame(
    `significant in` = names(counts),
    genes = format_count(as.vector(counts)),
    check.names = FALSE
  )
  writeLines(c(lines, format_table(head_of_rows(shown, n))))
  if (n_sets > 2 || length(keys)) {
    share <- outer(
      methods,
      methods,
      Vectorize(\(a, b) {
        sum(x[[a]] & x[[b]]) / max(1, sum(x[[a]] | x[[b]]))
      })
    )
    dimnames(share) <- list(methods, methods)
    writeLines("# Jaccard index of each two")
    print(round(share, 3))
  }
  invisible(x)
}

head_of_rows <- function(table, n) {
  table[seq_len(min(n, nrow(table))), , drop = FALSE]
}
