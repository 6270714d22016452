# What find_markers() compares with what, against base R stratum by stratum.

design_data <- function() {
  data <- small_matrix(n_genes = 12, n_cells = 240)
  withr::with_seed(5, {
    data$block <- factor(sample(c("p", "q", "r"), 240, replace = TRUE))
    data$type <- factor(sample(c("t1", "t2"), 240, replace = TRUE))
    data$sample <- factor(sample(paste0("s", 1:6), 240, replace = TRUE))
  })
  data$values <- log1p(data$counts * 1.5)
  data$find <- \(...) {
    suppressMessages(find_markers(data$values, data$groups, ...))
  }
  data
}

# Cells of one side by block.
by_block <- function(data, gene, cells) {
  split(data$values[gene, cells], data$block[cells])
}

expect_p <- function(row, p, tolerance = 1e-9) {
  expect_equal(row$p_value, p, tolerance = tolerance)
}

test_that("alternatives are those of wilcox.test() and t.test()", {
  data <- design_data()
  for (alternative in c("two.sided", "greater", "less")) {
    wilcoxon <- data$find(alternative = alternative)
    welch <- data$find(method = "t-test", alternative = alternative)
    for (gene in c("g1", "g4", "g7")) {
      a <- data$values[gene, data$groups == "b"]
      b <- data$values[gene, data$groups != "b"]
      want <- stats::wilcox.test(
        a,
        b,
        exact = FALSE,
        alternative = alternative
      )
      expect_p(marker_rows(wilcoxon, gene, "b"), want$p.value)
      want <- stats::t.test(a, b, alternative = alternative)
      expect_p(marker_rows(welch, gene, "b"), want$p.value)
    }
  }
})

test_that("sets, exclusions and all pairs hold the cells they should", {
  data <- design_data()
  check <- function(markers, group, label, reference) {
    expect_true(all(markers$group == label))
    for (gene in c("g1", "g4", "g9")) {
      a <- data$values[gene, group]
      b <- data$values[gene, reference]
      row <- markers[markers$feature == gene, ]
      expect_equal(row$statistic, wilcoxon_oracle(a, b)$z, tolerance = 1e-10)
      expect_identical(row$n_group, length(a))
      expect_identical(row$n_reference, length(b))
      expect_equal(row$pct_group, mean(a > 0))
    }
  }
  g <- data$groups
  check(data$find("a", exclude = "c"), g == "a", "a", g == "b")
  set <- data$find(list(ab = c("a", "b")))
  check(set, g != "c", "ab", g == "c")
  expect_identical(levels(set$group), "ab")
  pooled <- data$find("a", reference = c("b", "c"))
  check(pooled, g == "a", "a", g != "a")
  expect_identical(unique(pooled$reference), "b + c")
  pairs <- data$find(reference = "each")
  expect_identical(
    unique(paste(pairs$group, pairs$reference)),
    c("a b", "a c", "b a", "b c", "c a", "c b")
  )
  for (other in c("b", "c")) {
    here <- pairs[pairs$group == "a" & pairs$reference == other, ]
    check(here, g == "a", "a", g == other)
    alone <- data$find("a", reference = other)
    expect_identical(here$p_adj, alone$p_adj)
    expect_identical(here$feature, alone$feature)
  }
})

test_that("within = tests each level as if it were alone", {
  data <- design_data()
  for (method in c("wilcoxon", "t-test")) {
    all <- data$find(within = data$type, method = method)
    expect_identical(names(all), c(marker_columns, "within"))
    expect_identical(levels(all$within), levels(data$type))
    for (type in levels(data$type)) {
      cells <- data$type == type
      alone <- suppressMessages(find_markers(
        data$values[, cells],
        data$groups[cells],
        method = method
      ))
      here <- all[all$within == type, ]
      expect_equal(
        as.list(here)[marker_columns],
        as.list(alone)[marker_columns],
        tolerance = 1e-12
      )
    }
  }
})

test_that("block = is van Elteren's test for ranks", {
  data <- design_data()
  for (continuity in c(TRUE, FALSE)) {
    for (alternative in c("two.sided", "greater", "less")) {
      markers <- data$find(
        block = data$block,
        continuity = continuity,
        alternative = alternative
      )
      expect_identical(unique(markers$n_blocks), 3L)
      for (gene in c("g1", "g4", "g9")) {
        want <- van_elteren(
          by_block(data, gene, data$groups == "b"),
          by_block(data, gene, data$groups != "b"),
          continuity,
          alternative
        )
        row <- marker_rows(markers, gene, "b")
        expect_equal(row$statistic, want$z, tolerance = 1e-10)
        expect_equal(row$log10_p, want$log10_p, tolerance = 1e-9)
        expect_equal(row$auc, want$auc, tolerance = 1e-12)
      }
    }
  }
  # One block is the plain test.
  one <- data$find(block = rep("only", 240))
  expect_equal(
    as.list(one)[marker_columns],
    as.list(data$find())[marker_columns],
    tolerance = 1e-12
  )
})

test_that("block = is Stouffer's method for t-tests", {
  data <- design_data()
  markers <- data$find(block = data$block, method = "t-test")
  for (gene in c("g1", "g4", "g9")) {
    a <- by_block(data, gene, data$groups == "b")
    b <- by_block(data, gene, data$groups != "b")
    want <- stouffer_t(a, b)
    row <- marker_rows(markers, gene, "b")
    expect_equal(row$statistic, want$z, tolerance = 1e-8)
    expect_p(row, 2 * stats::pnorm(-abs(want$z)), 1e-7)
    linear <- \(values) vapply(values, \(v) mean(expm1(v)), 0)
    change <- log2((linear(a) + 0.1) / (linear(b) + 0.1))
    expect_equal(row$log2_fc, sum(want$weights * change), tolerance = 1e-9)
    expect_equal(
      row$mean_group,
      sum(want$weights * linear(a)),
      tolerance = 1e-9
    )
  }
})

test_that("blocks that lack a side drop out of their comparison alone", {
  data <- design_data()
  data$block[data$groups == "a" & data$block == "r"] <- "p"
  expect_message(
    markers <- find_markers(data$values, data$groups, block = data$block),
    "r",
    class = "scoom_message_blocks_dropped"
  )
  expect_identical(
    unique(markers$n_blocks[markers$group == "a"]),
    2L
  )
  expect_identical(
    unique(markers$n_blocks[markers$group == "b"]),
    3L
  )
  dropped <- attr(markers, "blocks_dropped")
  expect_identical(dropped$block, "r")
  expect_identical(dropped$group, "a")
  kept <- data$block != "r"
  expect_identical(
    unique(markers$n_group[markers$group == "a"]),
    sum(data$groups == "a" & kept)
  )
  for (gene in c("g1", "g9")) {
    a <- by_block(data, gene, data$groups == "a" & kept)[c("p", "q")]
    b <- by_block(data, gene, data$groups != "a" & kept)[c("p", "q")]
    row <- marker_rows(markers, gene, "a")
    expect_equal(row$statistic, van_elteren(a, b)$z, tolerance = 1e-10)
  }
})

test_that("donors nested in conditions are an error that points onwards", {
  x <- log_chain(open_example())
  expect_error(
    suppressMessages(find_markers(x, "condition", block = "donor")),
    "test_pseudobulk",
    class = "scoom_error_nested_blocks"
  )
})

test_that("p-values are adjusted over a comparison or over all", {
  data <- design_data()
  each <- data$find()
  for (rows in split(seq_len(nrow(each)), each$group)) {
    want <- stats::p.adjust(each$p_value[rows], "BH")
    expect_equal(each$p_adj[rows], want)
  }
  for (method in p_adjust_methods) {
    all <- data$find(adjust_over = "all", p_adjust = method)
    expect_equal(all$p_adj, stats::p.adjust(all$p_value, method))
  }
})

test_that("thresholds and n_genes come after the adjustment", {
  data <- design_data()
  all <- data$find()
  same_rows <- function(got, keep) {
    want <- as.list(all[keep, ])[marker_columns]
    expect_identical(as.list(got)[marker_columns], want)
  }
  same_rows(
    data$find(min_pct = 0.6),
    pmax(all$pct_group, all$pct_reference) >= 0.6
  )
  same_rows(data$find(min_log2_fc = 0.3), abs(all$log2_fc) >= 0.3)
  same_rows(data$find(only_up = TRUE), all$log2_fc > 0)
  same_rows(data$find(max_p_adj = 0.2), all$p_adj <= 0.2)
  first <- stats::ave(seq_len(nrow(all)), all$group, FUN = seq_along) <= 4
  same_rows(data$find(n_genes = 4), first)
  same_rows(data$find(n_genes = Inf), TRUE)
  up <- all[all$log2_fc > 0, ]
  place <- stats::ave(seq_len(nrow(up)), up$group, FUN = seq_along)
  got <- data$find(only_up = TRUE, n_genes = 2)
  expect_identical(got$feature, up$feature[place <= 2])
})

test_that("rank_by orders each comparison", {
  data <- design_data()
  sorted <- \(values) !is.unsorted(values)
  for (group in levels(data$groups)) {
    by <- \(column) {
      markers <- data$find(group, rank_by = column)
      markers[[column]]
    }
    expect_true(sorted(-by("log2_fc")))
    expect_true(sorted(by("p_value")))
    expect_true(sorted(-by("statistic")))
    expect_true(sorted(-by("auc")))
  }
})

test_that("sample_by adds what each sample says", {
  data <- design_data()
  linear <- expm1(data$values)
  markers <- data$find(sample_by = data$sample)
  expect_identical(
    names(markers),
    c(
      marker_columns,
      "n_samples_expressing",
      "top_sample",
      "top_sample_signal",
      "top_sample_cells",
      "sign_agreement",
      "worst_log2_fc"
    )
  )
  plain <- data$find()
  expect_equal(
    as.list(markers)[marker_columns],
    as.list(plain)[marker_columns],
    tolerance = 1e-12
  )
  in_group <- data$groups == "b"
  for (gene in c("g1", "g4", "g9")) {
    row <- marker_rows(markers, gene, "b")
    signal <- tapply(linear[gene, in_group], data$sample[in_group], sum)
    share <- signal / sum(signal)
    top <- names(which.max(share))
    expect_identical(row$n_samples_expressing, sum(signal > 0))
    expect_identical(row$top_sample, top)
    expect_equal(row$top_sample_signal, share[[top]])
    expect_equal(
      row$top_sample_cells,
      mean(data$sample[in_group] == top)
    )
    own <- tapply(linear[gene, in_group], data$sample[in_group], mean)
    rest <- mean(linear[gene, !in_group])
    side <- sign(mean(linear[gene, in_group]) - rest)
    expect_equal(row$sign_agreement, mean(sign(own - rest) == side))
    left_out <- vapply(
      levels(data$sample),
      \(s) {
        keep <- data$sample != s
        a <- mean(linear[gene, in_group & keep])
        b <- mean(linear[gene, !in_group & keep])
        log2((a + 0.1) / (b + 0.1))
      },
      0
    )
    worst <- left_out[which.min(left_out * sign(row$log2_fc))]
    expect_equal(row$worst_log2_fc, unname(worst), tolerance = 1e-9)
  }
})

test_that("a condition tested by cells is pointed out once", {
  x <- log_chain(open_example())
  withr::local_options(rlib_message_verbosity = "verbose")
  expect_message(
    find_markers(x, "condition"),
    "test_pseudobulk",
    class = "scoom_message_condition_by_cells"
  )
  silent <- \(...) expect_null(said_of_condition(x, ...))
  silent("cell_type")
  silent("condition", sample_by = "donor")
  silent("donor")
  rlang::reset_message_verbosity("scoom_condition_by_cells")
  withr::local_options(rlib_message_verbosity = "default")
  expect_message(
    find_markers(x, "condition"),
    class = "scoom_message_condition_by_cells"
  )
  silent("condition")
})

test_that("conditions that samples have cells of are known by name or by within", {
  x <- log_chain(open_example())
  withr::local_options(rlib_message_verbosity = "verbose")
  # Every donor has cells of both.
  half <- rep_len(c("before", "after"), n_obs(x))
  x$obs$Treatment <- half
  x$obs$half <- half
  x$obs$time_point <- half
  said <- said_of_condition(x, "Treatment")
  expect_match(said, "cells of several values of Treatment")
  expect_match(said, "~ donor + Treatment", fixed = TRUE)
  expect_match(said, 'sample_by = "donor"', fixed = TRUE)
  speaks <- \(...) expect_match(said_of_condition(x, ...), "test_pseudobulk")
  silent <- \(...) expect_null(said_of_condition(x, ...))
  speaks("time_point")
  speaks("half", within = "cell_type")
  speaks(half, within = "cell_type", method = "binomial")
  silent("half")
  silent(half)
  silent("Treatment", sample_by = "donor")
  silent("Treatment", block = "donor")
  silent("Treatment", method = "auc")
  # Types of cells in every condition or donor.
  silent("cell_type", within = "half")
  x$obs$other <- rep_len(c("u", "u", "v", "v"), n_obs(x))
  speaks("other", within = "half")
  silent("other", within = "Treatment")
  silent("other", within = "donor")
  # One donor says nothing of others.
  one <- x[x$obs$donor == x$obs$donor[1], ]
  expect_null(said_of_condition(one, "Treatment"))
  # Draws are a `within` of their own.
  expect_no_message(
    suppressMessages(
      bootstrap_markers(x, "cell_type", "cell_type", n = 20, n_replicates = 2),
      classes = "scoom_message_cells_drawn"
    ),
    class = "scoom_message_condition_by_cells"
  )
})

test_that("names tell conditions, samples and types of cells apart", {
  is <- \(names, pattern) vapply(names, is_called_like, NA, pattern)
  conditions <- c(
    "condition",
    "Conditions",
    "treatment_group",
    "stim",
    "Disease.Status",
    "disease_state",
    "timepoint",
    "time point",
    "dose",
    "drug_name",
    "diagnosis"
  )
  types <- c(
    "group",
    "label",
    "leiden",
    "seurat_clusters",
    "cell_type",
    "CellType",
    "seurat_annotations",
    "conditional",
    "stimulated_cluster"
  )
  samples <- c("sample", "donor_id", "orig.ident", "Patient")
  expect_true(all(is(conditions, condition_pattern)))
  expect_false(any(is(c(types, samples), condition_pattern)))
  expect_false(any(is(c(conditions, samples), type_pattern)))
  expect_true(all(is(samples, sample_pattern)))
  expect_false(is_called_like(NULL, sample_pattern))
  expect_false(is_called_like(samples, sample_pattern))
  expect_true(is_condition("half", "cell_type", NULL))
  expect_false(is_condition(NULL, "cell_type", NULL))
})

test_that("samples are nested in groups or crossed with them", {
  group <- factor(c("a", "a", "b", "b", NA))
  expect_identical(spread_of(c("x", "y", "z", "z", "x"), group), "nested")
  expect_identical(spread_of(c("x", "y", "x", "z", "z"), group), "crossed")
  expect_identical(spread_of(c("x", "x", "x", "x", "y"), group), "none")
  expect_identical(spread_of(c("x", "y", NA, NA, "z"), group), "none")
  expect_identical(spread_of(list(1, 2, 3, 4, 5), group), "none")
  expect_identical(spread_of(character(), factor(character())), "none")
})

test_that("large tables keep the first genes of each comparison", {
  expect_null(table_limit(NULL, 100, 20000))
  expect_null(table_limit(Inf, 1e6, 20000))
  expect_identical(table_limit(7, 1e6, 20000), 7)
  expect_message(
    limit <- table_limit(NULL, 2000, 20000),
    class = "scoom_message_table_cut"
  )
  expect_identical(limit, 100)
})

test_that("options that a method has no use for are errors", {
  data <- design_data()
  bad <- \(...) {
    expect_error(data$find(...), class = "scoom_error_invalid_input")
  }
  bad(method = "auc", alternative = "less")
  bad(method = "auc", max_p_adj = 0.1)
  bad(method = "t-test", continuity = FALSE)
  bad(method = "t-test", tie_correct = TRUE)
  bad(method = "t-test", rank_by = "auc")
  bad(alternative = "two-sided")
  bad(adjust_over = "gene")
  bad(rank_by = "p")
  bad(n_genes = 0)
  bad(min_pct = 25)
  bad(only_up = NA)
  bad(max_p_adj = -1)
  bad(compat = "seurat5")
  bad(within = 1:3)
  bad(block = letters)
  bad(exclude = NA)
})

test_that("designs are the same on threads and workers", {
  x <- log_chain(open_example())
  for (method in c("wilcoxon", "t-test")) {
    find <- \(...) {
      suppressMessages(as.list(find_markers(
        x,
        "condition",
        within = "cell_type",
        sample_by = "donor",
        method = method,
        ...
      )))
    }
    want <- find(threads = 1)
    expect_identical(find(threads = 4), want)
    if (requireNamespace("BiocParallel", quietly = TRUE)) {
      expect_identical(find(BPPARAM = BiocParallel::SerialParam()), want)
    }
  }
})

test_that("binomial compares how many cells express a gene", {
  data <- design_data()
  for (alternative in c("two.sided", "greater", "less")) {
    markers <- data$find(method = "binomial", alternative = alternative)
    for (gene in c("g1", "g4", "g9")) {
      a <- data$values[gene, data$groups == "b"] > 0
      b <- data$values[gene, data$groups != "b"] > 0
      share <- length(a) / length(data$groups)
      n <- sum(a) + sum(b)
      less <- stats::pbinom(sum(a), n, share)
      greater <- stats::pbinom(sum(a) - 1, n, share, lower.tail = FALSE)
      want <- switch(
        alternative,
        two.sided = min(1, 2 * less, 2 * greater),
        less = less,
        greater = greater
      )
      expect_p(marker_rows(markers, gene, "b"), want)
    }
    expect_true(all(is.na(markers$auc)))
  }
})

test_that("binomial gives what scran::pairwiseBinom() gives", {
  x <- log_chain(kang_object())
  tested <- seq(1, n_vars(x), by = 10)
  names <- var_names(x)[tested]
  find <- function(x, ...) {
    suppressMessages(find_markers(
      x,
      ...,
      method = "binomial",
      features = tested
    ))
  }
  # scran's logarithms are natural ones; tails of both come from other series.
  check <- function(markers, log2_fc, log_p, at = TRUE) {
    markers <- markers[match(names, markers$feature), ]
    expect_equal(markers$log2_fc, log2_fc, tolerance = 1e-12)
    gap <- abs(markers$log10_p * log(10) - log_p) / pmax(1, abs(log_p))
    expect_lt(max(gap[at]), 1e-10)
  }
  mono <- x[which(x$obs$seurat_annotations == "CD14 Mono"), ]
  pair <- \(...) find(mono, "condition", "stim", "ctrl", ...)
  directions <- c(any = "two.sided", up = "greater", down = "less")
  plain <- reference_table("scran", "plain")
  blocks <- reference_table("scran", "blocks")
  counts <- as.matrix(mono$X[, tested])
  in_blocks <- rowsum(+(counts > 0), as.character(mono$obs$donor)) > 0
  in_all <- colSums(!in_blocks) == 0
  expect_gt(sum(in_all), 100)
  for (direction in names(directions)) {
    alternative <- directions[[direction]]
    markers <- pair(alternative = alternative)
    check(markers, plain$log2_fc, plain[[direction]])
    markers <- pair(alternative = alternative, block = "donor")
    check(markers, blocks$log2_fc, blocks[[direction]], in_all)
    # Blocks in which no cell has the gene are left out, which scran does not do.
    found <- blocks[[paste0(direction, "_found")]]
    check(markers, blocks$log2_fc, found)
  }
  want <- reference_table("scran", "types")
  types <- reference_index("scran")$types
  markers <- find(
    x,
    "seurat_annotations",
    groups = types,
    reference = as.list(types),
    block = "condition"
  )
  for (pair in utils::combn(types, 2, simplify = FALSE)) {
    column <- \(name) want[[paste(c(name, pair), collapse = "|")]]
    rows <- markers$group == pair[1] & markers$reference == pair[2]
    check(markers[rows, ], column("log2_fc"), column("any_found"))
  }
})
