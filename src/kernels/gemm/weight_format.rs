// SPDX-License-Identifier: MIT OR Apache-2.0

//! The forms in which weights are held, and how they are brought into them.

use serde::{Deserialize, Serialize};

use super::{Kind, amx, f32_kernel::Tile, i24};

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Form {
    /// As they are, for vectors.
    Floats,
    /// As integers of 24 bits, for vectors: see [`fixed_point`](super::fixed_point) for how exact they are.
    Integers,
    /// As digits of such integers, for matrix tiles.
    Digits,
}

impl Form {
    /// The fastest one for products of `depth` values on this processor.
    pub(super) fn best(depth: usize) -> Self {
        match (amx::are_there(depth), i24::is_there()) {
            (true, _) => Self::Digits,
            (false, true) => Self::Integers,
            (false, false) => Self::Floats,
        }
    }

    /// Whether this processor can multiply `depth` values with weights of this form.
    pub(super) fn is_there(self, depth: usize) -> bool {
        match self {
            Self::Floats => true,
            Self::Integers => i24::is_there(),
            Self::Digits => amx::are_there(depth),
        }
    }

    /// Whether columns have scales.
    pub(super) fn has_scales(self) -> bool {
        self != Self::Floats
    }

    /// Columns of a panel.
    pub(super) fn columns(self) -> usize {
        match self {
            Self::Floats => Tile::of_this_processor().columns,
            Self::Integers => i24::COLUMNS,
            Self::Digits => amx::COLUMNS,
        }
    }

    /// Bytes of the panels of a product of `depth` values and `columns` columns; `None`, if nothing is as large.
    pub(super) fn bytes(self, depth: usize, columns: usize) -> Option<usize> {
        match self {
            Self::Floats => {
                let row = columns
                    .checked_next_multiple_of(self.columns())?
                    .checked_mul(size_of::<f32>())?;
                row.checked_mul(depth)
            }
            Self::Integers => i24::bytes(depth, columns),
            Self::Digits => amx::bytes(depth, columns),
        }
    }

    /// Writes a product's weights into `panels`. Gives the scales of its columns.
    pub(super) fn write(self, kind: &Kind, panels: &mut [u8], fill: impl Fn(usize, usize, &mut [f32])) -> Vec<f32> {
        let width = self.columns();
        let count = kind.columns.div_ceil(width).max(1);
        let panels = panels.chunks_exact_mut((panels.len() / count).max(1));
        match self {
            Self::Floats => {
                for (first, panel) in (0..).step_by(width).zip(panels) {
                    let real = width.min(kind.columns - first);
                    let panel: &mut [f32] = bytemuck::cast_slice_mut(panel);
                    for (row, values) in panel.chunks_exact_mut(width).enumerate() {
                        fill(row, first, &mut values[..real]);
                    }
                }
                Vec::new()
            }
            Self::Integers => write_scaled(kind, panels, fill, i24::pack),
            Self::Digits => write_scaled(kind, panels, fill, amx::pack),
        }
    }
}

/// Brings the columns of each of `panels` to `pack`, which gives their scales.
fn write_scaled<'a, const COLUMNS: usize>(
    kind: &Kind,
    panels: impl Iterator<Item = &'a mut [u8]>,
    fill: impl Fn(usize, usize, &mut [f32]),
    pack: impl Fn(&[[f32; COLUMNS]], &mut [u8]) -> [f32; COLUMNS],
) -> Vec<f32> {
    let mut values = vec![[0.0; COLUMNS]; kind.depth];
    let scales = (0..).step_by(COLUMNS).zip(panels).flat_map(|(first, panel)| {
        let real = COLUMNS.min(kind.columns - first);
        for (row, values) in values.iter_mut().enumerate() {
            values[real..].fill(0.0);
            fill(row, first, &mut values[..real]);
        }
        pack(&values, panel)
    });
    scales.collect()
}
