// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shape inference when a graph is loaded.

use std::sync::atomic::{AtomicUsize, Ordering};

use ort::{
    operator::ShapeInferenceContext,
    value::{Shape, SymbolicDimensions, TensorElementType, ValueType},
};

/// Sets the shape of output `index`; negative sizes are unknown, and each is a symbol of its own. ONNX Runtime takes an
/// unknown size without a symbol for the number -1, which matches no other size.
pub(super) fn set(context: &mut ShapeInferenceContext, index: usize, sizes: &[i64]) -> ort::Result<()> {
    static UNKNOWN: AtomicUsize = AtomicUsize::new(0);
    let symbol = |&size: &i64| match size {
        0.. => String::new(),
        _ => format!("{}unknown {}", super::DOMAIN, UNKNOWN.fetch_add(1, Ordering::Relaxed)),
    };
    let symbols: Vec<String> = sizes.iter().map(symbol).collect();
    let tensor = ValueType::Tensor {
        ty: TensorElementType::Float32,
        shape: Shape::new(sizes.iter().copied()),
        dimension_symbols: SymbolicDimensions::new(symbols),
    };
    context.set_output(index, &tensor)
}

/// The shape of each input; empty if it is not a tensor, or its rank is unknown.
pub(super) fn of_inputs(context: &ShapeInferenceContext) -> Vec<Vec<i64>> {
    let shape = |input: ValueType| match input {
        ValueType::Tensor { shape, .. } => shape.to_vec(),
        _ => Vec::new(),
    };
    context.inputs().into_iter().map(shape).collect()
}

/// Sets the shape of the first output to that of the first input, with another size of the last axis if there is one.
pub(super) fn like_first_input(context: &mut ShapeInferenceContext, last: Option<i64>) -> ort::Result<()> {
    let mut inputs = of_inputs(context);
    let Some(shape) = inputs.first_mut().filter(|shape| !shape.is_empty()) else {
        return Ok(());
    };
    if let (Some(size), Some(last)) = (shape.last_mut(), last) {
        *size = last;
    }
    set(context, 0, shape)
}
