# What `$` gives and takes: data frames, lazy lists of elements, lazy matrices.

x_fields <- c(
  "X",
  "obs",
  "var",
  "obsm",
  "varm",
  "obsp",
  "varp",
  "layers",
  "uns",
  "raw",
  "obs_names",
  "var_names",
  "n_obs",
  "n_vars",
  "shape"
)

# Along which margins the elements of a slot lie.
slot_margins <- list(
  obs = "obs",
  var = "var",
  obsm = "obs",
  varm = "var",
  obsp = c("obs", "obs"),
  varp = c("var", "var"),
  layers = c("obs", "var"),
  uns = character()
)

#' @export
`$.scoom` <- function(x, name) {
  call <- current_env()
  switch(
    name,
    # One that can't be read says so when it is used: raised here, the error would
    # lose its class where S4 methods take `x$X` as their argument.
    X = if (!is.null(field(x, "X")) || is_unread(x, "X")) new_lazy_matrix(x),
    obs = ,
    var = view_frame(x, name, call),
    obsm = ,
    varm = ,
    obsp = ,
    varp = ,
    layers = ,
    uns = new_elements(x, name),
    raw = raw_view(x),
    obs_names = ,
    var_names = view_names(x, sub("_names", "", name), call),
    n_obs = n_obs(x),
    n_vars = n_vars(x),
    shape = dim(x),
    abort_missing(name, x_fields, "field", "field_missing", caller_env())
  )
}

#' @export
`$<-.scoom` <- function(x, name, value) {
  call <- caller_env()
  switch(
    name,
    X = set_x(x, value, call),
    obs = ,
    var = set_frame(x, name, value, call),
    obsm = ,
    varm = ,
    obsp = ,
    varp = ,
    layers = ,
    uns = set_elements(x, name, value, call),
    obs_names = ,
    var_names = set_names_of(x, sub("_names", "", name), value, call),
    if (name %in% x_fields) {
      scoom_abort(
        "{.field {name}} can't be assigned.",
        class = "read_only_field",
        call = call,
        name = name
      )
    } else {
      abort_missing(name, x_fields, "field", "field_missing", call)
    }
  )
}

#' @export
`[[.scoom` <- function(x, i, ...) {
  scoom_abort(
    c(
      "{.code x[[...]]} is not defined for this object.",
      i = "{.code x$obs[[\"column\"]]} is a column, {.code x$obsm[[\"X_pca\"]]} an element, {.code x[cells, genes]} a selection."
    ),
    class = "invalid_index",
    call = caller_env()
  )
}

#' @export
`[[<-.scoom` <- function(x, i, ..., value) {
  scoom_abort(
    c(
      "{.code x[[...]] <- } is not defined for this object.",
      i = "{.code x$obs[[\"column\"]] <- value} sets a column, {.code x$obsm[[\"X_pca\"]] <- value} an element."
    ),
    class = "invalid_index",
    call = caller_env()
  )
}

#' @export
names.scoom <- function(x) x_fields

#' @importFrom utils .DollarNames
#' @export
.DollarNames.scoom <- function(x, pattern = "") {
  grep(pattern, x_fields, value = TRUE)
}

# Data frames ------------------------------------------------------------------

frame_names <- function(x, margin) field(x, "slots")[[margin]]$keys

# Columns of the file by name, in its order of cells or genes.
file_columns <- function(x, margin, keys, call) {
  frame <- element_path(field(x, "file"), margin)
  if (length(keys) == 1 && !is_cached(x, frame)) {
    column <- read_element(x, paste0(margin, "/", keys), call)
    return(set_names(list(column), keys))
  }
  read_element(x, margin, call)$columns[keys]
}

frame_column <- function(x, margin, name, call = caller_env()) {
  slot <- field(x, "slots")[[margin]]
  if (!name %in% slot$keys) {
    check_not_unread(x, paste0(margin, "/", name), call)
    class <- "column_missing"
    abort_missing(name, slot$keys, paste("column of", margin), class, call)
  }
  if (name %in% names(slot$set)) {
    return(slot$set[[name]])
  }
  column <- file_columns(x, margin, name, call)[[1]]
  index <- field(x, if (margin == "obs") "rows" else "cols")
  if (is.null(index)) column else take_rows(column, index)
}

view_frame <- function(x, margin, call = caller_env()) {
  slot <- field(x, "slots")[[margin]]
  index <- field(x, if (margin == "obs") "rows" else "cols")
  from_file <- setdiff(slot$keys, names(slot$set))
  columns <- list()
  if (length(from_file)) {
    columns <- file_columns(x, margin, from_file, call)
    if (!is.null(index)) {
      columns <- lapply(columns, take_rows, index)
    }
  }
  columns <- c(columns, slot$set)[slot$keys]
  names <- view_names(x, margin, call)
  new_frame(columns, names)
}

# Row names of a data frame must be unique; those that repeat get a suffix.
new_frame <- function(columns, names) {
  if (anyDuplicated(names)) {
    names <- make.unique(names)
  }
  if (!length(columns)) {
    columns <- set_names(list(), character())
  }
  structure(columns, row.names = names, class = "data.frame")
}

set_frame <- function(x, margin, value, call = caller_env()) {
  if (!is.data.frame(value)) {
    abort_type(value, "a data frame", margin, call)
  }
  n <- if (margin == "obs") n_obs(x) else n_vars(x)
  if (nrow(value) != n) {
    abort_rows(margin, n, nrow(value), call)
  }
  keys <- names(value)
  if (anyDuplicated(keys) || anyNA(keys) || !all(nzchar(keys))) {
    scoom_abort(
      "The columns of {.field {margin}} must have unique names.",
      class = "invalid_input",
      call = call
    )
  }
  check_frame_rows(x, margin, value, call)
  slot <- field(x, "slots")[[margin]]
  set <- list()
  old <- NULL
  for (key in keys) {
    column <- .subset2(value, key)
    if (key %in% slot$keys && !key %in% names(slot$set)) {
      old <- old %||% view_frame(x, margin, call)
      if (identical(column, old[[key]])) {
        next
      }
    }
    set[[key]] <- column
  }
  set_slot(x, margin, list(keys = keys, set = set))
}

# A data frame whose rows are named, but in another order, is a mistake that
# would go unnoticed.
check_frame_rows <- function(x, margin, value, call) {
  if (.row_names_info(value) < 0) {
    return(invisible())
  }
  names <- view_names(x, margin, call)
  given <- attr(value, "row.names")
  if (identical(given, names) || identical(given, make.unique(names))) {
    return(invisible())
  }
  scoom_abort(
    c(
      "The row names of the new {.field {margin}} are not those of the object.",
      x = if (setequal(given, names)) {
        "They are in another order."
      } else {
        "They are other names."
      },
      i = "Sort the rows with {.code df[{margin}_names(x), ]}, drop the row names, or set {.code x${margin}_names <- } first."
    ),
    class = "names_differ",
    call = call
  )
}

abort_rows <- function(what, n, given, call) {
  scoom_abort(
    c(
      "{.field {what}} must have {format_count(n)} rows.",
      x = "The value has {format_count(given)}."
    ),
    class = "wrong_shape",
    call = call
  )
}

set_slot <- function(x, name, slot) {
  slots <- field(x, "slots")
  slots[[name]] <- slot
  set_field(x, "slots", slots)
}

set_names_of <- function(x, margin, value, call = caller_env()) {
  n <- if (margin == "obs") n_obs(x) else n_vars(x)
  label <- paste0(margin, "_names")
  if (!is.character(value) || anyNA(value)) {
    abort_type(value, "strings without missing values", label, call)
  }
  if (length(value) != n) {
    scoom_abort(
      c(
        "{.field {label}} must have {format_count(n)} values.",
        x = "There are {format_count(length(value))}."
      ),
      class = "wrong_shape",
      call = call
    )
  }
  warn_duplicates(value, if (margin == "obs") "cell" else "gene", call)
  names <- field(x, "names")
  names[[margin]] <- as.character(value)
  set_field(x, "names", names)
}

# Used by verbs: some columns of the overlay, in the order of the view.
set_obs <- function(x, columns) set_columns(x, "obs", columns)

set_var <- function(x, columns) set_columns(x, "var", columns)

set_columns <- function(x, margin, columns) {
  n <- if (margin == "obs") n_obs(x) else n_vars(x)
  columns <- as.list(columns)
  slot <- field(x, "slots")[[margin]]
  for (key in names(columns)) {
    value <- columns[[key]]
    stopifnot(NROW(value) == n)
    # Names of a vector would be names of cells, which subsetting must not keep.
    slot$set[[key]] <- if (is.null(dim(value))) unname(value) else value
  }
  slot$keys <- union(slot$keys, names(columns))
  set_slot(x, margin, slot)
}

# Elements -----------------------------------------------------------------------

# A lazy list: obsm, varm, obsp, varp, layers or uns of an object.
new_elements <- function(x, slot) {
  structure(list(x = x, slot = slot), class = "scoom_elements")
}

elements_keys <- function(e) {
  field(field(e, "x"), "slots")[[field(e, "slot")]]$keys
}

#' @export
names.scoom_elements <- function(x) elements_keys(x)

#' @export
length.scoom_elements <- function(x) length(elements_keys(x))

#' @export
.DollarNames.scoom_elements <- function(x, pattern = "") {
  grep(pattern, elements_keys(x), value = TRUE)
}

#' @export
`$.scoom_elements` <- function(x, name) {
  element_or_abort(x, name, caller_env())
}

#' @export
`[[.scoom_elements` <- function(x, i, ...) {
  keys <- elements_keys(x)
  if (is.numeric(i) && length(i) == 1 && i %in% seq_along(keys)) {
    i <- keys[[i]]
  }
  check_string(i, arg = "i", call = caller_env())
  element_or_abort(x, i, caller_env())
}

#' @export
`[.scoom_elements` <- function(x, i) as.list(x)[i]

#' @export
as.list.scoom_elements <- function(x, ...) {
  keys <- elements_keys(x)
  set_names(lapply(keys, \(key) element_or_abort(x, key, caller_env())), keys)
}

view_elements <- function(x, slot) as.list(new_elements(x, slot))

element_or_abort <- function(e, name, call) {
  keys <- elements_keys(e)
  slot <- field(e, "slot")
  if (!name %in% keys) {
    check_not_unread(field(e, "x"), paste0(slot, "/", name), call)
    # Where AnnData's own idiom asks whether something is there.
    class <- if (slot == "layers") "layer_missing" else "element_missing"
    hint <- if (paste0(slot, "/", name) %in% c("obsm/X_pca", "varm/PCs")) {
      "{.fn run_pca} computes it."
    }
    abort_missing(name, keys, paste("element of", slot), class, call, hint)
  }
  view_element(field(e, "x"), slot, name, call)
}

view_element <- function(x, slot, name, call = caller_env()) {
  if (slot == "layers") {
    return(new_lazy_matrix(x, layer = name))
  }
  set <- field(x, "slots")[[slot]]$set
  if (name %in% names(set)) {
    return(name_rows(set[[name]], x, slot, call))
  }
  value <- as_r_value(read_element(x, paste0(slot, "/", name), call))
  for (margin in seq_along(slot_margins[[slot]])) {
    which <- slot_margins[[slot]][[margin]]
    index <- field(x, if (which == "obs") "rows" else "cols")
    if (!is.null(index)) {
      value <- if (margin == 1) {
        take_rows(value, index)
      } else {
        value[, index, drop = FALSE]
      }
    }
  }
  name_rows(value, x, slot, call)
}

# Rows of matrices carry the names of the cells or genes they belong to.
name_rows <- function(value, x, slot, call) {
  margins <- slot_margins[[slot]]
  if (!length(margins) || length(dim(value)) != 2 || is.data.frame(value)) {
    return(value)
  }
  names <- lapply(margins, \(margin) view_names(x, margin, call))
  dimnames(value) <- list(
    names[[1]],
    if (length(names) == 2) names[[2]] else colnames(value)
  )
  value
}

# The engine hands sparse matrices and data frames over in parts.
as_r_value <- function(value) {
  if (!is.list(value) || is.data.frame(value)) {
    return(value)
  }
  parts <- names(value)
  if (identical(parts, c("i", "p", "x", "dim", "kind"))) {
    return(as_sparse(value))
  }
  if (identical(parts[1:2], c("index", "columns"))) {
    return(new_frame(value$columns, as.character(value$index)))
  }
  value[] <- lapply(value, as_r_value)
  value
}

as_sparse <- function(parts) {
  positions <- list(parts$i)
  names(positions) <- if (parts$kind == "csr") "j" else "i"
  more <- list(
    p = parts$p,
    x = parts$x,
    dims = parts$dim,
    index1 = FALSE,
    repr = "C"
  )
  do.call(Matrix::sparseMatrix, c(positions, more))
}

#' @export
`$<-.scoom_elements` <- function(x, name, value) {
  assign_element(x, name, value, caller_env())
}

#' @export
`[[<-.scoom_elements` <- function(x, i, ..., value) {
  check_string(i, arg = "i", call = caller_env())
  assign_element(x, i, value, caller_env())
}

assign_element <- function(e, name, value, call) {
  new_elements(
    set_element(field(e, "x"), field(e, "slot"), name, value, call),
    field(e, "slot")
  )
}

set_element <- function(x, slot, name, value, call = caller_env()) {
  check_string(name, arg = "name", call = call)
  current <- field(x, "slots")[[slot]]
  if (is.null(value)) {
    current$keys <- setdiff(current$keys, name)
    current$set <- without(current$set, name)
  } else {
    current$keys <- union(current$keys, name)
    current$set[[name]] <- check_element(x, slot, name, value, call)
  }
  set_slot(x, slot, current)
}

set_obsm <- function(x, name, value) set_element(x, "obsm", name, value)
set_varm <- function(x, name, value) set_element(x, "varm", name, value)
set_obsp <- function(x, name, value) set_element(x, "obsp", name, value)
set_varp <- function(x, name, value) set_element(x, "varp", name, value)
set_uns <- function(x, name, value) set_element(x, "uns", name, value)

# The value as the overlay keeps it; its shape must be that of the slot.
check_element <- function(x, slot, name, value, call) {
  if (slot == "uns") {
    return(value)
  }
  label <- paste0(slot, "$", name)
  if (slot == "layers") {
    return(as_recipe(x, value, label, call))
  }
  if (is.null(dim(value)) || length(dim(value)) < 2) {
    abort_type(value, "a matrix or a data frame", label, call)
  }
  expected <- vapply(
    slot_margins[[slot]],
    \(margin) if (margin == "obs") n_obs(x) else n_vars(x),
    0L
  )
  found <- dim(value)[seq_along(expected)]
  if (any(found != expected)) {
    scoom_abort(
      c(
        "{.field {label}} must have {format_shape(expected)} {if (length(expected) == 1) 'rows' else 'values'}.",
        x = "The value has {format_shape(found)}."
      ),
      class = "wrong_shape",
      call = call
    )
  }
  value
}

# x$obsm <- value: the slot of another object's view, or a list.
set_elements <- function(x, slot, value, call = caller_env()) {
  if (inherits(value, "scoom_elements")) {
    from <- field(value, "x")
    same_source <- identical(field(from, "token"), field(x, "token"))
    if (field(value, "slot") == slot && same_source && same_view(from, x)) {
      return(set_slot(x, slot, field(from, "slots")[[slot]]))
    }
    value <- as.list(value)
  }
  if (is.null(value)) {
    value <- list()
  }
  if (!is_bare_list(value) || length(value) && !is_named(value)) {
    abort_type(value, "a named list", slot, call)
  }
  x <- set_slot(x, slot, new_slot(NULL))
  for (name in names(value)) {
    x <- set_element(x, slot, name, value[[name]], call)
  }
  x
}

same_view <- function(a, b) {
  identical(field(a, "rows"), field(b, "rows")) &&
    identical(field(a, "cols"), field(b, "cols"))
}

# X --------------------------------------------------------------------------------

set_x <- function(x, value, call) {
  recipe <- if (!is.null(value)) as_recipe(x, value, "X", call)
  set_field(x, "X", recipe)
}

# raw: an object over the same cells with genes of its own.
raw_view <- function(x) {
  file <- field(x, "file")
  raw <- file$raw
  if (is.null(raw)) {
    return(NULL)
  }
  file$prefix <- "raw/"
  file$n_vars <- raw$n_vars
  file$X <- raw$X
  file$var <- raw$var
  file$varm <- raw$varm
  file$raw <- NULL
  none <- set_names(list(), character())
  file[c("layers", "obsm", "obsp", "varp", "uns")] <- list(none)
  view <- new_scoom(file)
  view <- set_field(view, "token", field(x, "token"))
  view <- set_field(view, "rows", field(x, "rows"))
  view <- set_field(
    view,
    "names",
    list(obs = field(x, "names")$obs, var = NULL)
  )
  view <- set_slot(view, "obs", field(x, "slots")$obs)
  if (!is.null(raw$X)) {
    recipe <- file_recipe(file, raw$X$element)
    recipe["rows"] <- list(field(x, "rows"))
    view <- set_field(view, "X", recipe)
  }
  class(view) <- c("scoom_raw", "scoom")
  view
}
