# How plans run: threads, memory, scratch space, workers.

#' Threads, memory and messages
#'
#' @description
#' Options that all verbs follow, set with `options()`:
#'
#' * `scoom.threads`: threads to compute with. Default: the cores that this
#'   process may use (CPU affinity, cgroup quota, `SLURM_CPUS_PER_TASK`), at most
#'   `OMP_THREAD_LIMIT`, and 2 under `R CMD check`.
#' * `scoom.memory`: memory that a verb may use over what R already holds, such as
#'   `"2GB"` or a number of bytes. Default: a quarter of the machine's memory, or of
#'   what the cgroup or `SLURM_MEM_PER_NODE` allows.
#' * `scoom.scratch`: the folder for temporary files where a budget is too small
#'   to work in memory. Default: `tempdir()`.
#' * `scoom.progress`: `TRUE` or `FALSE`, whether to show progress bars. Default: in
#'   interactive terminals.
#' * `scoom.quiet`: `TRUE` switches messages off; warnings and errors stay.
#'
#' @details
#' Results do not depend on any of them, to the last bit. One exception:
#' [run_pca()] on so many genes that their covariance takes more than a quarter of
#' `scoom.memory` iterates instead, and agrees to rounding.
#'
#' @returns `scoom_resources()`: a list with the `threads`, the `memory` in bytes
#'   and the `scratch` folder that verbs use now.
#' @export
#' @examples
#' old <- options(scoom.threads = 2, scoom.memory = "500MB")
#' scoom_resources()
#' options(old)
scoom_resources <- function() {
  call <- current_env()
  list(
    threads = option_threads(call),
    memory = option_memory(call),
    scratch = option_scratch(call)
  )
}

option_threads <- function(call = caller_env()) {
  threads <- getOption("scoom.threads")
  if (is.null(threads)) {
    return(default_threads())
  }
  check_count(
    threads,
    min = 1,
    max = 1024,
    arg = "options(scoom.threads)",
    call = call
  )
  as.integer(threads)
}

option_memory <- function(call = caller_env()) {
  memory <- getOption("scoom.memory")
  if (is.null(memory)) {
    return(default_memory())
  }
  parse_bytes(memory, "options(scoom.memory)", call)
}

option_scratch <- function(call = caller_env()) {
  scratch <- getOption("scoom.scratch") %||% tempdir()
  check_string(scratch, arg = "options(scoom.scratch)", call = call)
  if (!dir.exists(scratch)) {
    scoom_abort(
      c(
        "{.code options(scoom.scratch)} must be a folder.",
        x = "There is no folder {.path {scratch}}."
      ),
      class = "invalid_input",
      call = call
    )
  }
  normalizePath(scratch, winslash = "/")
}

# "2GB", "500 MB", "1.5GiB" or a number of bytes.
parse_bytes <- function(value, arg, call = caller_env()) {
  bytes <- NA_real_
  if (is.numeric(value) && length(value) == 1) {
    bytes <- as.double(value)
  } else if (is_string(value)) {
    pattern <- "^\\s*([0-9]+[.]?[0-9]*)\\s*([kmgt]?)(i?)b?\\s*$"
    found <- regmatches(value, regexec(pattern, value, ignore.case = TRUE))[[1]]
    if (length(found)) {
      base <- if (nzchar(found[[4]])) 1024 else 1000
      power <- match(tolower(found[[3]]), c("", "k", "m", "g", "t")) - 1
      bytes <- as.double(found[[2]]) * base^power
    }
  }
  if (is.na(bytes) || !is.finite(bytes) || bytes < 1e6) {
    abort_type(
      value,
      "a size such as {.val 2GB}, at least {.val 1MB}",
      arg,
      call
    )
  }
  bytes
}

# What this process may use ------------------------------------------------------

default_threads <- function() {
  limit <- c(
    allowed_cores(),
    cgroup_cores(),
    env_number("SLURM_CPUS_PER_TASK"),
    env_number("OMP_THREAD_LIMIT"),
    if (nzchar(Sys.getenv("_R_CHECK_LIMIT_CORES_"))) 2
  )
  as.integer(max(1, floor(min(limit, na.rm = TRUE))))
}

env_number <- function(name) {
  value <- suppressWarnings(as.numeric(Sys.getenv(name)))
  if (is.na(value) || value < 1) NULL else value
}

# Cores in the affinity mask on Linux, all cores elsewhere.
allowed_cores <- function() {
  status <- read_lines_or_null("/proc/self/status")
  mask <- grep("^Cpus_allowed_list:", status, value = TRUE)
  if (length(mask) == 1) {
    return(count_list(sub("^[^:]*:\\s*", "", mask)))
  }
  cores <- parallel::detectCores()
  if (is.na(cores)) 1 else cores
}

# Entries in a list such as "0-3,8".
count_list <- function(text) {
  ends <- strsplit(strsplit(text, ",")[[1]], "-")
  sum(vapply(ends, \(e) diff(range(as.numeric(e))) + 1, 0))
}

cgroup_cores <- function() {
  quota <- read_lines_or_null("/sys/fs/cgroup/cpu.max")
  if (!is.null(quota)) {
    parts <- suppressWarnings(as.numeric(strsplit(quota[[1]], " ")[[1]]))
    return(if (anyNA(parts)) NULL else max(1, parts[[1]] / parts[[2]]))
  }
  old <- "/sys/fs/cgroup/cpu/cpu.cfs_"
  quota <- read_number_or_null(paste0(old, "quota_us"))
  period <- read_number_or_null(paste0(old, "period_us"))
  if (is.null(quota) || is.null(period) || quota <= 0) {
    return(NULL)
  }
  max(1, quota / period)
}

default_memory <- function() memory_limit() / 4

# Memory of the machine, or what this process is allowed of it.
memory_limit <- function() {
  limits <- c(
    total_memory(),
    read_number_or_null("/sys/fs/cgroup/memory.max"),
    read_number_or_null("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    env_number("SLURM_MEM_PER_NODE") * 2^20
  )
  if (length(limits)) min(limits) else 8e9
}

total_memory <- function() {
  line <- grep("^MemTotal:", read_lines_or_null("/proc/meminfo"), value = TRUE)
  if (length(line) == 1) {
    return(as.numeric(gsub("[^0-9]", "", line)) * 1024)
  }
  if (Sys.info()[["sysname"]] == "Darwin") {
    found <- system2("sysctl", c("-n", "hw.memsize"), stdout = TRUE)
    return(as.numeric(found))
  }
  NULL
}

read_lines_or_null <- function(path) {
  tryCatch(
    suppressWarnings(readLines(path)),
    error = function(e) NULL
  )
}

read_number_or_null <- function(path) {
  line <- read_lines_or_null(path)
  value <- if (length(line)) suppressWarnings(as.numeric(line[[1]]))
  if (is.null(value) || is.na(value)) NULL else value
}

# Running ------------------------------------------------------------------------

#' The resources of an engine call
#'
#' @param threads Threads, or `NULL` for the option.
#' @param progress `TRUE`, `FALSE`, `NULL` for the option, or the function of a
#'   [progress_bar()].
#' @param label What the progress bar says is being done.
#' @returns The list that `rs_*` functions take as `ctx`.
#' @noRd
scoom_ctx <- function(
  threads = NULL,
  progress = FALSE,
  label = "Reading",
  call = caller_env(),
  .envir = parent.frame()
) {
  check_count(threads, min = 1, allow_null = TRUE, call = call)
  if (!is.function(progress)) {
    progress <- progress_bar(label, progress, .envir = .envir)
  }
  list(
    threads = as.integer(threads %||% option_threads(call)),
    memory = option_memory(call),
    scratch = option_scratch(call),
    progress = progress
  )
}

#' Run a pass over a plan
#'
#' @param fn An `rs_*` function `(plan, args, ctx, mode)`.
#' @param plan,args What it takes.
#' @param threads,progress,label See [scoom_ctx()].
#' @param BPPARAM A BiocParallel backend, or `NULL` to use threads alone. Its workers
#'   take whole ranges of the grid and return one partial for each, which are
#'   merged here in the order of the grid, so that the result is the same to the bit.
#' @returns What the function answers.
#' @noRd
run_pass <- function(
  fn,
  plan,
  args = list(),
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL,
  label = "Reading",
  call = caller_env()
) {
  ctx <- scoom_ctx(threads, progress, label, call)
  if (is.null(BPPARAM)) {
    return(rs_unwrap(fn(plan, args, ctx, NULL), call))
  }
  partials <- run_on_workers(fn, plan, args, ctx, threads, BPPARAM, call)
  rs_unwrap(fn(plan, args, ctx, list(partials = partials)), call)
}

check_backend <- function(BPPARAM, call) {
  if (is.null(BPPARAM)) {
    return(invisible())
  }
  check_suggested("BiocParallel", "BiocManager::install", call)
  if (!inherits(BPPARAM, "BiocParallelParam")) {
    abort_type(
      BPPARAM,
      "a BiocParallel backend or {.code NULL}",
      "BPPARAM",
      call
    )
  }
}

run_on_workers <- function(fn, plan, args, ctx, threads, BPPARAM, call) {
  check_backend(BPPARAM, call)
  n_ranges <- rs_unwrap(rs_plan_info(plan, ctx), call)$n_ranges
  n_workers <- max(1, min(BiocParallel::bpnworkers(BPPARAM), n_ranges))
  tasks <- deal(seq_len(n_ranges), n_workers)
  ctx["progress"] <- list(NULL)
  # Backends on this machine share its cores and memory among their workers.
  if (inherits(BPPARAM, c("MulticoreParam", "SnowParam"))) {
    ctx$threads <- threads %||% max(1L, ctx$threads %/% length(tasks))
    ctx$memory <- ctx$memory / max(1, length(tasks))
  }
  answers <- BiocParallel::bplapply(
    tasks,
    run_ranges,
    libraries = .libPaths(),
    fn = serialize(fn, NULL),
    plan = plan,
    args = args,
    ctx = ctx,
    BPPARAM = BPPARAM
  )
  unlist(lapply(answers, rs_unwrap, call), recursive = FALSE)
}

# Runs in a worker; errors travel as values, with their class. A fresh R does not
# know the libraries of this one, so nothing may need the package before they are
# set: the function comes as bytes, and this one belongs to base.
run_ranges <- function(ranges, libraries, fn, plan, args, ctx) {
  .libPaths(unique(c(libraries, .libPaths())))
  unserialize(fn)(plan, args, ctx, list(ranges = ranges))
}
environment(run_ranges) <- baseenv()

# Consecutive shares of almost equal size.
deal <- function(items, n) {
  if (!length(items)) {
    return(list())
  }
  share <- ceiling(seq_along(items) * n / length(items))
  unname(split(items, share))
}
