# The odd cases of tests between cells: ties, storage, tiny groups, repeated rows.

test_that("unsorted indices, stored zeros and columns give what dense gives", {
  x <- suppressWarnings(open_fixture("indices"), classes = "scoom_warning")
  group <- c("a", "b", "a", "b", "a", "b")
  layers <- c(
    "csc_explicit_zeros",
    "csc_unsorted",
    "explicit_zeros",
    "unsorted",
    "indices_int16_indptr_int32"
  )
  for (layer in layers) {
    values <- t(as.matrix(x$layers[[layer]]))
    for (method in c("wilcoxon", "t-test", "binomial", "auc")) {
      find <- \(x, ...) {
        found <- suppressWarnings(suppressMessages(
          find_markers(x, group, method = method, pseudocount = 1, ...)
        ))
        as.list(found)[marker_columns]
      }
      expect_equal(find(x, layer = layer), find(values), tolerance = 1e-12)
    }
  }
})

test_that("a million zeros tie without overflow", {
  n <- 1e6
  ones <- c(1:40, 600001:600100)
  values <- Matrix::sparseMatrix(
    i = rep(1L, length(ones)),
    j = ones,
    x = 1.5,
    dims = c(2, n),
    dimnames = list(c("some", "none"), NULL)
  )
  group <- rep(c("a", "b"), c(600000, 400000))
  markers <- suppressMessages(find_markers(values, group, groups = "a"))
  row <- markers[markers$feature == "some", ]
  # The zeros and the ones are two ties.
  n1 <- 6e5
  n2 <- 4e5
  rank_of <- c((n - 140 + 1) / 2, n - 140 + (140 + 1) / 2)
  u <- (n1 - 40) * rank_of[1] + 40 * rank_of[2] - n1 * (n1 + 1) / 2
  d <- u - n1 * n2 / 2
  ties <- ((n - 140)^3 - (n - 140) + 140^3 - 140) / (n * (n - 1))
  z <- (d - sign(d) / 2) / sqrt(n1 * n2 / 12 * ((n + 1) - ties))
  expect_equal(row$statistic, z, tolerance = 1e-8)
  expect_equal(row$auc, u / (n1 * n2), tolerance = 1e-12)
  expect_identical(markers$p_value[markers$feature == "none"], 1)
})

test_that("groups of one and two cells, missing groups and listed ones", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  group <- as.character(data$groups)
  group[1] <- "one"
  group[2:3] <- "two"
  group[4:9] <- NA
  expect_warning(
    markers <- suppressMessages(find_markers(values, group)),
    class = "scoom_warning_groups_skipped"
  )
  expect_setequal(markers$group, c("a", "b", "c", "two"))
  known <- !is.na(group)
  check <- function(markers) {
    for (gene in c("g1", "g4", "g9")) {
      a <- values[gene, known & group == "two"]
      b <- values[gene, known & group != "two"]
      row <- marker_rows(markers, gene, "two")
      expect_equal(row$statistic, wilcoxon_oracle(a, b)$z, tolerance = 1e-10)
      expect_identical(row$n_group, 2L)
    }
  }
  check(markers)
  # A list of groups leaves the rest as it is.
  check(suppressMessages(find_markers(values, group, groups = "two")))
  welch <- suppressWarnings(suppressMessages(
    find_markers(values, group, method = "t-test")
  ))
  row <- marker_rows(welch, "g4", "two")
  want <- stats::t.test(
    values["g4", known & group == "two"],
    values["g4", known & group != "two"]
  )
  expect_equal(row$p_value, want$p.value, tolerance = 1e-9)
})

test_that("groups without cells are no groups", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  group <- factor(data$groups, c("a", "none", "b", "c"))
  find <- \(group, ...) suppressMessages(find_markers(values, group, ...))
  for (reference in c("rest", "each")) {
    with_empty <- find(group, reference = reference)
    expect_identical(with_empty, find(data$groups, reference = reference))
    expect_identical(nrow(attr(with_empty, "skipped")), 0L)
  }
  within <- factor(rep("x", 60), c("x", "empty"))
  expect_identical(levels(find(group, within = within)$within), "x")
  for (bad in list(
    list(groups = "none"),
    list(groups = list(set = c("a", "none"))),
    list(reference = "none"),
    list(exclude = "none")
  )) {
    expect_error(
      rlang::inject(find(group, !!!bad)),
      "none",
      class = "scoom_error_group_missing"
    )
  }
})

test_that("counts kept as integers are tested as the same doubles", {
  x <- open_example()[, 1:80]
  counts <- t(as.matrix(x$X))
  whole <- counts
  storage.mode(whole) <- "integer"
  for (method in c("wilcoxon", "t-test", "binomial", "lr")) {
    find <- \(x, ...) {
      found <- suppressWarnings(suppressMessages(
        find_markers(x, ..., method = method, pseudocount = 1)
      ))
      as.list(found)[marker_columns]
    }
    want <- find(counts, x$obs$cell_type)
    expect_identical(find(whole, x$obs$cell_type), want)
    expect_equal(find(x, "cell_type"), want, tolerance = 1e-12)
  }
})

test_that("absent and constant genes have no effect in any method or design", {
  data <- small_matrix(n_cells = 120)
  values <- log1p(data$counts * 1.5)
  block <- rep(c("x", "y"), 60)
  designs <- list(
    list(),
    list(block = block),
    list(within = block),
    list(reference = "each")
  )
  for (method in c("wilcoxon", "t-test", "binomial")) {
    for (design in designs) {
      markers <- suppressMessages(rlang::inject(
        find_markers(values, data$groups, method = method, !!!design)
      ))
      flat <- markers[markers$feature %in% c("g2", "g3"), ]
      expect_true(all(flat$statistic == 0))
      expect_true(all(flat$p_value == 1 & flat$log10_p == 0))
      # Fractions that shrink alike may differ by rounding.
      expect_true(all(abs(flat$log2_fc) < 1e-12))
      expect_false(anyNA(markers$statistic))
      expect_true(all(markers$p_value >= 0 & markers$p_value <= 1))
    }
  }
})

test_that("a row that is selected twice counts twice", {
  data <- small_matrix()
  x <- object_of(t(log1p(data$counts * 1.5)))
  take <- withr::with_seed(2, sample(60, 150, replace = TRUE))
  group <- data$groups[take]
  within <- rep(c("u", "v", "w"), 50)
  sparse <- methods::as(data$counts[, take] * 1, "CsparseMatrix")
  for (method in c("wilcoxon", "t-test", "binomial", "auc")) {
    find <- \(x) {
      suppressMessages(as.list(
        find_markers(x, group, within = within, method = method)
      )[c("statistic", "log2_fc", "auc", "pct_group", "n_group", "within")])
    }
    expect_equal(
      find(x[take, ]),
      find(log1p(data$counts[, take] * 1.5)),
      tolerance = 1e-12
    )
    sparse@x <- log1p(sparse@x)
    expect_equal(
      find(sparse),
      find(as.matrix(sparse)),
      tolerance = 1e-12
    )
    sparse@x <- expm1(sparse@x)
  }
})

test_that("objects of other packages take every option", {
  skip_if_not_installed("SeuratObject")
  skip_if_not_installed("SingleCellExperiment")
  data <- small_matrix(n_cells = 200)
  sparse <- methods::as(log1p(data$counts * 1.5), "CsparseMatrix")
  withr::with_seed(7, {
    frame <- data.frame(
      group = as.character(data$groups),
      type = sample(c("t1", "t2"), 200, replace = TRUE),
      batch = sample(c("x", "y"), 200, replace = TRUE),
      row.names = colnames(sparse)
    )
  })
  counts <- methods::as(data$counts, "CsparseMatrix")
  seurat <- suppressWarnings(
    SeuratObject::CreateSeuratObject(counts, meta.data = frame)
  )
  seurat <- SeuratObject::SetAssayData(seurat, "data", new.data = sparse)
  sce <- SingleCellExperiment::SingleCellExperiment(
    list(logcounts = sparse / log(2)),
    colData = frame,
    rowData = data.frame(odd = rep(c(TRUE, FALSE), 15))
  )
  find <- \(x, group, within, block, ...) {
    columns <- suppressMessages(unclass(find_markers(
      x,
      group,
      groups = list(ab = c("a", "b")),
      reference = "c",
      within = within,
      block = block,
      sample_by = block,
      alternative = "greater",
      min_pct = 0.1,
      n_genes = 9,
      ...
    )))
    columns[names(columns)]
  }
  want <- find(sparse, frame$group, frame$type, frame$batch)
  expect_equal(find(seurat, "group", "type", "batch"), want)
  expect_equal(find(sce, "group", "type", "batch"), want)
  odd <- \(var) var$odd
  got <- find(sce, "group", "type", "batch", features = odd)
  expect_true(all(got$feature %in% rownames(sparse)[c(TRUE, FALSE)]))
  expect_identical(
    got,
    find(sce, "group", "type", "batch", features = -seq(2, 30, by = 2))
  )
})

# A Seurat object of the installed version, with its logarithms and two samples.
seurat_of_samples <- function() {
  data <- small_matrix()
  counts <- methods::as(data$counts, "CsparseMatrix")
  samples <- rep(c("a", "b", "b"), 20)
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(
    counts,
    meta.data = data.frame(
      group = data$groups,
      sample = samples,
      row.names = colnames(counts)
    )
  ))
  values <- log1p(counts * 1.5)
  SeuratObject::SetAssayData(object, "data", new.data = values)
}

test_that("layers of Seurat 5 that are split are joined first, or taken one by one", {
  skip_if_not_installed("SeuratObject", "5.0.0")
  object <- seurat_of_samples()
  parts <- object
  parts[["RNA"]] <- split(parts[["RNA"]], f = parts$sample)
  find <- \(x, ...) {
    columns <- unclass(suppressMessages(
      find_markers(x, "group", method = "t-test", ...),
      classes = "scoom_message_cells_left_out"
    ))
    columns[names(columns)]
  }
  expect_error(find(parts), "JoinLayers", class = "scoom_error_layers_split")
  expect_error(
    pseudobulk(parts, "sample"),
    "counts.b",
    class = "scoom_error_layers_split"
  )
  joined <- getExportedValue("SeuratObject", "JoinLayers")(parts)
  expect_equal(find(joined), find(object))
  expect_identical(
    suppressMessages(pseudobulk(joined, "sample")),
    suppressMessages(pseudobulk(object, "sample"))
  )
  # One part has some of the cells, and is all of what is left of them.
  of_b <- colnames(object)[object$sample == "b"]
  want <- find(object[, of_b])
  expect_message(
    find_markers(parts, "group", layer = "data.b"),
    "20 cells",
    class = "scoom_message_cells_left_out"
  )
  expect_equal(find(parts, layer = "data.b"), want)
  expect_equal(find(parts[, of_b]), want)
  expect_identical(
    suppressMessages(pseudobulk(parts, "group", layer = "counts.b"))$counts,
    suppressMessages(pseudobulk(object[, of_b], "group"))$counts
  )
})

test_that("layers that a Seurat object lacks are errors, whatever it has besides", {
  skip_if_not_installed("SeuratObject")
  object <- seurat_of_samples()
  expect_error(
    find_markers(object, "group", layer = "spliced"),
    "spliced",
    class = "scoom_error_layer_missing"
  )
  expect_error(
    find_markers(object, "group", layer = "scale.data"),
    class = "scoom_error_layer_missing"
  )
  skip_if_not_installed("SeuratObject", "5.0.0")
  # Values that are scaled are not taken for logarithms.
  counts <- methods::as(small_matrix()$counts, "CsparseMatrix")
  object <- SeuratObject::CreateSeuratObject(counts)
  scaled <- as.matrix(counts) - 0.5
  object <- SeuratObject::SetAssayData(object, "scale.data", new.data = scaled)
  expect_error(
    find_markers(object, rep(1:2, 30)),
    "NormalizeData",
    class = "scoom_error_layer_missing"
  )
})

test_that("features are chosen by a function of the table of genes", {
  x <- log_chain(open_example())
  find <- \(...) {
    suppressMessages(find_markers(x, "cell_type", method = "t-test", ...))
  }
  chosen <- find(features = \(var) !startsWith(rownames(var), "MT-"))
  kept <- !startsWith(var_names(x), "MT-")
  expect_setequal(chosen$feature, var_names(x)[kept])
  expect_identical(chosen, find(features = which(kept)))
  expect_identical(chosen, find(features = -which(!kept)))
  expect_error(
    find(features = \(var) "nobody"),
    class = "scoom_error_gene_missing"
  )
  expect_error(
    find(features = \(var) rep(FALSE, nrow(var))),
    class = "scoom_error_invalid_input"
  )
})
