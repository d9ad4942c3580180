// SPDX-License-Identifier: MIT OR Apache-2.0

//! The segments that are listed, and those that only late players still fetch.

use std::{collections::VecDeque, time::Duration};

use super::playlist::{Listed, Segment};

/// Segments in a playlist. Players begin three segments before the end, and some may pause for a while.
const LISTED: usize = 6;
/// The newest segments of a stream.
#[derive(Debug)]
pub struct Window {
    listed: VecDeque<Segment>,
    /// Segments that left the playlist, and how long the stream is when no player needs them any more.
    removed: VecDeque<(Segment, Duration)>,
    /// Duration of the stream, without what is missing in it.
    duration: Duration,
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
            duration: Duration::ZERO,
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
        let before = self.listed_duration();
        self.duration += segment.duration;
        self.listed.push_back(segment);
        // A playlist must stay longer than three times the target duration (RFC 8216, 6.2.2).
        while self.listed.len() > LISTED
            && let Some(oldest) = self.listed.front()
            && self.listed_duration() >= 3 * self.target() + oldest.duration
            && let Some(oldest) = self.listed.pop_front()
        {
            self.sequence += 1;
            self.discontinuities += u64::from(oldest.is_discontinuous);
            // A player may have read the playlist just before (RFC 8216, 6.2.2).
            let until = self.duration + before + oldest.duration;
            self.removed.push_back((oldest, until));
        }
        let count = self
            .removed
            .iter()
            .take_while(|(_, until)| *until <= self.duration)
            .count();
        self.removed.drain(..count).map(|(segment, _)| segment).collect()
    }

    fn listed_duration(&self) -> Duration {
        self.listed.iter().map(|segment| segment.duration).sum()
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
    }

    #[test]
    fn a_playlist_that_grew_becomes_short_again() {
        let mut window = Window::new(Duration::from_secs(4));
        let mut gone = Vec::new();
        for number in 0..30 {
            gone.extend(window.push(segment(number, 1)));
        }
        // Segment n left a playlist of 12 s when the stream was n + 13 s long: it is needed for 12 s and its own duration.
        assert_eq!((window.listed(false).segments.len(), gone.len()), (12, 5));
        for number in 30..36 {
            gone.extend(window.push(segment(number, 4)));
        }
        assert_eq!(window.listed(false).segments.len(), 6);
        let names: Vec<String> = gone.into_iter().map(|segment| segment.media).collect();
        let expected: Vec<String> = (0..26).map(|number| number.to_string()).collect();
        assert_eq!(names, expected);
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
