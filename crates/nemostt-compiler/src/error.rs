// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why a graph cannot be used, and what to do about it.

use crate::ElementType;

/// What is wrong with a graph. The sentences follow "… is not a usable model: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Not an ONNX file, or one that was cut off.
    #[error("it is truncated or not an ONNX file ({0}); download or export it again")]
    NotOnnx(String),

    /// Something else that people download or export in place of a graph.
    #[error("it is {what}: {cure}")]
    NotAGraph {
        /// What it is.
        what: &'static str,
        /// What to do about it.
        cure: &'static str,
    },

    /// An ONNX graph of something else.
    #[error(
        "it takes {inputs}, which is no streaming graph of NeMo's in any layout known here (NeMo, sherpa-onnx, \
         parakeet-rs, onnxruntime-genai, six-input)"
    )]
    UnknownLayout {
        /// Its inputs.
        inputs: String,
    },

    /// The features need the whole recording.
    #[error(
        "its features are normalised over the whole recording (normalize: {normalize}), which a stream does not have: \
         it is an offline model. Take a cache-aware streaming one, which is trained with normalize: NA"
    )]
    OfflineFeatures {
        /// NeMo's word for the kind of normalisation.
        normalize: String,
    },

    /// Attention over everything.
    #[error(
        "its attention looks at the whole recording (full context), so it cannot stream. Take a model trained with a \
         limited context (att_context_style: chunked_limited), as the streaming ones are"
    )]
    FullContext,

    /// The mask splits chunks.
    #[error(
        "its left context of {left} frames is no multiple of its chunk of {chunk}: NeMo's mask then splits the chunk and \
         halves the lookahead. Export it with set_default_att_context_size([left, R]) where left % (R + 1) == 0"
    )]
    SplitChunks {
        /// Left context in encoder frames.
        left: usize,
        /// Lookahead plus one, in encoder frames.
        chunk: usize,
    },

    /// A kind of attention that the rest of this program was not checked with.
    #[error("it uses {what}, which is not supported; take a model with rel_pos and chunked_limited attention")]
    Attention {
        /// What it uses.
        what: &'static str,
    },

    /// It wants to be told who speaks.
    #[error(
        "it takes {input}: a multitalker model, which needs a diarisation model beside it to say who speaks when. Take a \
         model for one speaker"
    )]
    Multitalker {
        /// The input in question.
        input: String,
    },

    /// A token-and-duration transducer, or another head.
    #[error(
        "its joint scores {classes} classes for {labels} labels and blank: {extra} more, as a token-and-duration (TDT) \
         or another head has. Only RNN-T and CTC heads stream here; take a model with one of them"
    )]
    OtherHead {
        /// Classes that the joint scores.
        classes: usize,
        /// Labels of the vocabulary.
        labels: usize,
        /// Classes that are neither labels nor blank.
        extra: usize,
    },

    /// The batch size was fixed at export.
    #[error(
        "its {tensor} has a batch size fixed to {batch}; one stream needs 1 or a free axis. Export it with dynamic axes, \
         as NeMo does unless told otherwise"
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

    /// An input or output has the wrong type or number of axes.
    #[error("its {tensor} is {found} with {axes} axes; expected {expected} with {expected_axes}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// Its element type.
        found: ElementType,
        /// Its number of axes.
        axes: usize,
        /// The element type it should have.
        expected: ElementType,
        /// The number of axes it should have.
        expected_axes: usize,
    },

    /// Two tensors contradict each other.
    #[error("{what}: the file is damaged, or was put together from two exports. Export it again")]
    Contradiction {
        /// Which, and how.
        what: String,
    },

    /// Prediction network or joint of another model.
    #[error(
        "it takes {what} of width {takes}, but the {giver} gives {gives}: it belongs to another model. Take all files from \
         one export"
    )]
    OtherModel {
        /// What it takes.
        what: &'static str,
        /// The width it takes.
        takes: usize,
        /// Who gives it.
        giver: &'static str,
        /// The width given.
        gives: usize,
    },

    /// A number that the export should hold cannot be found.
    #[error("{0} cannot be told from it, as it can from NeMo's exports")]
    CannotInfer(String),

    /// Weights in a file of their own cannot be read.
    #[error("its weights in {location} cannot be read: {reason}. Put that file beside it, as the export did")]
    ExternalData {
        /// The file as the graph names it.
        location: String,
        /// Why not.
        reason: String,
    },

    /// The prompt of a multilingual model.
    #[error("{0}")]
    Prompt(String),

    /// It contradicts itself, or says what nothing can mean.
    #[error("{what}: the file is damaged; download or export it again")]
    Damaged {
        /// What is wrong.
        what: String,
    },

    /// An operation of somebody's own.
    #[error(
        "it uses the operation {operator} of {domain}, which is neither ONNX's nor ONNX Runtime's: the file is damaged, \
         or needs another program. Download or export it again"
    )]
    Operator {
        /// The operation.
        operator: String,
        /// Whose it is.
        domain: String,
    },

    /// ONNX Runtime's own words.
    #[error("ONNX Runtime refuses it: {0}")]
    Refused(String),

    /// The numbers of the front end make no sense, or are not supported.
    #[error("{0}")]
    FrontEnd(String),

    /// A number of `nemostt.json`, or of metadata that says the same.
    #[error("its setting {key} is {value}, expected {expected}; correct nemostt.json, or export the model again")]
    Bounds {
        /// Which.
        key: String,
        /// What it is.
        value: String,
        /// What can be served.
        expected: String,
    },

    /// A settings file beside the graphs.
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
