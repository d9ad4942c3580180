// SPDX-License-Identifier: MIT OR Apache-2.0

//! The streams in a file. One audio track is decoded; of the others, only the end time is recorded.
//!
//! `uridecodebin` demuxes, and this decides which streams are decoded. So tracks are numbered as in the file, errors name what
//! cannot be decoded, and a movie whose audio ends before its video is distinguished from a truncated file.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use gst::{glib, prelude::*};
use gst_pbutils::PbUtilsCapsDescriptionFlags as Kind;

use super::{
    element,
    tap::Tap,
    track::{self, Track},
};
use crate::Result;

/// How much of a stream may wait for others, where there is a tap: at most, a picture comes so long before its sound in a file, or
/// one part of it that is written as a whole is so long. A file is read so far ahead of what is said.
const MAX_WAITING: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// Name of the message that the streams of a file are known.
pub const KNOWN: &str = "nemostt-streams-known";

/// The error if streams come, with a tap, after those that it has.
const CHANGED: &str = "the stream has other tracks now";

/// The streams of one source.
#[derive(Clone)]
pub struct Streams {
    pipeline: glib::WeakRef<gst::Pipeline>,
    /// Receives decoded audio.
    target: gst::Pad,
    /// Takes the encoded streams, too.
    tap: Option<Arc<dyn Tap>>,
    state: Arc<Mutex<State>>,
    /// End of the longest stream so far, in nanoseconds.
    reached: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    /// Stream ids in the order of the container.
    order: Vec<String>,
    has_container: bool,
    is_wav: bool,
    /// Audio tracks that are blocked until one is selected.
    audio: Vec<PendingTrack>,
    /// The first video track, blocked until then if there is a tap for it.
    video: Option<PendingTrack>,
    /// Descriptions of the other streams.
    others: Vec<String>,
    /// All streams have appeared.
    complete: bool,
    /// Index of the selected track among the audio tracks.
    chosen: Option<usize>,
    /// Audio tracks since the streams began, or began again, as they do in Internet radio.
    seen: usize,
    /// The element that consumes each stream.
    consumers: Vec<(gst::Pad, gst::Element)>,
}

struct PendingTrack {
    pad: gst::Pad,
    block: Option<gst::PadProbeId>,
    /// Data arrived, so all sticky events of the track are known.
    ready: bool,
}

impl PendingTrack {
    fn new(pad: &gst::Pad) -> Self {
        Self {
            pad: pad.clone(),
            block: None,
            ready: false,
        }
    }

    fn unblock(self) {
        if let Some(block) = self.block {
            self.pad.remove_probe(block);
        }
    }
}

impl State {
    fn pending(&mut self, pad: &gst::Pad) -> Option<&mut PendingTrack> {
        self.audio
            .iter_mut()
            .chain(&mut self.video)
            .find(|pending| pending.pad == *pad)
    }
}

impl Streams {
    /// Handles the streams of `source`, a `uridecodebin` in `pipeline`, and decodes one of them into `target`. Encoded, it goes to
    /// `tap` as well, and so does the first video.
    pub fn new(pipeline: &gst::Pipeline, source: &gst::Element, target: gst::Pad, tap: Option<Arc<dyn Tap>>) -> Self {
        let streams = Self {
            pipeline: pipeline.downgrade(),
            target,
            tap,
            state: Arc::default(),
            reached: Arc::default(),
        };
        let this = streams.clone();
        source.connect("autoplug-continue", false, move |values| {
            let (pad, caps) = (
                values.get(1)?.get::<gst::Pad>().ok()?,
                values.get(2)?.get::<gst::Caps>().ok()?,
            );
            let go_on = is_container(&caps);
            let mut state = this.lock();
            state.is_wav |= caps_name(&caps) == "audio/x-wav";
            state.has_container |= go_on && caps_name(&caps) != "application/x-id3";
            if let (false, Some(id)) = (go_on, pad.stream_id()) {
                state.order.push(id.into());
            }
            Some(go_on.to_value())
        });
        let this = streams.clone();
        source.connect_pad_added(move |source, pad| {
            if let Err(error) = this.add(pad) {
                gst::element_error!(source, gst::CoreError::Failed, ["{error}"]);
            }
        });
        let this = streams.clone();
        source.connect_pad_removed(move |_, pad| this.remove(pad));
        let this = streams.clone();
        source.connect_no_more_pads(move |source| {
            this.lock().complete = true;
            known(source);
        });
        streams
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn add(&self, pad: &gst::Pad) -> Result<()> {
        let caps = caps_of(pad);
        if !caps_name(&caps).starts_with("audio/") {
            self.lock()
                .others
                .push(format!("{} ({})", track::codec(&caps), caps_name(&caps)));
            let is_taken = self.tap.is_some() && caps_name(&caps).starts_with("video/");
            return match is_taken {
                true => self.add_video(pad),
                false => self.watch(pad),
            };
        }
        let mut state = self.lock();
        state.seen += 1;
        match state.chosen {
            Some(_) if self.tap.is_some() => Err(CHANGED.into()),
            Some(chosen) if chosen + 1 == state.seen => {
                drop(state);
                self.decode(pad)
            }
            Some(_) => {
                drop(state);
                self.watch(pad)
            }
            None => {
                state.audio.push(PendingTrack::new(pad));
                // The probe may be called immediately.
                drop(state);
                self.hold(pad);
                Ok(())
            }
        }
    }

    /// Adds a video track for the tap. There is one at most.
    fn add_video(&self, pad: &gst::Pad) -> Result<()> {
        let mut state = self.lock();
        if state.chosen.is_some() {
            return Err(CHANGED.into());
        }
        if state.video.is_some() {
            drop(state);
            return self.watch(pad);
        }
        state.video = Some(PendingTrack::new(pad));
        drop(state);
        self.hold(pad);
        Ok(())
    }

    /// Blocks `pad` until a track is selected.
    fn hold(&self, pad: &gst::Pad) {
        let this = self.clone();
        let block = pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, move |pad, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data
                && event.is_sticky()
                && event.type_() != gst::EventType::Eos
            {
                return gst::PadProbeReturn::Pass;
            }
            if let Some(pending) = this.lock().pending(pad) {
                pending.ready = true;
            }
            if let Some(source) = pad.parent_element() {
                known(&source);
            }
            gst::PadProbeReturn::Ok
        });
        if let Some(pending) = self.lock().pending(pad) {
            pending.block = block;
        }
    }

    /// Whether there is a container, other than a tag.
    pub fn have_container(&self) -> bool {
        self.lock().has_container
    }

    /// Whether the container is WAV.
    pub fn are_in_wav(&self) -> bool {
        self.lock().is_wav
    }

    /// Whether all streams are known.
    pub fn are_complete(&self) -> bool {
        self.lock().complete
    }

    /// Whether the metadata of all tracks is known, too.
    pub fn are_known(&self) -> bool {
        let state = self.lock();
        state.complete && state.audio.iter().chain(&state.video).all(|pending| pending.ready)
    }

    /// The audio tracks in the order of the container.
    pub fn tracks(&self) -> Vec<Track> {
        let mut state = self.lock();
        let State { order, audio, .. } = &mut *state;
        audio.sort_by_key(|pending| {
            let id = pending.pad.stream_id();
            order.iter().position(|other| id.as_ref().is_some_and(|id| id == other))
        });
        audio.iter().map(|pending| Track::of(&pending.pad)).collect()
    }

    /// The streams that are not audio.
    pub fn others(&self) -> Vec<String> {
        self.lock().others.clone()
    }

    /// Decodes the track with this index in [`tracks`](Self::tracks).
    pub fn choose(&self, index: usize) -> Result<()> {
        let (audio, video) = {
            let mut state = self.lock();
            state.chosen = Some(index);
            (std::mem::take(&mut state.audio), state.video.take())
        };
        for (i, pending) in audio.iter().enumerate() {
            match (i == index, &self.tap) {
                (true, Some(tap)) => self.tap(&**tap, &pending.pad, video.as_ref().map(|pending| &pending.pad))?,
                (true, None) => self.decode(&pending.pad)?,
                (false, _) => self.watch(&pending.pad)?,
            }
        }
        audio.into_iter().chain(video).for_each(PendingTrack::unblock);
        Ok(())
    }

    /// Decodes `audio`, and passes it and `video` to `tap`.
    fn tap(&self, tap: &dyn Tap, audio: &gst::Pad, video: Option<&gst::Pad>) -> Result<()> {
        let pipeline = self.pipeline.upgrade().ok_or("the pipeline is gone")?;
        let pads = tap.attach(&pipeline, video.map(caps_of).as_ref(), &caps_of(audio))?;
        let (tee, queue) = (element("tee")?, interleave_queue()?);
        pipeline.add(&queue)?;
        queue.sync_state_with_parent()?;
        self.decode(&queue.static_pad("src").ok_or("the queue has no source pad")?)?;
        self.take(audio, tee.clone())?;
        let branch = || tee.request_pad_simple("src_%u").ok_or("tee gives no pad");
        branch()?.link(&queue.static_pad("sink").ok_or("the queue has no sink pad")?)?;
        branch()?.link(&pads.audio)?;
        if let (Some(pad), Some(sink)) = (video, &pads.video) {
            self.observe(pad);
            pad.link(sink)?;
        }
        Ok(())
    }

    /// End of the longest stream so far, except the decoded one.
    pub fn reached(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.reached.load(Ordering::Relaxed))
    }

    fn decode(&self, pad: &gst::Pad) -> Result<()> {
        let decoder = element("decodebin")?;
        let target = self.target.clone();
        decoder.connect_pad_added(move |_, pad| {
            if !target.is_linked() {
                // If the link fails, the decoder posts an error.
                let _ = pad.link(&target);
            }
        });
        // The source pushes, so the decoder must not switch to pull mode.
        pad.add_probe(gst::PadProbeType::QUERY_UPSTREAM, |_, info| match info.query() {
            Some(query) if query.type_() == gst::QueryType::Scheduling => gst::PadProbeReturn::Drop,
            _ => gst::PadProbeReturn::Ok,
        });
        self.take(pad, decoder)
    }

    /// Discards the data from `pad`, and records its end time.
    fn watch(&self, pad: &gst::Pad) -> Result<()> {
        self.observe(pad);
        let sink = element("fakesink")?;
        sink.set_property("sync", false);
        sink.set_property("async", false);
        sink.set_property("enable-last-sample", false);
        self.take(pad, sink)
    }

    /// Records the end time of the data from `pad`.
    fn observe(&self, pad: &gst::Pad) {
        let reached = self.reached.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let end = || {
                let buffer = info.buffer()?;
                let end = buffer.pts()? + buffer.duration().unwrap_or_default();
                let segment = pad.sticky_event::<gst::event::Segment>(0)?;
                segment.segment().downcast_ref::<gst::ClockTime>()?.to_running_time(end)
            };
            if let Some(end) = end() {
                reached.fetch_max(end.nseconds(), Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn take(&self, pad: &gst::Pad, consumer: gst::Element) -> Result<()> {
        let pipeline = self.pipeline.upgrade().ok_or("the pipeline is gone")?;
        pipeline.add(&consumer)?;
        let sink = consumer.static_pad("sink").ok_or("the element has no sink pad")?;
        consumer.sync_state_with_parent()?;
        pad.link(&sink)?;
        self.lock().consumers.push((pad.clone(), consumer));
        Ok(())
    }

    /// The stream of `pad` has ended; others may follow.
    fn remove(&self, pad: &gst::Pad) {
        let consumer = {
            let mut state = self.lock();
            state.seen = 0;
            let index = state.consumers.iter().position(|(other, _)| other == pad);
            index.map(|index| state.consumers.swap_remove(index).1)
        };
        if let (Some(consumer), Some(pipeline)) = (consumer, self.pipeline.upgrade()) {
            // Both fail only while the pipeline shuts down.
            let _ = pipeline.remove(&consumer);
            let _ = consumer.set_state(gst::State::Null);
        }
    }
}

/// A queue in which a stream waits for others.
pub fn interleave_queue() -> Result<gst::Element> {
    let queue = element("queue")?;
    queue.set_property("max-size-time", MAX_WAITING.nseconds());
    queue.set_property("max-size-bytes", 0_u32);
    queue.set_property("max-size-buffers", 0_u32);
    Ok(queue)
}

fn caps_of(pad: &gst::Pad) -> gst::Caps {
    pad.current_caps().unwrap_or_else(|| pad.query_caps(None))
}

fn caps_name(caps: &gst::Caps) -> &str {
    caps.structure(0).map_or("", |caps| caps.name().as_str())
}

fn known(source: &gst::Element) {
    let message = gst::message::Application::builder(gst::Structure::new_empty(KNOWN)).src(source);
    // Fails only without a bus, when nothing waits for the message.
    let _ = source.post_message(message.build());
}

/// Whether these caps are of a container, as far as GStreamer knows.
fn is_container(caps: &gst::Caps) -> bool {
    let kind = gst_pbutils::pb_utils_get_caps_description_flags(caps);
    if kind.intersects(Kind::CONTAINER | Kind::TAG) {
        return true;
    }
    if kind.intersects(Kind::SUBTITLE | Kind::IMAGE) {
        return false;
    }
    if caps_name(caps).starts_with("application/") {
        return true;
    }
    let types = gst::ElementFactoryType::DEMUXER | gst::ElementFactoryType::DEPAYLOADER;
    gst::ElementFactory::factories_with_type(types, gst::Rank::MARGINAL)
        .iter()
        .any(|factory| factory.can_sink_any_caps(caps))
}
