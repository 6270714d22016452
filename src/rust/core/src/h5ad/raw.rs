//! Numeric datasets as bytes: stored chunks, untouched, and plain slices.
//!
//! This is the one place of the core with `unsafe`: it calls libhdf5 under the
//! crate-wide lock. Values arrive in the file's own type; [`NumType`] converts
//! them. Memory: what the caller's buffers hold.

pub mod errors;
pub mod numbers;
pub(crate) mod plugins;
pub(crate) mod values;

use std::path::{Path, PathBuf};

use hdf5_metno::{Dataset, File, sync::sync};
use hdf5_metno_sys as sys;
use sys::h5i::hid_t;

pub use numbers::{NumKind, NumType};

use super::filters::{FilterSpec, Pipeline};
use crate::error::{Error, Result};

unsafe extern "C" {
    // In libhdf5 since 1.10.2; the sys crate does not declare it.
    fn H5Dget_chunk_storage_size(dset: hid_t, offset: *const u64, bytes: *mut u64) -> i32;
}

/// An open numeric dataset of one or two dimensions.
pub struct RawArray {
    dataset: Dataset,
    path: PathBuf,
    element: String,
    /// Lengths of the dimensions.
    pub dims: Vec<u64>,
    /// Storage type of an element.
    pub dtype: NumType,
    /// Lengths of a chunk, where the layout is chunked.
    pub chunk: Option<Vec<u64>>,
    /// Filters in the order in which they were applied.
    pub filters: Vec<FilterSpec>,
    pipeline: Option<Pipeline>,
}

impl RawArray {
    /// Opens `element` of `file`.
    ///
    /// # Errors
    /// When it is no numeric dataset of one or two dimensions.
    pub fn open(file: &File, path: &Path, element: &str) -> Result<Self> {
        let dataset = file
            .dataset(element)
            .map_err(|_| Error::ElementMissing { path: path.into(), element: element.into() })?;
        let corrupt =
            |reason: String| Error::Corrupt { path: path.into(), element: element.into(), reason };
        let dims: Vec<u64> = dataset.shape().iter().map(|&d| d as u64).collect();
        if dims.is_empty() || dims.len() > 2 {
            return Err(corrupt(format!("it has {} dimensions", dims.len())));
        }
        let dtype = num_type(dataset.id())
            .ok_or_else(|| corrupt("its values are not numbers of a known type".into()))?;
        let chunk = dataset.chunk().map(|c| c.iter().map(|&d| d as u64).collect::<Vec<u64>>());
        let filters = filter_specs(dataset.id());
        let mut pipeline = None;
        if let Some(chunk) = &chunk {
            let bytes = chunk_bytes(chunk, dtype.bytes())
                .filter(|_| chunk.len() == dims.len())
                .ok_or_else(|| corrupt(format!("its chunks of {chunk:?} can't be")))?;
            if !has_plain_edges(dataset.id()) {
                pipeline = Pipeline::new(&filters, dtype.bytes(), bytes);
            }
        }
        Ok(RawArray {
            dataset,
            path: path.into(),
            element: element.into(),
            dims,
            dtype,
            chunk,
            filters,
            pipeline,
        })
    }

    /// The decoder of stored chunks, where all filters are known here and the
    /// layout is chunked.
    #[must_use]
    pub fn pipeline(&self) -> Option<&Pipeline> {
        self.pipeline.as_ref()
    }

    /// Bytes that the dataset takes in the file.
    #[must_use]
    pub fn storage_bytes(&self) -> u64 {
        // SAFETY: the id belongs to `self.dataset`, which is open.
        sync(|| unsafe { sys::h5d::H5Dget_storage_size(self.dataset.id()) })
    }

    /// Reads the stored bytes of the chunk that starts at `offset` into `buf`
    /// and returns its filter mask; `None` when the chunk was never written or
    /// can't be read as it is, which [`read_slab`](Self::read_slab) will tell.
    ///
    /// # Errors
    /// When the chunk's size makes no sense.
    pub fn read_chunk(&self, offset: &[u64], buf: &mut Vec<u8>) -> Result<Option<u32>> {
        debug_assert_eq!(offset.len(), self.dims.len());
        let id = self.dataset.id();
        let mut bytes = 0u64;
        // SAFETY: `offset` has as many entries as the dataset has dimensions and
        // `bytes` outlives the call.
        let status =
            sync(|| unsafe { H5Dget_chunk_storage_size(id, offset.as_ptr(), &raw mut bytes) });
        if status < 0 || bytes == 0 || bytes == u64::MAX {
            return Ok(None);
        }
        // No filter makes much more of a chunk than it was; a size beyond that
        // is a damaged entry of the chunk index.
        let most = self.chunk_bytes().saturating_mul(2).saturating_add(1 << 16);
        if bytes > most {
            return Err(self.corrupt(format!("a chunk takes {bytes} bytes in the file")));
        }
        buf.resize(bytes as usize, 0);
        let mut mask = 0u32;
        // SAFETY: `buf` has the size that the library reported for this chunk.
        let status = sync(|| unsafe {
            sys::h5d::H5Dread_chunk1(
                id,
                sys::h5p::H5P_DEFAULT,
                offset.as_ptr(),
                &raw mut mask,
                buf.as_mut_ptr().cast(),
            )
        });
        // Without filters the library tells a size for chunks that were never
        // written, too, and fails here.
        Ok((status >= 0).then_some(mask))
    }

    /// Reads the hyperslab `start .. start + count` into `buf` in the file's own
    /// type, through the library and its filters.
    ///
    /// # Errors
    /// When libhdf5 can't read it, for example for want of a filter.
    pub fn read_slab(&self, start: &[u64], count: &[u64], buf: &mut Vec<u8>) -> Result<()> {
        debug_assert_eq!(start.len(), self.dims.len());
        debug_assert!(start.iter().zip(count).zip(&self.dims).all(|((s, c), d)| s + c <= *d));
        let n: u64 = count.iter().product();
        buf.resize(n as usize * self.dtype.bytes(), 0);
        if n == 0 {
            return Ok(());
        }
        let id = self.dataset.id();
        // SAFETY: all ids are made and closed here; `start` and `count` have the
        // dataset's rank, lie inside it, and `buf` holds exactly `n` elements of
        // the file type that is passed as the memory type.
        let status = sync(|| unsafe {
            let space = sys::h5d::H5Dget_space(id);
            let ftype = sys::h5d::H5Dget_type(id);
            let memory = sys::h5s::H5Screate_simple(1, &raw const n, std::ptr::null());
            let mut status = sys::h5s::H5Sselect_hyperslab(
                space,
                sys::h5s::H5S_seloper_t::H5S_SELECT_SET,
                start.as_ptr(),
                std::ptr::null(),
                count.as_ptr(),
                std::ptr::null(),
            );
            if status >= 0 {
                status = sys::h5d::H5Dread(
                    id,
                    ftype,
                    memory,
                    space,
                    sys::h5p::H5P_DEFAULT,
                    buf.as_mut_ptr().cast(),
                );
            }
            sys::h5s::H5Sclose(memory);
            sys::h5t::H5Tclose(ftype);
            sys::h5s::H5Sclose(space);
            status
        });
        if status >= 0 {
            return Ok(());
        }
        match self.filters.iter().find(|f| !filter_available(f.id)) {
            Some(filter) => Err(Error::UnsupportedFilter {
                path: self.path.clone(),
                element: self.element.clone(),
                filter: filter.name(),
            }),
            None => Err(self.failed("read")),
        }
    }

    /// Reads a one-dimensional dataset of `n` offsets whole.
    ///
    /// # Errors
    /// When it can't be read, has another length, or holds negative or broken
    /// numbers.
    pub fn read_offsets(&self, n: u64) -> Result<Vec<u64>> {
        if self.dims != [n] {
            return Err(self.corrupt(format!(
                "its dimensions are {:?} where the shape asks for {n} offsets",
                self.dims
            )));
        }
        // Offsets grow, so no filter packs them as tightly as this.
        self.check_claim(1 << 12)?;
        let mut bytes = Vec::new();
        self.read_slab(&[0], &[n], &mut bytes)?;
        self.dtype
            .to_u64(&bytes)
            .ok_or_else(|| self.corrupt("it holds numbers that are no offsets".into()))
    }

    /// A tiny file can claim any length. Refuses one of more than `ratio` times
    /// the bytes stored, past what a few chunks that were never written make.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn check_claim(&self, ratio: u64) -> Result<()> {
        let stored = self.storage_bytes();
        let claimed = self.dims.iter().fold(self.dtype.bytes() as u64, |n, &d| n.saturating_mul(d));
        if claimed / ratio > stored.saturating_add(1 << 16) {
            let reason = format!("{:?} values can't be in {stored} bytes", self.dims);
            return Err(self.corrupt(reason));
        }
        Ok(())
    }

    /// The same array, through a chunk cache of so many bytes in libhdf5.
    ///
    /// # Errors
    /// When it can't be opened again.
    pub fn with_cache(self, bytes: u64) -> Result<Self> {
        let name = std::ffi::CString::new(self.element.as_str())
            .map_err(|_| self.corrupt("its name holds a zero byte".into()))?;
        // A prime number of slots; chunks that were read whole leave first.
        let (slots, preemption) = (12_007, 1.0);
        // SAFETY: the dataset is open, the name ends with a zero byte; the file
        // id and the property list are made and closed here; the new dataset's
        // id goes to the object that will close it, which checks it.
        let opened = sync(|| unsafe {
            let file = sys::h5i::H5Iget_file_id(self.dataset.id());
            let access = sys::h5p::H5Pcreate(*sys::h5p::H5P_CLS_DATASET_ACCESS);
            sys::h5p::H5Pset_chunk_cache(access, slots, bytes as usize, preemption);
            let id = sys::h5d::H5Dopen2(file, name.as_ptr(), access);
            sys::h5p::H5Pclose(access);
            sys::h5f::H5Fclose(file);
            hdf5_metno::from_id::<Dataset>(id)
        });
        match opened {
            Ok(dataset) => Ok(RawArray { dataset, ..self }),
            Err(_) => Err(self.failed("open")),
        }
    }

    /// Bytes of a decoded chunk; 0 where the layout is not chunked.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        let chunk = self.chunk.as_deref().unwrap_or(&[0]);
        chunk_bytes(chunk, self.dtype.bytes()).unwrap_or(0) as u64
    }

    /// An error about this dataset's contents.
    #[must_use]
    pub fn corrupt(&self, reason: String) -> Error {
        Error::Corrupt { path: self.path.clone(), element: self.element.clone(), reason }
    }

    fn failed(&self, action: &'static str) -> Error {
        Error::Hdf5 {
            path: self.path.clone(),
            element: self.element.clone(),
            action,
            reason: "the library reports a failure; the file may be damaged".into(),
        }
    }
}

/// Bytes of a chunk, where those can be.
fn chunk_bytes(chunk: &[u64], width: usize) -> Option<usize> {
    let bytes = chunk.iter().try_fold(width as u64, |n, &c| n.checked_mul(c));
    bytes.filter(|&bytes| bytes > 0).and_then(|bytes| usize::try_from(bytes).ok())
}

/// The storage type of a dataset of plain numbers (or of h5py's booleans); none
/// for types that use only some of their bits, and for floats other than IEEE's.
fn num_type(dataset: hid_t) -> Option<NumType> {
    use sys::h5t;
    // SAFETY: `dataset` is open; the type ids are made and closed here; the
    // pointers outlive the call.
    let (class, bytes, order, sign, whole, exponent) = sync(|| unsafe {
        let mut id = sys::h5d::H5Dget_type(dataset);
        if h5t::H5Tget_class(id) == h5t::H5T_class_t::H5T_ENUM {
            let base = h5t::H5Tget_super(id);
            h5t::H5Tclose(id);
            id = base;
        }
        let (class, bytes) = (h5t::H5Tget_class(id), h5t::H5Tget_size(id));
        let whole = h5t::H5Tget_precision(id) == 8 * bytes && h5t::H5Tget_offset(id) == 0;
        let (mut sign_at, mut from, mut exponent, mut mantissa_at, mut mantissa) = (0, 0, 0, 0, 0);
        if class == h5t::H5T_class_t::H5T_FLOAT {
            h5t::H5Tget_fields(
                id,
                &raw mut sign_at,
                &raw mut from,
                &raw mut exponent,
                &raw mut mantissa_at,
                &raw mut mantissa,
            );
        }
        let found = (class, bytes, h5t::H5Tget_order(id), h5t::H5Tget_sign(id), whole, exponent);
        h5t::H5Tclose(id);
        found
    });
    let big_endian = match order {
        h5t::H5T_order_t::H5T_ORDER_BE => true,
        h5t::H5T_order_t::H5T_ORDER_LE => false,
        _ => return None,
    };
    let signed = sign == h5t::H5T_sign_t::H5T_SGN_2;
    let kind = match (class, bytes, signed, exponent) {
        _ if !whole => return None,
        (h5t::H5T_class_t::H5T_INTEGER, 1, true, _) => NumKind::I8,
        (h5t::H5T_class_t::H5T_INTEGER, 2, true, _) => NumKind::I16,
        (h5t::H5T_class_t::H5T_INTEGER, 4, true, _) => NumKind::I32,
        (h5t::H5T_class_t::H5T_INTEGER, 8, true, _) => NumKind::I64,
        (h5t::H5T_class_t::H5T_INTEGER, 1, false, _) => NumKind::U8,
        (h5t::H5T_class_t::H5T_INTEGER, 2, false, _) => NumKind::U16,
        (h5t::H5T_class_t::H5T_INTEGER, 4, false, _) => NumKind::U32,
        (h5t::H5T_class_t::H5T_INTEGER, 8, false, _) => NumKind::U64,
        (h5t::H5T_class_t::H5T_FLOAT, 2, _, 5) => NumKind::F16,
        (h5t::H5T_class_t::H5T_FLOAT, 4, _, 8) => NumKind::F32,
        (h5t::H5T_class_t::H5T_FLOAT, 8, _, 11) => NumKind::F64,
        _ => return None,
    };
    Some(NumType { kind, big_endian })
}

/// Whether chunks that the array's edge cuts are stored without filters,
/// whatever their filter mask says.
fn has_plain_edges(dataset: hid_t) -> bool {
    let mut options = 0;
    // SAFETY: `dataset` is open; the property list is made and closed here;
    // `options` outlives the call.
    let status = sync(|| unsafe {
        let plist = sys::h5d::H5Dget_create_plist(dataset);
        let status = sys::h5p::H5Pget_chunk_opts(plist, &raw mut options);
        sys::h5p::H5Pclose(plist);
        status
    });
    status >= 0 && options != 0
}

/// The filters in a dataset's creation properties.
fn filter_specs(dataset: hid_t) -> Vec<FilterSpec> {
    use sys::h5p;
    // SAFETY: `dataset` is open; the property list is made and closed here; the
    // buffers have the lengths that are passed with them.
    sync(|| unsafe {
        let plist = sys::h5d::H5Dget_create_plist(dataset);
        let n = h5p::H5Pget_nfilters(plist).max(0);
        let specs = (0..n)
            .map(|i| {
                let (mut flags, mut config) = (0u32, 0u32);
                let mut values = [0u32; 32];
                let mut n_values = values.len();
                let id = h5p::H5Pget_filter2(
                    plist,
                    i as u32,
                    &raw mut flags,
                    &raw mut n_values,
                    values.as_mut_ptr(),
                    0,
                    std::ptr::null_mut(),
                    &raw mut config,
                );
                FilterSpec { id, parameters: values[..n_values.min(32)].to_vec() }
            })
            .collect();
        h5p::H5Pclose(plist);
        specs
    })
}

fn filter_available(id: i32) -> bool {
    // SAFETY: takes a number and returns a truth value.
    sync(|| unsafe { sys::h5z::H5Zfilter_avail(id) > 0 })
}
