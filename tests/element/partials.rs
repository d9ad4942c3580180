// SPDX-License-Identifier: MIT OR Apache-2.0

//! Partials: how long words have stayed, and the pad for those who show text as it grows.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use crate::{
    common::clip_s16,
    harness::{Harness, time_of},
};

/// What left the pad of partials: JSON with its timestamp, or an event.
#[derive(Debug, Clone, PartialEq)]
enum Output {
    Partial(serde_json::Value, gst::ClockTime),
    Gap(gst::ClockTime, gst::ClockTime),
    Event(gst::EventType),
}

/// The pad of partials of a harness, linked.
struct PartialPad {
    source: gst::Pad,
    sink: gst::Pad,
    output: Arc<Mutex<Vec<Output>>>,
}

impl PartialPad {
    fn request(harness: &Harness) -> Self {
        let output = Arc::new(Mutex::new(Vec::new()));
        let (buffers, events) = (output.clone(), output.clone());
        let sink = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, buffer| {
                let map = buffer.map_readable().unwrap();
                let json = serde_json::from_slice(&map).unwrap();
                buffers
                    .lock()
                    .unwrap()
                    .push(Output::Partial(json, buffer.pts().unwrap()));
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(move |_, _, event| {
                events.lock().unwrap().push(match event.view() {
                    gst::EventView::Gap(gap) => Output::Gap(gap.get().0, gap.get().1.unwrap()),
                    _ => Output::Event(event.type_()),
                });
                true
            })
            .build();
        sink.set_active(true).unwrap();
        let source = harness.element.request_pad_simple("partial_src").unwrap();
        source.link(&sink).unwrap();
        Self { source, sink, output }
    }

    fn take(&self) -> Vec<Output> {
        std::mem::take(&mut self.output.lock().unwrap())
    }
}

impl Drop for PartialPad {
    fn drop(&mut self) {
        let _ = self.sink.set_active(false);
    }
}

fn texts(output: &[Output]) -> Vec<(String, bool)> {
    let text = |output: &Output| match output {
        Output::Partial(json, _) => Some((
            json["text"].as_str().unwrap().to_owned(),
            json["is_final"].as_bool().unwrap(),
        )),
        _ => None,
    };
    output.iter().filter_map(text).collect()
}

#[test]
fn pad_of_partials_has_the_utterance_in_progress() {
    let samples = clip_s16("u5_eight_sentences");
    let plain = Harness::play("lookahead=80");
    plain.speak(&samples, 1_600);
    plain.eos();
    let expected = plain.take();

    let harness = Harness::new("lookahead=80");
    let pad = PartialPad::request(&harness);
    harness.start();
    harness.speak(&samples, 1_600);
    harness.eos();
    assert_eq!(harness.take(), expected, "the other pad has what it had");
    // Only those who ask for messages get them.
    let messages = harness.word_messages();
    assert!(
        messages
            .iter()
            .all(|message| message.get::<bool>("is-final") != Ok(false))
    );

    let output = pad.take();
    use gst::EventType::{Caps, Eos, Segment, StreamStart};
    let events: Vec<_> = output
        .iter()
        .filter_map(|output| match output {
            Output::Event(event) => Some(*event),
            _ => None,
        })
        .collect();
    assert_eq!(events, [StreamStart, Caps, Segment, Eos]);
    // Each utterance grows, and ends with its final text; together they are the whole text.
    let texts = texts(&output);
    let finals: Vec<&str> = texts
        .iter()
        .filter(|(_, is_final)| *is_final)
        .map(|(text, _)| text.as_str())
        .collect();
    assert_eq!(finals.join(" "), plain_text(&expected));
    let mut before = String::new();
    for (text, is_final) in &texts {
        assert!(
            text.starts_with(&before),
            "greedy decoding takes nothing back: {before:?}, {text:?}"
        );
        before = if *is_final { String::new() } else { text.clone() };
    }
    assert!(texts.len() > 3 * finals.len(), "{texts:?}");
    // All time is covered, once.
    let mut position = gst::ClockTime::ZERO;
    for output in &output {
        match output {
            Output::Gap(pts, duration) => {
                assert_eq!(*pts, position);
                position += *duration;
            }
            Output::Partial(_, pts) => assert_eq!(*pts, position),
            Output::Event(_) => {}
        }
    }
    assert_eq!(position, time_of(samples.len()));
}

fn plain_text(seen: &[crate::harness::Seen]) -> String {
    let words = seen.iter().filter_map(|seen| match seen {
        crate::harness::Seen::Word(word) => Some(word.text.as_str()),
        _ => None,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn pad_of_partials_can_come_and_go_and_is_flushed() {
    let samples = clip_s16("u5_eight_sentences");
    let harness = Harness::play("lookahead=80");
    harness.speak(&samples[..48_000], 1_600);
    let pad = PartialPad::request(&harness);
    harness.speak_from(time_of(48_000), &samples[48_000..96_000], 1_600);
    let output = pad.take();
    use gst::EventType::{Caps, FlushStart, FlushStop, Segment, StreamStart};
    let first: Vec<_> = output.iter().take(3).cloned().collect();
    assert_eq!(
        first,
        [Output::Event(StreamStart), Output::Event(Caps), Output::Event(Segment)]
    );
    assert!(!texts(&output).is_empty());
    harness.flush();
    harness.speak(&samples[..48_000], 1_600);
    let output = pad.take();
    assert_eq!(
        output[..3],
        [
            Output::Event(FlushStart),
            Output::Event(FlushStop),
            Output::Event(Segment)
        ]
    );
    assert!(texts(&output)[0].0.starts_with("turn"), "{output:?}");
    // Its latency is that of the element.
    let mut query = gst::query::Latency::new();
    assert!(pad.sink.peer_query(&mut query));
    assert_eq!(query.result().1, harness.latency().1);
    harness.element.release_request_pad(&pad.source);
    harness.speak_from(time_of(48_000), &samples[48_000..], 1_600);
    harness.eos();
    assert!(texts(&pad.take()).is_empty());
    assert_eq!(harness.element.pads().len(), 2);
}

#[test]
fn pad_can_be_released_while_it_is_added() {
    let harness = Harness::play("lookahead=80");
    let element = &harness.element;
    let handler = element.connect_pad_added(|element, pad| {
        if pad.name() == "partial_src" {
            element.release_request_pad(pad);
        }
    });
    assert!(element.request_pad_simple("partial_src").is_none());
    assert_eq!(element.pads().len(), 2);
    element.disconnect(handler);
    assert!(element.request_pad_simple("partial_src").is_some());
}

#[test]
fn pad_can_be_released_while_its_first_events_pass() {
    use gst::EventType::{Caps, Segment, StreamStart};
    let samples = clip_s16("u1_command");
    for released_at in [StreamStart, Caps, Segment] {
        let harness = Harness::play("lookahead=80");
        let pad = PartialPad::request(&harness);
        pad.source
            .add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
                if info.event().is_some_and(|event| event.type_() == released_at) {
                    pad.parent_element().unwrap().release_request_pad(pad);
                }
                gst::PadProbeReturn::Ok
            });
        harness.speak(&samples, 1_600);
        harness.eos();
        assert_eq!(harness.element.pads().len(), 2, "{released_at:?}");
        assert!(!plain_text(&harness.take()).is_empty());
    }
}

#[test]
fn pad_requested_after_the_end_is_at_its_end() {
    let harness = Harness::play("lookahead=80");
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    let pad = PartialPad::request(&harness);
    use gst::EventType::{Caps, Eos, Segment, StreamStart};
    let events = [StreamStart, Caps, Segment, Eos].map(Output::Event);
    assert_eq!(pad.take(), events);
}

#[test]
fn running_time_of_partials_does_not_go_back_with_less_lateness() {
    let samples = clip_s16("u5_eight_sentences");
    let harness = Harness::new("lookahead=80 lateness=2000");
    let pad = PartialPad::request(&harness);
    harness.start();
    harness.speak(&samples[..32_000], 1_600);
    harness.element.set_property("lateness", 0_u32);
    harness.speak_from(time_of(32_000), &samples[32_000..], 1_600);
    harness.eos();
    let mut running = gst::ClockTime::ZERO;
    let mut segments = 0;
    let mut base = gst::ClockTime::ZERO;
    for output in pad.take() {
        let (start, end) = match output {
            Output::Gap(pts, duration) => (pts, pts + duration),
            Output::Partial(_, pts) => (pts, pts),
            Output::Event(gst::EventType::Segment) => {
                segments += 1;
                // Each has the shift that was set.
                base = if segments == 1 {
                    2 * gst::ClockTime::SECOND
                } else {
                    gst::ClockTime::ZERO
                };
                continue;
            }
            Output::Event(_) => continue,
        };
        assert!(start + base >= running, "{start} after running time {running}");
        running = end + base;
    }
    assert_eq!(segments, 2);
}

#[test]
fn partials_of_which_nothing_is_left_are_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("list.txt");
    std::fs::write(&list, "turn on the kitchen light\n").unwrap();
    let harness = Harness::new(&format!(
        "lookahead=80 post-partials=true phrase-hold=5000 profanity-action=remove profanity-file={}",
        list.display()
    ));
    let pad = PartialPad::request(&harness);
    harness.start();
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.speak_from(time_of(clip_s16("u1_command").len()), &[0; 32_000], 1_600);
    let texts = texts(&pad.take());
    assert!(texts.iter().any(|(text, _)| text == "turn on the kitchen"), "{texts:?}");
    assert_eq!(texts.last().unwrap(), &(String::new(), false));
    assert!(harness.words().is_empty());
    let messages = harness.word_messages();
    let last = messages
        .iter()
        .rev()
        .find(|message| message.name() == "nemostt")
        .unwrap();
    assert_eq!(last.get::<&str>("text"), Ok(""));
    assert_eq!(last.get::<bool>("is-revision"), Ok(true));
}

#[test]
fn pad_without_a_peer_does_not_end_the_stream() {
    let harness = Harness::new("lookahead=80");
    harness.element.request_pad_simple("partial_src").unwrap();
    harness.start();
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    assert!(harness.text().starts_with("turn on"));
}

#[test]
fn stable_partials_show_words_that_have_stayed() {
    // With each partial, the stability of its words.
    let partials = |stability: u32| {
        let harness = Harness::play(&format!(
            "lookahead=80 post-partials=true partial-stability={stability}"
        ));
        harness.speak(&clip_s16("u5_eight_sentences"), 1_600);
        harness.eos();
        let messages = harness.word_messages();
        let partials = messages
            .iter()
            .filter(|message| message.get::<bool>("is-final") == Ok(false));
        let words = partials.map(|message| {
            assert_eq!(message.get::<bool>("is-revision").ok(), Some(false));
            let words = message.get::<gst::Array>("words").unwrap();
            let word = |word: &gst::glib::SendValue| {
                let word = word.get::<gst::Structure>().unwrap();
                (
                    word.get::<String>("text").unwrap(),
                    word.get::<u32>("stability").unwrap(),
                )
            };
            words.iter().map(word).collect::<Vec<_>>()
        });
        words.collect::<Vec<_>>()
    };
    let all = partials(0);
    assert!(all.iter().flatten().any(|(_, stability)| *stability == 0));
    let stable = partials(3);
    assert!(!stable.is_empty());
    for words in &stable {
        // The last one may have been completed by the next word, which is hidden.
        let (_, open) = words.split_last().unwrap();
        assert!(open.iter().all(|(_, stability)| *stability > 0), "{words:?}");
    }
    // "garage" is never shown as "gar".
    let words = |partials: &[Vec<(String, u32)>]| -> std::collections::BTreeSet<String> {
        partials.iter().flatten().map(|(text, _)| text.clone()).collect()
    };
    assert!(words(&stable).len() < words(&all).len());
    assert!(words(&stable).is_subset(&words(&all)));
}
