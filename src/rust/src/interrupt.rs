//! Interrupts and progress, on R's main thread and never by a longjmp.
//!
//! `R_CheckUserInterrupt` leaves by longjmp when there is an interrupt and would
//! skip every destructor on its way. It is therefore called inside
//! `R_ToplevelExec`, which catches the jump and says so.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use extendr_api::prelude::*;
use scoom_core::ctx::Monitor;

unsafe extern "C" {
    fn R_CheckUserInterrupt();
    fn R_ToplevelExec(fun: unsafe extern "C" fn(*mut c_void), data: *mut c_void) -> i32;
}

/// A poll runs R's event loop, so it is not done for every block.
const INTERRUPT_EVERY: Duration = Duration::from_millis(30);
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Whether the user has asked R to stop. Must be called on R's main thread.
fn interrupted() -> bool {
    unsafe extern "C" fn check(_: *mut c_void) {
        // SAFETY: called by `R_ToplevelExec` on R's main thread; this frame has
        // no destructors that the jump could skip.
        unsafe { R_CheckUserInterrupt() }
    }
    // SAFETY: `check` ignores its argument; a jump out of it ends here.
    unsafe { R_ToplevelExec(check, ptr::null_mut()) == 0 }
}

/// The monitor of a call from R: polls for interrupts and reports progress to an
/// R function `(stage, done, total)` that returns `FALSE` to stop.
pub struct RMonitor {
    progress: Option<Function>,
    r_thread: ThreadId,
    polled: Cell<Instant>,
    reported: Cell<Instant>,
    stopped: Cell<bool>,
}

impl RMonitor {
    /// A monitor for the call that runs on this thread, R's main thread.
    /// `progress` is an R function, or anything else for none.
    pub fn new(progress: &Robj) -> Self {
        let now = Instant::now();
        RMonitor {
            progress: progress.as_function(),
            r_thread: thread::current().id(),
            polled: Cell::new(now),
            reported: Cell::new(now),
            stopped: Cell::new(false),
        }
    }

    /// Tells R; `false` when the function says stop or was interrupted itself.
    fn report(&self, stage: &str, done: u64, total: u64) -> bool {
        let Some(progress) = &self.progress else {
            return true;
        };
        // An error can't get here, the R function catches its own; what does get
        // here is an interrupt that came while it ran.
        progress
            .call(pairlist!(stage, done as f64, total as f64))
            .is_ok_and(|answer| answer.as_bool() != Some(false))
    }
}

impl Monitor for RMonitor {
    fn poll(&self, stage: &str, done: u64, total: u64) -> bool {
        // A call from another thread must not touch R; it hears what R's thread
        // last heard.
        if thread::current().id() == self.r_thread && !self.stopped.get() {
            let now = Instant::now();
            let mut go_on = true;
            if now.duration_since(self.polled.get()) >= INTERRUPT_EVERY {
                self.polled.set(now);
                go_on = !interrupted();
            }
            if go_on && now.duration_since(self.reported.get()) >= PROGRESS_EVERY {
                self.reported.set(now);
                go_on = self.report(stage, done, total);
            }
            self.stopped.set(!go_on);
        }
        !self.stopped.get()
    }
}
