// SPDX-License-Identifier: MIT OR Apache-2.0

//! The part of an encoder that only the lengths of a step decide. A stream runs it when one of them is another than in the
//! step before, so not once its cache is full.

use super::{
    options::{Device, Options},
    runtime::{Binding, LogLevel, Session, Tensor, device_of, log},
};
use crate::error::Result;
use nemostt_compiler::{BoundaryTensor, ElementType, Encoded, LENGTHS, NEXT_LENGTHS, SplitGraph};

/// The graph of that part, shared by all streams.
pub(super) struct LengthGraph {
    session: Session,
    taken: Vec<&'static str>,
    still_taken: Vec<&'static str>,
    boundary: Vec<BoundaryTensor>,
}

impl LengthGraph {
    /// Takes that part out of `encoded`, the planned graph of file `name`, which stays whole, with a line in the log, where
    /// that cannot be done.
    ///
    /// # Errors
    /// ONNX Runtime is missing, or the device.
    pub(super) fn split_off(encoded: &mut Encoded, name: &str, options: &Options) -> Result<Option<Self>> {
        // On another device what crosses would have to get there first.
        if device_of(options)? != Device::Cpu {
            return Ok(None);
        }
        // Its operations are too short to share.
        let options = Options {
            threads: 1,
            ..options.clone()
        };
        let start = |parted: SplitGraph| {
            let lengths = Self {
                session: Session::load_encoded(parted.lengths, name, &options).map_err(|error| error.to_string())?,
                taken: parted.taken,
                still_taken: parted.still_taken,
                boundary: parted.boundary,
            };
            Ok((lengths, parted.rest))
        };
        match encoded.split_length_graph().and_then(start) {
            Ok((lengths, rest)) => {
                encoded.model = rest;
                Ok(Some(lengths))
            }
            Err(reason) => {
                log(
                    LogLevel::Info,
                    &format!("{name}: masks are computed anew at each step: {reason}"),
                );
                Ok(None)
            }
        }
    }

    /// Whether what is left of the encoder takes the length `name`, still.
    pub(super) fn keeps_input(&self, name: &str) -> bool {
        self.still_taken.contains(&name)
    }
}

/// One stream's tensors.
pub(super) struct LengthGraphState {
    binding: Binding,
    /// In the order of [`LENGTHS`] and [`NEXT_LENGTHS`].
    inputs: [Tensor<i64>; 3],
    next: [Tensor<i64>; 2],
    boundary: Vec<(String, Values)>,
    /// The lengths that `next` and `boundary` follow from.
    seen: Option<[i64; 3]>,
}

/// What crosses to the rest of the encoder.
enum Values {
    Floats(Tensor<f32>),
    Ints(Tensor<i64>),
}

impl LengthGraphState {
    pub(super) fn new(lengths: &LengthGraph) -> Result<Self> {
        let number = || Tensor::zeros(&[1]);
        let (inputs, mut next) = ([number()?, number()?, number()?], [number()?, number()?]);
        let mut binding = lengths.session.bind()?;
        for (name, input) in LENGTHS.iter().zip(&inputs) {
            if lengths.taken.contains(name) {
                binding.input(name, input)?;
            }
        }
        for (name, output) in NEXT_LENGTHS.iter().zip(&mut next) {
            binding.output(name, output)?;
        }
        let mut boundary = Vec::new();
        for BoundaryTensor { name, element, dims } in &lengths.boundary {
            let values = match element {
                ElementType::I64 => {
                    let mut ints = Tensor::zeros(dims)?;
                    binding.output(name, &mut ints)?;
                    Values::Ints(ints)
                }
                _ => {
                    let mut floats = Tensor::zeros(dims)?;
                    binding.output(name, &mut floats)?;
                    Values::Floats(floats)
                }
            };
            boundary.push((name.clone(), values));
        }
        Ok(Self {
            binding,
            inputs,
            next,
            boundary,
            seen: None,
        })
    }

    /// Lets the rest of the encoder read what crosses to it.
    pub(super) fn bind(&self, rest: &mut Binding) -> Result<()> {
        self.boundary.iter().try_for_each(|(name, values)| match values {
            Values::Floats(floats) => rest.input(name, floats),
            Values::Ints(ints) => rest.input(name, ints),
        })
    }

    /// Brings what crosses up to date with the values of [`LENGTHS`], and gives those of [`NEXT_LENGTHS`].
    pub(super) fn update(&mut self, lengths: &LengthGraph, values: [i64; 3]) -> Result<[i64; 2]> {
        if self.seen != Some(values) {
            // Until it has run, they are of neither.
            self.seen = None;
            for (input, value) in self.inputs.iter_mut().zip(values) {
                input.data_mut()[0] = value;
            }
            lengths.session.run(&self.binding, "compute masks")?;
            self.seen = Some(values);
        }
        Ok([self.next[0].data()[0], self.next[1].data()[0]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::compile::{CompiledEncoder, compile_specialized, specialized};
    use nemostt_compiler::{Graph, RING_HEAD_INPUT, StateSpec, StreamingConfig, read_file};

    const LOOKAHEAD: usize = 1;

    fn prepared(options: &Options) -> (CompiledEncoder, StreamingConfig) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo-model/encoder-model.onnx");
        let graph = Graph::decode_file(read_file(path.as_ref()).unwrap()).unwrap();
        let streaming = StreamingConfig::read(&graph).unwrap();
        let (graph, plan) = specialized("demo", &graph, &streaming, LOOKAHEAD).unwrap();
        let prepared = compile_specialized(graph, plan, "demo", streaming.layers, options).unwrap();
        (prepared, streaming)
    }

    /// Binds `tensors`: what is taken, and what is given.
    fn bind(binding: &mut Binding, tensors: &mut [(String, Tensor<f32>, bool)]) {
        for (name, tensor, is_given) in tensors {
            match is_given {
                true => binding.output(name, tensor).unwrap(),
                false => binding.input(name, tensor).unwrap(),
            }
        }
    }

    /// What a step takes, other values in each, and what it gives.
    fn tensors(states: &[StateSpec], streaming: &StreamingConfig, width: usize) -> Vec<(String, Tensor<f32>, bool)> {
        let mut tensors = vec![
            ("audio_signal".into(), vec![1, streaming.mels, width], false),
            ("outputs".into(), vec![1, streaming.d_model, LOOKAHEAD + 1], true),
        ];
        for state in states {
            let mut given = state.dims.clone();
            if let (Some(rows), Some(axis), false) = (state.new_rows, given.len().checked_sub(2), state.is_ring) {
                given[axis] = rows;
            }
            tensors.push((state.input.clone(), state.dims.clone(), false));
            tensors.push((state.output.clone(), given, true));
        }
        let tensors = tensors.into_iter().enumerate();
        tensors
            .map(|(number, (name, dims, is_given))| {
                let mut tensor = Tensor::zeros(&dims).unwrap();
                for (index, value) in tensor.data_mut().iter_mut().enumerate() {
                    *value = ((index * 7 + number * 13) as f32).sin();
                }
                (name, tensor, is_given)
            })
            .collect()
    }

    #[test]
    fn both_parts_give_what_the_whole_graph_gives() {
        let options = Options {
            threads: 1,
            ..Default::default()
        };
        let (whole, streaming) = prepared(&options);
        let (mut parted, _) = prepared(&options);
        let lengths = LengthGraph::split_off(&mut parted.encoded, "demo", &options)
            .unwrap()
            .unwrap();
        let mut state = LengthGraphState::new(&lengths).unwrap();
        let sessions =
            [whole.encoded, parted.encoded].map(|encoded| Session::load_encoded(encoded, "demo", &options).unwrap());
        let mut bindings = [0, 1].map(|index: usize| sessions[index].bind().unwrap());
        let mut both = [0, 1].map(|_| tensors(&whole.states, &streaming, whole.width.unwrap()));
        let mut numbers: [Tensor<i64>; 3] = [0; 3].map(|_| Tensor::zeros(&[1]).unwrap());
        let mut next: [Tensor<i64>; 2] = [0; 2].map(|_| Tensor::zeros(&[1]).unwrap());
        let oldest: Tensor<i64> = Tensor::zeros(&[1]).unwrap();
        for (binding, tensors) in bindings.iter_mut().zip(&mut both) {
            bind(binding, tensors);
            if whole.states.iter().any(|state| state.is_ring) {
                binding.input(RING_HEAD_INPUT, &oldest).unwrap();
            }
        }
        for (name, number) in LENGTHS.iter().zip(&numbers) {
            bindings[0].input(name, number).unwrap();
            if lengths.keeps_input(name) {
                bindings[1].input(name, number).unwrap();
            }
        }
        for (name, number) in NEXT_LENGTHS.iter().zip(&mut next) {
            bindings[0].output(name, number).unwrap();
        }
        state.bind(&mut bindings[1]).unwrap();

        let (width, left) = (whole.width.unwrap() as i64, streaming.left_context as i64);
        // A stream's start, steps that differ, steps that do not, a short last window, the start again.
        let start = [[width - 9, 0, 0], [width, 2, 2], [width, 2, 4], [width, 2, left - 1]];
        let end = [
            [width, 2, left],
            [width, 2, left],
            [width, 2, left],
            [width - 8, 2, left],
        ];
        for (step, values) in [start, end, start].into_iter().flatten().enumerate() {
            for (number, value) in numbers.iter_mut().zip(values) {
                number.data_mut()[0] = value;
            }
            let given = state.update(&lengths, values).unwrap();
            for (session, binding) in sessions.iter().zip(&bindings) {
                session.run(binding, "run").unwrap();
            }
            assert_eq!(given, [next[0].data()[0], next[1].data()[0]], "step {step}");
            for (whole, parted) in both[0].iter().zip(&both[1]) {
                assert!(whole.1.data() == parted.1.data(), "step {step}: {}", whole.0);
            }
            for tensor in both.iter_mut().flatten().filter(|tensor| tensor.0 == "audio_signal") {
                tensor.1.data_mut().iter_mut().for_each(|value| *value *= -0.9);
            }
        }
    }
}
