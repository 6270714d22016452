#' Locate the example file
#'
#' The path of a small simulated `.h5ad` file that ships with the package: 2,000
#' blood cells of eight donors by 2,000 genes, raw counts, 1.4 MB. What was
#' planted is recorded in `var`, so that results can be scored against the truth.
#'
#' @details
#' Counts are negative binomial. Every gene has its own level in every donor, as
#' in real cohorts, so the cells of one donor are not independent: a test that
#' counts cells between conditions calls many genes that do not change, a test
#' on donors ([pseudobulk()]) does not.
#'
#' Columns of `obs` (cells):
#'
#' * `cell_type`: `T cell`, `B cell`, `NK cell`, `Monocyte`.
#' * `donor`: `D1` to `D8`, 80 to 450 cells each.
#' * `condition`: `ctrl` (`D1` to `D4`) or `stim` (`D5` to `D8`).
#' * `sex`: `F` or `M`, two donors of each in each condition.
#' * `batch`: `run1` or `run2`, crossed with `condition` and `sex`, with a small
#'   effect of its own.
#' * `low_quality`: `TRUE` for the 2 % of cells simulated with few counts and
#'   much mitochondrial RNA.
#'
#' Columns of `var` (genes):
#'
#' * `chromosome`: `chr1` to `chr22`, `chrX`, `chrY`, `chrM`. The 13 `MT-` genes
#'   are on `chrM`; `XIST` is expressed in women alone, the genes on `chrY` in
#'   men alone.
#' * `planted_marker_of`: the cell type that the gene marks (30 genes each),
#'   otherwise `NA`.
#' * `planted_marker_log2fc`: its log2 fold change against the other types.
#' * `planted_condition_log2fc`: log2 fold change of `stim` against `ctrl`, 0 for
#'   genes that do not change.
#' * `planted_condition_in`: where that change happens: `all` or one cell type,
#'   otherwise `NA`.
#' * `outlier_of_donor`: `D5` for 20 genes that are nine times higher in that
#'   donor alone and follow no condition, otherwise `NA`.
#'
#' The file is made by `dev/example-data/make_example.py` with a fixed seed.
#'
#' @returns The path of the file, one string.
#' @export
#' @examples
#' example_h5ad()
example_h5ad <- function() {
  system.file(
    "extdata",
    "example.h5ad",
    package = "scoom",
    mustWork = TRUE
  )
}
