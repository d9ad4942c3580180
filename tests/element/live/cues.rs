// SPDX-License-Identifier: MIT OR Apache-2.0

//! Caption cues of live sources: none is late, whatever the source does.

use gst::prelude::*;

use super::{live_source::Live, pauses, sentences, whole};
use crate::{
    MS, SECOND,
    harness::{Seen, TextBuffer},
};

const LOOKAHEADS: [u32; 2] = [80, 480];

fn words(cues: &[TextBuffer]) -> String {
    let words: Vec<&str> = cues.iter().flat_map(|cue| cue.text.split_whitespace()).collect();
    words.join(" ")
}

/// Each cue was pushed before sinks show the time at which it begins.
fn assert_in_time(cues: &[TextBuffer], latency: gst::ClockTime) {
    for cue in cues {
        let left = cue.left.unwrap();
        assert!(
            left <= cue.running.unwrap() + latency,
            "{cue:?} was pushed late; latency {latency}"
        );
    }
}

/// Number of cues whose first word came too late.
fn late_texts(live: &Live) -> u64 {
    let metrics: gst::Structure = live.harness.element.property("metrics");
    metrics.get("late-texts").unwrap()
}

#[test]
fn cues_are_pushed_within_latency_and_delay() {
    let samples = sentences();
    for (delay, mode) in [(0, "pop-on"), (1_000, "roll-up"), (3_000, "pop-on")] {
        let mut live = Live::play(&format!(
            "lookahead=80 output=cues cue-delay={delay} cue-mode={mode} cue-lines=1"
        ));
        live.speak(&samples);
        live.wait(8 * SECOND);
        let cues = live.words();
        assert_in_time(&cues, live.harness.latency().1);
        assert_eq!(words(&cues), whole("lookahead=80", &samples), "{delay} {mode}");
        // Without delay, a cue is pushed before all of its words are known.
        assert!(delay == 0 || late_texts(&live) == 0, "{delay} {mode}");
    }
}

#[test]
fn painted_words_are_pushed_within_latency_and_delay() {
    let samples = sentences();
    for delay in [0, 1_000] {
        let mut live = Live::play(&format!("lookahead=80 output=cues cue-mode=paint-on cue-delay={delay}"));
        live.speak(&samples);
        live.wait(8 * SECOND);
        let cues = live.words();
        assert_in_time(&cues, live.harness.latency().1);
        assert!(cues.len() > 10, "{cues:?}");
    }
}

#[test]
fn cues_come_in_time_when_the_source_is_muted() {
    let samples = sentences();
    let cut = pauses(&samples)[0];
    for lookahead in LOOKAHEADS {
        let properties = format!("lookahead={lookahead}");
        let mut live = Live::play(&format!("{properties} output=cues"));
        live.speak(&samples[..cut]);
        // `wait` fails if the output falls behind the latency.
        live.wait(10 * SECOND);
        let cues = live.words();
        assert_eq!(words(&cues), whole(&properties, &samples[..cut]), "{lookahead}");
        assert_in_time(&cues, live.harness.latency().1);
    }
}

#[test]
fn gaps_follow_the_clock_without_words() {
    for kind in ["silent", "announced"] {
        let mut live = match kind {
            "silent" => Live::silent("lookahead=80 output=cues"),
            _ => Live::play("lookahead=80 output=cues"),
        };
        live.wait(8 * SECOND);
        let gaps = live.harness.take().into_iter().filter_map(|seen| match seen {
            Seen::Gap { duration, .. } => Some(duration),
            _ => None,
        });
        let short = gaps.filter(|&gap| gap <= 150 * MS).count();
        assert!(short >= 20, "{kind}: {short}");
    }
}

#[test]
fn a_burst_after_a_stall_is_shown_late_but_in_order() {
    let samples = sentences();
    let cut = pauses(&samples)[1];
    let mut live = Live::play("lookahead=80 output=cues cue-delay=500");
    live.speak(&samples[..cut]);
    live.wait(6 * SECOND);
    assert_eq!(late_texts(&live), 0);
    live.speak(&samples[cut..]);
    live.wait(8 * SECOND);
    let cues = live.words();
    assert_in_time(&cues, live.harness.latency().1);
    for pair in cues.windows(2) {
        assert!(pair[0].pts + pair[0].duration + 80 * MS <= pair[1].pts, "{pair:?}");
    }
}
