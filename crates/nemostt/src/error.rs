// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can go wrong, said so that the reader knows what to do next.

use std::path::PathBuf;

use nemostt_compiler::GraphError;

/// An error of the recogniser. Its text names what was found, what was expected and the cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// ONNX Runtime's shared library is missing, too old or not a library.
    #[error(
        "ONNX Runtime could not be loaded ({reason}); looked at: {}. Install ONNX Runtime {minimum} or newer and set \
         ORT_DYLIB_PATH to its libonnxruntime.so, or put that file beside the plugin",
        .tried.join(", ")
    )]
    RuntimeMissing {
        /// Where it was looked for.
        tried: Vec<String>,
        /// Oldest release that works.
        minimum: String,
        /// Why the last of them failed.
        reason: String,
    },

    /// ONNX Runtime refused a graph or failed while running it.
    #[error("ONNX Runtime failed to {doing}: {reason}")]
    Runtime {
        /// What was being done.
        doing: String,
        /// ONNX Runtime's own words.
        reason: String,
    },

    /// The device that was asked for is not to be had.
    #[error(
        "device \"{device}\" is not available: {reason}. Use device=cpu, or an ONNX Runtime built with CUDA \
         (PyPI: onnxruntime-gpu) whose library ORT_DYLIB_PATH names, with the CUDA libraries it needs"
    )]
    Device {
        /// The device.
        device: &'static str,
        /// Why not.
        reason: String,
    },

    /// A file or directory could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// The directory does not hold a model.
    #[error(
        "{} holds no {missing}. Expected NeMo's export (encoder-*.onnx with decoder_joint-*.onnx, or one CTC graph) or \
         that of sherpa-onnx, parakeet-rs or onnxruntime-genai, and tokens.txt, vocab.txt, tokenizer.model or \
         tokenizer.json beside it",
        .path.display()
    )]
    NoModel {
        /// The directory.
        path: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },

    /// The directory holds more than one graph for the same job.
    #[error(
        "{} holds more than one {what} ({}); point model-path at the one to use",
        .path.display(), .found.join(", ")
    )]
    Ambiguous {
        /// The directory.
        path: PathBuf,
        /// Which job.
        what: &'static str,
        /// The candidates.
        found: Vec<String>,
    },

    /// The export has no encoder caches: every chunk would be heard as if nothing had been said before.
    #[error(
        "{path} was exported without cache tensors (no input cache_last_channel): streaming with it repeats one token for \
         ever. Export it again after `model.set_export_config({{'cache_support': True}})`"
    )]
    MissingCaches {
        /// The graph.
        path: String,
    },

    /// The graph is not one that this recogniser can run.
    #[error("{path} is not a usable model: {fault}")]
    BadModel {
        /// The graph.
        path: String,
        /// What is wrong, what was expected and what to do.
        #[source]
        fault: GraphError,
    },

    /// There is not enough memory for the model or a stream.
    #[error("not enough memory to {doing}: {reason}. Take a smaller model or precision, or end other programs")]
    OutOfMemory {
        /// What it was wanted for.
        doing: String,
        /// What the system or ONNX Runtime said.
        reason: String,
    },

    /// The language is not one of the model's.
    #[error("language \"{requested}\" is not one of this model's: {}", .allowed.join(", "))]
    Language {
        /// What was asked for.
        requested: String,
        /// What there is.
        allowed: Vec<String>,
    },

    /// The vocabulary cannot be read or does not fit the model.
    #[error("vocabulary {path}: {reason}")]
    Vocabulary {
        /// The vocabulary file.
        path: String,
        /// What is wrong and what was expected.
        reason: String,
    },

    /// The lookahead is not one of the model's.
    #[error("lookahead {requested} ms is not possible with this model; it allows {}", milliseconds(.allowed))]
    Lookahead {
        /// What was asked for, in milliseconds.
        requested: u32,
        /// What there is, in milliseconds.
        allowed: Vec<u32>,
    },

    /// The decoder that was asked for has no graph.
    #[error("decoder \"{requested}\" needs {needs}, which {path} does not hold")]
    Decoder {
        /// What was asked for.
        requested: &'static str,
        /// The graph it needs.
        needs: &'static str,
        /// Where it was looked for.
        path: String,
    },

    /// A graph gave something of another shape than its description promised.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },

    /// The encoder computed something that is no number.
    #[error(
        "the encoder gave a value that is not a number (NaN) on {device}: the model is damaged or its precision too \
         small for its values. Export it again in fp32"
    )]
    NotANumber {
        /// Where it ran.
        device: &'static str,
    },

    /// A snapshot was restored into a stream of another model, or nothing was saved in it.
    #[error(
        "the snapshot does not belong to this stream's model: save it from a stream of the same recognizer before it is \
         restored"
    )]
    OtherSnapshot,

    /// The load was ended by its [`Cancellation`](crate::Cancellation).
    #[error("loading was cancelled")]
    Cancelled,

    /// `exit` was called: nothing is loaded or computed any more.
    #[error("the process is exiting, and nothing more is computed: end streams and loads before `exit` is called")]
    Exiting,

    /// Samples came after the end of the stream.
    #[error("the stream is finished; reset it before it gets more samples")]
    Finished,
}

impl Error {
    /// Whether nobody wants the outcome any more, and nothing else is wrong.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Exiting)
    }
}

/// The result of the recogniser's functions.
pub type Result<T> = std::result::Result<T, Error>;

fn milliseconds(list: &[u32]) -> String {
    let list: Vec<String> = list.iter().map(|ms| format!("{ms} ms")).collect();
    list.join(", ")
}
