// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files of other formats, made with installed GStreamer elements.

use std::{fmt::Write, path::Path};

use gst::prelude::*;

/// A track of a file: its clip, encoder and tags.
pub type Track<'a> = (&'a Path, &'a str, &'a str);

/// Runs a pipeline to its end. Its elements are in the packages that `make test` installs.
pub fn make(description: &str, adjust: impl FnOnce(&gst::Pipeline)) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    adjust(&pipeline);
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(None, &end).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
}

/// Writes `path` with `muxer`, from 16-bit WAV files.
pub fn mux(path: &Path, muxer: &str, tracks: &[Track]) {
    let mut description = format!("{muxer} name=m ! filesink location={}", path.display());
    for (clip, encoder, tags) in tracks {
        let clip = clip.display();
        write!(
            description,
            " filesrc location={clip} ! wavparse ! audioconvert ! audioresample"
        )
        .unwrap();
        if !tags.is_empty() {
            write!(description, " ! taginject tags=\"{tags}\"").unwrap();
        }
        write!(
            description,
            " ! {encoder} ! queue max-size-time=0 max-size-buffers=0 ! m."
        )
        .unwrap();
    }
    make(&description, |_| {});
}

/// Video of `count` tenths of a second, as the beginning of a pipeline description.
pub fn pictures(count: usize) -> String {
    format!("videotestsrc num-buffers={count} ! video/x-raw,width=64,height=64,framerate=10/1 ! vp8enc deadline=1")
}
