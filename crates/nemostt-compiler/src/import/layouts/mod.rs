// SPDX-License-Identifier: MIT OR Apache-2.0

//! The layouts in which these models are written: which tensor of a graph is what.
//!
//! The rest of the recogniser sees one contract, NeMo's own names and axes ([`Contract`](crate::Contract)); a graph in
//! another layout is rewritten to it in memory. A layout is a table of names, one file each; axes and element types are
//! read from the graph. To add one, write its table and put it into [`LAYOUTS`].

mod genai;
pub(crate) mod nemo;
mod parakeet_rs;
mod sherpa;
mod six_input;

use crate::{Graph, ir::boundary::Side};

/// A layout: the names its graphs use. Several entries of a kind are variants.
pub(crate) struct Layout {
    /// What it is called in messages.
    pub(crate) name: &'static str,
    /// Tells it from others with the same names, by the file's metadata; `None`: names are enough.
    pub(crate) metadata: Option<&'static str>,
    pub(crate) encoders: &'static [EncoderNames],
    /// Prediction network and joint in one graph.
    pub(crate) decoder_joints: &'static [DecoderJointNames],
    pub(crate) predictions: &'static [PredictionNames],
    pub(crate) joints: &'static [JointNames],
}

/// All layouts. The first that fits a graph counts.
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
    /// Some exporters drop it.
    pub(crate) length: &'static str,
    pub(crate) channel: &'static str,
    pub(crate) time: &'static str,
    pub(crate) channel_len: &'static str,
    /// The mel frames carried over, where the graph does that itself, and their output.
    pub(crate) carry: Option<(&'static str, &'static str)>,
    /// What tells a multilingual model the language.
    pub(crate) prompt: Option<Prompt>,
    /// Whether time stands before mels, and before the width of encoder frames, where the sizes do not say.
    pub(crate) time_first: bool,
    /// Encoder frames or, with `ctc`, log-probabilities.
    pub(crate) output: &'static str,
    pub(crate) ctc: bool,
    pub(crate) output_lengths: &'static str,
    pub(crate) channel_next: &'static str,
    pub(crate) time_next: &'static str,
    pub(crate) channel_len_next: &'static str,
}

/// How a multilingual encoder is told the language. Graphs of one language lack the tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Prompt {
    /// By the number of the language.
    Index(&'static str),
    /// By a vector that is 1 at that number and 0 elsewhere.
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
    /// `None`: it takes no length.
    pub(crate) target_length: Option<&'static str>,
    /// `None`: the two inputs with three axes, in order; some exporters number them.
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

/// What a graph is.
pub(crate) enum Detected {
    Encoder(&'static EncoderNames),
    /// An encoder of this layout without its caches.
    EncoderWithoutCaches,
    DecoderJoint(&'static DecoderJointNames),
    Prediction(&'static PredictionNames),
    Joint(&'static JointNames),
}

/// Which layout `graph` is in and what it is there.
pub(crate) fn detect(graph: &Graph) -> Option<(&'static Layout, Detected)> {
    let takes = |name: &str| graph.find(Side::Input, name).is_some();
    let gives = |name: &str| graph.find(Side::Output, name).is_some();
    let marked = |layout: &&Layout| layout.metadata.is_none_or(|key| graph.metadata(key).is_some());
    LAYOUTS.iter().filter(marked).find_map(|layout| {
        let encoder = layout.encoders.iter().find(|names| {
            let prompt = names
                .prompt
                .is_none_or(|prompt| takes(prompt.name()) || !needs_prompt(graph));
            let caches = takes(names.channel) && gives(names.channel_next) && gives(names.channel_len_next);
            takes(names.audio) && caches && gives(names.output) && prompt
        });
        let decoder_joint = layout
            .decoder_joints
            .iter()
            .find(|names| takes(names.frames) && takes(names.targets) && gives(names.logits));
        let joint = layout
            .joints
            .iter()
            .find(|names| takes(names.frames) && takes(names.prediction) && gives(names.logits));
        let prediction = layout.predictions.iter().find(|names| {
            let states = names.states.is_none_or(|states| states.iter().all(|name| takes(name)));
            takes(names.targets) && states && gives(names.output)
        });
        let without_caches = layout
            .encoders
            .iter()
            .any(|names| takes(names.audio) && takes(names.length) && !takes(names.channel));
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

/// Whether a layout must account for an input that sets the language.
fn needs_prompt(graph: &Graph) -> bool {
    let prompts = LAYOUTS
        .iter()
        .flat_map(|layout| layout.encoders)
        .filter_map(|names| names.prompt);
    let mut names = prompts.map(Prompt::name);
    names.any(|name| graph.find(Side::Input, name).is_some())
}
