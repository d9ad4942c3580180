// SPDX-License-Identifier: MIT OR Apache-2.0

//! The joint: whole, or cut so that encoder frames are projected once for a chunk.
//!
//! Measured on the 114M model (one thread, ms): projection of 14 frames 0.21, scores of 14 projected frames 0.28, of 4
//! 0.14, of one 0.12; the whole joint on 14 frames 0.35; the prediction network 0.31. A chunk is scored whole at first, if
//! possible in the encoder's run (see [`head`](super::head)); after a label, which the next one often follows closely, a few are,
//! at almost the cost of one, and if possible in the run that predicts.

mod state;

use state::FEW;
pub(super) use state::JointState;

use super::{
    custom_op_policy::pack_products,
    options::Options,
    runtime::{LogLevel, Session, Tensor, note},
};
use crate::{
    error::{Error, Result},
    graph::{Graph, TransducerShape, merge, project},
};

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
        let rows = halves.as_rows().and_then(|rows| {
            let head = merge(&rows.projection, &rows.scoring, "projected").ok()?;
            Some((rows.scoring, head))
        });
        if let Some((scoring, head)) = rows {
            cut.scoring = Session::load(scoring.clone(), name, options).map_err(say)?;
            cut.sizes = vec![1, cut.width()];
            cut.front = Front::Encoder;
            return Ok(Loaded {
                joint: Joint::Cut(cut),
                scoring: Some(scoring),
                head: Some(head),
            });
        }
        let both = merge(&halves.projection, &halves.scoring, "projected");
        match both.and_then(|both| Session::load(both, name, options).map_err(say)) {
            Ok(both) => cut.front = Front::Together(both),
            Err(reason) => note(
                LogLevel::Info,
                &format!("the joint of {name} projects and scores in two runs: {reason}"),
            ),
        }
        Ok(Loaded {
            joint: Joint::Cut(cut),
            scoring: Some(halves.scoring),
            head: None,
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

/// Loads the joint or a part of it.
fn load(mut graph: Graph, name: &str, options: &Options) -> Result<Session> {
    pack_products(&mut graph, name, options)?;
    Session::load(graph, name, options)
}
