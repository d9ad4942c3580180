// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors, with messages that say what to do.

use std::path::PathBuf;

use crate::device::{Device, UnknownDevice};

use nemostt_compiler::GraphError;

/// An error of the recognizer. Messages say what was found, what was expected and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// ONNX Runtime's shared library is missing, too old or not a library.
    #[error(
        "ONNX Runtime could not be loaded ({reason}); tried: {}. Install ONNX Runtime {minimum} or newer and set \
         ORT_DYLIB_PATH to its libonnxruntime.so, or put that file beside the plugin",
        .tried.join(", ")
    )]
    RuntimeMissing {
        /// Files that were tried.
        tried: Vec<String>,
        /// The oldest supported release.
        minimum: String,
        /// Why the last one failed.
        reason: String,
    },

    /// ONNX Runtime rejected a graph or failed while running it.
    #[error("ONNX Runtime failed to {doing}: {reason}")]
    Runtime {
        /// What was being done.
        doing: String,
        /// ONNX Runtime's message.
        reason: String,
    },

    /// The requested device is not available.
    #[error("device \"{device}\" is not available: {reason}. {cure}, or use device=cpu")]
    Device {
        /// The device.
        device: Device,
        /// The reason: the library that is missing, or what ONNX Runtime says.
        reason: String,
        /// What to do.
        cure: String,
    },

    /// The requested device failed while the model was loaded.
    #[error(
        "device \"{device}\" failed to load the model: {reason}. Check its driver and free memory, or use device=cpu"
    )]
    DeviceFailed {
        /// The device.
        device: Device,
        /// What failed, and ONNX Runtime's message.
        reason: String,
    },

    /// There is no device of the requested name.
    #[error(transparent)]
    UnknownDevice(#[from] UnknownDevice),

    /// A file or directory could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A text file is not UTF-8.
    #[error("{}, line {line}, is not UTF-8; convert the file", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },

    /// The directory does not contain a model.
    #[error(
        "{} holds no {missing}. Expected NeMo's export (encoder-*.onnx with decoder_joint-*.onnx, or one CTC graph) or \
         that of sherpa-onnx, parakeet-rs or onnxruntime-genai, and tokens.txt, vocab.txt, tokenizer.model or \
         tokenizer.json beside it",
        .path.display()
    )]
    NoModel {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        missing: &'static str,
    },

    /// The directory contains more than one graph of the same role.
    #[error(
        "{} holds more than one {what} ({}); point model-path at the one to use",
        .path.display(), .found.join(", ")
    )]
    Ambiguous {
        /// The directory.
        path: PathBuf,
        /// The role.
        what: &'static str,
        /// The candidates.
        found: Vec<String>,
    },

    /// The export has no encoder caches: each chunk would be encoded without context.
    #[error(
        "{path} was exported without cache tensors (no input cache_last_channel): streaming with it repeats one token \
         forever. Export it again after `model.set_export_config({{'cache_support': True}})`"
    )]
    MissingCaches {
        /// The graph.
        path: String,
    },

    /// The graph cannot be used.
    #[error("{path} is not a usable model: {fault}")]
    BadModel {
        /// The graph.
        path: String,
        /// What is wrong, what was expected and what to do.
        #[source]
        fault: GraphError,
    },

    /// The encoder's graph cannot be rewritten for an inference server.
    #[error("{path} cannot run on an inference server: {reason}. Exports of tools/export_nemo.py in fp32 or fp16 can")]
    NotServable {
        /// The graph.
        path: String,
        /// Why.
        reason: String,
    },

    /// There is not enough memory for the model or a stream.
    #[error("not enough memory to {doing}: {reason}. Use a smaller model or precision, or close other programs")]
    OutOfMemory {
        /// What needed it.
        doing: String,
        /// The message of the system or of ONNX Runtime.
        reason: String,
    },

    /// All places on the device are taken: see [`Options::max_streams`](crate::Options::max_streams).
    #[error(
        "{taken}: the model was loaded with memory for {streams} streams on its device (max-streams). Load it with more, or end \
         other streams or drop their snapshots"
    )]
    NoPlace {
        /// What was to be placed there.
        taken: &'static str,
        /// Streams that there may be.
        streams: usize,
    },

    /// The model does not support the language.
    #[error("language \"{requested}\" is not one of this model's: {}", .allowed.join(", "))]
    Language {
        /// The requested language.
        requested: String,
        /// The supported languages.
        allowed: Vec<String>,
    },

    /// A phrase to boost, or a list of them, cannot be used.
    #[error("hotwords: {reason}")]
    Hotwords {
        /// The phrase and where it is from, what is wrong, and what was expected.
        reason: String,
    },

    /// A boosting tree of another model was given to a stream.
    #[error(
        "the boosting tree does not belong to this stream's model: build it with the recognizer that created the stream"
    )]
    OtherBoostingTree,

    /// A list of replacements or of profanity cannot be used.
    #[error("{place}: {reason}")]
    TextRules {
        /// The file and line.
        place: String,
        /// What is wrong, what was expected and what to do.
        reason: String,
    },

    /// The exponent of a confidence measure cannot be used.
    #[error("confidence-alpha is {alpha}, expected a number above 0; NeMo's default is 0.33")]
    Confidence {
        /// The exponent.
        alpha: f32,
    },

    /// The decoding method cannot be used.
    #[error("decoding method: {reason}")]
    DecodingMethod {
        /// What is wrong, and what was expected.
        reason: String,
    },

    /// A language model cannot be used.
    #[error("language model {}: {reason}", .path.display())]
    LanguageModel {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what was expected.
        reason: String,
    },

    /// A language model of another model was given to a stream.
    #[error(
        "the language model is for {tokens} tokens, and the stream's model has {expected}: read it with the recognizer that created the stream"
    )]
    OtherLanguageModel {
        /// Tokens that it is for.
        tokens: usize,
        /// Tokens of the stream's model.
        expected: usize,
    },

    /// The vocabulary cannot be read or does not match the model.
    #[error("vocabulary {path}: {reason}")]
    Vocabulary {
        /// The vocabulary file.
        path: String,
        /// What is wrong and what was expected.
        reason: String,
    },

    /// The model does not support the lookahead.
    #[error("lookahead {requested} ms is not possible with this model; it allows {}", milliseconds(.allowed))]
    Lookahead {
        /// The requested lookahead, in milliseconds.
        requested: u32,
        /// The supported lookaheads, in milliseconds.
        allowed: Vec<u32>,
    },

    /// The model has no graph for the requested decoder.
    #[error("decoder \"{requested}\" needs {needs}, which {path} does not hold")]
    Decoder {
        /// The requested decoder.
        requested: &'static str,
        /// The graph that it needs.
        needs: &'static str,
        /// The model.
        path: String,
    },

    /// A tensor has another shape than expected.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// What was expected.
        expected: String,
        /// What was found.
        got: String,
    },

    /// The encoder's output contains NaN.
    #[error(
        "the encoder's output contains a value that is not a number (NaN) on {device}: the model is corrupt, or its precision is \
         too low for its values. Export it again in fp32"
    )]
    NotANumber {
        /// The device.
        device: Device,
    },

    /// A snapshot was restored into a stream of another model, or is empty.
    #[error(
        "the snapshot does not belong to this stream's model: save it from a stream of the same recognizer before it is \
         restored"
    )]
    OtherSnapshot,

    /// The encoder on an inference server could not be used.
    #[cfg(feature = "triton")]
    #[error(transparent)]
    Remote(nemostt_triton::Error),

    /// The encoder on an inference server is another one than the local model's.
    #[cfg(feature = "triton")]
    #[error(
        "the model on Triton at {server} is not the encoder of {model}: {}. Serve what `nemostt triton-repository` makes of this model \
         with the same lookahead, or use the model that is served",
        .differences.join("; ")
    )]
    OtherRemoteModel {
        /// The server.
        server: String,
        /// The local model.
        model: String,
        /// In what they differ.
        differences: Vec<String>,
    },

    /// A call that waited for an inference server was [interrupted](crate::Interrupt).
    #[cfg(feature = "triton")]
    #[error("waiting for the inference server was interrupted")]
    Interrupted,

    /// The load was cancelled with its [`Cancellation`](crate::Cancellation).
    #[error("loading was cancelled")]
    Cancelled,

    /// `exit` was called: models can no longer be loaded or run.
    #[error("the process is exiting, and nothing more is computed: end streams and loads before `exit` is called")]
    Exiting,

    /// A sample cannot be part of audio. Those before it were added to the stream, which goes on with the next call.
    #[error(
        "sample {index} is {value}, expected a number from -1.0 to 1.0 (or a few times as much where a recording is too loud): \
         replace what is corrupt with silence"
    )]
    Sample {
        /// Its position in the stream, from 0.
        index: u64,
        /// NaN, an infinity, or a value beyond [`Stream::MAX_SAMPLE`](crate::Stream::MAX_SAMPLE).
        value: f32,
    },

    /// Samples were added after the end of the stream.
    #[error("the stream is finished; reset it before adding samples")]
    Finished,
}

#[cfg(feature = "triton")]
impl From<nemostt_triton::Error> for Error {
    fn from(error: nemostt_triton::Error) -> Self {
        match error {
            nemostt_triton::Error::Interrupted => Self::Interrupted,
            error => Self::Remote(error),
        }
    }
}

impl Error {
    /// Whether the operation was cancelled or the process is exiting, which is not a failure.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Exiting)
    }
}

/// The result of the recognizer's functions.
pub type Result<T> = std::result::Result<T, Error>;

fn milliseconds(list: &[u32]) -> String {
    let list: Vec<String> = list.iter().map(|ms| format!("{ms} ms")).collect();
    list.join(", ")
}
