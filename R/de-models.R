# Tests by regression: the groups of cells explained by genes.

#' Regression methods of find_markers
#'
#' @details
#' `method = "logreg"`: a logistic regression of the groups on all genes at once, with
#' the objective of scikit-learn's `LogisticRegression` (`C = 1`): the sum of the cells'
#' losses plus half the sum of squared coefficients; intercepts are free. Against the
#' rest all groups share one multinomial model, in which each group of the cells is a
#' class, whether it is tested or not; against a named group each comparison is a model
#' of its two sides. `statistic` is the gene's coefficient, positive where more of
#' the gene speaks for the group; it depends on the scale of the gene and on all other
#' genes, and there is no p-value. The search (Newton steps by conjugate gradients) ends
#' when the norm of the gradient is below 1e-6; since second derivatives are at least
#' 1, coefficients are then within 1e-6 of the exact ones. It looks at the data some
#' hundred times. Where the values fit half of the memory budget, at 2 to 10 bytes each, the
#' file is read once; otherwise at every look, with a message. The fit runs in this
#' process, whatever `BPPARAM`. `compat = "scanpy"`: the model has the tested groups (and
#' the reference where one is named) alone as classes; with two classes there is one
#' vector of coefficients, which speaks for the *later* in the order of levels,
#' while scanpy files it under the one *listed first*: where that is the earlier its sign
#' is reversed, and so it is here.
#'
#' `method = "lr"`: gene by gene, the logistic regression of the two sides of a
#' comparison on the gene and the `latent` columns against that on `latent` alone, as
#' `stats::glm(family = binomial)` fits them and as Seurat's `test.use = "LR"`.
#' `statistic` is the square root of the gain in deviance with the sign of the gene's
#' coefficient; its square follows a chi-square distribution with one degree of
#' freedom, from which p-values are taken. Where a gene separates the sides,
#' for which `glm()` warns, the limit of the deviance is taken. Latent columns that are
#' constant within a comparison drop out of it. The matrix is read once. Without latent columns,
#' or with factors alone, all zeros of a gene with equal latent values count as one
#' observation; with numbers each gene costs some sweeps over all cells.
#' @references
#' Pedregosa et al. (2011) JMLR 12, 2825. Nocedal & Wright (2006) Numerical
#' Optimization, chapter 7. McCullagh & Nelder (1989) Generalized Linear Models.
#' Ntranos et al. (2019) Nat. Methods 16, 163.
#' @name marker_models
#' @noRd
NULL

#' Logistic regression of groups on all genes
#'
#' @param args What the engine takes for a t-test: units, strata, fold changes, table.
#' @param to_rest Whether groups are compared with the rest.
#' @param scanpy Whether to make models as scanpy does. Then of two groups against the
#'   rest one alone is in the table.
#' @param filed The number of its comparison.
#' @returns The columns of [new_markers()].
#' @noRd
run_logreg <- function(
  plan,
  args,
  to_rest,
  scanpy = FALSE,
  filed = 1L,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL,
  call = caller_env()
) {
  check_backend(BPPARAM, call)
  args$models <- if (!scanpy) {
    if (to_rest) "shared" else "pairs"
  } else {
    if (to_rest) "listed" else "listed_with_references"
  }
  if (scanpy && length(args$group_units) == 1 && to_rest) {
    scoom_abort(
      c(
        "scanpy fits no logistic regression of a single group.",
        i = "Test at least two groups, or leave out {.code compat = \"scanpy\"}."
      ),
      class = "one_group",
      call = call
    )
  }
  args$p_adjust <- "none"
  args["n_adjust"] <- list(NULL)
  cells <- drop_cells(plan, args)
  ctx <- scoom_ctx(threads, progress, "Fitting", call)
  columns <- rs_unwrap(rs_de_logreg(cells$plan, cells$args, ctx), call)
  if (!columns$in_memory) {
    scoom_inform(
      c(
        i = "The file was read {format_count(columns$looks)} times: its values take more than half of {.code options(scoom.memory)}."
      ),
      class = "read_often"
    )
  }
  untested <- c("p_value", "p_adj", "log10_p")
  columns[untested] <- lapply(columns[untested], \(p) rep(NA_real_, length(p)))
  if (scanpy && to_rest && length(args$group_units) == 2) {
    columns <- keep_comparison(columns, filed)
  }
  columns
}

# Rows of one comparison alone.
keep_comparison <- function(columns, number) {
  kept <- columns$comparison == number
  by_row <- lengths(columns) == length(kept) &
    !names(columns) %in% c("n_group", "n_reference")
  columns[by_row] <- lapply(columns[by_row], `[`, kept)
  columns
}

# Cells that no side names need not be read, let alone kept.
drop_cells <- function(plan, args) {
  units <- unique(unlist(c(args$group_units, args$reference_units)))
  kept <- which(args$unit %in% units)
  if (length(kept) < length(args$unit)) {
    plan <- recipe_rows(plan, kept)
    args$unit <- args$unit[kept]
  }
  list(plan = plan, args = args, kept = kept)
}

#' Likelihood ratio tests with latent columns
#'
#' @param args What the engine takes for a t-test.
#' @param latent A list of vectors with a value for each cell, named by column; numbers,
#'   logicals, factors or strings.
#' @returns The columns of [new_markers()].
#' @noRd
run_lr <- function(
  plan,
  args,
  latent = list(),
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL,
  call = caller_env()
) {
  cells <- drop_cells(plan, args)
  design <- latent_design(lapply(latent, `[`, cells$kept), call)
  cells$args$latent <- as.double(unlist(design))
  columns <- run_pass(
    rs_de_lr,
    cells$plan,
    cells$args,
    threads,
    BPPARAM,
    progress,
    "Testing genes",
    call
  )
  warn_determined(columns$determined, names(latent), call)
  columns
}

#' The columns that latent values make in a model with an intercept
#'
#' @param latent A named list of vectors with a value for each cell that is tested.
#' @returns A named list of doubles: numbers as they are; of a factor an indicator for
#'   each level but the first.
#' @noRd
latent_design <- function(latent, call) {
  columns <- Map(
    \(values, name) latent_columns(values, name, call),
    latent,
    names(latent)
  )
  design <- unlist(unname(columns), recursive = FALSE)
  if (length(design)) {
    check_collinear(design, call)
  }
  design
}

latent_columns <- function(values, name, call) {
  if (!is.atomic(values) || is.null(values)) {
    abort_type(values, "a column of the cells", "latent", call)
  }
  missing <- if (is.numeric(values)) !is.finite(values) else is.na(values)
  if (any(missing)) {
    scoom_abort(
      c(
        "{.var {name}} can't be a latent column.",
        x = "It has no value in {format_count(sum(missing))} of the {format_count(length(values))} cells that are tested.",
        i = "Leave these cells out, or fill the column."
      ),
      class = "latent_missing",
      call = call,
      column = name
    )
  }
  if (length(unique(values)) < 2) {
    scoom_abort(
      c(
        "{.var {name}} can't be a latent column.",
        x = "It has the same value in all cells that are tested."
      ),
      class = "latent_constant",
      call = call,
      column = name
    )
  }
  if (is.numeric(values)) {
    return(set_names(list(as.double(values)), name))
  }
  levels <- if (is.factor(values)) {
    levels(droplevels(values))
  } else {
    sort(unique(values), method = "radix")
  }
  indicators <- lapply(levels[-1], \(level) as.double(values == level))
  set_names(indicators, paste0(name, levels[-1]))
}

check_collinear <- function(design, call) {
  args <- list(latent = unlist(design), n_obs = length(design[[1]]))
  kept <- rs_unwrap(rs_de_latent_independent(args), call)
  dropped <- names(design)[setdiff(seq_along(design), kept)]
  if (!length(dropped)) {
    return(invisible())
  }
  scoom_abort(
    c(
      "Latent columns depend on each other.",
      x = "{.var {dropped}} {?follows/follow} from the columns before.",
      i = "Leave out columns of {.arg latent} that say the same."
    ),
    class = "latent_collinear",
    call = call,
    columns = dropped
  )
}

# Comparisons in which latent columns leave nothing to a gene.
warn_determined <- function(determined, columns, call) {
  if (!any(determined)) {
    return(invisible())
  }
  n <- sum(determined)
  scoom_warn(
    c(
      "Latent columns alone tell the sides of {n} comparison{?s} apart.",
      x = "Nothing is left for a gene to tell there: all p-values are 1.",
      i = "{cli::qty(length(columns))}Leave out {.var {columns}}, or compare groups that share {?its/their} values."
    ),
    class = "latent_determines",
    call = call,
    comparisons = which(determined)
  )
}
