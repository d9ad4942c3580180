// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs of whole graphs, which run without ONNX Runtime. It is only needed once, to compute their constants.

use nemostt_compiler::{Encoded, RESHAPE, SubgraphCall, lowering::LoweredGraph, ops};
use nemostt_kernels::{
    executor::{InputSpec, Op, OpCall, Program},
    fused_op::ProgramError,
    row_ops::{LogSoftmax, ReluRows, ScaleRows, SelectRows},
};

use super::{
    Session,
    constants::ConstantTensor,
    custom_ops::{self, Attributes, CallAttributes, Constant, Constants, RunInputs, Weights},
};
use crate::{error::Result, model::target::Target};

/// A graph whose operations have been created, from which [programs](Self::program) for any number of threads are made. They
/// share the weights.
pub(crate) struct LinkedProgram {
    calls: Vec<OpCall>,
    /// Inputs, and constants, which no program reads.
    values: usize,
    outputs: Vec<usize>,
    inputs: Vec<InputSpec>,
}

impl LinkedProgram {
    /// Creates the operations of `lowered`, the graph of file `name` that `encoded` contains.
    ///
    /// # Errors
    /// ONNX Runtime's errors; [`Error::Runtime`] if an operation or its constants are inconsistent.
    pub(crate) fn new(lowered: LoweredGraph, encoded: &Encoded, name: &str, target: &Target) -> Result<Self> {
        let constants = constants(lowered.constants_graph, &lowered.constants, name, target)?;
        let inconsistent = |error: ort::Error| super::failed(format!("create the program of {name}"), error);
        let weights: Weights = encoded.packed_weights.clone().into();
        let known = LoweredConstants {
            first: lowered.inputs.len(),
            tensors: &constants,
        };
        let create = |call: &SubgraphCall| -> ort::Result<OpCall> {
            let attributes = CallAttributes {
                constants: &known,
                call,
            };
            let (op, inputs) = op(&attributes, &weights)?;
            Ok(inputs.call(op, call.outputs.clone()))
        };
        let calls: ort::Result<Vec<OpCall>> = lowered.calls.iter().map(create).collect();
        let calls = calls.map_err(inconsistent)?;
        let values = lowered.inputs.len() + constants.len();
        let reads_constant = |call: &OpCall| call.inputs.iter().any(|input| (known.first..values).contains(input));
        if calls.iter().any(reads_constant) {
            return Err(inconsistent(ort::Error::new(
                "an operation reads a constant in each run",
            )));
        }
        let scalars: Vec<usize> = calls.iter().flat_map(scalars).copied().collect();
        let inputs = lowered.inputs.iter().enumerate().map(|(number, input)| {
            match (scalars.contains(&number), length(&input.dims)) {
                (true, _) => Ok(InputSpec::Scalar),
                (false, Some(length)) => Ok(InputSpec::Tensor {
                    length,
                    width: input.dims.last().copied().unwrap_or(1),
                }),
                (false, None) => Err(inconsistent(ort::Error::new("the size of an input overflows"))),
            }
        });
        // Constants are numbered like inputs, but have no values in a run.
        let unread = InputSpec::Tensor { length: 0, width: 1 };
        Ok(Self {
            inputs: inputs
                .chain(constants.iter().map(|_| Ok(unread)))
                .collect::<Result<_>>()?,
            calls,
            values,
            outputs: lowered.outputs.iter().map(|output| output.value).collect(),
        })
    }

    /// The inputs of the graph, and placeholders for its constants.
    pub(crate) fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// Bytes of the inputs.
    ///
    /// # Errors
    /// [`ProgramError::ShapeMismatch`] if they overflow.
    pub(crate) fn input_bytes(&self) -> std::result::Result<usize, ProgramError> {
        let lengths = self.inputs.iter().map(|input| match input {
            InputSpec::Tensor { length, .. } => *length,
            InputSpec::Scalar => 0,
        });
        let mut lengths = lengths;
        let all = lengths.try_fold(0_usize, |all, length| all.checked_add(length));
        let bytes = all.and_then(|all| all.checked_mul(size_of::<f32>()));
        bytes.ok_or(ProgramError::ShapeMismatch)
    }

    /// A program for `threads` threads.
    ///
    /// # Errors
    /// [`ProgramError`] if the calls are inconsistent.
    pub(crate) fn program(&self, threads: usize) -> std::result::Result<Program, ProgramError> {
        Program::new(self.calls.clone(), self.values, &self.outputs, threads)
    }
}

/// Values of a tensor with these sizes.
fn length(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |all, &size| all.checked_mul(size))
}

/// The scalars that a call reads: they follow its tensors.
fn scalars(call: &OpCall) -> &[usize] {
    match &call.op {
        Op::Fused(op) => &call.inputs[call.inputs.len().saturating_sub(op.signature().scalars)..],
        Op::Reshape(_) => &[],
    }
}

/// The values of `constants`, the outputs of `graph`.
fn constants(graph: Encoded, constants: &[String], name: &str, target: &Target) -> Result<Vec<ConstantTensor>> {
    match constants {
        [] => Ok(Vec::new()),
        constants => Session::load_encoded(graph, name, &target.with_threads(1))?.constants(constants),
    }
}

/// The operation of a call, and the values that it reads in a run.
fn op<C: Constants>(attributes: &CallAttributes<'_, C>, weights: &Weights) -> ort::Result<(Op, RunInputs)> {
    let (call, width) = (attributes.call, attributes.width());
    let op = match call.operation.as_str() {
        RESHAPE => Op::Reshape(width),
        ops::SELECT_ROWS => SelectRows { width }.into(),
        ops::SCALE_ROWS => ScaleRows { width }.into(),
        ops::RELU_ROWS => ReluRows { width }.into(),
        ops::LOG_SOFTMAX => LogSoftmax { width }.into(),
        operation => {
            let found = custom_ops::op(operation, attributes, weights);
            let (op, schema) = found.ok_or_else(|| ort::Error::new(format!("unknown operation {operation}")))??;
            let inputs = RunInputs::new(&schema, &call.inputs);
            return Ok((op, inputs.map_err(|error| ort::Error::new(error.to_string()))?));
        }
    };
    match width {
        0 => Err(ort::Error::new("an operation has no width")),
        _ => Ok((op, RunInputs::tensors(call.inputs.clone()))),
    }
}

/// The constants of a lowered graph, which are numbered after its inputs.
struct LoweredConstants<'a> {
    first: usize,
    tensors: &'a [ConstantTensor],
}

impl LoweredConstants<'_> {
    fn get(&self, number: usize) -> ort::Result<&ConstantTensor> {
        let index = number.checked_sub(self.first);
        let found = index.and_then(|index| self.tensors.get(index));
        found.ok_or_else(|| ort::Error::new("an operation needs a constant where the graph computes a value"))
    }
}

impl Constants for LoweredConstants<'_> {
    fn floats(&self, number: usize) -> ort::Result<Constant<f32>> {
        match self.get(number)? {
            ConstantTensor::Floats(dims, values) => Ok((dims.clone(), values.clone())),
            ConstantTensor::Ints(..) => Err(ort::Error::new(
                "a constant has another type than its operation expects",
            )),
        }
    }

    fn numbers(&self, number: usize) -> ort::Result<Constant<usize>> {
        match self.get(number)? {
            ConstantTensor::Ints(dims, values) => {
                Ok((dims.clone(), values.iter().map(|&value| value as usize).collect()))
            }
            ConstantTensor::Floats(..) => Err(ort::Error::new(
                "a constant has another type than its operation expects",
            )),
        }
    }
}
