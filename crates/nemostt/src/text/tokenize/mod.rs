// SPDX-License-Identifier: MIT OR Apache-2.0

//! Divides text into tokens, as the model's SentencePiece would.
//!
//! A `tokenizer.model` has all that is needed. A `tokenizer.json` has merges or scores, but normalization is not read from
//! it. A list of tokens (`tokens.txt`, `vocab.txt`, `vocab.json`) has neither: see [`SubwordModel::of_list`].

mod bpe;
mod charsmap;
mod normalization;
mod unigram;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use bpe::Symbol;
pub(super) use charsmap::Charsmap;
pub(crate) use normalization::MAX_CHARS;
pub(super) use normalization::Normalization;

use super::tokenizer::{TokenText, Vocabulary, WORD_BOUNDARY};

/// How text is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Neighbors are merged, those with the highest score first.
    Bpe,
    /// The sum of scores is the highest.
    Unigram,
}

/// What a vocabulary file says of the division of text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SubwordModel {
    pub(super) algorithm: Algorithm,
    /// By token id; negative infinity for what is not merged from others.
    pub(super) scores: Vec<f32>,
    /// Ids of tokens that are found before anything else.
    pub(super) user_defined: Vec<usize>,
    pub(super) normalization: Normalization,
}

impl SubwordModel {
    /// For a list of tokens in the order of a SentencePiece model, without scores.
    ///
    /// SentencePiece orders the tokens of a BPE model by merge, the first one first, so that their ids are as good as scores
    /// (`bpe_model_trainer.cc`: the score of a piece is minus its index). A list is of that kind if each token is two others
    /// together. In any other, the division with the fewest tokens is chosen, of equals that with the most frequent ones,
    /// which a Unigram model has first.
    pub(super) fn of_list(tokens: &[TokenText]) -> Self {
        let algorithm = match is_bpe(tokens) {
            true => Algorithm::Bpe,
            false => Algorithm::Unigram,
        };
        let score = |id: usize| match algorithm {
            Algorithm::Bpe => -(id as f32),
            // So many tokens that their sum is 1 are more than a phrase has.
            Algorithm::Unigram => -1.0 - id as f32 * 1e-3 / tokens.len() as f32,
        };
        Self {
            algorithm,
            scores: (0..tokens.len()).map(score).collect(),
            user_defined: Vec::new(),
            normalization: Normalization::default(),
        }
    }
}

/// Most bytes of a token that is looked at: SentencePiece's have at most 16 characters by default.
const LONGEST: usize = 256;

/// Whether each token of several characters is two tokens together, of which those of several characters have lower ids.
fn is_bpe(tokens: &[TokenText]) -> bool {
    let texts = || {
        let text = |(id, token): (usize, &TokenText)| match token {
            TokenText::Text(text) if !text.is_empty() => Some((id, text.clone())),
            _ => None,
        };
        tokens.iter().enumerate().filter_map(text)
    };
    let ids: HashMap<String, usize> = texts().map(|(id, text)| (text, id)).collect();
    let is_part = |part: &str, whole: usize| {
        let is_one = part.chars().nth(1).is_none();
        ids.get(part).is_some_and(|&id| is_one || id < whole)
    };
    texts().all(|(id, text)| {
        if text.len() > LONGEST {
            return false;
        }
        let mut splits = text.char_indices().map(|(at, _)| text.split_at(at)).skip(1).peekable();
        splits.peek().is_none() || splits.any(|(left, right)| is_part(left, id) && is_part(right, id))
    })
}

/// Divides texts into the tokens of a vocabulary.
pub(crate) struct Tokenizer<'a> {
    model: Cow<'a, SubwordModel>,
    ids: HashMap<&'a str, usize>,
    /// Tokens that are bytes, if there is one for each.
    bytes: Option<Box<[usize; 256]>>,
    user_defined: HashSet<&'a str>,
    /// The different lengths of user-defined tokens in bytes, the longest first.
    user_defined_lengths: Vec<usize>,
    /// Most bytes of a token, but at most [`LONGEST`].
    longest: usize,
    /// Lowest and highest score of a token.
    scores: (f32, f32),
    letters: Letters,
}

/// Why a text has no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotEncoded {
    /// Characters that are no token, in order, without repeats.
    Unknown(Vec<char>),
    /// It has more than [`MAX_CHARS`] after normalization.
    TooLong,
}

/// The letters that tokens are written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letters {
    Lower,
    Upper,
    /// Both, or such as have no case.
    Both,
}

impl<'a> Tokenizer<'a> {
    pub(crate) fn new(vocabulary: &'a Vocabulary) -> Self {
        let tokens = vocabulary.tokens();
        let model = match vocabulary.subwords() {
            Some(model) => Cow::Borrowed(model),
            None => Cow::Owned(SubwordModel::of_list(tokens)),
        };
        let mut ids = HashMap::with_capacity(tokens.len());
        let (mut bytes, mut count) = (Box::new([0; 256]), 0);
        let (mut has_lower, mut has_upper) = (false, false);
        let (mut longest, mut lowest, mut highest) = (0, f32::INFINITY, f32::NEG_INFINITY);
        for (id, token) in tokens.iter().enumerate() {
            match token {
                TokenText::Text(text) if !text.is_empty() => {
                    // SentencePiece rejects a model that has a token twice. In a list, the first one counts.
                    ids.entry(text.as_str()).or_insert(id);
                    longest = longest.max(text.len());
                    has_lower |= text.chars().any(char::is_lowercase);
                    has_upper |= text.chars().any(char::is_uppercase);
                    let score = model.scores.get(id).copied().unwrap_or_default();
                    (lowest, highest) = (score.min(lowest), score.max(highest));
                }
                &TokenText::Byte(byte) => {
                    bytes[usize::from(byte)] = id;
                    count += 1;
                }
                _ => {}
            }
        }
        let text = |&id: &usize| match tokens.get(id) {
            Some(TokenText::Text(text)) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        };
        let user_defined: HashSet<&str> = model
            .user_defined
            .iter()
            .filter_map(text)
            .filter(|text| text.len() <= LONGEST)
            .collect();
        let mut user_defined_lengths: Vec<usize> = user_defined.iter().map(|text| text.len()).collect();
        user_defined_lengths.sort_unstable_by(|a, b| b.cmp(a));
        user_defined_lengths.dedup();
        Self {
            ids,
            bytes: (count >= 256).then_some(bytes),
            user_defined,
            user_defined_lengths,
            longest: longest.min(LONGEST),
            scores: (lowest, highest),
            letters: match (has_lower, has_upper) {
                (true, false) => Letters::Lower,
                (false, true) => Letters::Upper,
                _ => Letters::Both,
            },
            model,
        }
    }

    /// The spellings in which the model could write `phrase`: in the letters that it has and, if it has capitals, also as at
    /// the start of a sentence.
    pub(crate) fn spellings(&self, phrase: &str) -> Vec<String> {
        let as_given = match self.letters {
            Letters::Lower => return vec![phrase.to_lowercase()],
            Letters::Upper => return vec![phrase.to_uppercase()],
            Letters::Both => phrase.to_owned(),
        };
        let mut rest = phrase.chars();
        let capitalized: String = rest
            .next()
            .into_iter()
            .flat_map(char::to_uppercase)
            .chain(rest)
            .collect();
        let mut spellings = vec![as_given];
        if capitalized != phrase {
            spellings.push(capitalized);
        }
        spellings
    }

    /// The ids of the tokens of `text`.
    ///
    /// # Errors
    /// If characters are no token, or the text is too long.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<usize>, NotEncoded> {
        let normalized = self.model.normalization.apply(text, |text| self.user_defined_at(text));
        let normalized = normalized.ok_or(NotEncoded::TooLong)?;
        let (mut ids, mut unknown) = (Vec::new(), Vec::new());
        for part in self.parts(&normalized) {
            match (self.ids.get(part), &self.bytes) {
                (Some(&id), _) => ids.push(id),
                (None, Some(bytes)) => ids.extend(part.bytes().map(|byte| bytes[usize::from(byte)])),
                (None, None) => {
                    for c in part.chars().map(|c| if c == WORD_BOUNDARY { ' ' } else { c }) {
                        if !unknown.contains(&c) {
                            unknown.push(c);
                        }
                    }
                }
            }
        }
        match unknown.is_empty() {
            true => Ok(ids),
            false => Err(NotEncoded::Unknown(unknown)),
        }
    }

    /// The parts of `normalized`: tokens, or single characters that are none.
    fn parts<'t>(&self, normalized: &'t str) -> Vec<&'t str> {
        match self.model.algorithm {
            Algorithm::Bpe => {
                let mut symbols = self.symbols(normalized);
                bpe::merge(normalized, &mut symbols, |text| self.score(text));
                symbols
                    .iter()
                    .map(|symbol| &normalized[symbol.start..symbol.end])
                    .collect()
            }
            Algorithm::Unigram => unigram::segment(normalized, self.longest, self.scores.0, |text| self.score(text)),
        }
    }

    /// The characters and user-defined tokens of `text`.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(first) = text[start..].chars().next() {
            let user_defined = self.user_defined_at(&text[start..]);
            let is_frozen = user_defined > 0;
            let end = start + if is_frozen { user_defined } else { first.len_utf8() };
            symbols.push(Symbol { start, end, is_frozen });
            start = end;
        }
        symbols
    }

    /// Bytes of the longest user-defined token at the start of `text`; 0 if there is none.
    fn user_defined_at(&self, text: &str) -> usize {
        let mut lengths = self.user_defined_lengths.iter().copied();
        let is_token = |&length: &usize| {
            text.get(..length)
                .is_some_and(|start| self.user_defined.contains(start))
        };
        lengths.find(is_token).unwrap_or_default()
    }

    /// The score of the token `text`; `None` if it is no token.
    fn score(&self, text: &str) -> Option<f32> {
        let id = *self.ids.get(text)?;
        if self.model.algorithm == Algorithm::Unigram && self.user_defined.contains(text) {
            // As in SentencePiece, so that it is always preferred.
            return Some(text.len() as f32 * self.scores.1 - 0.1);
        }
        let score = self.model.scores.get(id).copied().unwrap_or_default();
        (score > f32::NEG_INFINITY).then_some(score)
    }
}

#[cfg(test)]
mod tests;
