// SPDX-License-Identifier: MIT OR Apache-2.0

//! What takes the encoded streams of a connection, `queue ! parser ! hlssink3`, and announces its segments.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, mpsc::Sender},
    time::Duration,
};

use gst::{glib, prelude::*};
use tempfile::TempDir;

use super::{
    TARGET,
    directory::media_template,
    elements::{self, Parsers, SINK},
    playlist::Format,
    update::{MediaSegment, Update},
};
use crate::{
    Result,
    audio::{Tap, TapPads, element, interleave_queue},
    live::event::Event,
};

/// Name of the sink's messages.
const SEGMENT_ADDED: &str = "hls-segment-added";
/// Name of the messages in which a pipeline forwards those of its elements.
const FORWARDED: &str = "GstBinForwarded";

/// The media of one connection.
pub struct PassThrough {
    directory: PathBuf,
    connection: u32,
    events: Sender<Event>,
    /// Where the sink writes its playlist: it lists segments whose captions are not known yet.
    scratch: TempDir,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sink: glib::WeakRef<gst::Element>,
    /// Where encoded streams come in.
    inputs: Vec<gst::Pad>,
    format: Format,
    has_ended: bool,
}

impl PassThrough {
    /// For segments in `directory`.
    ///
    /// # Errors
    /// If there is no space for temporary files.
    pub fn new(directory: &Path, connection: u32, events: Sender<Event>) -> Result<Self> {
        Ok(Self {
            directory: directory.into(),
            connection,
            events,
            scratch: tempfile::tempdir()?,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn sink(&self) -> Result<gst::Element> {
        let sink = element(SINK)?;
        let playlist = self.scratch.path().join("playlist.m3u8");
        sink.set_property("playlist-location", playlist.to_str());
        sink.set_property("location", media_template(&self.directory, self.connection)?);
        sink.set_property("target-duration", TARGET.as_secs() as u32);
        // Files are removed when their captions are, too.
        sink.set_property("max-files", 0_u32);
        // The encoder is elsewhere.
        sink.set_property("send-keyframe-requests", false);
        Ok(sink)
    }

    fn segment_added(&self, structure: &gst::StructureRef) {
        let segment = || {
            let location: String = structure.get("location").ok()?;
            let time = |field| structure.get::<gst::ClockTime>(field).ok().map(Duration::from);
            Some(MediaSegment {
                connection: self.connection,
                file: Path::new(&location).file_name()?.to_str()?.into(),
                start: time("running-time")?,
                duration: time("duration")?,
                format: self.lock().format.clone(),
            })
        };
        if let Some(segment) = segment() {
            // The session may have ended.
            let _ = self.events.send(Event::Media(Update::Segment(segment)));
        }
    }
}

impl Tap for PassThrough {
    fn attach(&self, pipeline: &gst::Pipeline, video: Option<&gst::Caps>, audio: &gst::Caps) -> Result<TapPads> {
        let parsers = Parsers::of(video, audio)?;
        let sink = self.sink()?;
        pipeline.set_property("message-forward", true);
        pipeline.add(&sink)?;
        // All pads before the first data, so that the sink waits for both streams.
        let mut branches = vec![branch(pipeline, &sink, "audio", parsers.audio)?];
        if let Some(parser) = parsers.video {
            branches.push(branch(pipeline, &sink, "video", parser)?);
        }
        sink.sync_state_with_parent()?;
        for element in branches.iter().flat_map(|branch| [&branch.parser, &branch.queue]) {
            element.sync_state_with_parent()?;
        }
        let mut inputs = Vec::new();
        for branch in &branches {
            inputs.push(branch.queue.static_pad("sink").ok_or("the queue has no sink pad")?);
        }
        let mut state = self.lock();
        state.sink = sink.downgrade();
        state.format = elements::format(video, audio);
        state.inputs.clone_from(&inputs);
        let mut inputs = inputs.into_iter();
        let audio = inputs.next().ok_or("there is no audio")?;
        Ok(TapPads {
            audio,
            video: inputs.next(),
        })
    }

    fn message(&self, message: &gst::MessageRef) {
        let sink = self.lock().sink.upgrade();
        let is_from_sink =
            |source: Option<&gst::Object>| source.is_some() && source == sink.as_ref().map(Cast::upcast_ref);
        let gst::MessageView::Element(element) = message.view() else {
            return;
        };
        let Some(structure) = element.structure() else {
            return;
        };
        if structure.name() == SEGMENT_ADDED {
            self.segment_added(structure);
        }
        if structure.name() == FORWARDED
            && let Ok(inner) = structure.get::<gst::Message>("message")
            && inner.type_() == gst::MessageType::Eos
            && is_from_sink(inner.src())
        {
            self.lock().has_ended = true;
        }
    }

    fn end(&self) {
        // Not the lock, while events travel.
        let inputs = self.lock().inputs.clone();
        for input in inputs {
            // If the source has ended by itself, so has this.
            input.send_event(gst::event::Eos::new());
        }
    }

    fn has_ended(&self) -> bool {
        let state = self.lock();
        state.has_ended || state.inputs.is_empty()
    }
}

/// Elements before the sink.
struct Branch {
    queue: gst::Element,
    parser: gst::Element,
}

fn branch(pipeline: &gst::Pipeline, sink: &gst::Element, pad: &str, parser: &str) -> Result<Branch> {
    let (queue, parser) = (interleave_queue()?, element(parser)?);
    if parser.has_property("config-interval") {
        // Players may begin with any segment: parameter sets before each key frame.
        parser.set_property("config-interval", -1);
    }
    pipeline.add_many([&queue, &parser])?;
    queue.link(&parser)?;
    parser.link_pads(Some("src"), sink, Some(pad))?;
    Ok(Branch { queue, parser })
}
