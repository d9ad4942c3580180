// SPDX-License-Identifier: MIT OR Apache-2.0

//! The encoder is on a server, which is restarted, fails, or does not answer.

use std::{sync::mpsc, time::Duration};

use gst::prelude::*;
use nemostt::{
    Options,
    fuzzing::{
        TWIN,
        mock::{Faults, Server},
        serve_twin,
    },
};

use crate::{
    common::clip_s16,
    harness::{Harness, time_of},
    nemo_text,
};

/// Against tests that hang.
const LONG: Duration = Duration::from_secs(120);
const CUT: usize = 1_600;

/// Serves the demo model's encoder.
fn serve() -> Server {
    let options = Options {
        lookahead: Some(480),
        threads: 1,
        ..Default::default()
    };
    serve_twin(None, &options).unwrap()
}

fn properties(server: &Server, more: &str) -> String {
    format!(
        "lookahead=480 remote=triton://{}/{TWIN} remote-timeout=60000 {more}",
        server.address()
    )
}

/// The states that were posted since the last call, each with the text of the message.
fn changes(harness: &Harness) -> Vec<(String, String)> {
    let messages = harness.messages();
    let changes = messages.iter().filter_map(|message| {
        let (details, error) = match message.view() {
            gst::MessageView::Warning(warning) => (warning.details(), warning.error()),
            gst::MessageView::Info(info) => (info.details(), info.error()),
            gst::MessageView::Error(error) => panic!("{error:?}"),
            _ => return None,
        };
        let details = details.filter(|details| details.name() == "nemostt/remote")?;
        Some((details.get("state").unwrap(), error.message().to_owned()))
    });
    changes.collect()
}

fn states(harness: &Harness) -> Vec<String> {
    changes(harness).into_iter().map(|(state, _)| state).collect()
}

#[test]
fn properties_round_trip() {
    let element = Harness::new("").element.clone();
    element.set_property("remote", "triton://gpu/encoder");
    assert_eq!(
        element.property::<Option<String>>("remote").as_deref(),
        Some("triton://gpu/encoder")
    );
    element.set_property("remote", "");
    assert_eq!(element.property::<Option<String>>("remote"), None);
    for (name, value) in [("remote-timeout", 250_u32), ("remote-latency", 30)] {
        element.set_property(name, value);
        assert_eq!(element.property::<u32>(name), value);
    }
    element.set_property_from_str("remote-fallback", "none");
    let value = element.property_value("remote-fallback");
    assert_eq!(gst::glib::EnumValue::from_value(&value).unwrap().1.nick(), "none");
    let headers = gst::Structure::builder("headers")
        .field("authorization", "Bearer x")
        .build();
    element.set_property("remote-headers", &headers);
    assert_eq!(
        element.property::<Option<gst::Structure>>("remote-headers"),
        Some(headers)
    );
}

#[test]
fn text_is_that_of_the_model_here() {
    let server = serve();
    let harness = Harness::play(&properties(&server, ""));
    harness.speak(&clip_s16("u1_command"), CUT);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 6));
    assert_eq!(changes(&harness), []);
    assert!(server.received().len() > 3);
}

#[test]
fn text_goes_on_on_the_cpu_with_one_warning() {
    let mut server = serve();
    let harness = Harness::play(&properties(&server, ""));
    let samples = clip_s16("u1_command");
    let (early, late) = samples.split_at(samples.len() / 2);
    harness.speak(early, CUT);
    let before = harness.text();
    server.kill();
    harness.speak_from(time_of(early.len()), late, CUT);
    harness.eos();
    assert_eq!(format!("{before} {}", harness.text()), nemo_text("u1_command", 6));
    let changes = changes(&harness);
    assert_eq!(changes.len(), 1, "{changes:?}");
    let (state, text) = &changes[0];
    assert_eq!(state, "cpu");
    assert!(text.contains(&server.address()), "{text}");
}

#[test]
fn lost_state_is_restored_with_one_message() {
    let server = serve();
    let harness = Harness::play(&properties(&server, "remote-fallback=none"));
    let samples = clip_s16("u1_command");
    let (early, late) = samples.split_at(samples.len() / 2);
    harness.speak(early, CUT);
    let before = harness.text();
    server.forget_sequences();
    harness.speak_from(time_of(early.len()), late, CUT);
    harness.eos();
    assert_eq!(format!("{before} {}", harness.text()), nemo_text("u1_command", 6));
    assert_eq!(states(&harness), ["connected"]);
}

/// Runs `interrupt` while the streaming thread of `harness` waits for the server, and returns what its push returns.
fn while_waiting(
    harness: &Harness,
    server: &Server,
    interrupt: impl FnOnce(),
) -> Result<gst::FlowSuccess, gst::FlowError> {
    let samples = clip_s16("u1_command");
    let received = server.received().len();
    std::thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        scope.spawn(move || {
            let mut result = Ok(gst::FlowSuccess::Ok);
            for (i, block) in samples.chunks(CUT).enumerate() {
                result = harness.push(crate::harness::buffer(block, Some(time_of(i * CUT))));
                if result.is_err() {
                    break;
                }
            }
            let _ = done.send(result);
        });
        let start = std::time::Instant::now();
        while server.received().len() == received && states(harness).is_empty() {
            assert!(start.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(is_done.try_recv().is_err());
        interrupt();
        is_done.recv_timeout(LONG).unwrap()
    })
}

#[test]
fn flush_ends_waiting_for_a_server_at_once() {
    for is_killed in [false, true] {
        let mut server = serve();
        let harness = Harness::new(&properties(&server, "remote-fallback=none remote-timeout=600000"));
        harness.element.set_state(gst::State::Paused).unwrap();
        harness.begin();
        // The model is there once audio was taken.
        harness.speak(&[0; CUT], CUT);
        harness.flush();
        match is_killed {
            true => server.kill(),
            false => server.set_faults(Faults {
                hangs: true,
                ..Default::default()
            }),
        }
        let result = while_waiting(&harness, &server, || {
            assert!(harness.event(gst::event::FlushStart::new()));
        });
        assert_eq!(result, Err(gst::FlowError::Flushing));
        server.set_faults(Faults::default());
        if is_killed {
            server.restart().unwrap();
        }
        assert!(harness.event(gst::event::FlushStop::new(true)));
        assert!(harness.segment(&gst::FormattedSegment::new()));
        harness.take();
        harness.speak(&clip_s16("u1_command"), CUT);
        harness.eos();
        assert_eq!(harness.text(), nemo_text("u1_command", 6));
    }
}

#[test]
fn stopping_ends_waiting_for_a_server_at_once() {
    let server = serve();
    let harness = Harness::play(&properties(&server, "remote-fallback=none remote-timeout=600000"));
    harness.speak(&[0; CUT], CUT);
    harness.flush();
    server.set_faults(Faults {
        hangs: true,
        ..Default::default()
    });
    let result = while_waiting(&harness, &server, || {
        harness.element.set_state(gst::State::Null).unwrap();
    });
    assert_eq!(result, Err(gst::FlowError::Flushing));
    assert!(
        harness
            .messages()
            .iter()
            .all(|message| message.type_() != gst::MessageType::Error)
    );
}

#[test]
fn end_of_stream_waits_for_the_server() {
    let mut server = serve();
    let harness = Harness::play(&properties(&server, "remote-fallback=none"));
    let samples = clip_s16("u1_command");
    harness.speak(&samples[..samples.len() / 2], CUT);
    let mut text = harness.text();
    server.kill();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            harness.speak_from(time_of(samples.len() / 2), &samples[samples.len() / 2..], samples.len());
            harness.eos();
        });
        while states(&harness) != ["waiting"] {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!waits.is_finished());
        server.restart().unwrap();
        waits.join().unwrap();
    });
    text = format!("{text} {}", harness.text());
    assert_eq!(text, nemo_text("u1_command", 6));
    assert_eq!(states(&harness), ["connected"]);
}

#[test]
fn address_and_model_are_checked_when_the_element_starts() {
    let harness = Harness::new("remote=http://gpu:8000/encoder");
    assert!(harness.element.set_state(gst::State::Paused).is_err());
    let server = serve();
    let other = Harness::new(&format!("lookahead=80 remote=triton://{}/{TWIN}", server.address()));
    other.element.set_state(gst::State::Paused).unwrap();
    let errors = |harness: &Harness| {
        let messages = harness.messages();
        let errors = messages.iter().filter_map(|message| match message.view() {
            gst::MessageView::Error(error) => Some(error.error().message().to_owned()),
            _ => None,
        });
        errors.collect::<Vec<_>>().join("\n")
    };
    assert!(errors(&harness).contains("\"http://gpu:8000/encoder\" is not the address"));
    let start = std::time::Instant::now();
    let mut text = String::new();
    while text.is_empty() && start.elapsed() < LONG {
        text = errors(&other);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(text.contains("nemostt.lookahead is 6 there and 1 here"), "{text}");
}

#[test]
fn way_to_the_server_is_a_part_of_the_latency() {
    let server = serve();
    let local = Harness::play("lookahead=480");
    let remote = Harness::play(&properties(&server, "remote-latency=250"));
    for harness in [&local, &remote] {
        harness.set_upstream_latency(true, gst::ClockTime::ZERO);
        harness.speak(&[0; CUT], CUT);
    }
    assert_eq!(remote.latency().1 - local.latency().1, 250 * crate::MS);
}

#[test]
fn elements_with_other_servers_do_not_share_a_model() {
    let servers = [serve(), serve()];
    let harnesses = servers.each_ref().map(|server| Harness::play(&properties(server, "")));
    for harness in &harnesses {
        harness.speak(&clip_s16("u1_command"), CUT);
        harness.eos();
    }
    assert!(servers.iter().all(|server| !server.received().is_empty()));
}
