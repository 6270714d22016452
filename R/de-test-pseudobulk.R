#' Test between conditions, sample by sample
#'
#' Compares conditions within every cell type on the summed counts of [pseudobulk()],
#' so that the sample is the unit, not the cell. The tests are those of edgeR,
#' limma, DESeq2 and glmGamPoi, run by these packages.
#'
#' @details
#' For each cell type:
#'
#' 1. The rows of the design for its samples. Columns of levels without samples are
#'    dropped; a contrast that can't be estimated from what is left is skipped.
#' 2. Genes with few counts are set aside as by `edgeR::filterByExpr()` with the design,
#'    `min_count`, and `min.total.count` 1.5 times that.
#' 3. The method:
#'    * `"edgeR"`: `calcNormFactors()` (TMM), `estimateDisp()` before version 4,
#'      `glmQLFit()`, and `glmQLFTest()`, or `glmTreat()` where `min_log2_fc` is given. The
#'      quasi-likelihoods of versions 3 and 4 differ; the version is printed with the table.
#'    * `"limma_voom"`: TMM, `voom()`, `lmFit()`, `eBayes()`, or `treat()`.
#'    * `"DESeq2"`: `DESeq()` and `results()` (Wald tests) without independent
#'      filtering, size factors of type `"poscounts"` where every gene has a zero;
#'      `lfcThreshold` where `min_log2_fc` is given (twice the near tail; newer versions add
#'      up both tails).
#'    * `"glmGamPoi"`: `glm_gp()` and `test_de()`. It has no test against `min_log2_fc`: that is
#'      its quasi-likelihood ratio against the model whose contrast is held at either
#'      end of the threshold, with the two tails of `treat()`.
#'    * `"t_test"`: t tests of a linear model of log2 counts per million with the prior
#'      count 2. It needs no package and is the weakest; it runs only when named.
#' 4. p-values are adjusted within a cell type and contrast (`p_adj`), and for each
#'    contrast over all cell types (`p_adj_global`), over the genes that were tested.
#'
#' Samples of a few cells are noisy: `pseudobulk(min_cells = 10)` leaves them out. Two
#' samples a side are the least; results from fewer than four are fragile. Mixed
#' models of single cells (such as NEBULA) are not there.
#'
#' A design column that is numeric is a covariate; columns of `by` are factors.
#' Where each donor has samples of both conditions, `~ donor + condition` compares
#' within donors.
#'
#' @param pb The result of [pseudobulk()], sums of counts.
#' @param design A formula of columns of `pb$samples`.
#' @param contrast What to test, one of these or a list of several, whose names become
#'   labels:
#'   * the name of a coefficient, such as `"conditionstim"` or `"conditionstim:sexM"`;
#'   * `c("condition", "stim", "ctrl")`: the level `stim` against `ctrl`;
#'   * an expression of coefficients, such as `"conditionstim - conditionctrl"`;
#'   * a numeric vector of weights, one for each coefficient, or named.
#'
#'   `NULL`: every coefficient of the last term.
#' @param cell_type The column of `pb$samples` whose values are tested one by one;
#'   `NULL` to test all samples together.
#' @param method Which test, see Details.
#' @param min_log2_fc Test whether the log2 fold change is larger than this in size,
#'   rather than different from zero.
#' @param robust edgeR and limma: keep genes of outlying variance from deciding how
#'   much information genes share.
#' @param min_count Counts that a gene needs, in a library of median size, in as many
#'   samples as the smallest group has. 0 tests all genes with counts.
#' @param min_samples Samples that each side of a contrast needs.
#' @param p_adjust How p-values are adjusted: `"BH"`, `"BY"`, `"bonferroni"`, `"holm"` or
#'   `"none"`.
#' @param BPPARAM A BiocParallel backend whose workers share the cell types, or `NULL`.
#'
#' @returns A data frame of class `scoom_pseudobulk_tests`, with a row for each cell type,
#'   contrast and gene, genes by p-value:
#'
#' * `feature`, `cell_type`, `contrast`.
#' * `log2_fc`: log2 fold change as the package estimates it.
#' * `mean_expr`: edgeR, limma and t tests: average log2 counts per million; DESeq2
#'   and glmGamPoi: mean of normalised counts.
#' * `statistic`: edgeR and glmGamPoi: F (`NA` with `min_log2_fc`); limma and t tests: t;
#'   DESeq2: Wald's z.
#' * `p_value`, `p_adj`, `p_adj_global`.
#' * `reason`: why a gene has no p-value: `"few counts"`, `"no counts"`, `"outlier"`
#'   (DESeq2: a single sample decides, by Cook's distance) or `"not fitted"`; otherwise `NA`.
#'
#' Attributes: `cell_types`, a data frame of `cell_type`, `n_samples`, `df_residual`, `n_genes`
#' tested; `skipped`, a data frame of `cell_type`, `contrast` (`NA`: all), `n_samples`, `reason`;
#' `fit`, for each cell type the fitted object of the package; `design`, `model`, the
#' formula as text and its matrix; `contrasts`, the weights; `method`, `version`.
#' @references
#' Squair et al. (2021) Nat. Commun. 12, 5692. Crowell et al. (2020) Nat. Commun. 11,
#' 6077. edgeR: Chen, Lun & Smyth (2016) F1000Research 5, 1438. voom: Law et al. (2014)
#' Genome Biol. 15, R29. Robust: Phipson et al. (2016) Ann. Appl. Stat. 10, 946. treat:
#' McCarthy & Smyth (2009) Bioinformatics 25, 765. DESeq2: Love, Huber & Anders (2014)
#' Genome Biol. 15, 550. glmGamPoi: Ahlmann-Eltze & Huber (2020) Bioinformatics 36, 5701.
#' @seealso [pseudobulk()], [check_calibration()], [find_markers()] for markers of cell types
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' pb <- pseudobulk(x, by = c("donor", "condition", "cell_type"), min_cells = 10)
#' de <- test_pseudobulk(pb, design = ~condition, method = "t_test")
#' de
#' attr(de, "cell_types")
#' @examplesIf requireNamespace("edgeR", quietly = TRUE)
#' x <- open_h5ad(example_h5ad())
#' pb <- pseudobulk(x, by = c("donor", "condition", "cell_type"), min_cells = 10)
#' test_pseudobulk(
#'   pb,
#'   design = ~ sex + condition,
#'   contrast = c("condition", "stim", "ctrl")
#' )
test_pseudobulk <- function(
  pb,
  design,
  contrast = NULL,
  cell_type = "cell_type",
  method = c("edgeR", "limma_voom", "DESeq2", "glmGamPoi", "t_test"),
  min_log2_fc = 0,
  robust = TRUE,
  min_count = 10,
  min_samples = 2,
  p_adjust = c("BH", "BY", "bonferroni", "holm", "none"),
  BPPARAM = NULL
) {
  call <- current_env()
  check_given(pb, "the result of {.fn pseudobulk}")
  check_given(design, "a formula, such as {.code ~ donor + condition}")
  method <- check_choice(method, pseudobulk_methods)
  check_sums(pb, call)
  check_string(cell_type, allow_null = TRUE)
  check_number(min_log2_fc, min = 0)
  check_flag(robust)
  check_number(min_count, min = 0)
  check_count(min_samples, min = 1)
  p_adjust <- check_choice(p_adjust, p_adjust_methods)
  packages <- pseudobulk_engines()[[method]]$packages
  check_suggested(packages, "BiocManager::install", call)

  samples <- design_samples(pb$samples, pb$varying, design, call)
  types <- sample_types(samples, cell_type, call)
  model <- design_model(design, samples, call)
  contrasts <- design_contrasts(contrast, model, call)
  tell_repeated(samples, types, setdiff(pb$by, c(cell_type, all.vars(design))))

  tasks <- lapply(set_names(levels(types)), \(type) {
    rows <- which(types == type)
    task <- reduce_design(model$matrix[rows, , drop = FALSE], contrasts)
    task$sample_names <- rownames(samples)[rows]
    task$skip <- contrast_skips(task, min_samples)
    task
  })
  options <- list(
    min_log2_fc = min_log2_fc,
    robust = robust,
    min_count = min_count
  )
  answers <- fit_cell_types(tasks, pb$counts, method, options, BPPARAM, call)
  skipped <- skipped_tests(tasks, answers)
  tell_skipped_tests(skipped, tasks, answers, call)
  new_pseudobulk_tests(
    tasks,
    answers,
    genes = rownames(pb$counts),
    contrasts = contrasts,
    p_adjust = p_adjust,
    attributes = list(
      skipped = skipped,
      model = model$matrix,
      contrasts = contrasts,
      design = deparse1(design),
      method = method,
      version = if (length(packages)) {
        as.character(utils::packageVersion(packages[[1]]))
      }
    )
  )
}

check_sums <- function(pb, call) {
  if (!inherits(pb, "scoom_pseudobulk")) {
    what <- "the result of {.fn pseudobulk}"
    abort_type(pb, what, "pb", call)
  }
  if (pb$fun != "sum") {
    scoom_abort(
      c(
        "Tests need sums of counts.",
        x = "{.arg pb} holds means.",
        i = "Use {.code pseudobulk(fun = \"sum\")}."
      ),
      class = "not_sums",
      call = call
    )
  }
  values <- if (is.matrix(pb$counts)) pb$counts else pb$counts@x
  if (!all(is.finite(values)) || !is_whole(values)) {
    scoom_abort(
      c(
        "Tests need sums of counts.",
        x = "{.arg pb} has values that are negative or not whole.",
        i = "Sum the layer with raw counts. Counts that were corrected, such as for ambient RNA, can be rounded: {.code pb$counts <- round(pb$counts)}."
      ),
      class = "not_counts",
      call = call
    )
  }
}

# The cell type of each sample; one level where there are none.
sample_types <- function(samples, cell_type, call) {
  if (is.null(cell_type)) {
    return(factor(rep("all", nrow(samples)), "all"))
  }
  if (!cell_type %in% names(samples)) {
    abort_missing(
      cell_type,
      names(samples),
      "column of the samples",
      "column_missing",
      call,
      hint = "{.code cell_type = NULL} tests all samples together."
    )
  }
  types <- key_factor(samples[[cell_type]])
  if (anyNA(types)) {
    scoom_abort(
      "{.field {cell_type}} has samples without a value.",
      class = "invalid_group",
      call = call
    )
  }
  types
}

# Samples that share a donor, say, are alike: the design should know.
tell_repeated <- function(samples, types, columns) {
  repeated <- Filter(
    \(column) anyDuplicated(data.frame(types, samples[[column]])) > 0,
    columns
  )
  if (length(repeated)) {
    scoom_inform(
      c(
        "!" = "Samples with the same {.field {repeated}} are tested as independent: {?it/they} {?is/are} not in the design.",
        i = "Samples of one donor are alike: {.code ~ donor + condition} takes that into account."
      ),
      class = "repeated_samples"
    )
  }
}

# For each contrast of a cell type why it is not tested, or NA.
contrast_skips <- function(task, min_samples) {
  few <- task$n_samples < min_samples
  n <- ifelse(few, task$n_samples, 0)
  reason <- ifelse(
    task$estimable,
    ifelse(
      few,
      paste0("fewer than ", min_samples, " samples on a side"),
      if (task$df_residual < 1) "no residual degrees of freedom" else NA
    ),
    "no samples on a side"
  )
  set_names(reason, colnames(task$contrasts))
}

#' Fit every cell type that has a contrast to test
#'
#' @returns For each task `NULL` where it was skipped, or a list of `fit`, `tables`, `genes`
#'   (positions of the tested ones), `empty` (genes without counts), `without_p` (what it
#'   means when a tested gene has no p-value), `error`.
#' @noRd
fit_cell_types <- function(tasks, counts, method, options, BPPARAM, call) {
  answers <- set_names(vector("list", length(tasks)), names(tasks))
  run <- names(tasks)[vapply(tasks, \(task) anyNA(task$skip), NA)]
  prepared <- lapply(tasks[run], \(task) {
    tested <- is.na(task$skip)
    list(
      counts = as.matrix(counts[, task$sample_names, drop = FALSE]),
      design = task$matrix,
      contrasts = task$contrasts[, tested, drop = FALSE]
    )
  })
  answers[run] <- if (is.null(BPPARAM)) {
    lapply(prepared, fit_samples, method, options)
  } else {
    check_suggested("BiocParallel", "BiocManager::install", call)
    if (!inherits(BPPARAM, "BiocParallelParam")) {
      what <- "a BiocParallel backend or {.code NULL}"
      abort_type(BPPARAM, what, "BPPARAM", call)
    }
    with_seed_kept(BiocParallel::bplapply(
      prepared,
      fit_on_worker,
      libraries = .libPaths(),
      fn = serialize(fit_samples, NULL),
      method = method,
      options = options,
      BPPARAM = BPPARAM
    ))
  }
  answers
}

# A fresh R does not know the libraries of this one; see run_ranges().
fit_on_worker <- function(task, libraries, fn, method, options) {
  .libPaths(unique(c(libraries, .libPaths())))
  unserialize(fn)(task, method, options)
}
environment(fit_on_worker) <- baseenv()

# One cell type: the filter, then the test. Errors of packages are values, so that one
# cell type does not stop the others.
fit_samples <- function(task, method, options) {
  counts <- task$counts
  total <- rowSums(counts)
  keep <- if (options$min_count > 0) {
    enough_counts(counts, task$design, options$min_count)
  } else {
    total > 0
  }
  genes <- unname(which(keep))
  answer <- list(
    genes = genes,
    empty = unname(total == 0),
    without_p = if (method == "DESeq2") "outlier" else "not fitted"
  )
  if (!length(genes)) {
    answer$error <- "no gene has enough counts"
    return(answer)
  }
  counts <- counts[genes, , drop = FALSE]
  rownames(counts) <- make.unique(rownames(counts))
  fit <- tryCatch(
    pseudobulk_engines()[[method]]$fit(
      counts,
      task$design,
      task$contrasts,
      options
    ),
    error = \(cnd) {
      list(error = paste0(method, " failed: ", conditionMessage(cnd)))
    }
  )
  c(answer, fit)
}

# One row for each cell type, or contrast of it, that has no results.
skipped_tests <- function(tasks, answers) {
  rows <- lapply(names(tasks), \(type) {
    task <- tasks[[type]]
    reason <- task$skip
    failed <- answers[[type]]$error
    if (!is.null(failed)) {
      reason[is.na(reason)] <- failed
    }
    at <- which(!is.na(reason))
    all <- length(at) == length(reason) && length(unique(reason)) == 1
    if (all) {
      at <- at[1]
    }
    data.frame(
      cell_type = rep(type, length(at)),
      contrast = if (all) NA_character_ else names(reason)[at],
      n_samples = rep(nrow(task$matrix), length(at)),
      reason = unname(reason[at])
    )
  })
  do.call(rbind, rows)
}

tell_skipped_tests <- function(skipped, tasks, answers, call) {
  if (!nrow(skipped)) {
    return(invisible())
  }
  shown <- head_of(seq_len(nrow(skipped)), 10)
  lines <- paste0(
    skipped$cell_type,
    ifelse(is.na(skipped$contrast), "", paste0(", ", skipped$contrast)),
    ": ",
    skipped$reason
  )
  lines <- set_names(verbatim(lines[shown]), rep("*", length(shown)))
  done <- vapply(answers, \(a) !is.null(a$tables), NA)
  if (any(done)) {
    scoom_inform(
      c(
        "!" = "{nrow(skipped)} test{?s} {?was/were} skipped; the attribute {.field skipped} has them.",
        lines
      ),
      class = "tests_skipped"
    )
    return(invisible())
  }
  scoom_abort(
    c(
      "No cell type can be tested.",
      lines,
      i = "A test between conditions needs several samples (donors, animals, cultures) of each."
    ),
    class = "nothing_to_test",
    call = call,
    skipped = skipped
  )
}
