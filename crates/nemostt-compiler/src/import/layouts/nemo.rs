// SPDX-License-Identifier: MIT OR Apache-2.0

//! NeMo's layout: `model.export()` with `cache_support` (`ASRModuleMixin`, `ConformerEncoder.input_example`,
//! `RNNTDecoderJoint`). Its names are the canonical ones: see [`Contract`](crate::Contract).

use crate::import::layouts::{DecoderJointNames, EncoderNames, Layout, Prompt};

pub(crate) const ENCODER: EncoderNames = EncoderNames {
    audio: "audio_signal",
    length: "length",
    channel: "cache_last_channel",
    time: "cache_last_time",
    channel_len: "cache_last_channel_len",
    pre_encode_cache: None,
    prompt: Some(Prompt::Index("prompt_index")),
    time_first: false,
    output: "outputs",
    ctc: false,
    output_lengths: "encoded_lengths",
    channel_next: "cache_last_channel_next",
    time_next: "cache_last_time_next",
    channel_len_next: "cache_last_channel_next_len",
};

pub(crate) const CTC: EncoderNames = EncoderNames {
    output: "logprobs",
    ctc: true,
    ..ENCODER
};

pub(crate) const DECODER_JOINT: DecoderJointNames = DecoderJointNames {
    frames: "encoder_outputs",
    targets: "targets",
    target_length: "target_length",
    states: ["input_states_1", "input_states_2"],
    logits: "outputs",
    states_next: ["output_states_1", "output_states_2"],
};

pub(crate) const LAYOUT: Layout = Layout {
    name: "NeMo",
    metadata: None,
    encoders: &[ENCODER, CTC],
    decoder_joints: &[DECODER_JOINT],
    predictions: &[],
    joints: &[],
};
