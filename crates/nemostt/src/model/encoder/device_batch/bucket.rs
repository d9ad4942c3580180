// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tensors of a batch of one size, bound to the session once.

use super::{
    engine::Layout,
    job::{StepInputs, StepJob},
};
use crate::{
    error::Result,
    model::runtime::{BatchRun, Binding, DeviceTensor, Session, StagedTensor},
};
use nemostt_compiler::{DROP_INPUT, LENGTHS, NEXT_LENGTHS, PROMPT_INPUT, READ_SLOTS_INPUT, SLOTS_INPUT, StateSpec};

/// Which of its numbers a step passes as an input.
type Number = fn(&StepInputs) -> i64;

const NUMBERS: [(&str, Number); 5] = [
    (LENGTHS[0], |inputs| inputs.length),
    (DROP_INPUT, |inputs| inputs.drop),
    (LENGTHS[2], |inputs| inputs.cached),
    (READ_SLOTS_INPUT, |inputs| inputs.read),
    (SLOTS_INPUT, |inputs| inputs.write),
];
const PROMPT: (&str, Number) = (PROMPT_INPUT, |inputs| inputs.prompt);

/// See the [module](self). Smaller batches are filled up with padding.
pub(super) struct Bucket {
    size: usize,
    binding: Binding,
    run: BatchRun,
    audio: StagedTensor<f32>,
    /// Each with a value per stream.
    numbers: Vec<(Number, StagedTensor<i64>)>,
    outputs: StagedTensor<f32>,
    lengths: Vec<StagedTensor<i64>>,
    /// Inputs of a row that belongs to no stream.
    padding: StepInputs,
}

impl Bucket {
    /// Tensors for `size` streams. Caches are `states`, of which `tensors` has one for each.
    pub(super) fn new(
        session: &Session,
        layout: &Layout,
        (states, tensors): (&[StateSpec], &mut [DeviceTensor<f32>]),
        size: usize,
        padding: StepInputs,
    ) -> Result<Self> {
        let mut binding = session.bind()?;
        let audio = session.staged_tensor(&[size, layout.mels, layout.width])?;
        binding.staged_input("audio_signal", &audio)?;
        let mut numbers = Vec::new();
        for (name, value) in NUMBERS.into_iter().chain(layout.has_prompt.then_some(PROMPT)) {
            let tensor = session.staged_tensor(&[size])?;
            binding.staged_input(name, &tensor)?;
            numbers.push((value, tensor));
        }
        let mut outputs = session.staged_tensor(&[&[size], &layout.output_dims[..]].concat())?;
        binding.staged_output(layout.output, &mut outputs)?;
        let mut lengths = Vec::new();
        for name in NEXT_LENGTHS {
            let mut tensor = session.staged_tensor(&[size])?;
            binding.staged_output(name, &mut tensor)?;
            lengths.push(tensor);
        }
        for (state, tensor) in states.iter().zip(tensors) {
            binding.updated([&state.input, &state.output], tensor)?;
        }
        Ok(Self {
            size,
            run: session.batch_run(size)?,
            binding,
            audio,
            numbers,
            outputs,
            lengths,
            padding,
        })
    }

    /// Streams.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Runs padding, for the first time: see [`Session::record_batch`].
    pub(super) fn record(&mut self, session: &Session) -> Result<()> {
        self.write_inputs(&[])?;
        session.record_batch(&self.binding, &self.run, "run the encoder")
    }

    /// Runs a step of each of `jobs`, at most as many as it has rows. `has_run` is set before the graph runs.
    pub(super) fn run(&mut self, session: &Session, jobs: &mut [StepJob], has_run: &mut bool) -> Result<()> {
        self.write_inputs(jobs)?;
        *has_run = true;
        session.run_batch(&self.binding, &self.run, "run the encoder")?;
        self.read_outputs(jobs)
    }

    fn write_inputs(&mut self, jobs: &[StepJob]) -> Result<()> {
        let row = self.audio.data().len() / self.size;
        let mut rows = self.audio.data_mut().chunks_exact_mut(row);
        for (job, row) in jobs.iter().zip(&mut rows) {
            row.copy_from_slice(&job.audio);
        }
        // So that a batch does not depend on the one before it.
        rows.for_each(|row| row.fill(0.0));
        self.audio.upload()?;
        for (value, tensor) in &mut self.numbers {
            let inputs = jobs.iter().map(|job| &job.inputs);
            let inputs = inputs.chain(std::iter::repeat(&self.padding));
            for (number, inputs) in tensor.data_mut().iter_mut().zip(inputs) {
                *number = value(inputs);
            }
            tensor.upload()?;
        }
        Ok(())
    }

    fn read_outputs(&mut self, jobs: &mut [StepJob]) -> Result<()> {
        self.outputs.download()?;
        for tensor in &mut self.lengths {
            tensor.download()?;
        }
        let row = self.outputs.data().len() / self.size;
        for (number, (job, values)) in jobs.iter_mut().zip(self.outputs.data().chunks_exact(row)).enumerate() {
            job.outputs.copy_from_slice(values);
            for (length, tensor) in job.lengths.iter_mut().zip(&self.lengths) {
                *length = tensor.data()[number];
            }
        }
        Ok(())
    }
}
