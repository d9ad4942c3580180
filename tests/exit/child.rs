// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the child processes do.

use std::{thread::sleep, time::Duration};

use gst::prelude::*;

use super::Place;

pub const TASK: &str = "NEMOSTT_EXIT_TASK";
pub const DELAY: &str = "NEMOSTT_EXIT_DELAY";

pub fn run(task: &str) {
    let delay = || std::env::var(DELAY).ok().and_then(|delay| delay.parse().ok());
    let delay = Duration::from_millis(delay().unwrap_or(0));
    if task == "restarts" {
        return restart();
    }
    let does = |what: &str| task.split(' ').any(|word| word == what);
    if does("library") {
        let options = nemostt::Options::default();
        std::thread::spawn(move || {
            let recognizer = nemostt::Recognizer::embedded(&options);
            let mut stream = recognizer.unwrap().stream().unwrap();
            // Until the process ends.
            while stream.accept(&[0.0; 16_000]).is_ok() {}
        });
        sleep(delay);
        return;
    }
    if does("thread") {
        std::thread::spawn(move || {
            let _pipeline = play();
            sleep(delay);
            std::process::exit(0)
        });
        loop {
            std::thread::park();
        }
    }
    let pipeline = play();
    sleep(delay);
    if does("flush") {
        pipeline.send_event(gst::event::FlushStart::new());
    }
    if does("null") {
        pipeline.set_state(gst::State::Null).unwrap();
    }
    if does("exit") {
        std::process::exit(0);
    }
    if does("deinit") {
        drop(pipeline);
        // SAFETY: GStreamer is not used after this.
        #[allow(unsafe_code)]
        unsafe {
            gst::deinit();
        }
        return;
    }
    // Like an application that does not clean up.
    std::mem::forget(pipeline);
}

fn play() -> gst::Pipeline {
    gst::init().unwrap();
    let pipeline = gst::parse::launch("audiotestsrc ! nemostt ! fakesink").unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    pipeline
}

fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name_of = |task: std::io::Result<std::fs::DirEntry>| {
        let name = std::fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        Some(name.trim().to_owned())
    };
    tasks.filter_map(name_of).collect()
}

/// Starts and stops an element repeatedly before its model is loaded.
fn restart() {
    gst::init().unwrap();
    let pipeline = gst::parse::launch("audiotestsrc ! nemostt name=stt ! fakesink").unwrap();
    let stt = pipeline.downcast_ref::<gst::Bin>().unwrap().by_name("stt").unwrap();
    for turn in 0..12_u32 {
        // A different model each time.
        stt.set_property("max-symbols", 10 + turn);
        pipeline.set_state(gst::State::Playing).unwrap();
        sleep(Duration::from_millis(20));
        pipeline.set_state(gst::State::Null).unwrap();
    }
    let threads = threads();
    assert!(!threads.iter().any(|name| name == "nemostt-load"), "{threads:?}");
}

/// The parent of [`restart`].
pub fn quick_restarts(place: &Place) {
    let mut child = place.command(std::env::current_exe().unwrap());
    let output = child.env(TASK, "restarts").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
