// SPDX-License-Identifier: MIT OR Apache-2.0

//! Joins tokens into words.
//!
//! A token that begins with `▁` begins a word; every other token, punctuation included, belongs to the word before it.
//! A word is complete when it can no longer change: when the next one begins, or the stream ends.
//! [`WordTimer`](super::times::WordTimer) then assigns its times.

use super::tokenizer::{TokenText, Vocabulary, WORD_BOUNDARY};
use crate::{
    confidence::{Aggregate, ConfidenceConfig},
    token::Token,
};

/// SentencePiece's text for the unknown token (U+2047 "double question mark").
const UNKNOWN: &str = "\u{2047}";

/// A complete word.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Its text, without spaces around it.
    pub text: String,
    /// Sample at which the encoder frame of its first token begins, counted from the start of the stream. Words that
    /// begin in the same frame share it evenly, and the last words of a stream may begin earlier to fit into it.
    pub start: u64,
    /// Sample at which the encoder frame of its last token ends, or later because of
    /// [`EndpointConfig::min_word`](super::EndpointConfig::min_word). Always after `start`, and never beyond the start
    /// of the next word or the end of the stream.
    pub end: u64,
    /// How sure the model is of it, 0 to 1: by default, the geometric mean of its tokens' probabilities. See
    /// [`ConfidenceConfig`].
    pub confidence: f32,
    /// The words that were decoded, if [text shaping](super::TextShaping) has changed it; else empty. If several words became
    /// several others, each of those has all of them.
    pub spoken: Vec<Word>,
}

impl Word {
    /// The words that were decoded: those that it was made of, or itself.
    pub fn decoded(&self) -> &[Word] {
        match self.spoken.as_slice() {
            [] => std::slice::from_ref(self),
            spoken => spoken,
        }
    }
}

/// A word before its times are known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct UntimedWord {
    pub(super) text: String,
    /// Encoder frame of the first token.
    pub(super) first_frame: u64,
    /// Encoder frame of the last token.
    pub(super) last_frame: u64,
    pub(super) confidence: f32,
}

/// A token of the word in progress.
#[derive(Debug, Clone, Copy)]
struct WordToken {
    id: usize,
    frame: u64,
    /// Of the frames that it lasts.
    confidence: Aggregate,
}

/// Collects the tokens of one word at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct WordBuilder {
    /// Bytes, because a character may consist of several byte tokens.
    text: Vec<u8>,
    tokens: Vec<WordToken>,
    pub(super) confidence: ConfidenceConfig,
    /// The next token begins a new word: SentencePiece puts spaces on both sides of the unknown token.
    closed: bool,
}

impl WordBuilder {
    /// Adds a token. Returns the word before it, if the token begins a new one.
    pub(super) fn push(&mut self, vocabulary: &Vocabulary, token: Token) -> Option<UntimedWord> {
        let piece = vocabulary.piece(token.id)?;
        let text: &[u8] = match piece {
            TokenText::Text(text) => text.strip_prefix(WORD_BOUNDARY).unwrap_or(text).as_bytes(),
            TokenText::Byte(byte) => std::slice::from_ref(byte),
            TokenText::Unknown => UNKNOWN.as_bytes(),
            TokenText::Control(_) => return None,
        };
        let done = if vocabulary.begins_word(token.id) || self.closed {
            self.flush_word()
        } else {
            None
        };
        self.closed = *piece == TokenText::Unknown;
        self.text.extend_from_slice(text);
        self.tokens.push(WordToken {
            id: token.id,
            frame: token.frame,
            confidence: Aggregate::of(token.confidence),
        });
        done
    }

    /// Adds the confidences of `frames` that repeat token `id`, which NeMo counts where confidence is a property of frames. They
    /// are not of this word if its last token is another one: control tokens belong to no word, and are repeated, too.
    pub(super) fn repeat(&mut self, id: usize, frames: &Aggregate) {
        let is_per_frame = self.confidence.measure.is_per_frame();
        if let Some(token) = self.tokens.last_mut().filter(|last| is_per_frame && last.id == id) {
            token.confidence.merge(frames);
        }
    }

    /// Completes the word in progress.
    pub(super) fn flush_word(&mut self) -> Option<UntimedWord> {
        let draft = self.partial_word();
        self.reset();
        draft
    }

    /// Completes a part of the word in progress: its whole characters. Further tokens continue with the next part,
    /// which begins in a later frame.
    pub(super) fn split(&mut self) -> Option<UntimedWord> {
        // Bytes of a character that is not complete yet, one token each.
        let open = open_bytes(&self.text);
        let whole = self.tokens.len() - open;
        let rest = self.tokens.get(whole).map(|token| token.frame);
        if rest.is_some() && rest == self.first_frame() {
            return None;
        }
        let text = self.text.split_off(self.text.len() - open);
        let tokens = self.tokens.split_off(whole);
        let part = self.partial_word();
        if part.is_some() {
            self.reset();
        }
        self.text.extend(text);
        self.tokens.extend(tokens);
        part
    }

    /// The word in progress, up to its last token so far.
    pub(super) fn partial_word(&self) -> Option<UntimedWord> {
        let (first, last) = (self.tokens.first()?, self.tokens.last()?);
        // A token may contain `▁` in other places, too.
        let text = String::from_utf8_lossy(&self.text).replace(WORD_BOUNDARY, " ");
        let text = text.trim();
        let aggregation = self.confidence.aggregation;
        let mut confidence = Aggregate::default();
        for token in &self.tokens {
            confidence.push(token.confidence.value(aggregation));
        }
        (!text.is_empty()).then(|| UntimedWord {
            text: text.to_owned(),
            first_frame: first.frame,
            last_frame: last.frame,
            confidence: confidence.value(aggregation),
        })
    }

    /// Encoder frame in which the word in progress begins, if there is one.
    pub(super) fn first_frame(&self) -> Option<u64> {
        self.tokens.first().map(|token| token.frame)
    }

    /// Discards the word in progress.
    pub(super) fn reset(&mut self) {
        self.text.clear();
        self.tokens.clear();
        self.closed = false;
    }
}

/// Number of bytes at the end that form the beginning of a character, which more bytes may complete.
fn open_bytes(text: &[u8]) -> usize {
    let broken = text.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    match std::str::from_utf8(broken) {
        Err(error) if error.error_len().is_none() => broken.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: &str = "<unk> 0\n▁ki 1\nt 2\nchen 3\n▁the 4\n. 5\n▁ 6\n<0xC3> 7\n<0xA9> 8\n<EOU> 9\n";

    fn vocabulary() -> Vocabulary {
        Vocabulary::parse("tokens.txt", TOKENS.as_bytes(), 10).unwrap()
    }

    fn push(builder: &mut WordBuilder, id: usize, frame: u64) -> Option<UntimedWord> {
        let log_prob = 0.0;
        builder.push(&vocabulary(), Token::of_log_prob(id, frame, log_prob))
    }

    /// Texts of the words with the frames of their first and last tokens.
    fn words(tokens: &[(usize, u64)]) -> Vec<(String, u64, u64)> {
        let mut builder = WordBuilder::default();
        let mut found = Vec::new();
        for &(id, frame) in tokens {
            found.extend(push(&mut builder, id, frame));
        }
        found.extend(builder.flush_word());
        found.into_iter().map(frames).collect()
    }

    fn frames(draft: UntimedWord) -> (String, u64, u64) {
        (draft.text, draft.first_frame, draft.last_frame)
    }

    fn word(text: &str, first: u64, last: u64) -> (String, u64, u64) {
        (text.into(), first, last)
    }

    #[test]
    fn tokens_join_into_words() {
        let found = words(&[(4, 2), (1, 5), (2, 6), (3, 8), (5, 9)]);
        assert_eq!(found, [word("the", 2, 2), word("kitchen.", 5, 9)]);
    }

    #[test]
    fn lone_word_start_begins_a_word() {
        assert_eq!(words(&[(4, 0), (6, 1), (2, 2)]), [word("the", 0, 0), word("t", 1, 2)]);
    }

    #[test]
    fn byte_tokens_join_into_characters() {
        assert_eq!(words(&[(4, 0), (7, 1), (8, 1)]), [word("theé", 0, 1)]);
    }

    #[test]
    fn incomplete_character_becomes_replacement_character() {
        assert_eq!(words(&[(4, 0), (7, 1)]), [word("the\u{fffd}", 0, 1)]);
    }

    #[test]
    fn special_tokens_are_skipped_and_unknown_is_its_own_word() {
        assert_eq!(
            words(&[(9, 0), (4, 1), (0, 2), (2, 3)]),
            [word("the", 1, 1), word("\u{2047}", 2, 2), word("t", 3, 3)]
        );
    }

    #[test]
    fn confidence_is_the_geometric_mean_of_probabilities() {
        let mut builder = WordBuilder::default();
        for (id, probability) in [(1, 0.9_f32), (2, 0.4)] {
            let token = Token::of_log_prob(id, 0, probability.ln());
            assert_eq!(builder.push(&vocabulary(), token), None);
        }
        let word = builder.flush_word().unwrap();
        assert!((word.confidence - 0.6).abs() < 1e-6);
    }

    #[test]
    fn only_repeats_of_the_last_token_count_for_the_word() {
        let mut builder = WordBuilder {
            confidence: ConfidenceConfig::NEMO,
            ..Default::default()
        };
        let mut confidence_after = |repeated: usize, confidence: f32| {
            builder.repeat(repeated, &Aggregate::of(confidence));
            builder.partial_word().map(|word| word.confidence)
        };
        assert_eq!(confidence_after(1, 0.5), None);
        push(&mut builder, 1, 0);
        // `<EOU>` is of no word.
        push(&mut builder, 9, 1);
        let mut confidence_after = |repeated: usize, confidence: f32| {
            builder.repeat(repeated, &Aggregate::of(confidence));
            builder.partial_word().map(|word| word.confidence)
        };
        assert_eq!(confidence_after(9, 0.25), Some(1.0));
        assert_eq!(confidence_after(1, 0.5), Some(0.5));
    }

    #[test]
    fn split_returns_whole_characters_and_keeps_the_rest() {
        let mut builder = WordBuilder::default();
        for (id, frame) in [(4, 0), (2, 1), (7, 2)] {
            assert_eq!(push(&mut builder, id, frame), None);
        }
        assert_eq!(builder.split().map(frames), Some(word("thet", 0, 1)));
        assert_eq!((builder.split(), builder.first_frame()), (None, Some(2)));
        push(&mut builder, 8, 3);
        assert_eq!(builder.split().map(frames), Some(word("é", 2, 3)));
        assert_eq!((builder.split(), builder.first_frame()), (None, None));
    }

    #[test]
    fn open_bytes_counts_incomplete_character() {
        for (text, open) in [
            (&b""[..], 0),
            (b"a", 0),
            (b"a\xc3", 1),
            (b"a\xc3\xa9", 0),
            (b"\xc3a", 0),
            (b"\xff", 0),
            (b"\xe2\x81", 2),
            (b"\xff\xf0\x9f\x98", 3),
            (b"\xa9", 0),
        ] {
            assert_eq!(open_bytes(text), open, "{text:?}");
        }
    }
}
