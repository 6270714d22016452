# Small helpers that more than one layer uses.

# Numbers, bytes and lists of names as people read them.
format_count <- function(n) {
  format(n, big.mark = ",", scientific = FALSE, trim = TRUE)
}

format_shape <- function(shape) paste(format_count(shape), collapse = " x ")

format_bytes <- function(bytes) {
  if (is.na(bytes)) {
    return("unknown size")
  }
  units <- c("B", "kB", "MB", "GB", "TB")
  power <- min(max(floor(log(max(bytes, 1), 1000)), 0), length(units) - 1)
  paste(signif(bytes / 1000^power, 3), units[[power + 1]])
}

format_names <- function(names, n = Inf) {
  shown <- paste0("'", head_of(names, n), "'", collapse = ", ")
  more <- length(names) - min(n, length(names))
  if (more > 0) paste0(shown, " and ", format_count(more), " more") else shown
}

counted <- function(n, noun) {
  paste0(format_count(n), " ", noun, if (n == 1) "" else "s")
}

# Lines of a table of strings and numbers, columns aligned to the left.
format_table <- function(table) {
  cells <- lapply(names(table), \(name) {
    format(c(name, as.character(table[[name]])))
  })
  trimws(do.call(paste, c(cells, list(sep = "  "))), "right")
}

compact <- function(x) x[!vapply(x, is.null, NA)]

# A list without its entries called `name`; unlike `x[[name]] <- NULL` it keeps
# entries that are NULL.
without <- function(x, name) x[setdiff(names(x), name)]

# `x` with an entry that may be NULL.
with_entry <- function(x, name, value) {
  x[name] <- list(value)
  x
}

# Vectors, factors, matrices and data frames by their first dimension.
take_rows <- function(value, index) {
  if (length(dim(value)) == 2) {
    value[index, , drop = FALSE]
  } else if (length(dim(value)) > 2) {
    take_rows_of_array(value, index)
  } else {
    value[index]
  }
}

take_rows_of_array <- function(value, index) {
  missing_args <- rep(list(quote(expr = )), length(dim(value)) - 1)
  do.call(`[`, c(list(value, index), missing_args, list(drop = FALSE)))
}
