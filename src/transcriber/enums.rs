// SPDX-License-Identifier: MIT OR Apache-2.0

//! Enumerations of the element's properties.

use gst::glib;

use nemostt::{DecoderKind, GraphOptimization, PrecisionChoice, cues::CueMode};

/// Values of property `decoder`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttDecoder")]
pub enum NemoSttDecoder {
    /// RNN-T if the model has it, else CTC.
    #[default]
    #[enum_value(name = "RNN-T if the model has it, else CTC", nick = "auto")]
    Auto,
    /// RNN-T.
    #[enum_value(name = "RNN-T: fewest errors", nick = "rnnt")]
    Rnnt,
    /// CTC.
    #[enum_value(name = "CTC: least work", nick = "ctc")]
    Ctc,
}

impl From<NemoSttDecoder> for DecoderKind {
    fn from(decoder: NemoSttDecoder) -> Self {
        match decoder {
            NemoSttDecoder::Auto => Self::Auto,
            NemoSttDecoder::Rnnt => Self::Rnnt,
            NemoSttDecoder::Ctc => Self::Ctc,
        }
    }
}

/// Values of property `decoding-method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttDecodingMethod")]
pub enum NemoSttDecodingMethod {
    /// The best token at each place.
    #[default]
    #[enum_value(name = "Greedy: the best token at each place, known at once", nick = "greedy")]
    Greedy,
    /// The best of several transcripts.
    #[enum_value(
        name = "Beam search: the best of several transcripts, decided when the others are ruled out",
        nick = "beam"
    )]
    Beam,
}

/// Values of property `graph-optimization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttGraphOptimization")]
pub enum NemoSttGraphOptimization {
    /// All exact rewrites.
    #[default]
    #[enum_value(
        name = "All exact rewrites: fixed shapes, cached keys and values, folded masks and positions",
        nick = "all"
    )]
    All,
    /// The graph as exported.
    #[enum_value(name = "The graph as exported: slower, for comparison", nick = "none")]
    None,
}

impl From<NemoSttGraphOptimization> for GraphOptimization {
    fn from(optimization: NemoSttGraphOptimization) -> Self {
        match optimization {
            NemoSttGraphOptimization::All => Self::All,
            NemoSttGraphOptimization::None => Self::None,
        }
    }
}

/// Values of property `precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttPrecision")]
pub enum NemoSttPrecision {
    /// The precision of the model file.
    #[default]
    #[enum_value(name = "The precision of the model file", nick = "auto")]
    Auto,
    /// Float32.
    #[enum_value(name = "Float32, unless the model file is 8-bit", nick = "fp32")]
    Fp32,
    /// 8-bit integers.
    #[enum_value(
        name = "8-bit matrix products in the encoder, quantized from float32 at load: faster, a few words differ",
        nick = "int8"
    )]
    Int8,
}

impl From<NemoSttPrecision> for PrecisionChoice {
    fn from(precision: NemoSttPrecision) -> Self {
        match precision {
            NemoSttPrecision::Auto => Self::Auto,
            NemoSttPrecision::Fp32 => Self::Fp32,
            NemoSttPrecision::Int8 => Self::Int8,
        }
    }
}

/// Values of property `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttOutput")]
pub enum NemoSttOutput {
    /// One word per buffer.
    #[default]
    #[enum_value(name = "One word per buffer and final message", nick = "words")]
    Words,
    /// One utterance per buffer.
    #[enum_value(name = "One utterance per buffer and final message", nick = "utterances")]
    Utterances,
    /// One caption cue per buffer.
    #[enum_value(
        name = "One caption cue per buffer and final message: lines that can be read, by the cue- properties",
        nick = "cues"
    )]
    Cues,
}

/// Values of property `cue-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttCueMode")]
pub enum NemoSttCueMode {
    /// A cue appears as a whole.
    #[default]
    #[enum_value(name = "A cue appears as a whole and replaces the one before it", nick = "pop-on")]
    PopOn,
    /// Lines appear at the bottom.
    #[enum_value(name = "Lines appear at the bottom and move those before them up", nick = "roll-up")]
    RollUp,
    /// Words appear one after the other.
    #[enum_value(
        name = "Words appear one after the other, until the screen is full",
        nick = "paint-on"
    )]
    PaintOn,
}

impl From<NemoSttCueMode> for CueMode {
    fn from(mode: NemoSttCueMode) -> Self {
        match mode {
            NemoSttCueMode::PopOn => Self::PopOn,
            NemoSttCueMode::RollUp => Self::RollUp,
            NemoSttCueMode::PaintOn => Self::PaintOn,
        }
    }
}

/// Values of property `overload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttOverload")]
pub enum NemoSttOverload {
    /// Transcribe everything, however late.
    #[default]
    #[enum_value(name = "Transcribe everything, however late: upstream blocks", nick = "block")]
    Block,
    /// Skip audio until up to date.
    #[enum_value(
        name = "Skip audio until caught up: words are lost, a gap takes their place",
        nick = "skip"
    )]
    Skip,
}
