# find_markers() by regression; the fits themselves are in the tests of de-models.

test_that("lr is the likelihood ratio of glm() with its covariates", {
  data <- small_matrix(n_cells = 150)
  values <- log1p(data$counts * 1.5)
  withr::with_seed(4, {
    depth <- stats::rnorm(150)
    batch <- sample(c("x", "y", "z"), 150, replace = TRUE)
  })
  check <- function(latent, covariates, tolerance) {
    markers <- suppressMessages(find_markers(
      values,
      data$groups,
      groups = "b",
      reference = "c",
      method = "lr",
      latent = latent
    ))
    expect_identical(names(markers), marker_columns)
    cells <- data$groups %in% c("b", "c")
    y <- data$groups[cells] == "b"
    frame <- as.data.frame(c(list(y = y, one = 1), lapply(latent, `[`, cells)))
    for (gene in c("g1", "g4", "g9", "g20")) {
      frame$gene <- values[gene, cells]
      small <- stats::reformulate(covariates, "y")
      large <- stats::reformulate(c(covariates, "gene"), "y")
      fit <- \(f) suppressWarnings(stats::glm(f, stats::binomial(), frame))
      gain <- stats::deviance(fit(small)) - stats::deviance(fit(large))
      row <- markers[markers$feature == gene, ]
      expect_equal(row$statistic^2, gain, tolerance = tolerance)
      p <- stats::pchisq(gain, 1, lower.tail = FALSE)
      expect_equal(row$p_value, p, tolerance = 1e-5)
      slope <- stats::coef(fit(large))[["gene"]]
      expect_identical(sign(row$statistic), sign(slope))
    }
    expect_equal(markers$p_adj, stats::p.adjust(markers$p_value, "BH"))
  }
  check(list(), "one", 1e-6)
  check(list(depth = depth), "depth", 1e-6)
  check(list(depth = depth, batch = batch), c("depth", "batch"), 1e-6)
})

test_that("lr takes columns by name and tests within levels", {
  x <- log_chain(open_example())
  x <- x[, 1:60]
  find <- \(x, ...) {
    suppressMessages(find_markers(
      x,
      "cell_type",
      groups = "B cell",
      reference = "NK cell",
      method = "lr",
      ...
    ))
  }
  by_name <- find(x, latent = "donor")
  by_value <- find(x, latent = list(donor = x$obs$donor))
  expect_identical(by_name, by_value)
  all <- find(x, latent = "donor", within = "condition")
  for (level in levels(x$obs$condition)) {
    alone <- find(x[x$obs$condition == level, ], latent = "donor")
    here <- all[all$within == level, ]
    expect_equal(
      as.list(here)[marker_columns],
      as.list(alone)[marker_columns],
      tolerance = 1e-6
    )
  }
  bad <- \(latent, class) {
    expect_error(find(x, latent = latent), class = class)
  }
  bad("dono", "scoom_error_column_missing")
  bad(1, "scoom_error_invalid_input")
  bad(list(1:3), "scoom_error_invalid_input")
  bad(list(depth = 1:3), "scoom_error_invalid_input")
})

test_that("LR of the installed Seurat, 4.3 or 5, is reproduced", {
  skip_if_not_installed("Seurat", "4.3.0")
  five <- utils::packageVersion("Seurat") >= "5"
  x <- open_h5ad(
    shared_data_path("counts", "kang2018_pbmc_ifnb_2000cells.h5ad")
  )
  x <- x[which(x$obs$seurat_annotations %in% c("B", "NK")), 1:300]
  counts <- Matrix::t(methods::as(x$X, "CsparseMatrix"))
  object <- suppressWarnings(
    SeuratObject::CreateSeuratObject(counts, meta.data = x$obs)
  )
  object <- Seurat::NormalizeData(object, verbose = FALSE)
  SeuratObject::Idents(object) <- "seurat_annotations"
  for (latent in list(NULL, "nCount_RNA")) {
    want <- suppressWarnings(Seurat::FindMarkers(
      object,
      ident.1 = "B",
      ident.2 = "NK",
      test.use = "LR",
      latent.vars = latent,
      verbose = FALSE
    ))
    got <- as_seurat_markers(find_markers(
      object,
      groups = "B",
      reference = "NK",
      method = "lr",
      latent = latent,
      compat = if (five) "seurat" else "seurat_v4"
    ))
    expect_setequal(rownames(got), rownames(want))
    got <- got[rownames(want), ]
    # glm() stops at a relative change of the deviance of 1e-8.
    gap <- abs(log10(got$p_val) - log10(want$p_val))
    expect_lt(max(gap / pmax(1, -log10(want$p_val))), 1e-4)
    expect_equal(got$avg_log2FC, want$avg_log2FC, tolerance = 1e-10)
    expect_identical(got$pct.1, want$pct.1)
  }
})

test_that("logreg has coefficients, and scanpy's sign for two groups", {
  data <- small_matrix(n_cells = 150)
  values <- log1p(data$counts * 1.5)
  find <- \(...) {
    suppressMessages(
      find_markers(values, data$groups, method = "logreg", ...)
    )
  }
  all <- find()
  expect_identical(names(all), marker_columns)
  expect_true(all(is.na(all$p_value) & is.na(all$p_adj)))
  # The coefficients of a multinomial model sum to zero for each gene.
  total <- tapply(all$statistic, all$feature, sum)
  expect_lt(max(abs(total)), 1e-5)
  expect_gt(marker_rows(all, "g4", "b")$statistic, 0.1)
  for (rows in split(seq_len(nrow(all)), all$group)) {
    expect_false(is.unsorted(-all$statistic[rows]))
  }
  pair <- find(groups = "b", reference = "c")
  expect_gt(pair$statistic[pair$feature == "g4"], 0.1)
  scanpy <- find(groups = c("b", "c"), compat = "scanpy")
  expect_identical(unique(as.character(scanpy$group)), "b")
  expect_lt(scanpy$statistic[scanpy$feature == "g4"], -0.1)
  expect_identical(
    names(as_scanpy_markers(scanpy)),
    c("group", "names", "scores", "pct_nz_group", "pct_nz_reference")
  )
  expect_identical(nrow(filter_markers(all, only_up = FALSE)), nrow(all))
  type <- rep(c("u", "v"), 75)
  within <- find(within = type)
  for (level in c("u", "v")) {
    alone <- suppressMessages(find_markers(
      values[, type == level],
      data$groups[type == level],
      method = "logreg"
    ))
    here <- within[within$within == level, ]
    same <- marker_rows(here, alone$feature, alone$group)
    expect_equal(same$statistic, alone$statistic, tolerance = 1e-5)
  }
})

test_that("regressions refuse what they have no use for", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  bad <- \(...) {
    expect_error(
      suppressMessages(find_markers(values, data$groups, ...)),
      class = "scoom_error_invalid_input"
    )
  }
  block <- rep(1:2, 30)
  bad(method = "logreg", block = block)
  bad(method = "lr", block = block)
  bad(method = "logreg", sample_by = block)
  bad(method = "lr", sample_by = block)
  bad(method = "logreg", max_p_adj = 0.1)
  bad(method = "logreg", alternative = "less")
  bad(method = "lr", alternative = "less")
  bad(method = "logreg", latent = list(block = block))
  bad(latent = list(block = block))
})
