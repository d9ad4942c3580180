// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replaces matrix products with constant weights by [`PACKED_MATMUL`]. Their weights leave the graph, packed for the
//! micro-kernels of [`nemostt_kernels::gemm`].

use crate::ops::{DOMAIN, PACKED_MATMUL, WEIGHTS_INDEX};
use std::{collections::HashSet, io, sync::Arc};

use crate::{
    Graph, NodeProto, PROMPT_INPUT,
    fusions::{
        epilogue::EpilogueMatch,
        match_matmul::{MatMulMatch, read_floats},
    },
    onnx::{AttributeProto, OperatorSetIdProto, attribute_proto::AttributeType},
};
use nemostt_kernels::gemm::{GemmSpec, PackedWeights};

impl Graph {
    /// Replaces matrix products with constant weights by [`PACKED_MATMUL`] and returns their number. The graph then
    /// needs that operation to run.
    ///
    /// # Errors
    /// The operating system's, if there is not enough memory for the packed weights; the graph is then unchanged.
    pub fn prepack_matmuls(&mut self) -> io::Result<usize> {
        // ONNX Runtime computes what depends only on constants (position tables) when it loads the graph, and what depends
        // only on the language prompt when that changes.
        let inputs = self.inputs.iter().map(|input| input.name().to_owned());
        let inputs: Vec<String> = inputs.filter(|name| name != PROMPT_INPUT).collect();
        let varying = self.downstream(&inputs);
        let mut found = self.match_matmuls();
        found.retain(|(_, matmul)| PackedWeights::supports_k(matmul.k) && varying.contains(matmul.data.as_str()));
        self.absorb_biases(&mut found);
        let epilogues = self.match_epilogues(&found);
        let matmuls: Vec<&MatMulMatch> = found.iter().map(|(_, matmul)| matmul).collect();
        let packed = self.pack(&matmuls, &epilogues)?;
        let mut removed = HashSet::new();
        for ((number, (index, matmul)), epilogue) in (self.packed.len()..).zip(&found).zip(epilogues) {
            let nodes = [&[*index], matmul.bias_node.as_slice(), &epilogue.nodes].concat();
            // At the position of the last of these nodes, all inputs have been computed.
            let position = nodes.iter().max().copied().unwrap_or(*index);
            removed.extend(nodes);
            removed.remove(&position);
            let name = self.nodes[*index].name.clone();
            self.nodes[position] = node(matmul, &epilogue, number, name);
        }
        let mut number = 0..;
        self.nodes
            .retain(|_| number.next().is_none_or(|number| !removed.contains(&number)));
        self.remove_unused_initializers();
        self.packed.extend(packed.into_iter().map(Arc::new));
        self.import_domain(DOMAIN);
        Ok(found.len())
    }

    /// Packs the weights of `matmuls`, multiplied by their scale. The scale is nearly always a power of two (a half,
    /// or the square root of 64), which does not change the rounding of the sums.
    fn pack(&self, matmuls: &[&MatMulMatch], epilogues: &[EpilogueMatch]) -> io::Result<Vec<PackedWeights>> {
        let values = |matmul: &&MatMulMatch| {
            let raw = self
                .weight(&matmul.weight)
                .and_then(|weight| weight.raw_data.as_deref());
            raw.unwrap_or_default()
        };
        let values: Vec<&[u8]> = matmuls.iter().map(values).collect();
        let spec = |(matmul, epilogue): (&&MatMulMatch, &EpilogueMatch)| GemmSpec {
            k: matmul.k,
            n: matmul.n,
            bias: matmul
                .bias
                .as_ref()
                .map(|(_, bias)| bias.iter().map(|value| value * matmul.scale).collect()),
            epilogue: epilogue.epilogue,
        };
        let specs = matmuls.iter().zip(epilogues).map(spec).collect();
        PackedWeights::pack(specs, |index, row, column, slots| {
            let (matmul, values) = (matmuls[index], values[index]);
            let (k, n) = (matmul.k, matmul.n);
            if matmul.transposed {
                let weight = |index: usize| &values[4 * ((column + index) * k + row)..][..4];
                for (index, slot) in slots.iter_mut().enumerate() {
                    let value = read_floats(weight(index)).next().unwrap_or_default();
                    *slot = value * matmul.scale;
                }
            } else {
                let weights = &values[4 * (row * n + column)..][..4 * slots.len()];
                for (slot, value) in slots.iter_mut().zip(read_floats(weights)) {
                    *slot = value * matmul.scale;
                }
            }
        })
    }

    /// Declares that the graph uses operations of `domain`.
    pub(crate) fn import_domain(&mut self, domain: &str) {
        let imports = &mut self.header.opset_import;
        if !imports.iter().any(|set| set.domain() == domain) {
            imports.push(OperatorSetIdProto {
                domain: Some(domain.into()),
                version: Some(1),
            });
        }
    }
}

fn node(matmul: &MatMulMatch, epilogue: &EpilogueMatch, number: usize, name: Option<String>) -> NodeProto {
    NodeProto {
        op_type: Some(PACKED_MATMUL.name.into()),
        domain: Some(DOMAIN.into()),
        name,
        input: [&matmul.data].into_iter().chain(&epilogue.residual).cloned().collect(),
        output: vec![epilogue.output.clone()],
        attribute: vec![AttributeProto {
            name: Some(WEIGHTS_INDEX.into()),
            r#type: Some(AttributeType::Int as i32),
            i: Some(number as i64),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StreamingConfig, graph_in, specialize, split_joint, transducer_in};

    #[test]
    fn every_matmul_is_prepacked() {
        // In each layer four of the feed-forward modules, four of the attention and two pointwise convolutions; one
        // after the subsampling, and the CTC head.
        for (path, others) in [
            ("../nemostt/assets/demo-model/encoder-model.onnx", 1),
            ("../nemostt/assets/demo-model/ctc.onnx", 2),
        ] {
            let mut graph = graph_in(path);
            let streaming = StreamingConfig::read(&graph).unwrap();
            specialize(&mut graph, &streaming, 1).unwrap();
            let before = graph.clone().encode();
            let matmuls = 10 * streaming.layers + others;
            assert_eq!(graph.prepack_matmuls().unwrap(), matmuls, "{path}");
            let packed = graph
                .operations()
                .filter(|&operation| operation == PACKED_MATMUL.name)
                .count();
            assert_eq!(packed, matmuls);
            let after = graph.encode();
            assert_eq!(after.packed_weights.len(), packed);
            assert!(after.model.len() < before.model.len());
        }
    }

    #[test]
    fn constant_add_becomes_bias() {
        let halves =
            split_joint(&transducer_in("../nemostt/assets/demo-model/decoder_joint-model.onnx").joint).unwrap();
        for (mut half, adds) in [(halves.projection, 0), (halves.scoring, 1)] {
            let before = half.operations().filter(|&operation| operation == "Add").count();
            assert_eq!(before, adds + 1);
            assert_eq!(half.prepack_matmuls().unwrap(), 1);
            let after = half.operations().filter(|&operation| operation == "Add").count();
            assert_eq!(after, adds);
        }
    }

    #[test]
    fn prepacking_is_idempotent() {
        let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
        assert!(graph.prepack_matmuls().unwrap() > 0);
        let packed = graph.packed.len();
        assert_eq!(graph.prepack_matmuls().unwrap(), 0);
        assert_eq!(graph.packed.len(), packed);
    }
}
