# Raw counts to UMAP and Leiden clusters by run_pipeline(), step by step: prints a line of
# JSON for each step and one for all, with seconds, CPU seconds, passes over the file and the
# peak of memory over what R held before.
# usage: Rscript bench/r/pipeline.R FILE [threads] [memory] [save.rds] [until]
# `until` is the last step, such as run_pca.
# Settings are the defaults but for the filters: generated cells have no mitochondrial genes.
args <- commandArgs(TRUE)
file <- args[[1]]
threads <- if (length(args) > 1) as.integer(args[[2]]) else 2L
memory <- if (length(args) > 2 && args[[3]] != "default") args[[3]]
save <- if (length(args) > 3) args[[4]]
until <- if (length(args) > 4) args[[5]] else "run_umap"

suppressPackageStartupMessages(library(scoom))
options(scoom.threads = threads, scoom.progress = FALSE)
if (!is.null(memory)) {
  options(scoom.memory = memory)
}

x <- open_h5ad(file)
cells <- nrow(x)
line <- function(step, seconds, cpu, passes, peak_mb) {
  cat(sprintf(
    '{"engine": "scoom", "task": "pipeline %s", "cells": %d, "threads": %d, "memory": "%s", "seconds": %.3f, "cpu": %.3f, "passes": %.4g, "peak_mb": %.0f}\n',
    step,
    cells,
    threads,
    if (is.null(memory)) "default" else memory,
    seconds,
    cpu,
    passes,
    peak_mb
  ))
}

# The message that ends a step tells when to look at the clock of the processor.
cpu_now <- function() {
  time <- proc.time()
  time[["user.self"]] + time[["sys.self"]]
}
cpu <- c(start = cpu_now())
x <- withCallingHandlers(
  run_pipeline(
    x,
    gene_sets = NULL,
    min_genes = 200,
    min_cells = 3,
    save = save,
    until = until
  ),
  scoom_message_pipeline_step = function(message) cpu <<- c(cpu, cpu_now()),
  message = function(message) invokeRestart("muffleMessage")
)
report <- x$uns$pipeline
for (step in seq_len(nrow(report))) {
  line(
    report$step[[step]],
    report$seconds[[step]],
    cpu[[step + 1]] - cpu[[step]],
    report$passes[[step]],
    report$peak_mb[[step]]
  )
}
line(
  "whole",
  sum(report$seconds),
  cpu[[length(cpu)]] - cpu[[1]],
  sum(report$passes),
  max(report$peak_mb)
)
