// SPDX-License-Identifier: MIT OR Apache-2.0

//! An encoder for an inference server: its graph computes a step of several streams, and the server keeps their caches.

mod identity;
mod tensors;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, path::Path};

use super::{
    Options,
    compile::{compile_specialized, specialize},
    directory::NamedEncoder,
    load::Checked,
    target::Target,
};
use crate::{
    error::{Error, Result},
    memory_guard,
};
use nemostt_compiler::{
    Encoded, Precision,
    pipeline::{OPEN_BATCH, STACK_CACHES},
};

pub(in crate::model) use identity::IdentityParts;
pub use identity::{Difference, ModelIdentity};
pub use tensors::{ServedState, ServedTensor, ServedTensors};

/// ONNX models are smaller than 2 GB, because protobuf messages are. Larger ones keep their weights in another file.
const MAX_MODEL_BYTES: usize = 1 << 31;

/// The rest of a model besides its weights is smaller than this.
const GRAPH_BYTES: usize = 64 << 20;

/// Why most exports in int8 are refused.
const INT8_REASON: &str = "its int8 weights quantize activations with one scale for the whole batch, so a stream's words would depend \
     on the other streams";

/// See the [module](self). All of its operations are ONNX's own.
pub struct ServedEncoder {
    /// What a request and its response contain.
    pub tensors: ServedTensors,
    /// What the server keeps for each stream.
    pub states: Vec<ServedState>,
    /// What a client compares with its model.
    pub identity: ModelIdentity,
    /// Precision of most of its weights.
    pub precision: Precision,
    /// The file that it was exported to.
    pub source: String,
    /// Milliseconds of audio in a request.
    pub chunk_ms: u64,
    /// The lookahead in milliseconds.
    pub lookahead_ms: u64,
    /// Bytes of its weights.
    pub weight_bytes: usize,
    encoded: Encoded,
}

/// The files of a model, by name. The contents of a file are its parts, one after the other; weights are not copied, if they are in a
/// file of their own.
pub type ServedFiles<'a> = Vec<(String, Vec<Cow<'a, [u8]>>)>;

impl ServedEncoder {
    /// Compiles the encoder of the model at `path`, for a GPU or a processor. Of `options`, lookahead, decoder, precision and
    /// cancellation are used. ONNX Runtime is not needed.
    ///
    /// # Errors
    /// As for [`Recognizer::load`](crate::Recognizer::load); [`Error::NotServable`] if its graph cannot be rewritten.
    pub fn compile(path: impl AsRef<Path>, options: &Options, gpu: bool) -> Result<Self> {
        Self::of(Checked::open(path.as_ref(), options)?, options, gpu)
    }

    /// As [`compile`](Self::compile), for the built-in demo model.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    #[cfg(feature = "embedded-model")]
    pub fn compile_embedded(options: &Options, gpu: bool) -> Result<Self> {
        Self::of(Checked::embedded(options)?, options, gpu)
    }

    fn of(checked: Checked, options: &Options, gpu: bool) -> Result<Self> {
        let identity = checked.identity()?;
        let tensors = checked.served_tensors()?;
        let target = Target::served(options, gpu);
        let (streaming, lookahead) = (checked.streaming, checked.lookahead);
        let frame_ms = checked.frame_ms();
        let NamedEncoder { name, part } = checked.encoder;
        let graph = match &part.unread {
            Some(unread) => unread.read()?,
            None => part.graph,
        };
        let not_servable = |reason: String| Error::NotServable {
            path: name.clone(),
            reason,
        };
        let specialized = specialize(&graph, &streaming, lookahead, &target);
        let specialized =
            specialized.map_err(|reason| not_servable(format!("its shapes cannot be fixed: {reason}")))?;
        let mut compiled = compile_specialized(specialized, &name, &streaming, &target)?;
        let mut states = compiled.states;
        let encoded = &mut compiled.encoded;
        let precision = compiled.precision;
        let because = |pass: &str, reason: String| match precision {
            Precision::Int8 => not_servable(format!("{INT8_REASON} ({pass}: {reason})")),
            _ => not_servable(format!("{pass}: {reason}")),
        };
        encoded
            .open_batch(&mut states)
            .map_err(|reason| because(OPEN_BATCH, reason))?;
        encoded
            .stack_states(&mut states)
            .map_err(|reason| because(STACK_CACHES, reason))?;
        Ok(Self {
            tensors,
            states: states.iter().map(ServedState::of).collect(),
            identity,
            precision,
            source: name,
            chunk_ms: frame_ms * (lookahead as u64 + 1),
            lookahead_ms: frame_ms * lookahead as u64,
            weight_bytes: compiled.encoded.weights,
            encoded: compiled.encoded,
        })
    }

    /// Bytes that the server keeps for each stream.
    pub fn state_bytes(&self) -> usize {
        let bytes = self.states.iter().map(ServedState::bytes);
        bytes.fold(0, usize::saturating_add)
    }

    /// The ONNX model: `model.onnx`, and a file of weights beside it, if it is too large without.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::NotServable`], which is a bug.
    pub fn files(&self) -> Result<ServedFiles<'_>> {
        self.files_below(MAX_MODEL_BYTES)
    }

    fn files_below(&self, limit: usize) -> Result<ServedFiles<'_>> {
        let model = |bytes| ("model.onnx".to_owned(), vec![Cow::Owned(bytes)]);
        let weights = self.encoded.weights;
        let files = match weights.saturating_add(GRAPH_BYTES) < limit {
            true => {
                // The weights are copied into the model, which is then encoded.
                let copies = weights.saturating_mul(2).saturating_add(GRAPH_BYTES);
                memory_guard::check_bytes(copies, format!("write the encoder of {}", self.source))?;
                self.encoded.self_contained().map(|bytes| vec![model(bytes)])
            }
            false => self.encoded.compact().map(|compact| {
                let weights = compact.weights.into_iter().map(Cow::Borrowed).collect();
                vec![model(compact.model), (compact.file, weights)]
            }),
        };
        files.map_err(|error| Error::NotServable {
            path: self.source.clone(),
            reason: error.to_string(),
        })
    }
}
