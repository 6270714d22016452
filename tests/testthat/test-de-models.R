# Args of the engine for comparisons of single groups.
model_args <- function(group, compare, with = NA, ...) {
  levels <- levels(group)
  code <- \(names) match(names, levels) - 1L
  compare <- code(compare)
  with <- rep_len(with, length(compare))
  reference <- Map(
    \(one, other) {
      if (is.na(other)) setdiff(seq_along(levels) - 1L, one) else code(other)
    },
    compare,
    with
  )
  args <- list(
    unit = as.integer(group) - 1L,
    n_units = length(levels),
    group_units = as.list(compare),
    reference_units = reference,
    stratum_of = seq_along(compare) - 1L,
    pseudocount = 0.1,
    order = "statistic",
    p_adjust = "BH"
  )
  utils::modifyList(args, list(...), keep.null = TRUE)
}

# A matrix of genes by cells with groups and what else is known of the cells.
model_data <- function(n_cells = 240, n_genes = 40, seed = 5) {
  withr::with_seed(seed, {
    batch <- factor(sample(c("one", "two", "three"), n_cells, TRUE))
    depth <- rnorm(n_cells, 3000, 400)
    group <- factor(sample(c("a", "b", "c"), n_cells, TRUE))
    shift <- outer(runif(n_genes), as.integer(group) + as.integer(batch) / 2)
    counts <- matrix(rpois(n_genes * n_cells, shift), n_genes)
  })
  counts[2, ] <- 0
  counts[3, ] <- 4
  # Tells "a" from all others.
  counts[4, ] <- ifelse(group == "a", 3, 0)
  matrix <- as(log1p(counts), "CsparseMatrix")
  list(
    dense = as.matrix(matrix),
    plan = c(memory_recipe(matrix), stored_log = exp(1)),
    group = group,
    batch = batch,
    depth = depth
  )
}

in_order <- function(columns, comparison = 1) {
  rows <- which(columns$comparison == comparison)
  rows <- rows[order(columns$feature[rows])]
  as.data.frame(columns[c(
    "statistic",
    "p_value",
    "p_adj",
    "log10_p",
    "log2_fc"
  )])[rows, ]
}

# glm's likelihood ratio: the signed root of the difference in deviance.
glm_root <- function(y, x, latent) {
  fit <- function(...) {
    frame <- do.call(data.frame, c(list(y = y, ...), latent))
    control <- stats::glm.control(epsilon = 1e-14, maxit = 200)
    suppressWarnings(stats::glm(y ~ ., "binomial", frame, control = control))
  }
  null <- if (length(latent)) {
    fit()
  } else {
    control <- stats::glm.control(epsilon = 1e-14)
    stats::glm(y ~ 1, "binomial", control = control)
  }
  full <- fit(x = x)
  if (is.na(stats::coef(full)[["x"]])) {
    return(0)
  }
  gain <- max(0, stats::deviance(null) - stats::deviance(full))
  sign(stats::coef(full)[["x"]]) * sqrt(gain)
}

test_that("lr agrees with glm", {
  data <- model_data()
  latents <- list(
    list(),
    list(batch = data$batch),
    list(depth = data$depth),
    list(depth = data$depth, batch = data$batch, high = data$depth > 3000)
  )
  args <- model_args(data$group, c("a", "c"), c(NA, "b"))
  for (latent in latents) {
    columns <- run_lr(data$plan, args, latent)
    expect_equal(columns$n_group, as.numeric(table(data$group)[c("a", "c")]))
    for (k in 1:2) {
      got <- in_order(columns, k)
      cells <- if (k == 1) TRUE else data$group != "a"
      y <- (data$group == c("a", "c")[k])[cells]
      want <- apply(data$dense[, cells], 1, \(x) {
        glm_root(y, x, lapply(latent, `[`, cells))
      })
      # Where a gene separates the sides, glm ends at 1e-8 of the deviance.
      separated <- if (k == 1) 4 else integer()
      expect_equal(got$statistic[separated], want[separated], tolerance = 1e-5)
      rest <- setdiff(seq_along(want), separated)
      expect_equal(got$statistic[rest], want[rest], tolerance = 1e-7)
      p <- stats::pchisq(got$statistic^2, 1, lower.tail = FALSE)
      expect_equal(got$p_value, p, tolerance = 1e-10)
      expect_equal(got$p_adj, p.adjust(got$p_value, "BH"))
      log_p <- stats::pchisq(
        got$statistic^2,
        1,
        lower.tail = FALSE,
        log.p = TRUE
      )
      expect_equal(got$log10_p, log_p / log(10), tolerance = 1e-10)
      expect_equal(got$statistic[2:3], c(0, 0))
      expect_equal(got$p_value[2:3], c(1, 1))
    }
  }
})

test_that("columns that describe the sides are those of a t-test", {
  data <- model_data()
  args <- model_args(data$group, c("a", "b"), c(NA, "c"), overestimated = FALSE)
  ctx <- scoom_ctx()
  by_gene <- function(columns) {
    rows <- order(columns$comparison, columns$feature)
    names <- c(
      "log2_fc",
      "mean_group",
      "mean_reference",
      "pct_group",
      "pct_reference"
    )
    c(lapply(columns[names], `[`, rows), columns[c("n_group", "n_reference")])
  }
  want <- by_gene(rs_unwrap(rs_de_ttest(data$plan, args, ctx, NULL)))
  expect_equal(by_gene(run_lr(data$plan, args)), want, tolerance = 1e-12)
  logreg <- run_logreg(data$plan, args, to_rest = FALSE)
  expect_equal(by_gene(logreg), want, tolerance = 1e-12)
  expect_identical(logreg$p_value, rep(NA_real_, 80))
  expect_identical(logreg$p_adj, rep(NA_real_, 80))
})

test_that("threads, memory and workers do not show", {
  data <- model_data()
  args <- model_args(data$group, c("a", "b", "c"))
  latent <- list(depth = data$depth, batch = data$batch)
  lr <- run_lr(data$plan, args, latent, threads = 1)
  logreg <- run_logreg(data$plan, args, to_rest = TRUE, threads = 1)
  for (threads in c(2, 4)) {
    expect_identical(run_lr(data$plan, args, latent, threads = threads), lr)
    expect_identical(
      run_logreg(data$plan, args, TRUE, threads = threads),
      logreg
    )
  }
  skip_if_not_installed("BiocParallel")
  workers <- BiocParallel::SerialParam()
  expect_identical(run_lr(data$plan, args, latent, BPPARAM = workers), lr)
  expect_identical(run_logreg(data$plan, args, TRUE, BPPARAM = workers), logreg)
})

test_that("logreg has no more than rounding of a gradient", {
  data <- model_data()
  args <- model_args(data$group, c("a", "b", "c"))
  columns <- run_logreg(data$plan, args, to_rest = TRUE)
  w <- sapply(1:3, \(k) in_order(columns, k)$statistic)
  expect_equal(rowSums(w), rep(0, nrow(w)), tolerance = 1e-6)
  x <- t(data$dense)
  y <- outer(as.integer(data$group), 1:3, "==")
  # The intercepts that belong to these coefficients.
  share <- function(b) {
    scores <- exp(x %*% w + rep(c(0, b), each = nrow(x)))
    scores / rowSums(scores)
  }
  loss <- \(b) -sum(log(share(b)[y]))
  slope <- \(b) colSums(share(b) - y)[-1]
  b <- stats::optim(
    c(0, 0),
    loss,
    slope,
    method = "BFGS",
    control = list(reltol = 1e-15)
  )
  gradient <- crossprod(x, share(b$par) - y) + w
  expect_lt(max(abs(gradient)), 1e-4)
})

test_that("two sides have coefficients of opposite sign; scanpy's are of the second", {
  data <- model_data()
  pair <- droplevels(data$group, "c")
  args <- model_args(pair, c("a", "b"))
  both <- run_logreg(data$plan, args, to_rest = TRUE)
  a <- in_order(both, 1)$statistic
  b <- in_order(both, 2)$statistic
  expect_identical(a, 0 - b)
  # Gene 4 is in "a" alone.
  expect_gt(a[4], 0)
  pairs <- run_logreg(data$plan, model_args(pair, "a", "b"), to_rest = FALSE)
  expect_equal(in_order(pairs)$statistic, a, tolerance = 1e-6)

  scanpy <- run_logreg(data$plan, args, to_rest = TRUE, scanpy = TRUE)
  expect_identical(unique(scanpy$comparison), 1L)
  expect_length(scanpy$feature, 40)
  expect_length(scanpy$n_group, 2)
  expect_equal(in_order(scanpy)$statistic, b, tolerance = 1e-6)

  # Of listed groups alone, while scoom's model has all of them.
  args <- model_args(data$group, c("a", "b"))
  listed <- run_logreg(data$plan, args, to_rest = TRUE, scanpy = TRUE)
  expect_equal(in_order(listed)$statistic, b, tolerance = 1e-6)
  all <- run_logreg(data$plan, args, to_rest = TRUE)
  three <- run_logreg(data$plan, model_args(data$group, c("a", "b", "c")), TRUE)
  expect_equal(in_order(all, 2), in_order(three, 2), tolerance = 1e-6)
  args <- model_args(data$group, c("a", "b"), "c")
  with <- run_logreg(data$plan, args, to_rest = FALSE, scanpy = TRUE)
  expect_equal(
    in_order(with, 2),
    in_order(three, 2),
    tolerance = 1,
    ignore_attr = TRUE
  )
  expect_equal(
    in_order(with, 2)$statistic,
    in_order(three, 2)$statistic,
    tolerance = 1e-6
  )
})

test_that("logreg agrees with scikit-learn", {
  x <- pbmc3k_logged()
  groups <- reference_names("logreg", "groups")
  want <- as.matrix(reference_table("logreg", "rest"))
  genes <- seq(1, n_vars(x), by = 10)
  plan <- recipe_genes(scoom_plan(x), genes)
  louvain <- factor(x$obs$louvain, groups)
  columns <- run_logreg(plan, model_args(louvain, groups), to_rest = TRUE)
  got <- sapply(seq_along(groups), \(k) in_order(columns, k)$statistic)
  expect_lt(max(abs(got - want)), 5e-6)

  want <- reference_table("logreg", "pair")[[1]]
  args <- model_args(louvain, "NK cells", "CD8 T cells")
  columns <- run_logreg(plan, args, to_rest = FALSE)
  expect_lt(max(abs(in_order(columns)$statistic - want)), 5e-6)
})

test_that("scanpy's own tables of logreg are reproduced, reversed sign and all", {
  x <- pbmc3k_logged()
  index <- reference_index("logreg")
  genes <- seq(1, n_vars(x), by = 10)
  check <- function(name, groups, ...) {
    markers <- suppressMessages(find_markers(
      x,
      "louvain",
      groups = groups,
      features = genes,
      method = "logreg",
      compat = "scanpy",
      ...
    ))
    filed <- index[[paste0(name, "_groups")]]
    expect_setequal(markers$group, filed)
    want <- as.matrix(reference_table("logreg", name))
    at <- cbind(
      match(markers$feature, var_names(x)[genes]),
      match(markers$group, filed)
    )
    # scanpy keeps coefficients as float32.
    expect_lt(max(abs(markers$statistic - want[at])), 1e-5)
    for (rows in split(seq_len(nrow(markers)), markers$group, drop = TRUE)) {
      expect_false(is.unsorted(-markers$statistic[rows]))
    }
    markers
  }
  nk <- "NK cells"
  cd8 <- "CD8 T cells"
  two <- check("scanpy_two", c(cd8, nk))
  turned <- check("scanpy_two_turned", c(nk, cd8))
  check("scanpy_three", c(nk, cd8, "B cells"))
  check("scanpy_reference", "B cells", reference = nk)
  check("scanpy_reference_turned", nk, reference = "B cells")
  # What is filed under the first level speaks for the second.
  plain <- suppressMessages(find_markers(
    x,
    "louvain",
    groups = cd8,
    reference = nk,
    features = genes,
    method = "logreg"
  ))
  expect_identical(unique(as.character(two$group)), cd8)
  of <- \(table) table$statistic[match(plain$feature, table$feature)]
  expect_equal(plain$statistic, -of(two), tolerance = 1e-5)
  expect_identical(of(turned), of(two))
})

test_that("a budget too small reads the file at every look and says so", {
  data <- model_data()
  args <- model_args(data$group, "a", "b")
  withr::local_options(scoom.memory = 1e6)
  dense <- data$dense[rep(seq_len(40), 60), ]
  # So many different values that packing them is as large as they are.
  dense <- dense * (1 + (row(dense) * 7919 + col(dense)) %% 1009 / 1e5)
  plan <- c(memory_recipe(dense), stored_log = exp(1))
  expect_message(
    often <- run_logreg(plan, args, to_rest = FALSE),
    class = "scoom_message_read_often"
  )
  withr::local_options(scoom.memory = 1e8)
  once <- run_logreg(plan, args, to_rest = FALSE)
  same <- setdiff(names(once), "in_memory")
  expect_identical(often[same], once[same])
})

test_that("bad latent columns are told by class", {
  data <- model_data()
  args <- model_args(data$group, "a", "b")
  run <- \(...) run_lr(data$plan, args, list(...))
  missing <- replace(data$depth, 7, NA)
  condition <- expect_error(
    run(depth = missing),
    class = "scoom_error_latent_missing"
  )
  expect_identical(condition$column, "depth")
  expect_error(
    run(batch = replace(data$batch, which(data$group == "a")[1], NA)),
    class = "scoom_error_latent_missing"
  )
  # Of cells that take no part nothing is asked.
  aside <- replace(data$depth, which(data$group == "c"), NA)
  expect_identical(run(depth = aside), run(depth = data$depth))
  expect_error(run(same = rep(1, 240)), class = "scoom_error_latent_constant")
  expect_error(
    run(same = ifelse(data$group == "c", "x", "y")),
    class = "scoom_error_latent_constant"
  )
  condition <- expect_error(
    run(batch = data$batch, depth = data$depth, first = data$batch == "two"),
    class = "scoom_error_latent_collinear"
  )
  expect_identical(condition$columns, "firstTRUE")
  condition <- expect_error(
    run(depth = data$depth, thousands = data$depth / 1000 + 1),
    class = "scoom_error_latent_collinear"
  )
  expect_identical(condition$columns, "thousands")
  expect_error(
    run(list = as.list(data$depth)),
    class = "scoom_error_invalid_input"
  )
})

test_that("latent columns that tell the sides leave p-values of 1", {
  data <- model_data()
  args <- model_args(data$group, c("a", "b"), c("b", "c"))
  latent <- list(side = data$group == "a")
  condition <- expect_warning(
    columns <- run_lr(data$plan, args, latent),
    class = "scoom_warning_latent_determines"
  )
  expect_identical(condition$comparisons, 1L)
  expect_true(all(in_order(columns, 1)$p_value == 1))
  expect_equal(in_order(columns, 2), in_order(run_lr(data$plan, args), 2))
})

test_that("what models can't do is an error", {
  data <- model_data()
  args <- model_args(data$group, "a")
  expect_error(
    run_logreg(data$plan, args, to_rest = TRUE, scanpy = TRUE),
    class = "scoom_error_one_group"
  )
  expect_error(
    run_logreg(data$plan, args, to_rest = TRUE, BPPARAM = 3),
    class = "scoom_error_invalid_input"
  )
  blocks <- model_args(data$group, c("a", "b"), stratum_of = c(0L, 0L))
  expect_error(run_lr(data$plan, blocks), class = "scoom_error_invalid_input")
  expect_error(
    run_logreg(data$plan, blocks, TRUE),
    class = "scoom_error_invalid_input"
  )
})
