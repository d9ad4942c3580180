// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prediction network and joint of a transducer: see [`nemostt_compiler::TransducerGraphs`] for what they take and give.

use super::{
    directory::TransducerParts,
    joint::{Joint, JointState},
    joint_head::JointHead,
    options::Options,
    predictor::{Predictor, StatePair},
    runtime::{Binding, Tensor},
    thread_policy::transducer_threads,
};
use crate::error::{Error, Result};
use nemostt_compiler::{GraphError, TransducerShape};

/// The two graphs, shared by all streams.
pub(crate) struct Transducer {
    prediction: Predictor,
    joint: Joint,
    shape: TransducerShape,
    /// The file of the joint.
    name: String,
    /// Whether the encoder projects and scores a chunk's frames at first.
    is_joined: bool,
}

impl Transducer {
    /// Checks that the parts fit each other and an encoder of width `width`, and loads them for chunks of `chunk` frames. The head,
    /// if there is one, must go into the encoder or [be taken back](Self::run_head_standalone).
    pub(crate) fn load(
        parts: TransducerParts,
        width: usize,
        chunk: usize,
        options: &Options,
    ) -> Result<(Self, Option<JointHead>)> {
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
            let fault = GraphError::OtherModel {
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
        let (mut prediction, graph) = Predictor::load(graphs.prediction, &names[0], &shape, options)?;
        let loaded = Joint::load(graphs.joint, &names[1], &shape, &prediction.sizes, options)?;
        let projected = loaded.joint.projected(chunk);
        if let (Some(scoring), Some(projected)) = (loaded.scoring, &projected) {
            prediction.merge_scoring(graph, &scoring, &names[0], (&shape, projected), options);
        }
        let head = |graph| {
            Some(JointHead {
                graph,
                prediction: prediction.sizes.clone(),
                projected: projected?,
                classes: shape.classes,
                threads: options.threads,
            })
        };
        let head = loaded.head.and_then(head);
        let transducer = Self {
            prediction,
            joint: loaded.joint,
            shape,
            name: names[1].clone(),
            is_joined: head.is_some(),
        };
        Ok((transducer, head))
    }

    /// Runs `head` by itself: the encoder has not taken it.
    pub(crate) fn run_head_standalone(&mut self, head: JointHead, options: &Options) -> Result<()> {
        let options = Options {
            threads: head.threads,
            ..options.clone()
        };
        self.is_joined = false;
        self.joint.run_head_standalone(head.graph, &self.name, &options)
    }

    /// An error if the joint scores a little more than `labels` labels and blank: the durations of a TDT head (0 to 4 frames
    /// in NVIDIA's), or the like.
    pub(crate) fn other_head(&self, labels: usize) -> Option<Error> {
        let classes = self.shape.classes;
        let extra = classes
            .checked_sub(labels + 1)
            .filter(|extra| (2..=8).contains(extra))?;
        let fault = GraphError::OtherHead { classes, labels, extra };
        Some(bad(&self.name, fault))
    }

    /// Labels without blank; blank is the id after the last one.
    pub(crate) fn labels(&self) -> usize {
        self.shape.classes - 1
    }
}

fn bad(path: &str, fault: GraphError) -> Error {
    Error::BadModel {
        path: path.into(),
        fault,
    }
}

/// Runs the prediction network unless its prediction is there already. Gives whether that scored a few frames, too.
fn predict(network: &Predictor, run: &Binding, is_predicted: &mut bool) -> Result<bool> {
    if *is_predicted {
        return Ok(false);
    }
    network.session.run(run, "run the prediction network")?;
    *is_predicted = true;
    Ok(network.scores_few)
}

/// One stream's tensors.
pub(crate) struct TransducerState {
    /// Read and written in turns: [`accept_label`](Self::accept_label) makes what was written the next to be read.
    memories: [StatePair; 2],
    /// `predict[i]` reads `memories[i]`.
    predict: [Binding; 2],
    parity: usize,
    label: Tensor<i32>,
    /// Whether the prediction is that of `label`.
    is_predicted: bool,
    /// Whether a label was emitted since frames were scored, in this chunk.
    after_label: bool,
    prediction: Tensor<f32>,
    join: JointState,
    blank: usize,
}

/// What a [`TransducerState`] carries from one chunk to the next, as plain values. The prediction follows from it, and the
/// scores are those of one chunk only.
#[derive(Debug, Default)]
pub(crate) struct TransducerSnapshot {
    memory: [Vec<f32>; 2],
    label: i32,
}

impl TransducerState {
    /// Tensors for a stream at its start, which reads encoder frames \[1, width, chunk\] from `frames`.
    pub(crate) fn new(transducer: &Transducer, frames: &Tensor<f32>, chunk: usize) -> Result<Self> {
        let shape = &transducer.shape;
        let network = &transducer.prediction;
        let prediction: Tensor<f32> = Tensor::zeros(&network.sizes)?;
        let mut state = Self {
            memories: [StatePair::empty(shape)?, StatePair::empty(shape)?],
            predict: [network.session.bind()?, network.session.bind()?],
            parity: 0,
            label: Tensor::zeros(&[1, 1])?,
            is_predicted: false,
            after_label: false,
            join: JointState::new(&transducer.joint, shape, frames, &prediction, chunk)?,
            prediction,
            blank: shape.classes - 1,
        };
        for (parity, binding) in state.predict.iter_mut().enumerate() {
            binding.input("targets", &state.label)?;
            binding.input("input_states_1", &state.memories[parity].0)?;
            binding.input("input_states_2", &state.memories[parity].1)?;
            let next = &mut state.memories[1 - parity];
            binding.output("prediction", &mut state.prediction)?;
            binding.output("output_states_1", &mut next.0)?;
            binding.output("output_states_2", &mut next.1)?;
            if network.scores_few {
                state.join.bind_rescoring(binding)?;
            }
        }
        state.reset();
        Ok(state)
    }

    /// Lets a run of the encoder, which has the head of this transducer, read predictions and write what it makes of them.
    pub(crate) fn bind_head(&mut self, run: &mut Binding) -> Result<()> {
        self.join.bind_head(run, &self.prediction)
    }

    /// Sees to it that the prediction is there, if the encoder's next step needs it.
    pub(crate) fn prepare(&mut self, transducer: &Transducer) -> Result<()> {
        match transducer.is_joined {
            true => predict(
                &transducer.prediction,
                &self.predict[self.parity],
                &mut self.is_predicted,
            )
            .map(drop),
            false => Ok(()),
        }
    }

    /// The encoder has given another chunk.
    pub(crate) fn start_chunk(&mut self) {
        self.after_label = false;
        self.join.start_chunk();
    }

    /// Scores the chunk's frames from `frame` on against the labels so far; `frames` is what the encoder gave. Gives the
    /// first frame after those that [`logits`](Self::logits) now knows.
    pub(crate) fn score(&mut self, transducer: &Transducer, frames: &Tensor<f32>, frame: usize) -> Result<usize> {
        let after_label = std::mem::take(&mut self.after_label);
        let (network, run) = (&transducer.prediction, &self.predict[self.parity]);
        let is_predicted = &mut self.is_predicted;
        let predict = || predict(network, run, is_predicted);
        self.join.score(&transducer.joint, frames, frame, after_label, predict)
    }

    /// Raw logits of frame `frame`: one for each label, blank last.
    pub(crate) fn logits(&self, frame: usize) -> &[f32] {
        self.join.logits(frame)
    }

    /// Takes `label` as emitted: the state that predicted it becomes the state, and `label` the last label.
    pub(crate) fn accept_label(&mut self, label: usize) {
        self.parity = 1 - self.parity;
        self.label.data_mut()[0] = label as i32;
        self.is_predicted = false;
        self.after_label = true;
    }

    /// Back to the start of a stream. The first "label" is blank, whose embedding is the zero row (`blank_as_pad`).
    pub(crate) fn reset(&mut self) {
        self.parity = 0;
        self.memories[0].0.data_mut().fill(0.0);
        self.memories[0].1.data_mut().fill(0.0);
        self.label.data_mut()[0] = self.blank as i32;
        self.is_predicted = false;
    }

    /// Copies what [`reset`](Self::reset) sets, between two chunks.
    pub(crate) fn save(&self, snapshot: &mut TransducerSnapshot) {
        let StatePair(state, cells) = &self.memories[self.parity];
        for (values, tensor) in snapshot.memory.iter_mut().zip([state, cells]) {
            values.clear();
            values.extend_from_slice(tensor.data());
        }
        snapshot.label = self.label.data()[0];
    }

    /// Back to where `snapshot` was taken, from a stream of the same transducer. The next run predicts again what was predicted
    /// there.
    pub(crate) fn restore(&mut self, snapshot: &TransducerSnapshot) {
        self.parity = 0;
        let StatePair(state, cells) = &mut self.memories[0];
        for (values, tensor) in snapshot.memory.iter().zip([state, cells]) {
            tensor.data_mut().copy_from_slice(values);
        }
        self.label.data_mut()[0] = snapshot.label;
        self.is_predicted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::directory::Named;
    use crate::model::tests::transducer_in;

    const CHUNK: usize = 14;

    /// The demonstration model's; `together`: whether a label is one run.
    fn load(together: bool) -> Transducer {
        let name = "demo";
        let graphs = transducer_in("assets/demo-model/decoder_joint-model.onnx");
        let shape = graphs.shape().unwrap();
        let parts = TransducerParts::Joined(Named {
            name: name.into(),
            part: Box::new(graphs.clone()),
        });
        let options = Options::default();
        let (mut transducer, head) = Transducer::load(parts, shape.width, CHUNK, &options).unwrap();
        if let Some(head) = head {
            transducer.run_head_standalone(head, &options).unwrap();
        }
        assert!(transducer.prediction.scores_few);
        if !together {
            transducer.prediction = Predictor::load(graphs.prediction, name, &shape, &options).unwrap().0;
        }
        transducer
    }

    #[test]
    fn one_run_for_a_label_gives_what_two_give() {
        let chunk = CHUNK;
        let transducers = [load(true), load(false)];
        let width = transducers[0].shape.width;
        let mut frames: Tensor<f32> = Tensor::zeros(&[1, width, chunk]).unwrap();
        let mut states = transducers
            .each_ref()
            .map(|transducer| TransducerState::new(transducer, &frames, chunk).unwrap());
        for parity in 0..4 {
            for (index, value) in frames.data_mut().iter_mut().enumerate() {
                *value = ((index * 7 + parity * 13) % 29) as f32 / 29.0 - 0.5;
            }
            if parity == 3 {
                states.iter_mut().for_each(TransducerState::reset);
            }
            states.iter_mut().for_each(TransducerState::start_chunk);
            // Labels in the first frame, in the middle and in the last frames, where fewer are left than are scored.
            for frame in [0, 0, 3, 8, 12, 13] {
                let [one, two] = &mut states;
                let ends = [
                    one.score(&transducers[0], &frames, frame).unwrap(),
                    two.score(&transducers[1], &frames, frame).unwrap(),
                ];
                assert_eq!(ends[0], ends[1], "turn {parity}, frame {frame}");
                for frame in frame..ends[0].min(chunk) {
                    for (a, b) in one.logits(frame).iter().zip(two.logits(frame)) {
                        assert!((a - b).abs() < 1e-5, "turn {parity}, frame {frame}: {a} and {b}");
                    }
                }
                let label = (17 * frame + parity) % transducers[0].labels();
                states.iter_mut().for_each(|state| state.accept_label(label));
            }
        }
    }
}
