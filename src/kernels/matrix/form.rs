// SPDX-License-Identifier: MIT OR Apache-2.0

//! The forms in which weights are held, and how they are brought into them.

use serde::{Deserialize, Serialize};

use super::{Kind, floats::Tile, tiles};

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Form {
    /// As they are, for vectors.
    Floats,
    /// As integers of 24 bits, for matrix tiles: see [`tiles`](super::tiles) for how exact they are.
    Digits,
}

impl Form {
    /// The fastest one for products of `depth` values on this processor.
    pub(super) fn best(depth: usize) -> Self {
        match tiles::are_there(depth) {
            true => Self::Digits,
            false => Self::Floats,
        }
    }

    /// Columns of a panel.
    pub(super) fn columns(self) -> usize {
        match self {
            Self::Floats => Tile::of_this_processor().columns,
            Self::Digits => tiles::COLUMNS,
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
            Self::Digits => tiles::bytes(depth, columns),
        }
    }

    /// Writes a product's weights into `panels`. Gives the scales of its columns.
    pub(super) fn write(self, kind: &Kind, panels: &mut [u8], fill: impl Fn(usize, usize, &mut [f32])) -> Vec<f32> {
        let width = self.columns();
        let count = kind.columns.div_ceil(width);
        let mut scales = Vec::new();
        let mut values = Vec::new();
        for (number, panel) in panels
            .chunks_exact_mut((panels.len() / count.max(1)).max(1))
            .enumerate()
        {
            let first = number * width;
            let real = width.min(kind.columns - first);
            match self {
                Self::Floats => {
                    let panel: &mut [f32] = bytemuck::cast_slice_mut(panel);
                    for (row, values) in panel.chunks_exact_mut(width).enumerate() {
                        fill(row, first, &mut values[..real]);
                    }
                }
                Self::Digits => {
                    values.resize(kind.depth, [0.0; tiles::COLUMNS]);
                    for (row, values) in values.iter_mut().enumerate() {
                        values[real..].fill(0.0);
                        fill(row, first, &mut values[..real]);
                    }
                    scales.extend(tiles::pack(&values, panel));
                }
            }
        }
        scales
    }
}
