// SPDX-License-Identifier: MIT OR Apache-2.0

//! Composes two graphs into one, so that they need only one run: the prediction network or the joint's projection with
//! the scoring part of the joint; the encoder with both parts.

use std::collections::HashSet;

use crate::{
    Graph,
    ir::boundary::Side,
    ops::{PACKED_MATMUL, WEIGHTS_INDEX},
};

/// Prefix of the names of the second graph.
const PREFIX: &str = "scoring/";

/// Appends `scoring` to `before`, whose output `shared_tensor` it reads; both may be
/// [prepacked](Graph::prepack_matmuls). The result has the inputs and outputs of both, including `shared_tensor` as
/// output.
///
/// # Errors
/// A sentence that says why they cannot be composed.
pub fn compose(before: &Graph, scoring: &Graph, shared_tensor: &str) -> Result<Graph, String> {
    let (mut merged, mut scoring) = (before.clone(), scoring.clone());
    for set in &scoring.header.opset_import {
        let opsets = merged.header.opset_import.iter();
        match opsets.clone().find(|known| known.domain() == set.domain()) {
            Some(known) if known.version() != set.version() => {
                return Err(format!("their opsets are {} and {}", known.version(), set.version()));
            }
            Some(_) => {}
            None => merged.header.opset_import.push(set.clone()),
        }
    }
    if merged.header.functions != scoring.header.functions {
        return Err("they have different local functions".into());
    }
    if merged.find(Side::Output, shared_tensor).is_none() || scoring.find(Side::Input, shared_tensor).is_none() {
        return Err("no output of the first is an input of the second".into());
    }
    let shared = ["prediction", "projected", "outputs", "scores"];
    let mut names: HashSet<String> = scoring.nodes.iter().flat_map(|node| node.output.clone()).collect();
    names.extend(scoring.initializers.iter().map(|weight| weight.name().to_owned()));
    let produced: HashSet<&str> = merged
        .nodes
        .iter()
        .flat_map(|node| &node.output)
        .map(String::as_str)
        .collect();
    if let Some(name) = shared
        .iter()
        .find(|&&name| names.contains(name) && produced.contains(name))
    {
        return Err(format!("both produce {name}"));
    }
    for name in names
        .iter()
        .filter(|name| !shared.contains(&name.as_str()) && !name.is_empty())
    {
        scoring.rename(name, &format!("{PREFIX}{name}"));
    }
    let packed_count = merged.packed.len() as i64;
    for node in &mut scoring.nodes {
        let numbers = node
            .attribute
            .iter_mut()
            .filter(|attribute| attribute.name() == WEIGHTS_INDEX);
        for number in numbers.filter(|_| node.op_type.as_deref() == Some(PACKED_MATMUL.name)) {
            number.i = number.i.map(|number| number + packed_count);
        }
    }
    let second = &mut scoring;
    merged.nodes.append(&mut second.nodes);
    merged
        .initializers
        .extend(Vec::from(std::mem::take(&mut second.initializers)));
    merged
        .rest
        .sparse_initializer
        .append(&mut second.rest.sparse_initializer);
    second.inputs.retain(|input| input.name() != shared_tensor);
    merged.inputs.append(&mut second.inputs);
    merged.outputs.append(&mut second.outputs);
    // What the first graph knows about the shared tensor is also true for the second one.
    for (name, dims) in std::mem::take(&mut second.shapes) {
        merged.shapes.entry(name).or_insert(dims);
    }
    merged.packed.append(&mut second.packed);
    merged.files.append(&mut second.files);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TensorInfo, split_joint, transducer_in};

    fn parts() -> (Graph, Graph) {
        let graphs = transducer_in("../nemostt/assets/demo-model/decoder_joint-model.onnx");
        (graphs.prediction, split_joint(&graphs.joint).unwrap().scoring)
    }

    fn names(infos: Vec<TensorInfo>) -> Vec<String> {
        let mut names: Vec<String> = infos.into_iter().map(|info| info.name).collect();
        names.sort();
        names
    }

    #[test]
    fn composed_graph_has_the_io_of_both() {
        let (mut prediction, mut scoring) = parts();
        for packed in [false, true] {
            if packed {
                prediction.prepack_matmuls().unwrap();
                scoring.prepack_matmuls().unwrap();
            }
            let merged = compose(&prediction, &scoring, "prediction").unwrap();
            let inputs = ["input_states_1", "input_states_2", "projected", "targets"];
            let outputs = ["output_states_1", "output_states_2", "outputs", "prediction"];
            assert_eq!(names(merged.inputs()), inputs);
            assert_eq!(names(merged.outputs()), outputs);
            assert_eq!(merged.nodes.len(), prediction.nodes.len() + scoring.nodes.len());
            assert_eq!(merged.packed.len(), prediction.packed.len() + scoring.packed.len());
            let mut produced = HashSet::new();
            assert!(
                merged
                    .nodes
                    .iter()
                    .flat_map(|node| &node.output)
                    .all(|output| produced.insert(output))
            );
        }
    }

    #[test]
    fn different_opsets_are_rejected() {
        let (prediction, mut scoring) = parts();
        for set in &mut scoring.header.opset_import {
            set.version = Some(set.version() + 1);
        }
        assert!(
            compose(&prediction, &scoring, "prediction")
                .unwrap_err()
                .contains("opsets")
        );
        let (mut prediction, scoring) = parts();
        prediction.remove(Side::Output, "prediction");
        assert!(
            compose(&prediction, &scoring, "prediction")
                .unwrap_err()
                .contains("no output of the first")
        );
    }
}
