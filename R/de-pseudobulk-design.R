# The design of a test on samples: its matrix, its rank, and contrasts by name.

#' The samples that a design can use
#'
#' @param samples The samples of a pseudobulk, with `total_counts`.
#' @param varying Columns of the cells that are not constant within samples.
#' @returns The rows of `samples` with a value in every column of the design, text
#'   as factors, without empty levels.
#' @noRd
design_samples <- function(samples, varying, design, call) {
  if (!is_formula(design) || !is.null(f_lhs(design))) {
    what <- "a formula of columns of the samples, such as {.code ~ donor + condition}"
    abort_type(design, what, "design", call)
  }
  columns <- all.vars(design)
  split <- intersect(columns, varying)
  if (length(split)) {
    scoom_abort(
      c(
        "{.field {split}} {?varies/vary} within samples.",
        x = "A sample is all cells that share the columns of {.arg by}; here it has cells of several values of {.field {split[[1]]}}.",
        i = "Add {.field {split}} to {.code pseudobulk(by = )}."
      ),
      class = "varies_within_sample",
      call = call,
      columns = split
    )
  }
  unknown <- setdiff(columns, names(samples))
  if (length(unknown)) {
    what <- "column of the samples"
    abort_missing(unknown[[1]], names(samples), what, "column_missing", call)
  }
  missing <- Reduce(`|`, lapply(samples[columns], is.na), FALSE)
  empty <- samples$total_counts == 0
  leave <- missing | empty
  if (any(leave)) {
    what <- c(
      if (any(missing)) "without a value in {.field {columns}}",
      if (any(empty)) "without counts"
    )
    scoom_inform(
      c(
        i = paste(
          "{sum(leave)} sample{?s}",
          paste(what, collapse = " or "),
          "{cli::qty(sum(leave))}{?is/are} left out."
        )
      ),
      class = "samples_left_out"
    )
  }
  samples <- samples[!leave, , drop = FALSE]
  for (column in columns) {
    values <- samples[[column]]
    if (is.factor(values) || is.character(values)) {
      samples[[column]] <- key_factor(values)
    }
    if (length(unique(values)) < 2) {
      scoom_abort(
        c(
          "{.field {column}} can't be in the design.",
          x = if (nrow(samples)) {
            "All samples have the value {.val {values[[1]]}}."
          } else {
            "There are no samples."
          }
        ),
        class = "one_level",
        call = call,
        column = column
      )
    }
  }
  samples
}

#' The matrix of a design
#'
#' @returns A list: `matrix`, samples x coefficients, of full rank; `terms`, `levels` and
#'   `coding`, with which other rows can be made.
#' @noRd
design_model <- function(design, samples, call) {
  frame <- try_fetch(
    stats::model.frame(design, samples, na.action = stats::na.pass),
    error = \(cnd) {
      scoom_abort(
        "The {.arg design} can't be evaluated.",
        class = "invalid_design",
        call = call,
        parent = cnd
      )
    }
  )
  terms <- attr(frame, "terms")
  matrix <- stats::model.matrix(terms, frame)
  check_full_rank(matrix, samples[all.vars(design)], call)
  list(
    matrix = matrix,
    terms = terms,
    levels = stats::.getXlevels(terms, frame),
    coding = attr(matrix, "contrasts")
  )
}

check_full_rank <- function(matrix, variables, call) {
  split <- qr(matrix)
  if (split$rank == ncol(matrix)) {
    return(invisible())
  }
  kept <- split$pivot[seq_len(split$rank)]
  dependent <- sort(setdiff(split$pivot, kept))
  parts <- qr.coef(
    qr(matrix[, kept, drop = FALSE]),
    matrix[, dependent, drop = FALSE]
  )
  names <- colnames(matrix)
  why <- lapply(seq_along(dependent), \(i) {
    from <- names[kept[abs(parts[, i]) > 1e-7]]
    name <- names[dependent[[i]]]
    text <- if (length(from)) {
      "{.field {name}} is a combination of {.field {from}}."
    } else {
      "No sample has {.field {name}}."
    }
    verbatim(cli::format_inline(text))
  })
  nested <- nested_pair(variables)
  scoom_abort(
    c(
      "The design is not of full rank.",
      set_names(unlist(head_of(why, 5)), rep("x", min(5, length(why)))),
      i = if (length(nested)) {
        "Every {.field {nested[[1]]}} is in one {.field {nested[[2]]}}: leave {.field {nested[[1]]}} out of the design."
      } else {
        "Leave out of the {.arg design} what follows from the rest."
      }
    ),
    class = "design_not_full_rank",
    call = call,
    columns = names[dependent]
  )
}

# The first pair of grouping variables of which one determines the other.
nested_pair <- function(variables) {
  groups <- Filter(is.factor, variables)
  for (inner in names(groups)) {
    for (outer in setdiff(names(groups), inner)) {
      pairs <- unique(data.frame(groups[[inner]], groups[[outer]]))
      if (!anyDuplicated(pairs[[1]])) {
        return(c(inner, outer))
      }
    }
  }
}

# Contrasts ------------------------------------------------------------------

#' Contrasts by name, as weights of coefficients
#'
#' @param contrast What the user gave, see [test_pseudobulk()].
#' @returns A matrix of coefficients x contrasts, columns named.
#' @noRd
design_contrasts <- function(contrast, model, call) {
  if (is.null(contrast)) {
    return(last_term(model, call))
  }
  if (!is.list(contrast)) {
    contrast <- list(contrast)
  }
  if (!length(contrast)) {
    abort_type(contrast, "at least one contrast", "contrast", call)
  }
  weights <- lapply(contrast, contrast_weights, model = model, call = call)
  labels <- vapply(
    seq_along(contrast),
    \(i) {
      contrast_label(contrast[[i]], weights[[i]], colnames(model$matrix))
    },
    ""
  )
  given <- names2(contrast)
  labels <- ifelse(nzchar(given), given, labels)
  weights <- matrix(
    unlist(weights),
    ncol = length(weights),
    dimnames = list(colnames(model$matrix), make.unique(labels))
  )
  empty <- colSums(weights != 0) == 0
  if (any(empty)) {
    scoom_abort(
      c(
        "The contrast {.val {labels[empty][[1]]}} compares nothing.",
        x = "All its weights are zero."
      ),
      class = "invalid_contrast",
      call = call
    )
  }
  weights
}

# The coefficients of the last term, each on its own.
last_term <- function(model, call) {
  assign <- attr(model$matrix, "assign")
  labels <- attr(model$terms, "term.labels")
  if (!length(labels) || !attr(model$terms, "intercept")) {
    scoom_abort(
      c(
        "{.arg contrast} is missing.",
        x = "Without an intercept, or without variables, the design does not say what to compare.",
        i = "The coefficients are {.val {colnames(model$matrix)}}."
      ),
      class = "invalid_contrast",
      call = call
    )
  }
  columns <- which(assign == length(labels))
  names <- colnames(model$matrix)
  scoom_inform(
    c(
      i = "Testing {.val {names[columns]}}, the last term of the design; {.arg contrast} chooses others."
    ),
    class = "last_term"
  )
  weights <- diag(1, length(names))[, columns, drop = FALSE]
  dimnames(weights) <- list(names, names[columns])
  weights
}

contrast_weights <- function(contrast, model, call) {
  names <- colnames(model$matrix)
  if (is.numeric(contrast)) {
    return(numeric_weights(contrast, names, call))
  }
  if (is_string(contrast) && !is.na(contrast)) {
    if (contrast %in% names) {
      return(as.numeric(names == contrast))
    }
    return(expression_weights(contrast, names, call))
  }
  if (is.character(contrast) && length(contrast) == 3 && !anyNA(contrast)) {
    return(level_weights(contrast, model, call))
  }
  what <- "the name of a coefficient, an expression of them, {.code c(\"variable\", \"level\", \"reference\")}, a vector of weights, or a list of these"
  abort_type(contrast, what, "contrast", call)
}

numeric_weights <- function(contrast, names, call) {
  if (!is.null(names(contrast))) {
    unknown <- setdiff(names(contrast), names)
    if (length(unknown)) {
      abort_contrast(unknown[[1]], names, call)
    }
    weights <- set_names(numeric(length(names)), names)
    weights[names(contrast)] <- contrast
    contrast <- unname(weights)
  }
  if (length(contrast) != length(names) || !all(is.finite(contrast))) {
    scoom_abort(
      c(
        "A contrast of weights must have one number for each coefficient.",
        x = "There are {length(contrast)} weights and {length(names)} coefficients: {.val {names}}."
      ),
      class = "invalid_contrast",
      call = call
    )
  }
  as.numeric(contrast)
}

# "conditionstim - conditionctrl": every name is the vector that has a 1 at its
# coefficient. What is linear doubles when they double.
expression_weights <- function(text, names, call) {
  parsed <- tryCatch(str2lang(text), error = \(e) NULL)
  used <- all.vars(parsed)
  operators <- setdiff(all.names(parsed), used)
  unknown <- setdiff(used, names)
  if (is.null(parsed) || length(unknown) || !length(used)) {
    abort_contrast(if (length(used) > 1) unknown[[1]] else text, names, call)
  }
  value <- function(scale) {
    units <- lapply(seq_along(names), \(i) scale * (seq_along(names) == i))
    mask <- new_environment(set_names(units, names), parent = baseenv())
    eval(parsed, mask)
  }
  linear <- all(operators %in% c("+", "-", "*", "/", "(")) &&
    isTRUE(all.equal(value(2), 2 * value(1))) &&
    all(value(0) %in% 0)
  if (!linear) {
    scoom_abort(
      c(
        "The contrast {.val {text}} is not a weighted sum of coefficients.",
        i = "Add, subtract and scale them: {.code (b + c) / 2 - a}."
      ),
      class = "invalid_contrast",
      call = call
    )
  }
  value(1)
}

# The difference of two levels, at the first level of other factors and at zero of
# numbers.
level_weights <- function(contrast, model, call) {
  variable <- contrast[[1]]
  if (!variable %in% names(model$levels)) {
    abort_contrast(variable, names(model$levels), call, "factor in the design")
  }
  levels <- model$levels[[variable]]
  unknown <- setdiff(contrast[-1], levels)
  if (length(unknown)) {
    what <- paste0("level of {.field ", verbatim(variable), "}")
    abort_contrast(unknown[[1]], levels, call, cli::format_inline(what))
  }
  columns <- all.vars(model$terms)
  frame <- lapply(set_names(columns), \(name) {
    if (name %in% names(model$levels)) {
      factor(rep(model$levels[[name]][[1]], 2), model$levels[[name]])
    } else {
      c(0, 0)
    }
  })
  frame[[variable]] <- factor(contrast[-1], levels)
  rows <- stats::model.matrix(
    model$terms,
    stats::model.frame(model$terms, frame, xlev = model$levels),
    contrasts.arg = model$coding
  )
  unname(rows[1, ] - rows[2, ])
}

abort_contrast <- function(name, choices, call, what = "coefficient") {
  hint <- if (what == "coefficient") {
    "Names that R can't read go in backticks: {.code `age:sexM` - `age:sexF`}."
  }
  abort_missing(name, choices, what, "contrast_missing", call, hint)
}

contrast_label <- function(contrast, weights, names) {
  if (is.numeric(contrast)) {
    used <- weights != 0
    return(paste0(format(weights[used]), "*", names[used], collapse = " "))
  }
  if (length(contrast) == 3) {
    return(paste0(contrast[[1]], " ", contrast[[2]], " vs ", contrast[[3]]))
  }
  contrast
}

# Within a cell type ---------------------------------------------------------

#' The design over some of the samples
#'
#' Levels without samples leave columns that are empty or follow from others. What is
#' kept is of full rank; a contrast that the kept columns can't express is not estimable
#' there. Contrasted columns stay before others, and of the others the last, as
#' dropping empty levels does.
#'
#' @param matrix The rows of the design.
#' @param contrasts Weights, coefficients x contrasts.
#' @returns A list: `matrix`; `contrasts`, of its columns; `estimable`; `n_samples`, for each
#'   contrast the samples on its smaller side; `df_residual`.
#' @noRd
reduce_design <- function(matrix, contrasts) {
  first <- colnames(matrix) == "(Intercept)" | rowSums(contrasts != 0) > 0
  order <- c(which(first), rev(which(!first)))
  split <- qr(matrix[, order, drop = FALSE])
  kept <- sort(order[split$pivot[seq_len(split$rank)]])
  reduced <- matrix[, kept, drop = FALSE]
  basis <- qr(reduced)
  weights <- contrasts[kept, , drop = FALSE]
  implied <- crossprod(qr.coef(basis, matrix), weights)
  estimable <- colSums(abs(implied - contrasts) > 1e-7) == 0
  # What every sample adds to the estimate of a contrast.
  share <- qr.qy(
    basis,
    rbind(
      backsolve(
        qr.R(basis),
        weights[basis$pivot, , drop = FALSE],
        transpose = TRUE
      ),
      base::matrix(0, nrow(matrix) - length(kept), ncol(weights))
    )
  )
  limit <- 1e-7 * apply(abs(share), 2, max)
  up <- colSums(sweep(share, 2, limit, `>`))
  down <- colSums(sweep(share, 2, -limit, `<`))
  list(
    matrix = reduced,
    contrasts = weights,
    estimable = estimable,
    n_samples = ifelse(up & down, pmin(up, down), pmax(up, down)),
    df_residual = nrow(matrix) - length(kept)
  )
}
