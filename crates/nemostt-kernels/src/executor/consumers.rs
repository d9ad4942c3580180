// SPDX-License-Identifier: MIT OR Apache-2.0

//! In which layouts the values of a program are read.

use super::{Op, OpCall, ProgramError};
use crate::gemm::LhsLayout;

/// In which layouts a value is read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Consumers {
    row_major: bool,
    packed: bool,
    byte_planes: bool,
    /// Width of the rows that are packed.
    packed_width: Option<usize>,
}

impl Consumers {
    fn add(&mut self, layout: LhsLayout) {
        match layout {
            LhsLayout::RowMajor => self.row_major = true,
            LhsLayout::Packed => self.packed = true,
            LhsLayout::BytePlanes => self.byte_planes = true,
        }
    }

    /// Whether its producer may write it in packed layout.
    pub(super) fn only_packed(self) -> bool {
        self.packed && !self.row_major && !self.byte_planes
    }
}

/// The consumers of each value. Those of a reshaped value count as consumers of the value that was reshaped.
pub(super) fn consumers(calls: &[OpCall], values: usize, outputs: &[usize]) -> Result<Vec<Consumers>, ProgramError> {
    let mut roots: Vec<usize> = (0..values).collect();
    let mut consumers = vec![Consumers::default(); values];
    let mut widths = vec![None; values];
    let root_of = |roots: &[usize], value: usize| roots.get(value).copied().ok_or(ProgramError::UnknownValue);
    for call in calls {
        let op = match (&call.op, &call.inputs[..], &call.outputs[..]) {
            (Op::Fused(op), ..) => op,
            (Op::Reshape(_), [input], [output]) => {
                let root = root_of(&roots, *input)?;
                *roots.get_mut(*output).ok_or(ProgramError::UnknownValue)? = root;
                continue;
            }
            (Op::Reshape(_), ..) => return Err(ProgramError::Arity),
        };
        for (index, &input) in call.inputs.iter().enumerate() {
            let root = root_of(&roots, input)?;
            let consumers = &mut consumers[root];
            match op.weights() {
                Some(weights) if index == 0 && weights.lhs_layout() != LhsLayout::RowMajor => {
                    let width = weights.k();
                    consumers.add(weights.lhs_layout());
                    // The producer cannot pack rows of another width than its own.
                    consumers.row_major |= widths[root] != Some(width);
                    if consumers
                        .packed_width
                        .replace(width)
                        .is_some_and(|other| other != width)
                    {
                        return Err(ProgramError::LayoutConflict);
                    }
                }
                _ => consumers.add(LhsLayout::RowMajor),
            }
        }
        let signature = op.signature();
        for (index, &output) in call.outputs.iter().enumerate() {
            *widths.get_mut(output).ok_or(ProgramError::UnknownValue)? = signature.outputs.get(index).copied();
        }
    }
    for &output in outputs {
        consumers[root_of(&roots, output)?].add(LhsLayout::RowMajor);
    }
    // A value is stored in one packed layout. Weights have different formats only if some are too deep for AMX tiles.
    match consumers
        .iter()
        .any(|consumers| consumers.packed && consumers.byte_planes)
    {
        true => Err(ProgramError::LayoutConflict),
        false => Ok(consumers),
    }
}
