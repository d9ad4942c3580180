// SPDX-License-Identifier: MIT OR Apache-2.0

//! Removes the batch axis from operators that process each frame independently.
//!
//! The batch size is one. ONNX Runtime's fused matrix multiplication (`Gemm`, with bias and scale) needs two axes, and
//! inserts a `Reshape` before and after each one with three: 340 of them in a model with 17 layers, at 3 to 7 µs.

use std::collections::HashMap;

use crate::NodeProto;
use crate::{Graph, ir::attribute::Attribute};

/// Rewrites such operators; returns the number of matrix multiplications.
pub(crate) fn squeeze_batch(graph: &mut Graph) -> usize {
    // Inputs come before their consumers.
    let _ = graph.sort();
    let mut squeezer = BatchSqueezer {
        flat: HashMap::new(),
        matmuls: 0,
    };
    for node in std::mem::take(&mut graph.nodes) {
        squeezer.process(graph, node);
    }
    let matmuls = squeezer.matmuls;
    // Dead nodes must not count as consumers.
    graph.remove_dead();
    fuse_gemm(graph);
    graph.remove_dead();
    matmuls
}

struct BatchSqueezer {
    /// For each tensor \[1, frames, width\], its name as \[frames, width\].
    flat: HashMap<String, String>,
    matmuls: usize,
}

impl BatchSqueezer {
    fn process(&mut self, graph: &mut Graph, mut node: NodeProto) {
        if node.op_type() == "Reshape" {
            self.reshape(graph, node);
            return;
        }
        let shape = node.output.first().and_then(|output| frames_of(graph, output));
        let constant = |name: &String| graph.is_constant(name);
        let is_row = |name: &String| frames_of(graph, name).is_some();
        let is_squeezed = |name: &String| self.flat.contains_key(name);
        let per_frame = match (node.op_type(), &node.input[..]) {
            ("MatMul", [data, weight]) => {
                is_row(data) && constant(weight) && graph.shape(weight).map(<[usize]>::len) == Some(2)
            }
            ("LayerNormalization", [data, rest @ ..]) => is_row(data) && rest.iter().all(constant),
            ("Sigmoid" | "Relu" | "Tanh", [data]) => is_squeezed(data),
            ("Add" | "Mul", [a, b]) => {
                let vector = |name| constant(name) && graph.shape(name).is_some_and(|dims| dims.len() <= 1);
                let same = |name| !constant(name) && graph.shape(name) == graph.shape(&node.output[0]);
                (is_squeezed(a) || is_squeezed(b)) && [a, b].iter().all(|&name| vector(name) || same(name))
            }
            _ => false,
        };
        let (true, Some((frames, width)), [output]) = (per_frame, shape, &node.output[..]) else {
            graph.nodes.push(node);
            return;
        };
        let output = output.clone();
        self.matmuls += usize::from(node.op_type() == "MatMul");
        for input in &mut node.input {
            if !graph.is_constant(input) {
                *input = self.flattened(graph, input);
            }
        }
        let flat = graph.new_name("rows");
        node.output[0].clone_from(&flat);
        graph.shapes.insert(flat.clone(), vec![frames, width]);
        graph.nodes.push(node);
        self.unflatten(graph, &output, flat, frames, width);
    }

    /// A reshape of the same elements can read the squeezed tensor.
    fn reshape(&mut self, graph: &mut Graph, mut node: NodeProto) {
        let (input, output) = (node.input[0].clone(), node.output[0].clone());
        if let Some(flat) = self.flat.get(&input).cloned() {
            // A 0 copies a size from the old shape.
            let free_of_zeros = graph
                .value(&node.input[1])
                .and_then(|shape| shape.ints())
                .is_some_and(|s| !s.contains(&0));
            if free_of_zeros && graph.shape(&flat) == graph.shape(&output) {
                self.flat.insert(output.clone(), flat.clone());
            }
            if free_of_zeros {
                node.input[0] = flat;
            }
        } else if let (Some(&[frames, width]), Some(shape)) = (graph.shape(&input), frames_of(graph, &output))
            && (frames, width) == shape
        {
            self.flat.insert(output, input);
        }
        graph.nodes.push(node);
    }

    fn flattened(&mut self, graph: &mut Graph, name: &str) -> String {
        if let Some(flat) = self.flat.get(name) {
            return flat.clone();
        }
        let (frames, width) = frames_of(graph, name).unwrap_or_default();
        let shape = graph.add_ints(&[frames as i64, width as i64]);
        let flat = graph.add("Reshape", &[name, &shape], &[]);
        self.flat.insert(name.into(), flat.clone());
        flat
    }

    /// Restores `name` for consumers that need three axes.
    fn unflatten(&mut self, graph: &mut Graph, name: &str, flat: String, frames: usize, width: usize) {
        let shape = graph.add_ints(&[1, frames as i64, width as i64]);
        graph.add_as(name, "Reshape", &[&flat, &shape], &[]);
        self.flat.insert(name.into(), flat);
    }
}

/// Frames and width of a tensor \[1, frames, width\].
fn frames_of(graph: &Graph, name: &str) -> Option<(usize, usize)> {
    match graph.shape(name)? {
        &[1, frames, width] => Some((frames, width)),
        _ => None,
    }
}

/// Fuses `MatMul`, `Add` of a bias and `Mul` by a scalar into one `Gemm`. Scaling by a power of two only changes the
/// exponent; with another factor (the square root of the width, after the subsampling) rounding occurs at another
/// place, but not more often.
fn fuse_gemm(graph: &mut Graph) {
    let index = graph.index();
    let mut found = Vec::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        let is_matmul = node.op_type() == "MatMul"
            && graph.shape(&node.output[0]).map(<[usize]>::len) == Some(2)
            && graph.is_constant(&node.input[1]);
        if !is_matmul {
            continue;
        }
        let constant_of = |user: usize, operation: &str, input: &str| {
            let node: &NodeProto = &graph.nodes[user];
            let other = node.input.iter().find(|name| *name != input)?;
            (node.op_type() == operation && graph.is_constant(other)).then(|| other.clone())
        };
        let width = graph.shape(&node.output[0]).and_then(|dims| dims.last().copied());
        let Some(add) = index.single_consumer(&node.output[0]) else {
            continue;
        };
        let Some(bias) = constant_of(add, "Add", &node.output[0]) else {
            continue;
        };
        if graph.shape(&bias).map(<[usize]>::to_vec) != width.map(|width| vec![width]) {
            continue;
        }
        let sum = &graph.nodes[add].output[0];
        let mut last = add;
        let mut scale = 1.0;
        if let Some(mul) = index.single_consumer(sum)
            && let Some(factor) = constant_of(mul, "Mul", sum)
            && let Some([factor]) = graph.value(&factor).and_then(|value| value.floats()).as_deref()
            && factor.is_normal()
        {
            (last, scale) = (mul, *factor);
        }
        found.push((number, bias, last, scale));
    }
    for (number, bias, last, scale) in found {
        let [data, weight] = [0, 1].map(|input| graph.nodes[number].input[input].clone());
        let output = graph.nodes[last].output[0].clone();
        graph.detach(last);
        let factors = [("alpha", Attribute::Float(scale)), ("beta", Attribute::Float(scale))];
        let dims = graph.shape(&output).map(<[usize]>::to_vec);
        graph.add_as(&output, "Gemm", &[&data, &weight, &bias], &factors);
        graph.shapes.extend(dims.map(|dims| (output, dims)));
    }
}
