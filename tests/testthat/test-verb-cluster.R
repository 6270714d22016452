test_that("Leiden on pbmc3k finds the published clusters, as well as scanpy", {
  reference <- reference_index("graph")$pbmc3k
  scanpy <- reference_table("graph", "leiden")
  x <- pbmc3k_components() |> find_neighbors(n_neighbors = 15, n_pcs = 50)
  seeds <- 0:3
  for (seed in seeds) {
    x <- cluster_leiden(x, resolution = 0.5, seed = seed)
    found <- x$obs$leiden
    known <- !is.na(x$obs$louvain)
    expect_gt(adjusted_rand_index(found[known], x$obs$louvain[known]), 0.8)
    # Each seed agrees with scanpy's seeds as these do with each other.
    against <- vapply(scanpy, adjusted_rand_index, 0, found)
    expect_gt(mean(against), reference$leiden_seed_to_seed_mean - 0.02)
    ratio <- x$uns$leiden$modularity / mean(reference$leiden_modularity)
    expect_gt(ratio, 0.995)
    expect_lt(ratio, 1.005)
  }
})

test_that("two iterations are as good as scanpy's, of either flavour", {
  reference <- reference_index("graph")$pbmc3k
  x <- pbmc3k_components() |> find_neighbors(n_neighbors = 15, n_pcs = 50)
  expect_equal(eval(formals(cluster_leiden)$n_iterations), 2)
  flavours <- list(
    leiden = reference[c("leiden_modularity", "leiden_seed_to_seed_mean")],
    leidenalg = reference[c(
      "leidenalg_modularity",
      "leidenalg_seed_to_seed_mean"
    )]
  )
  runs <- lapply(0:3, \(seed) cluster_leiden(x, 0.5, seed = seed))
  for (flavour in names(flavours)) {
    scanpy <- reference_table("graph", flavour)
    modularity <- mean(flavours[[flavour]][[1]])
    seed_to_seed <- flavours[[flavour]][[2]]
    for (run in runs) {
      against <- vapply(scanpy, adjusted_rand_index, 0, run$obs$leiden)
      expect_gt(mean(against), seed_to_seed - 0.02)
      ratio <- run$uns$leiden$modularity / modularity
      expect_lt(abs(ratio - 1), 0.005)
    }
  }
})

test_that("clusters of a published graph are those published with it", {
  x <- open_reduced()
  published <- x$obs$louvain
  graph <- x$obsp$connectivities
  total <- sum(graph)
  inside <- vapply(
    levels(published),
    \(g) sum(graph[published == g, published == g]),
    0
  )
  degrees <- rowsum(Matrix::rowSums(graph), published)
  modularity <- sum(inside) / total - sum((degrees / total)^2)
  for (seed in 0:2) {
    x <- cluster_leiden(x, seed = seed) |>
      cluster_louvain(seed = seed, key = "own")
    # Two partitions of nearly the same modularity, of another algorithm's seeds.
    expect_gt(adjusted_rand_index(x$obs$leiden, published), 0.8)
    expect_gt(adjusted_rand_index(x$obs$own, published), 0.8)
    expect_gt(x$uns$leiden$modularity, modularity)
    expect_lt(abs(x$uns$own$modularity / modularity - 1), 0.015)
  }
})

test_that("modularity is that of the formula", {
  x <- find_neighbors(open_reduced()) |> cluster_leiden()
  graph <- x$obsp$connectivities
  group <- x$obs$leiden
  total <- sum(graph)
  inside <- sum(vapply(
    levels(group),
    \(g) sum(graph[group == g, group == g]),
    0
  ))
  degrees <- rowsum(Matrix::rowSums(graph), group)
  wanted <- inside / total - sum((degrees / total)^2)
  expect_equal(x$uns$leiden$modularity, wanted, tolerance = 1e-10)
})

test_that("clusters are named from the largest to the smallest", {
  x <- suppressMessages(find_neighbors(blobs(), n_neighbors = 10))
  for (cluster in list(cluster_leiden, cluster_louvain)) {
    y <- cluster(x, resolution = 0.1, key = "found")
    expect_s3_class(y$obs$found, "factor")
    expect_equal(levels(y$obs$found), c("0", "1", "2"))
    expect_equal(as.vector(table(y$obs$found)), c(40, 30, 20))
    expect_equal(adjusted_rand_index(y$obs$found, y$obs$blob), 1)
  }
  expect_equal(by_size(c(7, 7, 2, 9, 9)), factor(c(0, 0, 2, 1, 1), 0:2))
  expect_equal(levels(by_size(rep(1:12, 12:1)))[11:12], c("10", "11"))
  expect_equal(levels(by_size(integer())), character())
})

test_that("each resolution is what it is alone", {
  x <- find_neighbors(open_reduced())
  several <- cluster_leiden(x, resolution = c(0.25, 1, 2), seed = 3)
  alone <- cluster_leiden(x, resolution = 2, seed = 3)
  expect_identical(several$obs$leiden_2, alone$obs$leiden)
  expect_identical(
    several$uns$leiden_2$modularity,
    alone$uns$leiden$modularity
  )
  sizes <- vapply(
    c("leiden_0.25", "leiden_1", "leiden_2"),
    \(key) nlevels(several$obs[[key]]),
    0L
  )
  expect_true(all(diff(sizes) > 0))
  louvain <- cluster_louvain(x, resolution = c(0.5, 2))
  expect_lt(nlevels(louvain$obs$louvain_0.5), nlevels(louvain$obs$louvain_2))
  cpm <- cluster_leiden(x, resolution = 0.05, objective = "CPM")
  expect_gt(nlevels(cpm$obs$leiden), 1)
})

test_that("a seed gives the same clusters, and the session's seed stays", {
  x <- find_neighbors(open_reduced())
  withr::with_seed(1, {
    before <- get(".Random.seed", globalenv())
    first <- cluster_leiden(x, resolution = 2, seed = 8)$obs$leiden
    louvain <- cluster_louvain(x, seed = 8)$obs$louvain
    kmeans <- cluster_kmeans(x, 5, seed = 8)$obs$kmeans
    expect_identical(get(".Random.seed", globalenv()), before)
  })
  withr::with_seed(2, .rng_kind = "Wichmann-Hill", code = {
    expect_identical(cluster_leiden(x, 2, seed = 8)$obs$leiden, first)
    expect_identical(cluster_louvain(x, seed = 8)$obs$louvain, louvain)
    expect_identical(cluster_kmeans(x, 5, seed = 8)$obs$kmeans, kmeans)
    expect_equal(RNGkind()[[1]], "Wichmann-Hill")
  })
})

test_that("groups are divided on their own part of the graph", {
  x <- find_neighbors(open_reduced()) |> cluster_leiden(resolution = 0.5)
  parent <- x$obs$leiden
  x <- cluster_leiden(x, within = "leiden", groups = "1", key = "part")
  part <- x$obs$part
  expect_identical(
    part[parent != "1"],
    factor(parent, levels(part))[parent != "1"]
  )
  inside <- as.character(part[parent == "1"])
  expect_match(inside, "^1,[0-9]+$")
  expect_gt(length(unique(inside)), 1)
  expect_equal(levels(part)[1:2], c("0", "1,0"))
  # The same cells alone.
  alone <- cluster_leiden(x[which(parent == "1"), ])$obs$leiden
  expect_equal(inside, paste0("1,", alone))
  expect_null(x$uns$part$modularity)

  all <- cluster_louvain(x, within = "leiden", key = "all")$obs$all
  expect_true(all(sub(",.*", "", all) == as.character(parent)))
  by_kmeans <- cluster_kmeans(x, 2, within = "leiden", key = "k")$obs$k
  expect_equal(nlevels(by_kmeans), 2 * nlevels(parent))
})

test_that("k-means and merging find blobs", {
  x <- blobs()
  x <- cluster_kmeans(x, n_clusters = 3)
  expect_equal(adjusted_rand_index(x$obs$kmeans, x$obs$blob), 1)
  expect_equal(as.vector(table(x$obs$kmeans)), c(40, 30, 20))
  rep <- without_names(x$obsm$X_pca)
  centers <- rowsum(rep, x$obs$kmeans) / c(40, 30, 20)
  expect_equal(x$uns$kmeans$centers, without_names(centers))
  spread <- rowSums((rep - centers[x$obs$kmeans, ])^2)
  within <- as.vector(rowsum(spread, x$obs$kmeans))
  expect_equal(x$uns$kmeans$within_ss, within)

  for (linkage in c("ward.D2", "average", "complete", "single")) {
    y <- cluster_hierarchical(x, n_clusters = 3, linkage = linkage)
    expect_equal(adjusted_rand_index(y$obs$hierarchical, x$obs$blob), 1)
    wanted <- stats::hclust(stats::dist(rep), linkage)
    expect_equal(y$uns$hierarchical$merge, wanted$merge)
    expect_equal(y$uns$hierarchical$height, wanted$height)
  }
})

test_that("means of groups are merged in place of cells", {
  x <- blobs()
  x$obs$fine <- rep(c("a", "b", "c", "d", NA), length.out = 90)
  x$obs$fine <- ifelse(is.na(x$obs$fine), NA, paste0(x$obs$blob, x$obs$fine))
  local_quiet()
  x <- cluster_hierarchical(x, 3, group_by = "fine")
  found <- x$obs$hierarchical
  expect_identical(is.na(found), is.na(x$obs$fine))
  used <- !is.na(found)
  expect_equal(adjusted_rand_index(found[used], x$obs$blob[used]), 1)
  expect_equal(x$uns$hierarchical$labels, sort(unique(x$obs$fine[used])))
  rep <- without_names(x$obsm$X_pca)[used, ]
  groups <- x$obs$fine[used]
  means <- rowsum(rep, groups) / as.vector(table(groups))
  wanted <- stats::hclust(stats::dist(means), "ward.D2")
  expect_equal(x$uns$hierarchical$height, wanted$height)
})

test_that("bad input is refused", {
  x <- blobs()
  expect_snapshot(error = TRUE, {
    cluster_leiden(x)
    cluster_kmeans(x, n_clusters = 91)
    cluster_kmeans(x, n_clusters = 3, use_rep = "X_harmony")
    cluster_kmeans(x, n_clusters = 3, groups = "b1")
    cluster_kmeans(x, n_clusters = 3, within = "blob", groups = "b7")
    cluster_hierarchical(x, n_clusters = 91)
    cluster_hierarchical(x, n_clusters = 2, group_by = "blob", within = "blob")
  })
  x <- suppressMessages(find_neighbors(x, n_neighbors = 10))
  expect_error(
    cluster_leiden(x, neighbors = "other"),
    class = "scoom_error_neighbors_missing"
  )
  expect_snapshot(error = TRUE, {
    cluster_leiden(x, resolution = c(1, NA))
    cluster_leiden(x, resolution = numeric())
    cluster_leiden(x, objective = "quality")
    cluster_louvain(x, seed = 1.5)
    cluster_louvain(x, within = "nothing")
  })
})

test_that("graphs without symmetric weights are refused", {
  x <- suppressMessages(find_neighbors(blobs(), n_neighbors = 10))
  graph <- x$obsp$connectivities
  pair <- c(graph@i[[1]] + 1, 1)
  for (value in c(0.123, NA, -0.5, Inf)) {
    for (both in c(FALSE, TRUE)) {
      bad <- graph
      bad[pair[[1]], pair[[2]]] <- value
      if (both) {
        bad[pair[[2]], pair[[1]]] <- value
      }
      y <- x
      y$obsp$connectivities <- bad
      if (both && identical(value, 0.123)) {
        expect_no_error(cluster_leiden(y))
        next
      }
      for (cluster in list(cluster_leiden, cluster_louvain)) {
        error <- expect_error(cluster(y), class = "scoom_error_invalid_graph")
        expect_match(conditionMessage(error), "cells [0-9]+ and [0-9]+")
      }
    }
  }
})

test_that("the diagonal and stored zeros of a graph do not count", {
  x <- suppressMessages(find_neighbors(blobs(), n_neighbors = 10))
  found <- cluster_leiden(x, 2)
  graph <- x$obsp$connectivities
  diag(graph) <- 3
  graph[1, 90] <- 1
  graph@x[graph@i == 0 & graph@x == 1 & rep(1:90, diff(graph@p)) == 90] <- 0
  y <- x
  y$obsp$connectivities <- graph
  expect_gt(length(graph@x), length(x$obsp$connectivities@x) + 90)
  expect_identical(cluster_leiden(y, 2)$obs$leiden, found$obs$leiden)
})

# igraph's value of the objective that igraph raises, and its own best partition.
igraph_reference <- function(graph, objective, resolution, seed) {
  edges <- Matrix::summary(graph)
  edges <- edges[edges$i < edges$j, ]
  network <- igraph::make_graph(
    rbind(edges$i, edges$j),
    n = ncol(graph),
    directed = FALSE
  )
  args <- list(
    network,
    objective_function = objective,
    weights = edges$x,
    n_iterations = 2
  )
  known <- names(formals(igraph::cluster_leiden))
  name <- intersect(c("resolution", "resolution_parameter"), known)[[1]]
  args[[name]] <- resolution
  found <- withr::with_seed(seed, do.call(igraph::cluster_leiden, args))
  list(network = network, weights = edges$x, of = igraph::membership(found))
}

# The sum over pairs within clusters of weights less what is expected, over all weights.
objective_value <- function(graph, of, objective, resolution) {
  of <- as.integer(factor(of))
  total <- sum(graph)
  pairs <- Matrix::summary(graph)
  inside <- sum(pairs$x[of[pairs$i] == of[pairs$j]])
  mass <- if (objective == "CPM") rep(1, length(of)) else Matrix::rowSums(graph)
  scale <- if (objective == "CPM") 1 else total
  (inside - resolution * sum(rowsum(mass, of)^2) / scale) / total
}

test_that("clusters are as good as igraph's for both objectives", {
  skip_if_not_installed("igraph")
  x <- pbmc3k_components() |> find_neighbors(n_neighbors = 15, n_pcs = 50)
  graph <- x$obsp$connectivities
  settings <- list(
    modularity = c(0.25, 0.5, 1, 2),
    CPM = c(0.005, 0.02, 0.1)
  )
  for (objective in names(settings)) {
    for (resolution in settings[[objective]]) {
      value <- \(of) objective_value(graph, of, objective, resolution)
      own <- their <- numeric()
      for (seed in 0:4) {
        y <- cluster_leiden(x, resolution, objective, seed = seed)
        reference <- igraph_reference(graph, objective, resolution, seed)
        own <- c(own, value(y$obs$leiden))
        their <- c(their, value(reference$of))
        modularity <- igraph::modularity(
          reference$network,
          as.integer(y$obs$leiden),
          weights = reference$weights
        )
        expect_equal(y$uns$leiden$modularity, modularity, tolerance = 1e-10)
        # No cluster falls apart.
        connected <- vapply(
          split(seq_along(y$obs$leiden), y$obs$leiden),
          \(cells) {
            igraph::is_connected(
              igraph::induced_subgraph(reference$network, cells)
            )
          },
          NA
        )
        expect_true(all(connected))
      }
      # Two heuristics of one objective; seeds of either differ by up to two percent.
      expect_gt(mean(own), 0.995 * mean(their))
      expect_gt(min(own), 0.995 * min(their))
    }
  }
})

test_that("iterating until stable is no worse, and seeds agree", {
  x <- find_neighbors(open_reduced())
  two <- cluster_leiden(x, seed = 1)
  stable <- cluster_leiden(x, n_iterations = NULL, seed = 1)
  expect_gte(stable$uns$leiden$modularity, two$uns$leiden$modularity)
  expect_identical(stable$uns$leiden$params$n_iterations, -1L)
  exact <- cluster_leiden(x, n_iterations = NULL, beta = 0, seed = 1)
  expect_gt(exact$uns$leiden$modularity, 0.99 * two$uns$leiden$modularity)
})

test_that("Louvain is as good as igraph's", {
  skip_if_not_installed("igraph")
  x <- find_neighbors(open_reduced())
  graph <- x$obsp$connectivities
  network <- igraph_reference(graph, "modularity", 1, 0)
  own <- vapply(
    0:4,
    \(s) cluster_louvain(x, seed = s)$uns$louvain$modularity,
    0
  )
  their <- vapply(
    0:4,
    \(s) {
      found <- withr::with_seed(
        s,
        igraph::cluster_louvain(network$network, weights = network$weights)
      )
      max(found$modularity)
    },
    0
  )
  expect_gt(mean(own), 0.99 * mean(their))
})

test_that("no cells and single cells can be groups", {
  x <- suppressMessages(find_neighbors(blobs(), n_neighbors = 10))
  x$obs$lone <- factor(c("a", rep("b", 89)), c("a", "b", "none"))
  part <- cluster_leiden(x, within = "lone", key = "part")$obs$part
  expect_equal(as.character(part[[1]]), "a,0")
  expect_match(as.character(part[-1]), "^b,")
  x$obsp$connectivities <- x$obsp$connectivities * 0
  y <- cluster_leiden(x)
  expect_equal(nlevels(y$obs$leiden), 90)
  expect_true(is.nan(y$uns$leiden$modularity))
})

test_that("values that are not finite are named", {
  x <- blobs()
  rep <- without_names(x$obsm$X_pca)
  rep[4, 3] <- Inf
  x$obsm$X_pca <- rep
  for (cluster in list(cluster_kmeans, cluster_hierarchical)) {
    error <- expect_error(
      cluster(x, n_clusters = 2),
      class = "scoom_error_invalid_values"
    )
    expect_match(conditionMessage(error), "cell 4")
  }
})

test_that("merging too many cells names the way out", {
  x <- open_example()
  x <- x[rep(seq_len(n_obs(x)), length.out = 4000), ]
  x$obsm$X_pca <- matrix(stats::runif(8000), 4000)
  withr::local_options(scoom.memory = "100MB")
  error <- expect_error(
    cluster_hierarchical(x, 3),
    class = "scoom_error_over_budget"
  )
  expect_match(conditionMessage(error), "group_by")
})

test_that("k-means that does not converge warns", {
  x <- open_reduced()
  expect_warning(
    cluster_kmeans(x, 20, max_iterations = 1, n_starts = 1),
    class = "scoom_warning_not_converged"
  )
})

test_that("messages name the group that is too small, and what repeats", {
  x <- blobs(c(30, 20, 1))
  for (cluster in list(cluster_kmeans, cluster_hierarchical)) {
    expect_error(
      cluster(x, n_clusters = 3, within = "blob"),
      "in group \"b3\" of blob",
      class = "scoom_error_too_few_cells"
    )
  }
  x <- quietly(find_neighbors(x, n_neighbors = 10))
  expect_error(
    cluster_leiden(x, resolution = c(1, 0.5, 1)),
    "1 is given more than once",
    class = "scoom_error_invalid_input"
  )
})
