// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a stream keeps of an encoder on a server: its sequence there, and what the server does not keep.

use std::sync::{Arc, atomic::Ordering};

use nemostt_triton::{Error as TritonError, Interrupt, Response, Sequence, Tensor as RemoteTensor, Trial};

use super::{
    super::{
        Encoder, EncoderSnapshot, HeadTensors, session_meter::MeteredStream, session_state::write_columns,
        state::RunnerState,
    },
    RemoteEncoder,
};
use crate::{
    chunker::{Window, encoder_frames},
    error::{Error, Result},
    lane::Deadline,
    model::runtime::Tensor,
};
use nemostt_compiler::{DROP_INPUT, LENGTHS, NEXT_LENGTHS, PROMPT_INPUT};

/// See the [module](self).
pub(in crate::model::encoder) struct RemoteState {
    remote: Arc<RemoteEncoder>,
    /// The sequence with the server's number; `None` if the server knows nothing of the stream.
    sequence: Option<(usize, Sequence)>,
    /// The window, \[mels, width\].
    audio: Vec<f32>,
    /// Valid frames in the attention cache on the server.
    cached: i64,
    prompt: i64,
    outputs: Tensor<f32>,
    interrupt: Interrupt,
    meter: MeteredStream,
}

impl RemoteState {
    pub(in crate::model::encoder) fn new(remote: Arc<RemoteEncoder>, outputs: Tensor<f32>) -> Self {
        Self {
            sequence: None,
            audio: vec![0.0; remote.window_shape().iter().product()],
            cached: 0,
            prompt: 0,
            outputs,
            interrupt: Interrupt::default(),
            meter: remote.meter.stream(),
            remote,
        }
    }

    /// What ends waiting for the server.
    pub(in crate::model::encoder) fn set_interrupt(&mut self, interrupt: &Interrupt) {
        self.interrupt = interrupt.clone();
    }

    /// Whether the server knows nothing of the stream.
    pub(in crate::model::encoder) fn has_no_context(&self) -> bool {
        self.sequence.is_none()
    }

    /// The server that the stream is on.
    pub(in crate::model::encoder) fn server(&self) -> Option<&str> {
        self.sequence.as_ref().map(|(_, sequence)| sequence.server())
    }

    /// Begins a sequence on the current server.
    fn begin(&mut self) -> Result<(usize, Sequence)> {
        let server = self.remote.current.load(Ordering::Relaxed);
        let verified = self.remote.ensure_verified(server, &self.interrupt);
        if let Err(error) = verified {
            self.remote.note_failure(server, &error);
            return Err(error);
        }
        self.cached = 0;
        Ok((server, self.remote.client.sequence(server, NEXT_LENGTHS[1])?))
    }

    fn inputs(&mut self, window: &Window<'_>) -> Vec<RemoteTensor> {
        let [mels, width] = self.remote.window_shape();
        write_columns(window, mels, width, &mut self.audio);
        let numbers = [window.len as i64, window.drop_frames as i64, self.cached, self.prompt];
        self.remote.inputs(&self.audio, numbers)
    }

    /// Copies the outputs, and returns the number of frames, of which at least `expected` are needed. What a server gets wrong is its
    /// failure, not that of the stream: another one may do better.
    fn read(&mut self, encoder: &Encoder, response: &Response, expected: usize, server: &str) -> Result<i64> {
        let malformed = |reason: String| TritonError::Malformed {
            server: server.into(),
            reason,
        };
        let number = |name: &str| {
            let number = response.output(name).and_then(|output| output.integers()?.next());
            number.ok_or_else(|| malformed(format!("it has no number {name}")))
        };
        let (frames, cached) = (number(NEXT_LENGTHS[0])?, number(NEXT_LENGTHS[1])?);
        let most = match encoder.masks_length {
            true => expected,
            false => self.remote.chunk(),
        };
        if !(expected as i64..=most as i64).contains(&frames) {
            return Err(malformed(format!("it has {frames} frames, expected {expected}")).into());
        }
        if !(0..=encoder.streaming.left_context as i64).contains(&cached) {
            return Err(malformed(format!("{} is {cached}", NEXT_LENGTHS[1])).into());
        }
        let name = self.remote.frames_name();
        let values = response.output(name).and_then(RemoteTensor::floats);
        let values = values.ok_or_else(|| malformed(format!("it has no output {name} of type FP32")))?;
        let outputs = self.outputs.data_mut();
        if values.len() != outputs.len() {
            let (got, expected) = (values.len(), outputs.len());
            return Err(malformed(format!("output {name} has {got} values, expected {expected}")).into());
        }
        outputs
            .iter_mut()
            .zip(values)
            .for_each(|(output, value)| *output = value);
        // Overflow in fp16 gives infinity. The logarithm of an impossible token may be its negative.
        if outputs.iter().any(|value| value.is_nan() || *value == f32::INFINITY) {
            return Err(malformed(format!("output {name} has a value that is not a number")).into());
        }
        self.cached = cached;
        Ok(frames)
    }
}

impl RunnerState for RemoteState {
    fn step(
        &mut self,
        encoder: &Encoder,
        window: &Window<'_>,
        _head: Option<HeadTensors<'_>>,
        _deadline: Deadline,
    ) -> Result<i64> {
        let (server, mut sequence) = match self.sequence.take() {
            Some(sequence) => sequence,
            None => self.begin()?,
        };
        let inputs = self.inputs(window);
        let result = self.meter.meter().measure(|| sequence.infer(inputs, &self.interrupt));
        let result = result
            .map_err(Error::from)
            .and_then(|response| self.read(encoder, &response, window.outputs, sequence.server()));
        match &result {
            Ok(_) => {
                self.remote.note_success(server);
                self.sequence = Some((server, sequence));
            }
            Err(error) => self.remote.note_failure(server, error),
        }
        result
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

    fn finish(&mut self) {
        self.sequence = None;
    }

    fn reset(&mut self) {
        self.sequence = None;
        self.cached = 0;
    }

    fn save(&self, snapshot: &mut EncoderSnapshot) {
        snapshot.len = self.cached;
        snapshot.prompt = self.prompt;
    }

    fn restore(&mut self, snapshot: &EncoderSnapshot) {
        self.reset();
        self.prompt = snapshot.prompt;
    }
}

impl RemoteEncoder {
    /// The inputs of a request: a window \[mels, width\], and its length, dropped frames, cached frames and prompt.
    fn inputs(&self, audio: &[f32], [length, drop, cached, prompt]: [i64; 4]) -> Vec<RemoteTensor> {
        let [mels, width] = self.window_shape();
        let number = |name, value| RemoteTensor::i64(name, &[1, 1], &[value]);
        let mut inputs = vec![
            RemoteTensor::f32("audio_signal", &[1, mels as i64, width as i64], audio),
            number(LENGTHS[0], length),
            number(DROP_INPUT, drop),
            number(LENGTHS[2], cached),
        ];
        if self.has_prompt() {
            inputs.push(number(PROMPT_INPUT, prompt));
        }
        inputs
    }

    /// A window of zeros, to see whether a stream could begin.
    pub(super) fn trial(&self) -> Trial<'static> {
        let [mels, width] = self.window_shape();
        // As any window but the first.
        let dropped = encoder_frames(width).saturating_sub(self.chunk());
        Trial {
            inputs: self.inputs(&vec![0.0; mels * width], [width as i64, dropped as i64, 0, 0]),
            end_output: NEXT_LENGTHS[1],
        }
    }

    /// Mels and width of a window.
    fn window_shape(&self) -> [usize; 2] {
        let audio = self.tensors.inputs.iter().find(|input| input.dims.len() == 2);
        audio.map_or([0; 2], |audio| [audio.dims[0], audio.dims[1]])
    }

    /// Encoder frames of a window.
    fn chunk(&self) -> usize {
        let frames = self.tensors.outputs.iter().find(|output| output.dims.len() == 2);
        let chunk = frames.map(|frames| frames.dims[usize::from(frames.name != "logprobs")]);
        chunk.unwrap_or(0)
    }

    /// The output that has frames or log-probabilities.
    fn frames_name(&self) -> &str {
        let frames = self.tensors.outputs.iter().find(|output| output.dims.len() == 2);
        frames.map_or("outputs", |frames| frames.name.as_str())
    }

    fn has_prompt(&self) -> bool {
        self.tensors.inputs.iter().any(|input| input.name == PROMPT_INPUT)
    }
}
