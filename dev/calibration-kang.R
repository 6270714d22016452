# The table of vignettes/differential-expression.Rmd on the control cells of Kang et al.
# (2018): genes that each test calls in all 35 splits of eight donors, four against four.
#   Rscript dev/calibration-kang.R ../shared/data/counts/kang2018_pbmc_ifnb_2000cells.h5ad

library(scoom)

path <- commandArgs(TRUE)[[1]]
x <- open_h5ad(path) |>
  normalize_total(target_sum = 1e4) |>
  log1p()
controls <- x[x$obs$condition == "ctrl" & !is.na(x$obs$donor), ]
engines <- c("edgeR", "limma", "DESeq2", "glmGamPoi")
methods <- c("edgeR", "limma_voom", "DESeq2", "glmGamPoi", "t_test")
calibration <- check_calibration(
  controls,
  sample_by = "donor",
  methods = c("wilcoxon", "t-test", "lr", methods)
)
print(calibration)
for (package in engines) {
  cat(package, format(packageVersion(package)), "\n")
}
