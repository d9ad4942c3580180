// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a stream emits, and when words and utterances are complete.

use super::{Alternative, Partial, Word};
use crate::token::Token;

/// Output of a stream.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A token was decoded. Words consist of these.
    Token(Token),
    /// A word is complete: it will not change.
    Word(Word),
    /// The utterance in progress, which may still change and grow. Only with [`EndpointConfig::partials`].
    Partial(Partial),
    /// An utterance is complete: [`Utterance::ending`] says why. Its words were emitted before it.
    Utterance(Utterance),
    /// The model emitted a token for the spoken language, a code such as `en-US`.
    Language(String),
    /// The model emitted an end-of-turn token, whether or not there were words since the previous one. An utterance in
    /// progress is emitted first.
    Turn(EndReason),
}

/// Why an utterance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// A pause in speech.
    Pause,
    /// `<EOU>`: the speaker has finished and waits for an answer.
    EndOfUtterance,
    /// `<EOB>`: the speaker only signaled that they are listening.
    EndOfBackchannel,
    /// The stream ended.
    EndOfStream,
    /// The application requested the end of the utterance.
    Request,
    /// It reached the limit of [`EndpointConfig::max_utterance`] or [`EndpointConfig::max_utterance_chars`].
    Limit,
}

impl EndReason {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::EndOfUtterance => "end-of-utterance",
            Self::EndOfBackchannel => "end-of-backchannel",
            Self::EndOfStream => "end-of-stream",
            Self::Request => "request",
            Self::Limit => "max-utterance",
        }
    }
}

/// Words between two endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    /// Number of the utterance in its stream, from 0.
    pub id: u64,
    /// Its words: at least one, except in a [`Partial`].
    pub words: Vec<Word>,
    /// Why it ended; `None` while it is in progress.
    pub ending: Option<EndReason>,
    /// Its language, if the model reports it: the last one reported.
    pub language: Option<String>,
    /// The best transcripts, the best one first, if [`BeamConfig::n_best`](crate::BeamConfig::n_best) asks for them. Empty while it is
    /// in progress, and if it ended because of a limit.
    pub alternatives: Vec<Alternative>,
}

impl Utterance {
    /// Its words with spaces between them.
    pub fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|word| word.text.as_str()).collect();
        words.join(" ")
    }

    /// Sample at which its first word begins.
    pub fn start(&self) -> u64 {
        self.words.first().map_or(0, |word| word.start)
    }

    /// Sample at which its last word ends.
    pub fn end(&self) -> u64 {
        self.words.last().map_or(0, |word| word.end)
    }

    /// Mean confidence of its words.
    pub fn confidence(&self) -> f32 {
        let sum: f32 = self.words.iter().map(|word| word.confidence).sum();
        sum / self.words.len().max(1) as f32
    }
}

/// When words and utterances are complete. It may be changed while a stream is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointConfig {
    /// A word is complete after this many encoder frames without a token; `None`: when the next word begins.
    pub word: Option<u64>,
    /// An utterance and its last word are complete after this many encoder frames without a token; `None`: when the
    /// stream ends.
    pub utterance: Option<u64>,
    /// Whether to emit [`Event::Partial`]s.
    pub partials: bool,
    /// Partials show only words that have been at their place for this many chunks, and those that are complete; 0: all words.
    pub partial_stability: u32,
    /// A word that ended this many encoder frames ago is emitted even if those after it may change it, as the words of a number
    /// do; `None`: it waits for them until the utterance ends. See [`TextShaping`](super::TextShaping).
    pub phrase: Option<u64>,
    /// Shortest duration of a word in samples, where there is room before the next one; 0: no minimum, but a word is
    /// never empty.
    pub min_word: u64,
    /// Whether words are used one by one, before their utterance is complete: beam search then decides on a token within 2 s. So it
    /// does if `word` or `longest_word` is set. Greedy decoding does so at once.
    pub emits_words: bool,
    /// A word that began this many encoder frames ago is emitted in parts, each a [`Word`] of whole characters; `None`:
    /// never.
    pub longest_word: Option<u64>,
    /// Longest utterance in samples, unless a single word is longer. It is cut at the best gap between words: the
    /// longer it is, the shorter a gap is enough.
    pub max_utterance: Option<u64>,
    /// Most characters of an utterance, including spaces, unless a single word has more. It is cut as with
    /// `max_utterance`.
    pub max_utterance_chars: Option<usize>,
}
