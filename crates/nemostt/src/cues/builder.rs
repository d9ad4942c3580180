// SPDX-License-Identifier: MIT OR Apache-2.0

//! Words in, cues out.

use std::collections::VecDeque;

use super::{
    breaks,
    cue::{Added, Cue},
    layout,
    piece::{self, Piece},
    rules::{CueMode, CueRules, RuleError},
    screen::Screen,
    stop::Stop,
    timing::{Next, PAUSE, Shown, Timing},
};

/// Weight of the room that a cue leaves, compared with costs of [breaks]: a cue may be half empty if it ends with a
/// clause.
const EMPTY: f64 = 20.0;

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

/// Everything from a clear screen to the next, in paint-on.
#[derive(Debug, Clone, Copy)]
struct Painting {
    start: u64,
    spoken: u64,
    characters: u64,
    /// Nothing more is added.
    is_closed: bool,
    /// Whether the next word is added, if that was decided with the end of the last cue.
    next_joins: Option<bool>,
}

/// Why a cue cannot take more words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// There is no room, or it would last too long.
    Full,
    /// There is a pause, or the speaker has finished.
    Pause,
    /// More words are not known yet.
    Unknown,
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

    /// Takes the words of the next cue of at most `lines`.
    fn take(&mut self, start: u64, lines: usize, all: bool) -> Vec<Piece> {
        let columns = self.rules.columns;
        let max_duration = self.timing.max_duration;
        let pieces = &*self.pending.make_contiguous();
        // Enough to fill it, and two more to know whether a name ends with it.
        let mut longest = 0;
        let mut used = 0;
        let mut limit = Limit::Unknown;
        for (index, piece) in pieces.iter().enumerate() {
            if let Some(before) = index.checked_sub(1).map(|before| &pieces[before]) {
                if before.ends_utterance || piece.start.saturating_sub(before.end) > PAUSE {
                    limit = Limit::Pause;
                    break;
                }
                let is_long = piece.end.saturating_sub(pieces[0].start) > max_duration;
                if is_long || used > lines * (columns + 1) {
                    limit = Limit::Full;
                    break;
                }
            }
            used += piece.width + piece.space();
            longest = index + 1;
        }
        let costs = layout::costs(&pieces[..pieces.len().min(longest + 2)]);
        let candidates = &pieces[..longest];
        let mut units = layout::units(candidates, &costs[..longest], columns);
        // A name that goes on is for the next cue.
        let is_within_name = costs.get(longest).is_some_and(|&cost| cost >= breaks::WITHIN_NAME);
        if limit == Limit::Full && is_within_name && units.len() > 1 {
            units.pop();
        }
        let fitting = layout::fitting(&units, candidates, columns, lines);
        if fitting < units.len() {
            limit = Limit::Full;
            units.truncate(fitting);
        }
        // No word follows soon enough, if all are known up to there.
        let is_silent = candidates
            .last()
            .is_some_and(|last| self.horizon.saturating_sub(last.end) > PAUSE);
        if limit == Limit::Unknown && (all || is_silent) {
            limit = Limit::Pause;
        }
        let count = self.count(start, &units, &costs, limit);
        self.pending.drain(..count).collect()
    }

    /// How many of the pending pieces the next cue takes, of those in `units`, which fit. `costs`: of breaks before pieces.
    fn count(&self, start: u64, units: &[layout::Unit], costs: &[u32], limit: Limit) -> usize {
        let ends: Vec<usize> = units.iter().map(|unit| unit.pieces.end).collect();
        let most = ends.last().copied().unwrap_or(1);
        let pieces = |count: usize| self.pending.range(..count);
        // A cue is a sentence, if that does not make the next one late.
        for &count in ends.iter().take(ends.len().saturating_sub(1)) {
            let (Some(last), Some(next)) = (self.pending.get(count - 1), self.pending.get(count)) else {
                break;
            };
            let read = self
                .timing
                .reading(pieces(count).map(|piece| piece.characters + 1).sum());
            let end = start.saturating_add(read.max(self.timing.min_duration));
            if breaks::ends_sentence(&last.text) && end.saturating_add(self.timing.gap) <= next.start {
                return count;
            }
        }
        if limit == Limit::Pause {
            return most;
        }
        let widths: Vec<usize> = units
            .iter()
            .scan(0, |width, unit| {
                *width += unit.width + 1;
                Some(*width)
            })
            .collect();
        let whole = widths.last().copied().unwrap_or(1) as f64;
        let cost = |index: usize| {
            let end = ends[index];
            let place = match self.pending.get(end - 1) {
                Some(last) if end == most && limit == Limit::Unknown => breaks::cost_of_open_end(&last.text),
                _ => costs.get(end).copied().unwrap_or_default(),
            };
            let empty = 1.0 - widths[index] as f64 / whole;
            f64::from(place) + EMPTY * empty * empty
        };
        let best = (0..ends.len()).rev().min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        best.map_or(most, |best| ends[best])
    }

    fn paint_on(&mut self, start: u64, joins: bool) -> Cue {
        if !joins {
            self.screen.clear();
            self.painting = Some(Painting {
                start,
                spoken: start,
                characters: 0,
                is_closed: false,
                next_joins: None,
            });
        }
        let mut added = Vec::new();
        let mut words = 0;
        // The first word, and those that are late.
        while let Some(piece) = self.pending.front() {
            if !added.is_empty() && (piece.start > start || !self.joins(piece, start)) {
                break;
            }
            let width = self.width_of_unit();
            let Some(piece) = self.pending.pop_front() else { break };
            self.screen
                .paint(&piece, width, self.rules.columns, self.rules.lines, &mut added);
            words += piece.words;
            if let Some(painting) = &mut self.painting {
                painting.next_joins = None;
                painting.spoken = painting.spoken.max(piece.end);
                let space = if painting.characters > 0 { piece.space() } else { 0 };
                painting.characters += piece.characters + space as u64;
                painting.is_closed = piece.ends_utterance;
            }
        }
        let next = self.pending.front();
        let next_joins = next.map(|next| self.joins(next, next.start.max(start)));
        let end = match (next, next_joins, &self.painting) {
            (Some(next), Some(true), _) => next.start,
            (_, _, Some(painting)) => {
                let shown = Shown {
                    start,
                    since: painting.start,
                    spoken: painting.spoken,
                    characters: painting.characters,
                };
                self.timing.end(&shown, self.next())
            }
            _ => start + 1,
        };
        if let Some(painting) = &mut self.painting {
            painting.next_joins = next_joins;
        }
        Cue {
            start,
            end,
            lines: self.screen.lines.clone(),
            added,
            clears: !joins,
            words,
            delayed: 0,
        }
    }

    /// Columns of the unit that the pending words begin with.
    fn width_of_unit(&self) -> usize {
        // Long enough for a name that fills a line; a longer one is broken.
        let pieces: Vec<Piece> = self.pending.range(..self.pending.len().min(8)).cloned().collect();
        let costs = layout::costs(&pieces);
        let units = layout::units(&pieces, &costs, self.rules.columns);
        units.first().map_or(0, |unit| unit.width)
    }

    /// In paint-on, whether `piece`, the first of the pending ones, is added at `start` to what is on the screen.
    fn joins(&self, piece: &Piece, start: u64) -> bool {
        let Some(painting) = &self.painting else {
            return false;
        };
        match painting.next_joins {
            Some(false) => return false,
            // The last cue lasts until this word begins.
            Some(true) if self.end == Some(start) => return true,
            _ => {}
        }
        let latest = painting.start.saturating_add(self.timing.max_duration);
        let is_in_time = piece.end.max(start) <= latest && start.saturating_add(self.timing.min_duration) <= latest;
        let is_near = piece.start.saturating_sub(painting.spoken) <= PAUSE;
        let has_room = || {
            let width = self.width_of_unit();
            self.screen.has_room(piece, width, self.rules.columns, self.rules.lines)
        };
        !painting.is_closed && is_in_time && is_near && has_room()
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
