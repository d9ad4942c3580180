// SPDX-License-Identifier: MIT OR Apache-2.0

//! Enumerations of the element's properties.

use gst::glib;

use nemostt::{
    Aggregation, DecoderKind, GraphOptimization, Measure, PrecisionChoice,
    cues::CueMode,
    text::{Capitalize, LowConfidence, ProfanityAction},
};

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

/// Values of property `remote-fallback`.
#[cfg(feature = "triton")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttRemoteFallback")]
pub enum NemoSttRemoteFallback {
    /// The encoder runs on the CPU.
    #[default]
    #[enum_value(
        name = "CPU: the encoder runs here, and text goes on; the stream returns when a server is back",
        nick = "cpu"
    )]
    Cpu,
    /// The stream waits.
    #[enum_value(name = "None: audio waits for a server, and text is late", nick = "none")]
    None,
}

#[cfg(feature = "triton")]
impl From<NemoSttRemoteFallback> for nemostt::RemoteFallback {
    fn from(fallback: NemoSttRemoteFallback) -> Self {
        match fallback {
            NemoSttRemoteFallback::Cpu => Self::Cpu,
            NemoSttRemoteFallback::None => Self::None,
        }
    }
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

/// Values of property `confidence-method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttConfidenceMethod")]
pub enum NemoSttConfidenceMethod {
    /// The probability of the token.
    #[default]
    #[enum_value(name = "The probability of the token", nick = "probability")]
    Probability,
    /// The highest probability.
    #[enum_value(name = "The highest probability in the frame, normalized", nick = "max-prob")]
    MaxProb,
    /// Gibbs entropy, linear.
    #[enum_value(name = "Gibbs entropy, linearly normalized", nick = "entropy-gibbs-lin")]
    EntropyGibbsLin,
    /// Gibbs entropy, exponential.
    #[enum_value(name = "Gibbs entropy, exponentially normalized", nick = "entropy-gibbs-exp")]
    EntropyGibbsExp,
    /// Tsallis entropy, linear.
    #[enum_value(name = "Tsallis entropy, linearly normalized", nick = "entropy-tsallis-lin")]
    EntropyTsallisLin,
    /// Tsallis entropy, exponential.
    #[enum_value(
        name = "Tsallis entropy, exponentially normalized: NeMo's default",
        nick = "entropy-tsallis-exp"
    )]
    EntropyTsallisExp,
    /// Rényi entropy, linear.
    #[enum_value(name = "Renyi entropy, linearly normalized", nick = "entropy-renyi-lin")]
    EntropyRenyiLin,
    /// Rényi entropy, exponential.
    #[enum_value(name = "Renyi entropy, exponentially normalized", nick = "entropy-renyi-exp")]
    EntropyRenyiExp,
}

impl From<NemoSttConfidenceMethod> for Measure {
    fn from(method: NemoSttConfidenceMethod) -> Self {
        match method {
            NemoSttConfidenceMethod::Probability => Self::Probability,
            NemoSttConfidenceMethod::MaxProb => Self::MaxProb,
            NemoSttConfidenceMethod::EntropyGibbsLin => Self::EntropyGibbsLin,
            NemoSttConfidenceMethod::EntropyGibbsExp => Self::EntropyGibbsExp,
            NemoSttConfidenceMethod::EntropyTsallisLin => Self::EntropyTsallisLin,
            NemoSttConfidenceMethod::EntropyTsallisExp => Self::EntropyTsallisExp,
            NemoSttConfidenceMethod::EntropyRenyiLin => Self::EntropyRenyiLin,
            NemoSttConfidenceMethod::EntropyRenyiExp => Self::EntropyRenyiExp,
        }
    }
}

/// Values of property `confidence-aggregation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttConfidenceAggregation")]
pub enum NemoSttConfidenceAggregation {
    /// Geometric mean.
    #[default]
    #[enum_value(name = "Geometric mean of the tokens", nick = "geometric-mean")]
    GeometricMean,
    /// Arithmetic mean.
    #[enum_value(name = "Arithmetic mean of the tokens", nick = "mean")]
    Mean,
    /// The lowest.
    #[enum_value(name = "The token with the lowest confidence: NeMo's default", nick = "min")]
    Min,
    /// The highest.
    #[enum_value(name = "The token with the highest confidence", nick = "max")]
    Max,
    /// The product.
    #[enum_value(name = "Product of the tokens", nick = "product")]
    Product,
}

impl From<NemoSttConfidenceAggregation> for Aggregation {
    fn from(aggregation: NemoSttConfidenceAggregation) -> Self {
        match aggregation {
            NemoSttConfidenceAggregation::GeometricMean => Self::GeometricMean,
            NemoSttConfidenceAggregation::Mean => Self::Mean,
            NemoSttConfidenceAggregation::Min => Self::Min,
            NemoSttConfidenceAggregation::Max => Self::Max,
            NemoSttConfidenceAggregation::Product => Self::Product,
        }
    }
}

/// Values of property `low-confidence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttLowConfidence")]
pub enum NemoSttLowConfidence {
    /// A mark in their place.
    #[default]
    #[enum_value(name = "[...] takes the place of one or several of them", nick = "mask")]
    Mask,
    /// Nothing.
    #[enum_value(name = "They are left out", nick = "drop")]
    Drop,
}

impl From<NemoSttLowConfidence> for LowConfidence {
    fn from(action: NemoSttLowConfidence) -> Self {
        match action {
            NemoSttLowConfidence::Mask => Self::Mask,
            NemoSttLowConfidence::Drop => Self::Drop,
        }
    }
}

/// Values of property `profanity-action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttProfanityAction")]
pub enum NemoSttProfanityAction {
    /// Asterisks.
    #[default]
    #[enum_value(name = "All letters become asterisks", nick = "mask")]
    Mask,
    /// Asterisks after the first letter.
    #[enum_value(name = "All letters but the first become asterisks", nick = "mask-tail")]
    MaskTail,
    /// Nothing.
    #[enum_value(name = "They are left out", nick = "remove")]
    Remove,
}

impl From<NemoSttProfanityAction> for ProfanityAction {
    fn from(action: NemoSttProfanityAction) -> Self {
        match action {
            NemoSttProfanityAction::Mask => Self::Mask,
            NemoSttProfanityAction::MaskTail => Self::MaskTail,
            NemoSttProfanityAction::Remove => Self::Remove,
        }
    }
}

/// Values of property `capitalize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttCapitalize")]
pub enum NemoSttCapitalize {
    /// As the model writes.
    #[default]
    #[enum_value(name = "As the model writes", nick = "none")]
    None,
    /// The first word of each sentence.
    #[enum_value(name = "The first word of each sentence, and the English \"I\"", nick = "sentence")]
    Sentence,
}

impl From<NemoSttCapitalize> for Capitalize {
    fn from(capitalize: NemoSttCapitalize) -> Self {
        match capitalize {
            NemoSttCapitalize::None => Self::None,
            NemoSttCapitalize::Sentence => Self::Sentences,
        }
    }
}
