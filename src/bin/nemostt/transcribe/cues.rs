// SPDX-License-Identifier: MIT OR Apache-2.0

//! Words into subtitle cues, and their times as SubRip and WebVTT write them.

use nemostt::{Word, sample_time::samples_to_ns};

/// A silence longer than this, in milliseconds, ends a cue: a shorter one is a breath within a sentence.
const PAUSE: u64 = 800;
/// Characters in a line: what television fits onto a screen.
const LINE: usize = 42;
/// Lines in a cue: more would hide the picture.
const LINES: usize = 2;
/// The longest time from the first word of a cue to the end of its last, in milliseconds: longer, and viewers read the
/// cue a second time.
const LONGEST: u64 = 6000;
/// A cue stays at least this many milliseconds unless the next one needs its place: shorter cues only flash.
const SHORTEST: u64 = 1000;

/// Text that is shown for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Cue {
    /// When it appears, in milliseconds.
    pub start: u64,
    /// When it goes, in milliseconds.
    pub end: u64,
    pub lines: Vec<String>,
}

/// Collects words until a cue is complete.
#[derive(Debug)]
pub struct CueBuilder {
    /// Samples per second.
    rate: u32,
    cue: Option<Cue>,
}

impl CueBuilder {
    /// A builder for words whose times count samples at `rate` per second.
    pub fn new(rate: u32) -> Self {
        Self { rate, cue: None }
    }

    /// Takes a word; gives the cue before it, if this one begins another.
    pub fn push(&mut self, word: &Word) -> Option<Cue> {
        let (start, end) = (self.milliseconds(word.start), self.milliseconds(word.end));
        if let Some(cue) = &mut self.cue
            && cue.add(&word.text, start, end)
        {
            return None;
        }
        let next = Cue {
            start,
            end,
            lines: vec![word.text.clone()],
        };
        let done = self.cue.replace(next)?;
        Some(done.held_until(start))
    }

    /// The last cue.
    pub fn finish(&mut self) -> Option<Cue> {
        Some(self.cue.take()?.held_until(u64::MAX))
    }

    fn milliseconds(&self, samples: u64) -> u64 {
        (samples_to_ns(samples, self.rate) + 500_000) / 1_000_000
    }
}

impl Cue {
    /// Adds a word, unless it belongs to the next cue.
    fn add(&mut self, word: &str, start: u64, end: u64) -> bool {
        let pause = start.saturating_sub(self.end) > PAUSE;
        let long = end.saturating_sub(self.start) > LONGEST;
        if pause || long || self.ends_a_sentence() {
            return false;
        }
        let full = self.lines.len() == LINES;
        let Some(line) = self.lines.last_mut() else {
            return false;
        };
        if line.chars().count() + 1 + word.chars().count() <= LINE {
            line.push(' ');
            line.push_str(word);
        } else if full {
            return false;
        } else {
            self.lines.push(word.into());
        }
        self.end = end;
        true
    }

    fn ends_a_sentence(&self) -> bool {
        let last = self.lines.last().and_then(|line| line.chars().last());
        last.is_some_and(|last| ".?!…。？！".contains(last))
    }

    /// The cue, long enough to be read if nothing else is shown before `next`; never of no length, which players skip.
    fn held_until(mut self, next: u64) -> Self {
        let readable = (self.start + SHORTEST).min(next);
        self.end = self.end.max(readable).max(self.start + 1);
        self
    }

    /// As SubRip has it, without its number.
    pub fn srt(&self) -> String {
        format!(
            "{} --> {}\n{}\n",
            time(self.start, ','),
            time(self.end, ','),
            self.lines.join("\n")
        )
    }

    /// As WebVTT has it.
    pub fn vtt(&self) -> String {
        // `>` as well, for `-->` may not occur in a text.
        let text = self
            .lines
            .join("\n")
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        format!("{} --> {}\n{text}\n", time(self.start, '.'), time(self.end, '.'))
    }
}

/// hours:minutes:seconds and, after `point`, milliseconds.
fn time(milliseconds: u64, point: char) -> String {
    let seconds = milliseconds / 1000;
    format!(
        "{:02}:{:02}:{:02}{point}{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        milliseconds % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cues of words with their start and end in milliseconds.
    fn cues(words: &[(&str, u64, u64)]) -> Vec<Cue> {
        let mut builder = CueBuilder::new(16_000);
        let mut cues = Vec::new();
        for &(text, start, end) in words {
            cues.extend(builder.push(&Word {
                text: text.into(),
                start: start * 16,
                end: end * 16,
                confidence: 1.0,
            }));
        }
        cues.extend(builder.finish());
        cues
    }

    fn cue(start: u64, end: u64, lines: &[&str]) -> Cue {
        Cue {
            start,
            end,
            lines: lines.iter().map(|&line| line.into()).collect(),
        }
    }

    #[test]
    fn no_words_give_no_cue() {
        assert_eq!(cues(&[]), []);
    }

    #[test]
    fn a_long_pause_ends_a_cue_and_a_short_one_does_not() {
        assert_eq!(
            cues(&[("a", 0, 1000), ("b", 1800, 2600), ("c", 3401, 5000)]),
            [cue(0, 2600, &["a b"]), cue(3401, 5000, &["c"])]
        );
    }

    #[test]
    fn the_end_of_a_sentence_ends_a_cue() {
        assert_eq!(
            cues(&[("Stop.", 0, 1200), ("Why,", 1280, 2000), ("then?", 2000, 2400)]),
            [cue(0, 1200, &["Stop."]), cue(1280, 2400, &["Why, then?"])]
        );
    }

    #[test]
    fn lines_are_filled_and_then_cues() {
        // 21 and 20 characters and the space between them: 42.
        let (long, short) = ("a".repeat(21), "b".repeat(20));
        let words = [&*long, &*short, &*long, &*short, "c"].map(|text| (text, 0, 1000));
        let line = format!("{long} {short}");
        assert_eq!(cues(&words), [cue(0, 1000, &[&line, &line]), cue(0, 1000, &["c"])]);
    }

    #[test]
    fn a_word_longer_than_a_line_stands_alone() {
        let long = "ä".repeat(50);
        assert_eq!(
            cues(&[("a", 0, 400), (&long, 400, 1000), ("b", 1000, 3000)]),
            [cue(0, 1000, &["a", &long]), cue(1000, 3000, &["b"])]
        );
    }

    #[test]
    fn six_seconds_are_the_limit() {
        assert_eq!(
            cues(&[("a", 0, 2900), ("b", 3000, 6000), ("c", 6000, 7000)]),
            [cue(0, 6000, &["a b"]), cue(6000, 7000, &["c"])]
        );
    }

    #[test]
    fn a_short_cue_stays_unless_the_next_one_comes() {
        assert_eq!(
            cues(&[("Yes.", 0, 80), ("No.", 500, 580), ("Oh.", 5000, 5000)]),
            [
                cue(0, 500, &["Yes."]),
                cue(500, 1500, &["No."]),
                cue(5000, 6000, &["Oh."])
            ]
        );
    }

    #[test]
    fn a_cue_lasts_even_if_the_next_one_begins_with_it() {
        assert_eq!(cues(&[("A.", 80, 80), ("b", 80, 2000)])[0], cue(80, 81, &["A."]));
    }

    #[test]
    fn times_are_written_in_full() {
        assert_eq!(time(0, ','), "00:00:00,000");
        assert_eq!(time(3_723_045, '.'), "01:02:03.045");
        assert_eq!(time(360_000_000 - 1, ','), "99:59:59,999");
        assert_eq!(time(360_000_000, '.'), "100:00:00.000");
    }

    #[test]
    fn the_two_formats() {
        let cue = cue(1234, 61_000, &["a & b", "<c>"]);
        assert_eq!(cue.srt(), "00:00:01,234 --> 00:01:01,000\na & b\n<c>\n");
        assert_eq!(cue.vtt(), "00:00:01.234 --> 00:01:01.000\na &amp; b\n&lt;c&gt;\n");
    }
}
