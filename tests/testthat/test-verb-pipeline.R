# The verbs of the pipeline one after another, as their own documentation has them.
by_hand <- function(x, n_top, n_comps) {
  calc_qc_metrics(x) |>
    filter_cells(n_genes >= 200, pct_mt < 20) |>
    filter_genes(min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p() |>
    find_variable_genes(n_top = n_top) |>
    scale_genes(max_value = 10) |>
    run_pca(n_comps = n_comps) |>
    find_neighbors()
}

# Collecting garbage before each step takes most of a short run, and matters for the peaks of
# memory alone.
local_no_gc <- function(env = parent.frame()) {
  scoom <- asNamespace("scoom")
  replace <- function(value) {
    unlockBinding("settle_memory", scoom)
    assign("settle_memory", value, scoom)
    lockBinding("settle_memory", scoom)
  }
  real <- scoom$settle_memory
  replace(\() NULL)
  withr::defer(replace(real), env)
}

# A quick pipeline on some cells of the example.
quick_pipeline <- function(x, ...) {
  local_no_gc()
  run_pipeline(
    x,
    n_top = 300,
    n_comps = 10,
    args = list(run_umap = list(n_epochs = 10, init = "rep")),
    ...
  )
}

# The steps that a call has run, by its messages.
steps_run <- function(code) {
  messages <- testthat::capture_messages(code)
  ran <- regmatches(
    messages,
    regexpr("(?<=[v✔] )[a-z0-9_]+(?=: )", messages, perl = TRUE)
  )
  unlist(ran)
}

# What the steps have read, without the look at the first values before the first one.
passes_of <- function(x) {
  passes <- x$uns$pipeline$passes
  passes[[1]] <- min(passes[[1]], 1)
  passes
}

test_that("pbmc3k takes three passes and comes out as verb by verb", {
  local_quiet()
  path <- shared_data_path("counts", "pbmc3k_raw.h5ad")
  # Another object of the file: its caches are its own.
  before <- file_reads()
  x <- run_pipeline(
    open_h5ad(path),
    args = list(run_umap = list(n_epochs = 20))
  )
  expect_lte(file_reads() - before, 4)
  report <- x$uns$pipeline
  expect_equal(report$step, pipeline_verbs)
  expect_equal(sum(passes_of(x)), 3)
  # Nothing is read beside what the report has.
  expect_equal(sum(report$passes), file_reads() - before, tolerance = 1e-4)
  expect_equal(
    passes_of(x)[match(
      c("calc_qc_metrics", "filter_genes", "find_variable_genes", "run_pca"),
      report$step
    )],
    c(1, 0, 1, 1)
  )
  y <- by_hand(open_h5ad(path), 2000, 50)
  expect_identical(dim(x), dim(y))
  expect_identical(x$obsm$X_pca, y$obsm$X_pca)
  expect_identical(x$obsp$connectivities, y$obsp$connectivities)
  expect_identical(x$obs$leiden, cluster_leiden(y)$obs$leiden)
  expect_identical(x$obs[names(y$obs)], y$obs)
  expect_identical(x$var[names(y$var)], y$var)
})

test_that("one more pass is taken where the variable genes do not fit, and is explained", {
  local_quiet()
  local_no_gc()
  # Cells several times, since those of the example fit into the smallest budget.
  run <- function() {
    x <- open_example()
    x <- x[rep(seq_len(n_obs(x)), 4), ]
    run_pipeline(x, n_top = 100, n_comps = 10, until = "run_pca")
  }
  x <- run()
  expect_equal(sum(passes_of(x)), 3)
  # Half of this does not hold the variable genes, which is known before.
  withr::local_options(scoom.memory = "1MB")
  y <- run()
  expect_equal(sum(passes_of(y)), 4)
  expect_identical(y$obsm$X_pca, x$obsm$X_pca)
  capture.output(
    explained <- explain_plan(
      open_example(),
      "run_pipeline",
      settings = list(n_top = 100)
    )
  )
  expect_equal(tail(explained$verbs$passes, 1), 4)
})

test_that("the passes of each step are explained before", {
  local_quiet()
  local_no_gc()
  flavor <- \(name) list(args = list(find_variable_genes = list(flavor = name)))
  exclude <- list(normalize_total = list(exclude_highly_expressed = TRUE))
  ways <- list(
    list(),
    list(target_sum = NULL),
    list(target_sum = NULL, min_cells = NULL),
    list(scale = FALSE),
    list(args = exclude),
    flavor("seurat_v3"),
    c(list(target_sum = NULL), flavor("seurat_v3")),
    flavor("pearson_residuals")
  )
  x <- open_example()
  x <- x[rep(seq_len(n_obs(x)), 4), ]
  wanted <- c(3, 4, 3, 3, 4, 4, 5, 4)
  for (memory in c("1GB", "1MB")) {
    withr::local_options(scoom.memory = memory)
    for (i in seq_along(ways)) {
      settings <- c(list(n_top = 100, n_comps = 10), ways[[i]])
      capture.output(
        e <- explain_plan(x, "run_pipeline", settings = settings)$verbs
      )
      y <- inject(run_pipeline(x, !!!settings, until = "run_pca"))
      steps <- y$uns$pipeline$step
      expect_equal(
        e$passes[seq_along(steps)],
        passes_of(y),
        info = paste(memory, i)
      )
      expect_equal(tail(e$passes, 1), sum(passes_of(y)))
      if (memory == "1GB") {
        expect_equal(sum(passes_of(y)), wanted[[i]])
      }
    }
  }
})

test_that("iterations are explained about as many as they are", {
  local_quiet()
  local_no_gc()
  withr::local_options(scoom.memory = "1MB")
  x <- open_example()
  x <- x[rep(seq_len(n_obs(x)), 4), ]
  settings <- list(n_top = 1000, n_comps = 10)
  capture.output(
    e <- explain_plan(x, "run_pipeline", settings = settings)$verbs
  )
  y <- inject(run_pipeline(x, !!!settings, until = "run_pca"))
  read <- passes_of(y)[[8]]
  expect_gt(read, 15)
  expect_lt(abs(log(e$passes[[8]] / read)), log(2))
  # Less than the covariance would take.
  expect_lt(e$memory_bytes[[8]], 24 * 1000^2 + 5e7 * scoom_ctx()$threads)
})

test_that("what is explained of an object is what is left to do", {
  local_quiet()
  x <- open_example()[1:500, ]
  of <- function(x, ...) {
    capture.output(e <- explain_plan(x, "run_pipeline", ...)$verbs)
    e
  }
  e <- of(x)
  expect_identical(e$verb, c(pipeline_verbs, "run_pipeline"))
  expect_identical(of(x, settings = list(scale = FALSE))$verb, e$verb[-7])
  y <- quick_pipeline(x, until = "run_pca")
  expect_identical(of(y)$verb, e$verb[9:12])
  expect_identical(of(y)$passes, numeric(4))
  expect_gt(min(of(y)$memory_bytes), 0)
  expect_identical(of(y, settings = list(n_comps = 5))$verb, e$verb[8:12])
  # From the first step on: of the cells that it began with.
  expect_identical(of(y, settings = list(min_genes = 1))$verb, e$verb)
  expect_identical(of(quick_pipeline(x))$verb, "run_pipeline")
  expect_error(
    of(x, settings = list(n_tops = 5)),
    class = "scoom_error_invalid_input"
  )
  expect_error(of(x, settings = 5), class = "scoom_error_invalid_input")
})

test_that("passes are counted, not assumed", {
  local_quiet()
  # The median total over the genes that are left is not known before.
  x <- quick_pipeline(open_example(), target_sum = NULL, until = "run_pca")
  report <- x$uns$pipeline
  expect_equal(report$passes[report$step == "normalize_total"], 1)
  expect_equal(sum(passes_of(x)), 4)
  # Values in memory are read from no file.
  y <- object_of(as.matrix(open_example()$X[1:300, 1:500]))
  y <- run_pipeline(
    y,
    min_genes = 1,
    n_top = 100,
    n_comps = 5,
    until = "run_pca"
  )
  expect_equal(sum(y$uns$pipeline$passes), 0)
})

test_that("columns on disk are read as often as they are", {
  local_quiet()
  path <- withr::local_tempfile(fileext = ".h5ad")
  file.copy(fixture_path("engine-csc"), path)
  reads <- function(x) {
    before <- file_reads()
    sums <- colSums(x$X)
    list(reads = file_reads() - before, sums = sums)
  }
  x <- open_h5ad(path)
  first <- reads(x)
  # The indices once more, to see how many values each row has; but once for all calls.
  expect_equal(first$reads, 1.5)
  expect_identical(reads(x), list(reads = 1, sums = first$sums))
  expect_equal(reads(x[1:3, ])$reads, 1)
  # Another file at the same place, by its time, is counted anew.
  Sys.setFileTime(path, Sys.time() - 60)
  expect_identical(reads(open_h5ad(path)), first)
  expect_error(reads(x), class = "scoom_error_file_changed")
})

test_that("bounds reach the pass that counts genes", {
  local_quiet()
  local_no_gc()
  x <- open_example()[1:800, ]
  bounds <- list(
    list(min_genes = 330),
    list(min_genes = 300, max_genes = 350, max_pct_mt = 6),
    list(min_counts = 600, max_counts = 1500, max_pct_mt = NULL)
  )
  for (these in bounds) {
    arguments <- utils::modifyList(list(min_genes = 0), these, keep.null = TRUE)
    y <- inject(run_pipeline(
      x,
      !!!arguments,
      min_cells = 20,
      until = "filter_genes"
    ))
    kept <- as.matrix(x$X)[match(obs_names(y), obs_names(x)), ]
    expect_lt(n_obs(y), 800)
    expect_gt(n_obs(y), 10)
    expect_identical(
      var_names(y),
      unname(colnames(kept)[colSums(kept != 0) >= 20])
    )
    expect_equal(sum(passes_of(y)), 1)
    expect_true(all(y$obs$n_genes >= arguments$min_genes))
  }
})

test_that("threads and workers give the same bits", {
  local_quiet()
  x <- open_example()[1:500, ]
  one <- quick_pipeline(x, threads = 1)
  four <- quick_pipeline(x, threads = 4)
  expect_identical(one$obsm$X_umap, four$obsm$X_umap)
  expect_identical(one$obs$leiden, four$obs$leiden)
  expect_identical(one$var, four$var)
  skip_if_not_installed("BiocParallel")
  skip_on_os("windows")
  workers <- quick_pipeline(x, BPPARAM = BiocParallel::MulticoreParam(2))
  expect_identical(workers$obsm$X_pca, one$obsm$X_pca)
  expect_identical(workers$obs$leiden, one$obs$leiden)
  expect_true(is.na(workers$uns$pipeline$passes[[1]]))
})

test_that("it goes on where it stopped", {
  local_no_gc()
  path <- withr::local_tempfile(fileext = ".rds")
  x <- open_example()[1:500, ]
  ran <- steps_run(y <- quick_pipeline(x, until = "run_pca", save = path))
  expect_equal(ran, pipeline_verbs[1:8])
  expect_identical(readRDS(path)$obsm$X_pca, y$obsm$X_pca)
  # Settings are those of the first call.
  resumed <- readRDS(path)
  ran <- steps_run(z <- run_pipeline(resumed))
  expect_equal(ran, pipeline_verbs[9:11])
  local_quiet()
  whole <- quick_pipeline(x)
  expect_identical(z$obsm$X_umap, whole$obsm$X_umap)
  expect_identical(z$obs, whole$obs)
  expect_equal(z$uns$pipeline$step, pipeline_verbs)
  expect_equal(passes_of(z), passes_of(whole))
})

test_that("a step that fails leaves what was done before", {
  local_no_gc()
  path <- withr::local_tempfile(fileext = ".rds")
  x <- open_example()[1:500, ]
  bad <- list(run_umap = list(n_epochs = 10, init = matrix(0, 3, 2)))
  expect_message(
    expect_error(
      run_pipeline(x, n_top = 300, n_comps = 10, args = bad, save = path),
      class = "scoom_error_wrong_shape"
    ),
    class = "scoom_message_pipeline_saved"
  )
  expect_length(list.files(dirname(path), "[.]part$"), 0)
  ran <- steps_run(y <- run_pipeline(readRDS(path), args = list()))
  expect_equal(ran, "run_umap")
  expect_true("X_umap" %in% names(y$obsm))
})

test_that("a changed setting runs again from its step", {
  local_no_gc()
  x <- open_example()[1:500, ]
  local_quiet()
  y <- quick_pipeline(x)
  withr::local_options(scoom.quiet = FALSE)
  changes <- list(
    list(list(resolution = 0.5), "cluster_leiden"),
    list(list(n_comps = 8), "run_pca"),
    list(list(scale = FALSE), "run_pca"),
    list(list(max_value = 5), "scale_genes"),
    list(list(n_top = 200), "find_variable_genes"),
    list(list(target_sum = 5e3), "normalize_total"),
    list(list(min_cells = 10), "calc_qc_metrics"),
    list(list(min_genes = 250), "calc_qc_metrics")
  )
  for (change in changes) {
    ran <- steps_run(z <- inject(run_pipeline(y, !!!change[[1]])))
    expect_equal(ran[[1]], change[[2]])
    expect_equal(ran[[length(ran)]], "run_umap")
    settings <- list(n_top = 300, n_comps = 10)
    settings <- utils::modifyList(settings, change[[1]])
    anew <- suppressMessages(inject(run_pipeline(
      x,
      !!!settings,
      args = list(run_umap = list(n_epochs = 10, init = "rep"))
    )))
    expect_identical(z$obsm$X_umap, anew$obsm$X_umap)
    expect_identical(
      describe_chain(x_recipe(z)),
      describe_chain(x_recipe(anew))
    )
  }
  expect_message(run_pipeline(y), class = "scoom_message_pipeline_resumed")
  expect_length(suppressMessages(steps_run(run_pipeline(y))), 0)
  # A result that is gone is computed again.
  y$obsm$X_umap <- NULL
  expect_equal(steps_run(run_pipeline(y)), "run_umap")
})

test_that("a result that is not the step's own any more is computed again", {
  local_no_gc()
  path <- withr::local_tempfile(fileext = ".rds")
  x <- open_example()[1:500, ]
  local_quiet()
  y <- quick_pipeline(x, save = path)
  withr::local_options(scoom.quiet = FALSE)
  quiet <- \(code) suppressWarnings(suppressMessages(code))
  said <- NULL
  changes <- list(
    find_variable_genes = \(z) find_variable_genes(z, n_top = 100),
    find_variable_genes = \(z) {
      z$var$highly_variable <- rev(z$var$highly_variable)
      z
    },
    run_pca = \(z) run_pca(z, n_comps = 5),
    run_pca = \(z) {
      z$obsm$X_pca <- z$obsm$X_pca[, 10:1]
      z
    },
    find_neighbors = \(z) find_neighbors(z, n_neighbors = 5),
    cluster_leiden = \(z) cluster_leiden(z, resolution = 2),
    cluster_leiden = \(z) {
      z$obs$leiden <- NULL
      z
    },
    run_umap = \(z) run_umap(z, n_epochs = 5),
    run_umap = \(z) {
      z$obsm$X_umap <- NULL
      z
    }
  )
  for (i in seq_along(changes)) {
    z <- quiet(changes[[i]](y))
    gone <- is.null(z$obs$leiden) || !"X_umap" %in% names(z$obsm)
    ran <- steps_run(withCallingHandlers(
      z <- run_pipeline(z),
      scoom_message_pipeline_replaced = \(m) said <<- conditionMessage(m)
    ))
    expect_match(said, if (gone) "is gone" else "was replaced since")
    begin <- match(names(changes)[[i]], pipeline_verbs)
    expect_equal(ran, pipeline_verbs[begin:11])
    expect_identical(z$obsm$X_umap, y$obsm$X_umap)
  }
  # What the steps have left, with something else beside it.
  y$obs$other <- 1
  y$obsm$X_other <- y$obsm$X_pca
  expect_length(steps_run(run_pipeline(y)), 0)
  expect_length(steps_run(run_pipeline(readRDS(path))), 0)
  again <- quiet(run_pca(readRDS(path), n_comps = 10))
  expect_length(steps_run(run_pipeline(again)), 0)
})

test_that("a selection runs as an object of its own", {
  local_quiet()
  x <- open_example()
  y <- quick_pipeline(x)
  cells <- which(y$obs$leiden == "0")
  part <- quick_pipeline(y[cells, ])
  wanted <- quick_pipeline(x[
    match(obs_names(y)[cells], obs_names(x)),
    var_names(y)
  ])
  expect_identical(part$obsm$X_pca, wanted$obsm$X_pca)
  expect_identical(part$obs$leiden, wanted$obs$leiden)
})

test_that("settings and steps are told, and the report is printed", {
  x <- open_example()[1:500, ]
  plain <- \(lines) gsub(", [0-9]+ MB", "", gsub("[0-9.]+ s", "<>", lines))
  expect_snapshot(
    y <- quick_pipeline(x, until = "run_pca"),
    transform = plain
  )
  report <- y$uns$pipeline
  expect_s3_class(report, "scoom_pipeline")
  expect_named(report, c("step", "seconds", "passes", "peak_mb", "settings"))
  expect_true(all(report$seconds >= 0))
  lines <- format(report)
  expect_match(lines[[1]], "8 steps, .* s, 4 passes over the file")
  expect_match(lines[[2]], "^step +seconds +passes +peak_mb +settings$")
  expect_length(lines, 10)
  skip_if_not(reset_peak_memory())
  expect_true(all(is.finite(report$peak_mb)))
  measured <- measure(sum(numeric(4e7)))
  expect_gt(measured$report$peak_mb, 300)
  expect_lt(measured$report$peak_mb, 700)
})

test_that("what can be checked is checked before anything is read", {
  x <- open_example()
  before <- file_reads()
  expect_snapshot(error = TRUE, {
    run_pipeline(x, n_comps = 3000)
    run_pipeline(x, n_neighbors = 5000)
    run_pipeline(x, n_neighbors = 1)
    run_pipeline(x, resolution = -1)
    run_pipeline(x, target_sum = 0)
    run_pipeline(x, metric = "hamming")
    run_pipeline(x, until = "run_tsne")
    run_pipeline(x, gene_sets = NULL, max_pct_mt = 5)
    run_pipeline(x, args = list(run_pac = list()))
    run_pipeline(x, args = list(run_pca = list(key = "X")))
    run_pipeline(x, args = list(run_umap = 3))
    run_pipeline(x, save = "no_such_folder/x.rds")
    run_pipeline(log1p(normalize_total(x, target_sum = 1e4)))
    run_pipeline(data.frame())
  })
  expect_error(
    run_pipeline(x[1:30, ], n_comps = 50),
    class = "scoom_error_too_many_components"
  )
  expect_error(
    run_pipeline(x[1:60, ], n_neighbors = 61),
    class = "scoom_error_too_few_cells"
  )
  # A look at the first values, for a chain made by hand.
  expect_lte(file_reads() - before, 1)
  local_quiet()
  expect_error(
    suppressWarnings(run_pipeline(x, min_genes = 1e5)),
    class = "scoom_error_no_cells"
  )
})

test_that("cells without counts pass through", {
  local_no_gc()
  values <- as.matrix(open_example()$X[1:200, 1:400])
  values[c(5, 77), ] <- 0
  x <- quietly(run_pipeline(
    object_of(values),
    min_genes = 0,
    min_cells = NULL,
    max_pct_mt = NULL,
    n_top = 100,
    n_comps = 5,
    args = list(run_umap = list(n_epochs = 10, init = "rep"))
  ))
  expect_identical(dim(x), c(200L, 400L))
  expect_true(all(is.finite(x$obsm$X_pca)))
  expect_identical(x$obsm$X_pca[5, ], x$obsm$X_pca[77, ])
  expect_true(all(is.finite(x$obsm$X_umap)))
  expect_false(anyNA(x$obs$leiden))
})
