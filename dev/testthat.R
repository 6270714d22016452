# Runs the testthat suite on the installed package:
#   Rscript dev/testthat.R COUNTS_FILE
# writes "passed failed" to COUNTS_FILE, one count per test_that() block. A
# skipped block counts as neither.
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
