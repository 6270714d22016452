# Files and requests that can't work, through the functions that users call: each is
# a condition with a class that says what is wrong and where, R goes on, and the
# object stays as it was.

expect_refused <- function(code, class, ...) {
  error <- expect_error(code, class = paste0("scoom_error_", class))
  expect_s3_class(error, "scoom_error")
  message <- conditionMessage(error)
  for (part in c(...)) {
    expect_match(message, part, fixed = TRUE)
  }
  invisible(error)
}

logged <- function(x) log1p(normalize_total(x, target_sum = 1e4))

# A table without what it says of the call.
columns_of <- function(table) lapply(table, identity)

halves <- function(x) rep_len(c("a", "b"), n_obs(x))

# Every function that reads the matrix.
readers <- function() {
  list(
    load = \(x) as.matrix(x$X),
    # S4 generics would replace the class of an error in their argument.
    sparse = \(x) {
      m <- x$X
      as(m, "dgCMatrix")
    },
    rows = \(x) {
      m <- x$X
      rowSums(m)
    },
    columns = \(x) col_vars(x$X),
    chunks = \(x) chunk_apply(x$X, dim),
    qc = \(x) calc_qc_metrics(x, gene_sets = NULL, percent_top = NULL),
    filter = \(x) filter_genes(x, min_cells = 1),
    normalize = \(x) normalize_total(x),
    variable = \(x) find_variable_genes(logged(x), n_top = 2),
    scale = \(x) as.matrix(scale_genes(logged(x))$X),
    pca = \(x) run_pca(logged(x), n_comps = 1),
    wilcoxon = \(x) find_markers(logged(x), halves(x)),
    t_test = \(x) find_markers(logged(x), halves(x), method = "t-test"),
    pseudobulk = \(x) pseudobulk(x, list(half = halves(x)))
  )
}

test_that("a missing file is named, with the folder or the near miss", {
  folder <- withr::local_tempdir()
  file.copy(example_h5ad(), file.path(folder, "atlas.h5ad"))
  expect_refused(
    open_h5ad(file.path(folder, "atlsa.h5ad")),
    "file_missing",
    "atlsa.h5ad",
    "atlas.h5ad"
  )
  nowhere <- file.path(folder, "nowhere", "atlas.h5ad")
  expect_refused(open_h5ad(nowhere), "file_missing", "no folder")
})

test_that("a folder is no file", {
  folder <- withr::local_tempdir()
  expect_refused(open_h5ad(folder), "is_directory", basename(folder))
})

test_that("a file that is not HDF5 is named", {
  path <- withr::local_tempfile(fileext = ".h5ad")
  saveRDS(mtcars, path)
  expect_refused(open_h5ad(path), "not_hdf5", basename(path))
  expect_refused(open_h5ad(bad_fixture_path("plain-text")), "not_hdf5")
  expect_refused(open_h5ad(bad_fixture_path("empty-file")), "not_hdf5")
})

test_that("a truncated file is an error wherever it ends", {
  bytes <- readBin(example_h5ad(), "raw", file.size(example_h5ad()))
  path <- withr::local_tempfile(fileext = ".h5ad")
  for (share in c(0.01, 0.1, 0.5, 0.9, 0.999)) {
    writeBin(bytes[seq_len(share * length(bytes))], path)
    expect_refused(open_h5ad(path), "truncated", basename(path))
  }
  shared <- shared_data_path("h5ad_fixtures", "scp_truncated_bad.h5")
  expect_refused(open_h5ad(shared), "truncated", "scp_truncated_bad.h5")
})

test_that("HDF5 without AnnData says what is there", {
  path <- bad_fixture_path("not-anndata")
  expect_refused(open_h5ad(path), "not_anndata", "not-anndata.h5ad")
})

test_that("functions on a file without X say so", {
  x <- open_fixture("no-x")
  withr::local_options(scoom.quiet = TRUE)
  verbs <- readers()[c("qc", "filter", "normalize", "variable", "scale")]
  for (verb in verbs) {
    expect_refused(verb(x), "x_missing", "no X", "counts")
  }
  expect_refused(find_markers(x, halves(x)), "x_missing", "no X")
  expect_refused(run_pca(x, n_comps = 2), "x_missing", "no X")
  expect_identical(dim(pseudobulk(x, list(h = halves(x)))), c(8L, 2L))
})

test_that("a matrix without values gives zeros, or says what is missing", {
  withr::local_options(scoom.quiet = TRUE)
  x <- open_fixture("no-values")
  y <- calc_qc_metrics(x, gene_sets = NULL)
  expect_identical(y$obs$total_counts, rep(0, n_obs(x)))
  expect_refused(normalize_total(x), "no_counts", "target_sum")
  z <- logged(x)
  expect_identical(
    sum(find_variable_genes(z, n_top = 3)$var$highly_variable),
    0L
  )
  expect_true(all(as.matrix(scale_genes(z)$X) == 0))
  markers <- find_markers(z, halves(x))
  expect_identical(unique(markers$p_value), 1)
  expect_identical(unique(markers$auc), 0.5)
  expect_true(all(pseudobulk(x, list(h = halves(x)))$counts == 0))
})

test_that("without cells every function gives an empty answer or says so", {
  withr::local_options(scoom.quiet = TRUE)
  x <- open_fixture("no-cells")
  answers <- readers()
  for (name in c("load", "sparse", "qc", "scale")) {
    expect_identical(nrow(answers[[name]](x)), 0L, info = name)
  }
  expect_length(answers$rows(x), 0)
  expect_length(answers$columns(x), n_vars(x))
  expect_length(answers$chunks(x), 0)
  expect_warning(answers$filter(x), class = "scoom_warning_empty_selection")
  expect_refused(answers$normalize(x), "no_counts", "no cells")
  expect_refused(answers$variable(x), "no_cells")
  expect_refused(answers$pca(x), "too_many_components", "0 cells")
  expect_refused(answers$wilcoxon(x), "one_group")
  expect_refused(answers$t_test(x), "one_group")
  expect_refused(answers$pseudobulk(x), "no_samples")
  expect_identical(dim(open_example()[integer(), ]), c(0L, 2000L))
})

test_that("without genes every function gives an empty answer or says so", {
  withr::local_options(scoom.quiet = TRUE)
  x <- open_fixture("no-genes")
  answers <- readers()
  for (name in c("load", "sparse", "qc", "filter", "scale")) {
    expect_identical(dim(answers[[name]](x)), c(6L, 0L), info = name)
  }
  expect_identical(unname(answers$rows(x)), rep(0, 6))
  expect_length(answers$columns(x), 0)
  expect_refused(answers$normalize(x), "no_counts")
  expect_identical(n_vars(answers$variable(x)), 0L)
  expect_refused(answers$pca(x), "no_features", "no genes")
  expect_identical(nrow(answers$wilcoxon(x)), 0L)
  expect_identical(nrow(answers$t_test(x)), 0L)
  pb <- answers$pseudobulk(x)
  expect_identical(dim(pb), c(0L, 2L))
  expect_identical(pb$samples$total_counts, c(0, 0))
  expect_output(print(pb), "0 x 2")
})

test_that("NaN and infinite values are refused by what would spread them", {
  withr::local_options(scoom.quiet = TRUE)
  values <- small_counts()
  values[6, 3] <- NaN
  expect_refused(object_of(values), "invalid_values")
  for (bad in c(Inf, -Inf)) {
    values[6, 3] <- bad
    x <- object_of(values)
    for (name in c("qc", "filter", "normalize", "pseudobulk")) {
      expect_refused(readers()[[name]](x), "invalid_values")
    }
    # The same values as a file that holds logarithms.
    for (method in c("wilcoxon", "t-test")) {
      expect_refused(
        suppressWarnings(find_markers(x, halves(x), method = method)),
        "invalid_values",
        "cell 6",
        "gene 3"
      )
    }
    expect_refused(run_pca(x, n_comps = 2), "invalid_values")
  }
  x <- open_fixture("nonfinite")
  for (name in c("qc", "filter", "normalize", "pseudobulk")) {
    expect_refused(suppressWarnings(readers()[[name]](x)), "invalid_values")
  }
  expect_true(anyNA(as.matrix(x$X)))
})

test_that("negative values are refused where counts are needed", {
  withr::local_options(scoom.quiet = TRUE)
  values <- small_counts()
  values[9, 4] <- -2
  x <- object_of(values)
  expect_refused(
    calc_qc_metrics(x, gene_sets = NULL),
    "invalid_values",
    obs_names(x)[[9]],
    var_names(x)[[4]]
  )
  expect_refused(filter_genes(x, min_counts = 1), "invalid_values", "negative")
  expect_refused(normalize_total(x), "invalid_values")
  expect_refused(normalize_total(x, target_sum = 1e4), "invalid_values")
  expect_refused(log1p(x), "invalid_values")
  expect_refused(pseudobulk(x, list(h = halves(x))), "not_counts", "layer")
})

test_that("damaged indices are an error in every function, and R goes on", {
  withr::local_options(scoom.quiet = TRUE)
  damaged <- c(
    "index-too-large",
    "index-negative",
    "indptr-decreasing",
    "indptr-past-end",
    "indptr-start"
  )
  # What is seen on opening is listed as unread, and touching X says so.
  unread <- c("indptr-length", "data-length")
  for (file in c(damaged, unread)) {
    class <- if (file %in% unread) "element_unread" else "corrupt"
    for (name in names(readers())) {
      info <- paste(file, name)
      error <- tryCatch(
        suppressWarnings(readers()[[name]](open_h5ad(bad_fixture_path(file)))),
        error = identity
      )
      expect_s3_class(error, paste0("scoom_error_", class))
      expect_match(conditionMessage(error), file, fixed = TRUE, info = info)
    }
  }
  expect_identical(sum(rowSums(open_example()$X) > 0), 2000L)
})

test_that("lengths that do not fit are refused with both numbers", {
  x <- open_example()
  expect_refused(
    find_markers(logged(x), c("a", "b")),
    "invalid_input",
    "2,000",
    "2 "
  )
  expect_refused(pseudobulk(x, list(g = 1:3)), "invalid_input", "2,000", "3")
  expect_refused(x$layers$a <- matrix(0, 3, 3), "wrong_shape", "2,000")
  expect_refused(x$obsm$a <- matrix(0, 3, 3), "wrong_shape", "2,000")
  expect_error(x$obs$a <- 1:3, "2000")
  expect_refused(x[c(TRUE, FALSE), ], "invalid_index", "2,000")
  touch <- list(
    `x-rows` = \(y) y,
    `x-columns` = \(y) y,
    `column-length` = \(y) obs_column(y, "x"),
    `layer-shape` = \(y) y$layers$x
  )
  for (file in names(touch)) {
    error <- tryCatch(
      suppressWarnings(touch[[file]](open_h5ad(bad_fixture_path(file)))),
      error = identity
    )
    expect_s3_class(error, "scoom_error")
    expect_match(conditionMessage(error), file, fixed = TRUE)
  }
  expect_identical(x$obs, open_example()$obs)
})

test_that("cells without a group are left out, with a message that counts them", {
  x <- logged(open_example())
  group <- as.character(x$obs$cell_type)
  group[c(3, 70, 800)] <- NA
  left_out <- "scoom_message_cells_left_out"
  expect_message(a <- find_markers(x, group), "3 cells", class = left_out)
  expect_identical(unique(a$n_group + a$n_reference), 1997L)
  x$obs$group <- group
  expect_message(b <- find_markers(x, "group"), "3 cells", class = left_out)
  expect_identical(columns_of(b), columns_of(a))
  expect_message(pb <- pseudobulk(x, "group"), "3 cells", class = left_out)
  expect_identical(sum(pb$samples$n_cells), 1997L)
  expect_refused(find_markers(x, rep(NA, 2000)), "invalid_group")
})

test_that("one group alone can't be compared", {
  x <- logged(open_example())
  for (method in c("wilcoxon", "t-test")) {
    expect_refused(
      find_markers(x, rep("all", 2000), method = method),
      "one_group",
      "all"
    )
  }
  y <- x[x$obs$donor == "D1", ]
  expect_refused(find_markers(y, "donor"), "one_group", "D1")
  expect_identical(ncol(pseudobulk(y, "donor")), 1L)
})

test_that("a group of one cell is skipped with a warning and stays in the rest", {
  x <- logged(open_example())[, 1:50]
  group <- as.character(x$obs$cell_type)
  group[[17]] <- "lonely"
  for (method in c("wilcoxon", "t-test")) {
    expect_warning(
      markers <- find_markers(x, group, method = method),
      "lonely",
      class = "scoom_warning_groups_skipped"
    )
    expect_false("lonely" %in% markers$group)
    expect_identical(unique(markers$n_group + markers$n_reference), 2000L)
  }
})

test_that("unknown columns, layers and genes come with what was meant", {
  x <- calc_qc_metrics(open_example())
  y <- logged(x)
  y$layers$counts <- x$X
  column <- "column_missing"
  expect_refused(
    find_markers(y, "celltype"),
    column,
    "celltype",
    "\"cell_type\"?"
  )
  expect_refused(pseudobulk(y, "doner"), column, "doner", "\"donor\"?")
  expect_refused(filter_cells(x, pct_mtt < 5), column, "\"pct_mt\"?")
  expect_refused(filter_genes(x, n_cell > 5), column, "\"n_cells\"?")
  layer <- "layer_missing"
  for (read in list(
    \() find_markers(y, "cell_type", layer = "count"),
    \() pseudobulk(y, "donor", layer = "count"),
    \() calc_qc_metrics(y, layer = "count"),
    \() filter_genes(y, min_cells = 3, layer = "count"),
    \() run_pca(y, layer = "count"),
    \() find_variable_genes(y, layer = "count"),
    \() y$layers$count
  )) {
    expect_refused(read(), layer, "\"counts\"?")
  }
  gene <- "gene_missing"
  for (read in list(
    \() y[, "MS4A11"],
    \() y$X[, "MS4A11"],
    \() find_markers(y, "cell_type", features = "MS4A11"),
    \() run_pca(y, features = c("LYZ", "MS4A11"))
  )) {
    expect_refused(read(), gene, "MS4A11", "\"MS4A1\"?")
  }
  expect_refused(
    find_markers(y, "cell_type", groups = "T cells"),
    "group_missing",
    "\"T cell\"?"
  )
})

test_that("repeated names warn on opening, and a name alone is ambiguous", {
  expect_warning(
    expect_warning(
      x <- open_h5ad(fixture_path("duplicate-names")),
      class = "scoom_warning_duplicate_names"
    ),
    class = "scoom_warning_duplicate_names"
  )
  repeated <- x$var_names[[anyDuplicated(x$var_names)]]
  expect_refused(x[, repeated], "ambiguous_name", repeated)
  expect_refused(x$X[, repeated], "ambiguous_name", repeated)
})

test_that("directives and braces in paths, names and values are only text", {
  folder <- withr::local_tempdir()
  odd <- "%s%n {x} <y>"
  path <- file.path(folder, paste0(odd, ".h5ad"))
  expect_refused(open_h5ad(path), "file_missing", odd)
  file.copy(example_h5ad(), path)
  x <- open_h5ad(path)
  expect_output(print(x), odd, fixed = TRUE)
  x$obs[[odd]] <- x$obs$cell_type
  y <- logged(x)
  expect_identical(
    columns_of(find_markers(y, odd)),
    columns_of(find_markers(y, "cell_type"))
  )
  missing <- paste(odd, "%d")
  expect_refused(find_markers(y, missing), "column_missing", missing)
  expect_refused(y[, missing], "gene_missing", missing)
  expect_refused(calc_qc_metrics(y, layer = missing), "layer_missing", missing)
  expect_refused(
    find_markers(y, odd, groups = missing),
    "group_missing",
    missing
  )
  writeBin(as.raw(1:200), path)
  expect_refused(rowSums(x$X), "file_changed", odd)
  expect_refused(open_h5ad(path), "not_hdf5", odd)
})

test_that("what is logged or scaled already is named, whatever holds it", {
  withr::local_options(scoom.quiet = TRUE)
  counts <- as.matrix(open_example()$X[1:40, 1:30])
  logs <- log1p(counts / pmax(rowSums(counts), 1) * 1e4)
  logged <- object_of(unname(logs))
  z <- scale(logs)
  z[!is.finite(z)] <- 0
  scaled <- object_of(unname(z))
  chain <- scale_genes(log1p(normalize_total(object_of(counts), 1e4)))
  # name -> verb, classes for logarithms, z-scores and a chain that scales; NA for none.
  cases <- list(
    list(normalize_total, "already_logged", "invalid_values", "already_logged"),
    list(log1p, "already_logged", "invalid_values", "already_logged"),
    list(
      normalize_pearson_residuals,
      "already_logged",
      "invalid_values",
      "already_scaled"
    ),
    list(
      \(x) downsample_counts(x, 10),
      "not_counts",
      "invalid_values",
      "not_counts"
    ),
    list(
      \(x) find_variable_genes(x, flavor = "seurat_v3", n_top = 5),
      "not_counts",
      "invalid_values",
      NA
    ),
    list(\(x) find_variable_genes(x, n_top = 5), NA, "invalid_values", NA),
    list(
      \(x) find_doublets(x, n_comps = 2),
      "not_counts",
      "invalid_values",
      NA
    ),
    list(scale_genes, NA, NA, "already_scaled"),
    list(
      \(x) run_pipeline(x, n_comps = 5, n_neighbors = 5, min_genes = 1),
      "already_logged",
      "invalid_values",
      "already_processed"
    )
  )
  objects <- list(logged, scaled, chain)
  for (case in cases) {
    for (k in seq_along(objects)) {
      run <- \() suppressWarnings(case[[1]](objects[[k]]))
      if (is.na(case[[k + 1]])) {
        expect_no_error(run())
      } else {
        expect_refused(run(), case[[k + 1]])
      }
    }
  }
})

test_that("a pipeline looks at the values before it spends a pass on them", {
  withr::local_options(scoom.quiet = TRUE)
  counts <- as.matrix(open_example()$X[1:40, 1:30])
  logs <- log1p(counts / pmax(rowSums(counts), 1) * 1e4)
  error <- expect_refused(
    run_pipeline(object_of(unname(logs)), n_comps = 5, n_neighbors = 5),
    "already_logged",
    "logarithms"
  )
  expect_identical(as.character(conditionCall(error)[[1]]), "run_pipeline")
})

test_that("names of another species are pointed out for the cell cycle", {
  withr::local_options(scoom.quiet = TRUE)
  x <- logged(open_example()[1:60, 1:100])
  error <- suppressWarnings(expect_refused(
    score_cell_cycle(x),
    "empty_gene_set",
    "mouse"
  ))
  expect_identical(as.character(conditionCall(error)[[1]]), "score_cell_cycle")
})

test_that("messages count what they are about", {
  withr::local_options(scoom.quiet = TRUE)
  x <- logged(open_example()[1:60, 1:100])
  x$obs$batch <- rep_len(c("a", "b", "c", "c"), 60)
  x$obs$age <- seq_len(60)
  x$obs$share <- seq_len(60) / 7
  expect_warning(
    score_genes(x, list(a = c(var_names(x)[1:9], "u", "v")), n_bins = 3),
    "2 genes of the set a are not there"
  )
  expect_refused(
    combat(x[1:3, ], "batch"),
    "small_batch",
    "\"c\" of batch have one"
  )
  expect_refused(
    combat(x[c(1, 3, 4), ], "batch"),
    "small_batch",
    "\"a\" of batch has one"
  )
  expect_refused(combat(x, "share"), "invalid_group", "not whole")
  expect_refused(regress_out(x[1, ], "age"), "too_few_cells", "1 cell leaves")
  expect_refused(
    find_variable_genes(x[1:3, ], n_top = 5, batch_key = "batch"),
    "too_few_cells",
    "3 batches for 3 cells"
  )
  y <- suppressMessages(run_pca(x, 3))[c(1, 2, 3, 4, 7, 8, 11, 12), ]
  y$obs$batch[5:8] <- "c"
  expect_warning(
    suppressWarnings(
      run_harmony(y, "batch", n_clusters = 1),
      classes = "scoom_warning_not_converged"
    ),
    "2 batches of batch have one cell",
    class = "scoom_warning_small_batches"
  )
})

test_that("a failure leaves the object, options and the random seed alone", {
  x <- logged(open_example())
  before <- x
  withr::local_seed(1)
  seed <- get(".Random.seed", globalenv())
  settings <- options()
  expect_error(find_markers(x, "nope"))
  expect_error(run_pca(x, n_comps = 1e6))
  expect_error(rowSums(open_h5ad(bad_fixture_path("index-too-large"))$X))
  expect_identical(x, before)
  expect_identical(get(".Random.seed", globalenv()), seed)
  expect_identical(options(), settings)
})

test_that("stored values that look scaled are told by verbs that want logarithms", {
  counts <- small_counts()[1:20, 1:8]
  values <- scale(counts[, colSums(counts) > 0])
  x <- object_of(values)
  x$obs$batch <- rep_len(c("a", "b"), 20)
  x$obs$depth <- sqrt(seq_len(20))
  set <- list(set = var_names(x)[1:2])
  scaled <- "scoom_message_looks_scaled"
  expect_message(regress_out(x, "depth"), "scaled already", class = scaled)
  expect_message(combat(x, "batch"), "scaled already", class = scaled)
  score <- \(x, ...) score_genes(x, set, ctrl_size = 2, n_bins = 2, ...)
  expect_message(score(x), "scaled already", class = scaled)
  x$layers$z <- values
  x$X <- base::log1p(counts[, seq_len(n_vars(x))])
  expect_message(score(x, layer = "z"), "layers\\$z", class = scaled)
  regress <- \(x) regress_out(x, "depth")
  for (verb in list(regress, \(x) combat(x, "batch"), score)) {
    expect_no_message(verb(x), class = scaled)
  }
})
