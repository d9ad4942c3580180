// SPDX-License-Identifier: MIT OR Apache-2.0

//! onnxruntime-genai's layout (`"type": "nemotron_speech"` in `genai_config.json`): three graphs, batch-first, with
//! time before mels and before the width of encoder frames, some without `length`, multilingual ones with `lang_id`
//! (microsoft/onnxruntime-genai, `src/models/nemotron_speech.cpp`; the names are those in its configuration files).

use crate::import::layouts::{EncoderNames, JointNames, Layout, PredictionNames, Prompt, nemo};

const ENCODER: EncoderNames = EncoderNames {
    prompt: Some(Prompt::Index("lang_id")),
    channel_len_next: "cache_last_channel_len_next",
    time_first: true,
    ..nemo::ENCODER
};

const PREDICTION: PredictionNames = PredictionNames {
    targets: "targets",
    target_length: Some("target_length_orig"),
    states: Some(["h_in", "c_in"]),
    output: "decoder_output",
    states_next: Some(["h_out", "c_out"]),
};

const JOINT: JointNames = JointNames {
    frames: "encoder_output",
    prediction: "decoder_output",
    logits: "joint_output",
};

pub(crate) const LAYOUT: Layout = Layout {
    name: "onnxruntime-genai",
    metadata: None,
    encoders: &[
        ENCODER,
        EncoderNames {
            channel_len_next: nemo::ENCODER.channel_len_next,
            ..ENCODER
        },
    ],
    decoder_joints: &[],
    predictions: &[PREDICTION],
    joints: &[
        JOINT,
        JointNames {
            logits: "logits",
            ..JOINT
        },
        JointNames {
            frames: "encoder_outputs",
            prediction: "decoder_outputs",
            logits: "logits",
        },
    ],
};
