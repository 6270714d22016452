# ComBat by base R, step by step on the dense matrix of cells by genes.
combat_of <- function(values, batch, covariates = NULL) {
  batch <- factor(batch)
  n <- nrow(values)
  design <- cbind(model.matrix(~ 0 + batch), covariates)
  fit <- qr.coef(qr(design), values)
  batches <- seq_len(nlevels(batch))
  share <- as.vector(table(batch)) / n
  grand <- colSums(share * fit[batches, , drop = FALSE])
  sigma <- sqrt(colMeans((values - design %*% fit)^2))
  kept <- design[, -batches, drop = FALSE] %*% fit[-batches, , drop = FALSE]
  kept <- sweep(kept, 2, grand, `+`)
  s <- sweep(values - kept, 2, sigma, `/`)
  for (b in levels(batch)) {
    cells <- batch == b
    part <- s[cells, , drop = FALSE]
    hat <- colMeans(part)
    delta_hat <- apply(part, 2, var)
    t2 <- mean((hat - mean(hat))^2)
    m <- mean(delta_hat)
    v <- var(delta_hat)
    a <- (2 * v + m^2) / v
    b_prior <- (m * v + m^3) / v
    g_old <- hat
    d_old <- delta_hat
    repeat {
      g <- (t2 * sum(cells) * hat + d_old * mean(hat)) /
        (t2 * sum(cells) + d_old)
      sum2 <- colSums(sweep(part, 2, g)^2)
      d <- (0.5 * sum2 + b_prior) / (sum(cells) / 2 + a - 1)
      change <- max(abs(g - g_old) / g_old, abs(d - d_old) / d_old)
      g_old <- g
      d_old <- d
      if (change <= 1e-4) break
    }
    s[cells, ] <- sweep(sweep(part, 2, g), 2, sqrt(d), `/`)
  }
  unname(sweep(s, 2, sigma, `*`) + kept)
}

varied <- function(n = 45, g = 20) {
  values <- outer(seq_len(n), seq_len(g), \(i, j) {
    abs(sin(i * j * 1.3) + cos(i * 0.7 + j)) +
      j / 10 +
      (i %% 3) * (0.3 + j %% 4 / 5)
  })
  values[values < 0.8] <- 0
  values
}

with_batches <- function(values = varied()) {
  x <- object_of(values)
  n <- nrow(values)
  x$obs$batch <- factor(rep(c("x", "y", "z"), length.out = n))
  x$obs$state <- rep(c("rest", "rest", "act", "act"), length.out = n)
  x$obs$age <- (seq_len(n) * 7) %% 11
  x
}

test_that("values are those of the steps on the dense matrix", {
  x <- with_batches()
  expect_equal(
    dense(combat(x, "batch")),
    combat_of(varied(), x$obs$batch),
    tolerance = 1e-10
  )
  state <- as.double(x$obs$state == "rest")
  expect_equal(
    dense(combat(x, "batch", c("state", "age"))),
    combat_of(varied(), x$obs$batch, cbind(state, x$obs$age)),
    tolerance = 1e-10
  )
})

test_that("selections afterwards keep the values", {
  x <- with_batches()
  expected <- combat_of(varied(), x$obs$batch)
  y <- combat(x, "batch")
  cells <- c(40, 3, 3, 12)
  genes <- c(20, 1, 7, 7)
  expect_equal(
    dense(y[cells, genes]),
    expected[cells, genes],
    tolerance = 1e-10
  )
  expect_equal(
    dense(y[, genes][cells, ]),
    expected[cells, genes],
    tolerance = 1e-10
  )
  pca <- run_pca(y, features = 2:15, n_comps = 3)
  expect_equal(
    pca$uns$pca$variance,
    prcomp(expected[, 2:15])$sdev[1:3]^2,
    tolerance = 1e-10
  )
})

test_that("values agree with scanpy and sva", {
  index <- reference_index("adjusted-kang2018")
  path <- shared_data_path("counts", "kang2018_pbmc_ifnb_2000cells.h5ad")
  x <- open_h5ad(path)
  x <- quietly(
    x[!is.na(x$obs$donor), ] |>
      filter_genes(min_cells = index$min_cells) |>
      normalize_total(target_sum = 1e4) |>
      log1p()
  )
  expect_equal(n_vars(x), index$n_genes)
  condition <- x$obs$condition
  x$obs$stimulated <- as.double(condition == levels(condition)[[2]])
  cells <- reference_names("adjusted-kang2018", "cells")
  genes <- reference_names("adjusted-kang2018", "genes")
  value <- \(y) t(unname(as.matrix(y$X[cells, genes])))
  expected <- \(name) {
    unname(as.matrix(reference_table("adjusted-kang2018", name)))
  }
  # scanpy keeps the means of the groups in single precision.
  expect_equal(
    value(regress_out(x, "donor")),
    expected("regressed"),
    tolerance = 1e-6
  )
  # The searches stop at the same step; rounding differs.
  plain <- value(combat(x, "donor"))
  expect_equal(plain, expected("combat"), tolerance = 1e-8)
  kept <- value(combat(x, "donor", "stimulated"))
  expect_equal(kept, expected("combat_stimulated"), tolerance = 1e-8)
  # sva divides the variance of the batch means over g genes by g - 1.
  expect_equal(plain, expected("sva"), tolerance = 1e-4)
  expect_equal(
    value(combat(x, "donor", "condition")),
    expected("sva_condition"),
    tolerance = 1e-4
  )
  # What is corrected is still logarithms: fold changes are those of their means.
  found <- quietly(find_markers(
    combat(x, "donor")[, genes],
    "condition",
    method = "t-test",
    reference = levels(condition)[[2]]
  ))
  corrected <- expm1(as.matrix(combat(x, "donor")$X[, found$feature[[1]]]))
  means <- tapply(corrected, condition, mean)
  first <- found[1, ]
  expect_equal(
    first$log2_fc,
    unname(log2(
      (means[[first$group]] + 0.1) / (means[[first$reference]] + 0.1)
    )),
    tolerance = 1e-8
  )
})

test_that("genes that do not vary take no part", {
  values <- varied()
  values[, 5] <- 0
  values[, 6] <- 2.5
  values[, 7] <- rep(1:3, length.out = 45)
  x <- with_batches(values)
  expect_message(
    y <- combat(x, "batch"),
    class = "scoom_message_constant_genes"
  )
  got <- dense(y)
  expect_equal(got[, 5], rep(0, 45))
  expect_equal(got[, 6], rep(2.5, 45))
  # Each batch has one value: all take their mean.
  expect_equal(got[, 7], rep(2, 45))
  others <- setdiff(1:20, 5:7)
  expect_equal(
    got[, others],
    combat_of(values[, others], x$obs$batch),
    tolerance = 1e-10
  )
})

test_that("batches and covariates that can't be used are refused", {
  x <- with_batches()
  error <- function(x, class, ...) {
    expect_error(quietly(combat(x, ...)), class = class)
  }
  error(x[x$obs$batch == "x", ], "scoom_error_one_batch", "batch")
  small <- x
  small$obs$batch <- factor(c("alone", rep(c("x", "y"), 22)))
  expect_equal(
    error(small, "scoom_error_small_batch", "batch")$batches,
    "alone"
  )
  missing <- x
  missing$obs$batch[1:4] <- NA
  e <- error(missing, "scoom_error_missing_covariates", "batch")
  expect_equal(unname(e$n_missing), 4)
  missing <- x
  missing$obs$age[7] <- NA
  error(missing, "scoom_error_missing_covariates", "batch", "age")
  x$obs$site <- ifelse(x$obs$batch == "x", "north", "south")
  e <- error(x, "scoom_error_collinear_covariates", "batch", c("age", "site"))
  expect_equal(e$columns, "site")
  x$obs$one <- "same"
  error(x, "scoom_error_collinear_covariates", "batch", "one")
  error(x, "scoom_error_invalid_input", "batch", "batch")
  error(x, "scoom_error_invalid_input", "batch", c("age", "age"))
  error(x, "scoom_error_column_missing", "nothing")
  error(x[integer(), ], "scoom_error_no_cells", "batch")
  constant <- with_batches(matrix(1, 45, 20))
  error(constant, "scoom_error_invalid_input", "batch")
  error(x[, 1], "scoom_error_invalid_input", "batch")
})

test_that("the chain says what it does", {
  x <- with_batches()
  y <- combat(x, "batch", "age")
  expect_match(format(y$X)[[3]], "combat over batch, keeping age", fixed = TRUE)
  expect_error(log1p(y), class = "scoom_error_already_adjusted")
  skip_if_not_installed("SingleCellExperiment")
  sce <- quietly(as_SingleCellExperiment(y))
  got <- SummarizedExperiment::assay(sce, "corrected")
  expect_equal(unname(t(got)), dense(y))
})
