# Small objects for tests of verbs.

# The first cells and genes of the example with other values, cells in rows.
object_of <- function(values) {
  x <- open_h5ad(example_h5ad())[seq_len(nrow(values)), seq_len(ncol(values))]
  x$X <- values
  x
}

# Whole numbers, some zero; an empty gene and an empty cell.
small_counts <- function(n_cells = 30, n_genes = 12) {
  values <- outer(seq_len(n_cells), seq_len(n_genes), \(i, j) {
    (i * 7 + j * j * 3 + i * j) %% 9
  })
  values[values < 4] <- 0
  values[, n_genes] <- 0
  values[n_cells, ] <- 0
  values
}

# The matrix of an object without names, by base R.
dense <- function(x) unname(as.matrix(x$X))

quietly <- function(code) {
  withr::local_options(scoom.quiet = TRUE)
  code
}
