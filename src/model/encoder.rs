// SPDX-License-Identifier: MIT OR Apache-2.0

//! The cache-aware encoder: one window of mel frames in, the encoder frames of one chunk out.

use super::{
    files::NamedGraph,
    options::{Device, Options},
    runtime::{Binding, Session, Tensor},
};
use crate::{
    error::{Error, Result},
    graph::{DROP_INPUT, Streaming, make_drop_an_input},
    window::Window,
};

/// The encoder graph (with its CTC head, if it has one), shared by all streams.
pub(crate) struct Encoder {
    session: Session,
    streaming: Streaming,
    lookahead: usize,
    /// Labels of the CTC head, without blank; `None` where the outputs are encoder frames.
    ctc_labels: Option<usize>,
}

impl Encoder {
    /// Makes the drop an input and loads the graph.
    pub(crate) fn load(
        part: NamedGraph,
        streaming: Streaming,
        lookahead: usize,
        ctc_labels: Option<usize>,
        options: &Options,
    ) -> Result<Self> {
        let NamedGraph { name, mut graph } = part;
        if let Err(reason) = make_drop_an_input(&mut graph) {
            return Err(Error::BadModel { path: name, reason });
        }
        let session = Session::load(&graph.encode(), &name, options)?;
        Ok(Self {
            session,
            streaming,
            lookahead,
            ctc_labels,
        })
    }

    /// The device it runs on.
    pub(crate) fn device(&self) -> Device {
        self.session.device()
    }

    /// Threads it runs on; 0: one per physical core.
    pub(crate) fn threads(&self) -> usize {
        self.session.threads()
    }
}

/// Caches of a stream: what the encoder remembers between windows.
struct Cache {
    /// Layer inputs that attention looks back on: \[1, layers, left, width\].
    channel: Tensor<f32>,
    /// What the causal convolutions look back on: \[1, layers, width, kernel - 1\].
    time: Tensor<f32>,
    /// How many frames of `channel`, counted from its end, are real.
    len: Tensor<i64>,
}

impl Cache {
    fn empty(s: &Streaming) -> Result<Self> {
        Ok(Self {
            channel: Tensor::zeros(&[1, s.layers, s.left, s.width])?,
            time: Tensor::zeros(&[1, s.layers, s.width, s.conv_left])?,
            len: Tensor::zeros(&[1])?,
        })
    }

    fn clear(&mut self) {
        self.channel.data_mut().fill(0.0);
        self.time.data_mut().fill(0.0);
        self.len.data_mut().fill(0);
    }
}

/// One stream's tensors. Nothing here is allocated again while the stream runs.
pub(crate) struct EncoderState {
    streaming: Streaming,
    /// Read and written in turns: a step reads one and writes the other.
    caches: [Cache; 2],
    /// `bindings[i]` reads `caches[i]`.
    bindings: [Binding; 2],
    /// The cache that the next step reads.
    turn: usize,
    /// Inputs \[1, mels, width\], one for each width of window that occurs.
    audio: Vec<(usize, Tensor<f32>)>,
    /// Width that each binding reads now.
    bound_width: [usize; 2],
    length: Tensor<i64>,
    drop: Tensor<i64>,
    /// Encoder frames \[1, width, chunk\], or log-probabilities \[1, chunk, labels + 1\].
    outputs: Tensor<f32>,
    encoded_lengths: Tensor<i64>,
}

impl EncoderState {
    /// Tensors for a stream at its start.
    pub(crate) fn new(encoder: &Encoder) -> Result<Self> {
        let streaming = encoder.streaming;
        let chunk = encoder.lookahead + 1;
        let (output, shape) = match encoder.ctc_labels {
            Some(labels) => ("logprobs", [1, chunk, labels + 1]),
            None => ("outputs", [1, streaming.width, chunk]),
        };
        let mut state = Self {
            streaming,
            caches: [Cache::empty(&streaming)?, Cache::empty(&streaming)?],
            bindings: [encoder.session.bind()?, encoder.session.bind()?],
            turn: 0,
            audio: Vec::new(),
            bound_width: [0; 2],
            length: Tensor::zeros(&[1])?,
            drop: Tensor::zeros(&[1])?,
            outputs: Tensor::zeros(&shape)?,
            encoded_lengths: Tensor::zeros(&[1])?,
        };
        for (turn, binding) in state.bindings.iter_mut().enumerate() {
            binding.input("length", &state.length)?;
            binding.input(DROP_INPUT, &state.drop)?;
            binding.output(output, &mut state.outputs)?;
            binding.output("encoded_lengths", &mut state.encoded_lengths)?;

            let now = &state.caches[turn];
            binding.input("cache_last_channel", &now.channel)?;
            binding.input("cache_last_time", &now.time)?;
            binding.input("cache_last_channel_len", &now.len)?;
            let next = &mut state.caches[1 - turn];
            binding.output("cache_last_channel_next", &mut next.channel)?;
            binding.output("cache_last_time_next", &mut next.time)?;
            binding.output("cache_last_channel_next_len", &mut next.len)?;
        }
        Ok(state)
    }

    /// Runs one window and returns the number of frames in [`outputs`](Self::outputs) that are valid.
    ///
    /// # Errors
    /// ONNX Runtime's; [`Error::Shape`] if the graph gives another number of frames than the window must;
    /// [`Error::NotANumber`].
    pub(crate) fn step(&mut self, encoder: &Encoder, window: &Window<'_>) -> Result<usize> {
        self.write_audio(window)?;
        self.length.data_mut()[0] = window.len as i64;
        self.drop.data_mut()[0] = window.drop as i64;

        encoder.session.run(&self.bindings[self.turn], "run the encoder")?;
        self.turn = 1 - self.turn;

        let frames = self.encoded_lengths.data()[0];
        if frames != window.outputs as i64 {
            return Err(Error::Shape {
                what: "encoder frames of one window",
                expected: window.outputs.to_string(),
                got: frames.to_string(),
            });
        }
        // It would stay in the caches, and every word after it would be lost.
        if self.outputs.data().iter().any(|value| value.is_nan()) {
            return Err(Error::NotANumber {
                device: encoder.device().name(),
            });
        }
        Ok(window.outputs)
    }

    /// What the last step gave: see [`EncoderState::new`] for the shape.
    pub(crate) fn outputs(&self) -> &Tensor<f32> {
        &self.outputs
    }

    /// Real frames in the attention cache.
    pub(crate) fn cache_len(&self) -> i64 {
        self.caches[self.turn].len.data()[0]
    }

    /// Back to the start of a stream.
    pub(crate) fn reset(&mut self) {
        self.turn = 0;
        self.caches[0].clear();
    }

    /// Turns frames of mels into mels of frames, zeros behind the last one.
    fn write_audio(&mut self, window: &Window<'_>) -> Result<()> {
        let mels = self.streaming.mels;
        let width = window.width;
        let known = self.audio.iter().position(|(w, _)| *w == width);
        let index = match known {
            Some(index) => index,
            None => {
                self.audio.push((width, Tensor::zeros(&[1, mels, width])?));
                self.audio.len() - 1
            }
        };
        let tensor = &mut self.audio[index].1;
        let rows = tensor.data_mut();
        if window.len < width {
            rows.fill(0.0);
        }
        for (t, frame) in window.frames.chunks_exact(mels).enumerate() {
            for (m, &value) in frame.iter().enumerate() {
                rows[m * width + t] = value;
            }
        }
        if self.bound_width[self.turn] != width {
            self.bindings[self.turn].input("audio_signal", tensor)?;
            self.bound_width[self.turn] = width;
        }
        Ok(())
    }
}
