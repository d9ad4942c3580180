// SPDX-License-Identifier: MIT OR Apache-2.0

//! Inputs and outputs of a program that belong to one stream, and runs on them without unsafe code.

use std::cell::RefCell;

use super::{Input, OutputShape, Program, ProgramError, fault::Injected, set_input};

/// An input of a program, for [`Program::stream_io`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputSpec {
    /// Values, and the width of a row.
    Tensor {
        /// Number of values.
        length: usize,
        /// Values per row.
        width: usize,
    },
    /// A number.
    Scalar,
}

/// Inputs and outputs of a program for one stream, allocated once. A tensor that the program updates in place is stored once,
/// as an input.
#[derive(Debug)]
pub struct StreamIo {
    inputs: Vec<StreamInput>,
    outputs: Vec<StreamOutput>,
    fault: Injected,
}

#[derive(Debug)]
enum StreamInput {
    Tensor { values: Vec<f32>, width: usize },
    Scalar(usize),
}

#[derive(Debug)]
enum StreamOutput {
    Values(Vec<f32>),
    /// The input with this number.
    InPlace(usize),
}

impl StreamIo {
    /// Values of input `number`; empty if it is a scalar.
    ///
    /// # Panics
    /// If there is no such input, as all methods do that take a number or an index.
    pub fn input(&self, number: usize) -> &[f32] {
        match &self.inputs[number] {
            StreamInput::Tensor { values, .. } => values,
            StreamInput::Scalar(_) => &[],
        }
    }

    /// As [`input`](Self::input), to write them.
    pub fn input_mut(&mut self, number: usize) -> &mut [f32] {
        self.fault = Injected::here();
        self.tensor_mut(number)
    }

    fn tensor_mut(&mut self, number: usize) -> &mut [f32] {
        match &mut self.inputs[number] {
            StreamInput::Tensor { values, .. } => values,
            StreamInput::Scalar(_) => &mut [],
        }
    }

    /// Sets scalar input `number`; no effect on a tensor.
    pub fn set_scalar(&mut self, number: usize, value: usize) {
        if let StreamInput::Scalar(scalar) = &mut self.inputs[number] {
            *scalar = value;
        }
    }

    /// Values of output `index`.
    pub fn output(&self, index: usize) -> &[f32] {
        match &self.outputs[index] {
            StreamOutput::Values(values) => values,
            StreamOutput::InPlace(input) => self.input(*input),
        }
    }

    /// Makes output `index` the next run's input `number`, without copying it.
    ///
    /// # Panics
    /// If they differ in length.
    pub fn feed_back(&mut self, index: usize, number: usize) {
        if let (StreamOutput::Values(output), StreamInput::Tensor { values, .. }) =
            (&mut self.outputs[index], &mut self.inputs[number])
        {
            assert!(output.len() == values.len());
            std::mem::swap(output, values);
        }
    }

    /// The input that the program updates in place, if the result is output `index`.
    pub fn in_place_input(&self, index: usize) -> Option<usize> {
        match self.outputs[index] {
            StreamOutput::Values(_) => None,
            StreamOutput::InPlace(input) => Some(input),
        }
    }

    /// Sets all inputs to zero.
    pub fn clear(&mut self) {
        for input in &mut self.inputs {
            match input {
                StreamInput::Tensor { values, .. } => values.fill(0.0),
                StreamInput::Scalar(scalar) => *scalar = 0,
            }
        }
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        let inputs = (0..self.inputs.len()).map(|number| self.input(number).len());
        let outputs = self.outputs.iter().map(|output| match output {
            StreamOutput::Values(values) => values.len(),
            StreamOutput::InPlace(_) => 0,
        });
        inputs.chain(outputs).sum::<usize>() * size_of::<f32>()
    }

    fn raw_output(&mut self, index: usize) -> *mut [f32] {
        match &mut self.outputs[index] {
            StreamOutput::Values(values) => &raw mut values[..],
            &mut StreamOutput::InPlace(input) => &raw mut self.tensor_mut(input)[..],
        }
    }
}

impl Program {
    /// Inputs and outputs for a stream, all zero. `inputs` are all inputs of the program.
    ///
    /// # Errors
    /// The shapes do not match each other or the program.
    pub fn stream_io(&mut self, inputs: &[InputSpec]) -> Result<StreamIo, ProgramError> {
        let create = |spec: &InputSpec| match *spec {
            InputSpec::Tensor { length, width } => StreamInput::Tensor {
                values: vec![0.0; length],
                width,
            },
            InputSpec::Scalar => StreamInput::Scalar(0),
        };
        let mut io = StreamIo {
            inputs: inputs.iter().map(create).collect(),
            outputs: Vec::new(),
            fault: Injected::default(),
        };
        self.memory.start(1);
        for &number in self.schedule.inputs() {
            set_input(&self.schedule, &mut self.memory, (0, number), io.read(number)?)?;
        }
        self.prepare(1)?;
        let outputs = self.outputs.iter().zip(&self.in_place);
        let outputs = outputs.map(|(&value, in_place)| match *in_place {
            Some(input) => StreamOutput::InPlace(input),
            None => StreamOutput::Values(vec![0.0; self.memory.length(value)]),
        });
        io.outputs = outputs.collect();
        Ok(io)
    }

    /// Runs a batch of streams, all with inputs and outputs of this program, of the same lengths. `parallel_for` as for
    /// [`run`](Self::run).
    ///
    /// # Errors
    /// [`ProgramError`] if they are not. A scalar may be invalid, too; then nothing has been written.
    #[allow(unsafe_code)]
    pub fn run_streams(
        &mut self,
        streams: &mut [&mut StreamIo],
        parallel_for: impl FnOnce(usize, &(dyn Fn(usize) + Sync)),
    ) -> Result<(), ProgramError> {
        if !streams.iter().all(|stream| stream.updates_in_place(&self.in_place)) {
            return Err(ProgramError::Arity);
        }
        self.fault = Injected::of_batch(streams.iter().map(|stream| stream.fault));
        self.fault.check_run()?;
        let count = streams.len();
        let streams = RefCell::new(streams);
        let input = |stream: usize, number: usize| streams.borrow()[stream].read(number);
        let output = |stream: usize, index: usize, _: OutputShape| {
            // There are as many as the program has, as checked above.
            Ok(streams.borrow_mut()[stream].raw_output(index))
        };
        let parallel_for = |workers: usize, work: &(dyn Fn(usize) + Sync)| {
            parallel_for(workers, work);
            Ok(())
        };
        // SAFETY: all tensors are vectors of their own, which are borrowed mutably until the end of the run. An output is stored
        // as an input only if an operation of this program updates it in place, as checked above.
        unsafe { self.run_batch(count, input, output, parallel_for) }
    }
}

impl StreamIo {
    /// Input `number`, as a program reads it.
    fn read(&self, number: usize) -> Result<Input, ProgramError> {
        match self.inputs.get(number) {
            Some(StreamInput::Tensor { values, width }) => Ok(Input::Tensor(&raw const values[..], *width)),
            Some(StreamInput::Scalar(scalar)) => Ok(Input::Scalar(*scalar)),
            None => Err(ProgramError::Arity),
        }
    }

    /// Whether exactly these outputs are stored as inputs: for each output, the number of the input.
    fn updates_in_place(&self, in_place: &[Option<usize>]) -> bool {
        let inputs = (0..self.outputs.len()).map(|index| self.in_place_input(index));
        inputs.eq(in_place.iter().copied())
    }
}
