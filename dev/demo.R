# The main job: Rscript dev/demo.R [file.h5ad [grouping column]]
# Quality control, normalisation, variable genes, PCA, markers, pseudobulk, each
# read from the file in bounded memory. On the example it also says how much of
# the planted truth comes back.

library(scoom)

args <- commandArgs(trailingOnly = TRUE)
path <- if (length(args)) args[[1L]] else example_h5ad()
started <- proc.time()[["elapsed"]]
heading <- function(text) cat("\n== ", text, "\n", sep = "")

heading("The file")
x <- open_h5ad(path)
print(x)
all_cells <- x$obs

# The column that tells the cells' groups: the one named, else a usual name, else
# the first factor with a reasonable number of levels.
grouping_column <- function(obs) {
  usual <- c(
    "cell_type",
    "celltype",
    "CellType",
    "louvain",
    "leiden",
    "seurat_clusters",
    "clusters",
    "cluster",
    "seurat_annotations",
    "annotation",
    "label"
  )
  levels <- vapply(obs, \(v) if (is.factor(v)) nlevels(v) else 0L, 1L)
  factors <- names(levels)[levels >= 2L & levels <= 50L]
  c(intersect(usual, factors), factors, NA)[[1L]]
}
group_by <- if (length(args) > 1L) args[[2L]] else grouping_column(x$obs)

# Raw counts are whole numbers. Other values are taken as log-normalised.
some <- as.matrix(x[seq_len(min(200, n_obs(x))), ]$X)
counts <- all(is.finite(some)) && all(some >= 0) && all(some == round(some))

heading("Quality control")
if (counts) {
  mitochondrial <- grep("^mt-", x$var_names, ignore.case = TRUE, value = TRUE)
  sets <- if (length(mitochondrial)) list(mt = mitochondrial)
  x <- calc_qc_metrics(x, gene_sets = sets)
  shown <- intersect(c("total_counts", "n_genes", "pct_mt"), names(x$obs))
  print(summary(x$obs[shown]))
  x <- filter_cells(x, n_genes >= 200)
  if (length(mitochondrial)) {
    x <- filter_cells(x, pct_mt < 20)
  }
  x <- filter_genes(x, min_cells = 3)
} else {
  cat("X does not hold raw counts: taken as normalised already\n")
}
raw <- x

heading("Variable genes and principal components")
if (counts) {
  x <- x |> normalize_total(target_sum = 1e4) |> log1p()
}
x <- x |>
  find_variable_genes(n_top = min(2000L, dim(x)[[2L]])) |>
  scale_genes(max_value = 10) |>
  run_pca(n_comps = min(50L, dim(x) - 1L))
cat("scores:", dim(x$obsm$X_pca), "\n")
cat(
  "variance explained by the first five:",
  sprintf("%.1f %%", 100 * head(x$uns$pca$variance_ratio, 5L)),
  "\n"
)

if (is.na(group_by)) {
  heading("No grouping column in obs: no markers")
} else {
  heading(paste("Markers by", group_by))
  markers <- find_markers(x, group_by = group_by, method = "wilcoxon")
  best <- do.call(rbind, lapply(split(markers, markers$group), head, 3L))
  columns <- c(
    "group",
    "feature",
    "log2_fc",
    "auc",
    "p_adj",
    "pct_group",
    "pct_reference"
  )
  print(best[columns], row.names = FALSE, digits = 3L)
}

if (counts && !is.na(group_by)) {
  keys <- c("donor", "condition", "sample")
  keys <- unique(c(intersect(keys, names(raw$obs)), group_by))
  heading(paste("Pseudobulk by", paste(keys, collapse = ", ")))
  pb <- pseudobulk(raw, by = keys)
  print(pb)
}

truth <- raw$var
if (
  all(c("planted_marker_of", "planted_condition_log2fc") %in% names(truth)) &&
    identical(group_by, "cell_type")
) {
  heading("Planted truth")
  if ("low_quality" %in% names(all_cells)) {
    poor <- rownames(all_cells)[all_cells$low_quality]
    left_out <- setdiff(rownames(all_cells), rownames(raw$obs))
    cat(sprintf(
      "%d of the %d damaged cells were left out, and %d others\n",
      sum(poor %in% left_out),
      length(poor),
      length(setdiff(left_out, poor))
    ))
  }
  marker_of <- as.character(truth$planted_marker_of)
  for (type in levels(raw$obs$cell_type)) {
    planted <- rownames(truth)[which(marker_of == type)]
    top <- head(markers$feature[markers$group == type], length(planted))
    cat(sprintf(
      "%-10s %2d of %d planted markers among its first %d\n",
      type,
      sum(planted %in% top),
      length(planted),
      length(planted)
    ))
  }
}

cat(sprintf("\nDone in %.1f s.\n", proc.time()[["elapsed"]] - started))
