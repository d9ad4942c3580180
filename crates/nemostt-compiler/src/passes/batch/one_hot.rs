// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lets each stream have a language prompt of its own. Exports write ones into a tensor of zeros, the same for all streams
//! (PyTorch's `one_hot`); comparing the prompt with all numbers gives the same values, and broadcasts over a batch.

use crate::{
    Graph,
    ir::{
        attribute::Attribute,
        constant::{Constant, attribute, axis_of},
        def_use::DefUse,
    },
    onnx::tensor_proto::DataType,
};

/// Replaces each `ScatterElements` of ones into zeros along the last axis.
pub(super) fn compare_instead_of_scatter(graph: &mut Graph) {
    let index = graph.index();
    for (number, classes) in graph.find_all(&index, one_hot) {
        let [_, indices, _] = &graph.nodes[number].input[..] else {
            continue;
        };
        let (indices, output) = (indices.clone(), graph.nodes[number].output[0].clone());
        let dims = graph.shape(&output).map(<[usize]>::to_vec);
        graph.detach(number);
        let numbers: Vec<i64> = (0..classes as i64).collect();
        let numbers = graph.add_ints(&numbers);
        let is_class = graph.add("Equal", &[&indices, &numbers], &[]);
        let to = Attribute::Int(DataType::Float as i64);
        graph.add_as(&output, "Cast", &[&is_class], &[("to", to)]);
        graph.shapes.extend(dims.map(|dims| (output, dims)));
    }
}

/// The number of classes, if node `number` makes a one-hot vector.
fn one_hot(graph: &Graph, _: &DefUse, number: usize) -> Option<(usize, usize)> {
    let node = &graph.nodes[number];
    let ("ScatterElements", [zeros, indices, ones]) = (node.op_type(), &node.input[..]) else {
        return None;
    };
    let has_only = |name: &str, value: f32| {
        let values = graph.value(name).as_ref().and_then(Constant::floats);
        values.is_some_and(|values| values.iter().all(|&found| found == value))
    };
    let dims = graph.shape(zeros)?;
    let (&classes, outer) = dims.split_last()?;
    let is_last_axis = axis_of(attribute(node, "axis").unwrap_or(0), dims.len()) == Some(outer.len());
    let one_each = graph.shape(indices)? == [outer, &[1]].concat();
    // "add" would be the same, but is not what exports have.
    let replaces = node.attribute.iter().all(|attribute| attribute.name() != "reduction");
    (is_last_axis && one_each && replaces && has_only(zeros, 0.0) && has_only(ones, 1.0)).then_some((number, classes))
}
