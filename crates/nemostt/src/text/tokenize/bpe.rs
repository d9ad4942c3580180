// SPDX-License-Identifier: MIT OR Apache-2.0

//! Byte-pair encoding as SentencePiece does it (`bpe_model.cc`): of all neighbors that are a token together, the pair with
//! the highest score is merged, the leftmost of equals, until there is none.

/// A part of the text: its bytes, and whether it is a user-defined token, which is not merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) is_frozen: bool,
}

/// Merges neighbors in `symbols`, which divide `text`. `score` is that of a token, `None` of what is no token.
pub(super) fn merge(text: &str, symbols: &mut Vec<Symbol>, score: impl Fn(&str) -> Option<f32>) {
    let pair = |left: Symbol, right: Symbol| match left.is_frozen || right.is_frozen {
        true => None,
        false => score(&text[left.start..right.end]),
    };
    // The score of each symbol with the next one.
    let mut scores: Vec<Option<f32>> = symbols.windows(2).map(|two| pair(two[0], two[1])).collect();
    loop {
        let mut best: Option<(usize, f32)> = None;
        for (index, score) in scores.iter().enumerate() {
            if let &Some(score) = score
                && best.is_none_or(|(_, highest)| score > highest)
            {
                best = Some((index, score));
            }
        }
        let Some((index, _)) = best else {
            return;
        };
        symbols[index].end = symbols[index + 1].end;
        symbols.remove(index + 1);
        scores.remove(index);
        if index > 0 {
            scores[index - 1] = pair(symbols[index - 1], symbols[index]);
        }
        if index + 1 < symbols.len() {
            scores[index] = pair(symbols[index], symbols[index + 1]);
        }
    }
}
