//! Highly variable genes. Each flavour is a function from the moments of the
//! genes to a ranking: numbers in, numbers out.

mod seurat;

pub use seurat::{Cutoffs, Selection, VariableGenes, seurat};
