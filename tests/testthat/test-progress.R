wait <- function(seconds, progress) {
  rs_unwrap(rs_guard_probe("wait", "", seconds, progress))
}

test_that("the engine reports some ten times a second", {
  seen <- list()
  started <- proc.time()[["elapsed"]]
  wait(1, \(stage, done, total) {
    seen[[length(seen) + 1L]] <<- list(stage, done, total)
    TRUE
  })
  expect_gte(length(seen), 4L)
  seconds <- proc.time()[["elapsed"]] - started
  expect_lte(length(seen), 2 + 10 * seconds)
  done <- vapply(seen, \(x) x[[2L]], 0)
  expect_false(is.unsorted(done))
  expect_identical(
    unique(lapply(seen, \(x) x[c(1L, 3L)])),
    list(list("waiting", 400))
  )
})

test_that("a progress function can stop the work", {
  started <- proc.time()[["elapsed"]]
  outcome <- tryCatch(wait(20, \(...) FALSE), interrupt = \(e) "stopped")
  expect_identical(outcome, "stopped")
  expect_lt(proc.time()[["elapsed"]] - started, 1)
})

test_that("an error in a progress function neither crashes nor goes unseen", {
  outcome <- tryCatch(
    suppressMessages(wait(20, \(...) abort("bad %s"))),
    interrupt = \(e) "stopped"
  )
  expect_identical(outcome, "stopped")
  expect_lt(wait(0.05, NULL), 5)
})

test_that("a bar is drawn only where it is wanted", {
  withr::local_options(scoom.progress = FALSE)
  expect_null(progress_bar("Reading"))
  expect_null(progress_bar("Reading", progress = FALSE))
  withr::local_options(scoom.progress = TRUE)
  expect_type(progress_bar("Reading"), "closure")
  expect_null(progress_bar("Reading", progress = FALSE))
})

test_that("a bar shows label, stage and the time that remains", {
  withr::local_options(cli.progress_show_after = 0, cli.dynamic = FALSE)
  shown <- capture.output(type = "message", {
    local({
      tick <- progress_bar("Reading {x} %s", progress = TRUE)
      expect_true(tick("decoding", 1, 4))
      Sys.sleep(0.3)
      expect_true(tick("decoding", 2, 4))
      expect_true(tick("merging", 0, 0))
    })
  })
  expect_match(shown, "Reading {x} %s: decoding", fixed = TRUE, all = FALSE)
  expect_match(shown, "ETA", fixed = TRUE, all = FALSE)
})

test_that("a bar that can't be drawn does not end the work", {
  tick <- progress_bar("Reading", progress = TRUE)
  expect_true(tick("decoding", "one", 4))
})
