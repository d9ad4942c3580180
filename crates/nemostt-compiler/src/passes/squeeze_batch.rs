// SPDX-License-Identifier: MIT OR Apache-2.0

//! Leaves the batch axis out of whatever acts on each frame alone.
//!
//! There is one stream in a batch. ONNX Runtime's matrix product with bias and scale (`Gemm`) takes two axes, and puts a
//! `Reshape` before and behind each one that has three: 340 of them in a model of 17 layers, at 3 to 7 µs.

use std::collections::HashMap;

use crate::NodeProto;
use crate::ir::net::{Attribute, Net};

/// Rewrites such operations, and returns how many products there were.
pub(crate) fn squeeze_batch(net: &mut Net) -> usize {
    // Its inputs come before it.
    let _ = net.sort();
    let mut rows = BatchSqueezer {
        flat: HashMap::new(),
        products: 0,
    };
    for node in std::mem::take(&mut net.nodes) {
        rows.place(net, node);
    }
    let products = rows.products;
    // What is not needed is no user of anything.
    net.remove_dead();
    fuse_gemm(net);
    net.remove_dead();
    products
}

struct BatchSqueezer {
    /// For each tensor \[1, frames, width\] the same as \[frames, width\].
    flat: HashMap<String, String>,
    products: usize,
}

impl BatchSqueezer {
    fn place(&mut self, net: &mut Net, mut node: NodeProto) {
        if node.op_type() == "Reshape" {
            self.reshape(net, node);
            return;
        }
        let shape = node.output.first().and_then(|output| frames_of(net, output));
        let constant = |name: &String| net.is_constant(name);
        let is_row = |name: &String| frames_of(net, name).is_some();
        let known = |name: &String| self.flat.contains_key(name);
        let per_frame = match (node.op_type(), &node.input[..]) {
            ("MatMul", [data, weight]) => {
                is_row(data) && constant(weight) && net.shape(weight).map(<[usize]>::len) == Some(2)
            }
            ("LayerNormalization", [data, rest @ ..]) => is_row(data) && rest.iter().all(constant),
            ("Sigmoid" | "Relu" | "Tanh", [data]) => known(data),
            ("Add" | "Mul", [a, b]) => {
                let vector = |name| constant(name) && net.shape(name).is_some_and(|dims| dims.len() <= 1);
                let same = |name| !constant(name) && net.shape(name) == net.shape(&node.output[0]);
                (known(a) || known(b)) && [a, b].iter().all(|&name| vector(name) || same(name))
            }
            _ => false,
        };
        let (true, Some((frames, width)), [output]) = (per_frame, shape, &node.output[..]) else {
            net.nodes.push(node);
            return;
        };
        let output = output.clone();
        self.products += usize::from(node.op_type() == "MatMul");
        for input in &mut node.input {
            if !net.is_constant(input) {
                *input = self.flattened(net, input);
            }
        }
        let flat = net.new_name("rows");
        node.output[0].clone_from(&flat);
        net.shapes.insert(flat.clone(), vec![frames, width]);
        net.nodes.push(node);
        self.unflatten(net, &output, flat, frames, width);
    }

    /// A shape is given to the same elements, whatever they had before.
    fn reshape(&mut self, net: &mut Net, mut node: NodeProto) {
        let (input, output) = (node.input[0].clone(), node.output[0].clone());
        if let Some(flat) = self.flat.get(&input).cloned() {
            // A 0 takes a size over from the old shape.
            let free_of_zeros = net
                .value(&node.input[1])
                .and_then(|shape| shape.ints())
                .is_some_and(|s| !s.contains(&0));
            if free_of_zeros && net.shape(&flat) == net.shape(&output) {
                self.flat.insert(output.clone(), flat.clone());
            }
            if free_of_zeros {
                node.input[0] = flat;
            }
        } else if let (Some(&[frames, width]), Some(shape)) = (net.shape(&input), frames_of(net, &output))
            && (frames, width) == shape
        {
            self.flat.insert(output, input);
        }
        net.nodes.push(node);
    }

    fn flattened(&mut self, net: &mut Net, name: &str) -> String {
        if let Some(flat) = self.flat.get(name) {
            return flat.clone();
        }
        let (frames, width) = frames_of(net, name).unwrap_or_default();
        let shape = net.add_ints(&[frames as i64, width as i64]);
        let flat = net.add("Reshape", &[name, &shape], &[]);
        self.flat.insert(name.into(), flat.clone());
        flat
    }

    /// Gives `name` to those who need three axes.
    fn unflatten(&mut self, net: &mut Net, name: &str, flat: String, frames: usize, width: usize) {
        let shape = net.add_ints(&[1, frames as i64, width as i64]);
        net.add_as(name, "Reshape", &[&flat, &shape], &[]);
        self.flat.insert(name.into(), flat);
    }
}

/// Frames and width of a tensor \[1, frames, width\].
fn frames_of(net: &Net, name: &str) -> Option<(usize, usize)> {
    match net.shape(name)? {
        &[1, frames, width] => Some((frames, width)),
        _ => None,
    }
}

/// Makes `MatMul`, `Add` of a bias and `Mul` by a number one `Gemm`. A power of two changes no bit of a sum but its exponent;
/// by another number (the root of the width, behind the subsampling) a sum is rounded in another place, but not once more.
fn fuse_gemm(net: &mut Net) {
    let index = net.index();
    let mut found = Vec::new();
    for (number, node) in net.nodes.iter().enumerate() {
        let is_product = node.op_type() == "MatMul"
            && net.shape(&node.output[0]).map(<[usize]>::len) == Some(2)
            && net.is_constant(&node.input[1]);
        if !is_product {
            continue;
        }
        let constant_of = |user: usize, operation: &str, made: &str| {
            let node: &NodeProto = &net.nodes[user];
            let other = node.input.iter().find(|name| *name != made)?;
            (node.op_type() == operation && net.is_constant(other)).then(|| other.clone())
        };
        let width = net.shape(&node.output[0]).and_then(|dims| dims.last().copied());
        let Some(add) = index.single_consumer(&node.output[0]) else {
            continue;
        };
        let Some(bias) = constant_of(add, "Add", &node.output[0]) else {
            continue;
        };
        if net.shape(&bias).map(<[usize]>::to_vec) != width.map(|width| vec![width]) {
            continue;
        }
        let sum = &net.nodes[add].output[0];
        let mut last = add;
        let mut scale = 1.0;
        if let Some(mul) = index.single_consumer(sum)
            && let Some(factor) = constant_of(mul, "Mul", sum)
            && let Some([factor]) = net.value(&factor).and_then(|value| value.floats()).as_deref()
            && factor.is_normal()
        {
            (last, scale) = (mul, *factor);
        }
        found.push((number, bias, last, scale));
    }
    for (number, bias, last, scale) in found {
        let [data, weight] = [0, 1].map(|input| net.nodes[number].input[input].clone());
        let output = net.nodes[last].output[0].clone();
        net.detach(last);
        let factors = [("alpha", Attribute::Float(scale)), ("beta", Attribute::Float(scale))];
        let dims = net.shape(&output).map(<[usize]>::to_vec);
        net.add_as(&output, "Gemm", &[&data, &weight, &bias], &factors);
        net.shapes.extend(dims.map(|dims| (output, dims)));
    }
}
