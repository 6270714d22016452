# Called by dev/vendor.sh: Rscript dev/vendor.R FOLDER, which holds vendor/ and
# metadata.json. Trims the crates and writes LICENSE.note and inst/AUTHORS.

folder <- commandArgs(trailingOnly = TRUE)[[1L]]
crates <- sort(list.dirs(file.path(folder, "vendor"), recursive = FALSE))

# Cargo compares the files of a crate with this list; an empty one is allowed.
forget_checksums <- function(crate) {
  path <- file.path(crate, ".cargo-checksum.json")
  text <- paste(readLines(path, warn = FALSE), collapse = "")
  package <- sub(".*(\"package\":\"[0-9a-f]+\").*", "\\1", text)
  writeLines(sprintf("{\"files\":{},%s}", package), path)
}

# ---- what no build reads -----------------------------------------------------
# (Examples are read: some crates show them in their documentation.)

for (crate in crates) {
  needless <- file.path(
    crate,
    c("benches", "test_data", "test-data", "tests", "Cargo.toml.orig")
  )
  needless <- needless[file.exists(needless)]
  if (length(needless)) {
    unlink(needless, recursive = TRUE)
    forget_checksums(crate)
  }
}

# windows-sys: a module is compiled when the feature of its name is on.
metadata <- jsonlite::read_json(file.path(folder, "metadata.json"))
for (node in metadata$resolve$nodes) {
  version <- sub(".*#windows-sys@", "", node$id)
  crate <- file.path(folder, "vendor", paste0("windows-sys-", version))
  if (identical(version, node$id) || !dir.exists(crate)) {
    next
  }
  on <- unlist(node$features)
  source <- file.path(crate, "src", "Windows")
  modules <- list.dirs(source, full.names = FALSE)
  modules <- modules[nzchar(modules)]
  off <- modules[!gsub("/", "_", modules, fixed = TRUE) %in% on]
  unlink(file.path(source, off), recursive = TRUE)
  forget_checksums(crate)
}

# ---- who wrote them ----------------------------------------------------------

# The values of a key of [package] in a Cargo.toml, or character().
field <- function(text, key) {
  pattern <- sprintf("(?s)^.*?\n%s = (\\[.*?\\n?\\]|\"[^\"]*\").*$", key)
  if (!grepl(pattern, text, perl = TRUE)) {
    return(character())
  }
  value <- sub(pattern, "\\1", text, perl = TRUE)
  strings <- regmatches(value, gregexpr("\"[^\"]*\"", value))[[1L]]
  gsub("\"", "", strings, fixed = TRUE)
}

described <- lapply(crates, \(crate) {
  text <- paste(
    readLines(file.path(crate, "Cargo.toml"), warn = FALSE),
    collapse = "\n"
  )
  package <- sub("(?s)^.*?\n\\[package\\]", "", text, perl = TRUE)
  package <- sub("(?s)\n\\[.*$", "", package, perl = TRUE)
  license <- field(package, "license")
  authors <- sub(" *<[^>]*>", "", field(package, "authors"))
  list(
    name = paste(field(package, "name"), field(package, "version")),
    license = if (length(license)) {
      license
    } else {
      "see the licence file in its sources"
    },
    authors = if (length(authors)) {
      toString(authors)
    } else {
      "not named by the crate"
    }
  )
})
listed <- function(what) {
  vapply(described, \(crate) paste0(crate$name, ": ", crate[[what]]), "")
}

writeLines(
  c(
    "scoom is licensed under the MIT licence, see LICENSE.",
    "",
    "It is compiled with the Rust crates below, each under its own licence. Where",
    "the bundled HDF5 is built, it is under the licence of The HDF Group (BSD",
    "style), see LICENSE in the sources of the crate hdf5-metno-src.",
    "",
    listed("license")
  ),
  "LICENSE.note"
)
writeLines(
  c(
    "The authors of the Rust crates that scoom is compiled with.",
    "",
    listed("authors")
  ),
  file.path("inst", "AUTHORS")
)
