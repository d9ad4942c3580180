// SPDX-License-Identifier: MIT OR Apache-2.0

//! Timestamps of a connection's samples on the clock of the captions.
//!
//! Samples are counted from the time at which the first ones arrived. The clock of a source and ours differ by some parts in
//! 100,000: seconds in a day. So where samples are late or early for long, the count starts again from the present.

use std::time::Duration;

/// How late, or how early, all samples of a window may be.
const MAX_DRIFT: Duration = Duration::from_millis(500);
/// How long they must have been so. A network that stalls and then sends everything at once is late for a shorter time, and a
/// player that fills its buffer faster than real time is early only until its server slows it down.
const WINDOW: Duration = Duration::from_secs(20);

/// The timestamps of one connection.
#[derive(Debug)]
pub struct Timeline {
    rate: u32,
    /// A sample and its running time; those after it are counted from there.
    anchor: Option<(u64, Duration)>,
    samples: u64,
    window: Window,
}

/// The last seconds, in which samples have been late or early by at least so much.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Duration,
    late: Duration,
    early: Duration,
}

impl Window {
    fn new(since: Duration) -> Self {
        Self {
            since,
            late: Duration::MAX,
            early: Duration::MAX,
        }
    }
}

/// Where samples belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Running time of the first one.
    pub start: Duration,
    /// Running time after the last one.
    pub end: Duration,
    /// Time has passed since those before, in which samples are missing. Samples that are placed earlier than expected are not
    /// flagged: then the element would take them for an overlap and drop them, while it otherwise accepts their timestamps after
    /// a second.
    pub is_new: bool,
}

impl Timeline {
    pub fn new(rate: u32) -> Self {
        Self {
            rate,
            anchor: None,
            samples: 0,
            window: Window::new(Duration::ZERO),
        }
    }

    /// Places the next `count` samples, which arrived at the running time `now`.
    pub fn place(&mut self, count: usize, now: Duration) -> Placed {
        let is_first = self.anchor.is_none();
        if is_first {
            self.anchor = Some((self.samples, now));
            self.window = Window::new(now);
        }
        let expected = self.position();
        let window = &mut self.window;
        window.late = window.late.min(now.saturating_sub(expected));
        window.early = window.early.min(expected.saturating_sub(now));
        let Window { since, late, early } = *window;
        let is_over = now.saturating_sub(since) >= WINDOW;
        // At most one of the two is not zero.
        let is_moved = is_over && late.max(early) > MAX_DRIFT;
        if is_over {
            *window = Window::new(now);
        }
        let start = match is_moved {
            true => (expected + late).saturating_sub(early),
            false => expected,
        };
        if is_moved {
            self.anchor = Some((self.samples, start));
        }
        self.samples += count as u64;
        Placed {
            start,
            end: self.position(),
            is_new: is_first || (is_moved && !late.is_zero()),
        }
    }

    /// Running time after the last sample.
    fn position(&self) -> Duration {
        let (sample, time) = self.anchor.unwrap_or_default();
        time + self.time(self.samples - sample)
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

    /// Places blocks of 100 ms for `days`, each of which takes `micros`: how often they were moved, and how far they were from
    /// their arrival at most.
    fn simulate(days: u64, micros: u64) -> (u64, Duration) {
        let mut timeline = Timeline::new(RATE);
        let (mut moved, mut worst, mut last) = (0, Duration::ZERO, Duration::ZERO);
        for block in 0..days * 864_000 {
            let now = Duration::from_micros(block * micros);
            let placed = timeline.place(100, now);
            moved += u64::from(placed.start != last);
            // Only missing samples are flagged.
            assert_eq!(placed.is_new, block == 0 || placed.start > last);
            last = placed.end;
            worst = worst.max(now.abs_diff(placed.start));
        }
        (moved, worst)
    }

    #[test]
    fn a_slow_clock_is_followed() {
        let (moved, worst) = simulate(3, 100_010);
        // 100 parts in a million are 8.64 s a day.
        assert!((45..=52).contains(&moved), "{moved}");
        assert!(worst < MAX_DRIFT + ms(50), "{worst:?}");
    }

    #[test]
    fn a_fast_clock_is_followed() {
        let (moved, worst) = simulate(3, 99_990);
        assert!((45..=52).contains(&moved), "{moved}");
        assert!(worst < MAX_DRIFT + ms(50), "{worst:?}");
    }

    #[test]
    fn a_buffer_that_is_sent_at_once_is_early_only_if_it_stays_so() {
        // A server that sends three seconds ahead, and then in real time.
        let mut timeline = Timeline::new(RATE);
        let placed = |block: u64| timeline.place(100, ms(100 * block.saturating_sub(30))).start;
        let starts: Vec<Duration> = (0..600).map(placed).collect();
        assert_eq!(starts[200], ms(20_000));
        assert_eq!(starts[599], ms(56_900));
    }
}
