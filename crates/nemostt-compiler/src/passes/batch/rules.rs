// SPDX-License-Identifier: MIT OR Apache-2.0

//! For each operator: where the batch is in its output, and what has to change in it. Operators that are not listed have no
//! rule.

use super::follow::{Batch, Follower};
use crate::{
    NodeProto,
    ir::constant::{attribute, attribute_list, axis_of},
};

/// Why an operator is not supported.
type Reason = String;

impl Follower<'_> {
    /// The batch in the outputs of `node`, of whose inputs at least one has a batch.
    pub(super) fn after(&mut self, node: &mut NodeProto) -> Result<Batch, Reason> {
        match node.op_type() {
            "Cast" | "Clip" | "Identity" | "Neg" | "Not" | "Floor" | "Sqrt" | "Exp" | "Erf" | "Relu" | "Sigmoid"
            | "Tanh" => self.only_first(node),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "And" | "Or" | "Equal" | "Less" | "LessOrEqual" | "Greater"
            | "GreaterOrEqual" | "Where" => self.after_broadcast(node),
            "MatMul" => self.after_matmul(node),
            "Gemm" => self.after_gemm(node),
            "Conv" | "BatchNormalization" => self.plain_first(node),
            "Softmax" | "LogSoftmax" | "LayerNormalization" => self.after_normalization(node),
            "Reshape" => self.after_reshape(node),
            "Unsqueeze" => self.after_unsqueeze(node),
            "Squeeze" => self.after_squeeze(node),
            "Transpose" => self.after_transpose(node),
            "Slice" | "Concat" | "Split" => self.along_another_axis(node),
            "Pad" | "Tile" | "Expand" => self.after_growth(node),
            "Gather" => self.after_gather(node),
            "GatherND" => self.after_gather_nd(node),
            _ => Err("there is no rule for a batch".into()),
        }
    }

    /// The batch of the first input, if no other input has one.
    fn only_first(&self, node: &NodeProto) -> Result<Batch, Reason> {
        if (1..node.input.len()).any(|number| self.batch(node, number).is_some()) {
            return Err("an input that must be the same for all streams is not".into());
        }
        self.batch(node, 0).ok_or_else(|| "its first input has no batch".into())
    }

    /// As [`only_first`](Self::only_first), if the first axis is the batch and nothing else.
    fn plain_first(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        match batch {
            Batch { axis: 0, inner: 1 } => Ok(batch),
            _ => Err("the batch is not its first axis".into()),
        }
    }

    fn rank(&self, node: &NodeProto) -> Result<usize, Reason> {
        Ok(self.dims(&node.input[0])?.len())
    }

    /// Operators whose inputs are broadcast to a common shape.
    fn after_broadcast(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let to = self.dims(&node.output[0])?;
        let mut found: Option<Batch> = None;
        for (number, name) in node.input.iter().enumerate() {
            let Some(batch) = self.batch(node, number) else {
                continue;
            };
            let axis = batch.axis + to.len() - self.dims(name)?.len();
            let aligned = Batch { axis, ..batch };
            if found.is_some_and(|found| found != aligned) {
                return Err("its inputs have the batch on different axes".into());
            }
            found = Some(aligned);
        }
        let found = found.ok_or("its inputs have no batch")?;
        if to[found.axis] != found.inner {
            return Err("it broadcasts the batch axis".into());
        }
        for (number, name) in node.input.iter().enumerate() {
            if self.batch(node, number).is_none() {
                let dims = self.dims(name)?;
                let aligned = (found.axis + dims.len()).checked_sub(to.len());
                if aligned.is_some_and(|axis| dims[axis] != 1) {
                    return Err("an input has more than one value where the batch is".into());
                }
            }
        }
        Ok(found)
    }

    /// Rows of a product depend on the same row of the first factor; all axes before rows and columns are broadcast.
    fn after_matmul(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let ranks = [self.dims(&node.input[0])?.len(), self.dims(&node.input[1])?.len()];
        let to = self.dims(&node.output[0])?;
        if ranks.iter().any(|&rank| rank < 2) {
            return Err("a factor is a vector".into());
        }
        let outer = |number: usize| -> Result<Option<Batch>, Reason> {
            let Some(batch) = self.batch(node, number) else {
                return Ok(None);
            };
            if batch.axis + 2 >= ranks[number] {
                return Err("it sums over the batch".into());
            }
            let axis = batch.axis + to.len() - ranks[number];
            Ok(Some(Batch { axis, ..batch }))
        };
        if let (Some(batch), None) = (self.batch(node, 0), self.batch(node, 1))
            && ranks[1] == 2
            && batch.axis + 1 < ranks[0]
        {
            return Ok(batch);
        }
        let batch = match (outer(0)?, outer(1)?) {
            (Some(a), Some(b)) if a != b => return Err("its factors have the batch on different axes".into()),
            (Some(batch), _) | (None, Some(batch)) => batch,
            (None, None) => return Err("its factors have no batch".into()),
        };
        let is_free = |number: usize| -> Result<bool, Reason> {
            let dims = self.dims(&node.input[number])?;
            let aligned = (batch.axis + dims.len()).checked_sub(to.len());
            Ok(self.batch(node, number).is_some() || aligned.is_none_or(|axis| dims[axis] == 1))
        };
        match to[batch.axis] == batch.inner && is_free(0)? && is_free(1)? {
            true => Ok(batch),
            false => Err("a factor has more than one value where the batch is".into()),
        }
    }

    fn after_gemm(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        let is_transposed = attribute(node, "transA").is_some_and(|value| value != 0);
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(bias) => self.dims(bias)?,
            None => Vec::new(),
        };
        match batch.axis == 0 && !is_transposed && (bias.len() < 2 || bias[0] == 1) {
            true => Ok(batch),
            false => Err("its rows are not those of the batch".into()),
        }
    }

    /// Operators over one axis, or over one and all after it.
    fn after_normalization(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        let axis = axis_of(attribute(node, "axis").unwrap_or(-1), self.rank(node)?).ok_or("its axis is invalid")?;
        let is_normalized = match node.op_type() {
            "LayerNormalization" => batch.axis >= axis,
            _ => batch.axis == axis,
        };
        match is_normalized {
            true => Err("it normalizes over the batch".into()),
            false => Ok(batch),
        }
    }

    /// What comes before the batch axis must stay before it. All after it is then in the order of the streams.
    fn after_reshape(&mut self, node: &mut NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        let (from, to) = (self.dims(&node.input[0])?, self.dims(&node.output[0])?);
        let before: usize = from[..batch.axis].iter().product();
        if to.contains(&0) {
            return Err("its result is empty".into());
        }
        let keeps_order = |axis: &usize| to[..*axis].iter().product::<usize>() == before;
        let axes: Vec<usize> = (0..to.len()).filter(keeps_order).collect();
        // Preferably an axis of its own.
        let axis = axes.iter().find(|&&axis| to[axis] == 1).or(axes.first());
        let &axis = axis.ok_or("it merges the batch with what is before it")?;
        let inner = to[axis];
        let mut sizes: Vec<i64> = to.iter().map(|&size| size as i64).collect();
        sizes[axis] = -1;
        node.input[1] = self.graph.add_ints(&sizes);
        Ok(Batch { axis, inner })
    }

    /// The constant list of axes in input 1.
    fn axes(&self, node: &NodeProto, rank: usize) -> Result<Vec<usize>, Reason> {
        let ints = node.input.get(1).and_then(|name| self.graph.value(name)?.ints());
        let axes = ints.and_then(|axes| axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<Option<_>>());
        axes.ok_or_else(|| "its axes are not constant".into())
    }

    fn after_unsqueeze(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        let rank = self.dims(&node.output[0])?.len();
        let new = self.axes(node, rank)?;
        let mut old = (0..rank).filter(|axis| !new.contains(axis));
        let axis = old.nth(batch.axis).ok_or("its axes are invalid")?;
        Ok(Batch { axis, ..batch })
    }

    fn after_squeeze(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        let squeezed = self.axes(node, self.rank(node)?)?;
        match squeezed.contains(&batch.axis) {
            true => Err("it removes the batch axis".into()),
            false => Ok(Batch {
                axis: batch.axis - squeezed.iter().filter(|&&axis| axis < batch.axis).count(),
                ..batch
            }),
        }
    }

    fn after_transpose(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        let rank = self.rank(node)?;
        let axis = match attribute_list(node, "perm") {
            Some(perm) => perm.iter().position(|&axis| axis_of(axis, rank) == Some(batch.axis)),
            None => Some(rank - 1 - batch.axis),
        };
        let axis = axis.ok_or("its permutation is invalid")?;
        Ok(Batch { axis, ..batch })
    }

    /// Operators that cut or join tensors along axes.
    fn along_another_axis(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let rank = self.rank(node)?;
        let (batch, axes) = match node.op_type() {
            "Slice" => {
                let axes = node.input.get(3).and_then(|name| self.graph.value(name)?.ints());
                (self.only_first(node)?, axes.ok_or("its axes are not constant")?)
            }
            "Split" => (self.only_first(node)?, vec![attribute(node, "axis").unwrap_or(0)]),
            _ => {
                let batch = self.batch(node, 0).ok_or("its first input has no batch")?;
                if (1..node.input.len()).any(|number| self.batch(node, number) != Some(batch)) {
                    return Err("its inputs have the batch on different axes".into());
                }
                (batch, vec![attribute(node, "axis").ok_or("it has no axis")?])
            }
        };
        let is_batch = |&axis: &i64| axis_of(axis, rank).is_none_or(|axis| axis == batch.axis);
        match axes.iter().any(is_batch) {
            true => Err("it cuts or joins streams".into()),
            false => Ok(batch),
        }
    }

    /// Operators that add or repeat values, but not along the batch axis.
    fn after_growth(&self, node: &mut NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        let sizes = node.input.get(1).and_then(|name| self.graph.value(name)?.ints());
        let sizes = sizes.ok_or("its sizes are not constant")?;
        let (rank, to) = (self.rank(node)?, self.dims(&node.output[0])?.len());
        let axis = batch.axis + to - rank;
        let is_free = match node.op_type() {
            "Pad" => sizes.len() == 2 * rank && sizes[axis] == 0 && sizes[rank + axis] == 0,
            "Tile" => sizes.get(axis) == Some(&1),
            // A size of 1 keeps that of the input.
            _ => (axis + sizes.len()).checked_sub(to).is_none_or(|axis| sizes[axis] == 1),
        };
        if !is_free {
            return Err("it changes the size of the batch".into());
        }
        let from = self.dims(&node.input[0])?;
        if node.op_type() == "Tile" && from.iter().zip(&sizes).all(|(&size, &times)| size == 1 || times == 1) {
            // The same, but CUDA has no `Tile` for booleans (`tile.cc`): masks would be copied to the CPU and back in each
            // step, and steps could not be recorded as CUDA graphs.
            node.op_type = Some("Expand".into());
        }
        Ok(Batch { axis, ..batch })
    }

    /// Selects along another axis, the same for all streams.
    fn after_gather(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let batch = self.only_first(node)?;
        let rank = self.rank(node)?;
        let axis = axis_of(attribute(node, "axis").unwrap_or(0), rank).ok_or("its axis is invalid")?;
        if axis == batch.axis {
            return Err("it selects streams".into());
        }
        let added = self.dims(&node.output[0])?.len() + 1 - rank;
        Ok(Batch {
            axis: if axis < batch.axis {
                batch.axis + added - 1
            } else {
                batch.axis
            },
            ..batch
        })
    }

    /// Selects by indices of each stream.
    fn after_gather_nd(&self, node: &NodeProto) -> Result<Batch, Reason> {
        let first = Batch { axis: 0, inner: 1 };
        let is_by_stream = attribute(node, "batch_dims") == Some(1);
        match is_by_stream && (0..2).all(|number| self.batch(node, number) == Some(first)) {
            true => Ok(first),
            false => Err("it does not select within each stream".into()),
        }
    }
}
