// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where encoder frames and a prediction meet in a joint.

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    super::kernel_io::Tensors,
    panic_guard::{Compute, PanicGuard},
    shape_fns,
};
use nemostt_compiler::JOINT_ADD_RELU;
use nemostt_kernels::joint_add_relu::add_relu;

/// Our own operation for it: see [`JOINT_ADD_RELU`] for its inputs.
pub(super) struct JointAddReluOp;

impl Operator for JointAddReluOp {
    type Kernel<'attr> = PanicGuard<JointAddReluKernel>;

    fn name(&self) -> &str {
        JOINT_ADD_RELU
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..2).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<PanicGuard<JointAddReluKernel>> {
        Ok(PanicGuard(JointAddReluKernel))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        shape_fns::like_first_input(context, None)
    }
}

/// One meeting.
pub(super) struct JointAddReluKernel;

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
