// SPDX-License-Identifier: MIT OR Apache-2.0

//! The precision in which a graph holds its weights.

use serde::{Deserialize, Serialize};

use crate::{ElementType, Graph, element_type, elements};

/// What most of the weights of a graph are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Precision {
    Fp32,
    Fp16,
    Int8,
    Int4,
}

impl Precision {
    /// Its name.
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
    /// What most of its weights are.
    pub fn precision(&self) -> Precision {
        let operator = |name: &str| self.nodes().iter().any(|node| node.op_type() == name);
        if operator("MatMulNBits") {
            return Precision::Int4;
        }
        let quantised = [
            "MatMulInteger",
            "MatMulIntegerToFloat",
            "ConvInteger",
            "DynamicQuantizeMatMul",
            "DynamicQuantizeLSTM",
            "QLinearMatMul",
            "DequantizeLinear",
        ];
        if quantised.into_iter().any(operator) {
            return Precision::Int8;
        }
        let values = |wanted: ElementType| {
            let weights = self.graph.initializer.iter();
            let of_kind = weights.filter(|weight| element_type(weight.data_type()) == wanted);
            of_kind
                .filter_map(|weight| elements(&weight.dims))
                .fold(0, u64::saturating_add)
        };
        if values(ElementType::F16) > values(ElementType::F32) {
            Precision::Fp16
        } else {
            Precision::Fp32
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        let counts = self
            .graph
            .initializer
            .iter()
            .filter_map(|weight| elements(&weight.dims));
        counts.fold(0, u64::saturating_add)
    }
}
