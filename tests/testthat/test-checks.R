test_that("groups are factors without empty levels, in an order of their own", {
  x <- open_example()
  expect_identical(resolve_group(x, "donor"), x$obs$donor)
  y <- x[x$obs$donor %in% c("D2", "D7"), ]
  expect_identical(levels(resolve_group(y, "donor")), c("D2", "D7"))
  x$obs$text <- rep(c("b", "A", "a", "_"), 500)
  expect_identical(
    levels(resolve_group(x, "text")),
    sort(c("b", "A", "a", "_"), method = "radix")
  )
  expect_identical(levels(resolve_group(x, rep(2:1, 1000))), c("1", "2"))
  expect_identical(
    levels(resolve_group(x, rep(c(TRUE, FALSE), 1000))),
    c("FALSE", "TRUE")
  )
})

test_that("cells without a group are kept as missing, with a message", {
  x <- open_example()
  x$obs$g <- c(NA, NA, NA, rep("a", 1997))
  expect_message(
    g <- resolve_group(x, "g"),
    class = "scoom_message_cells_left_out"
  )
  expect_identical(sum(is.na(g)), 3L)
  local_quiet()
  expect_silent(resolve_group(x, "g"))
})

test_that("what can't group cells is an error", {
  x <- open_example()
  x$obs$none <- NA_character_
  x$obs$score <- seq_len(2000) / 7
  expect_error(resolve_group(x, "donr"), class = "scoom_error_column_missing")
  expect_error(
    resolve_group(x, c("a", "b")),
    class = "scoom_error_invalid_input"
  )
  expect_error(resolve_group(x, NULL), class = "scoom_error_invalid_input")
  expect_error(resolve_group(x, list(1)), class = "scoom_error_invalid_input")
  expect_error(resolve_group(x, "none"), class = "scoom_error_invalid_group")
  expect_error(resolve_group(x, "score"), class = "scoom_error_invalid_group")
  expect_snapshot(error = TRUE, {
    resolve_group(x, "donr")
    resolve_group(x, c("a", "b"))
    resolve_group(x, "none")
    resolve_group(x, "score")
  })
})

test_that("genes are resolved by name, position and logical", {
  x <- open_example()
  expect_identical(resolve_genes(x, NULL), 1:2000)
  expect_identical(
    resolve_genes(x, c("NKG7", "MS4A1")),
    match(c("NKG7", "MS4A1"), x$var_names)
  )
  expect_identical(resolve_genes(x, 3:1), 3:1)
  expect_identical(
    resolve_genes(x, x$var_names == "NKG7"),
    which(x$var_names == "NKG7")
  )
  expect_error(resolve_genes(x, "NKG8"), class = "scoom_error_gene_missing")
})

test_that("single values are checked", {
  bad <- "scoom_error_invalid_input"
  expect_silent(check_string("a"))
  expect_silent(check_string(NULL, allow_null = TRUE))
  for (value in list(1, NA_character_, "", c("a", "b"), NULL)) {
    expect_error(check_string(value), class = bad)
  }
  expect_silent(check_flag(TRUE))
  for (value in list(NA, 1, c(TRUE, FALSE), NULL)) {
    expect_error(check_flag(value), class = bad)
  }
  expect_silent(check_count(3))
  for (value in list(-1, 1.5, NA, Inf, TRUE, "1", NULL, 1:2)) {
    expect_error(check_count(value), class = bad)
  }
  expect_silent(check_number(0.5, min = 0, max = 1))
  for (value in list(2, -1, NA, NaN, Inf, "1", NULL)) {
    expect_error(check_number(value, min = 0, max = 1), class = bad)
  }
  expect_identical(check_choice(c("a", "b"), c("a", "b")), "a")
  expect_identical(check_choice("b", c("a", "b")), "b")
  expect_error(check_choice("c", c("a", "b")), class = bad)
  f <- function(method = c("wilcoxon", "t-test"), n = 1) {
    check_choice(method, c("wilcoxon", "t-test"))
    check_count(n, min = 1, max = 10)
  }
  expect_snapshot(error = TRUE, {
    f("wilcoxn")
    f(n = 11)
    f(n = "{x}")
  })
})

test_that("what a type should be is formatted", {
  expect_error(top_markers(mtcars), "made by `find_markers()`", fixed = TRUE)
})

test_that("an argument that was left out is named", {
  f <- function(x, by) {
    check_scoom(x)
    check_given(by, "names of columns")
  }
  expect_error(f(), "`x` is missing", class = "scoom_error_invalid_input")
  expect_error(
    f(open_example()),
    "`by` is missing",
    class = "scoom_error_invalid_input"
  )
  expect_null(f(open_example(), "donor"))
})
