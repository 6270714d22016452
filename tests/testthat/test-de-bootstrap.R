bootstrap_example <- function(...) {
  x <- log_chain(open_example())
  quietly(bootstrap_markers(
    x,
    "cell_type",
    by = c("donor", "cell_type"),
    n = 12,
    n_replicates = 4,
    n_top = 10,
    ...
  ))
}

test_that("replicates are draws that are tested one by one", {
  local_quiet()
  x <- log_chain(open_example())
  for (method in c("t-test", "wilcoxon")) {
    got <- bootstrap_example(method = method, seed = 5)
    tables <- lapply(random_seeds(5, 4), \(seed) {
      y <- downsample_cells(x, c("donor", "cell_type"), n = 12, seed = seed)
      find_markers(y, "cell_type", method = method)
    })
    one <- function(feature, group) {
      rows <- lapply(tables, \(t) {
        t <- t[t$group == group, ]
        k <- match(feature, t$feature)
        c(t$p_adj[k] <= 0.05, k <= 10, t$log2_fc[k])
      })
      do.call(rbind, rows)
    }
    for (k in c(1, 5, 30, 700, 3000)) {
      row <- got[k, ]
      want <- one(row$feature, as.character(row$group))
      expect_identical(row$n_draws, 4L)
      expect_equal(row$share_significant, mean(want[, 1]))
      expect_equal(row$share_top, mean(want[, 2]))
      expect_equal(row$log2_fc, stats::median(want[, 3]))
      limits <- unname(stats::quantile(want[, 3], c(0.025, 0.975)))
      expect_equal(c(row$log2_fc_low, row$log2_fc_high), limits)
    }
  }
})

test_that("batches, threads and the kind of object change nothing", {
  want <- bootstrap_example(method = "t-test")
  expect_identical(bootstrap_example(method = "t-test", threads = 1), want)
  # One draw a read.
  scoom <- asNamespace("scoom")
  rows <- scoom$max_table_rows
  rlang::env_binding_unlock(scoom, "max_table_rows")
  withr::defer({
    assign("max_table_rows", rows, scoom)
    rlang::env_binding_lock(scoom, "max_table_rows")
  })
  assign("max_table_rows", 8000, scoom)
  expect_identical(bootstrap_example(method = "t-test"), want)
  x <- log_chain(open_example())
  values <- as.matrix(x$X)
  groups <- x$obs$cell_type
  skip_if_not_installed("SingleCellExperiment")
  sce <- SingleCellExperiment::SingleCellExperiment(
    list(logcounts = t(values)),
    colData = x$obs
  )
  got <- quietly(bootstrap_markers(
    sce,
    "cell_type",
    by = c("donor", "cell_type"),
    n = 12,
    n_replicates = 4,
    n_top = 10,
    method = "t-test"
  ))
  # logcounts are to base 2 for it: fold changes differ, t does not.
  key <- \(t) paste(t$group, t$feature)
  expect_setequal(key(got), key(want))
  got <- got[match(key(want), key(got)), ]
  expect_equal(got$share_significant, want$share_significant)
})

test_that("the table is sorted and printed by comparison", {
  got <- bootstrap_example(
    groups = c("B cell", "NK cell"),
    reference = "T cell"
  )
  expect_s3_class(got, c("scoom_stability", "data.frame"), exact = TRUE)
  expect_identical(
    names(got),
    c(
      "feature",
      "group",
      "reference",
      "n_draws",
      "share_significant",
      "share_top",
      "log2_fc",
      "log2_fc_low",
      "log2_fc_high"
    )
  )
  for (rows in split(seq_len(nrow(got)), droplevels(got$group))) {
    expect_false(is.unsorted(-got$share_top[rows]))
  }
  expect_true(all(got$log2_fc_low <= got$log2_fc))
  expect_true(all(got$log2_fc_high >= got$log2_fc))
  expect_output(print(got), "2 comparisons of 4 draws")
})

test_that("genes of one name are not put together", {
  skip_if_not_installed("SingleCellExperiment")
  local_quiet()
  values <- withr::with_seed(2, matrix(stats::rpois(40 * 30, 2) / 3, 40))
  dimnames(values) <- list(paste0("g", 1:40), paste0("c", 1:30))
  draw <- function(values) {
    sce <- SingleCellExperiment::SingleCellExperiment(
      list(logcounts = values),
      colData = data.frame(group = rep(c("a", "b"), 15))
    )
    bootstrap_markers(sce, "group", by = "group", n = 10, n_replicates = 3)
  }
  rownames(values)[[2]] <- "g1"
  expect_warning(
    got <- draw(values),
    "g1",
    class = "scoom_warning_duplicate_names"
  )
  expect_identical(unique(got$n_draws), 3L)
  rownames(values)[[2]] <- "g1.1"
  expect_equal(got, draw(values))
})

test_that("what makes no sense in draws is an error", {
  x <- log_chain(open_example())
  bad <- \(...) {
    expect_error(
      bootstrap_markers(x, "cell_type", ...),
      class = "scoom_error_invalid_input"
    )
  }
  bad()
  bad(by = "donor", n_replicates = 0)
  bad(by = "donor", within = "condition")
  bad(by = "donor", n_genes = 3)
  bad(by = "donor", methd = "t-test")
  bad(by = "donor", n = NULL, "t-test")
  bad(by = "donor", interval = 2)
  expect_error(
    bootstrap_markers(),
    "`x` is missing",
    class = "scoom_error_invalid_input"
  )
})
