# From the lines of bench/run.sh to a table: medians, and ratios to the median of
# the bare inflates.
# usage: Rscript bench/summary.R lines.json
lines <- readLines(commandArgs(TRUE)[[1]])
rows <- lapply(lines[startsWith(lines, "{")], jsonlite::fromJSON)
value <- function(row, name) {
  found <- row[[name]]
  if (is.null(found)) NA_real_ else as.numeric(found)
}
engine <- vapply(rows, \(r) if (is.null(r$engine)) r$peer else r$engine, "")
table <- data.frame(
  engine = engine,
  task = vapply(rows, \(r) r$task, ""),
  seconds = vapply(
    rows,
    \(r) max(value(r, "seconds"), value(r, "total"), na.rm = TRUE),
    0
  ),
  cpu = vapply(rows, value, 0, "cpu"),
  peak_mb = vapply(rows, value, 0, "peak_mb")
)
inflate <- median(table$seconds[table$engine == "inflate"])
keys <- unique(table[table$engine != "inflate", c("engine", "task")])
cat(sprintf(
  "bare inflate: %.2f s (median of %d, %.2f to %.2f)\n\n",
  inflate,
  sum(table$engine == "inflate"),
  min(table$seconds[table$engine == "inflate"]),
  max(table$seconds[table$engine == "inflate"])
))
cat("| engine | task | seconds | bare inflates | CPU seconds | peak MB |\n")
cat("|---|---|---|---|---|---|\n")
for (k in seq_len(nrow(keys))) {
  these <- table[
    table$engine == keys$engine[[k]] & table$task == keys$task[[k]],
  ]
  cat(sprintf(
    "| %s | %s | %.2f | %.2f | %.1f | %.0f |\n",
    keys$engine[[k]],
    keys$task[[k]],
    median(these$seconds),
    median(these$seconds) / inflate,
    median(these$cpu),
    max(these$peak_mb)
  ))
}
