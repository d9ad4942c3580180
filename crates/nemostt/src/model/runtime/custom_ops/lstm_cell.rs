// SPDX-License-Identifier: MIT OR Apache-2.0

//! The gates of an LSTM layer.

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    super::kernel_io::Tensors,
    panic_guard::{Compute, PanicGuard},
};
use nemostt_compiler::LSTM_CELL;
use nemostt_kernels::lstm_cell::LstmStep;

/// Our own operation for the gates of an LSTM: see [`LSTM_CELL`] for its inputs.
pub(super) struct LstmCellOp;

impl Operator for LstmCellOp {
    type Kernel<'attr> = PanicGuard<LstmCellKernel>;

    fn name(&self) -> &str {
        LSTM_CELL
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..3).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..2).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<PanicGuard<LstmCellKernel>> {
        Ok(PanicGuard(LstmCellKernel))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        if let [_, _, cells] = &context.inputs()[..] {
            context.set_output(0, cells)?;
            context.set_output(1, cells)?;
        }
        Ok(())
    }
}

/// One step of one layer.
pub(super) struct LstmCellKernel;

impl Compute for LstmCellKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let input = |index: usize| tensors.input(index);
        let (sizes, cells) = input(2)?;
        let step = LstmStep {
            sums: [input(0)?.1, input(1)?.1],
            cells,
        };
        if !step.is_consistent() {
            return Err(ort::Error::new("the inputs of an LSTM's gates do not fit each other"));
        }
        let (state, cells) = (tensors.output(0, sizes)?, tensors.output(1, sizes)?);
        step.apply(0..step.cells.len(), state, cells);
        Ok(())
    }
}
