# The fixtures and reference results written by tests/fixtures-src. Formats are
# described in tests/fixtures-src/README.md.

fixture_path <- function(name) {
  files <- list.files(test_path("fixtures"), pattern = "[.]h5ad$")
  if (!name %in% files) {
    name <- grep(paste0("^", name, "[.]anndata-v"), files, value = TRUE)
  }
  stopifnot(length(name) == 1)
  test_path("fixtures", name)
}

bad_fixture_path <- function(stem) {
  path <- test_path("fixtures", "bad", paste0(stem, ".h5ad"))
  stopifnot(file.exists(path))
  path
}

# list(good = list(<file> = ...), bad = list(<bad/file> = ...))
fixture_manifest <- function() {
  jsonlite::fromJSON(
    test_path("fixtures", "manifest.json"),
    simplifyVector = FALSE
  )
}

# Numbers of the manifest; "NaN", "Inf", "-Inf" and "NA" stand as strings.
manifest_numbers <- function(values) {
  special <- c("NA" = NA, "NaN" = NaN, "Inf" = Inf, "-Inf" = -Inf)
  vapply(
    values,
    \(v) if (is.character(v)) special[[v]] else as.numeric(v),
    numeric(1)
  )
}

# A matrix entry with `values` as a plain matrix without dimnames. An entry that
# says `same_as` takes the values of X in the same file.
manifest_matrix <- function(entry, X = NULL) {
  if (!is.null(entry$same_as)) {
    entry <- X
  }
  values <- lapply(entry$values, manifest_numbers)
  matrix(
    as.numeric(unlist(values)),
    nrow = entry$shape[[1]],
    ncol = entry$shape[[2]],
    byrow = TRUE
  )
}

# A column entry as the R vector that a reader should return. Integers come as
# doubles: compare with expect_equal().
manifest_column <- function(entry) {
  null_to_na <- function(x) if (is.null(x)) NA else x
  values <- lapply(entry$values, null_to_na)
  switch(
    entry$type,
    string = as.character(unlist(values)),
    logical = vapply(values, \(v) if (identical(v, "NA")) NA else v, NA),
    factor = ,
    ordered = {
      levels <- vapply(entry$levels, as.character, "")
      codes <- as.integer(unlist(values)) + 1L
      factor(levels[codes], levels, ordered = entry$type == "ordered")
    },
    manifest_numbers(values)
  )
}

# sum, sum_squares, weighted_sum, n_nonzero of a matrix, as in the manifest.
matrix_digest <- function(m) {
  m <- as.matrix(m)
  list(
    sum = sum(m),
    sum_squares = sum(m^2),
    weighted_sum = sum(m * outer(seq_len(nrow(m)), seq_len(ncol(m)))),
    n_nonzero = sum(m != 0)
  )
}

# The folder of shared real data; a test that needs it skips where it is absent.
shared_data_path <- function(...) {
  root <- Sys.getenv("SCOOM_SHARED", NA)
  if (is.na(root)) {
    above <- c("../../..", "../../../..", "../../../../..")
    found <- Filter(
      \(d) file.exists(file.path(d, "shared", "data", "PROVENANCE.md")),
      test_path(above)
    )
    testthat::skip_if(length(found) == 0, "the shared data is not here")
    root <- file.path(found[[1]], "shared")
  }
  path <- file.path(root, "data", ...)
  testthat::skip_if_not(file.exists(path), paste(basename(path), "is not here"))
  path
}
