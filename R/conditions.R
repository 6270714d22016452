# Conditions of the package: errors, warnings and messages with classes, so that
# a caller can tell them apart and a test need not compare words.

#' Raise an error of class `scoom_error_<class>`
#'
#' @param message Lines of the message: what failed, then `x` the reason, `i` the
#'   way out. cli markup is interpolated in `.envir`.
#' @param class What went wrong, in snake_case and without the prefix.
#' @param call The call to show: pass the caller's environment down.
#' @param ... Fields of the condition, and `parent`.
#' @noRd
scoom_abort <- function(
  message,
  class,
  call = caller_env(),
  ...,
  .envir = parent.frame()
) {
  cli::cli_abort(
    message,
    ...,
    class = c(paste0("scoom_error_", class), "scoom_error"),
    call = call,
    .envir = .envir
  )
}

# The same for a warning: class `scoom_warning_<class>`.
scoom_warn <- function(
  message,
  class,
  call = caller_env(),
  ...,
  .envir = parent.frame()
) {
  cli::cli_warn(
    message,
    ...,
    class = c(paste0("scoom_warning_", class), "scoom_warning"),
    call = call,
    .envir = .envir
  )
}

# The same for a message; options(scoom.quiet = TRUE) switches messages off.
scoom_inform <- function(message, class = NULL, ..., .envir = parent.frame()) {
  if (is_true(getOption("scoom.quiet"))) {
    return(invisible())
  }
  cli::cli_inform(
    message,
    ...,
    class = c(
      if (!is.null(class)) paste0("scoom_message_", class),
      "scoom_message"
    ),
    .envir = .envir
  )
}

# Text that cli and glue show as it is, whatever braces it holds.
verbatim <- function(text) {
  gsub("}", "}}", gsub("{", "{{", text, fixed = TRUE), fixed = TRUE)
}

# The entry of `choices` that was probably meant by `given`, or NULL: the nearest
# by edit distance, case aside, when at most a third of the letters differ.
closest_match <- function(given, choices) {
  if (!is_string(given) || !nzchar(given) || !length(choices)) {
    return(NULL)
  }
  # Distances to a hundred thousand gene names are quick, to a million not.
  choices <- head_of(unique(as.character(choices)), 2e5)
  distance <- drop(utils::adist(given, choices, ignore.case = TRUE))
  best <- which.min(distance)
  limit <- max(1, floor(nchar(given) / 3))
  if (length(best) && distance[[best]] <= limit) choices[[best]]
}

head_of <- function(x, n) if (length(x) > n) x[seq_len(n)] else x

# A line `c(i = "Did you mean ...?")` to append to a message, or NULL.
did_you_mean <- function(given, choices) {
  match <- closest_match(given, choices)
  if (!is.null(match)) {
    c(i = paste0("Did you mean {.val ", verbatim(match), "}?"))
  }
}
