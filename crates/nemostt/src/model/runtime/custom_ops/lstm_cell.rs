// SPDX-License-Identifier: MIT OR Apache-2.0

//! The gates of an LSTM layer.

use ort::operator::ShapeInferenceContext;

use super::{
    super::kernel_io::Tensors,
    attributes::Attributes,
    declaration::{CustomOp, Products},
    panic_guard::Compute,
};
use nemostt_compiler::ops::{LSTM_CELL, OpSchema};
use nemostt_kernels::executor::Op;
use nemostt_kernels::lstm_cell::LstmStep;

/// One step of one layer.
pub(super) struct LstmCellKernel {
    /// 0, which a program refuses, where the node does not say.
    width: usize,
}

impl CustomOp for LstmCellKernel {
    const SCHEMA: OpSchema = LSTM_CELL;

    fn new(source: &impl Attributes, _: &Products) -> ort::Result<Self> {
        Ok(Self { width: source.width() })
    }

    fn into_op(self) -> Op {
        Op::LstmCell(self.width)
    }

    fn infer_shape(context: &mut ShapeInferenceContext, _: &Products) -> ort::Result<()> {
        if let [_, _, cells] = &context.inputs()[..] {
            context.set_output(0, cells)?;
            context.set_output(1, cells)?;
        }
        Ok(())
    }
}

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
