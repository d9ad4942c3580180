// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products of activations with constant weights: where they are in a graph.

use std::collections::HashMap;

use super::{ElementType, Graph, NodeProto, TensorProto, element_type, onnx::AttributeProto};

/// Weights with fewer values cost no time worth the trouble.
const SMALL: usize = 4096;

/// `(data · weight + bias) · scale`.
pub(super) struct Product {
    pub(super) data: String,
    pub(super) output: String,
    pub(super) weight: String,
    /// Values of a row of the data.
    pub(super) depth: usize,
    /// Values of a row of the output.
    pub(super) columns: usize,
    /// Whether the weight has a row for each output, not a column.
    pub(super) turned: bool,
    pub(super) scale: f32,
    /// Name and values.
    pub(super) bias: Option<Vector>,
}

/// A constant of one axis: its name and values.
type Vector = (String, Vec<f32>);

impl Graph {
    /// The products with a constant table of float32, with the index of their node.
    pub(super) fn products(&self) -> Vec<(usize, Product)> {
        let weights: HashMap<&str, &TensorProto> = self.graph.initializer.iter().map(|w| (w.name(), w)).collect();
        let product = |(number, node): (usize, &NodeProto)| {
            let [data, weight, rest @ ..] = &node.input[..] else {
                return None;
            };
            let [output] = &node.output[..] else { return None };
            let (scale, bias, turned) = match (node.op_type(), rest) {
                ("MatMul", []) => (1.0, None, false),
                ("Gemm", _) => {
                    let (scale, bias) = gemm_factors(node, rest, &weights)?;
                    (scale, bias, flag(node, "transB"))
                }
                _ => return None,
            };
            let tensor = weights.get(weight.as_str())?;
            let &[rows, columns] = &tensor.dims[..] else {
                return None;
            };
            let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
            let values = rows.checked_mul(columns)?;
            let (depth, columns) = if turned { (columns, rows) } else { (rows, columns) };
            let whole = tensor.raw_data.as_ref()?.len() == values.checked_mul(4)?;
            let is_float = element_type(tensor.data_type()) == ElementType::F32;
            let bias_fits = bias.as_ref().is_none_or(|(_, values)| values.len() == columns);
            (is_float && whole && bias_fits && values >= SMALL).then(|| {
                let product = Product {
                    data: data.clone(),
                    output: output.clone(),
                    weight: weight.clone(),
                    depth,
                    columns,
                    turned,
                    scale,
                    bias,
                };
                (number, product)
            })
        };
        self.nodes().iter().enumerate().filter_map(product).collect()
    }
}

/// The common factor and the bias of a `Gemm`; `None` where it is of another kind than `alpha · (a · b + c)`.
fn gemm_factors(
    node: &NodeProto,
    rest: &[String],
    weights: &HashMap<&str, &TensorProto>,
) -> Option<(f32, Option<Vector>)> {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name() == name);
    let factor = |name: &str| attribute(name).map_or(1.0, AttributeProto::f);
    let (alpha, beta) = (factor("alpha"), factor("beta"));
    if flag(node, "transA") {
        return None;
    }
    match rest {
        [] => Some((alpha, None)),
        [bias] if alpha == beta => {
            let tensor = weights.get(bias.as_str())?;
            let is_vector = tensor.dims.len() == 1 && element_type(tensor.data_type()) == ElementType::F32;
            let values = match tensor.raw_data.as_deref() {
                Some(raw) if !raw.is_empty() => read_floats(raw).collect(),
                _ => tensor.float_data.clone(),
            };
            let whole = is_vector && values.len() as i64 == tensor.dims[0];
            whole.then(|| (alpha, Some((bias.clone(), values))))
        }
        _ => None,
    }
}

fn flag(node: &NodeProto, name: &str) -> bool {
    node.attribute.iter().any(|a| a.name() == name && a.i() != 0)
}

/// The values of raw data.
pub(super) fn read_floats(raw: &[u8]) -> impl Iterator<Item = f32> {
    raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}
