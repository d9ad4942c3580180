// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kinds of steps: what they take and give, and into how many pieces they can be cut. [`task`](super::task) does them.

use std::{ops::RangeInclusive, sync::Arc};

use super::{Op, OutputShape, ProgramError, memory_plan::MemoryPlan, schedule::ScheduledOp};
use crate::{
    gemm::PackedWeights,
    glu_depthwise_conv::GluDepthwiseConv,
    layer_norm::LayerNorm,
    lstm_cell::{self, GATES},
    rel_pos_attention::RelPosAttention,
    strided_conv::StridedConv,
};

/// Bytes of weights that are one piece of work, at least: that takes a thread a few microseconds.
const MIN_TASK_BYTES: usize = 32 << 10;

/// Columns that are worked on together, at least: whole vectors, however long they are.
pub(super) const COLUMN_BLOCK: usize = 32;

/// See [`Op`]; outputs may be [ready](Slot::Packed) for products.
pub(super) enum OpKernel {
    PackedMatMul {
        weights: Arc<PackedWeights>,
        /// Panels of a piece.
        panels: usize,
        /// What is done to its input before.
        own: Option<Arc<LayerNorm>>,
    },
    RelPosAttention {
        attention: Box<RelPosAttention>,
        /// The value that says which row is the oldest.
        ring_head: usize,
    },
    GluDepthwiseConv(GluDepthwiseConv),
    LayerNorm {
        layer_norm: LayerNorm,
        workers: usize,
    },
    StridedConv(StridedConv),
    JointAddRelu {
        width: usize,
        workers: usize,
    },
    LstmCell {
        units: usize,
        workers: usize,
    },
    /// Makes rows of a width ready for products.
    PackLhs {
        width: usize,
        workers: usize,
    },
    /// Makes rows ready for products such as that with these weights.
    PackBytePlanes(Arc<PackedWeights>),
}

impl Op {
    /// How many inputs it may have.
    pub(super) fn inputs(&self) -> RangeInclusive<usize> {
        match self {
            Self::PackedMatMul(_) => 1..=2,
            Self::RelPosAttention(_) => 7..=7,
            Self::GluDepthwiseConv(_) | Self::StridedConv(_) | Self::JointAddRelu(_) => 2..=2,
            Self::LstmCell(_) => 3..=3,
            Self::LayerNorm(_) | Self::Reshape(_) => 1..=1,
        }
    }

    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::RelPosAttention(_) => 3,
            Self::GluDepthwiseConv(_) | Self::LstmCell(_) => 2,
            _ => 1,
        }
    }

    /// How wide the rows of an input must be, if that counts.
    pub(super) fn width(&self, input: usize) -> Option<usize> {
        match (self, input) {
            (Self::PackedMatMul(weights), 0) => Some(weights.k()),
            (Self::PackedMatMul(weights), _) => Some(weights.n()),
            (Self::RelPosAttention(attention), 0 | 2 | 4) => Some(attention.dims.d_model()),
            (Self::GluDepthwiseConv(convolution), 0) => Some(2 * convolution.channels()),
            (Self::LayerNorm(layer_norm), _) => Some(layer_norm.width()),
            (Self::JointAddRelu(width), _) => Some(*width),
            (Self::LstmCell(units), 0 | 1) => units.checked_mul(GATES),
            (Self::LstmCell(units), _) => Some(*units),
            _ => None,
        }
    }

    /// How wide the rows of an output are.
    pub(super) fn output_width(&self, output: usize) -> Option<usize> {
        match (self, output) {
            (Self::PackedMatMul(weights), _) => Some(weights.n()),
            (Self::RelPosAttention(attention), 0) => Some(attention.dims.d_model()),
            (Self::RelPosAttention(attention), _) => Some(attention.dims.head_dim),
            (Self::GluDepthwiseConv(convolution), 0) => Some(convolution.channels()),
            (Self::GluDepthwiseConv(convolution), _) => Some(convolution.channels()),
            (Self::LayerNorm(layer_norm), _) => Some(layer_norm.width()),
            (Self::StridedConv(subsampling), _) => Some(subsampling.channels()),
            (Self::JointAddRelu(width) | Self::LstmCell(width) | Self::Reshape(width), _) => Some(*width),
        }
    }

    /// Whether its first output can be written as products with [`LhsLayout::Packed`] read it.
    pub(super) fn can_pack_output(&self) -> bool {
        match self {
            Self::PackedMatMul(weights) => weights.can_pack_output(),
            Self::RelPosAttention(_) | Self::LayerNorm(_) => true,
            _ => false,
        }
    }
}

impl OpKernel {
    /// `number`: the value of the number that it needs; `own`: what members do to its input before. `None`: it has none, or nothing is to be done.
    pub(super) fn new(work: Op, number: Option<usize>, own: Option<Arc<LayerNorm>>, workers: usize) -> Option<Self> {
        Some(match work {
            Op::PackedMatMul(weights) => {
                let panel = (weights.bytes() / weights.panel_count().max(1)).max(1);
                Self::PackedMatMul {
                    panels: MIN_TASK_BYTES.div_ceil(panel),
                    weights,
                    own,
                }
            }
            Op::RelPosAttention(attention) => Self::RelPosAttention {
                attention,
                ring_head: number?,
            },
            Op::GluDepthwiseConv(convolution) => Self::GluDepthwiseConv(convolution),
            Op::LayerNorm(layer_norm) => Self::LayerNorm { layer_norm, workers },
            Op::StridedConv(subsampling) => Self::StridedConv(subsampling),
            Op::JointAddRelu(width) => Self::JointAddRelu { width, workers },
            Op::LstmCell(units) => Self::LstmCell { units, workers },
            Op::Reshape(_) => return None,
        })
    }
}

impl ScheduledOp {
    /// Whether it reads what nobody has looked at since the last run.
    pub(super) fn reads_cold_memory(&self) -> bool {
        matches!(
            self.kernel,
            OpKernel::PackedMatMul { .. } | OpKernel::RelPosAttention { .. }
        )
    }

    /// Asks memory for what member `worker` of so many will read of that first.
    pub(super) fn prefetch(&self, worker: usize, workers: usize, buffers: &MemoryPlan) {
        match &self.kernel {
            OpKernel::PackedMatMul { weights, panels, .. } => {
                let task_count = weights.panel_count().div_ceil(*panels);
                weights.prefetch_panel(worker * task_count / workers * panels);
            }
            OpKernel::RelPosAttention { attention, .. } => {
                let (keys, _) = buffers.raw(self.inputs[1]);
                attention.prefetch(worker * attention.dims.heads / workers, keys);
            }
            _ => {}
        }
    }

    /// Finds the lengths of what it gives, of those of what it gets.
    pub(super) fn infer_lengths(&self, buffers: &mut MemoryPlan) -> Result<(), ProgramError> {
        let known = self.inputs.iter().map(|slot| buffers.length(slot.value()));
        let known: Vec<usize> = known.collect();
        let length = |index: usize| known[index];
        let rows = |index: usize, width: usize| -> Result<usize, ProgramError> {
            let length = length(index);
            match width > 0 && length.is_multiple_of(width) {
                true => Ok(length / width),
                false => Err(ProgramError::WidthMismatch),
            }
        };
        let lengths = match &self.kernel {
            OpKernel::PackedMatMul { weights, own, .. } => {
                if own.is_some() {
                    buffers.reserve_thread_local(length(0));
                }
                let all = rows(0, weights.k())?
                    .checked_mul(weights.n())
                    .ok_or(ProgramError::ShapeMismatch)?;
                if self.inputs.len() > 1 && length(1) != all {
                    return Err(ProgramError::ShapeMismatch);
                }
                [all, 0, 0]
            }
            OpKernel::RelPosAttention { attention, .. } => {
                [attention.dims.frames * attention.dims.d_model(), length(1), length(3)]
            }
            OpKernel::GluDepthwiseConv(convolution) => {
                let frames = rows(0, 2 * convolution.channels())?;
                [frames * convolution.channels(), length(1), 0]
            }
            OpKernel::LayerNorm { layer_norm, .. } => [rows(0, layer_norm.width())? * layer_norm.width(), 0, 0],
            OpKernel::StridedConv(subsampling) => {
                let sizes = subsampling
                    .sizes(length(0), length(1))
                    .ok_or(ProgramError::ShapeMismatch)?;
                [sizes.output[0] * sizes.output[1] * subsampling.channels(), 0, 0]
            }
            OpKernel::JointAddRelu { width, .. } => [rows(0, *width)? * width, 0, 0],
            OpKernel::LstmCell { units, .. } if length(2) == *units => [*units, *units, 0],
            OpKernel::LstmCell { .. } => return Err(ProgramError::ShapeMismatch),
            OpKernel::PackLhs { width, .. } => [rows(0, *width)? * width, 0, 0],
            OpKernel::PackBytePlanes(weights) => [rows(0, weights.k())? * weights.k(), 0, 0],
        };
        for (output, length) in self.outputs.iter().zip(lengths) {
            buffers.set_length(output.value(), length);
        }
        Ok(())
    }

    /// Sizes of output `number`, of so many values.
    pub(super) fn output_shape(&self, number: usize, length: usize) -> OutputShape {
        let rows = |width: usize| OutputShape::Rows {
            rows: length / width.max(1),
            width,
        };
        match (&self.kernel, number) {
            (OpKernel::PackedMatMul { weights, .. }, _) => rows(weights.n()),
            (OpKernel::RelPosAttention { attention, .. }, 0) => rows(attention.dims.d_model()),
            // Keys, then values.
            (OpKernel::RelPosAttention { .. }, _) => OutputShape::Like(self.inputs[2 * number - 1].value()),
            (OpKernel::GluDepthwiseConv(convolution), 0) => rows(convolution.channels()),
            (OpKernel::GluDepthwiseConv(_), _) => OutputShape::Like(self.inputs[1].value()),
            (OpKernel::LayerNorm { layer_norm, .. }, _) => rows(layer_norm.width()),
            (OpKernel::StridedConv(subsampling), _) => rows(subsampling.channels()),
            (OpKernel::JointAddRelu { width, .. }, _) => rows(*width),
            // The cells have the sizes of the state, too.
            (OpKernel::LstmCell { .. }, _) => OutputShape::Like(self.inputs[2].value()),
            (OpKernel::PackLhs { width, .. }, _) => rows(*width),
            (OpKernel::PackBytePlanes(weights), _) => rows(weights.k()),
        }
    }

    /// Whether what it gets fits what it is made of.
    pub(super) fn inputs_match(&self, buffers: &MemoryPlan) -> bool {
        let length = |index: usize| buffers.length(self.inputs[index].value());
        match &self.kernel {
            OpKernel::RelPosAttention { attention, ring_head } => {
                attention.takes_lengths(std::array::from_fn(length), buffers.scalar(*ring_head))
            }
            OpKernel::GluDepthwiseConv(convolution) => convolution.takes_lengths(length(0), length(1)),
            OpKernel::JointAddRelu { width, .. } => length(1) == *width,
            OpKernel::LstmCell { .. } => lstm_cell::are_whole([length(0), length(1)], length(2)),
            _ => true,
        }
    }

    /// Into how many pieces it can be cut.
    pub(super) fn task_count(&self, buffers: &MemoryPlan) -> usize {
        let length = || buffers.length(self.inputs[0].value());
        match &self.kernel {
            OpKernel::PackedMatMul { weights, panels, .. } => weights.panel_count().div_ceil(*panels),
            OpKernel::RelPosAttention { attention, .. } => attention.dims.heads,
            OpKernel::GluDepthwiseConv(convolution) => convolution.task_count(),
            OpKernel::LayerNorm { layer_norm, workers } => (length() / layer_norm.width()).min(*workers),
            OpKernel::StridedConv(subsampling) => {
                let sizes = subsampling.sizes(length(), buffers.length(self.inputs[1].value()));
                sizes.map_or(0, |sizes| sizes.output[0])
            }
            OpKernel::JointAddRelu { width, workers } => (length() / width).min(*workers),
            OpKernel::PackLhs { width, workers } | OpKernel::LstmCell { units: width, workers } => {
                (width / COLUMN_BLOCK).clamp(1, *workers)
            }
            OpKernel::PackBytePlanes(_) => 1,
        }
    }
}
