// SPDX-License-Identifier: MIT OR Apache-2.0

//! Formats of packed weights, and how to pack into them.

use serde::{Deserialize, Serialize};

use super::{GemmSpec, amx, f32_kernel::MicroTile, i24};

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WeightFormat {
    /// As float32.
    F32,
    /// As 24-bit integers for AVX-512. See [`fixed_point`](super::fixed_point) for the precision.
    I24,
    /// As 24-bit integers split into three byte planes, for AMX.
    BytePlanes,
}

impl WeightFormat {
    /// The fastest format on this processor for rows of `k` values.
    pub(super) fn best(k: usize) -> Self {
        match (amx::has_tiles() && amx::supports_k(k), i24::is_supported()) {
            (true, _) => Self::BytePlanes,
            (false, true) => Self::I24,
            (false, false) => Self::F32,
        }
    }

    /// Whether this processor can multiply rows of `k` values with weights in this format.
    pub(super) fn is_supported(self, k: usize) -> bool {
        match self {
            Self::F32 => true,
            Self::I24 => i24::is_supported(),
            Self::BytePlanes => amx::supports_k(k),
        }
    }

    /// Whether columns have dequantization factors.
    pub(super) fn has_scales(self) -> bool {
        self != Self::F32
    }

    /// Columns per panel.
    pub(super) fn panel_width(self) -> usize {
        match self {
            Self::F32 => MicroTile::detect().panel_width,
            Self::I24 => i24::PANEL_WIDTH,
            Self::BytePlanes => amx::PANEL_WIDTH,
        }
    }

    /// Bytes of packed weights \[k, n\]; `None` on overflow.
    pub(super) fn packed_size(self, k: usize, n: usize) -> Option<usize> {
        match self {
            Self::F32 => {
                let row = n
                    .checked_next_multiple_of(self.panel_width())?
                    .checked_mul(size_of::<f32>())?;
                row.checked_mul(k)
            }
            Self::I24 => i24::packed_size(k, n),
            Self::BytePlanes => amx::packed_size(k, n),
        }
    }

    /// Packs weights into `panels`. Returns the dequantization factors of the columns, if the format has any.
    pub(super) fn pack(self, spec: &GemmSpec, panels: &mut [u8], fill: impl Fn(usize, usize, &mut [f32])) -> Vec<f32> {
        let width = self.panel_width();
        let count = spec.n.div_ceil(width).max(1);
        let panels = panels.chunks_exact_mut((panels.len() / count).max(1));
        match self {
            Self::F32 => {
                for (first, panel) in (0..).step_by(width).zip(panels) {
                    let valid = width.min(spec.n - first);
                    let panel: &mut [f32] = bytemuck::cast_slice_mut(panel);
                    for (row, values) in panel.chunks_exact_mut(width).enumerate() {
                        fill(row, first, &mut values[..valid]);
                    }
                }
                Vec::new()
            }
            Self::I24 => pack_quantized(spec, panels, fill, i24::pack),
            Self::BytePlanes => pack_quantized(spec, panels, fill, amx::pack),
        }
    }
}

/// Packs each of `panels` with `pack`, which returns the dequantization factors of its columns.
fn pack_quantized<'a, const PANEL_WIDTH: usize>(
    spec: &GemmSpec,
    panels: impl Iterator<Item = &'a mut [u8]>,
    fill: impl Fn(usize, usize, &mut [f32]),
    pack: impl Fn(&[[f32; PANEL_WIDTH]], &mut [u8]) -> [f32; PANEL_WIDTH],
) -> Vec<f32> {
    let mut values = vec![[0.0; PANEL_WIDTH]; spec.k];
    let scales = (0..).step_by(PANEL_WIDTH).zip(panels).flat_map(|(first, panel)| {
        let valid = PANEL_WIDTH.min(spec.n - first);
        for (row, values) in values.iter_mut().enumerate() {
            values[valid..].fill(0.0);
            fill(row, first, &mut values[..valid]);
        }
        pack(&values, panel)
    });
    scales.collect()
}
