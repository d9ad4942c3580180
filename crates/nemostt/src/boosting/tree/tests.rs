// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tree against NeMo's, and the choice of a token against one over the whole vocabulary.

use proptest::{collection::vec, option, prelude::*};
use serde::Deserialize;

use super::*;

/// A case of `tests/data/boosting/tree.json`: a walk through NeMo's tree, and its scores of all tokens at each step.
#[derive(Deserialize)]
struct Case {
    vocabulary: u32,
    phrases: Vec<Vec<usize>>,
    weights: Vec<f32>,
    tokens: Vec<u32>,
    scores: Vec<Vec<f32>>,
}

fn tree(phrases: &[Vec<usize>], weights: &[f32]) -> Tree {
    let phrases: Vec<_> = phrases.iter().cloned().zip(weights.iter().copied()).collect();
    Tree::new(&phrases)
}

#[test]
fn scores_and_transitions_are_those_of_nemo() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/boosting/tree.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() >= 5);
    for (number, case) in cases.iter().enumerate() {
        let tree = tree(&case.phrases, &case.weights);
        let mut node = ROOT;
        for (step, (&token, expected)) in case.tokens.iter().zip(&case.scores).enumerate() {
            assert_eq!(expected.len(), case.vocabulary as usize);
            for (id, expected) in (0..).zip(expected) {
                let (score, _) = tree.score(node, id);
                assert!(
                    (score - expected).abs() < 1e-5,
                    "case {number}, step {step}, token {id}: {score}, not {expected}"
                );
            }
            node = tree.score(node, token).1;
        }
    }
}

#[test]
fn tree_without_phrases_has_only_a_root() {
    let tree = Tree::new(&[]);
    assert_eq!((tree.len(), tree.score(ROOT, 3)), (1, (0.0, ROOT)));
    assert_eq!(tree.choose(ROOT, &[0.0, 2.0, 1.0], 1, None), 1);
}

#[test]
fn what_an_abandoned_phrase_got_is_taken_back() {
    let tree = tree(&[vec![0, 1, 2]], &[1.5]);
    let (first, node) = tree.score(ROOT, 0);
    let (second, node) = tree.score(node, 1);
    assert_eq!(first, 1.5);
    assert_eq!(second, 3.0 + 2.0_f32.ln());
    // An unrelated token, and one that begins the phrase again.
    assert_eq!(tree.score(node, 3), (-first - second, ROOT));
    let (again, node) = tree.score(node, 0);
    assert!((again + second).abs() < 1e-6, "{again}");
    assert_eq!(node, tree.score(ROOT, 0).1);
}

#[test]
fn order_of_phrases_does_not_matter() {
    let phrases = [vec![0, 1], vec![0, 1, 2], vec![1, 2], vec![0, 3]];
    let weights = [0.5, 4.0, 2.0, 9.0];
    let expected = tree(&phrases, &weights);
    let reversed: Vec<_> = phrases.iter().rev().cloned().collect();
    let weights: Vec<_> = weights.into_iter().rev().collect();
    assert_eq!(tree(&reversed, &weights), expected);
}

/// The choice as NeMo makes it: over the scores of all tokens.
fn choose_from_all(tree: &Tree, node: u32, logits: &[f32], excluded: Option<usize>) -> usize {
    let sum = |token: usize| logits[token] + tree.score(node, token as u32).0;
    let mut best = None;
    for token in (0..logits.len()).filter(|&token| excluded != Some(token)) {
        if best.is_none_or(|best| sum(token) > sum(best)) {
            best = Some(token);
        }
    }
    best.unwrap()
}

fn best(logits: &[f32], excluded: Option<usize>) -> usize {
    let tokens = (0..logits.len()).rev().filter(|&token| excluded != Some(token));
    tokens.max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
}

proptest! {
    #[test]
    fn choice_is_the_best_of_all_tokens(
        phrases in vec((vec(0_usize..6, 1..5), prop::sample::select(vec![0.5_f32, 1.0, 4.0])), 0..8),
        walk in vec(0_u32..7, 0..12),
        // Few values, so that some are equal.
        logits in vec((0_i8..24).prop_map(|value| f32::from(value) / 4.0), 7),
        excluded in option::of(0_usize..7),
    ) {
        let tree = Tree::new(&phrases);
        let node = walk.iter().fold(ROOT, |node, &token| tree.score(node, token).1);
        let best = best(&logits, excluded);
        prop_assert_eq!(
            tree.choose(node, &logits, best, excluded),
            choose_from_all(&tree, node, &logits, excluded)
        );
    }

    #[test]
    fn score_of_complete_phrases_is_kept(
        phrases in vec((vec(0_usize..4, 1..5), prop::sample::select(vec![0.5_f32, 1.0, 4.0])), 1..6),
        walk in vec(0_u32..5, 1..20),
    ) {
        let tree = Tree::new(&phrases);
        let (mut node, mut sum, mut complete) = (ROOT, 0.0, false);
        for (at, &token) in walk.iter().enumerate() {
            let (score, next) = tree.score(node, token);
            (node, sum) = (next, sum + score);
            let heard: Vec<usize> = walk[..=at].iter().map(|&token| token as usize).collect();
            complete |= phrases.iter().any(|(phrase, _)| heard.ends_with(phrase));
        }
        // Token 4 begins no phrase: what is left is the score of phrases.
        sum += tree.score(node, 4).0;
        if !complete {
            prop_assert!(sum.abs() < 1e-3, "{}", sum);
        }
    }
}
