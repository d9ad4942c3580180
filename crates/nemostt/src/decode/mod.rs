// SPDX-License-Identifier: MIT OR Apache-2.0

//! Decoding, greedy or with a beam: scores of a chunk in, tokens with their frames and probabilities out.

mod argmax;
mod beam;
mod ctc;
mod rnnt;

pub(crate) use beam::{CommitPolicy, CtcBeam, Fusion, PredictionNetwork, Ranked, RnntBeam, TokenSink};
pub(crate) use ctc::{Ctc, CtcSnapshot};
pub(crate) use rnnt::{Rnnt, TransducerScorer};
