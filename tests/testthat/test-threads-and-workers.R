# Every verb that reads the matrix, on a file whose grid has several ranges: the same
# bits for any number of threads and for worker processes, and a prompt end on Ctrl-C.

# Small counts whose totals differ from cell to cell.
wide_counts <- function(gene, cell) {
  pmax(0, (gene * 7 + cell * 13 + (gene * cell) %% 17) %% 11 - 6 + cell %% 3)
}

open_wide <- function(env = parent.frame()) {
  x <- open_h5ad(local_wide_h5ad(8300, wide_counts, env))
  x$obs$group <- rep(c("a", "b", "c", "b"), length.out = n_obs(x))
  x
}

# name -> function of an object of counts and further arguments.
running_verbs <- function() {
  logged <- \(x) log1p(normalize_total(x, target_sum = 100))
  list(
    calc_qc_metrics = \(x, ...) {
      sets <- list(odd = seq(1L, n_vars(x), 2L))
      y <- calc_qc_metrics(x, gene_sets = sets, percent_top = 20, ...)
      list(y$obs, y$var)
    },
    downsample_counts = \(x, ...) {
      y <- downsample_counts(x, total_counts = 10000, seed = 2, ...)
      list(field(y, "X")$ops, pseudobulk(y, "group", ...)$counts)
    },
    normalize_total = \(x, ...) {
      y <- normalize_total(x, exclude_highly_expressed = TRUE, ...)
      field(y, "X")$ops
    },
    find_variable_genes = \(x, ...) {
      find_variable_genes(logged(x), n_top = 50, ...)$var
    },
    variable_genes_over_batches = \(x, ...) {
      some <- logged(x)[, seq_len(min(200, n_vars(x)))]
      run <- \(flavor) {
        find_variable_genes(
          some,
          NULL,
          flavor,
          50,
          batch_key = "group",
          ...
        )$var
      }
      flavors <- c("seurat", "cell_ranger", "seurat_v3", "pearson_residuals")
      suppressWarnings(lapply(flavors, run))
    },
    run_pca = \(x, ...) {
      scaled <- scale_genes(logged(x)[, 1:40], max_value = 3)
      y <- run_pca(scaled, n_comps = 4, features = 1:40, ...)
      list(y$obsm$X_pca, y$varm$PCs, y$uns$pca)
    },
    wilcoxon = \(x, ...) {
      as.list(find_markers(
        logged(x)[, seq_len(min(200, n_vars(x)))],
        "group",
        ...
      ))
    },
    `t-test` = \(x, ...) {
      as.list(find_markers(logged(x), "group", method = "t-test", ...))
    },
    score_genes = \(x, ...) {
      sets <- list(a = seq(2L, n_vars(x), 3L), b = 1:5)
      y <- score_genes(logged(x), sets, ctrl_size = 9, n_bins = 5, ...)
      list(y$obs[c("a", "b")], y$uns$gene_scores)
    },
    pseudobulk = \(x, ...) unclass(pseudobulk(x, "group", ...))
  )
}

test_that("threads and fresh worker processes give the same bits, verb by verb", {
  skip_on_cran()
  skip_if_not_installed("BiocParallel")
  # Workers load the installed package; a source tree loaded in place has none.
  skip_if(!nzchar(system.file("libs", package = "scoom")))
  withr::local_options(scoom.quiet = TRUE, scoom.progress = FALSE)
  withr::local_envvar(
    R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep)
  )
  snow <- BiocParallel::SnowParam(2)
  BiocParallel::bpstart(snow)
  withr::defer(BiocParallel::bpstop(snow))
  expect_same_bits <- function(x, names, n_ranges, label) {
    x$obs$group <- rep(c("a", "b", "c", "b"), length.out = n_obs(x))
    info <- rs_unwrap(rs_plan_info(scoom_plan(x), scoom_ctx()))
    expect_gte(info$n_ranges, n_ranges)
    for (name in names) {
      verb <- running_verbs()[[name]]
      label <- paste(label, name)
      one <- verb(x, threads = 1)
      expect_identical(verb(x, threads = 2), one, info = label)
      expect_identical(verb(x, threads = 4), one, info = label)
      expect_identical(verb(x, BPPARAM = snow), one, info = label)
    }
  }
  # The grid as it is; a pass of each kind, since one over so many values takes seconds.
  kinds <- c("calc_qc_metrics", "run_pca", "pseudobulk")
  expect_same_bits(open_wide(), kinds, 2, "wide")
  # Every verb on more ranges of a smaller file.
  withr::local_options(scoom.range_values = 1e5)
  expect_same_bits(open_example(), names(running_verbs()), 6, "example")
  # Sparse rows and columns, cut finer than files are.
  withr::local_options(scoom.range_values = 1000)
  for (storage in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_fixture(storage)
    expect_same_bits(x, names(running_verbs()), 4, storage)
  }
})

test_that("an interrupt ends a verb within half a second, and R goes on", {
  skip_on_cran()
  skip_on_os("windows")
  withr::local_options(scoom.quiet = TRUE, scoom.progress = FALSE)
  x <- open_wide()
  sent <- withr::local_tempfile()
  scratch <- withr::local_tempdir()
  withr::local_options(scoom.scratch = scratch)
  for (name in c("calc_qc_metrics", "run_pca", "wilcoxon", "t-test")) {
    verb <- running_verbs()[[name]]
    signal <- "(sleep 0.4; date +%%s.%%N > %s; kill -INT %d) &"
    system(sprintf(signal, shQuote(sent), Sys.getpid()))
    outcome <- tryCatch(
      {
        verb(x, threads = 1)
        "finished"
      },
      interrupt = \(e) "interrupt"
    )
    ended <- as.numeric(Sys.time())
    expect_identical(outcome, "interrupt", info = name)
    expect_lt(ended - scan(sent, quiet = TRUE), 0.5)
    left <- list.files(scratch, all.files = TRUE, no.. = TRUE)
    expect_identical(left, character(), info = name)
  }
  y <- x[1:100, 1:50]
  expect_identical(sum(rowSums(y$X)), sum(as.matrix(y$X)))
})

test_that("a saved object gives the same in a fresh process", {
  skip_on_cran()
  skip_if(!nzchar(system.file("libs", package = "scoom")))
  x <- log1p(normalize_total(open_example(), target_sum = 1e4))
  x$obs$order <- seq_len(n_obs(x))
  x$layers$logs <- x$X
  x <- x[1500:10, 1:100]
  object <- withr::local_tempfile(fileext = ".rds")
  answer <- withr::local_tempfile(fileext = ".rds")
  script <- withr::local_tempfile(fileext = ".R")
  saveRDS(x, object)
  writeLines(
    c(
      "library(scoom)",
      sprintf("x <- readRDS(%s)", deparse(object)),
      "markers <- as.list(find_markers(x, 'cell_type'))",
      "logs <- as.matrix(x$layers$logs)",
      sprintf("saveRDS(list(markers, logs, x$obs), %s)", deparse(answer))
    ),
    script
  )
  withr::local_envvar(
    R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep),
    R_TESTS = ""
  )
  rscript <- file.path(R.home("bin"), "Rscript")
  system2(rscript, c("--vanilla", shQuote(script)), stdout = NULL)
  markers <- as.list(find_markers(x, "cell_type"))
  want <- list(markers, as.matrix(x$layers$logs), x$obs)
  expect_identical(readRDS(answer), want)
})
