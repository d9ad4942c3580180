// SPDX-License-Identifier: MIT OR Apache-2.0

//! The joint: whole, or cut so that encoder frames are projected once for a chunk.
//!
//! Measured on the 114M model (one thread, ms): projection of 14 frames 0.21, scores of 14 projected frames 0.28, of 4
//! 0.14, of one 0.12; the whole joint on 14 frames 0.35; the prediction network 0.31. A chunk is scored whole at first, if possible
//! in the encoder's run ([`head`]); after a label, which the next one often follows closely, a few are, at almost the cost of
//! one, and if possible in the run that predicts.

use super::{
    head,
    options::Options,
    products::pack_products,
    runtime::{Binding, LogLevel, Session, Tensor, note},
};
use crate::{
    error::{Error, Result},
    graph::{Graph, TransducerShape, merge, project},
};

/// Frames that are scored after a label, if a chunk has as many.
const FEW: usize = 4;

/// The joint's graphs.
pub(super) enum Joint {
    Whole(Session),
    Cut(Cut),
}

/// The halves of a joint.
pub(super) struct Cut {
    front: Front,
    /// Whether the projection takes a row for each frame, \[1, T, width\], and not a column.
    takes_rows: bool,
    scoring: Session,
    /// Axes of the projected frames: \[T, width\], \[1, T, width\] or \[1, T, 1, width\].
    sizes: Vec<usize>,
}

/// What happens to a chunk's frames at first.
enum Front {
    /// They are projected and scored in one run.
    Together(Session),
    /// They are projected in one run and scored in another one.
    Apart(Session),
    /// The encoder does it in its own: see [`Head`](super::head::Head).
    Encoder,
}

/// A joint, and the graphs that others may run with their own.
pub(super) struct Loaded {
    pub(super) joint: Joint,
    /// Scores projected frames.
    pub(super) scoring: Option<Graph>,
    /// Projects and scores. It must go into the encoder, or [back](Joint::take_front).
    pub(super) head: Option<Graph>,
}

impl Joint {
    /// Loads a joint that takes predictions of these sizes, cut if that can be done.
    pub(super) fn load(
        graph: Graph,
        name: &str,
        shape: &TransducerShape,
        predicted: &[usize],
        options: &Options,
    ) -> Result<Loaded> {
        let cut = match shape.one_frame {
            true => Err("it takes one frame at a time".into()),
            false => Cut::load(&graph, name, shape, predicted, options),
        };
        match cut {
            Ok(loaded) => Ok(loaded),
            Err(reason) => {
                note(LogLevel::Info, &format!("the joint of {name} is run whole: {reason}"));
                Ok(Loaded {
                    joint: Self::Whole(load(graph, name, options)?),
                    scoring: None,
                    head: None,
                })
            }
        }
    }

    /// Runs `head`, which came with it, in a run of its own.
    pub(super) fn take_front(&mut self, head: Graph, name: &str, options: &Options) -> Result<()> {
        if let Self::Cut(cut) = self {
            cut.front = Front::Together(Session::load(head, name, options)?);
        }
        Ok(())
    }

    /// Sizes of `frames` projected frames; `None`: none are projected.
    pub(super) fn projected(&self, frames: usize) -> Option<Vec<usize>> {
        match self {
            Self::Whole(_) => None,
            Self::Cut(cut) => Some(cut.sizes(frames)),
        }
    }

    /// The session that gives scores.
    fn scoring(&self) -> &Session {
        match self {
            Self::Whole(session) => session,
            Self::Cut(cut) => &cut.scoring,
        }
    }
}

impl Cut {
    fn load(
        graph: &Graph,
        name: &str,
        shape: &TransducerShape,
        predicted: &[usize],
        options: &Options,
    ) -> std::result::Result<Loaded, String> {
        let mut halves = project(graph)?;
        let say = |error: Error| error.to_string();
        pack_products(&mut halves.projection, name, options).map_err(say)?;
        pack_products(&mut halves.scoring, name, options).map_err(say)?;
        let projection = Session::load(halves.projection.clone(), name, options).map_err(say)?;
        let mut cut = Self {
            front: Front::Apart(projection),
            takes_rows: halves.takes_rows,
            scoring: Session::load(halves.scoring.clone(), name, options).map_err(say)?,
            sizes: Vec::new(),
        };
        // What the graphs say of sizes is not enough: a reshape inside may fix them.
        for frames in [1, FEW, FEW + 1] {
            let sizes = cut.try_out(shape, predicted, frames);
            let [projected, scores] = sizes.map_err(|error| error.to_string())?;
            let width = projected.last().copied().unwrap_or_default();
            let is_rows = projected.len() > 2 && projected[..2] == [1, frames];
            if !is_rows || projected.iter().product::<usize>() != frames * width {
                return Err(format!("{frames} projected frames have sizes {projected:?}"));
            }
            if scores.iter().product::<usize>() != frames * shape.classes {
                return Err(format!("the scores of {frames} frames have sizes {scores:?}"));
            }
            cut.sizes = projected;
        }
        let rows = halves.as_rows();
        if let Some(rows) = &rows {
            cut.scoring = Session::load(rows.scoring.clone(), name, options).map_err(say)?;
            cut.sizes = vec![1, cut.width()];
        }
        let is_rows = rows.is_some();
        let halves = rows.unwrap_or(halves);
        let mut head = None;
        match merge(&halves.projection, &halves.scoring, "projected") {
            Ok(both) if is_rows => {
                cut.front = Front::Encoder;
                head = Some(both);
            }
            Ok(both) => cut.front = Front::Together(Session::load(both, name, options).map_err(say)?),
            Err(reason) => note(
                LogLevel::Info,
                &format!("the joint of {name} projects and scores in two runs: {reason}"),
            ),
        }
        Ok(Loaded {
            joint: Joint::Cut(cut),
            scoring: Some(halves.scoring),
            head,
        })
    }

    /// Sizes of projected frames and of their scores.
    fn try_out(&self, shape: &TransducerShape, predicted: &[usize], frames: usize) -> Result<[Vec<usize>; 2]> {
        let (Front::Apart(projection) | Front::Together(projection)) = &self.front else {
            return Ok(Default::default());
        };
        let encoded: Tensor<f32> = match self.takes_rows {
            true => Tensor::zeros(&[1, frames, shape.width])?,
            false => Tensor::zeros(&[1, shape.width, frames])?,
        };
        let mut binding = projection.bind()?;
        binding.input("encoder_outputs", &encoded)?;
        let sizes = projection.sizes_of(&mut binding, "projected")?;

        let (projected, prediction): (Tensor<f32>, Tensor<f32>) = (Tensor::zeros(&sizes)?, Tensor::zeros(predicted)?);
        let mut binding = self.scoring.bind()?;
        binding.input("projected", &projected)?;
        binding.input("prediction", &prediction)?;
        let scores = self.scoring.sizes_of(&mut binding, "outputs")?;
        Ok([sizes, scores])
    }

    /// Values of a projected frame.
    fn width(&self) -> usize {
        self.sizes.last().copied().unwrap_or(1).max(1)
    }

    /// Whether frames, projected or scored, have no axes but their own and that of their values.
    fn is_flat(&self) -> bool {
        self.sizes.len() == 2
    }

    /// Sizes of `frames` projected frames.
    fn sizes(&self, frames: usize) -> Vec<usize> {
        let mut sizes = self.sizes.clone();
        sizes[usize::from(!self.is_flat())] = frames;
        sizes
    }
}

/// Makes a row of each of `frames` frames, which are columns in `encoded`.
fn turn(encoded: &[f32], frames: usize, rows: &mut [f32]) {
    let width = encoded.len() / frames;
    for (frame, row) in rows.chunks_exact_mut(width).enumerate() {
        for (value, column) in row.iter_mut().zip(encoded.chunks_exact(frames)) {
            *value = column[frame];
        }
    }
}

/// Loads the joint or a part of it.
fn load(mut graph: Graph, name: &str, options: &Options) -> Result<Session> {
    pack_products(&mut graph, name, options)?;
    Session::load(graph, name, options)
}

/// One stream's tensors.
pub(super) struct JointState {
    input: Input,
    /// Scores all frames of the chunk, or the one in [`Input::Frame`].
    all: Scores,
    /// Scores a few frames.
    few: Option<(Tensor<f32>, Scores)>,
    in_use: InUse,
    classes: usize,
}

/// Raw logits, \[1, frames, 1, labels + 1\] or in fewer axes, and the run that writes them.
struct Scores {
    run: Binding,
    logits: Tensor<f32>,
}

/// Where the frames come from.
enum Input {
    /// The encoder's own output: no copy in between.
    Encoder,
    /// One frame, copied here: \[1, width, 1\].
    Frame(Tensor<f32>),
    /// Frames that are projected, once for a chunk.
    Projected(Box<Projected>),
}

struct Projected {
    /// That of the [front](Front), unless the encoder does it.
    run: Option<Binding>,
    /// What the encoder gave, as rows, if the projection takes those.
    rows: Option<Tensor<f32>>,
    frames: Tensor<f32>,
    is_done: bool,
}

/// Which logits hold, from which frame on.
#[derive(Clone, Copy)]
enum InUse {
    All { first: usize },
    Few { first: usize },
}

impl JointState {
    /// Tensors for a stream that reads encoder frames \[1, width, chunk\] from `encoded`, and predictions from `prediction`.
    pub(super) fn new(
        joint: &Joint,
        shape: &TransducerShape,
        encoded: &Tensor<f32>,
        prediction: &Tensor<f32>,
        chunk: usize,
    ) -> Result<Self> {
        let scores = |input: &str, frames: &Tensor<f32>, count: usize| {
            let sizes: &[usize] = match (joint, shape.logits_axes) {
                (Joint::Cut(cut), _) if cut.is_flat() => &[count, shape.classes],
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
            Ok(scores)
        };
        let mut few = None;
        let (input, all) = match joint {
            Joint::Whole(_) if shape.one_frame => {
                let frame = Tensor::zeros(&[1, shape.width, 1])?;
                let all = scores("encoder_outputs", &frame, 1)?;
                (Input::Frame(frame), all)
            }
            Joint::Whole(_) => (Input::Encoder, scores("encoder_outputs", encoded, chunk)?),
            Joint::Cut(cut) => {
                let mut frames = Tensor::zeros(&cut.sizes(chunk))?;
                let mut all = scores("projected", &frames, chunk)?;
                let (session, gives_scores) = match &cut.front {
                    Front::Together(session) => (Some(session), true),
                    Front::Apart(session) => (Some(session), false),
                    Front::Encoder => (None, false),
                };
                let (mut run, mut rows) = (None, None);
                if let Some(session) = session {
                    let run = run.insert(session.bind()?);
                    if cut.takes_rows {
                        let sizes = [1, chunk, shape.width];
                        rows = Some(Tensor::zeros(if cut.is_flat() { &sizes[1..] } else { &sizes })?);
                    }
                    run.input("encoder_outputs", rows.as_ref().unwrap_or(encoded))?;
                    run.output("projected", &mut frames)?;
                    if gives_scores {
                        run.input("prediction", prediction)?;
                        run.output("outputs", &mut all.logits)?;
                    }
                }
                let count = FEW.min(chunk);
                let few_frames = Tensor::zeros(&cut.sizes(count))?;
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
            in_use: InUse::All { first: 0 },
            classes: shape.classes,
        })
    }

    /// Lets `run` score the few frames after a label: it then takes `projected` and gives `outputs`.
    pub(super) fn bind_few(&mut self, run: &mut Binding) -> Result<()> {
        if let Some((frames, scores)) = &mut self.few {
            run.input("projected", frames)?;
            run.output("outputs", &mut scores.logits)?;
        }
        Ok(())
    }

    /// Lets a run of the encoder, which has the joint's [head](head::Head), read predictions and write what it makes of them.
    pub(super) fn bind_head(&mut self, run: &mut Binding, prediction: &Tensor<f32>) -> Result<()> {
        match &mut self.input {
            Input::Projected(projected) => head::bind(run, prediction, &mut projected.frames, &mut self.all.logits),
            _ => Ok(()),
        }
    }

    /// The encoder has given another chunk.
    pub(super) fn begin(&mut self) {
        if let Input::Projected(projected) = &mut self.input {
            projected.is_done = false;
        }
    }

    /// Scores frames of `encoded` from `frame` on, and gives the first behind those that [`logits`](Self::logits) knows
    /// then. `after_label`: whether a label was emitted since the last call. `predict` sees to it that the prediction is
    /// there, and says whether that gave the scores of the [few](Self::bind_few) frames, too.
    pub(super) fn score(
        &mut self,
        joint: &Joint,
        encoded: &Tensor<f32>,
        frame: usize,
        after_label: bool,
        predict: impl FnOnce() -> Result<bool>,
    ) -> Result<usize> {
        let doing = "run the joint";
        let first = match (&mut self.input, joint) {
            (Input::Projected(projected), Joint::Cut(cut)) => {
                let Projected {
                    run,
                    rows,
                    frames,
                    is_done,
                } = &mut **projected;
                let width = cut.width();
                let chunk = frames.data().len() / width;
                if !std::mem::replace(is_done, true) {
                    predict()?;
                    if let Some(rows) = rows {
                        turn(encoded.data(), chunk, rows.data_mut());
                    }
                    match (&cut.front, run) {
                        (Front::Together(session), Some(run)) => session.run(run, doing)?,
                        (Front::Apart(session), Some(run)) => {
                            session.run(run, "project encoder frames")?;
                            cut.scoring.run(&self.all.run, doing)?;
                        }
                        _ => {}
                    }
                    self.in_use = InUse::All { first: 0 };
                    return Ok(usize::MAX);
                }
                // Labels are a few frames apart, and what is left at a chunk's end is not worth a run over all of it.
                let are_few = after_label || chunk - frame <= 2 * FEW;
                if let (true, Some((rows, scores))) = (are_few, &mut self.few) {
                    let rows = rows.data_mut();
                    let count = rows.len() / width;
                    let first = frame.min(chunk - count);
                    rows.copy_from_slice(&frames.data()[first * width..][..count * width]);
                    if !predict()? {
                        cut.scoring.run(&scores.run, doing)?;
                    }
                    self.in_use = InUse::Few { first };
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
        self.in_use = InUse::All {
            first: first.unwrap_or(0),
        };
        Ok(first.map_or(usize::MAX, |first| first + 1))
    }

    /// Raw logits of frame `frame`: one for each label, blank last.
    pub(super) fn logits(&self, frame: usize) -> &[f32] {
        let (logits, first) = match (self.in_use, &self.few) {
            (InUse::Few { first }, Some((_, scores))) => (&scores.logits, first),
            (InUse::All { first } | InUse::Few { first }, _) => (&self.all.logits, first),
        };
        &logits.data()[(frame - first) * self.classes..][..self.classes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graph::transducer_in, model::prediction::Prediction};

    /// Repeatable noise.
    fn fill(tensor: &mut Tensor<f32>, mut seed: u32) {
        for value in tensor.data_mut() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = f32::from((seed >> 16) as u16) / 32_768.0 - 1.0;
        }
    }

    fn assert_same_scores(whole: &JointState, cut: &JointState, frames: std::ops::Range<usize>) {
        for frame in frames {
            for (a, b) in whole.logits(frame).iter().zip(cut.logits(frame)) {
                assert!((a - b).abs() < 1e-5, "frame {frame}: {a} and {b}");
            }
        }
    }

    #[test]
    fn a_cut_joint_gives_the_scores_of_the_whole() {
        let options = Options {
            threads: 1,
            ..Default::default()
        };
        for model in [
            "assets/demo-model/decoder_joint-model.onnx",
            "tests/data/tiny_random/decoder_joint-rnnt_la13.onnx",
        ] {
            let graphs = transducer_in(model);
            let shape = graphs.shape().unwrap();
            let (network, _) = Prediction::load(graphs.prediction, model, &shape, &options).unwrap();
            let predicted = network.sizes;
            let whole = Joint::Whole(Session::load(graphs.joint.clone(), model, &options).unwrap());
            let Loaded {
                joint: mut cut, head, ..
            } = Joint::load(graphs.joint, model, &shape, &predicted, &options).unwrap();
            assert_eq!(head.is_some(), crate::kernels::matrix::is_fast(), "{model}");
            if let Some(head) = head {
                cut.take_front(head, model, &options).unwrap();
            }
            assert!(
                matches!(
                    &cut,
                    Joint::Cut(Cut {
                        front: Front::Together(_),
                        ..
                    })
                ),
                "{model}"
            );

            for chunk in [1, 2, FEW, FEW + 1, 14] {
                let mut encoded: Tensor<f32> = Tensor::zeros(&[1, shape.width, chunk]).unwrap();
                let mut prediction: Tensor<f32> = Tensor::zeros(&predicted).unwrap();
                let mut states =
                    [&whole, &cut].map(|joint| JointState::new(joint, &shape, &encoded, &prediction, chunk).unwrap());
                for seed in 0..2 {
                    fill(&mut encoded, seed);
                    states.iter_mut().for_each(JointState::begin);
                    for (frame, after_label) in (0..chunk).flat_map(|frame| [(frame, false), (frame, true)]) {
                        fill(&mut prediction, frame as u32);
                        let [of_whole, of_cut] = &mut states;
                        assert_eq!(
                            of_whole
                                .score(&whole, &encoded, frame, after_label, || Ok(false))
                                .unwrap(),
                            usize::MAX
                        );
                        let end = of_cut.score(&cut, &encoded, frame, after_label, || Ok(false)).unwrap();
                        let is_first = frame == 0 && !after_label;
                        let expected = match !is_first && (after_label || chunk - frame <= 2 * FEW) {
                            true => (frame + FEW).min(chunk),
                            false => usize::MAX,
                        };
                        assert_eq!(end, expected);
                        assert_same_scores(of_whole, of_cut, frame..end.min(chunk));
                    }
                }
            }
        }
    }
}
