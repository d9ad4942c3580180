// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products of a few rows with constant weights: nearly all of what an encoder's step takes. What follows each of them at
//! once is done with them: an activation, the sum with what went past them.
//!
//! With 2 to 14 rows, a step ends when memory has delivered the weights. ONNX Runtime's own product is made for many rows:
//! with 14 it gets a third of what the processor multiplies, and reads memory in small pages (`docs/performance.md`).
//! Here weights lie in the order in which they are read, in large pages ([`huge_pages`]): as they are ([`f32_kernel`]) or, with a
//! quarter less of memory, as integers of 24 bits for vectors of 512 bits ([`i24`]) or for matrix tiles ([`amx`]).
//!
//! Nothing here knows of graphs or of ONNX Runtime, which calls it for operation `PackedMatMul` of `model/runtime/custom_ops`.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
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
    amx::Input as BytePlanes,
    epilogue::Epilogue,
    output::{ColumnsMut, Output, Target},
    packed_lhs::{PackedLhs, PackedLhsMut},
    serialize::{PackedWeightsHeader, packing_id},
};
use self::{
    epilogue::EpilogueParams,
    f32_kernel::MicroTile,
    huge_pages::{FrozenPages, PageBuffer, TAIL_PADDING},
    weight_format::WeightFormat,
};

/// Bytes of weights that are one piece of work, at most: enough to be worth handing over, and few enough that all threads
/// end together.
const MAX_TASK_BYTES: usize = 256 << 10;

/// Pieces are as many as some multiple of this, of one size: else one of two or four threads has a piece more than the
/// others and they wait for it.
const TASK_COUNT_MULTIPLE: usize = 4;

/// Whether this processor has vector instructions that make it worth the while: x86 with vectors of 256 bits or more. On
/// others it was not measured.
pub fn is_supported() -> bool {
    // By what `pulp` will use: it wants more of a processor than AVX2 alone.
    cfg!(target_arch = "x86_64") && MicroTile::detect().columns >= 16
}

/// Columns of a micro-tile of float32: two vectors of this processor.
pub(crate) fn vector_columns() -> usize {
    MicroTile::detect().columns
}

/// Whether weights are packed as [`WeightFormat::I24`] here.
pub(crate) fn has_i24() -> bool {
    WeightFormat::I24.is_supported(0)
}

/// Whether weights are packed as [`WeightFormat::BytePlanes`] here.
pub(crate) fn has_byte_planes() -> bool {
    WeightFormat::BytePlanes.is_supported(0)
}

/// What a product is like.
#[derive(Debug, Clone)]
pub struct GemmSpec {
    /// Rows of its weights: values of a row of the input.
    pub k: usize,
    /// Columns of its weights: values of a row of the output.
    pub n: usize,
    /// `None`: zeros.
    pub bias: Option<Vec<f32>>,
    /// What is done to the result before it is stored.
    pub epilogue: Epilogue,
}

/// Weights of a product: `output = lhs · weights + bias`.
#[derive(Debug)]
pub struct PackedWeights {
    /// Those of others are in it, too.
    panels: Arc<FrozenPages>,
    range: Range<usize>,
    format: WeightFormat,
    /// What the numbers of each column are multiplied by, where they are integers.
    scales: Vec<f32>,
    bias: Vec<f32>,
    k: usize,
    n: usize,
    epilogue: Epilogue,
}

/// The input of a product, ready for it.
#[derive(Debug, Clone, Copy)]
pub enum Lhs<'a> {
    /// For [`WeightFormat::F32`].
    RowMajor(&'a [f32]),
    /// For [`WeightFormat::I24`].
    Packed(PackedLhs<'a>),
    /// For [`WeightFormat::BytePlanes`].
    BytePlanes(&'a amx::Input),
}

/// How an input of a product lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LhsLayout {
    /// One row behind the other.
    RowMajor,
    /// As [`PackedLhs`] has them.
    Packed,
    /// As [`amx`] take them.
    BytePlanes,
}

/// Where an input is made ready.
#[derive(Debug, Default)]
pub struct Scratch {
    packed_lhs: Vec<f32>,
    byte_planes: amx::Input,
}

impl Scratch {
    /// What was [made ready](PackedWeights::pack_lhs) for digits.
    pub(crate) fn byte_planes(&self) -> Lhs<'_> {
        Lhs::BytePlanes(&self.byte_planes)
    }
}

impl PackedWeights {
    /// Whether rows of `depth` values are supported: multiples of 4, as all models have.
    pub fn supports_k(depth: usize) -> bool {
        depth > 0 && depth.is_multiple_of(f32_kernel::UNROLL)
    }

    /// Weights of these kinds, side by side in memory: large pages are shared, and none is left half empty for each of them.
    /// `fill` gets the index of a kind, a row, a column and the room for the values from there on.
    ///
    /// # Errors
    /// The system's, where there is no memory for them.
    ///
    /// # Panics
    /// If a depth does not [fit](Self::supports_k).
    pub fn pack(specs: Vec<GemmSpec>, fill: impl Fn(usize, usize, usize, &mut [f32])) -> io::Result<Vec<Self>> {
        let specs = specs.into_iter().map(|spec| (WeightFormat::best(spec.k), spec));
        Self::pack_as(specs.collect(), fill)
    }

    /// As [`pack`](Self::pack), in these forms.
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
            let (panels, others) = rest.split_at_mut(size);
            rest = others;
            scales.push(format.pack(spec, panels, |row, column, scratch| fill(index, row, column, scratch)));
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

    /// Those of one product that is done a few times only: see [`pack`](Self::pack).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn new(spec: GemmSpec, fill: impl Fn(usize, usize, &mut [f32])) -> io::Result<Self> {
        let specs = vec![(WeightFormat::F32, spec)];
        let made = Self::pack_as(specs, |_, row, column, scratch| fill(row, column, scratch))?;
        made.into_iter().next().ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Values of a row of the input.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Values of a row of the output.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        self.range.len()
    }

    /// Pieces into which the work can be cut: see [`multiply`](Self::multiply).
    pub fn task_count(&self) -> usize {
        let count = self
            .range
            .len()
            .div_ceil(MAX_TASK_BYTES)
            .next_multiple_of(TASK_COUNT_MULTIPLE);
        count.min(self.panel_count())
    }

    /// Packs `lhs`, \[rows, k\], for [`multiply`](Self::multiply). Nothing is allocated if `scratch` held as many values before.
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
            WeightFormat::BytePlanes => {
                scratch.byte_planes.pack(lhs, self.k);
                Lhs::BytePlanes(&scratch.byte_planes)
            }
        }
    }

    /// How an input must lie for [`multiply_panels`](Self::multiply_panels).
    pub(crate) fn lhs_layout(&self) -> LhsLayout {
        match self.format {
            WeightFormat::F32 => LhsLayout::RowMajor,
            WeightFormat::I24 => LhsLayout::Packed,
            WeightFormat::BytePlanes => LhsLayout::BytePlanes,
        }
    }

    /// Whether results may go to [`Target::Packed`].
    pub(crate) fn can_pack_output(&self) -> bool {
        self.format == WeightFormat::I24
    }

    /// The columns of the output that piece `task` writes: no two pieces have one in common.
    pub fn columns_of(&self, task: usize) -> Range<usize> {
        self.panel_columns(self.panels_of(task))
    }

    fn panels_of(&self, task: usize) -> Range<usize> {
        let (panels, task_count) = (self.panel_count(), self.task_count());
        assert!(task < task_count);
        task * panels / task_count..(task + 1) * panels / task_count
    }

    /// The columns of the output that these of the [panels](Self::panel_count) write: no two panels have one in common.
    pub(crate) fn panel_columns(&self, panels: Range<usize>) -> Range<usize> {
        let column = |panel: usize| (panel * self.format.panel_width()).min(self.n);
        column(panels.start)..column(panels.end)
    }

    /// Does piece `task` of the product of `lhs`, row by row, plus `residual`, which is as large as the output. All pieces
    /// together, in any order and on any threads, write all of an output.
    ///
    /// # Panics
    /// If `lhs`, `residual` and `output` have not the same number of rows of the right width, `output` has not the
    /// [columns](Self::columns_of) of the piece, or `lhs` was made ready for weights of another form.
    pub fn multiply(&self, task: usize, lhs: Lhs<'_>, residual: Option<&[f32]>, output: ColumnsMut<'_>) {
        self.multiply_panels(self.panels_of(task), lhs, residual, Target::RowMajor(output));
    }

    /// As [`multiply`](Self::multiply), with these of the [panels](Self::panel_count).
    ///
    /// # Panics
    /// As there; if there are no such panels; if the target is one for which these weights [must not be
    /// used](Self::can_pack_output), or there is more to be added to it.
    pub fn multiply_panels(
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
        let columns = self.format.panel_width();
        let first = panels.start * columns;
        let column = |panel: usize| {
            let range = panel * columns..(panel + 1) * columns;
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
                    let EpilogueParams { bias, epilogue, .. } = column(panel);
                    let weights = bytemuck::cast_slice(self.panel(panel));
                    f32_kernel::multiply((lhs, residual), weights, (bias, epilogue), output, panel * columns);
                }
            }
            (Lhs::Packed(lhs), WeightFormat::I24, target) => {
                assert!(lhs.rows() == rows);
                let panels = panels.map(|panel| (self.panel_with_padding(panel), column(panel)));
                i24::multiply((lhs, self.k, residual), panels, first, target);
            }
            (Lhs::BytePlanes(lhs), WeightFormat::BytePlanes, Target::RowMajor(output)) => {
                assert!(lhs.rows() == rows);
                let panels = panels.map(|panel| (self.panel(panel), column(panel)));
                amx::multiply((lhs, self.k, residual), panels, first, output);
            }
            _ => panic!("the input of a product was made ready for another one"),
        }
    }

    /// The whole product, on this thread.
    ///
    /// # Panics
    /// As [`multiply`](Self::multiply).
    pub fn multiply_single_threaded(&self, lhs: &[f32], output: &mut [f32]) {
        let mut scratch = Scratch::default();
        let lhs = self.pack_lhs(lhs, &mut scratch);
        for task in 0..self.task_count() {
            self.multiply(task, lhs, None, ColumnsMut::all(output, self.n));
        }
    }

    fn panel(&self, index: usize) -> &[u8] {
        let panel = self.panel_with_padding(index);
        &panel[..panel.len() - TAIL_PADDING]
    }

    /// A panel and what lies behind it.
    fn panel_with_padding(&self, index: usize) -> &[u8] {
        let bytes = self.range.len() / self.panel_count();
        &self.panels.with_padding()[self.range.start + index * bytes..][..bytes + TAIL_PADDING]
    }

    /// Lets the processor fetch the beginning of panel `panel`: as much as is asked for ahead when it is read.
    pub(crate) fn prefetch_panel(&self, panel: usize) {
        if panel < self.panel_count() {
            f32_kernel::prefetch_panel_head(self.panel(panel));
        }
    }

    /// Groups of columns that lie together.
    pub(crate) fn panel_count(&self) -> usize {
        self.bias.len() / self.format.panel_width()
    }
}
