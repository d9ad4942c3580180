// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operators that only move data: each output element is a copy of one input element, or padding.

use crate::NodeProto;
use crate::ir::constant::{Constant, attribute, attribute_list, axis_of, checked_dims};

/// Marks an element in a [map](DataMovement::map) that is padding (by `Pad`).
pub(crate) const PAD_ELEMENT: usize = usize::MAX;

#[derive(Debug, PartialEq)]
enum Kind {
    /// The same elements in the same order.
    View,
    /// Output axis i is input axis `0[i]`.
    Transpose(Vec<usize>),
    /// For each axis: start and step.
    Slice(Vec<(usize, isize)>),
    Gather {
        axis: usize,
        rank: usize,
        indices: Vec<usize>,
    },
    /// Broadcasts axes of size 1, and prepends axes.
    Expand,
    Tile,
    /// For each axis: number of elements before the data.
    Pad(Vec<usize>),
}

/// The effect of a node on a tensor of known shape.
#[derive(Debug, PartialEq)]
pub(crate) struct DataMovement {
    kind: Kind,
    from: Vec<usize>,
    pub dims: Vec<usize>,
}

impl DataMovement {
    /// The effect of `node` on its first input, of shape `from`. `constant` returns the values of the other inputs.
    /// `None` also where ONNX Runtime rejects the node in a run, so that no pass removes it.
    pub(crate) fn of<'a>(
        node: &NodeProto,
        from: &[usize],
        constant: impl Fn(usize) -> Option<&'a Constant>,
    ) -> Option<Self> {
        let rank = from.len();
        let ints = |input: usize| constant(input)?.ints();
        let has_input = |input: usize| node.input.get(input).is_some_and(|name| !name.is_empty());
        let axes = |input: usize, rank: usize| -> Option<Vec<usize>> {
            ints(input)?.into_iter().map(|axis| axis_of(axis, rank)).collect()
        };
        let (kind, dims) = match node.op_type() {
            "Identity" => (Kind::View, from.to_vec()),
            "Reshape" => (
                Kind::View,
                resolve_reshape(from, &ints(1)?, attribute(node, "allowzero") == Some(1))?,
            ),
            "Unsqueeze" => {
                let new = axes(1, rank + ints(1)?.len())?;
                let mut old = from.iter();
                let size = |axis| {
                    if new.contains(&axis) {
                        Some(1)
                    } else {
                        old.next().copied()
                    }
                };
                (Kind::View, (0..rank + new.len()).map(size).collect::<Option<_>>()?)
            }
            "Squeeze" => {
                let squeezed = match has_input(1) {
                    true => axes(1, rank)?,
                    false => (0..rank).filter(|&axis| from[axis] == 1).collect(),
                };
                if squeezed.iter().any(|&axis| from[axis] != 1) {
                    return None;
                }
                let remaining = (0..rank).filter(|axis| !squeezed.contains(axis));
                (Kind::View, remaining.map(|axis| from[axis]).collect())
            }
            "Transpose" => {
                let perm: Vec<usize> = match attribute_list(node, "perm") {
                    Some(perm) => perm.iter().map(|&axis| axis_of(axis, rank)).collect::<Option<_>>()?,
                    None => (0..rank).rev().collect(),
                };
                if perm.len() != rank {
                    return None;
                }
                let dims = perm.iter().map(|&axis| from[axis]).collect();
                (Kind::Transpose(perm), dims)
            }
            "Slice" => {
                let (starts, ends) = (ints(1)?, ints(2)?);
                let axes = if has_input(3) {
                    axes(3, rank)?
                } else {
                    (0..starts.len()).collect()
                };
                let steps = if has_input(4) { ints(4)? } else { vec![1; starts.len()] };
                let has_duplicates = (1..axes.len()).any(|index| axes[..index].contains(&axes[index]));
                if has_duplicates || [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
                    return None;
                }
                let mut dims = from.to_vec();
                let mut parts = vec![(0, 1); rank];
                for (i, &axis) in axes.iter().enumerate() {
                    let (start, step, length) = range(from[axis], starts[i], ends[i], steps[i])?;
                    (parts[axis], dims[axis]) = ((start, step), length);
                }
                (Kind::Slice(parts), dims)
            }
            "Gather" => {
                let indices = constant(1)?;
                let axis = axis_of(attribute(node, "axis").unwrap_or(0), rank)?;
                let numbers = indices.ints()?.into_iter().map(|index| axis_of(index, from[axis]));
                let numbers: Vec<usize> = numbers.collect::<Option<_>>()?;
                let dims = [&from[..axis], &indices.dims, &from[axis + 1..]].concat();
                let rank = indices.dims.len();
                (
                    Kind::Gather {
                        axis,
                        rank,
                        indices: numbers,
                    },
                    dims,
                )
            }
            "Expand" => {
                let target: Vec<usize> = ints(1)?
                    .into_iter()
                    .map(|dim| usize::try_from(dim).ok())
                    .collect::<Option<_>>()?;
                (Kind::Expand, broadcast(from, &target)?)
            }
            "Tile" => {
                let repeats = ints(1)?;
                let size = |(&dim, &times): (&usize, &i64)| dim.checked_mul(usize::try_from(times).ok()?);
                let dims: Vec<usize> = from.iter().zip(&repeats).map(size).collect::<Option<_>>()?;
                (repeats.len() == rank).then_some((Kind::Tile, dims))?
            }
            "Pad" => {
                let mode = node.attribute.iter().find(|a| a.name() == "mode");
                let constant_mode = mode.is_none_or(|a| a.s.as_deref() == Some(b"constant"));
                let pads: Vec<usize> = ints(1)?
                    .into_iter()
                    .map(|pad| usize::try_from(pad).ok())
                    .collect::<Option<_>>()?;
                if !constant_mode || has_input(3) || pads.len() != 2 * rank {
                    return None;
                }
                let size = |axis: usize| pads[axis].checked_add(from[axis])?.checked_add(pads[rank + axis]);
                let dims = (0..rank).map(size).collect::<Option<_>>()?;
                (Kind::Pad(pads[..rank].to_vec()), dims)
            }
            _ => return None,
        };
        let (from, dims) = (from.to_vec(), checked_dims(dims)?);
        Some(Self { kind, from, dims })
    }

    /// Whether it changes neither elements nor shape.
    pub(crate) fn is_noop(&self) -> bool {
        self.dims == self.from
            && match &self.kind {
                Kind::View | Kind::Expand | Kind::Tile | Kind::Pad(_) => true,
                Kind::Transpose(perm) => perm.is_sorted(),
                Kind::Slice(parts) => parts.iter().all(|&part| part == (0, 1)),
                Kind::Gather { .. } => false,
            }
    }

    /// Whether it only changes the shape: the elements stay in the same order.
    pub(crate) fn keeps_order(&self) -> bool {
        match &self.kind {
            Kind::View => true,
            Kind::Transpose(perm) => perm.iter().filter(|&&axis| self.from[axis] != 1).is_sorted(),
            _ => false,
        }
    }

    /// For each output element, the index of the input element, or [`PAD_ELEMENT`].
    pub(crate) fn map(&self) -> Vec<usize> {
        let count = self.dims.iter().product();
        if self.kind == Kind::View {
            return (0..count).collect();
        }
        let mut map = Vec::with_capacity(count);
        let mut to = vec![0; self.dims.len()];
        for _ in 0..count {
            map.push(self.source(&to).unwrap_or(PAD_ELEMENT));
            for axis in (0..to.len()).rev() {
                to[axis] += 1;
                if to[axis] < self.dims[axis] {
                    break;
                }
                to[axis] = 0;
            }
        }
        map
    }

    fn source(&self, to: &[usize]) -> Option<usize> {
        let mut at: Vec<usize> = match &self.kind {
            Kind::View => return None,
            Kind::Transpose(perm) => {
                let mut at = vec![0; to.len()];
                for (&axis, &index) in perm.iter().zip(to) {
                    at[axis] = index;
                }
                at
            }
            Kind::Slice(parts) => {
                let index_of = |(&(start, step), &index): (&(usize, isize), &usize)| {
                    start.wrapping_add_signed(step * index as isize)
                };
                parts.iter().zip(to).map(index_of).collect()
            }
            Kind::Gather { axis, rank, indices } => {
                let inner = &self.dims[*axis..axis + rank];
                let index = flat(&to[*axis..axis + rank], inner);
                [&to[..*axis], &[indices[index]], &to[axis + rank..]].concat()
            }
            Kind::Expand => to[to.len() - self.from.len()..].to_vec(),
            Kind::Tile => to.to_vec(),
            Kind::Pad(before) => {
                let inside = to.iter().zip(before).zip(&self.from);
                let index_of = |((&index, &before), &dim): ((&usize, &usize), &usize)| {
                    index.checked_sub(before).filter(|&index| index < dim)
                };
                inside.map(index_of).collect::<Option<_>>()?
            }
        };
        for (index, &dim) in at.iter_mut().zip(&self.from) {
            *index %= dim;
        }
        Some(flat(&at, &self.from))
    }
}

fn flat(at: &[usize], dims: &[usize]) -> usize {
    at.iter().zip(dims).fold(0, |flat, (&index, &dim)| flat * dim + index)
}

pub(crate) fn resolve_reshape(from: &[usize], target: &[i64], allow_zero: bool) -> Option<Vec<usize>> {
    let count: usize = from.iter().product();
    let size = |(axis, &dim): (usize, &i64)| match dim {
        -1 => Some(1),
        0 if !allow_zero => from.get(axis).copied(),
        dim => usize::try_from(dim).ok(),
    };
    let mut dims: Vec<usize> = target.iter().enumerate().map(size).collect::<Option<_>>()?;
    if let Some(free) = target.iter().position(|&dim| dim == -1) {
        let rest = dims
            .iter()
            .try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
        dims[free] = count.checked_div(rest)?;
    }
    let dims = checked_dims(dims)?;
    (dims.iter().product::<usize>() == count).then_some(dims)
}

/// Start, step and length of an ONNX slice of an axis of size `dim`.
fn range(dim: usize, start: i64, end: i64, step: i64) -> Option<(usize, isize, usize)> {
    let dim = i64::try_from(dim).ok()?;
    if dim == 0 {
        return Some((0, 1, 0));
    }
    let wrap = |index: i64| if index < 0 { index.saturating_add(dim) } else { index };
    let (start, end) = match step {
        1.. => (wrap(start).clamp(0, dim), wrap(end).clamp(0, dim)),
        ..=-1 => (wrap(start).clamp(0, dim - 1), wrap(end).clamp(-1, dim - 1)),
        0 => return None,
    };
    let length = ((end - start) / step + i64::from((end - start) % step != 0)).max(0);
    Some((start as usize, step as isize, length as usize))
}

/// The common shape according to ONNX's (NumPy's) broadcasting rule.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    let both = |axis| match (size(a, axis), size(b, axis)) {
        (1, other) | (other, 1) => Some(other),
        (left, right) => (left == right).then_some(left),
    };
    (0..rank).map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str) -> NodeProto {
        NodeProto {
            op_type: Some(op.into()),
            input: (0..5).map(|i| format!("{i}")).collect(),
            ..Default::default()
        }
    }

    fn eval_movement(op: &str, from: &[usize], inputs: &[&[i64]]) -> (Vec<usize>, Vec<usize>) {
        let values: Vec<Constant> = inputs.iter().map(|v| Constant::of_ints(vec![v.len()], v)).collect();
        let mut node = node(op);
        node.input.truncate(1 + inputs.len());
        let movement = DataMovement::of(&node, from, |i| values.get(i - 1)).unwrap();
        (movement.dims.clone(), movement.map())
    }

    #[test]
    fn invalid_movements_are_unknown() {
        let is_known = |op: &str, from: &[usize], inputs: &[&[i64]]| {
            let values: Vec<Constant> = inputs.iter().map(|v| Constant::of_ints(vec![v.len()], v)).collect();
            let mut node = node(op);
            node.input.truncate(1 + inputs.len());
            DataMovement::of(&node, from, |i| values.get(i - 1)).is_some()
        };
        assert!(is_known("Squeeze", &[1, 3], &[&[0]]));
        assert!(!is_known("Squeeze", &[1, 3], &[&[1]]));
        assert!(is_known("Slice", &[4, 3], &[&[0, 0], &[1, 1], &[0, 1]]));
        assert!(!is_known("Slice", &[4, 3], &[&[0, 0], &[1, 1], &[0, 0]]));
        assert!(!is_known("Slice", &[4, 3], &[&[0, 0], &[1, 1], &[0]]));
        assert!(!is_known("Slice", &[4, 3], &[&[0], &[1, 1], &[0]]));
        assert!(!is_known("Slice", &[4, 3], &[&[0], &[1], &[0], &[1, 1]]));
        let transpose = |perm: &[i64]| {
            let mut node = node("Transpose");
            node.attribute = vec![crate::ir::attribute::Attribute::Ints(perm).to_proto("perm")];
            DataMovement::of(&node, &[2, 3], |_| None).is_some()
        };
        assert!(transpose(&[1, 0]) && !transpose(&[0]) && !transpose(&[0, 1, 2]));
    }

    #[test]
    fn slices_count_from_both_ends() {
        assert_eq!(
            eval_movement("Slice", &[5], &[&[1], &[i64::MAX], &[0]]),
            (vec![4], vec![1, 2, 3, 4])
        );
        assert_eq!(
            eval_movement("Slice", &[5], &[&[-2], &[i64::MAX], &[-1]]),
            (vec![2], vec![3, 4])
        );
        assert_eq!(
            eval_movement("Slice", &[5], &[&[-1], &[-i64::MAX], &[0], &[-1]]),
            (vec![5], vec![4, 3, 2, 1, 0])
        );
        assert_eq!(
            eval_movement("Slice", &[2, 3], &[&[0], &[2], &[1], &[1]]),
            (vec![2, 2], vec![0, 1, 3, 4])
        );
        assert_eq!(eval_movement("Slice", &[5], &[&[4], &[2], &[0]]), (vec![0], vec![]));
    }

    #[test]
    fn reshape_transpose_slice_and_pad_map_elements() {
        assert_eq!(
            eval_movement("Reshape", &[2, 3], &[&[-1, 2]]),
            (vec![3, 2], vec![0, 1, 2, 3, 4, 5])
        );
        assert_eq!(eval_movement("Unsqueeze", &[2], &[&[0, -1]]).0, [1, 2, 1]);
        assert_eq!(eval_movement("Squeeze", &[1, 2, 1], &[&[0]]).0, [2, 1]);
        assert_eq!(
            eval_movement("Transpose", &[2, 3], &[]),
            (vec![3, 2], vec![0, 3, 1, 4, 2, 5])
        );
        assert_eq!(
            eval_movement("Gather", &[3, 2], &[&[2, -3]]),
            (vec![2, 2], vec![4, 5, 0, 1])
        );
        assert_eq!(
            eval_movement("Expand", &[2, 1], &[&[2, 1, 2]]),
            (vec![2, 2, 2], vec![0, 0, 1, 1, 0, 0, 1, 1])
        );
        assert_eq!(eval_movement("Tile", &[2], &[&[2]]), (vec![4], vec![0, 1, 0, 1]));
        assert_eq!(
            eval_movement("Pad", &[2], &[&[1, 1]]),
            (vec![4], vec![PAD_ELEMENT, 0, 1, PAD_ELEMENT])
        );
    }

    #[test]
    fn transpose_of_unit_axes_is_noop() {
        let keeps_order = |from: &[usize], perm: &[i64]| {
            let mut node = node("Transpose");
            node.attribute = vec![crate::onnx::AttributeProto {
                name: Some("perm".into()),
                ints: perm.to_vec(),
                ..Default::default()
            }];
            DataMovement::of(&node, from, |_| None).unwrap().keeps_order()
        };
        assert!(keeps_order(&[1, 1, 8], &[1, 2, 0]));
        assert!(keeps_order(&[1, 2, 8], &[1, 0, 2]));
        assert!(!keeps_order(&[1, 2, 8], &[0, 2, 1]));
    }

    #[test]
    fn invalid_shapes_are_rejected() {
        assert_eq!(resolve_reshape(&[2, 3], &[4, -1], false), None);
        assert_eq!(broadcast(&[2, 3], &[2]), None);
        assert_eq!(broadcast(&[2, 1], &[3]), Some(vec![2, 3]));
        assert!(DataMovement::of(&node("Softmax"), &[2], |_| None).is_none());
    }
}
