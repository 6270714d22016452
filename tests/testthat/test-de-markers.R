test_that("pbmc3k agrees with scipy in float64", {
  x <- pbmc3k_logged()
  scipy <- reference_table("pbmc3k", "tests_scipy")
  groups <- reference_names("pbmc3k", "groups")
  genes <- reference_names("pbmc3k", "genes")
  feature <- genes[scipy$gene + 1]
  group <- groups[scipy$group + 1]
  wilcoxon <- suppressMessages(find_markers(x, "louvain"))
  got <- marker_rows(wilcoxon, feature, group)
  expect_identical(got$n_group, as.integer(scipy$n_group))
  expect_identical(got$n_reference, as.integer(scipy$n_reference))
  expect_equal(got$auc, scipy$auc, tolerance = 1e-13)
  expect_equal(got$statistic, scipy$z_continuity, tolerance = 1e-10)
  scale <- pmax(1, abs(scipy$log10_p_continuity))
  expect_lt(max(abs(got$log10_p - scipy$log10_p_continuity) / scale), 1e-8)
  expect_equal(got$mean_group, scipy$mean_group, tolerance = 1e-10)
  expect_equal(got$mean_reference, scipy$mean_reference, tolerance = 1e-10)
  expect_equal(got$pct_group, scipy$pct_group, tolerance = 1e-14)
  expect_equal(got$pct_reference, scipy$pct_reference, tolerance = 1e-14)
  change <- log2((scipy$mean_group + 0.1) / (scipy$mean_reference + 0.1))
  expect_equal(got$log2_fc, change, tolerance = 1e-9)

  plain <- suppressMessages(find_markers(x, "louvain", continuity = FALSE))
  got <- marker_rows(plain, feature, group)
  expect_equal(got$statistic, scipy$z, tolerance = 1e-10)
  scale <- pmax(1, abs(scipy$log10_p))
  expect_lt(max(abs(got$log10_p - scipy$log10_p) / scale), 1e-8)

  welch <- suppressMessages(find_markers(x, "louvain", method = "t-test"))
  got <- marker_rows(welch, feature, group)
  t <- ifelse(is.nan(scipy$t), 0, scipy$t)
  expect_equal(got$statistic, t, tolerance = 1e-8)
  known <- !is.nan(scipy$log10_p_t)
  scale <- pmax(1, abs(scipy$log10_p_t))
  expect_lt(max((abs(got$log10_p - scipy$log10_p_t) / scale)[known]), 1e-8)
  expect_true(all(is.na(welch$auc)))
})

test_that("pbmc3k agrees with wilcox.test() and t.test() on its own matrix", {
  x <- pbmc3k_logged()
  genes <- withr::with_seed(1, sample(reference_names("pbmc3k", "genes"), 40))
  genes <- union(c("LYZ", "NKG7", "MS4A1"), genes)
  label <- x$obs$louvain
  cells <- !is.na(label)
  values <- as.matrix(x$X[cells, genes])
  in_group <- label[cells] == "NK cells"
  wilcoxon <- suppressMessages(
    find_markers(x, "louvain", groups = "NK cells", features = genes)
  )
  welch <- suppressMessages(
    find_markers(x, "louvain", "NK cells", features = genes, method = "t-test")
  )
  expect_identical(nrow(wilcoxon), length(genes))
  for (gene in genes) {
    a <- values[in_group, gene]
    b <- values[!in_group, gene]
    row <- wilcoxon[wilcoxon$feature == gene, ]
    p <- stats::wilcox.test(a, b, exact = FALSE)$p.value
    expect_equal(row$p_value, p, tolerance = 1e-9)
    expect_equal(row$statistic, wilcoxon_oracle(a, b)$z, tolerance = 1e-10)
    row <- welch[welch$feature == gene, ]
    t <- stats::t.test(a, b)
    expect_equal(row$statistic, unname(t$statistic), tolerance = 1e-8)
    expect_equal(row$p_value, t$p.value, tolerance = 1e-7)
  }
  expect_equal(wilcoxon$p_adj, stats::p.adjust(wilcoxon$p_value, "BH"))
})

test_that("compat = \"scanpy\" gives scanpy's numbers", {
  x <- pbmc3k_logged()
  x <- x[!is.na(x$obs$louvain), ]
  groups <- reference_names("pbmc3k", "groups")
  genes <- reference_names("pbmc3k", "genes")
  check <- function(set, ...) {
    markers <- find_markers(x, "louvain", compat = "scanpy", ...)
    want <- reference_table("pbmc3k", set)
    got <- marker_rows(markers, genes[want$gene + 1], groups[want$group + 1])
    # scanpy keeps scores and fold changes as float32, and its own matrix is
    # multiplied in another order.
    expect_equal(got$statistic, want$score, tolerance = 1e-5)
    expect_lt(max(abs(got$statistic - want$score)), 1e-3)
    expect_equal(got$log2_fc, want$log2_fc, tolerance = 1e-5)
    log_p <- log10(want$p_value)
    sure <- want$p_value > 1e-250
    expect_equal(got$log10_p[sure], log_p[sure], tolerance = 1e-5)
    expect_setequal(markers$group, groups)
    all_scores <- paste0(set, "_scores")
    if (!all_scores %in% names(reference_index("pbmc3k")$tables)) {
      return()
    }
    scores <- reference_table("pbmc3k", all_scores)
    for (group in groups) {
      mine <- markers[markers$group == group, ]
      expect_false(is.unsorted(-mine$statistic))
      all <- scores[mine$feature, group]
      expect_equal(mine$statistic, all, tolerance = 1e-4)
    }
  }
  check("scanpy_t_test", method = "t-test")
  check("scanpy_t_test_overestim_var", method = "t-test_overestim_var")
  check("scanpy_wilcoxon", method = "wilcoxon")
  check("scanpy_wilcoxon_tie_correct", method = "wilcoxon", tie_correct = TRUE)
})

test_that("the classics of pbmc3k are among the first ten", {
  x <- pbmc3k_logged()
  expect_message(
    markers <- find_markers(x, "louvain"),
    "62 cells",
    class = "scoom_message_cells_left_out"
  )
  top <- top_markers(markers, 10)
  first <- split(top$feature, top$group)
  expect_true("MS4A1" %in% first[["B cells"]])
  expect_true("NKG7" %in% first[["NK cells"]])
  expect_true("LYZ" %in% first[["CD14+ Monocytes"]])
  expect_true("PPBP" %in% first[["Megakaryocytes"]])
  by_group <- split(markers$auc, markers$group)
  expect_false(any(vapply(by_group, \(auc) is.unsorted(-auc), NA)))
  expect_identical(levels(markers$group), levels(x$obs$louvain))
  expect_false(is.unsorted(as.integer(markers$group)))
})

test_that("one group against another uses the cells of the two", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  markers <- suppressMessages(
    find_markers(values, data$groups, groups = c("a", "b"), reference = "c")
  )
  expect_identical(unique(markers$reference), "c")
  expect_identical(unique(as.character(markers$group)), c("a", "b"))
  for (group in c("a", "b")) {
    for (gene in paste0("g", c(1, 4, 9))) {
      a <- values[gene, data$groups == group]
      b <- values[gene, data$groups == "c"]
      row <- marker_rows(markers, gene, group)
      oracle <- wilcoxon_oracle(a, b)
      expect_equal(row$statistic, oracle$z, tolerance = 1e-12)
      expect_equal(row$auc, oracle$auc, tolerance = 1e-12)
      expect_equal(row$mean_group, mean(expm1(a)), tolerance = 1e-12)
      expect_identical(row$pct_reference, mean(b > 0))
    }
  }
})

test_that("dense, sparse, Seurat and SingleCellExperiment give the same", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  find <- \(x, ...) as.list(suppressMessages(find_markers(x, ...)))
  want <- find(values, data$groups)
  sparse <- methods::as(values, "CsparseMatrix")
  expect_identical(find(sparse, data$groups), want)
  if (requireNamespace("SingleCellExperiment", quietly = TRUE)) {
    sce <- SingleCellExperiment::SingleCellExperiment(
      list(counts = data$counts, logcounts = sparse / log(2)),
      colData = data.frame(type = data$groups)
    )
    got <- find(sce, "type")
    expect_equal(got$log2_fc, want$log2_fc)
    expect_equal(got$auc, want$auc)
  }
  if (requireNamespace("SeuratObject", quietly = TRUE)) {
    object <- suppressWarnings(SeuratObject::CreateSeuratObject(
      methods::as(data$counts, "CsparseMatrix")
    ))
    object <- SeuratObject::SetAssayData(object, "data", new.data = sparse)
    SeuratObject::Idents(object) <- data$groups
    expect_identical(find(object), want)
  }
})

test_that("threads, memory, workers and repeated rows do not change a bit", {
  x <- log_chain(open_h5ad(example_h5ad()))
  x <- x[withr::with_seed(1, sample(n_obs(x), 500, replace = TRUE)), ]
  for (method in c("wilcoxon", "t-test")) {
    find <- \(...) as.list(find_markers(x, "cell_type", method = method, ...))
    want <- find(threads = 1)
    expect_identical(find(threads = 4), want)
    scratch <- withr::local_tempdir()
    withr::with_options(
      list(scoom.memory = "1MB", scoom.scratch = scratch),
      expect_identical(find(threads = 2), want)
    )
    expect_identical(
      list.files(scratch, all.files = TRUE, no.. = TRUE),
      character()
    )
    if (requireNamespace("BiocParallel", quietly = TRUE)) {
      backend <- BiocParallel::SerialParam()
      expect_identical(find(BPPARAM = backend), want)
    }
  }
})

test_that("absent and constant genes have no effect", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  for (method in c("wilcoxon", "t-test")) {
    markers <- suppressMessages(find_markers(
      values,
      data$groups,
      method = method
    ))
    flat <- markers[markers$feature %in% c("g2", "g3"), ]
    expect_identical(unique(flat$statistic), 0)
    expect_identical(unique(flat$p_value), 1)
    expect_identical(unique(flat$log10_p), 0)
    expect_identical(unique(flat$log2_fc), 0)
    expect_identical(
      unique(flat$auc),
      if (method == "wilcoxon") 0.5 else NA_real_
    )
  }
})

test_that("scaling is left out of tests, and raw is mentioned", {
  x <- log_chain(open_h5ad(example_h5ad()))
  want <- find_markers(x, "cell_type")
  scaled <- add_op(x, list(op = "scale", zero_center = TRUE, max_value = 10))
  expect_message(
    got <- find_markers(scaled, "cell_type"),
    class = "scoom_message_before_scaling"
  )
  expect_identical(got, want)
})

test_that("counts are tested with a warning", {
  x <- open_h5ad(example_h5ad())
  expect_warning(
    find_markers(x, "cell_type"),
    class = "scoom_warning_not_logged"
  )
  data <- small_matrix()
  expect_warning(
    find_markers(data$counts, data$groups),
    class = "scoom_warning_not_logged"
  )
  expect_message(
    find_markers(log1p(data$counts), data$groups),
    class = "scoom_message_assumed_log"
  )
})

test_that("groups too small are skipped and stay in the rest", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  groups <- as.character(data$groups)
  groups[1] <- "lonely"
  find <- \(groups, ...) suppressMessages(find_markers(values, groups, ...))
  expect_warning(
    markers <- find(groups),
    class = "scoom_warning_groups_skipped"
  )
  expect_identical(attr(markers, "skipped")$group, "lonely")
  expect_false("lonely" %in% markers$group)
  expect_identical(unique(markers$n_group + markers$n_reference), 60L)
  expect_error(
    find(groups, reference = "lonely"),
    class = "scoom_error_group_too_small"
  )
})

test_that("impossible requests are errors that say so", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  find <- \(...) suppressMessages(find_markers(values, ...))
  expect_error(find(rep("a", 60)), class = "scoom_error_one_group")
  expect_error(
    find(data$groups, groups = "d"),
    class = "scoom_error_group_missing"
  )
  expect_error(
    find(data$groups, reference = "bb"),
    "b",
    class = "scoom_error_group_missing"
  )
  expect_error(find(data$groups[-1]), class = "scoom_error_invalid_input")
  expect_error(find(), class = "scoom_error_invalid_input")
  expect_error(
    find_markers(),
    "`x` is missing",
    class = "scoom_error_invalid_input"
  )
  for (arg in c("within", "block", "sample_by")) {
    given <- rlang::set_names(list(1:3), arg)
    expect_error(
      rlang::inject(find(data$groups, !!!given)),
      arg,
      class = "scoom_error_invalid_input"
    )
  }
  expect_error(
    find(data$groups, features = "nope"),
    class = "scoom_error_gene_missing"
  )
  expect_error(
    find(data$groups, method = "ttest"),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    find(data$groups, p_adjust = "bh"),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    find_markers("x.h5ad", data$groups),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    find(rep(NA_character_, 60)),
    class = "scoom_error_invalid_group"
  )
  values[5, 7] <- NaN
  expect_error(
    suppressWarnings(find_markers(values, data$groups)),
    "cell 7 and gene 5",
    class = "scoom_error_invalid_values"
  )
  x <- open_h5ad(example_h5ad())
  expect_error(
    find_markers(x),
    "cell_type",
    class = "scoom_error_invalid_input"
  )
  expect_error(
    find_markers(x, "cell_typ"),
    "cell_type",
    class = "scoom_error_column_missing"
  )
  expect_error(
    find_markers(x, "cell_type", layer = "nope"),
    class = "scoom_error_layer_missing"
  )
})

test_that("cells without a group are kept in the rest as scanpy does", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  groups <- data$groups
  groups[1:6] <- NA
  find <- \(...) suppressMessages(find_markers(values, groups, ...))
  expect_identical(unique(find()$n_group + find()$n_reference), 54L)
  expect_message(
    kept <- find_markers(values, groups, compat = "scanpy"),
    class = "scoom_message_cells_kept"
  )
  expect_identical(unique(kept$n_group + kept$n_reference), 60L)
})
