// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where encoder frames and a prediction meet in a joint.

use super::{
    super::kernel_io::Tensors,
    attributes::Attributes,
    declaration::{CustomOp, Products},
    panic_guard::Compute,
};
use nemostt_compiler::ops::{JOINT_ADD_RELU, OpSchema};
use nemostt_kernels::executor::Op;
use nemostt_kernels::joint_add_relu::add_relu;

/// One meeting.
pub(super) struct JointAddReluKernel {
    /// 0, which a program refuses, where the node does not say.
    width: usize,
}

impl CustomOp for JointAddReluKernel {
    const SCHEMA: OpSchema = JOINT_ADD_RELU;

    fn new(source: &impl Attributes, _: &Products) -> ort::Result<Self> {
        Ok(Self { width: source.width() })
    }

    fn into_op(self) -> Op {
        Op::JointAddRelu(self.width)
    }
}

impl Compute for JointAddReluKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let ((sizes, frames), (_, prediction)) = (tensors.input(0)?, tensors.input(1)?);
        let width = prediction.len();
        if width == 0 || sizes.last() != width {
            return Err(ort::Error::new("encoder frames are of another width than a prediction"));
        }
        let output = tensors.output(0, sizes)?;
        for (frame, output) in frames.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            add_relu(frame, prediction, output);
        }
        Ok(())
    }
}
