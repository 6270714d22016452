//! The one place where errors and panics turn into R values.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use extendr_api::prelude::*;
use scoom_core::ctx::Ctx;
use scoom_core::error::{Error, Result};
use scoom_core::h5ad::raw::errors::SilentErrors;

use crate::interrupt::RMonitor;

/// Runs `body` and answers with `list(ok = <value>, err = NULL)` or
/// `list(ok = NULL, err = list(kind =, message =, fields =))`.
///
/// A panic is an error of kind `internal`; its message says where it happened.
pub fn guard<T: Into<Robj>>(body: impl FnOnce() -> Result<T>) -> Robj {
    remember_panics();
    let _silent = SilentErrors::new();
    match panic::catch_unwind(AssertUnwindSafe(|| body().map(Into::into))) {
        Ok(Ok(value)) => list!(ok = value, err = NULL).into(),
        Ok(Err(error)) => failure(error.kind(), &error.to_string(), &error.fields()),
        Err(_) => failure("internal", &last_panic(), &[]),
    }
}

fn failure(kind: &str, message: &str, fields: &[(&str, String)]) -> Robj {
    let names = fields.iter().map(|(name, _)| *name);
    let values = fields.iter().map(|(_, value)| Robj::from(without_nul(value)));
    let fields = List::from_names_and_values(names, values).unwrap_or_default();
    let err = list!(kind = kind, message = without_nul(message), fields = fields);
    list!(ok = NULL, err = err).into()
}

/// R's strings end at a NUL, and making one that contains it is an R error.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// What the latest panic said and where, which only the hook gets to see.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn last_panic() -> MutexGuard<'static, String> {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember_panics() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("a panic without a message");
            // A scope panics after its thread did; the thread knows why.
            if text != "a scoped thread panicked" {
                *last_panic() = match info.location() {
                    Some(place) => format!("{text} ({place})"),
                    None => text.to_owned(),
                };
            }
            previous(info);
        }));
    });
}

/// Ends in the way that `how` names, so that tests can see each of them from R:
/// `"ok"`, `"error"`, `"panic"`, `"worker_panic"`, or `"wait"`, which works for
/// `seconds` unless interrupted and reports to `progress`.
/// @noRd
#[extendr]
fn rs_guard_probe(how: Robj, text: Robj, seconds: Robj, progress: Robj) -> Robj {
    guard(|| {
        let text = text.as_str().unwrap_or_default().to_owned();
        match how.as_str() {
            Some("ok") => Ok(Robj::from(text)),
            Some("panic") => panic!("{text}"),
            Some("worker_panic") => in_workers(&progress, 0.0, &|| panic!("{text}")),
            Some("wait") => in_workers(&progress, seconds.as_real().unwrap_or(0.0), &|| {}),
            _ => Err(Error::InvalidInput { argument: "how", message: text }),
        }
    })
}

/// Two workers that call `task` and sleep for `seconds` in short naps.
fn in_workers(progress: &Robj, seconds: f64, task: &(dyn Fn() + Sync)) -> Result<Robj> {
    let monitor = RMonitor::new(progress);
    let ctx = Ctx::new(2, 0, std::env::temp_dir(), &monitor);
    let nap = Duration::from_millis(5);
    let naps = (seconds / nap.as_secs_f64()) as usize;
    let start = Instant::now();
    ctx.parallel(
        "waiting",
        2 * naps.max(1),
        || (),
        |_, ()| {
            task();
            std::thread::sleep(nap);
            Ok(())
        },
    )?;
    Ok(Robj::from(start.elapsed().as_secs_f64()))
}

extendr_module! {
    mod guard;
    fn rs_guard_probe;
}
