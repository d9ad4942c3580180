// SPDX-License-Identifier: MIT OR Apache-2.0

//! nemostt with the elements of gst-plugins-rs that convert text to captions, in plain pipelines.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nemostt_interop::{Captions, Cea608, Run, STT, assert_lines_end_with_utterances, speech, transcript};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Captions of the clip after the elements in `tail`.
fn captions(tail: &str) -> Captions {
    let run = Run::new(&format!("{} ! {STT} {tail} ! appsink name=out sync=false", speech()));
    let captions = run.captions("out");
    run.play();
    run.wait(TIMEOUT);
    let captions = captions.lock().unwrap().clone();
    for pair in captions.0.windows(2) {
        assert!(pair[0].pts <= pair[1].pts, "{pair:?}");
    }
    captions
}

#[test]
fn tttojson_receives_every_word() {
    let captions = captions("! tttojson");
    assert_eq!(captions.words(), transcript());
    // One buffer per word.
    assert_eq!(captions.0.len(), transcript().len());
}

#[test]
fn pop_on_captions_contain_the_transcript() {
    let wrap = "! textwrap columns=32 lines=2 accumulate-time=5000000000";
    let captions = captions(&format!("{wrap} ! tttocea608 mode=pop-on ! cea608tott ! text/x-raw"));
    assert_eq!(captions.words(), transcript());
    assert!(captions.0.len() >= 4, "{captions:?}");
}

#[test]
fn pop_on_captions_contain_whole_utterances() {
    let wrap = "output=utterances ! textwrap columns=32 lines=2";
    let captions = captions(&format!("{wrap} ! tttocea608 mode=pop-on ! cea608tott ! text/x-raw"));
    assert_eq!(captions.words(), transcript());
}

#[test]
fn roll_up_captions_start_a_line_per_utterance() {
    let tail = "textwrap lines=2 ! tttocea608 mode=roll-up2 ! appsink name=out sync=false";
    let run = Run::new(&format!("{} ! {STT} ! {tail}", speech()));
    let decoder = Arc::new(Mutex::new(Cea608::default()));
    let sink = decoder.clone();
    run.each_sample("out", move |sample| {
        let pair = sample.buffer().unwrap().map_readable().unwrap();
        sink.lock().unwrap().push(pair.as_slice().try_into().unwrap());
    });
    let emitted = run.emitted();
    run.play();
    run.wait(TIMEOUT);
    let shown = decoder.lock().unwrap().shown.clone();
    assert_eq!(shown.words(), transcript());
    assert_lines_end_with_utterances(&shown.lines(), &emitted.lock().unwrap().utterance_ends);
}
