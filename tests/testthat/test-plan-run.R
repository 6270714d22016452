test_that("sizes are read as people write them", {
  expect_identical(parse_bytes("2GB", "m"), 2e9)
  expect_identical(parse_bytes("500 mb", "m"), 5e8)
  expect_identical(parse_bytes("1.5GiB", "m"), 1.5 * 2^30)
  expect_identical(parse_bytes("4g", "m"), 4e9)
  expect_identical(parse_bytes(3e9, "m"), 3e9)
  for (bad in list("lots", "2 XB", "", -1, NA, "1kB", c("1GB", "2GB"), NULL)) {
    expect_error(parse_bytes(bad, "m"), class = "scoom_error_invalid_input")
  }
})

test_that("options decide, arguments win, and wrong values are errors", {
  withr::local_options(scoom.threads = 3, scoom.memory = "64MB")
  expect_identical(scoom_resources()$threads, 3L)
  expect_identical(scoom_ctx()$threads, 3L)
  expect_identical(scoom_ctx(threads = 1)$threads, 1L)
  expect_identical(scoom_ctx()$memory, 6.4e7)
  expect_error(scoom_ctx(threads = 0.5), class = "scoom_error_invalid_input")
  withr::local_options(scoom.threads = 0)
  expect_error(scoom_resources(), class = "scoom_error_invalid_input")
  withr::local_options(scoom.threads = 2, scoom.memory = "much")
  expect_error(scoom_resources(), class = "scoom_error_invalid_input")
  withr::local_options(scoom.memory = NULL, scoom.scratch = "/no/such/folder")
  expect_error(scoom_resources(), class = "scoom_error_invalid_input")
  expect_snapshot(error = TRUE, scoom_resources())
})

test_that("defaults honour what the environment allows", {
  withr::local_options(scoom.threads = NULL, scoom.memory = NULL)
  expect_gte(scoom_resources()$memory, 1e8)
  withr::local_envvar(SLURM_CPUS_PER_TASK = "1")
  expect_identical(scoom_resources()$threads, 1L)
  withr::local_envvar(SLURM_CPUS_PER_TASK = NA, OMP_THREAD_LIMIT = "1")
  expect_identical(scoom_resources()$threads, 1L)
  withr::local_envvar(OMP_THREAD_LIMIT = NA, `_R_CHECK_LIMIT_CORES_` = "TRUE")
  expect_lte(scoom_resources()$threads, 2L)
  withr::local_envvar(SLURM_MEM_PER_NODE = "1000")
  expect_lte(scoom_resources()$memory, 1000 * 2^20 / 4)
})

test_that("lists of cores are counted", {
  expect_identical(count_list("0-3,8"), 5)
  expect_identical(count_list("7"), 1)
})

test_that("shares are consecutive and almost equal", {
  expect_identical(deal(1:5, 2), list(1:2, 3:5))
  expect_identical(deal(1:3, 3), list(1L, 2L, 3L))
  expect_identical(deal(integer(), 2), list())
  for (n in 1:20) {
    shares <- deal(seq_len(20), n)
    expect_length(shares, n)
    expect_identical(unlist(shares), 1:20)
    expect_lte(diff(range(lengths(shares))), 1)
  }
})

test_that("worker processes give the bits of one process", {
  skip_if_not_installed("BiocParallel")
  path <- local_wide_h5ad()
  x <- open_h5ad(path)
  x <- x[20000:1, ]
  x <- add_op(x, list(op = "log1p", base = NULL))
  info <- rs_unwrap(rs_plan_info(scoom_plan(x), scoom_ctx()))
  expect_gt(info$n_ranges, 1)
  whole <- col_vars(x$X, threads = 1)
  expect_gt(max(whole), 0)
  expect_identical(col_vars(x$X, threads = 2), whole)
  serial <- BiocParallel::SerialParam()
  expect_identical(col_vars(x$X, BPPARAM = serial), whole)
  skip_on_os("windows")
  fork <- BiocParallel::MulticoreParam(2)
  expect_identical(col_vars(x$X, BPPARAM = fork), whole)
  expect_identical(row_vars(x$X, BPPARAM = fork), row_vars(x$X))
})

test_that("fresh worker processes give the bits of one process", {
  skip_on_cran()
  skip_if_not_installed("BiocParallel")
  # Workers load the installed package; a source tree loaded in place has none.
  skip_if(!nzchar(system.file("libs", package = "scoom")))
  withr::local_envvar(
    R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep)
  )
  path <- local_wide_h5ad()
  x <- open_h5ad(path)
  snow <- BiocParallel::SnowParam(2)
  expect_identical(col_vars(x$X, BPPARAM = snow), col_vars(x$X))
  expect_identical(row_vars(x$X, BPPARAM = snow), row_vars(x$X))
})

test_that("an error in a worker has its class", {
  skip_if_not_installed("BiocParallel")
  x <- open_h5ad(bad_fixture_path("index-too-large"))
  serial <- BiocParallel::SerialParam()
  expect_error(col_vars(x$X, BPPARAM = serial), class = "scoom_error_corrupt")
  expect_error(col_vars(x$X, BPPARAM = 2), class = "scoom_error_invalid_input")
})

test_that("a missing package of workers is named with what installs it", {
  expect_missing_package(
    col_vars(open_example()$X, BPPARAM = 2),
    "BiocParallel",
    "BiocManager::install"
  )
})

test_that("objects work in a forked process", {
  skip_on_os("windows")
  x <- open_example()
  expected <- colSums(x$X)
  answers <- parallel::mclapply(1:2, \(i) colSums(x$X), mc.cores = 2)
  expect_identical(answers, list(expected, expected))
})

test_that("partials of another version are refused by name", {
  plan <- matrix_plan(open_example()$X)
  sums <- \(mode) {
    answer <- rs_matrix_sums(plan, list(margin = "rows"), scoom_ctx(), mode)
    rs_unwrap(answer)
  }
  parts <- sums(list(ranges = 1L))
  expect_identical(sums(list(partials = parts)), sums(NULL))
  # The number of the format stands after four letters.
  parts[[1]][[5]] <- as.raw(99)
  error <- expect_error(
    sums(list(partials = parts)),
    "format 99",
    class = "scoom_error_partial_version"
  )
  expect_match(error$expected, as.character(packageVersion("scoom")))
})
