//! Arrays of records, as scanpy keeps the results of `rank_genes_groups`.

use hdf5_metno::types::TypeDescriptor;

use super::array::{self, Values};
use super::node::Node;
use crate::error::Result;

/// An array of records, field by field.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    /// Number of records.
    pub n: usize,
    /// Name and values of each field.
    pub fields: Vec<(String, Values)>,
}

/// Reads an array of records.
///
/// # Errors
///
/// When it has more than one dimension, or a field that holds neither numbers nor
/// strings.
pub(crate) fn read(node: &Node) -> Result<Records> {
    node.check_plausible()?;
    let dataset = node.dataset()?;
    let shape = dataset.get_shape().map_err(|e| node.hdf5("describe", &e))?;
    let dtype = dataset.dtype().map_err(|e| node.hdf5("describe", &e))?;
    let Ok(TypeDescriptor::Compound(record)) = dtype.to_descriptor() else {
        return Err(node.unsupported(format!("a dataset of {dtype}")));
    };
    if shape.len() > 1 {
        return Err(node.unsupported(format!("records in {} dimensions", shape.len())));
    }
    let n = shape.iter().product();
    let fields = record
        .fields
        .iter()
        .map(|field| Ok((field.name.clone(), array::read_field(node, &field.name, &field.ty)?)))
        .collect::<Result<_>>()?;
    Ok(Records { n, fields })
}
