// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything that can happen to the element, in any order and from several threads. Checks that it does not panic,
//! that GStreamer does not warn, that nothing hangs, that running time never goes backwards (in the harness), that
//! there is no output after EOS, and that the element is freed.

#![no_main]

#[path = "../../../tests/common/clock.rs"]
mod clock;
#[path = "../../../tests/common/harness.rs"]
mod harness;
#[path = "../common/sound.rs"]
mod sound;

mod acts;
mod build;
mod deeds;
mod player;
mod property;
mod upstream;
mod watchdog;

use acts::Case;
use gst::{glib, prelude::*};
use harness::Seen;
use libfuzzer_sys::fuzz_target;
use player::Player;

/// Further acts are ignored, to keep runs short.
const MOST_ACTS: usize = 40;

fn run(case: &Case) {
    harness::init();
    // The harness does not cause warnings, so any warning is the element's fault.
    glib::log_set_always_fatal(
        glib::LogLevels::LEVEL_ERROR | glib::LogLevels::LEVEL_CRITICAL | glib::LogLevels::LEVEL_WARNING,
    );
    player::keep_model(&case.setup);
    let _watched = watchdog::Watched::begin();
    let mut player = Player::new(&case.setup);
    for act in case.acts.iter().take(MOST_ACTS) {
        player.act(act);
    }
    let seen = player.take_all();
    assert_ends_at_eos(&seen);
    assert_no_panic(&player.messages());
    let element = player.element().downgrade();
    drop(player);
    assert!(element.upgrade().is_none(), "the element is still alive");
}

fn assert_ends_at_eos(seen: &[Seen]) {
    let mut is_over = false;
    for item in seen {
        match item {
            Seen::Event(gst::EventType::Eos) => is_over = true,
            Seen::Event(gst::EventType::StreamStart | gst::EventType::FlushStop) => is_over = false,
            Seen::Word(_) | Seen::Gap { .. } => assert!(!is_over, "{item:?} after EOS"),
            _ => {}
        }
    }
}

/// A panic aborts the process under the fuzzer. An element that caught one reports it in an error message as well.
fn assert_no_panic(messages: &[gst::Message]) {
    for message in messages {
        if let gst::MessageView::Error(error) = message.view() {
            let text = error.error().to_string();
            assert!(!text.contains("anicked"), "{text}");
        }
    }
}

fuzz_target!(|case: Case| run(&case));
