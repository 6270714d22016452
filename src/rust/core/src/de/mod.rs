//! Differential expression: comparisons of groups of cells, gene by gene, and
//! sums per group.
//!
//! * [`groups`], [`contrast`]: which cell is where, what is compared with what.
//! * [`group_pass`]: one accumulator for every group and gene, in one read (rows wait
//!   for their turn in `held`, accumulators are in a `group_tile`); [`moments`] make t-tests ([`ttest`]) and tests of detection ([`binomial`]) of
//!   them, pseudobulk takes the sums.
//! * [`gene_major`]: values by gene in bounded memory, made of [`piece`]s that [`spill`] to disk:
//!   rows `turn`ed around, with `codes` that say which value of a [`dictionary`] each is. They
//!   are `gathered` by a `gene_batch` at a time, as words (`gathered_words`) where all values have a `value_order`;
//!   `sorted` they are the source of rank tests ([`wilcoxon`], `ranking`), as they come that of [`lr`].
//! * [`fold_change`], `combine`, [`replicates`]: effects, strata (blocks) made
//!   one, samples one by one.
//! * [`logreg`] fits models of all genes at once, [`lr`] one for each gene;
//!   [`sides`], [`classes`], [`latent`]: what models take of comparisons and cells.
//! * [`table`]: thresholds, adjustment, order, columns.
//!
//! A new comparison is a list of [`contrast::Stratum`]; a new test takes either of
//! the two sources and returns [`table::Row`]s gene by gene.

pub mod binomial;
pub mod classes;
mod codes;
mod combine;
pub mod contrast;
pub mod dictionary;
pub mod fold_change;
mod gathered;
mod gathered_words;
mod gene_batch;
pub mod gene_major;
mod genes;
pub mod group_pass;
mod group_tile;
mod held;
pub mod latent;
pub mod logreg;
pub mod lr;
pub mod moments;
pub mod piece;
mod ranking;
pub mod replicates;
pub mod sides;
mod sorted;
pub mod spill;
pub mod table;
pub mod ttest;
mod turn;
mod value_order;
pub mod wilcoxon;

pub use crate::summary::groups;

#[cfg(test)]
mod tests;
