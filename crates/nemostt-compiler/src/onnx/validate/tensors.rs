// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether a tensor is as large as it says.

use crate::onnx::validate::{damaged, shown};
use crate::{
    GraphError, TensorProto,
    onnx::tensor_proto::{DataLocation, DataType},
};

/// No tensor of a model has more values; a product of sizes below it cannot overflow anywhere.
const MOST: u64 = 1 << 40;

/// Refuses a weight or constant whose values are more or fewer than its sizes say.
pub(crate) fn check(tensor: &TensorProto) -> Result<(), GraphError> {
    let named = || format!("its tensor {}", shown(tensor.name()));
    // An axis of size 0 makes a tensor empty, and must not hide a size that overflows without it.
    let count = tensor.dims.iter().try_fold((1_u64, 1_u64), |(all, largest), &dim| {
        let dim = u64::try_from(dim).ok()?;
        let largest = largest.checked_mul(dim.max(1)).filter(|&count| count <= MOST)?;
        Some((all * dim, largest))
    });
    let Some((count, _)) = count else {
        return Err(damaged(format!(
            "{} has sizes that make no sense: {:?}",
            named(),
            tensor.dims
        )));
    };
    if tensor.data_location() == DataLocation::External || tensor.segment.is_some() {
        // Weights of the graph itself were brought in before.
        return Err(damaged(format!(
            "{} keeps its values elsewhere, in a branch or in pieces",
            named()
        )));
    }
    let Some(kind) = DataType::try_from(tensor.data_type())
        .ok()
        .filter(|&kind| kind != DataType::Undefined)
    else {
        return Err(damaged(format!(
            "{} is of element type {}, which ONNX does not have",
            named(),
            tensor.data_type()
        )));
    };
    let raw = tensor.raw_data.as_ref().filter(|raw| !raw.is_empty());
    let (found, expected, unit) = match (raw, bits(kind)) {
        (Some(raw), Some(bits)) => (raw.len() as u64, (count * bits).div_ceil(8), "bytes"),
        (Some(_), None) => {
            return Err(damaged(format!(
                "{} has strings in place of which there are bytes",
                named()
            )));
        }
        (None, _) => (listed(tensor, kind) as u64, values_listed(kind, count), "values"),
    };
    if found == expected {
        return Ok(());
    }
    Err(damaged(format!(
        "{} holds {found} {unit}, and its sizes {:?} need {expected}",
        named(),
        tensor.dims
    )))
}

/// Bits of one value; `None` for text, which is not kept as bytes.
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

/// How many values are written one by one.
fn listed(tensor: &TensorProto, kind: DataType) -> usize {
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

/// How many entries `count` values take when they are written one by one.
fn values_listed(kind: DataType, count: u64) -> u64 {
    use DataType as T;
    match kind {
        T::Complex64 | T::Complex128 => 2 * count,
        // Two in a byte, and a byte in each entry.
        T::Int4 | T::Uint4 | T::Float4e2m1 => count.div_ceil(2),
        _ => count,
    }
}
