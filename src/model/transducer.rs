// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prediction network and joint of a transducer, in NeMo's one graph `decoder_joint`.

use super::{
    files::NamedGraph,
    options::Options,
    runtime::{Binding, Session, Tensor},
};
use crate::{
    error::{Error, Result},
    graph::{ElementType, Graph},
};

/// The graph, shared by all streams.
pub(crate) struct Transducer {
    session: Session,
    shape: Shape,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Width of the encoder frames it takes.
    width: usize,
    /// LSTM layers of the prediction network.
    layers: usize,
    /// Width of the LSTM.
    hidden: usize,
    /// Labels without blank.
    labels: usize,
}

impl Transducer {
    /// Checks that the graph fits an encoder of width `width` and loads it.
    pub(crate) fn load(part: NamedGraph, width: usize, options: &Options) -> Result<Self> {
        let NamedGraph { name, graph } = part;
        let shape = match Shape::read(&graph) {
            Ok(shape) if shape.width == width => shape,
            Ok(shape) => {
                return Err(Error::BadModel {
                    path: name,
                    reason: format!(
                        "it takes encoder frames of width {}, the encoder gives {width}: it belongs to another model",
                        shape.width
                    ),
                });
            }
            Err(reason) => return Err(Error::BadModel { path: name, reason }),
        };
        let session = Session::load(graph.encode(), &name, options)?;
        Ok(Self { session, shape })
    }

    /// Labels without blank; blank is the id after the last one.
    pub(crate) fn labels(&self) -> usize {
        self.shape.labels
    }
}

impl Shape {
    fn read(graph: &Graph) -> std::result::Result<Self, String> {
        let input = |name: &str, element: ElementType, rank: usize| match graph.input(name) {
            Some(info) if info.element == element && info.dims.len() == rank => Ok(info),
            Some(info) => Err(format!(
                "its input {name} is {:?} with {} axes; expected {element:?} with {rank}",
                info.element,
                info.dims.len()
            )),
            None => Err(format!("it has no input {name}")),
        };
        let frames = input("encoder_outputs", ElementType::F32, 3)?;
        input("targets", ElementType::I32, 2)?;
        input("target_length", ElementType::I32, 1)?;
        let state = input("input_states_1", ElementType::F32, 3)?;
        if input("input_states_2", ElementType::F32, 3)?.dims[2] != state.dims[2] {
            return Err("its two states differ in width".into());
        }
        let logits = graph.output("outputs").filter(|info| info.dims.len() == 4);
        let sizes = || {
            Some(Self {
                width: frames.dims[1]?,
                layers: state.dims[0]?,
                hidden: state.dims[2]?,
                labels: logits.as_ref()?.dims[3]?.checked_sub(1)?,
            })
        };
        sizes().ok_or_else(|| "it leaves its width, its LSTM layers or its number of labels open".into())
    }
}

/// LSTM state after one label: two tensors \[layers, 1, hidden\].
struct Memory(Tensor<f32>, Tensor<f32>);

impl Memory {
    fn empty(shape: &Shape) -> Result<Self> {
        let dims = [shape.layers, 1, shape.hidden];
        Ok(Self(Tensor::zeros(&dims)?, Tensor::zeros(&dims)?))
    }
}

/// One stream's tensors.
pub(crate) struct TransducerState {
    /// Read and written in turns: [`advance`](Self::advance) makes what was written the next to be read.
    memories: [Memory; 2],
    /// `bindings[i]` reads `memories[i]`.
    bindings: [Binding; 2],
    turn: usize,
    label: Tensor<i32>,
    /// Raw logits \[1, chunk, 1, labels + 1\].
    logits: Tensor<f32>,
    blank: usize,
}

impl TransducerState {
    /// Tensors for a stream at its start, which reads encoder frames \[1, width, chunk\] from `frames`.
    pub(crate) fn new(transducer: &Transducer, frames: &Tensor<f32>, chunk: usize) -> Result<Self> {
        let shape = &transducer.shape;
        let mut state = Self {
            memories: [Memory::empty(shape)?, Memory::empty(shape)?],
            bindings: [transducer.session.bind()?, transducer.session.bind()?],
            turn: 0,
            label: Tensor::zeros(&[1, 1])?,
            logits: Tensor::zeros(&[1, chunk, 1, shape.labels + 1])?,
            blank: shape.labels,
        };
        // Never looked at again; the bindings keep them.
        let mut label_count = Tensor::zeros(&[1])?;
        label_count.data_mut()[0] = 1_i32;
        let mut prediction_lengths: Tensor<i32> = Tensor::zeros(&[1])?;
        for (turn, binding) in state.bindings.iter_mut().enumerate() {
            // The encoder's output is the decoder's input: no copy in between.
            binding.input("encoder_outputs", frames)?;
            binding.input("targets", &state.label)?;
            binding.input("target_length", &label_count)?;
            binding.input("input_states_1", &state.memories[turn].0)?;
            binding.input("input_states_2", &state.memories[turn].1)?;
            let next = &mut state.memories[1 - turn];
            binding.output("outputs", &mut state.logits)?;
            binding.output("prednet_lengths", &mut prediction_lengths)?;
            binding.output("output_states_1", &mut next.0)?;
            binding.output("output_states_2", &mut next.1)?;
        }
        state.reset();
        Ok(state)
    }

    /// Scores every frame of the chunk against the labels so far; see [`logits`](Self::logits).
    pub(crate) fn score(&mut self, transducer: &Transducer) -> Result<()> {
        transducer.session.run(&self.bindings[self.turn], "run the decoder")
    }

    /// Raw logits of frame `frame`: one for each label, blank last.
    pub(crate) fn logits(&self, frame: usize) -> &[f32] {
        let classes = self.blank + 1;
        &self.logits.data()[frame * classes..][..classes]
    }

    /// Takes `label` as emitted: the state of the last [`score`](Self::score) becomes the state, and `label` the last label.
    pub(crate) fn advance(&mut self, label: usize) {
        self.turn = 1 - self.turn;
        self.label.data_mut()[0] = label as i32;
    }

    /// Back to the start of a stream. The first "label" is blank, whose embedding is the zero row (`blank_as_pad`).
    pub(crate) fn reset(&mut self) {
        self.turn = 0;
        self.memories[0].0.data_mut().fill(0.0);
        self.memories[0].1.data_mut().fill(0.0);
        self.label.data_mut()[0] = self.blank as i32;
    }
}
