// SPDX-License-Identifier: MIT OR Apache-2.0

//! What each kind of step does.

use std::{ops::RangeInclusive, sync::Arc};

use super::{
    Misfit, Sizes, Work,
    buffers::{Buffers, Own, Place},
    steps::Step,
};
use crate::kernels::{
    attention::{self, Attention, Cache},
    convolution::Convolution,
    gates::{self, GATES},
    matrix::{Layout, Output, Rows, Target, Turned, TurnedOutput, Weights},
    meeting::meet,
    normalisation::Normalisation,
    subsampling::Subsampling,
};

/// Bytes of weights that are one piece of work, at least: that takes a thread a few microseconds.
const PIECE: usize = 32 << 10;

/// Columns that are worked on together, at least: whole vectors, however long they are.
const COLUMNS: usize = 32;

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

/// One step of an LSTM layer.
fn gates<'a>(of_input: &'a [f32], of_state: &'a [f32], cells: &'a [f32]) -> gates::Step<'a> {
    gates::Step {
        sums: [of_input, of_state],
        cells,
    }
}

/// Piece `piece` of `pieces` equal ones of `count`.
fn share(piece: usize, pieces: usize, count: usize) -> std::ops::Range<usize> {
    piece * count / pieces..(piece + 1) * count / pieces
}

/// The columns of rows of that width that are piece `piece` of `pieces`. They are cut between whole vectors only: what is left of
/// one is computed in another way, and bits must not depend on how many pieces there are.
fn columns(piece: usize, pieces: usize, width: usize) -> std::ops::Range<usize> {
    let groups = share(piece, pieces, width / COLUMNS);
    let end = match piece + 1 == pieces {
        true => width,
        false => groups.end * COLUMNS,
    };
    groups.start * COLUMNS..end
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
        // SAFETY: nobody writes: no piece is begun yet.
        #[allow(unsafe_code)]
        let input = |index: usize| unsafe { buffers.read(self.inputs[index]) };
        match &self.kind {
            Kind::Attention { attention, oldest } => {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                let step = unsafe { self.attention(buffers, *oldest) };
                attention.takes(&step)
            }
            Kind::Convolution(convolution) => convolution.takes(input(0), input(1)),
            Kind::Meeting { width, .. } => input(1).len() == *width,
            Kind::Gates { .. } => gates(input(0), input(1), input(2)).is_whole(),
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

    /// Does piece `piece`.
    ///
    /// # Safety
    /// Each piece may be done once; nobody may write what it reads, or read or write what it writes; `own` must be of whoever
    /// does it.
    #[allow(unsafe_code)]
    pub(super) unsafe fn work(&self, piece: usize, buffers: &Buffers, own: &mut Own) {
        // SAFETY: the caller's promise.
        let input = |index: usize| unsafe { buffers.read(self.inputs[index]) };
        let output = |index: usize, width: usize| {
            let (start, length) = buffers.place(self.outputs[index]);
            // SAFETY: as above.
            unsafe { Output::at(start, length, width) }
        };
        let turned = |width: usize| {
            let (start, length) = buffers.place(self.outputs[0]);
            // SAFETY: as above.
            unsafe { TurnedOutput::at(start, length, width) }
        };
        let is_turned = matches!(self.outputs[0], Place::Ready(_));
        let pieces = self.pieces(buffers);
        // SAFETY: the caller's promise is all that these demand.
        unsafe {
            match &self.kind {
                Kind::Product {
                    weights,
                    panels,
                    own: before,
                } => {
                    let rows = match (weights.reads(), before) {
                        (Layout::Turned, before) => {
                            let values = match before {
                                Some(normalisation) => own.normalised(normalisation, input(0)),
                                None => input(0),
                            };
                            Rows::Integers(Turned::new(values, values.len() / weights.depth()))
                        }
                        (Layout::Rows, _) => Rows::Floats(input(0)),
                        (Layout::Digits, _) => match buffers.room(self.inputs[0].value()).as_ref() {
                            Some(room) => room.digits(),
                            None => return,
                        },
                    };
                    let more = (self.inputs.len() > 1).then(|| input(1));
                    let panels = piece * panels..((piece + 1) * panels).min(weights.panel_count());
                    match is_turned {
                        true => {
                            let output = turned(weights.columns());
                            weights.multiply_panels(panels, rows, more, Target::Turned(&output));
                        }
                        false => {
                            let output = output(0, weights.columns());
                            weights.multiply_panels(panels, rows, more, Target::Rows(&output));
                        }
                    }
                }
                Kind::Attention { attention, oldest } => {
                    let all = attention.sizes.all();
                    let step = self.attention(buffers, *oldest);
                    let (plain, ready);
                    let output = match is_turned {
                        true => {
                            ready = turned(all);
                            Target::Turned(&ready)
                        }
                        false => {
                            plain = output(0, all);
                            Target::Rows(&plain)
                        }
                    };
                    attention.attend(piece, &step, output);
                }
                Kind::Convolution(convolution) => {
                    let outputs = (output(0, convolution.channels()), output(1, convolution.channels()));
                    convolution.convolve(piece, (input(0), input(1)), (&outputs.0, &outputs.1));
                }
                Kind::Normalisation { normalisation, .. } => {
                    let (width, rows) = (normalisation.width(), input(0));
                    let output = output(0, width);
                    for row in share(piece, pieces, rows.len() / width) {
                        normalisation.normalise(&rows[row * width..][..width], output.row(row));
                    }
                }
                Kind::Subsampling(subsampling) => {
                    let (frames, mask) = (input(0), input(1));
                    let bins = subsampling
                        .sizes(frames.len(), mask.len())
                        .map_or(0, |sizes| sizes.output[1]);
                    let output = output(0, bins * subsampling.channels());
                    subsampling.convolve(piece, (frames, mask), &output);
                }
                Kind::Meeting { width, .. } => {
                    let (frames, prediction) = (input(0), input(1));
                    let output = output(0, *width);
                    for row in share(piece, pieces, frames.len() / width) {
                        meet(&frames[row * width..][..*width], prediction, output.row(row));
                    }
                }
                Kind::Gates { units, .. } => {
                    let units = columns(piece, pieces, *units);
                    let part = |index: usize| {
                        let (start, length) = buffers.place(self.outputs[index]);
                        assert!(units.end <= length);
                        std::slice::from_raw_parts_mut(start.add(units.start), units.len())
                    };
                    gates(input(0), input(1), input(2)).apply(units.clone(), part(0), part(1));
                }
                Kind::Turn { width, .. } => {
                    let columns = columns(piece, pieces, *width);
                    // There may be no rows at all.
                    let rows = input(0).get(columns.start..).unwrap_or_default();
                    turned(*width).put_all(columns.start, (rows, *width), columns.len());
                }
                Kind::Digits(weights) => {
                    if let Some(room) = buffers.room(self.outputs[0].value()).as_mut() {
                        weights.prepare(input(0), room);
                    }
                }
            }
        }
    }
}

impl Step {
    /// What an attention gets.
    ///
    /// # Safety
    /// As [`work`](Self::work).
    #[allow(unsafe_code)]
    unsafe fn attention<'a>(&self, buffers: &'a Buffers, oldest: usize) -> attention::Step<'a> {
        // SAFETY: the caller's promise. Caches are inputs and outputs of the chain, and an output is the same tensor as the
        // input, or another one.
        unsafe {
            let input = |index: usize| buffers.read(self.inputs[index]);
            let cache = |input: usize, output: usize| {
                let ((now, length), (next, _)) =
                    (buffers.place(self.inputs[input]), buffers.place(self.outputs[output]));
                Cache::new(now, next, length)
            };
            attention::Step {
                queries: input(0),
                keys: (cache(1, 1), input(2)),
                values: (cache(3, 2), input(4)),
                mask: input(5),
                oldest: buffers.number(oldest),
            }
        }
    }
}
