// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks that tensors have the declared size.

use crate::files::validate::{corrupt, shown};
use crate::{
    GraphError, TensorProto,
    onnx::tensor_proto::{DataLocation, DataType},
};

/// Larger than any tensor of a model; prevents overflow in products of sizes.
const MAX_ELEMENTS: u64 = 1 << 40;

/// Rejects a weight or constant whose data does not match its shape.
pub(crate) fn check(tensor: &TensorProto) -> Result<(), GraphError> {
    let named = || format!("its tensor {}", shown(tensor.name()));
    // An axis of size 0 must not hide an overflow of the others.
    let count = tensor.dims.iter().try_fold((1_u64, 1_u64), |(all, largest), &dim| {
        let dim = u64::try_from(dim).ok()?;
        let largest = largest.checked_mul(dim.max(1)).filter(|&count| count <= MAX_ELEMENTS)?;
        Some((all * dim, largest))
    });
    let Some((count, _)) = count else {
        return Err(corrupt(format!("{} has an invalid shape: {:?}", named(), tensor.dims)));
    };
    if tensor.data_location() == DataLocation::External || tensor.segment.is_some() {
        // External data of the main graph was attached before.
        return Err(corrupt(format!(
            "{} has external data in a subgraph, or is split into segments",
            named()
        )));
    }
    let Some(kind) = DataType::try_from(tensor.data_type())
        .ok()
        .filter(|&kind| kind != DataType::Undefined)
    else {
        return Err(corrupt(format!(
            "{} has the unknown element type {}",
            named(),
            tensor.data_type()
        )));
    };
    let raw = tensor.raw_data.as_ref().filter(|raw| !raw.is_empty());
    let (found, expected, unit) = match (raw, bits(kind)) {
        (Some(raw), Some(bits)) => (raw.len() as u64, (count * bits).div_ceil(8), "bytes"),
        (Some(_), None) => {
            return Err(corrupt(format!(
                "{} has raw data, but its element type is string",
                named()
            )));
        }
        (None, _) => (entries(tensor, kind) as u64, entries_for(kind, count), "values"),
    };
    if found == expected {
        return Ok(());
    }
    Err(corrupt(format!(
        "{} contains {found} {unit}, but its shape {:?} needs {expected}",
        named(),
        tensor.dims
    )))
}

/// Bits per element; `None` for strings, which have no binary representation.
fn bits(kind: DataType) -> Option<u64> {
    use DataType as T;
    Some(match kind {
        T::String => return None,
        T::Complex128 => 128,
        T::Double | T::Int64 | T::Uint64 | T::Complex64 => 64,
        T::Float | T::Int32 | T::Uint32 => 32,
        T::Float16 | T::Bfloat16 | T::Int16 | T::Uint16 => 16,
        T::Int4 | T::Uint4 | T::Float4e2m1 => 4,
        _ => 8,
    })
}

/// Number of entries in the typed data fields.
fn entries(tensor: &TensorProto, kind: DataType) -> usize {
    use DataType as T;
    match kind {
        T::String => tensor.string_data.len(),
        T::Float | T::Complex64 => tensor.float_data.len(),
        T::Double | T::Complex128 => tensor.double_data.len(),
        T::Int64 => tensor.int64_data.len(),
        T::Uint32 | T::Uint64 => tensor.uint64_data.len(),
        _ => tensor.int32_data.len(),
    }
}

/// Number of entries in the typed data fields for `count` elements.
fn entries_for(kind: DataType, count: u64) -> u64 {
    use DataType as T;
    match kind {
        T::Complex64 | T::Complex128 => 2 * count,
        // Two elements per byte, and one byte per entry.
        T::Int4 | T::Uint4 | T::Float4e2m1 => count.div_ceil(2),
        _ => count,
    }
}
