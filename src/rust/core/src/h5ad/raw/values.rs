//! Values for which hdf5-metno has no reader of a type known at run time:
//! strings of any fixed width, and single fields of records.

use hdf5_metno::types::{CompoundField, CompoundType, TypeDescriptor};
use hdf5_metno::{self as hdf5, Container, Datatype, H5Type};
use hdf5_metno_sys::h5a::H5Aread;
use hdf5_metno_sys::h5d::H5Dread;
use hdf5_metno_sys::h5i::H5I_type_t;
use hdf5_metno_sys::h5p::H5P_DEFAULT;
use hdf5_metno_sys::h5s::H5S_ALL;
use hdf5_metno_sys::h5t::{H5T_class_t, H5Tget_class};

/// The classes of HDF5 types that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TypeClass {
    /// Integers of any width and sign.
    Integer,
    /// Floating point of any width.
    Float,
    /// Strings.
    Text,
    /// Enumerations, among them h5py's truth values.
    Enum,
    /// Records.
    Compound,
    /// Anything else.
    Other,
}

/// The class of a type; known even where [`Datatype::to_descriptor`] fails, as it
/// does for `float16`.
pub(crate) fn class(dtype: &Datatype) -> TypeClass {
    // SAFETY: `dtype` holds a valid identifier of a datatype; the call is made under
    // the library's lock and changes nothing.
    let class = hdf5::sync::sync(|| unsafe { H5Tget_class(dtype.id()) });
    match class {
        H5T_class_t::H5T_INTEGER => TypeClass::Integer,
        H5T_class_t::H5T_FLOAT => TypeClass::Float,
        H5T_class_t::H5T_STRING => TypeClass::Text,
        H5T_class_t::H5T_ENUM => TypeClass::Enum,
        H5T_class_t::H5T_COMPOUND => TypeClass::Compound,
        _ => TypeClass::Other,
    }
}

/// Reads strings of a fixed width, end to end, each padded with NULs to the width.
/// With a `field`, those of one field of records.
///
/// # Errors
///
/// When the source holds no such strings or the library can't read them.
pub(crate) fn fixed_strings(source: &Container, field: Option<&str>) -> hdf5::Result<Vec<u8>> {
    let stored = source.dtype()?.to_descriptor()?;
    let wanted = match field {
        None => stored,
        Some(name) => field_of(stored, name)?.ty,
    };
    let (TypeDescriptor::FixedAscii(width) | TypeDescriptor::FixedUnicode(width)) = wanted else {
        return Err(format!("{wanted} where strings of a fixed width are expected").into());
    };
    let n_bytes = source
        .space()?
        .size()
        .checked_mul(width)
        .ok_or_else(|| hdf5::Error::from("more bytes than memory can address"))?;
    let memory = memory_type(field, wanted)?;
    let mut out = room::<u8>(n_bytes)?;
    // SAFETY: the memory type is `width` bytes a value, without pointers, and the
    // buffer has room for as many values as the dataspace has points.
    unsafe { read_all(source, &memory, out.as_mut_ptr())? };
    // SAFETY: the library has written all `n_bytes` bytes.
    unsafe { out.set_len(n_bytes) };
    Ok(out)
}

/// Reads one field of an array of records as values of `T`.
///
/// # Errors
///
/// When there is no such field, or no conversion of it to `T`.
pub(crate) fn field<T: H5Type>(source: &Container, name: &str) -> hdf5::Result<Vec<T>> {
    field_of(source.dtype()?.to_descriptor()?, name)?;
    let n = source.space()?.size();
    let memory = memory_type(Some(name), T::type_descriptor())?;
    if memory.size() != size_of::<T>() {
        return Err("the library lays the field out in another size".into());
    }
    let mut out = room::<T>(n)?;
    // SAFETY: the memory type is a record of one field of `T` at offset 0 and has the
    // size of `T` (checked above), and the buffer has room for all points.
    unsafe { read_all(source, &memory, out.as_mut_ptr())? };
    // SAFETY: the library has written `n` values; `H5Type` promises that what it
    // writes for this descriptor is a valid `T`.
    unsafe { out.set_len(n) };
    Ok(out)
}

/// An empty vector with room for `n` values, or an error instead of an abort.
pub(crate) fn room<T>(n: usize) -> hdf5::Result<Vec<T>> {
    let mut out = Vec::new();
    out.try_reserve_exact(n)
        .map_err(|_| hdf5::Error::from(format!("{n} values do not fit in memory")))?;
    Ok(out)
}

fn field_of(stored: TypeDescriptor, name: &str) -> hdf5::Result<CompoundField> {
    let TypeDescriptor::Compound(record) = stored else {
        return Err(format!("{stored} where records are expected").into());
    };
    record
        .fields
        .into_iter()
        .find(|field| field.name == name)
        .ok_or_else(|| format!("the records have no field `{name}`").into())
}

/// The type of a value in memory: `value` itself, or a record of it alone.
fn memory_type(field: Option<&str>, value: TypeDescriptor) -> hdf5::Result<Datatype> {
    Datatype::from_descriptor(&match field {
        None => value,
        Some(name) => {
            let size = value.size();
            let fields = vec![CompoundField::new(name, value, 0, 0)];
            TypeDescriptor::Compound(CompoundType { fields, size })
        }
    })
}

/// Reads every value of a dataset or attribute into `out`.
///
/// # Safety
///
/// `out` must have room for one value of `memory` per point of the dataspace.
unsafe fn read_all<T>(source: &Container, memory: &Datatype, out: *mut T) -> hdf5::Result<()> {
    if source.space()?.size() == 0 {
        return Ok(());
    }
    let is_attribute = source.id_type() == H5I_type_t::H5I_ATTR;
    hdf5::sync::sync(|| {
        // SAFETY: both identifiers are valid while borrowed, and the caller vouches
        // for the buffer.
        let status = unsafe {
            if is_attribute {
                H5Aread(source.id(), memory.id(), out.cast())
            } else {
                H5Dread(source.id(), memory.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, out.cast())
            }
        };
        hdf5::h5check(status).map(|_| ())
    })
}
