// SPDX-License-Identifier: MIT OR Apache-2.0

//! A structure-aware mutator for ONNX graphs, for changes that random changes of bytes are unlikely to produce.

mod numbers;

use nemostt::fuzzing::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, attribute_proto::AttributeType,
};
use prost::Message;

use self::numbers::{
    change_attribute, change_numbers, change_value_info, give_attribute, resize_weight, retype_weight,
};
use crate::random::Random;

/// ONNX's codes of element types: float32, float16, double, int32, int64, bool, uint8, int8, bfloat16, string.
const ELEMENTS: [i32; 10] = [1, 10, 11, 6, 7, 9, 2, 3, 16, 8];
const OPERATORS: [&str; 40] = [
    "Add",
    "And",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "Div",
    "Equal",
    "Expand",
    "Floor",
    "Gather",
    "Gemm",
    "Identity",
    "If",
    "LSTM",
    "LayerNormalization",
    "Less",
    "LessOrEqual",
    "LogSoftmax",
    "Loop",
    "MatMul",
    "Mul",
    "Neg",
    "Not",
    "Pad",
    "Range",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Squeeze",
    "Transpose",
    "Where",
];
/// Operators whose output is the same as their input, or similar.
const BETWEEN: [&str; 8] = [
    "Cast",
    "Identity",
    "Neg",
    "Relu",
    "Sigmoid",
    "Tanh",
    "Transpose",
    "Squeeze",
];

type Change = fn(&mut GraphProto, &mut Random) -> Option<()>;

const CHANGES: [Change; 19] = [
    remove_node,
    skip_node,
    move_node,
    other_operator,
    rewire,
    swap_inputs,
    insert,
    copy_node,
    change_attribute,
    give_attribute,
    change_value_info,
    resize_weight,
    retype_weight,
    change_numbers,
    change_numbers,
    share_weight,
    rename,
    other_output,
    add_input,
];

/// Mutates the model in `data[..size]` as `seed` determines and returns its new length. `None` if the bytes are not a
/// model or the result does not fit into `data`.
pub fn model(data: &mut [u8], size: usize, seed: u32) -> Option<usize> {
    let mut random = Random(seed.into());
    if random.one_in(16) {
        return None;
    }
    let mut model = ModelProto::decode(&data[..size]).ok()?;
    for _ in 0..=[0, 0, 0, 1, 2, 5][random.below(6)] {
        if random.one_in(40) {
            let set = random.pick_mut(&mut model.opset_import)?;
            set.version = Some(random.odd(set.version()));
        }
        let graph = model.graph.as_mut()?;
        let change = CHANGES[random.below(CHANGES.len())];
        // A mutation returns `None` if the graph has nothing that it could change.
        let _ = change(graph, &mut random);
    }
    let bytes = model.encode_to_vec();
    data.get_mut(..bytes.len())?.copy_from_slice(&bytes);
    Some(bytes.len())
}

fn remove_node(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let index = random.below(graph.node.len());
    (graph.node.len() > 1).then(|| drop(graph.node.remove(index)))
}

/// Removes a node and connects one of its inputs to its consumers.
fn skip_node(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let index = random.below(graph.node.len());
    let node = graph.node.get(index)?;
    let (from, to) = (node.output.first()?.clone(), random.pick(&node.input)?.clone());
    graph.node.remove(index);
    replace_uses(graph, &from, &to);
    Some(())
}

fn move_node(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let (from, to) = (random.below(graph.node.len()), random.below(graph.node.len()));
    let node = (from < graph.node.len()).then(|| graph.node.remove(from))?;
    graph.node.insert(to, node);
    Some(())
}

fn other_operator(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let known = random.pick(&graph.node)?.op_type().to_owned();
    let node = random.pick_mut(&mut graph.node)?;
    node.op_type = Some(match random.below(2) {
        0 => known,
        _ => OPERATORS[random.below(OPERATORS.len())].into(),
    });
    Some(())
}

/// A random tensor of the graph.
fn tensor(graph: &GraphProto, random: &mut Random) -> Option<String> {
    match random.below(8) {
        0 => Some(random.pick(&graph.input)?.name().into()),
        1 | 2 => Some(random.pick(&graph.initializer)?.name().into()),
        _ => {
            let node = random.pick(&graph.node)?;
            random.pick(&node.output).cloned()
        }
    }
}

fn rewire(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let index = random.below(graph.node.len());
    // Mostly outputs of earlier nodes.
    let earlier = random
        .pick(graph.node.get(..index)?)
        .and_then(|node| node.output.first().cloned());
    let other = match random.below(4) {
        0 => tensor(graph, random),
        _ => earlier,
    };
    let node = graph.node.get_mut(index)?;
    match random.below(12) {
        0 => node.input.push(other?),
        1 => drop(node.input.pop()),
        2 => random.pick_mut(&mut node.input)?.clear(),
        _ => *random.pick_mut(&mut node.input)? = other?,
    }
    Some(())
}

fn swap_inputs(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let node = random.pick_mut(&mut graph.node)?;
    let (a, b) = (random.below(node.input.len()), random.below(node.input.len()));
    (a != b).then(|| node.input.swap(a, b))
}

/// Inserts a node between a tensor and one or all of its consumers.
fn insert(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let name = tensor(graph, random)?;
    let new = fresh(graph, random);
    let operator = BETWEEN[random.below(BETWEEN.len())];
    let mut node = NodeProto {
        op_type: Some(operator.into()),
        input: vec![name.clone()],
        output: vec![new.clone()],
        ..Default::default()
    };
    if operator == "Cast" {
        let to = ELEMENTS[random.below(ELEMENTS.len())];
        node.attribute.push(int_attribute("to", to.into()));
    }
    let users: Vec<usize> = (0..graph.node.len())
        .filter(|&index| graph.node[index].input.contains(&name))
        .collect();
    let first = *users.first()?;
    let chosen = match random.below(2) {
        0 => users,
        _ => vec![*random.pick(&users)?],
    };
    for user in chosen {
        let inputs = graph.node[user].input.iter_mut().filter(|input| **input == name);
        inputs.for_each(|input| input.clone_from(&new));
    }
    graph.node.insert(first, node);
    Some(())
}

fn copy_node(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let index = random.below(graph.node.len());
    let mut node = graph.node.get(index)?.clone();
    for output in &mut node.output {
        *output = fresh(graph, random);
    }
    let (old, new) = (graph.node[index].output.first()?.clone(), node.output.first()?.clone());
    graph.node.insert(index + 1, node);
    // Every other consumer uses the copy.
    let inputs = graph
        .node
        .iter_mut()
        .flat_map(|node| &mut node.input)
        .filter(|input| **input == old);
    inputs
        .skip(random.below(2))
        .step_by(2)
        .for_each(|input| input.clone_from(&new));
    Some(())
}

/// Replaces all uses of one weight by another.
fn share_weight(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let from = random.pick(&graph.initializer)?.name().to_owned();
    let to = random.pick(&graph.initializer)?.name().to_owned();
    replace_uses(graph, &from, &to);
    Some(())
}

/// Gives two tensors the same name.
fn rename(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let name = tensor(graph, random)?;
    match random.below(3) {
        0 => random.pick_mut(&mut graph.input)?.name = Some(name),
        1 => random.pick_mut(&mut graph.initializer)?.name = Some(name),
        _ => {
            let node = random.pick_mut(&mut graph.node)?;
            *random.pick_mut(&mut node.output)? = name;
        }
    }
    Some(())
}

/// Makes a graph output refer to another tensor.
fn other_output(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let output = random.pick(&graph.output)?.name().to_owned();
    let name = tensor(graph, random)?;
    let aside = fresh(graph, random);
    for node in &mut graph.node {
        for made in &mut node.output {
            if *made == output {
                made.clone_from(&aside);
            } else if *made == name {
                made.clone_from(&output);
            }
        }
    }
    replace_uses(graph, &output, &aside);
    replace_uses(graph, &name, &output);
    Some(())
}

/// Adds or removes an input or output.
fn add_input(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let index = random.below(graph.output.len());
    match random.below(4) {
        0 => drop(graph.output.get(index).is_some().then(|| graph.output.remove(index))?),
        1 => {
            let index = random.below(graph.input.len());
            drop(graph.input.get(index).is_some().then(|| graph.input.remove(index))?);
        }
        2 => {
            let name = tensor(graph, random)?;
            let info: ValueInfoProto = random.pick(&graph.output)?.clone();
            graph.output.push(ValueInfoProto {
                name: Some(name),
                ..info
            });
        }
        _ => {
            let name = fresh(graph, random);
            let info: ValueInfoProto = random.pick(&graph.input)?.clone();
            graph.input.push(ValueInfoProto {
                name: Some(name),
                ..info
            });
        }
    }
    Some(())
}

fn replace_uses(graph: &mut GraphProto, from: &str, to: &str) {
    let inputs = graph
        .node
        .iter_mut()
        .flat_map(|node| &mut node.input)
        .filter(|input| *input == from);
    inputs.for_each(|input| *input = to.into());
}

fn fresh(graph: &GraphProto, random: &mut Random) -> String {
    format!("n{}_{}", graph.node.len(), random.below(1 << 16))
}

fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..Default::default()
    }
}
