// SPDX-License-Identifier: MIT OR Apache-2.0

//! Brings every layout of exports to one contract: names, axes and element types of inputs and outputs, and the numbers that the
//! export baked into the graph.

pub(crate) mod canonicalize;
pub(crate) mod expose_drop_input;
pub(crate) mod layouts;
pub(crate) mod streaming_config;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests;
pub(crate) mod transducer;

use self::{canonicalize::Contract, layouts::Detected, transducer::TransducerGraphs};
use crate::{Graph, GraphError, onnx::validate};

/// A part of a model, brought to the one contract.
#[derive(Debug)]
pub enum Component {
    /// An encoder, with or without a CTC head: see [`Contract`].
    Encoder(Graph, Contract),
    /// An encoder that was exported without its caches.
    EncoderWithoutCaches,
    /// Prediction network and joint that came in one file.
    Transducer(Box<TransducerGraphs>),
    /// A prediction network.
    Prediction(Graph),
    /// A joint.
    Joint(Joint),
}

impl Component {
    /// What it is.
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

/// A joint that is brought to the contract as soon as the width of the encoder is known.
#[derive(Debug)]
pub struct Joint {
    graph: Graph,
    names: &'static layouts::JointNames,
}

impl Joint {
    /// The two graphs of a transducer whose encoder frames are `width` wide.
    ///
    /// # Errors
    /// What they lack.
    pub fn with(self, prediction: Graph, width: usize) -> Result<TransducerGraphs, GraphError> {
        transducer::join(prediction, self.graph, self.names, width)
    }
}

/// Recognises the layout of `graph` by its inputs and outputs, and brings it to the contract. Gives the layout's name, too.
///
/// # Errors
/// What it lacks, or what it is instead.
pub fn import(mut graph: Graph) -> Result<(&'static str, Component), GraphError> {
    let Some((layout, recognized)) = layouts::detect(&graph) else {
        let inputs: Vec<String> = graph.inputs().into_iter().map(|input| input.name).collect();
        return Err(GraphError::UnknownLayout {
            inputs: inputs.join(", "),
        });
    };
    // What is not recognised may be anything else that lies beside the model.
    validate::validate(&graph, false)?;
    let part = match recognized {
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
