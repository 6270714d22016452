# The object: a description of a file, what of it is selected, the lazy chain,
# and an overlay of what was computed since. Nothing in it is a handle.
#
# Fields, reached with field() because `$` is the user's:
#   file    what rs_h5ad_describe() answers, `prefix`, which is "raw/" for the
#           object that x$raw returns, and `log1p`
#   rows    positions in the file of the selected cells, NULL for all
#   cols    the same for genes
#   X       the recipe of X (R/plan-build.R), or NULL
#   slots   by name (obs, var, obsm, varm, obsp, varp, layers, uns): list(keys, set);
#           `keys` are all names in order, `set` holds those that are not the
#           file's, in the order of the view
#   names   list(obs, var): names that replace the file's, or NULL
#   token   an environment that stands for the session's cache

#' Open an .h5ad file
#'
#' Opens a file written by anndata 0.7 or later (or by any tool that follows the
#' anndata on-disk specification) without loading its matrix. Returns at once
#' whatever the size of the file.
#'
#' @details
#' Shapes, names of columns and encodings are read at once; values are read when
#' they are first used, and kept for the session. The matrix is streamed by the
#' verbs that need it and never loaded whole, unless you ask for it with
#' `as.matrix(x$X)`. The file is opened for reading only and is closed between
#' calls; it is never changed.
#'
#' The object behaves as an AnnData object does: cells are rows, genes are columns.
#'
#' * `x$obs`, `x$var`: data frames. `x$obs$new <- values` adds a column to the
#'   object, not to the file.
#' * `x$X`: the matrix, lazily ([scoom_matrix]); `NULL` where the file has none.
#' * `x$layers$counts`: layers, lazily.
#' * `x$obsm$X_pca`, `x$varm`, `x$obsp`, `x$varp`: matrices along cells and genes.
#' * `x$uns`: unstructured elements.
#' * `x$raw`: an object of its own with the genes of `raw`, or `NULL`.
#' * `x$obs_names`, `x$var_names`, `x$n_obs`, `x$n_vars`, `x$shape`.
#'
#' `x[cells, genes]` selects by names, positions (any order, repeats allowed) or
#' logicals, lazily; see [subset_scoom]. Verbs return a new object and leave
#' the old one as it was.
#'
#' The object holds only R data: `saveRDS()` and `readRDS()` work, and so do
#' forked and fresh worker processes. When the file has changed since, using the
#' object is an error of class `scoom_error_file_changed`; when the file moved,
#' [relocate()] points the object at the new place.
#'
#' Names of cells and genes that are not unique give a warning. They are kept:
#' selecting by such a name is an error, selecting by position works. In files of
#' more than 100,000 cells the names of cells are checked when they are first used.
#'
#' Memory: what is read of `obs`, `var`, `obsm` and their kin, once for all objects of
#' the file. A file that is absent is an error of class `scoom_error_file_missing`, a file
#' that is no HDF5 `scoom_error_not_hdf5`, one without AnnData
#' `scoom_error_not_anndata`. Elements that can't be read give a warning of class
#' `scoom_warning_unread_elements`, and an error of class `scoom_error_element_unread`
#' when they are used.
#'
#' @param path The path of an `.h5ad` file.
#' @returns An object of class `scoom`.
#' @seealso [example_h5ad()], [relocate()], [explain_plan()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' x
#' dim(x)
#' head(x$obs)
#' x[x$obs$cell_type == "B cell", ]
open_h5ad <- function(path) {
  check_path(path)
  file <- describe_h5ad(path, current_env())
  x <- new_scoom(file)
  warn_unread(file$unread)
  check_names_at_open(x)
  x
}

check_path <- function(path, call = caller_env()) {
  check_string(path, arg = "path", call = call)
  if (!file.exists(path)) {
    folder <- dirname(path)
    near <- closest_match(basename(path), list.files(folder, "[.]h5ad$"))
    scoom_abort(
      c(
        "Can't open {.path {path}}.",
        x = if (dir.exists(folder)) {
          "There is no such file."
        } else {
          "There is no folder {.path {folder}}."
        },
        i = if (!is.null(near)) "Did you mean {.path {near}}?"
      ),
      class = "file_missing",
      call = call,
      path = path
    )
  }
  invisible(path)
}

describe_h5ad <- function(path, call) {
  path <- normalizePath(path, winslash = "/")
  file <- rs_unwrap(rs_h5ad_describe(path), call)
  # The path that the engine saw may differ in encoding; ours is what R opens.
  file$path <- path
  file$prefix <- ""
  # scanpy's mark on data whose logarithm was taken before it was written.
  file$log1p <- "log1p" %in% names(file$uns)
  file
}

new_scoom <- function(file) {
  structure(
    list(
      file = file,
      rows = NULL,
      cols = NULL,
      X = if (!is.null(file$X)) file_recipe(file, file$X$element),
      slots = list(
        obs = new_slot(file$obs$columns),
        var = new_slot(file$var$columns),
        obsm = new_slot(names(file$obsm)),
        varm = new_slot(names(file$varm)),
        obsp = new_slot(names(file$obsp)),
        varp = new_slot(names(file$varp)),
        layers = new_slot(names(file$layers)),
        uns = new_slot(names(file$uns))
      ),
      names = list(obs = NULL, var = NULL),
      token = new_token()
    ),
    class = "scoom"
  )
}

new_slot <- function(keys) {
  list(keys = as.character(keys), set = list())
}

# `x` with other fields; `$<-` is the user's.
field <- function(x, name) .subset2(x, name)

set_field <- function(x, name, value) {
  fields <- unclass(x)
  fields[name] <- list(value)
  structure(fields, class = class(x))
}

warn_unread <- function(unread, call = caller_env()) {
  if (!length(unread$element)) {
    return(invisible())
  }
  lines <- paste0(unread$element, ": ", unread$reason)
  names(lines) <- rep("*", length(lines))
  scoom_warn(
    c(
      "{length(lines)} element{?s} of the file can't be read and {?is/are} left out.",
      verbatim(head_of(lines, 10)),
      if (length(lines) > 10) c(i = "print() lists all of them.")
    ),
    class = "unread_elements",
    call = call,
    unread = unread
  )
}

# Where an element is among those that are in the file but can't be read, or NA.
unread_at <- function(x, element) {
  file <- field(x, "file")
  match(element_path(file, element), file$unread$element)
}

is_unread <- function(x, element) !is.na(unread_at(x, element))

# An element that is in the file but can't be read is not simply absent.
check_not_unread <- function(x, element, call = caller_env()) {
  at <- unread_at(x, element)
  if (is.na(at) || element == "X" && !is.null(field(x, "X"))) {
    return(invisible())
  }
  file <- field(x, "file")
  element <- element_path(file, element)
  scoom_abort(
    c(
      "{.val {element}} can't be read.",
      x = verbatim(sentence(file$unread$reason[[at]])),
      i = "The file is {.path {file$path}}."
    ),
    class = "element_unread",
    call = call,
    element = element
  )
}

# Names are read at once where that is quick.
names_at_open <- 1e5

check_names_at_open <- function(x, call = caller_env()) {
  file_names(x, "var", call)
  if (field(x, "file")$n_obs <= names_at_open) {
    file_names(x, "obs", call)
  }
}

# The session's cache --------------------------------------------------------

# What was read is kept for as long as some object of the session that came from
# the same open_h5ad() lives. The cache is the value of a weak reference whose key
# is the object's token, so that it is neither saved nor sent to workers: a weak
# reference serialises as an empty one.
new_token <- function() {
  token <- new.env(parent = emptyenv())
  token$cache <- new_weakref(token, new.env(parent = emptyenv()))
  token
}

cache_of <- function(x) {
  token <- field(x, "token")
  cache <- wref_value(token$cache)
  if (is.null(cache)) {
    cache <- new.env(parent = emptyenv())
    token$cache <- new_weakref(token, cache)
  }
  cache
}

# The value kept under `key`, computed by `compute` the first time.
cached <- function(x, key, compute) {
  cache <- cache_of(x)
  if (!exists(key, envir = cache, inherits = FALSE)) {
    assign(key, compute(), envir = cache)
  }
  get(key, envir = cache, inherits = FALSE)
}

is_cached <- function(x, key) {
  exists(key, envir = cache_of(x), inherits = FALSE)
}

# Reading --------------------------------------------------------------------

# raw has a matrix and genes of its own, but the cells of the object.
element_path <- function(file, element) {
  if (grepl("^obs(/|$)", element)) element else paste0(file$prefix, element)
}

# An element of the file, whole, in the file's order.
read_element <- function(x, element, call = caller_env()) {
  file <- field(x, "file")
  element <- element_path(file, element)
  cached(x, element, \() {
    check_stamp(file, call)
    rs_unwrap(rs_h5ad_read(file$path, file$size, file$mtime, element), call)
  })
}

# Names of all cells ("obs") or genes ("var") of the file.
file_names <- function(x, margin, call = caller_env()) {
  file <- field(x, "file")
  element <- element_path(file, margin)
  cached(x, paste0("names:", element), \() {
    check_stamp(file, call)
    names <- rs_unwrap(
      rs_h5ad_names(file$path, file$size, file$mtime, element),
      call
    )
    # Lets relocate() recognise the file; small, so it may be saved.
    assign(paste0("hash:", element), hash(names), envir = field(x, "token"))
    warn_duplicates(names, if (margin == "obs") "cell" else "gene", call)
    names
  })
}

warn_duplicates <- function(names, what, call) {
  if (!anyDuplicated(names)) {
    return(invisible())
  }
  repeated <- unique(names[duplicated(names)])
  n <- length(repeated)
  shown <- head_of(repeated, 3)
  scoom_warn(
    c(
      "Names of {what}s are not unique.",
      x = "{n} name{?s} occur{?s/} more than once, such as {.val {shown}}.",
      i = "Select such {what}s by position, or give them new names with {.code x${if (what == 'cell') 'obs' else 'var'}_names <- }."
    ),
    class = "duplicate_names",
    call = call,
    names = repeated
  )
}

# The file must be the one that was opened. The engine checks again; here the
# user is told the way out.
check_stamp <- function(file, call = caller_env()) {
  if (!file.exists(file$path)) {
    scoom_abort(
      c(
        "The file of this object is gone.",
        x = "There is no file at {.path {file$path}}.",
        i = "If it moved, use {.code relocate(x, path)}."
      ),
      class = "file_missing",
      call = call,
      path = file$path
    )
  }
  info <- file.info(file$path, extra_cols = FALSE)
  # R and the engine may round the time differently.
  same_time <- abs(as.numeric(info$mtime) - file$mtime) < 1e-3
  if (info$size != file$size || !same_time) {
    scoom_abort(
      c(
        "The file changed since it was opened.",
        x = if (info$size != file$size) {
          "{.path {file$path}} had {format_bytes(file$size)} and has {format_bytes(info$size)}."
        } else {
          "{.path {file$path}} was modified at {format(info$mtime)}."
        },
        i = "Open it again with {.fn open_h5ad}.",
        i = "If cells and genes are the same, {.code relocate(x, path)} keeps what was computed."
      ),
      class = "file_changed",
      call = call,
      path = file$path
    )
  }
  invisible()
}

# Shapes and names -------------------------------------------------------------

#' Shape and names
#'
#' Numbers and names of the cells (`obs`) and genes (`var`) of an object.
#'
#' @details
#' Numbers are known without reading; names are read once and kept. `dim()`,
#' `dimnames()` work too, and `length()` is the number of cells.
#'
#' @param x An object opened by [open_h5ad()].
#' @returns `n_obs()` and `n_vars()`: one integer. `obs_names()` and
#'   `var_names()`: names as they are, repeats included.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())
#' n_obs(x)
#' head(var_names(x))
n_obs <- function(x) {
  check_scoom(x)
  rows <- field(x, "rows")
  as.integer(if (is.null(rows)) field(x, "file")$n_obs else length(rows))
}

#' @rdname n_obs
#' @export
n_vars <- function(x) {
  check_scoom(x)
  cols <- field(x, "cols")
  as.integer(if (is.null(cols)) field(x, "file")$n_vars else length(cols))
}

#' @rdname n_obs
#' @export
obs_names <- function(x) {
  check_scoom(x)
  view_names(x, "obs", current_env())
}

#' @rdname n_obs
#' @export
var_names <- function(x) {
  check_scoom(x)
  view_names(x, "var", current_env())
}

view_names <- function(x, margin, call = caller_env()) {
  given <- field(x, "names")[[margin]]
  if (!is.null(given)) {
    return(given)
  }
  index <- field(x, if (margin == "obs") "rows" else "cols")
  names <- file_names(x, margin, call)
  if (is.null(index)) names else names[index]
}

#' @export
dim.scoom <- function(x) c(n_obs(x), n_vars(x))

#' @export
dimnames.scoom <- function(x) list(obs_names(x), var_names(x))

#' @export
as.matrix.scoom <- function(x, ...) {
  scoom_abort(
    c(
      "An object is more than a matrix.",
      i = "The values are {.code as.matrix(x$X)}, those of a layer {.code as.matrix(x$layers$name)}."
    ),
    class = "not_supported",
    call = current_env()
  )
}
