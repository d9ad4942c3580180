// SPDX-License-Identifier: MIT OR Apache-2.0

//! Words in, cues out.

mod paint_on;
mod take;

use std::collections::VecDeque;

use self::paint_on::Painting;
use super::{
    cue::{Added, Cue},
    layout,
    piece::{self, Piece},
    rules::{CueMode, CueRules, RuleError},
    screen::Screen,
    stop::Stop,
    timing::{Next, Shown, Timing},
};

/// Builds cues from words: see [the module](super).
///
/// Times are nanoseconds of any clock; those of words do not go backward.
#[derive(Debug, Clone)]
pub struct CueBuilder {
    rules: CueRules,
    timing: Timing,
    /// Words that are in no cue yet.
    pending: VecDeque<Piece>,
    /// All words that begin before this time are known.
    horizon: u64,
    /// No cue begins before this time.
    floor: u64,
    /// All cues begin before this time.
    stop: Stop,
    /// End of the last cue.
    end: Option<u64>,
    screen: Screen,
    /// In paint-on, what is on the screen.
    painting: Option<Painting>,
    cues: VecDeque<Cue>,
}

impl CueBuilder {
    /// A builder that keeps `rules`.
    ///
    /// # Errors
    /// If a rule is not within its range.
    pub fn new(rules: CueRules) -> Result<Self, RuleError> {
        rules.validate()?;
        Ok(Self::empty(rules))
    }

    /// A builder that keeps `rules`, which are valid.
    fn empty(rules: CueRules) -> Self {
        Self {
            rules,
            timing: Timing::new(&rules),
            pending: VecDeque::new(),
            horizon: 0,
            floor: 0,
            stop: Stop::default(),
            end: None,
            screen: Screen::default(),
            painting: None,
            cues: VecDeque::new(),
        }
    }

    /// The rules that it keeps.
    pub fn rules(&self) -> &CueRules {
        &self.rules
    }

    /// Keeps `rules` from now on. The next cue follows those so far, with the gap of `rules`. Words that are in no cue yet are
    /// lost: [`flush`](Self::flush) first.
    ///
    /// # Errors
    /// If a rule is not within its range; then the rules before it stay.
    pub fn set_rules(&mut self, rules: CueRules) -> Result<(), RuleError> {
        let new = Self::new(rules)?;
        *self = Self {
            horizon: self.horizon,
            floor: self.floor,
            stop: self.stop,
            end: self.end,
            cues: std::mem::take(&mut self.cues),
            ..new
        };
        Ok(())
    }

    /// Adds a word that is spoken from `start` to `end`. It becomes part of a cue when time [advances](Self::advance).
    /// Returns whether it has any text to be shown: a word without is in no cue, and not counted in any.
    pub fn push(&mut self, text: &str, start: u64, end: u64) -> bool {
        let pieces = piece::pieces(text, start, end, self.rules.columns);
        let has_text = !pieces.is_empty();
        self.pending.extend(pieces);
        has_text
    }

    /// The speaker has finished: the next word begins a new cue.
    pub fn end_utterance(&mut self) {
        match (self.pending.back_mut(), &mut self.painting) {
            (Some(last), _) => last.ends_utterance = true,
            (None, Some(painting)) => painting.is_closed = true,
            (None, None) => {}
        }
    }

    /// Time has advanced: all words that begin before `until` have been added. All cues are completed that begin up to
    /// [`delay`](CueRules::delay) before then.
    pub fn advance(&mut self, until: u64) {
        self.horizon = self.horizon.max(until);
        self.emit(false);
        let due = self.horizon.saturating_sub(self.timing.delay);
        let pending = self.next_start().unwrap_or(u64::MAX);
        self.floor = self.floor.max(due.min(pending));
    }

    /// No cue begins before `time`, whatever its words: something else was put there.
    pub fn not_before(&mut self, time: u64) {
        self.floor = self.floor.max(time);
    }

    /// Lets all cues begin before `time`, after which no word begins; `None`: no limit. If the last cues would begin later,
    /// they are shorter and closer together.
    pub fn set_stop(&mut self, time: Option<u64>) {
        self.stop = Stop(time);
    }

    /// Completes all cues; more words may follow at any time.
    pub fn flush(&mut self) {
        let spoken = self.pending.back().map_or(0, |last| last.end);
        self.horizon = self.horizon.max(spoken);
        self.emit(true);
        if let Some(painting) = &mut self.painting {
            painting.is_closed = true;
        }
    }

    /// Completes all cues; no more words follow, so the last ones may stay until they are read.
    pub fn finish(&mut self) {
        let horizon = std::mem::replace(&mut self.horizon, u64::MAX);
        self.emit(true);
        self.horizon = horizon;
        self.painting = None;
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::empty(self.rules);
    }

    /// The next complete cue.
    pub fn next_cue(&mut self) -> Option<Cue> {
        self.cues.pop_front()
    }

    /// All words that begin before this time are known.
    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    /// No further cue begins before this time.
    pub fn stable_until(&self) -> u64 {
        self.floor
    }

    /// When the next cue begins, if there are words for one.
    pub fn next_start(&self) -> Option<u64> {
        self.pending.front().map(|first| self.start_of(first).0)
    }

    /// When a cue begins that begins with `first`, and whether `first` is added to what is on the screen.
    fn start_of(&self, first: &Piece) -> (u64, bool) {
        self.start_from(first, self.floor)
    }

    /// The same, if no cue began before `floor`.
    fn start_from(&self, first: &Piece, floor: u64) -> (u64, bool) {
        let earliest = first.start.max(floor);
        let Some(end) = self.end else {
            return (self.stop.start(earliest, floor), false);
        };
        let joined = self.stop.start(earliest.max(end), floor.max(end));
        if self.joins(first, joined) {
            return (joined, true);
        }
        let start = earliest.max(end.saturating_add(self.timing.gap));
        (self.stop.start(start, floor.max(end)), false)
    }

    /// Completes the cues that are due, or all.
    fn emit(&mut self, all: bool) {
        while let Some(first) = self.pending.front() {
            let (start, joins) = self.start_of(first);
            if !all && start.saturating_add(self.timing.delay) > self.horizon {
                break;
            }
            let in_time = self.start_from(first, 0).0;
            let mut cue = match self.rules.mode {
                CueMode::PopOn => self.pop_on(start, all),
                CueMode::RollUp => self.roll_up(start, all),
                CueMode::PaintOn => self.paint_on(start, joins),
            };
            cue.delayed = start.saturating_sub(in_time);
            cue.end = self.end_before_stop(&cue);
            self.end = Some(cue.end);
            self.cues.push_back(cue);
        }
    }

    /// What is known of the speech after the words that have been taken.
    fn next(&self) -> Next {
        match self.pending.front() {
            Some(next) => Next::At(next.start),
            None => Next::After(self.horizon),
        }
    }

    /// The end of `cue`, which leaves enough time before the stop for the cues after it.
    fn end_before_stop(&self, cue: &Cue) -> u64 {
        let next_joins = self.painting.is_some_and(|painting| painting.next_joins == Some(true));
        match self.stop.0 {
            None => return cue.end,
            // It ends when the next word is added to the same screen.
            Some(stop) if next_joins && cue.end < stop => return cue.end,
            Some(_) => {}
        }
        // The cues of the words that are known; if more may come, at least one.
        let columns: usize = self.pending.iter().map(|piece| piece.width + 1).sum();
        let utterances = self.pending.iter().filter(|piece| piece.ends_utterance).count();
        let lines = if self.rules.mode == CueMode::RollUp {
            1
        } else {
            self.rules.lines
        };
        let known = columns.div_ceil(lines * self.rules.columns) + utterances;
        let unknown = u64::from(!self.stop.is_at(self.horizon));
        let needed = self.timing.min_duration.saturating_add(self.timing.gap);
        self.stop.end(cue.start, cue.end, unknown.max(known as u64), needed)
    }

    fn pop_on(&mut self, start: u64, all: bool) -> Cue {
        let pieces = self.take(start, self.rules.lines, all);
        let end = self.end_of_block(start, &pieces);
        let lines = layout::balance(&pieces, self.rules.columns, self.rules.lines);
        let lines: Vec<String> = lines.into_iter().map(|line| layout::text(&pieces[line])).collect();
        let added = lines.iter().enumerate().map(|(line, text)| Added {
            line,
            column: 0,
            text: text.clone(),
        });
        Cue {
            start,
            end,
            added: added.collect(),
            lines,
            clears: true,
            words: words(&pieces),
            delayed: 0,
        }
    }

    fn roll_up(&mut self, start: u64, all: bool) -> Cue {
        let pieces = self.take(start, 1, all);
        let end = self.end_of_block(start, &pieces);
        let clears = self.screen.lines.is_empty() || self.end.is_none_or(|before| before < start);
        if clears {
            self.screen.clear();
        }
        let added = self.screen.roll_up(layout::text(&pieces), self.rules.lines);
        Cue {
            start,
            end,
            lines: self.screen.lines.clone(),
            added: vec![added],
            clears,
            words: words(&pieces),
            delayed: 0,
        }
    }

    /// The end of a cue of `pieces` that begins at `start`.
    fn end_of_block(&self, start: u64, pieces: &[Piece]) -> u64 {
        let shown = Shown {
            start,
            since: start,
            spoken: pieces.last().map_or(start, |last| last.end),
            characters: characters(pieces),
        };
        self.timing.end(&shown, self.next())
    }
}

/// Number of words that are complete with `pieces`.
fn words(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.words).sum()
}

/// Characters of `pieces` in a cue, with a space or a line break between words.
fn characters(pieces: &[Piece]) -> u64 {
    let spaces: usize = pieces.iter().skip(1).map(Piece::space).sum();
    pieces.iter().map(|piece| piece.characters).sum::<u64>() + spaces as u64
}
