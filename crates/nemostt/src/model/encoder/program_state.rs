// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a stream keeps of an encoder that is a [program](super::program): its slot, the inputs and outputs of a step, which a
//! lane borrows while the step runs.

use std::sync::Arc;

use super::{
    Encoder, EncoderSnapshot, HeadTensors,
    program::{EncoderProgram, LaneHandle, invalid},
    state::RunnerState,
};
use crate::{
    chunker::Window,
    error::{Error, Result},
    lane::{Deadline, JobFailed},
    model::{
        length_graph::{LengthInputs, LengthValues},
        runtime::{Tensor, enter},
    },
};
use nemostt_kernels::executor::StreamIo;

/// See the [module](self).
pub(super) struct ProgramState {
    program: Arc<EncoderProgram>,
    /// `None` only while a step runs.
    io: Option<StreamIo>,
    lane: LaneHandle,
    /// Valid frames in the attention cache.
    cached: i64,
    ring_head: usize,
    /// The language prompt; 0 if the encoder takes none.
    prompt: i64,
    /// Those that the inputs have.
    lengths: Option<Arc<LengthValues>>,
    /// As [`EncoderState::outputs`](super::EncoderState::outputs).
    outputs: Tensor<f32>,
}

impl ProgramState {
    pub(super) fn new(program: Arc<EncoderProgram>, outputs: Tensor<f32>) -> Result<Self> {
        let (io, lane) = program.stream()?;
        Ok(Self {
            program,
            io: Some(io),
            lane,
            cached: 0,
            ring_head: 0,
            prompt: 0,
            lengths: None,
            outputs,
        })
    }

    fn write_inputs(
        &mut self,
        io: &mut StreamIo,
        window: &Window<'_>,
        lengths: &Arc<LengthValues>,
        head: Option<&HeadTensors<'_>>,
    ) {
        let ports = &self.program.ports;
        let audio = io.input_mut(ports.audio);
        let (frames, padding) = audio.split_at_mut(window.frames.len());
        frames.copy_from_slice(window.frames);
        padding.fill(0.0);
        if let Some(ring_head) = ports.ring_head {
            io.set_scalar(ring_head, self.ring_head);
        }
        // In most steps, they are those of the step before.
        if !self.lengths.as_ref().is_some_and(|before| Arc::ptr_eq(before, lengths)) {
            for (&port, values) in ports.lengths.iter().zip(&lengths.boundary) {
                io.input_mut(port).copy_from_slice(values);
            }
            self.lengths = Some(lengths.clone());
        }
        if let (Some(head), Some(ports)) = (head, &ports.head) {
            io.input_mut(ports.prediction).copy_from_slice(head.prediction);
        }
    }
}

impl RunnerState for ProgramState {
    fn step(
        &mut self,
        _encoder: &Encoder,
        window: &Window<'_>,
        head: Option<HeadTensors<'_>>,
        deadline: Deadline,
    ) -> Result<i64> {
        let lengths = self.program.length_values(LengthInputs {
            lengths: [window.len as i64, window.drop_frames as i64, self.cached],
            prompt: self.prompt,
        })?;
        let Some(mut io) = self.io.take() else {
            return Err(lost());
        };
        self.write_inputs(&mut io, window, &lengths, head.as_ref());
        // The caller goes on with ONNX Runtime, which must not be used while the process exits.
        let _inside = match enter() {
            Ok(inside) => inside,
            Err(error) => {
                self.io = Some(io);
                return Err(error);
            }
        };
        let (io, result) = self.lane.submitter.run(io, deadline);
        let io = self.io.insert(io);
        match result {
            Ok(result) => result.map_err(|error| invalid(&error))?,
            Err(JobFailed) => return Err(panicked()),
        }
        let ports = &self.program.ports;
        for state in ports.states.iter().filter(|state| state.ring.is_none()) {
            io.feed_back(state.output, state.input);
        }
        // All rings have the same number of rows, and get the same number of new ones.
        if let Some(ring) = ports.states.iter().find_map(|state| state.ring) {
            self.ring_head = (self.ring_head + ring.new) % ring.all.max(1);
        }
        self.cached = lengths.next[1];
        let outputs = io.output(ports.outputs);
        match ports.transposed_frames {
            None => self.outputs.data_mut().copy_from_slice(outputs),
            Some(frames) => transpose(outputs, frames, self.outputs.data_mut()),
        }
        if let (Some(head), Some(ports)) = (head, &ports.head) {
            head.projected.copy_from_slice(io.output(ports.projected));
            head.scores.copy_from_slice(io.output(ports.scores));
        }
        Ok(lengths.next[0])
    }

    fn outputs(&self) -> &Tensor<f32> {
        &self.outputs
    }

    fn prompt(&self) -> i64 {
        self.prompt
    }

    fn set_prompt(&mut self, prompt: i64) {
        self.prompt = prompt;
    }

    fn cache_len(&self) -> i64 {
        self.cached
    }

    fn reset(&mut self) {
        if let Some(io) = &mut self.io {
            for state in &self.program.ports.states {
                io.input_mut(state.input).fill(0.0);
            }
        }
        self.cached = 0;
        self.ring_head = 0;
        // A step that failed may have left others.
        self.lengths = None;
    }

    fn save(&self, snapshot: &mut EncoderSnapshot) {
        snapshot.caches.clear();
        if let Some(io) = &self.io {
            let states = || self.program.ports.states.iter().map(|state| io.input(state.input));
            snapshot.caches.reserve_exact(states().map(<[f32]>::len).sum());
            states().for_each(|values| snapshot.caches.extend_from_slice(values));
        }
        snapshot.len = self.cached;
        snapshot.ring_head = self.ring_head as i64;
        snapshot.prompt = self.prompt;
    }

    fn restore(&mut self, snapshot: &EncoderSnapshot) {
        let mut rest = &snapshot.caches[..];
        if let Some(io) = &mut self.io {
            for state in &self.program.ports.states {
                let cache = io.input_mut(state.input);
                let (values, after) = rest.split_at(cache.len());
                cache.copy_from_slice(values);
                rest = after;
            }
        }
        self.cached = snapshot.len;
        self.ring_head = snapshot.ring_head.max(0) as usize;
        self.prompt = snapshot.prompt;
        self.lengths = None;
    }
}

impl Drop for ProgramState {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            self.program.release(io);
        }
    }
}

/// Transposes `frames` rows to columns.
fn transpose(rows: &[f32], frames: usize, columns: &mut [f32]) {
    let width = rows.len() / frames;
    for (frame, row) in rows.chunks_exact(width).enumerate() {
        for (value, column) in row.iter().zip(columns.chunks_exact_mut(frames)) {
            column[frame] = *value;
        }
    }
}

fn panicked() -> Error {
    Error::Runtime {
        doing: "run the encoder".into(),
        reason: "an operation of nemostt panicked: this is a fault in it, please report it".into(),
    }
}

/// A lane always hands a slot back.
fn lost() -> Error {
    Error::Runtime {
        doing: "run the encoder".into(),
        reason: "the stream has lost its slot".into(),
    }
}
