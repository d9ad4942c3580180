// SPDX-License-Identifier: MIT OR Apache-2.0

//! The operator for a fused subgraph, which runs as a program of several operations.

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::{Outlet, TensorElementType},
};

use super::{
    super::kernel_io::MAX_RANK,
    attributes::{Attributes, CallAttributes},
    declaration::Weights,
    panic_guard::PanicGuard,
    program_kernel::{ProgramKernel, RunInputs, program_error},
    shape_fns,
};
use nemostt_compiler::{AXES, CALLS, FUSED_SUBGRAPH, OUTPUTS, RESHAPE, SubgraphCall};
use nemostt_kernels::{
    executor::{Op, Program},
    fused_op::ProgramError,
};

/// See [`FUSED_SUBGRAPH`].
pub(super) struct FusedSubgraphOp {
    pub(super) weights: Weights,
    /// Threads of the session.
    pub(super) threads: usize,
}

impl Operator for FusedSubgraphOp {
    type Kernel<'attr> = PanicGuard<ProgramKernel>;

    fn name(&self) -> &str {
        FUSED_SUBGRAPH
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::variadic(1)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::variadic(1).homogenous(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<PanicGuard<ProgramKernel>> {
        let text: Option<String> = context.get(CALLS);
        let calls: Option<Vec<SubgraphCall>> = text.and_then(|text| serde_json::from_str(&text).ok());
        let calls = calls.ok_or_else(|| ort::Error::new("the calls of a fused subgraph cannot be parsed"))?;
        let outputs = context.sizes(OUTPUTS).unwrap_or_default();
        let inputs = context.inputs()?;
        let mut is_scalar = vec![false; inputs.len()];
        let mut program = Vec::new();
        for call in &calls {
            let (op, run_inputs) = self.op(&CallAttributes {
                constants: context,
                call,
            })?;
            check_types(&inputs, &run_inputs.tensors, TensorElementType::Float32)?;
            check_types(&inputs, &run_inputs.scalars, TensorElementType::Int64)?;
            for &scalar in &run_inputs.scalars {
                // A program rejects scalars that are not inputs.
                if let Some(is_scalar) = is_scalar.get_mut(scalar) {
                    *is_scalar = true;
                }
            }
            program.push(run_inputs.call(op, call.outputs.clone()));
        }
        let program = Program::new(program, inputs.len(), &outputs, self.threads).map_err(program_error)?;
        Ok(PanicGuard(ProgramKernel::new(program, is_scalar)))
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
    /// The operation of a call, and the values that it reads in a run.
    fn op(&self, attributes: &CallAttributes<'_, KernelContext<'_>>) -> ort::Result<(Op, RunInputs)> {
        let call = attributes.call;
        if call.operation == RESHAPE {
            // The target shape is a constant.
            let input = call.inputs.first().ok_or_else(|| program_error(ProgramError::Arity))?;
            return Ok((Op::Reshape(attributes.width()), RunInputs::tensors(vec![*input])));
        }
        let found = super::op(&call.operation, attributes, &self.weights);
        let (op, schema) = found.ok_or_else(|| {
            let message = format!("a fused subgraph contains the unknown operation {}", call.operation);
            ort::Error::new(message)
        })??;
        let inputs = RunInputs::new(&schema, &call.inputs).map_err(program_error)?;
        Ok((op, inputs))
    }
}

/// Checks the element types of inputs. Those of a fused subgraph are variadic and heterogeneous, so that ONNX Runtime does
/// not check what the replaced nodes declared.
fn check_types(inputs: &[Outlet], reads: &[usize], expected: TensorElementType) -> ort::Result<()> {
    // All others are values of the subgraph itself, which are float32.
    for input in reads.iter().filter_map(|&read| inputs.get(read)) {
        let found = input.dtype().tensor_type();
        if found != Some(expected) {
            let found = found.map_or_else(|| "no tensor".into(), |found| found.to_string());
            return Err(ort::Error::new(format!(
                "input {} of a fused subgraph has type {found}, expected {expected}",
                input.name()
            )));
        }
    }
    Ok(())
}
