// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be emitted while input stalls.
//!
//! During a stall it is unknown whether the audio is lost or late. So the stream is
//! [saved](nemostt::Stream::save), finished as if it ended here, and its words are emitted when they are due.
//! After a hole longer than `gap-threshold` the stream starts over, and this is the text of a file with the same hole.
//! Otherwise it is restored, and words that it decodes again are suppressed.
//!
//! A word that the stall cuts in two waits for its other half, up to a limit.

use std::collections::VecDeque;

use nemostt::{Event, Word};

/// Samples over which loudness is measured: 20 ms at 16 kHz.
const BLOCK: u64 = 320;
/// Blocks that are kept: a second and a half.
const RECENT_BLOCKS: usize = 75;
/// Trailing blocks that are examined for speech.
const TRAILING_BLOCKS: usize = 2;
/// Speech threshold relative to the loudest recent block: -30 dB, about the level at which words end.
const RELATIVE_SPEECH_LEVEL: f32 = 0.03;
/// Absolute speech threshold relative to full scale: below it is the noise of a quiet room.
const ABSOLUTE_SPEECH_LEVEL: f32 = 0.003;

/// Loudness of the last samples, to tell whether audio ended within a word.
#[derive(Debug, Default)]
pub(super) struct Loudness {
    /// RMS of each complete block, newest last.
    blocks: VecDeque<f32>,
    sum: f32,
    samples: u64,
}

impl Loudness {
    pub(super) fn push(&mut self, samples: &[i16]) {
        for &sample in samples {
            let sample = f32::from(sample) / 32_768.0;
            self.sum += sample * sample;
            self.samples += 1;
            if self.samples == BLOCK {
                if self.blocks.len() == RECENT_BLOCKS {
                    self.blocks.pop_front();
                }
                self.blocks.push_back((self.sum / BLOCK as f32).sqrt());
                (self.sum, self.samples) = (0.0, 0);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        (self.sum, self.samples) = (0.0, 0);
    }

    /// Whether there is speech up to the last sample.
    pub(super) fn ends_in_speech(&self) -> bool {
        let loudest =
            |blocks: &mut dyn Iterator<Item = &f32>| blocks.fold(0.0_f32, |loudest, &block| loudest.max(block));
        let last = loudest(&mut self.blocks.iter().rev().take(TRAILING_BLOCKS));
        last > ABSOLUTE_SPEECH_LEVEL && last > RELATIVE_SPEECH_LEVEL * loudest(&mut self.blocks.iter())
    }
}

/// What was decoded when input stalled and has not been emitted yet.
#[derive(Debug)]
pub(super) struct Stall {
    pending: VecDeque<Event>,
    /// Whether the last word may continue in audio that has not arrived yet.
    is_cut: bool,
    /// Running time at which audio ended, in nanoseconds.
    pub(super) end: i64,
}

/// What may be emitted by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// Words that begin before this sample.
    pub(super) before: u64,
    /// The last word, even if it may have been cut.
    pub(super) cut_word: bool,
    /// The utterance.
    pub(super) utterance: bool,
}

impl Due {
    /// Everything: input has ended or continues elsewhere.
    pub(super) const ALL: Self = Self {
        before: u64::MAX,
        cut_word: true,
        utterance: true,
    };
}

impl Stall {
    /// `events` were decoded as if audio ended at sample `samples`, which is at running time `end` in nanoseconds.
    /// `frame`: samples per encoder frame.
    pub(super) fn new(events: VecDeque<Event>, end: i64, samples: u64, ends_in_speech: bool, frame: u64) -> Self {
        let last = events.iter().rev().find_map(word_of);
        // A few frames of silence after a word are enough to know that it is complete.
        let is_cut = ends_in_speech && last.is_some_and(|word| word.end + 4 * frame > samples);
        Self {
            pending: events,
            is_cut,
            end,
        }
    }

    /// Removes the next event, if it may be emitted.
    pub(super) fn next(&mut self, due: Due, by_word: bool) -> Option<Event> {
        let waits_for_end = self.is_cut && !due.cut_word;
        let is_last_word = !self.pending.iter().skip(1).any(|event| matches!(event, Event::Word(_)));
        let may_leave = match self.pending.front()? {
            Event::Word(word) if by_word => word.start < due.before && !(waits_for_end && is_last_word),
            Event::Utterance(_) | Event::Turn(_) => due.utterance && !waits_for_end,
            _ => true,
        };
        may_leave.then(|| self.pending.pop_front()).flatten()
    }

    /// Whether everything has been emitted.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether words are still to be emitted.
    pub(super) fn has_words(&self, by_word: bool) -> bool {
        self.pending.iter().any(|event| match event {
            Event::Word(_) => by_word,
            Event::Utterance(_) => !by_word,
            _ => false,
        })
    }
}

fn word_of(event: &Event) -> Option<&Word> {
    match event {
        Event::Word(word) => Some(word),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = 1_280;
    const NOW: Due = Due {
        before: u64::MAX,
        cut_word: false,
        utterance: false,
    };

    fn word(text: &str, start: u64) -> Event {
        Event::Word(Word {
            text: text.into(),
            start,
            end: start + FRAME,
            confidence: 1.0,
            spoken: Vec::new(),
        })
    }

    fn texts(stall: &mut Stall, due: Due) -> Vec<String> {
        let words = std::iter::from_fn(|| stall.next(due, true)).filter_map(|event| match event {
            Event::Word(word) => Some(word.text),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn ends_in_speech_ignores_noise_and_trailing_silence() {
        let mut loudness = Loudness::default();
        assert!(!loudness.ends_in_speech());
        let tone: Vec<i16> = (0..16_000).map(|i| if i % 40 < 20 { 3_000 } else { -3_000 }).collect();
        loudness.push(&tone);
        assert!(loudness.ends_in_speech());
        loudness.push(&[0; 320]);
        assert!(loudness.ends_in_speech(), "20 ms may be within a sound");
        loudness.push(&[0; 320]);
        assert!(!loudness.ends_in_speech());
        // Soft, but louder than room noise after speech.
        loudness.push(&tone.iter().map(|sample| sample / 20).collect::<Vec<_>>());
        assert!(loudness.ends_in_speech());
        loudness.clear();
        loudness.push(&[20; 16_000]);
        assert!(!loudness.ends_in_speech(), "noise alone is not speech");
    }

    #[test]
    fn cut_word_waits_for_its_other_half() {
        let events = || VecDeque::from([word("one", 0), word("two", 10 * FRAME)]);
        let mut whole = Stall::new(events(), 0, 11 * FRAME, false, FRAME);
        assert_eq!(texts(&mut whole, NOW), ["one", "two"]);
        let mut cut = Stall::new(events(), 0, 11 * FRAME, true, FRAME);
        assert_eq!(texts(&mut cut, NOW), ["one"]);
        assert!(cut.has_words(true));
        assert_eq!(texts(&mut cut, Due { cut_word: true, ..NOW }), ["two"]);
        // Audio continued well beyond the word.
        let mut complete = Stall::new(events(), 0, 16 * FRAME, true, FRAME);
        assert_eq!(texts(&mut complete, NOW), ["one", "two"]);
    }

    #[test]
    fn words_are_emitted_when_due() {
        let events = VecDeque::from([word("one", 0), word("two", 10 * FRAME)]);
        let mut stall = Stall::new(events, 0, 20 * FRAME, false, FRAME);
        assert_eq!(texts(&mut stall, Due { before: 0, ..NOW }), [""; 0]);
        assert_eq!(
            texts(
                &mut stall,
                Due {
                    before: 5 * FRAME,
                    ..NOW
                }
            ),
            ["one"]
        );
        assert_eq!(texts(&mut stall, Due::ALL), ["two"]);
        assert!(stall.is_empty());
    }
}
