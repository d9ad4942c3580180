// SPDX-License-Identifier: MIT OR Apache-2.0

//! Multiplies frames and the language prompt separately.
//!
//! Multilingual models append the prompt, a one-hot vector, to each frame before a matrix product: `[frame, prompt] · W` is
//! `frame · W₁ + prompt · W₂`. The second term depends on the prompt only, so it is computed again only when a stream's
//! language changes ([`split_length_graph`](super::split_length_graph)), and what is left of the first are rows like those
//! of all other products.

use std::collections::HashSet;

use super::PROMPT_INPUT;
use crate::{
    Graph, TensorProto,
    ir::{
        constant::{attribute, attribute_list, axis_of},
        def_use::DefUse,
    },
};

/// Rewrites all such products; returns their number.
pub(crate) fn split_prompt_matmul(graph: &mut Graph) -> usize {
    let prompt = [PROMPT_INPUT.to_owned()];
    let others = graph.inputs.iter().map(|input| input.name().to_owned());
    let others: Vec<String> = others.filter(|name| name != PROMPT_INPUT).collect();
    let of_others = graph.downstream(&others);
    let prompts: HashSet<String> = graph
        .downstream(&prompt)
        .into_iter()
        .filter(|name| !of_others.contains(name))
        .map(String::from)
        .collect();
    let index = graph.index();
    let found: Vec<Found> = (0..graph.nodes.len())
        .filter_map(|number| find(graph, &index, &prompts, number))
        .collect();
    let count = found.len();
    for found in found {
        rewrite(graph, found);
    }
    graph.remove_dead();
    let _ = graph.sort(); // the pass creates no cycle
    count
}

/// A product of concatenated tensors, of which one depends on the prompt only.
struct Found {
    /// Frames \[…, width\], and the part of the weights that belongs to them.
    frames: (String, TensorProto),
    /// Likewise, of the prompt.
    prompt: (String, TensorProto),
    /// The name of the bias, if one is added.
    bias: Option<String>,
    /// The node that computes the result.
    last: usize,
    /// Shape of the result.
    dims: Vec<usize>,
}

fn find(graph: &Graph, index: &DefUse, prompts: &HashSet<String>, number: usize) -> Option<Found> {
    let concat = &graph.nodes[number];
    let ("Concat", [first, second], [both]) = (concat.op_type(), &concat.input[..], &concat.output[..]) else {
        return None;
    };
    let is_first = match (prompts.contains(first), prompts.contains(second)) {
        (true, false) => true,
        (false, true) => false,
        _ => return None,
    };
    let [dims, other_dims] = [first, second].map(|name| graph.shape(name));
    let (dims, other_dims) = (dims?, other_dims?);
    let is_last_axis = axis_of(attribute(concat, "axis")?, dims.len()) == dims.len().checked_sub(1);
    let (&first_width, &second_width) = (dims.last()?, other_dims.last()?);

    let matmul = index.single_consumer(both)?;
    let node = &graph.nodes[matmul];
    let ("MatMul", [data, weight], [output]) = (node.op_type(), &node.input[..], &node.output[..]) else {
        return None;
    };
    let weight = graph.weight(weight).filter(|_| data == both && is_last_axis)?;
    let [of_first, of_second] = split_rows(weight, [first_width, second_width])?;
    let add = index.single_consumer(output).filter(|&user| {
        let node = &graph.nodes[user];
        let is_bias = |name: &String| {
            let dims = graph.shape(name);
            graph.is_constant(name) && dims.is_some_and(|dims| dims.len() == 1 && dims[0] as i64 == weight.dims[1])
        };
        node.op_type() == "Add" && node.input.iter().any(is_bias)
    });
    let bias = add.and_then(|user| graph.nodes[user].input.iter().find(|name| *name != output).cloned());
    let (first, second) = ((first.clone(), of_first), (second.clone(), of_second));
    let (prompt, frames) = if is_first { (first, second) } else { (second, first) };
    Some(Found {
        frames: (without_transposes(graph, index, &frames.0).into(), frames.1),
        prompt,
        bias,
        last: add.unwrap_or(matmul),
        dims: [&dims[..dims.len() - 1], &[usize::try_from(weight.dims[1]).ok()?]].concat(),
    })
}

/// What `name` is two opposite transposes of, else itself. The encoder's frames are columns, as which they are an output
/// otherwise.
fn without_transposes<'a>(graph: &'a Graph, index: &DefUse, name: &'a str) -> &'a str {
    let transposed = |name: &str| {
        let node = index.node(graph, name).filter(|node| node.op_type() == "Transpose")?;
        Some((attribute_list(node, "perm")?, node.input.first()?))
    };
    let source = || {
        let (outer, between) = transposed(name)?;
        let (inner, source) = transposed(between)?;
        let axis = |&axis: &i64| inner.get(usize::try_from(axis).ok()?).copied();
        let axes: Option<Vec<i64>> = outer.iter().map(axis).collect();
        axes?.into_iter().eq(0..inner.len() as i64).then_some(source)
    };
    source().map_or(name, String::as_str)
}

/// The first and the last rows of `weight`; `None` if there are not as many, or their values are elsewhere.
fn split_rows(weight: &TensorProto, rows: [usize; 2]) -> Option<[TensorProto; 2]> {
    let raw = weight.raw_data.as_ref()?;
    let &[all, columns] = &weight.dims[..] else {
        return None;
    };
    if usize::try_from(all).ok()? != rows[0].checked_add(rows[1])? || raw.is_empty() {
        return None;
    }
    let row_bytes = raw.len() / usize::try_from(all).ok()?;
    let part = |bytes: std::ops::Range<usize>, rows: usize| TensorProto {
        dims: vec![rows as i64, columns],
        raw_data: Some(raw.slice(bytes)),
        ..weight.clone()
    };
    let middle = rows[0] * row_bytes;
    Some([part(0..middle, rows[0]), part(middle..raw.len(), rows[1])])
}

fn rewrite(graph: &mut Graph, found: Found) {
    let Found {
        frames,
        prompt,
        bias,
        last,
        dims,
    } = found;
    let mut matmul = |(data, weight): (String, TensorProto)| {
        let name = graph.new_name("weight");
        let weight = graph.add_weight(TensorProto {
            name: Some(name),
            ..weight
        });
        let product = graph.add("MatMul", &[&data, &weight], &[]);
        graph.shapes.insert(product.clone(), dims.clone());
        product
    };
    let (frames, mut prompt) = (matmul(frames), matmul(prompt));
    if let Some(bias) = bias {
        prompt = graph.add("Add", &[&prompt, &bias], &[]);
        graph.shapes.insert(prompt.clone(), dims);
    }
    let output = graph.nodes[last].output[0].clone();
    graph.detach(last);
    graph.add_as(&output, "Add", &[&frames, &prompt], &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StreamingConfig, graph_in, passes::fix_width};

    const MULTILINGUAL: &str = "../../tests/data/kinds/nemotron_multi/encoder.onnx";

    /// An encoder of fixed width, with constants folded.
    fn folded(path: &str) -> Graph {
        let mut graph = graph_in(path);
        let streaming = StreamingConfig::read(&graph).unwrap();
        fix_width(&mut graph, &streaming, 6).unwrap();
        graph.fold();
        graph.remove_dead();
        graph
    }

    fn sizes(graph: &Graph, prompt: bool) -> Vec<Vec<i64>> {
        let inputs = [PROMPT_INPUT.to_owned()];
        let prompts = graph.downstream(&inputs);
        let products = graph
            .nodes
            .iter()
            .filter(|node| node.op_type() == "MatMul" && prompts.contains(node.input[0].as_str()) == prompt);
        products
            .filter_map(|node| Some(graph.weight(&node.input[1])?.dims.clone()))
            .collect()
    }

    #[test]
    fn product_of_frames_does_not_depend_on_the_prompt() {
        let mut graph = folded(MULTILINGUAL);
        assert_eq!(sizes(&graph, true), [[176, 96], [96, 48]]);
        let before = sizes(&graph, false).len();
        assert_eq!(split_prompt_matmul(&mut graph), 1);
        // That of the prompt itself, and the one after the sum.
        let mut products = sizes(&graph, true);
        products.sort();
        assert_eq!(products, [[96, 48], [128, 96]]);
        let frames = sizes(&graph, false);
        assert!(frames.len() == before + 1 && frames.contains(&vec![48, 96]));
        // It reads the frames as the last normalization writes them.
        let index = graph.index();
        let reads_rows = |node: &&crate::NodeProto| {
            let weight = node.input.get(1).and_then(|weight| graph.weight(weight));
            let producer = node.input.first().and_then(|data| index.node(&graph, data));
            weight.is_some_and(|weight| weight.dims == [48, 96])
                && producer.is_some_and(|node| node.op_type() == "LayerNormalization")
        };
        assert_eq!(graph.nodes.iter().filter(reads_rows).count(), 1);
        assert!(
            graph
                .operations()
                .filter(|&operation| operation == "ScatterElements")
                .count()
                == 1
        );
        assert_eq!(split_prompt_matmul(&mut graph), 0);
    }

    #[test]
    fn other_products_stay() {
        // Of a model without languages.
        let mut graph = folded("../nemostt/assets/demo-model/encoder-model.onnx");
        assert_eq!(split_prompt_matmul(&mut graph), 0);
        let concat = |graph: &Graph| {
            let index = graph.index();
            let prompts = [PROMPT_INPUT.to_owned()];
            let prompts = graph.downstream(&prompts);
            let node = |number: &usize| {
                let node = &graph.nodes[*number];
                node.op_type() == "Concat" && prompts.contains(node.output[0].as_str())
            };
            let number = (0..graph.nodes.len()).find(node).unwrap();
            (number, index.single_consumer(&graph.nodes[number].output[0]).unwrap())
        };
        let changes: [fn(&mut Graph, usize, usize); 4] = [
            // The tensor that is appended depends on the audio, too.
            |graph, concat, _| {
                let [frames, prompt] = [0, 1].map(|input| graph.nodes[concat].input[input].clone());
                let sum = graph.add("ReduceSum", &[&frames], &[]);
                let mixed = graph.add("Add", &[&prompt, &sum], &[]);
                let shape = graph.shape(&prompt).unwrap().to_vec();
                graph.shapes.insert(mixed.clone(), shape);
                graph.nodes[concat].input[1] = mixed;
                graph.sort().unwrap();
            },
            // Frames are appended to frames.
            |graph, concat, _| graph.nodes[concat].attribute[0].i = Some(1),
            // Something else reads both.
            |graph, concat, _| {
                let both = graph.nodes[concat].output[0].clone();
                graph.add("Relu", &[&both], &[]);
            },
            // The weights are no constant.
            |graph, _, matmul| {
                let weight = graph.nodes[matmul].input[1].clone();
                let computed = graph.add("Relu", &[&weight], &[]);
                graph.nodes[matmul].input[1] = computed;
                graph.sort().unwrap();
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut graph = folded(MULTILINGUAL);
            let (concat, matmul) = concat(&graph);
            change(&mut graph, concat, matmul);
            assert_eq!(split_prompt_matmul(&mut graph), 0, "{number}");
        }
    }
}
