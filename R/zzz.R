.onUnload <- function(libpath) {
  library.dynam.unload("scoom", libpath)
}
