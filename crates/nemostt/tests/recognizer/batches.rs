// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams that run at the same time get, bit for bit, what each of them gets alone, whoever runs beside them.

use std::{collections::VecDeque, sync::Barrier, thread, time::Duration};

use crate::common::{clip, model_path, options};
use nemostt::{DecoderKind, EndReason, Event, Options, Recognizer, Snapshot, Stream, StreamClass, chunker::Window};

/// Deterministic choices.
pub(super) struct Choices(pub(super) u64);

impl Choices {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }
}

/// Everything that can be observed of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Observed {
    /// Outputs of the encoder, as bits.
    pub(crate) outputs: Vec<u32>,
    pub(crate) events: Vec<Event>,
}

impl Observed {
    fn take(&mut self, stream: &mut Stream) {
        self.events.extend(std::iter::from_fn(|| stream.next_event()));
    }
}

/// A life of a stream: audio in pieces of any size, ends, flushes, snapshots, other streams after it.
pub(crate) fn live(recognizer: &Recognizer, speech: &[f32], seed: u64, steps: usize) -> Observed {
    let mut choices = Choices(seed);
    let mut observed = Observed::default();
    let mut stream = recognizer.stream().unwrap();
    let mut snapshots: VecDeque<Snapshot> = VecDeque::new();
    let mut position = choices.below(speech.len());
    let languages = recognizer.config().languages.as_ref();
    let languages = languages.map(nemostt::Languages::codes).unwrap_or_default();
    for _ in 0..steps {
        match choices.below(20) {
            0 => {
                stream.finish(choices.below(3000) as u64).unwrap();
                observed.take(&mut stream);
                stream.reset();
            }
            1 => stream.reset(),
            2 => {
                drop(stream);
                stream = recognizer.stream().unwrap();
            }
            3 => {
                let mut snapshot = Snapshot::default();
                stream.save(&mut snapshot);
                snapshots.push_back(snapshot);
            }
            4 if !snapshots.is_empty() => {
                let index = choices.below(snapshots.len());
                stream.restore(&snapshots[index]).unwrap();
                snapshots.truncate(3);
            }
            5 => {
                let class = [StreamClass::Live, StreamClass::File][choices.below(2)];
                stream.set_class(class);
            }
            6 if !languages.is_empty() => {
                let language = choices.below(languages.len());
                stream.set_language(&languages[language]).unwrap();
            }
            _ => {
                let length = [1, 160, 1600, 3000, 20_000][choices.below(5)];
                let end = speech.len().min(position + length);
                let mut keep = |_: &Window<'_>, outputs: &[f32]| {
                    observed.outputs.extend(outputs.iter().map(|value| value.to_bits()));
                };
                stream.accept_observed(&speech[position..end], &mut keep).unwrap();
                position = end % speech.len();
            }
        }
        observed.take(&mut stream);
    }
    stream.finish_with_reason(EndReason::Request, 0).unwrap();
    observed.take(&mut stream);
    observed
}

pub(crate) fn load(
    model: &str,
    decoder: DecoderKind,
    lookahead: usize,
    change: impl FnOnce(&mut Options),
) -> Recognizer {
    let mut options = options(lookahead, decoder);
    change(&mut options);
    Recognizer::load(model_path(model), &options).unwrap()
}

/// Streams that live at the same time, and what each of them would observe alone.
fn check(recognizer: &Recognizer, streams: u64, steps: usize) {
    check_with(recognizer, streams, steps, |alone, together| {
        assert!(alone == together, "it differs");
    });
}

/// As [`check`]; `compare` gets what a stream observes alone, and together with others.
pub(crate) fn check_with(recognizer: &Recognizer, streams: u64, steps: usize, compare: impl Fn(&Observed, &Observed)) {
    let speech = clip("u3_long");
    let alone: Vec<Observed> = (0..streams)
        .map(|seed| live(recognizer, &speech, seed, steps))
        .collect();
    let before = recognizer.metrics();
    let barrier = Barrier::new(streams as usize);
    let together: Vec<Observed> = thread::scope(|scope| {
        let start = |seed: u64| {
            let (barrier, speech) = (&barrier, &speech);
            scope.spawn(move || {
                barrier.wait();
                live(recognizer, speech, seed, steps)
            })
        };
        let threads: Vec<_> = (0..streams).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (alone, together) in alone.iter().zip(&together) {
        assert!(!alone.outputs.is_empty());
        compare(alone, together);
    }
    assert!(alone.iter().any(|alone| !alone.events.is_empty()));
    let after = recognizer.metrics();
    if recognizer.parallel_streams() > recognizer.metrics().lanes.len() {
        let sizes = after.lanes.iter().flat_map(|lane| lane.batch_sizes.iter().skip(1));
        assert!(
            sizes.sum::<u64>() > 0,
            "no batch has been formed: {before:?}, {after:?}"
        );
    }
    assert_eq!(after.streams, 0);
    // Also with a lane that takes one at a time. Encoders that run in sessions have no slots, and no queue.
    let (total, has_queue) = (after.total(), after.bytes_per_stream > 0);
    assert_eq!(total.step_time.count(), total.batches);
    assert_eq!(total.queue_delay.count(), if has_queue { total.jobs } else { 0 });
    assert!(total.step_time.max() > Duration::ZERO);
    assert!(
        after
            .lanes
            .iter()
            .all(|lane| lane.pending == 0 && lane.failed_batches == 0)
    );
}

#[test]
fn streams_do_not_depend_on_each_other() {
    for (model, decoder, lookahead) in [
        ("trained", DecoderKind::Rnnt, 1),
        ("tiny_random", DecoderKind::Ctc, 0),
        ("tiny_random", DecoderKind::Rnnt, 13),
        ("nemotron_shape", DecoderKind::Rnnt, 1),
    ] {
        let recognizer = load(model, decoder, lookahead, |options| {
            options.threads = 2;
            options.lanes = Some(1);
        });
        check(&recognizer, 8, 40);
    }
}

/// More lanes than this machine may have cores, and batches that are too small for all streams.
#[test]
fn lanes_and_limits_do_not_change_results() {
    for (lanes, max_batch, threads) in [(5, 2, 1), (2, 3, 3), (1, 1, 2)] {
        let recognizer = load("tiny_random", DecoderKind::Ctc, 1, |options| {
            options.lanes = Some(lanes);
            options.max_batch = Some(max_batch);
            options.threads = threads;
        });
        check(&recognizer, 9, 30);
        let metrics = recognizer.metrics();
        if recognizer.parallel_streams() > 1 {
            assert_eq!(metrics.lanes.len(), lanes);
            assert!(metrics.lanes.iter().all(|lane| lane.jobs > 0), "{metrics:?}");
        }
        assert!(metrics.lanes.iter().all(|lane| lane.batch_sizes.len() <= max_batch));
    }
}

/// Slots of streams that have ended are reused, and have nothing of them.
#[test]
fn streams_that_come_and_go_need_no_memory() {
    let recognizer = load("tiny_random", DecoderKind::Ctc, 1, |_| ());
    let speech = clip("u3_long");
    let first = live(&recognizer, &speech, 3, 20);
    for seed in 0..200 {
        live(&recognizer, &speech, seed, 3);
    }
    assert!(live(&recognizer, &speech, 3, 20) == first);
    let metrics = recognizer.metrics();
    assert_eq!(metrics.streams, 0);
    if recognizer.parallel_streams() > 1 {
        // Six layers of keys and values of 70 frames, and a few small tensors.
        let caches = recognizer.config().streaming.layers * 2 * 70 * recognizer.config().streaming.d_model * 4;
        assert!((caches..2 * caches).contains(&metrics.bytes_per_stream), "{metrics:?}");
    }
}
