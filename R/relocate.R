#' Point an object at a file that moved
#'
#' After an `.h5ad` file was moved, renamed or copied to another machine, gives the
#' same object on the file at its new place, with its selections, its pending
#' operations and everything that was computed since.
#'
#' @details
#' The new file must hold the same cells and genes: numbers, names and their
#' order are compared, and each matrix that the object uses must be there in the same
#' shape. Values are not compared. Objects that were saved before the names of cells
#' were used are compared by shape alone, and a message says so.
#'
#' Another file is an error of class `scoom_error_file_differs` that says in what. No
#' matrix is read.
#'
#' @param x An object opened by [open_h5ad()], whether its file is there or not.
#' @param path The path of the file now.
#' @returns An object of class `scoom`.
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad())[1:100, ]
#' moved <- tempfile(fileext = ".h5ad")
#' file.copy(example_h5ad(), moved)
#' relocate(x, moved)
relocate <- function(x, path) {
  call <- current_env()
  check_scoom(x)
  check_path(path)
  old <- field(x, "file")
  new <- describe_h5ad(path, call)
  check_same_shape(old, new, call)
  y <- set_field(x, "token", new_token())
  y <- set_field(y, "file", new)
  y <- check_same_names(x, y, call)
  check_same_elements(x, new, call)
  move <- function(recipe) {
    if (identical(recipe$path, old$path)) {
      recipe[c("path", "size", "mtime")] <- new[c("path", "size", "mtime")]
    }
    recipe
  }
  if (!is.null(field(y, "X"))) {
    y <- set_field(y, "X", move(field(y, "X")))
  }
  layers <- field(y, "slots")$layers
  layers$set <- lapply(layers$set, move)
  set_slot(y, "layers", layers)
}

abort_relocate <- function(reason, new, call) {
  scoom_abort(
    c(
      "This is not the file that the object was opened from.",
      x = reason,
      i = "Open it as a new object with {.fn open_h5ad}."
    ),
    class = "file_differs",
    call = call,
    path = new$path
  )
}

check_same_shape <- function(old, new, call) {
  shape <- function(file) format_shape(c(file$n_obs, file$n_vars))
  if (shape(old) != shape(new)) {
    reason <- sprintf("It has %s values instead of %s.", shape(new), shape(old))
    abort_relocate(reason, new, call)
  }
}

# Names are compared by the hashes that reading them left in the tokens.
check_same_names <- function(x, y, call) {
  for (margin in c("obs", "var")) {
    key <- paste0("hash:", margin)
    before <- field(x, "token")[[key]]
    if (is.null(before)) {
      scoom_inform(
        c(
          i = "The names in {.field {margin}} were never read from the old file and can't be compared."
        ),
        class = "names_unknown"
      )
      next
    }
    file_names(y, margin, call)
    if (!identical(before, field(y, "token")[[key]])) {
      what <- if (margin == "obs") "cells" else "genes"
      reason <- sprintf("The names of its %s are not the same.", what)
      abort_relocate(reason, field(y, "file"), call)
    }
  }
  y
}

# What the object still takes from the file must be there.
check_same_elements <- function(x, new, call) {
  slots <- field(x, "slots")
  for (slot in names(slots)) {
    have <- if (slot %in% c("obs", "var")) {
      new[[slot]]$columns
    } else {
      names(new[[slot]])
    }
    gone <- setdiff(setdiff(slots[[slot]]$keys, names(slots[[slot]]$set)), have)
    if (length(gone)) {
      reason <- sprintf("It has no '%s' in %s.", verbatim(gone[[1]]), slot)
      abort_relocate(reason, new, call)
    }
  }
  recipe <- field(x, "X")
  needs_x <- identical(recipe$path, field(x, "file")$path)
  if (needs_x && identical(recipe$element, "X") && is.null(new$X)) {
    abort_relocate("It has no X.", new, call)
  }
}
