// SPDX-License-Identifier: MIT OR Apache-2.0

//! Snapshots: a stream that is taken back goes on as if nothing had happened in between, to the last bit.

use crate::common::{LOOKAHEADS, MODELS, clip, data, model_path, options, recognizer};
use nemostt::{
    DecoderKind, EndpointConfig, Error, Event, GraphOptimization, Options, PrecisionChoice, Recognizer, Snapshot,
    Stream, chunker::Window,
};

const DECODERS: [DecoderKind; 2] = [DecoderKind::Rnnt, DecoderKind::Ctc];

/// Where a clip of 7.5 s is interrupted: at its start, before there is a mel frame, before the first window is full whatever the
/// lookahead, around the first steps of each of them, while the attention cache (5.6 s) fills and when it is full.
const CUTS: [usize; 10] = [0, 1, 403, 1_801, 16_703, 17_011, 34_567, 35_893, 77_777, 104_729];

const PAUSES: EndpointConfig = EndpointConfig {
    word: Some(3),
    utterance: Some(6),
    partials: true,
    min_word: 2_000,
    longest_word: Some(12),
    max_utterance: Some(64_000),
    max_utterance_chars: Some(30),
};

/// All that a stream shows: its windows with the encoder's output, as bits, and its events.
#[derive(Default, PartialEq)]
struct Shown {
    windows: Vec<(usize, usize, Vec<u32>, Vec<u32>)>,
    events: Vec<Event>,
}

impl Shown {
    fn accept(&mut self, stream: &mut Stream, samples: &[f32]) {
        stream
            .accept_observed(samples, &mut |window, outputs| self.note(window, outputs))
            .unwrap();
    }

    fn finish(&mut self, stream: &mut Stream) {
        // As much silence as leaves one mel frame of `u3_long` to the end of the stream.
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

    /// What a stream shows that is not interrupted.
    fn whole(recognizer: &Recognizer, samples: &[f32]) -> Self {
        let (mut stream, mut shown) = (recognizer.stream().unwrap(), Self::default());
        stream.set_endpoint_config(PAUSES);
        shown.accept(&mut stream, samples);
        shown.finish(&mut stream);
        shown
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

/// Speech and 3 s of noise, a stream's end and other pauses: nothing in the stream stays as it was. `steps` makes the number of
/// windows another one, so that what is read and written in turns is met in both states.
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

/// What can be asked of a stream.
fn numbers(stream: &Stream) -> (u64, u64, u64, i64) {
    let (settled, utterance) = (stream.stable_until(), stream.utterance_stable_until());
    (stream.samples(), settled, utterance, stream.cache_len())
}

/// Interrupts one stream at all `cuts`.
fn assert_goes_on(recognizer: &Recognizer, cuts: &[usize], case: &str) {
    let samples = clip("u3_long");
    let expected = Shown::whole(recognizer, &samples);
    assert!(!expected.windows.is_empty(), "{case}");
    let (mut stream, mut shown) = (recognizer.stream().unwrap(), Shown::default());
    stream.set_endpoint_config(PAUSES);
    let mut snapshot = Snapshot::default();
    let mut from = 0;
    for (number, &cut) in cuts.iter().enumerate() {
        shown.accept(&mut stream, &samples[from..cut]);
        from = cut;
        // Events wait at every other cut.
        if number % 2 == 0 {
            shown.take(&mut stream);
        }
        let before = numbers(&stream);
        stream.save(&mut snapshot);
        disturb(&mut stream, number % 3);
        stream.restore(&snapshot).unwrap();
        assert_eq!(numbers(&stream), before, "{case}: cut {cut}");
    }
    shown.accept(&mut stream, &samples[from..]);
    shown.finish(&mut stream);
    shown.assert_is(&expected, case);
}

fn assert_all_go_on(optimization: GraphOptimization) {
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
                assert_goes_on(&recognizer, &CUTS, &case);
            }
        }
    }
}

#[test]
fn restore_undoes_what_came_between_with_planned_graphs() {
    assert_all_go_on(GraphOptimization::All);
}

#[test]
fn restore_undoes_what_came_between_with_graphs_as_exported() {
    assert_all_go_on(GraphOptimization::None);
}

#[test]
fn restore_undoes_what_came_between_in_int8() {
    for decoder in DECODERS {
        for lookahead in [0, 13] {
            let recognizer = load(
                "trained",
                Options {
                    precision: PrecisionChoice::Int8,
                    ..options(lookahead, decoder)
                },
            );
            assert_goes_on(&recognizer, &CUTS, &format!("{decoder:?}, lookahead {lookahead}, int8"));
        }
    }
}

/// At each of these cuts a chunk is about to end, or has just ended: the decoder's state is that of a label a moment ago.
#[test]
fn restore_undoes_what_came_between_around_every_chunk() {
    for decoder in DECODERS {
        for model in MODELS {
            let cuts: Vec<usize> = (0..40).map(|chunk| 1_280 * chunk + 199 + chunk % 2).collect();
            let case = format!("{model}, {decoder:?}, around chunks");
            assert_goes_on(&recognizer(model, 0, decoder), &cuts, &case);
        }
    }
}

#[test]
fn save_leaves_the_stream_as_it_is() {
    let recognizer = recognizer("trained", 1, DecoderKind::Rnnt);
    let samples = clip("u3_long");
    let expected = Shown::whole(&recognizer, &samples);
    let (mut stream, mut shown) = (recognizer.stream().unwrap(), Shown::default());
    stream.set_endpoint_config(PAUSES);
    let mut snapshot = Snapshot::default();
    for piece in samples.chunks(3_001) {
        shown.accept(&mut stream, piece);
        stream.save(&mut snapshot);
    }
    shown.finish(&mut stream);
    shown.assert_is(&expected, "saved now and then");
}

#[test]
fn restore_takes_a_snapshot_of_another_stream_and_any_number_of_times() {
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
            let expected = Shown::whole(&recognizer, &samples);
            for cut in [0, 1_801, 34_567, 104_729] {
                let case = format!("{decoder:?}, {optimization:?}, cut {cut}");
                let [mut first, mut second] = [0, 1].map(|_| recognizer.stream().unwrap());
                let mut before = Shown::default();
                first.set_endpoint_config(PAUSES);
                before.accept(&mut first, &samples[..cut]);
                let mut snapshot = Snapshot::default();
                first.save(&mut snapshot);
                disturb(&mut second, 1);
                // Into another one twice, then into the one that it is of.
                for (turn, stream) in [0, 0, 1].into_iter().enumerate() {
                    let stream = if stream == 0 { &mut second } else { &mut first };
                    stream.restore(&snapshot).unwrap();
                    let mut shown = Shown {
                        windows: before.windows.clone(),
                        events: Vec::new(),
                    };
                    shown.accept(stream, &samples[cut..]);
                    shown.finish(stream);
                    shown.assert_is(&expected, &format!("{case}, turn {turn}"));
                }
            }
        }
    }
}

#[test]
fn restore_ends_or_reopens_a_stream_as_the_snapshot_says() {
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
fn restore_brings_the_language_back() {
    let recognizer = Recognizer::load(data("kinds/nemotron_multi"), &options(1, DecoderKind::Rnnt)).unwrap();
    let samples = clip("u2_digits");
    let listen = |interrupt: &dyn Fn(&mut Stream)| {
        let (mut stream, mut shown) = (recognizer.stream().unwrap(), Shown::default());
        stream.set_language("de-DE").unwrap();
        shown.accept(&mut stream, &samples[..30_001]);
        interrupt(&mut stream);
        shown.accept(&mut stream, &samples[30_001..]);
        shown.finish(&mut stream);
        shown
    };
    let expected = listen(&|_| {});
    assert!(listen(&|stream| stream.set_language("en-US").unwrap()) != expected);
    let restored = listen(&|stream| {
        let mut snapshot = Snapshot::default();
        stream.save(&mut snapshot);
        stream.set_language("en-US").unwrap();
        disturb(stream, 1);
        stream.restore(&snapshot).unwrap();
    });
    restored.assert_is(&expected, "another language in between");
}

#[test]
fn restore_refuses_the_snapshot_of_another_model_and_leaves_the_stream_as_it_is() {
    let ours = recognizer("trained", 1, DecoderKind::Rnnt);
    let samples = clip("u1_command");
    let expected = Shown::whole(&ours, &samples);
    let mut snapshots = vec![Snapshot::default()];
    // Other tensors, another decoder, another lookahead, and the same files loaded again.
    for (model, lookahead, decoder) in [
        ("tiny_random", 1, DecoderKind::Rnnt),
        ("trained", 1, DecoderKind::Ctc),
        ("trained", 13, DecoderKind::Rnnt),
        ("trained", 1, DecoderKind::Rnnt),
    ] {
        let theirs = recognizer(model, lookahead, decoder);
        let mut stream = theirs.stream().unwrap();
        stream.accept(&samples).unwrap();
        let mut snapshot = Snapshot::default();
        stream.save(&mut snapshot);
        snapshots.push(snapshot);
        // The snapshot does not keep its model, whose place in memory the next one may take.
        let weak = theirs.downgrade();
        drop((stream, theirs));
        assert!(weak.upgrade().is_none());
    }
    let (mut stream, mut shown) = (ours.stream().unwrap(), Shown::default());
    stream.set_endpoint_config(PAUSES);
    for (piece, snapshot) in samples.chunks(samples.len().div_ceil(snapshots.len())).zip(&snapshots) {
        shown.accept(&mut stream, piece);
        let error = stream.restore(snapshot).unwrap_err();
        assert!(matches!(error, Error::OtherSnapshot), "{error}");
    }
    shown.finish(&mut stream);
    shown.assert_is(&expected, "after refusals");
}

#[test]
fn snapshots_move_between_threads() {
    fn moves<T: Send + Sync>() {}
    moves::<Snapshot>();
}
