//! R bindings of `scoom-core`: convert, call, convert back.
//!
//! Every `rs_*` function takes [`Robj`](extendr_api::Robj) arguments only and
//! runs its body in [`guard`](guard::guard), which answers with
//! `list(ok =, err =)`; `rs_unwrap()` in `R/call.R` returns the one or raises
//! the other. Nothing else may cross the border: an error that extendr raises
//! itself reaches C as a format string.

#![expect(missing_docs, reason = "`extendr_module!` makes public functions without")]
#![allow(
    clippy::needless_pass_by_value,
    clippy::used_underscore_binding,
    reason = "`#[extendr]` takes its arguments by value and wraps them in underscores"
)]

mod adjust;
mod convert;
mod de;
mod de_models;
mod doublets;
mod embed;
mod graph;
mod guard;
mod h5ad;
mod hvg;
mod interrupt;
mod matrix;
mod plan;
mod qc;
mod random;
mod score;
mod source;

use extendr_api::prelude::*;

extendr_module! {
    mod scoom;
    use adjust;
    use de;
    use de_models;
    use doublets;
    use embed;
    use graph;
    use guard;
    use h5ad;
    use hvg;
    use matrix;
    use plan;
    use qc;
    use random;
    use score;
}
