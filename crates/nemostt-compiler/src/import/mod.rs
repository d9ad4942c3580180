// SPDX-License-Identifier: MIT OR Apache-2.0

//! Converts exports of all layouts to the canonical one: names, axes and element types of inputs and outputs, and the
//! parameters that the export stores as constants in the graph.

pub(crate) mod canonicalize;
pub(crate) mod expose_drop_input;
pub(crate) mod layouts;
pub(crate) mod streaming_config;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests;
pub(crate) mod transducer;

use self::{canonicalize::Contract, layouts::Detected, transducer::TransducerGraphs};
use crate::{Graph, GraphError, files::validate};

/// A part of a model, in the canonical layout.
#[derive(Debug)]
pub enum Component {
    /// An encoder, with or without a CTC head: see [`Contract`].
    Encoder(Graph, Contract),
    /// An encoder that was exported without its caches.
    EncoderWithoutCaches,
    /// Prediction network and joint from one file.
    Transducer(Box<TransducerGraphs>),
    /// A prediction network.
    Prediction(Graph),
    /// A joint.
    Joint(Joint),
}

impl Component {
    /// Name for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Encoder(_, contract) if contract.ctc => "encoder with CTC head",
            Self::Encoder(..) | Self::EncoderWithoutCaches => "encoder",
            Self::Transducer(_) => "prediction network and joint",
            Self::Prediction(_) => "prediction network",
            Self::Joint(_) => "joint",
        }
    }
}

/// A joint that is canonicalized once the width of the encoder is known.
#[derive(Debug)]
pub struct Joint {
    graph: Graph,
    names: &'static layouts::JointNames,
}

impl Joint {
    /// The graphs of a transducer whose encoder frames have `width` values.
    ///
    /// # Errors
    /// If a graph lacks something, or the graphs do not match.
    pub fn with(self, prediction: Graph, width: usize) -> Result<TransducerGraphs, GraphError> {
        transducer::join(prediction, self.graph, self.names, width)
    }
}

/// Detects the layout of `graph` from its inputs and outputs, and converts it to the canonical one. Also returns the
/// layout's name.
///
/// # Errors
/// If the layout is unknown or not supported.
pub fn import(mut graph: Graph) -> Result<(&'static str, Component), GraphError> {
    let Some((layout, detected)) = layouts::detect(&graph) else {
        let inputs: Vec<String> = graph.inputs().into_iter().map(|input| input.name).collect();
        return Err(GraphError::UnknownLayout {
            inputs: inputs.join(", "),
        });
    };
    // An unknown graph is not validated: it may be an unrelated file.
    validate::validate(&graph, false)?;
    let part = match detected {
        Detected::EncoderWithoutCaches => Component::EncoderWithoutCaches,
        Detected::Encoder(names) => {
            let contract = canonicalize::canonicalize(&mut graph, layout.name, names)?;
            Component::Encoder(graph, contract)
        }
        Detected::DecoderJoint(names) => Component::Transducer(Box::new(transducer::split(graph, names)?)),
        Detected::Prediction(names) => Component::Prediction(transducer::prediction(graph, names)?),
        Detected::Joint(names) => Component::Joint(Joint { graph, names }),
    };
    Ok((layout.name, part))
}
