// SPDX-License-Identifier: MIT OR Apache-2.0

//! Constants and attributes of an operation: those of its node, or of its call in a fused subgraph.

use ort::{operator::KernelContext, value::TensorValueType};

use nemostt_compiler::{AttributeValue, SubgraphCall, ops::WIDTH};

/// Shape and values of a constant.
pub(in super::super) type Constant<T> = (Vec<usize>, Vec<T>);

/// Constants and attributes of an operation.
pub(in super::super) trait Attributes {
    /// A constant input of float32.
    fn floats(&self, input: usize) -> ort::Result<Constant<f32>>;

    /// A constant input of int64. Negative values, which the compiler does not write, become so large that they are rejected.
    fn numbers(&self, input: usize) -> ort::Result<Constant<usize>>;

    fn float(&self, name: &str) -> Option<f32>;

    fn int(&self, name: &str) -> Option<i64>;

    fn ints(&self, name: &str) -> Option<Vec<i64>>;

    fn flag(&self, name: &str) -> bool {
        self.int(name).unwrap_or(0) != 0
    }

    /// 0 if it is missing or negative, which programs reject.
    fn width(&self) -> usize {
        let width = self.int(WIDTH).and_then(|width| usize::try_from(width).ok());
        width.unwrap_or_default()
    }

    /// Negative values: as for [`numbers`](Self::numbers).
    fn sizes(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.ints(name)?.into_iter().map(|value| value as usize).collect())
    }
}

/// Constants by number.
pub(in super::super) trait Constants {
    /// A constant of float32.
    fn floats(&self, number: usize) -> ort::Result<Constant<f32>>;

    /// A constant of int64. Negative values: as for [`Attributes::numbers`].
    fn numbers(&self, number: usize) -> ort::Result<Constant<usize>>;
}

/// Those of a node are its inputs.
impl Constants for KernelContext<'_> {
    fn floats(&self, number: usize) -> ort::Result<Constant<f32>> {
        let tensor = self.constant_input::<TensorValueType<f32>>(number)?;
        let (shape, values) = tensor.extract_tensor();
        Ok((sizes(shape), values.to_vec()))
    }

    fn numbers(&self, number: usize) -> ort::Result<Constant<usize>> {
        let tensor = self.constant_input::<TensorValueType<i64>>(number)?;
        let (shape, values) = tensor.extract_tensor();
        Ok((sizes(shape), values.iter().map(|&value| value as usize).collect()))
    }
}

impl Attributes for KernelContext<'_> {
    fn floats(&self, input: usize) -> ort::Result<Constant<f32>> {
        Constants::floats(self, input)
    }

    fn numbers(&self, input: usize) -> ort::Result<Constant<usize>> {
        Constants::numbers(self, input)
    }

    fn float(&self, name: &str) -> Option<f32> {
        self.get(name)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.get(name)
    }

    fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.get(name)
    }
}

fn sizes(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&size| size.max(0) as usize).collect()
}

/// A call of a program, and the constants of the program, which are among its values.
pub(in super::super) struct CallAttributes<'a, C> {
    pub(in super::super) constants: &'a C,
    pub(in super::super) call: &'a SubgraphCall,
}

impl<C: Constants> CallAttributes<'_, C> {
    fn input(&self, input: usize) -> ort::Result<usize> {
        let number = self.call.inputs.get(input).copied();
        number.ok_or_else(|| ort::Error::new("an operation of a program lacks an input"))
    }

    fn attribute_value(&self, name: &str) -> Option<&AttributeValue> {
        self.call.attributes.get(name)
    }
}

impl<C: Constants> Attributes for CallAttributes<'_, C> {
    fn floats(&self, input: usize) -> ort::Result<Constant<f32>> {
        self.constants.floats(self.input(input)?)
    }

    fn numbers(&self, input: usize) -> ort::Result<Constant<usize>> {
        self.constants.numbers(self.input(input)?)
    }

    fn float(&self, name: &str) -> Option<f32> {
        match self.attribute_value(name)? {
            AttributeValue::Float(value) => Some(*value),
            _ => None,
        }
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.attribute_value(name)? {
            AttributeValue::Int(value) => Some(*value),
            _ => None,
        }
    }

    fn ints(&self, name: &str) -> Option<Vec<i64>> {
        match self.attribute_value(name)? {
            AttributeValue::Ints(values) => Some(values.clone()),
            _ => None,
        }
    }
}
