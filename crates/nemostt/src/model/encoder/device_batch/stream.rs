// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a stream keeps of an encoder whose batches run on a device: which slot has its caches, and how much of them is
//! valid.
//!
//! Between steps, a stream only says which slot the next step reads and which it writes:
//!
//! | | reads | writes |
//! |---|---|---|
//! | at its start, or after a reset | the slot of zeros | a free slot, which becomes its own |
//! | in the middle | its own | its own |
//! | after a snapshot was taken or restored | its own, which the snapshot has, too | a free slot, which becomes its own |

use std::sync::Arc;

use super::{
    super::{Encoder, EncoderSnapshot, HeadTensors, session_state::write_columns, state::RunnerState},
    DeviceBatch, LaneHandle, Slot,
    job::{StepInputs, StepJob},
};
use crate::{
    chunker::Window,
    error::{Error, Result},
    lane::{Deadline, JobFailed},
    model::runtime::{Tensor, enter},
};

/// See the [module](self).
pub(in crate::model::encoder) struct DeviceState {
    batch: Arc<DeviceBatch>,
    handle: LaneHandle,
    job: StepJob,
    /// Its caches; `None` at the start.
    slot: Option<Arc<Slot>>,
    /// Valid frames in the attention cache.
    cached: i64,
    prompt: i64,
    /// As [`EncoderState::outputs`](super::super::EncoderState::outputs).
    outputs: Tensor<f32>,
}

impl DeviceState {
    pub(in crate::model::encoder) fn new(batch: Arc<DeviceBatch>, outputs: Tensor<f32>) -> Result<Self> {
        Ok(Self {
            handle: batch.handle()?,
            job: batch.layout.job(),
            slot: None,
            cached: 0,
            prompt: 0,
            outputs,
            batch,
        })
    }
}

impl RunnerState for DeviceState {
    fn step(
        &mut self,
        _encoder: &Encoder,
        window: &Window<'_>,
        _head: Option<HeadTensors<'_>>,
        deadline: Deadline,
    ) -> Result<i64> {
        let is_own = self.slot.as_mut().is_some_and(|slot| Arc::get_mut(slot).is_some());
        // Streams have enough, so snapshots have taken the others.
        let no_slot = Error::NoPlace {
            taken: "there is no place for a stream besides its snapshots",
            streams: self.batch.max_streams,
        };
        let new = match is_own {
            true => None,
            false => Some(Arc::new(self.batch.pool.take().ok_or(no_slot)?)),
        };
        let row = |slot: &Option<Arc<Slot>>| slot.as_ref().map(|slot| slot.index());
        let read = row(&self.slot).unwrap_or(self.batch.pool.zeros());
        let write = row(&new).unwrap_or(read);
        let layout = &self.batch.layout;
        if self.job.audio.is_empty() {
            // A batch that failed has not brought it back.
            self.job = layout.job();
        }
        write_columns(window, layout.mels, layout.width, &mut self.job.audio);
        self.job.inputs = StepInputs {
            length: window.len as i64,
            drop: window.drop_frames as i64,
            cached: self.cached,
            prompt: self.prompt,
            read: read as i64,
            write: write as i64,
        };
        // The caller goes on with ONNX Runtime, which must not be used while the process exits.
        let _inside = enter()?;
        let (job, result) = self.handle.submitter.run(std::mem::take(&mut self.job), deadline);
        self.job = job;
        match result {
            Ok(result) => result?,
            Err(JobFailed) => return Err(panicked()),
        }
        if new.is_some() {
            self.slot = new;
        }
        let [frames, cached] = self.job.lengths;
        self.cached = cached;
        self.outputs.data_mut().copy_from_slice(&self.job.outputs);
        Ok(frames)
    }

    fn outputs(&self) -> &Tensor<f32> {
        &self.outputs
    }

    fn prompt(&self) -> i64 {
        self.prompt
    }

    fn set_prompt(&mut self, prompt: i64) {
        self.prompt = prompt;
    }

    fn cache_len(&self) -> i64 {
        self.cached
    }

    fn reset(&mut self) {
        self.slot = None;
        self.cached = 0;
    }

    fn save(&self, snapshot: &mut EncoderSnapshot) {
        snapshot.slot.clone_from(&self.slot);
        snapshot.len = self.cached;
        snapshot.prompt = self.prompt;
    }

    fn restore(&mut self, snapshot: &EncoderSnapshot) {
        self.slot.clone_from(&snapshot.slot);
        self.cached = snapshot.len;
        self.prompt = snapshot.prompt;
    }
}

fn panicked() -> Error {
    Error::Runtime {
        doing: "run the encoder".into(),
        reason: "an operation of nemostt panicked: this is a fault in it, please report it".into(),
    }
}
