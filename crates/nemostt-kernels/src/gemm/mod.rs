// SPDX-License-Identifier: MIT OR Apache-2.0

//! GEMMs of a few rows with constant weights, which take nearly all of an encoder step's time. Activations and residual
//! additions are fused as [epilogues](Epilogue).
//!
//! With 2 to 14 rows, the time of a step is bounded by the memory bandwidth for the weights. ONNX Runtime's GEMM is
//! designed for many rows: with 14 it reaches a third of the processor's peak, and it reads memory in small pages
//! (`docs/performance-design.md`). Here weights are packed in the order in which they are read, in huge pages
//! ([`huge_pages`]): as float32 ([`f32_kernel`]) or, with a quarter less memory traffic, as 24-bit fixed-point numbers
//! for AVX-512 ([`i24`]) or AMX ([`amx`]).
//!
//! This module knows nothing of graphs or of ONNX Runtime, which calls it through the operator `PackedMatMul` of
//! `model/runtime/custom_ops`.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod byte_planes;
mod epilogue;
mod f32_kernel;
#[cfg(target_arch = "x86_64")]
mod fixed_point;
mod huge_pages;
#[cfg(target_arch = "x86_64")]
mod i24;
mod output;
mod packed_lhs;
mod serialize;
#[cfg(test)]
pub(super) mod tests;
mod weight_format;

#[cfg(not(target_arch = "x86_64"))]
#[path = "unsupported.rs"]
mod amx;
#[cfg(not(target_arch = "x86_64"))]
#[path = "unsupported.rs"]
mod i24;

use std::{io, ops::Range, sync::Arc};

pub use self::{
    byte_planes::BytePlanes,
    epilogue::Epilogue,
    output::{ColumnsMut, Target},
    packed_lhs::{PackedLhs, PackedLhsMut},
    serialize::{PackedWeightsHeader, packing_id},
};
pub(crate) use self::{
    byte_planes::{BytePlanesBuffer, RawBytePlanes},
    output::Output,
    packed_lhs::row_groups,
};
use self::{
    epilogue::EpilogueParams,
    f32_kernel::MicroTile,
    huge_pages::{FrozenPages, PageBuffer, TAIL_PADDING},
    weight_format::WeightFormat,
};

/// Whether this processor's vector instructions make these kernels worthwhile: x86-64 with vectors of 256 bits or more.
/// Others have not been measured.
pub fn is_supported() -> bool {
    // Decided by what `pulp` will use: it requires more than AVX2.
    cfg!(target_arch = "x86_64") && MicroTile::detect().panel_width >= 16
}

/// Columns of a micro-tile of float32: two vectors of this processor.
pub(crate) fn vector_columns() -> usize {
    MicroTile::detect().panel_width
}

/// Whether weights are packed as [`WeightFormat::I24`] here.
pub(crate) fn has_i24() -> bool {
    WeightFormat::I24.is_supported(0)
}

/// Whether weights are packed as [`WeightFormat::BytePlanes`] here.
pub(crate) fn has_byte_planes() -> bool {
    amx::has_tiles()
}

/// Shape, bias and epilogue of a GEMM.
#[derive(Debug, Clone)]
pub struct GemmSpec {
    /// Rows of the weights, and values per input row.
    pub k: usize,
    /// Columns of the weights, and values per output row.
    pub n: usize,
    /// \[n\]; `None` stands for zeros.
    pub bias: Option<Vec<f32>>,
    /// Applied to the result before it is stored.
    pub epilogue: Epilogue,
}

/// Prepacked weights \[k, n\] of `output = lhs · weights + bias`.
#[derive(Debug)]
pub struct PackedWeights {
    /// May also contain the panels of other weights; these are at `range`.
    panels: Arc<FrozenPages>,
    range: Range<usize>,
    format: WeightFormat,
    /// Dequantization factor of each column; empty for float32.
    scales: Vec<f32>,
    bias: Vec<f32>,
    k: usize,
    n: usize,
    epilogue: Epilogue,
}

/// The left-hand side \[rows, k\] of a GEMM, in the layout that its weights need.
#[derive(Debug, Clone, Copy)]
pub enum Lhs<'a> {
    /// For [`WeightFormat::F32`].
    RowMajor(&'a [f32]),
    /// For [`WeightFormat::I24`].
    Packed(PackedLhs<'a>),
    /// For [`WeightFormat::BytePlanes`].
    BytePlanes(BytePlanes<'a>),
}

/// Memory layout of a left-hand side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LhsLayout {
    /// Row-major.
    RowMajor,
    /// See [`PackedLhs`].
    Packed,
    /// See [`BytePlanes`].
    BytePlanes,
}

/// Reusable buffers for packed left-hand sides.
#[derive(Debug, Default)]
pub struct Scratch {
    packed_lhs: Vec<f32>,
    byte_planes: BytePlanesBuffer,
}

impl PackedWeights {
    /// Whether rows of `k` values are supported: `k` must be a multiple of 4, which holds for all known models.
    pub fn supports_k(k: usize) -> bool {
        k > 0 && k.is_multiple_of(f32_kernel::UNROLL)
    }

    /// Packs weights next to each other in memory, so that they share huge pages. `fill` is called with the index of a
    /// spec, a row, a column and the slice for the values of that row from that column on.
    ///
    /// # Errors
    /// The system's error if memory cannot be allocated.
    ///
    /// # Panics
    /// If a `k` is not [supported](Self::supports_k).
    pub fn pack(specs: Vec<GemmSpec>, fill: impl Fn(usize, usize, usize, &mut [f32])) -> io::Result<Vec<Self>> {
        let specs = specs.into_iter().map(|spec| (WeightFormat::best(spec.k), spec));
        Self::pack_as(specs.collect(), fill)
    }

    /// As [`pack`](Self::pack), in the given formats.
    fn pack_as(
        specs: Vec<(WeightFormat, GemmSpec)>,
        fill: impl Fn(usize, usize, usize, &mut [f32]),
    ) -> io::Result<Vec<Self>> {
        let sizes = specs.iter().map(|(format, spec)| format.packed_size(spec.k, spec.n));
        let sizes: Option<Vec<usize>> = sizes.collect();
        let sizes = sizes.ok_or(io::ErrorKind::OutOfMemory)?;
        let mut pages = PageBuffer::zeroed(sizes.iter().copied().fold(0, usize::saturating_add))?;
        let mut rest = pages.bytes_mut();
        let mut scales = Vec::new();
        for (index, ((format, spec), &size)) in specs.iter().zip(&sizes).enumerate() {
            assert!(Self::supports_k(spec.k));
            let (panels, after) = rest.split_at_mut(size);
            rest = after;
            scales.push(format.pack(spec, panels, |row, column, dst| fill(index, row, column, dst)));
        }
        let panels = Arc::new(pages.freeze()?);
        let mut start = 0;
        let weights = specs
            .into_iter()
            .zip(scales)
            .zip(sizes)
            .map(|(((format, spec), scales), size)| {
                let mut bias = spec.bias.unwrap_or_default();
                bias.resize(spec.n.next_multiple_of(format.panel_width()), 0.0);
                start += size;
                Self {
                    panels: panels.clone(),
                    range: start - size..start,
                    format,
                    scales,
                    bias,
                    k: spec.k,
                    n: spec.n,
                    epilogue: spec.epilogue,
                }
            });
        Ok(weights.collect())
    }

    /// Packs the weights of a single GEMM that runs only a few times, as float32. See [`pack`](Self::pack).
    ///
    /// # Errors
    /// As for [`pack`](Self::pack).
    ///
    /// # Panics
    /// As for [`pack`](Self::pack).
    pub fn new(spec: GemmSpec, fill: impl Fn(usize, usize, &mut [f32])) -> io::Result<Self> {
        let specs = vec![(WeightFormat::F32, spec)];
        let packed = Self::pack_as(specs, |_, row, column, dst| fill(row, column, dst))?;
        packed.into_iter().next().ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Values per input row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Values per output row.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Bytes of weights that one GEMM reads.
    pub fn bytes(&self) -> usize {
        self.range.len()
    }

    /// Converts `lhs` \[rows, k\] to the layout that [`multiply`](Self::multiply) needs. Allocates only if `scratch` is
    /// too small.
    ///
    /// # Panics
    /// If `lhs` is not rows of `k` values.
    pub fn pack_lhs<'a>(&self, lhs: &'a [f32], scratch: &'a mut Scratch) -> Lhs<'a> {
        assert!(
            lhs.len().is_multiple_of(self.k),
            "{} values are not rows of {}",
            lhs.len(),
            self.k
        );
        match self.format {
            WeightFormat::F32 => Lhs::RowMajor(lhs),
            WeightFormat::I24 => Lhs::Packed(PackedLhs::pack(lhs, self.k, &mut scratch.packed_lhs)),
            WeightFormat::BytePlanes => Lhs::BytePlanes(BytePlanes::pack(lhs, self.k, &mut scratch.byte_planes)),
        }
    }

    /// The layout that [`multiply_panels`](Self::multiply_panels) needs.
    pub(crate) fn lhs_layout(&self) -> LhsLayout {
        match self.format {
            WeightFormat::F32 => LhsLayout::RowMajor,
            WeightFormat::I24 => LhsLayout::Packed,
            WeightFormat::BytePlanes => LhsLayout::BytePlanes,
        }
    }

    /// Whether the output may be a [`Target::Packed`].
    pub(crate) fn can_pack_output(&self) -> bool {
        self.format == WeightFormat::I24
    }

    /// Computes `lhs · weights + bias` on this thread, applies the epilogue and adds `residual`, which has the shape of the
    /// output, \[rows, n\].
    ///
    /// # Panics
    /// If the shapes of `lhs`, `residual` and `output` do not match.
    pub fn multiply(&self, lhs: &[f32], residual: Option<&[f32]>, output: &mut [f32]) {
        let mut scratch = Scratch::default();
        let lhs = self.pack_lhs(lhs, &mut scratch);
        let output = Target::RowMajor(ColumnsMut::all(output, self.n));
        self.multiply_panels(0..self.panel_count(), lhs, residual, output);
    }

    /// As [`multiply`](Self::multiply), for the columns of some [panels](Self::panel_count). All panels together, in any
    /// order and on any threads, write the whole output.
    ///
    /// # Panics
    /// If the shapes do not match; if `lhs` has the layout of another weight format; if the panels are out of range, or the
    /// target does not contain their columns; if the target is packed and these weights [do not support
    /// it](Self::can_pack_output), or there is a residual.
    pub(crate) fn multiply_panels(
        &self,
        panels: Range<usize>,
        lhs: Lhs<'_>,
        residual: Option<&[f32]>,
        mut target: Target<'_>,
    ) {
        let (rows, width) = match &target {
            Target::RowMajor(output) => (output.rows(), output.width()),
            Target::Packed(packed_lhs) => (packed_lhs.rows(), packed_lhs.k()),
        };
        assert!(width == self.n && residual.is_none_or(|residual| residual.len() == rows * width));
        assert!(panels.end <= self.panel_count());
        let panel_width = self.format.panel_width();
        let first_column = panels.start * panel_width;
        let params = |panel: usize| {
            let range = panel * panel_width..(panel + 1) * panel_width;
            EpilogueParams {
                scales: self.scales.get(range.clone()).unwrap_or_default(),
                bias: &self.bias[range],
                epilogue: self.epilogue,
            }
        };
        match (lhs, self.format, &mut target) {
            (Lhs::RowMajor(lhs), WeightFormat::F32, Target::RowMajor(output)) => {
                assert!(lhs.len() == rows * self.k);
                for panel in panels {
                    let EpilogueParams { bias, epilogue, .. } = params(panel);
                    let weights = bytemuck::cast_slice(self.panel(panel));
                    f32_kernel::multiply((lhs, residual), weights, (bias, epilogue), output, panel * panel_width);
                }
            }
            (Lhs::Packed(lhs), WeightFormat::I24, target) => {
                assert!(lhs.rows() == rows);
                let panels = panels.map(|panel| (self.panel_with_padding(panel), params(panel)));
                i24::multiply((lhs, self.k, residual), panels, first_column, target);
            }
            (Lhs::BytePlanes(lhs), WeightFormat::BytePlanes, Target::RowMajor(output)) => {
                assert!(lhs.rows() == rows);
                let panels = panels.map(|panel| (self.panel(panel), params(panel)));
                amx::multiply((lhs, self.k, residual), panels, first_column, output);
            }
            _ => panic!("the left-hand side has the layout of another weight format"),
        }
    }

    fn panel(&self, index: usize) -> &[u8] {
        let panel = self.panel_with_padding(index);
        &panel[..panel.len() - TAIL_PADDING]
    }

    /// A panel and the [`TAIL_PADDING`] after it.
    fn panel_with_padding(&self, index: usize) -> &[u8] {
        let bytes = self.range.len() / self.panel_count();
        &self.panels.with_padding()[self.range.start + index * bytes..][..bytes + TAIL_PADDING]
    }

    /// Prefetches the start of panel `panel`, as far as the micro-kernel prefetches ahead.
    pub(crate) fn prefetch_panel(&self, panel: usize) {
        if panel < self.panel_count() {
            f32_kernel::prefetch_panel_head(self.panel(panel));
        }
    }

    /// Number of panels: groups of columns that are contiguous in memory.
    pub(crate) fn panel_count(&self) -> usize {
        self.bias.len() / self.format.panel_width()
    }

    /// Columns per panel.
    pub(crate) fn panel_width(&self) -> usize {
        self.format.panel_width()
    }
}
