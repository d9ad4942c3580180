// SPDX-License-Identifier: MIT OR Apache-2.0

//! Splits the part of a specialized graph that does not depend on the audio off into a separate graph: that which depends
//! on lengths, and in multilingual models on the language prompt.
//!
//! The length of the window, the number of dropped outputs and the number of valid frames in the cache determine
//! attention masks, selected frames and output lengths: 60 nodes of a few microseconds each, which take 0.2 ms per
//! step. Once a stream's cache is full, these three numbers are the same in every step, and so is the prompt until the
//! language is changed. So this part runs only when one of them changes, and its results are inputs of the other part.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::ir::{constant::attribute, graph::is_onnx_domain};
use crate::onnx::types::{element_code, element_type, value_info};
use crate::{
    DROP_INPUT, ElementType, Encoded, Graph, NodeProto, PROMPT_INPUT, ValueInfoProto, onnx::tensor_proto::DataType,
};

/// The length inputs: mel frames of the window, dropped outputs, valid frames in the attention cache.
pub const LENGTHS: [&str; 3] = ["length", DROP_INPUT, "cache_last_channel_len"];

/// The length outputs: encoder frames, valid frames in the attention cache after the step.
pub const NEXT_LENGTHS: [&str; 2] = ["encoded_lengths", "cache_last_channel_next_len"];

/// What the length graph may depend on: [`LENGTHS`] and the language prompt.
pub const LENGTH_GRAPH_INPUTS: [&str; 4] = [LENGTHS[0], LENGTHS[1], LENGTHS[2], PROMPT_INPUT];

/// A graph in two parts.
pub struct SplitGraph {
    /// Depends on some of [`LENGTH_GRAPH_INPUTS`]; computes [`NEXT_LENGTHS`] and the tensors in `boundary`.
    pub lengths: Encoded,
    /// Which of [`LENGTH_GRAPH_INPUTS`] are its inputs.
    pub taken: Vec<&'static str>,
    /// The ONNX model of everything else. The tensors in `boundary` are additional inputs; otherwise its inputs and
    /// outputs are those of the whole graph.
    pub rest: Vec<u8>,
    /// Which of [`LENGTH_GRAPH_INPUTS`] are still inputs of `rest`.
    pub still_taken: Vec<&'static str>,
    /// Tensors that `lengths` computes and `rest` reads.
    pub boundary: Vec<BoundaryTensor>,
}

/// A tensor that one part computes and the other one reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundaryTensor {
    /// Its name in both graphs.
    pub name: String,
    /// Float32 or int64.
    pub element: ElementType,
    /// Its shape.
    pub dims: Vec<usize>,
}

impl Encoded {
    /// Splits the part that depends only on [`LENGTH_GRAPH_INPUTS`] off.
    ///
    /// # Errors
    /// A sentence that says why that is not possible.
    pub fn split_length_graph(&self) -> Result<SplitGraph, String> {
        let graph = Graph::decode(Bytes::copy_from_slice(&self.model)).map_err(|fault| fault.to_string())?;
        let (lengths, rest, boundary) = split(graph)?;
        let [taken, still_taken] = [&lengths, &rest].map(|graph| {
            let mut names = LENGTH_GRAPH_INPUTS.to_vec();
            names.retain(|name| graph.input(name).is_some());
            names
        });
        Ok(SplitGraph {
            lengths: Encoded {
                files: self.files.clone(),
                ..lengths.encode()
            },
            taken,
            rest: rest.encode().model,
            still_taken,
            boundary,
        })
    }
}

/// The part that depends only on lengths, the rest, and the tensors at the boundary.
fn split(mut graph: Graph) -> Result<(Graph, Graph, Vec<BoundaryTensor>), String> {
    let whole = graph.clone();
    graph.infer_shapes();
    let elements = elements(&graph);
    let is_produced = |name: &str| {
        graph
            .nodes
            .iter()
            .any(|node| node.output.iter().any(|output| output == name))
    };
    let is_number =
        |name: &str| graph.shape(name) == Some(&[1][..]) && elements.get(name).is_some_and(LengthTensor::is_int64);
    if let Some(missing) = NEXT_LENGTHS.iter().find(|name| !(is_produced(name) && is_number(name))) {
        return Err(format!("{missing} does not only depend on the lengths"));
    }
    let (in_rest, boundary) = partition(&graph, &elements);
    if boundary.is_empty() {
        return Err("nothing in it depends only on the lengths".into());
    }

    let infos = boundary.iter().map(|found| {
        let code = elements[found.name.as_str()].element as i32;
        value_info(&found.name, code, &found.dims)
    });
    let infos: Vec<_> = infos.collect();
    let (mut lengths, mut rest) = (whole.clone(), whole);
    lengths.nodes.retain(|node| is_known(node, &elements));
    lengths.outputs.retain(|output| NEXT_LENGTHS.contains(&output.name()));
    lengths.outputs.extend(infos.iter().cloned());
    lengths.prune();
    // Custom operators never belong to the length graph.
    lengths.header.opset_import.retain(|set| is_onnx_domain(set.domain()));

    let mut number = 0..;
    rest.nodes
        .retain(|_| number.next().is_some_and(|number| in_rest.contains(&number)));
    rest.outputs.retain(|output| !NEXT_LENGTHS.contains(&output.name()));
    rest.inputs.extend(infos);
    let inputs = rest.inputs.clone();
    rest.prune();
    // Callers bind all other inputs, whether they are used or not.
    let is_taken =
        |input: &ValueInfoProto| !LENGTH_GRAPH_INPUTS.contains(&input.name()) || rest.input(input.name()).is_some();
    rest.inputs = inputs.into_iter().filter(is_taken).collect();
    Ok((lengths, rest, boundary))
}

/// Indices of the nodes of the rest, and its inputs from the other part.
fn partition(graph: &Graph, elements: &HashMap<String, LengthTensor>) -> (HashSet<usize>, Vec<BoundaryTensor>) {
    let known = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| is_known(node, elements));
    let producers = known.flat_map(|(number, node)| node.output.iter().map(move |output| (output.as_str(), number)));
    let producers: HashMap<&str, usize> = producers.collect();
    let mut in_rest: HashSet<usize> = (0..graph.nodes.len())
        .filter(|&number| !is_known(&graph.nodes[number], elements))
        .collect();
    let given = graph.outputs.iter().map(|output| output.name());
    let given = given.filter(|name| !NEXT_LENGTHS.contains(name));
    in_rest.extend(given.filter_map(|name| producers.get(name)));

    let mut boundary: Vec<BoundaryTensor> = Vec::new();
    let mut open: Vec<usize> = in_rest.iter().copied().collect();
    while let Some(number) = open.pop() {
        for name in &graph.nodes[number].input {
            let Some(&producer) = producers.get(name.as_str()) else {
                continue;
            };
            if in_rest.contains(&producer) || boundary.iter().any(|found| found.name == *name) {
                continue;
            }
            match elements[name].boundary(name, graph.shape(name)) {
                Some(found) => boundary.push(found),
                // Cheap, so both parts compute it.
                None => {
                    in_rest.insert(producer);
                    open.push(producer);
                }
            }
        }
    }
    boundary.sort_by(|a, b| a.name.cmp(&b.name));
    (in_rest, boundary)
}

/// A tensor that depends only on lengths, the language prompt and constants.
struct LengthTensor {
    element: DataType,
    /// Whether it depends on a length or the prompt.
    varies: bool,
}

impl LengthTensor {
    fn is_int64(&self) -> bool {
        self.element == DataType::Int64
    }

    fn boundary(&self, name: &str, dims: Option<&[usize]>) -> Option<BoundaryTensor> {
        let element = element_type(self.element as i32);
        let fits =
            self.varies && matches!(element, ElementType::F32 | ElementType::I64) && !NEXT_LENGTHS.contains(&name);
        Some(BoundaryTensor {
            name: name.into(),
            element,
            dims: dims.filter(|_| fits)?.into(),
        })
    }
}

/// All tensors that depend only on lengths, the language prompt and constants.
fn elements(graph: &Graph) -> HashMap<String, LengthTensor> {
    let known = |element: i32, varies| {
        let element = DataType::try_from(element).ok()?;
        Some(LengthTensor { element, varies })
    };
    let mut elements: HashMap<String, LengthTensor> = HashMap::new();
    let given = |input: &&ValueInfoProto| LENGTH_GRAPH_INPUTS.contains(&input.name());
    for input in graph.inputs.iter().filter(given) {
        elements.extend(known(element_code(input), true).map(|known| (input.name().into(), known)));
    }
    for node in &graph.nodes {
        for input in &node.input {
            if let Some(weight) = graph.weight(input) {
                elements.extend(known(weight.data_type(), false).map(|known| (input.clone(), known)));
            }
        }
        // Nodes are sorted topologically.
        let inputs = node.input.iter().filter(|input| !input.is_empty());
        let of_inputs: Option<Vec<&LengthTensor>> = inputs.map(|input| elements.get(input)).collect();
        if let ([output], Some(of_inputs)) = (&node.output[..], of_inputs)
            && let Some(element) = element_of(node, &of_inputs)
        {
            let varies = of_inputs.iter().any(|input| input.varies);
            elements.insert(output.clone(), LengthTensor { element, varies });
        }
    }
    elements
}

/// Whether all outputs of `node` are among `elements`.
fn is_known(node: &NodeProto, elements: &HashMap<String, LengthTensor>) -> bool {
    node.output.iter().all(|output| elements.contains_key(output))
}

/// The element type of `node`'s output, for the operators that compute masks and lengths, and the term of a sum that belongs
/// to the language prompt.
fn element_of(node: &NodeProto, inputs: &[&LengthTensor]) -> Option<DataType> {
    if !is_onnx_domain(node.domain()) {
        return None;
    }
    match node.op_type() {
        "Cast" => DataType::try_from(i32::try_from(attribute(node, "to")?).ok()?).ok(),
        "And" | "Or" | "Not" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => Some(DataType::Bool),
        "Where" => Some(inputs.get(1)?.element),
        "OneHot" => Some(inputs.get(2)?.element),
        "Add" | "Ceil" | "Clip" | "Concat" | "Div" | "Expand" | "Floor" | "Gather" | "Gemm" | "Identity" | "MatMul"
        | "Max" | "Min" | "Mul" | "Neg" | "Reshape" | "ScatterElements" | "Slice" | "Squeeze" | "Sub" | "Tile"
        | "Transpose" | "Unsqueeze" => Some(inputs.first()?.element),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StreamingConfig, TensorInfo, graph_in, onnx::GraphProto, passes::Attribute, specialize};

    /// The demo model's specialized encoder; `fused`: with custom operators.
    fn specialized(lookahead: usize, fused: bool) -> Graph {
        let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
        let streaming = StreamingConfig::read(&graph).unwrap();
        let (mut specialized, _) = specialize(&mut graph, &streaming, lookahead).unwrap();
        if fused {
            crate::fusions::fuse(&mut graph, &mut specialized, &streaming);
        }
        graph
    }

    fn names(infos: &[TensorInfo]) -> Vec<&str> {
        infos.iter().map(|info| info.name.as_str()).collect()
    }

    #[test]
    fn mask_nodes_move_to_the_length_graph() {
        for lookahead in [0, 1, 13] {
            let plain = specialized(lookahead, false);
            let mut fused = specialized(lookahead, true);
            fused.prepack_matmuls().unwrap();
            fused.fuse_subgraphs();
            for whole in [plain, fused] {
                let (lengths, rest, boundary) = split(whole.clone()).unwrap();
                let (all, split_off) = (whole.nodes.len(), lengths.nodes.len());
                assert_eq!(all, split_off + rest.nodes.len());
                assert!(split_off > 20, "{split_off}");
                assert!(lengths.nodes.iter().all(|node| is_onnx_domain(node.domain())));
                assert!(LENGTHS.iter().all(|name| lengths.input(name).is_some()) && lengths.inputs().len() == 3);
                assert!(LENGTHS.iter().all(|name| rest.input(name).is_none()));
                // All other inputs and outputs are unchanged.
                let boundary: Vec<&str> = boundary.iter().map(|found| found.name.as_str()).collect();
                assert_eq!(names(&lengths.outputs()), [&NEXT_LENGTHS[..], &boundary].concat());
                let (whole_inputs, whole_outputs) = (whole.inputs(), whole.outputs());
                let mut inputs = names(&whole_inputs);
                inputs.retain(|name| !LENGTHS.contains(name));
                assert_eq!(names(&rest.inputs()), [inputs, boundary].concat());
                let mut outputs = names(&whole_outputs);
                outputs.retain(|name| !NEXT_LENGTHS.contains(name));
                assert_eq!(names(&rest.outputs()), outputs);
            }
        }
    }

    /// A graph of `nodes` (operator, inputs, output) with `outputs` and [`NEXT_LENGTHS`].
    fn graph(nodes: &[(&str, &[&str], &str)], outputs: &[&str]) -> Graph {
        let int64 = DataType::Int64 as i32;
        let inputs = LENGTHS.map(|name| value_info(name, int64, &[1]));
        let audio = value_info("audio_signal", DataType::Float as i32, &[1]);
        let outputs = outputs
            .iter()
            .map(|name| value_info(name, DataType::Float as i32, &[1]));
        let node = |(operation, inputs, output): &(&str, &[&str], &str)| NodeProto {
            op_type: Some((*operation).into()),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![(*output).into()],
            attribute: match *operation {
                "Cast" => vec![Attribute::Int(1).to_proto("to")],
                _ => Vec::new(),
            },
            ..Default::default()
        };
        let inner = GraphProto {
            node: nodes.iter().map(node).collect(),
            input: inputs.into_iter().chain([audio]).collect(),
            output: NEXT_LENGTHS
                .iter()
                .map(|name| value_info(name, int64, &[1]))
                .chain(outputs)
                .collect(),
            ..Default::default()
        };
        let mut graph = specialized(0, false);
        graph.edit_proto(|graph| *graph = inner);
        graph
    }

    const NEXT: [(&str, &[&str], &str); 2] = [
        ("Sub", &["length", "drop_extra_pre_encoded"], NEXT_LENGTHS[0]),
        ("Add", &["cache_last_channel_len", NEXT_LENGTHS[0]], NEXT_LENGTHS[1]),
    ];

    #[test]
    fn boolean_producers_are_duplicated_in_both_graphs() {
        assert_eq!(LENGTHS[1], "drop_extra_pre_encoded");
        let nodes: [(&str, &[&str], &str); 5] = [
            ("Mul", &["length", "length"], "square"),
            ("Less", &["square", "cache_last_channel_len"], "mask"),
            ("Cast", &["square"], "floats"),
            ("Where", &["mask", "audio_signal", "floats"], "chosen"),
            ("Not", &["mask"], "unmasked"),
        ];
        let nodes = [&NEXT[..], &nodes].concat();
        let (lengths, rest, boundary) = split(graph(&nodes, &["chosen"])).unwrap();
        let found: Vec<(&str, ElementType)> = boundary.iter().map(|c| (c.name.as_str(), c.element)).collect();
        assert_eq!(found, [("floats", ElementType::F32), ("square", ElementType::I64)]);
        assert!(lengths.operations().eq(["Sub", "Add", "Mul", "Cast"]));
        assert!(rest.operations().eq(["Less", "Where"]));
        assert_eq!(
            names(&rest.inputs()),
            ["cache_last_channel_len", "audio_signal", "floats", "square"]
        );
    }

    #[test]
    fn graph_without_masks_is_not_split() {
        let reason = |nodes: &[(&str, &[&str], &str)]| {
            let nodes = [&NEXT[..], nodes].concat();
            split(graph(&nodes, &["chosen"])).unwrap_err()
        };
        assert!(reason(&[("Relu", &["audio_signal"], "chosen")]).contains("nothing"));
        // Its size is only known at run time.
        let nodes: [(&str, &[&str], &str); 3] = [
            ("Expand", &["length", "length"], "repeated"),
            ("Cast", &["repeated"], "floats"),
            ("Add", &["audio_signal", "floats"], "chosen"),
        ];
        assert!(reason(&nodes).contains("nothing"));

        let mut counted = NEXT;
        counted[0] = ("ReduceSum", &["audio_signal"], NEXT_LENGTHS[0]);
        let reason = split(graph(&counted, &[])).unwrap_err();
        assert!(reason.contains("encoded_lengths"), "{reason}");
    }
}
