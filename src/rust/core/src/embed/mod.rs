//! Embeddings of cells in few dimensions.

mod covariance;
mod pca;
mod scores;

pub use covariance::{Covariance, CovariancePass};
pub use pca::{Pca, PcaOptions, Scaling, pca, pca_from_covariance};
pub use scores::{ScorePass, ScorePiece};
