//! What a long call needs to know of its caller: threads, memory, scratch
//! space, and a monitor that is asked now and then whether to go on.
//!
//! The core never prints and never asks the operating system for more threads
//! than it was given. The monitor is called on the calling thread alone.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};

/// How often a waiting coordinator asks the monitor.
pub(crate) const POLL: Duration = Duration::from_millis(30);

/// Bytes that are never refused.
const LEAST_BUDGET: u64 = 64 << 20;

/// Told of progress on the calling thread; says whether to go on.
pub trait Monitor {
    /// `done` of `total` units of `stage` are finished. Returns `false` to stop
    /// the work, which then ends with [`Error::Interrupted`].
    fn poll(&self, stage: &str, done: u64, total: u64) -> bool;
}

/// A monitor that never stops anything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Monitor for Silent {
    fn poll(&self, _stage: &str, _done: u64, _total: u64) -> bool {
        true
    }
}

/// The resources of one call.
pub struct Ctx<'a> {
    threads: usize,
    memory_bytes: u64,
    scratch: PathBuf,
    monitor: &'a dyn Monitor,
    read: Mutex<f64>,
}

impl<'a> Ctx<'a> {
    /// A context with `threads` workers (at least one), a budget of
    /// `memory_bytes` for what a pass holds beside its result, and a directory
    /// for files that spill.
    #[must_use]
    pub fn new(
        threads: usize,
        memory_bytes: u64,
        scratch: PathBuf,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let read = Mutex::new(0.0);
        Ctx { threads: threads.max(1), memory_bytes, scratch, monitor, read }
    }

    /// Number of worker threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The memory budget in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The directory for files that spill.
    #[must_use]
    pub fn scratch(&self) -> &std::path::Path {
        &self.scratch
    }

    /// Checks that what can't be cut smaller fits the budget. Up to 64 MiB, what
    /// the engine works with anyway, always do.
    ///
    /// # Errors
    /// [`Error::OverBudget`].
    pub fn check_budget(&self, what: impl FnOnce() -> String, needed_bytes: u64) -> Result<()> {
        self.budget().check(what, needed_bytes)
    }

    /// The memory budget alone, for workers.
    pub(crate) fn budget(&self) -> Budget {
        Budget(self.memory_bytes)
    }

    /// Notes that `part` of `whole` stored values of a matrix were read from its file.
    pub fn count_read(&self, part: u64, whole: u64) {
        if whole > 0 {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            *read += part as f64 / whole as f64;
        }
    }

    /// How often a matrix was read from its file so far; a part counts as such.
    #[must_use]
    pub fn reads(&self) -> f64 {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the monitor whether to go on.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when it says no.
    pub fn poll(&self, stage: &str, done: u64, total: u64) -> Result<()> {
        if self.monitor.poll(stage, done, total) { Ok(()) } else { Err(Error::Interrupted) }
    }

    /// Runs `worker` on every thread of a pool while `coordinate` runs on the
    /// calling thread. Either of them raises the stop flag that all watch when
    /// it fails. What a worker met is returned before what the coordinator saw
    /// of it, and a cause before those who only say that somebody stopped.
    ///
    /// # Panics
    /// A panic of a worker is resumed on the calling thread.
    pub(crate) fn with_workers<W, C>(&self, worker: W, coordinate: C) -> Result<()>
    where
        W: Fn(usize, &Stop) -> Result<()> + Sync,
        C: FnOnce(&Stop) -> Result<()>,
    {
        let stop = Stop::default();
        // The pool ends with the call: nothing of it is left to a forked process.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads);
        let coordinated = pool.build_scoped(rayon::ThreadBuilder::run, |pool| {
            pool.in_place_scope(|team| {
                stop.running.store(self.threads, Ordering::SeqCst);
                for index in 0..self.threads {
                    let (stop, worker) = (&stop, &worker);
                    team.spawn(move |_| {
                        let _leaving = Leaving(stop);
                        if let Err(error) = worker(index, stop) {
                            stop.fail(error);
                        }
                    });
                }
                let _ending = Ending(&stop);
                let outcome = coordinate(&stop);
                if outcome.is_err() {
                    stop.raise();
                }
                outcome
            })
        });
        let wanted = self.threads;
        let coordinated = coordinated.map_err(|source| Error::Threads { wanted, source })?;
        match (stop.into_error(), coordinated) {
            (Some(Error::Interrupted), Err(error)) | (Some(error), _) => Err(error),
            (None, outcome) => outcome,
        }
    }

    /// Runs `task(i)` for every `i < n_tasks` over the threads, in no
    /// particular order, polling the monitor meanwhile.
    ///
    /// `state` makes a worker's scratch space once per thread.
    ///
    /// # Errors
    /// The first error of a task, or [`Error::Interrupted`].
    pub fn parallel<S, T, F>(&self, stage: &str, n_tasks: usize, state: S, task: F) -> Result<()>
    where
        S: Fn() -> T + Sync,
        F: Fn(usize, &mut T) -> Result<()> + Sync,
    {
        let next = AtomicUsize::new(0);
        let done = AtomicUsize::new(0);
        self.with_workers(
            |_, stop| {
                let mut scratch = state();
                while !stop.is_raised() {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= n_tasks {
                        break;
                    }
                    task(i, &mut scratch)?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            },
            |stop| {
                while stop.running() > 0 {
                    stop.wait(POLL);
                    self.poll(stage, done.load(Ordering::Relaxed) as u64, n_tasks as u64)?;
                }
                Ok(())
            },
        )
    }
}

/// Bytes that a call may hold.
#[derive(Clone, Copy)]
pub(crate) struct Budget(u64);

impl Budget {
    /// As [`Ctx::check_budget`].
    pub(crate) fn check(self, what: impl FnOnce() -> String, needed_bytes: u64) -> Result<()> {
        if needed_bytes <= self.0.max(LEAST_BUDGET) {
            return Ok(());
        }
        Err(Error::OverBudget { what: what(), needed_bytes, budget_bytes: self.0 })
    }
}

/// The flag that stops a team of workers, with the reason.
#[derive(Default)]
pub(crate) struct Stop {
    raised: AtomicBool,
    running: AtomicUsize,
    error: Mutex<Option<Error>>,
    left: std::sync::Condvar,
    gate: Mutex<()>,
}

impl Stop {
    /// Whether work should end.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Ends the work without an error of its own.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        self.left.notify_all();
    }

    /// Ends the work because of `error`. The first one stays, unless it only
    /// says that somebody else stopped.
    pub(crate) fn fail(&self, error: Error) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, None | Some(Error::Interrupted)) {
            *slot = Some(error);
        }
        drop(slot);
        self.raise();
    }

    /// Number of workers that have not left.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Sleeps until a worker leaves or `limit` is over.
    pub(crate) fn wait(&self, limit: Duration) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if self.running() > 0 {
            drop(self.left.wait_timeout(gate, limit));
        }
    }

    fn into_error(self) -> Option<Error> {
        self.error.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a worker out when it returns or panics.
struct Leaving<'a>(&'a Stop);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.raise();
        }
        let _gate = self.0.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.left.notify_all();
    }
}

/// Stops the workers when the coordinator panics.
struct Ending<'a>(&'a Stop);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.raise();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct StopAfter(u64);
    impl Monitor for StopAfter {
        fn poll(&self, _: &str, done: u64, _: u64) -> bool {
            done < self.0
        }
    }

    #[test]
    fn every_task_runs_once() {
        let ctx = Ctx::new(3, 0, PathBuf::new(), &Silent);
        let hits: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        ctx.parallel(
            "test",
            100,
            || (),
            |i, ()| {
                hits[i].fetch_add(1, Ordering::Relaxed);
                Ok(())
            },
        )
        .unwrap();
        assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn the_monitor_stops_the_work() {
        let ctx = Ctx::new(2, 0, PathBuf::new(), &StopAfter(5));
        let outcome = ctx.parallel(
            "test",
            10_000,
            || (),
            |_, ()| {
                std::thread::sleep(Duration::from_millis(1));
                Ok(())
            },
        );
        assert!(matches!(outcome, Err(Error::Interrupted)));
    }

    #[test]
    fn the_first_error_comes_back() {
        let ctx = Ctx::new(2, 0, PathBuf::new(), &Silent);
        let outcome = ctx.parallel(
            "test",
            100,
            || (),
            |i, ()| {
                if i == 3 {
                    return Err(Error::InvalidValues { message: "three".into() });
                }
                Ok(())
            },
        );
        assert!(matches!(outcome, Err(Error::InvalidValues { .. })));
    }

    #[test]
    fn a_panic_of_a_worker_reaches_the_caller_with_its_message() {
        let caught = std::panic::catch_unwind(|| {
            let ctx = Ctx::new(2, 0, PathBuf::new(), &Silent);
            ctx.parallel(
                "test",
                4,
                || (),
                |i, ()| {
                    assert!(i != 2, "a planted panic");
                    Ok(())
                },
            )
        });
        let message = caught.expect_err("it panicked");
        assert_eq!(message.downcast_ref::<&str>(), Some(&"a planted panic"));
    }

    #[test]
    fn the_cause_hides_behind_no_interruption() {
        let ctx = Ctx::new(2, 0, PathBuf::new(), &Silent);
        let outcome = ctx.with_workers(
            |_, stop| {
                while !stop.is_raised() {
                    std::thread::yield_now();
                }
                Err(Error::Interrupted)
            },
            |_| Err(Error::InvalidValues { message: "the cause".into() }),
        );
        assert!(matches!(outcome, Err(Error::InvalidValues { .. })), "{outcome:?}");
    }

    #[test]
    fn a_panic_of_the_coordinator_ends_the_workers() {
        let caught = std::panic::catch_unwind(|| {
            let ctx = Ctx::new(2, 0, PathBuf::new(), &Silent);
            ctx.with_workers(
                |_, stop| {
                    while !stop.is_raised() {
                        std::thread::yield_now();
                    }
                    Ok(())
                },
                |_| panic!("a planted panic"),
            )
        });
        assert!(caught.is_err());
    }

    /// Many short calls from several threads, nested in each other.
    #[test]
    fn short_calls_end_whatever_happens_in_them() {
        let one = |outer: usize| {
            for round in 0..150 {
                let ctx = Ctx::new(1 + round % 4, 0, PathBuf::new(), &StopAfter(40));
                let bad = (round + outer) % 7;
                let outcome = ctx.parallel(
                    "outer",
                    8,
                    || (),
                    |i, ()| {
                        if i == bad {
                            return Err(Error::InvalidValues { message: "planted".into() });
                        }
                        let inner = Ctx::new(2, 0, PathBuf::new(), &Silent);
                        inner.parallel("inner", 3, || (), |_, ()| Ok(()))
                    },
                );
                assert!(matches!(outcome, Err(Error::InvalidValues { .. })), "{outcome:?}");
            }
        };
        std::thread::scope(|scope| {
            for outer in 0..3 {
                scope.spawn(move || one(outer));
            }
        });
    }
}
