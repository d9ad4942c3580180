// SPDX-License-Identifier: MIT OR Apache-2.0

//! The segments that are listed, and those that only late players still fetch.

use std::{collections::VecDeque, time::Duration};

use super::playlist::{Listed, Segment};

/// Segments in a playlist. Players begin three segments before the end, and some may pause for a while.
const LISTED: usize = 6;
/// Segments that stay after they left the playlist: a player may have read it just before (RFC 8216, 6.2.2).
const KEPT: usize = LISTED + 1;

/// The newest segments of a stream.
#[derive(Debug)]
pub struct Window {
    listed: VecDeque<Segment>,
    removed: VecDeque<Segment>,
    sequence: u64,
    discontinuities: u64,
    target: u64,
}

impl Window {
    /// An empty one for segments of usually at most `target`.
    pub fn new(target: Duration) -> Self {
        Self {
            listed: VecDeque::new(),
            removed: VecDeque::new(),
            sequence: 0,
            discontinuities: 0,
            target: target.as_secs(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Number of segments that were ever listed.
    pub fn count(&self) -> u64 {
        self.sequence + self.listed.len() as u64
    }

    /// Some segment has this duration. Before the first one is listed, the target duration becomes as long; then it must not change
    /// (RFC 8216, 6.2.1).
    pub fn expect(&mut self, duration: Duration) {
        if self.count() == 0 {
            self.target = self.target.max(rounded(duration));
        }
    }

    /// No segment may be longer, as far as whole seconds say so.
    pub fn target(&self) -> Duration {
        Duration::from_secs(self.target)
    }

    /// Whether a segment of this duration can be listed.
    pub fn fits(&self, duration: Duration) -> bool {
        rounded(duration) <= self.target
    }

    /// Lists a segment. Returns those whose files are not needed any more.
    pub fn push(&mut self, segment: Segment) -> Vec<Segment> {
        self.listed.push_back(segment);
        while self.listed.len() > LISTED
            && self.rest() >= 3 * self.target()
            && let Some(oldest) = self.listed.pop_front()
        {
            self.sequence += 1;
            self.discontinuities += u64::from(oldest.is_discontinuous);
            self.removed.push_back(oldest);
        }
        let unneeded = self.removed.len().saturating_sub(KEPT);
        self.removed.drain(..unneeded).collect()
    }

    /// How long the playlist is without its first segment. It must stay longer than three times the target duration (RFC 8216, 6.2.2).
    fn rest(&self) -> Duration {
        self.listed.iter().skip(1).map(|segment| segment.duration).sum()
    }

    /// What is listed now.
    pub fn listed(&self, has_ended: bool) -> Listed<'_> {
        Listed {
            segments: self.listed.iter().collect(),
            sequence: self.sequence,
            discontinuities: self.discontinuities,
            target: self.target,
            has_ended,
        }
    }
}

/// Whole seconds, as durations are compared with the target duration. A playlist has milliseconds of them.
fn rounded(duration: Duration) -> u64 {
    (duration.as_secs_f64() + 0.0005).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, seconds: u64) -> Segment {
        Segment {
            media: number.to_string(),
            captions: number.to_string(),
            duration: Duration::from_secs(seconds),
            is_discontinuous: number == 3,
        }
    }

    #[test]
    fn the_target_duration_is_that_of_the_longest_segment_known_at_first() {
        let mut window = Window::new(Duration::from_secs(4));
        window.expect(Duration::from_millis(6_499));
        assert_eq!(window.listed(false).target, 6);
        window.push(segment(0, 6));
        window.expect(Duration::from_secs(30));
        assert_eq!(window.listed(false).target, 6);
        assert!(window.fits(Duration::from_millis(6_499)) && !window.fits(Duration::from_millis(6_500)));
    }

    #[test]
    fn a_playlist_of_short_segments_is_longer_than_three_times_the_target_duration() {
        let mut window = Window::new(Duration::from_secs(10));
        for number in 0..20 {
            window.push(segment(number, 4));
        }
        assert_eq!(window.listed(false).segments.len(), 8);
        // Longer ones make it short again, at once.
        window.push(segment(20, 10));
        window.push(segment(21, 10));
        assert_eq!(window.listed(false).segments.len(), 6);
        assert_eq!(window.listed(false).sequence, 16);
    }

    #[test]
    fn old_segments_leave_the_playlist_and_later_the_disk() {
        let mut window = Window::new(Duration::from_secs(4));
        let mut gone = Vec::new();
        for number in 0..20_u64 {
            window.expect(Duration::from_secs(4));
            gone.extend(window.push(segment(number, 4)).into_iter().map(|segment| segment.media));
            let listed = window.listed(false);
            assert_eq!(listed.sequence, (number + 1).saturating_sub(6));
            assert_eq!(listed.segments[0].media, listed.sequence.to_string());
            assert_eq!(listed.segments.last().unwrap().media, number.to_string());
            assert_eq!(listed.discontinuities, u64::from(listed.sequence > 3));
            assert_eq!(listed.target, 4);
            assert_eq!(window.count(), number + 1);
        }
        // Six are listed, and seven more are on the disk.
        assert_eq!(gone, ["0", "1", "2", "3", "4", "5", "6"]);
    }
}
