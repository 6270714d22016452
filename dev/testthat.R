# Runs the testthat suite on the installed package:
#   Rscript dev/testthat.R COUNTS_FILE
# writes "passed failed" to COUNTS_FILE, one count per test_that() block. A
# skipped block counts as neither.
# Snapshots are compared only where testthat is told that this is not CRAN.
Sys.setenv(NOT_CRAN = "true")
library(testthat)
library(scoom)

counts_file <- commandArgs(trailingOnly = TRUE)[[1L]]
results <- as.data.frame(test_dir(
  "tests/testthat",
  package = "scoom",
  load_package = "installed",
  reporter = "check",
  stop_on_failure = FALSE
))
bad <- results$failed > 0 | results$error
ran <- !results$skipped | results$passed > 0
writeLines(paste(sum(ran & !bad), sum(bad)), counts_file)
