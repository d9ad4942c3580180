// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why a graph cannot be used, and what to do about it.

use crate::ElementType;

/// Why a graph cannot be used. The messages follow "… is not a usable model: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Not an ONNX file, or a truncated one.
    #[error("it is truncated or not an ONNX file ({0}); download or export it again")]
    NotOnnx(String),

    /// A known kind of file that is not a graph, such as a checkpoint or a web page.
    #[error("it is {what}: {cure}")]
    NotAGraph {
        /// The kind of file.
        what: &'static str,
        /// How to get a graph instead.
        cure: &'static str,
    },

    /// An ONNX graph in none of the known layouts.
    #[error(
        "it has {inputs}, and is not a streaming NeMo graph in a known layout (NeMo, sherpa-onnx, parakeet-rs, \
         onnxruntime-genai, six-input)"
    )]
    UnknownLayout {
        /// Its inputs, in words.
        inputs: String,
    },

    /// The features are normalized over the whole recording.
    #[error(
        "its features are normalized over the whole recording (normalize: {normalize}), which a stream does not have: \
         it is an offline model. Take a cache-aware streaming one, which is trained with normalize: NA"
    )]
    OfflineFeatures {
        /// The value of NeMo's `normalize`.
        normalize: String,
    },

    /// The attention has unlimited context.
    #[error(
        "its attention sees the whole recording (full context), so it cannot stream. Take a model trained with a \
         limited context (att_context_style: chunked_limited), as the streaming ones are"
    )]
    FullContext,

    /// The left context is not a multiple of the chunk.
    #[error(
        "its left context of {left} frames is not a multiple of its chunk of {chunk}: NeMo's mask then splits the chunk and \
         halves the lookahead. Export it with set_default_att_context_size([left, R]) where left % (R + 1) == 0"
    )]
    SplitChunks {
        /// Left context in encoder frames.
        left: usize,
        /// Lookahead plus one, in encoder frames.
        chunk: usize,
    },

    /// An unsupported kind of attention or mask.
    #[error("it uses {what}, which is not supported; take a model with rel_pos and chunked_limited attention")]
    Attention {
        /// The kind.
        what: &'static str,
    },

    /// A multitalker model, which needs to know who speaks.
    #[error(
        "it takes {input}: a multitalker model, which needs a diarization model to tell it who speaks when. Take a model for \
         one speaker"
    )]
    Multitalker {
        /// The input for the speaker.
        input: String,
    },

    /// A token-and-duration transducer (TDT), or another unsupported head.
    #[error(
        "its joint has {classes} outputs for {tokens} tokens and blank, {extra} more than an RNN-T: a token-and-duration \
         (TDT) or another head. Only RNN-T and CTC are supported; take a model with one of them"
    )]
    OtherHead {
        /// Outputs of the joint.
        classes: usize,
        /// Tokens of the vocabulary.
        tokens: usize,
        /// Outputs that are neither tokens nor blank.
        extra: usize,
    },

    /// The batch size was fixed at export.
    #[error(
        "its {tensor} has a batch size fixed to {batch}; a stream needs batch size 1 or a dynamic axis. Export it with \
         dynamic axes, NeMo's default"
    )]
    FixedBatch {
        /// The tensor.
        tensor: String,
        /// Its batch size.
        batch: usize,
    },

    /// An input or output is missing.
    #[error("it has no {kind} {tensor}")]
    Missing {
        /// `input` or `output`.
        kind: &'static str,
        /// The tensor.
        tensor: String,
    },

    /// An input or output has the wrong element type or rank.
    #[error("its {tensor} is {found} with {axes} axes; expected {expected} with {expected_axes}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// Its element type.
        found: ElementType,
        /// Its rank.
        axes: usize,
        /// The expected element type.
        expected: ElementType,
        /// The expected rank.
        expected_axes: usize,
    },

    /// Two tensors contradict each other.
    #[error("{what}: the file is corrupt, or combined from two exports. Export it again")]
    Contradiction {
        /// Which ones, and how.
        what: String,
    },

    /// Encoder, prediction network and joint are not of one model.
    #[error(
        "it takes {what} of width {takes}, but those of the {giver} have width {gives}: it belongs to another model. Take \
         all files from one export"
    )]
    OtherModel {
        /// What it takes: encoder frames or predictions.
        what: &'static str,
        /// The width that it takes.
        takes: usize,
        /// The graph that computes them.
        giver: &'static str,
        /// The width that this graph computes.
        gives: usize,
    },

    /// A parameter cannot be read from the graph.
    #[error("{0} cannot be inferred from it, unlike from NeMo's exports")]
    CannotInfer(String),

    /// External weights cannot be read.
    #[error("its weights in {location} cannot be read: {reason}. Put that file beside it, where the export wrote it")]
    ExternalData {
        /// The file's name in the graph.
        location: String,
        /// The reason.
        reason: String,
    },

    /// The language prompts of a multilingual model are unknown or invalid.
    #[error("{0}")]
    Prompt(String),

    /// The graph is inconsistent, or has an invalid value.
    #[error("{what}: the file is corrupt; download or export it again")]
    Damaged {
        /// What is wrong.
        what: String,
    },

    /// An unknown custom operator.
    #[error(
        "it uses the operator {operator} of {domain}, which is neither ONNX's nor ONNX Runtime's: the file is corrupt, or \
         needs another program. Download or export it again"
    )]
    Operator {
        /// The operator.
        operator: String,
        /// Its domain.
        domain: String,
    },

    /// ONNX Runtime rejects the graph, with this message.
    #[error("ONNX Runtime rejects it: {0}")]
    Refused(String),

    /// The parameters of the front end are invalid or not supported.
    #[error("{0}")]
    FrontEnd(String),

    /// A value of `nemostt.json`, or of equivalent metadata, is out of range.
    #[error("its setting {key} is {value}, expected {expected}; correct nemostt.json, or export the model again")]
    Bounds {
        /// Its key.
        key: String,
        /// The value.
        value: String,
        /// The valid range.
        expected: String,
    },

    /// `nemostt.json` cannot be parsed.
    #[error("it cannot be read as JSON with the fields of docs/export.md: {0}")]
    Settings(String),
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => f.write_str("float32"),
            Self::F16 => f.write_str("float16"),
            Self::I32 => f.write_str("int32"),
            Self::I64 => f.write_str("int64"),
            Self::Other(code) => write!(f, "ONNX element type {code}"),
        }
    }
}
