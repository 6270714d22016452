# Reference results of named external versions, written by tests/fixtures-src.
# Formats are described in tests/fixtures-src/README.md.

reference_path <- function(file) {
  path <- test_path("reference", file)
  stopifnot(file.exists(path))
  path
}

# The index of one set: versions, tables, names and single values.
reference_index <- function(set) {
  jsonlite::fromJSON(reference_path(paste0(set, ".json")))
}

# A vector of names that belongs to a set, such as the genes of "pbmc3k".
reference_names <- function(set, name) {
  con <- gzfile(reference_path(reference_index(set)$names[[name]]), "r")
  withr::defer(close(con))
  readLines(con, encoding = "UTF-8")
}

# One table of a set as a data frame of doubles, with its row names where the
# rows have any.
reference_table <- function(set, table) {
  entry <- reference_index(set)$tables[[table]]
  stopifnot(!is.null(entry))
  con <- gzfile(reference_path(entry$file), "rb")
  withr::defer(close(con))
  n <- entry$nrow * length(entry$columns)
  values <- readBin(con, "double", n, size = entry$size, endian = "little")
  stopifnot(length(values) == n)
  columns <- matrix(values, entry$nrow, dimnames = list(NULL, entry$columns))
  result <- as.data.frame(columns)
  if (!is.null(entry$rows)) {
    attr(result, "row.names") <- reference_names(set, entry$rows)
  }
  result
}
