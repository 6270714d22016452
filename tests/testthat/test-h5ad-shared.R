# Files that other tools wrote, compared with what anndata reads from them.

shared_files <- \() reference_index("shared-fixtures")$files

shared_path <- function(file) shared_data_path("h5ad_fixtures", file)

expect_names <- function(names, entry, info) {
  expect_length(names, entry$n)
  expect_identical(length(unique(names)), entry$n_unique, info = info)
  expect_identical(head(names, length(entry$first)), entry$first, info = info)
  if (length(names)) {
    expect_identical(tail(names, 1), entry$last, info = info)
  }
}

expect_column <- function(column, entry, info) {
  expect_identical(sum(is.na(column)), entry$n_missing, info = info)
  if (entry$type %in% c("factor", "ordered")) {
    expect_identical(is.ordered(column), entry$type == "ordered", info = info)
    expect_identical(levels(column), as.character(entry$levels), info = info)
    expect_identical(
      as.vector(table(column)),
      as.integer(entry$counts),
      info = info
    )
  } else if (entry$type == "string") {
    expect_type(column, "character")
    expect_identical(
      head(column, length(entry$first)),
      entry$first,
      info = info
    )
  } else {
    expect_true(is.numeric(column) || is.logical(column), info = info)
    finite <- column[is.finite(column)]
    expect_equal(sum(finite), entry$sum, tolerance = 1e-6, info = info)
  }
}

expect_digest <- function(m, entry, info) {
  expect_identical(dim(m), as.integer(entry$shape), info = info)
  values <- as.matrix(m)
  finite <- is.finite(values)
  expect_equal(sum(!finite), entry$n_nonfinite, info = info)
  values[!finite] <- 0
  digest <- matrix_digest(values)
  for (key in c("sum", "sum_squares", "weighted_sum")) {
    expect_equal(digest[[key]], entry[[key]], tolerance = 1e-9, info = info)
  }
}

test_that("files of other tools open as anndata opens them", {
  skip_if_not_installed("jsonlite")
  for (file in names(shared_files())) {
    entry <- shared_files()[[file]]
    x <- suppressWarnings(open_h5ad(shared_path(file)))
    expect_identical(dim(x), as.integer(entry$shape), info = file)
    for (margin in c("obs", "var")) {
      frame <- suppressWarnings(view_frame(x, margin))
      info <- paste(file, margin)
      expect_names(view_names(x, margin), entry[[margin]]$names, info)
      expect_setequal(names(frame), names(entry[[margin]]$columns))
      for (name in names(entry[[margin]]$columns)) {
        column <- entry[[margin]]$columns[[name]]
        expect_column(frame[[name]], column, paste(info, name))
      }
    }
    for (slot in c("layers", "obsm", "varm", "obsp", "varp")) {
      names <- names(entry[[slot]])
      if (file == "tiledbsoma_pbmc-small-old.h5ad" && slot == "obsp") {
        # Before 0.7 graphs were in uns; anndata moves them, here they stay.
        expect_true("distances" %in% names(x$uns$neighbors))
        names <- setdiff(names, "distances")
      }
      expect_setequal(names(new_elements(x, slot)), names)
    }
    if (is.null(entry$X)) {
      expect_null(x$X, info = file)
    } else {
      expect_digest(x$X, entry$X, file)
    }
  }
})
