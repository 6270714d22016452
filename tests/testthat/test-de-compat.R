test_that("tables are renamed as other tools have them", {
  x <- log_chain(open_h5ad(example_h5ad()))
  markers <- find_markers(x, "cell_type")
  seurat <- as_seurat_markers(markers)
  expect_identical(
    names(seurat),
    c("p_val", "avg_log2FC", "pct.1", "pct.2", "p_val_adj", "cluster", "gene")
  )
  expect_identical(seurat$gene, markers$feature)
  expect_identical(rownames(seurat), make.unique(markers$feature))
  scanpy <- as_scanpy_markers(markers)
  expect_identical(
    names(scanpy),
    c(
      "group",
      "names",
      "scores",
      "logfoldchanges",
      "pvals",
      "pvals_adj",
      "pct_nz_group",
      "pct_nz_reference"
    )
  )
  expect_identical(scanpy$scores, markers$statistic)
  expect_identical(scanpy$pct_nz_reference, markers$pct_reference)
  pairs <- find_markers(
    x,
    "cell_type",
    reference = "each",
    within = "condition",
    n_genes = 2
  )
  for (renamed in list(as_seurat_markers(pairs), as_scanpy_markers(pairs))) {
    expect_identical(renamed$reference, pairs$reference)
    expect_identical(renamed$within, pairs$within)
  }
})

test_that("markers go into uns as scanpy keeps them", {
  x <- log_chain(open_h5ad(example_h5ad()))
  markers <- find_markers(x, "cell_type")
  groups <- levels(markers$group)
  kept <- set_markers(x, markers)
  value <- kept$uns$rank_genes_groups
  expect_false("rank_genes_groups" %in% names(x$uns))
  expect_setequal(
    names(value),
    c(
      "params",
      "names",
      "scores",
      "logfoldchanges",
      "pvals",
      "pvals_adj",
      "pts",
      "pts_rest"
    )
  )
  expect_identical(names(value$names), groups)
  expect_identical(value$params$reference, "rest")
  for (group in groups) {
    mine <- markers[markers$group == group, ]
    expect_identical(value$names[[group]], mine$feature)
    expect_identical(value$scores[[group]], mine$statistic)
    expect_identical(value$pvals_adj[[group]], mine$p_adj)
    expect_identical(value$pts[mine$feature, group], mine$pct_group)
    expect_identical(value$pts_rest[mine$feature, group], mine$pct_reference)
  }
  short <- filter_markers(markers, 0.01) |> top_markers(4)
  value <- set_markers(x, short, key = "best")$uns$best
  expect_identical(nrow(value$names), 4L)
  twice <- rbind(
    find_markers(x, "cell_type", groups[[1]], reference = groups[[2]]),
    find_markers(x, "cell_type", groups[[1]], reference = groups[[3]])
  )
  expect_error(set_markers(x, twice), class = "scoom_error_invalid_input")
  same <- markers
  same$feature[same$feature == same$feature[[1]]] <- same$feature[[2]]
  error <- expect_error(
    set_markers(x, same),
    class = "scoom_error_duplicate_names"
  )
  expect_identical(error$names, same$feature[[2]])
})

# 700 cells whose every 20th has no label, as reference_markers.py has them.
pbmc68k <- function() {
  path <- shared_data_path("h5ad_fixtures", "scanpy_10x_pbmc68k_reduced.h5ad")
  x <- quietly(open_h5ad(path))
  label <- x$obs$bulk_labels
  label[seq(1, 700, by = 20)] <- NA
  x$obs$label <- label
  x
}

expect_scanpy <- function(markers, run) {
  want <- reference_table("markers", run)
  genes <- reference_names("markers", "genes")
  groups <- reference_names("markers", "groups")
  want$gene <- genes[want$gene + 1]
  for (group in unique(want$group)) {
    theirs <- want[want$group == group, ]
    mine <- markers[markers$group == groups[[group + 1]], ]
    n <- nrow(theirs)
    expect_gte(nrow(mine), n)
    # Scores are float32 in scanpy; what ties there comes in any order.
    near <- \(a, b, tolerance) abs(a - b) <= tolerance * pmax(1, abs(b))
    expect_true(all(near(mine$statistic[seq_len(n)], theirs$score, 1e-5)))
    own <- mine[match(theirs$gene, mine$feature), ]
    moved <- theirs$gene != mine$feature[seq_len(n)]
    expect_true(all(near(own$statistic, mine$statistic[seq_len(n)], 1e-5)[
      moved
    ]))
    expect_true(all(near(own$statistic, theirs$score, 1e-5)))
    expect_true(all(near(own$log10_p, log10(theirs$p_value), 1e-6)))
    expect_true(all(near(log10(own$p_adj), log10(theirs$p_adj), 1e-6)))
    # Its pseudocount of 1e-9 makes much of the rounding of small means.
    known <- is.finite(theirs$log2_fc) & abs(theirs$log2_fc) < 20
    expect_true(all(near(own$log2_fc, theirs$log2_fc, 1e-5)[known]))
    expect_equal(own$pct_group, theirs$pts, tolerance = 1e-12)
    if (!is.null(theirs$pts_rest)) {
      expect_equal(own$pct_reference, theirs$pts_rest, tolerance = 1e-12)
    }
  }
}

test_that("scanpy's numbers come from raw, with groups, rest and reference", {
  x <- pbmc68k()
  find <- \(...) {
    suppressMessages(find_markers(x, "label", compat = "scanpy", ...))
  }
  chosen <- c("CD14+ Monocyte", "CD19+ B", "CD34+")
  rest <- \(...) find(chosen, use_raw = TRUE, ...)
  expect_scanpy(rest(method = "t-test"), "raw_rest_t")
  expect_scanpy(rest(), "raw_rest_wilcoxon")
  other <- \(...) rest(reference = "CD56+ NK", ...)
  expect_scanpy(other(method = "t-test"), "raw_reference_t")
  expect_scanpy(
    other(method = "t-test_overestim_var"),
    "raw_reference_overestim"
  )
  expect_scanpy(other(tie_correct = TRUE), "raw_reference_wilcoxon")
})

test_that("scanpy's numbers come from a layer, and its overlaps", {
  x <- pbmc68k()
  label <- x$obs$label
  y <- x$raw[, 1:500]
  y$layers$half <- as.matrix(y$X) * 0.5
  find <- \(...) {
    suppressMessages(
      find_markers(y, label, layer = "half", compat = "scanpy", ...)
    )
  }
  expect_scanpy(find(p_adjust = "bonferroni"), "layer_wilcoxon")
  markers <- find(method = "t-test")
  expect_scanpy(markers, "layer_t")
  known <- reference_index("markers")$overlap_lists
  same <- function(table, ...) {
    want <- reference_table("markers", table)
    expect_equal(
      as.list(marker_overlap(markers, known, ...)),
      as.list(want),
      tolerance = 1e-12
    )
  }
  same("overlap_count", n = 50)
  same("overlap_coef", "coefficient", n = 50)
  same("jaccard", "jaccard", n = 50)
  same("overlap_normalized", normalize = "reference", n = 20)
})

test_that("tables and uns have the names that scanpy has", {
  x <- log_chain(open_example())
  markers <- find_markers(x, "cell_type", compat = "scanpy")
  names <- reference_index("markers")
  expect_identical(names(as_scanpy_markers(markers)), names$frame_columns_pts)
  value <- set_markers(x, markers)$uns$rank_genes_groups
  expect_identical(sort(names(value)), names$uns_keys)
  expect_true(all(names(value$params) %in% names$uns_params))
  expect_identical(value$params$groupby, "cell_type")
  expect_identical(value$params$corr_method, "benjamini-hochberg")
})

# Seurat -----------------------------------------------------------------------

# Kang's cells as an object of the installed Seurat, 4.3 or 5.
seurat_of_kang <- function() {
  skip_if_not_installed("Seurat", "4.3.0")
  x <- open_h5ad(
    shared_data_path("counts", "kang2018_pbmc_ifnb_2000cells.h5ad")
  )
  x <- x[!is.na(x$obs$seurat_annotations), 1:800]
  counts <- Matrix::t(methods::as(x$X, "CsparseMatrix"))
  object <- suppressWarnings(
    SeuratObject::CreateSeuratObject(counts, meta.data = x$obs)
  )
  object <- Seurat::NormalizeData(object, verbose = FALSE)
  SeuratObject::Idents(object) <- "seurat_annotations"
  object
}

installed_seurat <- function() {
  if (utils::packageVersion("Seurat") >= "5") "seurat" else "seurat_v4"
}

test_that("FindMarkers() of the installed Seurat is reproduced, rows, order, columns", {
  object <- seurat_of_kang()
  check <- function(test, method, tolerance) {
    want <- suppressMessages(suppressWarnings(Seurat::FindMarkers(
      object,
      ident.1 = "B",
      ident.2 = "CD14 Mono",
      test.use = test,
      verbose = FALSE
    )))
    got <- as_seurat_markers(find_markers(
      object,
      groups = "B",
      reference = "CD14 Mono",
      method = method,
      compat = installed_seurat()
    ))
    expect_setequal(rownames(got), rownames(want))
    expect_identical(names(got), c(names(want), "cluster", "gene"))
    # Genes of a single cell have one t, which its rounding puts in some order: places
    # hold the same p-values, if not the same genes.
    moved <- rownames(got) != rownames(want)
    expect_equal(got$p_val[moved], want$p_val[moved], tolerance = 1e-9)
    expect_lt(mean(moved), if (test == "t") 0.1 else 1e-12)
    got <- got[rownames(want), ]
    expect_equal(got[names(want)], want, tolerance = tolerance)
    p <- want$p_val
    if (!is.null(p)) {
      expect_lt(max(abs(log10(got$p_val) - log10(p))), 1e-6)
    }
  }
  check("wilcox", "wilcoxon", 1e-10)
  check("t", "t-test", 1e-10)
  check("roc", "auc", 1e-12)
})

test_that("FindAllMarkers() of the installed Seurat is reproduced", {
  object <- seurat_of_kang()
  want <- suppressMessages(suppressWarnings(
    Seurat::FindAllMarkers(object, only.pos = TRUE, verbose = FALSE)
  ))
  expect_warning(
    markers <- find_markers(
      object,
      compat = installed_seurat(),
      only_up = TRUE
    ),
    "Eryth",
    class = "scoom_warning_groups_skipped"
  )
  got <- as_seurat_markers(markers)
  got <- got[got$p_val < 0.01, ]
  expect_identical(got$gene, want$gene)
  # Its row names are no more than unique.
  expect_equal(as.list(got), as.list(want), tolerance = 1e-10)
})

# A table of reference_seurat5.R with its genes by name, and a key for each row.
seurat5_table <- function(name, genes) {
  table <- reference_table("seurat5", name)
  table$gene <- genes[table$gene]
  if (!is.null(table$cluster)) {
    table$cluster <- reference_index("seurat5")$clusters[table$cluster]
  }
  table
}

test_that("compat = \"seurat\" gives the tables of Seurat 5", {
  x <- pbmc3k_logged()
  genes <- var_names(x)
  tested <- seq(1, length(genes), by = 10)
  find <- function(..., features = tested) {
    markers <- find_markers(
      x,
      "louvain",
      features = features,
      compat = "seurat",
      ...
    )
    as_seurat_markers(suppressMessages(markers))
  }
  pair <- \(...) find(..., groups = "B cells", reference = "CD14+ Monocytes")
  check <- function(got, name, tolerance = 1e-10) {
    want <- seurat5_table(name, genes)
    expect_gt(nrow(want), 50)
    columns <- setdiff(names(want), c("gene", "cluster"))
    expect_identical(names(got), c(columns, "cluster", "gene"))
    key <- \(table) paste(table$gene, table[["cluster"]] %||% "")
    if (is.null(want$cluster)) {
      got$cluster <- NULL
    }
    # The same rows in the same order, but for p-values that differ by rounding.
    expect_setequal(key(got), key(want))
    moved <- match(key(want), key(got))
    expect_lt(max(abs(moved - seq_along(moved))), 3)
    got <- got[moved, ]
    for (column in setdiff(columns, c("p_val", "p_val_adj"))) {
      expect_equal(got[[column]], want[[column]], tolerance = tolerance)
    }
    for (column in intersect(columns, c("p_val", "p_val_adj"))) {
      gap <- abs(log10(got[[column]]) - log10(want[[column]]))
      # Below 1e-300 a p-value of doubles has few digits.
      expect_lt(max(gap[want$p_val > 1e-300]), 1e4 * tolerance)
    }
  }
  check(suppressMessages(pair()), "wilcox")
  check(suppressMessages(pair(method = "t-test")), "t")
  check(suppressMessages(pair(method = "auc")), "roc", 1e-12)
  all <- suppressMessages(find())
  expect_identical(names(all), reference_index("seurat5")$columns)
  check(all[all$p_val < 0.01, ], "all")
  # glm() stops at a relative change of the deviance of 1e-8.
  labelled <- !is.na(x$obs$louvain)
  counts <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  depth <- rowSums(counts$X[, genes])
  lr <- suppressMessages(pair(
    method = "lr",
    latent = list(depth = depth),
    features = tested[1:200]
  ))
  want <- seurat5_table("lr", genes)
  expect_setequal(lr$gene, want$gene)
  lr <- lr[match(want$gene, lr$gene), ]
  gap <- abs(log10(lr$p_val) - log10(want$p_val))
  expect_lt(max(gap / pmax(1, -log10(want$p_val))), 1e-4)
  expect_equal(lr$avg_log2FC, want$avg_log2FC, tolerance = 1e-10)
})

test_that("compat = \"seurat\" has the fold change of Seurat 5", {
  data <- small_matrix()
  values <- log1p(data$counts * 1.5)
  find <- \(...) suppressMessages(find_markers(values, data$groups, ...))
  markers <- find(compat = "seurat", min_pct = 0, min_log2_fc = 0)
  plain <- find()
  same <- marker_rows(plain, markers$feature, markers$group)
  expect_equal(markers$p_value, same$p_value)
  expect_equal(markers$p_adj, pmin(1, markers$p_value * nrow(values)))
  expect_identical(markers$pct_group, round(same$pct_group, 3))
  for (gene in c("g1", "g4", "g2")) {
    row <- marker_rows(markers, gene, "b")
    mean_of <- \(cells) (sum(expm1(values[gene, cells])) + 1) / sum(cells)
    inside <- data$groups == "b"
    want <- log2(mean_of(inside)) - log2(mean_of(!inside))
    expect_equal(row$log2_fc, want)
  }
  default <- find(compat = "seurat")
  kept <- pmax(markers$pct_group, markers$pct_reference) >= 0.01 &
    abs(markers$log2_fc) >= 0.1
  expect_setequal(
    paste(default$feature, default$group),
    paste(markers$feature, markers$group)[kept]
  )
  for (rows in split(seq_len(nrow(default)), default$group)) {
    expect_false(is.unsorted(default$p_value[rows]))
  }
})
