// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs the batches of a lane.
//!
//! A lane runs the jobs of a batch that panicked again. Here that is only possible until the graph runs: a stream's step reads
//! and writes the same slot, so after that it would be computed from its own result. Such a batch fails, like one whose run
//! fails.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use super::{engine::Engine, job::StepJob};
use crate::{
    error::{Error, Result},
    lane::{Executor, forget_panic},
};

/// See the [module](self).
pub(in crate::model::encoder) enum BatchExecutor {
    /// On the thread that leads the lane.
    Here(Engine),
    /// On a thread of its own: the CUDA provider keeps captured graphs for each thread that runs a session
    /// (`cuda_execution_provider.h`, `PerThreadContext`), and any stream's thread may lead.
    There(EngineThread),
}

/// What comes of a batch.
enum Outcome {
    /// It has run, or must not run again.
    Done(Result<()>),
    /// It panicked, and has changed nothing.
    NotRun,
}

impl Outcome {
    fn of(engine: &mut Engine, jobs: &mut [StepJob]) -> Self {
        match catch_unwind(AssertUnwindSafe(|| engine.run(jobs))) {
            Ok(result) => Self::Done(result),
            Err(panic) => {
                forget_panic(panic);
                match engine.has_run() {
                    true => Self::Done(Err(panicked())),
                    false => Self::NotRun,
                }
            }
        }
    }
}

/// A thread that runs batches. When this is dropped, it ends and frees the memory of the device: whoever loads a model then
/// may need that.
pub(in crate::model::encoder) struct EngineThread {
    /// `None` only while it is dropped.
    batches: Option<SyncSender<Vec<StepJob>>>,
    thread: Option<JoinHandle<()>>,
    results: Receiver<(Vec<StepJob>, Outcome)>,
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
                let outcome = Outcome::of(&mut engine, &mut jobs);
                if done.send((jobs, outcome)).is_err() {
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

    /// # Errors
    /// If the thread has ended.
    fn run(&mut self, jobs: &mut [StepJob]) -> Result<Outcome> {
        let mut batch = std::mem::take(&mut self.jobs);
        batch.clear();
        batch.extend(jobs.iter_mut().map(std::mem::take));
        let batches = self.batches.as_ref().ok_or_else(ended)?;
        batches.send(batch).map_err(|_| ended())?;
        let (mut batch, outcome) = self.results.recv().map_err(|_| ended())?;
        for (job, done) in jobs.iter_mut().zip(batch.drain(..)) {
            *job = done;
        }
        self.jobs = batch;
        Ok(outcome)
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
        let outcome = match self {
            Self::Here(engine) => Outcome::of(engine, jobs),
            Self::There(thread) => thread.run(jobs).unwrap_or_else(|error| Outcome::Done(Err(error))),
        };
        match outcome {
            // Without results, the lane runs them one by one.
            Outcome::NotRun => (),
            Outcome::Done(Ok(())) => results.extend(jobs.iter().map(|_| Ok(()))),
            // A batch is one run, which fails as a whole.
            Outcome::Done(Err(error)) => results.extend(jobs.iter().map(|_| Err(repeated(&error)))),
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

fn panicked() -> Error {
    Error::Runtime {
        doing: "run the encoder".into(),
        reason: "nemostt panicked after a batch had run: this is a fault in it, please report it".into(),
    }
}

fn ended() -> Error {
    Error::Runtime {
        doing: "run the encoder".into(),
        reason: "the thread that runs it has ended".into(),
    }
}
