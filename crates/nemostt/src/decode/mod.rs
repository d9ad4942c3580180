// SPDX-License-Identifier: MIT OR Apache-2.0

//! Greedy decoding: scores of a chunk in, tokens with their frames and probabilities out.

mod argmax;
mod ctc;
mod rnnt;

pub(crate) use ctc::{Ctc, CtcSnapshot, Emission};
pub(crate) use rnnt::{Rnnt, TransducerScorer};
