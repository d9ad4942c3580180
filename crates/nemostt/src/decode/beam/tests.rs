// SPDX-License-Identifier: MIT OR Apache-2.0

//! Searches over tables, compared with NeMo's, and what is decided when.

use super::*;
use crate::{boosting::BoostingTree, error::Result, language_model::LanguageModel};

/// A case of `tests/data/beam/rnnt_tables.json` or `ctc_tables.json`.
#[derive(serde::Deserialize)]
struct Case {
    seed: u32,
    tokens: usize,
    frames: usize,
    beam: usize,
    phrases: Vec<Vec<usize>>,
    weights: Vec<f32>,
    lm: String,
    alpha: f32,
    nbest: Vec<Expected>,
}

#[derive(serde::Deserialize)]
struct Expected {
    tokens: Vec<usize>,
    frames: Vec<u64>,
    score: f64,
}

fn data(name: &str) -> std::path::PathBuf {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/beam")).join(name)
}

fn cases(name: &str) -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(data(name)).unwrap()).unwrap()
}

impl Case {
    fn fusion(&self) -> Fusion {
        let phrases: Vec<_> = self.phrases.iter().cloned().zip(self.weights.iter().copied()).collect();
        let model = || LanguageModel::parse(&std::fs::read(data(&self.lm)).unwrap(), self.tokens).unwrap();
        Fusion {
            tree: (!phrases.is_empty()).then(|| BoostingTree::of_tokens(&phrases)),
            language_model: (!self.lm.is_empty()).then(|| (model(), self.alpha)),
        }
    }
}

/// As `row` in `tools/gen_beam_goldens.py`.
fn row(seed: u32, classes: usize) -> Vec<f32> {
    let next = |&state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(next(&seed), next);
    states
        .take(classes)
        .map(|state| (state >> 8) as f32 / 4_194_304.0)
        .collect()
}

/// As `TableModel` there.
struct Table {
    seed: u32,
    classes: usize,
    /// Number of the chunk's first frame.
    first: usize,
}

/// The last two labels, and a row.
#[derive(Clone)]
struct Prefix {
    labels: [usize; 2],
    logits: Vec<f32>,
}

impl Table {
    fn start(&self) -> Prefix {
        Prefix {
            labels: [self.classes - 1; 2],
            logits: Vec::new(),
        }
    }
}

impl PredictionNetwork for Table {
    type Prefix = Prefix;

    fn logits<'a>(&mut self, prefix: &'a mut Prefix, frame: usize) -> Result<&'a [f32]> {
        let [previous, last] = prefix.labels;
        let frame = self.first + frame;
        let seed = self.seed as usize + 65_537 * frame + 257 * last + 17 * previous;
        prefix.logits = row(seed as u32, self.classes);
        prefix.logits[self.classes - 1] += 2.0;
        Ok(&prefix.logits)
    }

    fn extend(&mut self, prefix: &Prefix, token: usize, _: usize) -> Result<Prefix> {
        Ok(Prefix {
            labels: [prefix.labels[1], token],
            logits: Vec::new(),
        })
    }
}

/// What a search passed on.
#[derive(Debug, Default, PartialEq)]
struct Found {
    tokens: Vec<Token>,
    ranked: Vec<Vec<Ranked>>,
}

impl Found {
    fn ids(&self) -> Vec<usize> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}

impl TokenSink for Found {
    fn token(&mut self, token: Token) {
        assert!(self.tokens.last().is_none_or(|last| last.frame <= token.frame));
        self.tokens.push(token);
    }

    fn repeat(&mut self, id: usize, _: &Aggregate) {
        assert_eq!(self.tokens.last().map(|last| last.id), Some(id));
    }

    fn ranked(&mut self, ranked: Vec<Ranked>) {
        self.ranked.push(ranked);
    }

    fn pause(&mut self, frame: u64) {
        assert!(self.tokens.last().is_none_or(|last| last.frame < frame));
    }

    fn word_continued_by(&self, _: usize) -> Option<u64> {
        None
    }
}

/// Runs `case` in chunks of `chunk` frames; `rnnt`: over the table of an RNN-T.
fn run(case: &Case, rnnt: bool, chunk: usize, policy: &CommitPolicy<'_>) -> Found {
    let mut found = Found::default();
    let (size, blank) = ((case.beam, case.beam), case.tokens);
    let chunks = (0..case.frames).step_by(chunk);
    if rnnt {
        let mut table = Table {
            seed: case.seed,
            classes: blank + 1,
            first: 0,
        };
        let mut beam = RnntBeam::new(size, blank, case.fusion(), table.start());
        for first in chunks {
            table.first = first;
            let frames = chunk.min(case.frames - first);
            beam.decode(&mut table, frames, first as u64, policy, &mut found)
                .unwrap();
        }
        beam.finish(&mut found);
    } else {
        let mut beam = CtcBeam::new(size, blank, case.fusion());
        for first in chunks {
            let frames = chunk.min(case.frames - first);
            let rows = (first..first + frames).flat_map(|frame| {
                let mut row = row(case.seed + frame as u32, blank + 1);
                row[blank] += 2.0;
                row
            });
            let rows: Vec<f32> = rows.collect();
            beam.decode(&rows, frames, first as u64, policy, &mut found);
        }
        beam.finish(&mut found);
    }
    found
}

fn assert_is_nemo(case: &Case, found: &Found, name: &str) {
    assert_eq!(found.ids(), case.nbest[0].tokens, "{name}");
    let [ranked] = &found.ranked[..] else { panic!("{name}") };
    // NeMo lists the empty transcript, too. If it is the best one, there is no utterance.
    let expected = case.nbest.iter().filter(|one| !one.tokens.is_empty());
    let expected: Vec<_> = expected.filter(|_| !case.nbest[0].tokens.is_empty()).collect();
    assert_eq!(ranked.len(), expected.len(), "{name}");
    for (ranked, expected) in ranked.iter().zip(expected) {
        let ids: Vec<usize> = ranked.tokens.iter().map(|token| token.id).collect();
        assert_eq!(ids, expected.tokens, "{name}");
        // NeMo adds in f32.
        let difference = (ranked.score - expected.score).abs();
        assert!(
            difference < 1e-6 * expected.score.abs().max(100.0),
            "{name}: {} and {}",
            ranked.score,
            expected.score
        );
    }
}

fn name_of(case: &Case, chunk: usize) -> String {
    let Case {
        seed,
        tokens,
        beam,
        lm,
        phrases,
        ..
    } = case;
    format!("seed {seed}, {tokens} tokens, beam {beam}, lm {lm:?}, phrases {phrases:?}, chunks of {chunk}")
}

#[test]
fn rnnt_hypotheses_are_those_of_nemo() {
    let cases = cases("rnnt_tables.json");
    assert!(cases.len() >= 30);
    for case in &cases {
        for chunk in [1, 2, 7, 100] {
            let found = run(case, true, chunk, &CommitPolicy::default());
            assert_is_nemo(case, &found, &name_of(case, chunk));
        }
    }
}

/// Limits of every kind, alone and together.
fn policies() -> Vec<CommitPolicy<'static>> {
    let ends_turn: &dyn Fn(usize) -> bool = &|id| id == 2;
    let limits = [
        (None, None, None),
        (Some(1), None, None),
        (None, Some(2), None),
        (None, None, Some(3)),
        (Some(2), Some(4), Some(6)),
    ];
    let policy = |((word, utterance, oldest), ends_turn)| CommitPolicy {
        word,
        utterance,
        oldest,
        idle: oldest,
        longest_word: None,
        ends_turn,
    };
    let all = limits
        .into_iter()
        .flat_map(|limits| [None, Some(ends_turn)].map(|ends_turn| (limits, ends_turn)));
    all.map(policy).collect()
}

#[test]
fn what_is_decided_does_not_depend_on_chunks() {
    let (mut changed, mut utterances) = (0, 0);
    for (file, rnnt) in [("rnnt_tables.json", true), ("ctc_tables.json", false)] {
        for case in &cases(file) {
            for policy in policies() {
                let whole = run(case, rnnt, case.frames, &policy);
                for chunk in [1, 5] {
                    assert_eq!(run(case, rnnt, chunk, &policy), whole, "{}", name_of(case, chunk));
                }
                assert!(whole.tokens.iter().all(|token| token.frame < case.frames as u64));
                changed += usize::from(whole.ids() != case.nbest[0].tokens);
                utterances += whole.ranked.len();
                // The transcripts of utterances, one after the other, are what was passed on.
                let best = whole.ranked.iter().filter_map(|ranked| ranked.first());
                let best: Vec<usize> = best.flat_map(|best| best.tokens.iter().map(|token| token.id)).collect();
                assert_eq!(best, whole.ids(), "{}", name_of(case, case.frames));
            }
        }
    }
    assert!(changed > 20 && utterances > 1_000, "{changed}, {utterances}");
}

#[test]
fn first_undecided_token_is_not_older_than_its_limit() {
    const OLDEST: u64 = 3;
    let policy = CommitPolicy {
        oldest: Some(OLDEST),
        idle: Some(OLDEST),
        ..Default::default()
    };
    for case in cases("rnnt_tables.json") {
        let mut table = Table {
            seed: case.seed,
            classes: case.tokens + 1,
            first: 0,
        };
        let mut beam = RnntBeam::new((case.beam, 0), case.tokens, case.fusion(), table.start());
        let mut found = Found::default();
        for frame in 0..case.frames {
            table.first = frame;
            beam.decode(&mut table, 1, frame as u64, &policy, &mut found).unwrap();
            let age = beam.first_undecided_frame().map_or(0, |first| frame as u64 + 1 - first);
            assert!(age < OLDEST, "{age}");
        }
    }
}

/// Log-probabilities of tokens 0 to 2 and blank in each frame.
fn rows(probabilities: &[[f32; 4]]) -> Vec<f32> {
    probabilities
        .iter()
        .flatten()
        .map(|probability| probability.ln())
        .collect()
}

#[test]
fn hypothesis_that_begins_after_a_pause_may_still_win() {
    const PAUSE: [f32; 4] = [0.01, 0.01, 0.01, 0.97];
    let rows = rows(&[
        [0.97, 0.01, 0.01, 0.01],
        PAUSE,
        PAUSE,
        PAUSE,
        [0.001, 0.4, 0.001, 0.598],
        [0.001, 0.001, 0.5, 0.498],
        PAUSE,
    ]);
    // Token 2 is worth more after token 1, which was less probable than blank.
    let tree = BoostingTree::of_tokens(&[(vec![1, 2], 0.1)]);
    let fusion = Fusion {
        tree: Some(tree),
        ..Default::default()
    };
    let policy = CommitPolicy {
        word: Some(2),
        ..Default::default()
    };
    let mut beam = CtcBeam::new((4, 0), 3, fusion);
    let mut found = Found::default();
    beam.decode(&rows[..16], 4, 0, &policy, &mut found);
    assert_eq!(found.ids(), [0]);
    beam.decode(&rows[16..20], 1, 4, &policy, &mut found);
    assert!(beam.undecided().is_empty() && beam.first_undecided_frame() > Some(2));
    beam.decode(&rows[20..], 2, 5, &policy, &mut found);
    beam.finish(&mut found);
    assert_eq!(found.ids(), [0, 1, 2]);
}

#[test]
fn hypotheses_are_dropped_in_silence() {
    let rows = rows(&[[0.1, 0.1, 0.1, 0.7]; 12]);
    let mut beam = CtcBeam::new((4, 4), 3, Fusion::default());
    let policy = CommitPolicy {
        utterance: Some(3),
        idle: Some(5),
        ..Default::default()
    };
    let mut found = Found::default();
    for (row, frame) in rows.chunks(4).zip(0..) {
        beam.decode(row, 1, frame, &policy, &mut found);
        assert!(beam.first_undecided_frame().is_none_or(|first| frame + 1 - first < 5));
    }
    assert_eq!(found, Found::default());
}

/// Blank has a probability of 0.98, but where token 0 is spoken, and in a frame with noise that might be token 1.
struct Silence {
    is_spoken: bool,
}

/// Number of tokens, and a row.
type Counted = (usize, Vec<f32>);

impl Silence {
    const FRAMES: usize = 10_000;
    const NOISE: usize = 9_995;

    /// The tokens that are found.
    fn tokens(self, policy: &CommitPolicy<'_>) -> Vec<usize> {
        let mut beam = RnntBeam::new((4, 0), 3, Fusion::default(), (0, Vec::new()));
        let mut found = Found::default();
        beam.decode(&mut { self }, Self::FRAMES, 0, policy, &mut found).unwrap();
        beam.finish(&mut found);
        found.ids()
    }
}

impl PredictionNetwork for Silence {
    type Prefix = Counted;

    fn logits<'a>(&mut self, (tokens, row): &'a mut Counted, frame: usize) -> Result<&'a [f32]> {
        let probabilities: [f32; 4] = match frame {
            0 if self.is_spoken && *tokens == 0 => [0.97, 0.01, 0.01, 0.01],
            Self::NOISE => [0.01, 0.3, 0.01, 0.68],
            _ => [0.005, 0.01, 0.005, 0.98],
        };
        *row = probabilities.map(f32::ln).to_vec();
        Ok(row)
    }

    fn extend(&mut self, (tokens, _): &Counted, _: usize, _: usize) -> Result<Counted> {
        Ok((tokens + 1, Vec::new()))
    }
}

#[test]
fn silence_adds_no_words() {
    let by_utterance = CommitPolicy {
        utterance: Some(10),
        idle: Some(25),
        ..Default::default()
    };
    let by_word = CommitPolicy {
        word: Some(4),
        oldest: Some(25),
        idle: Some(25),
        ..Default::default()
    };
    // NeMo, which knows no pauses: with one more token, 200 nats of silence cost half as much per token.
    assert!(!Silence { is_spoken: false }.tokens(&CommitPolicy::default()).is_empty());
    for policy in [by_utterance, by_word] {
        assert_eq!(Silence { is_spoken: false }.tokens(&policy), [0; 0]);
        assert_eq!(Silence { is_spoken: true }.tokens(&policy), [0]);
    }
}

#[test]
fn scores_that_are_no_numbers_do_no_harm() {
    struct Corrupt;
    impl PredictionNetwork for Corrupt {
        type Prefix = Vec<f32>;

        fn logits<'a>(&mut self, prefix: &'a mut Vec<f32>, frame: usize) -> Result<&'a [f32]> {
            *prefix = vec![[f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0][frame % 4]; 4];
            Ok(prefix)
        }

        fn extend(&mut self, _: &Vec<f32>, _: usize, _: usize) -> Result<Vec<f32>> {
            Ok(Vec::new())
        }
    }
    let mut found = Found::default();
    let mut beam = RnntBeam::new((4, 4), 3, Fusion::default(), Vec::new());
    beam.decode(&mut Corrupt, 20, 0, &CommitPolicy::default(), &mut found)
        .unwrap();
    beam.finish(&mut found);
    let (mut found, mut beam) = (Found::default(), CtcBeam::new((4, 4), 3, Fusion::default()));
    let rows: Vec<f32> = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0]
        .into_iter()
        .flat_map(|value| [value; 4])
        .collect();
    beam.decode(&rows, 4, 0, &CommitPolicy::default(), &mut found);
    beam.finish(&mut found);
}

#[test]
fn ctc_hypotheses_are_those_of_nemo() {
    let cases = cases("ctc_tables.json");
    assert!(cases.len() >= 36);
    for case in &cases {
        for chunk in [1, 2, 7, 100] {
            let found = run(case, false, chunk, &CommitPolicy::default());
            assert_is_nemo(case, &found, &name_of(case, chunk));
            let frames: Vec<u64> = found.tokens.iter().map(|token| token.frame).collect();
            assert_eq!(frames.len(), case.nbest[0].frames.len());
        }
    }
}
