# One task of scoom on one file: prints a line of JSON with seconds, CPU seconds
# and the peak of memory over what R held before.
# usage: Rscript bench/r/task.R TASK FILE [threads] [memory]
# TASK: qc qc_top pca wilcoxon ttest pseudobulk
args <- commandArgs(TRUE)
task <- args[[1]]
file <- args[[2]]
threads <- if (length(args) > 2) as.integer(args[[3]]) else 2L
memory <- if (length(args) > 3) args[[4]]

suppressPackageStartupMessages(library(scoom))
options(scoom.threads = threads, scoom.progress = FALSE, scoom.quiet = TRUE)
if (!is.null(memory)) {
  options(scoom.memory = memory)
}

status <- function(field) {
  lines <- readLines("/proc/self/status")
  line <- grep(paste0("^", field, ":"), lines, value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}

normalized <- function(x) log1p(normalize_total(x, target_sum = 1e4))

run <- switch(
  task,
  qc = \(x) {
    calc_qc_metrics(x, gene_sets = list(mt = "^MT-"), percent_top = NULL)
  },
  qc_top = \(x) calc_qc_metrics(x, gene_sets = list(mt = "^MT-")),
  pca = \(x) {
    normalized(x) |>
      find_variable_genes(n_top = 2000) |>
      scale_genes(max_value = 10) |>
      run_pca(n_comps = 50)
  },
  wilcoxon = \(x) find_markers(normalized(x), group_by = "cluster"),
  ttest = \(x) {
    find_markers(normalized(x), group_by = "cluster", method = "t-test")
  },
  pseudobulk = \(x) pseudobulk(x, by = c("cluster", "donor")),
  stop("unknown task ", task)
)

x <- open_h5ad(file)
invisible(gc())
try(writeLines("5", "/proc/self/clear_refs"), silent = TRUE)
before <- status("VmRSS")
time <- system.time(result <- run(x))
cat(sprintf(
  '{"engine": "scoom", "task": "%s", "threads": %d, "memory": "%s", "seconds": %.3f, "cpu": %.3f, "peak_mb": %.0f}\n',
  task,
  threads,
  if (is.null(memory)) "default" else memory,
  time[["elapsed"]],
  time[["user.self"]] + time[["sys.self"]],
  status("VmHWM") - before
))
