// SPDX-License-Identifier: MIT OR Apache-2.0

//! An operation as ONNX Runtime is told of it: all that follows from its row in [`nemostt_compiler::ops`].

use std::{marker::PhantomData, sync::Arc};

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    attributes::Attributes,
    panic_guard::{Compute, PanicGuard},
    shape_fns,
};
use nemostt_compiler::ops::{OpInput, OpSchema};
use nemostt_kernels::{executor::Op, gemm::PackedWeights};

/// The packed weights of a graph, by [number](nemostt_compiler::ops::WEIGHTS_INDEX).
pub(super) type Products = Arc<[Arc<PackedWeights>]>;

/// The kernel of an operation.
pub(super) trait CustomOp: Compute + Sized + 'static {
    const SCHEMA: OpSchema;

    /// The kernel of the node, or the call of a fused subgraph, that `source` describes.
    ///
    /// # Errors
    /// Its weights or attributes are missing or inconsistent.
    fn new(source: &impl Attributes, products: &Products) -> ort::Result<Self>;

    /// The same as a call of a program.
    fn into_op(self) -> Op;

    /// Shapes of outputs, as far as they follow from those of inputs. As the first input, if an operation does not say.
    fn infer_shape(context: &mut ShapeInferenceContext, _: &Products) -> ort::Result<()> {
        shape_fns::like_first_input(context, None)
    }
}

/// The declaration of the operation with kernel `K`.
pub(super) struct Declaration<K> {
    products: Products,
    kernel: PhantomData<fn() -> K>,
}

impl<K> Declaration<K> {
    pub(super) fn new(products: Products) -> PanicGuard<Self> {
        PanicGuard(Self {
            products,
            kernel: PhantomData,
        })
    }
}

impl<K: CustomOp> Operator for Declaration<K> {
    type Kernel<'attr> = PanicGuard<K>;

    fn name(&self) -> &str {
        K::SCHEMA.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        K::SCHEMA.inputs.iter().map(|input| match input {
            OpInput::Tensor | OpInput::Weights => OperatorInput::required(TensorElementType::Float32),
            OpInput::Optional => OperatorInput::optional(TensorElementType::Float32),
            OpInput::Scalar | OpInput::Indices => OperatorInput::required(TensorElementType::Int64),
        })
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..K::SCHEMA.outputs).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<PanicGuard<K>> {
        K::new(context, &self.products).map(PanicGuard)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        K::infer_shape(context, &self.products)
    }
}
