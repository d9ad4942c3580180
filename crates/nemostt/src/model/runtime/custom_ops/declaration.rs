// SPDX-License-Identifier: MIT OR Apache-2.0

//! The declaration of an operation to ONNX Runtime, which follows from its row in [`nemostt_compiler::ops`].

use std::{marker::PhantomData, sync::Arc};

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{attributes::Attributes, panic_guard::PanicGuard, program_kernel::ProgramKernel, shape_fns};
use nemostt_compiler::ops::{OpInput, OpSchema};
use nemostt_kernels::{fused_op::FusedOp, gemm::PackedWeights};

/// The packed weights of a graph, by [index](nemostt_compiler::ops::WEIGHTS_INDEX).
pub(in super::super) type Weights = Arc<[Arc<PackedWeights>]>;

/// An operation of [`nemostt_kernels`] that graphs can contain.
pub(super) trait CustomOp: FusedOp + Sized + 'static {
    const SCHEMA: OpSchema;

    /// The operation with the constants and attributes of a node, or of a call of a fused subgraph.
    ///
    /// # Errors
    /// Constants or attributes are missing or inconsistent.
    fn new(attributes: &impl Attributes, weights: &Weights) -> ort::Result<Self>;

    /// Infers the shapes of outputs as far as they follow from those of inputs. By default, the first output has the shape
    /// of the first input.
    fn infer_shape(context: &mut ShapeInferenceContext, _: &Weights) -> ort::Result<()> {
        shape_fns::like_first_input(context, None)
    }
}

/// The declaration of operation `T`.
pub(super) struct Declaration<T> {
    weights: Weights,
    threads: usize,
    op: PhantomData<fn() -> T>,
}

impl<T> Declaration<T> {
    /// For a graph with these weights, and a session with `threads` threads.
    pub(super) fn new(weights: Weights, threads: usize) -> PanicGuard<Self> {
        PanicGuard(Self {
            weights,
            threads,
            op: PhantomData,
        })
    }
}

impl<T: CustomOp> Operator for Declaration<T> {
    type Kernel<'attr> = PanicGuard<ProgramKernel>;

    fn name(&self) -> &str {
        T::SCHEMA.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        T::SCHEMA.inputs.iter().map(|input| match input {
            OpInput::Tensor | OpInput::Weights => OperatorInput::required(TensorElementType::Float32),
            OpInput::Optional => OperatorInput::optional(TensorElementType::Float32),
            OpInput::Scalar | OpInput::Indices => OperatorInput::required(TensorElementType::Int64),
        })
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..T::SCHEMA.outputs).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<PanicGuard<ProgramKernel>> {
        let op = T::new(context, &self.weights)?;
        let threads = if op.is_parallel() { self.threads } else { 1 };
        ProgramKernel::single(op.into(), &T::SCHEMA, context.inputs()?.len(), threads).map(PanicGuard)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        T::infer_shape(context, &self.weights)
    }
}
