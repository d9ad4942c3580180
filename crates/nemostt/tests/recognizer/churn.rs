// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams join and leave, fail and die among others that run all the time. Those that nothing interrupts get, bit for bit,
//! what they get alone, and nothing is left behind.
//!
//! `NEMOSTT_CHURN=100000` sets the number of streams in a round, `NEMOSTT_CHURN_SEED` the first of their seeds. This runs in
//! a process of its own, in which nothing else starts threads or allocates.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::Command,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::batches::Choices;
use crate::common::{clip, model_path, options};
use nemostt::{DecoderKind, Error, Event, Recognizer, Snapshot, Stream, StreamClass, chunker::Window};
use nemostt_kernels::executor::{Fault, with_fault};

/// Streams that run all the time.
const RUNNERS: usize = 32;

/// Threads with streams that come and go.
const CHURNERS: usize = 12;

/// Slots that an engine keeps for streams to come when there is none.
const SPARE_SLOTS: usize = 4;

/// Growth of memory in a round that repeats the one before. The buffers of a lane grow until its largest possible batch has
/// run, which may be later; a stream that leaked a kilobyte would exceed it.
const GROWTH: usize = 1 << 20;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// What a stream has seen of a clip.
#[derive(Debug, Default, PartialEq)]
struct Observed {
    /// Outputs of the encoder, as bits.
    outputs: Vec<u32>,
    events: Vec<Event>,
}

impl Observed {
    fn accept(&mut self, stream: &mut Stream, samples: &[f32]) {
        let mut keep = |_: &Window<'_>, outputs: &[f32]| {
            self.outputs.extend(outputs.iter().map(|value| value.to_bits()));
        };
        stream.accept_observed(samples, &mut keep).unwrap();
        self.events.extend(std::iter::from_fn(|| stream.next_event()));
    }

    fn finish(&mut self, stream: &mut Stream) {
        let mut keep = |_: &Window<'_>, outputs: &[f32]| {
            self.outputs.extend(outputs.iter().map(|value| value.to_bits()));
        };
        stream.finish_observed(0, &mut keep).unwrap();
        self.events.extend(std::iter::from_fn(|| stream.next_event()));
        stream.reset();
    }
}

struct Clip {
    samples: Vec<f32>,
    alone: Observed,
}

impl Clip {
    fn new(name: &str, recognizer: &Recognizer) -> Self {
        let samples = clip(name);
        let (mut alone, mut stream) = (Observed::default(), recognizer.stream().unwrap());
        alone.accept(&mut stream, &samples);
        alone.finish(&mut stream);
        assert!(
            alone.events.iter().any(|event| matches!(event, Event::Word(_))),
            "{name}"
        );
        Self { samples, alone }
    }
}

struct Churn {
    recognizer: Recognizer,
    clips: Vec<Clip>,
    streams: usize,
    seed: usize,
    /// Streams that have come and gone in this round.
    gone: AtomicUsize,
}

impl Churn {
    /// One of the streams that run all the time: transcribes clips while others come and go.
    fn run(&self, runner: usize, stream: &mut Stream) {
        const PIECE: usize = 1600;
        let mine = || (0..2).map(|index| &self.clips[(runner + index) % self.clips.len()]);
        let pieces: usize = mine().map(|clip| clip.samples.len().div_ceil(PIECE)).sum();
        let mut done = 0;
        for clip in mine() {
            let mut observed = Observed::default();
            for piece in clip.samples.chunks(PIECE) {
                // As long as the others take.
                while self.gone.load(Ordering::Relaxed) < done * self.streams / pieces {
                    thread::sleep(Duration::from_micros(200));
                }
                observed.accept(stream, piece);
                done += 1;
            }
            observed.finish(stream);
            assert!(observed == clip.alone, "stream {runner} differs from what it is alone");
        }
    }

    /// Streams that come and go, one after the other.
    fn churn(&self, churner: usize) {
        let mut snapshots = Vec::new();
        for index in (churner..self.streams).step_by(CHURNERS) {
            let seed = self.seed + index;
            let live = AssertUnwindSafe(|| self.live(&mut Choices(seed as u64), &mut snapshots));
            if let Err(panic) = catch_unwind(live) {
                println!("the stream with seed {seed} has failed");
                // So that those that run all the time end.
                self.gone.store(usize::MAX / 2, Ordering::Relaxed);
                resume_unwind(panic);
            }
            self.gone.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A short life of a stream.
    fn live(&self, choices: &mut Choices, snapshots: &mut Vec<Snapshot>) {
        let mut stream = self.recognizer.stream().unwrap();
        stream.set_class([StreamClass::Live, StreamClass::File][choices.below(2)]);
        if choices.below(10) == 0 {
            // Nothing happens to this one.
            let (clip, mut observed) = (&self.clips[0], Observed::default());
            observed.accept(&mut stream, &clip.samples);
            observed.finish(&mut stream);
            assert!(observed == clip.alone);
            return;
        }
        for _ in 0..=choices.below(5) {
            let clip = &self.clips[choices.below(self.clips.len())].samples;
            // At least one window, and in the middle of the next one.
            let length = 3_000 + choices.below(6_000);
            let start = choices.below(clip.len() - length);
            let audio = &clip[start..start + length];
            match choices.below(10) {
                0 => {
                    stream.accept(audio).unwrap();
                    stream.finish(choices.below(3_000) as u64).unwrap();
                    stream.reset();
                }
                1 => stream.reset(),
                2 => {
                    let mut snapshot = Snapshot::default();
                    stream.save(&mut snapshot);
                    snapshots.truncate(2);
                    snapshots.push(snapshot);
                }
                3 if !snapshots.is_empty() => stream.restore(&snapshots[choices.below(snapshots.len())]).unwrap(),
                4 => {
                    let extreme = [f32::NAN, f32::INFINITY, -1e38, 1e-42, -Stream::MAX_SAMPLE][choices.below(5)];
                    match stream.accept(&vec![extreme; length]) {
                        Ok(()) => assert!(Stream::is_valid_sample(extreme)),
                        result => assert!(
                            !Stream::is_valid_sample(extreme) && matches!(result, Err(Error::Sample { .. })),
                            "{extreme}: {result:?}"
                        ),
                    }
                }
                5 | 6 if self.recognizer.parallel_streams() > 1 => {
                    let fault = match choices.below(4) {
                        0 => Fault::Error,
                        _ => Fault::Panic {
                            task: choices.below(1 << 20),
                        },
                    };
                    with_fault(fault, || stream.accept(audio)).unwrap_err();
                    match (choices.below(3), snapshots.last()) {
                        (0, _) => return,
                        (1, Some(snapshot)) => stream.restore(snapshot).unwrap(),
                        _ => stream.reset(),
                    }
                }
                7 => {
                    // The thread of the stream dies.
                    let mut die = |_: &Window<'_>, _: &[f32]| resume_unwind(Box::new("expected"));
                    let accept = AssertUnwindSafe(|| stream.accept_observed(audio, &mut die));
                    catch_unwind(accept).unwrap_err();
                    return;
                }
                _ => stream.accept(audio).unwrap(),
            }
            while stream.next_event().is_some() {}
        }
    }

    /// A round of all streams, which leaves nothing behind.
    fn round(&self) {
        self.gone.store(0, Ordering::Relaxed);
        let threads = Threads::count();
        let mut runners: Vec<Stream> = (0..RUNNERS).map(|_| self.recognizer.stream().unwrap()).collect();
        let barrier = Barrier::new(RUNNERS + CHURNERS);
        thread::scope(|scope| {
            for (index, runner) in runners.iter_mut().enumerate() {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    self.run(index, runner);
                });
            }
            for churner in 0..CHURNERS {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    self.churn(churner);
                });
            }
        });
        let metrics = self.recognizer.metrics();
        if self.recognizer.parallel_streams() > 1 {
            assert_eq!(metrics.streams, RUNNERS);
            assert!(metrics.spare_slots <= SPARE_SLOTS + CHURNERS, "{metrics:?}");
        }
        // One after the other: each sees those that are left.
        runners.into_iter().for_each(drop);
        let metrics = self.recognizer.metrics();
        assert_eq!(metrics.streams, 0);
        assert!(metrics.spare_slots <= SPARE_SLOTS, "{metrics:?}");
        assert!(metrics.lanes.iter().all(|lane| lane.pending == 0));
        Threads::wait_for(threads);
    }
}

/// Threads of this process.
struct Threads;

impl Threads {
    fn names() -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name =
            |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
        tasks.filter_map(name).collect()
    }

    fn count() -> usize {
        Self::names().len()
    }

    /// A thread that was joined may still be listed for a moment.
    fn wait_for(count: usize) {
        for _ in 0..1_000 {
            if Self::count() <= count {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("there were {count} threads, and now: {:?}", Self::names());
    }
}

/// Bytes that are allocated, of all threads: the parent sets `MALLOC_ARENA_MAX=1`.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn allocated() -> usize {
    // SAFETY: it only reads the allocator's state, under its lock.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

#[cfg(not(target_env = "gnu"))]
fn allocated() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}

#[test]
#[ignore = "runs in a process of its own"]
fn child() {
    if !nemostt_kernels::gemm::is_supported() {
        println!("NOT TESTED on this processor: faults in operations");
    }
    let before = Threads::count();
    let mut options = options(1, DecoderKind::Rnnt);
    // More threads than this machine may have cores.
    options.threads = 2;
    options.lanes = Some(2);
    let recognizer = Recognizer::load(model_path("trained"), &options).unwrap();
    let clips = ["u1_command", "u2_digits", "u4_heldvoice", "u3_long"];
    let churn = Churn {
        clips: clips.iter().map(|name| Clip::new(name, &recognizer)).collect(),
        recognizer,
        streams: number("NEMOSTT_CHURN", 1_000) / 2,
        seed: number("NEMOSTT_CHURN_SEED", 1),
        gone: AtomicUsize::new(0),
    };
    println!("{} streams, seeds from {}", churn.streams, churn.seed);
    // The first one allocates what stays. The others are the same.
    churn.round();
    let after_first = allocated();
    churn.round();
    let after_second = allocated();
    println!("allocated: {after_first}, {after_second}");
    let metrics = churn.recognizer.metrics();
    println!("{metrics:?}");
    if churn.recognizer.parallel_streams() > 1 {
        let sum = |count: fn(&nemostt::LaneMetrics) -> u64| metrics.lanes.iter().map(count).sum::<u64>();
        // Streams have failed in batches and alone.
        assert!(sum(|lane| lane.failed_jobs) > 0 && sum(|lane| lane.retried_jobs) > sum(|lane| lane.failed_jobs));
        assert!(sum(|lane| lane.batches) < sum(|lane| lane.jobs));
    }
    assert!(
        after_second <= after_first + GROWTH,
        "{after_first}, then {after_second} bytes"
    );
    let lanes = Threads::names()
        .iter()
        .filter(|name| name.starts_with("nemostt-"))
        .count();
    assert!(lanes <= metrics.lanes.len(), "each lane has one helper at most");
    drop(churn);
    assert!(!Threads::names().iter().any(|name| name.starts_with("nemostt-")));
    println!("threads: {before} before, {} now", Threads::count());
    println!("complete");
}

#[test]
fn streams_come_and_go_among_others() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "churn::child",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    println!("{output}{}", String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && output.contains("complete"));
}
