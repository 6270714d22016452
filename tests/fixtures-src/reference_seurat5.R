# Tables of Seurat 5's FindMarkers() and FindAllMarkers() on pbmc3k, with its defaults.
#
#   Rscript tests/fixtures-src/reference_seurat5.R
#
# Needs Seurat 5 (Debian 13 has 5.2.1), limma, rhdf5 and jsonlite. Seurat is fed
# `log1p((x * 1e4) / total)` of the 13,714 genes seen in at least 3 cells, totals over
# these, and the 2,638 labelled cells: its own NormalizeData() divides first, which
# breaks ties between equal ratios. Every tenth gene is tested, from the first: without
# presto each takes milliseconds.

suppressMessages({
  library(Seurat)
  library(Matrix)
})
stopifnot(packageVersion("Seurat") >= "5", packageVersion("Seurat") < "6")
options(Seurat.presto.wilcox.msg = FALSE)

args <- commandArgs()
here <- dirname(sub("^--file=", "", grep("^--file=", args, value = TRUE)))
out <- file.path(here, "..", "testthat", "reference")
shared <- Sys.getenv(
  "SCOOM_SHARED",
  file.path(here, "..", "..", "..", "shared")
)
path <- file.path(shared, "data", "counts", "pbmc3k_raw.h5ad")

# Reading ----------------------------------------------------------------------

read <- function(name) as.vector(rhdf5::h5read(path, name))
dims <- c(2700L, 32738L)
cells_by_genes <- sparseMatrix(
  j = read("X/indices") + 1L,
  p = read("X/indptr"),
  x = as.numeric(read("X/data")),
  dims = dims
)
codes <- read("obs/louvain/codes")
labels <- factor(codes, seq_along(read("obs/louvain/categories")) - 1)
levels(labels) <- read("obs/louvain/categories")

seen <- colSums(cells_by_genes > 0) >= 3
stopifnot(sum(seen) == 13714, sum(!is.na(labels)) == 2638)
counts <- as(t(cells_by_genes[, seen]), "CsparseMatrix")
data <- counts
totals <- rep(colSums(counts), diff(counts@p))
data@x <- log1p((counts@x * 1e4) / totals)
known <- !is.na(labels)
counts <- counts[, known]
data <- data[, known]
# Seurat does not take underscores: genes are their positions, from 1.
genes <- paste0("g", seq_len(nrow(counts)))
dimnames(counts) <- dimnames(data) <- list(
  genes,
  paste0("c", seq_len(sum(known)))
)

object <- suppressWarnings(CreateSeuratObject(counts))
object <- SetAssayData(object, layer = "data", new.data = data)
Idents(object) <- droplevels(labels[known])
clusters <- levels(Idents(object))
tested <- genes[seq(1, length(genes), by = 10)]

# Tables -----------------------------------------------------------------------

index <- list(
  versions = list(
    R = format(getRversion()),
    Seurat = format(packageVersion("Seurat")),
    SeuratObject = format(packageVersion("SeuratObject")),
    limma = format(packageVersion("limma"))
  ),
  tables = list()
)

set <- "seurat5"
source(file.path(here, "reference_io.R"))

numbers <- function(table, gene = rownames(table)) {
  cbind(gene = match(gene, genes), table)
}

one <- function(name, ..., features = tested) {
  table <- suppressWarnings(FindMarkers(
    object,
    ident.1 = "B cells",
    ident.2 = "CD14+ Monocytes",
    features = features,
    verbose = FALSE,
    ...
  ))
  cat(name, nrow(table), "rows\n")
  keep(name, numbers(table))
}

one("wilcox")
one("t", test.use = "t")
one("roc", test.use = "roc")
object$depth <- colSums(counts)
some <- tested[1:200]
one("lr", test.use = "LR", latent.vars = "depth", features = some)

all <- suppressWarnings(
  FindAllMarkers(object, features = tested, verbose = FALSE)
)
cat("all", nrow(all), "rows\n")
frame <- numbers(all[setdiff(names(all), c("gene", "cluster"))], all$gene)
frame$cluster <- match(all$cluster, clusters)
keep("all", frame)
index$columns <- names(all)
index$clusters <- clusters

keep_index()
