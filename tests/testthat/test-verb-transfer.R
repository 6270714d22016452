# Half of the cells as the reference, the others as the query.
halves <- function(x, n_comps = 50, ...) {
  odd <- seq(1, n_obs(x), by = 2)
  reference <- run_pca(x[odd, ], n_comps = n_comps, ...)
  query <- project_pca(x[-odd, ], reference)
  list(reference = reference, query = query)
}

blob_levels <- function() paste0("b", 1:3)

test_that("labels are those of the rule of scanpy's ingest on pbmc68k_reduced", {
  local_quiet()
  x <- open_reduced()
  parts <- halves(x, features = seq_len(n_vars(x)))
  got <- transfer_labels(parts$query, parts$reference, "bulk_labels")
  index <- reference_index("ingest")
  want <- index$levels_pbmc68k[reference_table("ingest", "pbmc68k")$label + 1]
  # scanpy centres the query at its own means, which moves 3 % of so few cells.
  expect_gte(mean(as.character(got$obs$bulk_labels) == want), 0.95)
})

test_that("half of pbmc3k gives the other half its published labels", {
  local_quiet()
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  genes <- reference_names("pbmc3k", "genes")
  x <- x[!is.na(x$obs$louvain), genes] |>
    normalize_total(target_sum = 1e4) |>
    log1p()
  parts <- halves(x, features = reference_names("pbmc3k", "pca_genes"))
  got <- transfer_labels(parts$query, parts$reference, "louvain", key = "found")
  # 93 %: the published labels are those of clusters in such components.
  expect_gt(
    mean(as.character(got$obs$found) == as.character(got$obs$louvain)),
    0.9
  )
})

test_that("votes are counted as by hand", {
  reference <- blobs(c(30, 20, 10), apart = 3)
  query <- reference[c(5, 40, 41, 58), ]
  rep <- query$obsm$X_pca + 0.3
  query$obsm$X_pca <- rep
  points <- reference$obsm$X_pca
  label <- reference$obs$blob
  label[c(2, 31)] <- NA
  reference$obs$label <- label
  for (metric in c("euclidean", "manhattan")) {
    distances <- apply(points, 1, \(p) {
      d <- sweep(rep, 2, p)
      if (metric == "euclidean") sqrt(rowSums(d^2)) else rowSums(abs(d))
    })
    for (weights in c("uniform", "distance")) {
      got <- quietly(transfer_labels(
        query,
        reference,
        "label",
        n_neighbors = 7,
        metric = metric,
        weights = weights
      ))
      for (i in 1:4) {
        nearest <- order(distances[i, ])[1:7]
        w <- if (weights == "uniform") rep(1, 7) else 1 / distances[i, nearest]
        votes <- tapply(w, factor(label[nearest], blob_levels()), sum)
        votes[is.na(votes)] <- 0
        expect_identical(
          as.character(got$obs$label[[i]]),
          names(votes)[[which.max(votes)]]
        )
        expect_equal(got$obs$label_confidence[[i]], max(votes) / sum(w))
      }
    }
  }
})

test_that("threads change no bit, several labels go at once, no cells are fine", {
  local_quiet()
  x <- blobs(c(60, 40, 30), apart = 1)
  x$obs$other <- rep(c(TRUE, FALSE), 65)
  run <- \(query = x, ...) {
    transfer_labels(query, x, c("blob", "other"), key = c("p", "q"), ...)
  }
  one <- run(threads = 1)
  expect_identical(run(threads = 4)$obs, one$obs)
  expect_identical(levels(one$obs$q), c("FALSE", "TRUE"))
  expect_true(all(one$obs$p_confidence > 0 & one$obs$p_confidence <= 1))
  none <- run(x[0, ])
  expect_identical(levels(none$obs$p), blob_levels())
  # The nearest cell of each is itself.
  same <- transfer_labels(x, x, "blob", n_neighbors = 1, key = "same")
  expect_identical(as.character(same$obs$same), x$obs$blob)
  expect_identical(same$obs$same_confidence, rep(1, 130))
})

test_that("bad input has its classes", {
  local_quiet()
  x <- blobs()
  invalid <- "scoom_error_invalid_input"
  expect_error(transfer_labels(x, x), class = invalid)
  expect_error(transfer_labels(1, x, "blob"), class = invalid)
  expect_error(transfer_labels(x, 1, "blob"), class = invalid)
  expect_error(transfer_labels(x, x, c("blob", "blob")), class = invalid)
  expect_error(
    transfer_labels(x, x, "blob", key = c("a", "b")),
    class = invalid
  )
  expect_error(transfer_labels(x, x, "blob", weights = "none"), class = invalid)
  expect_error(transfer_labels(x, x, "blob", n_neighbors = 0), class = invalid)
  expect_error(
    transfer_labels(x, x, "blop"),
    class = "scoom_error_column_missing"
  )
  expect_error(
    transfer_labels(x, x, "blob", n_neighbors = 91),
    class = "scoom_error_too_few_cells"
  )
  missing <- "scoom_error_element_missing"
  expect_error(transfer_labels(open_example(), x, "blob"), class = missing)
  expect_error(
    transfer_labels(x, open_example(), "cell_type"),
    class = missing
  )
  y <- x
  y$obsm$X_pca <- x$obsm$X_pca[, 1:3]
  expect_error(transfer_labels(y, x, "blob"), class = "scoom_error_wrong_shape")
})
