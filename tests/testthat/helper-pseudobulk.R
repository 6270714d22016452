# Sums of Kang et al. (2018) and what the packages give when run on them by hand.

kang_object <- function() {
  open_h5ad(shared_data_path("counts", "kang2018_pbmc_ifnb_2000cells.h5ad"))
}

kang_types <- c("CD14 Mono", "CD4 Memory T", "CD4 Naive T")

kang_sums <- function() {
  suppressMessages(pseudobulk(
    kang_object(),
    by = c("donor", "condition", "seurat_annotations"),
    min_cells = 10
  ))
}

# test_pseudobulk() on the cell types of Kang, without its messages.
kang_tests <- function(pb = kang_sums(), design = ~ donor + condition, ...) {
  suppressMessages(
    test_pseudobulk(pb, design, cell_type = "seurat_annotations", ...)
  )
}

# The same of the three cell types that can be tested, once for each method and design:
# some methods take seconds.
kang_fits <- local({
  made <- list()
  function(method, design = ~condition) {
    key <- paste(method, deparse(design))
    if (is.null(made[[key]])) {
      pb <- kang_sums()
      pb <- pb[, pb$samples$seurat_annotations %in% kang_types]
      contrast <- c("condition", "stim", "ctrl")
      made[[key]] <<- kang_tests(
        pb,
        design,
        contrast = contrast,
        method = method
      )
    }
    made[[key]]
  }
})

# edgeR's filter, or scoom's where there is no edgeR; another test compares the two.
edger_filter <- function(counts, design) {
  if (requireNamespace("edgeR", quietly = TRUE)) {
    edgeR::filterByExpr(counts, design)
  } else {
    enough_counts(counts, design, 10)
  }
}

# The samples of one cell type by matrix algebra, those of ten cells at least.
kang_by_hand <- function(type) {
  x <- kang_object()
  obs <- x$obs
  keep <- which(obs$seurat_annotations == type & !is.na(obs$donor))
  obs <- obs[keep, ]
  key <- paste(obs$donor, obs$condition, sep = "_")
  key <- factor(key, unique(key[order(obs$donor, obs$condition)]))
  cells <- Matrix::sparseMatrix(
    i = seq_along(key),
    j = as.integer(key),
    dims = c(length(key), nlevels(key)),
    dimnames = list(NULL, levels(key))
  )
  values <- methods::as(x$X[keep, ], "dgCMatrix")
  sums <- as.matrix(Matrix::t(values) %*% (cells * 1))
  enough <- as.vector(table(key)) >= 10
  first <- match(levels(key), key)
  samples <- droplevels(obs[first, c("donor", "condition")][enough, ])
  rownames(samples) <- levels(key)[enough]
  list(counts = sums[, enough], samples = samples)
}

# The rows of one cell type that were tested, in the order of `genes`.
tested_rows <- function(de, type, genes) {
  rows <- de[de$cell_type == type & !is.na(de$p_value), ]
  expect_setequal(rows$feature, genes)
  rows[match(genes, rows$feature), ]
}

# Counts of six donors under two conditions, three cell types, with genes that respond.
simulated_sums <- function(
  n_genes = 200,
  donors = 6,
  types = c("a", "b", "c"),
  seed = 1
) {
  samples <- expand.grid(
    donor = paste0("d", seq_len(donors)),
    condition = c("ctrl", "stim"),
    cell_type = types,
    stringsAsFactors = TRUE
  )
  names <- do.call(paste, c(unname(samples), sep = "_"))
  change <- ifelse(seq_len(n_genes) <= 20, 2, 0)
  withr::with_seed(seed, {
    level <- stats::rexp(n_genes, 1 / 200) + 20
    mean <- level * 2^outer(change, samples$condition == "stim")
    counts <- matrix(
      stats::rnbinom(length(mean), mu = mean, size = 10),
      n_genes,
      dimnames = list(paste0("g", seq_len(n_genes)), names)
    )
  })
  samples$n_cells <- 50L
  samples$total_counts <- colSums(counts)
  samples$age <- 20 + 5 * as.integer(samples$donor)^2
  samples$sex <- ifelse(as.integer(samples$donor) %% 2 == 0, "F", "M")
  rownames(samples) <- names
  structure(
    list(
      counts = counts,
      detected = (counts > 0) * 1L,
      samples = samples,
      varying = "lane",
      dropped = samples[0, ],
      by = c("condition", "cell_type"),
      fun = "sum"
    ),
    class = "scoom_pseudobulk"
  )
}

# Puts something else in the place of one function of the package, for one test.
local_engine <- function(..., env = parent.frame()) {
  namespace <- asNamespace("scoom")
  put <- function(name, value) {
    unlockBinding(name, namespace)
    assign(name, value, namespace)
    lockBinding(name, namespace)
  }
  new <- list(...)
  old <- mget(names(new), namespace)
  for (name in names(new)) {
    environment(new[[name]]) <- env
    put(name, new[[name]])
  }
  withr::defer(
    for (name in names(old)) {
      put(name, old[[name]])
    },
    env
  )
}

# The quasi-likelihood fit as the guide of the installed edgeR has it: version 4 estimates
# the dispersion on the way.
fit_by_guide <- function(y, design) {
  if (utils::packageVersion("edgeR") < "4") {
    y <- edgeR::estimateDisp(y, design)
  }
  edgeR::glmQLFit(y, design, robust = TRUE)
}
