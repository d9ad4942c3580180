// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a stream keeps of an encoder that runs in a session: its tensors, bound to the session, and the state between
//! windows.

use super::{Encoder, EncoderSnapshot, HeadTensors, Runner, session_meter::MeteredStream, state::RunnerState};
use crate::{
    chunker::{Window, first_width, full_width},
    error::Result,
    lane::Deadline,
    model::{
        length_graph::{LengthGraph, LengthGraphState, LengthInputs},
        runtime::{Binding, Session, Tensor},
        state_buffers::{RingBuffer, ShiftBuffer, StateBuffers},
    },
};
use nemostt_compiler::{LENGTHS, NEXT_LENGTHS, PROMPT_INPUT, RING_HEAD_INPUT, StateSpec, StreamingConfig};

/// A stream's tensors, allocated once.
pub(super) struct SessionState {
    streaming: StreamingConfig,
    /// Double-buffered: a step reads one and writes the other.
    memories: [StateBuffers; 2],
    /// Read in each step, and appended to after it.
    shift_buffers: Vec<ShiftBuffer>,
    /// Read and updated in place in each step.
    rings: Vec<RingBuffer>,
    /// `bindings[i]` reads `memories[i]`.
    bindings: [Binding; 2],
    /// Index of the memory that the next step reads.
    parity: usize,
    /// Inputs \[1, mels, width\], one per window width that occurs.
    audio: Vec<(usize, Tensor<f32>)>,
    /// Window width, if it is fixed.
    width: Option<usize>,
    /// Window width that each binding currently reads.
    bound_width: [usize; 2],
    length: Tensor<i64>,
    drop: Tensor<i64>,
    /// The language of a multilingual model.
    prompt: Tensor<i64>,
    /// Index of the oldest row of the rings.
    ring_head: Tensor<i64>,
    /// Encoder frames \[1, d_model, chunk\], or log-probabilities \[1, chunk, tokens + 1\].
    outputs: Tensor<f32>,
    encoded_lengths: Tensor<i64>,
    lengths: Option<LengthGraphState>,
    meter: MeteredStream,
}

/// How a state is kept between steps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A step returns all of it.
    Whole,
    /// A step returns the new rows, which are appended.
    ShiftBuffer,
    /// A step writes the new rows in place.
    Ring,
}

impl Kind {
    fn of(state: &StateSpec) -> Self {
        match state.new_rows {
            None => Self::Whole,
            Some(_) if state.is_ring => Self::Ring,
            Some(_) => Self::ShiftBuffer,
        }
    }

    /// The states of `encoder` that are kept so.
    fn states(self, encoder: &Encoder) -> impl Iterator<Item = &StateSpec> {
        encoder.states.iter().filter(move |state| Self::of(state) == self)
    }
}

impl SessionState {
    /// Tensors for the start of a stream.
    pub(super) fn new(
        encoder: &Encoder,
        (session, lengths): (&Session, Option<&LengthGraph>),
        meter: MeteredStream,
    ) -> Result<Self> {
        let streaming = encoder.streaming;
        let output = match encoder.ctc_tokens {
            Some(_) => "logprobs",
            None => "outputs",
        };
        let widths = match encoder.width {
            Some(width) => vec![width],
            None => vec![first_width(encoder.lookahead), full_width(encoder.lookahead)],
        };
        let audio = |width: usize| Ok((width, Tensor::zeros(&[1, streaming.mels, width])?));
        let states_of_kind = |is_ring: bool| {
            let states = encoder.states.iter().filter(move |state| state.is_ring == is_ring);
            states.filter_map(|state| Some((state, state.new_rows?)))
        };
        let shift_buffers = states_of_kind(false).map(|(state, rows)| ShiftBuffer::empty(state, rows));
        let rings = states_of_kind(true).map(|(state, rows)| RingBuffer::empty(state, rows));
        let mut state = Self {
            streaming,
            shift_buffers: shift_buffers.collect::<Result<_>>()?,
            rings: rings.collect::<Result<_>>()?,
            memories: [
                StateBuffers::empty(&encoder.states)?,
                StateBuffers::empty(&encoder.states)?,
            ],
            bindings: [session.bind()?, session.bind()?],
            parity: 0,
            audio: widths.into_iter().map(audio).collect::<Result<_>>()?,
            width: encoder.width,
            bound_width: [0; 2],
            length: Tensor::zeros(&[1])?,
            drop: Tensor::zeros(&[1])?,
            prompt: Tensor::zeros(&[1])?,
            ring_head: Tensor::zeros(&[1])?,
            outputs: encoder.output_tensor()?,
            encoded_lengths: Tensor::zeros(&[1])?,
            lengths: lengths.map(LengthGraphState::new).transpose()?,
            meter,
        };
        for (parity, binding) in state.bindings.iter_mut().enumerate() {
            binding.output(output, &mut state.outputs)?;
            let next = &mut state.memories[1 - parity];
            if state.lengths.is_none() {
                for (name, tensor) in NEXT_LENGTHS.iter().zip([&mut state.encoded_lengths, &mut next.len]) {
                    binding.output(name, tensor)?;
                }
            }
            for (spec, tensor) in Kind::Whole.states(encoder).zip(&mut next.states) {
                binding.output(&spec.output, tensor)?;
            }
            for (spec, tensors) in Kind::ShiftBuffer.states(encoder).zip(&mut state.shift_buffers) {
                binding.output(&spec.output, &mut tensors.new)?;
            }
            for (spec, ring) in Kind::Ring.states(encoder).zip(&mut state.rings) {
                binding.output(&spec.output, &mut ring.all)?;
            }
        }
        for parity in [0, 1] {
            state.bind_inputs(encoder, lengths, parity)?;
        }
        Ok(state)
    }

    /// Binds all inputs but audio, for the steps that read `memories[parity]`.
    fn bind_inputs(&mut self, encoder: &Encoder, lengths: Option<&LengthGraph>, parity: usize) -> Result<()> {
        let binding = &mut self.bindings[parity];
        let memory = &self.memories[parity];
        let needs_input = |name| lengths.is_none_or(|lengths| lengths.keeps_input(name));
        for (name, tensor) in LENGTHS.iter().zip([&self.length, &self.drop, &memory.len]) {
            if needs_input(name) {
                binding.input(name, tensor)?;
            }
        }
        if encoder.has_prompt && needs_input(PROMPT_INPUT) {
            binding.input(PROMPT_INPUT, &self.prompt)?;
        }
        if !self.rings.is_empty() {
            binding.input(RING_HEAD_INPUT, &self.ring_head)?;
        }
        if let Some(lengths) = &self.lengths {
            lengths.bind(binding)?;
        }
        for (spec, tensor) in Kind::Whole.states(encoder).zip(&memory.states) {
            binding.input(&spec.input, tensor)?;
        }
        for (spec, tensors) in Kind::ShiftBuffer.states(encoder).zip(&self.shift_buffers) {
            binding.input(&spec.input, &tensors.all)?;
        }
        for (spec, ring) in Kind::Ring.states(encoder).zip(&self.rings) {
            binding.input(&spec.input, &ring.all)?;
        }
        Ok(())
    }

    /// Binds further tensors for all steps: inputs and outputs of the [head](Encoder::has_head). They must be bound
    /// before the first step.
    pub(super) fn bind(&mut self, bind: impl FnMut(&mut Binding) -> Result<()>) -> Result<()> {
        self.bindings.iter_mut().try_for_each(bind)
    }

    fn run(
        &mut self,
        encoder: &Encoder,
        (session, lengths): (&Session, Option<&LengthGraph>),
        window: &Window<'_>,
    ) -> Result<i64> {
        if session.copies_inputs() {
            self.bound_width[self.parity] = 0;
        }
        self.write_audio(window)?;
        self.length.data_mut()[0] = window.len as i64;
        self.drop.data_mut()[0] = window.drop_frames as i64;

        if let (Some(state), Some(lengths)) = (&mut self.lengths, lengths) {
            let cached = self.memories[self.parity].len.data()[0];
            let inputs = LengthInputs {
                lengths: [window.len as i64, window.drop_frames as i64, cached],
                prompt: self.prompt.data()[0],
            };
            let [frames, cached] = state.update(lengths, inputs)?;
            self.encoded_lengths.data_mut()[0] = frames;
            self.memories[1 - self.parity].len.data_mut()[0] = cached;
        }
        if session.copies_inputs() {
            self.bind_inputs(encoder, lengths, self.parity)?;
        }
        session.run(&self.bindings[self.parity], "run the encoder")?;
        self.parity = 1 - self.parity;
        self.shift_buffers.iter_mut().for_each(ShiftBuffer::shift);
        // All rings have the same number of rows, and get the same number of new ones.
        if let Some(ring) = self.rings.first() {
            let ring_head = &mut self.ring_head.data_mut()[0];
            *ring_head = (*ring_head + ring.new_rows as i64) % ring.rows.max(1) as i64;
        }

        Ok(self.encoded_lengths.data()[0])
    }

    /// What the next step runs with.
    #[cfg(test)]
    pub(super) fn current_binding(&self) -> &Binding {
        &self.bindings[self.parity]
    }

    /// The caches that the next step reads.
    fn caches(&self) -> impl Iterator<Item = &Tensor<f32>> {
        let whole = self.memories[self.parity].states.iter();
        let shift_buffers = self.shift_buffers.iter().map(|shift_buffers| &shift_buffers.all);
        whole
            .chain(shift_buffers)
            .chain(self.rings.iter().map(|ring| &ring.all))
    }

    /// The same caches, in the same order.
    fn caches_mut(&mut self) -> impl Iterator<Item = &mut Tensor<f32>> {
        let whole = self.memories[self.parity].states.iter_mut();
        let shift_buffers = self
            .shift_buffers
            .iter_mut()
            .map(|shift_buffers| &mut shift_buffers.all);
        whole
            .chain(shift_buffers)
            .chain(self.rings.iter_mut().map(|ring| &mut ring.all))
    }

    /// Transposes mel frames to \[mels, width\], padded with zeros.
    fn write_audio(&mut self, window: &Window<'_>) -> Result<()> {
        let mels = self.streaming.mels;
        let width = self.width.unwrap_or(window.width);
        let position = self.audio.iter().position(|(w, _)| *w == width);
        let index = match position {
            Some(index) => index,
            None => {
                self.audio.push((width, Tensor::zeros(&[1, mels, width])?));
                self.audio.len() - 1
            }
        };
        let tensor = &mut self.audio[index].1;
        write_columns(window, mels, width, tensor.data_mut());
        if self.bound_width[self.parity] != width {
            self.bindings[self.parity].input("audio_signal", tensor)?;
            self.bound_width[self.parity] = width;
        }
        Ok(())
    }
}

impl RunnerState for SessionState {
    fn step(
        &mut self,
        encoder: &Encoder,
        window: &Window<'_>,
        _head: Option<HeadTensors<'_>>,
        _deadline: Deadline,
    ) -> Result<i64> {
        // A stream has the state that its encoder's runner needs.
        let Runner::Session { session, lengths, .. } = &encoder.runner else {
            return Ok(0);
        };
        let meter = self.meter.meter().clone();
        meter.measure(|| self.run(encoder, (session, lengths.as_deref()), window))
    }

    fn outputs(&self) -> &Tensor<f32> {
        &self.outputs
    }

    fn prompt(&self) -> i64 {
        self.prompt.data()[0]
    }

    fn set_prompt(&mut self, prompt: i64) {
        self.prompt.data_mut()[0] = prompt;
    }

    fn cache_len(&self) -> i64 {
        self.memories[self.parity].len.data()[0]
    }

    fn reset(&mut self) {
        self.parity = 0;
        for cache in self.caches_mut() {
            cache.data_mut().fill(0.0);
        }
        self.memories[0].len.data_mut()[0] = 0;
        self.ring_head.data_mut()[0] = 0;
    }

    fn save(&self, snapshot: &mut EncoderSnapshot) {
        snapshot.caches.clear();
        let values = self.caches().map(|cache| cache.data().len()).sum();
        snapshot.caches.reserve_exact(values);
        for cache in self.caches() {
            snapshot.caches.extend_from_slice(cache.data());
        }
        snapshot.len = self.cache_len();
        snapshot.ring_head = self.ring_head.data()[0];
        snapshot.prompt = self.prompt.data()[0];
    }

    fn restore(&mut self, snapshot: &EncoderSnapshot) {
        // Either of the two memories can be used.
        self.parity = 0;
        let mut rest = &snapshot.caches[..];
        for cache in self.caches_mut() {
            let (values, after) = rest.split_at(cache.data().len());
            cache.data_mut().copy_from_slice(values);
            rest = after;
        }
        self.memories[0].len.data_mut()[0] = snapshot.len;
        self.ring_head.data_mut()[0] = snapshot.ring_head;
        self.prompt.data_mut()[0] = snapshot.prompt;
    }
}

/// Writes the mel frames of `window` as columns of `rows`, \[mels, width\], padded with zeros.
pub(super) fn write_columns(window: &Window<'_>, mels: usize, width: usize, rows: &mut [f32]) {
    if window.len < width {
        rows.fill(0.0);
    }
    for (t, frame) in window.frames.chunks_exact(mels).enumerate() {
        for (m, &value) in frame.iter().enumerate() {
            rows[m * width + t] = value;
        }
    }
}
