// SPDX-License-Identifier: MIT OR Apache-2.0

//! What applications expect from a transcriber: utterances, formats, loading, overload, robustness.

use gst::prelude::*;
use proptest::prelude::*;

use crate::{
    MS, SECOND,
    common::clip_s16,
    harness::{self, Harness, Seen, TextBuffer, buffer, text, time_of},
    nemo_text,
};

/// Texts between `rstranscribe/final-transcript` events.
fn utterances(seen: &[Seen]) -> Vec<String> {
    let mut utterances = vec![Vec::new()];
    for seen in seen {
        match seen {
            Seen::Word(word) => utterances.last_mut().unwrap().push(word.clone()),
            Seen::Custom(name) if name == "rstranscribe/final-transcript" => utterances.push(Vec::new()),
            _ => {}
        }
    }
    assert!(
        utterances.pop().unwrap().is_empty(),
        "every word is in an utterance that ends"
    );
    utterances.iter().map(|words: &Vec<TextBuffer>| text(words)).collect()
}

#[test]
fn utterances_end_with_final_transcript_events() {
    let harness = Harness::play("lookahead=1040 endpoint-silence=480");
    harness.speak(&clip_s16("u5_eight_sentences"), 1_600);
    harness.eos();
    let found = utterances(&harness.take());
    assert!(found.len() >= 6, "eight sentences with pauses: {found:?}");
    assert_eq!(found.join(" "), nemo_text("u5_eight_sentences", 13));
}

#[test]
fn output_utterances_pushes_one_buffer_each() {
    let words = Harness::play("lookahead=1040 endpoint-silence=480");
    let whole = Harness::play("lookahead=1040 endpoint-silence=480 output=utterances");
    for harness in [&words, &whole] {
        harness.speak(&clip_s16("u5_eight_sentences"), 1_600);
        harness.eos();
    }
    let expected = utterances(&words.take());
    let seen = whole.take();
    assert_eq!(utterances(&seen), expected);
    let mut position = gst::ClockTime::ZERO;
    for seen in seen {
        let (pts, duration) = match seen {
            Seen::Word(TextBuffer { pts, duration, .. }) | Seen::Gap { pts, duration } => (pts, duration),
            _ => continue,
        };
        assert_eq!(pts, position);
        position += duration;
    }
    let messages = whole.word_messages();
    assert_eq!(messages.len(), expected.len());
    for (id, message) in messages.iter().enumerate() {
        assert_eq!(message.get::<u64>("utterance-id").unwrap(), id as u64);
        let words = message.get::<gst::Array>("words").unwrap();
        let words: Vec<String> = words
            .iter()
            .map(|word| word.get::<gst::Structure>().unwrap().get("text").unwrap())
            .collect();
        assert_eq!(words.join(" "), message.get::<&str>("text").unwrap());
    }
}

#[test]
fn partial_messages_grow_into_final_ones() {
    let harness = Harness::play("lookahead=80 post-partials=true post-messages=false output=utterances");
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    let partials = harness.word_messages();
    assert!(partials.len() > 2, "{partials:?}");
    assert!(partials.iter().all(|message| !message.get::<bool>("is-final").unwrap()));
    let last = partials.last().unwrap().get::<String>("text").unwrap();
    assert!(nemo_text("u1_command", 1).starts_with(&last), "{last}");

    // Switched off while playing.
    harness.element.set_property("post-partials", false);
    harness.flush();
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    assert!(harness.word_messages().is_empty());
}

#[test]
fn downstream_caps_select_the_format() {
    let words_with = |caps: &str| {
        let harness = Harness::with_caps("lookahead=480", caps);
        harness.start();
        harness.speak(&clip_s16("u1_command"), 1_600);
        harness.eos();
        harness.words()
    };
    assert_eq!(
        text(&words_with("text/x-raw,format={pango-markup,utf8}")),
        nemo_text("u1_command", 6)
    );
    assert_eq!(
        text(&words_with("text/x-raw,format=pango-markup")),
        nemo_text("u1_command", 6)
    );
    for word in words_with("application/x-json") {
        let json: serde_json::Value = serde_json::from_str(&word.text).unwrap();
        assert_eq!(json["start"], word.pts.nseconds());
        assert_eq!(json["end"], (word.pts + word.duration).nseconds());
        assert_eq!(json["is_final"], true);
        assert_eq!(json["words"][0]["text"], json["text"]);
    }
}

#[test]
fn word_hold_limits_the_wait_for_the_next_word() {
    let samples = clip_s16("u1_command");
    let with = |hold: u32| {
        let harness = Harness::play(&format!("lookahead=80 endpoint-silence=0 word-hold={hold}"));
        harness.speak(&samples, 1_600);
        harness.speak_from(time_of(samples.len()), &[0; 16_000], 1_600);
        harness.words().len()
    };
    let all = nemo_text("u1_command", 1).split(' ').count();
    assert_eq!(with(320), all);
    assert_eq!(with(0), all - 1);
}

#[test]
fn reverse_playback_passes_as_gaps() {
    let harness = Harness::play("lookahead=80");
    let samples = clip_s16("u1_command");
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_stop(10 * SECOND);
    segment.set_rate(-1.0);
    assert!(harness.segment(&segment));
    harness.speak(&samples, 1_600);
    harness.eos();
    let seen = harness.take();
    assert!(seen.iter().all(|seen| !matches!(seen, Seen::Word(_))), "{seen:?}");
    assert!(
        seen.iter().any(|seen| matches!(seen, Seen::Gap { .. })),
        "time passes as GAPs"
    );

    harness.flush();
    harness.speak(&samples, 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 1));
}

#[test]
fn faster_playback_keeps_timestamps() {
    let harness = Harness::play("lookahead=480");
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_rate(2.0);
    assert!(harness.segment(&segment));
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    let words = harness.words();
    assert_eq!(text(&words), nemo_text("u1_command", 6));
    for (word, message) in words.iter().zip(harness.word_messages()) {
        assert_eq!(message.get::<gst::ClockTime>("stream-time").unwrap(), word.pts);
        assert_eq!(message.get::<gst::ClockTime>("running-time").unwrap(), word.pts / 2);
    }
}

#[test]
fn segment_done_finishes_words() {
    let harness = Harness::play("lookahead=1040");
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.take();
    assert!(harness.event(gst::event::SegmentDone::new(2 * SECOND)));
    let seen = harness.take();
    assert_eq!(*seen.last().unwrap(), Seen::Event(gst::EventType::SegmentDone));
    assert!(seen.iter().any(|seen| matches!(seen, Seen::Word(_))), "{seen:?}");
}

#[test]
fn equivalent_caps_do_not_restart() {
    let harness = Harness::play("lookahead=1040");
    let samples = clip_s16("u1_command");
    let (first, second) = samples.split_at(samples.len() / 2);
    harness.speak(first, 1_600);
    assert!(harness.event(gst::event::Caps::new(&harness::caps())));
    assert_eq!(harness.text(), "");
    harness.speak_from(time_of(first.len()), second, 1_600);
    let before = harness.words();
    let mut other = harness::caps();
    other.get_mut().unwrap().set("channel-mask", gst::Bitmask::new(4));
    assert!(harness.event(gst::event::Caps::new(&other)));
    let after = harness.words();
    assert!(after.is_empty());
    harness.eos();
    let after = harness.words();
    assert_eq!(text(&[before, after].concat()), nemo_text("u1_command", 13));
}

#[test]
fn lateness_shifts_running_time_and_reduces_latency() {
    let on_time = Harness::play("lookahead=80");
    let late = Harness::play("lookahead=80 lateness=200");
    assert_eq!(on_time.segment_base(), Some(gst::ClockTime::ZERO));
    assert_eq!(late.segment_base(), Some(200 * MS));
    assert_eq!(late.latency().1 + 200 * MS, on_time.latency().1);
}

fn progress(harness: &Harness) -> Vec<gst::ProgressType> {
    let messages = harness.messages();
    let kinds = messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Progress(progress) => Some(progress.get().0),
        _ => None,
    });
    kinds.collect()
}

#[test]
fn loading_posts_progress_once() {
    use gst::ProgressType::{Complete, Start};
    let harness = Harness::play("lookahead=0 max-symbols=9");
    harness.speak(&[0; 160], 160);
    assert_eq!(progress(&harness), [Start, Complete]);
    // To READY or NULL and back, as transcriberbin does: the model is kept.
    for state in [gst::State::Ready, gst::State::Null] {
        harness.element.set_state(state).unwrap();
        harness.start();
        harness.speak(&clip_s16("u1_command"), 1_600);
        harness.eos();
        assert_eq!(harness.text(), nemo_text("u1_command", 0));
        assert_eq!(progress(&harness), []);
    }
    // A different setting needs a different model.
    harness.element.set_state(gst::State::Ready).unwrap();
    harness.element.set_property("lookahead", 80);
    harness.start();
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 1));
    assert_eq!(progress(&harness), [Start, Complete]);
}

#[test]
fn null_cancels_loading() {
    for wait in [0, 1, 20] {
        // Unique settings, so that no other test has this model loaded.
        let harness = Harness::new(&format!("lookahead=0 max-symbols={}", 100 + wait));
        harness.element.set_state(gst::State::Paused).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        harness.element.set_state(gst::State::Null).unwrap();
        let seen = progress(&harness);
        assert_eq!(seen[0], gst::ProgressType::Start);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_ne!(seen[1], gst::ProgressType::Error);
        harness.start();
        harness.speak(&clip_s16("u1_command"), 1_600);
        harness.eos();
        assert_eq!(harness.text(), nemo_text("u1_command", 0));
    }
}

#[test]
fn stop_interrupts_waiting_for_the_model() {
    harness::init();
    for settle in [0, 5, 50] {
        let line = format!(
            "audiotestsrc ! nemostt lookahead=0 max-symbols={} ! fakesink",
            200 + settle
        );
        let pipeline = gst::parse::launch(&line).unwrap();
        pipeline.set_state(gst::State::Paused).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(settle));
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn silence_prerolls() {
    harness::init();
    let pipeline = gst::parse::launch("audiotestsrc wave=silence ! nemostt threads=1 ! fakesink").unwrap();
    pipeline.set_state(gst::State::Paused).unwrap();
    let (result, state, _) = pipeline.state(30 * SECOND);
    assert!(result.is_ok() && state == gst::State::Paused, "{result:?}, {state:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// A live source that plays ten thousand times faster than real time: no machine keeps up.
fn overloaded(properties: &str) -> Harness {
    harness::init();
    let clock = gst::SystemClock::obtain();
    let harness = Harness::play(&format!("lookahead=480 latency=30 {properties}"));
    harness.speak(&[0; 160], 160); // waits for the model
    harness.flush();
    harness.set_upstream_latency(true, 20 * MS);
    harness.latency();
    harness.element.set_clock(Some(&clock)).unwrap();
    harness.element.set_base_time(clock.time());
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_rate(10_000.0);
    assert!(harness.segment(&segment));
    harness.messages();
    for round in 0..4 {
        let samples = clip_s16("u5_eight_sentences");
        harness.speak_from(round * time_of(samples.len()), &samples, 1_600);
    }
    harness
}

fn count(messages: &[gst::Message], kind: gst::MessageType) -> usize {
    messages.iter().filter(|message| message.type_() == kind).count()
}

#[test]
fn overload_skip_skips_audio() {
    let harness = overloaded("overload=skip");
    let seen = harness.take();
    let words = seen.iter().filter(|seen| matches!(seen, Seen::Word(_))).count();
    assert!(words < 60, "{words} of about 196 words: most of it must be skipped");
    let messages = harness.messages();
    assert_eq!(
        count(&messages, gst::MessageType::Warning),
        1,
        "one warning: {messages:?}"
    );
    assert_eq!(count(&messages, gst::MessageType::Qos), 1);
    assert!(harness.element.property::<u32>("max-observed-delay") >= 30);
    let metrics: gst::Structure = harness.element.property("metrics");
    assert_eq!(metrics.get::<u64>("overloads"), Ok(1));
    assert!(metrics.get::<gst::ClockTime>("skipped-time").unwrap() > gst::ClockTime::ZERO);
    assert!(metrics.get::<gst::ClockTime>("max-observed-delay").unwrap() >= 30 * MS);
    assert_eq!(metrics.get::<u64>("words"), Ok(words as u64));

    // Audio that is on time is transcribed completely, and starts with DISCONT.
    harness.flush();
    let clock = harness.element.clock().unwrap();
    harness.element.set_base_time(clock.time());
    harness.take();
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    let words = harness.words();
    assert_eq!(text(&words), nemo_text("u1_command", 6));
    assert!(words[0].discont);
}

#[test]
fn overload_block_transcribes_everything() {
    let harness = overloaded("");
    harness.eos();
    let found = harness.text();
    let once = nemo_text("u5_eight_sentences", 6);
    assert!(
        found.starts_with(&once[..once.len() - 10]),
        "late, but complete: {found}"
    );
    assert_eq!(found.split(' ').count(), 4 * once.split(' ').count());
    assert_eq!(count(&harness.messages(), gst::MessageType::Warning), 1);
}

/// An act on the element.
#[derive(Debug, Clone)]
enum Act {
    Speak { samples: usize, cut: usize },
    Hole { ms: u64 },
    Gap { ms: u64 },
    Flush,
    Seek { seconds: u64 },
    Pause,
    Play,
    ToReady,
    Property(&'static str, u32),
    Eos,
    SegmentDone,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1_usize..20_000, 100_usize..5_000).prop_map(|(samples, cut)| Act::Speak { samples, cut }),
        1 => (1_u64..5_000).prop_map(|ms| Act::Hole { ms }),
        1 => (1_u64..5_000).prop_map(|ms| Act::Gap { ms }),
        1 => Just(Act::Flush),
        1 => (0_u64..1_000).prop_map(|seconds| Act::Seek { seconds }),
        1 => Just(Act::Pause),
        1 => Just(Act::Play),
        1 => Just(Act::ToReady),
        1 => (0_u32..2_000).prop_map(|ms| Act::Property("gap-threshold", ms)),
        1 => (0_u32..2_000).prop_map(|ms| Act::Property("eos-padding", ms)),
        1 => (0_u32..2_000).prop_map(|ms| Act::Property("word-hold", ms)),
        1 => (0_u32..2_000).prop_map(|ms| Act::Property("endpoint-silence", ms)),
        1 => Just(Act::Eos),
        1 => Just(Act::SegmentDone),
    ];
    prop::collection::vec(act, 1..12)
}

/// The harness with the time that its audio has reached.
struct Speaker {
    harness: Harness,
    now: gst::ClockTime,
    samples: Vec<i16>,
}

impl Speaker {
    fn act(&mut self, act: &Act) {
        let harness = &self.harness;
        match *act {
            Act::Speak { samples, cut } => {
                let samples = &self.samples[..samples.min(self.samples.len())];
                for block in samples.chunks(cut) {
                    // After EOS, buffers are rejected.
                    let _ = harness.push(buffer(block, Some(self.now)));
                    self.now += time_of(block.len());
                }
            }
            Act::Hole { ms } => self.now += ms * MS,
            Act::Gap { ms } => {
                harness.event(gst::event::Gap::builder(self.now).duration(ms * MS).build());
                self.now += ms * MS;
            }
            Act::Flush => {
                harness.flush();
                self.now = gst::ClockTime::ZERO;
            }
            Act::Seek { seconds } => {
                harness.flush();
                let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
                segment.set_start(seconds * SECOND);
                segment.set_time(seconds * SECOND);
                harness.segment(&segment);
                self.now = seconds * SECOND;
            }
            Act::Pause => drop(harness.element.set_state(gst::State::Paused).unwrap()),
            Act::Play => drop(harness.element.set_state(gst::State::Playing).unwrap()),
            Act::ToReady => {
                harness.element.set_state(gst::State::Ready).unwrap();
                harness.start();
                self.now = gst::ClockTime::ZERO;
            }
            Act::Property(name, value) => harness.element.set_property(name, value),
            Act::Eos => drop(harness.event(gst::event::Eos::new())),
            Act::SegmentDone => drop(harness.event(gst::event::SegmentDone::new(self.now))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20_261_122),
        ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn text_is_right_after_any_sequence_of_acts(acts in acts()) {
        let harness = Harness::play("lookahead=480");
        let mut speaker = Speaker { harness, now: gst::ClockTime::ZERO, samples: clip_s16("u2_digits") };
        for act in &acts {
            speaker.act(act);
            let mut position = gst::ClockTime::ZERO;
            for seen in speaker.harness.take() {
                if seen == Seen::Event(gst::EventType::FlushStop) {
                    position = gst::ClockTime::ZERO;
                }
                if let Seen::Word(TextBuffer { pts, duration, .. }) | Seen::Gap { pts, duration } = seen {
                    // Seeks and flushes go back; otherwise time only advances within one act.
                    prop_assert!(pts >= position, "{:?}: {} after {}", act, pts, position);
                    position = pts + duration;
                }
            }
        }
        let harness = &speaker.harness;
        for (name, value) in [("eos-padding", 0_u32), ("word-hold", 320), ("endpoint-silence", 800)] {
            harness.element.set_property(name, value);
        }
        harness.flush();
        harness.take();
        harness.speak(&clip_s16("u1_command"), 1_024);
        harness.eos();
        prop_assert_eq!(harness.text(), nemo_text("u1_command", 6));
        let errors = harness.messages().into_iter().filter(|message| message.type_() == gst::MessageType::Error);
        prop_assert_eq!(errors.count(), 0);
    }
}
