// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything that can happen to the element, in any order and from several threads: it does not panic, GStreamer has nothing to
//! complain about, nothing hangs, running time never steps back (the harness looks at that), nothing leaves after EOS, and no
//! element outlives its application.

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

/// Acts beyond are left out: one run should not take longer than it must.
const MOST_ACTS: usize = 40;

fn run(case: &Case) {
    harness::init();
    // The harness does nothing that GStreamer warns of, so that what it warns of is the element's doing.
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

/// The fuzzer ends the process at every panic. But an element that was poisoned by one says so, too.
fn assert_no_panic(messages: &[gst::Message]) {
    for message in messages {
        if let gst::MessageView::Error(error) = message.view() {
            let said = error.error().to_string();
            assert!(!said.contains("anicked"), "{said}");
        }
    }
}

fuzz_target!(|case: Case| run(&case));
