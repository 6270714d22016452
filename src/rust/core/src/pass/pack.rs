//! Packing a view into memory while it streams by.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::stream::{SLAB_VALUES, stream_runs};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::Source;
use crate::matrix::packed::{Codes, PackedBlock, PackedSource};
use crate::transform::View;

/// One row of so many tells what the others take, about.
const TELLING: u64 = 16;
/// Of the budget: rows that follow may be smaller, and a read in vain costs less than one
/// too many.
const FAR_TOO_MUCH: f64 = 1.25;

/// Reads the [sparse part](View::sparse_part) of the view once and keeps it, or `None`
/// when it takes more than `budget_bytes`: then the reading stops at the first block
/// too much, or early where the first rows tell that all will take far too much.
/// [`View::of_copy`] is the view of what was kept.
///
/// # Errors
/// As [`stream`](super::stream).
pub fn pack(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    budget_bytes: u64,
) -> Result<Option<PackedSource>> {
    let view = &view.sparse_part();
    let n_blocks = source.grid().n_blocks();
    let blocks: Vec<Mutex<PackedBlock>> = (0..n_blocks).map(|_| Mutex::default()).collect();
    let (taken, read) = (AtomicU64::new(0), AtomicU64::new(0));
    let runs: Vec<Vec<usize>> = (0..n_blocks)
        .filter(|&block| view.touches(&source.grid().rows(block)))
        .map(|block| vec![block])
        .collect();
    let rows_of = |run: &Vec<usize>| source.grid().rows(run[0]).len() as u64;
    let n_rows: u64 = runs.iter().map(rows_of).sum();
    let outcome = stream_runs(source, view, ctx, stage, &runs, SLAB_VALUES, |number, run| {
        let (mut packed, mut codes) = (PackedBlock::default(), Codes::default());
        run.for_each(|_, slab| {
            packed.append(slab, &mut codes);
            Ok(())
        })?;
        packed.shrink();
        let bytes = packed.bytes() as u64;
        let needed_bytes = taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let rows = rows_of(&runs[number]);
        let rows = read.fetch_add(rows, Ordering::Relaxed) + rows;
        let in_all = needed_bytes as f64 * (n_rows as f64 / rows as f64);
        let is_hopeless = rows >= n_rows / TELLING && in_all > FAR_TOO_MUCH * budget_bytes as f64;
        if needed_bytes > budget_bytes || is_hopeless {
            return Err(Error::OverBudget { what: stage.to_owned(), needed_bytes, budget_bytes });
        }
        *blocks[runs[number][0]].lock().unwrap_or_else(PoisonError::into_inner) = packed;
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
