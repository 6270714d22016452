# What follows from neighbours, on pbmc3k and kang2018, against scanpy.

# Cells with published groups, 50 components as in the reference, 15 neighbours.
graph_of <- function(file, groups) {
  x <- open_h5ad(shared_data_path("counts", file))
  x[!is.na(x$obs[[groups]]), ] |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = 2000) |>
    scale_genes(max_value = 10) |>
    run_pca(n_comps = 50) |>
    find_neighbors()
}

real_graphs <- list(
  pbmc3k = list("pbmc3k_raw.h5ad", "louvain"),
  kang2018 = list("kang2018_pbmc_ifnb_2000cells.h5ad", "seurat_annotations")
)

for (name in names(real_graphs)) {
  file <- real_graphs[[name]][[1]]
  groups <- real_graphs[[name]][[2]]

  test_that(paste("the graph of", name, "and what follows is scanpy's"), {
    local_quiet()
    x <- graph_of(file, groups)
    y <- find_neighbors(x, connectivities = "gaussian")
    reference <- \(table) {
      reference_table("trajectory", paste0(name, "_", table))
    }

    # Every weight counts in the sum of its cell. UMAP's are float32 there.
    degrees <- reference("degrees")
    sums <- \(graph) unname(Matrix::rowSums(graph))
    expect_equal(sums(x$obsp$distances), degrees$distances, tolerance = 1e-6)
    expect_equal(sums(x$obsp$connectivities), degrees$umap, tolerance = 1e-5)
    expect_equal(
      sums(y$obsp$connectivities),
      degrees$gaussian,
      tolerance = 1e-6
    )

    # float32 there.
    x <- run_diffmap(x, n_comps = 10) |> run_dpt(root = 1, n_dcs = 10)
    evals <- reference("diffmap_evals")$value
    expect_lt(max(abs(x$uns$diffmap_evals - evals)), 1e-5)
    cells <- reference("cells")
    for (k in 1:3) {
      found <- x$obsm$X_diffmap[, k + 1]
      wanted <- cells[[paste0("DC", k)]]
      wanted <- wanted * sign(sum(found * wanted))
      expect_lt(max(abs(found - wanted)), 1e-3)
    }
    time <- x$obs$dpt_pseudotime
    expect_gt(stats::cor(time, cells$pseudotime, method = "spearman"), 0.999)

    x <- run_paga(x, group_by = groups)
    paga <- x$uns$paga$connectivities
    expect_identical(
      rownames(paga),
      reference_index("trajectory")[[name]]$groups
    )
    expect_equal(
      as.vector(as.matrix(paga)),
      as.vector(as.matrix(reference("paga"))),
      tolerance = 1e-10
    )
  })

  test_that(paste("clusters of", name, "are as good as scanpy's"), {
    local_quiet()
    x <- graph_of(file, groups)
    known <- reference_index("trajectory")[[name]]
    theirs <- reference_table("trajectory", paste0(name, "_leiden"))
    for (seed in 0:3) {
      x <- cluster_leiden(x, resolution = 0.5, seed = seed)
      against <- vapply(theirs, adjusted_rand_index, 0, x$obs$leiden)
      expect_gt(mean(against), known$leiden_seed_to_seed_mean - 0.02)
      ratio <- x$uns$leiden$modularity / mean(known$leiden_modularity)
      expect_lt(abs(ratio - 1), 0.005)
    }
  })
}
