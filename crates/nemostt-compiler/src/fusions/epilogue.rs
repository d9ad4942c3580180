// SPDX-License-Identifier: MIT OR Apache-2.0

//! What follows a product at once and can be done with it, while its sums are still at hand: an activation, or the sum with
//! what went past it.

use std::collections::HashSet;

use crate::{Graph, fusions::match_matmul::MatMulMatch};
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
        let index = self.index();
        let rows = self.rows();
        let find = |product: &MatMulMatch| {
            let users_of = |name: &str| index.consumers(name);
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
        let [a, b] = users.map(|user| self.nodes.get(user));
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
        let node = self.nodes.get(user).filter(|node| node.op_type() == "Relu")?;
        Some(EpilogueMatch {
            epilogue: Epilogue::Relu,
            more: None,
            output: node.output.first()?.clone(),
            nodes: vec![user],
        })
    }

    /// `x + more`, where both are [rows](Self::rows).
    fn sum(&self, x: &str, user: usize, rows: &HashSet<&str>) -> Option<EpilogueMatch> {
        let node = self.nodes.get(user)?;
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
            graph.nodes = nodes;
            let tails = graph.match_epilogues(&found);
            assert_eq!(tails[0].nodes.is_empty(), !has_tail, "{tails:?}");
        }
        graph.nodes = vec![gemm(), node("Gemm", &["d", "v"], "r"), node("Add", &["r", "x"], "y")];
        let tails = graph.match_epilogues(&[(0, product("x")), (1, product("r"))]);
        assert_eq!(
            tails.iter().map(|tail| tail.nodes.len()).collect::<Vec<_>>(),
            [1, 0],
            "{tails:?}"
        );
    }
}
