//! Embeddings of cells in few dimensions.

mod covariance;
mod harmony;
mod kmeans;
mod pca;
mod scores;

pub use covariance::{Covariance, CovariancePass};
pub use harmony::{Batches, Harmony, HarmonyOptions, harmony};
pub use pca::{Pca, PcaOptions, Scaling, means, pca, pca_from_covariance};
pub use scores::{ScorePass, ScorePiece};
