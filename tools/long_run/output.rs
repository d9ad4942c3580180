// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compares the element's output with that of the first round.

use std::sync::{Mutex, MutexGuard};

use crate::Result;

/// A word with its start time relative to its round.
#[derive(Debug, Clone, PartialEq)]
struct Word {
    text: String,
    start: gst::ClockTime,
    duration: gst::ClockTime,
}

#[derive(Default)]
struct State {
    /// Words of the first round.
    first: Vec<Word>,
    /// The current round, and how many words it has had so far.
    round: u64,
    words_in_round: usize,
    words: u64,
    /// End of the last text or GAP.
    position: gst::ClockTime,
    has_eos: bool,
    failure: Option<String>,
}

pub struct Output {
    /// Duration of a round.
    length: gst::ClockTime,
    state: Mutex<State>,
}

impl Output {
    pub fn new(length: gst::ClockTime) -> Self {
        Self {
            length,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn text(&self, buffer: &gst::BufferRef) {
        let state = &mut *self.state();
        let (Some(start), Some(duration), Ok(map)) = (buffer.pts(), buffer.duration(), buffer.map_readable()) else {
            state.fail(format!("a buffer without times: {buffer:?}"));
            return;
        };
        state.cover(start, duration);
        let round = start.nseconds() / self.length.nseconds();
        let word = Word {
            text: String::from_utf8_lossy(&map).into_owned(),
            start: start - self.length * round,
            duration,
        };
        state.word(round, word);
    }

    pub fn event(&self, event: &gst::EventRef) {
        match event.view() {
            gst::EventView::Gap(gap) => {
                let (start, duration) = gap.get();
                self.state().cover(start, duration.unwrap_or_default());
            }
            gst::EventView::Eos(_) => self.state().has_eos = true,
            _ => {}
        }
    }

    pub fn message(&self, message: &gst::MessageRef) {
        match message.view() {
            gst::MessageView::Error(error) => self.state().fail(error.error().to_string()),
            gst::MessageView::Warning(warning) => self.state().fail(warning.error().to_string()),
            _ => {}
        }
    }

    /// Number of words so far.
    pub fn words(&self) -> u64 {
        self.state().words
    }

    /// # Errors
    ///
    /// The first failure so far.
    pub fn check(&self) -> Result<()> {
        self.state()
            .failure
            .take()
            .map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Checks the end of the output, which must be at `end`.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn finish(&self, end: gst::ClockTime) -> Result<()> {
        let state = &mut *self.state();
        let last = end.nseconds().div_ceil(self.length.nseconds()).saturating_sub(1);
        state.begin_round(last);
        state.end_round();
        if !state.has_eos || state.position != end {
            let position = state.position;
            state.fail(format!("the output ended at {position}, not at {end}"));
        }
        if state.first.is_empty() {
            state.fail("no words".into());
        }
        state.failure.take().map_or(Ok(()), |failure| Err(failure.into()))
    }
}

impl State {
    /// Keeps only the first failure: the others may be consequences.
    fn fail(&mut self, failure: String) {
        self.failure.get_or_insert(failure);
    }

    /// Text or a GAP, which must start at the end of the previous one.
    fn cover(&mut self, start: gst::ClockTime, duration: gst::ClockTime) {
        if start != self.position {
            let position = self.position;
            self.fail(format!("output at {start} follows output that ended at {position}"));
        }
        self.position = start + duration;
    }

    fn word(&mut self, round: u64, word: Word) {
        self.begin_round(round);
        self.words += 1;
        if round == 0 {
            self.first.push(word);
        } else if self.first.get(self.words_in_round) != Some(&word) {
            let expected = self.first.get(self.words_in_round).cloned();
            self.fail(format!("round {round}: {word:?} instead of {expected:?}"));
        }
        self.words_in_round += 1;
    }

    fn begin_round(&mut self, round: u64) {
        while self.round < round {
            self.end_round();
            self.round += 1;
            self.words_in_round = 0;
        }
    }

    fn end_round(&mut self) {
        if self.round > 0 && self.words_in_round != self.first.len() {
            let (round, words, expected) = (self.round, self.words_in_round, self.first.len());
            self.fail(format!("round {round}: {words} words instead of {expected}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use super::*;

    const SECOND: gst::ClockTime = gst::ClockTime::SECOND;

    /// The failure for rounds of 4 s with `words` of one second each, filled up with GAPs.
    fn failure(words: &[(u64, &str)], end: u64) -> Option<String> {
        gst::init().unwrap();
        let output = Output::new(4 * SECOND);
        let mut position = gst::ClockTime::ZERO;
        let gap = |from: gst::ClockTime, to: gst::ClockTime| {
            if to > from {
                output.event(&gst::event::Gap::builder(from).duration(to - from).build());
            }
        };
        for &(second, text) in words {
            gap(position, second * SECOND);
            let mut buffer = gst::Buffer::from_slice(text.to_owned().into_bytes());
            let writable = buffer.get_mut().unwrap();
            writable.set_pts(second * SECOND);
            writable.set_duration(SECOND);
            output.text(&buffer);
            position = (second + 1) * SECOND;
        }
        gap(position, end * SECOND);
        output.event(&gst::event::Eos::new());
        output.finish(12 * SECOND).err().map(|error| error.to_string())
    }

    #[test]
    fn equal_rounds_pass() {
        assert_eq!(
            failure(&[(0, "a"), (2, "b"), (4, "a"), (6, "b"), (8, "a"), (10, "b")], 12),
            None
        );
    }

    #[test]
    fn differences_are_reported() {
        for (words, end) in [
            // A different word, a different time, a missing word (twice), an extra word, and a round without words in
            // the middle and at the end.
            (
                [(0, "a"), (2, "b"), (4, "a"), (6, "c"), (8, "a"), (10, "b")].as_slice(),
                12,
            ),
            (&[(0, "a"), (2, "b"), (4, "a"), (7, "b"), (8, "a"), (10, "b")], 12),
            (&[(0, "a"), (2, "b"), (4, "a"), (8, "a"), (10, "b")], 12),
            (&[(0, "a"), (2, "b"), (4, "a"), (6, "b"), (8, "a")], 12),
            (
                &[(0, "a"), (2, "b"), (4, "a"), (5, "a"), (6, "b"), (8, "a"), (10, "b")],
                12,
            ),
            (&[(0, "a"), (2, "b"), (8, "a"), (10, "b")], 12),
            (&[(0, "a"), (2, "b"), (4, "a"), (6, "b")], 12),
            // The output ends early, ends late, or has no words.
            (&[(0, "a"), (2, "b"), (4, "a"), (6, "b"), (8, "a"), (10, "b")], 11),
            (&[(0, "a"), (2, "b"), (4, "a"), (6, "b"), (8, "a"), (10, "b")], 13),
            (&[], 12),
        ] {
            assert!(failure(words, end).is_some(), "{words:?}");
        }
    }

    #[test]
    fn overlaps_and_holes_are_reported() {
        gst::init().unwrap();
        for start in [1, 3] {
            let output = Output::new(4 * SECOND);
            output.event(
                &gst::event::Gap::builder(gst::ClockTime::ZERO)
                    .duration(2 * SECOND)
                    .build(),
            );
            assert!(output.check().is_ok());
            output.event(&gst::event::Gap::builder(start * SECOND).duration(SECOND).build());
            assert!(output.check().is_err());
        }
    }
}
