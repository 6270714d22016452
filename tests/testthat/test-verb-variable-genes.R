pbmc3k_logged <- function() {
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  withr::local_options(scoom.quiet = TRUE)
  x |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p()
}

test_that("the genes are those of scanpy 1.11.5 on pbmc3k", {
  x <- pbmc3k_logged()
  scanpy <- reference_table("pbmc3k", "variable_genes")
  expect_identical(var_names(x), row.names(scanpy))
  y <- find_variable_genes(x)
  expect_identical(
    which(y$var$highly_variable),
    which(scanpy$highly_variable == 1)
  )
  expect_identical(sum(y$var$highly_variable), 2000L)
  expect_equal(y$var$means, scanpy$means, tolerance = 1e-10)
  for (column in c("dispersions", "dispersions_norm")) {
    expect_identical(is.nan(y$var[[column]]), is.nan(scanpy[[column]]))
    expect_equal(y$var[[column]], scanpy[[column]], tolerance = 1e-9)
  }
  ranked <- order(y$var$highly_variable_rank)[1:2000]
  expect_setequal(ranked, which(y$var$highly_variable))
  expect_false(is.unsorted(-y$var$dispersions_norm[ranked]))

  y <- find_variable_genes(x, n_top = NULL)
  expect_identical(
    which(y$var$highly_variable),
    which(scanpy$highly_variable_default == 1)
  )
})

test_that("moments are those of two passes in double precision on pbmc3k", {
  x <- pbmc3k_logged()
  reference <- reference_table("pbmc3k", "moments")
  moments <- function(x) {
    run_pass(rs_qc_gene_moments, scoom_plan(x), list(linear = FALSE))$values
  }
  found <- moments(x)
  relative <- function(a, b) {
    max(abs(a - b) / pmax(abs(b), .Machine$double.xmin))
  }
  expect_lt(relative(found$mean, reference$mean_log), 1e-10)
  expect_lt(relative(found$var, reference$variance_log), 1e-10)
  raw <- quietly(
    filter_genes(
      open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad")),
      min_cells = 3
    )
  )
  found <- moments(raw)
  expect_lt(relative(found$mean, reference$mean_counts), 1e-10)
  expect_lt(relative(found$var, reference$variance_counts), 1e-10)
})

test_that("threads, workers and the base of the logarithm change nothing", {
  x <- normalize_total(open_h5ad(example_h5ad()), target_sum = 1e4)
  one <- find_variable_genes(log1p(x), n_top = 300, threads = 1)
  expect_identical(
    find_variable_genes(log1p(x), n_top = 300, threads = 4)$var,
    one$var
  )
  expect_identical(
    find_variable_genes(log_transform(x, 2), n_top = 300)$var,
    one$var
  )
  skip_if_not_installed("BiocParallel")
  other <- find_variable_genes(
    log1p(x),
    n_top = 300,
    BPPARAM = BiocParallel::SerialParam()
  )
  expect_identical(other$var, one$var)
})

test_that("logarithms in the file are recognised", {
  x <- log1p(normalize_total(
    open_h5ad(example_h5ad())[1:300, 1:400],
    target_sum = 1e4
  ))
  expected <- find_variable_genes(x, n_top = 50)
  stored <- open_h5ad(example_h5ad())[1:300, 1:400]
  stored$X <- as.matrix(x$X)
  expect_message(
    y <- find_variable_genes(stored, n_top = 50),
    class = "scoom_message_assumed_logged"
  )
  expect_identical(y$var$highly_variable, expected$var$highly_variable)
  expect_equal(y$var$dispersions, expected$var$dispersions, tolerance = 1e-10)
})

test_that("subset keeps the marked genes", {
  x <- log1p(normalize_total(open_h5ad(example_h5ad()), target_sum = 1e4))
  y <- find_variable_genes(x, n_top = 100, subset = TRUE)
  expect_identical(n_vars(y), 100L)
  expect_true(all(y$var$highly_variable))
  expect_identical(y$uns$hvg$flavor, "seurat")
  z <- find_variable_genes(
    x,
    flavor = "seurat_v3",
    n_top = 30,
    batch_key = "condition",
    subset = TRUE
  )
  expect_identical(n_vars(z), 30L)
  expect_true(all(z$var$highly_variable))
  expect_identical(z$uns$hvg$flavor, "seurat_v3")
})

test_that("more genes than vary give a message", {
  x <- log1p(normalize_total(object_of(small_counts()), 1e4))
  expect_message(
    y <- find_variable_genes(x, n_top = 12),
    class = "scoom_message_n_top_differs"
  )
  expect_false(y$var$highly_variable[[12]])
  expect_identical(y$var$highly_variable_rank[[12]], NA_real_)
})

# All flavours -------------------------------------------------------------------

flavors <- c(
  "seurat",
  "cell_ranger",
  "seurat_v3",
  "seurat_v3_paper",
  "pearson_residuals"
)

# The cells and genes of the reference, from counts to logarithms.
reference_objects <- function(name) {
  local_quiet()
  if (name == "pbmc3k") {
    x <- pbmc3k_logged()
    source <- pmin((seq_len(n_obs(x)) - 1) %/% 500 + 1, 5)
    x$obs$source <- paste0("source_", source)
  } else {
    x <- open_h5ad(
      shared_data_path("counts", "kang2018_pbmc_ifnb_2000cells.h5ad")
    )
    x <- log1p(normalize_total(x[!is.na(x$obs$donor), ], target_sum = 1e4))
  }
  x
}

# Every set of the reference, and the numbers of every tenth gene.
expect_scanpy <- function(name, batches) {
  local_quiet()
  x <- reference_objects(name)
  sets <- reference_table("variable_genes", paste0(name, "_sets"))
  expect_identical(var_names(x), row.names(sets))
  some <- seq(1, n_vars(x), reference_index("variable_genes")$every)
  tables <- names(reference_index("variable_genes")$tables)
  for (flavor in flavors) {
    for (batch in c("all", batches)) {
      where <- paste0(flavor, "_", batch)
      if (!where %in% names(sets)) {
        next
      }
      key <- if (batch != "all") batch
      y <- find_variable_genes(x, flavor = flavor, batch_key = key)
      expect_identical(
        which(y$var$highly_variable),
        which(sets[[where]] == 1),
        info = where
      )
      numbers <- reference_table("variable_genes", paste0(name, "_", where))
      for (column in names(numbers)) {
        want <- numbers[[column]]
        got <- as.numeric(y$var[[column]])[some]
        # scanpy's ranks are NaN where ours are NA.
        expect_identical(is.na(got), is.na(want), info = c(where, column))
        if (
          where == "pearson_residuals_sample_id" && endsWith(column, "rank")
        ) {
          # Genes with one count in cells of equal totals tie, but for the rounding
          # of scanpy's sums over the cells.
          apart <- abs(got - want)
          expect_lte(max(apart, na.rm = TRUE), 20)
          expect_lt(mean(apart > 0, na.rm = TRUE), 0.03)
        } else {
          expect_equal(got, want, tolerance = 1e-9, info = c(where, column))
        }
      }
      bounds <- sets[[paste0(where, "_bounds")]]
      if (!is.null(bounds)) {
        y <- find_variable_genes(x, NULL, flavor, NULL, batch_key = key)
        marked <- which(y$var$highly_variable)
        expect_identical(marked, which(bounds == 1), info = where)
      }
    }
  }
}

test_that("all flavours are those of scanpy 1.11.5 on pbmc3k", {
  expect_scanpy("pbmc3k", "source")
})

test_that("all flavours are those of scanpy 1.11.5 on Kang's data", {
  expect_scanpy("kang", c("condition", "donor", "sample_id"))
})

test_that("the published tables of scanpy's own tests are met", {
  local_quiet()
  x <- suppressWarnings(
    open_h5ad(
      shared_data_path("h5ad_fixtures", "scanpy_10x_pbmc68k_reduced.h5ad")
    ),
    classes = "scoom_warning"
  )
  # Its raw values are normalised again, as the tests do.
  y <- open_h5ad(example_h5ad())[seq_len(n_obs(x)), seq_len(ncol(x$raw$X))]
  y$X <- as.matrix(x$raw$X)
  y <- suppressWarnings(log1p(normalize_total(y, target_sum = 1e4)))
  read <- \(name) {
    utils::read.csv(shared_data_path("reference", name))
  }
  tables <- list(
    seurat = read("scanpy_seurat_hvg.csv"),
    cell_ranger = read("scanpy_cell_ranger_hvg.csv")
  )
  for (flavor in names(tables)) {
    n_top <- if (flavor == "cell_ranger") 100
    got <- find_variable_genes(y, NULL, flavor, n_top)$var
    want <- tables[[flavor]]
    expect_identical(got$highly_variable, as.logical(want$highly_variable))
    for (column in c("means", "dispersions", "dispersions_norm")) {
      # The tables come from float32.
      expect_equal(got[[column]], want[[column]], tolerance = 2e-5)
    }
  }
})

test_that("seurat_v3 is Seurat's vst", {
  local_quiet()
  published <- utils::read.csv(
    shared_data_path("reference", "scanpy_seurat_hvg_v3.csv.gz")
  )
  x <- reference_objects("pbmc3k")
  y <- find_variable_genes(x, flavor = "seurat_v3")$var
  # Seurat writes 15 digits.
  expect_equal(y$variances, published$variance, tolerance = 1e-12)
  expect_equal(
    y$variances_norm,
    published$variance.standardized,
    tolerance = 1e-9
  )
  top <- order(published$variance.standardized, decreasing = TRUE)[1:2000]
  expect_setequal(which(y$highly_variable), top)
  skip_if_not_installed("Seurat")
  for (name in c("pbmc3k", "kang")) {
    x <- reference_objects(name)
    z <- x
    field_x <- field(z, "X")
    field_x$ops <- Filter(\(op) op$op == "select_genes", field_x$ops)
    counts <- Matrix::t(methods::as(set_field(z, "X", field_x)$X, "dgCMatrix"))
    vst <- Seurat::FindVariableFeatures(
      counts,
      selection.method = "vst",
      verbose = FALSE
    )
    y <- find_variable_genes(x, flavor = "seurat_v3")$var
    expect_equal(
      y$variances_norm,
      vst$vst.variance.standardized,
      tolerance = 1e-9
    )
    # R's order of equal variances is that of the genes, as ours.
    top <- order(vst$vst.variance.standardized, decreasing = TRUE)[1:2000]
    expect_setequal(which(y$highly_variable), top)
  }
})

# Formulas in plain R, for a matrix of cells x genes.

clipped_variance <- function(counts, span = 0.3) {
  mean <- colMeans(counts)
  var <- apply(counts, 2, stats::var)
  sd <- rep(1, length(mean))
  v <- var > 0
  fit <- suppressWarnings(
    stats::loess(log10(var[v]) ~ log10(mean[v]), span = span, degree = 2)
  )
  sd[v] <- sqrt(10^fit$fitted)
  z <- sweep(sweep(counts, 2, mean), 2, sd, `/`)
  colSums(pmin(z, sqrt(nrow(counts)))^2) / (nrow(counts) - 1)
}

residual_variance <- function(counts, theta = 100, clip = sqrt(nrow(counts))) {
  mu <- outer(rowSums(counts), colSums(counts)) / sum(counts)
  r <- (counts - mu) / sqrt(mu + mu^2 / theta)
  r[mu == 0] <- 0
  r <- pmax(pmin(r, clip), -clip)
  colMeans(sweep(r, 2, colMeans(r))^2)
}

example_counts <- function(n_cells = 300, n_genes = 250) {
  x <- open_example()[seq_len(n_cells), seq_len(n_genes)]
  list(x = x, counts = dense(x), donor = as.character(x$obs$donor))
}

test_that("numbers from counts are those of the formulas, batch by batch", {
  e <- example_counts()
  by_donor <- function(f, ...) {
    parts <- split(seq_len(n_obs(e$x)), e$donor)
    rowMeans(vapply(parts, \(rows) f(e$counts[rows, ], ...), e$counts[1, ]))
  }
  run <- function(...) find_variable_genes(e$x, n_top = 20, ...)$var
  v3 <- run(flavor = "seurat_v3", span = 0.6)
  expect_equal(v3$variances_norm, clipped_variance(e$counts, 0.6))
  expect_equal(v3$means, colMeans(e$counts), tolerance = 1e-14)
  expect_equal(v3$variances, apply(e$counts, 2, stats::var), tolerance = 1e-13)
  # The cells of a donor are few.
  expect_warning(
    v3 <- run(flavor = "seurat_v3", span = 0.6, batch_key = "donor"),
    class = "scoom_warning_trend_unstable"
  )
  expect_equal(v3$variances_norm, by_donor(clipped_variance, 0.6))
  expect_equal(v3$variances, apply(e$counts, 2, stats::var), tolerance = 1e-13)
  residuals <- run(flavor = "pearson_residuals")
  expect_equal(residuals$residual_variances, residual_variance(e$counts))
  for (theta in c(0.5, Inf)) {
    for (clip in c(0, 2, Inf)) {
      residuals <- run(
        flavor = "pearson_residuals",
        batch_key = "donor",
        theta = theta,
        clip = clip
      )
      expect_equal(
        residuals$residual_variances,
        by_donor(residual_variance, theta, clip),
        info = c(theta, clip)
      )
    }
  }
})

test_that("clip is that of the first batch in alphabetical order by default", {
  e <- example_counts()
  e$x$obs$batch <- factor(rep(c("b", "a"), c(250, 50)), c("b", "a"))
  by_default <- find_variable_genes(
    e$x,
    flavor = "pearson_residuals",
    batch_key = "batch",
    n_top = 20
  )
  given <- find_variable_genes(
    e$x,
    flavor = "pearson_residuals",
    batch_key = "batch",
    n_top = 20,
    clip = sqrt(50)
  )
  expect_identical(by_default$var, given$var)
})

test_that("the columns of a flavour are scanpy's", {
  x <- log1p(normalize_total(open_example(), target_sum = 1e4))
  want <- list(
    seurat = c("means", "dispersions", "dispersions_norm"),
    cell_ranger = c("means", "dispersions", "dispersions_norm"),
    seurat_v3 = c("means", "variances", "variances_norm"),
    seurat_v3_paper = c("means", "variances", "variances_norm"),
    pearson_residuals = c("means", "variances", "residual_variances")
  )
  had <- names(x$var)
  for (flavor in flavors) {
    columns <- c("highly_variable", "highly_variable_rank", want[[flavor]])
    y <- find_variable_genes(x, flavor = flavor, n_top = 100)
    expect_setequal(setdiff(names(y$var), had), columns)
    y <- find_variable_genes(
      x,
      flavor = flavor,
      n_top = 100,
      batch_key = "condition"
    )
    over <- "highly_variable_nbatches"
    if (!startsWith(flavor, "seurat_v3")) {
      over <- c(over, "highly_variable_intersection")
    }
    expect_setequal(setdiff(names(y$var), had), c(columns, over))
    expect_identical(y$uns$hvg$flavor, flavor)
    expect_identical(sum(y$var$highly_variable), 100L)
    expect_type(y$var$highly_variable_nbatches, "integer")
  }
})

test_that("counts are read whatever the chain does to them", {
  e <- example_counts()
  logged <- log1p(normalize_total(e$x, target_sum = 1e4))
  scaled <- scale_genes(logged, max_value = 10)
  for (flavor in c("seurat_v3", "pearson_residuals")) {
    want <- find_variable_genes(e$x, flavor = flavor, n_top = 20)$var
    for (x in list(logged, scaled)) {
      got <- find_variable_genes(x, flavor = flavor, n_top = 20)$var
      expect_identical(got, want)
    }
    some <- find_variable_genes(logged[, 101:200], flavor = flavor, n_top = 20)
    own <- find_variable_genes(e$x[, 101:200], flavor = flavor, n_top = 20)
    expect_identical(some$var, own$var)
  }
  stored <- e$x
  stored$X <- log1p(e$counts)
  expect_error(
    find_variable_genes(stored, flavor = "seurat_v3", n_top = 20),
    class = "scoom_error_not_counts"
  )
  stored$layers$counts <- e$counts
  expect_message(
    y <- find_variable_genes(stored, flavor = "seurat_v3", n_top = 20),
    class = "scoom_message_counts_layer"
  )
  want <- find_variable_genes(e$x, flavor = "seurat_v3", n_top = 20)$var
  expect_identical(y$var$variances_norm, want$variances_norm)
})

test_that("threads, workers and the budget change nothing, over batches too", {
  x <- open_example()[, 1:600]
  logged <- log1p(normalize_total(x, target_sum = 1e4))
  many <- rep(seq_len(40), length.out = n_obs(x))
  run <- function(flavor, ...) {
    find_variable_genes(logged, NULL, flavor, 100, batch_key = many, ...)$var
  }
  withr::local_options(scoom.quiet = TRUE, warn = -1)
  for (flavor in c("seurat", "cell_ranger", "seurat_v3", "pearson_residuals")) {
    one <- run(flavor, threads = 1)
    expect_identical(run(flavor, threads = 4), one)
    # 40 batches of 600 genes do not fit: slices of the genes.
    withr::with_options(list(scoom.memory = "1MB"), {
      expect_identical(run(flavor), one)
    })
    skip_if_not_installed("BiocParallel")
    other <- run(flavor, BPPARAM = BiocParallel::SerialParam())
    expect_identical(other, one)
  }
})

test_that("moments over batches serve scale_genes()", {
  x <- log1p(normalize_total(open_example(), target_sum = 1e4))
  whole <- find_variable_genes(x, n_top = 100)
  for (flavor in c("seurat", "cell_ranger")) {
    y <- find_variable_genes(
      x,
      flavor = flavor,
      n_top = 100,
      batch_key = "donor"
    )
    expect_equal(
      field(y, "moments"),
      field(whole, "moments"),
      tolerance = 1e-12
    )
  }
  # Not where cells are left out.
  x$obs$batch <- replace(as.character(x$obs$donor), 1:5, NA)
  expect_message(
    y <- find_variable_genes(x, n_top = 100, batch_key = "batch"),
    class = "scoom_message_cells_left_out"
  )
  expect_null(field(y, "moments"))
  own <- find_variable_genes(x[-(1:5), ], n_top = 100, batch_key = "batch")
  expect_equal(y$var, own$var, tolerance = 1e-12)
})

test_that("batches of one cell are left out with a warning", {
  x <- log1p(normalize_total(open_example()[1:200, ], target_sum = 1e4))
  x$obs$batch <- rep(c("a", "b", "alone"), c(99, 100, 1))
  for (flavor in flavors) {
    run <- \(x) {
      find_variable_genes(x, NULL, flavor, 100, batch_key = "batch")$var
    }
    expect_warning(y <- run(x), class = "scoom_warning_batches_left_out")
    expect_equal(y, run(x[1:199, ]), tolerance = 1e-12)
    expect_lte(max(y$highly_variable_nbatches), 2L)
  }
  x$obs$each <- seq_len(n_obs(x))
  expect_error(
    find_variable_genes(x, batch_key = "each"),
    class = "scoom_error_too_few_cells"
  )
})

test_that("genes that are constant, empty or missing in a batch are no problem", {
  e <- example_counts(200, 120)
  values <- e$counts
  values[, 1] <- 0
  values[1:100, 3] <- 0
  values[1:100, 4] <- 2
  values[105, ] <- 0
  values[, 2] <- 3
  x <- object_of(values)
  x$obs$batch <- rep(c("a", "b"), each = 100)
  counted <- list(
    seurat_v3 = "variances_norm",
    pearson_residuals = "residual_variances"
  )
  for (flavor in names(counted)) {
    args <- list(x, flavor = flavor, n_top = 30, batch_key = "batch")
    if (flavor == "seurat_v3") {
      args$span <- 0.7
    }
    y <- do.call(find_variable_genes, args)$var
    expect_identical(sum(y$highly_variable), 30L)
    numbers <- y[[counted[[flavor]]]]
    expect_true(all(is.finite(numbers)))
    expect_identical(numbers[[1]], 0)
    expect_false(any(y$highly_variable[1:2]))
    expect_identical(y$means[1:2], c(0, 3))
  }
  # A cell without counts has residuals of zero.
  values[105, 2] <- 0
  x <- object_of(values)
  x$obs$batch <- rep(c("a", "b"), each = 100)
  y <- find_variable_genes(
    x,
    flavor = "pearson_residuals",
    n_top = 30,
    batch_key = "batch"
  )$var
  residuals <- residual_variance(values[1:100, ]) +
    residual_variance(values[101:200, ])
  expect_equal(y$residual_variances[-1], residuals[-1] / 2)
  logged <- suppressMessages(log1p(normalize_total(x, target_sum = 1e4)))
  for (flavor in c("seurat", "cell_ranger")) {
    y <- find_variable_genes(logged, NULL, flavor, 30, batch_key = "batch")$var
    expect_identical(y$means[[1]], 0)
    expect_identical(y$dispersions_norm[[1]], 0)
    expect_identical(sum(y$highly_variable), 30L)
  }
})

test_that("a batch with fewer genes than n_top marks those it has", {
  local_quiet()
  e <- example_counts(100, 60)
  e$x$obs$batch <- rep(c("a", "b"), 50)
  for (flavor in flavors) {
    x <- e$x
    if (flavor %in% c("seurat", "cell_ranger")) {
      x <- log1p(normalize_total(x, target_sum = 1e4))
    }
    args <- list(x, flavor = flavor, n_top = 500, batch_key = "batch")
    if (startsWith(flavor, "seurat_v3")) {
      args$span <- 1
    }
    y <- suppressWarnings(do.call(find_variable_genes, args))
    expect_identical(sum(y$var$highly_variable), 60L)
  }
})

test_that("files by columns, dense and unsorted give the same", {
  local_quiet()
  want <- list()
  for (name in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_fixture(name)
    batch <- rep(c("a", "b", "c"), length.out = n_obs(x))
    for (flavor in c("seurat_v3", "pearson_residuals")) {
      args <- list(x, flavor = flavor, n_top = 10, batch_key = batch)
      if (flavor == "seurat_v3") {
        args$span <- 1
      }
      got <- suppressWarnings(do.call(find_variable_genes, args))$var
      if (name == "engine-csr") {
        want[[flavor]] <- got
      }
      expect_equal(got, want[[flavor]], tolerance = 1e-12)
    }
  }
  # Repeated and turned rows.
  e <- example_counts(120, 80)
  rows <- c(120:1, 7, 7)
  again <- object_of(e$counts[rows, ])
  for (flavor in c("seurat_v3", "pearson_residuals")) {
    run <- \(x) suppressWarnings(find_variable_genes(x, NULL, flavor, 10))$var
    columns <- c("means", "variances", "highly_variable")
    expect_equal(
      as.list(run(e$x[rows, ]))[columns],
      as.list(run(again))[columns],
      tolerance = 1e-12
    )
  }
})

test_that("values that are no counts are refused or warned of", {
  e <- example_counts()
  values <- e$counts
  values[7, 5] <- 40.5
  run <- \(values, flavor) {
    find_variable_genes(object_of(values), flavor = flavor, n_top = 20)
  }
  for (flavor in c("seurat_v3", "pearson_residuals")) {
    expect_warning(
      y <- run(values, flavor),
      class = "scoom_warning_not_counts"
    )
    expect_equal(y$var$means, colMeans(values), tolerance = 1e-12)
    expect_error(
      run(replace(values, 3, -1), flavor),
      class = "scoom_error_invalid_values"
    )
    expect_error(
      run(replace(values, 3, NaN), flavor),
      class = "scoom_error_invalid_values"
    )
    expect_error(
      run(log1p(values), flavor),
      class = "scoom_error_not_counts"
    )
  }
})

test_that("a trend that can't be fitted is a classed error", {
  x <- object_of(matrix(c(0:9, rep(1, 20), 5:14), 10))
  expect_error(
    suppressWarnings(find_variable_genes(x, flavor = "seurat_v3", n_top = 2)),
    class = "scoom_error_trend_failed"
  )
  # Nothing varies: there is no trend to fit.
  x <- object_of(matrix(2, 10, 4))
  y <- find_variable_genes(x, flavor = "seurat_v3", n_top = 2)
  expect_identical(y$var$variances_norm, rep(0, 4))
})

test_that("raw counts, no cells and bad arguments are errors", {
  x <- object_of(small_counts())
  for (flavor in c("seurat", "cell_ranger")) {
    expect_error(
      find_variable_genes(x, flavor = flavor),
      class = "scoom_error_not_logged"
    )
  }
  logged <- log1p(normalize_total(x, 1e4))
  for (flavor in flavors) {
    expect_error(
      find_variable_genes(logged[integer(), ], flavor = flavor),
      class = "scoom_error_no_cells"
    )
    expect_error(
      find_variable_genes(logged[1, ], flavor = flavor),
      class = "scoom_error_too_few_cells"
    )
  }
  bad <- function(...) {
    expect_error(
      find_variable_genes(logged, ...),
      class = "scoom_error_invalid_input"
    )
  }
  bad(flavor = "cellranger")
  bad(n_top = 0)
  bad(n_bins = 0)
  bad(n_top = NULL, min_mean = NA)
  bad(n_top = 10, min_mean = 1)
  bad(subset = "yes")
  bad(flavor = "seurat_v3", n_top = NULL)
  bad(flavor = "seurat_v3", min_mean = 1)
  bad(flavor = "seurat_v3", span = 0)
  bad(flavor = "seurat_v3", theta = 10)
  bad(flavor = "cell_ranger", n_bins = 10)
  bad(span = 0.5)
  bad(flavor = "pearson_residuals", theta = -1)
  bad(flavor = "pearson_residuals", clip = -1)
  bad(flavor = "pearson_residuals", clip = "none")
  bad(batch_key = c("a", "b"))
  expect_error(
    find_variable_genes(logged, batch_key = "btach"),
    class = "scoom_error_column_missing"
  )
  logged$obs$none <- NA
  expect_error(
    find_variable_genes(logged, batch_key = "none"),
    class = "scoom_error_invalid_group"
  )
})

test_that("batches take no more reads than one", {
  local_quiet()
  x <- log1p(normalize_total(open_example(), target_sum = 1e4))
  wanted <- c(
    seurat = 1,
    cell_ranger = 1,
    seurat_v3 = 2,
    seurat_v3_paper = 2,
    pearson_residuals = 2
  )
  for (flavor in names(wanted)) {
    for (batch_key in list(NULL, "condition")) {
      before <- file_reads()
      find_variable_genes(
        x,
        n_top = 100,
        flavor = flavor,
        batch_key = batch_key
      )
      expect_equal(
        file_reads() - before,
        wanted[[flavor]],
        tolerance = 1e-6,
        info = flavor
      )
    }
  }
})
