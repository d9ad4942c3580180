// SPDX-License-Identifier: MIT OR Apache-2.0

//! GLU and depthwise convolution of a convolution module.

use ort::operator::ShapeInferenceContext;

use super::{
    attributes::Attributes,
    declaration::{CustomOp, Weights},
    shape_fns,
};
use nemostt_compiler::ops::{GLU_DEPTHWISE_CONV, OpSchema};
use nemostt_kernels::glu_depthwise_conv::GluDepthwiseConv;

impl CustomOp for GluDepthwiseConv {
    const SCHEMA: OpSchema = GLU_DEPTHWISE_CONV;

    fn new(attributes: &impl Attributes, _: &Weights) -> ort::Result<Self> {
        let ((_, weights), (_, bias)) = (attributes.floats(2)?, attributes.floats(3)?);
        Self::new(&weights, bias)
            .ok_or_else(|| ort::Error::new("weights and bias of a depthwise convolution do not match"))
    }

    fn infer_shape(context: &mut ShapeInferenceContext, _: &Weights) -> ort::Result<()> {
        let inputs = shape_fns::of_inputs(context);
        if let Some(cache) = inputs.get(1).filter(|shape| !shape.is_empty()) {
            shape_fns::set(context, 1, cache)?;
        }
        let channels = inputs.first().and_then(|rows| rows.last()).filter(|&&width| width > 0);
        shape_fns::like_first_input(context, channels.map(|width| width / 2))
    }
}
