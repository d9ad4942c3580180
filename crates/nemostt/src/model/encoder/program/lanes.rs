// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lanes of an encoder: teams of threads, each of which computes the steps of a share of the streams.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    super::super::{
        processors::{self, CacheGroup},
        runtime::{LinkedProgram, LogLevel, log},
        target::Target,
    },
    EncoderParts,
};
use crate::{
    error::{Error, Result},
    lane::{Executor, Lane, Limits, Submitter},
    metrics::LaneMetrics,
};
use nemostt_kernels::{
    executor::{Program, StreamIo, WorkerThreads},
    fused_op::ProgramError,
};

/// Rows of a batch beyond which a step takes longer in proportion: the time that reading the weights takes is that of
/// multiplying them with 14 to 28 rows (`docs/performance.md`, "The limit").
const MAX_ROWS: usize = 28;

/// More streams than a process will have.
const MAX_STREAMS: usize = 1 << 16;

/// Runs batches in a lane. A program writes nothing that it reads, so that its streams can run again if it stops anywhere:
/// a ring has room for new rows besides those that are read.
pub(in crate::model::encoder) struct BatchExecutor {
    pub(super) program: Program,
    pub(super) workers: WorkerThreads,
}

impl Executor for BatchExecutor {
    type Job = StreamIo;
    type Output = std::result::Result<(), ProgramError>;

    fn run(&mut self, jobs: &mut [StreamIo], results: &mut Vec<Self::Output>) {
        let Self { program, workers } = self;
        let mut streams: Vec<&mut StreamIo> = jobs.iter_mut().collect();
        match program.run_streams(&mut streams, |count, work| workers.parallel_for(count, work)) {
            Ok(()) => results.extend(jobs.iter().map(|_| Ok(()))),
            // It is the fault of one stream, which the lane finds.
            Err(_) if jobs.len() > 1 => (),
            Err(error) => results.push(Err(error)),
        }
    }
}

/// See the [module](self).
pub(super) struct Lanes {
    lanes: Vec<EncoderLane>,
    threads: usize,
    max_batch: usize,
}

struct EncoderLane {
    lane: Lane<BatchExecutor>,
    streams: Arc<AtomicUsize>,
}

/// Where a stream submits its steps. It counts as a stream of the lane until it is dropped.
pub(in crate::model::encoder) struct LaneHandle {
    pub(in crate::model::encoder) submitter: Submitter<BatchExecutor>,
    streams: Arc<AtomicUsize>,
}

impl Drop for LaneHandle {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    /// Lanes for a program whose steps take `threads` threads. Logs if they get fewer than requested.
    ///
    /// # Errors
    /// The program is invalid, or threads cannot be started.
    pub(super) fn new(
        linked: &LinkedProgram,
        threads: usize,
        parts: &EncoderParts<'_>,
        target: &Target,
    ) -> Result<Self> {
        let max_batch = target.max_batch.unwrap_or(MAX_ROWS / parts.chunk).max(1);
        let lane = |(threads, processors): (usize, Option<Vec<usize>>)| {
            let pin = move || {
                if let Some(processors) = &processors {
                    processors::pin_thread(processors);
                }
            };
            let workers = WorkerThreads::new(threads - 1, pin);
            let executor = BatchExecutor {
                program: linked.program(threads).map_err(|error| super::invalid(&error))?,
                workers: workers.map_err(|error| Error::OutOfMemory {
                    doing: "start threads".into(),
                    reason: error.to_string(),
                })?,
            };
            let limits = Limits {
                max_batch,
                max_submitters: MAX_STREAMS,
            };
            Ok(EncoderLane {
                lane: Lane::new(executor, limits),
                streams: Arc::default(),
            })
        };
        let is_requested = target.threads > 0;
        let plan = plan(threads.max(1), is_requested, target.lanes);
        if let Some(line) = reduced(threads, is_requested, &plan) {
            log(LogLevel::Warning, &format!("{} {line}", parts.name));
        }
        Ok(Self {
            threads: plan.iter().map(|(threads, _)| *threads).max().unwrap_or(1),
            lanes: plan.into_iter().map(lane).collect::<Result<_>>()?,
            max_batch,
        })
    }

    /// Threads of a step in the largest lane.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Streams whose steps are computed at the same time at most.
    pub(super) fn parallel_streams(&self) -> usize {
        self.lanes.len() * self.max_batch
    }

    /// A place in the lane with the fewest streams.
    pub(super) fn handle(&self) -> Result<LaneHandle> {
        let full = || Error::OutOfMemory {
            doing: "create a stream".into(),
            reason: format!("a lane has at most {MAX_STREAMS} streams"),
        };
        let streams = |lane: &&EncoderLane| lane.streams.load(Ordering::Relaxed);
        let lane = self.lanes.iter().min_by_key(streams).ok_or_else(full)?;
        let submitter = lane.lane.submitter().ok_or_else(full)?;
        lane.streams.fetch_add(1, Ordering::Relaxed);
        Ok(LaneHandle {
            submitter,
            streams: lane.streams.clone(),
        })
    }

    /// Streams of all lanes.
    pub(super) fn streams(&self) -> usize {
        self.lanes.iter().map(|lane| lane.streams.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn metrics(&self) -> Vec<LaneMetrics> {
        self.lanes.iter().map(|lane| lane.lane.metrics()).collect()
    }
}

/// Threads of a lane, and the processors that they run on; `None`: any processors.
type LanePlan = (usize, Option<Vec<usize>>);

/// The lanes for steps that take `threads` threads. Whether that many were requested, and how many `lanes`, are options.
///
/// A step of a large graph is a team's: it has a lane for each group of processors that share a cache, because a team that
/// spans several spends its time on moving data between them. A small graph runs on one thread, with a lane for each core.
fn plan(threads: usize, is_requested: bool, lanes: Option<usize>) -> Vec<LanePlan> {
    match (lanes, is_requested) {
        (Some(count), _) => vec![(threads, None); count.max(1)],
        (None, _) if threads == 1 => vec![(1, None); processors::cores()],
        // Hardware threads of a core are used only on request: they share what a step is bound by.
        (None, false) => plan_groups(
            threads,
            processors::cache_groups(),
            |group| group.cores,
            processors::cores(),
        ),
        (None, true) => {
            let size = |group: &CacheGroup| group.processors.len();
            plan_groups(threads, processors::cache_groups(), size, processors::usable())
        }
    }
}

/// Lanes for groups of processors that share a cache, each with room for `size` threads, if `usable` threads can run at the
/// same time: a quota may allow fewer than there are processors. Small groups, which a quota has least use of, come last.
fn plan_groups(
    threads: usize,
    mut groups: Vec<CacheGroup>,
    size: impl Fn(&CacheGroup) -> usize,
    usable: usize,
) -> Vec<LanePlan> {
    groups.sort_by_key(|group| std::cmp::Reverse(size(group)));
    let mut free = usable;
    let mut lanes = Vec::new();
    for group in groups {
        let threads = threads.min(size(&group));
        if lanes.is_empty() || threads <= free {
            free = free.saturating_sub(threads);
            lanes.push((threads, Some(group.processors)));
        }
    }
    match lanes.len() {
        // There is nothing to keep apart.
        0 | 1 => vec![(threads, None)],
        _ => lanes,
    }
}

/// What to log if lanes have fewer threads than were requested.
fn reduced(threads: usize, is_requested: bool, plan: &[LanePlan]) -> Option<String> {
    let fewest = plan.iter().map(|(threads, _)| *threads).min()?;
    (is_requested && fewest < threads).then(|| {
        let lanes = plan.len();
        format!(
            "runs in {lanes} lanes with {fewest} or more of {threads} threads each: a lane has the processors that share a \
             cache, unless a number of lanes is set"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processors of cores with two hardware threads, or with one.
    fn group(first: usize, count: usize, threads_per_core: usize) -> CacheGroup {
        CacheGroup {
            processors: (first..first + count).collect(),
            cores: count / threads_per_core,
        }
    }

    /// Threads of each lane, and whether they are pinned.
    fn threads_of(plan: Vec<LanePlan>) -> Vec<(usize, bool)> {
        let threads = plan.into_iter();
        threads
            .map(|(threads, processors)| (threads, processors.is_some()))
            .collect()
    }

    #[test]
    fn hardware_threads_are_used_on_request() {
        // Two caches of four cores with two hardware threads each.
        let groups = || vec![group(0, 8, 2), group(8, 8, 2)];
        let by_cores = |threads, cores| threads_of(plan_groups(threads, groups(), |group| group.cores, cores));
        let by_processors =
            |threads, usable| threads_of(plan_groups(threads, groups(), |group| group.processors.len(), usable));
        assert_eq!(by_cores(8, 8), [(4, true); 2]);
        // A quota, and a limited affinity.
        assert_eq!(by_cores(4, 4), [(4, false)]);
        assert_eq!(by_processors(8, 16), [(8, true); 2]);
        assert_eq!(by_processors(2, 16), [(2, true); 2]);
    }

    #[test]
    fn fewer_threads_than_requested_are_logged() {
        let plan = |threads| plan_groups(threads, vec![group(0, 4, 1), group(4, 2, 1)], |group| group.cores, 6);
        assert_eq!(reduced(2, true, &plan(2)), None);
        let line = reduced(4, true, &plan(4)).unwrap();
        assert!(line.contains("2 lanes with 2 or more of 4 threads"), "{line}");
        assert_eq!(reduced(4, false, &plan(4)), None);
    }

    #[test]
    fn lanes_have_the_processors_of_a_cache() {
        let group = |first: usize, count: usize| group(first, count, 1);
        let threads = |threads, groups: &[CacheGroup], usable| {
            threads_of(plan_groups(threads, groups.to_vec(), |group| group.cores, usable))
        };
        let eight = [group(0, 8), group(8, 8), group(16, 8)];
        assert_eq!(threads(8, &eight, 24), [(8, true); 3]);
        // A quota of two processors is one lane.
        assert_eq!(threads(2, &eight, 2), [(2, false)]);
        assert_eq!(threads(8, &eight, 16), [(8, true); 2]);
        // Groups of different sizes: no more threads than processors.
        assert_eq!(threads(8, &[group(8, 1), group(0, 8)], 9), [(8, true), (1, true)]);
        assert_eq!(threads(8, &[group(0, 4), group(4, 4)], 8), [(4, true); 2]);
        assert_eq!(threads(2, &[group(0, 2)], 2), [(2, false)]);
        assert_eq!(threads(2, &[], 2), [(2, false)]);
        assert_eq!(plan(3, false, Some(5)), vec![(3, None); 5]);
        assert_eq!(plan(1, false, None).len(), processors::cores());
    }
}
