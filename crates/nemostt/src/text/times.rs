// SPDX-License-Identifier: MIT OR Apache-2.0

//! Start and end times of words.
//!
//! A word lasts from the encoder frame of its first token to that of its last, but not into the next word. A word that
//! has been emitted never changes, so it waits until its times are final:
//! * Words that begin in the same frame share it evenly; their number is known once the frame has ended.
//! * Frame f is decoded when little more than its first sample has arrived, and the stream may end there. A word that
//!   begins in the last decoded frame waits for the next frame; a word that began earlier ends where that frame begins.
//! * Once the end of the stream is known, words wait for the last one: words in the last frames, or in the silence
//!   after the end, need room.
//!
//! So when the end becomes known, the samples of the last decoded frame are free for the remaining words.

use std::collections::VecDeque;

use super::words::{UntimedWord, Word};
use crate::text::{EndReason, Event};

/// Output of a stream, in order. `W` is a [`PendingWord`] while its times are unknown, then a [`Word`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item<W> {
    Word(W),
    /// The utterance ends.
    End(EndReason),
    /// Anything else, which keeps its position between words.
    Event(Event),
}

/// A complete word that waits for its times.
#[derive(Debug, Clone)]
pub(super) struct PendingWord {
    draft: UntimedWord,
    /// The word ends at the start of this frame at the latest.
    limit: u64,
}

/// How words share the frame in which they begin.
#[derive(Debug, Clone, Default)]
struct FrameShares {
    frame: Option<u64>,
    words: u64,
    /// Number of these words that already have their times.
    assigned: u64,
}

/// Assigns times to words.
#[derive(Debug, Clone)]
pub(super) struct WordTimer {
    /// Samples per encoder frame.
    frame_samples: u64,
    /// See [`EndpointConfig::min_word`](super::EndpointConfig::min_word).
    pub(super) min_word: u64,
    /// Frames before this one have ended: all their tokens are decoded and all their samples have arrived.
    over: u64,
    /// Length of the whole stream in samples, once known.
    stream_end: Option<u64>,
    /// No further word begins before this sample.
    floor: u64,
    shares: FrameShares,
    waiting: VecDeque<Item<PendingWord>>,
}

/// In these methods, `current` is the frame in which the word in progress begins.
impl WordTimer {
    /// A timer at the start of a stream; an encoder frame is `frame_samples` samples long.
    pub(super) fn new(frame_samples: u64) -> Self {
        Self {
            frame_samples,
            min_word: 0,
            over: 0,
            stream_end: None,
            floor: 0,
            shares: FrameShares::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Resets to the start of a stream.
    pub(super) fn reset(&mut self) {
        *self = Self {
            min_word: self.min_word,
            ..Self::new(self.frame_samples)
        };
    }

    /// Records that the frames before `over` have ended; `u64::MAX`: the whole stream has.
    pub(super) fn advance_to(&mut self, over: u64) {
        self.over = self.over.max(over);
    }

    /// Sets the length of the stream in samples.
    pub(super) fn end_at(&mut self, samples: u64, current: Option<u64>) {
        self.floor = self.pending_start(current).unwrap_or(self.over * self.frame_samples);
        self.stream_end = Some(samples);
    }

    /// Adds a complete word. The next one is the word in progress, or begins after the frames that have ended.
    pub(super) fn complete(&mut self, draft: UntimedWord, current: Option<u64>) {
        let next = current.unwrap_or(u64::MAX).min(self.over);
        let limit = next.max(draft.first_frame + 1);
        self.waiting.push_back(Item::Word(PendingWord { draft, limit }));
    }

    /// Adds the end of an utterance.
    pub(super) fn end(&mut self, ending: EndReason) {
        self.waiting.push_back(Item::End(ending));
    }

    /// Adds an event that keeps its position between words.
    pub(super) fn event(&mut self, event: Event) {
        self.waiting.push_back(Item::Event(event));
    }

    /// Removes everything that does not have to wait any longer, with final times.
    pub(super) fn emit_stable(&mut self, current: Option<u64>) -> Vec<Item<Word>> {
        let mut stable = Vec::new();
        if self.stream_end.is_some() && self.over < u64::MAX {
            return stable;
        }
        while let Some(item) = self.next_due() {
            stable.push(match item {
                Item::Word(word) => Item::Word(self.place(word, current)),
                Item::End(ending) => Item::End(ending),
                Item::Event(event) => Item::Event(event),
            });
        }
        if let Some(end) = self.stream_end {
            self.fit(&mut stable, end);
        }
        stable
    }

    /// The words of the utterance in progress that have no times yet, with times as if the stream ended with them.
    pub(super) fn preview(&self, in_progress: Option<UntimedWord>) -> impl Iterator<Item = Word> {
        let mut times = self.clone();
        times.advance_to(u64::MAX);
        if let Some(draft) = in_progress {
            times.complete(draft, None);
        }
        let items = times.emit_stable(None).into_iter();
        items.map_while(|item| match item {
            Item::Word(word) => Some(word),
            Item::End(_) | Item::Event(_) => None,
        })
    }

    /// The word in progress at its shortest possible length; `None` while its start may change.
    pub(super) fn at_least(&self, draft: UntimedWord) -> Option<Word> {
        let stable = self.waiting.is_empty() && self.stream_end.is_none() && draft.first_frame < self.over;
        stable.then(|| Word {
            start: self.start(draft.first_frame),
            end: (draft.last_frame + 1).min(self.over) * self.frame_samples,
            text: draft.text,
            confidence: draft.confidence,
            spoken: Vec::new(),
        })
    }

    /// Sample at which the first word without times begins, if there is one.
    pub(super) fn pending_start(&self, current: Option<u64>) -> Option<u64> {
        let first = self.waiting.iter().find_map(|item| match item {
            Item::Word(word) => Some(word.draft.first_frame),
            Item::End(_) | Item::Event(_) => None,
        });
        first.or(current).map(|frame| self.start(frame))
    }

    /// Sample at which the next word begins that has its first token in frame `frame`.
    fn start(&self, frame: u64) -> u64 {
        let share = match &self.shares {
            shares if shares.frame == Some(frame) => shares.assigned * self.frame_samples / shares.words,
            _ => 0,
        };
        frame * self.frame_samples + share
    }

    fn next_due(&mut self) -> Option<Item<PendingWord>> {
        match self.waiting.front() {
            Some(Item::Word(word)) if word.draft.first_frame >= self.over => None,
            _ => self.waiting.pop_front(),
        }
    }

    /// Assigns a word its times.
    fn place(&mut self, word: PendingWord, current: Option<u64>) -> Word {
        let PendingWord { draft, limit } = word;
        let frame = draft.first_frame;
        if self.shares.frame != Some(frame) {
            let waiting = self.waiting.iter().filter_map(|item| match item {
                Item::Word(word) => Some(word.draft.first_frame),
                Item::End(_) | Item::Event(_) => None,
            });
            let others = waiting.chain(current).take_while(|&other| other == frame).count();
            self.shares = FrameShares {
                frame: Some(frame),
                words: 1 + others as u64,
                assigned: 0,
            };
        }
        let start = self.start(frame);
        self.shares.assigned += 1;
        let share_end = match self.shares.assigned < self.shares.words {
            true => self.start(frame),
            false => u64::MAX,
        };
        // At the end of the stream, words may have to move first: `fit` does both.
        let min_word = if self.stream_end.is_some() { 0 } else { self.min_word };
        let end = (draft.last_frame + 1) * self.frame_samples;
        let end = end.max(start.saturating_add(min_word));
        let end = end.min(limit.saturating_mul(self.frame_samples)).min(share_end);
        if self.stream_end.is_none() {
            self.floor = end;
        }
        Word {
            text: draft.text,
            start,
            end,
            confidence: draft.confidence,
            spoken: Vec::new(),
        }
    }

    /// Fits the last words into the stream. Words beyond its end move back, and push earlier words back only as far as
    /// each one needs to keep its length, a frame, or an even share of the room, whichever is shortest.
    fn fit(&self, items: &mut [Item<Word>], end: u64) {
        let words = items.iter_mut().filter_map(|item| match item {
            Item::Word(word) => Some(word),
            Item::End(_) | Item::Event(_) => None,
        });
        let words: Vec<&mut Word> = words.collect();
        let count = words.len() as u64;
        if count == 0 {
            return;
        }
        // With more words than samples, it is more important that words are not empty than that they fit. A frame has
        // samples for hundreds of words.
        let end = end.max(self.floor + count);
        let share = ((end - self.floor) / count).min(self.frame_samples);
        let mut next = end;
        for word in words.into_iter().rev() {
            let length = (word.end - word.start).min(share);
            word.start = word.start.min(next - length);
            word.end = word.end.max(word.start.saturating_add(self.min_word)).min(next);
            next = word.start;
        }
    }
}
