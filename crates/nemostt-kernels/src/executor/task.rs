// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done with a piece of each kind of step.
//!
//! All of it rests on one promise, that of who makes [`Values`]; and each piece takes only those parts of its step's outputs
//! that are no other piece's.

#![allow(unsafe_code)]

use std::{ops::Range, sync::Arc};

use super::{
    memory_plan::{MemoryPlan, Slot, ThreadLocalLhs},
    op::{COLUMN_BLOCK, OpKernel},
    schedule::ScheduledOp,
};
use crate::{
    gemm::{Lhs, LhsLayout, Output, PackedLhs, PackedWeights, Target},
    glu_depthwise_conv::GluDepthwiseConv,
    joint_add_relu::add_relu,
    layer_norm::LayerNorm,
    lstm_cell,
    rel_pos_attention::{self, KvRing, RelPosAttention},
    strided_conv::StridedConv,
};

/// What a step reads and writes, for a piece of it.
#[derive(Clone, Copy)]
struct Values<'a> {
    step: &'a ScheduledOp,
    buffers: &'a MemoryPlan,
    task: usize,
    task_count: usize,
}

impl ScheduledOp {
    /// Does piece `task`. `own` is of whoever does it.
    ///
    /// # Safety
    /// Each piece may be done once in a run. What the run's inputs and outputs were set to must be there. Meanwhile, nobody
    /// may write what the step reads, and nobody but its other pieces may read or write what it writes: so all is done that
    /// writes the one, and nothing is begun that reads or writes the other.
    pub(super) unsafe fn run_task(&self, task: usize, buffers: &MemoryPlan, own: &mut ThreadLocalLhs) {
        let values = Values {
            step: self,
            buffers,
            task,
            task_count: self.task_count(buffers),
        };
        match &self.kernel {
            OpKernel::PackedMatMul {
                weights,
                panels,
                own: before,
            } => values.product(weights, *panels, before.as_ref(), own),
            OpKernel::RelPosAttention { attention, ring_head } => values.attention(attention, *ring_head),
            OpKernel::GluDepthwiseConv(convolution) => values.convolution(convolution),
            OpKernel::LayerNorm { layer_norm, .. } => values.layer_norm(layer_norm),
            OpKernel::StridedConv(subsampling) => values.subsampling(subsampling),
            OpKernel::JointAddRelu { width, .. } => values.joint_add_relu(*width),
            OpKernel::LstmCell { units, .. } => values.lstm_step(*units),
            OpKernel::PackLhs { width, .. } => values.pack_lhs(*width),
            OpKernel::PackBytePlanes(weights) => values.pack_byte_planes(weights),
        }
    }
}

// Its methods stand on the promise of who called `ScheduledOp::run_task`, the only one who makes it.
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
                Slot::Plain(_) => Target::RowMajor(output.columns(columns)),
                Slot::Packed(_) => Target::Packed(output.packed(columns)),
            }
        }
    }

    fn product(
        self,
        weights: &PackedWeights,
        panels: usize,
        before: Option<&Arc<LayerNorm>>,
        own: &mut ThreadLocalLhs,
    ) {
        let rows = match weights.lhs_layout() {
            LhsLayout::RowMajor => Lhs::RowMajor(self.input(0)),
            LhsLayout::Packed => {
                let values = match before {
                    Some(layer_norm) => own.normalized(layer_norm, self.input(0)),
                    None => self.input(0),
                };
                Lhs::Packed(PackedLhs::new(values, values.len() / weights.k()))
            }
            // SAFETY: nobody writes what the step reads.
            LhsLayout::BytePlanes => unsafe { self.buffers.byte_planes(self.step.inputs[0].value()) }.byte_planes(),
        };
        let residual = (self.step.inputs.len() > 1).then(|| self.input(1));
        let panels = self.task * panels..((self.task + 1) * panels).min(weights.panel_count());
        // SAFETY: no panel is in two pieces, and no column in two panels.
        let target = unsafe { self.target(weights.n(), weights.panel_columns(panels.clone())) };
        weights.multiply_panels(panels, rows, residual, target);
    }

    fn attention(self, attention: &RelPosAttention, ring_head: usize) {
        let cache = |input: usize, output: usize| {
            let ((now, length), (next, _)) = (
                self.buffers.raw(self.step.inputs[input]),
                self.buffers.raw(self.step.outputs[output]),
            );
            // SAFETY: both are of the same length, which `Schedule::check` and `MemoryPlan::set_output` see to. They are an input
            // and an output of the chain, so the same tensor, or two that have nothing in common.
            unsafe { KvRing::new(now, next, length) }
        };
        let step = rel_pos_attention::AttentionInputs {
            queries: self.input(0),
            keys: (cache(1, 1), self.input(2)),
            values: (cache(3, 2), self.input(4)),
            mask: self.input(5),
            ring_head: self.buffers.scalar(ring_head),
        };
        // SAFETY: each piece is another head.
        let (cached, target) = unsafe {
            let target = self.target(attention.dims.d_model(), attention.columns_of(self.task));
            (attention.cached(self.task, &step), target)
        };
        attention.attend(self.task, &step, cached, target);
    }

    fn convolution(self, convolution: &GluDepthwiseConv) {
        let columns = convolution.columns_of(self.task);
        let output = |index: usize| {
            let output = self.output(index, convolution.channels());
            // SAFETY: no column is in two pieces.
            unsafe { output.columns(columns.clone()) }
        };
        convolution.convolve(self.task, (self.input(0), self.input(1)), (output(0), output(1)));
    }

    fn layer_norm(self, layer_norm: &LayerNorm) {
        let (width, rows) = (layer_norm.width(), self.input(0));
        let output = self.output(0, width);
        for row in self.task_range(rows.len() / width) {
            // SAFETY: no row is in two shares.
            let dst = unsafe { output.row(row) };
            layer_norm.normalize(&rows[row * width..][..width], dst);
        }
    }

    fn subsampling(self, subsampling: &StridedConv) {
        let (frames, mask) = (self.input(0), self.input(1));
        let sizes = subsampling.sizes(frames.len(), mask.len());
        let bins = sizes.map_or(0, |sizes| sizes.output[1]);
        let output = self.output(0, bins * subsampling.channels());
        // SAFETY: each piece is another frame.
        let row = unsafe { output.row(self.task) };
        subsampling.convolve(self.task, (frames, mask), row);
    }

    fn joint_add_relu(self, width: usize) {
        let (frames, prediction) = (self.input(0), self.input(1));
        let output = self.output(0, width);
        for row in self.task_range(frames.len() / width) {
            // SAFETY: no row is in two shares.
            let dst = unsafe { output.row(row) };
            add_relu(&frames[row * width..][..width], prediction, dst);
        }
    }

    fn lstm_step(self, units: usize) {
        let step = lstm_cell::LstmStep {
            sums: [self.input(0), self.input(1)],
            cells: self.input(2),
        };
        let columns = self.column_range(units);
        let part = |index: usize| {
            let output = self.output(index, units);
            // SAFETY: no column is in two pieces, and each output is asked for once.
            unsafe { output.part(0, columns.clone()) }
        };
        step.apply(columns.clone(), part(0), part(1));
    }

    fn pack_lhs(self, width: usize) {
        let columns = self.column_range(width);
        let output = self.output(0, width);
        // SAFETY: no column is in two pieces, and what is ready is turned.
        let mut packed_output = unsafe { output.packed(columns.clone()) };
        // There may be no rows at all.
        let rows = self.input(0).get(columns.start..).unwrap_or_default();
        packed_output.put_all(columns.start, (rows, width), columns.len());
    }

    fn pack_byte_planes(self, weights: &PackedWeights) {
        // SAFETY: nobody else has to do with what the step writes, and it is one piece.
        let dst = unsafe { self.buffers.byte_planes_mut(self.step.outputs[0].value()) };
        weights.pack_lhs(self.input(0), dst);
    }

    /// What is this piece's of `count` things that are shared evenly.
    fn task_range(self, count: usize) -> Range<usize> {
        self.task * count / self.task_count..(self.task + 1) * count / self.task_count
    }

    /// The columns of rows of that width that are this piece's. They are cut between whole vectors only: what is left of one is
    /// computed in another way, and bits must not depend on how many pieces there are.
    fn column_range(self, width: usize) -> Range<usize> {
        let groups = self.task_range(width / COLUMN_BLOCK);
        let end = match self.task + 1 == self.task_count {
            true => width,
            false => groups.end * COLUMN_BLOCK,
        };
        groups.start * COLUMN_BLOCK..end
    }
}
