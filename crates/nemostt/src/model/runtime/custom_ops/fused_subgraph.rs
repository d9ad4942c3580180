// SPDX-License-Identifier: MIT OR Apache-2.0

//! A chain of our other operations.

use std::collections::HashSet;

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::{Outlet, TensorElementType},
};

use super::{
    super::kernel_io::{MAX_RANK, TensorShape, Tensors},
    attributes::{Attributes, CallAttributes},
    declaration::Products,
    panic_guard::{Compute, PanicGuard},
    shape_fns,
};
use nemostt_compiler::{AXES, CALLS, FUSED_SUBGRAPH, OUTPUTS, RESHAPE, SubgraphCall, ops::OpInput};
use nemostt_kernels::executor::{self, Input, Op, Program, ProgramError};

/// Our own operation for a chain of others: see [`FUSED_SUBGRAPH`] for its inputs.
pub(super) struct FusedSubgraphOp {
    pub(super) products: Products,
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
            let (op, reads, scalars) = self.op(&source)?;
            check_types(&inputs, &reads, TensorElementType::Float32)?;
            check_types(&inputs, &scalars, TensorElementType::Int64)?;
            numbers.extend(scalars.iter().copied());
            work.push(executor::OpCall {
                op,
                inputs: [reads, scalars].concat(),
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
    /// The operation of a call, and its inputs that are read in each run: tensors, then scalars.
    fn op(&self, source: &CallAttributes<'_>) -> ort::Result<(Op, Vec<usize>, Vec<usize>)> {
        let call = source.call;
        if call.operation == RESHAPE {
            let reads = call.inputs.iter().take(1).copied().collect();
            return Ok((Op::Reshape(source.width()), reads, Vec::new()));
        }
        let found = super::program_op(&call.operation, source, &self.products);
        let (op, schema) = found.ok_or_else(|| ort::Error::new("a fused subgraph has an unknown operation"))??;
        if call.inputs.len() > schema.inputs.len() {
            return Err(program_error(ProgramError::Arity));
        }
        let (mut reads, mut scalars) = (Vec::new(), Vec::new());
        for (index, kind) in schema.inputs.iter().enumerate().filter(|(_, kind)| kind.is_read()) {
            match (call.inputs.get(index), kind) {
                (Some(&value), OpInput::Scalar) => scalars.push(value),
                (Some(&value), _) => reads.push(value),
                (None, OpInput::Optional) => {}
                (None, _) => return Err(program_error(ProgramError::Arity)),
            }
        }
        Ok((op, reads, scalars))
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
