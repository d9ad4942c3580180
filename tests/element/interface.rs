// SPDX-License-Identifier: MIT OR Apache-2.0

//! Properties, the latency, caps and QoS events, and the notice about the demo model.

use std::{
    thread,
    time::{Duration, Instant},
};

use gst::prelude::*;

use crate::{
    MS,
    common::{clip_s16, model_path},
    harness::{self, Harness, buffer, time_of},
    nemo_text,
};

#[test]
fn properties_round_trip() {
    let element = Harness::new("").element.clone();
    element.set_property("model-path", "/somewhere");
    assert_eq!(
        element.property::<Option<String>>("model-path").as_deref(),
        Some("/somewhere")
    );
    element.set_property("model-path", "");
    assert_eq!(element.property::<Option<String>>("model-path"), None);
    for (name, value) in [
        ("threads", 3_u32),
        ("max-batch", 2),
        ("max-streams", 3),
        ("max-symbols", 5),
        ("eos-padding", 7),
        ("latency", 9),
        ("word-hold", 13),
        ("endpoint-silence", 15),
        ("lateness", 17),
        ("gap-threshold", 11),
        ("metrics-interval", 19),
    ] {
        element.set_property(name, value);
        assert_eq!(element.property::<u32>(name), value);
    }
    assert_eq!(element.property::<Option<String>>("separator"), None);
    element.set_property("separator", " ");
    assert_eq!(element.property::<Option<String>>("separator").as_deref(), Some(" "));
    for name in ["hotwords", "hotwords-file"] {
        assert_eq!(element.property::<Option<String>>(name), None);
        element.set_property(name, "Ada:2");
        assert_eq!(element.property::<Option<String>>(name).as_deref(), Some("Ada:2"));
    }
    assert_eq!(element.property::<f32>("hotwords-weight"), 1.0);
    element.set_property("hotwords-weight", 2.5_f32);
    assert_eq!(element.property::<f32>("hotwords-weight"), 2.5);
    assert_eq!(element.property::<String>("device"), "auto");
    element.set_property_from_str("device", "cuda:1");
    assert_eq!(element.property::<String>("device"), "cuda:1");
    element.set_property("lookahead", 480);
    assert_eq!(element.property::<i32>("lookahead"), 480);
    for (name, nick) in [("decoder", "ctc"), ("output", "utterances"), ("overload", "skip")] {
        element.set_property_from_str(name, nick);
        let value = element.property_value(name);
        let (_, value) = gst::glib::EnumValue::from_value(&value).unwrap();
        assert_eq!(value.nick(), nick);
    }
}

#[test]
fn latency_is_the_sum_of_its_parts() {
    let expected = |lookahead: u64, processing: u64| (lookahead + 80 + 320 + processing) * MS + 12 * MS + MS / 2;
    let harness = Harness::new("lookahead=80 latency=0");
    // Even before the model is loaded.
    assert_eq!(harness.latency(), (false, expected(80, 0)));
    harness.set_upstream_latency(true, 20 * MS);
    assert_eq!(harness.latency(), (true, 20 * MS + expected(80, 0)));
    harness.start();
    assert_eq!(harness.latency(), (true, 20 * MS + expected(80, 0)));

    harness.messages();
    harness.element.set_property("latency", 250_u32);
    assert_eq!(harness.latency(), (true, 20 * MS + expected(80, 250)));
    let announced = harness.messages();
    assert!(
        announced
            .iter()
            .any(|message| message.type_() == gst::MessageType::Latency)
    );

    harness.element.set_property("word-hold", 0_u32);
    harness.element.set_property("endpoint-silence", 0_u32);
    assert_eq!(harness.latency().1, 20 * MS + expected(80, 250) - 320 * MS);

    // The model's own lookahead.
    assert_eq!(Harness::new("latency=0").latency().1, expected(1040, 0));
    assert_eq!(Harness::play("latency=0").latency().1, expected(1040, 0));
    // Of a model that is not loaded yet: the largest.
    let path = model_path("tiny_random");
    let other = Harness::new(&format!("latency=0 model-path={}", path.display()));
    assert_eq!(other.latency().1, expected(1040, 0));
}

#[test]
fn unsupported_caps_are_rejected() {
    let harness = Harness::new("");
    harness.element.set_state(gst::State::Playing).unwrap();
    harness.event(gst::event::StreamStart::new("test"));
    let mut caps = harness::caps();
    caps.get_mut().unwrap().set("rate", 44_100);
    harness.event(gst::event::Caps::new(&caps));
    harness.segment(&gst::FormattedSegment::new());
    assert_eq!(
        harness.push(buffer(&[0; 160], Some(gst::ClockTime::ZERO))),
        Err(gst::FlowError::NotNegotiated)
    );
    // The next stream, with the right caps, is transcribed.
    harness.event(gst::event::Caps::new(&harness::caps()));
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 13));
}

#[test]
fn qos_events_are_ignored() {
    let harness = Harness::play("lookahead=480 qos=true");
    let samples = clip_s16("u1_command");
    harness.speak(&samples[..8_000], 1_600);
    let src = harness.element.static_pad("src").unwrap();
    let late = gst::event::Qos::new(
        gst::QOSType::Underflow,
        0.1,
        10_000_000_000,
        Some(gst::ClockTime::from_seconds(1)),
    );
    assert!(src.send_event(late));
    harness.speak_from(time_of(8_000), &samples[8_000..], 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 6));
}

#[test]
fn demo_model_notice_is_posted_once() {
    let notices = |harness: &Harness| {
        let messages = harness
            .messages()
            .into_iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Info(info) => {
                    Some((info.error().message().to_owned(), info.debug().unwrap().to_string()))
                }
                _ => None,
            });
        messages.collect::<Vec<_>>()
    };
    let harness = Harness::play("");
    harness.speak(&[0; 160], 160);
    // The model is ready before its messages are posted, so that the buffer may have passed already.
    let begin = Instant::now();
    let mut found = Vec::new();
    while found.is_empty() && begin.elapsed() < Duration::from_secs(30) {
        found = notices(&harness);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    for words in [
        "demo model",
        "synthetic speech",
        "nemostt models",
        "nemostt fetch",
        "model-path",
    ] {
        assert!(found[0].0.contains(words) && found[0].1.contains(words), "{found:?}");
    }
    // The same model, in the same element.
    harness.element.set_state(gst::State::Null).unwrap();
    harness.start();
    harness.speak(&[0; 160], 160);
    assert_eq!(notices(&harness), []);

    let harness = Harness::play(&format!("model-path={}", model_path("trained").display()));
    harness.speak(&[0; 160], 160);
    assert_eq!(notices(&harness), []);
}
