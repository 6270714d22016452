# Prints the numbers of scran::pairwiseBinom() that the tests of
# src/rust/core/src/de/binomial.rs hold: logFC and log.p.value of group x against
# group y for every direction, without and with blocks.
# usage: Rscript reference_scran.R
suppressMessages(library(scran))
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
