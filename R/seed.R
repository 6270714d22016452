# Random numbers of other packages, without a trace in the session.

#' Evaluate `code` with R's generator started at `seed`
#'
#' The generators are named, because a user may have chosen others, and the
#' session's state is put back.
#' @noRd
with_own_seed <- function(seed, code) {
  env <- globalenv()
  old <- get0(".Random.seed", env, inherits = FALSE)
  kinds <- RNGkind()
  on.exit({
    if (is.null(old)) {
      suppressWarnings(RNGkind(kinds[[1]], kinds[[2]], kinds[[3]]))
      rm(".Random.seed", envir = env)
    } else {
      assign(".Random.seed", old, envir = env)
    }
  })
  set.seed(seed, "Mersenne-Twister", "Inversion", "Rejection")
  force(code)
}

check_seed <- function(seed, call = caller_env()) {
  check_count(seed, max = .Machine$integer.max, arg = "seed", call = call)
}
