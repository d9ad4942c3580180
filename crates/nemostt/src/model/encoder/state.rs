// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a stream keeps of an encoder, whatever runs it.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

#[cfg(feature = "triton")]
use super::remote::RemoteState;
use super::{
    Encoder, Runner,
    device_batch::{DeviceState, Slot},
    program_state::ProgramState,
    session_state::SessionState,
};
use crate::{
    chunker::Window,
    error::{Error, Result},
    lane::{Class, Deadline},
    model::runtime::{Binding, Tensor},
};

/// Duration of an encoder frame of every published model. Only the order of deadlines depends on it.
const FRAME_PERIOD: Duration = Duration::from_millis(80);

/// The clock of deadlines.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A stream's tensors, allocated once.
pub(crate) struct EncoderState {
    tensors: Tensors,
    /// How urgent its steps are.
    class: Class,
}

enum Tensors {
    Session(Box<SessionState>),
    Batched(Box<DeviceState>),
    Program(Box<ProgramState>),
    #[cfg(feature = "triton")]
    Remote(Box<RemoteState>),
}

/// What a stream keeps of an encoder, for one way to run it.
pub(super) trait RunnerState {
    /// Runs one window and returns the number of frames that the graph computed.
    fn step(
        &mut self,
        encoder: &Encoder,
        window: &Window<'_>,
        head: Option<HeadTensors<'_>>,
        deadline: Deadline,
    ) -> Result<i64>;

    /// The last step's output: see [`Encoder::output_tensor`] for the shape.
    fn outputs(&self) -> &Tensor<f32>;

    /// The language prompt; 0 if the encoder takes none.
    fn prompt(&self) -> i64;

    /// Sets the language prompt for the following steps.
    fn set_prompt(&mut self, prompt: i64);

    /// Valid frames in the attention cache.
    fn cache_len(&self) -> i64;

    /// The stream has ended, or goes on later: nothing is kept for it elsewhere.
    fn finish(&mut self) {}

    /// Resets to the start of a stream, except for the language.
    fn reset(&mut self);

    /// Copies the state that [`reset`](Self::reset) clears, and the language. Caches on a device stay where they are, and belong to
    /// the snapshot, too.
    fn save(&self, snapshot: &mut EncoderSnapshot);

    /// Restores the state saved in `snapshot`, from a stream of the same encoder.
    fn restore(&mut self, snapshot: &EncoderSnapshot);
}

/// The state of an [`EncoderState`] between windows, as plain values. Everything else is written in each step before it
/// is read, or depends on the lengths only.
#[derive(Debug, Default)]
pub(crate) struct EncoderSnapshot {
    /// The values of all caches, concatenated.
    pub(super) caches: Vec<f32>,
    /// Where they are, if they are on a device.
    pub(super) slot: Option<Arc<Slot>>,
    /// Valid frames in the attention cache.
    pub(super) len: i64,
    pub(super) ring_head: i64,
    pub(super) prompt: i64,
}

/// Inputs and outputs of the [head](Encoder::has_head) in a step.
pub(crate) struct HeadTensors<'a> {
    pub(crate) prediction: &'a [f32],
    /// The chunk's projected frames, \[frames, width\].
    pub(crate) projected: &'a mut [f32],
    /// Their raw logits, \[frames, tokens + 1\].
    pub(crate) scores: &'a mut [f32],
}

impl EncoderState {
    /// Tensors for the start of a stream.
    pub(crate) fn new(encoder: &Encoder) -> Result<Self> {
        let tensors = match &encoder.runner {
            Runner::Session {
                session,
                lengths,
                meter,
            } => {
                let state = SessionState::new(encoder, (session, lengths.as_deref()), meter.stream())?;
                Tensors::Session(Box::new(state))
            }
            Runner::Batched(batch) => {
                Tensors::Batched(Box::new(DeviceState::new(batch.clone(), encoder.output_tensor()?)?))
            }
            Runner::Program(program) => {
                Tensors::Program(Box::new(ProgramState::new(program.clone(), encoder.output_tensor()?)?))
            }
            #[cfg(feature = "triton")]
            Runner::Remote(remote) => {
                Tensors::Remote(Box::new(RemoteState::new(remote.clone(), encoder.output_tensor()?)))
            }
        };
        Ok(Self {
            tensors,
            class: Class::Live,
        })
    }

    /// Binds further tensors for all steps: inputs and outputs of the [head](Encoder::has_head). They must be bound
    /// before the first step. No effect if the encoder is a program, which gets them in each step.
    pub(crate) fn bind(&mut self, bind: impl FnMut(&mut Binding) -> Result<()>) -> Result<()> {
        match &mut self.tensors {
            Tensors::Session(state) => state.bind(bind),
            _ => Ok(()),
        }
    }

    fn runner(&self) -> &dyn RunnerState {
        match &self.tensors {
            Tensors::Session(state) => &**state,
            Tensors::Batched(state) => &**state,
            Tensors::Program(state) => &**state,
            #[cfg(feature = "triton")]
            Tensors::Remote(state) => &**state,
        }
    }

    fn runner_mut(&mut self) -> &mut dyn RunnerState {
        match &mut self.tensors {
            Tensors::Session(state) => &mut **state,
            Tensors::Batched(state) => &mut **state,
            Tensors::Program(state) => &mut **state,
            #[cfg(feature = "triton")]
            Tensors::Remote(state) => &mut **state,
        }
    }

    /// What ends waiting for a server.
    #[cfg(feature = "triton")]
    pub(crate) fn set_interrupt(&mut self, interrupt: &nemostt_triton::Interrupt) {
        if let Tensors::Remote(state) = &mut self.tensors {
            state.set_interrupt(interrupt);
        }
    }

    /// Whether it is on a server that knows nothing of the stream.
    #[cfg(feature = "triton")]
    pub(crate) fn has_no_context(&self) -> bool {
        matches!(&self.tensors, Tensors::Remote(state) if state.has_no_context())
    }

    /// The server that the stream is on.
    #[cfg(feature = "triton")]
    pub(crate) fn server(&self) -> Option<&str> {
        match &self.tensors {
            Tensors::Remote(state) => state.server(),
            _ => None,
        }
    }

    /// The language prompt, if the encoder takes one.
    pub(crate) fn prompt(&self) -> i64 {
        self.runner().prompt()
    }

    /// How urgent its steps are.
    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Sets how urgent the following steps are.
    pub(crate) fn set_class(&mut self, class: Class) {
        self.class = class;
    }

    /// Runs one window and returns the number of valid frames in [`outputs`](Self::outputs).
    ///
    /// # Errors
    /// Errors of the run; [`Error::Shape`] if the number of encoder frames differs from the expected one;
    /// [`Error::NotANumber`].
    pub(crate) fn step(
        &mut self,
        encoder: &Encoder,
        window: &Window<'_>,
        head: Option<HeadTensors<'_>>,
    ) -> Result<usize> {
        let period = FRAME_PERIOD * (encoder.lookahead + 1) as u32;
        let deadline = self.class.deadline(START.elapsed(), period);
        let frames = self.runner_mut().step(encoder, window, head, deadline)?;
        let has_padding_outputs = frames > window.outputs as i64 && !encoder.masks_length;
        if frames != window.outputs as i64 && !has_padding_outputs {
            return Err(Error::Shape {
                what: "encoder frames of one window",
                expected: window.outputs.to_string(),
                got: frames.to_string(),
            });
        }
        // NaN would stay in the caches, and all following words would be lost.
        if self.outputs().data().iter().any(|value| value.is_nan()) {
            return Err(Error::NotANumber {
                device: encoder.device(),
            });
        }
        Ok(window.outputs)
    }

    /// The last step's output: see [`Encoder::output_tensor`] for the shape.
    pub(crate) fn outputs(&self) -> &Tensor<f32> {
        self.runner().outputs()
    }

    /// Sets the language prompt for the following steps.
    pub(crate) fn set_prompt(&mut self, prompt: i64) {
        self.runner_mut().set_prompt(prompt);
    }

    /// Valid frames in the attention cache.
    pub(crate) fn cache_len(&self) -> i64 {
        self.runner().cache_len()
    }

    /// The stream has ended: a server keeps nothing for it any more.
    pub(crate) fn finish(&mut self) {
        self.runner_mut().finish();
    }

    /// Resets to the start of a stream, except for the language.
    pub(crate) fn reset(&mut self) {
        self.runner_mut().reset();
    }

    /// Copies the state that [`reset`](Self::reset) clears, and the language. Caches on a device stay where they are, and
    /// belong to the snapshot, too.
    pub(crate) fn save(&self, snapshot: &mut EncoderSnapshot) {
        self.runner().save(snapshot);
    }

    /// Restores only the language from `snapshot`, of a stream of the same model on another device: what is in its caches
    /// depends on how the graph was compiled.
    pub(crate) fn restore_language(&mut self, snapshot: &EncoderSnapshot) {
        self.set_prompt(snapshot.prompt);
    }

    /// Restores the state saved in `snapshot`, from a stream of the same encoder.
    pub(crate) fn restore(&mut self, snapshot: &EncoderSnapshot) {
        self.runner_mut().restore(snapshot);
    }
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;

    use super::*;
    use crate::chunker::full_width;
    use crate::model::{
        GraphOptimization, Options,
        directory::{EncoderPart, NamedEncoder},
        target::Target,
        tests::graph_in,
    };
    use nemostt_compiler::{Component, StreamingConfig, import};

    #[test]
    fn step_allocates_no_more_than_its_run() {
        let path = "../../tests/data/tiny_random/encoder-rnnt_la13.onnx";
        for optimization in [GraphOptimization::All, GraphOptimization::None] {
            let Component::Encoder(graph, contract) = import(graph_in(path)).unwrap().1 else {
                panic!("{path} is an encoder");
            };
            let streaming = StreamingConfig::read(&graph).unwrap();
            let options = Options {
                graph_optimization: optimization,
                ..Default::default()
            };
            let target = Target::resolve(&options).unwrap();
            let part = NamedEncoder {
                name: path.into(),
                part: EncoderPart {
                    graph,
                    contract,
                    unread: None,
                    embedded: Vec::new(),
                },
            };
            let encoder = Encoder::load(part, streaming, 1, None, None, &target).unwrap();
            let mut state = EncoderState::new(&encoder).unwrap();
            let frames = vec![-10.0; streaming.mels * full_width(1)];
            let window = Window {
                frames: &frames,
                len: full_width(1),
                width: full_width(1),
                drop_frames: 2,
                outputs: 2,
            };
            // Until the cache is full, its length changes, and so do the masks.
            for _ in 0..streaming.left_context {
                state.step(&encoder, &window, None).unwrap();
            }
            let step = measure(|| assert!(state.step(&encoder, &window, None).is_ok()));
            let run = match (&encoder.runner, &state.tensors) {
                (Runner::Session { session, .. }, Tensors::Session(state)) => {
                    measure(|| session.run(state.current_binding(), "run the encoder").unwrap()).count_total
                }
                // The list of the streams in the batch.
                _ => 1,
            };
            assert_eq!(step.count_total, run, "{optimization:?}");
        }
    }
}
