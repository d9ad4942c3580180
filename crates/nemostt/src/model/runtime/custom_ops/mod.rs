// SPDX-License-Identifier: MIT OR Apache-2.0

//! Our own operations, as ONNX Runtime calls them: inputs and outputs are unpacked here, [`nemostt_kernels`] does the rest.
//!
//! Each has a file of its own; a [`chain`] of them is one, too. Pieces of the work go to the threads that ONNX Runtime's own
//! operations use. Nothing here panics on what a graph holds: an error of a kernel is an error of the run. Where one panics all the
//! same, that is an error, too ([`caught`]), which also gives it the tensors of a run: inputs, and each output once.

mod attributes;
mod declaration;
mod fused_subgraph;
mod glu_depthwise_conv;
mod joint_add_relu;
mod layer_norm;
mod lstm_cell;
mod packed_matmul;
mod panic_guard;
mod rel_pos_attention;
mod shape_fns;
mod strided_conv;

use std::sync::Arc;

use ort::operator::OperatorDomain;

pub(super) use self::panic_guard::panicked;
use self::{
    attributes::Attributes,
    declaration::{CustomOp, Declaration, Products},
    panic_guard::PanicGuard,
};
use nemostt_compiler::ops::{DOMAIN, OpSchema};
use nemostt_kernels::{executor::Op, gemm::PackedWeights};

/// Declares operations to ONNX Runtime, and makes calls of programs of them: one line each.
macro_rules! custom_ops {
    ($($kernel:ty,)*) => {
        fn declare(domain: OperatorDomain, products: &Products) -> ort::Result<OperatorDomain> {
            $(let domain = domain.add(Declaration::<$kernel>::new(products.clone()))?;)*
            Ok(domain)
        }

        /// The operation `name` as a call of a program, with its schema; `None`: there is no such operation.
        fn program_op(
            name: &str,
            source: &impl Attributes,
            products: &Products,
        ) -> Option<ort::Result<(Op, OpSchema)>> {
            $(
                if name == <$kernel>::SCHEMA.name {
                    let kernel = <$kernel>::new(source, products);
                    return Some(kernel.map(|kernel| (kernel.into_op(), <$kernel>::SCHEMA)));
                }
            )*
            None
        }
    };
}

custom_ops! {
    packed_matmul::PackedMatMulKernel,
    rel_pos_attention::RelPosAttentionKernel,
    glu_depthwise_conv::GluDepthwiseConvKernel,
    layer_norm::LayerNormKernel,
    strided_conv::StridedConvKernel,
    lstm_cell::LstmCellKernel,
    joint_add_relu::JointAddReluKernel,
}

/// All of them, with the weights of a graph's products, for a session of `threads` threads.
pub(super) fn all(products: &Arc<[Arc<PackedWeights>]>, threads: usize) -> ort::Result<OperatorDomain> {
    declare(OperatorDomain::new(DOMAIN)?, products)?.add(PanicGuard(fused_subgraph::FusedSubgraphOp {
        products: products.clone(),
        threads,
    }))
}

#[cfg(test)]
mod tests {
    use nemostt_compiler::ops::OPS;

    use super::*;

    #[test]
    fn every_operation_has_a_kernel() {
        let kernels = [
            packed_matmul::PackedMatMulKernel::SCHEMA,
            rel_pos_attention::RelPosAttentionKernel::SCHEMA,
            glu_depthwise_conv::GluDepthwiseConvKernel::SCHEMA,
            layer_norm::LayerNormKernel::SCHEMA,
            strided_conv::StridedConvKernel::SCHEMA,
            lstm_cell::LstmCellKernel::SCHEMA,
            joint_add_relu::JointAddReluKernel::SCHEMA,
        ];
        assert_eq!(OPS, kernels);
    }
}
