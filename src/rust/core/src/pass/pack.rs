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
    let n_rows = view.n_obs() as u64;
    let outcome = stream_runs(source, view, ctx, stage, &runs, SLAB_VALUES, |number, run| {
        let (mut packed, mut codes) = (PackedBlock::default(), Codes::default());
        run.for_each(|_, slab| {
            packed.append(slab, &mut codes);
            Ok(())
        })?;
        packed.shrink();
        let bytes = packed.bytes() as u64;
        // Rows before their bytes, so that what all will take is not overestimated.
        let rows = view.n_rows(&source.grid().rows(runs[number][0])) as u64;
        read.fetch_add(rows, Ordering::SeqCst);
        let needed_bytes = taken.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let rows = read.load(Ordering::SeqCst);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::testing::Matrix;
    use crate::matrix::{Extent, Fetched, Reader};
    use crate::transform::Chain;

    /// Counts the blocks that are fetched.
    struct Counting(Matrix, AtomicUsize);

    impl Source for Counting {
        fn extent(&self) -> &Extent {
            self.0.extent()
        }

        fn reader<'a>(&'a self, ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
            Ok(Box::new(CountingReader(self.0.reader(ctx)?, &self.1)))
        }
    }

    struct CountingReader<'a>(Box<dyn Reader<'a> + 'a>, &'a AtomicUsize);

    impl<'a> Reader<'a> for CountingReader<'a> {
        fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.fetch(block)
        }
    }

    #[test]
    fn hopeless_packing_stops_early() {
        let source = Counting(Matrix::counts(600, 20, 3), AtomicUsize::new(0));
        let n_blocks = source.grid().n_blocks();
        let view = View::new(600, 20, None, &Chain::default()).unwrap();
        let ctx = Ctx::new(2, 1 << 30, std::env::temp_dir(), &Silent);
        let attempt = |budget| {
            source.1.store(0, Ordering::Relaxed);
            let packed = pack(&source, &view, &ctx, "packing", budget).unwrap();
            (packed.map(|packed| packed.bytes() as u64), source.1.load(Ordering::Relaxed))
        };
        let (Some(bytes), fetched) = attempt(u64::MAX) else { panic!("it fits") };
        assert_eq!(fetched, n_blocks);
        assert_eq!(attempt(bytes), (Some(bytes), n_blocks));
        let (none, fetched) = attempt(bytes - 1);
        assert!(none.is_none() && fetched > n_blocks / 2);
        // A sixteenth of the rows tells, and some blocks are fetched ahead.
        let (none, fetched) = attempt(bytes / 2);
        assert!(none.is_none() && fetched <= n_blocks / 16 + 12, "{fetched} of {n_blocks}");
    }
}
