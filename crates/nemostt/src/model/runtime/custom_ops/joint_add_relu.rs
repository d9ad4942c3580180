// SPDX-License-Identifier: MIT OR Apache-2.0

//! Addition and ReLU of a joint network.

use ort::operator::ShapeInferenceContext;

use super::{
    attributes::Attributes,
    declaration::{CustomOp, Weights},
    shape_fns,
};
use nemostt_compiler::ops::{JOINT_ADD_RELU, OpSchema, WIDTH};
use nemostt_kernels::joint_add_relu::JointAddRelu;

impl CustomOp for JointAddRelu {
    const SCHEMA: OpSchema = JOINT_ADD_RELU;

    fn new(attributes: &impl Attributes, _: &Weights) -> ort::Result<Self> {
        Ok(Self {
            width: attributes.width(),
        })
    }

    fn infer_shape(context: &mut ShapeInferenceContext, _: &Weights) -> ort::Result<()> {
        let width: i64 = context.attr(WIDTH)?;
        shape_fns::set(context, 0, &[-1, width])
    }
}
