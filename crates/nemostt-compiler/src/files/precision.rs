// SPDX-License-Identifier: MIT OR Apache-2.0

//! The precision of a graph's weights.

use serde::{Deserialize, Serialize};

use crate::onnx::types::{element_type, elements};
use crate::{ElementType, Graph};

/// Precision of most weights of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Precision {
    Fp32,
    Fp16,
    Int8,
    Int4,
}

impl Precision {
    /// Name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

impl Graph {
    /// Precision of most of its weights.
    pub fn precision(&self) -> Precision {
        let operator = |name: &str| self.nodes.iter().any(|node| node.op_type() == name);
        if operator("MatMulNBits") {
            return Precision::Int4;
        }
        let quantized = [
            "MatMulInteger",
            "MatMulIntegerToFloat",
            "ConvInteger",
            "DynamicQuantizeMatMul",
            "DynamicQuantizeLSTM",
            "QLinearMatMul",
            "DequantizeLinear",
        ];
        if quantized.into_iter().any(operator) {
            return Precision::Int8;
        }
        let count_of = |element: ElementType| {
            let weights = self.initializers.iter();
            let of_kind = weights.filter(|weight| element_type(weight.data_type()) == element);
            of_kind
                .filter_map(|weight| elements(&weight.dims))
                .fold(0, u64::saturating_add)
        };
        if count_of(ElementType::F16) > count_of(ElementType::F32) {
            Precision::Fp16
        } else {
            Precision::Fp32
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        let counts = self.initializers.iter().filter_map(|weight| elements(&weight.dims));
        counts.fold(0, u64::saturating_add)
    }
}
