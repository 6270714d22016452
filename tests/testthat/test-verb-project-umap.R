# Every other cell as a reference with a layout, the others in its components.
laid_halves <- function(x, n_comps = 50, ...) {
  odd <- seq(1, n_obs(x), by = 2)
  reference <- run_pca(x[odd, ], n_comps = n_comps) |>
    find_neighbors() |>
    run_umap(...)
  list(reference = reference, query = project_pca(x[-odd, ], reference))
}

# Blobs with some layout, without a graph.
laid_blobs <- function(...) {
  x <- blobs(...)
  x$obsm$X_umap <- x$obsm$X_pca[, 1:2]
  x
}

squares <- function(from, to) {
  outer(rowSums(from^2), rowSums(to^2), "+") - 2 * tcrossprod(from, to)
}

# The share of cells with the label that most of their nearest `k` have.
label_share <- function(from, to, label_from, label_to, k = 15) {
  d <- squares(from, to)
  found <- apply(d, 1, \(d) {
    names(which.max(table(label_to[order(d)[seq_len(k)]])))
  })
  mean(found == label_from)
}

extent <- function(layout) max(apply(layout, 2, \(x) diff(range(x))))

pbmc3k_halves <- function() {
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  x <- x[!is.na(x$obs$louvain), ] |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = 2000) |>
    scale_genes(max_value = 10)
  laid_halves(x)
}

test_that("cells of pbmc3k lie among those of their label", {
  local_quiet()
  parts <- pbmc3k_halves()
  query <- project_umap(parts$query, parts$reference)
  placed <- query$obsm$X_umap
  layout <- parts$reference$obsm$X_umap
  expect_equal(dim(placed), c(n_obs(query), 2))
  expect_equal(colnames(placed), c("UMAP1", "UMAP2"))
  label <- as.character(query$obs$louvain)
  known <- as.character(parts$reference$obs$louvain)
  # umap-learn 0.5.12's transform() into the same layout has 0.909 to 0.911, ours 0.904 to
  # 0.911, with three seeds.
  expect_gt(label_share(placed, layout, label, known), 0.885)
  # Cells of the reference come back to where they are.
  own <- project_umap(parts$reference, parts$reference)$obsm$X_umap
  moved <- sqrt(rowSums((own - layout)^2))
  expect_lt(stats::median(moved), extent(layout) / 25)
  # A cell's place is its own.
  some <- c(700, 3, 3, 1200)
  alone <- project_umap(parts$query[some, ], parts$reference)$obsm$X_umap
  expect_identical(alone, placed[some, ])
})

test_that("cells of kang lie among those of their label", {
  local_quiet()
  x <- kang_components()
  x <- x[!is.na(x$obs$seurat_annotations), ]
  parts <- laid_halves(x, n_comps = 30)
  placed <- project_umap(parts$query, parts$reference)$obsm$X_umap
  layout <- parts$reference$obsm$X_umap
  label <- as.character(parts$query$obs$seurat_annotations)
  known <- as.character(parts$reference$obs$seurat_annotations)
  # Conditions part cells of one label: umap-learn 0.5.12's transform() has 0.666 to 0.677
  # on such halves, ours 0.681 to 0.684.
  expect_gt(label_share(placed, layout, label, known), 0.65)
})

test_that("a seed gives the same places, whatever the threads", {
  local_quiet()
  reference <- laid_blobs(c(60, 40, 30), apart = 1)
  query <- blobs(c(60, 40, 30), apart = 1, seed = 2)
  place <- \(...) project_umap(query, reference, ...)$obsm$X_umap
  withr::with_seed(1, {
    before <- get(".Random.seed", globalenv())
    one <- place(threads = 1)
    expect_identical(get(".Random.seed", globalenv()), before)
  })
  for (threads in c(1, 2, 4)) {
    expect_identical(place(threads = threads), one)
  }
  expect_false(identical(place(seed = 1), one))
})

test_that("cells start at the weighted mean of their neighbours", {
  local_quiet()
  reference <- laid_blobs(c(40, 30), apart = 1)
  query <- blobs(c(5, 6), apart = 1, seed = 2)
  from <- query$obsm$X_pca
  to <- reference$obsm$X_pca
  layout <- reference$obsm$X_umap
  for (metric in c("euclidean", "manhattan")) {
    found <- project_umap(
      query,
      reference,
      n_neighbors = 8,
      metric = metric,
      n_epochs = 0
    )$obsm$X_umap
    for (i in seq_len(11)) {
      d <- abs(sweep(to, 2, from[i, ]))
      d <- if (metric == "euclidean") sqrt(rowSums(d^2)) else rowSums(d)
      near <- order(d)[1:8]
      rest <- \(sigma) sum(exp(-d[near[-1]] / sigma)) - log2(8)
      sigma <- stats::uniroot(rest, c(1e-3, 1e6), tol = 1e-10)$root
      weight <- exp(-d[near] / sigma)
      want <- colSums(weight * layout[near, ]) / sum(weight)
      # The width is found to 1e-5 of the sum, coordinates are float32.
      expect_equal(unname(found[i, ]), want, tolerance = 1e-4)
    }
  }
  # No distance, no mean.
  own <- project_umap(reference, reference, n_epochs = 0)$obsm$X_umap
  expect_equal(own, layout, tolerance = 1e-6, ignore_attr = TRUE)
})

test_that("what is not given is that of the reference", {
  local_quiet()
  reference <- blobs(c(60, 50), apart = 1, d = 6)
  query <- blobs(c(8, 9), apart = 1, d = 6, seed = 2)
  reference$obsm$X_other <- reference$obsm$X_pca + 1
  query$obsm$X_other <- query$obsm$X_pca + 1
  reference <- reference |>
    find_neighbors(
      n_neighbors = 9,
      metric = "manhattan",
      use_rep = "X_other",
      n_pcs = 4,
      key = "own"
    ) |>
    run_umap(
      n_components = 3,
      min_dist = 0.2,
      spread = 1.5,
      n_epochs = 20,
      key = "X_three",
      neighbors = "own"
    )
  place <- \(...) project_umap(query, reference, umap = "X_three", ...)
  one <- place(key = "X_new")
  expect_equal(dim(one$obsm$X_new), c(17, 3))
  params <- one$uns$X_new$params
  expect_true(params$projected)
  expect_equal(params$min_dist, 0.2)
  expect_equal(params$spread, 1.5)
  expect_equal(params$n_neighbors, 9)
  expect_equal(params$use_rep, "X_other")
  expect_equal(params$n_pcs, 4)
  expect_equal(params$metric, "manhattan")
  given <- place(
    n_neighbors = 9,
    metric = "manhattan",
    use_rep = "X_other",
    n_pcs = 4,
    n_epochs = 100
  )
  expect_identical(given$obsm$X_umap, one$obsm$X_new)
  expect_false(identical(place(n_pcs = 5)$obsm$X_umap, one$obsm$X_new))
  for (other in list(
    list(n_neighbors = 5),
    list(metric = "euclidean"),
    list(use_rep = "X_pca"),
    list(n_epochs = 7),
    list(learning_rate = 0.5),
    list(negative_sample_rate = 2),
    list(repulsion = 2)
  )) {
    expect_false(
      identical(inject(place(!!!other))$obsm$X_umap, one$obsm$X_new),
      label = names(other)
    )
  }
  still <- place(learning_rate = 0)$obsm$X_umap
  expect_identical(still, place(n_epochs = 0)$obsm$X_umap)
})

test_that("the curve is the one that scanpy stored", {
  reference <- laid_blobs()
  curve <- \(params) {
    reference$uns$umap <- list(params = params)
    layout_params(reference, "X_umap", NULL)$curve
  }
  expect_identical(curve(list(a = 0.58, b = 1.33)), list(a = 0.58, b = 1.33))
  expect_identical(
    curve(list(min_dist = 0.1, spread = 2)),
    list(min_dist = 0.1, spread = 2)
  )
  defaults <- list(min_dist = 0.5, spread = 1)
  expect_identical(curve(list(a = "x", b = NULL)), defaults)
  expect_identical(curve(list(min_dist = 3, spread = 2)), defaults)
  expect_identical(curve(list(a = -1, b = NA_real_)), defaults)
  expect_identical(layout_params(laid_blobs(), "X_umap", NULL)$curve, defaults)
  # The same curve either way.
  local_quiet()
  query <- blobs(c(4, 3), seed = 2)
  reference$uns$umap <- list(params = list(a = 0.583030020, b = 1.334166992))
  stored <- project_umap(query, reference, n_epochs = 5)$obsm$X_umap
  fitted <- project_umap(query, laid_blobs(), n_epochs = 5)$obsm$X_umap
  expect_equal(stored, fitted, tolerance = 1e-3)
})

test_that("a published file serves as reference", {
  local_quiet()
  x <- open_reduced()
  placed <- project_umap(x[1:50, ], x)
  expect_named(placed$uns$umap$params[1:2], c("min_dist", "spread"))
  layout <- x$obsm$X_umap
  moved <- sqrt(rowSums((placed$obsm$X_umap - layout[1:50, ])^2))
  expect_lt(stats::median(moved), extent(layout) / 25)
})

test_that("no cells, far cells and cells in one place are fine", {
  local_quiet()
  reference <- laid_blobs()
  none <- project_umap(reference[0, ], reference)$obsm$X_umap
  expect_equal(dim(none), c(0, 2))
  query <- blobs(c(3, 2))
  rep <- query$obsm$X_pca
  rep[1, ] <- 1e6
  rep[2, ] <- -1e100
  rep[3, ] <- rep[4, ]
  query$obsm$X_pca <- rep
  placed <- project_umap(query, reference)$obsm$X_umap
  expect_true(all(is.finite(placed)))
  expect_identical(placed[3, ], placed[4, ])
  expect_lt(max(abs(placed)), 2 * max(abs(reference$obsm$X_umap)) + 10)
  # One neighbour, all neighbours, a reference in one place.
  for (k in c(1, 2, 90)) {
    placed <- project_umap(query, reference, n_neighbors = k)$obsm$X_umap
    expect_true(all(is.finite(placed)))
  }
  reference$obsm$X_umap <- matrix(3, 90, 2)
  placed <- project_umap(query, reference)$obsm$X_umap
  expect_true(all(placed == 3))
})

test_that("the object and the file stay as they are", {
  local_quiet()
  reference <- laid_blobs()
  query <- blobs()
  placed <- project_umap(query, reference)
  expect_false("X_umap" %in% names(query$obsm))
  expect_identical(placed$obsm$X_pca, query$obsm$X_pca)
  expect_identical(reference$obsm$X_umap, laid_blobs()$obsm$X_umap)
})

test_that("bad input has its classes", {
  local_quiet()
  x <- laid_blobs()
  invalid <- "scoom_error_invalid_input"
  expect_error(project_umap(1, x), class = invalid)
  expect_error(project_umap(x, 1), class = invalid)
  expect_error(project_umap(x), class = invalid)
  expect_error(project_umap(x, x, n_neighbors = 0), class = invalid)
  expect_error(project_umap(x, x, metric = "chebyshev"), class = invalid)
  expect_error(project_umap(x, x, n_epochs = -1), class = invalid)
  expect_error(project_umap(x, x, learning_rate = -1), class = invalid)
  expect_error(project_umap(x, x, negative_sample_rate = -1), class = invalid)
  expect_error(project_umap(x, x, repulsion = -1), class = invalid)
  expect_error(project_umap(x, x, seed = "a"), class = invalid)
  expect_error(project_umap(x, x, key = 1), class = invalid)
  missing <- "scoom_error_element_missing"
  # The reference has no layout, then no embedding; then the query has none.
  error <- expect_error(project_umap(x, blobs()), class = missing)
  expect_match(conditionMessage(error), "run_umap()", fixed = TRUE)
  expect_error(project_umap(x, x, umap = "X_other"), class = missing)
  expect_error(project_umap(x, x, use_rep = "X_other"), class = missing)
  error <- expect_error(project_umap(open_example(), x), class = missing)
  expect_match(conditionMessage(error), "project_pca()", fixed = TRUE)
  few <- "scoom_error_too_few_cells"
  expect_error(project_umap(x, x, n_neighbors = 91), class = few)
  expect_error(project_umap(x, x[1:10, ]), class = few)
  y <- x
  y$obsm$X_pca <- x$obsm$X_pca[, 1:3]
  wrong <- "scoom_error_wrong_shape"
  expect_error(project_umap(y, x), class = wrong)
  # Nor where the graph of the reference says how many dimensions there are.
  z <- find_neighbors(x, n_neighbors = 8)
  expect_error(project_umap(y, z), class = wrong)
  y <- x
  layout <- x$obsm$X_umap
  layout[7, 2] <- NA
  y$obsm$X_umap <- layout
  values <- "scoom_error_invalid_values"
  expect_error(project_umap(x, y), class = values)
  rep <- x$obsm$X_pca
  rep[3, 1] <- NaN
  y <- x
  y$obsm$X_pca <- rep
  expect_error(project_umap(y, x), class = values)
  expect_error(project_umap(x, y), class = values)
  y$obsm$X_umap <- matrix(0, 90, 65)
  expect_error(project_umap(x, y), class = "scoom_error")
})
