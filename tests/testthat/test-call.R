probe <- function(how, text = "", seconds = 0, progress = NULL) {
  rs_unwrap(rs_guard_probe(how, text, seconds, progress))
}

test_that("a value comes through", {
  expect_identical(probe("ok", "caf\u00e9 %s"), "caf\u00e9 %s")
})

test_that("an error of the engine is a classed condition with its fields", {
  e <- expect_error(
    probe("error", "50%s of %d, %n, {x} are bad"),
    class = "scoom_error_invalid_input"
  )
  expect_s3_class(e, "scoom_error")
  expect_identical(e$argument, "how")
  expect_identical(
    conditionMessage(e),
    "50%s of %d, %n, {x} are bad."
  )
  expect_identical(as.list(e$call)[[1L]], quote(probe))
})

test_that("a panic is an error, wherever it happens, and R goes on", {
  for (how in c("panic", "worker_panic")) {
    e <- expect_error(probe(how, "boom %s"), class = "scoom_error_internal")
    expect_match(conditionMessage(e), "Boom %s (src/guard.rs:", fixed = TRUE)
    expect_match(conditionMessage(e), "bug of scoom", fixed = TRUE)
  }
  expect_identical(probe("ok", "still here"), "still here")
})

test_that("arguments of any type are converted inside the guard", {
  for (odd in list(
    NULL,
    1:3,
    list(),
    quote(x),
    NA_character_,
    mean,
    globalenv()
  )) {
    expect_error(
      rs_unwrap(rs_guard_probe(odd, odd, odd, odd)),
      class = "scoom_error_invalid_input"
    )
  }
})

test_that("an interrupt stops the workers and is not an error", {
  skip_on_os("windows")
  pid <- Sys.getpid()
  system(sprintf("(sleep 0.5; kill -INT %d) &", pid))
  started <- proc.time()[["elapsed"]]
  outcome <- tryCatch(
    probe("wait", seconds = 20),
    error = \(e) "error",
    interrupt = \(e) "interrupt"
  )
  expect_identical(outcome, "interrupt")
  # Half a second until the signal, half a second to stop.
  expect_lt(proc.time()[["elapsed"]] - started, 1)
  expect_identical(probe("ok", "again"), "again")
})
