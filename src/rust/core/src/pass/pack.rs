//! Packing a view into memory while it streams by.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::stream::stream;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::Source;
use crate::matrix::packed::{PackedBlock, PackedSource};
use crate::transform::View;

/// Reads the view once and keeps it, or `None` when it takes more than
/// `budget_bytes`: then the reading stops at the first block too much.
///
/// # Errors
/// As [`stream`].
pub fn pack(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    budget_bytes: u64,
) -> Result<Option<PackedSource>> {
    let n_blocks = source.grid().n_blocks();
    let blocks: Vec<Mutex<PackedBlock>> = (0..n_blocks).map(|_| Mutex::default()).collect();
    let taken = AtomicU64::new(0);
    let outcome = stream(source, view, ctx, stage, 0..n_blocks, |number, block| {
        let packed = PackedBlock::new(block, view.n_vars());
        let bytes = packed.bytes() as u64;
        let needed_bytes = taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if needed_bytes > budget_bytes {
            return Err(Error::OverBudget { what: stage.to_owned(), needed_bytes, budget_bytes });
        }
        *blocks[number].lock().unwrap_or_else(PoisonError::into_inner) = packed;
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        // This budget's own error; another's comes from the source.
        Err(Error::OverBudget { what, .. }) if what == stage => return Ok(None),
        Err(error) => return Err(error),
    }
    let blocks = blocks
        .into_iter()
        .map(|b| b.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect();
    Ok(Some(PackedSource::new(blocks, source.grid().clone(), view.n_obs(), view.n_vars())))
}
