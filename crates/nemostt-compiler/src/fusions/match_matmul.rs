// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products of activations with constant weights: where they are in a graph.

use crate::onnx::types::element_type;
use crate::{ElementType, Graph, NodeProto, TensorProto, onnx::AttributeProto};

/// Weights with fewer values cost no time worth the trouble.
const MIN_WEIGHT_ELEMENTS: usize = 4096;

/// `(data · weight + bias) · scale`.
pub(crate) struct MatMulMatch {
    pub(crate) data: String,
    pub(crate) output: String,
    pub(crate) weight: String,
    /// Values of a row of the data.
    pub(crate) depth: usize,
    /// Values of a row of the output.
    pub(crate) columns: usize,
    /// Whether the weight has a row for each output, not a column.
    pub(crate) turned: bool,
    pub(crate) scale: f32,
    /// Name and values.
    pub(crate) bias: Option<Vector>,
    /// The node that adds the bias, where the product's own does not.
    pub(crate) adds: Option<usize>,
}

/// A constant of one axis: its name and values.
type Vector = (String, Vec<f32>);

impl Graph {
    /// The products with a constant table of float32, with the index of their node.
    pub(crate) fn match_matmuls(&self) -> Vec<(usize, MatMulMatch)> {
        let product = |(number, node): (usize, &NodeProto)| {
            let [data, weight, rest @ ..] = &node.input[..] else {
                return None;
            };
            let [output] = &node.output[..] else { return None };
            let (scale, bias, turned) = match (node.op_type(), rest) {
                ("MatMul", []) => (1.0, None, false),
                ("Gemm", _) => {
                    let (scale, bias) = gemm_factors(self, node, rest)?;
                    (scale, bias, flag(node, "transB"))
                }
                _ => return None,
            };
            let tensor = self.weight(weight)?;
            let &[rows, columns] = &tensor.dims[..] else {
                return None;
            };
            let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
            let values = rows.checked_mul(columns)?;
            let (depth, columns) = if turned { (columns, rows) } else { (rows, columns) };
            let whole = tensor.raw_data.as_ref()?.len() == values.checked_mul(4)?;
            let is_float = element_type(tensor.data_type()) == ElementType::F32;
            let bias_fits = bias.as_ref().is_none_or(|(_, values)| values.len() == columns);
            (is_float && whole && bias_fits && values >= MIN_WEIGHT_ELEMENTS).then(|| {
                let product = MatMulMatch {
                    data: data.clone(),
                    output: output.clone(),
                    weight: weight.clone(),
                    depth,
                    columns,
                    turned,
                    scale,
                    bias,
                    adds: None,
                };
                (number, product)
            })
        };
        self.nodes.iter().enumerate().filter_map(product).collect()
    }

    /// Makes the constant that is added to a product, and nothing else is done with, its bias: how a layer with a bias is
    /// exported where its rows have more than two axes.
    pub(crate) fn absorb_biases(&self, found: &mut [(usize, MatMulMatch)]) {
        let index = self.index();
        for (_, product) in found {
            let user = index.single_consumer(&product.output);
            let (Some(user), None, 1.0) = (user, &product.bias, product.scale) else {
                continue;
            };
            let node = &self.nodes[user];
            let ("Add", [a, b], [output]) = (node.op_type(), &node.input[..], &node.output[..]) else {
                continue;
            };
            let bias = if *a == product.output { b } else { a };
            let values = self.weight(bias).and_then(vector);
            if let Some(values) = values.filter(|values| values.len() == product.columns) {
                product.output.clone_from(output);
                product.bias = Some((bias.clone(), values));
                product.adds = Some(user);
            }
        }
    }
}

/// The values of a constant of one axis.
fn vector(tensor: &TensorProto) -> Option<Vec<f32>> {
    let is_vector = tensor.dims.len() == 1 && element_type(tensor.data_type()) == ElementType::F32;
    let values = match tensor.raw_data.as_deref() {
        Some(raw) if !raw.is_empty() => read_floats(raw).collect(),
        _ => tensor.float_data.clone(),
    };
    (is_vector && values.len() as i64 == tensor.dims[0]).then_some(values)
}

/// The common factor and the bias of a `Gemm`; `None` where it is of another kind than `alpha · (a · b + c)`.
fn gemm_factors(graph: &Graph, node: &NodeProto, rest: &[String]) -> Option<(f32, Option<Vector>)> {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name() == name);
    let factor = |name: &str| attribute(name).map_or(1.0, AttributeProto::f);
    let (alpha, beta) = (factor("alpha"), factor("beta"));
    if flag(node, "transA") {
        return None;
    }
    match rest {
        [] => Some((alpha, None)),
        [bias] if alpha == beta => {
            let values = vector(graph.weight(bias)?)?;
            Some((alpha, Some((bias.clone(), values))))
        }
        _ => None,
    }
}

fn flag(node: &NodeProto, name: &str) -> bool {
    node.attribute.iter().any(|a| a.name() == name && a.i() != 0)
}

/// The values of raw data.
pub(crate) fn read_floats(raw: &[u8]) -> impl Iterator<Item = f32> {
    raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{split_joint, transducer_in};

    /// Whether the product of a joint's scores has a bias, after `change` of their graph.
    fn has_bias(change: impl FnOnce(&mut Graph)) -> bool {
        let mut scoring = split_joint(&transducer_in("../nemostt/assets/demo-model/decoder_joint-model.onnx").joint)
            .unwrap()
            .scoring;
        change(&mut scoring);
        let mut found = scoring.match_matmuls();
        scoring.absorb_biases(&mut found);
        found[0].1.bias.is_some()
    }

    #[test]
    fn only_direct_row_broadcast_add_becomes_bias() {
        let at = |graph: &Graph, wanted: &str| {
            let mut operations = graph.operations();
            operations.position(|operation| operation == wanted).unwrap()
        };
        assert!(has_bias(|_| {}));
        // Somebody else takes the sums without it.
        assert!(!has_bias(|graph| {
            let mut other = graph.nodes[at(graph, "Relu")].clone();
            other.input = graph.nodes[at(graph, "MatMul")].output.clone();
            other.output = vec!["other".into()];
            graph.nodes.push(other);
        }));
        assert!(!has_bias(|graph| {
            let sums = graph.nodes[at(graph, "MatMul")].output[0].clone();
            graph.outputs[0].name = Some(sums);
        }));
        // One for another width, and none at all.
        assert!(!has_bias(|graph| {
            let vector = |weight: &&mut TensorProto| weight.dims.len() == 1;
            let bias = graph.initializers.iter_mut().find(vector).unwrap();
            (bias.dims, bias.raw_data, bias.float_data) = (vec![1], None, vec![0.0]);
        }));
        assert!(!has_bias(|graph| {
            let at = graph.operations().count() - 1;
            assert_eq!(graph.nodes[at].op_type(), "Add");
            graph.nodes[at].op_type = Some("Sub".into());
        }));
    }
}
