// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which words the next cue takes.

use super::{
    super::{breaks, layout, piece::Piece, timing::PAUSE},
    CueBuilder,
};

/// Weight of the room that a cue leaves, compared with costs of [breaks]: a cue may be half empty if it ends with a
/// clause.
const EMPTY: f64 = 20.0;

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
    /// Takes the words of the next cue of at most `lines`.
    pub(super) fn take(&mut self, start: u64, lines: usize, all: bool) -> Vec<Piece> {
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
}
