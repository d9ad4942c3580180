// SPDX-License-Identifier: MIT OR Apache-2.0

//! sherpa-onnx's layout: NeMo's encoder with metadata, decoder and joiner in separate files (k2-fsa/sherpa-onnx,
//! `scripts/nemo/fast-conformer-hybrid-transducer-ctc/export-onnx-transducer.py` and `export-onnx-ctc.py`). The names
//! of the decoder's states are numbers from the exporter.

use crate::import::layouts::{JointNames, Layout, PredictionNames, nemo};

const PREDICTION: PredictionNames = PredictionNames {
    targets: "targets",
    target_length: Some("target_length"),
    states: None,
    output: "outputs",
    states_next: None,
};

const JOINT: JointNames = JointNames {
    frames: "encoder_outputs",
    prediction: "decoder_outputs",
    logits: "outputs",
};

pub(crate) const LAYOUT: Layout = Layout {
    name: "sherpa-onnx",
    metadata: None,
    encoders: &[],
    decoder_joints: &[],
    predictions: &[PREDICTION],
    joints: &[JOINT],
};

/// Only metadata distinguishes its encoders from NeMo's.
pub(crate) const ENCODERS: Layout = Layout {
    name: "sherpa-onnx",
    metadata: Some("window_size"),
    encoders: &[nemo::ENCODER, nemo::CTC],
    decoder_joints: &[],
    predictions: &[],
    joints: &[],
};
