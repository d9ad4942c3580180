// SPDX-License-Identifier: MIT OR Apache-2.0

//! A running stream does not allocate: samples, frames, windows and steps use what was allocated at its start.
//!
//! `ort` itself allocates a little at each run, for the list of outputs that it returns (`SessionOutputs`): the same
//! amount for a run of any length. `model/encoder/state.rs` tests that a step allocates no more than its run.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

mod common;

use allocation_counter::measure;
use common::{model_path, options};
use nemostt::{DecoderKind, GraphOptimization, Options, Recognizer, Snapshot, Stream};

fn stream(decoder: DecoderKind, lookahead: usize, optimization: GraphOptimization) -> Stream {
    let options = Options {
        graph_optimization: optimization,
        ..options(lookahead, decoder)
    };
    Recognizer::load(model_path("trained"), &options)
        .unwrap()
        .stream()
        .unwrap()
}

/// Allocations while a running stream processes 20 chunks of near silence, 10 ms at a time: one count for each call
/// that completes a window, and the total for all others.
fn counts(mut stream: Stream, lookahead: usize) -> (Vec<u64>, u64) {
    let frame: Vec<f32> = (0..160).map(|i| if i % 2 == 0 { 1e-4 } else { -1e-4 }).collect();
    let chunk = 8 * (lookahead + 1);
    // Until the cache is full, its length and the masks change.
    let mut cached = None;
    while cached.replace(stream.cache_len()) != Some(stream.cache_len()) {
        for _ in 0..10 * chunk {
            stream.accept(&frame).unwrap();
        }
    }
    while stream.next_event().is_some() {}
    let (mut runs, mut others) = (Vec::new(), 0);
    for _ in 0..20 * chunk {
        let mut steps = 0;
        let mut count = |_: &nemostt::chunker::Window<'_>, _: &[f32]| steps += 1;
        let allocated = measure(|| stream.accept_observed(&frame, &mut count).unwrap()).count_total;
        match steps {
            0 => others += allocated,
            _ => runs.push(allocated),
        }
        assert!(stream.next_event().is_none(), "silence must not be decoded as speech");
    }
    (runs, others)
}

#[test]
fn streaming_allocates_only_in_ort_runs() {
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        for optimization in [GraphOptimization::All, GraphOptimization::None] {
            let seen = [0, 1, 13].map(|lookahead| counts(stream(decoder, lookahead, optimization), lookahead));
            let one_run = seen[0].0[0];
            for (runs, others) in seen {
                assert_eq!(others, 0, "{decoder:?}, {optimization:?}: between windows");
                assert_eq!(runs, [one_run; 20], "{decoder:?}, {optimization:?}: in a window");
            }
        }
    }
}

#[test]
fn snapshot_allocates_once() {
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        for optimization in [GraphOptimization::All, GraphOptimization::None] {
            let mut stream = stream(decoder, 1, optimization);
            let mut snapshot = Snapshot::default();
            let first = measure(|| stream.save(&mut snapshot));
            println!("{decoder:?}, {optimization:?}: {} bytes", first.bytes_current);
            // It also contains audio that waits for a complete window: at most one window.
            let samples = [0.0; 399];
            for _ in 0..40 {
                stream.accept(&samples).unwrap();
                stream.save(&mut snapshot);
            }
            for _ in 0..40 {
                stream.accept(&samples).unwrap();
                assert_eq!(measure(|| stream.save(&mut snapshot)).count_total, 0);
                stream.accept(&samples).unwrap();
                assert_eq!(measure(|| stream.restore(&snapshot).unwrap()).count_total, 0);
            }
        }
    }
}

#[test]
fn measure_counts_allocations() {
    assert!(measure(|| drop(vec![0_u8; 100])).count_total > 0);
}
