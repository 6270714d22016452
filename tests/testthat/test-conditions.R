test_that("errors have classes, fields and the caller's call", {
  verb <- function(layer) {
    scoom_abort(
      c("Can't use layer {.val {layer}}.", i = "Use {.code layer = NULL}."),
      class = "layer_missing",
      layer = layer
    )
  }
  e <- expect_error(verb("a%s{b}"), class = "scoom_error_layer_missing")
  expect_s3_class(e, "scoom_error")
  expect_identical(e$layer, "a%s{b}")
  expect_identical(e$call, quote(verb("a%s{b}")))
  expect_match(conditionMessage(e), "a%s{b}", fixed = TRUE)
})

test_that("a format directive in any message is harmless", {
  nasty <- "50%s of %d, %n, %%, {x}, \\n"
  e <- expect_error(
    scoom_abort("{nasty}", class = "test"),
    class = "scoom_error_test"
  )
  expect_match(conditionMessage(e), nasty, fixed = TRUE)
  w <- expect_warning(
    scoom_warn("{nasty}", class = "test"),
    class = "scoom_warning_test"
  )
  expect_match(conditionMessage(w), nasty, fixed = TRUE)
  m <- expect_message(
    scoom_inform("{nasty}", class = "test"),
    class = "scoom_message_test"
  )
  expect_match(conditionMessage(m), nasty, fixed = TRUE)
})

test_that("messages can be switched off", {
  expect_message(scoom_inform("heard"), class = "scoom_message")
  withr::local_options(scoom.quiet = TRUE)
  expect_no_message(scoom_inform("not heard"))
})

test_that("a near miss finds what was meant", {
  columns <- c("cell_type", "donor", "condition")
  expect_identical(closest_match("celltype", columns), "cell_type")
  expect_identical(closest_match("Donor", columns), "donor")
  expect_null(closest_match("louvain", columns))
  expect_null(closest_match("x", character()))
  expect_null(closest_match("", columns))
  expect_null(closest_match(3, columns))
})

test_that("a suggestion is a line of a message, whatever the name holds", {
  expect_null(did_you_mean("louvain", "donor"))
  e <- expect_error(
    scoom_abort(
      c("No such gene.", did_you_mean("G{%s", "G{%s}")),
      class = "test"
    ),
    class = "scoom_error_test"
  )
  expect_match(conditionMessage(e), 'Did you mean "G{%s}"?', fixed = TRUE)
})
