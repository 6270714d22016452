//! Getting the blocks of a view through the workers.
//!
//! The unit of work is a run: some blocks in a row that one worker takes in
//! order. The calling thread fetches blocks for all runs in work, one or two
//! ahead of each worker; the worker inflates, converts, transforms and folds a
//! slab of rows at a time, small enough to stay in its cache.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::ctx::{Budget, Ctx, POLL, Stop};
use crate::error::{Error, Result};
use crate::matrix::compressed::ENTRY_BYTES;
use crate::matrix::{Fetched, RowBlock, Scratch, Source};
use crate::transform::{View, ViewScratch};

/// Entries of a slab, about: with its transforms well inside a second-level cache.
pub(crate) const SLAB_VALUES: usize = 1 << 15;
/// Blocks fetched ahead of each worker.
const AHEAD: usize = 2;

/// Sends the blocks of `view` among `blocks` through `consume`, whole, on the
/// worker threads: in no particular order, each once. The calling thread reads
/// the file and polls the monitor.
///
/// `consume` gets the block's number in the grid and may take the block's
/// buffers, leaving others to be reused.
///
/// # Errors
/// The first error of reading, decoding or consuming, or an interruption.
pub fn stream<F>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    blocks: impl Iterator<Item = usize>,
    consume: F,
) -> Result<()>
where
    F: Fn(usize, &mut RowBlock) -> Result<()> + Sync,
{
    let runs: Vec<Vec<usize>> =
        blocks.filter(|&b| view.touches(&source.grid().rows(b))).map(|b| vec![b]).collect();
    stream_runs(source, view, ctx, stage, &runs, usize::MAX, |_, run| run.for_each(&consume))
}

/// Sends all of `view` through `consume` in slabs, as [`stream`] sends blocks.
///
/// # Errors
/// As [`stream`].
pub fn stream_slabs<F>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    consume: F,
) -> Result<()>
where
    F: Fn(&mut RowBlock) -> Result<()> + Sync,
{
    let runs: Vec<Vec<usize>> = (0..source.grid().n_blocks())
        .filter(|&b| view.touches(&source.grid().rows(b)))
        .map(|b| vec![b])
        .collect();
    stream_runs(source, view, ctx, stage, &runs, SLAB_VALUES, |_, run| {
        run.for_each(|_, slab| consume(slab))
    })
}

/// Sends runs of blocks through `consume`, which is called once for each run on
/// some worker and draws the run's slabs of about `slab_values` entries.
///
/// # Errors
/// As [`stream`].
pub(crate) fn stream_runs<F>(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    stage: &str,
    runs: &[Vec<usize>],
    slab_values: usize,
    consume: F,
) -> Result<()>
where
    F: Fn(usize, &mut Run) -> Result<()> + Sync,
{
    let total: usize = runs.iter().map(Vec::len).sum();
    if total == 0 {
        return Ok(());
    }
    let mut reader = source.reader(ctx)?;
    let queues = Queues::new(ctx.threads());
    let budget = ctx.budget();
    ctx.with_workers(
        |worker, stop| {
            let mut run = Run {
                budget,
                view,
                queues: &queues,
                worker,
                stop,
                slab_values,
                current: None,
                scratch: Scratch::default(),
                spare: ViewScratch::default(),
                slab: RowBlock::default(),
            };
            while let Some(number) = run.begin() {
                consume(number, &mut run)?;
            }
            Ok(())
        },
        |stop| {
            let mut polled = Instant::now();
            let mut waiting = runs.iter().enumerate();
            let mut at: Vec<Option<(usize, std::slice::Iter<usize>)>> = vec![None; ctx.threads()];
            let mut done = 0;
            // The worker whose run has to be fetched to its end first.
            let mut begun = None;
            let in_order = source.reads_in_order();
            while done < total {
                if stop.is_raised() {
                    return Err(Error::Interrupted);
                }
                if let Some(worker) = begun.or_else(|| queues.hungry()) {
                    let slot = &mut at[worker];
                    if slot.is_none() {
                        *slot =
                            waiting.find(|(_, run)| !run.is_empty()).map(|(i, r)| (i, r.iter()));
                    }
                    let Some((run, blocks)) = slot else {
                        queues.retire(worker);
                        continue;
                    };
                    if let Some(&block) = blocks.next() {
                        let last = blocks.len() == 0;
                        let fetched = reader.fetch(block)?;
                        let whole = last && runs[*run].len() == 1;
                        queues.push(worker, Job { run: *run, block, last, whole, fetched });
                        done += 1;
                        begun = (in_order && !last).then_some(worker);
                        if last {
                            *slot = None;
                        }
                    }
                } else {
                    queues.wait_for_room();
                }
                if polled.elapsed() > POLL {
                    ctx.poll(stage, done as u64, total as u64)?;
                    polled = Instant::now();
                }
            }
            queues.close();
            while stop.running() > 0 {
                stop.wait(POLL);
                ctx.poll(stage, done as u64, total as u64)?;
            }
            Ok(())
        },
    )
}

/// A block on its way to the worker that has its run.
struct Job<'a> {
    run: usize,
    block: usize,
    last: bool,
    /// The only block of its run.
    whole: bool,
    fetched: Box<dyn Fetched + 'a>,
}

/// The run that a worker is on.
pub(crate) struct Run<'q, 'a> {
    budget: Budget,
    view: &'q View,
    queues: &'q Queues<'a>,
    worker: usize,
    stop: &'q Stop,
    slab_values: usize,
    current: Option<Job<'a>>,
    scratch: Scratch,
    spare: ViewScratch,
    slab: RowBlock,
}

impl<'q> Run<'q, '_> {
    /// Waits for a run; `None` when there are no more.
    fn begin(&mut self) -> Option<usize> {
        self.current = self.queues.pop(self.worker, self.stop, true);
        self.current.as_ref().map(|job| job.run)
    }

    /// What may be held.
    pub(crate) fn budget(&self) -> Budget {
        self.budget
    }

    /// The flag that ends the work.
    pub(crate) fn stop(&self) -> &'q Stop {
        self.stop
    }

    /// Hands the run's slabs to `each` in order, with their block's number.
    pub(crate) fn for_each(
        &mut self,
        mut each: impl FnMut(usize, &mut RowBlock) -> Result<()>,
    ) -> Result<()> {
        loop {
            let job =
                self.current.take().or_else(|| self.queues.pop(self.worker, self.stop, false));
            let Some(Job { block, last, fetched, .. }) = job else {
                return Err(Error::Interrupted);
            };
            let (view, spare) = (self.view, &mut self.spare);
            let (most, budget) = (self.slab_values, self.budget);
            fetched.decode(&mut self.scratch, &mut self.slab, most, &mut |slab| {
                if most == usize::MAX {
                    // In one piece, and a row may be selected any number of times.
                    let bytes = view.entries(slab).saturating_mul(ENTRY_BYTES);
                    budget.check(|| "one block of the selected cells".into(), bytes)?;
                }
                view.apply(slab, spare, most, |slab| each(block, slab))
            })?;
            if last {
                return Ok(());
            }
        }
    }
}

/// A worker that leaves, for whatever reason, takes its jobs along.
impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        self.current = None;
        self.queues.leave(self.worker);
    }
}

/// One queue for each worker.
struct Queues<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
}

struct State<'a> {
    jobs: Vec<VecDeque<Job<'a>>>,
    /// No more runs for these.
    retired: Vec<bool>,
    /// These are gone.
    left: Vec<bool>,
    closed: bool,
}

impl State<'_> {
    fn hungry(&self) -> Option<usize> {
        (0..self.jobs.len())
            .filter(|&w| !self.retired[w] && !self.left[w] && self.jobs[w].len() < AHEAD)
            .min_by_key(|&w| self.jobs[w].len())
    }
}

impl<'a> Queues<'a> {
    fn new(workers: usize) -> Self {
        let mut jobs = Vec::new();
        jobs.resize_with(workers, VecDeque::new);
        let state = State {
            jobs,
            retired: vec![false; workers],
            left: vec![false; workers],
            closed: false,
        };
        Queues { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker with the fewest blocks ahead, if any has room.
    fn hungry(&self) -> Option<usize> {
        self.lock().hungry()
    }

    fn wait_for_room(&self) {
        let state = self.lock();
        if state.hungry().is_none() {
            drop(self.changed.wait_timeout(state, POLL));
        }
    }

    /// Hands a job to a worker. One that has left drops it at once.
    fn push(&self, worker: usize, job: Job<'a>) {
        let mut state = self.lock();
        if state.left[worker] {
            drop(state);
            drop(job);
            return;
        }
        state.jobs[worker].push_back(job);
        self.changed.notify_all();
    }

    /// No more runs for this worker.
    fn retire(&self, worker: usize) {
        self.lock().retired[worker] = true;
        self.changed.notify_all();
    }

    /// Drops the jobs of a worker that takes no more.
    fn leave(&self, worker: usize) {
        let mut state = self.lock();
        state.left[worker] = true;
        let jobs = std::mem::take(&mut state.jobs[worker]);
        drop(state);
        drop(jobs);
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The worker's next job; `None` when there will be none. A worker that has no run
    /// left takes one that waits for another, if it is `free` to.
    fn pop(&self, worker: usize, stop: &Stop, free: bool) -> Option<Job<'a>> {
        let mut state = self.lock();
        loop {
            if stop.is_raised() {
                state.jobs[worker].clear();
                return None;
            }
            if let Some(job) = state.jobs[worker].pop_front() {
                self.changed.notify_all();
                return Some(job);
            }
            if state.closed || state.retired[worker] {
                let whole = |jobs: &VecDeque<Job>| jobs.back().is_some_and(|job| job.whole);
                let other = state.jobs.iter_mut().find(|jobs| free && whole(jobs));
                return other.and_then(VecDeque::pop_back);
            }
            state =
                self.changed.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
