// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products of a few rows with constant weights: nearly all of what an encoder's step takes. What follows each of them at
//! once is done with them: an activation, the sum with what went past them.
//!
//! With 2 to 14 rows, a step ends when memory has delivered the weights. ONNX Runtime's own product is made for many rows:
//! with 14 it gets a third of what the processor multiplies, and reads memory in small pages (`docs/performance.md`).
//! Here weights lie in the order in which they are read ([`kernel`]), in large pages ([`pages`]).
//!
//! Nothing here knows of graphs or of ONNX Runtime, which calls it for operation `Product` of `model/runtime/operations.rs`.

mod kept;
mod kernel;
mod pages;
#[cfg(test)]
mod tests;

use std::{io, marker::PhantomData, ops::Range, sync::Arc};

pub(crate) use self::{
    kept::{Kept, layout},
    kernel::Ending,
};
use self::{
    kernel::Tile,
    pages::{Frozen, Pages},
};

/// Bytes of weights that are one piece of work: enough to be worth handing over, and few enough that all threads end
/// together.
const PIECE: usize = 256 << 10;

/// Whether this processor has vector instructions that make it worth the while: x86 with vectors of 256 bits or more. On
/// others it was not measured.
pub fn is_fast() -> bool {
    // By what `pulp` will use: it wants more of a processor than AVX2 alone.
    cfg!(target_arch = "x86_64") && Tile::of_this_processor().columns >= 16
}

/// What a product is like.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Rows of its weights: values of a row of the input.
    pub depth: usize,
    /// Columns of its weights: values of a row of the output.
    pub columns: usize,
    /// `None`: zeros.
    pub bias: Option<Vec<f32>>,
    pub ending: Ending,
}

/// Weights of a product: `output = input · weights + bias`.
#[derive(Debug)]
pub struct Weights {
    /// Those of others are in it, too.
    panels: Arc<Frozen>,
    range: Range<usize>,
    bias: Vec<f32>,
    depth: usize,
    columns: usize,
    tile: Tile,
    ending: Ending,
}

impl Weights {
    /// Whether rows of `depth` values are supported: multiples of 4, as all models have.
    pub fn fits(depth: usize) -> bool {
        depth > 0 && depth.is_multiple_of(kernel::UNROLLED)
    }

    /// Weights of these kinds, side by side in memory: large pages are shared, and none is left half empty for each of them.
    /// `fill` gets the index of a kind, a row, a column and the room for the values from there on.
    ///
    /// # Errors
    /// The system's, where there is no memory for them.
    ///
    /// # Panics
    /// If a depth does not [fit](Self::fits).
    pub fn pack(kinds: Vec<Kind>, fill: impl Fn(usize, usize, usize, &mut [f32])) -> io::Result<Vec<Self>> {
        let tile = Tile::of_this_processor();
        let width = tile.columns;
        let padded = |kind: &Kind| kind.columns.next_multiple_of(width);
        let sizes = kinds.iter().map(|kind| kind.depth.saturating_mul(padded(kind)));
        let mut pages = Pages::zeros(sizes.fold(0, usize::saturating_add))?;
        let mut rest = pages.floats_mut();
        for (index, kind) in kinds.iter().enumerate() {
            assert!(Self::fits(kind.depth));
            let (panels, others) = rest.split_at_mut(kind.depth * padded(kind));
            rest = others;
            for (number, panel) in panels.chunks_exact_mut(kind.depth * width).enumerate() {
                let first = number * width;
                let real = width.min(kind.columns - first);
                for (row, values) in panel.chunks_exact_mut(width).enumerate() {
                    fill(index, row, first, &mut values[..real]);
                }
            }
        }
        let panels = Arc::new(pages.freeze()?);
        let mut start = 0;
        let weights = kinds.into_iter().map(|kind| {
            let padded = padded(&kind);
            let size = kind.depth * padded;
            let mut bias = kind.bias.unwrap_or_default();
            bias.resize(padded, 0.0);
            start += size;
            Self {
                panels: panels.clone(),
                range: start - size..start,
                bias,
                depth: kind.depth,
                columns: kind.columns,
                tile,
                ending: kind.ending,
            }
        });
        Ok(weights.collect())
    }

    /// Those of one product: see [`pack`](Self::pack).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn new(kind: Kind, fill: impl Fn(usize, usize, &mut [f32])) -> io::Result<Self> {
        let made = Self::pack(vec![kind], |_, row, column, room| fill(row, column, room))?;
        made.into_iter().next().ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Values of a row of the input.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Values of a row of the output.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        size_of_val(self.floats())
    }

    /// Pieces into which the work can be cut: see [`multiply`](Self::multiply).
    pub fn pieces(&self) -> usize {
        self.panel_count().div_ceil(self.panels_in_piece())
    }

    /// Does piece `piece` of the product of `input`, row by row, plus `more`, which is as large as the output. All pieces
    /// together, in any order and on any threads, write all of `output`.
    ///
    /// # Panics
    /// If `input`, `more` and `output` have not the same number of rows of the right width.
    ///
    /// # Safety
    /// No two threads may do the same piece for the same output at the same time.
    #[allow(unsafe_code)]
    pub unsafe fn multiply(&self, piece: usize, input: &[f32], more: Option<&[f32]>, output: &Output<'_>) {
        assert!(input.len() == output.rows * self.depth && output.columns == self.columns);
        assert!(more.is_none_or(|more| more.len() == output.rows * output.columns));
        let columns = self.tile.columns;
        // Equal shares: 14 rows are 5, 5 and 4 where 6 fit.
        let passes = output.rows.div_ceil(self.tile.rows).max(1);
        let share = output.rows.div_ceil(passes).max(1);
        let size = self.panels_in_piece();
        for panel in piece * size..((piece + 1) * size).min(self.panel_count()) {
            let weights = &self.floats()[panel * columns * self.depth..][..columns * self.depth];
            let bias = &self.bias[panel * columns..][..columns];
            for first in (0..output.rows).step_by(share) {
                let rows = share.min(output.rows - first);
                let input = &input[first * self.depth..][..rows * self.depth];
                let place = (first, panel * columns);
                kernel::multiply(rows, (input, more), weights, (bias, self.ending), output, place);
            }
        }
    }

    /// The whole product, on this thread.
    ///
    /// # Panics
    /// As [`multiply`](Self::multiply).
    pub fn multiply_alone(&self, input: &[f32], output: &mut [f32]) {
        let output = Output::new(output, self.columns);
        for piece in 0..self.pieces() {
            // SAFETY: nobody else has the output.
            #[allow(unsafe_code)]
            unsafe {
                self.multiply(piece, input, None, &output);
            }
        }
    }

    fn floats(&self) -> &[f32] {
        &self.panels.floats()[self.range.clone()]
    }

    fn panel_count(&self) -> usize {
        self.bias.len() / self.tile.columns
    }

    fn panels_in_piece(&self) -> usize {
        (PIECE / (size_of::<f32>() * self.tile.columns * self.depth)).max(1)
    }
}

/// Where a product goes: rows of the same width, of which several threads write different columns.
#[derive(Debug)]
pub struct Output<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads share it only to write to different places: see `Weights::multiply`.
#[allow(unsafe_code)]
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Rows of `columns` values each.
    pub fn new(values: &'a mut [f32], columns: usize) -> Self {
        Self {
            start: values.as_mut_ptr(),
            rows: values.len() / columns.max(1),
            columns,
            values: PhantomData,
        }
    }

    /// Writes the first of `values` to row `row` from column `column` on, as far as the row goes. Whoever calls it sees to
    /// it that no other thread writes there.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn put(&self, row: usize, column: usize, values: &[f32]) {
        assert!(row < self.rows && column < self.columns);
        let count = values.len().min(self.columns - column);
        // SAFETY: row and column lie within, and no more than the row is written. What threads write at a time are
        // different columns: `Weights::multiply` and `Attention::attend` demand it.
        unsafe {
            let place = self.start.add(row * self.columns + column);
            place.copy_from_nonoverlapping(values.as_ptr(), count);
        }
    }
}
