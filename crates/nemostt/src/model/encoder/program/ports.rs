// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which inputs and outputs of an encoder's program are what, and how large they must be.

use super::super::super::{compile::CompiledEncoder, length_graph::LengthGraph};
use super::EncoderParts;
use nemostt_compiler::{RING_HEAD_INPUT, SCORES, StateSpec, lowering::LoweredGraph};
use nemostt_kernels::executor::StreamIo;

/// Numbers of inputs and indices of outputs.
#[derive(Debug)]
pub(in crate::model::encoder) struct Ports {
    /// \[width, mels\].
    pub(in crate::model::encoder) audio: usize,
    pub(in crate::model::encoder) ring_head: Option<usize>,
    /// In the order of [`LengthValues::boundary`](super::LengthValues::boundary).
    pub(in crate::model::encoder) lengths: Vec<usize>,
    /// The states between steps.
    pub(in crate::model::encoder) states: Vec<StatePorts>,
    /// \[chunk, d_model\], or \[chunk, tokens + 1\].
    pub(in crate::model::encoder) outputs: usize,
    /// Frames of a step, if outputs are needed as \[d_model, chunk\].
    pub(in crate::model::encoder) transposed_frames: Option<usize>,
    pub(in crate::model::encoder) head: Option<HeadPorts>,
}

#[derive(Debug)]
pub(in crate::model::encoder) struct StatePorts {
    pub(in crate::model::encoder) input: usize,
    pub(in crate::model::encoder) output: usize,
    /// The rows of a ring, which is updated in place.
    pub(in crate::model::encoder) ring: Option<RingRows>,
}

/// A ring has room for the new rows of a step besides those that it reads. So nothing that a step reads is overwritten until
/// the head advances after it, and a step that failed can run again.
#[derive(Debug, Clone, Copy)]
pub(in crate::model::encoder) struct RingRows {
    pub(in crate::model::encoder) all: usize,
    /// Of a step.
    pub(in crate::model::encoder) new: usize,
}

/// Those of a joint's head.
#[derive(Debug)]
pub(in crate::model::encoder) struct HeadPorts {
    pub(in crate::model::encoder) prediction: usize,
    pub(in crate::model::encoder) projected: usize,
    pub(in crate::model::encoder) scores: usize,
}

/// Lengths of what a step copies.
pub(super) struct Sizes {
    audio: usize,
    outputs: usize,
    chunk: usize,
    /// Prediction, projected frames and scores.
    head: Option<[usize; 3]>,
    /// Widths of rows.
    widths: Vec<(&'static str, usize)>,
}

impl Sizes {
    pub(super) fn new(encoder: &CompiledEncoder, parts: &EncoderParts<'_>) -> Result<Self, String> {
        let overflow = || "its sizes overflow".to_owned();
        let product = |sizes: &[usize]| sizes.iter().try_fold(1_usize, |all, &size| all.checked_mul(size));
        let width = encoder.width.ok_or("its windows have no fixed width")?;
        let values = match parts.ctc_tokens {
            Some(tokens) => tokens + 1,
            None => parts.streaming.d_model,
        };
        let mut widths = vec![("outputs", values), ("logprobs", values)];
        if let Some(head) = parts.head {
            widths.push((SCORES, head.classes));
            widths.extend(head.projected.last().map(|&width| ("projected", width)));
        }
        let head = parts.head.map(|head| {
            let scores = product(&[head.projected[0], head.classes]);
            Some([product(&head.prediction)?, product(&head.projected)?, scores?])
        });
        Ok(Self {
            audio: product(&[width, parts.streaming.mels]).ok_or_else(overflow)?,
            outputs: product(&[parts.chunk, values]).ok_or_else(overflow)?,
            chunk: parts.chunk,
            head: head.map(|head| head.ok_or_else(overflow)).transpose()?,
            widths,
        })
    }
}

impl StatePorts {
    /// Values of its tensor.
    fn length(&self, state: &StateSpec) -> usize {
        match (self.ring, &state.dims[..]) {
            (Some(ring), [outer @ .., _, width]) => outer.iter().product::<usize>() * ring.all * width,
            (_, dims) => dims.iter().product(),
        }
    }
}

impl Ports {
    pub(super) fn find(
        lowered: &LoweredGraph,
        states: &[StateSpec],
        lengths: &LengthGraph,
        sizes: &Sizes,
    ) -> Result<Self, String> {
        let input = |name: &str| lowered.inputs.iter().position(|input| input.name == name);
        let output = |name: &str| lowered.outputs.iter().position(|output| output.name == name);
        let needed = |port: Option<usize>, name: &str| port.ok_or_else(|| format!("it has no {name}"));
        let audio = needed(input("audio_signal"), "audio_signal")?;
        // All other tensors are read and written as they are.
        let is_transposed = |name: &str| name == "audio_signal" || name == "outputs";
        let inputs = lowered.inputs.iter().map(|input| (&input.name, input.is_transposed));
        let outputs = lowered
            .outputs
            .iter()
            .map(|output| (&output.name, output.is_transposed));
        if let Some((name, _)) = inputs
            .chain(outputs)
            .find(|(name, transposed)| is_transposed(name) != *transposed)
        {
            return Err(format!("the order of the axes of {name} is not supported"));
        }
        // Rows of another width could have the same number of values.
        for (name, width) in &sizes.widths {
            let mut outputs = lowered.outputs.iter().filter(|output| output.name == *name);
            if let Some(found) = outputs.find_map(|output| output.width).filter(|found| found != width) {
                return Err(format!("rows of {name} have {found} values, expected {width}"));
            }
        }
        let state = |state: &StateSpec| {
            let rows = state.dims.iter().rev().nth(1).copied().unwrap_or_default();
            let new = state.new_rows.unwrap_or_default();
            let all = rows.checked_add(new).ok_or("its sizes overflow")?;
            Ok(StatePorts {
                input: needed(input(&state.input), &state.input)?,
                output: needed(output(&state.output), &state.output)?,
                ring: state.is_ring.then_some(RingRows { all, new }),
            })
        };
        if states.iter().any(|state| state.new_rows.is_some() && !state.is_ring) {
            return Err("it has caches that are shifted".into());
        }
        let head = match (input("prediction"), output("projected"), output(SCORES)) {
            (Some(prediction), Some(projected), Some(scores)) if sizes.head.is_some() => Some(HeadPorts {
                prediction,
                projected,
                scores,
            }),
            (None, None, None) if sizes.head.is_none() => None,
            _ => return Err("the head of its joint is incomplete".into()),
        };
        let boundary = lengths
            .boundary()
            .map(|tensor| needed(input(&tensor.name), &tensor.name));
        let ports = Self {
            audio,
            ring_head: input(RING_HEAD_INPUT),
            lengths: boundary.collect::<Result<_, _>>()?,
            states: states.iter().map(state).collect::<Result<_, String>>()?,
            outputs: match (output("outputs"), output("logprobs")) {
                (Some(frames), None) => frames,
                (None, Some(log_probs)) => log_probs,
                _ => return Err("it has no or several outputs".into()),
            },
            transposed_frames: output("outputs").map(|_| sizes.chunk),
            head,
        };
        // Each input is one of these.
        let known = 1
            + usize::from(ports.ring_head.is_some())
            + ports.lengths.len()
            + ports.states.len()
            + usize::from(ports.head.is_some());
        match known == lowered.inputs.len() {
            true => Ok(ports),
            false => Err("it has further inputs".into()),
        }
    }

    /// Sets the number of rows of rings, for which the graph has just those that it reads.
    pub(super) fn make_room(&self, lowered: &mut LoweredGraph) {
        for state in &self.states {
            if let (Some(ring), [.., rows, _]) = (state.ring, &mut lowered.inputs[state.input].dims[..]) {
                *rows = ring.all;
            }
        }
    }

    /// Checks the lengths of a stream's tensors, and what is updated in place.
    pub(super) fn check(
        &self,
        io: &StreamIo,
        states: &[StateSpec],
        lengths: &LengthGraph,
        sizes: &Sizes,
    ) -> Result<(), String> {
        let expect = |name: &str, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(format!("{name} has {found} values, expected {expected}")),
        };
        expect("audio_signal", io.input(self.audio).len(), sizes.audio)?;
        expect("outputs", io.output(self.outputs).len(), sizes.outputs)?;
        for (&port, tensor) in self.lengths.iter().zip(lengths.boundary()) {
            let expected = tensor.dims.iter().product();
            expect(&tensor.name, io.input(port).len(), expected)?;
        }
        for (ports, state) in self.states.iter().zip(states) {
            let expected = ports.length(state);
            expect(&state.input, io.input(ports.input).len(), expected)?;
            expect(&state.output, io.output(ports.output).len(), expected)?;
            let in_place = io.in_place_input(ports.output);
            if in_place != ports.ring.map(|_| ports.input) {
                return Err(format!("{} is not updated as its cache needs", state.input));
            }
        }
        if let (Some(ports), Some([prediction, projected, scores])) = (&self.head, sizes.head) {
            expect("prediction", io.input(ports.prediction).len(), prediction)?;
            expect("projected", io.output(ports.projected).len(), projected)?;
            expect(SCORES, io.output(ports.scores).len(), scores)?;
        }
        Ok(())
    }
}
