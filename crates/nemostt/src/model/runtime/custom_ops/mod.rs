// SPDX-License-Identifier: MIT OR Apache-2.0

//! Our own operations, as ONNX Runtime calls them: inputs and outputs are unpacked here, [`nemostt_kernels`] does the rest.
//!
//! Each has a file of its own; a [`chain`] of them is one, too. Pieces of the work go to the threads that ONNX Runtime's own
//! operations use. Nothing here panics on what a graph holds: an error of a kernel is an error of the run. Where one panics all the
//! same, that is an error, too ([`caught`]), which also gives it the tensors of a run: inputs, and each output once.

mod attributes;
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

use self::panic_guard::PanicGuard;
pub(super) use self::panic_guard::panicked;
use nemostt_compiler::DOMAIN;
use nemostt_kernels::gemm::PackedWeights;

/// All of them, with the weights of a graph's products, for a session of `threads` threads.
pub(super) fn all(products: &Arc<[Arc<PackedWeights>]>, threads: usize) -> ort::Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(PanicGuard(packed_matmul::PackedMatMulOp(products.clone())))?
        .add(PanicGuard(rel_pos_attention::RelPosAttentionOp))?
        .add(PanicGuard(glu_depthwise_conv::GluDepthwiseConvOp))?
        .add(PanicGuard(layer_norm::LayerNormOp))?
        .add(PanicGuard(strided_conv::StridedConvOp))?
        .add(PanicGuard(lstm_cell::LstmCellOp))?
        .add(PanicGuard(joint_add_relu::JointAddReluOp))?
        .add(PanicGuard(fused_subgraph::FusedSubgraphOp {
            products: products.clone(),
            threads,
        }))
}
