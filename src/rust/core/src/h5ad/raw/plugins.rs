//! Filters that libhdf5 does not bring along, lent to it for what it has to read
//! itself: strings and records, whose chunks hold references into its heap.
//!
//! Matrices do not come this way; their chunks are decoded by the workers. A
//! filter that is there already, as another package's plugin, is left alone.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::panic::catch_unwind;
use std::sync::Once;

use hdf5_metno::sync::sync;
use hdf5_metno_sys::h5::{H5allocate_memory, H5free_memory};
use hdf5_metno_sys::h5z::{
    H5Z_CLASS_T_VERS, H5Z_FLAG_REVERSE, H5Z_class2_t, H5Z_filter_t, H5Zfilter_avail, H5Zregister,
};

use crate::h5ad::filters::{LZ4, LZF, ZSTD, decode_stream};

/// Lends the filters, once per process.
pub(crate) fn lend() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        register(LZF, c"lzf (reading)", run::<LZF>);
        register(LZ4, c"lz4 (reading)", run::<LZ4>);
        register(ZSTD, c"zstd (reading)", run::<ZSTD>);
    });
}

type Run = unsafe extern "C" fn(
    c_uint,
    usize,
    *const c_uint,
    usize,
    *mut usize,
    *mut *mut c_void,
) -> usize;

fn register(id: H5Z_filter_t, name: &'static CStr, filter: Run) {
    let class = H5Z_class2_t {
        version: H5Z_CLASS_T_VERS as i32,
        id,
        encoder_present: 0,
        decoder_present: 1,
        name: name.as_ptr().cast::<c_char>(),
        can_apply: None,
        set_local: None,
        filter: Some(filter),
    };
    sync(|| {
        // SAFETY: asks about a number.
        let known = unsafe { H5Zfilter_avail(id) } > 0;
        if !known {
            // SAFETY: the library copies `class`; what its pointers lead to is static.
            unsafe { H5Zregister((&raw const class).cast()) };
        }
    });
}

/// The library's call for one chunk. It answers with the number of decoded bytes,
/// 0 for a failure (and for writing, which is not offered).
///
/// # Safety
///
/// As `H5Z_func_t` documents: `*buffer` holds `n_bytes` bytes of the library's own
/// memory, `*room` its size, `values` as many numbers as `n_values` says.
unsafe extern "C" fn run<const ID: H5Z_filter_t>(
    flags: c_uint,
    n_values: usize,
    values: *const c_uint,
    n_bytes: usize,
    room: *mut usize,
    buffer: *mut *mut c_void,
) -> usize {
    if flags & H5Z_FLAG_REVERSE == 0 || n_bytes == 0 {
        return 0;
    }
    // SAFETY: the library's promises above.
    let (parameters, stored) = unsafe {
        let parameters =
            if n_values == 0 { &[] } else { std::slice::from_raw_parts(values, n_values) };
        (parameters, std::slice::from_raw_parts((*buffer).cast::<u8>(), n_bytes))
    };
    let Ok(Ok(decoded)) = catch_unwind(|| decode_stream(ID, parameters, stored)) else { return 0 };
    // SAFETY: the new buffer comes from the library's allocator and is as long as
    // what is copied into it; the old one came from there too and is not used again.
    unsafe {
        let fresh = H5allocate_memory(decoded.len().max(1), 0);
        if fresh.is_null() {
            return 0;
        }
        std::ptr::copy_nonoverlapping(decoded.as_ptr(), fresh.cast::<u8>(), decoded.len());
        H5free_memory(*buffer);
        *buffer = fresh;
        *room = decoded.len();
    }
    decoded.len()
}
