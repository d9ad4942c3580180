// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prediction network and joint of a transducer: see [`nemostt_compiler::TransducerGraphs`] for their inputs and
//! outputs.

mod prefix;

pub(crate) use prefix::{ChunkFrames, PrefixState};

use super::{
    HeadTensors,
    directory::TransducerParts,
    joint::{Joint, JointState},
    joint_head::JointHead,
    predictor::{Predictor, StatePair},
    runtime::{Binding, Tensor},
    target::Target,
    thread_policy::transducer_threads,
};
use crate::error::{Error, Result};
use nemostt_compiler::{GraphError, TransducerShape};

/// Prediction network and joint, shared by all streams.
pub(crate) struct Transducer {
    prediction: Predictor,
    joint: Joint,
    shape: TransducerShape,
    /// The joint's file.
    name: String,
    /// Whether the encoder's run projects and scores the frames of a new chunk.
    has_head_in_encoder: bool,
}

impl Transducer {
    /// Loads prediction network and joint for chunks of `chunk` frames, after checking that they match each other and
    /// an encoder of width `width`. If a head is returned, it must be appended to the encoder or [run on its
    /// own](Self::run_head_standalone).
    pub(crate) fn load(
        parts: TransducerParts,
        width: usize,
        chunk: usize,
        target: &Target,
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
        let target = &target.with_threads(transducer_threads(target.threads, weights, chunk));
        let (mut prediction, graph) = Predictor::load(graphs.prediction, &names[0], &shape, target)?;
        let mut loaded = Joint::load(graphs.joint, &names[1], &shape, &prediction.sizes, target)?;
        let projected = loaded.joint.projected(chunk);
        if let (Some(scoring), Some(projected)) = (loaded.scoring, &projected) {
            prediction.merge_scoring(graph, &scoring, &names[0], (&shape, projected), target);
        }
        // Only of the sessions that are left.
        prediction.session.free_files();
        loaded.joint.free_files();
        let head = |graph| {
            Some(JointHead {
                graph,
                prediction: prediction.sizes.clone(),
                projected: projected?,
                classes: shape.classes,
                threads: target.threads,
            })
        };
        let head = loaded.head.and_then(head);
        let transducer = Self {
            prediction,
            joint: loaded.joint,
            shape,
            name: names[1].clone(),
            has_head_in_encoder: head.is_some(),
        };
        Ok((transducer, head))
    }

    /// The outcome of each pass over the prediction network.
    pub(crate) fn passes(&self) -> &[nemostt_compiler::pipeline::PassReport] {
        &self.prediction.passes
    }

    /// Runs `head` on its own, because it was not appended to the encoder.
    pub(crate) fn run_head_standalone(&mut self, head: JointHead, target: &Target) -> Result<()> {
        let target = target.with_threads(head.threads);
        self.has_head_in_encoder = false;
        self.joint.run_head_standalone(head.graph, &self.name, &target)
    }

    /// An error if the joint has a few more outputs than `tokens` tokens and blank: the durations of a TDT head (0 to 4
    /// frames in NVIDIA's models), or similar.
    pub(crate) fn other_head(&self, tokens: usize) -> Option<Error> {
        let classes = self.shape.classes;
        let extra = classes
            .checked_sub(tokens + 1)
            .filter(|extra| (2..=8).contains(extra))?;
        let fault = GraphError::OtherHead { classes, tokens, extra };
        Some(bad(&self.name, fault))
    }

    /// Number of tokens without blank, whose id follows the last one.
    pub(crate) fn vocabulary_size(&self) -> usize {
        self.shape.classes - 1
    }
}

fn bad(path: &str, fault: GraphError) -> Error {
    Error::BadModel {
        path: path.into(),
        fault,
    }
}

/// Runs the prediction network unless the prediction is up to date. Returns whether the run also scored a few frames.
fn predict(network: &Predictor, run: &Binding, is_predicted: &mut bool) -> Result<bool> {
    if *is_predicted {
        return Ok(false);
    }
    network.session.run(run, "run the prediction network")?;
    *is_predicted = true;
    Ok(network.scores_frames)
}

/// A stream's tensors.
pub(crate) struct TransducerState {
    /// Double-buffered: [`accept_token`](Self::accept_token) swaps them.
    memories: [StatePair; 2],
    /// `predict[i]` reads `memories[i]`.
    predict: [Binding; 2],
    parity: usize,
    token: Tensor<i32>,
    /// Whether `prediction` is up to date with `token`.
    is_predicted: bool,
    /// Whether a token was emitted since frames of this chunk were last scored.
    after_token: bool,
    prediction: Tensor<f32>,
    joint_state: JointState,
    blank: usize,
}

/// The state of a [`TransducerState`] between chunks, as plain values. The prediction depends on it, and scores are
/// only valid within a chunk.
#[derive(Debug, Default)]
pub(crate) struct TransducerSnapshot {
    memory: [Vec<f32>; 2],
    token: i32,
}

impl TransducerState {
    /// Tensors for the start of a stream that reads encoder frames \[1, width, chunk\] from `frames`.
    pub(crate) fn new(transducer: &Transducer, frames: &Tensor<f32>, chunk: usize) -> Result<Self> {
        let shape = &transducer.shape;
        let network = &transducer.prediction;
        let prediction: Tensor<f32> = Tensor::zeros(&network.sizes)?;
        let mut state = Self {
            memories: [StatePair::empty(shape)?, StatePair::empty(shape)?],
            predict: [network.session.bind()?, network.session.bind()?],
            parity: 0,
            token: Tensor::zeros(&[1, 1])?,
            is_predicted: false,
            after_token: false,
            joint_state: JointState::new(&transducer.joint, shape, frames, &prediction, chunk)?,
            prediction,
            blank: shape.classes - 1,
        };
        for (parity, binding) in state.predict.iter_mut().enumerate() {
            binding.input("targets", &state.token)?;
            binding.input("input_states_1", &state.memories[parity].0)?;
            binding.input("input_states_2", &state.memories[parity].1)?;
            let next = &mut state.memories[1 - parity];
            binding.output("prediction", &mut state.prediction)?;
            binding.output("output_states_1", &mut next.0)?;
            binding.output("output_states_2", &mut next.1)?;
            if network.scores_frames {
                state.joint_state.bind_rescoring(binding)?;
            }
        }
        state.reset();
        Ok(state)
    }

    /// Binds the head in a run of the encoder: it reads the prediction, and writes projected frames and scores.
    pub(crate) fn bind_head(&mut self, run: &mut Binding) -> Result<()> {
        self.joint_state.bind_head(run, &self.prediction)
    }

    /// The tensors of the head in a step of the encoder; `None` if the joint is not split.
    pub(crate) fn head_tensors(&mut self) -> Option<HeadTensors<'_>> {
        let (projected, scores) = self.joint_state.head_outputs()?;
        Some(HeadTensors {
            prediction: self.prediction.data(),
            projected,
            scores,
        })
    }

    /// Computes the prediction if the encoder's next step needs it.
    pub(crate) fn prepare(&mut self, transducer: &Transducer) -> Result<()> {
        match transducer.has_head_in_encoder {
            true => predict(
                &transducer.prediction,
                &self.predict[self.parity],
                &mut self.is_predicted,
            )
            .map(drop),
            false => Ok(()),
        }
    }

    /// To be called when the encoder's output is a new chunk.
    pub(crate) fn start_chunk(&mut self) {
        self.after_token = false;
        self.joint_state.start_chunk();
    }

    /// Scores frames of the chunk from `frame` on, given the tokens so far; `frames` is the encoder's output. Returns
    /// the first frame after those for which [`logits`](Self::logits) are then valid.
    pub(crate) fn score(&mut self, transducer: &Transducer, frames: &Tensor<f32>, frame: usize) -> Result<usize> {
        let after_token = std::mem::take(&mut self.after_token);
        let (network, run) = (&transducer.prediction, &self.predict[self.parity]);
        let is_predicted = &mut self.is_predicted;
        let predict = || predict(network, run, is_predicted);
        self.joint_state
            .score(&transducer.joint, frames, frame, after_token, predict)
    }

    /// Raw logits of frame `frame`: one per token, blank last.
    pub(crate) fn logits(&self, frame: usize) -> &[f32] {
        self.joint_state.logits(frame)
    }

    /// Emits `token`: adopts the state that follows it, and predicts from it next.
    pub(crate) fn accept_token(&mut self, token: usize) {
        self.parity = 1 - self.parity;
        self.token.data_mut()[0] = token as i32;
        self.is_predicted = false;
        self.after_token = true;
    }

    /// Resets to the start of a stream. The initial token is blank, whose embedding is zero (`blank_as_pad`).
    pub(crate) fn reset(&mut self) {
        self.parity = 0;
        self.memories[0].0.data_mut().fill(0.0);
        self.memories[0].1.data_mut().fill(0.0);
        self.token.data_mut()[0] = self.blank as i32;
        self.is_predicted = false;
    }

    /// Copies the state that [`reset`](Self::reset) sets, between two chunks.
    pub(crate) fn save(&self, snapshot: &mut TransducerSnapshot) {
        let StatePair(state, cells) = &self.memories[self.parity];
        for (values, tensor) in snapshot.memory.iter_mut().zip([state, cells]) {
            values.clear();
            values.extend_from_slice(tensor.data());
        }
        snapshot.token = self.token.data()[0];
    }

    /// Restores the state saved in `snapshot`, from a stream of the same transducer. The prediction is computed again.
    pub(crate) fn restore(&mut self, snapshot: &TransducerSnapshot) {
        self.parity = 0;
        let StatePair(state, cells) = &mut self.memories[0];
        for (values, tensor) in snapshot.memory.iter().zip([state, cells]) {
            tensor.data_mut().copy_from_slice(values);
        }
        self.token.data_mut()[0] = snapshot.token;
        self.is_predicted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::transducer_in;
    use crate::model::{Options, directory::Named};

    const CHUNK: usize = 14;

    /// The demo model's transducer; `merged`: whether a token takes one run.
    fn load(merged: bool) -> Transducer {
        let name = "demo";
        let graphs = transducer_in("assets/demo-model/decoder_joint-model.onnx");
        let shape = graphs.shape().unwrap();
        let parts = TransducerParts::Joined(Named {
            name: name.into(),
            part: Box::new(graphs.clone()),
        });
        let target = Target::resolve(&Options::default()).unwrap();
        let (mut transducer, head) = Transducer::load(parts, shape.width, CHUNK, &target).unwrap();
        if let Some(head) = head {
            transducer.run_head_standalone(head, &target).unwrap();
        }
        assert!(transducer.prediction.scores_frames);
        if !merged {
            transducer.prediction = Predictor::load(graphs.prediction, name, &shape, &target).unwrap().0;
        }
        transducer
    }

    #[test]
    fn merged_scoring_matches_separate_runs() {
        let chunk = CHUNK;
        let transducers = [load(true), load(false)];
        let width = transducers[0].shape.width;
        let mut frames: Tensor<f32> = Tensor::zeros(&[1, width, chunk]).unwrap();
        let mut states = transducers
            .each_ref()
            .map(|transducer| TransducerState::new(transducer, &frames, chunk).unwrap());
        for chunk_index in 0..4 {
            for (index, value) in frames.data_mut().iter_mut().enumerate() {
                *value = ((index * 7 + chunk_index * 13) % 29) as f32 / 29.0 - 0.5;
            }
            if chunk_index == 3 {
                states.iter_mut().for_each(TransducerState::reset);
            }
            states.iter_mut().for_each(TransducerState::start_chunk);
            // Tokens in the first frame, in the middle and in the last frames, where fewer frames are left than are
            // scored.
            for frame in [0, 0, 3, 8, 12, 13] {
                let [one, two] = &mut states;
                let ends = [
                    one.score(&transducers[0], &frames, frame).unwrap(),
                    two.score(&transducers[1], &frames, frame).unwrap(),
                ];
                assert_eq!(ends[0], ends[1], "chunk {chunk_index}, frame {frame}");
                for frame in frame..ends[0].min(chunk) {
                    for (a, b) in one.logits(frame).iter().zip(two.logits(frame)) {
                        assert!((a - b).abs() < 1e-5, "chunk {chunk_index}, frame {frame}: {a} and {b}");
                    }
                }
                let token = (17 * frame + chunk_index) % transducers[0].vocabulary_size();
                states.iter_mut().for_each(|state| state.accept_token(token));
            }
        }
    }
}
