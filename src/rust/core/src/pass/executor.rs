//! Folding blocks in parallel, merging in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::stream::{SLAB_VALUES, stream_runs};
use super::{Held, Pass, TiledPass};
use crate::ctx::{Ctx, POLL, Stop};
use crate::error::{Error, Result};
use crate::matrix::Source;
use crate::transform::View;

/// Runs a pass over the whole view.
///
/// # Errors
/// As [`stream`], and what folding reports.
pub fn run<P: Pass>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    pass: &P,
) -> Result<P::Partial> {
    let ranges: Vec<usize> = (0..source.grid().n_ranges()).collect();
    Ok(merge_partials(pass, run_ranges(source, view, ctx, stage, pass, &ranges)?))
}

/// Adds up the partials of all ranges, given in order.
pub fn merge_partials<P: Pass>(pass: &P, partials: Vec<P::Partial>) -> P::Partial {
    let mut total = pass.empty();
    for partial in partials {
        pass.merge(&mut total, partial);
    }
    total
}

/// Runs a pass over some ranges, given in increasing order, and returns one
/// partial for each of them.
///
/// # Errors
/// As [`stream`], and what folding reports.
pub fn run_ranges<P: Pass>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    pass: &P,
    ranges: &[usize],
) -> Result<Vec<P::Partial>> {
    check_ranges(source, ranges)?;
    let grid = source.grid();
    let length = run_length(pass.partial_bytes());
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut range_of_run = Vec::new();
    for (at, &range) in ranges.iter().enumerate() {
        let blocks: Vec<usize> = grid.blocks(range).collect();
        for run in blocks.chunks(length) {
            runs.push(run.iter().copied().filter(|&b| view.touches(&grid.rows(b))).collect());
            range_of_run.push(at);
        }
    }
    let kept: Vec<bool> = runs.iter().map(|run| !run.is_empty()).collect();
    let merger = Mutex::new(Merger {
        next: 0,
        waiting: BTreeMap::new(),
        merged: ranges.iter().map(|_| pass.empty()).collect(),
    });
    stream_runs(source, view, ctx, stage, &runs, SLAB_VALUES, |number, run| {
        let mut partial = pass.empty();
        run.for_each(|_, slab| pass.fold(slab, &mut partial))?;
        let mut merger = merger.lock().unwrap_or_else(PoisonError::into_inner);
        merger.waiting.insert(number, partial);
        loop {
            while kept.get(merger.next) == Some(&false) {
                merger.next += 1;
            }
            let next = merger.next;
            let Some(partial) = merger.waiting.remove(&next) else { break };
            pass.merge(&mut merger.merged[range_of_run[next]], partial);
            merger.next += 1;
        }
        Ok(())
    })?;
    Ok(merger.into_inner().unwrap_or_else(PoisonError::into_inner).merged)
}

/// Blocks that share a partial, so that making and merging partials costs
/// little beside the values folded into them: a partial has at most a quarter
/// of the bytes of its run's entries.
fn run_length(partial_bytes: usize) -> usize {
    (4 * partial_bytes).div_ceil(BLOCK_BYTES).max(1)
}

/// Bytes of a block's entries, about.
const BLOCK_BYTES: usize = 12 << 20;

/// Partials of runs, merged as soon as all before them are.
struct Merger<T> {
    next: usize,
    waiting: BTreeMap<usize, T>,
    merged: Vec<T>,
}

/// Runs a tiled pass over the whole view and returns its tiles.
///
/// # Errors
/// As [`stream`], and what folding reports.
pub fn run_tiled<P: TiledPass>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    pass: &P,
) -> Result<Vec<P::Tile>> {
    let n_ranges = source.grid().n_ranges();
    if n_ranges == 0 {
        return Ok((0..pass.n_tiles()).map(|t| pass.empty(t)).collect());
    }
    let empty = || -> Vec<P::Tile> { (0..pass.n_tiles()).map(|t| pass.empty(t)).collect() };
    // The memory of a range's blocks and tiles serves for the next range.
    let spare = Mutex::default();
    // The first range is the total so far: an empty one would be neutral.
    let mut total = fold_range(source, view, ctx, stage, pass, 0, empty(), &spare)?;
    let mut tiles = Vec::new();
    for range in 1..n_ranges {
        if tiles.is_empty() {
            tiles = empty();
        }
        tiles = fold_range(source, view, ctx, stage, pass, range, tiles, &spare)?;
        let is_last = range + 1 == n_ranges;
        let pairs: Vec<_> = total.iter_mut().zip(&mut tiles).map(Mutex::new).collect();
        ctx.parallel(
            stage,
            pairs.len(),
            || (),
            |t, ()| {
                let mut pair = pairs[t].lock().unwrap_or_else(PoisonError::into_inner);
                let (into, from) = &mut *pair;
                pass.merge(t, into, from);
                if !is_last {
                    pass.reset(t, from);
                }
                Ok(())
            },
        )?;
    }
    Ok(total)
}

/// Runs a tiled pass over one range and returns the range's tiles.
///
/// # Errors
/// As [`stream`], and what folding reports.
pub fn run_tiled_ranges<P: TiledPass>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    pass: &P,
    range: usize,
) -> Result<Vec<P::Tile>> {
    let tiles = (0..pass.n_tiles()).map(|t| pass.empty(t)).collect();
    fold_range(source, view, ctx, stage, pass, range, tiles, &Mutex::default())
}

/// Folds one range into neutral tiles; blocks are made of `spare` ones.
#[allow(clippy::too_many_arguments, reason = "those of `run_tiled`, and what is reused")]
fn fold_range<P: TiledPass>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    pass: &P,
    range: usize,
    tiles: Vec<P::Tile>,
    spare: &Mutex<Vec<P::Held>>,
) -> Result<Vec<P::Tile>> {
    check_ranges(source, &[range])?;
    let grid = source.grid();
    let blocks: Vec<usize> = grid.blocks(range).filter(|&b| view.touches(&grid.rows(b))).collect();
    let tiles: Vec<Mutex<Tile<P::Tile>>> =
        tiles.into_iter().map(|partial| Mutex::new(Tile { next: 0, partial })).collect();
    // Where the pieces of each block begin in the order of folding.
    let mut n_pieces = 0;
    let places: Vec<AtomicUsize> = blocks
        .iter()
        .map(|&block| {
            let first = n_pieces;
            n_pieces += view.n_pieces(&grid.rows(block));
            AtomicUsize::new(first)
        })
        .collect();
    let window = Window::new(spare);
    let most = 2 * ctx.threads();
    let full = WORTH_A_ROUND * ctx.threads();
    let fold = |t: usize, tile: &mut Tile<P::Tile>| -> Result<()> {
        while let Some(next) = window.get(tile.next) {
            pass.fold(&next, t, &mut tile.partial)?;
            window.taken(tile.next, next);
            tile.next += 1;
        }
        Ok(())
    };
    // A piece is in the window until every tile has taken it. Whoever finds the window
    // full waits for the tiles that lag behind.
    let fold_all = |waits: bool| -> Result<()> {
        for (t, tile) in tiles.iter().enumerate() {
            let mut tile = if waits {
                tile.lock().unwrap_or_else(PoisonError::into_inner)
            } else {
                match tile.try_lock() {
                    Ok(tile) => tile,
                    Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(std::sync::TryLockError::WouldBlock) => continue,
                }
            };
            fold(t, &mut tile)?;
        }
        Ok(())
    };
    let deliver = |number: usize, held: P::Held, stop: &Stop| -> Result<()> {
        let place = places[number].fetch_add(1, Ordering::Relaxed);
        if view.is_dense() && !tiles.is_empty() {
            window.wait_for_turn(place, most, stop, || fold_all(false))?;
        }
        window.insert(place, held, tiles.len());
        match window.bytes() {
            bytes if bytes < WORTH_A_ROUND => Ok(()),
            bytes => {
                // Whoever waited at once would follow another worker from tile to tile.
                fold_all(false)?;
                if bytes > full { fold_all(true) } else { Ok(()) }
            }
        }
    };
    let runs: Vec<Vec<usize>> = blocks.iter().map(|&block| vec![block]).collect();
    // Rows that are written out come in pieces of whole blocks.
    let slab_values = if view.is_dense() { usize::MAX } else { P::SLAB_VALUES };
    stream_runs(source, view, ctx, stage, &runs, slab_values, |number, run| {
        let (stop, budget) = (run.stop(), run.budget());
        let mut held = window.spare();
        run.for_each(|_, slab| {
            pass.hold(slab, &mut held);
            if view.is_dense() {
                let piece = std::mem::replace(&mut held, window.spare());
                return deliver(number, piece, stop);
            }
            // A row may be selected any number of times.
            budget.check(|| "one block of the selected cells".into(), held.bytes() as u64)
        })?;
        if view.is_dense() { Ok(()) } else { deliver(number, held, stop) }
    })?;
    // What was left because its tile was busy.
    ctx.parallel(
        stage,
        tiles.len(),
        || (),
        |t, ()| {
            let mut tile = tiles[t].lock().unwrap_or_else(PoisonError::into_inner);
            fold(t, &mut tile)
        },
    )?;
    Ok(tiles
        .into_iter()
        .map(|tile| tile.into_inner().unwrap_or_else(PoisonError::into_inner).partial)
        .collect())
}

/// Bytes of blocks that are worth a round through the tiles, which brings each into the
/// cache once. A full window has as much for each thread.
const WORTH_A_ROUND: usize = 24 << 20;

struct Tile<T> {
    next: usize,
    partial: T,
}

/// Blocks that some tile has not taken yet.
struct Window<'s, H> {
    blocks: Mutex<BTreeMap<usize, (Arc<H>, usize)>>,
    /// Blocks that all tiles have taken: their memory serves again.
    spare: &'s Mutex<Vec<H>>,
    /// Of the blocks.
    bytes: AtomicUsize,
    /// How many all tiles have taken; tiles take blocks in order, so this is also the first place
    /// that is not taken.
    n_taken: AtomicUsize,
    moved: Condvar,
}

impl<'s, H: Held> Window<'s, H> {
    fn new(spare: &'s Mutex<Vec<H>>) -> Self {
        Window {
            blocks: Mutex::default(),
            spare,
            bytes: AtomicUsize::new(0),
            n_taken: AtomicUsize::new(0),
            moved: Condvar::new(),
        }
    }

    /// An empty block.
    fn spare(&self) -> H {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut block = spare.unwrap_or_default();
        block.clear();
        block
    }

    fn insert(&self, place: usize, block: H, n_tiles: usize) {
        if n_tiles > 0 {
            self.bytes.fetch_add(block.bytes(), Ordering::Relaxed);
            self.lock().insert(place, (Arc::new(block), n_tiles));
            self.moved.notify_all();
        }
    }

    /// Waits until `place` is not far ahead of what all tiles have taken, folding
    /// meanwhile. Problem: a sparse block of many rows that is written out has hundreds of
    /// pieces, and later blocks would fill the memory meanwhile. Blocks are begun in their
    /// order, so the worker with the earliest one never waits.
    fn wait_for_turn(
        &self,
        place: usize,
        most: usize,
        stop: &Stop,
        fold: impl Fn() -> Result<()>,
    ) -> Result<()> {
        while place >= self.n_taken.load(Ordering::SeqCst) + most {
            if stop.is_raised() {
                return Err(Error::Interrupted);
            }
            fold()?;
            let blocks = self.lock();
            if place >= self.n_taken.load(Ordering::SeqCst) + most {
                drop(self.moved.wait_timeout(blocks, POLL));
            }
        }
        Ok(())
    }

    fn get(&self, place: usize) -> Option<Arc<H>> {
        self.lock().get(&place).map(|(block, _)| Arc::clone(block))
    }

    /// Gives back what [`get`](Self::get) lent, when a tile is done with it.
    fn taken(&self, place: usize, lent: Arc<H>) {
        drop(lent);
        let mut blocks = self.lock();
        let Some((_, left)) = blocks.get_mut(&place) else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        let block = blocks.remove(&place).and_then(|(block, _)| Arc::try_unwrap(block).ok());
        self.bytes.fetch_sub(block.as_ref().map_or(0, H::bytes), Ordering::Relaxed);
        self.n_taken.fetch_add(1, Ordering::SeqCst);
        self.moved.notify_all();
        drop(blocks);
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).extend(block);
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, (Arc<H>, usize)>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_ranges(source: &dyn Source, ranges: &[usize]) -> Result<()> {
    let n = source.grid().n_ranges();
    if ranges.iter().all(|&r| r < n) && ranges.windows(2).all(|w| w[0] < w[1]) {
        Ok(())
    } else {
        Err(Error::InvalidInput {
            argument: "ranges",
            message: format!("ranges must increase and lie below {n}"),
        })
    }
}
