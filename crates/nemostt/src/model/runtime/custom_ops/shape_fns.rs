// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an operation says of the shapes of its outputs when a graph is loaded.
//!
//! ONNX Runtime takes a size that is not known for the number -1 unless it has a name, and then finds that it fits nowhere.

use std::sync::atomic::{AtomicUsize, Ordering};

use ort::{
    operator::ShapeInferenceContext,
    value::{Shape, SymbolicDimensions, TensorElementType, ValueType},
};

/// Says that output `index` has these sizes, where negative ones are not known: each is another unknown.
pub(super) fn set(context: &mut ShapeInferenceContext, index: usize, sizes: &[i64]) -> ort::Result<()> {
    static UNKNOWN: AtomicUsize = AtomicUsize::new(0);
    let name = |&size: &i64| match size {
        0.. => String::new(),
        _ => format!("{}unknown {}", super::DOMAIN, UNKNOWN.fetch_add(1, Ordering::Relaxed)),
    };
    let symbols: Vec<String> = sizes.iter().map(name).collect();
    let tensor = ValueType::Tensor {
        ty: TensorElementType::Float32,
        shape: Shape::new(sizes.iter().copied()),
        dimension_symbols: SymbolicDimensions::new(symbols),
    };
    context.set_output(index, &tensor)
}

/// Sizes of each input that is a tensor; none, where it is not known how many axes there are.
pub(super) fn of_inputs(context: &ShapeInferenceContext) -> Vec<Vec<i64>> {
    let sizes = |input: ValueType| match input {
        ValueType::Tensor { shape, .. } => shape.to_vec(),
        _ => Vec::new(),
    };
    context.inputs().into_iter().map(sizes).collect()
}

/// Says that the first output is as large as the first input, but for its last axis if that has another size.
pub(super) fn like_first_input(context: &mut ShapeInferenceContext, last: Option<i64>) -> ort::Result<()> {
    let mut inputs = of_inputs(context);
    let Some(sizes) = inputs.first_mut().filter(|sizes| !sizes.is_empty()) else {
        return Ok(());
    };
    if let (Some(slot), Some(last)) = (sizes.last_mut(), last) {
        *slot = last;
    }
    set(context, 0, sizes)
}
