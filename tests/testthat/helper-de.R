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

# Van Elteren's test over blocks: z and the AUC, both weighted by 1 / (N + 1). `a` and
# `b` are lists of the values of the two sides, one entry a block.
van_elteren <- function(a, b, continuity = TRUE, alternative = "two.sided") {
  parts <- Map(
    \(a, b) {
      n1 <- length(a)
      n2 <- length(b)
      n <- n1 + n2
      ranks <- rank(c(a, b))
      ties <- table(ranks)
      w <- 1 / (n + 1)
      spread <- (n + 1) - sum(ties^3 - ties) / (n * (n - 1))
      u <- sum(ranks[seq_len(n1)]) - n1 * (n1 + 1) / 2
      list(
        deviation = w * (u - n1 * n2 / 2),
        variance = w^2 * n1 * n2 / 12 * spread,
        step = w / 2,
        auc = u / (n1 * n2),
        weight = n1 * n2 * w
      )
    },
    a,
    b
  )
  part <- \(name) vapply(parts, `[[`, 0, name)
  d <- sum(part("deviation"))
  # The smallest step that the sum can make.
  step <- if (continuity) min(part("step")) else 0
  d <- switch(
    alternative,
    two.sided = d - sign(d) * step,
    greater = d - step,
    less = d + step
  )
  z <- d / sqrt(sum(part("variance")))
  tail <- switch(
    alternative,
    two.sided = log(2) + stats::pnorm(-abs(z), log.p = TRUE),
    greater = stats::pnorm(z, lower.tail = FALSE, log.p = TRUE),
    less = stats::pnorm(z, log.p = TRUE)
  )
  list(
    z = z,
    log10_p = min(0, tail / log(10)),
    auc = stats::weighted.mean(part("auc"), part("weight")),
    weights = part("weight") / sum(part("weight"))
  )
}

# Stouffer's z of Welch tests in blocks, weights 1 / sqrt(1 / n + 1 / m).
stouffer_t <- function(a, b) {
  z <- mapply(
    \(a, b) {
      t <- stats::t.test(a, b)
      tail <- stats::pt(-abs(t$statistic), t$parameter, log.p = TRUE)
      sign(t$statistic) * -stats::qnorm(tail, log.p = TRUE)
    },
    a,
    b
  )
  w <- mapply(\(a, b) 1 / sqrt(1 / length(a) + 1 / length(b)), a, b)
  list(z = sum(w * z) / sqrt(sum(w^2)), weights = w / sum(w))
}

# What find_markers() says of cells that are no replicates, or NULL.
said_of_condition <- function(...) {
  said <- NULL
  withCallingHandlers(
    find_markers(...),
    scoom_message_condition_by_cells = \(m) {
      said <<- gsub("\\s+", " ", cli::ansi_strip(conditionMessage(m)))
    },
    message = \(m) invokeRestart("muffleMessage")
  )
  said
}
