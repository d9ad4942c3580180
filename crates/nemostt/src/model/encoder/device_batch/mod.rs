// SPDX-License-Identifier: MIT OR Apache-2.0

//! An encoder that runs in one ONNX Runtime session for a batch of streams, with their caches on the device.
//!
//! The graph has an [open batch and slots](nemostt_compiler::Encoded::add_slots). What a run reads and writes is allocated
//! once: the caches of all slots, and for each [bucket](bucket), a size that batches are filled up to, its inputs, outputs
//! and binding. A step of a stream is a [job](job) in a [lane](crate::lane), whose [executor] copies the windows of a batch
//! to the device, runs the graph, and copies the frames back.
//!
//! **The number of slots is fixed** when the model is loaded. Tensors that grow would move, and everything that is bound to
//! them or captured with them would have to be made again, in the middle of other streams' audio; and what a process needs
//! of the device's memory would not be known before its last stream. Each stream has two slots, because a snapshot keeps
//! the caches that it was taken of: see [`slots`].
//!
//! Nothing of a stream moves when it begins, is reset, saved or restored: see [`stream`].

mod bucket;
mod engine;
mod executor;
mod job;
mod slots;
mod stream;
#[cfg(test)]
mod tests;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use self::{
    engine::{Engine, Layout},
    executor::{BatchExecutor, EngineThread},
    slots::SlotPool,
};
pub(super) use self::{slots::Slot, stream::DeviceState};
use super::{
    super::{
        compile::CompiledEncoder,
        runtime::{LogLevel, Session, log},
        target::Target,
    },
    program::EncoderParts,
};
use crate::{
    chunker::full_width,
    device::Device,
    error::{Error, Result},
    lane::{Lane, Limits, Submitter},
    memory_guard,
    metrics::EncoderMetrics,
};
use nemostt_compiler::StateSpec;

/// Streams in a batch, if no option says otherwise. Not measured on a GPU.
const MAX_BATCH: usize = 64;

/// Bytes of all slots, if no option says how many streams there may be; there are enough for a batch in any case.
const SLOT_BYTES: usize = 512 << 20;

/// More streams than a process will have.
const MAX_STREAMS: usize = 1 << 16;

/// Slots of each stream: one for its caches, one for those of a snapshot.
const SLOTS_PER_STREAM: usize = 2;

/// See the [module](self).
pub(super) struct DeviceBatch {
    lane: Lane<BatchExecutor>,
    pool: Arc<SlotPool>,
    layout: Layout,
    streams: Arc<AtomicUsize>,
    max_streams: usize,
    max_batch: usize,
    threads: usize,
    /// Bytes of the caches of a stream.
    bytes_per_stream: usize,
}

impl DeviceBatch {
    /// Loads `encoder`, whose [streams are batched](CompiledEncoder::batch_streams).
    ///
    /// # Errors
    /// Out of memory, errors of ONNX Runtime, or the load is cancelled.
    pub(super) fn new(encoder: CompiledEncoder, parts: &EncoderParts<'_>, target: &Target) -> Result<Self> {
        let (output, output_dims) = match parts.ctc_tokens {
            Some(tokens) => ("logprobs", vec![parts.chunk, tokens + 1]),
            None => ("outputs", vec![parts.streaming.d_model, parts.chunk]),
        };
        let layout = Layout {
            mels: parts.streaming.mels,
            // Specialized graphs have one.
            width: encoder.width.unwrap_or(full_width(parts.chunk - 1)),
            output,
            output_dims,
            has_prompt: parts.has_prompt,
        };
        let bytes = || encoder.states.iter().map(bytes_of);
        let bytes_per_stream = bytes()
            .fold(0, usize::saturating_add)
            .saturating_mul(SLOTS_PER_STREAM)
            .max(1);
        let max_streams = target
            .max_streams
            .unwrap_or((SLOT_BYTES / bytes_per_stream).max(target.max_batch.unwrap_or(MAX_BATCH)))
            .clamp(1, MAX_STREAMS);
        let max_batch = target.max_batch.unwrap_or(MAX_BATCH).clamp(1, max_streams);
        let in_host_memory = match target.device {
            Device::Cpu => bytes_per_stream,
            // A tensor of zeros at a time, which is copied there.
            _ => bytes().max().unwrap_or(0).saturating_mul(SLOTS_PER_STREAM),
        };
        memory_guard::check_bytes(
            in_host_memory.saturating_mul(max_streams),
            "allocate the caches of streams",
        )?;
        let pool = SlotPool::new(SLOTS_PER_STREAM * max_streams);
        let engine = |captures: bool| {
            let session = Session::load_batched(encoder.encoded.clone(), parts.name, target, captures)?;
            let threads = session.threads();
            let (layout, states, pool) = (layout.clone(), encoder.states.clone(), pool.clone());
            let cancellation = target.cancellation.clone();
            let create = move || Engine::new(session, &layout, &states, &pool, max_batch, &cancellation);
            let executor = match target.device {
                Device::Cuda(_) => BatchExecutor::There(EngineThread::start(create)?),
                _ => BatchExecutor::Here(create()?),
            };
            Ok((executor, threads))
        };
        let captures = target.capture_graphs && matches!(target.device, Device::Cuda(_));
        let (executor, threads) = match engine(captures) {
            // The provider requires that it runs all nodes itself, and records them in the first run.
            Err(error @ (Error::BadModel { .. } | Error::Runtime { .. })) if captures => {
                let line = format!("{} runs without CUDA graphs: {error}", parts.name);
                log(LogLevel::Warning, &line);
                engine(false)?
            }
            result => result?,
        };
        let limits = Limits {
            max_batch,
            max_submitters: max_streams,
        };
        Ok(Self {
            lane: Lane::new(executor, limits),
            pool,
            layout,
            streams: Arc::default(),
            max_streams,
            max_batch,
            threads,
            bytes_per_stream,
        })
    }

    /// A place for a stream.
    fn handle(&self) -> Result<LaneHandle> {
        let submitter = self.lane.submitter().ok_or(Error::NoPlace {
            taken: "there is no place for another stream",
            streams: self.max_streams,
        })?;
        self.streams.fetch_add(1, Ordering::Relaxed);
        Ok(LaneHandle {
            submitter,
            streams: self.streams.clone(),
        })
    }

    /// Streams whose steps are computed at the same time at most.
    pub(super) fn parallel_streams(&self) -> usize {
        self.max_batch
    }

    /// Intra-op threads of the session.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn metrics(&self) -> EncoderMetrics {
        EncoderMetrics {
            streams: self.streams.load(Ordering::Relaxed),
            bytes_per_stream: self.bytes_per_stream,
            spare_slots: 0,
            lanes: vec![self.lane.metrics()],
        }
    }
}

/// Bytes of a cache of one stream; as many as can be if they overflow.
fn bytes_of(state: &StateSpec) -> usize {
    let dims = state.dims.iter();
    dims.fold(size_of::<f32>(), |bytes, &dim| bytes.saturating_mul(dim))
}

/// Where a stream submits its steps. It counts as a stream until it is dropped.
struct LaneHandle {
    submitter: Submitter<BatchExecutor>,
    streams: Arc<AtomicUsize>,
}

impl Drop for LaneHandle {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
