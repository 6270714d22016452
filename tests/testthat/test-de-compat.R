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
})
