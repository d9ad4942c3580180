// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products with constant weights.

use std::sync::Arc;

use ort::operator::ShapeInferenceContext;

use super::{
    super::kernel_io::Tensors,
    attributes::Attributes,
    declaration::{CustomOp, Products},
    panic_guard::Compute,
    shape_fns,
};
use nemostt_compiler::ops::{OpSchema, PACKED_MATMUL, WEIGHTS_INDEX};
use nemostt_kernels::executor::Op;
use nemostt_kernels::gemm::{Output, PackedWeights, Scratch};

fn numbered(all: &[Arc<PackedWeights>], number: Option<i64>) -> ort::Result<Arc<PackedWeights>> {
    let number = number.and_then(|number| usize::try_from(number).ok());
    let found = number.and_then(|number| all.get(number));
    found
        .cloned()
        .ok_or_else(|| ort::Error::new("a product has no weights"))
}

/// One product of a graph.
pub(super) struct PackedMatMulKernel {
    weights: Arc<PackedWeights>,
    /// Where its input is made ready, from step to step.
    scratch: Scratch,
}

impl CustomOp for PackedMatMulKernel {
    const SCHEMA: OpSchema = PACKED_MATMUL;

    fn new(source: &impl Attributes, products: &Products) -> ort::Result<Self> {
        Ok(Self {
            weights: numbered(products, source.int(WEIGHTS_INDEX))?,
            scratch: Scratch::default(),
        })
    }

    fn into_op(self) -> Op {
        Op::PackedMatMul(self.weights)
    }

    fn infer_shape(context: &mut ShapeInferenceContext, products: &Products) -> ort::Result<()> {
        let weights = numbered(products, context.attr(WEIGHTS_INDEX).ok())?;
        shape_fns::like_first_input(context, Some(weights.n() as i64))
    }
}

impl Compute for PackedMatMulKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let weights = &*self.weights;
        let (mut sizes, input) = tensors.input(0)?;
        match sizes.last_mut() {
            Some(last) if *last == weights.k() as i64 => *last = weights.n() as i64,
            _ => {
                return Err(ort::Error::new(
                    "rows of a product are of another width than its weights",
                ));
            }
        }
        let residual = match tensors.input_count()? {
            1 => None,
            _ => Some(tensors.input(1)?.1),
        };
        let output = tensors.output(0, sizes)?;
        if residual.is_some_and(|residual| residual.len() != output.len()) {
            return Err(ort::Error::new("what is added to a product is of another size"));
        }
        let output = Output::new(output, weights.n());
        let input = weights.pack_lhs(input, &mut self.scratch);
        tensors.parallel_for(weights.task_count(), |task| {
            // SAFETY: each piece is done once.
            #[allow(unsafe_code)]
            let columns = unsafe { output.columns(weights.columns_of(task)) };
            weights.multiply(task, input, residual, columns);
        })
    }
}
