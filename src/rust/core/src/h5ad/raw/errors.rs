//! Other packages' error handlers of libhdf5.

use std::ffi::c_void;
use std::ptr;

use hdf5_metno::sync::sync;
use hdf5_metno_sys::h5e::{H5E_DEFAULT, H5E_auto2_t, H5Eauto_is_v2, H5Eget_auto2, H5Eset_auto2};

/// Switches libhdf5's automatic error handler off for as long as it lives.
///
/// Problem: libhdf5 is shared by everything in the process, and so is the
/// handler that it calls when a function fails. That of hdf5r raises an error of
/// R, which would jump over our destructors; and a function that fails is part
/// of looking at a file. Solution: no handler during our calls, then the one that
/// was there.
#[must_use = "errors are silent only while this lives"]
pub struct SilentErrors {
    previous: Option<(H5E_auto2_t, *mut c_void)>,
}

impl SilentErrors {
    /// Switches the handler of this thread off.
    #[allow(clippy::new_without_default, reason = "making one does something")]
    pub fn new() -> Self {
        // Asked before the first `sync` of the thread, which takes it away.
        let previous = current_handler();
        // SAFETY: no handler and no data are valid.
        sync(|| unsafe { H5Eset_auto2(H5E_DEFAULT, None, ptr::null_mut()) });
        SilentErrors { previous }
    }
}

/// The handler of this thread and its data; `None` where it is of the kind before
/// HDF5 1.8, which can't be asked for this way.
fn current_handler() -> Option<(H5E_auto2_t, *mut c_void)> {
    let mut handler: H5E_auto2_t = None;
    let mut data: *mut c_void = ptr::null_mut();
    let mut is_v2 = 0;
    // SAFETY: the pointers are to variables of the right types, and no other
    // thread is in libhdf5 when a call begins.
    let found = unsafe {
        H5Eauto_is_v2(H5E_DEFAULT, &raw mut is_v2) >= 0
            && is_v2 != 0
            && H5Eget_auto2(H5E_DEFAULT, &raw mut handler, &raw mut data) >= 0
    };
    found.then_some((handler, data))
}

impl Drop for SilentErrors {
    fn drop(&mut self) {
        if let Some((handler, data)) = self.previous {
            // SAFETY: handler and data are what libhdf5 had.
            sync(|| unsafe { H5Eset_auto2(H5E_DEFAULT, handler, data) });
        }
    }
}
