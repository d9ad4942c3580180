// SPDX-License-Identifier: MIT OR Apache-2.0

//! GEMMs with constant weights.

use std::sync::Arc;

use ort::operator::ShapeInferenceContext;

use super::{
    attributes::Attributes,
    declaration::{CustomOp, Weights},
    shape_fns,
};
use nemostt_compiler::ops::{OpSchema, PACKED_MATMUL, WEIGHTS_INDEX};
use nemostt_kernels::{gemm::PackedWeights, packed_matmul::PackedMatMul};

fn weights_at(weights: &Weights, index: Option<i64>) -> ort::Result<Arc<PackedWeights>> {
    let index = index.and_then(|index| usize::try_from(index).ok());
    let found = index.and_then(|index| weights.get(index));
    found
        .cloned()
        .ok_or_else(|| ort::Error::new("the weights of a GEMM are missing"))
}

impl CustomOp for PackedMatMul {
    const SCHEMA: OpSchema = PACKED_MATMUL;

    fn new(attributes: &impl Attributes, weights: &Weights) -> ort::Result<Self> {
        weights_at(weights, attributes.int(WEIGHTS_INDEX)).map(Self::new)
    }

    fn infer_shape(context: &mut ShapeInferenceContext, weights: &Weights) -> ort::Result<()> {
        let weights = weights_at(weights, context.attr(WEIGHTS_INDEX).ok())?;
        shape_fns::like_first_input(context, Some(weights.n() as i64))
    }
}
