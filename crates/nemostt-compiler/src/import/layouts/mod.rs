// SPDX-License-Identifier: MIT OR Apache-2.0

//! The supported layouts: which tensor of a graph has which role.
//!
//! They are converted to NeMo's names and axes ([`Contract`](crate::Contract)) in memory. A layout is a table of names,
//! in a file of its own; axes and element types are read from the graph. To support another layout, add its table to
//! [`LAYOUTS`].

mod genai;
pub(crate) mod nemo;
mod parakeet_rs;
mod sherpa;
mod six_input;

use crate::{Graph, ir::boundary::Side};

/// The names that a layout uses. Several entries of a kind are variants.
pub(crate) struct Layout {
    /// Name for messages.
    pub(crate) name: &'static str,
    /// A metadata key that distinguishes it from layouts with the same names; `None` if names are sufficient.
    pub(crate) metadata: Option<&'static str>,
    pub(crate) encoders: &'static [EncoderNames],
    /// Prediction network and joint in one graph.
    pub(crate) decoder_joints: &'static [DecoderJointNames],
    pub(crate) predictions: &'static [PredictionNames],
    pub(crate) joints: &'static [JointNames],
}

/// All layouts. The first one that matches a graph is used.
static LAYOUTS: [Layout; 6] = [
    sherpa::ENCODERS,
    nemo::LAYOUT,
    sherpa::LAYOUT,
    parakeet_rs::LAYOUT,
    genai::LAYOUT,
    six_input::LAYOUT,
];

/// Tensors of a cache-aware encoder, with or without a CTC head.
#[derive(Debug)]
pub(crate) struct EncoderNames {
    pub(crate) audio: &'static str,
    /// Some exporters remove it.
    pub(crate) length: &'static str,
    pub(crate) channel: &'static str,
    pub(crate) time: &'static str,
    pub(crate) channel_len: &'static str,
    /// Input and output of the pre-encode cache, if it is part of the graph.
    pub(crate) pre_encode_cache: Option<(&'static str, &'static str)>,
    /// The language input of a multilingual model.
    pub(crate) prompt: Option<Prompt>,
    /// Whether time is before mels, and before the width of encoder frames, if shapes do not tell.
    pub(crate) time_first: bool,
    /// Encoder frames or, if `ctc`, log-probabilities.
    pub(crate) output: &'static str,
    pub(crate) ctc: bool,
    pub(crate) output_lengths: &'static str,
    pub(crate) channel_next: &'static str,
    pub(crate) time_next: &'static str,
    pub(crate) channel_len_next: &'static str,
}

/// The language input of a multilingual encoder. Monolingual graphs do not have it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Prompt {
    /// The index of the language.
    Index(&'static str),
    /// The one-hot encoding of that index.
    OneHot(&'static str),
}

impl Prompt {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Index(name) | Self::OneHot(name) => name,
        }
    }
}

/// Tensors of prediction network and joint in one graph.
#[derive(Debug)]
pub(crate) struct DecoderJointNames {
    pub(crate) frames: &'static str,
    pub(crate) targets: &'static str,
    pub(crate) target_length: &'static str,
    pub(crate) states: [&'static str; 2],
    pub(crate) logits: &'static str,
    pub(crate) states_next: [&'static str; 2],
}

/// Tensors of a prediction network.
#[derive(Debug)]
pub(crate) struct PredictionNames {
    pub(crate) targets: &'static str,
    /// `None` if it has no length input.
    pub(crate) target_length: Option<&'static str>,
    /// `None`: the two inputs with three axes, in order, because some exporters number them.
    pub(crate) states: Option<[&'static str; 2]>,
    pub(crate) output: &'static str,
    /// `None`: the two other outputs with three axes, in order.
    pub(crate) states_next: Option<[&'static str; 2]>,
}

/// Tensors of a joint.
#[derive(Debug)]
pub(crate) struct JointNames {
    pub(crate) frames: &'static str,
    pub(crate) prediction: &'static str,
    pub(crate) logits: &'static str,
}

/// The role of a graph.
pub(crate) enum Detected {
    Encoder(&'static EncoderNames),
    /// An encoder in this layout, exported without its caches.
    EncoderWithoutCaches,
    DecoderJoint(&'static DecoderJointNames),
    Prediction(&'static PredictionNames),
    Joint(&'static JointNames),
}

/// The layout of `graph`, and its role.
pub(crate) fn detect(graph: &Graph) -> Option<(&'static Layout, Detected)> {
    let has_input = |name: &str| graph.find(Side::Input, name).is_some();
    let has_output = |name: &str| graph.find(Side::Output, name).is_some();
    let has_metadata = |layout: &&Layout| layout.metadata.is_none_or(|key| graph.metadata(key).is_some());
    LAYOUTS.iter().filter(has_metadata).find_map(|layout| {
        let encoder = layout.encoders.iter().find(|names| {
            let prompt = names
                .prompt
                .is_none_or(|prompt| has_input(prompt.name()) || !needs_prompt(graph));
            let caches =
                has_input(names.channel) && has_output(names.channel_next) && has_output(names.channel_len_next);
            has_input(names.audio) && caches && has_output(names.output) && prompt
        });
        let decoder_joint = layout
            .decoder_joints
            .iter()
            .find(|names| has_input(names.frames) && has_input(names.targets) && has_output(names.logits));
        let joint = layout
            .joints
            .iter()
            .find(|names| has_input(names.frames) && has_input(names.prediction) && has_output(names.logits));
        let prediction = layout.predictions.iter().find(|names| {
            let states = names
                .states
                .is_none_or(|states| states.iter().all(|name| has_input(name)));
            has_input(names.targets) && states && has_output(names.output)
        });
        let without_caches = layout
            .encoders
            .iter()
            .any(|names| has_input(names.audio) && has_input(names.length) && !has_input(names.channel));
        let found = match (encoder, decoder_joint, joint, prediction) {
            (Some(names), ..) => Detected::Encoder(names),
            (_, Some(names), ..) => Detected::DecoderJoint(names),
            (_, _, Some(names), _) => Detected::Joint(names),
            (.., Some(names)) => Detected::Prediction(names),
            _ if without_caches => Detected::EncoderWithoutCaches,
            _ => return None,
        };
        Some((layout, found))
    })
}

/// Whether the graph has a language input, which the layout must know.
fn needs_prompt(graph: &Graph) -> bool {
    let prompts = LAYOUTS
        .iter()
        .flat_map(|layout| layout.encoders)
        .filter_map(|names| names.prompt);
    let mut names = prompts.map(Prompt::name);
    names.any(|name| graph.find(Side::Input, name).is_some())
}

impl Graph {
    /// Whether it has the inputs and outputs of an encoder with caches.
    pub fn is_encoder(&self) -> bool {
        matches!(detect(self), Some((_, Detected::Encoder(_))))
    }
}
