// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel of all our operators: a program of one operation or of several, which runs on ONNX Runtime's tensors and
//! threads.

use std::cell::Cell;

use super::{
    super::kernel_io::{TensorShape, Tensors},
    panic_guard::Compute,
};
use nemostt_compiler::ops::{OpInput, OpSchema, Rows};
use nemostt_kernels::{
    executor::{Input, Op, OpCall, Program},
    fused_op::{OutputShape, ProgramError},
};

/// Values that an operation reads in a run.
pub(in super::super) struct RunInputs {
    pub(super) tensors: Vec<usize>,
    pub(super) scalars: Vec<usize>,
}

impl RunInputs {
    /// Selects the inputs that are read in a run. `inputs` are in the order of the schema and include constants.
    ///
    /// # Errors
    /// There are too few or too many.
    pub(in super::super) fn new(schema: &OpSchema, inputs: &[usize]) -> Result<Self, ProgramError> {
        if inputs.len() > schema.inputs.len() {
            return Err(ProgramError::Arity);
        }
        let (mut tensors, mut scalars) = (Vec::new(), Vec::new());
        for (index, kind) in schema.inputs.iter().enumerate() {
            match (kind, inputs.get(index)) {
                (OpInput::Scalar, Some(&value)) => scalars.push(value),
                (OpInput::Tensor | OpInput::Optional, Some(&value)) => tensors.push(value),
                (OpInput::Optional, None) => {}
                (OpInput::Scalar | OpInput::Tensor, None) => return Err(ProgramError::Arity),
                (OpInput::Weights | OpInput::Indices, _) => {}
            }
        }
        Ok(Self { tensors, scalars })
    }

    /// These tensors.
    pub(in super::super) fn tensors(tensors: Vec<usize>) -> Self {
        Self {
            tensors,
            scalars: Vec::new(),
        }
    }

    /// A call of `op` with these inputs.
    pub(in super::super) fn call(self, op: Op, outputs: Vec<usize>) -> OpCall {
        OpCall {
            op,
            inputs: [self.tensors, self.scalars].concat(),
            outputs,
        }
    }
}

/// See the [module](self).
pub(super) struct ProgramKernel {
    program: Program,
    /// Which inputs are scalars.
    is_scalar: Vec<bool>,
    /// Shapes of the inputs that the current run has read: querying one takes half a microsecond.
    shapes: Vec<TensorShape>,
    /// Whether the first output has all axes of the first input but the last one.
    keeps_axes: bool,
}

impl ProgramKernel {
    /// A program whose outputs are all rows, with as many inputs as `is_scalar` has entries.
    pub(super) fn new(program: Program, is_scalar: Vec<bool>) -> Self {
        Self {
            program,
            shapes: vec![TensorShape::default(); is_scalar.len()],
            is_scalar,
            keeps_axes: false,
        }
    }

    /// A program of one operation with `inputs` inputs.
    ///
    /// # Errors
    /// The operation has another number of inputs or outputs than its schema.
    pub(super) fn single(op: Op, schema: &OpSchema, inputs: usize, threads: usize) -> ort::Result<Self> {
        let program = || {
            let numbers: Vec<usize> = (0..inputs).collect();
            let outputs: Vec<usize> = (inputs..).take(schema.outputs).collect();
            let run_inputs = RunInputs::new(schema, &numbers)?;
            let is_scalar = numbers.iter().map(|number| run_inputs.scalars.contains(number));
            let is_scalar = is_scalar.collect();
            let calls = vec![run_inputs.call(op, outputs.clone())];
            Ok((Program::new(calls, inputs, &outputs, threads)?, is_scalar))
        };
        let (program, is_scalar) = program().map_err(program_error)?;
        Ok(Self {
            keeps_axes: schema.rows == Rows::IfInput,
            ..Self::new(program, is_scalar)
        })
    }
}

impl Compute for ProgramKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let (is_scalar, keeps_axes) = (&self.is_scalar, self.keeps_axes);
        let shapes = Cell::from_mut(&mut self.shapes[..]).as_slice_of_cells();
        let input = |index: usize| {
            if is_scalar.get(index) == Some(&true) {
                // A negative one becomes so large that the operation rejects it.
                return Ok(Input::Scalar(tensors.scalar(index)? as usize));
            }
            let (shape, values) = tensors.input(index)?;
            shapes[index].set(shape);
            Ok::<_, RunError>(Input::Tensor(values, shape.last()))
        };
        // Called after all inputs have been read.
        let output = |index: usize, shape| {
            let shape = match shape {
                OutputShape::Rows { width, .. } if keeps_axes => shapes[0].get().with_last(width),
                OutputShape::Rows { rows, width } => TensorShape::of_rows(rows, width),
                OutputShape::Like(input) => shapes[input].get(),
            };
            Ok(tensors.output(index, shape)?)
        };
        // SAFETY: tensors are valid until the end of the run, and do not overlap, except for the caches of an attention that
        // are bound in place.
        #[allow(unsafe_code)]
        let result = unsafe {
            self.program
                .run(input, output, |workers, work| Ok(tensors.parallel_for(workers, work)?))
        };
        result.map_err(|RunError(error)| error)
    }
}

pub(super) fn program_error(error: ProgramError) -> ort::Error {
    ort::Error::new(error.to_string())
}

/// An error of a run: one of ONNX Runtime, or of the program.
struct RunError(ort::Error);

impl From<ProgramError> for RunError {
    fn from(error: ProgramError) -> Self {
        Self(program_error(error))
    }
}

impl From<ort::Error> for RunError {
    fn from(error: ort::Error) -> Self {
        Self(error)
    }
}
