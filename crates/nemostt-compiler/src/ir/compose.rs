// SPDX-License-Identifier: MIT OR Apache-2.0

//! Two graphs as one, and so one run in place of two: the prediction network, or the joint's projection, with the half of the
//! joint that scores; the encoder with both halves.

use std::collections::HashSet;

use crate::{
    Graph,
    ir::boundary::Side,
    ops::{PACKED_MATMUL, WEIGHTS_INDEX},
};

/// What the two graphs are told apart by.
const PREFIX: &str = "scoring/";

/// Puts `scoring` behind `before`, which gives it `meeting`; products of both may be [packed](Graph::prepack_matmuls). The graph
/// takes what they take and gives what they give, `meeting` included.
///
/// # Errors
/// A sentence that says why they stay apart.
pub fn compose(before: &Graph, scoring: &Graph, meeting: &str) -> Result<Graph, String> {
    let (mut merged, mut scoring) = (before.clone(), scoring.clone());
    for set in &scoring.header.opset_import {
        let known = merged.header.opset_import.iter();
        match known.clone().find(|known| known.domain() == set.domain()) {
            Some(known) if known.version() != set.version() => {
                return Err(format!(
                    "they are of operation sets {} and {}",
                    known.version(),
                    set.version()
                ));
            }
            Some(_) => {}
            None => merged.header.opset_import.push(set.clone()),
        }
    }
    if merged.header.functions != scoring.header.functions {
        return Err("they have functions of their own".into());
    }
    if merged.find(Side::Output, meeting).is_none() || scoring.find(Side::Input, meeting).is_none() {
        return Err("nothing goes from one to the other".into());
    }
    let shared = ["prediction", "projected", "outputs", "scores"];
    let mut names: HashSet<String> = scoring.nodes.iter().flat_map(|node| node.output.clone()).collect();
    names.extend(scoring.initializers.iter().map(|weight| weight.name().to_owned()));
    let made: HashSet<&str> = merged
        .nodes
        .iter()
        .flat_map(|node| &node.output)
        .map(String::as_str)
        .collect();
    if let Some(name) = shared.iter().find(|&&name| names.contains(name) && made.contains(name)) {
        return Err(format!("both make {name}"));
    }
    for name in names
        .iter()
        .filter(|name| !shared.contains(&name.as_str()) && !name.is_empty())
    {
        scoring.rename(name, &format!("{PREFIX}{name}"));
    }
    let products = merged.packed.len() as i64;
    for node in &mut scoring.nodes {
        let numbers = node
            .attribute
            .iter_mut()
            .filter(|attribute| attribute.name() == WEIGHTS_INDEX);
        for number in numbers.filter(|_| node.op_type.as_deref() == Some(PACKED_MATMUL.name)) {
            number.i = number.i.map(|number| number + products);
        }
    }
    let from = &mut scoring;
    merged.nodes.append(&mut from.nodes);
    merged
        .initializers
        .extend(Vec::from(std::mem::take(&mut from.initializers)));
    merged.rest.sparse_initializer.append(&mut from.rest.sparse_initializer);
    from.inputs.retain(|input| input.name() != meeting);
    merged.inputs.append(&mut from.inputs);
    merged.outputs.append(&mut from.outputs);
    // What the first half says of the tensor between them holds for the second as well.
    for (name, dims) in std::mem::take(&mut from.shapes) {
        merged.shapes.entry(name).or_insert(dims);
    }
    merged.packed.append(&mut from.packed);
    merged.files.append(&mut from.files);
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
            let mut made = HashSet::new();
            assert!(
                merged
                    .nodes
                    .iter()
                    .flat_map(|node| &node.output)
                    .all(|output| made.insert(output))
            );
        }
    }

    #[test]
    fn graphs_of_different_operation_sets_stay_apart() {
        let (prediction, mut scoring) = parts();
        for set in &mut scoring.header.opset_import {
            set.version = Some(set.version() + 1);
        }
        assert!(
            compose(&prediction, &scoring, "prediction")
                .unwrap_err()
                .contains("operation sets")
        );
        let (mut prediction, scoring) = parts();
        prediction.remove(Side::Output, "prediction");
        assert!(
            compose(&prediction, &scoring, "prediction")
                .unwrap_err()
                .contains("from one to the other")
        );
    }
}
