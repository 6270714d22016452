# float64 sums of the same numbers in another order: 1e-12 is ample.

pbmc3k_scored <- function(..., genes = cell_cycle_genes()$s_genes) {
  x <- pbmc3k_logged()
  x <- suppressWarnings(
    score_genes(x, list(found = genes), ...),
    classes = "scoom_warning_genes_absent"
  )
  x$obs$found[1:300]
}

test_that("scores are scanpy's where nothing is random", {
  wanted <- reference_table("scores", "pbmc3k")
  # More controls than any bin has.
  found <- pbmc3k_scored(ctrl_size = 1e6)
  expect_equal(found, wanted$all_ref, tolerance = 1e-12)
  found <- pbmc3k_scored(ctrl_size = 1e6, ctrl_as_ref = FALSE)
  expect_equal(found, wanted$all_other, tolerance = 1e-12)
  found <- pbmc3k_scored(ctrl_size = 1e6, n_bins = 10)
  expect_equal(found, wanted$all_bins, tolerance = 1e-12)
  all <- reference_names("pbmc3k", "genes")
  s <- intersect(cell_cycle_genes()$s_genes, all)
  pool <- union(all[seq(1, length(all), 3)], s)
  found <- pbmc3k_scored(ctrl_size = 1e6, gene_pool = pool)
  expect_equal(found, wanted$all_pool, tolerance = 1e-12)
})

test_that("scores are scanpy's with its control genes", {
  wanted <- reference_table("scores", "pbmc3k")
  drawn <- \(name) reference_names("scores", name)
  found <- pbmc3k_scored(control_genes = drawn("drawn"))
  expect_equal(found, wanted$drawn, tolerance = 1e-12)
  given <- list(S_score = drawn("S_score"), G2M_score = drawn("G2M_score"))
  x <- suppressWarnings(
    score_cell_cycle(pbmc3k_logged(), control_genes = given),
    classes = "scoom_warning_genes_absent"
  )
  obs <- x$obs[1:300, ]
  expect_equal(obs$S_score, wanted$S_score, tolerance = 1e-12)
  expect_equal(obs$G2M_score, wanted$G2M_score, tolerance = 1e-12)
  expect_equal(as.character(obs$phase), drawn("phase"))
  kept <- x$uns$gene_scores$S_score
  expect_setequal(kept$control_genes, given$S_score)
  expect_setequal(
    kept$genes,
    intersect(cell_cycle_genes()$s_genes, var_names(x))
  )
})

test_that("interferon genes tell stimulated cells apart, as in scanpy", {
  local_quiet()
  x <- open_h5ad(shared_data_path(
    "counts",
    "kang2018_pbmc_ifnb_2000cells.h5ad"
  ))
  x <- filter_genes(x, min_cells = 3) |>
    normalize_total(target_sum = 1e4) |>
    log1p()
  set <- strsplit(
    "ISG15 IFI6 IFIT1 IFIT2 IFIT3 MX1 OAS1 ISG20 LY6E IFI44L",
    " "
  )
  set <- stats::setNames(set, "interferon")
  wanted <- reference_table("scores", "kang2018")
  drawn <- reference_names("scores", "kang2018_interferon")
  given <- score_genes(x, set, control_genes = drawn)$obs
  expect_equal(given$interferon[1:300], wanted$interferon, tolerance = 1e-12)
  all <- score_genes(x, set, ctrl_size = 1e6)$obs
  expect_equal(all$interferon[1:300], wanted$all_ref, tolerance = 1e-12)
  # Other controls hardly matter: the ranks of cells stay.
  own <- score_genes(x, set, seed = 5)$obs
  rho <- stats::cor(own$interferon, given$interferon, method = "spearman")
  expect_gt(rho, 0.95)
  rank <- rank(own$interferon)
  stim <- own$condition == "stim"
  auc <- (sum(rank[stim]) - sum(stim) * (sum(stim) + 1) / 2) /
    (sum(stim) * sum(!stim))
  expect_gt(auc, 0.95)
})

test_that("missing values are left out as in scanpy", {
  values <- as.matrix(reference_table("scores", "missing_values"))
  found <- rs_unwrap(rs_score_means(
    list(matrix = engine_matrix(t(values)), ops = list()),
    list(),
    scoom_ctx(),
    NULL
  ))
  expect_equal(found, unname(colMeans(values, na.rm = TRUE)), tolerance = 1e-12)
  drawn <- draw_controls(
    found,
    1:30,
    list(s = c(2L, 5L, 7L)),
    list(
      method = "scanpy",
      ctrl_size = 1e6,
      n_bins = 5,
      ctrl_as_ref = FALSE,
      seed = 0
    ),
    NULL
  )
  score <- rs_unwrap(rs_score_sets(
    list(matrix = engine_matrix(t(values)), ops = list()),
    list(sets = list(c(2, 5, 7)), controls = unname(drawn)),
    scoom_ctx(),
    NULL
  ))[[1]]
  wanted <- reference_table("scores", "missing")$score
  expect_equal(is.na(score), is.na(wanted))
  expect_equal(score, wanted, tolerance = 1e-12)
})

test_that("scores are Seurat's where nothing is random", {
  skip_if_not_installed("Seurat")
  skip_if_not_installed("SeuratObject")
  x <- log_chain(open_example())[1:200, ]
  m <- Matrix::t(as(x$X, "dgCMatrix"))
  object <- suppressWarnings(SeuratObject::CreateSeuratObject(m))
  object <- SeuratObject::SetAssayData(object, "data", m)
  genes <- rownames(m)[order(-Matrix::rowMeans(m))]
  sets <- list(S_score = genes[1:6], G2M_score = genes[seq(7, 40, 4)])
  pool <- genes[1:80]
  # One bin, all of whose genes are drawn.
  wanted <- suppressWarnings(
    Seurat::AddModuleScore(object, sets, pool = pool, nbin = 1, ctrl = 80)
  )
  found <- score_genes(
    x,
    sets,
    "seurat",
    gene_pool = pool,
    n_bins = 1,
    ctrl_size = 80
  )
  expect_equal(found$obs$S_score, unname(wanted$Cluster1), tolerance = 1e-12)
  expect_equal(found$obs$G2M_score, unname(wanted$Cluster2), tolerance = 1e-12)
  wanted <- suppressWarnings(Seurat::CellCycleScoring(
    object,
    sets$S_score,
    sets$G2M_score,
    pool = pool,
    nbin = 1,
    ctrl = 80
  ))
  found <- score_cell_cycle(
    x,
    sets$S_score,
    sets$G2M_score,
    method = "seurat",
    gene_pool = pool,
    n_bins = 1,
    ctrl_size = 80
  )
  expect_equal(
    as.character(found$obs$phase),
    unname(as.character(wanted$Phase))
  )
})

test_that("Seurat's controls come from ggplot2's bins", {
  skip_if_not_installed("ggplot2")
  x <- log_chain(open_example())
  means <- unname(colMeans(x$X))
  names(means) <- var_names(x)
  pool <- names(means)[means > 0]
  bins <- ggplot2::cut_number(means[pool], 24, labels = FALSE, right = FALSE)
  names(bins) <- pool
  set <- pool[c(3, 50, 51, 200)]
  sets <- stats::setNames(as.list(set), set)
  size <- min(table(bins)) - 2
  x <- score_genes(x, sets, "seurat", gene_pool = pool, ctrl_size = size)
  for (gene in set) {
    controls <- x$uns$gene_scores[[gene]]$control_genes
    expect_length(unique(controls), size)
    expect_true(all(bins[controls] == bins[[gene]]))
  }
})

test_that("controls follow from the seed and the genes, not from other sets", {
  x <- log_chain(open_example())
  genes <- var_names(x)
  sets <- list(a = genes[1:10], b = genes[20:50], c = genes[c(5, 90)])
  for (method in c("scanpy", "seurat")) {
    size <- if (method == "scanpy") 5 else 8
    score <- \(sets, ...) {
      score_genes(x, sets, method, ctrl_size = size, ...)
    }
    together <- score(sets)
    apart <- x
    for (name in rev(names(sets))) {
      apart <- score_genes(apart, sets[name], method, ctrl_size = size)
    }
    expect_identical(
      together$obs[c("a", "b", "c")],
      apart$obs[c("a", "b", "c")]
    )
    for (name in names(sets)) {
      expect_identical(
        together$uns$gene_scores[[name]],
        apart$uns$gene_scores[[name]]
      )
    }
    other <- score(sets, seed = 1)
    expect_false(identical(other$obs$a, together$obs$a))
    again <- score_genes(
      x,
      sets,
      method,
      control_genes = lapply(together$uns$gene_scores, `[[`, "control_genes")
    )
    expect_identical(again$obs$b, together$obs$b)
  }
})

test_that("scores are differences of means", {
  local_quiet()
  x <- object_of(small_counts())
  x <- score_genes(x, list(s = c(1, 3, 3)), control_genes = c(2, 5, 12))
  m <- dense(x)
  wanted <- rowMeans(m[, c(1, 3)]) - rowMeans(m[, c(2, 5, 12)])
  expect_equal(x$obs$s, wanted, tolerance = 1e-14)
  # Repeated and reordered cells, other genes.
  y <- x[c(7, 7, 30, 1), c(3, 1, 2, 5, 12)]
  y <- score_genes(y, c(1, 2), control_genes = 3:5)
  expect_equal(y$obs$score, wanted[c(7, 7, 30, 1)], tolerance = 1e-14)
})

test_that("known means are used, and give the same scores", {
  x <- log_chain(open_example())
  genes <- var_names(x)[1:30]
  fresh <- score_genes(x, genes)$obs$score
  y <- find_variable_genes(x, n_top = 200)
  expect_false(is.null(remembered_means(y, x_recipe(y))))
  expect_identical(score_genes(y, genes)$obs$score, fresh)
  # Of other cells they do not hold.
  expect_null(remembered_means(y[1:50, ], x_recipe(y[1:50, ])))
  z <- y[, 11:300]
  expect_equal(remembered_means(z, x_recipe(z)), unname(colMeans(z$X)))
})

test_that("scaled and raw values are pointed out", {
  x <- open_example()
  genes <- var_names(x)[1:10]
  expect_message(
    score_genes(x, genes),
    class = "scoom_message_not_normalized"
  )
  logged <- log_chain(x)
  expect_message(
    scaled <- score_genes(scale_genes(logged), genes),
    class = "scoom_message_before_scaling"
  )
  expect_identical(scaled$obs$score, score_genes(logged, genes)$obs$score)
})

test_that("layers and raw", {
  local_quiet()
  x <- open_example()
  genes <- var_names(x)[1:10]
  x$layers$twice <- as(x$X, "dgCMatrix") * 2
  one <- score_genes(x, genes)$obs$score
  expect_equal(score_genes(x, genes, layer = "twice")$obs$score, 2 * one)
  expect_error(
    score_genes(x, genes, use_raw = TRUE),
    class = "scoom_error_raw_missing"
  )
  expect_error(
    score_genes(x, genes, layer = "twice", use_raw = TRUE),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    score_genes(x, genes, layer = "none"),
    class = "scoom_error_layer_missing"
  )
  path <- shared_data_path("h5ad_fixtures", "scanpy_10x_pbmc68k_reduced.h5ad")
  withr::local_options(scoom.quiet = FALSE)
  x <- suppressWarnings(open_h5ad(path))
  expect_message(
    score_genes(x, var_names(x)[1:5]),
    class = "scoom_message_raw_not_used"
  )
  found <- score_genes(x, "CD3D", use_raw = TRUE, control_genes = "HES4")
  raw <- as.matrix(x$raw$X[, c("CD3D", "HES4")])
  expect_equal(found$obs$score, unname(raw[, 1] - raw[, 2]), tolerance = 1e-12)
})

test_that("threads, workers and storages do not matter", {
  skip_if_not_installed("BiocParallel")
  local_quiet()
  withr::local_options(scoom.range_values = 1000)
  workers <- BiocParallel::MulticoreParam(2)
  reference <- NULL
  for (storage in c("engine-csr", "engine-csc", "engine-dense")) {
    x <- open_fixture(storage)
    sets <- list(a = seq(1, n_vars(x), 3), b = 1:5)
    score <- \(...) {
      y <- score_genes(
        open_fixture(storage),
        sets,
        ctrl_size = 7,
        n_bins = 5,
        ...
      )
      list(y$obs[c("a", "b")], y$uns$gene_scores)
    }
    one <- score(threads = 1)
    expect_identical(score(threads = 4), one)
    expect_identical(score(BPPARAM = workers), one)
    reference <- reference %||% one
    expect_equal(one, reference, tolerance = 1e-12)
  }
})

test_that("what can't be scored", {
  local_quiet()
  x <- log_chain(open_example())
  genes <- var_names(x)
  expect_warning(
    y <- score_genes(x, c(genes[1:5], "nonsense")),
    class = "scoom_warning_genes_absent"
  )
  expect_identical(y$obs$score, score_genes(x, genes[1:5])$obs$score)
  expect_error(
    suppressWarnings(score_genes(x, list(a = genes[1:3], b = "nonsense"))),
    class = "scoom_error_empty_gene_set"
  )
  expect_error(
    score_genes(x, list(a = character())),
    class = "scoom_error_empty_gene_set"
  )
  pool <- genes[50:400]
  expect_error(
    score_genes(x, genes[1:60], gene_pool = pool),
    class = "scoom_error_outside_pool"
  )
  # All that a bin has is the set.
  expect_error(
    score_genes(x, genes[1:3], gene_pool = genes[1:3], n_bins = 2),
    class = "scoom_error_no_controls"
  )
  expect_error(
    score_genes(x, genes[1:3], control_genes = character()),
    class = "scoom_error_no_controls"
  )
  expect_error(
    score_genes(x, genes[1:3], gene_pool = genes[1:5]),
    class = "scoom_error_invalid_input"
  )
  expect_error(
    score_genes(x, genes[1:3], "seurat", ctrl_size = 1e4),
    class = "scoom_error_invalid_input"
  )
  expect_error(score_genes(x[0, ], genes[1:3]), class = "scoom_error_no_cells")
  expect_error(
    score_genes(x[, 0], genes[1:3]) |> suppressWarnings(),
    class = "scoom_error_empty_gene_set"
  )
  expect_no_error(score_genes(x[1, ], genes[1:3]))
})

test_that("a bin without controls is pointed out", {
  local_quiet()
  # Ranks 1 to 12 in bins of three: the last gene is alone in its bin.
  x <- object_of(matrix(1:12, 4, 12, byrow = TRUE))
  expect_warning(
    y <- score_genes(x, c(12, 1), n_bins = 5),
    class = "scoom_warning_empty_bins"
  )
  expect_false(anyNA(y$obs$score))
})

test_that("arguments are checked", {
  x <- open_example()
  genes <- var_names(x)[1:5]
  invalid <- list(
    list(),
    list(list(genes)),
    list(list(a = genes, a = genes)),
    list(list(a = TRUE, b = list(1))),
    list(genes, method = "other"),
    list(genes, ctrl_size = 0),
    list(genes, n_bins = 1),
    list(genes, n_bins = 2.5),
    list(genes, ctrl_as_ref = NA),
    list(genes, method = "seurat", ctrl_as_ref = FALSE),
    list(genes, seed = -1),
    list(genes, control_genes = list(other = genes)),
    list(genes, use_raw = "yes"),
    list(genes, layer = 3),
    list(genes, threads = 0)
  )
  for (args in invalid) {
    expect_error(
      suppressMessages(do.call(score_genes, c(list(x), args))),
      class = "scoom_error_invalid_input"
    )
  }
  expect_error(score_genes(1, genes), class = "scoom_error_invalid_input")
  expect_error(
    score_cell_cycle(x, s_genes = list(genes)),
    class = "scoom_error_invalid_input"
  )
  expect_error(cell_cycle_genes("rat"), class = "scoom_error_invalid_input")
})

test_that("the genes of the cell cycle are those of Tirosh et al.", {
  human <- cell_cycle_genes()
  expect_named(human, c("s_genes", "g2m_genes"))
  expect_equal(lengths(human, use.names = FALSE), c(43, 54))
  expect_equal(anyDuplicated(unlist(human)), 0)
  mouse <- cell_cycle_genes("mouse")
  expect_equal(toupper(unlist(mouse)), unlist(human))
  expect_equal(mouse$s_genes[1:2], c("Mcm5", "Pcna"))
  skip_if_not_installed("Seurat")
  wanted <- Seurat::cc.genes
  expect_equal(human$s_genes, wanted$s.genes)
  expect_equal(human$g2m_genes, wanted$g2m.genes)
})

test_that("the phase of a cell", {
  local_quiet()
  values <- rbind(c(3, 0, 1, 1), c(0, 3, 1, 1), c(0, 0, 1, 1), c(2, 2, 1, 1))
  x <- object_of(values)
  phase <- \(method) {
    y <- score_cell_cycle(x, 1, 2, method = method, control_genes = 3:4)
    y$obs$phase
  }
  expect_equal(as.character(phase("scanpy")), c("S", "G2M", "G1", "S"))
  expect_equal(as.character(phase("seurat")), c("S", "G2M", "G1", "Undecided"))
  expect_equal(levels(phase("scanpy")), c("G1", "S", "G2M"))
})

test_that("scores take one read where the means are known, otherwise two", {
  local_quiet()
  reads <- \(code) {
    before <- file_reads()
    force(code)
    file_reads() - before
  }
  x <- log1p(normalize_total(open_example(), target_sum = 1e4))
  set <- list(set = var_names(x)[1:5])
  expect_equal(reads(score_genes(x, set)), 2, tolerance = 1e-6)
  known <- find_variable_genes(open_example() |> log1p(), n_top = 100)
  expect_equal(reads(score_genes(known, set)), 1, tolerance = 1e-6)
})
