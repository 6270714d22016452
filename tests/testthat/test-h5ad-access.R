test_that("columns are added, changed, removed and reordered without side effects", {
  x <- open_example()
  before <- x$obs
  y <- x
  y$obs$score <- seq_len(n_obs(y)) / 2
  expect_identical(y$obs$score, seq_len(2000) / 2)
  expect_identical(x$obs, before)
  y$obs$donor <- as.character(y$obs$donor)
  expect_type(y$obs$donor, "character")
  expect_s3_class(x$obs$donor, "factor")
  y$obs$sex <- NULL
  expect_identical(
    names(y$obs),
    c("cell_type", "donor", "condition", "batch", "low_quality", "score")
  )
  y$obs <- y$obs[c("score", "cell_type")]
  expect_identical(names(y$obs), c("score", "cell_type"))
  expect_identical(y$obs$cell_type, before$cell_type)
  y$obs[["cell_type"]][1:2] <- "B cell"
  expect_identical(as.character(y$obs$cell_type[1:2]), c("B cell", "B cell"))
  y$var$length <- rep(1L, n_vars(y))
  expect_identical(names(y$var), c(names(x$var), "length"))
})

test_that("only columns that changed are kept in the object", {
  x <- open_example()
  x$obs$new <- 1
  expect_identical(names(field(x, "slots")$obs$set), "new")
  y <- x[2000:1, ]
  y$obs$newer <- 2
  expect_identical(names(field(y, "slots")$obs$set), c("new", "newer"))
})

test_that("data frames that don't fit are refused", {
  x <- open_example()[1:3, 1:2]
  obs <- x$obs
  expect_error(x$obs <- obs[1:2, ], class = "scoom_error_wrong_shape")
  expect_error(x$obs <- obs[3:1, ], class = "scoom_error_names_differ")
  expect_error(x$obs <- as.list(obs), class = "scoom_error_invalid_input")
  bad <- obs
  names(bad)[2] <- names(bad)[1]
  expect_error(x$obs <- bad, class = "scoom_error_invalid_input")
  rownames(obs) <- NULL
  obs$new <- 1:3
  x$obs <- obs
  expect_identical(x$obs$new, 1:3)
  expect_identical(rownames(x$obs), x$obs_names)
  expect_snapshot(error = TRUE, {
    x$obs <- x$obs[3:1, ]
    x$obs <- x$obs[1:2, ]
  })
})

test_that("obsm, varm, obsp and varp take matrices of their shape", {
  x <- open_example()[1:5, 1:4]
  pca <- matrix(1:10 / 3, 5, dimnames = list(NULL, c("PC1", "PC2")))
  x$obsm$X_pca <- pca
  expect_identical(unname(x$obsm$X_pca), unname(pca))
  expect_identical(dimnames(x$obsm$X_pca), list(x$obs_names, c("PC1", "PC2")))
  expect_identical(x$obsm[["X_pca"]], x$obsm$X_pca)
  x$varm$PCs <- matrix(0, 4, 2)
  x$obsp$distances <- Matrix::Diagonal(5)
  x$varp$correlation <- diag(4)
  x$obsm$frame <- data.frame(a = 1:5)
  x$uns$note <- list(a = 1, b = "two")
  x$uns$note$a <- 2
  expect_identical(x$uns$note, list(a = 2, b = "two"))
  expect_identical(names(x$obsm), c("X_pca", "frame"))
  expect_length(x$obsm, 2)
  expect_error(x$obsm$bad <- matrix(0, 4, 2), class = "scoom_error_wrong_shape")
  expect_error(x$obsp$bad <- matrix(0, 5, 4), class = "scoom_error_wrong_shape")
  expect_error(x$obsm$bad <- 1:5, class = "scoom_error_invalid_input")
  expect_error(x$obsm <- 1:5, class = "scoom_error_invalid_input")
  y <- x[c(3, 1, 3), c(4, 2)]
  expect_identical(unname(y$obsm$X_pca), unname(pca[c(3, 1, 3), ]))
  expect_identical(dim(y$varm$PCs), c(2L, 2L))
  expect_identical(
    unname(as.matrix(y$obsp$distances)),
    diag(5)[c(3, 1, 3), c(3, 1, 3)]
  )
  expect_identical(unname(y$varp$correlation), diag(2))
  expect_identical(y$obsm$frame$a, c(3L, 1L, 3L))
  expect_identical(y$uns$note, x$uns$note)
  x$obsm$X_pca <- NULL
  expect_identical(names(x$obsm), "frame")
  x$obsm <- list(other = matrix(1, 5, 1))
  expect_identical(names(x$obsm), "other")
  x$obsm <- NULL
  expect_length(x$obsm, 0)
})

test_that("elements of the file can be hidden and replaced", {
  x <- open_fixture("containers")
  pca <- x$obsm$X_pca
  x$obsm$X_pca <- NULL
  expect_false("X_pca" %in% names(x$obsm))
  expect_error(x$obsm$X_pca, class = "scoom_error_element_missing")
  x$obsm$X_pca <- pca * 2
  expect_identical(x$obsm$X_pca, pca * 2)
  y <- open_fixture("containers")
  expect_identical(y$obsm$X_pca, pca)
  y$obsm <- x$obsm
  expect_identical(y$obsm$X_pca, pca * 2)
})

test_that("layers take matrices and lazy chains", {
  x <- open_example()[1:50, 1:40]
  m <- as.matrix(x$X)
  x$layers$dense <- m + 0.5
  x$layers$sparse <- Matrix::Matrix(m, sparse = TRUE)
  x$layers$lazy <- log1p(x$X)
  expect_identical(names(x$layers), c("dense", "sparse", "lazy"))
  expect_identical(as.matrix(x$layers$dense), m + 0.5)
  expect_identical(as.matrix(x$layers$sparse), m)
  expect_equal(as.matrix(x$layers$lazy), log1p(m), tolerance = 1e-14)
  expect_identical(as.matrix(x$X), m)
  y <- x[c(7, 3, 3), c(40, 2)]
  expect_identical(
    without_names(as.matrix(y$layers$dense)),
    without_names(m[c(7, 3, 3), c(40, 2)]) + 0.5
  )
  expect_equal(
    without_names(as.matrix(y$layers$lazy)),
    without_names(log1p(m[c(7, 3, 3), c(40, 2)])),
    tolerance = 1e-14
  )
  expect_error(x$layers$bad <- t(m), class = "scoom_error_wrong_shape")
  expect_error(x$layers$bad <- "a", class = "scoom_error_invalid_input")
  m[3, 3] <- NA
  expect_error(x$layers$bad <- m, class = "scoom_error_invalid_values")
  x$X <- x$layers$lazy
  expect_identical(as.matrix(x$X), as.matrix(x$layers$lazy))
  x$layers$lazy <- NULL
  expect_identical(names(x$layers), c("dense", "sparse"))
  expect_error(x$layers$lazy, class = "scoom_error_layer_missing")
})

test_that("names can be replaced and follow selections", {
  x <- open_example()[1:4, 1:3]
  x$obs_names <- letters[1:4]
  expect_identical(x$obs_names, letters[1:4])
  expect_identical(rownames(x$obs), letters[1:4])
  expect_identical(x["c", ]$obs_names, "c")
  expect_identical(x[c(4, 1), ]$obs_names, c("d", "a"))
  expect_identical(rownames(as.matrix(x$X)), letters[1:4])
  expect_error(x$obs_names <- "a", class = "scoom_error_wrong_shape")
  expect_error(x$var_names <- 1:3, class = "scoom_error_invalid_input")
  expect_error(
    x$var_names <- c("a", NA, "b"),
    class = "scoom_error_invalid_input"
  )
  expect_warning(
    x$var_names <- c("a", "a", "b"),
    class = "scoom_warning_duplicate_names"
  )
})

test_that("shape, numbers and names agree", {
  x <- open_example()[1:10, 1:20]
  expect_identical(dim(x), c(10L, 20L))
  expect_identical(x$shape, dim(x))
  expect_identical(c(x$n_obs, x$n_vars), dim(x))
  expect_identical(c(n_obs(x), n_vars(x)), dim(x))
  expect_identical(c(nrow(x), ncol(x)), dim(x))
  expect_identical(obs_names(x), rownames(x$obs))
  expect_identical(var_names(x), x$var_names)
  expect_identical(dim(x$X), dim(x))
  expect_error(n_obs("file.h5ad"), class = "scoom_error_invalid_input")
})

test_that("fields are completed, and unknown ones are errors", {
  x <- open_fixture("containers")
  expect_identical(
    utils::.DollarNames(x, "^obs"),
    c("obs", "obsm", "obsp", "obs_names")
  )
  expect_true("X" %in% names(x))
  expect_identical(utils::.DollarNames(x$obsm, "^X_"), c("X_pca", "X_umap"))
  expect_identical(utils::.DollarNames(x$X, ""), c("chunks", "shape"))
  expect_error(x$obz, class = "scoom_error_field_missing")
  expect_error(x$obz <- 1, class = "scoom_error_field_missing")
  expect_error(x$n_obs <- 1, class = "scoom_error_read_only_field")
  expect_error(x[["obs"]], class = "scoom_error_invalid_index")
  expect_error(x[["obs"]] <- 1, class = "scoom_error_invalid_index")
  expect_error(x$X$chunk, class = "scoom_error_field_missing")
  expect_snapshot(error = TRUE, {
    x$obz
    x$obsm$X_pcs
    x[["obs"]]
  })
})

test_that("raw is an object of its own over the same cells", {
  x <- open_fixture("containers")
  raw <- x$raw
  expect_s3_class(raw, "scoom")
  expect_identical(dim(raw), c(6L, 11L))
  expect_identical(names(raw$var), "kept")
  expect_identical(dim(raw$varm$loadings), c(11L, 2L))
  all <- as.matrix(raw$X)
  y <- x[c(5, 2), 1:3]
  expect_identical(as.matrix(y$raw$X), all[c(5, 2), ])
  expect_identical(y$raw$obs_names, y$obs_names)
  expect_identical(
    as.matrix(y$raw[2:1, "raw2"]$X),
    all[c(2, 5), "raw2", drop = FALSE]
  )
  expect_null(open_example()$raw)
})
