// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tensors of a request to an encoder on an inference server, and of its response. Both sides are made from this.

use nemostt_compiler::{
    Contract, DROP_INPUT, ElementType, LENGTHS, NEXT_LENGTHS, PROMPT_INPUT, StateSpec, StreamingConfig,
};

use crate::chunker::full_width;

/// A tensor of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedTensor {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: ElementType,
    /// Its shape without the batch; empty for one number.
    pub dims: Vec<usize>,
}

impl ServedTensor {
    /// Its size.
    pub fn bytes(&self) -> usize {
        let size = match self.element {
            ElementType::F16 => 2,
            ElementType::F32 | ElementType::I32 | ElementType::Other(_) => 4,
            ElementType::I64 => 8,
        };
        let dims = self.dims.iter();
        dims.fold(size, |bytes, &dim| bytes.saturating_mul(dim))
    }
}

/// The tensors of a request and of its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedTensors {
    /// `audio_signal` f32 \[mels, width\], where all windows have the same width, and shorter ones are padded with zeros;
    /// int64 numbers: `length`, the mel frames of the window without padding, cached ones included;
    /// `drop_extra_pre_encoded`, the encoder frames of cached mel frames; `cache_last_channel_len`, the last
    /// `cache_last_channel_next_len` (0 at the start); and `prompt_index`, if it is multilingual.
    pub inputs: Vec<ServedTensor>,
    /// `outputs` f32 \[d_model, chunk\], or `logprobs` f32 \[chunk, tokens + 1\] with a CTC head; int64 numbers:
    /// `encoded_lengths`, the valid frames of these, and `cache_last_channel_next_len`.
    pub outputs: Vec<ServedTensor>,
}

impl ServedTensors {
    /// For windows of a lookahead, in encoder frames. `ctc_tokens`: those of the CTC head, without blank.
    pub(in crate::model) fn of(
        streaming: &StreamingConfig,
        contract: &Contract,
        lookahead: usize,
        ctc_tokens: Option<usize>,
    ) -> Self {
        let chunk = lookahead + 1;
        let number = |name: &str| tensor(name, ElementType::I64, &[]);
        let [length, drop, cached] = LENGTHS;
        debug_assert_eq!(drop, DROP_INPUT);
        let mut inputs = vec![
            tensor(
                "audio_signal",
                ElementType::F32,
                &[streaming.mels, full_width(lookahead)],
            ),
            number(length),
            number(drop),
            number(cached),
        ];
        inputs.extend(contract.prompt.map(|_| number(PROMPT_INPUT)));
        let frames = match ctc_tokens {
            Some(tokens) => tensor("logprobs", ElementType::F32, &[chunk, tokens + 1]),
            None => tensor("outputs", ElementType::F32, &[streaming.d_model, chunk]),
        };
        let outputs = [frames].into_iter().chain(NEXT_LENGTHS.map(number)).collect();
        Self { inputs, outputs }
    }
}

fn tensor(name: &str, element: ElementType, dims: &[usize]) -> ServedTensor {
    ServedTensor {
        name: name.into(),
        element,
        dims: dims.into(),
    }
}

/// A cache of a stream, which the server keeps: zeros at the start, f32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedState {
    /// The input that reads it.
    pub input: String,
    /// The output that has it for the next request.
    pub output: String,
    /// Its shape without the batch.
    pub dims: Vec<usize>,
}

impl ServedState {
    pub(super) fn of(state: &StateSpec) -> Self {
        Self {
            input: state.input.clone(),
            output: state.output.clone(),
            dims: state.dims.iter().skip(1).copied().collect(),
        }
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        let dims = self.dims.iter();
        dims.fold(size_of::<f32>(), |bytes, &dim| bytes.saturating_mul(dim))
    }
}
