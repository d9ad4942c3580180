// SPDX-License-Identifier: MIT OR Apache-2.0

//! Groups tokens into words and words into utterances, and decides when to emit them.

mod partial;

use std::{collections::VecDeque, sync::Arc};

pub(crate) use partial::Undecided;

use super::{
    Alternative, EndReason, EndpointConfig, Event, Shaper, SpecialToken, TextShaping, TokenText, Utterance, Vocabulary,
    Word,
    alternatives::{self, Draft},
    partials::PartialTracker,
    times::{Item, WordTimer},
    words::{UntimedWord, WordBuilder},
};
use crate::{
    confidence::{Aggregate, ConfidenceConfig},
    token::{Ranked, Token},
};

/// Gap between words, in encoder frames, at which an utterance of half the maximum length is cut. At the maximum, any
/// gap is enough.
const GOOD_GAP: u64 = 6;

/// Complete words of the utterance in progress.
#[derive(Debug, Clone, Default)]
struct OpenUtterance {
    words: Vec<Word>,
    /// Characters of the words and the spaces between them.
    chars: usize,
}

impl OpenUtterance {
    fn push(&mut self, word: Word) {
        self.chars = self.chars_with(&word);
        self.words.push(word);
    }

    fn chars_with(&self, word: &Word) -> usize {
        self.chars + usize::from(!self.words.is_empty()) + word.text.chars().count()
    }

    /// Whether the utterance is cut before `word`, given a good gap of `good_gap` samples. Once true, it remains true
    /// as the word gets longer.
    fn ends_before(&self, word: &Word, pauses: &EndpointConfig, good_gap: u64) -> bool {
        let (Some(first), Some(last)) = (self.words.first(), self.words.last()) else {
            return false;
        };
        let length = word.end.saturating_sub(first.start) as f64;
        let chars = self.chars_with(word) as f64;
        let by_length = pauses.max_utterance.map_or(0.0, |max| length / max as f64);
        let by_chars = pauses.max_utterance_chars.map_or(0.0, |max| chars / max as f64);
        let fraction = by_length.max(by_chars);
        let gap = word.start.saturating_sub(last.end) as f64;
        fraction > 1.0 || fraction >= 0.5 && gap >= good_gap as f64 * 2.0 * (1.0 - fraction)
    }
}

/// Groups the tokens of one stream into words and utterances.
#[derive(Debug, Clone)]
pub(crate) struct Segmenter {
    pauses: EndpointConfig,
    /// Whether utterances end where there is no token for long enough, instead of where the decoder says so.
    finds_pauses: bool,
    good_gap: u64,
    frame_samples: u64,
    builder: WordBuilder,
    /// Complete words that wait for their times, and the events between them.
    times: WordTimer,
    /// Changes words whose times are final before they are emitted.
    shaper: Shaper,
    open: OpenUtterance,
    /// Number of the utterance in progress.
    id: u64,
    /// Frame of the last token, while an utterance is in progress.
    last_token_frame: Option<u64>,
    /// Whether anything was decoded since the last partial.
    changed: bool,
    partials: PartialTracker,
    /// The language that the model reported last.
    language: Option<String>,
    /// Ids of the tokens that were undecided in the last partial.
    undecided: Vec<usize>,
    /// Transcripts of the utterance that is about to end, and how many are to be reported.
    drafts: (Vec<Draft>, usize),
    /// Those of utterances that have ended and wait for the times of their words.
    ended: VecDeque<(Vec<Draft>, usize)>,
    events: VecDeque<Event>,
}

impl Segmenter {
    /// A segmenter at the start of a stream; an encoder frame is `frame_samples` samples long.
    pub(crate) fn new(frame_samples: u64) -> Self {
        Self {
            pauses: EndpointConfig::default(),
            finds_pauses: true,
            good_gap: GOOD_GAP * frame_samples,
            frame_samples,
            builder: WordBuilder::default(),
            times: WordTimer::new(frame_samples),
            shaper: Shaper::default(),
            open: OpenUtterance::default(),
            id: 0,
            last_token_frame: None,
            changed: false,
            partials: PartialTracker::default(),
            language: None,
            undecided: Vec::new(),
            drafts: Default::default(),
            ended: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn endpoint_config(&self) -> &EndpointConfig {
        &self.pauses
    }

    pub(crate) fn set_endpoint_config(&mut self, pauses: EndpointConfig) {
        self.pauses = pauses;
        self.times.min_word = pauses.min_word;
    }

    /// Sets whether utterances end where there is no token for long enough. Otherwise only [`pause_before`](Self::pause_before)
    /// ends them there: a beam knows of pauses before their tokens are decided, and its transcripts end with them.
    pub(crate) fn set_finds_pauses(&mut self, finds_pauses: bool) {
        self.finds_pauses = finds_pauses;
    }

    /// Ends the utterance in progress because of a pause, which lasts until frame `frame` at least.
    pub(crate) fn pause_before(&mut self, frame: u64) {
        self.advance_to(frame.saturating_sub(1));
        match self.last_token_frame {
            Some(_) => self.end_utterance(EndReason::Pause),
            // There are no words.
            None => self.drafts.0.clear(),
        }
    }

    /// Frame in which the word in progress begins, if token `id` continues it.
    pub(crate) fn word_continued_by(&self, vocabulary: &Vocabulary, id: usize) -> Option<u64> {
        let is_of_it = !vocabulary.begins_word(id) && vocabulary.piece(id).and_then(TokenText::special).is_none();
        self.builder.first_frame().filter(|_| is_of_it)
    }

    /// Adds a token.
    pub(crate) fn token(&mut self, vocabulary: &Vocabulary, token: Token) {
        self.events.push_back(Event::Token(token));
        self.advance_to(token.frame);
        if let Some(special) = vocabulary.piece(token.id).and_then(TokenText::special) {
            self.special(special);
            return;
        }
        // The pause may begin and end within one chunk. A token that continues a word does not begin an utterance.
        if vocabulary.begins_word(token.id) {
            self.pause(token.frame);
            self.release_held(token.frame);
        }
        let word = self.builder.push(vocabulary, token);
        self.complete(word);
        self.last_token_frame = Some(token.frame);
        self.changed = true;
    }

    /// Adds the confidences of `frames` that repeat token `id`, the last one.
    pub(crate) fn repeat(&mut self, id: usize, frames: &Aggregate) {
        self.builder.repeat(id, frames);
    }

    /// How the confidences of words are computed from those of their tokens, from the next word on.
    pub(crate) fn set_confidence(&mut self, confidence: ConfidenceConfig) {
        self.builder.confidence = confidence;
    }

    /// Sets the best transcripts of the utterance that ends next, of which at most `count` are reported.
    pub(crate) fn set_ranked(&mut self, vocabulary: &Vocabulary, ranked: &[Ranked], count: usize) {
        self.drafts = (alternatives::drafts(vocabulary, ranked), count);
    }

    /// Records that the frames before `frames` have been decoded, and that all tokens of them have been passed to
    /// [`token`](Self::token) but those that are undecided.
    pub(crate) fn decoded(&mut self, vocabulary: &Vocabulary, frames: u64, undecided: Undecided<'_>) {
        let decided = undecided.first_frame.map_or(frames, |first| first.min(frames));
        // The last frame is decoded when little more than its first sample has arrived, so it has not ended yet.
        self.advance_to(decided.saturating_sub(1));
        if !self.pause(decided) && self.is_long(frames) {
            let part = self.builder.split();
            self.complete(part);
        }
        self.release_held(frames);
        self.end_before_current();
        self.note_undecided(undecided.tokens);
        if self.pauses.partials {
            self.partials.next_chunk();
            let changed = std::mem::take(&mut self.changed);
            if changed || self.partials.may_change() {
                let repeat = changed && self.pauses.partial_stability == 0;
                self.partial(vocabulary, undecided.tokens, repeat);
            }
        }
    }

    /// Sets the end of the stream, in samples: no further word will extend beyond it.
    pub(crate) fn end_at(&mut self, samples: u64) {
        self.times.end_at(samples, self.builder.first_frame());
    }

    /// Ends the stream; `ending` is the reason.
    pub(crate) fn finish(&mut self, ending: EndReason) {
        // The last word must be complete before any times are final.
        self.times.advance_to(u64::MAX);
        self.end_utterance(ending);
    }

    /// Removes the oldest event.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sample at which the first word begins that has not been emitted, if there is one.
    pub(crate) fn pending_start(&self) -> Option<u64> {
        let held = self.shaper.held_start();
        held.or_else(|| self.times.pending_start(self.builder.first_frame()))
    }

    /// Changes words as `shaping` says from the next one on, for a model that writes punctuation or does not.
    pub(crate) fn set_shaping(&mut self, shaping: &Arc<TextShaping>, punctuates: bool) {
        if !self.shaper.is(shaping) {
            self.flush_shaper();
            self.shaper.set(shaping.clone(), punctuates);
        }
    }

    /// Sets the language of the speech, unless the model reports it.
    pub(crate) fn set_language(&mut self, language: &str) {
        if !self.shaper.is_language(language) {
            self.flush_shaper();
            self.shaper.set_language(language);
        }
    }

    /// Words that begin before `sample` are not joined with others, also not those that wait for that.
    pub(crate) fn separate_until(&mut self, sample: u64) {
        self.shaper.separate_until(sample);
    }

    /// Sample at which the utterance in progress begins, if there is one.
    pub(crate) fn utterance_start(&self) -> Option<u64> {
        self.open.words.first().map(|word| word.start).or(self.pending_start())
    }

    /// Resets to the start of a stream.
    pub(crate) fn reset(&mut self) {
        self.builder.reset();
        self.times.reset();
        self.shaper.reset();
        self.open.words.clear();
        self.open.chars = 0;
        self.id = 0;
        self.last_token_frame = None;
        self.changed = false;
        self.partials.reset();
        self.language = None;
        self.undecided.clear();
        self.drafts.0.clear();
        self.ended.clear();
        self.events.clear();
    }

    /// Whether there are at least `limit` frames without a token between the last token and frame `frame`.
    fn is_silent_for(&self, frame: u64, limit: Option<u64>) -> bool {
        let silent = |last: u64| frame.saturating_sub(last + 1);
        self.last_token_frame
            .zip(limit)
            .is_some_and(|(last, limit)| silent(last) >= limit)
    }

    /// Ends the utterance or its last word if there was no token before frame `frame` for long enough. Returns whether it has.
    fn pause(&mut self, frame: u64) -> bool {
        if self.finds_pauses && self.is_silent_for(frame, self.pauses.utterance) {
            self.end_utterance(EndReason::Pause);
            return true;
        }
        if self.is_silent_for(frame, self.pauses.word) {
            let word = self.builder.flush_word();
            self.complete(word);
            return true;
        }
        false
    }

    /// Whether the word in progress is to be emitted in parts.
    fn is_long(&self, frames: u64) -> bool {
        let first = self.builder.first_frame();
        let limit = self.pauses.longest_word;
        first
            .zip(limit)
            .is_some_and(|(first, limit)| frames.saturating_sub(first) >= limit)
    }

    /// Records that the frames before `over` have ended.
    fn advance_to(&mut self, over: u64) {
        self.times.advance_to(over);
        self.emit_stable();
    }

    fn complete(&mut self, word: Option<UntimedWord>) {
        if let Some(word) = word {
            self.times.complete(word, self.builder.first_frame());
            self.emit_stable();
        }
    }

    /// Handles a special token.
    fn special(&mut self, token: SpecialToken) {
        let ending = match token {
            SpecialToken::EndOfUtterance => EndReason::EndOfUtterance,
            SpecialToken::EndOfBackchannel => EndReason::EndOfBackchannel,
            SpecialToken::Language(language) => {
                // An utterance that is certain to have ended has the previous language.
                self.end_before_current();
                self.times.event(Event::Language(language));
                self.emit_stable();
                return;
            }
            SpecialToken::Other => return,
        };
        self.end_utterance(ending);
        self.times.event(Event::Turn(ending));
        self.emit_stable();
    }

    fn end_utterance(&mut self, ending: EndReason) {
        let word = self.builder.flush_word();
        self.complete(word);
        self.last_token_frame = None;
        self.ended.push_back(std::mem::take(&mut self.drafts));
        self.times.end(ending);
        self.emit_stable();
    }

    /// Emits everything whose times are final.
    fn emit_stable(&mut self) {
        for item in self.times.emit_stable(self.builder.first_frame()) {
            match item {
                Item::Word(word) => {
                    let words = self.shaper.push(word);
                    self.add_all(words);
                }
                Item::End(ending) => {
                    self.flush_shaper();
                    let (drafts, count) = self.ended.pop_front().unwrap_or_default();
                    let alternatives = self.open.words.first().map(|first| {
                        let first_frame = first.start / self.frame_samples;
                        alternatives::alternatives(&drafts, first_frame, count, &self.shaper)
                    });
                    self.utterance(ending, alternatives.unwrap_or_default());
                    self.shaper.end_utterance(ending);
                    self.changed = false;
                }
                Item::Event(event) => {
                    self.flush_shaper();
                    if let Event::Language(language) = &event {
                        self.language = Some(language.clone());
                        self.shaper.report_language(language);
                    }
                    self.events.push_back(event);
                }
            }
        }
    }

    /// Emits the words that the shaper holds back, if the first one has waited for too long at frame `frame`.
    fn release_held(&mut self, frame: u64) {
        let ended = self.shaper.held_end().zip(self.pauses.phrase);
        let due =
            |(end, limit): (u64, u64)| frame * self.frame_samples >= end.saturating_add(limit * self.frame_samples);
        if ended.is_some_and(due) {
            self.flush_shaper();
        }
    }

    /// Emits the words that the shaper holds back.
    fn flush_shaper(&mut self) {
        let words = self.shaper.flush();
        self.add_all(words);
    }

    fn add_all(&mut self, words: Vec<Word>) {
        for word in words {
            self.add(word);
        }
    }

    /// Adds a word to the utterance in progress; ends that one first if it is long enough.
    fn add(&mut self, word: Word) {
        if self.open.ends_before(&word, &self.pauses, self.good_gap) {
            self.utterance(EndReason::Limit, Vec::new());
        }
        self.events.push_back(Event::Word(word.clone()));
        self.open.push(word);
    }

    /// Emits the complete words as an utterance, with `alternatives` to them.
    fn utterance(&mut self, ending: EndReason, alternatives: Vec<Alternative>) {
        let OpenUtterance { words, .. } = std::mem::take(&mut self.open);
        if !words.is_empty() {
            self.events.push_back(Event::Utterance(Utterance {
                id: self.id,
                words,
                ending: Some(ending),
                language: self.language.clone(),
                alternatives,
            }));
            self.id += 1;
        }
    }
}

#[cfg(test)]
mod tests;
