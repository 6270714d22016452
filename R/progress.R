# Progress of long engine calls.

#' A progress bar for the engine to drive
#'
#' The bar appears when a stage has taken two seconds, shows the time that
#' remains, and goes away with the frame `.envir`. `options(scoom.progress =
#' FALSE)` switches it off, `TRUE` writes it to logs too.
#'
#' @param label What is being done, as the user would say it.
#' @param progress `TRUE`, `FALSE`, or `NULL` for the option.
#' @returns A function `(stage, done, total)` for the `progress` argument of an
#'   `rs_*` function, or `NULL`. The engine calls it some ten times a second; it
#'   returns `FALSE` when it was interrupted, never raises an error.
#' @noRd
progress_bar <- function(label, progress = NULL, .envir = parent.frame()) {
  # Where lines can't be redrawn (a log, a report) a bar is noise.
  lively <- cli::is_dynamic_tty()
  if (!is_true(progress %||% getOption("scoom.progress", lively))) {
    return(NULL)
  }
  label <- verbatim(label)
  bar <- NULL
  stage_shown <- NULL
  # cli keeps a bar invisible for its first two seconds.
  start <- function(stage, total) {
    bar <<- cli::cli_progress_bar(
      format = paste0(
        label,
        if (nzchar(stage)) paste0(": ", verbatim(stage)),
        " {cli::pb_bar} {cli::pb_percent} | ETA: {cli::pb_eta}"
      ),
      total = total,
      .envir = .envir
    )
    stage_shown <<- stage
  }
  update <- function(stage, done, total) {
    if (!identical(stage, stage_shown)) {
      if (!is.null(bar)) {
        cli::cli_progress_done(id = bar, .envir = .envir)
      }
      start(stage, total)
    }
    cli::cli_progress_update(id = bar, set = min(done, total), .envir = .envir)
  }
  function(stage, done, total) {
    tryCatch(
      {
        if (total > 0) {
          update(stage, done, total)
        }
        TRUE
      },
      # A bar that can't be drawn must not end the work; an interrupt must.
      error = function(e) TRUE,
      interrupt = function(e) FALSE
    )
  }
}
