.onLoad <- function(libname, pkgname) {
  register_matrix_generics()
}

.onUnload <- function(libpath) {
  library.dynam.unload("scoom", libpath)
}
