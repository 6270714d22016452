#' Check how many genes a test calls where nothing changes
#'
#' Gives the condition of whole samples to others at random and tests again. What is
#' called then is false. A test that calls many genes here can't be believed when it
#' calls many genes for the true conditions.
#'
#' @details
#' 1. The samples are split in two, with as many on each side as the conditions have;
#'    without `condition`, in halves. With `block`, labels are exchanged within blocks. A
#'    split and its mirror image are the same test, and the true split is none of them.
#'    Where there are at most `n_permutations` splits all are taken, otherwise as many at
#'    random.
#' 2. Tests of cells are those of [find_markers()], side against side, on the values of the
#'    chain. The splits of a method are tested from one read, or several where their tables
#'    would have more than two million rows together.
#' 3. Tests of samples are those of [test_pseudobulk()], with the design `~ split` or
#'    `~ block + split`, on sums that are read once.
#'
#' Samples that truly differ make random splits differ a little too. The cleanest
#' question is asked of samples of one condition, such as the controls alone,
#' without `condition`.
#'
#' Mixed models of single cells are not there.
#'
#' @inheritParams find_markers
#' @param sample_by Columns of the cells whose combinations make the samples, such as
#'   `"donor"`, or `c("donor", "condition")` where donors have both.
#' @param condition A column of the cells with two values, one for each sample. `NULL`:
#'   samples are split in halves.
#' @param block A column of the cells within whose values labels are exchanged, such as
#'   the donor where each has both conditions.
#' @param cell_type A column of the cells; every cell type is tested on its own.
#' @param methods Methods of [find_markers()] with p-values (`"wilcoxon"`, `"t-test"`,
#'   `"t-test_overestim_var"`, `"binomial"`, `"lr"`) and of [test_pseudobulk()].
#' @param latent For `"lr"`: covariates, as in [find_markers()].
#' @param n_permutations Splits to test, at most.
#' @param max_p_adj Adjusted p-value up to which a gene is called.
#' @param min_cells For tests of samples: samples of fewer cells are left out of a cell
#'   type.
#' @param layer For tests of samples: the layer with the counts, see [pseudobulk()].
#' @param seed A whole number from 0 on: which splits are drawn.
#'
#' @returns A data frame of class `scoom_calibration` with a row for each method, split and
#'   cell type: `method`, `permutation`, `cell_type` (only with one), `n_genes` tested, `n_called`,
#'   and `p_below_0.05`, the share of p-values below 0.05, which should be 0.05. What could
#'   not be tested has no row. `summary()` has a row for each method and cell type:
#'   `n_permutations`, `median_called`, `max_called`, `n_with_calls` (splits with any gene
#'   called), `p_below_0.05`. Attributes: `splits`, a logical matrix of samples x permutations;
#'   `n_possible`, the number of splits there are.
#' @references
#' Squair et al. (2021) Nat. Commun. 12, 5692. Zimmerman et al. (2021) Nat. Commun. 12, 738.
#' @seealso [test_pseudobulk()], [find_markers()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' controls <- x[x$obs$condition == "ctrl" & x$obs$cell_type == "T cell", ]
#' check_calibration(controls, sample_by = "donor", methods = c("wilcoxon", "t_test"))
check_calibration <- function(
  x,
  sample_by,
  condition = NULL,
  block = NULL,
  cell_type = NULL,
  methods = c("wilcoxon", "edgeR"),
  latent = NULL,
  n_permutations = 40,
  max_p_adj = 0.05,
  min_cells = 10,
  layer = NULL,
  seed = 0,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_given(x, "an object with cells")
  check_given(sample_by, "names of columns of the cells")
  check_calibration_methods(methods, latent, call)
  check_string(condition, allow_null = TRUE)
  check_string(block, allow_null = TRUE)
  check_string(cell_type, allow_null = TRUE)
  check_count(n_permutations, min = 1)
  check_number(max_p_adj, min = 0, max = 1)
  check_count(min_cells, min = 1)
  check_seed(seed)
  of_cells <- setdiff(methods, pseudobulk_methods)
  of_samples <- intersect(methods, pseudobulk_methods)
  for (method in of_samples) {
    packages <- pseudobulk_engines()[[method]]$packages
    check_suggested(packages, "BiocManager::install", call)
  }

  source <- if (length(of_cells)) {
    de_source(x, NULL, FALSE, "tested", call)
  } else {
    de_source(x, layer, FALSE, "counts", call)
  }
  data <- calibration_samples(source, sample_by, condition, block, call)
  drawn <- draw_splits(data$blocks, data$sides, n_permutations, seed, call)
  splits <- drawn$splits
  dimnames(splits) <- list(levels(data$sample), NULL)
  types <- if (!is.null(cell_type)) {
    key_factor(source$column(cell_type))
  }

  rows <- list()
  for (method in of_cells) {
    rows[[method]] <- cell_calibration(
      source,
      data,
      types,
      splits,
      method,
      max_p_adj,
      compact(list(
        latent = if (method == "lr") latent,
        threads = threads,
        BPPARAM = BPPARAM,
        progress = progress
      ))
    )
  }
  if (length(of_samples)) {
    keys <- list(sample = data$sample)
    keys$cell_type <- types
    pb <- quietly(pseudobulk(
      x,
      by = keys,
      layer = layer,
      min_cells = min_cells,
      threads = threads,
      BPPARAM = BPPARAM,
      progress = progress
    ))
    for (method in of_samples) {
      rows[[method]] <- sample_calibration(
        pb,
        data$blocks,
        splits,
        method,
        max_p_adj,
        is.null(types)
      )
    }
  }
  table <- do.call(rbind, rows[methods])
  table$method <- factor(rep(methods, vapply(rows[methods], nrow, 0L)), methods)
  columns <- c("method", "permutation", if (!is.null(types)) "cell_type")
  columns <- c(columns, "n_genes", "n_called", "p_below_0.05")
  structure(
    as.list(table)[columns],
    row.names = .set_row_names(nrow(table)),
    class = c("scoom_calibration", "data.frame"),
    splits = splits,
    n_possible = drawn$n_possible,
    max_p_adj = max_p_adj
  )
}

check_calibration_methods <- function(methods, latent, call) {
  if (!is.character(methods) || !length(methods) || anyDuplicated(methods)) {
    abort_type(methods, "names of methods, each once", "methods", call)
  }
  for (method in methods) {
    check_choice(
      method,
      c(calibration_cell_methods, pseudobulk_methods),
      "methods",
      call
    )
  }
  if (!is.null(latent) && !"lr" %in% methods) {
    scoom_abort(
      c(
        "No method takes {.arg latent}.",
        x = "It is for {.val lr}; {.arg methods} {?is/are} {.val {methods}}."
      ),
      class = "invalid_input",
      call = call,
      argument = "latent"
    )
  }
}

# Messages tell of choices that the user did not make here.
quietly <- function(code) {
  withCallingHandlers(
    code,
    scoom_message = \(m) tryInvokeRestart("muffleMessage")
  )
}

#' The samples of the cells, what blocks they are in and what side they truly are on
#'
#' @returns A list: `sample`, a factor with a value for each cell; `blocks`, a factor with a
#'   value for each sample; `sides`, a logical with a value for each sample, or `NULL`.
#' @noRd
calibration_samples <- function(source, sample_by, condition, block, call) {
  keys <- sample_keys(source, sample_by, call)
  missing <- Reduce(`|`, lapply(keys, is.na))
  sample <- droplevels(interaction(keys, sep = "_", lex.order = TRUE))
  if (all(missing)) {
    scoom_abort(
      "No cell has a value in all of {.field {names(keys)}}.",
      class = "invalid_group",
      call = call
    )
  }
  of_sample <- function(column) {
    values <- key_factor(source$column(column))
    pairs <- unique(data.frame(sample, values)[!missing, ])
    if (anyDuplicated(pairs$sample)) {
      scoom_abort(
        c(
          "{.field {column}} varies within samples.",
          i = "Add {.field {column}} to {.arg sample_by}."
        ),
        class = "varies_within_sample",
        call = call,
        columns = column
      )
    }
    values <- pairs$values[match(levels(sample), pairs$sample)]
    if (anyNA(values)) {
      scoom_abort(
        "There are samples without a value in {.field {column}}.",
        class = "invalid_group",
        call = call
      )
    }
    droplevels(values)
  }
  sides <- if (!is.null(condition)) {
    values <- of_sample(condition)
    if (nlevels(values) != 2) {
      scoom_abort(
        c(
          "{.arg condition} must have two values.",
          x = "{.field {condition}} has {nlevels(values)}.",
          i = "Select the cells of two of them first."
        ),
        class = "invalid_group",
        call = call
      )
    }
    values == levels(values)[[1]]
  }
  blocks <- if (is.null(block)) {
    factor(rep("all", nlevels(sample)))
  } else {
    of_sample(block)
  }
  list(sample = sample, blocks = blocks, sides = sides)
}

# Splits up to which all are listed before some are drawn.
max_listed_splits <- 20000

#' Splits of samples in two sides
#'
#' @param blocks The block of each sample.
#' @param sides The true side of each sample, or `NULL`.
#' @returns A list: `splits`, a logical matrix of samples x splits; `n_possible`.
#' @noRd
draw_splits <- function(blocks, sides, n, seed, call) {
  members <- split(seq_along(blocks), blocks)
  sizes <- lengths(members)
  first <- if (is.null(sides)) {
    sizes %/% 2
  } else {
    vapply(members, \(at) sum(sides[at]), 0L)
  }
  mixed <- which(first > 0 & first < sizes)
  # With sides of one size in every block, a split and its mirror are the same.
  mirrored <- all(first == sizes - first)
  n_possible <- prod(choose(sizes, first)) / (1 + mirrored) - !is.null(sides)
  if (!length(mixed) || n_possible < 1) {
    scoom_abort(
      c(
        "There is no other way to split the samples.",
        x = "There {cli::qty(length(blocks))}{?is/are} {length(blocks)} sample{?s}{if (length(members) > 1) paste0(' in ', length(members), ' blocks')}.",
        i = "{.arg sample_by} names what is a sample."
      ),
      class = "no_splits",
      call = call
    )
  }
  listed <- n_possible <= max_listed_splits
  splits <- if (listed) {
    list_splits(members, first)
  } else {
    random_splits(members, first, 2 * n + 10, seed)
  }
  if (mirrored) {
    lead <- members[[mixed[[1]]]][[1]]
    flip <- !splits[lead, ]
    splits[, flip] <- !splits[, flip]
    if (!is.null(sides) && !sides[[lead]]) {
      sides <- !sides
    }
  }
  splits <- splits[, !duplicated(t(splits)), drop = FALSE]
  if (!is.null(sides)) {
    splits <- splits[, colSums(splits != sides) > 0, drop = FALSE]
  }
  if (ncol(splits) > n) {
    order <- order(random_uniform(seed, seq_len(ncol(splits))))
    splits <- splits[, if (listed) sort(order[seq_len(n)]) else seq_len(n)]
  }
  list(splits = as.matrix(splits), n_possible = n_possible)
}

# Every way to put `first` members of each block on the first side.
list_splits <- function(members, first) {
  ways <- Map(
    \(at, k) utils::combn(length(at), k, simplify = FALSE),
    members,
    first
  )
  choice <- do.call(expand.grid, lapply(ways, seq_along))
  vapply(
    seq_len(nrow(choice)),
    \(i) {
      side <- logical(sum(lengths(members)))
      for (b in seq_along(members)) {
        side[members[[b]][ways[[b]][[choice[i, b]]]]] <- TRUE
      }
      side
    },
    logical(sum(lengths(members)))
  )
}

random_splits <- function(members, first, n, seed) {
  size <- sum(lengths(members))
  number <- matrix(random_uniform(seed, seq_len(n * size)), size)
  apply(number, 2, \(u) {
    side <- logical(size)
    for (b in seq_along(members)) {
      at <- members[[b]]
      side[at[order(u[at])[seq_len(first[[b]])]]] <- TRUE
    }
    side
  })
}

# Genes called by one test, of p-values and adjusted ones.
count_called <- function(p_value, p_adj, max_p_adj) {
  tested <- !is.na(p_value)
  data.frame(
    n_genes = sum(tested),
    n_called = sum(p_adj[tested] <= max_p_adj),
    p_below_0.05 = if (any(tested)) mean(p_value[tested] < 0.05) else NA_real_
  )
}

# Methods of find_markers() with p-values that take sets of groups.
calibration_cell_methods <- c(
  "wilcoxon",
  "t-test",
  "t-test_overestim_var",
  "binomial",
  "lr"
)

# Rows of marker tables to have at a time.
max_calibration_rows <- 2e6

# A test of cells for every split. The cells of a sample are one group, a side is a
# set of groups, so that one read serves many splits.
cell_calibration <- function(
  source,
  data,
  types,
  splits,
  method,
  max_p_adj,
  run
) {
  n <- ncol(splits)
  sets <- set_names(
    lapply(seq_len(n), \(i) rownames(splits)[splits[, i]]),
    seq_len(n)
  )
  rows <- as.double(length(source$genes)) * max(1, nlevels(types))
  calls <- deal(seq_len(n), min(n, ceiling(n * rows / max_calibration_rows)))
  # What had to be brought into memory is brought there once.
  source <- structure(source, class = "scoom_source")
  each <- lapply(calls, \(call) {
    markers <- withCallingHandlers(
      inject(find_markers(
        source,
        data$sample,
        groups = sets[call],
        within = types,
        method = method,
        !!!run
      )),
      scoom_message = \(m) tryInvokeRestart("muffleMessage"),
      scoom_warning_groups_skipped = \(w) tryInvokeRestart("muffleWarning")
    )
    keys <- list(markers$within, markers$group)
    by <- split(seq_len(nrow(markers)), compact(keys), drop = TRUE)
    counts <- lapply(by, \(at) {
      data.frame(
        permutation = as.integer(as.character(markers$group[at[[1]]])),
        cell_type = as.character(markers$within[at[1]] %||% NA),
        count_called(markers$p_value[at], markers$p_adj[at], max_p_adj)
      )
    })
    do.call(rbind, unname(counts))
  })
  table <- do.call(rbind, each)
  table[order(table$permutation), ]
}

# A test of samples for every split: the sums stay, the labels move.
sample_calibration <- function(pb, blocks, splits, method, max_p_adj, pooled) {
  at <- match(pb$samples$sample, rownames(splits))
  pb$samples$block <- blocks[at]
  pb$varying <- character()
  design <- if (nlevels(blocks) > 1) ~ block + split else ~split
  each <- lapply(seq_len(ncol(splits)), \(i) {
    pb$samples$split <- factor(ifelse(splits[at, i], "a", "b"), c("b", "a"))
    tests <- try_fetch(
      quietly(test_pseudobulk(
        pb,
        design,
        contrast = "splita",
        cell_type = if (!pooled) "cell_type",
        method = method
      )),
      scoom_error_nothing_to_test = \(cnd) NULL
    )
    by_type <- split(seq_len(NROW(tests)), droplevels(tests$cell_type))
    counts <- lapply(by_type, \(rows) {
      count_called(tests$p_value[rows], tests$p_adj[rows], max_p_adj)
    })
    label_counts(counts, i)
  })
  do.call(rbind, each)
}

# One row for each cell type, in the order of names.
label_counts <- function(counts, permutation) {
  table <- do.call(
    rbind,
    c(list(count_called(numeric(), numeric(), 0)[0, ]), counts)
  )
  table$permutation <- rep(permutation, nrow(table))
  table$cell_type <- as.character(names(counts))
  table
}

#' @export
summary.scoom_calibration <- function(object, ...) {
  keys <- intersect(c("method", "cell_type"), names(object))
  parts <- split(
    seq_len(nrow(object)),
    as.list(object)[keys],
    drop = TRUE,
    lex.order = TRUE
  )
  rows <- lapply(unname(parts), \(at) {
    called <- object$n_called[at]
    key <- as.data.frame(as.list(object)[keys])[at[[1]], , drop = FALSE]
    cbind(
      key,
      n_permutations = length(at),
      median_called = stats::median(called),
      max_called = max(called),
      n_with_calls = sum(called > 0),
      p_below_0.05 = mean(object$p_below_0.05[at])
    )
  })
  table <- do.call(rbind, rows)
  rownames(table) <- NULL
  table
}

#' @export
print.scoom_calibration <- function(x, ...) {
  splits <- attr(x, "splits")
  if (is.null(splits)) {
    return(invisible(NextMethod()))
  }
  writeLines(c(
    paste0(
      "# ",
      counted(ncol(splits), "split"),
      " of ",
      counted(nrow(splits), "sample"),
      " without a true difference, of ",
      format_count(attr(x, "n_possible")),
      " possible"
    ),
    paste0(
      "# genes called at an adjusted p of ",
      attr(x, "max_p_adj"),
      ", all of them false:"
    )
  ))
  print(format(summary(x), digits = 3), row.names = FALSE)
  invisible(x)
}
