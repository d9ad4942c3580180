// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products of a few rows with constant weights: nearly all of what an encoder's step takes. What follows each of them at
//! once is done with them: an activation, the sum with what went past them.
//!
//! With 2 to 14 rows, a step ends when memory has delivered the weights. ONNX Runtime's own product is made for many rows:
//! with 14 it gets a third of what the processor multiplies, and reads memory in small pages (`docs/performance.md`).
//! Here weights lie in the order in which they are read, in large pages ([`huge_pages`]): as they are ([`f32_kernel`]) or, with a
//! quarter less of memory, as integers of 24 bits for vectors of 512 bits ([`i24`]) or for matrix tiles ([`amx`]).
//!
//! Nothing here knows of graphs or of ONNX Runtime, which calls it for operation `Product` of `model/runtime/custom_ops`.

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

use self::{
    epilogue::Column,
    f32_kernel::Tile,
    huge_pages::{BEYOND, Frozen, Pages},
    weight_format::Form,
};
pub(crate) use self::{
    epilogue::Ending,
    output::{Columns, Output, Target},
    packed_lhs::{Turned, TurnedColumns},
    serialize::{Kept, layout},
};

/// Bytes of weights that are one piece of work, at most: enough to be worth handing over, and few enough that all threads
/// end together.
const PIECE: usize = 256 << 10;

/// Pieces are as many as some multiple of this, of one size: else one of two or four threads has a piece more than the
/// others and they wait for it.
const TOGETHER: usize = 4;

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
    form: Form,
    /// What the numbers of each column are multiplied by, where they are integers.
    scales: Vec<f32>,
    bias: Vec<f32>,
    depth: usize,
    columns: usize,
    ending: Ending,
}

/// The input of a product, ready for it.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// For [`Form::Floats`].
    Floats(&'a [f32]),
    /// For [`Form::Integers`].
    Integers(Turned<'a>),
    /// For [`Form::Digits`].
    Digits(&'a amx::Input),
}

/// How an input of a product lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// One row behind the other.
    Rows,
    /// As [`Turned`] has them.
    Turned,
    /// As [`amx`] take them.
    Digits,
}

/// Where an input is made ready.
#[derive(Debug, Default)]
pub struct Room {
    turned: Vec<f32>,
    digits: amx::Input,
}

impl Room {
    /// What was [made ready](Weights::prepare) for digits.
    pub(crate) fn digits(&self) -> Rows<'_> {
        Rows::Digits(&self.digits)
    }
}

impl Weights {
    /// Whether rows of `depth` values are supported: multiples of 4, as all models have.
    pub fn fits(depth: usize) -> bool {
        depth > 0 && depth.is_multiple_of(f32_kernel::UNROLLED)
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
        let kinds = kinds.into_iter().map(|kind| (Form::best(kind.depth), kind));
        Self::pack_as(kinds.collect(), fill)
    }

    /// As [`pack`](Self::pack), in these forms.
    fn pack_as(kinds: Vec<(Form, Kind)>, fill: impl Fn(usize, usize, usize, &mut [f32])) -> io::Result<Vec<Self>> {
        let sizes = kinds.iter().map(|(form, kind)| form.bytes(kind.depth, kind.columns));
        let sizes: Option<Vec<usize>> = sizes.collect();
        let sizes = sizes.ok_or(io::ErrorKind::OutOfMemory)?;
        let mut pages = Pages::zeros(sizes.iter().copied().fold(0, usize::saturating_add))?;
        let mut rest = pages.bytes_mut();
        let mut scales = Vec::new();
        for (index, ((form, kind), &size)) in kinds.iter().zip(&sizes).enumerate() {
            assert!(Self::fits(kind.depth));
            let (panels, others) = rest.split_at_mut(size);
            rest = others;
            scales.push(form.write(kind, panels, |row, column, room| fill(index, row, column, room)));
        }
        let panels = Arc::new(pages.freeze()?);
        let mut start = 0;
        let weights = kinds
            .into_iter()
            .zip(scales)
            .zip(sizes)
            .map(|(((form, kind), scales), size)| {
                let mut bias = kind.bias.unwrap_or_default();
                bias.resize(kind.columns.next_multiple_of(form.columns()), 0.0);
                start += size;
                Self {
                    panels: panels.clone(),
                    range: start - size..start,
                    form,
                    scales,
                    bias,
                    depth: kind.depth,
                    columns: kind.columns,
                    ending: kind.ending,
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
    pub fn new(kind: Kind, fill: impl Fn(usize, usize, &mut [f32])) -> io::Result<Self> {
        let kinds = vec![(Form::Floats, kind)];
        let made = Self::pack_as(kinds, |_, row, column, room| fill(row, column, room))?;
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
        self.range.len()
    }

    /// Pieces into which the work can be cut: see [`multiply`](Self::multiply).
    pub fn pieces(&self) -> usize {
        let count = self.range.len().div_ceil(PIECE).next_multiple_of(TOGETHER);
        count.min(self.panel_count())
    }

    /// Makes `input` ready for [`multiply`](Self::multiply). Nothing is allocated if `room` held as many values before.
    pub fn prepare<'a>(&self, input: &'a [f32], room: &'a mut Room) -> Rows<'a> {
        match self.form {
            Form::Floats => Rows::Floats(input),
            Form::Integers => Rows::Integers(Turned::take(input, self.depth, &mut room.turned)),
            Form::Digits => {
                room.digits.take(input, self.depth);
                Rows::Digits(&room.digits)
            }
        }
    }

    /// How an input must lie for [`multiply_panels`](Self::multiply_panels).
    pub(crate) fn reads(&self) -> Layout {
        match self.form {
            Form::Floats => Layout::Rows,
            Form::Integers => Layout::Turned,
            Form::Digits => Layout::Digits,
        }
    }

    /// Whether results may go to [`Target::Turned`].
    pub(crate) fn turns(&self) -> bool {
        self.form == Form::Integers
    }

    /// The columns of the output that piece `piece` writes: no two pieces have one in common.
    pub fn columns_of(&self, piece: usize) -> Range<usize> {
        self.panel_columns(self.panels_of(piece))
    }

    fn panels_of(&self, piece: usize) -> Range<usize> {
        let (panels, pieces) = (self.panel_count(), self.pieces());
        assert!(piece < pieces);
        piece * panels / pieces..(piece + 1) * panels / pieces
    }

    /// The columns of the output that these of the [panels](Self::panel_count) write: no two panels have one in common.
    pub(crate) fn panel_columns(&self, panels: Range<usize>) -> Range<usize> {
        let column = |panel: usize| (panel * self.form.columns()).min(self.columns);
        column(panels.start)..column(panels.end)
    }

    /// Does piece `piece` of the product of `input`, row by row, plus `more`, which is as large as the output. All pieces
    /// together, in any order and on any threads, write all of an output.
    ///
    /// # Panics
    /// If `input`, `more` and `output` have not the same number of rows of the right width, `output` has not the
    /// [columns](Self::columns_of) of the piece, or `input` was made ready for weights of another form.
    pub fn multiply(&self, piece: usize, input: Rows<'_>, more: Option<&[f32]>, output: Columns<'_>) {
        self.multiply_panels(self.panels_of(piece), input, more, Target::Rows(output));
    }

    /// As [`multiply`](Self::multiply), with these of the [panels](Self::panel_count).
    ///
    /// # Panics
    /// As there; if there are no such panels; if the target is one for which these weights [must not be
    /// used](Self::turns), or there is more to be added to it.
    pub fn multiply_panels(&self, panels: Range<usize>, input: Rows<'_>, more: Option<&[f32]>, mut target: Target<'_>) {
        let (rows, width) = match &target {
            Target::Rows(output) => (output.rows(), output.width()),
            Target::Turned(turned) => (turned.rows(), turned.depth()),
        };
        assert!(width == self.columns && more.is_none_or(|more| more.len() == rows * width));
        assert!(panels.end <= self.panel_count());
        let columns = self.form.columns();
        let first = panels.start * columns;
        let column = |panel: usize| {
            let range = panel * columns..(panel + 1) * columns;
            Column {
                scales: self.scales.get(range.clone()).unwrap_or_default(),
                bias: &self.bias[range],
                ending: self.ending,
            }
        };
        match (input, self.form, &mut target) {
            (Rows::Floats(input), Form::Floats, Target::Rows(output)) => {
                assert!(input.len() == rows * self.depth);
                for panel in panels {
                    let Column { bias, ending, .. } = column(panel);
                    let weights = bytemuck::cast_slice(self.panel(panel));
                    f32_kernel::multiply((input, more), weights, (bias, ending), output, panel * columns);
                }
            }
            (Rows::Integers(input), Form::Integers, target) => {
                assert!(input.rows() == rows);
                let panels = panels.map(|panel| (self.panel_with_beyond(panel), column(panel)));
                i24::multiply((input, self.depth, more), panels, first, target);
            }
            (Rows::Digits(input), Form::Digits, Target::Rows(output)) => {
                assert!(input.rows() == rows);
                let panels = panels.map(|panel| (self.panel(panel), column(panel)));
                amx::multiply((input, self.depth, more), panels, first, output);
            }
            _ => panic!("the input of a product was made ready for another one"),
        }
    }

    /// The whole product, on this thread.
    ///
    /// # Panics
    /// As [`multiply`](Self::multiply).
    pub fn multiply_alone(&self, input: &[f32], output: &mut [f32]) {
        let mut room = Room::default();
        let input = self.prepare(input, &mut room);
        for piece in 0..self.pieces() {
            self.multiply(piece, input, None, Columns::all(output, self.columns));
        }
    }

    fn panel(&self, index: usize) -> &[u8] {
        let panel = self.panel_with_beyond(index);
        &panel[..panel.len() - BEYOND]
    }

    /// A panel and what lies behind it.
    fn panel_with_beyond(&self, index: usize) -> &[u8] {
        let bytes = self.range.len() / self.panel_count();
        &self.panels.with_beyond()[self.range.start + index * bytes..][..bytes + BEYOND]
    }

    /// Lets the processor fetch the beginning of panel `panel`: as much as is asked for ahead when it is read.
    pub(crate) fn ask_for(&self, panel: usize) {
        if panel < self.panel_count() {
            f32_kernel::fetch_first(self.panel(panel));
        }
    }

    /// Groups of columns that lie together.
    pub(crate) fn panel_count(&self) -> usize {
        self.bias.len() / self.form.columns()
    }
}
