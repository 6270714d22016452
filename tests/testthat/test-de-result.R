markers_of_example <- function() {
  x <- log_chain(open_h5ad(example_h5ad()))
  find_markers(x, "cell_type")
}

test_that("tables have the schema", {
  markers <- markers_of_example()
  expect_s3_class(markers, c("scoom_markers", "data.frame"), exact = TRUE)
  expect_identical(names(markers), marker_columns)
  expect_type(markers$feature, "character")
  expect_s3_class(markers$group, "factor")
  expect_type(markers$n_group, "integer")
  expect_identical(nrow(attr(markers, "skipped")), 0L)
})

test_that("top_markers() keeps the first of each comparison", {
  markers <- markers_of_example()
  top <- top_markers(markers, 3)
  expect_identical(
    as.integer(table(top$group)),
    rep(3L, nlevels(markers$group))
  )
  first <- markers[!duplicated(markers$group), ]
  expect_identical(top$feature[!duplicated(top$group)], first$feature)
  expect_identical(class(top), class(markers))
  expect_error(top_markers(mtcars), class = "scoom_error_invalid_input")
  expect_error(top_markers(markers, 0), class = "scoom_error_invalid_input")
})

test_that("filter_markers() applies every threshold", {
  markers <- markers_of_example()
  got <- filter_markers(
    markers,
    0.01,
    min_log2_fc = 1,
    min_auc = 0.7,
    min_pct = 0.3
  )
  keep <- with(
    as.data.frame(markers),
    p_adj <= 0.01 &
      log2_fc >= 1 &
      auc >= 0.7 &
      pmax(pct_group, pct_reference) >= 0.3 &
      statistic > 0
  )
  expect_gt(nrow(got), 0)
  expect_identical(got$feature, markers$feature[keep])
  both <- filter_markers(markers, 0.01, min_log2_fc = 1, only_up = FALSE)
  expect_true(any(both$log2_fc < 0))
  x <- log_chain(open_h5ad(example_h5ad()))
  welch <- find_markers(x, "cell_type", method = "t-test")
  expect_error(
    filter_markers(welch, min_auc = 0.7),
    class = "scoom_error_invalid_input"
  )
})

test_that("rows without a fold change stay where none is asked for", {
  local_quiet()
  x <- normalize_pearson_residuals(open_example())
  markers <- suppressWarnings(find_markers(x, "cell_type"))
  expect_true(all(is.na(markers$log2_fc)))
  got <- filter_markers(markers, max_p_adj = 0.01)
  keep <- markers$p_adj <= 0.01 & markers$statistic > 0
  expect_gt(sum(keep), 0)
  expect_identical(got$feature, markers$feature[keep])
  expect_identical(nrow(filter_markers(markers, min_log2_fc = 1)), 0L)
})

test_that("printing is short", {
  markers <- markers_of_example()
  lines <- capture.output(print(markers))
  expect_match(lines[[1]], "wilcoxon")
  expect_lt(length(lines), 30)
  expect_identical(
    capture.output(invisible(print(markers[1:2]))) |> length() > 0,
    TRUE
  )
})

test_that("the planted markers of the example come back", {
  x <- log_chain(open_h5ad(example_h5ad()))
  planted <- x$var$planted_marker_of
  top <- top_markers(find_markers(x, "cell_type"), 5)
  truth <- as.character(planted)[match(top$feature, x$var_names)]
  expect_gt(mean(truth == as.character(top$group), na.rm = TRUE), 0.8)
})

test_that("short tables are printed whole, long ones by comparison", {
  x <- open_h5ad(example_h5ad()) |>
    normalize_total(target_sum = 1e4) |>
    log1p()
  markers <- find_markers(x, "cell_type", method = "t-test")
  expect_length(capture.output(print(top_markers(markers, 5))), 1 + 2 * 21)
  expect_match(capture.output(print(markers)), "first 3 rows", all = FALSE)
})
