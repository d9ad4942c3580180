// SPDX-License-Identifier: MIT OR Apache-2.0

//! Decoding, greedy or with a beam: scores of a chunk in, tokens with their frames and probabilities out.

mod argmax;
mod beam;
mod config;
mod ctc;
mod rnnt;

pub(crate) use beam::{CommitPolicy, CtcBeam, Fusion, PrefixScorer, RnntBeam, TokenSink};
pub use config::{BeamConfig, DecodingMethod};
pub(crate) use ctc::{Ctc, CtcSnapshot, Emission};
pub(crate) use rnnt::{Rnnt, TransducerScorer};
