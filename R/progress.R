# Progress of long engine calls.

#' A progress bar for the engine to drive
#'
#' The bar appears when the work has taken two seconds, shows the time that
#' remains, and goes away with the frame `.envir`. `options(scoom.progress =
#' FALSE)` switches it off.
#'
#' @param label What is being done, as the user would say it.
#' @param progress `TRUE`, `FALSE`, or `NULL` for the option.
#' @returns A function `(stage, done, total)` for the `progress` argument of an
#'   `rs_*` function, or `NULL`. The engine calls it some ten times a second; it
#'   returns `FALSE` when it was interrupted, never raises an error.
#' @noRd
progress_bar <- function(label, progress = NULL, .envir = parent.frame()) {
  progress <- progress %||% getOption("scoom.progress", TRUE)
  if (!is_true(progress)) {
    return(NULL)
  }
  force(label)
  bar <- NULL
  current <- ""
  since <- Sys.time()
  start <- function(stage, total) {
    finish()
    current <<- stage
    bar <<- cli::cli_progress_bar(
      name = verbatim(label),
      status = stage,
      total = total,
      format = paste(
        "{cli::pb_name}{cli::pb_status} {cli::pb_bar} {cli::pb_percent}",
        "| ETA: {cli::pb_eta}"
      ),
      clear = TRUE,
      .auto_close = TRUE,
      .envir = .envir
    )
  }
  finish <- function() {
    if (!is.null(bar)) {
      cli::cli_progress_done(id = bar, .envir = .envir)
      bar <<- NULL
    }
  }
  function(stage, done, total) {
    tryCatch(
      {
        if (total > 0 && difftime(Sys.time(), since, units = "secs") >= 2) {
          if (is.null(bar) || !identical(stage, current)) {
            start(stage, total)
          }
          cli::cli_progress_update(
            id = bar,
            set = min(done, total),
            force = TRUE,
            .envir = .envir
          )
        }
        TRUE
      },
      # A bar that can't be drawn must not end the work; an interrupt must.
      error = function(e) TRUE,
      interrupt = function(e) FALSE
    )
  }
}
