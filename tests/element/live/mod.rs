// SPDX-License-Identifier: MIT OR Apache-2.0

//! Live sources as in practice: they stall, mute, burst, repeat segments and timestamp buffers on arrival. The test
//! controls the clock, so nothing here depends on the speed of the machine.

pub mod live_source;

mod cues;
mod properties;
mod random;
mod segments;
mod source_pad;
mod stalls;

use live_source::BLOCK;

use crate::{
    common::clip_s16,
    harness::{Harness, TextBuffer, buffer, time_of},
};

/// In milliseconds.
const LOOKAHEADS: [u32; 4] = [0, 80, 480, 1040];

fn sentences() -> Vec<i16> {
    clip_s16("u5_eight_sentences")
}

/// Text of stretches of audio as from a file, each with the time of its first sample.
fn from_file(properties: &str, stretches: &[(gst::ClockTime, &[i16])]) -> String {
    let harness = Harness::play(properties);
    for (start, samples) in stretches {
        for (index, block) in samples.chunks(BLOCK).enumerate() {
            let mut buffer = buffer(block, Some(*start + time_of(index * BLOCK)));
            if index == 0 {
                buffer.get_mut().unwrap().set_flags(gst::BufferFlags::DISCONT);
            }
            harness.push(buffer).unwrap();
        }
    }
    harness.eos();
    harness.text()
}

/// The text of one stretch.
fn whole(properties: &str, samples: &[i16]) -> String {
    from_file(properties, &[(gst::ClockTime::ZERO, samples)])
}

/// Middles of pauses between words of at least 200 ms, in samples.
fn pauses(samples: &[i16]) -> Vec<usize> {
    let mut quiet = 0;
    let mut found = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        if sample.unsigned_abs() < 100 {
            quiet += 1;
            continue;
        }
        if quiet > 3_200 && index - quiet > 3_200 {
            found.push((index - quiet / 2) / BLOCK * BLOCK);
        }
        quiet = 0;
    }
    found
}

fn assert_in_time(words: &[TextBuffer], latency: gst::ClockTime) {
    for word in words {
        let left = word.left.unwrap();
        assert!(
            left <= word.pts + word.duration + latency,
            "{word:?} was pushed late; latency {latency}"
        );
    }
}
