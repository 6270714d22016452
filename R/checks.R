# Checks of arguments. Each names the argument as the user wrote it and raises a
# classed error in the user's call.

check_scoom <- function(x, arg = caller_arg(x), call = caller_env()) {
  check_given(x, "an object opened by {.fn open_h5ad}", arg, call)
  if (inherits(x, "scoom")) {
    return(invisible(x))
  }
  scoom_abort(
    c(
      "{.arg {arg}} must be an object opened by {.fn open_h5ad}.",
      x = "It is {.obj_type_friendly {x}}.",
      i = if (is_string(x) && grepl("[.]h5ad$", x)) {
        "Open the file first: {.code open_h5ad({.str {x}})}."
      }
    ),
    class = "invalid_input",
    call = call
  )
}

# An argument without a default that must be given; `what` says what it takes.
check_given <- function(
  x,
  what,
  arg = caller_arg(x),
  call = caller_env()
) {
  # An argument that its own caller left out is missing here too.
  if (missing(x)) {
    what <- cli::format_inline(what)
    scoom_abort(
      c("{.arg {arg}} is missing.", i = paste0("Give ", what, ".")),
      class = "invalid_input",
      call = call,
      argument = arg
    )
  }
}

abort_type <- function(x, what, arg, call) {
  shown <- if (is.atomic(x) && length(x) == 1) {
    paste0("It is ", verbatim(deparse(x)[[1]]), ".")
  } else {
    "It is {.obj_type_friendly {x}}."
  }
  what <- cli::format_inline(what)
  scoom_abort(
    c(paste0("{.arg {arg}} must be ", what, "."), x = shown),
    class = "invalid_input",
    call = call,
    argument = arg
  )
}

check_string <- function(
  x,
  allow_null = FALSE,
  arg = caller_arg(x),
  call = caller_env()
) {
  check_given(x, "one string", arg, call)
  if (is.null(x) && allow_null || is_string(x) && !is.na(x) && nzchar(x)) {
    return(invisible(x))
  }
  abort_type(x, "one string", arg, call)
}

check_flag <- function(x, arg = caller_arg(x), call = caller_env()) {
  if (is_bool(x)) {
    return(invisible(x))
  }
  abort_type(x, "{.code TRUE} or {.code FALSE}", arg, call)
}

# One finite number within `min` and `max`.
check_number <- function(
  x,
  min = -Inf,
  max = Inf,
  allow_null = FALSE,
  arg = caller_arg(x),
  call = caller_env()
) {
  if (is.null(x) && allow_null) {
    return(invisible(x))
  }
  if (is.numeric(x) && length(x) == 1 && is.finite(x) && x >= min && x <= max) {
    return(invisible(x))
  }
  abort_type(x, paste0("one number", range_words(min, max)), arg, call)
}

check_count <- function(
  x,
  min = 0,
  max = Inf,
  allow_null = FALSE,
  arg = caller_arg(x),
  call = caller_env()
) {
  if (is.null(x) && allow_null) {
    return(invisible(x))
  }
  if (
    is_integerish(x, n = 1, finite = TRUE) &&
      !is.logical(x) &&
      x >= min &&
      x <= max
  ) {
    return(invisible(x))
  }
  abort_type(x, paste0("a whole number", range_words(min, max)), arg, call)
}

range_words <- function(min, max) {
  if (is.finite(min) && is.finite(max)) {
    paste0(" from ", format_count(min), " to ", format_count(max))
  } else if (is.finite(min)) {
    paste0(", at least ", format_count(min))
  } else if (is.finite(max)) {
    paste0(", at most ", format_count(max))
  }
}

# Of the engine's random numbers.
check_seed <- function(seed, call = caller_env()) {
  check_count(seed, max = 2^52, arg = "seed", call = call)
}

check_has_cells <- function(x, call = caller_env()) {
  if (n_obs(x) == 0) {
    scoom_abort("There are no cells.", class = "no_cells", call = call)
  }
}

# The object of `raw`.
check_has_raw <- function(x, call = caller_env()) {
  if (is.null(field(x, "file")$raw)) {
    scoom_abort(
      c(
        "This object has no {.field raw}.",
        i = "Use {.code use_raw = FALSE}."
      ),
      class = "raw_missing",
      call = call
    )
  }
}

# check_installed() with a class of ours and the command that installs.
check_suggested <- function(package, source, call = caller_env()) {
  missing <- package[!vapply(package, is_installed, NA)]
  if (!length(missing)) {
    return(invisible())
  }
  names <- paste0("\"", missing, "\"", collapse = ", ")
  if (length(missing) > 1) {
    names <- paste0("c(", names, ")")
  }
  scoom_abort(
    c(
      "The package{?s} {.pkg {missing}} {?is/are} needed for this.",
      i = "Install {cli::qty(length(missing))}{?it/them} with {.code {source}({names})}."
    ),
    class = "package_missing",
    call = call,
    packages = missing
  )
}

# One of the strings in `choices`; the default vector of choices means its first.
check_choice <- function(
  x,
  choices,
  arg = caller_arg(x),
  call = caller_env()
) {
  if (identical(x, choices)) {
    return(choices[[1]])
  }
  if (is_string(x) && x %in% choices) {
    return(x)
  }
  scoom_abort(
    c(
      if (length(choices) == 1) {
        "{.arg {arg}} must be {.val {choices}}."
      } else {
        "{.arg {arg}} must be one of {.or {.val {choices}}}."
      },
      x = if (is_string(x)) {
        "It is {.val {x}}."
      } else {
        "It is {.obj_type_friendly {x}}."
      },
      did_you_mean(x, choices)
    ),
    class = "invalid_input",
    call = call,
    argument = arg
  )
}

# Raises the error for a name that is not there: what it is, what there is.
abort_missing <- function(name, choices, what, class, call, hint = NULL) {
  shown <- head_of(choices, 15)
  more <- length(choices) - length(shown)
  scoom_abort(
    c(
      "There is no {what} {.val {name}}.",
      x = if (!length(choices)) {
        "There is no {what} at all."
      } else if (more > 0) {
        "Among {length(choices)} are {.val {shown}}."
      } else {
        "There {cli::qty(length(choices))}{?is/are} {.val {shown}}."
      },
      did_you_mean(name, choices),
      i = hint
    ),
    class = class,
    call = call,
    name = name
  )
}

# Positions ----------------------------------------------------------------

#' What an index selects, as positions
#'
#' @param index Names, a logical, or positive or negative numbers; `NULL` for all.
#' @param n How many there are.
#' @param names A function that returns their names; called for names alone.
#' @param what `"cell"` or `"gene"`.
#' @returns `NULL` for all of them in order, otherwise positions from 1.
#' @noRd
resolve_index <- function(index, n, names, what, call = caller_env()) {
  if (is.null(index)) {
    return(NULL)
  }
  if (is.character(index)) {
    return(resolve_names(index, names(), what, call))
  }
  if (is.logical(index)) {
    return(resolve_logical(index, n, what, call))
  }
  if (is.numeric(index) && !is.factor(index) && is.null(dim(index))) {
    return(resolve_numbers(index, n, what, call))
  }
  scoom_abort(
    c(
      "{.cls {class(index)[[1]]}} can't select {what}s.",
      i = "Select by names, by position, or with {.code TRUE} and {.code FALSE}.",
      i = if (is.factor(index)) "For a factor use {.fn as.character}."
    ),
    class = "invalid_index",
    call = call
  )
}

resolve_logical <- function(index, n, what, call) {
  if (length(index) != n && !(length(index) == 1 && !is.na(index))) {
    scoom_abort(
      c(
        "A logical that selects {what}s must have one value for each.",
        x = "There are {format_count(n)} {what}s and {format_count(length(index))} value{cli::qty(length(index))}{?s}."
      ),
      class = "invalid_index",
      call = call
    )
  }
  if (anyNA(index)) {
    scoom_abort(
      c(
        "A logical that selects {what}s can't have missing values.",
        x = "{format_count(sum(is.na(index)))} of {format_count(length(index))} are {.val {NA}}.",
        i = "{.fn which} leaves them out."
      ),
      class = "invalid_index",
      call = call
    )
  }
  if (all(index)) NULL else which(rep_len(index, n))
}

resolve_numbers <- function(index, n, what, call) {
  if (anyNA(index) || any(index != trunc(index))) {
    scoom_abort(
      "Positions of {what}s must be whole numbers without missing values.",
      class = "invalid_index",
      call = call
    )
  }
  outside <- abs(index) > n
  if (any(outside)) {
    scoom_abort(
      c(
        "There {cli::qty(n)}{?is/are} {format_count(n)} {what}{cli::qty(n)}{?s}.",
        x = "Position {format_count(index[outside][[1]])} is outside."
      ),
      class = "invalid_index",
      call = call
    )
  }
  index <- as.integer(index[index != 0])
  if (any(index < 0)) {
    if (any(index > 0)) {
      scoom_abort(
        "Positive and negative positions of {what}s can't be mixed.",
        class = "invalid_index",
        call = call
      )
    }
    index <- setdiff(seq_len(n), -index)
  }
  if (length(index) == n && identical(index, seq_len(n))) NULL else index
}

resolve_names <- function(index, names, what, call) {
  position <- match(index, names)
  if (anyNA(position)) {
    abort_names_missing(unique(index[is.na(position)]), names, what, call)
  }
  if (anyDuplicated(names)) {
    again <- intersect(index, names[duplicated(names)])
    if (length(again)) {
      first <- again[[1]]
      n_hits <- sum(names == first)
      scoom_abort(
        c(
          "{.val {first}} is not one {what}.",
          x = "{n_hits} {what}s have this name.",
          i = "Select by position: {.code which(names == {.str {first}})} has their positions.",
          i = "Or make names unique first: {.code x${if (what == 'cell') 'obs' else 'var'}_names <- make.unique(...)}."
        ),
        class = "ambiguous_name",
        call = call,
        name = first
      )
    }
  }
  position
}

abort_names_missing <- function(missing, names, what, call) {
  n_missing <- length(missing)
  shown <- head_of(missing, 5)
  more <- n_missing - length(shown)
  hints <- if (n_missing == 1) did_you_mean(missing, names)
  if (n_missing > 1) {
    meant <- compact(lapply(shown, closest_match, names))
    if (length(meant)) {
      meant <- verbatim(unlist(meant))
      hints <- c(i = "Did you mean {.val {meant}}?")
    }
  }
  scoom_abort(
    c(
      "Can't find {n_missing} {what}{cli::qty(n_missing)}{?s}.",
      x = "Not there: {.val {shown}}{if (more > 0) paste0(' and ', more, ' more')}.",
      hints
    ),
    class = paste0(what, "_missing"),
    call = call,
    names = missing
  )
}

# Positions of genes given by name, position or logical.
resolve_genes <- function(x, features, call = caller_env()) {
  index <- resolve_index(features, n_vars(x), \() var_names(x), "gene", call)
  index %||% seq_len(n_vars(x))
}

# Columns and groups ---------------------------------------------------------

# One column of obs, in the order of the view.
obs_column <- function(x, name, call = caller_env()) {
  check_string(name, call = call)
  frame_column(x, "obs", name, call)
}

var_column <- function(x, name, call = caller_env()) {
  check_string(name, call = call)
  frame_column(x, "var", name, call)
}

#' The groups of cells
#'
#' @param group_by A column of obs, or a vector with one value for each cell.
#' @returns A factor with one value for each cell, without empty levels. Missing
#'   values stay missing; a message says how many there are.
#' @noRd
resolve_group <- function(
  x,
  group_by,
  call = caller_env(),
  arg = "group_by"
) {
  label <- if (is_string(group_by)) group_by else arg
  values <- if (is_string(group_by) && n_obs(x) != 1) {
    obs_column(x, group_by, call)
  } else if (is_string(group_by) && group_by %in% frame_names(x, "obs")) {
    obs_column(x, group_by, call)
  } else {
    group_by
  }
  if (!is.atomic(values) || !is.null(dim(values)) || is.null(values)) {
    abort_type(
      values,
      "the name of a column of obs, or a vector with one value for each cell",
      arg,
      call
    )
  }
  if (length(values) != n_obs(x)) {
    scoom_abort(
      c(
        "{.arg {arg}} must have one value for each cell.",
        x = "There are {format_count(n_obs(x))} cells and {format_count(length(values))} values."
      ),
      class = "invalid_input",
      call = call,
      argument = arg
    )
  }
  group_factor(values, label, call)
}

group_factor <- function(values, label, call) {
  if (is.factor(values)) {
    groups <- droplevels(values)
  } else {
    if (is.double(values) && any(values != trunc(values), na.rm = TRUE)) {
      scoom_abort(
        c(
          "{.var {label}} can't group cells.",
          x = "It holds numbers that are not whole.",
          i = "{.fn cut} makes groups of them."
        ),
        class = "invalid_group",
        call = call
      )
    }
    # Not the order of the locale: groups must not depend on the machine.
    levels <- sort(unique(values), method = "radix")
    groups <- factor(values, levels)
  }
  n_missing <- sum(is.na(groups))
  if (n_missing == length(groups) && n_missing > 0) {
    scoom_abort(
      "No cell has a value in {.var {label}}.",
      class = "invalid_group",
      call = call
    )
  }
  if (n_missing > 0) {
    scoom_inform(
      c(
        i = paste(
          "{format_count(n_missing)} {cli::qty(n_missing)}cell{?s} without a",
          "value in {.var {label}} {cli::qty(n_missing)}{?is/are} left out."
        )
      ),
      class = "cells_left_out"
    )
  }
  groups
}

# Names with suffixes where they repeat, and a warning.
unique_names <- function(names, what, call) {
  if (!anyDuplicated(names)) {
    return(names)
  }
  repeated <- unique(names[duplicated(names)])
  scoom_warn(
    c(
      "Names of {what}s have to be unique here: repeated ones get a suffix.",
      x = paste(
        "{length(repeated)} name{?s} occur{?s/} more than once, such as",
        "{.val {head_of(repeated, 3)}}."
      )
    ),
    class = "duplicate_names",
    call = call,
    names = repeated
  )
  make.unique(names)
}
