// SPDX-License-Identifier: MIT OR Apache-2.0

//! ONNX's operators that lower to operations on rows.

use super::values::{Lowering, Shape, Value, unsupported};
use crate::{
    ElementType, NodeProto,
    ir::constant::{attribute, axis_of},
    ops::{LOG_SOFTMAX, OpInput, RELU_ROWS, SCALE_ROWS, SELECT_ROWS},
};

impl<'a> Lowering<'a> {
    /// `Gather` of rows with indices that are computed outside.
    pub(super) fn select_rows(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let ((rows, width), indices) = (self.rows(node, 0)?, self.input(node, 1)?);
        // The axis of the rows. The other axes must not have rows of their own.
        let axis = match rows.shape.outer.as_deref() {
            Some([_]) => 0,
            Some([Some(1), _]) => 1,
            _ => return Err(unsupported(node)),
        };
        let is_axis = axis_of(attribute(node, "axis").unwrap_or(0), axis + 2) == Some(axis);
        // Indices are int64 in the graph, and become rows' numbers where the program is run.
        let input = self.inputs.get(indices.number);
        let is_indices = !indices.is_transposed && input.is_some_and(|input| input.element == ElementType::I64);
        let selected = indices.shape.axes().filter(|_| is_axis && is_indices);
        let mut outer = selected.ok_or_else(|| unsupported(node))?;
        outer.splice(0..0, (0..axis).map(|_| Some(1)));
        let shape = Shape {
            outer: Some(outer),
            width: Some(width),
        };
        let number = self.call(SELECT_ROWS, vec![rows.number, indices.number], width);
        self.define(node, Value::new(number, shape))
    }

    /// `Mul` of rows with one factor per row, an input.
    pub(super) fn scale_rows(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let [a, b] = [self.input(node, 0)?, self.input(node, 1)?];
        let is_column = |value: &Value| self.is_input(value) && value.shape.width == Some(1);
        let (data, factors) = match (is_column(&a), is_column(&b)) {
            (false, true) => (0, b),
            (true, false) => (1, a),
            _ => return Err(unsupported(node)),
        };
        let (rows, width) = self.rows(node, data)?;
        // Nothing else may be broadcast: as many factors as rows do not have to belong to them in this order. Only with two
        // axes the number says it, which is compared where the program is run.
        let has_factor_per_row = match (rows.shape.outer.as_deref(), factors.shape.outer.as_deref()) {
            (Some([None]), Some([_])) => true,
            (Some(rows), Some(factors)) => rows == factors && !factors.contains(&None),
            _ => false,
        };
        if !has_factor_per_row || !self.is_read_as(factors.number, OpInput::Tensor) {
            return Err(unsupported(node));
        }
        let number = self.call(SCALE_ROWS, vec![rows.number, factors.number], width);
        self.define(node, Value::new(number, rows.shape))
    }

    /// `Relu`, where it could not become the epilogue of a matrix product.
    pub(super) fn relu(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let (rows, width) = self.rows(node, 0)?;
        let number = self.call(RELU_ROWS, vec![rows.number], width);
        self.define(node, Value::new(number, rows.shape))
    }

    /// `LogSoftmax` over the last axis.
    pub(super) fn log_softmax(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let (rows, width) = self.rows(node, 0)?;
        let is_last = match (attribute(node, "axis").unwrap_or(-1), &rows.shape.outer) {
            (-1, _) => true,
            (axis, Some(outer)) => axis_of(axis, outer.len() + 1) == Some(outer.len()),
            (_, None) => false,
        };
        if !is_last {
            return Err(unsupported(node));
        }
        let number = self.call(LOG_SOFTMAX, vec![rows.number], width);
        self.define(node, Value::new(number, rows.shape))
    }
}
