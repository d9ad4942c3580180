// SPDX-License-Identifier: MIT OR Apache-2.0

//! What follows a product at once and can be done with it, while its sums are still at hand: an activation, or the sum with
//! what went past it.

use std::collections::{HashMap, HashSet};

use crate::{Graph, ValueInfoProto, fusions::match_matmul::MatMulMatch, tensor_info};
use nemostt_kernels::gemm::Epilogue;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct EpilogueMatch {
    pub(crate) epilogue: Epilogue,
    /// What is added: as large as the output.
    pub(crate) more: Option<String>,
    /// What all of it gives.
    pub(crate) output: String,
    /// The nodes that do it now.
    pub(crate) nodes: Vec<usize>,
}

impl Graph {
    /// What follows each product.
    pub(crate) fn match_epilogues(&self, found: &[(usize, MatMulMatch)]) -> Vec<EpilogueMatch> {
        let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, node) in self.nodes().iter().enumerate() {
            for input in &node.input {
                users.entry(input).or_default().push(number);
            }
        }
        // A graph's output has a user outside of it.
        for output in &self.graph.output {
            users.entry(output.name()).or_default().push(usize::MAX);
        }
        let rows = self.rows();
        let find = |product: &MatMulMatch| {
            let users_of = |name: &str| users.get(name).map(Vec::as_slice).unwrap_or_default();
            match *users_of(&product.output) {
                [a, b] => self.silu(&product.output, [a, b], users_of),
                [user] => self.relu(user).or_else(|| {
                    let is_rows = rows.contains(product.output.as_str());
                    is_rows.then(|| self.sum(&product.output, user, &rows)).flatten()
                }),
                _ => None,
            }
        };
        let none = |product: &MatMulMatch| EpilogueMatch {
            epilogue: Epilogue::Identity,
            more: None,
            output: product.output.clone(),
            nodes: Vec::new(),
        };
        // The sum of two products is the tail of one of them.
        let mut taken = HashSet::new();
        let tail = |(_, product): &(usize, MatMulMatch)| {
            let found = find(product).filter(|tail| tail.nodes.iter().all(|node| taken.insert(*node)));
            found.unwrap_or_else(|| none(product))
        };
        found.iter().map(tail).collect()
    }

    /// `x · sigmoid(x)`, where `users` are those of x.
    fn silu<'a>(&self, x: &str, users: [usize; 2], users_of: impl Fn(&str) -> &'a [usize]) -> Option<EpilogueMatch> {
        let [a, b] = users.map(|user| self.nodes().get(user));
        let (a, b) = (a?, b?);
        let (sigmoid, gate, times, product) = match a.op_type() {
            "Sigmoid" => (users[0], a, users[1], b),
            _ => (users[1], b, users[0], a),
        };
        let [gated] = &gate.output[..] else { return None };
        let factors = |name: &str| product.input.len() == 2 && product.input.iter().any(|input| input == name);
        let is_silu = gate.op_type() == "Sigmoid"
            && product.op_type() == "Mul"
            && factors(x)
            && factors(gated)
            && users_of(gated) == [times];
        is_silu.then(|| EpilogueMatch {
            epilogue: Epilogue::Silu,
            more: None,
            output: product.output[0].clone(),
            nodes: vec![sigmoid, times],
        })
    }

    /// `max(x, 0)`.
    fn relu(&self, user: usize) -> Option<EpilogueMatch> {
        let node = self.nodes().get(user).filter(|node| node.op_type() == "Relu")?;
        Some(EpilogueMatch {
            epilogue: Epilogue::Relu,
            more: None,
            output: node.output.first()?.clone(),
            nodes: vec![user],
        })
    }

    /// `x + more`, where both are [rows](Self::rows).
    fn sum(&self, x: &str, user: usize, rows: &HashSet<&str>) -> Option<EpilogueMatch> {
        let node = self.nodes().get(user)?;
        let more = match &node.input[..] {
            [a, b] if a == x && b != x => b,
            [a, b] if b == x && a != x => a,
            _ => return None,
        };
        (node.op_type() == "Add" && rows.contains(more.as_str())).then(|| EpilogueMatch {
            epilogue: Epilogue::Identity,
            more: Some(more.clone()),
            output: node.output[0].clone(),
            nodes: vec![user],
        })
    }

    /// Constants and inputs with one axis, and sums of them; `constants` are the former.
    fn lists<'a>(&'a self, constants: &HashSet<&'a str>) -> HashSet<&'a str> {
        let one = |info: &&ValueInfoProto| tensor_info(info).dims.len() == 1;
        let inputs = self.graph.input.iter().filter(one).map(|input| input.name());
        let mut lists: HashSet<&str> = inputs.chain(constants.iter().copied()).collect();
        for node in self.nodes().iter().filter(|node| node.op_type() == "Add") {
            if let [output] = &node.output[..]
                && node.input.iter().all(|input| lists.contains(input.as_str()))
            {
                lists.insert(output);
            }
        }
        lists
    }

    /// Tensors that have two axes for certain and depend on the input: their sums are of the same size or fail.
    pub(crate) fn rows(&self) -> HashSet<&str> {
        let constants = |fits: fn(&[i64]) -> bool| -> HashSet<&str> {
            let weights = self.graph.initializer.iter().filter(|weight| fits(&weight.dims));
            weights.map(|weight| weight.name()).collect()
        };
        let (pairs, vectors) = (constants(|dims| dims == [2]), constants(|dims| dims.len() == 1));
        let lists = self.lists(&vectors);
        let mut rows: HashSet<&str> = HashSet::new();
        for node in self.nodes() {
            let knows = |input: Option<&String>| input.is_some_and(|name| rows.contains(name.as_str()));
            let is_list = |input: Option<&String>| input.is_some_and(|name| lists.contains(name.as_str()));
            let along = |axis: i64| node.attribute.iter().find(|a| a.name() == "axis").map_or(0, |a| a.i()) == axis;
            let is_rows = match node.op_type() {
                "Gemm"
                | crate::REL_POS_ATTENTION
                | crate::GLU_DEPTHWISE_CONV
                | crate::STRIDED_CONV
                | crate::JOINT_ADD_RELU => true,
                "Reshape" => node.input.get(1).is_some_and(|sizes| pairs.contains(sizes.as_str())),
                "LayerNormalization"
                | crate::LAYER_NORM
                | "Sigmoid"
                | "MatMul"
                | crate::PACKED_MATMUL
                | "DynamicQuantizeLinear"
                | "MatMulIntegerToFloat" => knows(node.input.first()),
                "Gather" => along(0) && knows(node.input.first()) && is_list(node.input.get(1)),
                // A bias is added to each row.
                "Add" if node.input.iter().any(|input| vectors.contains(input.as_str())) => {
                    node.input.iter().any(|input| knows(Some(input)))
                }
                "Add" | "Mul" => knows(node.input.first()) && knows(node.input.get(1)),
                _ => false,
            };
            if let Some(output) = node.output.first().filter(|_| is_rows) {
                rows.insert(output);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeProto, StreamingConfig, read_file, specialize};

    #[test]
    fn activation_and_residual_add_fuse_into_epilogue() {
        let file = format!(
            "{}/../nemostt/assets/demo-model/encoder-model.onnx",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut graph = Graph::decode_file(read_file(file.as_ref()).unwrap()).unwrap();
        let streaming = StreamingConfig::read(&graph).unwrap();
        specialize(&mut graph, &streaming, 1).unwrap();
        let tails = graph.match_epilogues(&graph.match_matmuls());
        let layers = streaming.layers;
        // One in each feed-forward block.
        let silus = tails.iter().filter(|tail| tail.epilogue == Epilogue::Silu).count();
        assert_eq!(silus, 2 * layers, "{tails:?}");
        // Behind each feed-forward block, attention and convolution.
        let sums = tails.iter().filter(|tail| tail.more.is_some()).count();
        assert_eq!(sums, 4 * layers, "{tails:?}");
    }

    #[test]
    fn no_epilogue_fusion_when_value_has_other_consumers() {
        let node = |operation: &str, inputs: &[&str], output: &str| NodeProto {
            op_type: Some(operation.into()),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            ..Default::default()
        };
        let mut graph = Graph::decode_file(
            read_file(
                format!(
                    "{}/../nemostt/assets/demo-model/encoder-model.onnx",
                    env!("CARGO_MANIFEST_DIR")
                )
                .as_ref(),
            )
            .unwrap(),
        )
        .unwrap();
        let product = |output: &str| MatMulMatch {
            data: "data".into(),
            output: output.into(),
            weight: "w".into(),
            depth: 4,
            columns: 4,
            turned: false,
            scale: 1.0,
            bias: None,
            adds: None,
        };
        let found = [(0, product("x"))];
        let gemm = || node("Gemm", &["data", "w"], "x");
        for (nodes, has_tail) in [
            (
                vec![gemm(), node("Gemm", &["d", "v"], "r"), node("Add", &["r", "x"], "y")],
                true,
            ),
            (vec![gemm(), node("Relu", &["x"], "y")], true),
            (vec![gemm(), node("Relu", &["x"], "y"), node("Neg", &["x"], "z")], false),
            // Nobody knows how many axes `r` has.
            (vec![gemm(), node("Add", &["r", "x"], "y")], false),
            (vec![gemm(), node("Add", &["x", "x"], "y")], false),
            (
                vec![gemm(), node("Sigmoid", &["x"], "s"), node("Mul", &["x", "s"], "y")],
                true,
            ),
            (
                vec![gemm(), node("Mul", &["x", "s"], "y"), node("Sigmoid", &["x"], "s")],
                true,
            ),
            // The gate is looked at by another one, or the sum is.
            (
                vec![
                    gemm(),
                    node("Sigmoid", &["x"], "s"),
                    node("Mul", &["x", "s"], "y"),
                    node("Relu", &["s"], "z"),
                ],
                false,
            ),
            (
                vec![
                    gemm(),
                    node("Sigmoid", &["x"], "s"),
                    node("Mul", &["s", "s"], "y"),
                    node("Relu", &["x"], "z"),
                ],
                false,
            ),
            (
                vec![gemm(), node("Sigmoid", &["x"], "s"), node("Add", &["x", "s"], "y")],
                false,
            ),
        ] {
            graph.graph.node = nodes;
            let tails = graph.match_epilogues(&found);
            assert_eq!(tails[0].nodes.is_empty(), !has_tail, "{tails:?}");
        }
        graph.graph.node = vec![gemm(), node("Gemm", &["d", "v"], "r"), node("Add", &["r", "x"], "y")];
        let tails = graph.match_epilogues(&[(0, product("x")), (1, product("r"))]);
        assert_eq!(
            tails.iter().map(|tail| tail.nodes.len()).collect::<Vec<_>>(),
            [1, 0],
            "{tails:?}"
        );
    }
}
