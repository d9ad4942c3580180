// SPDX-License-Identifier: MIT OR Apache-2.0

//! Prints the words of a media file as the element `nemostt` posts them on the bus.
//!
//! ```sh
//! cargo run --release --locked -p nemostt-examples --bin bus -- assets/demo.wav
//! ```

use std::{
    error::Error,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use gst::prelude::*;

/// Without `sync=false` the words of a file would come at the speed of speech.
const PIPELINE: &str = "filesrc name=source ! decodebin ! audioconvert ! audioresample ! nemostt ! fakesink sync=false";

const DEFAULT_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/demo.wav");

/// Everything that can go wrong ends as one line of text.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let file = std::env::args_os().nth(1).unwrap_or_else(|| DEFAULT_FILE.into());
    match run(&file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(file: &OsString) -> Result<()> {
    gst::init()?;
    // An application that finds the plugin in GStreamer's folders does not need this line.
    gstnemostt::plugin_register_static()?;

    let pipeline = gst::parse::launch(PIPELINE)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "the description is not one of a pipeline")?;
    let source = pipeline.by_name("source").ok_or("the pipeline has no file source")?;
    source.set_property("location", file.to_str().ok_or("the file's name is not UTF-8")?);

    let result = print_words(&pipeline);
    // Also after an error: an element must not be dropped while it plays.
    pipeline.set_state(gst::State::Null)?;
    result
}

/// Plays the pipeline to its end.
fn print_words(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    // When this fails, the bus has a message that says why.
    let started = pipeline.set_state(gst::State::Playing);
    let wait = if started.is_ok() {
        gst::ClockTime::NONE
    } else {
        Some(gst::ClockTime::ZERO)
    };

    let mut out = io::stdout().lock();
    for message in bus.iter_timed(wait) {
        match message.view() {
            gst::MessageView::Element(element) => {
                let word = element.structure().filter(|s| s.name() == "nemostt");
                if let Some(word) = word.filter(|s| s.get("is-final") == Ok(true)) {
                    print_word(&mut out, word)?;
                }
            }
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Error(error) => {
                let element = error.src().map(|src| src.name()).unwrap_or_default();
                return Err(format!("{element}: {}", error.error().message()).into());
            }
            _ => {}
        }
    }
    started?;
    Ok(())
}

fn print_word(out: &mut impl Write, word: &gst::StructureRef) -> Result<()> {
    let text = word.get::<&str>("text")?;
    let start = word.get::<gst::ClockTime>("start-time")?;
    let end = word.get::<gst::ClockTime>("end-time")?;
    let confidence = word.get::<f64>("confidence")?;
    writeln!(out, "{}–{}  {text}  {confidence:.2}", seconds(start), seconds(end))?;
    Ok(())
}

fn seconds(time: gst::ClockTime) -> String {
    format!("{:.2}", time.nseconds() as f64 / 1e9)
}
