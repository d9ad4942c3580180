// SPDX-License-Identifier: MIT OR Apache-2.0

//! The end of the time that cues can be in, such as that of a GStreamer segment: what begins after it is never shown.

/// A cue begins at most half of this earlier than without the stop.
const MOST_ROOM: u64 = 1_000_000_000;

/// Time before which all cues must begin, in nanoseconds; `None`: there is no such time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stop(pub(super) Option<u64>);

impl Stop {
    /// `start`, or a time before the stop but not before `earliest`.
    pub(super) fn start(self, start: u64, earliest: u64) -> u64 {
        match self.0 {
            // In the middle of what is left: that is before the stop, and leaves time for more.
            Some(stop) if start >= stop => {
                let room = stop.saturating_sub(earliest).min(MOST_ROOM);
                stop.max(earliest) - room.div_ceil(2)
            }
            _ => start,
        }
    }

    /// Whether no word can begin from `time` on, to within a sample of audio.
    pub(super) fn is_at(self, time: u64) -> bool {
        const SAMPLE: u64 = 1_000_000;
        self.0.is_some_and(|stop| time.saturating_add(SAMPLE) >= stop)
    }

    /// When a cue from `start` to `end` must end so that `more` can begin after it. `needed`: the shortest duration of each
    /// and the gap before it; if there is less time than that, they share it.
    pub(super) fn end(self, start: u64, end: u64, more: u64, needed: u64) -> u64 {
        let Some(stop) = self.0.filter(|&stop| start < stop && more > 0) else {
            return end;
        };
        let share = (stop - start) / more.saturating_add(1);
        let reserved = needed.min(share).max(1).saturating_mul(more);
        end.min(stop.saturating_sub(reserved)).max(start + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_stop_times_stay() {
        assert_eq!(Stop(None).start(9, 7), 9);
        assert_eq!(Stop(None).end(5, 9, 3, 100), 9);
        assert!(!Stop(None).is_at(u64::MAX));
    }

    #[test]
    fn a_cue_begins_before_the_stop() {
        assert_eq!(Stop(Some(10)).start(9, 7), 9);
        assert_eq!(Stop(Some(10)).start(10, 6), 8);
        assert_eq!(Stop(Some(10)).start(12, 9), 9);
        // Too late: there is no time before the stop.
        assert_eq!(Stop(Some(10)).start(15, 12), 12);
    }

    #[test]
    fn a_cue_leaves_time_for_those_after_it() {
        let end = |end, more, needed| Stop(Some(100)).end(50, end, more, needed);
        assert_eq!(end(140, 0, 10), 140, "none follow");
        assert_eq!(end(70, 1, 10), 70, "there is enough");
        assert_eq!(end(140, 1, 10), 90);
        assert_eq!(end(140, 2, 10), 80);
        assert_eq!(end(140, 4, 30), 60, "each has a fifth");
        assert_eq!(end(140, 1_000, 30), 51);
    }
}
