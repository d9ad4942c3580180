// SPDX-License-Identifier: MIT OR Apache-2.0

//! When messages with metrics are due, and what they are compared with.

use std::time::{Duration, Instant};

use nemostt::{Device, EngineMetrics, LaneMetrics};

/// When the next message is due, and what the last one had.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    last: Option<Instant>,
    /// All lanes at the last message, and the device of the model that they are of.
    before: Option<(Device, LaneMetrics)>,
}

impl Reporter {
    /// Whether a message is due at `now`; if so, the next interval begins. The first one begins with the first call.
    pub(super) fn is_due(&mut self, now: Instant, interval: Duration) -> bool {
        if interval.is_zero() {
            self.last = None;
            return false;
        }
        let last = *self.last.get_or_insert(now);
        let is_due = now.saturating_duration_since(last) >= interval;
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// Lets the first message begin here, when the element gets the model: others may have used it for hours.
    pub(super) fn begin(&mut self, engine: &EngineMetrics) {
        self.before.get_or_insert_with(|| (engine.device, engine.total()));
    }

    /// What the lanes have done since the last message, or since [`begin`](Self::begin).
    pub(super) fn since_last(&mut self, engine: &EngineMetrics) -> LaneMetrics {
        let total = engine.total();
        let since = match &self.before {
            Some((device, before)) if *device == engine.device => total.since(before),
            _ => total.clone(),
        };
        self.before = Some((engine.device, total));
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_intervals_of_the_clock() {
        let start = Instant::now();
        let mut reporter = Reporter::default();
        let interval = Duration::from_millis(100);
        let mut is_due = |ms: u64| reporter.is_due(start + Duration::from_millis(ms), interval);
        // The first interval begins with the first call.
        let due = [0, 99, 100, 150, 199, 260, 359, 360].map(&mut is_due);
        assert_eq!(due, [false, false, true, false, false, true, false, true]);
    }

    #[test]
    fn interval_begins_when_messages_are_turned_on() {
        let start = Instant::now();
        let mut reporter = Reporter::default();
        let mut is_due =
            |ms: u64, interval| reporter.is_due(start + Duration::from_millis(ms), Duration::from_millis(interval));
        assert!(!is_due(0, 10) && is_due(10, 10));
        assert!(!is_due(500, 0));
        assert!(!is_due(1_000, 10) && is_due(1_010, 10));
    }

    #[test]
    fn times_are_those_since_the_last_message() {
        let mut engine = EngineMetrics {
            model: "m".into(),
            device: Device::Cpu,
            precision: nemostt::Precision::Fp32,
            lookahead_ms: 80,
            streams: 1,
            streams_started: 1,
            audio: Duration::ZERO,
            words: 0,
            errors: 0,
            bytes_per_stream: 0,
            spare_slots: 0,
            lanes: vec![LaneMetrics::default()],
        };
        let mut reporter = Reporter::default();
        // Of other elements, before this one.
        engine.lanes[0].step_time.record(Duration::from_secs(1));
        reporter.begin(&engine);
        let mut step = |device, ms| {
            engine.device = device;
            engine.lanes[0].step_time.record(Duration::from_millis(ms));
            let times = reporter.since_last(&engine).step_time;
            (times.count(), times.sum())
        };
        assert_eq!(step(Device::Cpu, 10), (1, Duration::from_millis(10)));
        assert_eq!(step(Device::Cpu, 3), (1, Duration::from_millis(3)));
        // Another model: all that it has.
        assert_eq!(step(Device::Cuda(0), 1), (4, Duration::from_millis(1_014)));
    }
}
