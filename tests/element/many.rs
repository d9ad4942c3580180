// SPDX-License-Identifier: MIT OR Apache-2.0

//! Hundreds of live elements in one process, which share a model.
//!
//! The test controls their clocks, so that nothing depends on the speed of the machine. It runs in a process of its own, in
//! which nothing else starts threads or needs memory.

use std::{fs, thread, time::Duration};

use gst::{glib, prelude::*};
use nemostt::{Options, Recognizer};

use crate::{
    child::{is_child, run_in_child},
    common::clip_s16,
    harness::{TextBuffer, buffer, time_of},
    live::live_source::{BLOCK, Live},
};

const PROPERTIES: &str = "lookahead=80";

/// Threads that drive the sources: each has a share of them.
const DRIVERS: usize = 8;

/// Memory of an element besides its slot: front end, decoder, output, pads, and the pages of its thread's stack that are used.
/// An element with a model of its own would need 8 MB for its weights alone.
const PER_ELEMENT: usize = 2 << 20;

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Bytes that are in memory.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    4096 * pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}

/// Words, but not when they were pushed: clocks go on while others compute.
fn words(live: &Live) -> Vec<(String, gst::ClockTime, gst::ClockTime)> {
    let word = |word: TextBuffer| (word.text, word.pts, word.duration);
    live.words().into_iter().map(word).collect()
}

/// Pushes the `index`th buffer of `samples` when it is recorded.
fn push(live: &mut Live, samples: &[i16], index: usize) {
    if let Some(block) = samples.chunks(BLOCK).nth(index) {
        let pts = time_of(index * BLOCK);
        live.set_time(pts + time_of(block.len()));
        live.harness.push(buffer(block, Some(pts))).unwrap();
    }
}

/// As many elements with these clips, one after the other, as `elements`, all at the same time.
fn check(elements: usize, clips: &[Vec<i16>]) {
    let alone: Vec<_> = clips
        .iter()
        .map(|samples| {
            let mut live = Live::play(PROPERTIES);
            (0..samples.len().div_ceil(BLOCK)).for_each(|index| push(&mut live, samples, index));
            live.harness.eos();
            words(&live)
        })
        .collect();
    assert!(alone.iter().all(|words| !words.is_empty()));
    // Keeps the model in memory, once it has been waited for.
    let mut first = Live::play(PROPERTIES);
    push(&mut first, &clips[0], 0);
    let (threads_before, memory_before) = (threads(), resident());
    let mut lives: Vec<Live> = (0..elements).map(|_| Live::play(PROPERTIES)).collect();
    let buffers = clips.iter().map(|samples| samples.len().div_ceil(BLOCK)).max().unwrap();
    thread::scope(|scope| {
        for (driver, lives) in lives.chunks_mut(elements.div_ceil(DRIVERS)).enumerate() {
            let first = driver * elements.div_ceil(DRIVERS);
            scope.spawn(move || {
                for index in 0..buffers {
                    for (number, live) in lives.iter_mut().enumerate() {
                        push(live, &clips[(first + number) % clips.len()], index);
                    }
                }
            });
        }
    });
    let cores = thread::available_parallelism().unwrap().get();
    let new_threads = threads().saturating_sub(threads_before);
    let memory = resident().saturating_sub(memory_before);
    // Each element has one thread, which follows the clock, and a model's lanes have no more than there are cores. Drivers that
    // have just ended may still be listed.
    assert!(
        new_threads <= elements + cores + DRIVERS,
        "{new_threads} threads for {elements} elements"
    );
    println!(
        "{elements} elements: {new_threads} threads, {} kB each",
        memory / elements / 1024
    );
    for (number, live) in lives.iter().enumerate() {
        live.harness.eos();
        assert!(
            words(live) == alone[number % clips.len()],
            "element {number} differs from what it is alone"
        );
        let delay: u32 = live.harness.element.property("max-observed-delay");
        assert_eq!(delay, 0, "element {number}");
        for message in live.harness.messages() {
            let is_fault = matches!(message.type_(), gst::MessageType::Warning | gst::MessageType::Error);
            assert!(!is_fault, "{message:?}");
        }
    }
    let slot = slot_bytes();
    assert!(
        memory <= elements * (slot + PER_ELEMENT),
        "{memory} bytes for {elements} elements with slots of {slot}"
    );
    let weak: Vec<glib::WeakRef<gst::Element>> = lives.iter().map(|live| live.harness.element.downgrade()).collect();
    drop(lives);
    assert!(weak.iter().all(|element| element.upgrade().is_none()));
    drop(first);
    let mut waits = 0;
    while threads() > threads_before {
        waits += 1;
        assert!(
            waits < 1_000,
            "{} threads are left, there were {threads_before}",
            threads()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes of a stream's caches, inputs and outputs.
fn slot_bytes() -> usize {
    let options = Options {
        lookahead: Some(80),
        threads: 1,
        ..Default::default()
    };
    Recognizer::embedded(&options).unwrap().metrics().bytes_per_stream
}

#[test]
fn hundreds_of_live_elements_share_a_model() {
    if is_child() {
        let clips = ["u1_command", "u2_digits", "e6_odd", "u4_heldvoice"].map(clip_s16);
        check(64, &clips);
        // Without the longest.
        check(256, &[clips[0].clone(), clips[3].clone()]);
        println!("complete");
        return;
    }
    // The leaks tracer ends the process with an error if an object is left.
    let variables = [
        ("MALLOC_ARENA_MAX", "1"),
        ("GST_TRACERS", "leaks"),
        ("G_DEBUG", "fatal_warnings"),
    ];
    let output = run_in_child("many::hundreds_of_live_elements_share_a_model", &variables);
    let stdout = String::from_utf8_lossy(&output.stdout);
    println!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("complete"));
}
