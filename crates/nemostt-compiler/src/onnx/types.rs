// SPDX-License-Identifier: MIT OR Apache-2.0

//! Conversion of element types and shapes between protobuf messages and the types that passes use.

use super::{
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_proto::DataType, tensor_shape_proto, type_proto,
};

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum ElementType {
    F32,
    F16,
    I32,
    I64,
    Other(i32),
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: ElementType,
    /// Its shape; `None` for dynamic axes.
    pub dims: Vec<Option<usize>>,
}

/// ONNX's code of an element type (`TensorProto.DataType`).
pub(crate) fn code(element: ElementType) -> i32 {
    match element {
        ElementType::F32 => DataType::Float as i32,
        ElementType::F16 => DataType::Float16 as i32,
        ElementType::I32 => DataType::Int32 as i32,
        ElementType::I64 => DataType::Int64 as i32,
        ElementType::Other(code) => code,
    }
}

pub(crate) fn value_info_of(info: &TensorInfo) -> ValueInfoProto {
    use {tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto};
    let dim = |size: &Option<usize>| Dimension {
        value: size.map(|size| dimension::Value::DimValue(size as i64)),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(code(info.element)),
        shape: Some(TensorShapeProto {
            dim: info.dims.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: Some(info.name.clone()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The values of an integer tensor, if it is small. Shapes and limits are; larger tensors are weights or tables.
pub(crate) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    const SMALL: u64 = 16;
    elements(&tensor.dims).filter(|&count| count <= SMALL)?;
    let raw = tensor.raw_data.as_deref().unwrap_or_default();
    match element_type(tensor.data_type()) {
        ElementType::I64 if raw.is_empty() => Some(tensor.int64_data.clone()),
        ElementType::I64 => Some(raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        ElementType::I32 if raw.is_empty() => Some(tensor.int32_data.iter().map(|&v| v.into()).collect()),
        ElementType::I32 => Some(
            raw.as_chunks()
                .0
                .iter()
                .map(|b| i32::from_le_bytes(*b).into())
                .collect(),
        ),
        _ => None,
    }
}

/// The number of elements of a tensor of this shape; `None` if the shape is invalid.
pub(crate) fn elements(dims: &[i64]) -> Option<u64> {
    dims.iter()
        .try_fold(1_u64, |all, &dim| all.checked_mul(u64::try_from(dim).ok()?))
}

pub(crate) fn element_type(code: i32) -> ElementType {
    match DataType::try_from(code) {
        Ok(DataType::Float) => ElementType::F32,
        Ok(DataType::Float16) => ElementType::F16,
        Ok(DataType::Int32) => ElementType::I32,
        Ok(DataType::Int64) => ElementType::I64,
        _ => ElementType::Other(code),
    }
}

/// The declaration of a tensor with a fixed shape; `element` is ONNX's code.
pub(crate) fn value_info(name: &str, element: i32, dims: &[usize]) -> ValueInfoProto {
    value_info_of(&TensorInfo {
        name: name.into(),
        element: element_type(element),
        dims: dims.iter().copied().map(Some).collect(),
    })
}

/// ONNX's code of the element type of a declared tensor; 0 if it has none.
pub(crate) fn element_code(info: &ValueInfoProto) -> i32 {
    use type_proto::Value::TensorType;
    match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TensorType(tensor)) => tensor.elem_type(),
        _ => 0,
    }
}

pub(crate) fn tensor_info(info: &ValueInfoProto) -> TensorInfo {
    use {tensor_shape_proto::dimension::Value, type_proto};
    let tensor = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor),
        _ => None,
    };
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|shape| {
        let size = |dim: &tensor_shape_proto::Dimension| match dim.value {
            Some(Value::DimValue(size)) => usize::try_from(size).ok(),
            _ => None,
        };
        shape.dim.iter().map(size).collect()
    });
    TensorInfo {
        name: info.name().to_owned(),
        element: element_type(element_code(info)),
        dims: dims.unwrap_or_default(),
    }
}
