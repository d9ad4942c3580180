// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prediction network and joint of a transducer: see [`crate::graph::TransducerGraphs`] for what they take and give.

use super::{
    files::TransducerParts,
    joint::{Joint, JointState},
    options::Options,
    prediction::{Memory, load_prediction},
    runtime::{Binding, Session, Tensor},
    threads::transducer_threads,
};
use crate::{
    error::{Error, Result},
    graph::{Fault, TransducerShape},
};

/// The two graphs, shared by all streams.
pub(crate) struct Transducer {
    prediction: Session,
    joint: Joint,
    shape: TransducerShape,
    /// Sizes of the tensor that goes from one to the other.
    predicted: Vec<usize>,
    /// The file of the joint.
    name: String,
}

impl Transducer {
    /// Checks that the parts fit each other and an encoder of width `width`, and loads them for chunks of `chunk` frames.
    pub(crate) fn load(parts: TransducerParts, width: usize, chunk: usize, options: &Options) -> Result<Self> {
        let (names, graphs) = match parts {
            TransducerParts::Joined(joined) => ([joined.name.clone(), joined.name], *joined.part),
            TransducerParts::Apart(apart) => {
                let (prediction, joint) = *apart;
                let joint_name = joint.name;
                let graphs = joint.part.with(prediction.part, width);
                let graphs = graphs.map_err(|fault| bad(&joint_name, fault))?;
                ([prediction.name, joint_name], graphs)
            }
        };
        let shape = graphs.shape().map_err(|fault| bad(&names[1], fault))?;
        if shape.width != width {
            let fault = Fault::OtherModel {
                what: "encoder frames",
                takes: shape.width,
                giver: "encoder",
                gives: width,
            };
            return Err(bad(&names[1], fault));
        }
        let weights = graphs.prediction.weights().saturating_add(graphs.joint.weights());
        let options = &Options {
            threads: transducer_threads(options.threads, weights, chunk),
            ..options.clone()
        };
        let (prediction, predicted) = load_prediction(graphs.prediction, &names[0], &shape, options)?;
        let joint = Joint::load(graphs.joint, &names[1], &shape, &predicted, options)?;
        let transducer = Self {
            prediction,
            joint,
            shape,
            predicted,
            name: names[1].clone(),
        };
        Ok(transducer)
    }

    /// An error if the joint scores a little more than `labels` labels and blank: the durations of a TDT head (0 to 4 frames
    /// in NVIDIA's), or the like.
    pub(crate) fn other_head(&self, labels: usize) -> Option<Error> {
        let classes = self.shape.classes;
        let extra = classes
            .checked_sub(labels + 1)
            .filter(|extra| (2..=8).contains(extra))?;
        let fault = Fault::OtherHead { classes, labels, extra };
        Some(bad(&self.name, fault))
    }

    /// Labels without blank; blank is the id after the last one.
    pub(crate) fn labels(&self) -> usize {
        self.shape.classes - 1
    }
}

fn bad(path: &str, fault: Fault) -> Error {
    Error::BadModel {
        path: path.into(),
        fault,
    }
}

/// One stream's tensors.
pub(crate) struct TransducerState {
    /// Read and written in turns: [`advance`](Self::advance) makes what was written the next to be read.
    memories: [Memory; 2],
    /// `predict[i]` reads `memories[i]`.
    predict: [Binding; 2],
    turn: usize,
    label: Tensor<i32>,
    /// Whether the prediction is that of `label`.
    is_predicted: bool,
    /// Whether a label was emitted since frames were scored, in this chunk.
    after_label: bool,
    join: JointState,
    blank: usize,
}

impl TransducerState {
    /// Tensors for a stream at its start, which reads encoder frames \[1, width, chunk\] from `frames`.
    pub(crate) fn new(transducer: &Transducer, frames: &Tensor<f32>, chunk: usize) -> Result<Self> {
        let shape = &transducer.shape;
        let mut prediction: Tensor<f32> = Tensor::zeros(&transducer.predicted)?;
        let mut state = Self {
            memories: [Memory::empty(shape)?, Memory::empty(shape)?],
            predict: [transducer.prediction.bind()?, transducer.prediction.bind()?],
            turn: 0,
            label: Tensor::zeros(&[1, 1])?,
            is_predicted: false,
            after_label: false,
            join: JointState::new(&transducer.joint, shape, frames, &prediction, chunk)?,
            blank: shape.classes - 1,
        };
        for (turn, binding) in state.predict.iter_mut().enumerate() {
            binding.input("targets", &state.label)?;
            binding.input("input_states_1", &state.memories[turn].0)?;
            binding.input("input_states_2", &state.memories[turn].1)?;
            let next = &mut state.memories[1 - turn];
            binding.output("prediction", &mut prediction)?;
            binding.output("output_states_1", &mut next.0)?;
            binding.output("output_states_2", &mut next.1)?;
        }
        state.reset();
        Ok(state)
    }

    /// The encoder has given another chunk.
    pub(crate) fn begin(&mut self) {
        self.after_label = false;
        self.join.begin();
    }

    /// Scores the chunk's frames from `frame` on against the labels so far; `frames` is what the encoder gave. Gives the
    /// first frame after those that [`logits`](Self::logits) now knows.
    pub(crate) fn score(&mut self, transducer: &Transducer, frames: &Tensor<f32>, frame: usize) -> Result<usize> {
        if !self.is_predicted {
            transducer
                .prediction
                .run(&self.predict[self.turn], "run the prediction network")?;
            self.is_predicted = true;
        }
        let after_label = std::mem::take(&mut self.after_label);
        self.join.score(&transducer.joint, frames, frame, after_label)
    }

    /// Raw logits of frame `frame`: one for each label, blank last.
    pub(crate) fn logits(&self, frame: usize) -> &[f32] {
        self.join.logits(frame)
    }

    /// Takes `label` as emitted: the state that predicted it becomes the state, and `label` the last label.
    pub(crate) fn advance(&mut self, label: usize) {
        self.turn = 1 - self.turn;
        self.label.data_mut()[0] = label as i32;
        self.is_predicted = false;
        self.after_label = true;
    }

    /// Back to the start of a stream. The first "label" is blank, whose embedding is the zero row (`blank_as_pad`).
    pub(crate) fn reset(&mut self) {
        self.turn = 0;
        self.memories[0].0.data_mut().fill(0.0);
        self.memories[0].1.data_mut().fill(0.0);
        self.label.data_mut()[0] = self.blank as i32;
        self.is_predicted = false;
    }
}
