// SPDX-License-Identifier: MIT OR Apache-2.0

//! Takes products with constant weights out of ONNX Runtime's hands: they become nodes of an operation of our own, and
//! their weights leave the graph for [`nemostt_kernels::gemm`].

use crate::ops::{DOMAIN, PACKED_MATMUL, WEIGHTS_INDEX};
use std::{collections::HashSet, io, sync::Arc};

use crate::{
    Graph, NodeProto,
    fusions::{
        epilogue::EpilogueMatch,
        match_matmul::{MatMulMatch, read_floats},
    },
    onnx::{AttributeProto, OperatorSetIdProto, attribute_proto::AttributeType},
};
use nemostt_kernels::gemm::{GemmSpec, PackedWeights};

impl Graph {
    /// Makes the products with constant weights operations of our own, and gives their number. The graph runs only where
    /// that operation is known.
    ///
    /// # Errors
    /// The system's, where there is no memory for the weights; the graph is then as it was.
    pub fn prepack_matmuls(&mut self) -> io::Result<usize> {
        let inputs: Vec<String> = self.inputs.iter().map(|input| input.name().into()).collect();
        // What depends on constants alone (position tables) ONNX Runtime computes when it loads the graph.
        let varying = self.downstream(&inputs);
        let mut found = self.match_matmuls();
        found
            .retain(|(_, product)| PackedWeights::supports_k(product.depth) && varying.contains(product.data.as_str()));
        self.absorb_biases(&mut found);
        let tails = self.match_epilogues(&found);
        let products: Vec<&MatMulMatch> = found.iter().map(|(_, product)| product).collect();
        let packed = self.pack(&products, &tails)?;
        let mut gone = HashSet::new();
        for ((number, (index, product)), tail) in (self.packed.len()..).zip(&found).zip(tails) {
            let nodes = [&[*index], product.adds.as_slice(), &tail.nodes].concat();
            // Where the last of them was, all that they take is known.
            let place = nodes.iter().max().copied().unwrap_or(*index);
            gone.extend(nodes);
            gone.remove(&place);
            let name = self.nodes[*index].name.clone();
            self.nodes[place] = node(product, &tail, number, name);
        }
        let mut number = 0..;
        self.nodes
            .retain(|_| number.next().is_none_or(|number| !gone.contains(&number)));
        self.remove_unused_initializers();
        self.packed.extend(packed.into_iter().map(Arc::new));
        self.import_domain(DOMAIN);
        Ok(found.len())
    }

    /// Weights of `products`. The scale goes into them. Nearly always it is a power of two (a half, or the root of 64), and no
    /// sum changes.
    fn pack(&self, products: &[&MatMulMatch], tails: &[EpilogueMatch]) -> io::Result<Vec<PackedWeights>> {
        let values = |product: &&MatMulMatch| {
            let raw = self
                .weight(&product.weight)
                .and_then(|weight| weight.raw_data.as_deref());
            raw.unwrap_or_default()
        };
        let values: Vec<&[u8]> = products.iter().map(values).collect();
        let kind = |(product, tail): (&&MatMulMatch, &EpilogueMatch)| GemmSpec {
            k: product.depth,
            n: product.columns,
            bias: product
                .bias
                .as_ref()
                .map(|(_, bias)| bias.iter().map(|value| value * product.scale).collect()),
            epilogue: tail.epilogue,
        };
        let kinds = products.iter().zip(tails).map(kind).collect();
        PackedWeights::pack(kinds, |index, row, column, room| {
            let (product, values) = (products[index], values[index]);
            let (depth, columns) = (product.depth, product.columns);
            if product.turned {
                let column_of = |index: usize| &values[4 * ((column + index) * depth + row)..][..4];
                for (index, slot) in room.iter_mut().enumerate() {
                    let value = read_floats(column_of(index)).next().unwrap_or_default();
                    *slot = value * product.scale;
                }
            } else {
                let from = &values[4 * (row * columns + column)..][..4 * room.len()];
                for (slot, value) in room.iter_mut().zip(read_floats(from)) {
                    *slot = value * product.scale;
                }
            }
        })
    }

    /// Says that operations of `domain` occur.
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

fn node(product: &MatMulMatch, tail: &EpilogueMatch, number: usize, name: Option<String>) -> NodeProto {
    NodeProto {
        op_type: Some(PACKED_MATMUL.name.into()),
        domain: Some(DOMAIN.into()),
        name,
        input: [&product.data].into_iter().chain(&tail.more).cloned().collect(),
        output: vec![tail.output.clone()],
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
    use crate::{StreamingConfig, graph_in, read_file, specialize, split_joint, transducer_in};

    #[test]
    fn every_matmul_is_prepacked() {
        // Four of the two feed-forward blocks, four of attention and two pointwise convolutions in each layer, the one
        // behind the subsampling, and the CTC head.
        for (path, others) in [
            ("../nemostt/assets/demo-model/encoder-model.onnx", 1),
            ("../nemostt/assets/demo-model/ctc.onnx", 2),
        ] {
            let mut graph = graph_in(path);
            let streaming = StreamingConfig::read(&graph).unwrap();
            specialize(&mut graph, &streaming, 1).unwrap();
            let before = graph.clone().encode();
            let products = 10 * streaming.layers + others;
            assert_eq!(graph.prepack_matmuls().unwrap(), products, "{path}");
            let packed = graph
                .operations()
                .filter(|&operation| operation == PACKED_MATMUL.name)
                .count();
            assert_eq!(packed, products);
            let after = graph.encode();
            assert_eq!(after.products.len(), packed);
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
        let file = format!(
            "{}/../nemostt/assets/demo-model/encoder-model.onnx",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut graph = Graph::decode_file(read_file(file.as_ref()).unwrap()).unwrap();
        assert!(graph.prepack_matmuls().unwrap() > 0);
        let packed = graph.packed.len();
        assert_eq!(graph.prepack_matmuls().unwrap(), 0);
        assert_eq!(graph.packed.len(), packed);
    }
}
