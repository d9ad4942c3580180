// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tensors as they are sent: little-endian bytes in row-major order.

use bytes::Bytes;

/// Element type of a tensor, with KServe's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// 32-bit floating point.
    Fp32,
    /// 64-bit signed integers.
    Int64,
}

impl DataType {
    /// KServe's name: `FP32`, `INT64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "FP32",
            Self::Int64 => "INT64",
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fp32, Self::Int64].into_iter().find(|kind| kind.name() == name)
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::Fp32 => 4,
            Self::Int64 => 8,
        }
    }
}

/// A named tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub data_type: DataType,
    /// Its shape, with the batch first.
    pub shape: Vec<i64>,
    /// Its elements, little-endian, row-major.
    pub data: Bytes,
}

impl Tensor {
    /// A tensor of floats.
    pub fn f32(name: &str, shape: &[i64], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(name, DataType::Fp32, shape, data)
    }

    /// A tensor of integers.
    pub fn i64(name: &str, shape: &[i64], values: &[i64]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(name, DataType::Int64, shape, data)
    }

    fn new(name: &str, data_type: DataType, shape: &[i64], data: Bytes) -> Self {
        Self {
            name: name.into(),
            data_type,
            shape: shape.into(),
            data,
        }
    }

    /// Elements of the tensor, if they are floats.
    pub fn floats(&self) -> Option<impl ExactSizeIterator<Item = f32> + '_> {
        let (values, _) = self.data.as_chunks();
        (self.data_type == DataType::Fp32).then(|| values.iter().map(|bytes| f32::from_le_bytes(*bytes)))
    }

    /// Elements of the tensor, if they are integers.
    pub fn integers(&self) -> Option<impl ExactSizeIterator<Item = i64> + '_> {
        let (values, _) = self.data.as_chunks();
        (self.data_type == DataType::Int64).then(|| values.iter().map(|bytes| i64::from_le_bytes(*bytes)))
    }

    /// Whether there are as many bytes as its shape says.
    pub(crate) fn is_complete(&self) -> bool {
        let elements = self
            .shape
            .iter()
            .try_fold(1_usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?));
        elements.and_then(|n| n.checked_mul(self.data_type.size())) == Some(self.data.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_as_little_endian_bytes() {
        let floats = Tensor::f32("x", &[1, 2], &[1.0, -2.5]);
        assert_eq!(floats.data[..4], [0, 0, 0x80, 0x3f]);
        assert!(floats.floats().unwrap().eq([1.0, -2.5]));
        assert!(floats.integers().is_none() && floats.is_complete());
        let integers = Tensor::i64("n", &[2], &[-1, 258]);
        assert_eq!(integers.data[8..10], [2, 1]);
        assert!(integers.integers().unwrap().eq([-1, 258]));
        for shape in [vec![3], vec![-1, -2], vec![i64::MAX, 4]] {
            assert!(
                !Tensor {
                    shape,
                    ..integers.clone()
                }
                .is_complete()
            );
        }
    }
}
