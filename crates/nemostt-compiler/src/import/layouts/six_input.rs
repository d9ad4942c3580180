// SPDX-License-Identifier: MIT OR Apache-2.0

//! Exports with the pre-encode cache inside the graph: six inputs including `pre_cache`, caches with layers first,
//! 32-bit lengths that count new frames only, encoder frames with time first. The prediction network takes one `token`;
//! the joint scores one frame. Derived from soniqo/speech-core and FluidInference/FluidAudio, which run such exports of
//! parakeet_realtime_eou_120m and nemotron-3.5-asr-streaming.

use crate::import::layouts::{EncoderNames, JointNames, Layout, PredictionNames, Prompt, nemo};

const ENCODER: EncoderNames = EncoderNames {
    length: "audio_length",
    pre_encode_cache: Some(("pre_cache", "new_pre_cache")),
    prompt: Some(Prompt::OneHot("language_mask")),
    time_first: false,
    output: "encoded_output",
    output_lengths: "encoded_length",
    channel_next: "new_cache_last_channel",
    time_next: "new_cache_last_time",
    channel_len_next: "new_cache_last_channel_len",
    ..nemo::ENCODER
};

const PREDICTION: PredictionNames = PredictionNames {
    targets: "token",
    target_length: None,
    states: Some(["h", "c"]),
    output: "decoder_output",
    states_next: Some(["h_out", "c_out"]),
};

const JOINT: JointNames = JointNames {
    frames: "encoder_output",
    prediction: "decoder_output",
    logits: "logits",
};

pub(crate) const LAYOUT: Layout = Layout {
    name: "six-input",
    metadata: None,
    encoders: &[ENCODER],
    decoder_joints: &[],
    predictions: &[PREDICTION],
    joints: &[JOINT],
};
