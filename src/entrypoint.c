// R looks for R_init_scoom; the rest of the library is Rust.

void register_extendr_panic_hook(void);
void R_init_scoom_extendr(void *dll);

void R_init_scoom(void *dll) {
  register_extendr_panic_hook();
  R_init_scoom_extendr(dll);
}
