// SPDX-License-Identifier: MIT OR Apache-2.0

//! Unigram language model as SentencePiece has it (`unigram_model.cc`, `Model::EncodeOptimized`): the division of the text
//! whose tokens have the highest sum of scores.

/// Subtracted from the lowest score for a character that is no token (`kUnkPenalty`).
const UNKNOWN_PENALTY: f32 = 10.0;

/// The best way to a position.
#[derive(Debug, Clone, Copy)]
struct Node {
    score: f32,
    /// Where its last part begins; `None` until there is a way.
    start: Option<usize>,
}

/// The parts of `text`, of which some may be single characters that are no token. `score` is that of a token, `longest` the
/// most bytes of one, and `lowest` the lowest score.
pub(super) fn segment(text: &str, longest: usize, lowest: f32, score: impl Fn(&str) -> Option<f32>) -> Vec<&str> {
    let none = Node {
        score: 0.0,
        start: None,
    };
    let mut best = vec![none; text.len() + 1];
    for (start, first) in text.char_indices() {
        let base = best[start].score;
        let mut reach = |end: usize, score: f32| {
            let score = base + score;
            if best[end].start.is_none() || score > best[end].score {
                best[end] = Node {
                    score,
                    start: Some(start),
                };
            }
        };
        let one = start + first.len_utf8();
        let mut has_one = false;
        for (length, c) in text[start..].char_indices() {
            let end = start + length + c.len_utf8();
            if end - start > longest {
                break;
            }
            if let Some(score) = score(&text[start..end]) {
                reach(end, score);
                has_one |= end == one;
            }
        }
        if !has_one {
            reach(one, lowest - UNKNOWN_PENALTY);
        }
    }
    let mut parts = Vec::new();
    let mut end = text.len();
    while let Some(start) = best[end].start {
        parts.push(&text[start..end]);
        end = start;
    }
    parts.reverse();
    parts
}
