# The R side of the engine's guard: what `rs_*` functions answer becomes a value
# or a condition.

#' The value of an engine call, or its error as a condition
#'
#' @param result The answer of an `rs_*` function: `list(ok =, err =)`, where
#'   `err` is `NULL` or `list(kind =, message =, fields =)`.
#' @param call The call to show in the error.
#' @returns `result$ok`. An error has the classes `scoom_error_<kind>` and
#'   `scoom_error` and the fields of the engine's error. An interrupted call
#'   becomes an interrupt, not an error.
#' @noRd
rs_unwrap <- function(result, call = caller_env()) {
  err <- result$err
  if (is.null(err)) {
    return(result$ok)
  }
  if (err$kind == "interrupted") {
    raise_interrupt()
  }
  hint <- switch(
    err$kind,
    internal = c(
      i = "This is a bug of scoom. Please report it with this message."
    ),
    invalid_graph = c(i = "find_neighbors() computes a graph of neighbours."),
    truncated = c(i = "Copy or download it again."),
    unsupported_legacy = c(
      i = "Read it and write it again with a newer anndata."
    )
  )
  # The engine's text is data: neither cli nor glue may interpret it.
  abort(
    c(sentence(err$message), hint),
    class = c(paste0("scoom_error_", err$kind), "scoom_error"),
    !!!as.list(err$fields),
    call = call,
    use_cli_format = FALSE
  )
}

# A message of the engine as a sentence: capital letter, full stop.
sentence <- function(text) {
  if (!grepl("[.!?]$", text)) {
    text <- paste0(text, ".")
  }
  if (grepl("^[a-z]+[ ']", text)) {
    substr(text, 1L, 1L) <- toupper(substr(text, 1L, 1L))
  }
  text
}

# What R does on Ctrl-C: tryCatch(interrupt =) sees it, tryCatch(error =) doesn't.
raise_interrupt <- function() {
  condition <- structure(
    class = c("interrupt", "condition"),
    list(message = "", call = NULL)
  )
  signalCondition(condition)
  invokeRestart("abort")
}
