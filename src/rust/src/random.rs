//! Random numbers for R.

use extendr_api::prelude::*;
use scoom_core::error::{Error, Result};
use scoom_core::stats::random::Rng;

use crate::convert::Args;
use crate::guard::guard;

/// One number in [0, 1) for each of `args$index`, whole numbers from zero on; each
/// depends on `args$seed` and its index alone.
/// @noRd
#[extendr]
fn rs_random_uniform(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let seed = args.count("seed")? as u64;
        let draw = |index: f64| {
            if index >= 0.0 && index.fract() == 0.0 {
                Ok(Rng::new(seed, index as u64).uniform())
            } else {
                let message = "`index` must be whole numbers from zero on".to_owned();
                Err(Error::InvalidInput { argument: "index", message })
            }
        };
        args.numbers("index")?.into_iter().map(draw).collect::<Result<Vec<f64>>>()
    })
}

extendr_module! {
    mod random;
    fn rs_random_uniform;
}
