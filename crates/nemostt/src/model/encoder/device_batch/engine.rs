// SPDX-License-Identifier: MIT OR Apache-2.0

//! The session, the caches of all slots, and a bucket for each size of a batch.

use super::{
    bucket::Bucket,
    job::{StepInputs, StepJob},
    slots::SlotPool,
};
use crate::{
    error::{Error, Result},
    model::{
        Cancellation,
        runtime::{DeviceTensor, Session},
    },
};
use nemostt_compiler::StateSpec;

/// What a step looks like.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) mels: usize,
    pub(super) width: usize,
    /// The name of the output, and its shape without the batch.
    pub(super) output: &'static str,
    pub(super) output_dims: Vec<usize>,
    /// Whether the model takes a language prompt.
    pub(super) has_prompt: bool,
}

impl Layout {
    /// Inputs and outputs of a step, with padding for audio.
    pub(super) fn job(&self) -> StepJob {
        StepJob {
            audio: vec![0.0; self.mels * self.width],
            outputs: vec![0.0; self.output_dims.iter().product()],
            ..Default::default()
        }
    }
}

/// See the [module](self).
pub(super) struct Engine {
    session: Session,
    /// One per cache, \[slots, …\]. Inputs and outputs of each run.
    _states: Vec<DeviceTensor<f32>>,
    /// From the smallest to the largest.
    buckets: Vec<Bucket>,
    /// Whether the graph has run, or begun to run, in the last batch.
    has_run: bool,
}

impl Engine {
    /// Allocates all memory that steps need, and runs each bucket once: the first run of a size is slow, and a stream should
    /// not wait for it.
    ///
    /// # Errors
    /// Out of memory; errors of ONNX Runtime, if the graph does not run; the load is cancelled.
    pub(super) fn new(
        session: Session,
        layout: &Layout,
        states: &[StateSpec],
        pool: &SlotPool,
        max_batch: usize,
        cancellation: &Cancellation,
    ) -> Result<Self> {
        let tensor = |state: &StateSpec| {
            let mut dims = state.dims.clone();
            if let Some(rows) = dims.first_mut() {
                *rows = pool.rows();
            }
            session.device_tensor(&dims)
        };
        let mut tensors: Vec<DeviceTensor<f32>> = states.iter().map(tensor).collect::<Result<_>>()?;
        let padding = StepInputs {
            length: layout.width as i64,
            read: pool.zeros() as i64,
            write: pool.padding() as i64,
            ..Default::default()
        };
        let mut buckets = Vec::new();
        for size in bucket_sizes(max_batch) {
            cancellation.check()?;
            let mut bucket = Bucket::new(&session, layout, (states, &mut tensors), size, padding)?;
            bucket.record(&session)?;
            buckets.push(bucket);
        }
        Ok(Self {
            session,
            _states: tensors,
            buckets,
            has_run: false,
        })
    }

    /// Runs a step of each of `jobs`.
    pub(super) fn run(&mut self, jobs: &mut [StepJob]) -> Result<()> {
        self.has_run = false;
        let found = self.buckets.iter_mut().find(|bucket| bucket.size() >= jobs.len());
        let bucket = found.ok_or_else(|| Error::Runtime {
            doing: "run the encoder".into(),
            reason: format!("a batch of {} is too large", jobs.len()),
        })?;
        bucket.run(&self.session, jobs, &mut self.has_run)
    }

    /// Whether the last batch may have written caches.
    pub(super) fn has_run(&self) -> bool {
        self.has_run
    }
}

/// Powers of two, and the largest batch.
fn bucket_sizes(max_batch: usize) -> Vec<usize> {
    let max_batch = max_batch.max(1);
    let powers = (0..usize::BITS).map(|power| 1 << power);
    powers.take_while(|&size| size < max_batch).chain([max_batch]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two_up_to_the_largest_batch() {
        assert_eq!(bucket_sizes(0), [1]);
        assert_eq!(bucket_sizes(1), [1]);
        assert_eq!(bucket_sizes(6), [1, 2, 4, 6]);
        assert_eq!(bucket_sizes(64), [1, 2, 4, 8, 16, 32, 64]);
    }
}
