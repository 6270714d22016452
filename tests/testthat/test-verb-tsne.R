test_that("neighbours stay together", {
  skip_if_not_installed("Rtsne")
  x <- open_reduced() |> run_tsne(n_iterations = 500)
  layout <- x$obsm$X_tsne
  expect_equal(dim(layout), c(700, 2))
  expect_equal(colnames(layout), c("TSNE1", "TSNE2"))
  expect_gt(trustworthiness(x$obsm$X_pca, layout), 0.9)
  expect_equal(x$uns$tsne$params$learning_rate, 200)
  # Rtsne's own search and random start end at no better a layout.
  own <- withr::with_seed(
    1,
    Rtsne::Rtsne(without_names(x$obsm$X_pca), pca = FALSE, max_iter = 500)
  )
  expect_lt(x$uns$tsne$divergence, 1.1 * sum(own$costs))
})

test_that("nothing is random", {
  skip_if_not_installed("Rtsne")
  x <- open_reduced()
  withr::with_seed(1, {
    before <- get(".Random.seed", globalenv())
    first <- run_tsne(x, n_iterations = 60)$obsm$X_tsne
    expect_identical(get(".Random.seed", globalenv()), before)
  })
  again <- withr::with_seed(2, run_tsne(x, n_iterations = 60)$obsm$X_tsne)
  expect_identical(again, first)
})

test_that("arguments reach the layout", {
  skip_if_not_installed("Rtsne")
  x <- blobs(apart = 1)
  x <- run_tsne(
    x,
    perplexity = 9.5,
    n_components = 3,
    metric = "cosine",
    theta = 0.1,
    n_iterations = 20,
    key = "X_three"
  )
  expect_equal(dim(x$obsm$X_three), c(90, 3))
  expect_equal(x$uns$X_three$params$metric, "cosine")
})

test_that("bad input is refused", {
  x <- blobs()
  expect_missing_package(run_tsne(x, perplexity = 5), "Rtsne")
  skip_if_not_installed("Rtsne")
  expect_snapshot(error = TRUE, {
    run_tsne(x)
    run_tsne(x, perplexity = 5, n_components = 4)
    run_tsne(x, perplexity = 5, theta = 2)
    run_tsne(x, perplexity = 5, use_rep = "X_umap")
  })
  expect_error(run_tsne(x), class = "scoom_error_too_few_cells")
})
