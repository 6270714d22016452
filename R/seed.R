# Random numbers of R and other packages, without a trace in the session.

# Runs code that may use random numbers without moving the user's.
with_seed_kept <- function(code) {
  env <- globalenv()
  old <- env$.Random.seed
  kinds <- RNGkind()
  on.exit({
    if (is.null(old)) {
      suppressWarnings(RNGkind(kinds[[1]], kinds[[2]], kinds[[3]]))
      rm(
        list = intersect(".Random.seed", ls(env, all.names = TRUE)),
        envir = env
      )
    } else {
      env$.Random.seed <- old
    }
  })
  code
}

# Runs code with R's generators started at `seed`. They are named, because a user
# may have chosen others.
with_own_seed <- function(seed, code) {
  with_seed_kept({
    set.seed(seed, "Mersenne-Twister", "Inversion", "Rejection")
    code
  })
}

# R's generators take integers.
check_r_seed <- function(seed, call = caller_env()) {
  check_count(seed, max = .Machine$integer.max, arg = "seed", call = call)
}
