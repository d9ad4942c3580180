// SPDX-License-Identifier: MIT OR Apache-2.0

//! Our operators, as ONNX Runtime calls them. [`nemostt_kernels`] does the work, on the threads of ONNX Runtime.
//!
//! | | |
//! |---|---|
//! | one file each | constants and attributes of an operation |
//! | [`declaration`] | declares an operation to ONNX Runtime |
//! | [`fused_subgraph`] | the operator for several operations |
//! | [`program_kernel`] | the kernel of all of them |
//! | [`panic_guard`] | turns panics into errors |

mod attributes;
mod declaration;
mod fused_subgraph;
mod glu_depthwise_conv;
mod joint_add_relu;
mod layer_norm;
mod lstm_cell;
mod packed_matmul;
mod panic_guard;
mod program_kernel;
mod rel_pos_attention;
mod shape_fns;
mod strided_conv;

use std::sync::Arc;

use ort::operator::OperatorDomain;

pub(super) use self::{
    attributes::{Attributes, CallAttributes, Constant, Constants},
    declaration::Weights,
    panic_guard::panicked,
    program_kernel::RunInputs,
};
use self::{
    declaration::{CustomOp, Declaration},
    panic_guard::PanicGuard,
};
use nemostt_compiler::ops::{DOMAIN, OpSchema};
use nemostt_kernels::{
    executor::Op, gemm::PackedWeights, glu_depthwise_conv::GluDepthwiseConv, joint_add_relu::JointAddRelu,
    layer_norm::LayerNorm, lstm_cell::LstmCell, packed_matmul::PackedMatMul, rel_pos_attention::RelPosAttention,
    strided_conv::StridedConv,
};

/// The operations: one line each.
macro_rules! custom_ops {
    ($($op:ty,)*) => {
        fn declare(domain: OperatorDomain, weights: &Weights, threads: usize) -> ort::Result<OperatorDomain> {
            $(let domain = domain.add(Declaration::<$op>::new(weights.clone(), threads))?;)*
            Ok(domain)
        }

        /// The operation `name` and its schema; `None` if there is no such operation.
        pub(super) fn op(name: &str, attributes: &impl Attributes, weights: &Weights) -> Option<ort::Result<(Op, OpSchema)>> {
            $(
                if name == <$op as CustomOp>::SCHEMA.name {
                    let op = <$op as CustomOp>::new(attributes, weights);
                    return Some(op.map(|op| (op.into(), <$op as CustomOp>::SCHEMA)));
                }
            )*
            None
        }

        #[cfg(test)]
        const SCHEMAS: &[OpSchema] = &[$(<$op as CustomOp>::SCHEMA,)*];
    };
}

custom_ops! {
    PackedMatMul,
    RelPosAttention,
    GluDepthwiseConv,
    LayerNorm,
    StridedConv,
    LstmCell,
    JointAddRelu,
}

/// All operators, for a graph with these packed weights and a session with `threads` threads.
pub(super) fn all(weights: &Arc<[Arc<PackedWeights>]>, threads: usize) -> ort::Result<OperatorDomain> {
    declare(OperatorDomain::new(DOMAIN)?, weights, threads)?.add(PanicGuard(fused_subgraph::FusedSubgraphOp {
        weights: weights.clone(),
        threads,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_declared() {
        assert_eq!(nemostt_compiler::ops::OPS, SCHEMAS);
    }
}
