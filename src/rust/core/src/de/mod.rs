//! Differential expression: comparisons of groups of cells, gene by gene, and
//! sums per group.
//!
//! * [`groups`], [`contrast`]: which cell is where, what is compared with what.
//! * [`group_pass`]: one accumulator for every group and gene ([`moments`]), the
//!   source of t-tests ([`ttest`]), fold changes ([`fold_change`]), percentages
//!   and pseudobulk sums.
//! * [`gene_major`]: values by gene in bounded memory, made of [`piece`]s that
//!   [`spill`] to disk; the source of rank tests ([`wilcoxon`]).
//! * [`table`]: ordering, adjustment, columns.
//!
//! A new comparison is a [`contrast::Reference`]; a new test takes either of the
//! two sources and returns [`table::Row`]s gene by gene.

pub mod contrast;
pub mod fold_change;
pub mod gene_major;
pub mod group_pass;
pub mod groups;
pub mod moments;
pub mod piece;
pub mod spill;
pub mod table;
pub mod ttest;
pub mod wilcoxon;

#[cfg(test)]
mod tests;
