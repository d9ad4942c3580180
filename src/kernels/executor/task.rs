// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done with a piece of each kind of step.
//!
//! All of it rests on one promise, that of who makes [`Values`]; and each piece takes only those parts of its step's outputs
//! that are no other piece's.

#![allow(unsafe_code)]

use std::{ops::Range, sync::Arc};

use super::{
    memory_plan::{Buffers, Own, Place},
    op::{COLUMNS, Kind},
    schedule::Step,
};
use crate::kernels::{
    gemm::{Layout, Output, Rows, Target, Turned, Weights},
    glu_depthwise_conv::Convolution,
    joint_add_relu::meet,
    layer_norm::Normalisation,
    lstm_cell,
    rel_pos_attention::{self, Attention, Cache},
    strided_conv::Subsampling,
};

/// What a step reads and writes, for a piece of it.
#[derive(Clone, Copy)]
struct Values<'a> {
    step: &'a Step,
    buffers: &'a Buffers,
    piece: usize,
    pieces: usize,
}

impl Step {
    /// Does piece `piece`. `own` is of whoever does it.
    ///
    /// # Safety
    /// Each piece may be done once in a run. What the run's inputs and outputs were set to must be there. Meanwhile, nobody
    /// may write what the step reads, and nobody but its other pieces may read or write what it writes: so all is done that
    /// writes the one, and nothing is begun that reads or writes the other.
    pub(super) unsafe fn work(&self, piece: usize, buffers: &Buffers, own: &mut Own) {
        let values = Values {
            step: self,
            buffers,
            piece,
            pieces: self.pieces(buffers),
        };
        match &self.kind {
            Kind::Product {
                weights,
                panels,
                own: before,
            } => values.product(weights, *panels, before.as_ref(), own),
            Kind::Attention { attention, oldest } => values.attention(attention, *oldest),
            Kind::Convolution(convolution) => values.convolution(convolution),
            Kind::Normalisation { normalisation, .. } => values.normalisation(normalisation),
            Kind::Subsampling(subsampling) => values.subsampling(subsampling),
            Kind::Meeting { width, .. } => values.meeting(*width),
            Kind::Gates { units, .. } => values.gates(*units),
            Kind::Turn { width, .. } => values.turn(*width),
            Kind::Digits(weights) => values.digits(weights),
        }
    }
}

// Its methods stand on the promise of who called `Step::work`, the only one who makes it.
impl<'a> Values<'a> {
    fn input(self, index: usize) -> &'a [f32] {
        // SAFETY: nobody writes what the step reads.
        unsafe { self.buffers.read(self.step.inputs[index]) }
    }

    fn output(self, index: usize, width: usize) -> Output<'a> {
        // SAFETY: it is there; only pieces of this step make parts of it.
        unsafe { self.buffers.output(self.step.outputs[index], width) }
    }

    /// These columns of the first output, as it lies.
    ///
    /// # Safety
    /// They must be this piece's alone, and be asked for once.
    unsafe fn target(self, width: usize, columns: Range<usize>) -> Target<'a> {
        let output = self.output(0, width);
        // SAFETY: the caller's promise; all pieces ask for the same layout.
        unsafe {
            match self.step.outputs[0] {
                Place::Rows(_) => Target::Rows(output.columns(columns)),
                Place::Ready(_) => Target::Turned(output.turned(columns)),
            }
        }
    }

    fn product(self, weights: &Weights, panels: usize, before: Option<&Arc<Normalisation>>, own: &mut Own) {
        let rows = match weights.reads() {
            Layout::Rows => Rows::Floats(self.input(0)),
            Layout::Turned => {
                let values = match before {
                    Some(normalisation) => own.normalised(normalisation, self.input(0)),
                    None => self.input(0),
                };
                Rows::Integers(Turned::new(values, values.len() / weights.depth()))
            }
            // SAFETY: nobody writes what the step reads.
            Layout::Digits => unsafe { self.buffers.digits(self.step.inputs[0].value()) }.digits(),
        };
        let more = (self.step.inputs.len() > 1).then(|| self.input(1));
        let panels = self.piece * panels..((self.piece + 1) * panels).min(weights.panel_count());
        // SAFETY: no panel is in two pieces, and no column in two panels.
        let target = unsafe { self.target(weights.columns(), weights.panel_columns(panels.clone())) };
        weights.multiply_panels(panels, rows, more, target);
    }

    fn attention(self, attention: &Attention, oldest: usize) {
        let cache = |input: usize, output: usize| {
            let ((now, length), (next, _)) = (
                self.buffers.place(self.step.inputs[input]),
                self.buffers.place(self.step.outputs[output]),
            );
            // SAFETY: both are of the same length, which `Steps::check` and `Buffers::set_output` see to. They are an input
            // and an output of the chain, so the same tensor, or two that have nothing in common.
            unsafe { Cache::new(now, next, length) }
        };
        let step = rel_pos_attention::Step {
            queries: self.input(0),
            keys: (cache(1, 1), self.input(2)),
            values: (cache(3, 2), self.input(4)),
            mask: self.input(5),
            oldest: self.buffers.number(oldest),
        };
        // SAFETY: each piece is another head.
        let (cached, target) = unsafe {
            let target = self.target(attention.sizes.all(), attention.columns_of(self.piece));
            (attention.cached(self.piece, &step), target)
        };
        attention.attend(self.piece, &step, cached, target);
    }

    fn convolution(self, convolution: &Convolution) {
        let columns = convolution.columns_of(self.piece);
        let output = |index: usize| {
            let output = self.output(index, convolution.channels());
            // SAFETY: no column is in two pieces.
            unsafe { output.columns(columns.clone()) }
        };
        convolution.convolve(self.piece, (self.input(0), self.input(1)), (output(0), output(1)));
    }

    fn normalisation(self, normalisation: &Normalisation) {
        let (width, rows) = (normalisation.width(), self.input(0));
        let output = self.output(0, width);
        for row in self.share(rows.len() / width) {
            // SAFETY: no row is in two shares.
            let room = unsafe { output.row(row) };
            normalisation.normalise(&rows[row * width..][..width], room);
        }
    }

    fn subsampling(self, subsampling: &Subsampling) {
        let (frames, mask) = (self.input(0), self.input(1));
        let sizes = subsampling.sizes(frames.len(), mask.len());
        let bins = sizes.map_or(0, |sizes| sizes.output[1]);
        let output = self.output(0, bins * subsampling.channels());
        // SAFETY: each piece is another frame.
        let row = unsafe { output.row(self.piece) };
        subsampling.convolve(self.piece, (frames, mask), row);
    }

    fn meeting(self, width: usize) {
        let (frames, prediction) = (self.input(0), self.input(1));
        let output = self.output(0, width);
        for row in self.share(frames.len() / width) {
            // SAFETY: no row is in two shares.
            let room = unsafe { output.row(row) };
            meet(&frames[row * width..][..width], prediction, room);
        }
    }

    fn gates(self, units: usize) {
        let step = lstm_cell::Step {
            sums: [self.input(0), self.input(1)],
            cells: self.input(2),
        };
        let columns = self.columns(units);
        let part = |index: usize| {
            let output = self.output(index, units);
            // SAFETY: no column is in two pieces, and each output is asked for once.
            unsafe { output.part(0, columns.clone()) }
        };
        step.apply(columns.clone(), part(0), part(1));
    }

    fn turn(self, width: usize) {
        let columns = self.columns(width);
        let output = self.output(0, width);
        // SAFETY: no column is in two pieces, and what is ready is turned.
        let mut turned = unsafe { output.turned(columns.clone()) };
        // There may be no rows at all.
        let rows = self.input(0).get(columns.start..).unwrap_or_default();
        turned.put_all(columns.start, (rows, width), columns.len());
    }

    fn digits(self, weights: &Weights) {
        // SAFETY: nobody else has to do with what the step writes, and it is one piece.
        let room = unsafe { self.buffers.digits_mut(self.step.outputs[0].value()) };
        weights.prepare(self.input(0), room);
    }

    /// What is this piece's of `count` things that are shared evenly.
    fn share(self, count: usize) -> Range<usize> {
        self.piece * count / self.pieces..(self.piece + 1) * count / self.pieces
    }

    /// The columns of rows of that width that are this piece's. They are cut between whole vectors only: what is left of one is
    /// computed in another way, and bits must not depend on how many pieces there are.
    fn columns(self, width: usize) -> Range<usize> {
        let groups = self.share(width / COLUMNS);
        let end = match self.piece + 1 == self.pieces {
            true => width,
            false => groups.end * COLUMNS,
        };
        groups.start * COLUMNS..end
    }
}
