overlap_markers <- function(method = "wilcoxon") {
  x <- log_chain(open_h5ad(example_h5ad()))
  find_markers(x, "cell_type", method = method)
}

test_that("marker_overlap() counts, divides and normalises", {
  markers <- overlap_markers()
  groups <- levels(markers$group)
  first <- lapply(split(markers$feature, markers$group), head, 20)
  known <- list(
    own = first[[1]][1:5],
    mixed = c(first[[1]][1], first[[2]][1:3], "not there", "not there"),
    none = "nobody"
  )
  count <- marker_overlap(markers, known, n = 20)
  expect_identical(dim(count), c(3L, length(groups)))
  expect_identical(names(count), groups)
  expect_identical(rownames(count), names(known))
  want <- t(vapply(
    known,
    \(k) vapply(first, \(f) sum(unique(k) %in% f), 0),
    numeric(length(groups))
  ))
  expect_equal(as.matrix(count), want, ignore_attr = TRUE)
  expect_identical(count[["B cell"]][[1]] >= 0, TRUE)
  coefficient <- marker_overlap(markers, known, "coefficient", n = 20)
  expect_equal(as.matrix(coefficient), want / c(5, 5, 1), ignore_attr = TRUE)
  jaccard <- marker_overlap(markers, known, "jaccard", n = 20)
  union <- c(5, 5, 1) + 20 - want
  expect_equal(as.matrix(jaccard), want / union, ignore_attr = TRUE)
  share <- marker_overlap(markers, known, normalize = "reference", n = 20)
  expect_equal(as.matrix(share), want / c(5, 5, 1), ignore_attr = TRUE)
  share <- marker_overlap(markers, known, normalize = "markers", n = 20)
  expect_equal(as.matrix(share), want / 20, ignore_attr = TRUE)
  strict <- marker_overlap(markers, known, max_p_adj = 0)
  expect_true(all(strict <= marker_overlap(markers, known)))
})

test_that("marker_overlap() refuses what it can't use", {
  markers <- overlap_markers()
  bad <- \(...) {
    expect_error(
      marker_overlap(...),
      class = "scoom_error_invalid_input"
    )
  }
  bad(markers, list("a", "b"))
  bad(markers, c("a", "b"))
  bad(markers, list(a = 1))
  bad(markers, list(a = "b"), method = "dice")
  bad(markers, list(a = "b"), "jaccard", normalize = "reference")
  bad(mtcars, list(a = "b"))
})

test_that("tables without p-values are not taken for tables without genes", {
  x <- log_chain(open_example())
  wilcoxon <- find_markers(x, "cell_type")
  auc <- find_markers(x, "cell_type", method = "auc")
  lists <- list(own = auc$feature[1:5])
  error <- expect_error(
    marker_overlap(auc, lists, max_p_adj = 0.05),
    "p-values",
    class = "scoom_error_invalid_input"
  )
  expect_identical(error$argument, "max_p_adj")
  # Nor those without a statistic.
  expect_identical(marker_overlap(auc, lists)[[1]], 5)
  higher <- filter_markers(auc)
  expect_identical(higher$feature, auc$feature[auc$auc > 0.5 & auc$log2_fc >= 0])
  expect_error(
    compare_methods(w = wilcoxon, areas = auc),
    "areas has none",
    class = "scoom_error_invalid_input"
  )
})

test_that("compare_methods() says which genes are significant where", {
  wilcoxon <- overlap_markers()
  t_test <- overlap_markers("t-test")
  both <- compare_methods(wilcoxon = wilcoxon, t_test = t_test)
  expect_s3_class(both, c("scoom_overlap", "data.frame"), exact = TRUE)
  expect_identical(
    names(both),
    c("group", "feature", "wilcoxon", "t_test", "n_methods")
  )
  key <- \(t) paste(t$group, t$feature)
  for (name in c("wilcoxon", "t_test")) {
    table <- get(name)
    want <- key(table)[table$p_adj <= 0.05]
    expect_setequal(key(both)[both[[name]]], want)
  }
  expect_true(all(both$n_methods >= 1))
  expect_identical(both$n_methods, both$wilcoxon + both$t_test)
  expect_identical(
    as.list(compare_methods(list(wilcoxon = wilcoxon, t_test = t_test))),
    as.list(both)
  )
  up <- compare_methods(
    a = wilcoxon,
    b = t_test,
    direction = "up",
    min_log2_fc = 1,
    n = 5
  )
  kept <- wilcoxon[wilcoxon$p_adj <= 0.05 & wilcoxon$log2_fc >= 1, ]
  want <- unlist(lapply(split(key(kept), kept$group), head, 5))
  expect_setequal(key(up)[up$a], want)
  lines <- capture.output(print(both))
  expect_match(lines, "wilcoxon & t_test", all = FALSE)
  expect_match(lines, "Jaccard", all = FALSE)
})

test_that("compare_methods() takes tables of other tests", {
  a <- data.frame(feature = c("x", "y"), p_adj = c(0.01, 0.5))
  b <- data.frame(
    feature = c("x", "y", "z"),
    p_adj = c(0.01, 0.01, NA),
    cell_type = "T"
  )
  both <- compare_methods(a = a, b = b)
  expect_identical(both$feature, c("x", "y"))
  expect_identical(both$a, c(TRUE, FALSE))
  expect_identical(both$n_methods, c(2L, 1L))
  # Conditions within cell types, by cells and by samples.
  b$cell_type <- c("B", "T", "T")
  a$within <- c("B", "T")
  both <- compare_methods(a = a, b = b)
  expect_identical(names(both)[1:2], c("cell_type", "feature"))
  expect_identical(both$n_methods, c(2L, 1L))
  a$within <- NULL
  none <- compare_methods(a = a, b = b, max_p_adj = 0)
  expect_identical(nrow(none), 0L)
  expect_output(print(none), "0 genes")
  bad <- \(...) {
    expect_error(
      compare_methods(...),
      class = "scoom_error_invalid_input"
    )
  }
  bad(a, b)
  bad(a = a)
  bad(a = a, b = mtcars)
  bad(a = a, a = b)
})
