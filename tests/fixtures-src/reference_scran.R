# Prints the numbers of scran::pairwiseBinom() that the tests of
# src/rust/core/src/de/binomial.rs hold: logFC and log.p.value of group x against
# group y for every direction, without and with blocks. Then writes what it gives on
# kang2018, every tenth gene, to tests/testthat/reference.
#
#   Rscript tests/fixtures-src/reference_scran.R
#
# Needs scran, rhdf5 and jsonlite.
suppressMessages({
  library(scran)
  library(Matrix)
})
cat(R.version.string, "scran", as.character(packageVersion("scran")), "\n")

# Cells: block 1 with 5 of x and 4 of y, block 2 with 4 of each.
groups <- rep(c("x", "y", "x", "y"), c(5, 4, 4, 4))
blocks <- rep(1:2, c(9, 8))
counts <- rbind(
  up = c(1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0),
  down = c(1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0),
  opposite = c(1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0),
  absent = rep(0, 17)
)

for (block in list(NULL, blocks)) {
  for (direction in c("any", "up", "down")) {
    result <- pairwiseBinom(
      counts,
      groups,
      block = block,
      direction = direction,
      log.p = TRUE
    )
    x <- as.data.frame(result$statistics[[which(result$pairs$first == "x")]])
    cat(if (is.null(block)) "no blocks," else "blocks,", direction, "\n")
    cat(
      sprintf(
        "  %-10s logFC %.17g log.p.value %.17g\n",
        rownames(x),
        x$logFC,
        x$log.p.value
      ),
      sep = ""
    )
  }
}

# kang2018 ---------------------------------------------------------------------

args <- commandArgs()
here <- dirname(sub("^--file=", "", grep("^--file=", args, value = TRUE)))
out <- file.path(here, "..", "testthat", "reference")
shared <- Sys.getenv(
  "SCOOM_SHARED",
  file.path(here, "..", "..", "..", "shared")
)
name <- "kang2018_pbmc_ifnb_2000cells.h5ad"
path <- file.path(shared, "data", "counts", name)

read <- function(name) as.vector(rhdf5::h5read(path, name))
labels_of <- function(name) {
  code <- read(paste0("obs/", name, "/codes"))
  levels <- read(paste0("obs/", name, "/categories"))
  factor(code, seq_along(levels) - 1, levels)
}
genes <- read("var/_index")
condition <- labels_of("condition")
type <- labels_of("seurat_annotations")
donor <- labels_of("donor")
counts <- sparseMatrix(
  i = read("X/indices") + 1L,
  p = read("X/indptr"),
  x = as.numeric(read("X/data")),
  dims = c(length(genes), length(condition))
)
tested <- seq(1, length(genes), by = 10)
counts <- counts[tested, ]

index <- list(
  versions = list(
    R = format(getRversion()),
    scran = format(packageVersion("scran"))
  ),
  tables = list()
)

set <- "scran"
source(file.path(here, "reference_io.R"))

# logFC and log.p.value of the first level of `group` against the second.
compare <- function(cells, group, block = NULL, direction = "any", at = TRUE) {
  group <- droplevels(group[cells])
  result <- pairwiseBinom(
    counts[at, cells, drop = FALSE],
    group,
    block = block[cells],
    direction = direction,
    log.p = TRUE
  )
  is_pair <- result$pairs$first == levels(group)[1]
  as.data.frame(result$statistics[[which(is_pair)]])
}

# log.p.value of each gene from the blocks in which a cell has it: a block
# without one makes scran's p-value 1, whatever the others say.
log_p_where_found <- function(cells, group, block, direction) {
  block <- droplevels(block)
  found <- vapply(
    levels(block),
    \(b) rowSums(counts[, intersect(cells, which(block == b))]) > 0,
    logical(nrow(counts))
  )
  log_p <- numeric(nrow(counts))
  for (at in split(seq_along(log_p), apply(found * 1, 1, paste, collapse = ""))) {
    blocks <- levels(block)[found[at[1], ]]
    if (length(blocks)) {
      some <- intersect(cells, which(block %in% blocks))
      log_p[at] <- compare(some, group, block, direction, at)$log.p.value
    }
  }
  log_p
}

mono <- which(type == "CD14 Mono")
condition <- factor(condition, c("stim", "ctrl"))
directions <- c("any", "up", "down")
plain <- list(log2_fc = compare(mono, condition)$logFC)
blocks <- list(log2_fc = compare(mono, condition, donor)$logFC)
for (direction in directions) {
  log_p <- compare(mono, condition, NULL, direction)$log.p.value
  plain[[direction]] <- log_p
  blocks[[direction]] <- compare(mono, condition, donor, direction)$log.p.value
  blocks[[paste0(direction, "_found")]] <-
    log_p_where_found(mono, condition, donor, direction)
}
keep("plain", as.data.frame(plain))
keep("blocks", as.data.frame(blocks))

# Types of cells, each against each other, over both conditions.
types <- c("CD14 Mono", "CD4 Memory T", "NK")
columns <- list()
for (pair in combn(types, 2, simplify = FALSE)) {
  group <- factor(type, pair)
  cells <- which(!is.na(group))
  name <- \(column) paste(c(column, pair), collapse = "|")
  columns[[name("log2_fc")]] <- compare(cells, group, condition)$logFC
  columns[[name("any_found")]] <-
    log_p_where_found(cells, group, condition, "any")
}
keep("types", as.data.frame(columns, optional = TRUE))
index$types <- types

keep_index()
