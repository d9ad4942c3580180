// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rewrites an encoder for the windows it will be run on, so that no step computes what every step would.
//!
//! An export leaves batch size and window width open and computes shapes, masks and position tables anew at each step.
//! Here every window has one width, so all of that is folded into constants (`net.rs`, `evaluate.rs`, `shapes.rs`,
//! `movement.rs`). Then come the rewrites: keys and values are cached in place of what they are computed from
//! (`attention.rs`), each layer has its caches to itself (`caches.rs`), the relative shift is a gather (`positions.rs`),
//! masks do no more than they must (`masks.rs`),
//! pointwise convolutions are matrix products (`convolution.rs`), and those have no batch axis (`rows.rs`). Each is exact: the same numbers are summed.
//!
//! `subsampling.rs` saves copies before the first layer.
//!
//! Everything is found by what the nodes do, never by their names. What is not found stays as it is, and is named in
//! [`Plan::notes`].

mod attention;
mod caches;
mod convolution;
mod evaluate;
mod masks;
mod movement;
mod net;
mod positions;
mod rows;
mod shapes;
mod subsampling;
mod value;

use self::net::{Attribute, Net};
use super::{DROP_INPUT, Graph, Streaming, onnx::attribute_proto::AttributeType, streaming::carry_drop};
use crate::window::full_width;

/// Since this opset axes and sizes are inputs of `Unsqueeze`, `Split` and others, where they were attributes.
const OLDEST_OPSET: i64 = 13;

/// A tensor that one step writes and the next one reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Input that reads it.
    pub input: String,
    /// Output that writes it.
    pub output: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// `None`: `output` is the whole tensor for the next step. Else it is new rows along the last axis but one, to be put
    /// behind those that are there, the oldest of which make room.
    pub new_rows: Option<usize>,
}

impl State {
    /// The caches of an export as it is: see [`Streaming`].
    pub fn of_export(s: &Streaming) -> Vec<Self> {
        let state = |input: &str, dims: [usize; 4]| Self {
            input: input.into(),
            output: format!("{input}_next"),
            dims: dims.into(),
            new_rows: None,
        };
        vec![
            state("cache_last_channel", [1, s.layers, s.left, s.width]),
            state("cache_last_time", [1, s.layers, s.width, s.conv_left]),
        ]
    }
}

/// What became of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The width of every window, in mel frames; shorter ones are filled up with zeros.
    pub width: usize,
    /// What a stream remembers, besides the length of the attention cache.
    pub states: Vec<State>,
    /// What was not recognised and so left as it is, and why.
    pub notes: Vec<String>,
}

/// Rewrites `graph` for windows of lookahead `lookahead`. All windows of a stream then have the same width, with the
/// number of dropped outputs as input [`DROP_INPUT`].
///
/// # Errors
/// A sentence that says why it cannot be rewritten at all; `graph` is not usable then.
pub fn plan(graph: &mut Graph, streaming: &Streaming, lookahead: usize) -> Result<Plan, String> {
    let has_graphs = |node: &super::NodeProto| {
        let is_graph = |a: &super::onnx::AttributeProto| a.r#type() == AttributeType::Graph || a.g.is_some();
        node.attribute.iter().any(is_graph)
    };
    if graph.graph.node.iter().any(has_graphs) {
        return Err("it has branches or loops".into());
    }
    well_formed(graph)?;
    let opset = graph
        .header
        .opset_import
        .iter()
        .find(|set| set.domain().is_empty() || set.domain() == "ai.onnx");
    let opset = opset.map_or(0, |set| set.version());
    if opset < OLDEST_OPSET {
        return Err(format!(
            "it is of opset {opset}; plans are made for {OLDEST_OPSET} and newer"
        ));
    }
    let place = carry_drop(graph)?;
    let width = full_width(lookahead);
    let s = streaming;
    let mut net = Net::take(graph);
    keep_one_chunk(&mut net, place.slice, place.sub, lookahead + 1);

    let inputs: [(&str, &[usize]); 5] = [
        ("audio_signal", &[1, s.mels, width]),
        ("length", &[1]),
        ("cache_last_channel", &[1, s.layers, s.left, s.width]),
        ("cache_last_time", &[1, s.layers, s.width, s.conv_left]),
        ("cache_last_channel_len", &[1]),
    ];
    for (name, dims) in inputs {
        net.fix_input(name, dims)
            .ok_or_else(|| format!("it has no input {name}"))?;
    }
    net.sort().ok_or("its nodes wait for each other in a circle")?;
    net.fold();
    net.remove_dead();

    let mut notes = Vec::new();
    let [channel, time]: [State; 2] = State::of_export(s)
        .try_into()
        .map_err(|_| "an export has two caches".to_owned())?;
    let mut states = Vec::new();
    match attention::cache_keys_and_values(&mut net, &channel.input, &channel.output) {
        Ok(found) => states.extend(found),
        Err(reason) => {
            notes.push(format!("keys and values are computed anew at each step: {reason}"));
            states.push(channel);
        }
    }
    match caches::split(&mut net, &time.input, &time.output, 2) {
        Ok(found) => states.extend(found),
        Err(reason) => {
            notes.push(format!("the caches of the convolutions stay stacked: {reason}"));
            states.push(time);
        }
    }
    let shifts = positions::shift_by_gather(&mut net);
    if shifts != s.layers {
        notes.push(format!(
            "the relative shift of attention was found in {shifts} of {} layers",
            s.layers
        ));
    }
    let masks = masks::simplify(&mut net, s, lookahead);
    if masks != (s.layers, s.layers) {
        notes.push(format!(
            "masks were simplified in {} attentions and {} convolutions of {} layers",
            masks.0, masks.1, s.layers
        ));
    }
    let products = convolution::pointwise_as_product(&mut net);
    if products < 2 * s.layers {
        notes.push(format!(
            "{products} pointwise convolutions were found where {} were expected",
            2 * s.layers
        ));
    }
    subsampling::save_copies(&mut net);
    convolution::depthwise_over_two_axes(&mut net);
    rows::drop_batch_axis(&mut net);
    net.give_back(graph);
    Ok(Plan { width, states, notes })
}

/// Whether each node has the inputs and outputs that its operation must have: what follows relies on it.
fn well_formed(graph: &Graph) -> Result<(), String> {
    for node in &graph.graph.node {
        let inputs = match node.op_type() {
            "Constant" => 0,
            "Add" | "Conv" | "Div" | "Expand" | "Gather" | "MatMul" | "Mul" | "Pad" | "Reshape" | "Sub" | "Tile"
            | "Unsqueeze" => 2,
            "Slice" | "Where" => 3,
            _ => 1,
        };
        if node.input.len() < inputs || node.output.is_empty() {
            return Err(format!(
                "its node {:?} has not all inputs and outputs of {}",
                node.name(),
                node.op_type()
            ));
        }
    }
    Ok(())
}

/// Takes `outputs` frames from the one that input [`DROP_INPUT`] names, where the export takes all but a built-in number:
/// so their number is fixed, whatever the window drops.
///
/// The first window has no carry and so fewer mel frames, filled up at the end; the outputs of what was filled in lie
/// behind those that are taken.
fn keep_one_chunk(net: &mut Net, slice: usize, sub: usize, outputs: usize) {
    net.inputs.push(super::value_info(
        DROP_INPUT,
        super::onnx::tensor_proto::DataType::Int64 as i32,
        &[1],
    ));
    net.shapes.insert(DROP_INPUT.into(), vec![1]);
    net.nodes[sub].input[1] = DROP_INPUT.into();
    let chunk: Vec<i64> = (0..outputs as i64).collect();
    let chunk = net.add_ints(&chunk);
    let kept = net.add("Add", &[DROP_INPUT, &chunk], &[]);
    let frames = net.nodes[slice].input[0].clone();
    let output = net.nodes[slice].output[0].clone();
    let unused = net.new_name("unused");
    net.nodes[slice].output[0] = unused;
    net.add_as(&output, "Gather", &[&frames, &kept], &[("axis", Attribute::Int(1))]);
}

#[cfg(test)]
mod tests {
    use super::{value::Value, *};
    use crate::graph::NodeProto;

    fn export() -> (Graph, Streaming) {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/tiny_random/encoder-rnnt_la13.onnx"
        );
        let graph = Graph::decode(std::fs::read(path).unwrap().into()).unwrap();
        let streaming = Streaming::read(&graph).unwrap();
        (graph, streaming)
    }

    /// The plan of an export after `change`.
    fn plan_changed(change: impl FnOnce(&mut super::super::onnx::GraphProto)) -> Result<Plan, String> {
        let (mut graph, streaming) = export();
        change(&mut graph.graph);
        plan(&mut graph, &streaming, 1)
    }

    /// The one node of `operation` that takes what has `part` in its name.
    fn find<'a>(nodes: &'a mut [NodeProto], operation: &str, part: &str) -> &'a mut NodeProto {
        let takes = |node: &&mut NodeProto| node.op_type() == operation && node.input[0].contains(part);
        nodes.iter_mut().find(takes).unwrap()
    }

    fn is_stacked(plan: &Plan, name: &str) -> bool {
        plan.states.iter().any(|state| state.input == name)
    }

    #[test]
    fn keys_that_no_constant_projects_are_left() {
        let found = plan_changed(|graph| {
            let float = super::super::onnx::tensor_proto::DataType::Float as i32;
            graph.input.push(super::super::value_info("weight", float, &[64, 64]));
            find(&mut graph.node, "MatMul", "layers.2/self_attn/Concat").input[1] = "weight".into();
        });
        let found = found.unwrap();
        assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
        assert!(found.notes[0].contains("layer 2"), "{:?}", found.notes);
        assert!(is_stacked(&found, "cache_last_channel") && !is_stacked(&found, "cache_last_time"));
    }

    #[test]
    fn caches_that_are_stacked_in_another_way_are_left() {
        let found = plan_changed(|graph| {
            let last = graph
                .node
                .iter_mut()
                .find(|node| node.output[0] == "cache_last_time_next");
            last.unwrap().op_type = Some("Relu".into());
        });
        let found = found.unwrap();
        assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
        assert!(found.notes[0].contains("cache_last_time_next"), "{:?}", found.notes);
        assert!(!is_stacked(&found, "cache_last_channel") && is_stacked(&found, "cache_last_time"));
    }

    #[test]
    fn another_shift_of_positions_is_left() {
        let found = plan_changed(|graph| {
            let pad = find(&mut graph.node, "Pad", "layers.1/self_attn");
            let scores = std::mem::replace(&mut pad.input[0], "positive".into());
            graph.node.push(NodeProto {
                op_type: Some("Relu".into()),
                input: vec![scores],
                output: vec!["positive".into()],
                ..Default::default()
            });
        });
        let notes = found.unwrap().notes;
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("3 of 4 layers"), "{notes:?}");
    }

    #[test]
    fn a_mask_that_hides_audio_is_left() {
        // Frames count as hidden from one before the end on.
        let found = plan_changed(|graph| {
            let less = graph.node.iter_mut().filter(|node| node.op_type() == "Less");
            let key_mask = less.last().unwrap();
            assert!(key_mask.input[1].contains("Unsqueeze_6"));
            let end = std::mem::replace(&mut key_mask.input[1], "earlier".into());
            let one = Value::of_ints(vec![], &[1]).to_tensor("one");
            graph.initializer.push(one);
            graph.node.push(NodeProto {
                op_type: Some("Sub".into()),
                input: vec![end, "one".into()],
                output: vec!["earlier".into()],
                ..Default::default()
            });
        });
        let notes = found.unwrap().notes;
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("0 convolutions of 4 layers"), "{notes:?}");
    }

    #[test]
    fn a_node_without_inputs_is_named() {
        let found = plan_changed(|graph| {
            let gather = graph.node.iter_mut().find(|node| node.op_type() == "Gather").unwrap();
            gather.input.truncate(1);
        });
        assert!(found.unwrap_err().contains("Gather"));
    }

    #[test]
    fn control_flow_is_not_touched() {
        let found = plan_changed(|graph| {
            let attribute = super::super::onnx::AttributeProto {
                g: Some(Default::default()),
                ..Default::default()
            };
            graph.node[0].attribute.push(attribute);
        });
        assert_eq!(found.unwrap_err(), "it has branches or loops");
    }
}
