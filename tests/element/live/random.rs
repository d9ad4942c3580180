// SPDX-License-Identifier: MIT OR Apache-2.0

//! Random source behavior: audio that was delivered completely gives the same text as from a file. The harness
//! fails if running time goes backward, and [`Live::wait`] if the output falls behind the latency.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    LOOKAHEADS,
    live_source::{BLOCK, Live, words},
    sentences, whole,
};
use crate::{
    MS, SECOND,
    harness::{Harness, buffer, caps, text, time_of},
};

/// Number of sequences, and threads that run them: they mostly wait for the clock thread.
const SEQUENCES: u64 = 300;
const THREADS: usize = 8;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// How a source timestamps its buffers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Timestamping {
    /// With the time of recording.
    Exact,
    /// The same, off by at most 20 ms, and with DISCONT on every buffer.
    Jitter,
    /// With the time of arrival.
    Arrival,
}

/// A source that loops a clip.
struct Source<'c> {
    live: Live,
    clip: &'c [i16],
    timestamping: Timestamping,
    random: Random,
    /// Position in the clip, and the start of the current stretch.
    at: usize,
    began: usize,
    /// Running time of the next sample if nothing is late.
    due: gst::ClockTime,
    /// Base of the segment, subtracted from timestamps.
    base: gst::ClockTime,
    discont: bool,
    /// Stretches whose text must be in the output.
    stretches: Vec<std::ops::Range<usize>>,
    log: Vec<String>,
}

impl Source<'_> {
    fn push(&mut self, count: usize, late_until: gst::ClockTime) {
        let samples: Vec<i16> = self.clip.iter().cycle().skip(self.at).take(count).copied().collect();
        for block in samples.chunks(BLOCK) {
            let recorded = self.due;
            self.due += time_of(block.len());
            let arrives = self.due.max(late_until);
            // Some microseconds pass between buffers of a burst.
            let now = arrives.max(self.live.now + gst::ClockTime::from_useconds(3));
            self.live.set_time(now);
            let pts = match self.timestamping {
                Timestamping::Exact => recorded,
                Timestamping::Jitter => (recorded + self.random.below(40) * MS)
                    .saturating_sub(20 * MS)
                    .max(self.base),
                Timestamping::Arrival => now,
            };
            let mut buffer = buffer(block, Some(pts - self.base));
            if self.timestamping == Timestamping::Jitter || std::mem::take(&mut self.discont) {
                buffer.get_mut().unwrap().set_flags(gst::BufferFlags::DISCONT);
            }
            self.live.harness.push(buffer).unwrap();
        }
        self.at += count;
    }

    fn end_stretch(&mut self) {
        if self.at > self.began {
            self.stretches.push(self.began..self.at);
        }
        self.began = self.at;
    }

    /// Skips audio that would be late: the source is in real time again.
    fn catch_up(&mut self) {
        self.due = self.due.max(self.live.now);
    }

    fn act(&mut self) {
        let act = self.random.below(8);
        match act {
            0..=2 => {
                let count = (4_800 + self.random.below(32_000) as usize) / BLOCK * BLOCK;
                self.log.push(format!("speak {count} at {}", self.at));
                self.push(count, gst::ClockTime::ZERO);
            }
            3 => {
                // The network stalls; then everything arrives at once.
                let stall = (200 + self.random.below(1_800)) / 20 * 20 * MS;
                self.log.push(format!("stall {stall} at {}", self.at));
                let until = self.due + stall;
                self.live.wait_until(until);
                let missed = (stall.nseconds() / (20 * MS).nseconds()) as usize * BLOCK;
                self.push(missed + 10 * BLOCK, until);
            }
            4 => {
                // The source is muted, long enough to restart recognition.
                let mute = (1_500 + self.random.below(3_000)) / 20 * 20 * MS;
                self.log.push(format!("mute {mute} at {}", self.at));
                self.live.wait(mute);
                self.end_stretch();
                self.due = self.live.now;
                self.discont = true;
                self.push(20 * BLOCK, gst::ClockTime::ZERO);
            }
            5 => {
                // Another segment for the same running time.
                let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
                self.log.push(format!("segment at {}", self.at));
                match self.random.below(3) {
                    0 => segment.set_duration(self.due),
                    1 => segment.set_time(self.due * 2),
                    _ => {
                        self.base = self.due.saturating_sub(100 * MS);
                    }
                }
                segment.set_base(self.base);
                assert!(self.live.harness.segment(&segment));
                self.push(10 * BLOCK, gst::ClockTime::ZERO);
            }
            6 => {
                self.log.push(format!("caps at {}", self.at));
                let mut other = caps();
                if self.random.below(2) == 0 {
                    other.get_mut().unwrap().set("channel-mask", gst::Bitmask::new(4));
                }
                assert!(self.live.harness.event(gst::event::Caps::new(&other)));
            }
            _ if self.random.below(3) == 0 => {
                self.log.push(format!("flush at {}", self.at));
                // Pending text is discarded; running time continues.
                assert!(self.live.harness.event(gst::event::FlushStart::new()));
                self.live.harness.take();
                assert!(self.live.harness.event(gst::event::FlushStop::new(false)));
                let seen = self.live.harness.take();
                assert!(words(&seen).is_empty(), "{seen:?}");
                self.base = gst::ClockTime::ZERO;
                assert!(self.live.harness.segment(&gst::FormattedSegment::new()));
                self.stretches.clear();
                self.began = self.at;
                self.discont = true;
                self.catch_up();
            }
            _ => {}
        }
    }
}

/// Runs a sequence. Returns the text, the expected text, and a log.
fn run(seed: u64, clip: &[i16]) -> (String, String, String) {
    let mut random = Random::new(seed);
    let lookahead = LOOKAHEADS[random.below(4) as usize];
    let timestamping = [Timestamping::Exact, Timestamping::Jitter, Timestamping::Arrival][random.below(3) as usize];
    let properties = format!("lookahead={lookahead}");
    // In cues, a third of the time.
    let output = match seed % 3 {
        0 => format!("output=cues cue-delay={}", [0, 1_000, 3_000][seed as usize / 3 % 3]),
        _ => "output=words".to_owned(),
    };
    let at = random.below(clip.len() as u64 / 320) as usize * 320;
    let mut source = Source {
        live: Live::play(&format!("{properties} {output}")),
        clip,
        timestamping,
        random,
        at,
        began: at,
        due: gst::ClockTime::ZERO,
        base: gst::ClockTime::ZERO,
        discont: false,
        stretches: Vec::new(),
        log: vec![format!("lookahead {lookahead}, {timestamping:?}, {output}")],
    };
    for _ in 0..3 + source.random.below(6) {
        source.act();
    }
    source.end_stretch();
    source.live.harness.eos();
    let found = source.live.words();
    // After EOS nothing is pushed, no matter how much time passes.
    source.live.set_time(source.live.now + 10 * SECOND);
    let errors = source
        .live
        .harness
        .messages()
        .into_iter()
        .filter(|message| message.type_() == gst::MessageType::Error);
    assert_eq!(errors.count(), 0);
    let expected: Vec<String> = source
        .stretches
        .iter()
        .map(|stretch| {
            let samples: Vec<i16> = clip
                .iter()
                .cycle()
                .skip(stretch.start)
                .take(stretch.len())
                .copied()
                .collect();
            whole(&properties, &samples)
        })
        .filter(|text| !text.is_empty())
        .collect();
    assert!(source.live.harness.take().is_empty(), "nothing is pushed after EOS");
    // Lines of cues are joined.
    (
        text(&found).replace('\n', " "),
        expected.join(" "),
        source.log.join(", "),
    )
}

#[test]
fn random_source_behavior_does_not_change_the_text() {
    // These keep the models loaded.
    let _models: Vec<Harness> = LOOKAHEADS
        .iter()
        .map(|lookahead| {
            let harness = Harness::play(&format!("lookahead={lookahead}"));
            harness.speak(&[0; 320], 320);
            harness
        })
        .collect();
    let clip = sentences();
    // To run one of them: NEMOSTT_SEED=81.
    let only: Option<u64> = std::env::var("NEMOSTT_SEED").ok().map(|seed| seed.parse().unwrap());
    let next = AtomicU64::new(only.unwrap_or(0));
    let end = only.map_or(SEQUENCES, |seed| seed + 1);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let (found, expected, log) = run(seed, &clip);
                    if found != expected {
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("{seed}: {log}\n  found    {found}\n  expected {expected}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {SEQUENCES}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
