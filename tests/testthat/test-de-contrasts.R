contrasts_of <- function(groups = NULL, reference = "rest", exclude = NULL) {
  resolve_contrasts(c("a", "b", "c", "d"), groups, reference, exclude, NULL)
}

# The comparisons as strings, "a|b+c".
pairs_of <- function(contrasts) {
  levels <- c("a", "b", "c", "d")
  side <- \(set) paste(levels[set], collapse = "+")
  rest <- \(set) side(setdiff(setdiff(1:4, contrasts$exclude), set))
  mapply(
    \(g, r) {
      group <- contrasts$sets[[g]]
      other <- if (is.na(r)) rest(group) else side(contrasts$sets[[r]])
      paste0(side(group), "|", other)
    },
    contrasts$group,
    contrasts$reference
  )
}

test_that("groups are compared with the rest", {
  expect_identical(
    pairs_of(contrasts_of()),
    c("a|b+c+d", "b|a+c+d", "c|a+b+d", "d|a+b+c")
  )
  # Groups come in the order of their levels.
  expect_identical(
    pairs_of(contrasts_of(c("c", "a"))),
    c("a|b+c+d", "c|a+b+d")
  )
  expect_identical(
    pairs_of(contrasts_of(exclude = "d")),
    c("a|b+c", "b|a+c", "c|a+b")
  )
  # An excluded group can be tested all the same.
  expect_identical(
    pairs_of(contrasts_of(c("a", "d"), exclude = "d")),
    c("a|b+c", "d|a+b+c")
  )
})

test_that("groups are compared with one group, a set, and each other", {
  expect_identical(
    pairs_of(contrasts_of(reference = "b")),
    c("a|b", "c|b", "d|b")
  )
  expect_identical(pairs_of(contrasts_of("a", c("b", "c"))), "a|b+c")
  expect_identical(contrasts_of("a", c("b", "c"))$labels[[2]], "b + c")
  expect_identical(
    pairs_of(contrasts_of(reference = c("a", "b"))),
    c("c|a+b", "d|a+b")
  )
  expect_identical(
    pairs_of(contrasts_of("a", list("b", others = c("c", "d")))),
    c("a|b", "a|c+d")
  )
  each <- pairs_of(contrasts_of(reference = "each"))
  expect_length(each, 12)
  expect_identical(each[1:4], c("a|b", "a|c", "a|d", "b|a"))
  expect_identical(
    pairs_of(contrasts_of("b", "each", exclude = "d")),
    c("b|a", "b|c")
  )
})

test_that("sets are compared with the rest, a set, and each other", {
  sets <- list(first = c("a", "b"), last = "d")
  expect_identical(pairs_of(contrasts_of(sets)), c("a+b|c+d", "d|a+b+c"))
  expect_identical(pairs_of(contrasts_of(sets, "c")), c("a+b|c", "d|c"))
  expect_identical(pairs_of(contrasts_of(sets, "each")), c("a+b|d", "d|a+b"))
  expect_identical(contrasts_of(sets)$labels, c("first", "last"))
  # Sets may share groups where they are not compared with each other.
  expect_identical(
    pairs_of(contrasts_of(list(x = c("a", "b"), y = c("b", "c")))),
    c("a+b|c+d", "b+c|a+d")
  )
})

test_that("contrasts that make no sense are errors", {
  bad <- \(...) {
    expect_error(contrasts_of(...), class = "scoom_error_invalid_input")
  }
  bad(reference = NA_character_)
  bad(reference = character())
  bad(reference = list())
  bad(reference = 1)
  bad("a", "a")
  bad(list(x = c("a", "b")), c("b", "c"))
  bad(list(x = c("a", "b"), y = c("b", "c")), "each")
  bad(list(x = "a", x = "b"))
  bad(list())
  bad(list(x = character()))
  missing <- \(...) {
    expect_error(contrasts_of(...), class = "scoom_error_group_missing")
  }
  missing("e")
  missing(list(x = "e"))
  missing(reference = "e")
  missing(reference = c("a", "e"))
  missing(exclude = "e")
})
