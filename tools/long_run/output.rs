// SPDX-License-Identifier: MIT OR Apache-2.0

//! What leaves the element, compared with what left it in the first round.

use std::sync::{Mutex, MutexGuard};

use crate::Result;

/// A word, with its times since its round began.
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
    /// The current round, and how many of its words came.
    round: u64,
    heard: usize,
    words: u64,
    /// Text and GAPs came up to here.
    position: gst::ClockTime,
    is_over: bool,
    trouble: Option<String>,
}

pub struct Output {
    /// Of a round.
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
            state.complain(format!("a buffer without times: {buffer:?}"));
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
            gst::EventView::Eos(_) => self.state().is_over = true,
            _ => {}
        }
    }

    pub fn message(&self, message: &gst::MessageRef) {
        match message.view() {
            gst::MessageView::Error(error) => self.state().complain(error.error().to_string()),
            gst::MessageView::Warning(warning) => self.state().complain(warning.error().to_string()),
            _ => {}
        }
    }

    /// Words so far.
    pub fn words(&self) -> u64 {
        self.state().words
    }

    /// Whether all is well so far.
    pub fn check(&self) -> Result<()> {
        self.state()
            .trouble
            .take()
            .map_or(Ok(()), |trouble| Err(trouble.into()))
    }

    /// Whether all was well, up to the end at `end`.
    pub fn finish(&self, end: gst::ClockTime) -> Result<()> {
        let state = &mut *self.state();
        let last = end.nseconds().div_ceil(self.length.nseconds()).saturating_sub(1);
        state.begin_round(last);
        state.end_round();
        if !state.is_over || state.position != end {
            let position = state.position;
            state.complain(format!("the output ended at {position}, not at {end}"));
        }
        if state.first.is_empty() {
            state.complain("not a word".into());
        }
        state.trouble.take().map_or(Ok(()), |trouble| Err(trouble.into()))
    }
}

impl State {
    /// Only what went wrong first is of interest.
    fn complain(&mut self, trouble: String) {
        self.trouble.get_or_insert(trouble);
    }

    /// Text or a GAP: it begins where the one before ended.
    fn cover(&mut self, start: gst::ClockTime, duration: gst::ClockTime) {
        if start != self.position {
            let position = self.position;
            self.complain(format!("{start} comes after {position}"));
        }
        self.position = start + duration;
    }

    fn word(&mut self, round: u64, word: Word) {
        self.begin_round(round);
        self.words += 1;
        if round == 0 {
            self.first.push(word);
        } else if self.first.get(self.heard) != Some(&word) {
            let expected = self.first.get(self.heard).cloned();
            self.complain(format!("round {round}: {word:?} instead of {expected:?}"));
        }
        self.heard += 1;
    }

    fn begin_round(&mut self, round: u64) {
        while self.round < round {
            self.end_round();
            self.round += 1;
            self.heard = 0;
        }
    }

    fn end_round(&mut self) {
        if self.round > 0 && self.heard != self.first.len() {
            let (round, heard, expected) = (self.round, self.heard, self.first.len());
            self.complain(format!("round {round}: {heard} words instead of {expected}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use super::*;

    const SECOND: gst::ClockTime = gst::ClockTime::SECOND;

    /// Rounds of 4 s; each word lasts for a second, and GAPs are between them. Gives what is wrong with it.
    fn trouble(words: &[(u64, &str)], end: u64) -> Option<String> {
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
    fn rounds_that_are_alike_are_fine() {
        assert_eq!(
            trouble(&[(0, "a"), (2, "b"), (4, "a"), (6, "b"), (8, "a"), (10, "b")], 12),
            None
        );
    }

    #[test]
    fn whatever_differs_is_told() {
        for (words, end) in [
            // Another word, another time, one less, one more, a round without any, in the middle and at the end.
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
            // The output ends early, or late; nobody spoke.
            (&[(0, "a"), (2, "b"), (4, "a"), (6, "b"), (8, "a"), (10, "b")], 11),
            (&[(0, "a"), (2, "b"), (4, "a"), (6, "b"), (8, "a"), (10, "b")], 13),
            (&[], 12),
        ] {
            assert!(trouble(words, end).is_some(), "{words:?}");
        }
    }

    #[test]
    fn time_that_is_covered_twice_or_never_is_told() {
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
