// SPDX-License-Identifier: MIT OR Apache-2.0

//! Snapshots: a restored stream continues as if nothing had happened in between, bit for bit.

use crate::common::{LOOKAHEADS, MODELS, clip, data, model_path, options, recognizer};
use nemostt::{
    DecoderKind, EndpointConfig, Error, Event, GraphOptimization, Options, PrecisionChoice, Recognizer, Snapshot,
    Stream, chunker::Window,
};

const DECODERS: [DecoderKind; 2] = [DecoderKind::Rnnt, DecoderKind::Ctc];

/// Samples at which a clip of 7.5 s is interrupted: at its start, before the first mel frame, before the first window
/// is full at any lookahead, around the first steps at each of them, while the attention cache (5.6 s) fills, and when
/// it is full.
const CUTS: [usize; 10] = [0, 1, 403, 1_801, 16_703, 17_011, 34_567, 35_893, 77_777, 104_729];

const PAUSES: EndpointConfig = EndpointConfig {
    word: Some(3),
    utterance: Some(6),
    partials: true,
    partial_stability: 0,
    phrase: None,
    min_word: 2_000,
    emits_words: true,
    longest_word: Some(12),
    max_utterance: Some(64_000),
    max_utterance_chars: Some(30),
};

/// All observable results of a stream: its windows with the encoder's output, as bits, and its events.
#[derive(Default, PartialEq)]
struct Observed {
    windows: Vec<(usize, usize, Vec<u32>, Vec<u32>)>,
    events: Vec<Event>,
}

impl Observed {
    fn accept(&mut self, stream: &mut Stream, samples: &[f32]) {
        stream
            .accept_observed(samples, &mut |window, outputs| self.note(window, outputs))
            .unwrap();
    }

    fn finish(&mut self, stream: &mut Stream) {
        // This much silence leaves one mel frame of `u3_long` for the end of the stream.
        stream
            .finish_observed(900, &mut |window, outputs| self.note(window, outputs))
            .unwrap();
        self.take(stream);
    }

    fn take(&mut self, stream: &mut Stream) {
        self.events.extend(std::iter::from_fn(|| stream.next_event()));
    }

    fn note(&mut self, window: &Window<'_>, outputs: &[f32]) {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
        self.windows
            .push((window.drop_frames, window.outputs, bits(window.frames), bits(outputs)));
    }

    /// The results of a stream that is not interrupted.
    fn whole(recognizer: &Recognizer, samples: &[f32]) -> Self {
        let (mut stream, mut observed) = (recognizer.stream().unwrap(), Self::default());
        stream.set_endpoint_config(PAUSES);
        observed.accept(&mut stream, samples);
        observed.finish(&mut stream);
        observed
    }

    fn assert_is(&self, expected: &Self, case: &str) {
        assert_eq!(self.windows.len(), expected.windows.len(), "{case}");
        for (number, (window, expected)) in self.windows.iter().zip(&expected.windows).enumerate() {
            assert!(window == expected, "{case}: window {number}");
        }
        assert_eq!(self.events, expected.events, "{case}");
    }
}

fn load(model: &str, options: Options) -> Recognizer {
    Recognizer::load(model_path(model), &options).unwrap()
}

/// Changes all state of a stream, with speech, 3 s of noise, the end of the stream and other settings. `steps` varies
/// the number of windows, so that double buffers are tested in both states.
fn disturb(stream: &mut Stream, steps: usize) {
    stream.set_endpoint_config(EndpointConfig {
        word: None,
        utterance: Some(1),
        ..Default::default()
    });
    stream.accept(&clip("u4_heldvoice")).unwrap();
    stream.accept(&vec![0.25; steps * 20_483]).unwrap();
    stream.accept(&clip("e4_noise3s")).unwrap();
    stream.finish(0).unwrap();
    while stream.next_event().is_some() {}
}

/// Everything that can be queried from a stream.
fn counters(stream: &Stream) -> (u64, u64, u64, i64) {
    let (stable_until, utterance) = (stream.stable_until(), stream.utterance_stable_until());
    (stream.samples(), stable_until, utterance, stream.cache_len())
}

/// Interrupts one stream at all `cuts`.
fn assert_restores(recognizer: &Recognizer, cuts: &[usize], case: &str) {
    let samples = clip("u3_long");
    let expected = Observed::whole(recognizer, &samples);
    assert!(!expected.windows.is_empty(), "{case}");
    let (mut stream, mut observed) = (recognizer.stream().unwrap(), Observed::default());
    stream.set_endpoint_config(PAUSES);
    let mut snapshot = Snapshot::default();
    let mut from = 0;
    for (number, &cut) in cuts.iter().enumerate() {
        observed.accept(&mut stream, &samples[from..cut]);
        from = cut;
        // At every other cut, events are left in the stream.
        if number % 2 == 0 {
            observed.take(&mut stream);
        }
        let before = counters(&stream);
        stream.save(&mut snapshot);
        disturb(&mut stream, number % 3);
        stream.restore(&snapshot).unwrap();
        assert_eq!(counters(&stream), before, "{case}: cut {cut}");
    }
    observed.accept(&mut stream, &samples[from..]);
    observed.finish(&mut stream);
    observed.assert_is(&expected, case);
}

fn assert_all_restore(optimization: GraphOptimization) {
    for model in MODELS {
        for decoder in DECODERS {
            for lookahead in LOOKAHEADS {
                let recognizer = load(
                    model,
                    Options {
                        graph_optimization: optimization,
                        ..options(lookahead, decoder)
                    },
                );
                let case = format!("{model}, {decoder:?}, lookahead {lookahead}, {optimization:?}");
                assert_restores(&recognizer, &CUTS, &case);
            }
        }
    }
}

#[test]
fn restore_is_exact_with_specialized_graphs() {
    assert_all_restore(GraphOptimization::All);
}

#[test]
fn restore_is_exact_with_exported_graphs() {
    assert_all_restore(GraphOptimization::None);
}

#[test]
fn restore_is_exact_in_int8() {
    for decoder in DECODERS {
        for lookahead in [0, 13] {
            let recognizer = load(
                "trained",
                Options {
                    precision: PrecisionChoice::Int8,
                    ..options(lookahead, decoder)
                },
            );
            assert_restores(&recognizer, &CUTS, &format!("{decoder:?}, lookahead {lookahead}, int8"));
        }
    }
}

/// At each of these cuts a chunk is about to end or has just ended, so the decoder's state is that of a recent token.
#[test]
fn restore_is_exact_around_every_chunk() {
    for decoder in DECODERS {
        for model in MODELS {
            let cuts: Vec<usize> = (0..40).map(|chunk| 1_280 * chunk + 199 + chunk % 2).collect();
            let case = format!("{model}, {decoder:?}, around chunks");
            assert_restores(&recognizer(model, 0, decoder), &cuts, &case);
        }
    }
}

#[test]
fn save_does_not_change_the_stream() {
    let recognizer = recognizer("trained", 1, DecoderKind::Rnnt);
    let samples = clip("u3_long");
    let expected = Observed::whole(&recognizer, &samples);
    let (mut stream, mut observed) = (recognizer.stream().unwrap(), Observed::default());
    stream.set_endpoint_config(PAUSES);
    let mut snapshot = Snapshot::default();
    for block in samples.chunks(3_001) {
        observed.accept(&mut stream, block);
        stream.save(&mut snapshot);
    }
    observed.finish(&mut stream);
    observed.assert_is(&expected, "saved repeatedly");
}

#[test]
fn restore_works_across_streams_and_repeatedly() {
    for decoder in DECODERS {
        for optimization in [GraphOptimization::All, GraphOptimization::None] {
            let recognizer = load(
                "tiny_random",
                Options {
                    graph_optimization: optimization,
                    ..options(1, decoder)
                },
            );
            let samples = clip("u3_long");
            let expected = Observed::whole(&recognizer, &samples);
            for cut in [0, 1_801, 34_567, 104_729] {
                let case = format!("{decoder:?}, {optimization:?}, cut {cut}");
                let [mut first, mut second] = [0, 1].map(|_| recognizer.stream().unwrap());
                let mut before = Observed::default();
                first.set_endpoint_config(PAUSES);
                before.accept(&mut first, &samples[..cut]);
                let mut snapshot = Snapshot::default();
                first.save(&mut snapshot);
                disturb(&mut second, 1);
                // Restore into another stream twice, then into the original one.
                for (turn, stream) in [0, 0, 1].into_iter().enumerate() {
                    let stream = if stream == 0 { &mut second } else { &mut first };
                    stream.restore(&snapshot).unwrap();
                    let mut observed = Observed {
                        windows: before.windows.clone(),
                        events: Vec::new(),
                    };
                    observed.accept(stream, &samples[cut..]);
                    observed.finish(stream);
                    observed.assert_is(&expected, &format!("{case}, turn {turn}"));
                }
            }
        }
    }
}

#[test]
fn restore_restores_the_finished_state() {
    let recognizer = recognizer("tiny_random", 1, DecoderKind::Ctc);
    let mut stream = recognizer.stream().unwrap();
    let [mut open, mut finished] = [0, 1].map(|_| Snapshot::default());
    stream.accept(&clip("u1_command")).unwrap();
    stream.save(&mut open);
    stream.finish(0).unwrap();
    stream.save(&mut finished);
    let events: Vec<Event> = std::iter::from_fn(|| stream.next_event()).collect();
    assert!(matches!(events.last(), Some(Event::Utterance(_))));

    stream.restore(&open).unwrap();
    stream.accept(&[0.0]).unwrap();
    stream.restore(&finished).unwrap();
    assert!(matches!(stream.accept(&[0.0]), Err(Error::Finished)));
    assert_eq!(
        events,
        std::iter::from_fn(|| stream.next_event()).collect::<Vec<Event>>()
    );
    // A reset does not touch a snapshot.
    stream.reset();
    stream.restore(&finished).unwrap();
    assert_eq!(stream.next_event(), events.first().cloned());
}

#[test]
fn restore_restores_the_language() {
    let recognizer = Recognizer::load(data("kinds/nemotron_multi"), &options(1, DecoderKind::Rnnt)).unwrap();
    let samples = clip("u2_digits");
    let transcribe = |interrupt: &dyn Fn(&mut Stream)| {
        let (mut stream, mut observed) = (recognizer.stream().unwrap(), Observed::default());
        stream.set_language("de-DE").unwrap();
        observed.accept(&mut stream, &samples[..30_001]);
        interrupt(&mut stream);
        observed.accept(&mut stream, &samples[30_001..]);
        observed.finish(&mut stream);
        observed
    };
    let expected = transcribe(&|_| {});
    assert!(transcribe(&|stream| stream.set_language("en-US").unwrap()) != expected);
    let restored = transcribe(&|stream| {
        let mut snapshot = Snapshot::default();
        stream.save(&mut snapshot);
        stream.set_language("en-US").unwrap();
        disturb(stream, 1);
        stream.restore(&snapshot).unwrap();
    });
    restored.assert_is(&expected, "another language in between");
}

#[test]
fn restore_rejects_snapshots_of_other_models() {
    let own = recognizer("trained", 1, DecoderKind::Rnnt);
    let samples = clip("u1_command");
    let expected = Observed::whole(&own, &samples);
    let mut snapshots = vec![Snapshot::default()];
    // Other tensors, another decoder, another lookahead, and the same files loaded again.
    for (model, lookahead, decoder) in [
        ("tiny_random", 1, DecoderKind::Rnnt),
        ("trained", 1, DecoderKind::Ctc),
        ("trained", 13, DecoderKind::Rnnt),
        ("trained", 1, DecoderKind::Rnnt),
    ] {
        let other = recognizer(model, lookahead, decoder);
        let mut stream = other.stream().unwrap();
        stream.accept(&samples).unwrap();
        let mut snapshot = Snapshot::default();
        stream.save(&mut snapshot);
        snapshots.push(snapshot);
        // The snapshot does not keep its model alive, and the next model may get the same address.
        let weak = other.downgrade();
        drop((stream, other));
        assert!(weak.upgrade().is_none());
    }
    let (mut stream, mut observed) = (own.stream().unwrap(), Observed::default());
    stream.set_endpoint_config(PAUSES);
    for (block, snapshot) in samples.chunks(samples.len().div_ceil(snapshots.len())).zip(&snapshots) {
        observed.accept(&mut stream, block);
        let error = stream.restore(snapshot).unwrap_err();
        assert!(matches!(error, Error::OtherSnapshot), "{error}");
    }
    observed.finish(&mut stream);
    observed.assert_is(&expected, "after rejected snapshots");
}

#[test]
fn snapshot_is_send_and_sync() {
    fn send_sync<T: Send + Sync>() {}
    send_sync::<Snapshot>();
}
