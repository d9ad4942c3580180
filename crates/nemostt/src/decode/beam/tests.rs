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

    fn ranked(&mut self, ranked: Vec<Ranked>) {
        self.ranked.push(ranked);
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
    // NeMo lists the empty transcript, too.
    let expected: Vec<_> = case.nbest.iter().filter(|one| !one.tokens.is_empty()).collect();
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
