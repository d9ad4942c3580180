// SPDX-License-Identifier: MIT OR Apache-2.0

//! The joint: whole, or cut so that encoder frames are projected once for a chunk.
//!
//! Measured on the 114M model (one thread, ms): projection of 14 frames 0.21, scores of 14 projected frames 0.28, of 4
//! 0.14, of one 0.12; the whole joint on 14 frames 0.35; the prediction network 0.31. A chunk is scored whole at first, if
//! possible in the encoder's run (see [`head`](super::head)); after a label, which the next one often follows closely, a few are,
//! at almost the cost of one, and if possible in the run that predicts.

mod state;

pub(super) use state::JointState;
use state::RESCORE_FRAMES;

use super::{
    custom_op_policy::prepack_matmuls,
    options::Options,
    runtime::{LogLevel, Session, Tensor, log},
};
use crate::error::{Error, Result};
use nemostt_compiler::{Graph, TransducerShape, compose, split_joint};

/// The joint's graphs.
pub(super) enum Joint {
    Whole(Session),
    Split(SplitJoint),
}

/// The halves of a joint.
pub(super) struct SplitJoint {
    first_scoring: FirstScoring,
    /// Whether the projection takes a row for each frame, \[1, T, width\], and not a column.
    takes_rows: bool,
    scoring: Session,
    /// Axes of the projected frames: \[T, width\], \[1, T, width\] or \[1, T, 1, width\].
    sizes: Vec<usize>,
}

/// What happens to a chunk's frames at first.
enum FirstScoring {
    /// They are projected and scored in one run.
    Fused(Session),
    /// They are projected in one run and scored in another one.
    Separate(Session),
    /// The encoder does it in its own: see [`JointHead`](super::head::JointHead).
    Encoder,
}

/// A joint, and the graphs that others may run with their own.
pub(super) struct Loaded {
    pub(super) joint: Joint,
    /// Scores projected frames.
    pub(super) scoring: Option<Graph>,
    /// Projects and scores. It must go into the encoder, or [back](Joint::run_head_standalone).
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
            false => SplitJoint::load(&graph, name, shape, predicted, options),
        };
        match cut {
            Ok(loaded) => Ok(loaded),
            Err(reason) => {
                log(LogLevel::Info, &format!("the joint of {name} is run whole: {reason}"));
                Ok(Loaded {
                    joint: Self::Whole(load(graph, name, options)?),
                    scoring: None,
                    head: None,
                })
            }
        }
    }

    /// Runs `head`, which came with it, in a run of its own.
    pub(super) fn run_head_standalone(&mut self, head: Graph, name: &str, options: &Options) -> Result<()> {
        if let Self::Split(cut) = self {
            cut.first_scoring = FirstScoring::Fused(Session::load(head, name, options)?);
        }
        Ok(())
    }

    /// Sizes of `frames` projected frames; `None`: none are projected.
    pub(super) fn projected(&self, frames: usize) -> Option<Vec<usize>> {
        match self {
            Self::Whole(_) => None,
            Self::Split(cut) => Some(cut.sizes(frames)),
        }
    }

    /// The session that gives scores.
    fn scoring(&self) -> &Session {
        match self {
            Self::Whole(session) => session,
            Self::Split(cut) => &cut.scoring,
        }
    }
}

impl SplitJoint {
    fn load(
        graph: &Graph,
        name: &str,
        shape: &TransducerShape,
        predicted: &[usize],
        options: &Options,
    ) -> std::result::Result<Loaded, String> {
        let mut halves = split_joint(graph)?;
        let say = |error: Error| error.to_string();
        prepack_matmuls(&mut halves.projection, name, options).map_err(say)?;
        prepack_matmuls(&mut halves.scoring, name, options).map_err(say)?;
        let projection = Session::load(halves.projection.clone(), name, options).map_err(say)?;
        let mut cut = Self {
            first_scoring: FirstScoring::Separate(projection),
            takes_rows: halves.takes_rows,
            scoring: Session::load(halves.scoring.clone(), name, options).map_err(say)?,
            sizes: Vec::new(),
        };
        // What the graphs say of sizes is not enough: a reshape inside may fix them.
        for frames in [1, RESCORE_FRAMES, RESCORE_FRAMES + 1] {
            let sizes = cut.probe_shapes(shape, predicted, frames);
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
        let rows = halves.to_2d().and_then(|rows| {
            let head = compose(&rows.projection, &rows.scoring, "projected").ok()?;
            Some((rows.scoring, head))
        });
        if let Some((scoring, head)) = rows {
            cut.scoring = Session::load(scoring.clone(), name, options).map_err(say)?;
            cut.sizes = vec![1, cut.width()];
            cut.first_scoring = FirstScoring::Encoder;
            return Ok(Loaded {
                joint: Joint::Split(cut),
                scoring: Some(scoring),
                head: Some(head),
            });
        }
        let both = compose(&halves.projection, &halves.scoring, "projected");
        match both.and_then(|both| Session::load(both, name, options).map_err(say)) {
            Ok(both) => cut.first_scoring = FirstScoring::Fused(both),
            Err(reason) => log(
                LogLevel::Info,
                &format!("the joint of {name} projects and scores in two runs: {reason}"),
            ),
        }
        Ok(Loaded {
            joint: Joint::Split(cut),
            scoring: Some(halves.scoring),
            head: None,
        })
    }

    /// Sizes of projected frames and of their scores.
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

/// Loads the joint or a part of it.
fn load(mut graph: Graph, name: &str, options: &Options) -> Result<Session> {
    prepack_matmuls(&mut graph, name, options)?;
    Session::load(graph, name, options)
}
