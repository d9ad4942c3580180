// SPDX-License-Identifier: MIT OR Apache-2.0

//! The gates of an LSTM layer.

use ort::operator::ShapeInferenceContext;

use super::{
    attributes::Attributes,
    declaration::{CustomOp, Weights},
};
use nemostt_compiler::ops::{LSTM_CELL, OpSchema};
use nemostt_kernels::lstm_cell::LstmCell;

impl CustomOp for LstmCell {
    const SCHEMA: OpSchema = LSTM_CELL;

    fn new(attributes: &impl Attributes, _: &Weights) -> ort::Result<Self> {
        Ok(Self {
            units: attributes.width(),
        })
    }

    fn infer_shape(context: &mut ShapeInferenceContext, _: &Weights) -> ort::Result<()> {
        if let [_, _, cells] = &context.inputs()[..] {
            context.set_output(0, cells)?;
            context.set_output(1, cells)?;
        }
        Ok(())
    }
}
