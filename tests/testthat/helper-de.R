# Chains and oracles for the tests of differential expression.

# x normalised to `target` and logged, by the chain.
log_chain <- function(x, target = 1e4, base = NULL) {
  op <- list(op = "normalize", target = target, excluded = integer())
  add_op(add_op(x, op), list(op = "log1p", base = base))
}

# The 13,714 genes of pbmc3k in at least 3 cells, all cells, logged.
pbmc3k_logged <- function() {
  x <- open_h5ad(shared_data_path("counts", "pbmc3k_raw.h5ad"))
  log_chain(x[, reference_names("pbmc3k", "genes")])
}

# Rows of a marker table in another order.
marker_rows <- function(markers, feature, group) {
  keys <- paste(markers$feature, markers$group)
  markers[match(paste(feature, group), keys), ]
}

# Wilcoxon's z and the logarithm of p, the formula of wilcox.test(exact = FALSE).
wilcoxon_oracle <- function(a, b, continuity = TRUE) {
  n1 <- length(a)
  n2 <- length(b)
  n <- n1 + n2
  ranks <- rank(c(a, b))
  u <- sum(ranks[seq_len(n1)]) - n1 * (n1 + 1) / 2
  ties <- table(ranks)
  d <- u - n1 * n2 / 2
  if (continuity) {
    d <- d - sign(d) / 2
  }
  sigma <- sqrt(
    (n1 * n2 / 12) * ((n + 1) - sum(ties^3 - ties) / (n * (n - 1)))
  )
  z <- d / sigma
  log_p <- log(2) + stats::pnorm(-abs(z), log.p = TRUE)
  list(z = z, auc = u / (n1 * n2), log10_p = log_p / log(10))
}

# A small matrix with genes in rows and its groups.
small_matrix <- function(n_genes = 30, n_cells = 60, seed = 1) {
  withr::with_seed(seed, {
    counts <- matrix(stats::rpois(n_genes * n_cells, 0.7), n_genes)
    groups <- sample(c("a", "b", "c"), n_cells, replace = TRUE)
  })
  counts[2, ] <- 0
  counts[3, ] <- 2
  counts[4, groups == "b"] <- counts[4, groups == "b"] + 3
  dimnames(counts) <- list(
    paste0("g", seq_len(n_genes)),
    paste0("c", seq_len(n_cells))
  )
  list(counts = counts, groups = factor(groups))
}
