# Sizes and chunks of the example are those of the committed file.
test_that("an object prints as AnnData does, with storage and pending operations", {
  expect_snapshot({
    x <- open_example()
    x
    y <- x[1:300, 10:1]
    y <- add_op(y, list(op = "normalize", target = 1e4, excluded = integer()))
    y <- add_op(y, list(op = "log1p", base = NULL))
    y <- add_op(y, list(op = "scale", zero_center = TRUE, max_value = 10))
    y$obsm$X_pca <- matrix(0, 300, 2)
    y
    y$X
    y$obsm
    y$uns
    str(y)
    str(y$X)
  })
  expect_snapshot(summary(y), transform = \(lines) {
    sub("[^ ]*/example[.]h5ad", "<path>/example.h5ad", lines)
  })
})

test_that("every kind of content prints", {
  expect_snapshot({
    open_fixture("containers")
    open_fixture("no-x")
    open_fixture("no-cells")
    open_fixture("unread")
    open_fixture("containers")$raw
    open_fixture("containers")$obsm
    open_fixture("csc-storage")$layers
  })
})

test_that("a report shows a table with names escaped", {
  skip_if_not_installed("knitr")
  x <- open_example()
  x$obs[["<b>&"]] <- 1
  html <- format_html(x)
  expect_match(html, "<table>", fixed = TRUE)
  expect_match(html, "&lt;b&gt;&amp;", fixed = TRUE)
  expect_no_match(html, "<b>", fixed = TRUE)
  expect_match(html, "2,000 x 2,000", fixed = TRUE)
})

test_that("a report in R Markdown shows the table, other formats the text", {
  skip_if_not_installed("rmarkdown")
  skip_if_not(rmarkdown::pandoc_available("1.12.3"))
  folder <- withr::local_tempdir()
  input <- file.path(folder, "report.Rmd")
  lines <- c(
    "---",
    "title: Report",
    "---",
    "```{r}",
    "library(scoom)",
    "open_h5ad(example_h5ad())",
    "```"
  )
  writeLines(lines, input)
  html <- rmarkdown::render(input, "html_document", quiet = TRUE)
  expect_match(readLines(html), "<details open", fixed = TRUE, all = FALSE)
  tex <- rmarkdown::render(input, "latex_document", quiet = TRUE)
  expect_match(readLines(tex), "scoom object with n_obs", all = FALSE)
})
