# Cells of both sides of each stratum, by number.
strata_of <- function(units) {
  cells <- \(codes) which(units$unit %in% codes)
  Map(
    \(group, reference) {
      list(group = cells(group), reference = cells(reference))
    },
    units$group_units,
    units$reference_units
  )
}

units_of <- function(
  cells,
  ...,
  groups = NULL,
  reference = "rest",
  exclude = NULL
) {
  levels <- levels(cells$group)
  contrasts <- resolve_contrasts(levels, groups, reference, exclude, NULL)
  resolve_units(contrasts, cells, ..., call = NULL)
}

test_cells <- function() {
  withr::with_seed(3, {
    draw <- \(levels) factor(sample(levels, 300, replace = TRUE), levels)
    list(
      group = draw(c("a", "b", "c")),
      within = draw(c("x", "y")),
      block = draw(c("1", "2", "3", "4")),
      sample = draw(letters[1:5])
    )
  })
}

test_that("strata hold the cells they should", {
  cells <- test_cells()
  plain <- units_of(cells["group"])
  expect_identical(plain$n_units, 3L)
  expect_identical(plain$stratum_of, 0:2)
  for (k in 1:3) {
    group <- levels(cells$group)[[k]]
    expect_identical(
      strata_of(plain)[[k]],
      list(
        group = which(cells$group == group),
        reference = which(cells$group != group)
      )
    )
  }
  expect_identical(plain$comparisons$reference, rep("rest", 3))

  all <- units_of(cells, reference = "b")
  expect_identical(all$stratum_of, rep(0:3, each = 4))
  expect_identical(all$comparisons$n_blocks, rep(4L, 4))
  expect_identical(as.character(all$comparisons$within), c("x", "x", "y", "y"))
  expect_identical(as.character(all$comparisons$group), c("a", "c", "a", "c"))
  k <- 0
  for (within in c("x", "y")) {
    for (group in c("a", "c")) {
      for (block in as.character(1:4)) {
        k <- k + 1
        here <- cells$within == within & cells$block == block
        expect_identical(
          strata_of(all)[[k]],
          list(
            group = which(here & cells$group == group),
            reference = which(here & cells$group == "b")
          )
        )
      }
    }
  }
  of_cells <- all$unit_sample[all$unit + 1L] + 1L
  expect_identical(levels(cells$sample)[of_cells], as.character(cells$sample))
})

test_that("cells without a value take no part, unless they are kept", {
  cells <- test_cells()
  cells$group[1:20] <- NA
  cells$within[10:30] <- NA
  units <- units_of(cells[c("group", "within")])
  gone <- is.na(cells$group) | is.na(cells$within)
  expect_identical(is.na(units$unit), gone)
  kept <- units_of(cells["group"], keep_missing = TRUE)
  expect_identical(
    strata_of(kept)[[1]]$reference,
    which(is.na(cells$group) | cells$group != "a")
  )
})

test_that("comparisons without enough cells are skipped and reported", {
  cells <- list(group = factor(rep(c("a", "b", "c"), c(1, 5, 5))))
  expect_warning(
    units <- units_of(cells),
    "a",
    class = "scoom_warning_groups_skipped"
  )
  expect_identical(units$skipped$group, "a")
  expect_identical(units$skipped$n_group, 1L)
  expect_identical(units$skipped$n_reference, 10L)
  expect_identical(as.character(units$comparisons$group), c("b", "c"))
  # Its cell stays in the rest.
  expect_identical(strata_of(units)[[1]]$reference, c(1L, 7:11))
  expect_error(
    units_of(cells, groups = "a"),
    class = "scoom_error_group_too_small"
  )
  cells$within <- factor(rep(c("x", "y"), c(6, 5)))
  expect_error(units_of(cells), class = "scoom_error_group_too_small")
})

test_that("the warning says where skipped cells stay, and only where they do", {
  warned <- function(...) {
    conditionMessage(expect_warning(
      units_of(...),
      class = "scoom_warning_groups_skipped"
    ))
  }
  stay <- "Their cells stay in the rest of the other groups"
  cells <- list(group = factor(rep(c("a", "b", "c"), c(1, 10, 9))))
  expect_match(warned(cells), paste0(stay, "\\.$"))
  # Against a named group there is no rest.
  expect_no_match(warned(cells, reference = "c"), stay)
  # "a" is alone in x, so nothing is tested there; in y it is too small.
  cells <- list(
    group = factor(rep(c("a", "a", "b", "c"), c(4, 1, 6, 6))),
    within = factor(rep(c("x", "y"), c(4, 13)))
  )
  expect_match(warned(cells), paste(stay, "of the same level\\.$"))
  gone <- c(1:4, 6:17)
  alone <- lapply(cells, `[`, gone)
  expect_no_match(warned(alone), stay)
  # Of the one condition that is tested there are no other groups.
  cells <- list(
    group = factor(rep(c("ctrl", "stim", "ctrl", "stim"), c(5, 5, 5, 1))),
    within = factor(rep(c("x", "y"), c(10, 6)))
  )
  expect_no_match(warned(cells, groups = "stim"), stay)
})

test_that("blocks with one side drop out, all of them is an error", {
  cells <- list(
    group = factor(rep(c("a", "b"), c(6, 6))),
    block = factor(c(1, 1, 1, 2, 2, 2, 1, 1, 1, 3, 3, 3))
  )
  expect_message(
    units <- units_of(cells, reference = "b"),
    class = "scoom_message_blocks_dropped"
  )
  expect_identical(units$blocks_dropped$block, c("2", "3"))
  expect_identical(units$blocks_dropped$n_group, c(3L, 0L))
  expect_identical(units$comparisons$n_blocks, 1L)
  expect_identical(
    strata_of(units),
    list(list(group = 1:3, reference = 7:9))
  )
  cells$block <- factor(rep(1:4, each = 3))
  expect_error(
    units_of(cells),
    "test_pseudobulk",
    class = "scoom_error_nested_blocks"
  )
  # t-tests need two cells for a variance.
  cells$block <- factor(c(1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 2, 2))
  expect_identical(units_of(cells)$comparisons$n_blocks, c(2L, 2L))
  local_quiet()
  units <- units_of(cells, min_block_cells = 2)
  expect_identical(units$comparisons$n_blocks, c(1L, 1L))
})
