// SPDX-License-Identifier: MIT OR Apache-2.0

//! Nodes that change the shape of a tensor or the order of its axes, but no values.

use super::values::{Axis, Lowering, Shape, Value, unsupported};
use crate::{
    NodeProto, RESHAPE,
    ir::{
        constant::{attribute, attribute_list, axis_of, checked_dims},
        data_movement::resolve_reshape,
        graph::is_onnx_domain,
    },
};

/// The only output that the caller can read in another order of axes.
const TRANSPOSED_OUTPUT: &str = "outputs";

impl<'a> Lowering<'a> {
    /// The same values in the same order with another shape.
    pub(super) fn view(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let value = self.input(node, 0)?;
        let shape = self.viewed_shape(node, &value.shape);
        let shape = shape
            .filter(|_| !value.is_transposed)
            .ok_or_else(|| unsupported(node))?;
        let width = shape.width.filter(|&width| width > 0);
        let width = width.ok_or_else(|| unsupported(node))?;
        // Inputs of the program get their width where it is run.
        let number = match value.shape.width == Some(width) || self.is_input(&value) {
            true => value.number,
            false => self.call(RESHAPE, vec![value.number], width),
        };
        self.define(node, Value { number, shape, ..value })
    }

    /// The shape of the output of a node that changes shapes.
    fn viewed_shape(&self, node: &NodeProto, from: &Shape) -> Option<Shape> {
        let constant = || self.graph.constants().remove(node.input.get(1)?.as_str());
        match node.op_type() {
            "Identity" => Some(from.clone()),
            "Reshape" => {
                let keeps_zero = attribute(node, "allowzero") == Some(1);
                Shape::new(&reshaped(from.axes().as_deref(), &constant()?, keeps_zero)?)
            }
            "Unsqueeze" => Shape::new(&unsqueezed(&from.axes()?, &constant()?)?),
            // Without axes, it depends on sizes that may be unknown.
            "Squeeze" => Shape::new(&squeezed(&from.axes()?, &constant()?)?),
            _ => None,
        }
    }

    /// A transpose of the audio or of the outputs, at the start or the end of the graph, is left to the caller, who writes and
    /// reads them in any order.
    pub(super) fn transpose(&mut self, node: &'a NodeProto) -> Result<(), String> {
        let value = self.input(node, 0)?;
        let is_frames = matches!(value.shape.outer.as_deref(), Some([Some(1), _]));
        let output = node.output.first().ok_or_else(|| unsupported(node))?;
        let is_at_end = output == TRANSPOSED_OUTPUT && self.graph.index().readers(output).is_empty();
        // An input is only transposed if it is at the start.
        let is_transposed = match (self.is_input(&value), value.is_transposed) {
            (true, true) => false,
            (false, false) if is_at_end => true,
            _ => return Err(unsupported(node)),
        };
        match is_frames && swaps_last_axes(node) {
            true => self.define(node, Value { is_transposed, ..value }),
            false => Err(unsupported(node)),
        }
    }
}

/// Whether a node swaps the last two of three axes.
pub(super) fn swaps_last_axes(node: &NodeProto) -> bool {
    let is_transpose = is_onnx_domain(node.domain()) && node.op_type() == "Transpose";
    is_transpose && attribute_list(node, "perm") == Some(&[0, 2, 1])
}

/// The result of a `Reshape`; `from` is `None` if the rank of its input is unknown.
fn reshaped(from: Option<&[Axis]>, target: &[i64], keeps_zero: bool) -> Option<Vec<Axis>> {
    if target.iter().filter(|&&size| size == -1).count() > 1 {
        return None;
    }
    let known: Option<Vec<usize>> = from.and_then(|from| from.iter().copied().collect());
    if let Some(known) = known {
        let axes = resolve_reshape(&checked_dims(known)?, target, keeps_zero)?;
        return Some(axes.into_iter().map(Some).collect());
    }
    let size = |(axis, &size): (usize, &i64)| match (size, from) {
        // Takes what is left.
        (-1, _) => Some(None),
        // Copied.
        (0, Some(from)) if !keeps_zero => from.get(axis).copied(),
        (0, None) if !keeps_zero => Some(None),
        (size, _) => usize::try_from(size).ok().map(Some),
    };
    let axes: Vec<Axis> = target.iter().enumerate().map(size).collect::<Option<_>>()?;
    checked_dims(axes.iter().copied().flatten().collect()).map(|_| axes)
}

/// The result of an `Unsqueeze`, which inserts axes of size 1: `new` of its output.
fn unsqueezed(from: &[Axis], new: &[i64]) -> Option<Vec<Axis>> {
    let rank = from.len() + new.len();
    let new: Vec<usize> = new.iter().map(|&axis| axis_of(axis, rank)).collect::<Option<_>>()?;
    let mut from = from.iter();
    let size = |axis: usize| match new.contains(&axis) {
        true => Some(Some(1)),
        false => from.next().copied(),
    };
    let axes: Vec<Axis> = (0..rank).map(size).collect::<Option<_>>()?;
    // If an axis is given twice, sizes are left over.
    from.next().is_none().then_some(axes)
}

/// The result of a `Squeeze`, which removes the axes `removed`, of size 1.
fn squeezed(from: &[Axis], removed: &[i64]) -> Option<Vec<Axis>> {
    let removed = removed.iter().map(|&axis| axis_of(axis, from.len()));
    let removed: Vec<usize> = removed.collect::<Option<_>>()?;
    let is_one = removed.iter().all(|&axis| from[axis] == Some(1));
    let remaining = (0..from.len()).filter(|axis| !removed.contains(axis));
    is_one.then(|| remaining.map(|axis| from[axis]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_views_are_known_as_far_as_those_of_their_inputs() {
        let known = [Some(1), Some(4), Some(6)];
        let part = [Some(1), None, Some(6)];
        assert_eq!(reshaped(None, &[3, 8], false), Some(vec![Some(3), Some(8)]));
        assert_eq!(reshaped(None, &[0, -1, 8], false), Some(vec![None, None, Some(8)]));
        assert_eq!(reshaped(Some(&known), &[0, -1], false), Some(vec![Some(1), Some(24)]));
        assert_eq!(
            reshaped(Some(&part), &[0, 0, 2, 3], false),
            Some(vec![Some(1), None, Some(2), Some(3)])
        );
        assert_eq!(reshaped(Some(&part), &[-1, 6], false), Some(vec![None, Some(6)]));
        for invalid in [
            &[5, 5][..],
            &[-1, 5],
            &[-1, -1],
            &[24, 1, 1, 0],
            &[-2, 12],
            &[-1, i64::MAX, i64::MAX],
        ] {
            assert_eq!(reshaped(Some(&known), invalid, false), None, "{invalid:?}");
        }
        for invalid in [&[-1, -1][..], &[-2, 6], &[1, 1, 1, 0], &[i64::MAX, i64::MAX]] {
            assert_eq!(reshaped(Some(&part), invalid, false), None, "{invalid:?}");
        }
        assert_eq!(reshaped(Some(&known), &[0, 24], true), None);

        assert_eq!(
            unsqueezed(&part, &[-1, 0]),
            Some(vec![Some(1), Some(1), None, Some(6), Some(1)])
        );
        for invalid in [&[5][..], &[-5], &[0, 0], &[i64::MIN], &[i64::MAX]] {
            assert_eq!(unsqueezed(&part, invalid), None, "{invalid:?}");
        }
        assert_eq!(squeezed(&part, &[0]), Some(vec![None, Some(6)]));
        assert_eq!(squeezed(&part, &[-3]), Some(vec![None, Some(6)]));
        for invalid in [&[1][..], &[2], &[3], &[0, 1], &[i64::MIN]] {
            assert_eq!(squeezed(&part, invalid), None, "{invalid:?}");
        }
    }
}
