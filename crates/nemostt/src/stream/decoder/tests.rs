// SPDX-License-Identifier: MIT OR Apache-2.0

//! Beam search and the segmenter together, over tables of probabilities: what is emitted, and when.

use super::{commit_policy::commit_policy, sink, *};
use crate::{
    confidence::Measure,
    text::{EndReason, EndpointConfig, Event, Utterance},
    token::{Ranked, Token},
};

const TOKENS: &str = "▁walk 0\ned 1\ns 2\n▁on 3\n<EOU> 4\n";
const WALK: usize = 0;
const ED: usize = 1;
const S: usize = 2;
const ON: usize = 3;
const EOU: usize = 4;
const BLANK: usize = 5;
const FRAME_SAMPLES: u64 = 1280;
const SAMPLE_RATE: u64 = 16_000;

/// Log-probabilities of a frame in which these labels have these probabilities, and others hardly any.
fn row(probabilities: &[(usize, f32)]) -> [f32; 6] {
    let mut row = [1e-6_f32.ln(); 6];
    for &(label, probability) in probabilities {
        row[label] = probability.ln();
    }
    row
}

/// A frame in which `label` is nearly certain.
fn sure(label: usize) -> [f32; 6] {
    row(&[(label, 0.99)])
}

/// Of `count` frames, silent ones but for those of `spoken`.
fn frames(count: usize, spoken: &[(usize, [f32; 6])]) -> Vec<[f32; 6]> {
    let mut rows = vec![sure(BLANK); count];
    for &(frame, row) in spoken {
        rows[frame] = row;
    }
    rows
}

/// `▁walk` in the first frame, and in the fifth what is not certain.
fn walked_or_walks(count: usize) -> Vec<[f32; 6]> {
    frames(count, &[(0, sure(WALK)), (4, row(&[(ED, 0.55), (S, 0.44)]))])
}

/// Counts the tokens of transcripts that pass through.
struct Counting<'a> {
    sink: Sink<'a>,
    longest: &'a mut usize,
}

impl TokenSink for Counting<'_> {
    fn token(&mut self, token: Token) {
        self.sink.token(token);
    }

    fn repeat(&mut self, id: usize, frames: &Aggregate) {
        self.sink.repeat(id, frames);
    }

    fn ranked(&mut self, ranked: Vec<Ranked>) {
        let longest = ranked.iter().map(|ranked| ranked.tokens.len()).max();
        *self.longest = longest.unwrap_or(0).max(*self.longest);
        self.sink.ranked(ranked);
    }

    fn pause(&mut self, frame: u64) {
        self.sink.pause(frame);
    }

    fn word_continued_by(&self, id: usize) -> Option<u64> {
        self.sink.word_continued_by(id)
    }
}

/// What was found.
struct Found {
    /// Events before the end of the stream.
    live: Vec<Event>,
    all: Vec<Event>,
    /// Most tokens of a transcript.
    longest: usize,
}

impl Found {
    fn words(&self) -> Vec<&str> {
        let texts = self.all.iter().filter_map(|event| match event {
            Event::Word(word) => Some(word.text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    fn confidences(&self) -> Vec<f32> {
        let confidence = |event: &Event| match event {
            Event::Word(word) => Some(word.confidence),
            _ => None,
        };
        self.all.iter().filter_map(confidence).collect()
    }

    fn utterances(&self) -> Vec<&Utterance> {
        let utterances = self.all.iter().filter_map(|event| match event {
            Event::Utterance(utterance) => Some(utterance),
            _ => None,
        });
        utterances.collect()
    }

    /// Texts of the utterances, each of which must be its best alternative.
    fn texts(&self) -> Vec<String> {
        let utterances = self.utterances();
        for utterance in utterances.iter().filter(|one| one.ending != Some(EndReason::Limit)) {
            let best = utterance.alternatives.first().map(|best| best.text.clone());
            assert_eq!(best, Some(utterance.text()), "{utterances:?}");
        }
        utterances.iter().map(|utterance| utterance.text()).collect()
    }
}

/// Decodes CTC in chunks of `chunk` frames; `beam`: with four hypotheses.
fn decode(rows: &[[f32; 6]], chunk: usize, pauses: EndpointConfig, beam: bool, confidence: ConfidenceConfig) -> Found {
    let vocabulary = Vocabulary::parse("tokens.txt", TOKENS.as_bytes(), BLANK).unwrap();
    let config = BeamConfig {
        n_best: 3,
        ..Default::default()
    };
    let config = beam.then_some(&config);
    let mut segmenter = Segmenter::new(FRAME_SAMPLES);
    segmenter.set_endpoint_config(pauses);
    segmenter.set_confidence(confidence);
    let (mut greedy, mut search) = (Ctc::new(BLANK), CtcBeam::new((4, 3), BLANK, Fusion::default()));
    search.confidence = confidence;
    let ends_turn = |id| sink::ends_turn(&vocabulary, id);
    let policy = commit_policy(&pauses, (FRAME_SAMPLES, SAMPLE_RATE), &ends_turn);
    let (mut first, mut longest) = (0, 0);
    for rows in rows.chunks(chunk) {
        let mut sink = Sink::new(&mut segmenter, &vocabulary, config);
        let utterance = sink.utterance_start(FRAME_SAMPLES);
        if beam {
            search.forget_before(utterance);
            let longest = &mut longest;
            let mut sink = Counting { sink, longest };
            search.decode(rows.as_flattened(), rows.len(), first, &policy, &mut sink);
        } else {
            let emit = |emission| match emission {
                Emission::Token(token) => sink.token(token),
                Emission::Repeat { id, confidence } => sink.repeat(id, &Aggregate::of(confidence)),
            };
            greedy.decode(rows.as_flattened(), rows.len(), first, None, &confidence, emit);
        }
        first += rows.len() as u64;
        let undecided = match beam {
            true => Undecided {
                tokens: search.undecided(),
                first_frame: search.first_undecided_frame(),
            },
            false => Undecided::default(),
        };
        segmenter.decoded(&vocabulary, first, undecided);
    }
    let live: Vec<Event> = std::iter::from_fn(|| segmenter.pop()).collect();
    if beam {
        let sink = Sink::new(&mut segmenter, &vocabulary, config);
        let longest = &mut longest;
        search.finish(&mut Counting { sink, longest });
    }
    segmenter.finish(EndReason::EndOfStream);
    let rest = std::iter::from_fn(|| segmenter.pop());
    let all = live.iter().cloned().chain(rest).collect();
    Found { live, all, longest }
}

fn search(rows: &[[f32; 6]], chunk: usize, pauses: EndpointConfig) -> Found {
    decode(rows, chunk, pauses, true, ConfidenceConfig::default())
}

#[test]
fn word_is_decided_before_it_is_emitted_in_parts() {
    let pauses = EndpointConfig {
        word: Some(10),
        longest_word: Some(8),
        ..Default::default()
    };
    for chunk in [1, 2, 8, 20] {
        assert_eq!(
            search(&walked_or_walks(20), chunk, pauses).words(),
            ["walked"],
            "{chunk}"
        );
    }
}

#[test]
fn words_that_go_out_one_by_one_are_decided_within_two_seconds() {
    let tokens = |emits_words| {
        let pauses = EndpointConfig {
            emits_words,
            ..Default::default()
        };
        // The fifth frame is 25 frames old.
        let found = search(&walked_or_walks(30), 1, pauses);
        assert_eq!(found.words(), ["walked"]);
        let tokens = found.live.iter().filter(|event| matches!(event, Event::Token(_)));
        tokens.count()
    };
    assert_eq!((tokens(false), tokens(true)), (1, 2));
}

#[test]
fn beam_and_segmenter_end_utterances_at_the_same_place() {
    let pauses = EndpointConfig {
        utterance: Some(4),
        ..Default::default()
    };
    let continued = frames(30, &[(0, sure(WALK)), (10, row(&[(ED, 0.55), (S, 0.44)]))]);
    let turn = frames(30, &[(0, sure(WALK)), (10, sure(EOU)), (12, sure(ON))]);
    for chunk in [1, 3, 30] {
        assert_eq!(search(&continued, chunk, pauses).texts(), ["walk", "ed"], "{chunk}");
        let found = search(&turn, chunk, pauses);
        assert_eq!(found.texts(), ["walk", "on"], "{chunk}");
        assert!(found.all.contains(&Event::Turn(EndReason::EndOfUtterance)));
    }
}

#[test]
fn best_alternative_is_the_text_of_the_utterance() {
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0
    };
    let mut utterances = 0;
    for utterance in 2..6 {
        let pauses = EndpointConfig {
            utterance: Some(utterance),
            ..Default::default()
        };
        for _ in 0..50 {
            let rows: Vec<[f32; 6]> = (0..60)
                .map(|_| {
                    let mut scores = [0.0; 6].map(|_| (random() * 4.0).exp());
                    scores[BLANK] *= 8.0;
                    let sum: f32 = scores.iter().sum();
                    scores.map(|score| (score / sum).ln())
                })
                .collect();
            let whole = search(&rows, rows.len(), pauses).texts();
            for chunk in [1, 7] {
                assert_eq!(search(&rows, chunk, pauses).texts(), whole);
            }
            utterances += whole.len();
        }
    }
    assert!(utterances > 400, "{utterances}");
}

#[test]
fn turns_have_their_own_alternatives_also_without_pauses() {
    let spoken = [
        (0, sure(WALK)),
        (2, sure(EOU)),
        (4, sure(ON)),
        (6, sure(EOU)),
        (8, sure(ON)),
    ];
    let found = search(&frames(10, &spoken), 4, EndpointConfig::default());
    assert_eq!(found.texts(), ["walk", "on", "on"]);
    // Its own score, too: that of a few sure frames.
    let scores = found.utterances().into_iter().map(|one| one.alternatives[0].score);
    assert!(scores.into_iter().all(|score| score > 5.0 * 0.99_f64.ln()));
}

#[test]
fn frames_that_repeat_a_token_count_for_its_confidence() {
    let at = |label, probability: f32| row(&[(label, probability), (BLANK, 1.0 - probability)]);
    let spoken = [
        (0, at(WALK, 0.99)),
        (1, at(WALK, 0.6)),
        (2, at(WALK, 0.8)),
        (4, at(ED, 0.9)),
        (7, at(ON, 0.97)),
        (8, at(ON, 0.7)),
        (11, at(EOU, 0.9)),
        (12, at(EOU, 0.6)),
    ];
    let rows = frames(14, &spoken);
    for measure in [Measure::MaxProb, Measure::Probability, ConfidenceConfig::NEMO.measure] {
        let confidence = ConfidenceConfig {
            measure,
            ..Default::default()
        };
        for chunk in [1, 2, 14] {
            let run = |beam| decode(&rows, chunk, EndpointConfig::default(), beam, confidence).confidences();
            let (greedy, beam) = (run(false), run(true));
            assert_eq!((greedy.len(), beam.len()), (2, 2));
            for (a, b) in greedy.iter().zip(&beam) {
                assert!((a - b).abs() < 1e-6, "{measure:?}, {chunk}: {greedy:?} and {beam:?}");
            }
        }
    }
}

#[test]
fn transcripts_do_not_grow_where_speech_never_pauses() {
    let pauses = EndpointConfig {
        max_utterance_chars: Some(12),
        ..Default::default()
    };
    let spoken: Vec<_> = (0..800)
        .map(|frame| (frame, sure([WALK, BLANK, ON, BLANK][frame % 4])))
        .collect();
    let found = search(&frames(800, &spoken), 4, pauses);
    let texts = found.texts();
    assert!(texts.len() > 100, "{}", texts.len());
    assert!((1..20).contains(&found.longest), "{}", found.longest);
}
