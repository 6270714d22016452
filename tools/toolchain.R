# Finding tools and versions, shared by msrv.R and config.R. Base R only.

# Ends the installation with lines of text and no traceback.
halt <- function(...) {
  rule <- strrep("-", 72)
  message(paste(c(rule, ..., rule), collapse = "\n"))
  quit(save = "no", status = 1L)
}

# The oldest Rust that builds the package, as DESCRIPTION states it.
required_rust <- function(description) {
  text <- read.dcf(description, fields = "SystemRequirements")[[1L]]
  package_version(sub(
    ".*rustc >= ([0-9.]+[0-9]).*",
    "\\1",
    gsub("\\s+", " ", text)
  ))
}

# Path of a tool: the PATH first, then where rustup puts things, which is not
# on the PATH of an R that was started from a desktop. "" when there is none.
find_tool <- function(name) {
  on_path <- Sys.which(name)[[1L]]
  if (nzchar(on_path)) {
    return(on_path)
  }
  file <- if (.Platform$OS.type == "windows") paste0(name, ".exe") else name
  homes <- c(
    Sys.getenv("CARGO_HOME"),
    file.path(c(Sys.getenv("HOME"), Sys.getenv("USERPROFILE")), ".cargo")
  )
  candidates <- file.path(homes[nzchar(homes)], "bin", file)
  c(candidates[file.exists(candidates)], "")[[1L]]
}

# What a command prints, or character() when it fails.
output_of <- function(command, args) {
  if (!nzchar(command)) {
    return(character())
  }
  out <- suppressWarnings(tryCatch(
    system2(command, args, stdout = TRUE, stderr = FALSE),
    error = function(e) character()
  ))
  status <- attr(out, "status")
  if (is.null(status) || status == 0L) out else character()
}

# The first version number that `tool --version` prints, or NA.
tool_version <- function(tool) {
  first_version(output_of(tool, "--version"))
}

first_version <- function(text) {
  hit <- regmatches(text, regexpr("[0-9]+(\\.[0-9]+)+", text))
  if (length(hit)) hit[[1L]] else NA_character_
}

at_least <- function(version, minimum) {
  !is.na(version) && package_version(version) >= minimum
}
