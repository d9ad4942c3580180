// SPDX-License-Identifier: MIT OR Apache-2.0

//! Addition and ReLU of a joint network.

use super::{
    attributes::Attributes,
    declaration::{CustomOp, Weights},
};
use nemostt_compiler::ops::{JOINT_ADD_RELU, OpSchema};
use nemostt_kernels::joint_add_relu::JointAddRelu;

impl CustomOp for JointAddRelu {
    const SCHEMA: OpSchema = JOINT_ADD_RELU;

    fn new(attributes: &impl Attributes, _: &Weights) -> ort::Result<Self> {
        Ok(Self {
            width: attributes.width(),
        })
    }
}
