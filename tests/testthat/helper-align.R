# Measures of how batches mix and types stay apart.

# The local inverse Simpson's index of Korsunsky et al. (2019), with equal weights for the
# k nearest cells: the effective number of groups among them, from 1 to the
# number of groups. One value for each cell.
lisi <- function(embedding, group, k = 30) {
  squares <- rowSums(embedding^2)
  distances <- outer(squares, squares, `+`) - 2 * tcrossprod(embedding)
  diag(distances) <- Inf
  group <- as.integer(factor(group))
  apply(distances, 1, \(d) {
    share <- tabulate(group[order(d)[seq_len(k)]]) / k
    1 / sum(share^2)
  })
}

# kang2018 in 30 components: donors, two conditions, published types of cells.
kang_components <- function() {
  x <- open_h5ad(shared_data_path(
    "counts",
    "kang2018_pbmc_ifnb_2000cells.h5ad"
  ))
  x[!is.na(x$obs$donor), ] |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = 2000) |>
    scale_genes(max_value = 10) |>
    run_pca(n_comps = 30)
}
