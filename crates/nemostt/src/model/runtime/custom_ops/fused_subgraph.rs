// SPDX-License-Identifier: MIT OR Apache-2.0

//! A chain of our other operations.

use std::{collections::HashSet, sync::Arc};

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::{Outlet, TensorElementType},
};

use super::{
    super::kernel_io::{MAX_RANK, TensorShape, Tensors},
    attributes::{Attributes, CallAttributes},
    glu_depthwise_conv, layer_norm, packed_matmul,
    panic_guard::{Compute, PanicGuard},
    rel_pos_attention, shape_fns, strided_conv,
};
use nemostt_compiler::{
    AXES, CALLS, FUSED_SUBGRAPH, GLU_DEPTHWISE_CONV, JOINT_ADD_RELU, LAYER_NORM, LSTM_CELL, OUTPUTS, PACKED_MATMUL,
    REL_POS_ATTENTION, RESHAPE, STRIDED_CONV, SubgraphCall, WIDTH,
};
use nemostt_kernels::{
    executor::{self, Input, Op, Program, ProgramError},
    gemm::PackedWeights,
};

/// Our own operation for a chain of others: see [`FUSED_SUBGRAPH`] for its inputs.
pub(super) struct FusedSubgraphOp {
    pub(super) products: Arc<[Arc<PackedWeights>]>,
    /// Those of the session.
    pub(super) threads: usize,
}

impl Operator for FusedSubgraphOp {
    type Kernel<'attr> = PanicGuard<FusedSubgraphKernel>;

    fn name(&self) -> &str {
        FUSED_SUBGRAPH
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::variadic(1)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::variadic(1).homogenous(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<PanicGuard<FusedSubgraphKernel>> {
        let text: Option<String> = context.get(CALLS);
        let calls: Option<Vec<SubgraphCall>> = text.and_then(|text| serde_json::from_str(&text).ok());
        let calls = calls.ok_or_else(|| ort::Error::new("nobody can read of what a chain is made"))?;
        let outputs = context.sizes(OUTPUTS).unwrap_or_default();
        let inputs = context.inputs()?;
        let mut numbers = HashSet::new();
        let mut work = Vec::new();
        for call in &calls {
            let source = CallAttributes { node: context, call };
            let (done, reads) = self.work(&source)?;
            let (rows, number) = match done {
                Op::RelPosAttention(_) => reads.split_at(reads.len() - 1),
                _ => (&reads[..], &[][..]),
            };
            check_types(&inputs, rows, TensorElementType::Float32)?;
            check_types(&inputs, number, TensorElementType::Int64)?;
            numbers.extend(number);
            work.push(executor::OpCall {
                op: done,
                inputs: reads,
                outputs: call.outputs.clone(),
            });
        }
        Ok(PanicGuard(FusedSubgraphKernel {
            program: Program::new(work, inputs.len(), &outputs, self.threads).map_err(program_error)?,
            numbers,
        }))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let axes: Vec<i64> = context.attr(AXES)?;
        for (index, axes) in axes.into_iter().enumerate() {
            if let Ok(axes @ 1..=MAX_RANK) = usize::try_from(axes) {
                shape_fns::set(context, index, &vec![-1; axes])?;
            }
        }
        Ok(())
    }
}

impl FusedSubgraphOp {
    /// What a call does, and which of its inputs are not constant.
    fn work(&self, source: &CallAttributes<'_>) -> ort::Result<(Op, Vec<usize>)> {
        let inputs = &source.call.inputs;
        let first = |count: usize| (0..count).collect::<Vec<_>>();
        let (work, reads) = match source.call.operation.as_str() {
            PACKED_MATMUL => (
                Op::PackedMatMul(packed_matmul::find(&self.products, source)?),
                first(inputs.len()),
            ),
            // The oldest is the last one.
            REL_POS_ATTENTION => (
                Op::RelPosAttention(rel_pos_attention::from_attributes(source)?.into()),
                [first(6), vec![10]].concat(),
            ),
            GLU_DEPTHWISE_CONV => (
                Op::GluDepthwiseConv(glu_depthwise_conv::from_attributes(source)?),
                first(2),
            ),
            LAYER_NORM => (Op::LayerNorm(layer_norm::from_attributes(source)?), first(1)),
            STRIDED_CONV => (Op::StridedConv(strided_conv::from_attributes(source)?), first(2)),
            JOINT_ADD_RELU => (Op::JointAddRelu(width(source)), first(2)),
            LSTM_CELL => (Op::LstmCell(width(source)), first(3)),
            RESHAPE => (Op::Reshape(width(source)), first(1)),
            _ => return Err(ort::Error::new("a chain has an operation that nobody knows")),
        };
        let reads = reads.into_iter().map(|read| inputs.get(read).copied());
        let reads: Option<Vec<usize>> = reads.collect();
        Ok((work, reads.ok_or_else(|| program_error(ProgramError::Arity))?))
    }
}

/// Refuses an input of the chain that is of another element type than a call takes. A chain declares its inputs as variadic
/// and mixed, so ONNX Runtime checks nothing of what the nodes declared that it stands for.
fn check_types(inputs: &[Outlet], reads: &[usize], expected: TensorElementType) -> ort::Result<()> {
    // Others are values of the chain itself, which are all of float32.
    for input in reads.iter().filter_map(|&read| inputs.get(read)) {
        let found = input.dtype().tensor_type();
        if found != Some(expected) {
            let found = found.map_or_else(|| "no tensor".into(), |found| found.to_string());
            return Err(ort::Error::new(format!(
                "input {} of a chain is of type {found}, expected {expected}",
                input.name()
            )));
        }
    }
    Ok(())
}

/// 0, which a chain refuses, where none is said.
fn width(source: &impl Attributes) -> usize {
    let width = source.int(WIDTH).and_then(|width| usize::try_from(width).ok());
    width.unwrap_or_default()
}

fn program_error(misfit: ProgramError) -> ort::Error {
    ort::Error::new(misfit.to_string())
}

/// An error of a run: ONNX Runtime's, or of what a graph says.
struct RunError(ort::Error);

impl From<ProgramError> for RunError {
    fn from(misfit: ProgramError) -> Self {
        Self(program_error(misfit))
    }
}

impl From<ort::Error> for RunError {
    fn from(error: ort::Error) -> Self {
        Self(error)
    }
}

/// One chain of a graph.
pub(super) struct FusedSubgraphKernel {
    program: Program,
    /// The inputs that are one number.
    numbers: HashSet<usize>,
}

impl Compute for FusedSubgraphKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let numbers = &self.numbers;
        let input = |index: usize| {
            if numbers.contains(&index) {
                // As with sizes: a negative one is refused.
                return Ok(Input::Scalar(tensors.scalar(index)? as usize));
            }
            let (sizes, values) = tensors.input_place(index)?;
            Ok::<_, RunError>(Input::Tensor(values, sizes.last()))
        };
        let output = |index: usize, sizes| {
            let sizes = match sizes {
                executor::OutputShape::Rows { rows, width } => TensorShape::of_rows(rows, width),
                executor::OutputShape::Like(input) => tensors.input_place(input)?.0,
            };
            Ok(tensors.output_place(index, sizes)?)
        };
        // SAFETY: tensors last as long as the run, and are one apart from another, but for caches of attention that are bound
        // in place.
        #[allow(unsafe_code)]
        let done = unsafe {
            self.program
                .run(input, output, |members, work| Ok(tensors.parallel_for(members, work)?))
        };
        done.map_err(|RunError(error)| error)
    }
}
