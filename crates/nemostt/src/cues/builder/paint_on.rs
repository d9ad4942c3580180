// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paint-on: words are added to what is on the screen.

use super::{
    super::{
        cue::Cue,
        layout,
        piece::Piece,
        timing::{PAUSE, Shown},
    },
    CueBuilder,
};

/// Everything from a clear screen to the next, in paint-on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Painting {
    start: u64,
    spoken: u64,
    characters: u64,
    /// Nothing more is added.
    pub(super) is_closed: bool,
    /// Whether the next word is added, if that was decided with the end of the last cue.
    pub(super) next_joins: Option<bool>,
}

impl CueBuilder {
    pub(super) fn paint_on(&mut self, start: u64, joins: bool) -> Cue {
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
    pub(super) fn joins(&self, piece: &Piece, start: u64) -> bool {
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
