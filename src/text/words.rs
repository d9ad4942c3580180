// SPDX-License-Identifier: MIT OR Apache-2.0

//! Labels into words.
//!
//! A piece that begins with `▁` begins a word; every other piece, punctuation included, belongs to the word before. A
//! word is given out when it can no longer change: when the next one begins, or the stream ends.

use super::vocabulary::{Piece, Vocabulary, WORD_START};
use crate::decode::Token;

/// What SentencePiece writes for the unknown piece.
const UNKNOWN: &str = "\u{2047}";

/// A finished word.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Its text, without spaces around it.
    pub text: String,
    /// Sample at which its first label's encoder frame begins, counted from the start of the stream.
    pub start: u64,
    /// Sample at which its last label's encoder frame ends, but not beyond the next word's start or the stream's end.
    /// Where two words begin in the same frame, the first has no length.
    pub end: u64,
    /// Geometric mean of its labels' probabilities, 0 to 1.
    pub confidence: f32,
}

/// Collects the labels of one word at a time.
#[derive(Debug, Clone)]
pub struct WordBuilder {
    /// Samples per encoder frame.
    frame_samples: u64,
    /// Bytes, because a character may be spelled by several byte pieces.
    text: Vec<u8>,
    first_frame: u64,
    last_frame: u64,
    log_prob: f32,
    labels: u32,
    /// Samples of the whole stream, once they are known.
    stream_end: u64,
    /// End of the word before.
    said_until: u64,
    /// The word at work takes no more pieces: SentencePiece puts spaces on both sides of the unknown piece.
    closed: bool,
}

impl WordBuilder {
    /// A builder at the start of a stream; `frame_samples` samples lie between two encoder frames.
    pub fn new(frame_samples: u64) -> Self {
        Self {
            frame_samples,
            text: Vec::new(),
            first_frame: 0,
            last_frame: 0,
            log_prob: 0.0,
            labels: 0,
            stream_end: u64::MAX,
            said_until: 0,
            closed: false,
        }
    }

    /// Takes a label; gives the word before it, if this one begins another.
    pub fn push(&mut self, vocabulary: &Vocabulary, token: Token) -> Option<Word> {
        let piece = vocabulary.piece(token.id)?;
        let text: &[u8] = match piece {
            Piece::Text(piece) => piece.strip_prefix(WORD_START).unwrap_or(piece).as_bytes(),
            Piece::Byte(byte) => std::slice::from_ref(byte),
            Piece::Unknown => UNKNOWN.as_bytes(),
            Piece::Control(_) => return None,
        };
        let done = if vocabulary.begins_word(token.id) || self.closed {
            self.take(token.frame * self.frame_samples)
        } else {
            None
        };
        self.closed = *piece == Piece::Unknown;
        if self.labels == 0 {
            self.first_frame = token.frame;
        }
        self.text.extend_from_slice(text);
        self.last_frame = token.frame;
        self.log_prob += token.log_prob;
        self.labels += 1;
        done
    }

    /// The stream ends after `samples` samples: no word that is still to be given out reaches beyond.
    pub fn end_at(&mut self, samples: u64) {
        self.stream_end = samples;
    }

    /// Gives the last word.
    pub fn finish(&mut self) -> Option<Word> {
        self.take(self.stream_end)
    }

    /// Sample at which the word at work begins, if there is one: nothing that is still to come lies before it.
    pub fn pending_start(&self) -> Option<u64> {
        (self.labels > 0).then_some(self.first_frame * self.frame_samples)
    }

    /// Back to the start of a stream.
    pub fn reset(&mut self) {
        self.clear();
        self.stream_end = u64::MAX;
        self.said_until = 0;
    }

    fn clear(&mut self) {
        self.text.clear();
        self.log_prob = 0.0;
        self.labels = 0;
        self.closed = false;
    }

    /// The word at work as it is now.
    pub fn peek(&self) -> Option<Word> {
        self.word(self.stream_end)
    }

    /// The word at work, which ends at sample `limit` at the latest; a new one begins.
    fn take(&mut self, limit: u64) -> Option<Word> {
        let word = self.word(limit);
        if let Some(word) = &word {
            self.said_until = word.end;
        }
        self.clear();
        word
    }

    fn word(&self, limit: u64) -> Option<Word> {
        // A SentencePiece may hold more than one word's worth of `▁`.
        let text = String::from_utf8_lossy(&self.text).replace(WORD_START, " ");
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        // The last frame reaches beyond the end of the stream: a word decided there is said to last for the frame before.
        let latest = self.stream_end.saturating_sub(self.frame_samples);
        let start = (self.first_frame * self.frame_samples).min(latest).max(self.said_until);
        let end = (self.last_frame + 1) * self.frame_samples;
        Some(Word {
            text: text.to_owned(),
            start,
            end: end.min(limit).min(self.stream_end).max(start),
            confidence: (self.log_prob / self.labels.max(1) as f32).exp(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: &str = "<unk> 0\n▁ki 1\nt 2\nchen 3\n▁the 4\n. 5\n▁ 6\n<0xC3> 7\n<0xA9> 8\n<EOU> 9\n";

    fn words(labels: &[(usize, u64)], samples: u64) -> Vec<(String, u64, u64)> {
        let vocabulary = Vocabulary::parse("tokens.txt", PIECES.as_bytes(), 10).unwrap();
        let mut builder = WordBuilder::new(1280);
        builder.end_at(samples);
        let mut found = Vec::new();
        for &(id, frame) in labels {
            found.extend(builder.push(
                &vocabulary,
                Token {
                    id,
                    frame,
                    log_prob: 0.0,
                },
            ));
        }
        found.extend(builder.finish());
        found
            .into_iter()
            .map(|word| (word.text, word.start / 1280, word.end / 1280))
            .collect()
    }

    fn word(text: &str, start: u64, end: u64) -> (String, u64, u64) {
        (text.into(), start, end)
    }

    #[test]
    fn pieces_join_into_words_with_times() {
        let found = words(&[(4, 2), (1, 5), (2, 6), (3, 8), (5, 9)], 1 << 20);
        assert_eq!(found, [word("the", 2, 3), word("kitchen.", 5, 10)]);
    }

    #[test]
    fn words_never_overlap_nor_outlast_the_stream() {
        assert_eq!(
            words(&[(4, 2), (4, 2), (1, 3)], 3 * 1280 + 640),
            [word("the", 2, 2), word("the", 2, 3), word("ki", 3, 3)]
        );
    }

    #[test]
    fn a_lone_space_begins_a_word() {
        assert_eq!(
            words(&[(4, 0), (6, 1), (2, 2)], 1 << 20),
            [word("the", 0, 1), word("t", 1, 3)]
        );
    }

    #[test]
    fn bytes_spell_characters() {
        assert_eq!(words(&[(4, 0), (7, 1), (8, 1)], 1 << 20), [word("theé", 0, 2)]);
    }

    #[test]
    fn a_broken_character_is_marked_not_lost() {
        assert_eq!(words(&[(4, 0), (7, 1)], 1 << 20), [word("the\u{fffd}", 0, 2)]);
    }

    #[test]
    fn marks_are_not_text_and_the_unknown_stands_alone() {
        assert_eq!(
            words(&[(9, 0), (4, 1), (0, 2), (2, 3)], 1 << 20),
            [word("the", 1, 2), word("\u{2047}", 2, 3), word("t", 3, 4)]
        );
    }

    #[test]
    fn confidence_is_the_geometric_mean() {
        let vocabulary = Vocabulary::parse("tokens.txt", PIECES.as_bytes(), 10).unwrap();
        let mut builder = WordBuilder::new(1280);
        for (id, probability) in [(1, 0.9_f32), (2, 0.4)] {
            let token = Token {
                id,
                frame: 0,
                log_prob: probability.ln(),
            };
            assert_eq!(builder.push(&vocabulary, token), None);
        }
        let word = builder.finish().unwrap();
        assert!((word.confidence - 0.6).abs() < 1e-6);
    }
}
