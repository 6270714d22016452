test_that("a moved file keeps selections, chain and what was computed", {
  path <- local_example_copy()
  x <- open_h5ad(path)[2000:1001, 5:1]
  x$obs$new <- 1:1000
  x$layers$logged <- log1p(x$X)
  x <- add_op(x, list(op = "log1p", base = NULL))
  values <- as.matrix(x$X)
  obs <- x$obs
  moved <- withr::local_tempfile(fileext = ".h5ad")
  file.rename(path, moved)
  expect_error(as.matrix(x$X), class = "scoom_error_file_missing")
  y <- relocate(x, moved)
  expect_identical(as.matrix(y$X), values)
  expect_identical(as.matrix(y$layers$logged), values)
  expect_identical(y$obs, obs)
})

test_that("an object that was saved can be relocated in the next session", {
  path <- local_example_copy()
  x <- open_h5ad(path)
  saved <- withr::local_tempfile(fileext = ".rds")
  saveRDS(x, saved)
  moved <- withr::local_tempfile(fileext = ".h5ad")
  file.rename(path, moved)
  y <- readRDS(saved)
  expect_silent(z <- relocate(y, moved))
  expect_identical(rowSums(z$X), rowSums(open_example()$X))
})

test_that("a file with other cells or genes is refused", {
  x <- open_fixture("engine-csr")
  other <- fixture_path("engine-csc")
  expect_no_error(relocate(x, other))
  expect_error(relocate(x, example_h5ad()), class = "scoom_error_file_differs")
  expect_error(relocate(x, "nowhere.h5ad"), class = "scoom_error_file_missing")
  expect_error(relocate(1, other), class = "scoom_error_invalid_input")
  skip_if_not_installed("hdf5r")
  path <- local_example_copy()
  file <- hdf5r::H5File$new(path, "r+")
  index <- hdf5r::h5attr(file[["obs"]], "_index")
  names <- file[[paste0("obs/", index)]]
  names[1] <- "somebody else"
  file$close_all()
  expect_snapshot(error = TRUE, relocate(open_example(), path))
})
