// SPDX-License-Identifier: MIT OR Apache-2.0

//! A live source upstream of the element, with a clock that the test advances: what arrives when is the same in each
//! run.

use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::{
    clock::TestClock,
    harness::{Harness, Seen, TextBuffer, buffer, time_of},
};

/// Latency of the source: one buffer.
pub const UPSTREAM: gst::ClockTime = gst::ClockTime::from_mseconds(20);
/// Samples per buffer.
pub const BLOCK: usize = 320;
/// The clock starts here, so that running time and clock time differ.
const BASE: gst::ClockTime = gst::ClockTime::from_seconds(100);

pub struct Live {
    pub harness: Harness,
    clock: TestClock,
    /// Running time.
    pub now: gst::ClockTime,
}

impl Live {
    /// In PLAYING at running time 0, with STREAM_START, CAPS and a segment.
    pub fn play(properties: &str) -> Self {
        let live = Self::silent(properties);
        live.harness.begin();
        live
    }

    /// In PLAYING at running time 0, without any events yet.
    pub fn silent(properties: &str) -> Self {
        let harness = Harness::new(properties);
        let clock = TestClock::default();
        clock.set(BASE);
        harness.set_upstream_latency(true, UPSTREAM);
        harness.element.set_clock(Some(&clock)).unwrap();
        harness.element.set_base_time(BASE);
        harness.element.set_state(gst::State::Playing).unwrap();
        harness.latency();
        Self {
            harness,
            clock,
            now: gst::ClockTime::ZERO,
        }
    }

    /// Sets the clock, without waiting for the element to act on it.
    pub fn set_time(&mut self, now: gst::ClockTime) {
        self.now = now;
        self.clock.set(BASE + now);
    }

    /// Advances time to `now` in steps of 50 ms, and waits for the element to act on each.
    pub fn wait_until(&mut self, now: gst::ClockTime) {
        while self.now < now {
            let next = (self.now + gst::ClockTime::from_mseconds(50)).min(now);
            self.set_time(next);
            self.settle();
        }
    }

    pub fn wait(&mut self, time: gst::ClockTime) {
        self.wait_until(self.now + time);
    }

    /// Waits, in real time, until the output has reached the time promised by the reported latency.
    pub fn settle(&self) {
        let due = self.now.saturating_sub(self.harness.latency().1);
        let since = Instant::now();
        while self.position() < due {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "at {} the output is at {}, not at {due}",
                self.now,
                self.position()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Running time that the output has reached.
    pub fn position(&self) -> gst::ClockTime {
        self.harness.position()
    }

    /// Pushes `samples` in real time, in buffers of 20 ms.
    pub fn speak(&mut self, samples: &[i16]) {
        let start = self.now;
        for (index, block) in samples.chunks(BLOCK).enumerate() {
            let pts = start + time_of(index * BLOCK);
            self.set_time(pts + time_of(block.len()));
            self.harness.push(buffer(block, Some(pts))).unwrap();
        }
    }

    /// Words since the last call, each with the running time at which it was pushed.
    pub fn words(&self) -> Vec<TextBuffer> {
        words(&self.harness.take())
    }
}

pub fn words(seen: &[Seen]) -> Vec<TextBuffer> {
    let words = seen.iter().filter_map(|seen| match seen {
        Seen::Word(word) => Some(word.clone()),
        _ => None,
    });
    words.collect()
}
