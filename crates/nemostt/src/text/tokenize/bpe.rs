// SPDX-License-Identifier: MIT OR Apache-2.0

//! Byte-pair encoding as SentencePiece does it (`bpe_model.cc`): of all neighbors that are a token together, the pair with
//! the highest score is merged, the leftmost of equals, until there is none.

use std::{cmp::Ordering, collections::BinaryHeap};

/// A part of the text: its bytes, and whether it is a user-defined token, which is not merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) is_frozen: bool,
}

/// Two neighbors that are a token together.
#[derive(Debug)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Where the token ends. If the right one ends elsewhere by now, the pair is outdated.
    end: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.score.total_cmp(&other.score);
        by_score.then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

/// Merges neighbors in `symbols`, which divide `text`. `score` is that of a token, `None` of what is no token.
///
/// As in SentencePiece, pairs wait in a heap, so that the time is that of sorting the symbols.
pub(super) fn merge(text: &str, symbols: &mut Vec<Symbol>, score: impl Fn(&str) -> Option<f32>) {
    let count = symbols.len();
    // The symbols before and after each one; `count` stands for none.
    let mut previous: Vec<usize> = (0..count).map(|index| index.checked_sub(1).unwrap_or(count)).collect();
    let mut next: Vec<usize> = (1..=count).collect();
    let pair = |symbols: &[Symbol], left: usize, right: usize| {
        let (one, other) = (symbols.get(left)?, symbols.get(right)?);
        if one.is_frozen || other.is_frozen {
            return None;
        }
        // Zero is added because -0 is as good as 0.
        score(&text[one.start..other.end]).map(|score| Pair {
            score: score + 0.0,
            left,
            right,
            end: other.end,
        })
    };
    let mut pairs: BinaryHeap<Pair> = (1..count).filter_map(|right| pair(symbols, right - 1, right)).collect();
    while let Some(Pair { left, right, end, .. }) = pairs.pop() {
        // A symbol that was merged into the one before it is empty. One that grew has another neighbor.
        let is_merged = symbols[left].start == symbols[left].end;
        if is_merged || next[left] != right || symbols[right].end != end {
            continue;
        }
        symbols[left].end = end;
        symbols[right].start = end;
        let after = next[right];
        next[left] = after;
        if after < count {
            previous[after] = left;
        }
        pairs.extend(pair(symbols, previous[left], left));
        pairs.extend(pair(symbols, left, after));
    }
    symbols.retain(|symbol| symbol.start < symbol.end);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Looks for the best pair of all, again and again.
    fn merge_naively(text: &str, symbols: &mut Vec<Symbol>, score: impl Fn(&str) -> Option<f32>) {
        loop {
            let mut best: Option<(usize, f32)> = None;
            for (index, two) in symbols.windows(2).enumerate() {
                let is_frozen = two[0].is_frozen || two[1].is_frozen;
                if !is_frozen
                    && let Some(score) = score(&text[two[0].start..two[1].end])
                    && best.is_none_or(|(_, highest)| score > highest)
                {
                    best = Some((index, score));
                }
            }
            let Some((index, _)) = best else { return };
            symbols[index].end = symbols[index + 1].end;
            symbols.remove(index + 1);
        }
    }

    proptest! {
        #[test]
        fn pairs_are_merged_in_the_order_of_their_scores(
            text in "[ab]{0,40}",
            // Of few values, so that some are equal.
            scores in vec(prop::sample::select(vec![None, Some(-2.0_f32), Some(-1.0), Some(-0.0), Some(0.0)]), 64),
            frozen in vec(prop::bool::weighted(0.1), 40),
        ) {
            let score = |token: &str| {
                let hash = token.bytes().fold(token.len(), |hash, byte| hash.wrapping_mul(31) ^ usize::from(byte));
                scores[hash % scores.len()].filter(|_| token.len() < 9)
            };
            let symbols: Vec<Symbol> = (0..text.len())
                .map(|start| Symbol { start, end: start + 1, is_frozen: frozen[start] })
                .collect();
            let (mut merged, mut expected) = (symbols.clone(), symbols);
            merge(&text, &mut merged, score);
            merge_naively(&text, &mut expected, score);
            prop_assert_eq!(merged, expected);
        }
    }
}
