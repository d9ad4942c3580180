// SPDX-License-Identifier: MIT OR Apache-2.0

//! The forms in which weights are held, and how they are brought into them.

use serde::{Deserialize, Serialize};

use super::{GemmSpec, amx, f32_kernel::MicroTile, i24};

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WeightFormat {
    /// As they are, for vectors.
    F32,
    /// As integers of 24 bits, for vectors: see [`fixed_point`](super::fixed_point) for how exact they are.
    I24,
    /// As digits of such integers, for matrix tiles.
    BytePlanes,
}

impl WeightFormat {
    /// The fastest one for products of `depth` values on this processor.
    pub(super) fn best(depth: usize) -> Self {
        match (amx::supports_k(depth), i24::is_supported()) {
            (true, _) => Self::BytePlanes,
            (false, true) => Self::I24,
            (false, false) => Self::F32,
        }
    }

    /// Whether this processor can multiply `depth` values with weights of this form.
    pub(super) fn is_supported(self, depth: usize) -> bool {
        match self {
            Self::F32 => true,
            Self::I24 => i24::is_supported(),
            Self::BytePlanes => amx::supports_k(depth),
        }
    }

    /// Whether columns have scales.
    pub(super) fn has_scales(self) -> bool {
        self != Self::F32
    }

    /// Columns of a panel.
    pub(super) fn panel_width(self) -> usize {
        match self {
            Self::F32 => MicroTile::detect().columns,
            Self::I24 => i24::PANEL_WIDTH,
            Self::BytePlanes => amx::PANEL_WIDTH,
        }
    }

    /// Bytes of the panels of a product of `depth` values and `columns` columns; `None`, if nothing is as large.
    pub(super) fn packed_size(self, depth: usize, columns: usize) -> Option<usize> {
        match self {
            Self::F32 => {
                let row = columns
                    .checked_next_multiple_of(self.panel_width())?
                    .checked_mul(size_of::<f32>())?;
                row.checked_mul(depth)
            }
            Self::I24 => i24::packed_size(depth, columns),
            Self::BytePlanes => amx::packed_size(depth, columns),
        }
    }

    /// Writes a product's weights into `panels`. Gives the scales of its columns.
    pub(super) fn pack(self, spec: &GemmSpec, panels: &mut [u8], fill: impl Fn(usize, usize, &mut [f32])) -> Vec<f32> {
        let width = self.panel_width();
        let count = spec.n.div_ceil(width).max(1);
        let panels = panels.chunks_exact_mut((panels.len() / count).max(1));
        match self {
            Self::F32 => {
                for (first, panel) in (0..).step_by(width).zip(panels) {
                    let real = width.min(spec.n - first);
                    let panel: &mut [f32] = bytemuck::cast_slice_mut(panel);
                    for (row, values) in panel.chunks_exact_mut(width).enumerate() {
                        fill(row, first, &mut values[..real]);
                    }
                }
                Vec::new()
            }
            Self::I24 => pack_quantized(spec, panels, fill, i24::pack),
            Self::BytePlanes => pack_quantized(spec, panels, fill, amx::pack),
        }
    }
}

/// Brings the columns of each of `panels` to `pack`, which gives their scales.
fn pack_quantized<'a, const PANEL_WIDTH: usize>(
    spec: &GemmSpec,
    panels: impl Iterator<Item = &'a mut [u8]>,
    fill: impl Fn(usize, usize, &mut [f32]),
    pack: impl Fn(&[[f32; PANEL_WIDTH]], &mut [u8]) -> [f32; PANEL_WIDTH],
) -> Vec<f32> {
    let mut values = vec![[0.0; PANEL_WIDTH]; spec.k];
    let scales = (0..).step_by(PANEL_WIDTH).zip(panels).flat_map(|(first, panel)| {
        let real = PANEL_WIDTH.min(spec.n - first);
        for (row, values) in values.iter_mut().enumerate() {
            values[real..].fill(0.0);
            fill(row, first, &mut values[..real]);
        }
        pack(&values, panel)
    });
    scales.collect()
}
