// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds matrix products of activations with constant weights.

#[cfg(any(test, feature = "fuzzing"))]
use std::cell::Cell;

use crate::onnx::types::element_type;
use crate::{ElementType, Graph, NodeProto, TensorProto, onnx::AttributeProto};

/// Products with fewer weights take too little time to be worth packing.
const MIN_WEIGHT_ELEMENTS: usize = 4096;

fn min_weight_elements() -> usize {
    #[cfg(any(test, feature = "fuzzing"))]
    if MATCHES_ALL.get() {
        return 0;
    }
    MIN_WEIGHT_ELEMENTS
}

#[cfg(any(test, feature = "fuzzing"))]
thread_local! {
    static MATCHES_ALL: Cell<bool> = const { Cell::new(false) };
}

/// Calls `call`. Graphs that it compiles on this thread get kernels for products of any size, so that tests can run small
/// models as large ones run.
#[cfg(any(test, feature = "fuzzing"))]
pub fn with_small_matmuls<T>(call: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MATCHES_ALL.set(self.0);
        }
    }
    let _restore = Restore(MATCHES_ALL.replace(true));
    call()
}

/// A matrix product: `output` \[rows, n\] = (`data` \[rows, k\] · `weight` \[k, n\] + `bias` \[n\]) · `scale`.
pub(crate) struct MatMulMatch {
    pub(crate) data: String,
    pub(crate) output: String,
    pub(crate) weight: String,
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// Whether the weight is stored as \[n, k\].
    pub(crate) transposed: bool,
    pub(crate) scale: f32,
    pub(crate) bias: Option<Vector>,
    /// The node that adds the bias, if it is separate.
    pub(crate) bias_node: Option<usize>,
}

/// A constant with one axis: its name and values.
type Vector = (String, Vec<f32>);

impl Graph {
    /// The matrix products with constant float32 weights, each with the index of its node.
    pub(crate) fn match_matmuls(&self) -> Vec<(usize, MatMulMatch)> {
        let matmul = |(number, node): (usize, &NodeProto)| {
            let [data, weight, rest @ ..] = &node.input[..] else {
                return None;
            };
            let [output] = &node.output[..] else { return None };
            let (scale, bias, transposed) = match (node.op_type(), rest) {
                ("MatMul", []) => (1.0, None, false),
                // ONNX Runtime rejects others in a run.
                ("Gemm", _) if self.shape(data).is_none_or(|dims| dims.len() == 2) => {
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
            let (k, n) = if transposed { (columns, rows) } else { (rows, columns) };
            let is_complete = tensor.raw_data.as_ref()?.len() == values.checked_mul(4)?;
            let is_float = element_type(tensor.data_type()) == ElementType::F32;
            let bias_fits = bias.as_ref().is_none_or(|(_, values)| values.len() == n);
            (is_float && is_complete && bias_fits && values >= min_weight_elements()).then(|| {
                let matmul = MatMulMatch {
                    data: data.clone(),
                    output: output.clone(),
                    weight: weight.clone(),
                    k,
                    n,
                    transposed,
                    scale,
                    bias,
                    bias_node: None,
                };
                (number, matmul)
            })
        };
        self.nodes.iter().enumerate().filter_map(matmul).collect()
    }

    /// Turns a constant that is added to a matrix product into its bias, if it has no other consumer. PyTorch exports
    /// a linear layer this way if its input has more than two axes.
    pub(crate) fn absorb_biases(&self, found: &mut [(usize, MatMulMatch)]) {
        let index = self.index();
        for (_, matmul) in found {
            let user = index.single_consumer(&matmul.output);
            let (Some(user), None, 1.0) = (user, &matmul.bias, matmul.scale) else {
                continue;
            };
            let node = &self.nodes[user];
            let ("Add", [a, b], [output]) = (node.op_type(), &node.input[..], &node.output[..]) else {
                continue;
            };
            let bias = if *a == matmul.output { b } else { a };
            let values = self.weight(bias).and_then(vector);
            if let Some(values) = values.filter(|values| values.len() == matmul.n) {
                matmul.output.clone_from(output);
                matmul.bias = Some((bias.clone(), values));
                matmul.bias_node = Some(user);
            }
        }
    }
}

/// The values of a float32 constant with one axis.
fn vector(tensor: &TensorProto) -> Option<Vec<f32>> {
    let is_vector = tensor.dims.len() == 1 && element_type(tensor.data_type()) == ElementType::F32;
    let values = match tensor.raw_data.as_deref() {
        Some(raw) if !raw.is_empty() => read_floats(raw).collect(),
        _ => tensor.float_data.clone(),
    };
    (is_vector && values.len() as i64 == tensor.dims[0]).then_some(values)
}

/// Scale and bias of a `Gemm`; `None` if it does not have the form `alpha · (a · b + c)`.
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

/// Decodes the raw data of a float32 tensor.
pub(crate) fn read_floats(raw: &[u8]) -> impl Iterator<Item = f32> {
    raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{split_joint, transducer_in};

    /// Whether the matrix product of a joint's scoring graph has a bias after `change`.
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
        // The matrix product has another consumer, or is an output.
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
        // The bias has another width, or is subtracted.
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
