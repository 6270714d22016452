//! Highly variable genes, within batches and over them.
//!
//! * [`by_batch`]: sums for every batch and gene, in one read; [`moments`] and
//!   [`counts`] are the first read of a flavour, [`clipped`] and [`residuals`]
//!   the second.
//! * [`dispersion`]: the flavours that standardise dispersions within bins of the
//!   mean. [`ranks`]: those that rank the genes of each batch. Numbers in, numbers out.
//!
//! Where there are several batches, numbers are *batch-major*: the genes of the first
//! batch, the genes of the second ...

mod bins;
pub mod by_batch;
pub mod clipped;
pub mod counts;
pub mod dispersion;
pub mod moments;
pub mod ranks;
pub mod residuals;
