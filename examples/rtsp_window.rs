// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shows an RTSP camera in a window, with captions over the picture, and prints what is being said as it grows.
//!
//! ```sh
//! cargo run --release --locked -p nemostt-examples --bin rtsp_window -- rtsp://camera.local/stream
//! cargo run --release --locked -p nemostt-examples --bin rtsp_window -- --test      # a test picture, no window
//! ```

use std::{error::Error, process::ExitCode};

use gst::prelude::*;

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/demo.wav");

/// Everything that can go wrong ends as one line of text.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        None => Err("expected the address of a camera, or --test".into()),
        Some("--test") => run(&test_source(), ("fakesink sync=true", "fakesink sync=true")),
        Some(address) => run(&camera(address), ("autovideosink", "autoaudiosink")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rtsp_window: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The beginnings of the branches for picture and sound.
fn camera(address: &str) -> [String; 2] {
    // "latency" is what rtspsrc waits for late packets.
    let source = format!("rtspsrc location=\"{address}\" latency=200 name=camera");
    [
        format!("{source} camera. ! application/x-rtp,media=video ! decodebin"),
        "camera. ! application/x-rtp,media=audio ! decodebin".into(),
    ]
}

/// The sound of a file at the pace of a camera.
fn test_source() -> [String; 2] {
    [
        "videotestsrc is-live=true num-buffers=800".into(),
        format!("filesrc location=\"{CLIP}\" ! wavparse ! clocksync"),
    ]
}

fn run([video, audio]: &[String; 2], (window, speaker): (&str, &str)) -> Result<()> {
    gst::init()?;
    // An application that finds the plugin in GStreamer's folders does not need this line.
    gstnemostt::plugin_register_static()?;
    // The queues hold what the latency asks for: 1.5 s of words and 1.5 s of cues.
    let hold = "queue max-size-time=6000000000 max-size-bytes=0 max-size-buffers=0";
    let pipeline = gst::parse::launch(&format!(
        "{video} ! videoconvert ! {hold} ! textoverlay name=captions font-desc=\"Sans, 24\" shaded-background=true \
           ! videoconvert ! {window} \
         {audio} ! audioconvert ! audioresample ! tee name=sound  sound. ! {hold} ! {speaker} \
         sound. ! queue ! nemostt lookahead=480 output=cues cue-mode=roll-up cue-delay=1500 post-partials=true \
           ! queue ! captions.text_sink"
    ))?;
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    // When this fails, the bus has a message that says why.
    let _ = pipeline.set_state(gst::State::Playing);
    let result = bus
        .iter_timed(gst::ClockTime::NONE)
        .find_map(|message| match message.view() {
            gst::MessageView::Eos(_) => Some(Ok(())),
            gst::MessageView::Error(error) => Some(Err(error.error().message().to_owned().into())),
            gst::MessageView::Element(element) => {
                let text = element.structure().filter(|text| text.name() == "nemostt")?;
                if let (Ok(false), Ok(text)) = (text.get::<bool>("is-final"), text.get::<String>("text")) {
                    println!("{text}");
                }
                None
            }
            gst::MessageView::Latency(_) => {
                let pipeline = pipeline.downcast_ref::<gst::Pipeline>()?;
                let _ = pipeline.recalculate_latency();
                None
            }
            _ => None,
        });
    // Also after an error: an element must not be dropped while it plays.
    pipeline.set_state(gst::State::Null)?;
    result.unwrap_or(Ok(()))
}
