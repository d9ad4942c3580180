// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs the batches of a lane.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use super::{engine::Engine, job::StepJob};
use crate::{
    error::{Error, Result},
    lane::Executor,
};

/// See the [module](self).
pub(in crate::model::encoder) enum BatchExecutor {
    /// On the thread that leads the lane.
    Here(Engine),
    /// On a thread of its own: the CUDA provider keeps captured graphs for each thread that runs a session
    /// (`cuda_execution_provider.h`, `PerThreadContext`), and any stream's thread may lead.
    There(EngineThread),
}

/// A thread that runs batches. When this is dropped, it ends and frees the memory of the device: whoever loads a model then
/// may need that.
pub(in crate::model::encoder) struct EngineThread {
    /// `None` only while it is dropped.
    batches: Option<SyncSender<Vec<StepJob>>>,
    thread: Option<JoinHandle<()>>,
    results: Receiver<(Vec<StepJob>, Result<()>)>,
    /// Kept for its memory.
    jobs: Vec<StepJob>,
}

impl EngineThread {
    /// Starts the thread, which creates the engine.
    ///
    /// # Errors
    /// Those of `create`, or if no thread can be started.
    pub(super) fn start(create: impl FnOnce() -> Result<Engine> + Send + 'static) -> Result<Self> {
        let (batches, next) = sync_channel::<Vec<StepJob>>(1);
        let (done, results) = sync_channel(1);
        let (started, start) = sync_channel(1);
        let run = move || {
            let mut engine = match create() {
                Ok(engine) => engine,
                Err(error) => {
                    // Nobody waits if the load has ended.
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok(()));
            while let Ok(mut jobs) = next.recv() {
                let result = engine.run(&mut jobs);
                if done.send((jobs, result)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("nemostt-device".into()).spawn(run);
        let thread = thread.map_err(|error| Error::OutOfMemory {
            doing: "start a thread".into(),
            reason: error.to_string(),
        })?;
        let engine = Self {
            batches: Some(batches),
            thread: Some(thread),
            results,
            jobs: Vec::new(),
        };
        start.recv().map_err(|_| ended())??;
        Ok(engine)
    }

    fn run(&mut self, jobs: &mut [StepJob]) -> Result<()> {
        let mut batch = std::mem::take(&mut self.jobs);
        batch.clear();
        batch.extend(jobs.iter_mut().map(std::mem::take));
        let batches = self.batches.as_ref().ok_or_else(ended)?;
        batches.send(batch).map_err(|_| ended())?;
        let (mut batch, result) = self.results.recv().map_err(|_| ended())?;
        for (job, done) in jobs.iter_mut().zip(batch.drain(..)) {
            *job = done;
        }
        self.jobs = batch;
        result
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        // What the thread waits for.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic has ended the batch that it was in.
            let _ = thread.join();
        }
    }
}

impl Executor for BatchExecutor {
    type Job = StepJob;
    type Output = Result<()>;

    fn run(&mut self, jobs: &mut [StepJob], results: &mut Vec<Self::Output>) {
        let result = match self {
            Self::Here(engine) => engine.run(jobs),
            Self::There(thread) => thread.run(jobs),
        };
        match result {
            Ok(()) => results.extend(jobs.iter().map(|_| Ok(()))),
            // A batch is one run, which fails as a whole.
            Err(error) => results.extend(jobs.iter().map(|_| Err(repeated(&error)))),
        }
    }
}

/// The same error for another stream.
fn repeated(error: &Error) -> Error {
    match error {
        Error::Exiting => Error::Exiting,
        Error::OutOfMemory { doing, reason } => Error::OutOfMemory {
            doing: doing.clone(),
            reason: reason.clone(),
        },
        Error::Runtime { doing, reason } => Error::Runtime {
            doing: doing.clone(),
            reason: reason.clone(),
        },
        error => Error::Runtime {
            doing: "run the encoder".into(),
            reason: error.to_string(),
        },
    }
}

fn ended() -> Error {
    Error::Runtime {
        doing: "run the encoder".into(),
        reason: "the thread that runs it has ended".into(),
    }
}
