// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kinds of steps: what they take and give, and into how many pieces they can be cut. [`piece`](super::piece) does them.

use std::{ops::RangeInclusive, sync::Arc};

use super::{Misfit, Sizes, Work, memory_plan::Buffers, schedule::Step};
use crate::kernels::{
    gemm::Weights,
    glu_depthwise_conv::Convolution,
    layer_norm::Normalisation,
    lstm_cell::{self, GATES},
    rel_pos_attention::Attention,
    strided_conv::Subsampling,
};

/// Bytes of weights that are one piece of work, at least: that takes a thread a few microseconds.
const PIECE: usize = 32 << 10;

/// Columns that are worked on together, at least: whole vectors, however long they are.
pub(super) const COLUMNS: usize = 32;

/// See [`Work`]; outputs may be [ready](Place::Ready) for products.
pub(super) enum Kind {
    Product {
        weights: Arc<Weights>,
        /// Panels of a piece.
        panels: usize,
        /// What is done to its input before.
        own: Option<Arc<Normalisation>>,
    },
    Attention {
        attention: Box<Attention>,
        /// The value that says which row is the oldest.
        oldest: usize,
    },
    Convolution(Convolution),
    Normalisation {
        normalisation: Normalisation,
        members: usize,
    },
    Subsampling(Subsampling),
    Meeting {
        width: usize,
        members: usize,
    },
    Gates {
        units: usize,
        members: usize,
    },
    /// Makes rows of a width ready for products.
    Turn {
        width: usize,
        members: usize,
    },
    /// Makes rows ready for products such as that with these weights.
    Digits(Arc<Weights>),
}

impl Work {
    /// How many inputs it may have.
    pub(super) fn inputs(&self) -> RangeInclusive<usize> {
        match self {
            Self::Product(_) => 1..=2,
            Self::Attention(_) => 7..=7,
            Self::Convolution(_) | Self::Subsampling(_) | Self::Meeting(_) => 2..=2,
            Self::Gates(_) => 3..=3,
            Self::Normalisation(_) | Self::Reshape(_) => 1..=1,
        }
    }

    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::Attention(_) => 3,
            Self::Convolution(_) | Self::Gates(_) => 2,
            _ => 1,
        }
    }

    /// How wide the rows of an input must be, if that counts.
    pub(super) fn width(&self, input: usize) -> Option<usize> {
        match (self, input) {
            (Self::Product(weights), 0) => Some(weights.depth()),
            (Self::Product(weights), _) => Some(weights.columns()),
            (Self::Attention(attention), 0 | 2 | 4) => Some(attention.sizes.all()),
            (Self::Convolution(convolution), 0) => Some(2 * convolution.channels()),
            (Self::Normalisation(normalisation), _) => Some(normalisation.width()),
            (Self::Meeting(width), _) => Some(*width),
            (Self::Gates(units), 0 | 1) => units.checked_mul(GATES),
            (Self::Gates(units), _) => Some(*units),
            _ => None,
        }
    }

    /// How wide the rows of an output are.
    pub(super) fn output_width(&self, output: usize) -> Option<usize> {
        match (self, output) {
            (Self::Product(weights), _) => Some(weights.columns()),
            (Self::Attention(attention), 0) => Some(attention.sizes.all()),
            (Self::Attention(attention), _) => Some(attention.sizes.width),
            (Self::Convolution(convolution), 0) => Some(convolution.channels()),
            (Self::Convolution(convolution), _) => Some(convolution.channels()),
            (Self::Normalisation(normalisation), _) => Some(normalisation.width()),
            (Self::Subsampling(subsampling), _) => Some(subsampling.channels()),
            (Self::Meeting(width) | Self::Gates(width) | Self::Reshape(width), _) => Some(*width),
        }
    }

    /// Whether its first output can be written as products with [`Layout::Turned`] read it.
    pub(super) fn turns(&self) -> bool {
        match self {
            Self::Product(weights) => weights.turns(),
            Self::Attention(_) | Self::Normalisation(_) => true,
            _ => false,
        }
    }
}

impl Kind {
    /// `number`: the value of the number that it needs; `own`: what members do to its input before. `None`: it has none, or nothing is to be done.
    pub(super) fn new(
        work: Work,
        number: Option<usize>,
        own: Option<Arc<Normalisation>>,
        members: usize,
    ) -> Option<Self> {
        Some(match work {
            Work::Product(weights) => {
                let panel = (weights.bytes() / weights.panel_count().max(1)).max(1);
                Self::Product {
                    panels: PIECE.div_ceil(panel),
                    weights,
                    own,
                }
            }
            Work::Attention(attention) => Self::Attention {
                attention,
                oldest: number?,
            },
            Work::Convolution(convolution) => Self::Convolution(convolution),
            Work::Normalisation(normalisation) => Self::Normalisation { normalisation, members },
            Work::Subsampling(subsampling) => Self::Subsampling(subsampling),
            Work::Meeting(width) => Self::Meeting { width, members },
            Work::Gates(units) => Self::Gates { units, members },
            Work::Reshape(_) => return None,
        })
    }
}

impl Step {
    /// Whether it reads what nobody has looked at since the last run.
    pub(super) fn reads_afar(&self) -> bool {
        matches!(self.kind, Kind::Product { .. } | Kind::Attention { .. })
    }

    /// Asks memory for what member `member` of so many will read of that first.
    pub(super) fn ask_for(&self, member: usize, members: usize, buffers: &Buffers) {
        match &self.kind {
            Kind::Product { weights, panels, .. } => {
                let pieces = weights.panel_count().div_ceil(*panels);
                weights.ask_for(member * pieces / members * panels);
            }
            Kind::Attention { attention, .. } => {
                let (keys, _) = buffers.place(self.inputs[1]);
                attention.ask_for(member * attention.sizes.heads / members, keys);
            }
            _ => {}
        }
    }

    /// Finds the lengths of what it gives, of those of what it gets.
    pub(super) fn find_lengths(&self, buffers: &mut Buffers) -> Result<(), Misfit> {
        let known = self.inputs.iter().map(|place| buffers.length(place.value()));
        let known: Vec<usize> = known.collect();
        let length = |index: usize| known[index];
        let rows = |index: usize, width: usize| -> Result<usize, Misfit> {
            let length = length(index);
            match width > 0 && length.is_multiple_of(width) {
                true => Ok(length / width),
                false => Err(Misfit::Width),
            }
        };
        let lengths = match &self.kind {
            Kind::Product { weights, own, .. } => {
                if own.is_some() {
                    buffers.keep_own(length(0));
                }
                let all = rows(0, weights.depth())?
                    .checked_mul(weights.columns())
                    .ok_or(Misfit::Sizes)?;
                if self.inputs.len() > 1 && length(1) != all {
                    return Err(Misfit::Sizes);
                }
                [all, 0, 0]
            }
            Kind::Attention { attention, .. } => [attention.sizes.frames * attention.sizes.all(), length(1), length(3)],
            Kind::Convolution(convolution) => {
                let frames = rows(0, 2 * convolution.channels())?;
                [frames * convolution.channels(), length(1), 0]
            }
            Kind::Normalisation { normalisation, .. } => {
                [rows(0, normalisation.width())? * normalisation.width(), 0, 0]
            }
            Kind::Subsampling(subsampling) => {
                let sizes = subsampling.sizes(length(0), length(1)).ok_or(Misfit::Sizes)?;
                [sizes.output[0] * sizes.output[1] * subsampling.channels(), 0, 0]
            }
            Kind::Meeting { width, .. } => [rows(0, *width)? * width, 0, 0],
            Kind::Gates { units, .. } if length(2) == *units => [*units, *units, 0],
            Kind::Gates { .. } => return Err(Misfit::Sizes),
            Kind::Turn { width, .. } => [rows(0, *width)? * width, 0, 0],
            Kind::Digits(weights) => [rows(0, weights.depth())? * weights.depth(), 0, 0],
        };
        for (output, length) in self.outputs.iter().zip(lengths) {
            buffers.set_length(output.value(), length);
        }
        Ok(())
    }

    /// Sizes of output `number`, of so many values.
    pub(super) fn sizes(&self, number: usize, length: usize) -> Sizes {
        let rows = |width: usize| Sizes::Rows {
            rows: length / width.max(1),
            width,
        };
        match (&self.kind, number) {
            (Kind::Product { weights, .. }, _) => rows(weights.columns()),
            (Kind::Attention { attention, .. }, 0) => rows(attention.sizes.all()),
            // Keys, then values.
            (Kind::Attention { .. }, _) => Sizes::Like(self.inputs[2 * number - 1].value()),
            (Kind::Convolution(convolution), 0) => rows(convolution.channels()),
            (Kind::Convolution(_), _) => Sizes::Like(self.inputs[1].value()),
            (Kind::Normalisation { normalisation, .. }, _) => rows(normalisation.width()),
            (Kind::Subsampling(subsampling), _) => rows(subsampling.channels()),
            (Kind::Meeting { width, .. }, _) => rows(*width),
            // The cells have the sizes of the state, too.
            (Kind::Gates { .. }, _) => Sizes::Like(self.inputs[2].value()),
            (Kind::Turn { width, .. }, _) => rows(*width),
            (Kind::Digits(weights), _) => rows(weights.depth()),
        }
    }

    /// Whether what it gets fits what it is made of.
    pub(super) fn fits(&self, buffers: &Buffers) -> bool {
        let length = |index: usize| buffers.length(self.inputs[index].value());
        match &self.kind {
            Kind::Attention { attention, oldest } => {
                attention.takes_lengths(std::array::from_fn(length), buffers.number(*oldest))
            }
            Kind::Convolution(convolution) => convolution.takes_lengths(length(0), length(1)),
            Kind::Meeting { width, .. } => length(1) == *width,
            Kind::Gates { .. } => lstm_cell::are_whole([length(0), length(1)], length(2)),
            _ => true,
        }
    }

    /// Into how many pieces it can be cut.
    pub(super) fn pieces(&self, buffers: &Buffers) -> usize {
        let length = || buffers.length(self.inputs[0].value());
        match &self.kind {
            Kind::Product { weights, panels, .. } => weights.panel_count().div_ceil(*panels),
            Kind::Attention { attention, .. } => attention.sizes.heads,
            Kind::Convolution(convolution) => convolution.pieces(),
            Kind::Normalisation { normalisation, members } => (length() / normalisation.width()).min(*members),
            Kind::Subsampling(subsampling) => {
                let sizes = subsampling.sizes(length(), buffers.length(self.inputs[1].value()));
                sizes.map_or(0, |sizes| sizes.output[0])
            }
            Kind::Meeting { width, members } => (length() / width).min(*members),
            Kind::Turn { width, members } | Kind::Gates { units: width, members } => {
                (width / COLUMNS).clamp(1, *members)
            }
            Kind::Digits(_) => 1,
        }
    }
}
