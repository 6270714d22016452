# Writes references that R computes as reference_io.py writes those of Python. The script has
# `set`, the name of the set; `out`, the folder; `index`, a list with `tables`.

# Columns of doubles, one after the other.
keep <- function(name, frame) {
  file <- paste0(set, "-", name, ".bin.gz")
  con <- gzfile(file.path(out, file), "wb", compression = 9)
  writeBin(as.double(unlist(frame, use.names = FALSE)), con, endian = "little")
  close(con)
  index$tables[[name]] <<- list(
    file = file,
    size = 8L,
    nrow = nrow(frame),
    columns = names(frame)
  )
}

# Writes the index of the set, when all tables are kept.
keep_index <- function() {
  text <- jsonlite::toJSON(index, auto_unbox = TRUE, pretty = 1L)
  writeLines(text, file.path(out, paste0(set, ".json")))
}
