// SPDX-License-Identifier: MIT OR Apache-2.0

//! A stream's tensors of a joint, and which frames are scored when.

use super::{
    super::{
        joint_head,
        runtime::{Binding, Tensor},
    },
    FirstScoring, Joint,
};
use crate::error::{Error, Result};
use nemostt_compiler::TransducerShape;

/// Frames that are scored after a token, if the chunk has as many.
pub(super) const RESCORE_FRAMES: usize = 4;

/// A stream's tensors.
pub(in crate::model) struct JointState {
    input: Input,
    /// Scores all frames of the chunk, or the single frame of [`Input::Frame`].
    all: Scores,
    /// Scores a few frames.
    few: Option<(Tensor<f32>, Scores)>,
    active: ActiveScores,
    classes: usize,
}

/// Raw logits, \[1, frames, 1, tokens + 1\] or with fewer axes, and the run that writes them.
struct Scores {
    run: Binding,
    logits: Tensor<f32>,
}

/// Where encoder frames are read from.
enum Input {
    /// The encoder's output, without a copy.
    Encoder,
    /// A copy of one frame: \[1, width, 1\].
    Frame(Tensor<f32>),
    /// Projected frames, computed once per chunk.
    Projected(Box<Projected>),
}

struct Projected {
    /// The run of [`FirstScoring`], unless it is part of the encoder's.
    run: Option<Binding>,
    /// A copy of the encoder's output as rows, if the projection takes those.
    rows: Option<Tensor<f32>>,
    frames: Tensor<f32>,
    is_done: bool,
}

/// Which logits are valid, and the frame of the first of them.
#[derive(Clone, Copy)]
enum ActiveScores {
    All { first: usize },
    Few { first: usize },
}

impl JointState {
    /// Tensors for a stream that reads encoder frames \[1, width, chunk\] from `encoded`, and predictions from
    /// `prediction`.
    pub(in crate::model) fn new(
        joint: &Joint,
        shape: &TransducerShape,
        encoded: &Tensor<f32>,
        prediction: &Tensor<f32>,
        chunk: usize,
    ) -> Result<Self> {
        let scores = |input: &str, frames: &Tensor<f32>, count: usize| {
            let sizes: &[usize] = match (joint, shape.logits_axes) {
                (Joint::Split(split), _) if split.is_flat() => &[count, shape.classes],
                (_, 3) => &[1, count, shape.classes],
                _ => &[1, count, 1, shape.classes],
            };
            let mut scores = Scores {
                run: joint.scoring().bind()?,
                logits: Tensor::zeros(sizes)?,
            };
            scores.run.input(input, frames)?;
            scores.run.input("prediction", prediction)?;
            scores.run.output("outputs", &mut scores.logits)?;
            Ok::<_, Error>(scores)
        };
        let mut few = None;
        let (input, all) = match joint {
            Joint::Whole(_) if shape.one_frame => {
                let frame = Tensor::zeros(&[1, shape.width, 1])?;
                let all = scores("encoder_outputs", &frame, 1)?;
                (Input::Frame(frame), all)
            }
            Joint::Whole(_) => (Input::Encoder, scores("encoder_outputs", encoded, chunk)?),
            Joint::Split(split) => {
                let mut frames = Tensor::zeros(&split.sizes(chunk))?;
                let mut all = scores("projected", &frames, chunk)?;
                let (session, is_fused) = match &split.first_scoring {
                    FirstScoring::Fused(session) => (Some(session), true),
                    FirstScoring::Separate(session) => (Some(session), false),
                    FirstScoring::Encoder => (None, false),
                };
                let (mut run, mut rows) = (None, None);
                if let Some(session) = session {
                    let run = run.insert(session.bind()?);
                    if split.takes_rows {
                        let sizes = [1, chunk, shape.width];
                        rows = Some(Tensor::zeros(if split.is_flat() { &sizes[1..] } else { &sizes })?);
                    }
                    run.input("encoder_outputs", rows.as_ref().unwrap_or(encoded))?;
                    run.output("projected", &mut frames)?;
                    if is_fused {
                        run.input("prediction", prediction)?;
                        run.output("outputs", &mut all.logits)?;
                    }
                }
                let count = RESCORE_FRAMES.min(chunk);
                let few_frames = Tensor::zeros(&split.sizes(count))?;
                let few_scores = scores("projected", &few_frames, count)?;
                few = Some((few_frames, few_scores));
                let projected = Projected {
                    run,
                    rows,
                    frames,
                    is_done: false,
                };
                (Input::Projected(Box::new(projected)), all)
            }
        };
        Ok(Self {
            input,
            all,
            few,
            active: ActiveScores::All { first: 0 },
            classes: shape.classes,
        })
    }

    /// Lets `run` score the few frames after a token: binds its input `projected` and its output `outputs`.
    pub(in crate::model) fn bind_rescoring(&mut self, run: &mut Binding) -> Result<()> {
        if let Some((frames, scores)) = &mut self.few {
            run.input("projected", frames)?;
            run.output("outputs", &mut scores.logits)?;
        }
        Ok(())
    }

    /// Binds the [head](joint_head::JointHead) in a run of the encoder: it reads the prediction, and writes projected
    /// frames and scores.
    pub(in crate::model) fn bind_head(&mut self, run: &mut Binding, prediction: &Tensor<f32>) -> Result<()> {
        match &mut self.input {
            Input::Projected(projected) => {
                joint_head::bind(run, prediction, &mut projected.frames, &mut self.all.logits)
            }
            _ => Ok(()),
        }
    }

    /// Where the head writes projected frames and scores.
    pub(in crate::model) fn head_outputs(&mut self) -> Option<(&mut [f32], &mut [f32])> {
        match &mut self.input {
            Input::Projected(projected) => Some((projected.frames.data_mut(), self.all.logits.data_mut())),
            _ => None,
        }
    }

    /// To be called when the encoder's output is a new chunk.
    pub(in crate::model) fn start_chunk(&mut self) {
        if let Input::Projected(projected) = &mut self.input {
            projected.is_done = false;
        }
    }

    /// Scores frames of `encoded` from `frame` on, and returns the first frame after those for which
    /// [`logits`](Self::logits) are then valid. `after_token`: whether a token was emitted since the last call.
    /// `predict` computes the prediction if necessary, and returns whether its run also scored the
    /// [few](Self::bind_rescoring) frames.
    pub(in crate::model) fn score(
        &mut self,
        joint: &Joint,
        encoded: &Tensor<f32>,
        frame: usize,
        after_token: bool,
        predict: impl FnOnce() -> Result<bool>,
    ) -> Result<usize> {
        let doing = "run the joint";
        let first = match (&mut self.input, joint) {
            (Input::Projected(projected), Joint::Split(split)) => {
                let Projected {
                    run,
                    rows,
                    frames,
                    is_done,
                } = &mut **projected;
                let width = split.width();
                let chunk = frames.data().len() / width;
                if !std::mem::replace(is_done, true) {
                    predict()?;
                    if let Some(rows) = rows {
                        transpose(encoded.data(), chunk, rows.data_mut());
                    }
                    match (&split.first_scoring, run) {
                        (FirstScoring::Fused(session), Some(run)) => session.run(run, doing)?,
                        (FirstScoring::Separate(session), Some(run)) => {
                            session.run(run, "project encoder frames")?;
                            split.scoring.run(&self.all.run, doing)?;
                        }
                        _ => {}
                    }
                    self.active = ActiveScores::All { first: 0 };
                    return Ok(usize::MAX);
                }
                // Tokens are a few frames apart, and the rest of a chunk is not worth scoring all frames.
                let rescores_few = after_token || chunk - frame <= 2 * RESCORE_FRAMES;
                if let (true, Some((rows, scores))) = (rescores_few, &mut self.few) {
                    let rows = rows.data_mut();
                    let count = rows.len() / width;
                    let first = frame.min(chunk - count);
                    rows.copy_from_slice(&frames.data()[first * width..][..count * width]);
                    if !predict()? {
                        split.scoring.run(&scores.run, doing)?;
                    }
                    self.active = ActiveScores::Few { first };
                    return Ok(first + count);
                }
                None
            }
            (Input::Frame(one), _) => {
                let rows = one.data_mut();
                let chunk = encoded.data().len() / rows.len();
                for (value, row) in rows.iter_mut().zip(encoded.data().chunks_exact(chunk)) {
                    *value = row[frame];
                }
                Some(frame)
            }
            _ => None,
        };
        predict()?;
        joint.scoring().run(&self.all.run, doing)?;
        self.active = ActiveScores::All {
            first: first.unwrap_or(0),
        };
        Ok(first.map_or(usize::MAX, |first| first + 1))
    }

    /// Raw logits of frame `frame`: one per token, blank last.
    pub(in crate::model) fn logits(&self, frame: usize) -> &[f32] {
        let (logits, first) = match (self.active, &self.few) {
            (ActiveScores::Few { first }, Some((_, scores))) => (&scores.logits, first),
            (ActiveScores::All { first } | ActiveScores::Few { first }, _) => (&self.all.logits, first),
        };
        &logits.data()[(frame - first) * self.classes..][..self.classes]
    }
}

/// Transposes `frames` frames, \[width, frames\], to `rows`, \[frames, width\].
fn transpose(encoded: &[f32], frames: usize, rows: &mut [f32]) {
    let width = encoded.len() / frames;
    for (frame, row) in rows.chunks_exact_mut(width).enumerate() {
        for (value, column) in row.iter_mut().zip(encoded.chunks_exact(frames)) {
            *value = column[frame];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Loaded, SplitJoint},
        *,
    };
    use crate::model::tests::transducer_in;
    use crate::model::{Options, predictor::Predictor, runtime::Session, target::Target};

    /// Deterministic noise.
    fn fill(tensor: &mut Tensor<f32>, mut seed: u32) {
        for value in tensor.data_mut() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = f32::from((seed >> 16) as u16) / 32_768.0 - 1.0;
        }
    }

    fn assert_same_scores(whole: &JointState, split: &JointState, frames: std::ops::Range<usize>) {
        for frame in frames {
            for (a, b) in whole.logits(frame).iter().zip(split.logits(frame)) {
                assert!((a - b).abs() < 1e-5, "frame {frame}: {a} and {b}");
            }
        }
    }

    #[test]
    fn split_joint_matches_whole_joint() {
        let options = Options {
            threads: 1,
            ..Default::default()
        };
        for model in [
            "assets/demo-model/decoder_joint-model.onnx",
            "../../tests/data/tiny_random/decoder_joint-rnnt_la13.onnx",
        ] {
            let graphs = transducer_in(model);
            let shape = graphs.shape().unwrap();
            let target = &Target::resolve(&options).unwrap();
            let (network, _) = Predictor::load(graphs.prediction, model, &shape, target).unwrap();
            let predicted = network.sizes;
            let whole = Joint::Whole(Session::load(graphs.joint.clone(), model, target).unwrap());
            let Loaded {
                joint: mut split, head, ..
            } = Joint::load(graphs.joint, model, &shape, &predicted, target).unwrap();
            assert_eq!(head.is_some(), nemostt_kernels::gemm::is_supported(), "{model}");
            if let Some(head) = head {
                split.run_head_standalone(head, model, target).unwrap();
            }
            assert!(
                matches!(
                    &split,
                    Joint::Split(SplitJoint {
                        first_scoring: FirstScoring::Fused(_),
                        ..
                    })
                ),
                "{model}"
            );

            for chunk in [1, 2, RESCORE_FRAMES, RESCORE_FRAMES + 1, 14] {
                let mut encoded: Tensor<f32> = Tensor::zeros(&[1, shape.width, chunk]).unwrap();
                let mut prediction: Tensor<f32> = Tensor::zeros(&predicted).unwrap();
                let mut states =
                    [&whole, &split].map(|joint| JointState::new(joint, &shape, &encoded, &prediction, chunk).unwrap());
                for seed in 0..2 {
                    fill(&mut encoded, seed);
                    states.iter_mut().for_each(JointState::start_chunk);
                    for (frame, after_token) in (0..chunk).flat_map(|frame| [(frame, false), (frame, true)]) {
                        fill(&mut prediction, frame as u32);
                        let [whole_state, split_state] = &mut states;
                        assert_eq!(
                            whole_state
                                .score(&whole, &encoded, frame, after_token, || Ok(false))
                                .unwrap(),
                            usize::MAX
                        );
                        let end = split_state
                            .score(&split, &encoded, frame, after_token, || Ok(false))
                            .unwrap();
                        let is_first = frame == 0 && !after_token;
                        let expected = match !is_first && (after_token || chunk - frame <= 2 * RESCORE_FRAMES) {
                            true => (frame + RESCORE_FRAMES).min(chunk),
                            false => usize::MAX,
                        };
                        assert_eq!(end, expected);
                        assert_same_scores(whole_state, split_state, frame..end.min(chunk));
                    }
                }
            }
        }
    }
}
