// SPDX-License-Identifier: MIT OR Apache-2.0

//! Constant tensors in ONNX's binary format; slices share memory.

use bytes::Bytes;

use crate::{NodeProto, TensorProto, onnx::tensor_proto::DataType};

/// A tensor whose values are known when the graph is compiled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    pub element: DataType,
    pub dims: Vec<usize>,
    /// Little-endian values in row-major order.
    pub raw: Bytes,
}

/// Bytes per element.
pub(crate) fn size_of(element: DataType) -> Option<usize> {
    match element {
        DataType::Bool => Some(1),
        DataType::Float | DataType::Int32 => Some(4),
        DataType::Int64 => Some(8),
        _ => None,
    }
}

/// Maximum elements of a tensor: larger shapes are errors. Also prevents overflow in computations with shapes.
const MAX_ELEMENTS: usize = 1 << 31;

/// Number of elements of a tensor of this shape; `None` if it is too large. Other axes are checked even if one has size
/// 0.
pub(crate) fn element_count(dims: &[usize]) -> Option<usize> {
    let count = dims.iter().try_fold(1_usize, |count, &dim| {
        count.checked_mul(dim.max(1)).filter(|&count| count <= MAX_ELEMENTS)
    })?;
    Some(if dims.contains(&0) { 0 } else { count })
}

/// `dims` if the size is valid.
pub(crate) fn checked_dims(dims: Vec<usize>) -> Option<Vec<usize>> {
    element_count(&dims).map(|_| dims)
}

impl Constant {
    /// The values of an initializer or attribute; `None` for element types that do not occur in shapes or masks.
    pub(crate) fn from_tensor(tensor: &TensorProto) -> Option<Self> {
        let element = DataType::try_from(tensor.data_type()).ok()?;
        let dims = tensor
            .dims
            .iter()
            .map(|&dim| usize::try_from(dim).ok())
            .collect::<Option<_>>();
        let dims = checked_dims(dims?)?;
        let raw = match &tensor.raw_data {
            Some(raw) if !raw.is_empty() => raw.clone(),
            _ => match element {
                DataType::Float => tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
                DataType::Int64 => tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
                DataType::Int32 => tensor.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
                DataType::Bool => tensor.int32_data.iter().map(|&v| u8::from(v != 0)).collect(),
                _ => return None,
            },
        };
        let is_complete = raw.len() == dims.iter().product::<usize>() * size_of(element)?;
        is_complete.then_some(Self { element, dims, raw })
    }

    pub(crate) fn to_tensor(&self, name: &str) -> TensorProto {
        TensorProto {
            name: Some(name.into()),
            data_type: Some(self.element as i32),
            dims: self.dims.iter().map(|&dim| dim as i64).collect(),
            raw_data: Some(self.raw.clone()),
            ..Default::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub(crate) fn of_ints(dims: Vec<usize>, values: &[i64]) -> Self {
        Self::from_ints(DataType::Int64, dims, values)
    }

    /// `values` as integers or booleans.
    pub(crate) fn from_ints(element: DataType, dims: Vec<usize>, values: &[i64]) -> Self {
        let raw = match element {
            DataType::Bool => values.iter().map(|&v| u8::from(v != 0)).collect(),
            DataType::Int32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        Self { element, dims, raw }
    }

    pub(crate) fn from_floats(dims: Vec<usize>, values: &[f32]) -> Self {
        Self {
            element: DataType::Float,
            dims,
            raw: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// The values, if they are integers or booleans.
    pub(crate) fn ints(&self) -> Option<Vec<i64>> {
        Some(match self.element {
            DataType::Bool => self.raw.iter().map(|&v| i64::from(v != 0)).collect(),
            DataType::Int32 => self
                .raw
                .as_chunks()
                .0
                .iter()
                .map(|b| i32::from_le_bytes(*b).into())
                .collect(),
            DataType::Int64 => self.raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            _ => return None,
        })
    }

    /// The values, if they are floats.
    pub(crate) fn floats(&self) -> Option<Vec<f32>> {
        let floats = || self.raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (self.element == DataType::Float).then(floats)
    }

    /// The value, if it is a single integer.
    pub(crate) fn int(&self) -> Option<i64> {
        match self.ints()?[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// An integer attribute.
pub(crate) fn attribute(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name() == name).map(|a| a.i())
}

/// An attribute that is a list of integers.
pub(crate) fn attribute_list<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    node.attribute
        .iter()
        .find(|a| a.name() == name)
        .map(|a| a.ints.as_slice())
}

/// The axis of a tensor with `rank` axes, where a negative `axis` counts from the end.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}
