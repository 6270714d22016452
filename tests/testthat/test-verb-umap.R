test_that("neighbours stay together as with umap-learn", {
  reference <- reference_index("graph")$pbmc3k
  x <- pbmc3k_components() |> find_neighbors() |> run_umap()
  layout <- x$obsm$X_umap
  expect_equal(dim(layout), c(2700, 2))
  expect_true(all(is.finite(layout)))
  found <- trustworthiness(x$obsm$X_pca, layout)
  expect_gt(found, min(reference$umap_trustworthiness) - 0.01)
})

test_that("neighbours stay together as in a published layout", {
  x <- open_reduced()
  rep <- x$obsm$X_pca[, 1:30]
  published <- trustworthiness(rep, x$obsm$X_umap)
  found <- trustworthiness(rep, run_umap(x)$obsm$X_umap)
  expect_gt(published, 0.9)
  expect_gt(found, published - 0.01)
})

test_that("neighbours stay together as with umap-learn where conditions differ", {
  reference <- reference_index("graph")$kang2018
  x <- kang_components() |> find_neighbors() |> run_umap()
  found <- trustworthiness(x$obsm$X_pca, x$obsm$X_umap)
  expect_gt(found, min(reference$umap_trustworthiness) - 0.01)
})

test_that("small groups lie by their relatives", {
  # As in all layouts of umap-learn: megakaryocytes and dendritic cells are nearer to
  # monocytes than B cells and T cells are.
  x <- pbmc3k_components() |> find_neighbors() |> run_umap(threads = 2)
  type <- as.character(x$obs$louvain)
  layout <- x$obsm$X_umap[!is.na(type), ]
  type <- type[!is.na(type)]
  centers <- rowsum(layout, type) / as.vector(table(type))
  apart <- as.matrix(stats::dist(centers))["CD14+ Monocytes", ]
  small <- apart[c("Megakaryocytes", "Dendritic cells")]
  expect_lt(max(small), min(apart[c("B cells", "CD4 T cells")]))
})

test_that("a seed gives the same layout, whatever the threads", {
  x <- find_neighbors(open_reduced())
  layout <- function(...) run_umap(x, n_epochs = 30, ...)$obsm$X_umap
  withr::with_seed(1, {
    before <- get(".Random.seed", globalenv())
    one <- layout(threads = 1)
    expect_identical(get(".Random.seed", globalenv()), before)
  })
  for (threads in c(1, 2, 4)) {
    expect_identical(layout(threads = threads), one)
  }
  expect_false(identical(layout(seed = 1), one))
})

test_that("the layout starts from the graph Laplacian", {
  x <- find_neighbors(open_reduced())
  ctx <- scoom_ctx(2, FALSE, "test")
  start <- umap_start(x, "spectral", 2, "neighbors", ctx, NULL)
  dim(start) <- c(700, 2)
  graph <- as.matrix(x$obsp$connectivities)
  degree <- rowSums(graph)
  laplacian <- diag(700) - graph / sqrt(outer(degree, degree))
  found <- eigen(laplacian, symmetric = TRUE)
  wanted <- found$vectors[, 699:698]
  expect_gt(min(abs(diag(stats::cor(start, wanted)))), 0.999999)
})

test_that("arguments reach the layout", {
  x <- find_neighbors(open_reduced())
  x <- run_umap(
    x,
    n_components = 3,
    n_epochs = 20,
    init = "rep",
    key = "X_three"
  )
  expect_equal(dim(x$obsm$X_three), c(700, 3))
  expect_equal(colnames(x$obsm$X_three), c("UMAP1", "UMAP2", "UMAP3"))
  expect_equal(x$uns$X_three$params$init, "rep")
  start <- x$obsm$X_pca[, 1:2]
  x <- run_umap(x, n_epochs = 20, init = start)
  expect_equal(x$uns$umap$params$min_dist, 0.5)
  line <- run_umap(x, n_components = 1, n_epochs = 20)$obsm$X_umap
  expect_equal(dim(line), c(700, 1))
  layout <- function(...) {
    run_umap(x, n_epochs = 50, init = start, ...)$obsm$X_umap
  }
  plain <- layout()
  expect_false(identical(layout(negative_sample_rate = 2), plain))
  still <- layout(learning_rate = 0)
  scaled <- apply(start, 2, \(x) 10 * (x - min(x)) / diff(range(x)))
  # The noise has deviation 1e-4.
  expect_lt(max(abs(still - scaled)), 1e-3)
  extent <- \(m) max(apply(m, 2, \(x) diff(range(x))))
  expect_lt(extent(layout(repulsion = 0)), extent(plain))
  near <- run_umap(x, n_epochs = 100, init = start, min_dist = 0.01)
  far <- run_umap(x, n_epochs = 100, init = start, min_dist = 1)
  nearest <- \(m) {
    stats::median(apply(as.matrix(stats::dist(m)), 1, \(d) sort(d)[2]))
  }
  expect_lt(nearest(near$obsm$X_umap), nearest(far$obsm$X_umap))
})

test_that("a graph in pieces starts from the embedding", {
  x <- suppressMessages(find_neighbors(blobs(apart = 100), n_neighbors = 8))
  expect_message(
    x <- run_umap(x, n_epochs = 20),
    class = "scoom_message_disconnected_graph"
  )
  layout <- x$obsm$X_umap
  centers <- rowsum(layout, x$obs$blob) / c(40, 30, 20)
  spread <- max(abs(layout - centers[x$obs$blob, ]))
  expect_gt(min(stats::dist(centers)), spread)
})

test_that("bad input is refused", {
  x <- blobs(apart = 1)
  expect_error(run_umap(x), class = "scoom_error_neighbors_missing")
  x <- find_neighbors(x, n_neighbors = 8)
  expect_snapshot(error = TRUE, {
    run_umap(x, n_components = 0)
    run_umap(x, n_components = 65)
    run_umap(x, min_dist = 2)
    run_umap(x, negative_sample_rate = -1)
    run_umap(x, repulsion = -1)
    run_umap(x, init = "random")
    run_umap(x, init = matrix(0, 3, 2))
    run_umap(x, n_components = 6, init = "rep")
  })
  # Selected cells have lost some of their neighbours.
  expect_error(
    run_umap(x[1:60, ]),
    class = "scoom_error_incomplete_graph"
  )
})

test_that("too few cells are refused in words that fit", {
  x <- find_neighbors(blobs(apart = 1), n_neighbors = 8)
  expect_no_warning(
    expect_error(run_umap(x[integer(), ]), class = "scoom_error_no_cells")
  )
  expect_error(
    check_n_layout(1, 1, NULL),
    "1 cell can't be laid out in 1 dimension[.]",
    class = "scoom_error_too_few_cells"
  )
})
