// SPDX-License-Identifier: MIT OR Apache-2.0

//! The joint network: as exported, or split so that the encoder frames of a chunk are projected only once.
//!
//! Measured on the 114M model (one thread, ms): projection of 14 frames 0.21, scores of 14 projected frames 0.28, of 4
//! 0.14, of one 0.12; the unsplit joint on 14 frames 0.35; the prediction network 0.31. All frames of a chunk are
//! scored first, if possible in the encoder's run (see [`joint_head`](super::joint_head)). After a token, which the
//! next one often follows closely, only a few frames are scored again, at almost the cost of one, and if possible in
//! the run of the prediction network.

mod state;

pub(super) use state::JointState;
use state::RESCORE_FRAMES;

use super::{
    compile::out_of_memory,
    runtime::{LogLevel, Session, Tensor, log},
    target::Target,
};
use crate::error::{Error, Result};
use nemostt_compiler::{Graph, TransducerShape, compose, pipeline::Recorder, split_joint};

/// The graphs of the joint.
pub(super) enum Joint {
    Whole(Session),
    Split(SplitJoint),
}

/// The two parts of a joint.
pub(super) struct SplitJoint {
    first_scoring: FirstScoring,
    /// Whether the projection takes frames as rows, \[1, T, width\], instead of columns, \[1, width, T\].
    takes_rows: bool,
    scoring: Session,
    /// Shape of the projected frames: \[T, width\], \[1, T, width\] or \[1, T, 1, width\].
    sizes: Vec<usize>,
}

/// How the frames of a new chunk are projected and scored.
enum FirstScoring {
    /// In one run.
    Fused(Session),
    /// Projected in one run and scored in another.
    Separate(Session),
    /// In the encoder's run: see [`JointHead`](super::joint_head::JointHead).
    Encoder,
}

/// A joint, and graphs that may be merged into other graphs.
pub(super) struct Loaded {
    pub(super) joint: Joint,
    /// Scores projected frames.
    pub(super) scoring: Option<Graph>,
    /// Projects and scores. Must either be appended to the encoder or [run on its own](Joint::run_head_standalone).
    pub(super) head: Option<Graph>,
}

impl Joint {
    /// Loads a joint for predictions of shape `predicted`, split if possible.
    pub(super) fn load(
        graph: Graph,
        name: &str,
        shape: &TransducerShape,
        predicted: &[usize],
        target: &Target,
    ) -> Result<Loaded> {
        let split = match shape.one_frame {
            true => Err("it takes one frame at a time".into()),
            false => SplitJoint::load(&graph, name, shape, predicted, target),
        };
        match split {
            Ok(loaded) => Ok(loaded),
            Err(reason) => {
                log(LogLevel::Info, &format!("the joint of {name} is not split: {reason}"));
                Ok(Loaded {
                    joint: Self::Whole(load(graph, name, target)?),
                    scoring: None,
                    head: None,
                })
            }
        }
    }

    /// Runs `head`, which was returned by [`load`](Self::load), on its own.
    pub(super) fn run_head_standalone(&mut self, head: Graph, name: &str, target: &Target) -> Result<()> {
        if let Self::Split(split) = self {
            let mut session = Session::load(head, name, target)?;
            session.free_files();
            split.first_scoring = FirstScoring::Fused(session);
        }
        Ok(())
    }

    /// Frees the files that the graphs were read from: see [`Session::free_files`].
    pub(super) fn free_files(&mut self) {
        match self {
            Self::Whole(session) => session.free_files(),
            Self::Split(split) => {
                split.scoring.free_files();
                if let FirstScoring::Fused(session) | FirstScoring::Separate(session) = &mut split.first_scoring {
                    session.free_files();
                }
            }
        }
    }

    /// Shape of `frames` projected frames; `None` if the joint is not split.
    pub(super) fn projected(&self, frames: usize) -> Option<Vec<usize>> {
        match self {
            Self::Whole(_) => None,
            Self::Split(split) => Some(split.sizes(frames)),
        }
    }

    /// The session that computes scores.
    fn scoring(&self) -> &Session {
        match self {
            Self::Whole(session) => session,
            Self::Split(split) => &split.scoring,
        }
    }
}

impl SplitJoint {
    fn load(
        graph: &Graph,
        name: &str,
        shape: &TransducerShape,
        predicted: &[usize],
        target: &Target,
    ) -> std::result::Result<Loaded, String> {
        let mut halves = split_joint(graph)?;
        let describe = |error: Error| error.to_string();
        for half in [&mut halves.projection, &mut halves.scoring] {
            prepack(half, name, target).map_err(describe)?;
        }
        let projection = Session::load(halves.projection.clone(), name, target).map_err(describe)?;
        let mut split = Self {
            first_scoring: FirstScoring::Separate(projection),
            takes_rows: halves.takes_rows,
            scoring: Session::load(halves.scoring.clone(), name, target).map_err(describe)?,
            sizes: Vec::new(),
        };
        // The graphs' declared shapes are not sufficient: a reshape inside may fix them.
        for frames in [1, RESCORE_FRAMES, RESCORE_FRAMES + 1] {
            let sizes = split.probe_shapes(shape, predicted, frames);
            let [projected, scores] = sizes.map_err(|error| error.to_string())?;
            let width = projected.last().copied().unwrap_or_default();
            let is_rows = projected.len() > 2 && projected[..2] == [1, frames];
            if !is_rows || projected.iter().product::<usize>() != frames * width {
                return Err(format!("{frames} projected frames have sizes {projected:?}"));
            }
            if scores.iter().product::<usize>() != frames * shape.classes {
                return Err(format!("the scores of {frames} frames have sizes {scores:?}"));
            }
            split.sizes = projected;
        }
        let rows = halves.to_2d().and_then(|rows| {
            let head = compose(&rows.projection, &rows.scoring, "projected").ok()?;
            Some((rows.scoring, head))
        });
        if let Some((scoring, head)) = rows {
            split.scoring = Session::load(scoring.clone(), name, target).map_err(describe)?;
            split.sizes = vec![1, split.width()];
            split.first_scoring = FirstScoring::Encoder;
            return Ok(Loaded {
                joint: Joint::Split(split),
                scoring: Some(scoring),
                head: Some(head),
            });
        }
        let merged = compose(&halves.projection, &halves.scoring, "projected");
        match merged.and_then(|merged| Session::load(merged, name, target).map_err(describe)) {
            Ok(session) => split.first_scoring = FirstScoring::Fused(session),
            Err(reason) => log(
                LogLevel::Info,
                &format!("the joint of {name} needs two runs to project and score: {reason}"),
            ),
        }
        Ok(Loaded {
            joint: Joint::Split(split),
            scoring: Some(halves.scoring),
            head: None,
        })
    }

    /// Shapes of projected frames and of their scores.
    fn probe_shapes(&self, shape: &TransducerShape, predicted: &[usize], frames: usize) -> Result<[Vec<usize>; 2]> {
        let (FirstScoring::Separate(projection) | FirstScoring::Fused(projection)) = &self.first_scoring else {
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

    /// Values per projected frame.
    fn width(&self) -> usize {
        self.sizes.last().copied().unwrap_or(1).max(1)
    }

    /// Whether projected frames and scores are rows: two axes.
    fn is_flat(&self) -> bool {
        self.sizes.len() == 2
    }

    /// Shape of `frames` projected frames.
    fn sizes(&self, frames: usize) -> Vec<usize> {
        let mut sizes = self.sizes.clone();
        sizes[usize::from(!self.is_flat())] = frames;
        sizes
    }
}

/// Loads the joint, prepacked.
fn load(mut graph: Graph, name: &str, target: &Target) -> Result<Session> {
    prepack(&mut graph, name, target)?;
    Session::load(graph, name, target)
}

fn prepack(graph: &mut Graph, name: &str, target: &Target) -> Result<()> {
    let packed = Recorder::default().prepack(graph, &target.passes);
    packed.map_err(|error| out_of_memory(name, error))
}
