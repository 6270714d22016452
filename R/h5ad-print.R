# What an object looks like.

#' @export
print.scoom <- function(x, ...) {
  writeLines(format(x, ...))
  invisible(x)
}

#' @export
format.scoom <- function(x, ..., width = getOption("width")) {
  title <- if (inherits(x, "scoom_raw")) "raw of" else "scoom object with"
  c(
    sprintf("%s n_obs x n_vars = %s", title, format_shape(dim(x))),
    indent(sprintf("file: %s", describe_file(x)), width),
    indent(describe_x(x), width),
    indent(describe_pending(x), width),
    unlist(lapply(names(slot_margins), describe_slot, x, width)),
    indent(describe_raw(x), width),
    describe_unread(x, width)
  )
}

indent <- function(text, width, by = 4) {
  if (is.null(text)) {
    return(NULL)
  }
  strwrap(text, max(width, 40), indent = by, exdent = by + 4)
}

describe_file <- function(x) {
  file <- field(x, "file")
  sprintf("%s (%s)", basename(file$path), format_bytes(file$size))
}

describe_x <- function(x) {
  recipe <- field(x, "X")
  if (is.null(recipe)) {
    return("X: none")
  }
  at <- element_path(field(x, "file"), "X")
  paste0("X: ", describe_recipe(recipe, x, at))
}

# Storage of a matrix: format, type, density, compression, chunks, size; and where
# it is, unless that is `at`.
describe_recipe <- function(recipe, x, at = "X") {
  if (!is.null(recipe$matrix)) {
    return(sprintf("%s, in memory", recipe$matrix$kind))
  }
  info <- matrix_info(recipe, x)
  if (is.null(info)) {
    return(sprintf("'%s' of %s", recipe$element, basename(recipe$path)))
  }
  parts <- c(
    paste(info$kind, info$dtype),
    describe_density(info),
    if (length(info$filters)) {
      paste(info$filters, collapse = " + ")
    } else {
      "not compressed"
    },
    if (is.null(info$chunk)) {
      "contiguous"
    } else {
      paste("chunks of", format_shape(info$chunk))
    },
    if (!is.na(info$bytes)) format_bytes(info$bytes),
    if (info$element != at) sprintf("from '%s'", info$element)
  )
  paste(parts, collapse = ", ")
}

describe_density <- function(info) {
  cells <- prod(info$shape)
  if (info$kind == "dense" || cells == 0) {
    return(NULL)
  }
  sprintf(
    "%s values (%s %%)",
    format_count(info$nnz),
    format(signif(100 * info$nnz / cells, 2), scientific = FALSE)
  )
}

# The description of the element that a recipe reads, where it is this file's.
matrix_info <- function(recipe, x) {
  file <- field(x, "file")
  if (!identical(recipe$path, file$path)) {
    return(NULL)
  }
  infos <- c(list(file$X), unname(file$layers), list(file$raw$X))
  Find(\(info) identical(info$element, recipe$element), infos)
}

describe_pending <- function(x) {
  steps <- describe_chain(field(x, "X"))
  selected <- describe_selection(x)
  if (!length(steps) && is.null(selected)) {
    return(NULL)
  }
  paste0("pending: ", paste(c(selected, steps), collapse = " > "))
}

describe_selection <- function(x) {
  file <- field(x, "file")
  parts <- c(
    if (!is.null(field(x, "rows"))) {
      sprintf(
        "%s of %s cells",
        format_count(n_obs(x)),
        format_count(file$n_obs)
      )
    },
    if (!is.null(field(x, "cols"))) {
      sprintf(
        "%s of %s genes",
        format_count(n_vars(x)),
        format_count(file$n_vars)
      )
    }
  )
  if (length(parts)) {
    paste(c("select", paste(parts, collapse = ", ")), collapse = " ")
  }
}

# One line for each operation that changes values.
describe_chain <- function(recipe) {
  steps <- lapply(recipe$ops, \(op) {
    switch(
      op$op,
      downsample = describe_downsample(op),
      normalize = paste0(
        "normalize to ",
        format(op$target, big.mark = ",", digits = 6),
        if (length(op$excluded)) {
          sprintf(" without %s genes", format_count(length(op$excluded)))
        }
      ),
      log1p = if (is.null(op$base)) {
        "log1p"
      } else {
        sprintf("log1p to base %s", format(op$base))
      },
      residuals = sprintf(
        "Pearson residuals with theta %s, clipped at %s",
        format(op$theta, digits = 6),
        format(op$clip, digits = 4)
      ),
      adjust = paste0(
        if (op$verb == "combat") {
          paste("combat over", op$batch)
        } else {
          paste("regress out", paste(op$covariates, collapse = ", "))
        },
        if (op$verb == "combat" && length(op$covariates)) {
          paste(", keeping", paste(op$covariates, collapse = ", "))
        }
      ),
      scale = paste0(
        "scale",
        if (!op$zero_center) ", not centred",
        if (!is.null(op$max_value)) {
          sprintf(", clipped at %s", format(op$max_value))
        }
      )
    )
  })
  unlist(steps)
}

describe_slot <- function(slot, x, width) {
  keys <- field(x, "slots")[[slot]]$keys
  if (length(keys)) {
    indent(paste0(slot, ": ", format_names(keys, 60)), width)
  }
}

describe_raw <- function(x) {
  raw <- field(x, "file")$raw
  if (!is.null(raw)) {
    paste0("raw: ", format_shape(c(n_obs(x), raw$n_vars)))
  }
}

describe_unread <- function(x, width) {
  unread <- field(x, "file")$unread
  if (length(unread$element)) {
    c(
      "    not read:",
      indent(paste0(unread$element, ": ", unread$reason), width, by = 8)
    )
  }
}

#' @export
print.scoom_elements <- function(x, ...) {
  writeLines(format(x, ...))
  invisible(x)
}

#' @export
format.scoom_elements <- function(x, ...) {
  slot <- field(x, "slot")
  keys <- elements_keys(x)
  title <- paste(slot, "with", counted(length(keys), "element"))
  lines <- vapply(keys, \(key) describe_element(field(x, "x"), slot, key), "")
  c(title, if (length(keys)) paste0("    ", keys, ": ", lines))
}

# Without reading anything.
describe_element <- function(x, slot, key) {
  set <- field(x, "slots")[[slot]]$set
  if (slot == "layers") {
    return(describe_recipe(layer_recipe(x, key), x, paste0("layers/", key)))
  }
  if (key %in% names(set)) {
    value <- set[[key]]
    shape <- if (is.null(dim(value))) length(value) else dim(value)
    return(sprintf("%s, %s", class(value)[[1]], format_shape(shape)))
  }
  entry <- field(x, "file")[[slot]][[key]]
  shape <- entry$shape
  for (along in seq_along(slot_margins[[slot]])) {
    shape[[along]] <- dim(x)[[match(
      slot_margins[[slot]][[along]],
      c("obs", "var")
    )]]
  }
  paste(
    c(entry$encoding, if (length(shape)) format_shape(shape)),
    collapse = ", "
  )
}

#' Summarise an object
#'
#' @param object An object opened by [open_h5ad()].
#' @param ... Not used.
#' @returns A list of class `summary.scoom`: `shape`, `path`, `bytes` (the size of the
#'   file), and the data frames `matrices` (X, layers and raw: `element`, `kind`, `dtype`,
#'   `n_values`, `density`, `filters`, `chunk`, `bytes`), `columns` (of obs and var: `of`,
#'   `column`, `type`) and `unread` (`element`, `reason`). Nothing is read for it.
#' @export
#' @examples
#' summary(open_h5ad(example_h5ad()))
summary.scoom <- function(object, ...) {
  file <- field(object, "file")
  structure(
    list(
      shape = dim(object),
      path = file$path,
      bytes = file$size,
      matrices = summarise_matrices(file),
      columns = rbind(
        summarise_columns(object, "obs"),
        summarise_columns(object, "var")
      ),
      pending = c(
        describe_selection(object),
        describe_chain(field(object, "X"))
      ),
      unread = data.frame(
        element = as.character(file$unread$element),
        reason = as.character(file$unread$reason)
      )
    ),
    class = "summary.scoom"
  )
}

summarise_matrices <- function(file) {
  infos <- compact(c(list(file$X), unname(file$layers), list(file$raw$X)))
  rows <- lapply(infos, \(info) {
    data.frame(
      element = info$element,
      kind = info$kind,
      dtype = info$dtype,
      n_values = info$nnz,
      density = info$nnz / prod(info$shape),
      filters = paste(info$filters, collapse = "+"),
      chunk = if (is.null(info$chunk)) {
        NA
      } else {
        paste(info$chunk, collapse = "x")
      },
      bytes = info$bytes
    )
  })
  do.call(rbind, rows)
}

summarise_columns <- function(x, margin) {
  slot <- field(x, "slots")[[margin]]
  frame <- field(x, "file")[[margin]]
  type <- vapply(
    slot$keys,
    \(key) {
      if (key %in% names(slot$set)) {
        class(slot$set[[key]])[[1]]
      } else {
        frame$encodings[[match(key, frame$columns)]]
      }
    },
    ""
  )
  data.frame(
    of = rep(margin, length(slot$keys)),
    column = slot$keys,
    type = unname(type)
  )
}

#' @export
print.summary.scoom <- function(x, ...) {
  blocks <- compact(list(
    matrices = x$matrices,
    columns = if (nrow(x$columns)) x$columns,
    `not read` = if (nrow(x$unread)) x$unread
  ))
  lines <- c(
    sprintf(
      "%s cells x %s genes",
      format_count(x$shape[[1]]),
      format_count(x$shape[[2]])
    ),
    sprintf("%s, %s", x$path, format_bytes(x$bytes)),
    if (length(x$pending)) paste("pending:", paste(x$pending, collapse = " > "))
  )
  for (title in names(blocks)) {
    table <- paste0("  ", format_table(blocks[[title]]))
    lines <- c(lines, "", paste0(title, ":"), table)
  }
  writeLines(lines)
  invisible(x)
}

#' @importFrom utils str
#' @export
str.scoom <- function(object, ...) {
  writeLines(sprintf(
    "<scoom> %s, %s",
    format_shape(dim(object)),
    basename(field(object, "file")$path)
  ))
}

#' @export
str.scoom_elements <- function(object, ...) {
  keys <- elements_keys(object)
  writeLines(sprintf(
    "<%s>%s",
    field(object, "slot"),
    if (length(keys)) paste("", format_names(keys, 10)) else " empty"
  ))
}

# R Markdown and Quarto: a table that folds, in plain HTML.
#' @exportS3Method knitr::knit_print
knit_print.scoom <- function(x, ...) {
  if (!knitr::is_html_output()) {
    return(knitr::normal_print(x))
  }
  knitr::asis_output(format_html(x))
}

format_html <- function(x) {
  row <- function(name, value) {
    sprintf(
      "<tr><th style=\"text-align:left\">%s</th><td>%s</td></tr>",
      name,
      escape_html(value)
    )
  }
  slots <- lapply(names(slot_margins), \(slot) {
    keys <- field(x, "slots")[[slot]]$keys
    if (length(keys)) row(slot, paste(keys, collapse = ", "))
  })
  unread <- field(x, "file")$unread
  rows <- c(
    row("file", describe_file(x)),
    row("X", sub("^X: ", "", describe_x(x))),
    if (!is.null(pending <- describe_pending(x))) {
      row("pending", sub("^pending: ", "", pending))
    },
    unlist(slots),
    if (!is.null(raw <- describe_raw(x))) row("raw", sub("^raw: ", "", raw)),
    if (length(unread$element)) {
      text <- paste0(unread$element, ": ", unread$reason, collapse = "; ")
      row("not read", text)
    }
  )
  # Pandoc would look for Markdown inside the table.
  paste0(
    "\n```{=html}\n<details open><summary>scoom object with n_obs x n_vars = ",
    format_shape(dim(x)),
    "</summary>\n<table>\n",
    paste(rows, collapse = "\n"),
    "\n</table>\n</details>\n```\n"
  )
}

escape_html <- function(text) {
  text <- gsub("&", "&amp;", text, fixed = TRUE)
  text <- gsub("<", "&lt;", text, fixed = TRUE)
  gsub(">", "&gt;", text, fixed = TRUE)
}
