//! Taking out of the values what columns of the cells explain: linear regression and
//! `ComBat`.
//!
//! Both fit a mean for each group of cells and a slope for each further column, to every
//! gene. Within groups the columns are centred and made orthonormal first
//! ([`DesignBasis`]), so that slopes are plain sums of products that one pass gives
//! ([`FitPass`]) and nothing is inverted. What comes out are the numbers of an operation of
//! the chain ([`Adjust`](crate::transform::Adjust)): values are computed when they are read.

mod basis;
mod combat;
mod fit;

pub use basis::{Collinear, DesignBasis};
pub use combat::{Combat, combat};
pub use fit::{Fit, FitPartial, FitPass};
