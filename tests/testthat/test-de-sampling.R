test_that("groups keep equal numbers of cells", {
  x <- open_example()
  sizes <- table(x$obs$donor)
  even <- quietly(downsample_cells(x, by = "donor"))
  expect_identical(
    as.vector(table(even$obs$donor)),
    rep(min(sizes), length(sizes))
  )
  # The order of the cells stays.
  expect_false(is.unsorted(match(obs_names(even), obs_names(x))))
  expect_identical(
    obs_names(quietly(downsample_cells(x, "donor", n = "min"))),
    obs_names(even)
  )
  few <- quietly(downsample_cells(x, "donor", n = 7))
  expect_true(all(table(few$obs$donor) == 7))
  expect_true(all(obs_names(few) %in% obs_names(even)))
})

test_that("several columns: samples are equal within each cluster", {
  x <- open_example()
  sizes <- table(x$obs$donor, x$obs$cell_type)
  even <- quietly(downsample_cells(x, by = c("donor", "cell_type")))
  left <- table(even$obs$donor, even$obs$cell_type)
  expect_identical(apply(left, 2, max), apply(sizes, 2, min))
  expect_identical(apply(left, 2, min), apply(sizes, 2, min))
  same <- quietly(downsample_cells(x, c("donor", "cell_type"), n = "min"))
  expect_true(all(table(same$obs$donor, same$obs$cell_type) == min(sizes)))
})

test_that("groups smaller than n keep all and are named", {
  x <- open_example()
  sizes <- table(x$obs$donor)
  n <- as.integer(stats::median(sizes))
  expect_message(
    got <- downsample_cells(x, "donor", n = n),
    names(sizes)[which.min(sizes)],
    class = "scoom_message_cells_drawn"
  )
  expect_identical(
    as.vector(table(got$obs$donor)),
    as.vector(pmin(sizes, n))
  )
  said <- tryCatch(
    downsample_cells(x, "donor", n = n),
    scoom_message_cells_drawn = identity
  )
  expect_identical(said$groups$n_cells, as.vector(sizes))
  expect_identical(said$groups$n_kept, as.vector(pmin(sizes, n)))
})

test_that("a draw depends on the seed and the rows of the file alone", {
  local_quiet()
  x <- open_example()
  draw <- \(x, ...) obs_names(downsample_cells(x, "donor", n = 20, ...))
  withr::with_seed(1, {
    before <- .Random.seed
    first <- draw(x)
    expect_identical(.Random.seed, before)
  })
  expect_identical(draw(x), first)
  expect_false(identical(draw(x, seed = 1), first))
  backwards <- x[rev(seq_len(n_obs(x))), ]
  expect_setequal(draw(backwards), first)
  # Every cell is as likely as any other.
  hits <- table(factor(
    unlist(lapply(1:200, \(seed) draw(x, seed = seed))),
    obs_names(x)
  ))
  share <- 20 / as.vector(table(x$obs$donor)[x$obs$donor])
  z <- (as.vector(hits) - 200 * share) / sqrt(200 * share * (1 - share))
  expect_lt(max(abs(z)), 5)
  expect_equal(stats::sd(z), 1, tolerance = 0.1)
})

test_that("cells without a value are left out, and nothing is read", {
  x <- open_example()
  donor <- as.character(x$obs$donor)
  donor[1:50] <- NA
  x$obs$d <- donor
  expect_message(
    got <- downsample_cells(x, "d"),
    class = "scoom_message_cells_left_out"
  )
  expect_false(any(obs_names(x)[1:50] %in% obs_names(got)))
  expect_s3_class(got, "scoom")
})

test_that("impossible draws are errors that say so", {
  x <- open_example()
  bad <- \(...) {
    expect_error(
      downsample_cells(...),
      class = "scoom_error_invalid_input"
    )
  }
  bad(x)
  bad()
  bad(x, character())
  bad(x, 1)
  bad(x, "donor", n = 0)
  bad(x, "donor", n = "max")
  bad(x, "donor", seed = -1)
  bad(mtcars, "cyl")
  expect_error(
    downsample_cells(x, "dono"),
    "donor",
    class = "scoom_error_column_missing"
  )
})
