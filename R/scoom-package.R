#' @keywords internal
#' @aliases scoom-package
"_PACKAGE"

#' @useDynLib scoom, .registration = TRUE
#' @import methods
#' @import rlang
NULL
