// SPDX-License-Identifier: MIT OR Apache-2.0

//! Timestamps of a connection's samples on the clock of the captions.
//!
//! Samples are counted from the time at which the first ones arrived. The clock of a source and ours differ by some parts in
//! 100,000: seconds in a day. So where samples come late for long, they are placed anew, later.

use std::time::Duration;

/// How late samples may come all the time.
const MAX_LATENESS: Duration = Duration::from_millis(500);
/// How long they must have been late. A network that stalls and then sends everything at once is late for a shorter time.
const WINDOW: Duration = Duration::from_secs(20);

/// The timestamps of one connection.
#[derive(Debug)]
pub struct Timeline {
    rate: u32,
    /// Running time of sample 0.
    anchor: Option<Duration>,
    samples: u64,
    /// When the window began, and the least lateness in it.
    window: (Duration, Duration),
}

/// Where samples belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Running time of the first one.
    pub start: Duration,
    /// Running time after the last one.
    pub end: Duration,
    /// They do not follow those before.
    pub is_new: bool,
}

impl Timeline {
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            anchor: None,
            samples: 0,
            window: (Duration::ZERO, Duration::MAX),
        }
    }

    /// Places the next `count` samples, which arrived at the running time `now`.
    pub fn place(&mut self, count: usize, now: Duration) -> Placed {
        let is_first = self.anchor.is_none();
        let anchor = *self.anchor.get_or_insert(now);
        if is_first {
            self.window = (now, Duration::MAX);
        }
        let late = now.saturating_sub(anchor + self.time(self.samples));
        let (since, least) = self.window;
        let least = least.min(late);
        let is_over = now.saturating_sub(since) >= WINDOW;
        let is_late = is_over && least > MAX_LATENESS;
        let anchor = if is_late { anchor + least } else { anchor };
        self.anchor = Some(anchor);
        self.window = if is_over { (now, Duration::MAX) } else { (since, least) };
        let start = anchor + self.time(self.samples);
        self.samples += count as u64;
        Placed {
            start,
            end: anchor + self.time(self.samples),
            is_new: is_first || is_late,
        }
    }

    /// Duration of all samples so far.
    pub fn duration(&self) -> Duration {
        self.time(self.samples)
    }

    fn time(&self, samples: u64) -> Duration {
        let rate = u64::from(self.rate);
        Duration::from_secs(samples / rate) + Duration::from_nanos(samples % rate * 1_000_000_000 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1_000;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn samples_are_counted_from_their_arrival() {
        let mut timeline = Timeline::new(RATE);
        let first = timeline.place(20, ms(5_000));
        assert_eq!(
            first,
            Placed {
                start: ms(5_000),
                end: ms(5_020),
                is_new: true
            }
        );
        // Earlier or later: they follow.
        let second = timeline.place(30, ms(5_001));
        assert_eq!(
            second,
            Placed {
                start: ms(5_020),
                end: ms(5_050),
                is_new: false
            }
        );
        assert_eq!(timeline.place(10, ms(9_000)).start, ms(5_050));
        assert_eq!(timeline.duration(), ms(60));
    }

    #[test]
    fn a_stall_that_is_made_up_for_moves_nothing() {
        let mut timeline = Timeline::new(RATE);
        timeline.place(100, ms(0));
        for block in 1..600 {
            // Ten seconds in a burst.
            let now = if (100..200).contains(&block) {
                20_000
            } else {
                block * 100
            };
            assert!(!timeline.place(100, ms(now)).is_new, "{block}");
        }
    }

    #[test]
    fn a_slow_clock_is_followed() {
        let mut timeline = Timeline::new(RATE);
        let (mut moved, mut worst) = (0, Duration::ZERO);
        for block in 0..20_000_u64 {
            // 100 ms of samples take 100.1 ms.
            let now = Duration::from_micros(block * 100_100);
            let placed = timeline.place(100, now);
            moved += u64::from(placed.is_new);
            worst = worst.max(now.saturating_sub(placed.start));
        }
        assert_eq!(moved, 1 + 3, "the first samples, and every half second of two");
        assert!(worst < MAX_LATENESS + ms(50), "{worst:?}");
    }
}
