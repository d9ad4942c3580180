// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds what a matrix product can apply to its results while they are in registers: an activation, or the addition of
//! a residual.

use std::collections::HashSet;

use crate::{Graph, fusions::match_matmul::MatMulMatch};
use nemostt_kernels::gemm::Epilogue;

/// The epilogue of a matrix product, and the nodes that it replaces.
#[derive(Debug)]
pub(crate) struct EpilogueMatch {
    pub(crate) epilogue: Epilogue,
    /// The tensor to add, of the shape of the output.
    pub(crate) residual: Option<String>,
    /// The output after the epilogue.
    pub(crate) output: String,
    /// Indices of the nodes that compute it now.
    pub(crate) nodes: Vec<usize>,
}

impl Graph {
    /// The epilogue of each matrix product of `found`.
    pub(crate) fn match_epilogues(&self, found: &[(usize, MatMulMatch)]) -> Vec<EpilogueMatch> {
        let index = self.index();
        let rows = self.rows();
        let find = |matmul: &MatMulMatch| {
            let consumers_of = |name: &str| index.consumers(name);
            match *consumers_of(&matmul.output) {
                [a, b] => self.silu(&matmul.output, [a, b], consumers_of),
                [user] => self.relu(user).or_else(|| {
                    let is_rows = rows.contains(matmul.output.as_str());
                    is_rows.then(|| self.sum(&matmul.output, user, &rows)).flatten()
                }),
                _ => None,
            }
        };
        let none = |matmul: &MatMulMatch| EpilogueMatch {
            epilogue: Epilogue::Identity,
            residual: None,
            output: matmul.output.clone(),
            nodes: Vec::new(),
        };
        // The sum of two matrix products is the epilogue of only one of them.
        let mut claimed = HashSet::new();
        let epilogue = |(_, matmul): &(usize, MatMulMatch)| {
            let found = find(matmul).filter(|epilogue| epilogue.nodes.iter().all(|node| claimed.insert(*node)));
            found.unwrap_or_else(|| none(matmul))
        };
        found.iter().map(epilogue).collect()
    }

    /// Matches `x · sigmoid(x)`, where `users` are the consumers of `x`.
    fn silu<'a>(
        &self,
        x: &str,
        users: [usize; 2],
        consumers_of: impl Fn(&str) -> &'a [usize],
    ) -> Option<EpilogueMatch> {
        let [a, b] = users.map(|user| self.nodes.get(user));
        let (a, b) = (a?, b?);
        let (sigmoid_index, sigmoid, mul_index, mul) = match a.op_type() {
            "Sigmoid" => (users[0], a, users[1], b),
            _ => (users[1], b, users[0], a),
        };
        let [gated] = &sigmoid.output[..] else {
            return None;
        };
        let factors = |name: &str| mul.input.len() == 2 && mul.input.iter().any(|input| input == name);
        let is_silu = sigmoid.op_type() == "Sigmoid"
            && mul.op_type() == "Mul"
            && factors(x)
            && factors(gated)
            && consumers_of(gated) == [mul_index];
        is_silu.then(|| EpilogueMatch {
            epilogue: Epilogue::Silu,
            residual: None,
            output: mul.output[0].clone(),
            nodes: vec![sigmoid_index, mul_index],
        })
    }

    /// Matches `max(x, 0)`.
    fn relu(&self, user: usize) -> Option<EpilogueMatch> {
        let node = self.nodes.get(user).filter(|node| node.op_type() == "Relu")?;
        Some(EpilogueMatch {
            epilogue: Epilogue::Relu,
            residual: None,
            output: node.output.first()?.clone(),
            nodes: vec![user],
        })
    }

    /// Matches `x + residual`, where both are [rows](Self::rows).
    fn sum(&self, x: &str, user: usize, rows: &HashSet<&str>) -> Option<EpilogueMatch> {
        let node = self.nodes.get(user)?;
        let residual = match &node.input[..] {
            [a, b] if a == x && b != x => b,
            [a, b] if b == x && a != x => a,
            _ => return None,
        };
        (node.op_type() == "Add" && rows.contains(residual.as_str())).then(|| EpilogueMatch {
            epilogue: Epilogue::Identity,
            residual: Some(residual.clone()),
            output: node.output[0].clone(),
            nodes: vec![user],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeProto, StreamingConfig, graph_in, specialize};

    #[test]
    fn activation_and_residual_add_fuse_into_epilogue() {
        let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
        let streaming = StreamingConfig::read(&graph).unwrap();
        specialize(&mut graph, &streaming, 1).unwrap();
        let epilogues = graph.match_epilogues(&graph.match_matmuls());
        let layers = streaming.layers;
        // One in each feed-forward module.
        let silus = epilogues
            .iter()
            .filter(|found| found.epilogue == Epilogue::Silu)
            .count();
        assert_eq!(silus, 2 * layers, "{epilogues:?}");
        // After each feed-forward, attention and convolution module.
        let sums = epilogues.iter().filter(|found| found.residual.is_some()).count();
        assert_eq!(sums, 4 * layers, "{epilogues:?}");
    }

    #[test]
    fn no_epilogue_fusion_when_value_has_other_consumers() {
        let node = |operation: &str, inputs: &[&str], output: &str| NodeProto {
            op_type: Some(operation.into()),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            ..Default::default()
        };
        let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
        let matmul = |output: &str| MatMulMatch {
            data: "data".into(),
            output: output.into(),
            weight: "w".into(),
            k: 4,
            n: 4,
            transposed: false,
            scale: 1.0,
            bias: None,
            bias_node: None,
        };
        let found = [(0, matmul("x"))];
        let gemm = || node("Gemm", &["data", "w"], "x");
        for (nodes, is_fused) in [
            (
                vec![gemm(), node("Gemm", &["d", "v"], "r"), node("Add", &["r", "x"], "y")],
                true,
            ),
            (vec![gemm(), node("Relu", &["x"], "y")], true),
            (vec![gemm(), node("Relu", &["x"], "y"), node("Neg", &["x"], "z")], false),
            // The rank of `r` is unknown.
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
            // The sigmoid or the matrix product has another consumer.
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
            let epilogues = graph.match_epilogues(&found);
            assert_eq!(epilogues[0].nodes.is_empty(), !is_fused, "{epilogues:?}");
        }
        graph.nodes = vec![gemm(), node("Gemm", &["d", "v"], "r"), node("Add", &["r", "x"], "y")];
        let epilogues = graph.match_epilogues(&[(0, matmul("x")), (1, matmul("r"))]);
        assert_eq!(
            epilogues.iter().map(|found| found.nodes.len()).collect::<Vec<_>>(),
            [1, 0],
            "{epilogues:?}"
        );
    }
}
