// SPDX-License-Identifier: MIT OR Apache-2.0

//! parakeet-rs' layout: an encoder traced with layers first in its caches, and NeMo's decoder_joint
//! (altunenes/parakeet-rs, `scripts/export_nemotron_streaming.py`, `src/model_nemotron.rs`, `src/model_eou.rs`).

use crate::import::layouts::{EncoderNames, Layout, nemo};

const NEMOTRON: EncoderNames = EncoderNames {
    audio: "processed_signal",
    length: "processed_signal_length",
    output: "encoded",
    output_lengths: "encoded_len",
    channel_len_next: "cache_last_channel_len_next",
    ..nemo::ENCODER
};

const EOU: EncoderNames = EncoderNames {
    channel_next: "new_cache_last_channel",
    time_next: "new_cache_last_time",
    channel_len_next: "new_cache_last_channel_len",
    ..nemo::ENCODER
};

pub(crate) const LAYOUT: Layout = Layout {
    name: "parakeet-rs",
    metadata: None,
    encoders: &[NEMOTRON, EOU],
    decoder_joints: &[],
    predictions: &[],
    joints: &[],
};
