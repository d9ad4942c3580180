// SPDX-License-Identifier: MIT OR Apache-2.0

//! The part of an encoder that depends only on the lengths of a step and on the language. A stream runs it only when one of
//! them changes, so not any more once its cache is full.

use super::{
    compile::CompiledEncoder,
    runtime::{Binding, LogLevel, Session, Tensor, log},
    target::Target,
};
use crate::{device::Device, error::Result};
use nemostt_compiler::{
    BoundaryTensor, ElementType, LENGTH_GRAPH_INPUTS, NEXT_LENGTHS, SplitGraph,
    pipeline::{NotApplied, SPLIT_LENGTH_GRAPH, some},
};

/// The graph of that part, shared by all streams.
pub(super) struct LengthGraph {
    session: Session,
    taken: Vec<&'static str>,
    still_taken: Vec<&'static str>,
    boundary: Vec<BoundaryTensor>,
}

impl LengthGraph {
    /// Splits that part off `encoder`, the specialized graph of file `name`. If that fails, logs why and returns
    /// `None`.
    ///
    /// # Errors
    /// If ONNX Runtime or the device is missing.
    pub(super) fn split_off(encoder: &mut CompiledEncoder, name: &str, target: &Target) -> Result<Option<Self>> {
        // On another device, the tensors at the boundary would have to be copied there.
        if target.device != Device::Cpu {
            encoder.note_link(
                SPLIT_LENGTH_GRAPH,
                Err(NotApplied::Disabled("only useful on the CPU".into())),
            );
            return Ok(None);
        }
        // Its operators are too short to be parallelized.
        let target = target.with_threads(1);
        let start = |split: SplitGraph| {
            let lengths = Self {
                session: Session::load_encoded(split.lengths, name, &target).map_err(|error| error.to_string())?,
                taken: split.taken,
                still_taken: split.still_taken,
                boundary: split.boundary,
            };
            Ok((lengths, split.rest))
        };
        match encoder.encoded.split_length_graph().and_then(start) {
            Ok((lengths, rest)) => {
                encoder.encoded.model = rest;
                encoder.note_link(SPLIT_LENGTH_GRAPH, some(lengths.boundary.len(), "tensors"));
                Ok(Some(lengths))
            }
            Err(reason) => {
                log(
                    LogLevel::Info,
                    &format!("{name}: masks are recomputed in each step: {reason}"),
                );
                encoder.note_link(SPLIT_LENGTH_GRAPH, Err(NotApplied::Unsupported(reason)));
                Ok(None)
            }
        }
    }

    /// The tensors that the rest of the encoder reads.
    pub(super) fn boundary(&self) -> impl Iterator<Item = &BoundaryTensor> {
        self.boundary.iter()
    }

    /// The values of all tensors for these inputs.
    pub(super) fn compute(&self, inputs: LengthInputs) -> Result<LengthValues> {
        let mut state = LengthGraphState::new(self)?;
        let next = state.update(self, inputs)?;
        let boundary = state.boundary.iter().map(|(_, values)| match values {
            Values::Floats(floats) => floats.data().to_vec(),
            Values::Ints(ints) => ints.data().iter().map(|&value| value as f32).collect(),
        });
        Ok(LengthValues {
            next,
            boundary: boundary.collect(),
        })
    }

    /// Whether the rest of the encoder still has the input `name`.
    pub(super) fn keeps_input(&self, name: &str) -> bool {
        self.still_taken.contains(&name)
    }
}

/// What the graph depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LengthInputs {
    /// In the order of [`LENGTHS`](nemostt_compiler::LENGTHS).
    pub(super) lengths: [i64; 3],
    /// The language prompt; 0 if the encoder takes none.
    pub(super) prompt: i64,
}

impl LengthInputs {
    /// In the order of [`LENGTH_GRAPH_INPUTS`].
    fn values(self) -> [i64; 4] {
        let [length, drop, cached] = self.lengths;
        [length, drop, cached, self.prompt]
    }
}

/// Everything that depends only on lengths and the language prompt.
#[derive(Debug, PartialEq)]
pub(super) struct LengthValues {
    /// In the order of [`NEXT_LENGTHS`].
    pub(super) next: [i64; 2],
    /// In the order of [`LengthGraph::boundary`]. Integers, which are indices of frames, as float32.
    pub(super) boundary: Vec<Vec<f32>>,
}

impl LengthValues {
    /// Bytes of the boundary.
    pub(super) fn bytes(&self) -> usize {
        self.boundary.iter().map(|values| size_of_val(&values[..])).sum()
    }
}

/// A stream's tensors.
pub(super) struct LengthGraphState {
    binding: Binding,
    /// In the order of [`LENGTH_GRAPH_INPUTS`] and [`NEXT_LENGTHS`].
    inputs: [Tensor<i64>; 4],
    next: [Tensor<i64>; 2],
    boundary: Vec<(String, Values)>,
    /// The inputs for which `next` and `boundary` were computed.
    computed_for: Option<LengthInputs>,
}

/// A tensor at the boundary.
enum Values {
    Floats(Tensor<f32>),
    Ints(Tensor<i64>),
}

impl LengthGraphState {
    pub(super) fn new(lengths: &LengthGraph) -> Result<Self> {
        let number = || Tensor::zeros(&[1]);
        let inputs = [number()?, number()?, number()?, number()?];
        let mut next = [number()?, number()?];
        let mut binding = lengths.session.bind()?;
        for (name, input) in LENGTH_GRAPH_INPUTS.iter().zip(&inputs) {
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
            computed_for: None,
        })
    }

    /// Binds the tensors at the boundary as inputs of the rest of the encoder.
    pub(super) fn bind(&self, rest: &mut Binding) -> Result<()> {
        self.boundary.iter().try_for_each(|(name, values)| match values {
            Values::Floats(floats) => rest.input(name, floats),
            Values::Ints(ints) => rest.input(name, ints),
        })
    }

    /// Updates the tensors at the boundary for these inputs, and returns the values of [`NEXT_LENGTHS`].
    pub(super) fn update(&mut self, lengths: &LengthGraph, inputs: LengthInputs) -> Result<[i64; 2]> {
        if self.computed_for != Some(inputs) {
            // Invalid until the run has succeeded.
            self.computed_for = None;
            for (input, value) in self.inputs.iter_mut().zip(inputs.values()) {
                input.data_mut()[0] = value;
            }
            lengths.session.run(&self.binding, "compute masks")?;
            self.computed_for = Some(inputs);
        }
        Ok([self.next[0].data()[0], self.next[1].data()[0]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Options,
        compile::{compile_specialized, specialize},
        tests::graph_in,
    };
    use nemostt_compiler::{LENGTHS, RING_HEAD_INPUT, StateSpec, StreamingConfig};

    const LOOKAHEAD: usize = 1;

    fn compiled(target: &Target) -> (CompiledEncoder, StreamingConfig) {
        let graph = graph_in("assets/demo-model/encoder-model.onnx");
        let streaming = StreamingConfig::read(&graph).unwrap();
        let specialized = specialize(&graph, &streaming, LOOKAHEAD, target).unwrap();
        let compiled = compile_specialized(specialized, "demo", &streaming, target).unwrap();
        (compiled, streaming)
    }

    /// Binds `tensors`, inputs and outputs.
    fn bind(binding: &mut Binding, tensors: &mut [(String, Tensor<f32>, bool)]) {
        for (name, tensor, is_output) in tensors {
            match is_output {
                true => binding.output(name, tensor).unwrap(),
                false => binding.input(name, tensor).unwrap(),
            }
        }
    }

    /// Inputs of a step, each with other values, and outputs.
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
            .map(|(number, (name, dims, is_output))| {
                let mut tensor = Tensor::zeros(&dims).unwrap();
                for (index, value) in tensor.data_mut().iter_mut().enumerate() {
                    *value = ((index * 7 + number * 13) as f32).sin();
                }
                (name, tensor, is_output)
            })
            .collect()
    }

    #[test]
    fn split_encoder_matches_whole_encoder() {
        let options = Options {
            threads: 1,
            ..Default::default()
        };
        let target = Target::resolve(&options).unwrap();
        let (whole, streaming) = compiled(&target);
        let (mut split, _) = compiled(&target);
        let lengths = LengthGraph::split_off(&mut split, "demo", &target).unwrap().unwrap();
        let mut state = LengthGraphState::new(&lengths).unwrap();
        let sessions =
            [whole.encoded, split.encoded].map(|encoded| Session::load_encoded(encoded, "demo", &target).unwrap());
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
        // The start of a stream, steps with changing lengths, steps with equal ones, a short last window, the start
        // again.
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
            let inputs = LengthInputs {
                lengths: values,
                prompt: 0,
            };
            let given = state.update(&lengths, inputs).unwrap();
            for (session, binding) in sessions.iter().zip(&bindings) {
                session.run(binding, "run").unwrap();
            }
            assert_eq!(given, [next[0].data()[0], next[1].data()[0]], "step {step}");
            for (whole, split) in both[0].iter().zip(&both[1]) {
                assert!(whole.1.data() == split.1.data(), "step {step}: {}", whole.0);
            }
            for tensor in both.iter_mut().flatten().filter(|tensor| tensor.0 == "audio_signal") {
                tensor.1.data_mut().iter_mut().for_each(|value| *value *= -0.9);
            }
        }
    }
}
