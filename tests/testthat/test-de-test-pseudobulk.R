test_that("edgeR gives what it gives by hand", {
  skip_if_not_installed("edgeR")
  de <- kang_tests(method = "edgeR")
  expect_identical(attr(de, "cell_types")$cell_type, kang_types)
  for (type in kang_types) {
    hand <- kang_by_hand(type)
    design <- model.matrix(~ donor + condition, hand$samples)
    y <- edgeR::DGEList(hand$counts)
    y <- y[edgeR::filterByExpr(y, design), ]
    y$samples$lib.size <- colSums(y$counts)
    y <- edgeR::calcNormFactors(y)
    fit <- fit_by_guide(y, design)
    want <- edgeR::glmQLFTest(fit, coef = "conditionstim")$table
    got <- tested_rows(de, type, rownames(want))
    expect_equal(got$log2_fc, want$logFC, tolerance = 1e-12)
    expect_equal(got$mean_expr, want$logCPM, tolerance = 1e-12)
    expect_equal(got$statistic, want$F, tolerance = 1e-12)
    expect_equal(got$p_value, want$PValue, tolerance = 1e-12)
    expect_equal(got$p_adj, p.adjust(want$PValue, "BH"), tolerance = 1e-12)
    expect_s4_class(attr(de, "fit")[[type]], "DGEGLM")
  }
})

test_that("limma gives what it gives by hand", {
  skip_if_not_installed("edgeR")
  skip_if_not_installed("limma")
  de <- kang_tests(method = "limma_voom")
  for (type in kang_types) {
    hand <- kang_by_hand(type)
    design <- model.matrix(~ donor + condition, hand$samples)
    keep <- edgeR::filterByExpr(hand$counts, design)
    y <- edgeR::calcNormFactors(edgeR::DGEList(hand$counts[keep, ]))
    fit <- limma::eBayes(limma::lmFit(limma::voom(y, design)), robust = TRUE)
    want <- limma::topTable(
      fit,
      "conditionstim",
      number = Inf,
      sort.by = "none"
    )
    got <- tested_rows(de, type, rownames(want))
    expect_equal(got$log2_fc, want$logFC, tolerance = 1e-12)
    expect_equal(got$mean_expr, want$AveExpr, tolerance = 1e-12)
    expect_equal(got$statistic, want$t, tolerance = 1e-12)
    expect_equal(got$p_value, want$P.Value, tolerance = 1e-12)
    expect_equal(got$p_adj, want$adj.P.Val, tolerance = 1e-12)
  }
})

test_that("DESeq2 gives what it gives by hand", {
  skip_if_not_installed("DESeq2")
  # Every third gene: all of them take their time.
  pb <- kang_sums()
  some <- seq(1, nrow(pb$counts), by = 3)
  pb <- pb[some, pb$samples$seurat_annotations %in% kang_types]
  contrast <- c("condition", "stim", "ctrl")
  de <- kang_tests(pb, ~condition, contrast = contrast, method = "DESeq2")
  for (type in kang_types) {
    hand <- kang_by_hand(type)
    hand$counts <- hand$counts[some, ]
    design <- model.matrix(~condition, hand$samples)
    keep <- edger_filter(hand$counts, design)
    dds <- suppressMessages(DESeq2::DESeqDataSetFromMatrix(
      hand$counts[keep, ],
      hand$samples,
      ~condition
    ))
    dds <- suppressMessages(DESeq2::DESeq(dds, quiet = TRUE))
    want <- DESeq2::results(dds, contrast = c("condition", "stim", "ctrl"))
    rows <- rownames(want)[!is.na(want$pvalue)]
    # Those without a p-value are outliers by Cook's distance.
    gone <- de$feature[de$cell_type == type & de$reason %in% "outlier"]
    expect_setequal(gone, rownames(want)[is.na(want$pvalue)])
    want <- want[rows, ]
    got <- tested_rows(de, type, rows)
    expect_equal(got$log2_fc, want$log2FoldChange, tolerance = 1e-12)
    expect_equal(got$mean_expr, want$baseMean, tolerance = 1e-12)
    expect_equal(got$statistic, want$stat, tolerance = 1e-12)
    expect_equal(got$p_value, want$pvalue, tolerance = 1e-12)
    expect_equal(got$p_adj, p.adjust(want$pvalue, "BH"), tolerance = 1e-12)
    expect_s4_class(attr(de, "fit")[[type]], "DESeqDataSet")
  }
})

test_that("glmGamPoi gives what it gives by hand", {
  skip_if_not_installed("glmGamPoi")
  de <- kang_tests(method = "glmGamPoi")
  for (type in kang_types) {
    hand <- kang_by_hand(type)
    design <- model.matrix(~ donor + condition, hand$samples)
    counts <- hand$counts[enough_counts(hand$counts, design, 10), ]
    fit <- glmGamPoi::glm_gp(counts, design)
    want <- glmGamPoi::test_de(fit, contrast = "conditionstim")
    got <- tested_rows(de, type, want$name)
    expect_equal(got$log2_fc, want$lfc, tolerance = 1e-12)
    expect_equal(got$statistic, want$f_statistic, tolerance = 1e-12)
    expect_equal(got$p_value, want$pval, tolerance = 1e-12)
    expect_equal(got$p_adj, want$adj_pval, tolerance = 1e-12)
  }
})

# Ranks by p, adjusted p and fold changes of the genes that interferon induces first.
induced_rows <- function(de, type) {
  rows <- de[de$cell_type == type, ]
  at <- match(c("ISG15", "IFIT1", "IFI6", "ISG20", "MX1"), rows$feature)
  list(rank = at, p_adj = rows$p_adj[at], log2_fc = rows$log2_fc[at])
}

test_that("genes that interferon induces come first in Kang et al.", {
  skip_if_not_installed("edgeR")
  for (design in c(~ donor + condition, ~condition)) {
    de <- kang_fits("edgeR", design)
    for (type in kang_types) {
      induced <- induced_rows(de, type)
      expect_true(all(induced$p_adj < 0.001))
      expect_true(all(induced$log2_fc > 3))
      if (type != "CD14 Mono") {
        expect_true(all(induced$rank <= 10))
      }
    }
  }
  skipped <- attr(kang_tests(), "skipped")
  expect_setequal(skipped$cell_type, c("B", "CD16 Mono", "CD8 T", "NK"))
})

test_that("they come first by the other packages too", {
  skip_on_cran()
  # limma puts one of them, at an adjusted p of 1e-5, at rank 15 in naive cells.
  last <- c(limma_voom = 15, DESeq2 = 10, glmGamPoi = 10)
  for (method in names(last)) {
    packages <- pseudobulk_engines()[[method]]$packages
    if (!all(vapply(packages, requireNamespace, NA, quietly = TRUE))) {
      next
    }
    de <- kang_fits(method)
    for (type in kang_types) {
      induced <- induced_rows(de, type)
      expect_true(all(induced$p_adj < 0.001), label = paste(method, type))
      expect_true(all(induced$log2_fc > 3), label = paste(method, type))
      if (type != "CD14 Mono") {
        expect_lte(max(induced$rank), last[[method]])
      }
    }
  }
})

test_that("changes have the direction that Kang et al. published", {
  skip_if_not_installed("edgeR")
  files <- c(
    "CD14 Mono" = "cd14",
    "CD4 Naive T" = "cd4",
    "CD4 Memory T" = "cd4"
  )
  de <- kang_fits("edgeR", ~ donor + condition)
  for (type in names(files)) {
    file <- paste0("kang2018_", files[[type]], ".dscrnaseq.txt")
    path <- shared_data_path("reference", file)
    # Lines end in carriage returns alone.
    text <- gsub(
      "\r",
      "\n",
      readChar(path, file.size(path), TRUE),
      fixed = TRUE
    )
    published <- utils::read.delim(text = text)
    rows <- de[which(de$cell_type == type & de$p_adj < 0.01), ]
    at <- match(rows$feature, published$featureData.symbol)
    known <- !is.na(at) & published$padj[at] < 0.01
    same <- sign(rows$log2_fc) == sign(published$log2FoldChange[at])
    expect_gt(sum(known, na.rm = TRUE), 20)
    expect_gt(mean(same[which(known)]), 0.97)
  }
})

test_that("a second data set, with two donors, agrees too", {
  skip_if_not_installed("edgeR")
  file <- "muscat_example_sce_kang_subset.h5ad"
  x <- open_h5ad(shared_data_path("counts", file))
  x$obs$donor <- sub("^[a-z]+", "", x$obs$sample_id)
  pb <- pseudobulk(x, by = c("donor", "group_id", "cluster_id"))
  de <- test_pseudobulk(
    pb,
    ~ donor + group_id,
    contrast = c("group_id", "stim", "ctrl"),
    cell_type = "cluster_id"
  )
  expect_identical(levels(de$cell_type), levels(x$obs$cluster_id))
  expect_identical(unique(attr(de, "cell_types")$df_residual), 1L)
  type <- "CD14+ Monocytes"
  keep <- which(x$obs$cluster_id == type)
  sums <- t(rowsum(as.matrix(x$X[keep, ]), as.character(x$obs$sample_id)[keep]))
  samples <- data.frame(
    donor = sub("^[a-z]+", "", colnames(sums)),
    condition = sub("[0-9]+$", "", colnames(sums))
  )
  # Samples by donor, then condition, as pseudobulk() has them.
  order <- order(samples$donor, samples$condition)
  sums <- sums[, order]
  design <- model.matrix(~ donor + condition, samples[order, ])
  y <- edgeR::DGEList(sums[edgeR::filterByExpr(sums, design), ])
  y <- edgeR::calcNormFactors(y)
  fit <- fit_by_guide(y, design)
  want <- edgeR::glmQLFTest(fit, coef = 3)$table
  got <- tested_rows(de, type, rownames(want))
  expect_equal(got$p_value, want$PValue, tolerance = 1e-12)
  expect_equal(got$log2_fc, want$logFC, tolerance = 1e-12)
})

test_that("changes planted in the example are found, and little else", {
  skip_if_not_installed("edgeR")
  x <- open_h5ad(example_h5ad())
  by <- c("donor", "condition", "cell_type")
  pb <- suppressMessages(pseudobulk(x, by, min_cells = 10))
  de <- test_pseudobulk(pb, ~condition, contrast = "conditionstim")
  truth <- x$var[match(de$feature, x$var_names), ]
  planted <- truth$planted_condition_log2fc != 0 &
    (truth$planted_condition_in == "all" |
      truth$planted_condition_in == as.character(de$cell_type))
  planted <- planted %in% TRUE
  called <- which(de$p_adj < 0.05)
  expect_gt(length(called), 30)
  expect_gt(mean(planted[called]), 0.9)
  right <- sign(de$log2_fc) == sign(truth$planted_condition_log2fc)
  expect_true(all(right[intersect(called, which(planted))]))
  # Genes that one donor alone has high: 20 in each of four cell types.
  expect_lt(sum(!is.na(truth$outlier_of_donor[called])), 5)
})

test_that("every spelling of a contrast gives the same numbers", {
  pb <- simulated_sums()
  numbers <- c("log2_fc", "statistic", "p_value", "p_adj", "p_adj_global")
  run <- function(design, contrast) {
    as.list(test_pseudobulk(pb, design, contrast, method = "t_test"))[numbers]
  }
  want <- run(~ donor + condition, "conditionstim")
  expect_equal(run(~ donor + condition, c("condition", "stim", "ctrl")), want)
  weights <- c(0, 0, 0, 0, 0, 0, 1)
  expect_equal(run(~ donor + condition, weights), want)
  expect_equal(run(~ donor + condition, c(conditionstim = 1)), want)
  expect_equal(run(~ condition + donor, "conditionstim"), want)
  cell_means <- ~ 0 + condition + donor
  expect_equal(run(cell_means, "conditionstim - conditionctrl"), want)
  expect_equal(run(cell_means, "2 * (conditionstim - conditionctrl) / 2"), want)
  expect_equal(run(cell_means, c("condition", "stim", "ctrl")), want)
  expect_message(
    got <- run(~ donor + condition, NULL),
    class = "scoom_message_last_term"
  )
  expect_equal(got, want)
  back <- run(~ donor + condition, c("condition", "ctrl", "stim"))
  expect_equal(back$log2_fc, -want$log2_fc)
  expect_equal(back$p_value, want$p_value)
})

test_that("several contrasts, levels, interactions and covariates by name", {
  pb <- simulated_sums(donors = 9)
  pb$samples$dose <- factor(rep(c("none", "low", "high"), 18)[1:54])
  pb$samples$dose <- relevel(pb$samples$dose, "none")
  by_hand <- function(formula, weights) {
    rows <- which(pb$samples$cell_type == "b")
    frame <- pb$samples[rows, ]
    frame$values <- log_cpm(pb$counts[, rows])["g5", ]
    fit <- stats::lm(stats::update(formula, values ~ .), frame)
    estimate <- sum(stats::coef(fit) * weights)
    error <- sqrt(drop(weights %*% stats::vcov(fit) %*% weights))
    c(
      estimate,
      estimate / error,
      2 * pt(-abs(estimate / error), fit$df.residual)
    )
  }
  from_table <- function(de, label) {
    row <- de[de$feature == "g5" & de$cell_type == "b" & de$contrast == label, ]
    c(row$log2_fc, row$statistic, row$p_value)
  }
  run <- function(design, contrast) {
    test_pseudobulk(pb, design, contrast, method = "t_test", min_count = 0)
  }
  dose <- run(
    ~ dose + condition,
    list(
      rise = c("dose", "high", "low"),
      "doselow",
      mid = "(doselow + dosehigh) / 2",
      c(0, 0, -1, 1)
    )
  )
  labels <- c("rise", "doselow", "mid", "-1*dosehigh 1*conditionstim")
  labels[[4]] <- levels(dose$contrast)[[4]]
  expect_identical(levels(dose$contrast), labels)
  coefs <- colnames(attr(dose, "model"))
  expect_identical(
    coefs,
    c("(Intercept)", "dosehigh", "doselow", "conditionstim")
  )
  weights <- list(
    c(0, 1, -1, 0),
    c(0, 0, 1, 0),
    c(0, 0.5, 0.5, 0),
    c(0, 0, -1, 1)
  )
  for (i in 1:4) {
    want <- by_hand(~ dose + condition, weights[[i]])
    expect_equal(from_table(dose, labels[[i]]), want)
  }
  both <- run(~ sex * condition, "sexM:conditionstim")
  want <- by_hand(~ sex * condition, c(0, 0, 0, 1))
  expect_equal(from_table(both, "sexM:conditionstim"), want)
  split <- run(
    ~ 0 + sex:condition,
    "`sexM:conditionstim` - `sexF:conditionstim`"
  )
  want <- by_hand(~ sex * condition, c(0, 1, 0, 1))
  expect_equal(from_table(split, levels(split$contrast)), want)
  age <- run(~ condition + age, "age")
  want <- by_hand(~ condition + age, c(0, 0, 1))
  expect_equal(from_table(age, "age"), want)
  expect_message(all <- run(~ condition + dose, NULL), "dosehigh")
  expect_identical(levels(all$contrast), c("dosehigh", "doselow"))
})

test_that("weighted contrasts and thresholds are those of the packages", {
  skip_if_not_installed("edgeR")
  skip_if_not_installed("limma")
  pb <- simulated_sums(n_genes = 100, donors = 4, types = "a")
  run <- function(method, ...) {
    test_pseudobulk(pb, ~ 0 + condition, method = method, min_count = 0, ...)
  }
  contrast <- "conditionstim - conditionctrl"
  design <- model.matrix(~ 0 + condition, pb$samples)
  y <- edgeR::calcNormFactors(edgeR::DGEList(pb$counts))
  fit <- fit_by_guide(y, design)
  plain <- edgeR::glmQLFTest(fit, contrast = c(-1, 1))$table
  got <- tested_rows(run("edgeR", contrast), "a", rownames(plain))
  expect_equal(got$p_value, plain$PValue, tolerance = 1e-12)
  treat <- edgeR::glmTreat(fit, contrast = c(-1, 1), lfc = 1)$table
  de <- run("edgeR", contrast, min_log2_fc = 1)
  got <- tested_rows(de, "a", rownames(treat))
  expect_equal(got$p_value, treat$PValue, tolerance = 1e-12)
  expect_true(all(is.na(got$statistic)))
  line <- limma::lmFit(limma::voom(y, design), design)
  line <- limma::contrasts.fit(line, c(-1, 1))
  treat <- limma::treat(line, lfc = 1, robust = TRUE)
  de <- run("limma_voom", contrast, min_log2_fc = 1)
  got <- tested_rows(de, "a", rownames(treat$p.value))
  expect_equal(got$p_value, unname(treat$p.value[, 1]), tolerance = 1e-12)
})

test_that("DESeq2's threshold is its lfcThreshold", {
  skip_if_not_installed("DESeq2")
  pb <- simulated_sums(n_genes = 100, donors = 4, types = "a")
  dds <- suppressMessages(
    DESeq2::DESeqDataSetFromMatrix(pb$counts, pb$samples, ~ 0 + condition)
  )
  dds <- suppressMessages(DESeq2::DESeq(dds, quiet = TRUE))
  # Alone and with a coefficient, which take different ways to results().
  contrast <- c("condition", "stim", "ctrl")
  for (design in c(~ 0 + condition, ~condition)) {
    de <- test_pseudobulk(
      pb,
      design,
      contrast,
      method = "DESeq2",
      min_count = 0,
      min_log2_fc = 1
    )
    want <- DESeq2::results(dds, contrast, lfcThreshold = 1)
    got <- tested_rows(de, "a", rownames(want))
    expect_equal(got$log2_fc, want$log2FoldChange, tolerance = 1e-4)
    expect_equal(got$statistic, want$stat, tolerance = 1e-4)
    expect_equal(got$p_value, want$pvalue, tolerance = 1e-4)
  }
  error <- want$lfcSE
  size <- abs(want$log2FoldChange)
  tail <- \(z) stats::pnorm(z / error, lower.tail = FALSE)
  # What was twice the near tail became the sum of both, as in treat().
  alternatives <- eval(formals(DESeq2::results)$altHypothesis)
  p <- if ("greaterAbs2014" %in% alternatives) {
    tail(size - 1) + tail(size + 1)
  } else {
    pmin(1, 2 * tail(size - 1))
  }
  expect_equal(got$p_value, p, tolerance = 1e-3)
  # Nothing but genes that were made to change fourfold.
  expect_true(all(match(got$feature[got$p_adj < 0.05], got$feature) <= 20))
})

test_that("glmGamPoi's threshold is a ratio of deviances of glm()", {
  skip_if_not_installed("glmGamPoi")
  skip_if_not_installed("MASS")
  pb <- simulated_sums(n_genes = 60, donors = 4, types = "a")
  run <- function(design, contrast, min_log2_fc) {
    test_pseudobulk(
      pb,
      design,
      contrast,
      method = "glmGamPoi",
      min_count = 0,
      min_log2_fc = min_log2_fc
    )
  }
  paired <- ~ donor + condition
  contrast <- c("condition", "stim", "ctrl")
  de <- run(paired, contrast, 1)
  expect_true(all(is.na(de$statistic)))
  fit <- attr(de, "fit")$a
  shrinkage <- fit$overdispersion_shrinkage_list
  x <- fit$model_matrix
  last <- ncol(x)
  df <- shrinkage$ql_df0 + nrow(x) - last
  for (gene in paste0("g", c(1, 9, 20, 33, 60))) {
    y <- pb$counts[gene, ]
    at <- match(gene, rownames(pb$counts))
    deviance_of <- function(columns, end) {
      stats::glm.fit(
        x[, columns],
        y,
        offset = fit$Offset[at, ] + end * log(2) * x[, last],
        family = MASS::negative.binomial(1 / shrinkage$dispersion_trend[[at]]),
        control = list(epsilon = 1e-13, maxit = 100)
      )$deviance
    }
    row <- de[de$feature == gene, ]
    t_from <- function(end) {
      gain <- deviance_of(-last, end) - deviance_of(seq_len(last), 0)
      sign(row$log2_fc - end) * sqrt(gain / shrinkage$ql_disp_shrunken[[at]])
    }
    t <- sort(abs(c(t_from(1), t_from(-1))))
    near <- if (abs(row$log2_fc) > 1) t[[1]] else -t[[1]]
    p <- stats::pt(-near, df) + stats::pt(-t[[2]], df)
    expect_equal(row$p_value, p, tolerance = 1e-6)
  }
  # A threshold next to none is the plain test, however the contrast is told.
  plain <- run(paired, contrast, 0)
  weights <- "conditionstim - conditionctrl"
  for (slight in list(
    run(paired, contrast, 1e-9),
    run(~ 0 + condition + donor, weights, 1e-9)
  )) {
    slight <- slight[match(plain$feature, slight$feature), ]
    expect_equal(slight$p_value, plain$p_value, tolerance = 1e-6)
  }
})

test_that("t tests are those of base R", {
  pb <- simulated_sums(types = "a")
  de <- test_pseudobulk(pb, ~condition, "conditionstim", method = "t_test")
  values <- log_cpm(pb$counts)
  stim <- pb$samples$condition == "stim"
  for (gene in c("g1", "g77")) {
    want <- t.test(values[gene, stim], values[gene, !stim], var.equal = TRUE)
    row <- de[de$feature == gene, ]
    expect_equal(row$statistic, want$statistic[["t"]])
    expect_equal(row$p_value, want$p.value)
    expect_equal(row$log2_fc, -diff(want$estimate[2:1])[[1]] * -1)
  }
  # A threshold: the two tails of treat().
  skip_if_not_installed("limma")
  design <- model.matrix(~condition, pb$samples)
  fit <- limma::lmFit(values, design)
  error <- fit$sigma * fit$stdev.unscaled[, 2]
  size <- abs(fit$coefficients[, 2])
  want <- pt((size - 0.5) / error, 10, lower.tail = FALSE) +
    pt((size + 0.5) / error, 10, lower.tail = FALSE)
  de <- test_pseudobulk(
    pb,
    ~condition,
    "conditionstim",
    method = "t_test",
    min_log2_fc = 0.5
  )
  got <- tested_rows(de, "a", rownames(values))
  expect_equal(got$p_value, unname(want))
})

test_that("constant genes have statistic 0 and p 1", {
  pb <- simulated_sums(n_genes = 3, donors = 3, types = "a")
  pb$counts[] <- 100
  pb$samples$total_counts <- colSums(pb$counts)
  de <- test_pseudobulk(pb, ~condition, "conditionstim", method = "t_test")
  expect_identical(de$statistic, c(0, 0, 0))
  expect_identical(de$p_value, c(1, 1, 1))
})

test_that("the filter and the logarithms are edgeR's", {
  skip_if_not_installed("edgeR")
  for (type in kang_types) {
    hand <- kang_by_hand(type)
    for (formula in c(~condition, ~ donor + condition)) {
      design <- model.matrix(formula, hand$samples)
      want <- edgeR::filterByExpr(hand$counts, design)
      expect_identical(enough_counts(hand$counts, design, 10), want)
    }
    expect_equal(
      log_cpm(hand$counts),
      edgeR::cpm(hand$counts, log = TRUE),
      tolerance = 1e-12
    )
  }
  # Libraries of one size put counts on the threshold itself.
  withr::with_seed(1, {
    counts <- matrix(rpois(4000 * 24, 10), 4000)
  })
  counts <- rbind(counts, 40700 - colSums(counts))
  rownames(counts) <- seq_len(nrow(counts))
  design <- model.matrix(~ gl(2, 12))
  want <- edgeR::filterByExpr(counts, design)
  expect_gt(sum(!want), 100)
  expect_identical(enough_counts(counts, design, 10), want)
})

test_that("genes that are not tested stay, with a reason", {
  pb <- simulated_sums(n_genes = 50, types = c("a", "b"))
  pb$counts[1, ] <- 0
  pb$counts[2, ] <- rep(c(1, 0), 12)
  pb$samples$total_counts <- colSums(pb$counts)
  de <- test_pseudobulk(pb, ~condition, "conditionstim", method = "t_test")
  expect_identical(nrow(de), 100L)
  rows <- de[de$cell_type == "a", ]
  expect_identical(rows$reason[rows$feature == "g1"], "no counts")
  expect_identical(rows$reason[rows$feature == "g2"], "few counts")
  expect_identical(is.na(rows$p_value), !is.na(rows$reason))
  expect_false(is.unsorted(rows$p_value[1:48]))
  expect_equal(rows$p_adj[1:48], p.adjust(rows$p_value[1:48], "BH"))
  expect_equal(de$p_adj_global, p.adjust(de$p_value, "BH"))
  all <- test_pseudobulk(
    pb,
    ~condition,
    "conditionstim",
    method = "t_test",
    min_count = 0,
    p_adjust = "bonferroni"
  )
  rows <- all[all$cell_type == "b", ]
  expect_identical(rows$feature[is.na(rows$p_value)], "g1")
  expect_equal(rows$p_adj[1:49], pmin(1, 49 * rows$p_value[1:49]))
})

test_that("size factors do without a gene that every sample has", {
  skip_if_not_installed("DESeq2")
  pb <- simulated_sums(n_genes = 120, donors = 4, types = "a")
  at <- cbind(seq_len(120), 1 + seq_len(120) %% 8)
  pb$counts[at] <- 0
  de <- test_pseudobulk(pb, ~condition, "conditionstim", method = "DESeq2")
  fit <- attr(de, "fit")$a
  want <- DESeq2::estimateSizeFactors(fit, type = "poscounts")
  expect_equal(DESeq2::sizeFactors(fit), DESeq2::sizeFactors(want))
  expect_gt(sum(!is.na(de$p_value)), 100)
})

test_that("cell types that can't be tested are skipped with a reason", {
  pb <- simulated_sums(types = c("whole", "few", "single", "one side", "pairs"))
  samples <- pb$samples
  first <- function(n) samples$donor %in% paste0("d", seq_len(n))
  keep <- samples$cell_type == "whole" |
    samples$cell_type == "few" & (samples$condition == "ctrl" | first(1)) |
    samples$cell_type == "single" & first(1) |
    samples$cell_type == "one side" & samples$condition == "stim" |
    samples$cell_type == "pairs" & first(2) & samples$condition == "ctrl" |
    samples$cell_type == "pairs" & !first(4) & samples$condition == "stim"
  pb <- pb[, keep]
  run <- function(design, ...) {
    test_pseudobulk(pb, design, "conditionstim", method = "t_test", ...)
  }
  expect_message(
    de <- run(~condition),
    "one side: no samples on a side",
    class = "scoom_message_tests_skipped"
  )
  expect_identical(attr(de, "cell_types")$cell_type, c("whole", "pairs"))
  expect_identical(
    attr(de, "skipped")[c("cell_type", "reason")],
    data.frame(
      cell_type = c("few", "single", "one side"),
      reason = c(
        "fewer than 2 samples on a side",
        "fewer than 2 samples on a side",
        "no samples on a side"
      )
    )
  )
  # Donors and conditions can't be told apart in "pairs".
  paired <- suppressMessages(run(~ donor + condition))
  expect_identical(attr(paired, "cell_types")$cell_type, "whole")
  eager <- suppressMessages(run(~condition, min_samples = 1))
  expect_identical(
    attr(eager, "cell_types")$cell_type,
    c("whole", "few", "pairs")
  )
  expect_identical(
    attr(eager, "skipped")$reason,
    c("no residual degrees of freedom", "no samples on a side")
  )
})

test_that("absent levels are left out, and never change what a name means", {
  pb <- simulated_sums(donors = 6)
  pb$samples$dose <- factor(
    c("none", "low", "high")[1 + as.integer(pb$samples$donor) %% 3],
    c("none", "low", "high")
  )
  gone <- pb$samples$cell_type == "a" &
    pb$samples$dose == "none" |
    pb$samples$cell_type == "b" & pb$samples$donor == "d1"
  pb <- pb[, !gone]
  contrasts <- list("doselow", high_low = "dosehigh - doselow")
  de <- suppressMessages(
    test_pseudobulk(pb, ~ dose + condition, contrasts, method = "t_test")
  )
  # Without "none" there is no "low" against "none".
  tested <- unique(de$contrast[de$cell_type == "a"])
  expect_identical(as.character(tested), "high_low")
  skipped <- attr(de, "skipped")
  expect_identical(skipped$cell_type, "a")
  expect_identical(skipped$contrast, "doselow")
  rows <- pb$samples$cell_type == "a"
  values <- log_cpm(pb$counts[, rows])["g3", ]
  fit <- lm(values ~ dose + condition, droplevels(pb$samples[rows, ]))
  want <- summary(fit)$coefficients["dosehigh", ]
  got <- de[de$cell_type == "a" & de$feature == "g3", ]
  expect_equal(got$statistic, want[["t value"]])
  # The fit is that of a design without the level, whichever level it is.
  paired <- test_pseudobulk(
    pb[, pb$samples$cell_type == "b"],
    ~ donor + condition,
    "conditionstim",
    method = "t_test"
  )
  dropped <- model.matrix(
    ~ donor + condition,
    droplevels(pb$samples[pb$samples$cell_type == "b", ])
  )
  expect_equal(
    attr(paired, "fit")$b$design,
    dropped,
    ignore_attr = c("assign", "contrasts")
  )
})

test_that("workers give the same and random numbers stay", {
  skip_if_not_installed("BiocParallel")
  pb <- simulated_sums()
  run <- function(BPPARAM) {
    test_pseudobulk(
      pb,
      ~ donor + condition,
      "conditionstim",
      method = "t_test",
      BPPARAM = BPPARAM
    )
  }
  set.seed(1)
  before <- .Random.seed
  one <- run(NULL)
  expect_identical(run(BiocParallel::SerialParam()), one)
  if (.Platform$OS.type == "unix") {
    expect_identical(run(BiocParallel::MulticoreParam(2)), one)
  }
  expect_identical(run(BiocParallel::SnowParam(2)), one)
  expect_identical(.Random.seed, before)
  expect_error(run(2), class = "scoom_error_invalid_input")
})

test_that("designs that can't be are explained", {
  pb <- simulated_sums()
  run <- function(design, ...) {
    test_pseudobulk(pb, design, ..., method = "t_test")
  }
  nested <- pb
  nested$samples$clinic <- ifelse(pb$samples$donor %in% c("d1", "d2"), "x", "y")
  error <- expect_error(
    test_pseudobulk(nested, ~ donor + clinic + condition, method = "t_test"),
    "Every `?donor`? is in one `?clinic`?",
    class = "scoom_error_design_not_full_rank"
  )
  expect_identical(error$columns, "clinicy")
  expect_match(conditionMessage(error), "clinicy.*is a combination of.*donord")
  pb$samples$twice <- 2 * pb$samples$age
  expect_error(
    run(~ age + twice + condition),
    "twice.*is a combination of.*age",
    class = "scoom_error_design_not_full_rank"
  )
  expect_error(
    run(~ lane + condition),
    class = "scoom_error_varies_within_sample"
  )
  expect_error(
    run(~ donr + condition),
    "donor",
    class = "scoom_error_column_missing"
  )
  pb$samples$site <- "here"
  expect_error(run(~ site + condition), class = "scoom_error_one_level")
  expect_error(run("condition"), class = "scoom_error_invalid_input")
  expect_error(run(), "design.*missing", class = "scoom_error_invalid_input")
  expect_error(run(age ~ condition), class = "scoom_error_invalid_input")
  expect_error(run(~ poly(age, 20)), class = "scoom_error_invalid_design")
  expect_error(
    run(~condition, cell_type = "celltype"),
    "cell_type",
    class = "scoom_error_column_missing"
  )
})

test_that("contrasts that do not exist are explained", {
  pb <- simulated_sums()
  run <- function(contrast, design = ~condition) {
    test_pseudobulk(pb, design, contrast, method = "t_test")
  }
  missing <- "scoom_error_contrast_missing"
  invalid <- "scoom_error_invalid_contrast"
  expect_error(run("conditionstm"), "conditionstim", class = missing)
  expect_error(run("conditionstim - conditonctrl"), class = missing)
  expect_error(run(c("condition", "stim", "ctl")), "ctrl", class = missing)
  expect_error(run(c("conditon", "stim", "ctrl")), "condition", class = missing)
  expect_error(run(c(nothing = 1)), class = missing)
  expect_error(run("conditionstim -"), class = missing)
  expect_error(run(c(1, 0, 0)), class = invalid)
  expect_error(run("conditionstim - conditionstim"), class = invalid)
  expect_error(run("conditionstim + 1"), class = invalid)
  expect_error(run("sqrt(conditionstim)"), class = invalid)
  expect_error(run(NULL, ~ 0 + condition), class = invalid)
  expect_error(run(list()), class = "scoom_error_invalid_input")
  expect_error(run(TRUE), class = "scoom_error_invalid_input")
})

test_that("what is no sums of counts over replicates is refused", {
  x <- open_h5ad(example_h5ad())
  by <- c("donor", "condition", "cell_type")
  means <- suppressMessages(pseudobulk(x, by, fun = "mean"))
  expect_error(
    test_pseudobulk(means, ~condition, method = "t_test"),
    class = "scoom_error_not_sums"
  )
  pb <- suppressMessages(pseudobulk(x, by))
  halves <- pb
  halves$counts <- pb$counts / 3
  expect_error(
    test_pseudobulk(halves, ~condition, method = "t_test"),
    class = "scoom_error_not_counts"
  )
  # Donors whose cells are in both conditions.
  mixed <- x
  mixed$obs$condition <- rep(c("ctrl", "stim"), 1000)
  by_donor <- suppressMessages(pseudobulk(mixed, c("donor", "cell_type")))
  expect_error(
    test_pseudobulk(by_donor, ~condition, method = "t_test"),
    class = "scoom_error_varies_within_sample"
  )
  # One sample of each condition.
  pooled <- pseudobulk(x, c("condition", "cell_type"))
  error <- expect_error(
    test_pseudobulk(pooled, ~condition, "conditionstim", method = "t_test"),
    "several samples",
    class = "scoom_error_nothing_to_test"
  )
  expect_identical(nrow(error$skipped), 4L)
  expect_error(
    test_pseudobulk(pb, ~condition, method = "edger"),
    "edgeR",
    class = "scoom_error_invalid_input"
  )
  expect_error(
    test_pseudobulk(pb$counts, ~condition),
    class = "scoom_error_invalid_input"
  )
})

test_that("a package that is missing is an error with the command", {
  local_engine(
    pseudobulk_engines = function() {
      list(edgeR = list(packages = "noSuchPackage"))
    }
  )
  error <- expect_error(
    test_pseudobulk(simulated_sums(), ~condition),
    "BiocManager::install",
    class = "scoom_error_package_missing"
  )
  expect_identical(error$packages, "noSuchPackage")
})

test_that("a package that fails in one cell type does not stop the others", {
  local_engine(
    fit_t_test = function(counts, design, contrasts, options) {
      if (any(grepl("_b$", colnames(counts)))) {
        stop("it {broke} %s")
      }
      n <- rep(0.5, nrow(counts))
      table <- list(log2_fc = n, mean_expr = n, statistic = n, p_value = n)
      list(fit = 1, tables = list(conditionstim = table))
    }
  )
  run <- function(pb) {
    test_pseudobulk(pb, ~condition, "conditionstim", method = "t_test")
  }
  pb <- simulated_sums()
  expect_message(de <- run(pb), class = "scoom_message_tests_skipped")
  expect_identical(attr(de, "skipped")$reason, "t_test failed: it {broke} %s")
  expect_error(
    run(pb[, pb$samples$cell_type == "b"]),
    "it {broke} %s",
    fixed = TRUE,
    class = "scoom_error_nothing_to_test"
  )
})

test_that("samples without a value or counts are left out, repeats are told", {
  pb <- simulated_sums()
  pb$samples$condition[[1]] <- NA
  pb$counts[, 2] <- 0
  pb$samples$total_counts[[2]] <- 0
  expect_message(
    de <- test_pseudobulk(
      pb,
      ~ donor + condition,
      "conditionstim",
      method = "t_test"
    ),
    "2 samples",
    class = "scoom_message_samples_left_out"
  )
  expect_identical(attr(de, "cell_types")$n_samples, c(10L, 12L, 12L))
  pb$by <- c("donor", "condition", "cell_type")
  expect_message(
    test_pseudobulk(pb, ~condition, "conditionstim", method = "t_test"),
    "donor",
    class = "scoom_message_repeated_samples"
  )
  expect_no_message(
    test_pseudobulk(
      pb,
      ~ donor + condition,
      "conditionstim",
      method = "t_test"
    ),
    class = "scoom_message_repeated_samples"
  )
  pb <- pb[, pb$samples$cell_type == "c"]
  pb$by <- c("donor", "condition")
  one <- test_pseudobulk(
    pb,
    ~ donor + condition,
    "conditionstim",
    cell_type = NULL,
    method = "t_test"
  )
  expect_identical(levels(one$cell_type), "all")
})

test_that("tables print and are summed up", {
  pb <- simulated_sums()
  de <- test_pseudobulk(
    pb,
    ~ donor + condition,
    "conditionstim",
    method = "t_test"
  )
  counts <- summary(de)
  expect_identical(as.character(counts$cell_type), c("a", "b", "c"))
  rows <- de[de$cell_type == "b", ]
  expect_identical(counts$n_up[[2]], sum(rows$p_adj <= 0.05 & rows$log2_fc > 0))
  expect_identical(sum(summary(de, max_p_adj = 0)$n_up), 0L)
  top <- top_markers(de, 2)
  expect_identical(top$feature[3:4], rows$feature[1:2])
  expect_identical(attr(top, "fit"), attr(de, "fit"))
  expect_error(top_markers(de, 0), class = "scoom_error_invalid_input")
  lines <- capture.output(print(de))
  expect_match(lines[[1]], "600 rows: 3 cell types, 1 contrast, t_test")
  expect_match(lines, "the first 3 rows of each", all = FALSE)
  withr::local_options(width = 200)
  expect_length(capture.output(print(de[1:5, ])), 7)
  expect_output(print(de["p_value"][1:2, , drop = FALSE]), "p_value")
})
