test_that("the plan of an object is explained", {
  withr::local_options(scoom.threads = 2, scoom.memory = "1GB")
  x <- open_example()
  expect_snapshot({
    explain_plan(x)
    y <- add_op(x[1:500, 1:100], list(op = "log1p", base = NULL))
    y <- add_op(y, list(op = "scale", zero_center = TRUE, max_value = NULL))
    explain_plan(y, "run_pca")
  })
})

test_that("what is explained is returned, and nothing is computed for it", {
  x <- add_op(
    open_example(),
    list(op = "scale", zero_center = TRUE, max_value = NULL)
  )
  capture.output(e <- explain_plan(x))
  expect_identical(c(e$n_obs, e$n_vars, e$n_values), c(2000, 2000, 655740))
  expect_identical(e$reads_per_pass, 1)
  expect_identical(e$chain, "scale")
  expect_identical(e$verbs$passes[e$verbs$verb == "run_pca"], 1)
  withr::local_options(scoom.memory = "2MB")
  capture.output(e <- explain_plan(x, "run_pca", n_genes = 100))
  expect_identical(e$verbs$passes, 3)
  # Their covariance takes more than a quarter of it: iterations.
  capture.output(e <- explain_plan(x, "run_pca", n_genes = 200))
  expect_identical(e$verbs$passes, 3 + 200 / 50)
  capture.output(e <- explain_plan(x, "run_pca"))
  expect_identical(e$verbs$passes, 3 + 40)
  expect_lt(e$verbs$memory_bytes, 24 * 2000^2 + 5e7 * e$threads + 1e8)
  expect_length(ls(cache_of(x), pattern = "^scale:"), 0)
})

test_that("a file stored by columns is read more often where memory is small", {
  x <- open_fixture("engine-csc")
  capture.output(rich <- explain_plan(x))
  expect_identical(rich$reads_per_pass, 1)
  within <- function(memory) {
    ctx <- utils::modifyList(scoom_ctx(), list(memory = memory))
    rs_unwrap(rs_plan_info(scoom_plan(x), ctx))
  }
  # Never more often than there are blocks.
  expect_identical(within(5e4)$reads_per_sweep, 1)
  withr::local_options(scoom.range_values = 400)
  expect_gt(within(5e4)$reads_per_sweep, 1)
  expect_identical(within(1)$reads_per_sweep, within(1)$n_blocks)
})

test_that("bounds grow with what they are evaluated for", {
  x <- open_example()
  capture.output({
    few <- explain_plan(x, "find_markers", n_groups = 2)
    many <- explain_plan(x, "find_markers", n_groups = 200)
  })
  t_test <- few$verbs$method == "t-test"
  expect_gt(many$verbs$memory_bytes[t_test], few$verbs$memory_bytes[t_test])
  withr::local_options(scoom.memory = "10MB")
  capture.output(tight <- explain_plan(x, "find_markers", n_groups = 200))
  expect_gt(tight$verbs$passes[t_test], 1)
  expect_lt(tight$verbs$memory_bytes[t_test], many$verbs$memory_bytes[t_test])
})

test_that("sums of groups take one read whatever the budget", {
  x <- open_example()
  withr::local_options(scoom.memory = "1MB", scoom.threads = 1)
  capture.output(e <- explain_plan(x, "pseudobulk", n_groups = 200))
  expect_identical(e$verbs$passes, 1)
  # A sum and a number, twice; a thread's blocks and the offsets of rows.
  own <- 2 * 16 * 200 * n_vars(x)
  expect_equal(e$verbs$memory_bytes, own + 5e7 + 8 * n_obs(x))
  # Measured: shares of the file that the call has read.
  groups <- list(group = rep_len(seq_len(200), n_obs(x)))
  before <- file_reads()
  pseudobulk(x, groups)
  expect_equal(file_reads() - before, 1, tolerance = 1e-6)
})

test_that("verbs that do not read the file have their memory alone", {
  capture.output({
    e <- explain_plan(open_example())$verbs
    neighbors <- explain_plan(
      open_example(),
      "find_neighbors",
      settings = list(n_comps = 10, n_neighbors = 30)
    )$verbs
    umap <- explain_plan(open_example(), "run_umap")$verbs
  })
  expect_identical(
    unique(e$verb[e$passes == 0]),
    c("find_neighbors", "cluster_leiden", "run_umap")
  )
  expect_identical(neighbors$method, c("exact", "hnsw"))
  n <- 2000
  own <- 4 * n * 10 + 12 * n * 30 + 32 * n + 30 * n * 30
  expect_identical(neighbors$memory_bytes, own + c(0, n * (4 * 10 + 150)))
  expect_identical(umap$memory_bytes, 390 * n)
})

test_that("unknown verbs and objects are errors", {
  expect_error(explain_plan(1), class = "scoom_error_invalid_input")
  expect_error(
    explain_plan(open_example(), c("run_pca", "combat")),
    class = "scoom_error_invalid_input"
  )
  expect_snapshot(error = TRUE, explain_plan(open_example(), "run_pac"))
})

test_that("variable genes take one or two passes, more where batches do not fit", {
  local_quiet()
  withr::local_options(scoom.memory = "100MB")
  x <- open_example()
  of <- function(...) {
    capture.output(e <- explain_plan(x, "find_variable_genes", ...))
    set_names(e$verbs$passes, e$verbs$method)
  }
  flavors <- c("seurat", "cell_ranger", "seurat_v3", "pearson_residuals")
  expect_identical(of(), set_names(c(1, 1, 2, 2), flavors))
  expect_identical(of(n_batches = 100), of())
  # 2,000 batches of 2,000 genes, in units of 50 MB.
  many <- c(ceiling(128 * 4 / 50), ceiling(64 * 4 / 50))
  many <- c(many, ceiling(64 * 4 / 50) + ceiling(c(48, 32) * 4 / 50))
  expect_identical(of(n_batches = 2000), set_names(many, flavors))
  expect_error(
    explain_plan(x, n_batches = 0),
    class = "scoom_error_invalid_input"
  )
})
