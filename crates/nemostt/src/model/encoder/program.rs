// SPDX-License-Identifier: MIT OR Apache-2.0

//! An encoder as a program, which runs without ONNX Runtime and for several streams at a time.

mod lanes;
mod ports;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

pub(super) use self::{lanes::LaneHandle, ports::Ports};
use self::{lanes::Lanes, ports::Sizes};
use super::super::{
    compile::CompiledEncoder,
    joint_head::JointHead,
    length_graph::{LengthGraph, LengthInputs, LengthValues},
    runtime::{LinkedProgram, threads_of},
    target::Target,
};
use crate::{
    error::{Error, Result},
    memory_guard,
    metrics::EncoderMetrics,
    sync::lock,
};
use nemostt_compiler::StreamingConfig;
use nemostt_kernels::{
    executor::{Program, StreamIo},
    fused_op::ProgramError,
};

/// Slots that are kept for streams to come, besides as many as there are streams.
const SPARE_SLOTS: usize = 4;

/// See the [module](self).
pub(super) struct EncoderProgram {
    pub(super) ports: Ports,
    lanes: Lanes,
    /// Inputs and outputs of streams that have ended.
    free: Mutex<Vec<StreamIo>>,
    /// Creates inputs and outputs.
    template: Mutex<Program>,
    linked: LinkedProgram,
    lengths: Arc<LengthGraph>,
    length_values: Mutex<KnownLengths>,
    bytes_per_stream: usize,
}

/// Why an encoder cannot run as a program.
enum Refusal {
    /// Its graph is not supported; it runs in a session.
    Unsupported(String),
    Failed(Error),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Unsupported(reason)
    }
}

impl From<ProgramError> for Refusal {
    fn from(error: ProgramError) -> Self {
        Self::Unsupported(error.to_string())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::OutOfMemory { .. } => Self::Failed(error),
            error if error.is_end() => Self::Failed(error),
            error => Self::Unsupported(error.to_string()),
        }
    }
}

/// What an encoder is, besides its graph.
pub(super) struct EncoderParts<'a> {
    /// The file, for messages.
    pub(super) name: &'a str,
    pub(super) streaming: StreamingConfig,
    /// Frames of a step.
    pub(super) chunk: usize,
    pub(super) ctc_tokens: Option<usize>,
    /// The part of the joint that was appended.
    pub(super) head: Option<&'a JointHead>,
    /// Whether it takes a language prompt.
    pub(super) has_prompt: bool,
}

impl EncoderProgram {
    /// Lowers `encoder`, whose masks `lengths` computes. The inner error is the reason if that is not possible.
    ///
    /// # Errors
    /// Out of memory, or the load is cancelled.
    pub(super) fn new(
        encoder: &CompiledEncoder,
        lengths: Arc<LengthGraph>,
        parts: &EncoderParts<'_>,
        target: &Target,
    ) -> Result<std::result::Result<Self, String>> {
        match Self::build(encoder, lengths, parts, target) {
            Ok(program) => Ok(Ok(program)),
            Err(Refusal::Unsupported(reason)) => Ok(Err(reason)),
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    fn build(
        encoder: &CompiledEncoder,
        lengths: Arc<LengthGraph>,
        parts: &EncoderParts<'_>,
        target: &Target,
    ) -> std::result::Result<Self, Refusal> {
        let mut lowered = encoder.encoded.lower()?;
        let sizes = Sizes::new(encoder, parts)?;
        // The graph of the joint does not say how large a prediction is.
        let prediction = lowered.inputs.iter_mut().find(|input| input.name == "prediction");
        if let (Some(input), Some(head)) = (prediction, parts.head) {
            input.dims.clone_from(&head.prediction);
        }
        let ports = Ports::find(&lowered, &encoder.states, &lengths, &sizes)?;
        ports.make_room(&mut lowered);
        let linked = LinkedProgram::new(lowered, &encoder.encoded, parts.name, target)?;
        let mut template = linked.program(1)?;
        memory_guard::check_bytes(linked.input_bytes()?, "create a stream")?;
        let io = template.stream_io(linked.inputs())?;
        // A step copies these, and a graph may compute others than it declares.
        ports.check(&io, &encoder.states, &lengths, &sizes)?;
        let threads = threads_of(target, parts.name, encoder.encoded.weights);
        let lanes = Lanes::new(&linked, threads, parts, target)?;
        Ok(Self {
            ports,
            lanes,
            free: Mutex::default(),
            template: Mutex::new(template),
            linked,
            lengths,
            length_values: Mutex::default(),
            bytes_per_stream: io.bytes(),
        })
    }

    /// Threads of a step.
    pub(super) fn threads(&self) -> usize {
        self.lanes.threads()
    }

    /// Inputs and outputs for a stream, at its start, and where it submits them.
    pub(super) fn stream(&self) -> Result<(StreamIo, LaneHandle)> {
        // Not while another stream is created, which may be at the same time.
        let reused = lock(&self.free).pop();
        let mut io = match reused {
            Some(io) => io,
            None => {
                memory_guard::check_bytes(self.bytes_per_stream, "create a stream")?;
                let created = lock(&self.template).stream_io(self.linked.inputs());
                created.map_err(|error| invalid(&error))?
            }
        };
        // Also of a new one, so that its pages are not faulted in by the first steps.
        io.clear();
        Ok((io, self.lanes.handle()?))
    }

    /// Takes inputs and outputs of a stream that has ended back.
    pub(super) fn release(&self, io: StreamIo) {
        // The stream that ends still counts.
        let limit = self.lanes.streams().saturating_sub(1) + SPARE_SLOTS;
        let mut free = lock(&self.free);
        free.push(io);
        let kept = limit.min(free.len());
        let surplus = free.split_off(kept);
        drop(free);
        drop(surplus);
    }

    /// What depends only on the lengths of a step and on the language.
    pub(super) fn length_values(&self, inputs: LengthInputs) -> Result<Arc<LengthValues>> {
        if let Some(values) = lock(&self.length_values).values.get(&inputs) {
            return Ok(values.clone());
        }
        let values = Arc::new(self.lengths.compute(inputs)?);
        lock(&self.length_values).insert(inputs, values.clone());
        Ok(values)
    }

    /// Streams whose steps are computed at the same time at most.
    pub(super) fn parallel_streams(&self) -> usize {
        self.lanes.parallel_streams()
    }

    pub(super) fn metrics(&self) -> EncoderMetrics {
        EncoderMetrics {
            streams: self.lanes.streams(),
            bytes_per_stream: self.bytes_per_stream,
            spare_slots: lock(&self.free).len(),
            lanes: self.lanes.metrics(),
        }
    }
}

/// What the length graph has computed, for all streams.
#[derive(Default)]
struct KnownLengths {
    values: HashMap<LengthInputs, Arc<LengthValues>>,
    bytes: usize,
}

impl KnownLengths {
    /// Until the caches are full, each step of a stream has other lengths; of those at the end of streams there are more, and
    /// a multilingual model has other values for each language: 115 kB for chunks of 14 frames with 2048 values.
    const MAX_BYTES: usize = 32 << 20;

    fn insert(&mut self, inputs: LengthInputs, values: Arc<LengthValues>) {
        if self.bytes + values.bytes() > Self::MAX_BYTES {
            *self = Self::default();
        }
        self.bytes += values.bytes();
        // Another stream may have computed the same ones meanwhile.
        if let Some(replaced) = self.values.insert(inputs, values) {
            self.bytes -= replaced.bytes();
        }
    }
}

pub(super) fn invalid(error: &ProgramError) -> Error {
    Error::Runtime {
        doing: "run the encoder".into(),
        reason: error.to_string(),
    }
}
