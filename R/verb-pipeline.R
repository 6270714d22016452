# From counts to clusters and a layout in one call, step by step, so that it can go on
# where it stopped.

#' Run the pipeline from counts to clusters and UMAP
#'
#' Quality metrics, filters, normalisation, variable genes, principal components,
#' neighbours, Leiden clusters and UMAP in one call, with what each step took. A
#' running verb: three passes over the file, or four where the variable genes do not fit
#' into half of `options(scoom.memory)`; settings such as `target_sum = NULL` or another flavor
#' take more, as [explain_plan()] tells.
#'
#' @details
#' The steps are the verbs of these names, and the result is what they give one
#' after another:
#'
#' 1. [calc_qc_metrics()], one pass. The bounds of step 2 are known before it, so that it
#'    counts the genes of the cells that will be kept too.
#' 2. [filter_cells()]: cells within `min_genes`, `max_genes`, `min_counts` and
#'    `max_counts` with less than `max_pct_mt` percent of their counts in the gene set `mt`.
#' 3. [filter_genes()]: genes in at least `min_cells` of them. No pass.
#' 4. [normalize_total()] to `target_sum` and [log1p()], lazy. `target_sum = NULL`, the median, is
#'    one more pass.
#' 5. [find_variable_genes()]: the first `n_top`, one pass.
#' 6. [scale_genes()] with the means and deviations of that pass, clipped at `max_value`;
#'    left out with `scale = FALSE`.
#' 7. [run_pca()]: `n_comps` components of the variable genes, one pass or two.
#' 8. [find_neighbors()], [cluster_leiden()] and [run_umap()], which do not read the file.
#'
#' All settings are shown once, before the first step. Settings of the verbs that are no argument
#' here are given by `args`. What can be checked without reading is checked first.
#'
#' **Going on.** The object remembers which steps are done and with which settings, also
#' through `saveRDS()`. Given such an object, `run_pipeline()` takes arguments that are not given
#' from the earlier call and goes on with the first step that is not done, whose settings
#' changed, or whose result is gone or is another than the step has left, as after
#' [run_pca()] with other arguments; a message says which. Results are compared by a hash of
#' the marked genes, components, graph, clusters and layout. Changed metrics or filters
#' start again from the object of the first call. Where cells or genes were selected since, all
#' steps run on the selection. With `save`, the object is written after every step that
#' computes, to a temporary file that is then renamed.
#'
#' **The report** is kept in `uns$pipeline`: for each step the seconds, the passes, measured as the
#' share of stored values that was read from the file, the look at the first of them before the
#' first step included (`NA` with `BPPARAM`, whose workers
#' do not tell), and the peak of memory over what R held before (`NA` where the system does not
#' tell; Linux does).
#'
#' Memory: the largest of the verbs, see [explain_plan()].
#'
#' @inheritParams calc_qc_metrics
#' @param x An object whose X holds counts, or one that `run_pipeline()` returned or saved.
#' @param min_genes,max_genes,min_counts,max_counts Bounds on the detected genes and the
#'   counts of a cell; `NULL` for none.
#' @param max_pct_mt The percentage of mitochondrial counts that cells must stay below; `NULL`
#'   for no bound. It needs a gene set `mt`.
#' @param min_cells Cells in which a gene must be detected; `NULL` for no bound.
#' @param target_sum,n_top,n_comps,n_neighbors,metric,resolution,min_dist Arguments of
#'   the steps that have them.
#' @param scale,max_value Whether genes are scaled, and where scaled values are clipped.
#' @param seed The seed of clusters and layout.
#' @param args Further arguments of steps, a list of lists by the name of the verb, such as
#'   `list(find_neighbors = list(method = "exact"))`.
#' @param until The last step to run, by the name of the verb.
#' @param save The path of an `.rds` file to keep the object in, or `NULL`.
#' @returns `x` with what the steps add, and the report in `uns$pipeline`: a data frame of class
#'   `scoom_pipeline` with the columns `step`, `seconds`, `passes`, `peak_mb` and `settings`.
#' @seealso [explain_plan()] with `"run_pipeline"` says what it will cost.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())[1:500, ]
#' explain_plan(x, "run_pipeline")
#' x <- run_pipeline(x, n_top = 300, n_comps = 10, args = list(run_umap = list(n_epochs = 20)))
#' x$uns$pipeline
#' # Only clusters and layout are computed anew.
#' x <- run_pipeline(x, resolution = 0.5)
run_pipeline <- function(
  x,
  gene_sets = list(mt = "^MT-"),
  min_genes = 200,
  max_genes = NULL,
  min_counts = NULL,
  max_counts = NULL,
  max_pct_mt = 20,
  min_cells = 3,
  target_sum = 1e4,
  n_top = 2000,
  scale = TRUE,
  max_value = 10,
  n_comps = 50,
  n_neighbors = 15,
  metric = "euclidean",
  resolution = 1,
  min_dist = 0.5,
  seed = 0,
  args = list(),
  until = "run_umap",
  save = NULL,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  record <- pipeline_record(x)
  given <- intersect(names(match.call()), pipeline_settings)
  settings <- merge_settings(mget(pipeline_settings), given, record)
  check_pipeline(settings, call)
  until <- check_choice(until, pipeline_verbs)
  check_save(save, call)
  check_backend(BPPARAM, call)
  scoom_ctx(threads, progress, call = call)
  steps <- pipeline_steps(settings)
  steps <- steps[seq_len(match(until, names(steps), length(steps)))]
  check_steps(steps, n_obs(x), n_vars(x), settings, call)

  begin <- first_to_run(x, steps, record)
  if (begin > length(steps)) {
    note_settings(steps, begin)
    return(x)
  }
  note_replaced(x, names(steps)[[begin]], record)
  looked <- 0
  if (begin == 1) {
    before <- file_reads()
    x <- pipeline_start(x, record, call)
    looked <- file_reads() - before
    record <- new_record(x)
  } else {
    x <- rewind_chain(x, names(steps)[seq_len(begin - 1)])
    record$done <- record$done[names(steps)[seq_len(begin - 1)]]
  }
  record$settings <- settings
  note_settings(steps, begin)
  run <- compact(list(
    threads = threads,
    BPPARAM = BPPARAM,
    progress = progress
  ))
  saved <- FALSE
  withCallingHandlers(
    for (name in names(steps)[begin <= seq_along(steps)]) {
      measured <- measure(run_step(x, name, steps[[name]], run))
      # The first look at values is part of the first step.
      measured$report$passes <- round(measured$report$passes + looked, 6)
      looked <- 0
      if (!is.null(BPPARAM) && name %in% pipeline_reading) {
        measured$report$passes <- NA_real_
      }
      note_step(name, measured$report)
      record$done[[name]] <- list(
        settings = steps[[name]],
        report = measured$report,
        stamp = result_stamp(measured$value, name, steps[[name]])
      )
      x <- with_record(measured$value, record)
      if (!is.null(save) && !name %in% pipeline_lazy) {
        save_whole(x, save)
        saved <- TRUE
      }
    },
    error = function(e) {
      if (saved) {
        scoom_inform(
          c(
            i = "The steps that are done are in {.path {save}}: {.code run_pipeline(readRDS(...))} goes on."
          ),
          class = "pipeline_saved"
        )
      }
    }
  )
  x
}

# Steps and settings -----------------------------------------------------------------

# The arguments that decide the result.
pipeline_settings <- c(
  "gene_sets",
  "min_genes",
  "max_genes",
  "min_counts",
  "max_counts",
  "max_pct_mt",
  "min_cells",
  "target_sum",
  "n_top",
  "scale",
  "max_value",
  "n_comps",
  "n_neighbors",
  "metric",
  "resolution",
  "min_dist",
  "seed",
  "args"
)

pipeline_verbs <- c(
  "calc_qc_metrics",
  "filter_cells",
  "filter_genes",
  "normalize_total",
  "log1p",
  "find_variable_genes",
  "scale_genes",
  "run_pca",
  "find_neighbors",
  "cluster_leiden",
  "run_umap"
)

# Nothing is worth saving after these.
pipeline_lazy <- c(
  "filter_cells",
  "filter_genes",
  "normalize_total",
  "log1p",
  "scale_genes"
)

# These read the file, and share it among workers.
pipeline_reading <- c(
  "calc_qc_metrics",
  "filter_genes",
  "normalize_total",
  "find_variable_genes",
  "run_pca"
)

# Each step's arguments: those that the pipeline has, and those in `args`.
pipeline_steps <- function(s) {
  bounds <- s[c(
    "min_genes",
    "max_genes",
    "min_counts",
    "max_counts",
    "max_pct_mt"
  )]
  steps <- list(
    calc_qc_metrics = s["gene_sets"],
    filter_cells = compact(bounds),
    filter_genes = compact(s["min_cells"]),
    normalize_total = s["target_sum"],
    log1p = list(),
    find_variable_genes = s["n_top"],
    scale_genes = s["max_value"],
    run_pca = s["n_comps"],
    find_neighbors = s[c("n_neighbors", "metric")],
    cluster_leiden = s[c("resolution", "seed")],
    run_umap = s[c("min_dist", "seed")]
  )
  if (!s$scale) {
    steps$scale_genes <- NULL
  }
  for (name in intersect(names(s$args), names(steps))) {
    steps[[name]][names(s$args[[name]])] <- s$args[[name]]
  }
  # They decide what the pass over the file counts.
  steps$calc_qc_metrics <- c(steps$calc_qc_metrics, compact(bounds))
  steps
}

run_step <- function(x, name, args, run) {
  run <- run[intersect(names(run), names(formals(pipeline_verb(name))))]
  switch(
    name,
    calc_qc_metrics = {
      bounds <- args[intersect(names(args), names(cell_conditions(list())))]
      args <- args[setdiff(names(args), names(bounds))]
      call <- quote(calc_qc_metrics())
      inject(qc_within(x, bounds, !!!args, !!!run, call = call))
    },
    filter_cells = keep_within(x, args),
    filter_genes = if (length(args)) {
      inject(filter_genes(x, !!!args, !!!run))
    } else {
      x
    },
    normalize_total = inject(normalize_total(x, !!!args, !!!run)),
    log1p = log1p(x),
    find_variable_genes = inject(find_variable_genes(x, !!!args, !!!run)),
    scale_genes = inject(scale_genes(x, !!!args)),
    run_pca = inject(run_pca(x, !!!args, !!!run)),
    find_neighbors = inject(find_neighbors(x, !!!args, !!!run)),
    cluster_leiden = inject(cluster_leiden(x, !!!args)),
    run_umap = inject(run_umap(x, !!!args, !!!run))
  )
}

pipeline_verb <- function(name) {
  if (name == "log1p") \(x) log1p(x) else get(name, mode = "function")
}

# Bounds of cells as conditions on columns of obs.
cell_conditions <- function(bounds) {
  list(
    min_genes = expr(n_genes >= !!bounds$min_genes),
    max_genes = expr(n_genes <= !!bounds$max_genes),
    min_counts = expr(total_counts >= !!bounds$min_counts),
    max_counts = expr(total_counts <= !!bounds$max_counts),
    max_pct_mt = expr(pct_mt < !!bounds$max_pct_mt)
  )
}

keep_within <- function(x, bounds) {
  conditions <- unname(cell_conditions(bounds)[names(bounds)])
  y <- inject(filter_cells(x, !!!conditions))
  if (n_obs(y) == 0) {
    scoom_abort(
      c(
        "No cell is left.",
        x = "None of {format_count(n_obs(x))} meets {.code {vapply(conditions, deparse1, '')}}."
      ),
      class = "no_cells",
      call = quote(filter_cells())
    )
  }
  y
}

# Settings that are not `given` are those of the earlier call.
merge_settings <- function(settings, given, record) {
  kept <- setdiff(names(record$settings), given)
  settings[kept] <- record$settings[kept]
  if (is.null(settings$gene_sets$mt) && !"max_pct_mt" %in% given) {
    settings["max_pct_mt"] <- list(NULL)
  }
  settings
}

# The steps that a call with these settings would run, and the object it would run them on.
pipeline_left <- function(x, given, call) {
  if (!is.list(given) || length(given) > 0 && !is_named(given)) {
    abort_type(given, "a list with names", "settings", call)
  }
  for (unknown in setdiff(names(given), pipeline_settings)) {
    what <- "setting of run_pipeline()"
    abort_missing(unknown, pipeline_settings, what, "invalid_input", call)
  }
  record <- pipeline_record(x)
  settings <- lapply(formals(run_pipeline)[pipeline_settings], eval, baseenv())
  settings[names(given)] <- given
  settings <- merge_settings(settings, names(given), record)
  check_pipeline(settings, call)
  steps <- pipeline_steps(settings)
  begin <- first_to_run(x, steps, record)
  if (begin == 1 && !is.null(record) && !is_true(record$selected)) {
    x <- restore_start(x, record$start)
  }
  list(x = x, steps = steps[begin <= seq_along(steps)], settings = settings)
}

# Checks ----------------------------------------------------------------------------

check_pipeline <- function(s, call) {
  least <- c("min_genes", "min_counts", "max_genes", "max_counts")
  for (name in c(least, "max_pct_mt", "min_cells")) {
    check_number(s[[name]], min = 0, allow_null = TRUE, arg = name, call = call)
  }
  for (name in c("target_sum", "max_value")) {
    value <- s[[name]]
    check_number(value, allow_null = TRUE, arg = name, call = call)
    if (!is.null(value) && value <= 0) {
      abort_type(value, "a number above 0", name, call)
    }
  }
  check_count(s$n_top, min = 1, allow_null = TRUE, arg = "n_top", call = call)
  check_flag(s$scale, arg = "scale", call = call)
  check_count(s$n_comps, min = 1, arg = "n_comps", call = call)
  check_count(s$n_neighbors, min = 2, arg = "n_neighbors", call = call)
  metrics <- eval(formals(find_neighbors)$metric)
  check_choice(s$metric, metrics, arg = "metric", call = call)
  check_resolution(s$resolution, call)
  check_number(s$min_dist, min = 0, arg = "min_dist", call = call)
  check_r_seed(s$seed, call)
  check_pipeline_args(s$args, call)
  if (!is.null(s$max_pct_mt) && is.null(s$gene_sets[["mt"]])) {
    scoom_abort(
      c(
        "{.arg max_pct_mt} needs the gene set {.field mt}.",
        i = "For example {.code gene_sets = list(mt = \"^MT-\")}."
      ),
      class = "invalid_input",
      call = call,
      argument = "max_pct_mt"
    )
  }
}

check_pipeline_args <- function(args, call) {
  if (!is.list(args) || length(args) > 0 && !is_named(args)) {
    abort_type(args, "a list of lists by the name of the verb", "args", call)
  }
  for (name in names(args)) {
    own <- args[[name]]
    if (!name %in% setdiff(pipeline_verbs, "filter_cells")) {
      abort_missing(name, pipeline_verbs, "step", "invalid_input", call)
    }
    if (!is.list(own) || length(own) > 0 && !is_named(own)) {
      abort_type(own, "a list with names", paste0("args$", name), call)
    }
    # What links the steps, and what is said once for all.
    taken <- c("x", "...", "layer", "key", "neighbors", "use_rep", "subset")
    taken <- c(taken, "seed", "threads", "BPPARAM", "progress")
    known <- setdiff(names(formals(pipeline_verb(name))), taken)
    for (unknown in setdiff(names(own), known)) {
      what <- paste0("further argument of ", name, "()")
      abort_missing(unknown, known, what, "invalid_input", call)
    }
  }
}

check_save <- function(save, call) {
  check_string(save, allow_null = TRUE, arg = "save", call = call)
  if (is.null(save)) {
    return(invisible())
  }
  folder <- dirname(save)
  if (!dir.exists(folder) || file.access(folder, 2) != 0) {
    scoom_abort(
      c(
        "{.arg save} can't be written.",
        x = "{.path {folder}} is no folder where files can be made."
      ),
      class = "invalid_input",
      call = call,
      argument = "save"
    )
  }
}

# What is known before anything is read.
check_steps <- function(steps, n_cells, n_genes, settings, call) {
  if ("run_pca" %in% names(steps)) {
    n_used <- min(n_genes, settings$n_top %||% n_genes)
    check_n_comps(settings$n_comps, n_cells, n_used, call)
  }
  if ("find_neighbors" %in% names(steps)) {
    check_n_neighbors(settings$n_neighbors, n_cells, call)
  }
}

# Going on ---------------------------------------------------------------------------

# What earlier calls did, if the object is still theirs; otherwise only how it began.
pipeline_record <- function(x) {
  record <- field(x, "pipeline")
  if (is.null(record)) {
    return(NULL)
  }
  same <- identical(record$rows, field(x, "rows")) &&
    identical(record$cols, field(x, "cols")) &&
    identical(record$ops, field(x, "X")$ops)
  if (!same) {
    record$done <- list()
    record$selected <- TRUE
  }
  record
}

new_record <- function(x) {
  start <- list(
    path = field(x, "file")$path,
    rows = field(x, "rows"),
    cols = field(x, "cols"),
    ops = field(x, "X")$ops,
    names = field(x, "names"),
    slots = field(x, "slots")
  )
  list(start = start, done = list())
}

# The object with the record of what is done and its report.
with_record <- function(x, record) {
  record["rows"] <- list(field(x, "rows"))
  record["cols"] <- list(field(x, "cols"))
  record$ops <- field(x, "X")$ops
  x <- set_uns(x, "pipeline", pipeline_report(record$done))
  set_field(x, "pipeline", record)
}

# The first step that is not done as it is asked for.
first_to_run <- function(x, steps, record) {
  done <- vapply(
    names(steps),
    \(name) {
      then <- record$done[[name]]
      !is.null(then) &&
        identical(then$settings, steps[[name]]) &&
        has_result(x, name, then)
    },
    NA
  )
  # A chain without a step that it has now, such as the scaling.
  extra <- setdiff(names(record$done), names(steps))
  extra <- intersect(extra, "scale_genes")
  begin <- match(FALSE, done, length(steps) + 1)
  if (length(extra)) {
    begin <- min(begin, match("run_pca", names(steps), begin))
  }
  # Selections can only be undone together.
  if (begin <= 3) 1 else begin
}

# Whether what a step has left is still there, and still the same.
has_result <- function(x, name, then) {
  identical(result_stamp(x, name, then$settings), then$stamp)
}

# A hash of what a step has left; NULL for steps that only select or extend the chain.
result_stamp <- function(x, name, args) {
  at <- result_keys(name, args)
  if (is.null(at)) {
    return(NULL)
  }
  values <- field(x, "slots")[[at$slot]]$set[at$keys]
  if (any(vapply(values, is.null, NA))) "gone" else hash(values)
}

# Where it is: what later steps and users take.
result_keys <- function(name, args) {
  at <- \(slot, keys) list(slot = slot, keys = keys)
  switch(
    name,
    find_variable_genes = at("var", "highly_variable"),
    run_pca = at("obsm", "X_pca"),
    find_neighbors = at("obsp", unlist(graph_keys("neighbors"))),
    cluster_leiden = at("obs", resolution_keys("leiden", args$resolution)),
    run_umap = at("obsm", "X_umap")
  )
}

# The object as the first step takes it: as it was given to the first call, or,
# where cells or genes were selected since, as it is now without what was done to
# the counts.
pipeline_start <- function(x, record, call) {
  recipe <- x_recipe(x, call)
  if (!is.null(record) && !is_true(record$selected)) {
    return(restore_start(x, record$start))
  }
  if (!is.null(record)) {
    recipe$ops <- count_ops(recipe$ops)
    scoom_inform(
      c(i = "Cells or genes were selected since: all steps run on these."),
      class = "pipeline_selected"
    )
    return(set_field(x, "X", recipe))
  }
  done <- chain_state(x)
  if (done$normalized || done$logged || done$scaled) {
    scoom_abort(
      c(
        "X does not hold counts any more.",
        x = if (done$logged) {
          "It holds logarithms."
        } else {
          "It is normalised or scaled."
        },
        i = "Begin with the object as {.fn open_h5ad} gives it, or with a layer of counts: {.code x$X <- x$layers$counts}."
      ),
      class = "already_processed",
      call = call
    )
  }
  # What the file holds shows in its first values, before a pass is spent on them.
  check_normalizable(x, call)
  x
}

restore_start <- function(x, start) {
  file <- field(x, "file")
  here <- \(recipe) {
    if (identical(recipe$path, start$path)) {
      recipe[c("path", "size", "mtime")] <- file[c("path", "size", "mtime")]
    }
    recipe
  }
  recipe <- field(x, "X")
  recipe["rows"] <- list(start$rows)
  recipe$ops <- start$ops
  start$slots$layers$set <- lapply(start$slots$layers$set, here)
  x <- set_field(x, "X", recipe)
  for (name in c("rows", "cols", "names", "slots")) {
    x <- set_field(x, name, start[[name]])
  }
  x
}

# The chain as it was after the steps `done`.
rewind_chain <- function(x, done) {
  op_of <- c(
    normalize_total = "normalize",
    log1p = "log1p",
    scale_genes = "scale"
  )
  undo <- op_of[setdiff(names(op_of), done)]
  recipe <- field(x, "X")
  recipe$ops <- Filter(\(op) !op$op %in% undo, recipe$ops)
  set_field(x, "X", recipe)
}

save_whole <- function(x, path) {
  part <- paste0(path, ".part")
  on.exit(unlink(part))
  # Not compressed, which would take longer than many a step.
  saveRDS(x, part, compress = FALSE)
  if (!file.rename(part, path)) {
    scoom_abort(
      "{.path {path}} can't be replaced.",
      class = "not_saved",
      call = caller_env()
    )
  }
}

# Measuring --------------------------------------------------------------------------

# The value of some code, and what it took.
measure <- function(code) {
  settle_memory()
  told <- reset_peak_memory()
  before <- if (told) memory_status("VmRSS")
  reads <- file_reads()
  time <- proc.time()[["elapsed"]]
  value <- force(code)
  report <- list(
    seconds = proc.time()[["elapsed"]] - time,
    # Shares of the file add up to whole reads but for rounding.
    passes = round(file_reads() - reads, 6),
    peak_mb = if (told) {
      max(memory_status("VmHWM") - before, 0)
    } else {
      NA_real_
    }
  )
  list(value = value, report = report)
}

# What steps before have left is no part of what one takes.
settle_memory <- function() gc()

# How often matrices were read from their files in this session.
file_reads <- function() rs_unwrap(rs_plan_reads())

# On Linux the peak can be set back to what the process holds now.
reset_peak_memory <- function() {
  if (is.null(read_lines_or_null("/proc/self/status"))) {
    return(FALSE)
  }
  reset <- \() {
    writeLines("5", "/proc/self/clear_refs")
    TRUE
  }
  tryCatch(suppressWarnings(reset()), error = function(e) FALSE)
}

# A line of the process's status, in megabytes.
memory_status <- function(name) {
  lines <- read_lines_or_null("/proc/self/status")
  line <- grep(paste0("^", name, ":"), lines, value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) * 1024 / 1e6
}

# Telling ----------------------------------------------------------------------------

# A step that runs again though its settings are the same, since others have replaced
# or removed its result.
note_replaced <- function(x, name, record) {
  then <- record$done[[name]]
  if (is.null(then) || has_result(x, name, then)) {
    return(invisible())
  }
  gone <- identical(result_stamp(x, name, then$settings), "gone")
  scoom_inform(
    c(
      i = paste(
        if (gone) {
          "The result of {.fn {name}} is gone:"
        } else {
          "The result of {.fn {name}} was replaced since:"
        },
        "it runs again, and the steps after it."
      )
    ),
    class = "pipeline_replaced"
  )
}

note_settings <- function(steps, begin) {
  shown <- vapply(names(steps), \(name) step_text(name, steps[[name]]), "")
  if (begin > length(steps)) {
    scoom_inform(
      c(i = "All {length(steps)} steps are done with these settings already."),
      class = "pipeline_resumed"
    )
    return(invisible())
  }
  if (begin > 1) {
    scoom_inform(
      c(
        i = "{counted(begin - 1, 'step')} {cli::qty(begin - 1)}{?is/are} done; goes on with {.fn {names(steps)[[begin]]}}."
      ),
      class = "pipeline_resumed"
    )
  }
  lines <- verbatim(shown[begin <= seq_along(steps)])
  scoom_inform(
    c("Settings:", set_names(lines, rep("*", length(lines)))),
    class = "pipeline_settings"
  )
}

note_step <- function(name, report) {
  peak <- if (!is.na(report$peak_mb)) {
    paste0(", ", round(report$peak_mb), " MB")
  }
  passes <- if (!is.na(report$passes) && report$passes > 0) {
    paste0(", ", counted_passes(report$passes))
  }
  took <- paste0(sprintf("%.1f s", report$seconds), passes, peak)
  scoom_inform(c(v = "{name}: {took}"), class = "pipeline_step")
}

counted_passes <- function(n) {
  n <- round(n, 2)
  paste(n, if (is_true(n == 1)) "pass" else "passes")
}

step_text <- function(name, args) {
  if (name == "calc_qc_metrics") {
    args <- args[setdiff(names(args), names(cell_conditions(list())))]
  }
  if (!length(args)) {
    return(name)
  }
  paste0(name, ": ", settings_text(args))
}

settings_text <- function(args) {
  values <- vapply(args, deparse1, "", width.cutoff = 500L)
  long <- nchar(values) > 60
  values[long] <- paste0(substr(values[long], 1, 57), "...")
  paste0(names(args), " = ", values, collapse = ", ")
}

# What the steps took, as users see it.
pipeline_report <- function(done) {
  number <- \(name) vapply(done, \(step) as.double(step$report[[name]]), 0)
  text <- \(name) {
    sub("^[^:]*(: |$)", "", step_text(name, done[[name]]$settings))
  }
  report <- data.frame(
    step = names(done),
    seconds = unname(number("seconds")),
    passes = unname(number("passes")),
    peak_mb = unname(number("peak_mb")),
    settings = vapply(names(done), text, "", USE.NAMES = FALSE)
  )
  class(report) <- c("scoom_pipeline", "data.frame")
  report
}

#' @export
print.scoom_pipeline <- function(x, ...) {
  writeLines(format(x, ...))
  invisible(x)
}

#' @export
format.scoom_pipeline <- function(x, ...) {
  plain <- as.data.frame(unclass(x))
  total <- sprintf(
    "%s, %.1f s, %s over the file",
    counted(nrow(plain), "step"),
    sum(plain$seconds),
    counted_passes(sum(plain$passes))
  )
  plain$seconds <- sprintf("%.2f", plain$seconds)
  plain$passes <- format(round(plain$passes, 2))
  plain$peak_mb <- format(round(plain$peak_mb))
  c(total, format_table(plain))
}
