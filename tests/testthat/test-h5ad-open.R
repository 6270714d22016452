good_fixtures <- \() fixture_manifest()$good

test_that("fixtures open with the shape, names and columns that anndata reads", {
  skip_if_not_installed("jsonlite")
  for (file in names(good_fixtures())) {
    entry <- good_fixtures()[[file]]
    x <- open_fixture(file)
    expect_identical(dim(x), as.integer(unlist(entry$shape)), info = file)
    for (margin in c("obs", "var")) {
      expected <- entry[[margin]]
      names <- as.character(unlist(expected$names))
      got_names <- suppressWarnings(view_names(x, margin))
      expect_identical(got_names, names, info = paste(file, margin))
      frame <- suppressWarnings(view_frame(x, margin))
      expect_identical(
        names(frame),
        names(expected$columns) %||% character(),
        info = paste(file, margin)
      )
      for (column in names(expected$columns)) {
        info <- paste(file, margin, column)
        want <- manifest_column(expected$columns[[column]])
        got <- frame[[column]]
        attributes(got) <- attributes(got)[c("levels", "class")]
        expect_equal(got, want, info = info)
        alone <- suppressWarnings(frame_column(
          open_fixture(file),
          margin,
          column
        ))
        attributes(alone) <- attributes(alone)[c("levels", "class")]
        expect_identical(alone, got, info = info)
      }
    }
  }
})

expect_matrix <- function(m, entry, X, info) {
  if (!is.null(entry$same_as)) {
    entry <- X
  }
  expect_identical(dim(m), as.integer(unlist(entry$shape)), info = info)
  values <- without_names(as.matrix(m))
  if (!is.null(entry$values)) {
    expect_equal(values, manifest_matrix(entry), info = info, tolerance = 1e-15)
    return(invisible())
  }
  digest <- matrix_digest(values)
  for (key in names(digest)) {
    expect_equal(digest[[key]], entry[[key]], tolerance = 1e-12, info = info)
  }
  expect_equal(rowSums(values), manifest_numbers(entry$row_sums), info = info)
  expect_equal(colSums(values), manifest_numbers(entry$col_sums), info = info)
}

test_that("matrices of fixtures hold the values that anndata reads", {
  skip_if_not_installed("jsonlite")
  for (file in names(good_fixtures())) {
    entry <- good_fixtures()[[file]]
    x <- open_fixture(file)
    if (is.null(entry$X)) {
      expect_null(x$X, info = file)
    } else {
      suppressWarnings(expect_matrix(x$X, entry$X, info = file))
    }
    expect_setequal(names(x$layers), names(entry$layers))
    for (layer in names(entry$layers)) {
      info <- paste(file, layer)
      m <- x$layers[[layer]]
      suppressWarnings(expect_matrix(m, entry$layers[[layer]], entry$X, info))
    }
  }
})

test_that("sparse and dense loading, sums and chunks of fixtures agree", {
  skip_if_not_installed("jsonlite")
  for (file in grep(
    "^(engine|csr|csc|dense)",
    names(good_fixtures()),
    value = TRUE
  )) {
    x <- open_fixture(file)
    dense <- as.matrix(x$X)
    expect_identical(as.matrix(as(x$X, "dgCMatrix")), dense, info = file)
    expect_equal(rowSums(x$X), rowSums(dense), info = file)
    expect_equal(colMeans(x$X), colMeans(dense), info = file)
    expect_equal(col_vars(x$X), apply(dense, 2, var), info = file)
    parts <- chunk_apply(x$X, as.matrix, n = 4)
    expect_identical(do.call(rbind, parts), dense, info = file)
  }
})

expect_element <- function(got, entry, info) {
  if (entry$kind == "dataframe") {
    expect_identical(rownames(got), as.character(unlist(entry$names)))
    for (column in names(entry$columns)) {
      want <- manifest_column(entry$columns[[column]])
      expect_equal(got[[column]], want, info = info)
    }
  } else {
    values <- without_names(as.matrix(got))
    expect_equal(values, manifest_matrix(entry), info = info)
  }
}

test_that("elements along cells and genes read as anndata reads them", {
  skip_if_not_installed("jsonlite")
  for (file in c("containers", "legacy")) {
    entry <- good_fixtures()[[basename(fixture_path(file))]]
    x <- open_fixture(file)
    for (slot in c("obsm", "varm", "obsp", "varp")) {
      elements <- view_elements(x, slot)
      expect_setequal(names(elements), names(entry[[slot]]))
      for (name in names(entry[[slot]])) {
        info <- paste(file, slot, name)
        expect_element(elements[[name]], entry[[slot]][[name]], info)
      }
    }
    raw <- x$raw
    expect_identical(raw$var_names, as.character(unlist(entry$raw$var$names)))
    expect_equal(
      without_names(as.matrix(raw$X)),
      manifest_matrix(entry$raw$X),
      info = file
    )
    expect_setequal(names(raw$varm), names(entry$raw$varm))
    expect_identical(raw$obs, x$obs)
  }
})

test_that("sparse elements come as sparse matrices of R, with names", {
  x <- open_fixture("containers")
  expect_s4_class(x$obsp$connectivities, "dgCMatrix")
  expect_identical(rownames(x$obsp$connectivities), x$obs_names)
  expect_identical(colnames(x$obsp$connectivities), x$obs_names)
  expect_s4_class(x$obsm$csr, "dgCMatrix")
  expect_identical(as.matrix(x$obsm$csr), as.matrix(x$obsm$csc))
  expect_identical(rownames(x$varm$PCs), x$var_names)
})

test_that("unstructured elements read as vectors, factors, lists and frames", {
  uns <- open_fixture("containers")$uns
  expect_identical(uns$integer, 42L)
  expect_identical(uns$bools, c(TRUE, FALSE))
  expect_identical(uns$floats, c(0.5, NaN, Inf))
  expect_identical(uns$factor, factor(c("u", "v", "u")))
  expect_identical(uns$nullable_int, c(1L, NA))
  expect_identical(uns$matrix, matrix(c(0, 3, 1, 4, 2, 5), 2))
  expect_identical(uns$nested$params$deep$er, c(1.5, 2.5))
  expect_identical(uns$frame$y, c("a", "b"))
  expect_null(uns$null)
  expect_identical(uns$empty_dict, set_names(list(), character()))
})

test_that("elements that can't be read are listed, and touching one says why", {
  path <- fixture_path("unread")
  expect_warning(x <- open_h5ad(path), class = "scoom_warning_unread_elements")
  unread <- c("obs/a", "obsm/awkward", "uns/odd", "layers/odd")
  for (element in unread) {
    expect_match(format(x), element, fixed = TRUE, all = FALSE)
  }
  expect_error(x$obsm$awkward, class = "scoom_error_element_unread")
  expect_error(x$layers$odd, class = "scoom_error_element_unread")
  expect_error(obs_column(x, "a"), class = "scoom_error_element_unread")
  expect_identical(x$uns$plain, 1.5)
  expect_identical(dim(as.matrix(x$X)), dim(x))
})

# What fails, as the manifest says, or NULL.
failure_of <- function(path, touch) {
  tryCatch(
    suppressWarnings({
      x <- open_h5ad(path)
      switch(
        touch,
        X = as.matrix(x$X),
        `obs/x` = obs_column(x, "x"),
        `layers/x` = as.matrix(x$layers$x)
      )
      NULL
    }),
    error = identity
  )
}

test_that("damaged files give classed errors that name what is damaged", {
  skip_if_not_installed("jsonlite")
  for (file in names(fixture_manifest()$bad)) {
    entry <- fixture_manifest()$bad[[file]]
    error <- failure_of(test_path("fixtures", file), entry$fails_at)
    # Read by a plugin that another package has brought into the process.
    if (
      basename(file) == "filter-blosc.h5ad" && isNamespaceLoaded("rhdf5filters")
    ) {
      next
    }
    expect_s3_class(error, "scoom_error")
    expect_false(inherits(error, "scoom_error_internal"))
    message <- conditionMessage(error)
    expect_match(message, basename(file), fixed = TRUE)
    expect_gt(nchar(message), nchar(file) + 20)
  }
})

test_that("paths that are no .h5ad file give errors that say so", {
  folder <- withr::local_tempdir()
  withr::local_dir(folder)
  expect_error(open_h5ad(folder), class = "scoom_error_is_directory")
  writeLines("text", "text.h5ad")
  expect_error(open_h5ad("text.h5ad"), class = "scoom_error_not_hdf5")
  file.create("empty.h5ad")
  expect_error(open_h5ad("empty.h5ad"), class = "scoom_error")
  file.copy(example_h5ad(), "atlas.h5ad")
  expect_error(open_h5ad(1), class = "scoom_error_invalid_input")
  expect_error(open_h5ad(NA_character_), class = "scoom_error_invalid_input")
  expect_error(open_h5ad(c("a", "b")), class = "scoom_error_invalid_input")
  expect_snapshot(error = TRUE, {
    open_h5ad("atlsa.h5ad")
    open_h5ad("nowhere/atlas.h5ad")
    open_h5ad("%s%d{x}.h5ad")
  })
})

test_that("paths with percent signs, braces and letters of other scripts open", {
  skip_if_not(l10n_info()[["UTF-8"]])
  folder <- withr::local_tempdir()
  for (name in c("a%s%n.h5ad", "b{x}<y>.h5ad", "c \u00e9\u4e2d.h5ad")) {
    path <- file.path(folder, name)
    file.copy(example_h5ad(), path)
    x <- open_h5ad(path)
    expect_identical(dim(x$X[1:2, 1:3]), 2:3)
    expect_match(format(x), name, fixed = TRUE, all = FALSE)
    unlink(path)
    expect_error(obs_column(x, "donor"), class = "scoom_error_file_missing")
  }
})

test_that("a truncated file is an error that says so", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  bytes <- readBin(example_h5ad(), "raw", 1e5)
  writeBin(bytes, path)
  expect_error(open_h5ad(path), class = "scoom_error_truncated")
})

test_that("names that are not unique give a warning and stay as they are", {
  path <- fixture_path("duplicate-names")
  warnings <- capture_warnings(x <- open_h5ad(path))
  expect_length(warnings, 2)
  expect_match(warnings, "not unique", all = TRUE)
  expect_true(anyDuplicated(x$var_names) > 0)
  expect_identical(rownames(x$var), make.unique(x$var_names))
  repeated <- x$var_names[[anyDuplicated(x$var_names)]]
  expect_error(x[, repeated], class = "scoom_error_ambiguous_name")
  once <- setdiff(x$var_names, x$var_names[duplicated(x$var_names)])[[1]]
  expect_identical(x[, once]$var_names, once)
  expect_silent(x[, 1:3])
  x$var_names <- make.unique(x$var_names)
  expect_identical(rownames(x[, repeated]$var), repeated)
})

test_that("a file can be opened for writing while an object on it lives", {
  skip_if_not_installed("hdf5r")
  path <- local_example_copy()
  x <- open_h5ad(path)
  sum(rowSums(x$X))
  file <- hdf5r::H5File$new(path, "r+")
  expect_true(file$exists("X"))
  file$close_all()
})

test_that("values are read once and kept for the session, not in the object", {
  path <- local_example_copy()
  x <- open_h5ad(path)
  donor <- x$obs$donor
  y <- x[1:10, ]
  unlink(path)
  expect_identical(x$obs$donor, donor)
  expect_identical(y$obs$donor, donor[1:10])
  expect_error(x$uns$simulation, class = "scoom_error_file_missing")
})

test_that("an object that was saved works in the next session, without its cache", {
  x <- open_example()
  x$obs$new <- seq_len(n_obs(x))
  x <- x[2000:1, 1:50]
  obs <- x$obs
  path <- withr::local_tempfile(fileext = ".rds")
  saveRDS(x, path)
  expect_lt(file.size(path), 20000)
  y <- readRDS(path)
  expect_length(ls(cache_of(y)), 0)
  expect_identical(y$obs, obs)
  expect_identical(as.matrix(y$X), as.matrix(x$X))
})

test_that("a changed file is an error that says what to do", {
  path <- local_example_copy()
  x <- open_h5ad(path)
  cat("more", file = path, append = TRUE)
  expect_error(x$obs, class = "scoom_error_file_changed")
  expect_error(rowSums(x$X), class = "scoom_error_file_changed")
  file.copy(example_h5ad(), path, overwrite = TRUE)
  Sys.setFileTime(path, Sys.time() + 60)
  error <- expect_error(as.matrix(x$X), class = "scoom_error_file_changed")
  expect_match(conditionMessage(error), "relocate")
})

test_that("a file with no X opens, and asking for X says what there is", {
  x <- open_fixture("no-x")
  expect_null(x$X)
  expect_snapshot(error = TRUE, scoom_plan(x))
  x$X <- x$layers[[1]]
  expect_identical(as.matrix(x$X), as.matrix(x$layers[[1]]))
})

test_that("files without cells, genes or values work", {
  for (file in c("no-cells", "no-genes", "no-values", "one-cell", "one-gene")) {
    x <- open_fixture(file)
    m <- as.matrix(x$X)
    expect_identical(dim(m), dim(x))
    expect_identical(nrow(x$obs), nrow(x))
    expect_identical(nrow(x$var), ncol(x))
    expect_equal(unname(rowSums(x$X)), unname(rowSums(m)))
    expect_equal(unname(colSums(x$X)), unname(colSums(m)))
    expect_identical(dim(as(x$X, "dgCMatrix")), dim(x))
    expect_output(print(x), "n_obs x n_vars")
  }
})

test_that("an object has names in both dimensions and is no matrix", {
  x <- open_h5ad(example_h5ad())[1:3, 1:2]
  expect_identical(rownames(x), obs_names(x))
  expect_identical(colnames(x), var_names(x))
  expect_error(as.matrix(x), class = "scoom_error_not_supported")
})
