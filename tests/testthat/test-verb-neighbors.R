base_neighbors <- function(rep, k, method = "euclidean") {
  d <- as.matrix(stats::dist(rep, method))
  diag(d) <- Inf
  list(
    index = t(apply(d, 1, \(row) order(row)[seq_len(k)])),
    distance = t(apply(d, 1, \(row) sort(row)[seq_len(k)]))
  )
}

test_that("distances and connectivities are scanpy's", {
  x <- find_neighbors(open_reduced())
  found <- without_names(as.matrix(x$obsp$distances))
  wanted <- reference_square("distances", 700)
  expect_identical(found != 0, wanted != 0)
  expect_lt(max(abs(found - wanted)), 1e-6)

  found <- without_names(as.matrix(x$obsp$connectivities))
  wanted <- reference_square("umap", 700)
  expect_identical(found != 0, wanted != 0)
  # Distances and memberships are float32 in umap-learn.
  expect_lt(max(abs(found - wanted)), 1e-6)

  x <- find_neighbors(x, connectivities = "gaussian")
  found <- without_names(as.matrix(x$obsp$connectivities))
  wanted <- reference_square("gaussian", 700)
  expect_lt(max(abs(found - wanted)), 1e-6)

  x <- find_neighbors(x, n_neighbors = 10, metric = "cosine")
  found <- without_names(as.matrix(x$obsp$distances))
  wanted <- reference_square("cosine_distances", 700)
  expect_identical(found != 0, wanted != 0)
  expect_lt(max(abs(found - wanted)), 1e-6)
})

test_that("the graph that a published file carries comes out again", {
  x <- open_reduced()
  published <- graph_matrix(x, "neighbors", "connectivities")
  # What the file says, and the components with which its distances agree.
  k <- x$uns$neighbors$params$n_neighbors
  x <- find_neighbors(x, n_neighbors = k, n_pcs = 30, key = "again")
  found <- graph_matrix(x, "again", "connectivities")
  expect_identical(found@p, published@p)
  expect_identical(found@i, published@i)
  # umap-learn stops its search for the widths at 1e-5, in float32.
  expect_lt(max(abs(found@x - published@x)), 1e-4)
  distances <- graph_matrix(x, "neighbors", "distances")
  again <- graph_matrix(x, "again", "distances")
  expect_identical(again@i, distances@i)
  expect_lt(max(abs(again@x / distances@x - 1)), 1e-5)
})

test_that("shared neighbours are Seurat's", {
  skip_if_not_installed("Seurat")
  x <- open_reduced()
  rep <- x$obsm$X_pca
  x <- find_neighbors(x, n_neighbors = 20, connectivities = "snn")
  found <- as.matrix(x$obsp$connectivities)
  wanted <- Seurat::FindNeighbors(
    rep,
    k.param = 20,
    nn.method = "rann",
    verbose = FALSE
  )
  nn <- as.matrix(wanted$nn)
  diag(nn) <- 0
  expect_equal(nn, as.matrix(x$obsp$distances > 0) * 1, ignore_attr = TRUE)
  snn <- as.matrix(wanted$snn)
  diag(snn) <- 0
  expect_equal(without_names(snn), without_names(found), tolerance = 1e-12)
})

test_that("each metric is that of base R", {
  x <- blobs(apart = 1)
  rep <- without_names(x$obsm$X_pca)
  directions <- rep / sqrt(rowSums(rep^2))
  centred <- rep - rowMeans(rep)
  correlations <- centred / sqrt(rowSums(centred^2))
  cases <- list(
    euclidean = base_neighbors(rep, 6),
    manhattan = base_neighbors(rep, 6, "manhattan"),
    cosine = base_neighbors(directions, 6),
    correlation = base_neighbors(correlations, 6)
  )
  for (metric in names(cases)) {
    found <- find_neighbors(x, n_neighbors = 7, metric = metric)
    table <- neighbor_table(found, "neighbors")
    wanted <- cases[[metric]]
    if (metric %in% c("cosine", "correlation")) {
      wanted$distance <- wanted$distance^2 / 2
    }
    expect_equal(table$index, wanted$index, ignore_attr = TRUE)
    expect_equal(table$distance, wanted$distance, ignore_attr = TRUE)
  }
})

test_that("what is stored is what scanpy stores", {
  x <- find_neighbors(blobs(apart = 1), n_neighbors = 8, n_pcs = 4)
  info <- x$uns$neighbors
  expect_equal(info$connectivities_key, "connectivities")
  expect_equal(info$distances_key, "distances")
  expect_equal(info$params$n_neighbors, 8)
  expect_equal(info$params$method, "umap")
  expect_equal(info$params$use_rep, "X_pca")
  expect_equal(info$params$n_pcs, 4)
  distances <- x$obsp$distances
  expect_s4_class(distances, "dgCMatrix")
  expect_equal(unname(Matrix::rowSums(distances != 0)), rep(7, 90))
  graph <- x$obsp$connectivities
  expect_true(Matrix::isSymmetric(graph))
  expect_true(methods::validObject(graph))
  expect_equal(rownames(graph), obs_names(x))
  expect_true(all(Matrix::diag(graph) == 0))

  x <- find_neighbors(x, n_neighbors = 5, key = "few")
  expect_equal(x$uns$few$connectivities_key, "few_connectivities")
  expect_equal(unname(Matrix::rowSums(x$obsp$few_distances != 0)), rep(4, 90))
  expect_identical(x$obsp$distances, distances)
})

test_that("threads do not matter", {
  x <- open_reduced()
  for (kind in c("umap", "gaussian", "snn")) {
    one <- find_neighbors(x, connectivities = kind, threads = 1)
    four <- find_neighbors(x, connectivities = kind, threads = 4)
    expect_identical(one$obsp$connectivities, four$obsp$connectivities)
    expect_identical(one$obsp$distances, four$obsp$distances)
  }
})

test_that("hnsw finds the neighbours, whatever the threads", {
  skip_if_not_installed("RcppHNSW")
  x <- pbmc3k_components()
  exact <- find_neighbors(x, method = "exact")
  found <- find_neighbors(x, method = "hnsw", threads = 1)
  again <- find_neighbors(x, method = "hnsw", threads = 2)
  expect_identical(found$obsp$distances, again$obsp$distances)
  expect_equal(found$uns$neighbors$params$search, "hnsw")
  both <- (found$obsp$distances != 0) & (exact$obsp$distances != 0)
  expect_gt(sum(both) / length(exact$obsp$distances@x), 0.98)
  # Distances are the engine's own.
  shared <- which(as.matrix(both))
  expect_identical(
    as.matrix(found$obsp$distances)[shared],
    as.matrix(exact$obsp$distances)[shared]
  )
  cosine <- find_neighbors(x, method = "hnsw", metric = "correlation")
  exact <- find_neighbors(x, metric = "correlation")
  both <- (cosine$obsp$distances != 0) & (exact$obsp$distances != 0)
  expect_gt(sum(both) / length(exact$obsp$distances@x), 0.98)
})

test_that("auto compares all pairs while that is quick", {
  expect_equal(search_method("auto", "euclidean", 1e5), "exact")
  expect_equal(search_method("auto", "euclidean", exact_limit()), "exact")
  expect_equal(search_method("auto", "manhattan", 1e7), "exact")
  skip_if_not_installed("RcppHNSW")
  expect_equal(search_method("auto", "euclidean", exact_limit() + 1), "hnsw")
})

test_that("a graph in pieces is reported", {
  x <- blobs(apart = 100)
  expect_message(
    find_neighbors(x, n_neighbors = 8),
    "3 components",
    class = "scoom_message_disconnected_graph"
  )
})

test_that("a graph read from the file is found", {
  x <- open_reduced()
  graph <- graph_matrix(x, "neighbors", "connectivities")
  expect_s4_class(graph, "dgCMatrix")
  expect_equal(dim(graph), c(700, 700))
  expect_equal(
    sum(graph),
    sum(x$obsp$connectivities %||% x$uns$neighbors$connectivities)
  )
})

test_that("bad input is refused", {
  x <- blobs()
  expect_snapshot(error = TRUE, {
    find_neighbors(x, n_neighbors = 91)
    find_neighbors(x, n_neighbors = 1)
    find_neighbors(x, metric = "hamming")
    find_neighbors(x, use_rep = "X_harmony")
    find_neighbors(x, n_pcs = 6)
    find_neighbors(open_example())
    find_neighbors(x, metric = "manhattan", method = "hnsw")
    find_neighbors(x, prune = 2)
    find_neighbors(data.frame())
  })
  expect_error(
    find_neighbors(x, n_neighbors = 91),
    class = "scoom_error_too_few_cells"
  )
  bad <- x
  rep <- without_names(x$obsm$X_pca)
  rep[7, 2] <- NA
  bad$obsm$X_pca <- rep
  error <- expect_error(
    find_neighbors(bad),
    class = "scoom_error_invalid_values"
  )
  expect_match(conditionMessage(error), "cell 7, dimension 2")
  rep[7, ] <- 0
  bad$obsm$X_pca <- rep
  expect_error(
    find_neighbors(bad, metric = "cosine"),
    "cell 7 has no direction",
    ignore.case = TRUE,
    class = "scoom_error_invalid_values"
  )
  bad$obsm$X_pca <- matrix("a", 90, 2)
  expect_error(find_neighbors(bad), class = "scoom_error_invalid_input")
  expect_missing_package(find_neighbors(x, method = "hnsw"), "RcppHNSW")
})

test_that("a budget that is too small is an error", {
  x <- open_example()
  x$obsm$wide <- matrix(stats::runif(n_obs(x) * 50), n_obs(x))
  x <- x[rep(seq_len(n_obs(x)), length.out = 2e5), ]
  withr::local_options(scoom.memory = "1MB", scoom.quiet = TRUE)
  expect_error(
    find_neighbors(x, use_rep = "wide"),
    class = "scoom_error_over_budget"
  )
})

test_that("the session's random numbers stay", {
  skip_if_not_installed("RcppHNSW")
  x <- blobs(apart = 1)
  withr::with_seed(5, {
    before <- get(".Random.seed", globalenv())
    find_neighbors(x)
    find_neighbors(x, method = "hnsw")
    expect_identical(get(".Random.seed", globalenv()), before)
  })
})

test_that("comparing all pairs of very many cells is told", {
  local_missing_package("RcppHNSW")
  exact <- "scoom_message_exact_search"
  expect_message(
    method <- search_method("auto", "euclidean", 1e7, NULL),
    "RcppHNSW",
    class = exact
  )
  expect_identical(method, "exact")
  expect_no_message(
    search_method("auto", "euclidean", 1e6, NULL),
    class = exact
  )
  # It has no such distance.
  expect_no_message(
    search_method("auto", "manhattan", 1e7, NULL),
    class = exact
  )
  expect_no_message(
    search_method("exact", "euclidean", 2e6, NULL),
    class = exact
  )
})
