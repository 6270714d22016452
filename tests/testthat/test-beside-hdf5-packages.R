# Other packages bring their own libhdf5 into the same process, or close every handle
# of a shared one. Each test is a process of its own, as the order of loading counts.

# What a fresh R prints, by lines; fails with all of it if R fails.
fresh_r <- function(lines, env = parent.frame()) {
  script <- withr::local_tempfile(fileext = ".R", .local_envir = env)
  writeLines(lines, script)
  withr::local_envvar(
    R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep),
    R_TESTS = ""
  )
  rscript <- file.path(R.home("bin"), "Rscript")
  said <- suppressWarnings(system2(
    rscript,
    c("--vanilla", shQuote(script)),
    stdout = TRUE,
    stderr = TRUE
  ))
  status <- attr(said, "status")
  expect_true(is.null(status), info = paste(said, collapse = "\n"))
  said
}

skip_unless_installed_for_processes <- function() {
  skip_on_cran()
  # A source tree loaded in place can't be loaded by another process.
  skip_if(!nzchar(system.file("libs", package = "scoom")))
}

# Reads with scoom; the same number whatever else is loaded.
reading <- c(
  "check <- function() {",
  "  x <- scoom::open_h5ad(path)",
  "  stopifnot(",
  "    sum(scoom::rowSums(x$X)) == expected,",
  "    nlevels(x$obs$donor) == 8,",
  "    is.list(x$uns$simulation)",
  "  )",
  "  x",
  "}"
)

# Reads the same values with each package, once: HDF5Array alone fails to open the
# same sparse matrix a second time.
others <- c(
  rhdf5 = "stopifnot(sum(rhdf5::h5read(path, 'X/data')) == expected)",
  hdf5r = paste(
    "local({ f <- hdf5r::H5File$new(path, 'r');",
    "stopifnot(sum(f[['X/data']][]) == expected); f$close_all() })"
  ),
  HDF5Array = paste(
    "stopifnot(sum(HDF5Array::H5SparseMatrix(path, 'X')) == expected)"
  )
)

preamble <- function() {
  c(
    sprintf("path <- %s", deparse(normalizePath(example_h5ad()))),
    sprintf("expected <- %.0f", sum(rowSums(open_example()$X))),
    reading
  )
}

test_that("scoom and each HDF5 package load in both orders and read the same", {
  skip_unless_installed_for_processes()
  for (package in names(others)) {
    skip_if_not_installed(package)
    load <- sprintf("suppressMessages(library(%s))", package)
    use <- others[[package]]
    said <- fresh_r(c(
      preamble(),
      "library(scoom)",
      "x <- check()",
      load,
      use,
      "invisible(check())",
      "stopifnot(sum(rowSums(x$X)) == expected)",
      "cat('both')"
    ))
    expect_match(said, "both", all = FALSE, info = package)
    said <- fresh_r(c(
      preamble(),
      load,
      "suppressMessages(library(scoom))",
      "invisible(check())",
      use,
      "invisible(check())",
      "cat('both')"
    ))
    expect_match(said, "both", all = FALSE, info = package)
  }
})

test_that("all HDF5 packages together, scoom first, between and last", {
  skip_unless_installed_for_processes()
  for (package in names(others)) {
    skip_if_not_installed(package)
  }
  for (place in 0:3) {
    order <- append(names(others), "scoom", after = place)
    said <- fresh_r(c(
      preamble(),
      sprintf("loadNamespace(\"%s\")", order),
      "invisible(check())",
      others[intersect(order, names(others))],
      "invisible(check())",
      "cat('all')"
    ))
    expect_match(said, "all", all = FALSE, info = paste(order, collapse = " "))
  }
})

test_that("close_all() of hdf5r and h5closeAll() of rhdf5 leave objects working", {
  skip_unless_installed_for_processes()
  skip_if_not_installed("hdf5r")
  skip_if_not_installed("rhdf5")
  said <- fresh_r(c(
    preamble(),
    "library(scoom)",
    "x <- check()",
    "blocks <- x$X$chunks(500)",
    "invisible(x$obs$donor)",
    "f <- hdf5r::H5File$new(path, 'r')",
    "g <- f[['X/data']]",
    "invisible(check())",
    "hdf5r::h5close(f)",
    "f <- hdf5r::H5File$new(path, 'r')",
    "f$close_all()",
    "stopifnot(sum(rowSums(x$X)) == expected)",
    "h <- rhdf5::H5Fopen(path, 'H5F_ACC_RDONLY')",
    "invisible(check())",
    "rhdf5::h5closeAll()",
    "invisible(gc())",
    "stopifnot(sum(rowSums(x$X)) == expected)",
    "invisible(check())",
    "cat('open')"
  ))
  expect_match(said, "open", all = FALSE)
})

test_that("error handlers that other packages give libhdf5 stay theirs", {
  skip_unless_installed_for_processes()
  skip_if_not_installed("hdf5r")
  # rhdf5 would put its own in the place of that of hdf5r, so it must not be loaded.
  said <- fresh_r(c(
    preamble(),
    "library(scoom)",
    "f <- hdf5r::H5File$new(path, 'r')",
    "x <- check()",
    "# Looking at a group as if it were a dataset fails inside libhdf5.",
    "stopifnot(sum(colSums(x$X)) == expected)",
    "open <- function() hdf5r::H5File$new('nowhere.h5', 'r')",
    "said <- tryCatch(open(), error = conditionMessage)",
    "stopifnot(grepl('HDF5-API', said))",
    "f$close_all()",
    "invisible(check())",
    "cat('theirs')"
  ))
  expect_match(said, "theirs", all = FALSE)
})
