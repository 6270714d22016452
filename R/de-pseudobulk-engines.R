# The tests that test_pseudobulk() hands samples to, one function each.
#
# Arguments: `counts`, a matrix of genes x samples; `design`, of samples x coefficients
# and full rank; `contrasts`, weights of coefficients x contrasts; `options`, a list of
# `min_log2_fc` and `robust`. Every function returns `fit`, what its package made,
# and `tables`, for each contrast a list of `log2_fc`, `mean_expr`, `statistic`, `p_value`.

pseudobulk_engines <- function() {
  list(
    edgeR = list(fit = fit_edger, packages = "edgeR"),
    limma_voom = list(fit = fit_limma_voom, packages = c("limma", "edgeR")),
    DESeq2 = list(fit = fit_deseq2, packages = "DESeq2"),
    glmGamPoi = list(fit = fit_glmgampoi, packages = "glmGamPoi"),
    t_test = list(fit = fit_t_test, packages = character())
  )
}

pseudobulk_methods <- c("edgeR", "limma_voom", "DESeq2", "glmGamPoi", "t_test")

each_contrast <- function(contrasts, test) {
  lapply(set_names(seq_len(ncol(contrasts)), colnames(contrasts)), \(i) {
    test(contrasts[, i])
  })
}

# The coefficient that a contrast is, or NULL where it weighs several.
one_coefficient <- function(weights) {
  used <- which(weights != 0)
  if (length(used) == 1 && weights[[used]] == 1) used
}

# Quasi-likelihood F tests. From version 4 glmQLFit() estimates the dispersion itself
# unless told to be `legacy`, so that the numbers of 3 and 4 differ.
fit_edger <- function(counts, design, contrasts, options) {
  data <- edgeR::calcNormFactors(edgeR::DGEList(counts))
  namespace <- asNamespace("edgeR")
  method <- utils::getS3method("glmQLFit", "DGEList", envir = namespace)
  fit <- if ("legacy" %in% names(formals(method))) {
    edgeR::glmQLFit(data, design, robust = options$robust, legacy = FALSE)
  } else {
    data <- edgeR::estimateDisp(data, design, robust = options$robust)
    edgeR::glmQLFit(data, design, robust = options$robust)
  }
  tables <- each_contrast(contrasts, \(weights) {
    coef <- one_coefficient(weights)
    args <- if (is.null(coef)) list(contrast = weights) else list(coef = coef)
    args$glmfit <- fit
    table <- if (options$min_log2_fc > 0) {
      inject(edgeR::glmTreat(!!!args, lfc = options$min_log2_fc))$table
    } else {
      inject(edgeR::glmQLFTest(!!!args))$table
    }
    list(
      log2_fc = table$logFC,
      mean_expr = table$logCPM,
      statistic = table$F %||% rep(NA_real_, nrow(table)),
      p_value = table$PValue
    )
  })
  list(fit = fit, tables = tables)
}

# Precision weights from the trend of the variance, moderated t.
fit_limma_voom <- function(counts, design, contrasts, options) {
  data <- edgeR::calcNormFactors(edgeR::DGEList(counts))
  fit <- limma::lmFit(limma::voom(data, design), design)
  moderate <- function(fit) {
    if (options$min_log2_fc > 0) {
      limma::treat(fit, lfc = options$min_log2_fc, robust = options$robust)
    } else {
      limma::eBayes(fit, robust = options$robust)
    }
  }
  tables <- each_contrast(contrasts, \(weights) {
    coef <- one_coefficient(weights)
    tested <- if (is.null(coef)) {
      moderate(limma::contrasts.fit(fit, weights))
    } else {
      moderate(fit)
    }
    column <- coef %||% 1L
    list(
      log2_fc = tested$coefficients[, column],
      mean_expr = tested$Amean,
      statistic = tested$t[, column],
      p_value = tested$p.value[, column]
    )
  })
  list(fit = moderate(fit), tables = tables)
}

# Wald tests. The median of ratios needs a gene that is in every sample.
fit_deseq2 <- function(counts, design, contrasts, options) {
  storage.mode(counts) <- "integer"
  columns <- data.frame(row.names = colnames(counts))
  data <- DESeq2::DESeqDataSetFromMatrix(counts, columns, design)
  factors <- if (any(rowSums(counts == 0) == 0)) "ratio" else "poscounts"
  fit <- suppressMessages(DESeq2::DESeq(data, sfType = factors, quiet = TRUE))
  tables <- each_contrast(contrasts, \(weights) {
    coef <- one_coefficient(weights)
    args <- if (is.null(coef)) {
      list(contrast = unname(weights))
    } else {
      list(name = DESeq2::resultsNames(fit)[[coef]])
    }
    table <- inject(DESeq2::results(
      fit,
      !!!args,
      lfcThreshold = options$min_log2_fc,
      independentFiltering = FALSE
    ))
    list(
      log2_fc = table$log2FoldChange,
      mean_expr = table$baseMean,
      statistic = table$stat,
      p_value = table$pvalue
    )
  })
  list(fit = fit, tables = tables)
}

# Quasi-likelihood F tests of the gamma-Poisson model.
fit_glmgampoi <- function(counts, design, contrasts, options) {
  fit <- glmGamPoi::glm_gp(counts, design, on_disk = FALSE)
  means <- rowMeans(sweep(counts, 2, fit$size_factors, `/`))
  tables <- each_contrast(contrasts, \(weights) {
    table <- inject(glmGamPoi::test_de(fit, contrast = !!unname(weights)))
    beyond <- options$min_log2_fc > 0
    list(
      log2_fc = table$lfc,
      mean_expr = means,
      statistic = if (beyond) rep(NA_real_, nrow(table)) else table$f_statistic,
      p_value = if (beyond) {
        beyond_threshold(fit, weights, table, options$min_log2_fc)
      } else {
        table$pval
      }
    )
  })
  list(fit = fit, tables = tables)
}

#' glmGamPoi's test against a threshold
#'
#' The package has none. This is its own quasi-likelihood ratio against the model whose
#' contrast is held at either end of the threshold by an offset, with the two tails
#' that limma's treat() adds up, as in edgeR's glmTreat().
#'
#' @param table What `test_de()` says of the contrast.
#' @returns p-values.
#' @noRd
beyond_threshold <- function(fit, weights, table, min_log2_fc) {
  shrinkage <- fit$overdispersion_shrinkage_list
  design <- fit$model_matrix
  others <- qr.Q(qr(matrix(weights)), complete = TRUE)[, -1, drop = FALSE]
  along <- drop(design %*% weights) / sum(weights^2)
  # The signed root of the gain in deviance over the model that stops at `end`.
  distance <- function(end) {
    held <- glmGamPoi::glm_gp(
      fit$data,
      design = design %*% others,
      size_factors = FALSE,
      offset = sweep(fit$Offset, 2, end * log(2) * along, `+`),
      overdispersion = shrinkage$dispersion_trend,
      overdispersion_shrinkage = FALSE,
      on_disk = FALSE
    )
    gain <- pmax(0, held$deviances - fit$deviances)
    sign(table$lfc - end) * sqrt(gain / shrinkage$ql_disp_shrunken)
  }
  above <- distance(min_log2_fc)
  below <- distance(-min_log2_fc)
  up <- table$lfc >= 0
  tail <- \(t) stats::pt(t, table$df2, lower.tail = FALSE)
  pmin(1, tail(ifelse(up, above, -below)) + tail(ifelse(up, below, -above)))
}

# Ordinary linear models of log2 counts per million. Needs no package, and does not
# borrow information between genes.
fit_t_test <- function(counts, design, contrasts, options) {
  values <- log_cpm(counts)
  split <- qr(design)
  df <- nrow(design) - ncol(design)
  coefficients <- qr.coef(split, t(values))
  residuals <- qr.resid(split, t(values))
  # A constant gene leaves rounding errors, not residuals.
  sigma <- sqrt(colSums(residuals^2) / df)
  sigma[sigma < 1e-12 * pmax(1, abs(rowMeans(values)))] <- 0
  unscaled <- chol2inv(qr.R(split))
  back <- split$pivot
  tables <- each_contrast(contrasts, \(weights) {
    effect <- drop(crossprod(coefficients, weights))
    scale <- sqrt(drop(weights[back] %*% unscaled %*% weights[back]))
    beyond <- pmax(abs(effect) - options$min_log2_fc, 0)
    statistic <- sign(effect) * beyond / (sigma * scale)
    statistic[sigma == 0 & beyond < 1e-12] <- 0
    far <- (abs(effect) + options$min_log2_fc) / (sigma * scale)
    p_value <- if (options$min_log2_fc > 0) {
      near <- (abs(effect) - options$min_log2_fc) / (sigma * scale)
      stats::pt(near, df, lower.tail = FALSE) +
        stats::pt(far, df, lower.tail = FALSE)
    } else {
      2 * stats::pt(-abs(statistic), df)
    }
    list(
      log2_fc = effect,
      mean_expr = rowMeans(values),
      statistic = statistic,
      p_value = p_value
    )
  })
  fit <- list(
    coefficients = t(coefficients),
    sigma = sigma,
    df_residual = df,
    design = design
  )
  list(fit = fit, tables = tables)
}

# edgeR's cpm(log = TRUE): two counts are added to a library of average size.
log_cpm <- function(counts, prior = 2) {
  sizes <- colSums(counts)
  added <- prior * sizes / mean(sizes)
  t(log2((t(counts) + added) / (sizes + 2 * added) * 1e6))
}

# edgeR's filterByExpr(): genes with `min_count` counts, in a library of median size,
# in as many samples as the smallest group of the design has.
enough_counts <- function(counts, design, min_count) {
  sizes <- colSums(counts)
  n_samples <- 1 / max(stats::hat(design))
  if (n_samples > 10) {
    n_samples <- 10 + (n_samples - 10) * 0.7
  }
  cutoff <- min_count / stats::median(sizes) * 1e6
  cpm <- sweep(counts, 2, sizes / 1e6, `/`)
  rowSums(cpm >= cutoff) >= n_samples - 1e-14 &
    rowSums(counts) >= 1.5 * min_count - 1e-14
}
