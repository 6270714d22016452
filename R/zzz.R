.onLoad <- function(libname, pkgname) {
  register_matrix_generics()
  register_delayed_methods()
}

.onUnload <- function(libpath) {
  library.dynam.unload("scoom", libpath)
}
