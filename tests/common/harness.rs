// SPDX-License-Identifier: MIT OR Apache-2.0

//! A test harness: the element between two pads.
//!
//! `GstHarness` keeps buffers and events in two queues, so it cannot show their order; and as a dev-dependency it would
//! make the recognizer's tests need GStreamer.

#![allow(dead_code)] // each program uses its own part

use std::sync::{Arc, Mutex, MutexGuard, Once};

use gst::prelude::*;

/// Registers the element, once.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstnemostt::plugin_register_static().unwrap();
        if std::env::var("GST_TRACERS").is_ok_and(|tracers| tracers.contains("leaks")) {
            end_gstreamer_at_exit();
        }
    });
}

/// The leaks tracer reports objects that are still alive when GStreamer is deinitialized, which is after the last test
/// of this process. It reports them as a warning, which kills the process under G_DEBUG=fatal_warnings.
#[allow(unsafe_code)] // for `atexit` and `gst::deinit`
fn end_gstreamer_at_exit() {
    unsafe extern "C" {
        fn atexit(function: extern "C" fn()) -> std::ffi::c_int;
    }
    extern "C" fn end() {
        // SAFETY: the tests have ended, and each has set its pipelines to NULL: GStreamer is not used after this.
        unsafe { gst::deinit() };
    }
    let tracers = gst::active_tracers();
    let is_there = tracers.iter().any(|tracer| tracer.type_().name() == "GstLeaksTracer");
    assert!(is_there, "GST_TRACERS asks for the leaks tracer, but it is not active");
    // SAFETY: `end` is a function of this program, so it stays valid until the process ends.
    let failed = unsafe { atexit(end) };
    assert_eq!(failed, 0);
}

/// Output of the element, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Word(TextBuffer),
    Gap {
        pts: gst::ClockTime,
        duration: gst::ClockTime,
    },
    Event(gst::EventType),
    /// A custom downstream event of this name.
    Custom(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct TextBuffer {
    pub text: String,
    pub pts: gst::ClockTime,
    pub duration: gst::ClockTime,
    pub discont: bool,
    /// Running time when it was pushed, if there is a clock.
    pub left: Option<gst::ClockTime>,
    /// Running time of its start.
    pub running: Option<gst::ClockTime>,
}

impl TextBuffer {
    fn of(buffer: &gst::BufferRef, left: Option<gst::ClockTime>) -> Self {
        let map = buffer.map_readable().unwrap();
        Self {
            text: String::from_utf8(map.to_vec()).unwrap(),
            pts: buffer.pts().unwrap(),
            duration: buffer.duration().unwrap(),
            discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
            left,
            running: None,
        }
    }
}

pub struct Harness {
    pub element: gst::Element,
    src: gst::Pad,
    sink: gst::Pad,
    bus: gst::Bus,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Upstream's answer to LATENCY queries.
    upstream: Arc<Mutex<(bool, gst::ClockTime)>>,
    /// Upstream's answer to DURATION queries.
    upstream_duration: Arc<Mutex<Option<gst::ClockTime>>>,
    /// The last segment that was pushed.
    segment: Arc<Mutex<Option<gst::FormattedSegment<gst::ClockTime>>>>,
    /// Running time that the output has reached.
    position: Arc<Mutex<gst::ClockTime>>,
    /// The caption encoder downstream, if there is one.
    encoder: Option<gst::Bin>,
}

/// Advances `position` to the running time of `end`; fails the test if running time goes backward.
fn reach(
    position: &Mutex<gst::ClockTime>,
    segment: &Mutex<Option<gst::FormattedSegment<gst::ClockTime>>>,
    start: gst::ClockTime,
    end: gst::ClockTime,
) {
    let segment = lock(segment).clone().expect("a segment precedes text and gaps");
    // Near the largest time, running times wrap around.
    let last = gst::ClockTime::from_nseconds(1 << 62);
    if segment.rate() < 0.0 || segment.base() > Some(last) || end > last {
        return;
    }
    let running = |pts| segment.to_running_time(pts).unwrap_or_default();
    let mut position = lock(position);
    // Rates other than 1 round.
    assert!(
        running(start) + gst::ClockTime::from_nseconds(2) >= *position,
        "running time goes backward from {position} to {}",
        running(start)
    );
    *position = running(end).max(*position);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Harness {
    /// `properties` as in a gst-launch line: `lookahead=80 decoder=ctc`.
    pub fn new(properties: &str) -> Self {
        Self::with_caps(properties, "ANY")
    }

    /// Like [`new`](Self::new), with a downstream that accepts only these caps.
    pub fn with_caps(properties: &str, caps: &str) -> Self {
        init();
        let caps = caps.parse().unwrap();
        let element = gst::parse::launch(&format!("nemostt threads=1 {properties}")).unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));

        let upstream = Arc::new(Mutex::new((false, gst::ClockTime::ZERO)));
        let upstream_duration = Arc::new(Mutex::new(None));
        let (answer, duration) = (upstream.clone(), upstream_duration.clone());
        let src = gst::Pad::builder(gst::PadDirection::Src)
            .name("harness_src")
            .query_function(move |pad, parent, query| match query.view_mut() {
                gst::QueryViewMut::Latency(query) => {
                    let (live, min) = *lock(&answer);
                    query.set(live, min, gst::ClockTime::NONE);
                    true
                }
                gst::QueryViewMut::Duration(query) if query.format() == gst::Format::Time => {
                    query.set(*lock(&duration));
                    true
                }
                gst::QueryViewMut::Seeking(query) if query.format() == gst::Format::Time => {
                    query.set(true, gst::ClockTime::ZERO, gst::ClockTime::NONE);
                    true
                }
                gst::QueryViewMut::Formats(query) => {
                    query.set([gst::Format::Time]);
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            })
            .build();

        let seen = Arc::new(Mutex::new(Vec::new()));
        let (buffers, events) = (seen.clone(), seen.clone());
        let segment = Arc::new(Mutex::new(None::<gst::FormattedSegment<gst::ClockTime>>));
        let position = Arc::new(Mutex::new(gst::ClockTime::ZERO));
        let (segment_in, segment_of_text) = (segment.clone(), segment.clone());
        let (position_of_text, position_of_gap) = (position.clone(), position.clone());
        let weak = element.downgrade();
        let template = gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &caps).unwrap();
        let sink = gst::Pad::builder_from_template(&template)
            .name("harness_sink")
            .chain_function(move |_, _, buffer| {
                let left = weak.upgrade().and_then(|element| element.current_running_time());
                let mut text = TextBuffer::of(&buffer, left);
                text.running = lock(&segment_of_text)
                    .as_ref()
                    .and_then(|segment| segment.to_running_time(text.pts));
                reach(
                    &position_of_text,
                    &segment_of_text,
                    text.pts,
                    text.pts.saturating_add(text.duration),
                );
                lock(&buffers).push(Seen::Word(text));
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(move |pad, parent, event| {
                lock(&events).push(match event.view() {
                    gst::EventView::Gap(gap) => {
                        let (pts, duration) = gap.get();
                        let duration = duration.unwrap();
                        reach(&position_of_gap, &segment_in, pts, pts.saturating_add(duration));
                        Seen::Gap { pts, duration }
                    }
                    gst::EventView::CustomDownstream(custom) => {
                        Seen::Custom(custom.structure().unwrap().name().to_string())
                    }
                    gst::EventView::Segment(segment) => {
                        let segment = segment.segment().downcast_ref::<gst::ClockTime>();
                        lock(&segment_in).replace(segment.unwrap().clone());
                        Seen::Event(event.type_())
                    }
                    // Running time starts over after these.
                    gst::EventView::FlushStop(_) | gst::EventView::Eos(_) => {
                        *lock(&position_of_gap) = gst::ClockTime::ZERO;
                        Seen::Event(event.type_())
                    }
                    _ => Seen::Event(event.type_()),
                });
                gst::Pad::event_default(pad, parent, event)
            })
            // Nothing goes on to an encoder's source pad.
            .iterate_internal_links_function(|_, _| gst::Iterator::from_vec(Vec::<gst::Pad>::new()))
            .build();
        src.link(&element.static_pad("sink").unwrap()).unwrap();
        element.static_pad("src").unwrap().link(&sink).unwrap();
        src.set_active(true).unwrap();
        sink.set_active(true).unwrap();
        Self {
            element,
            src,
            sink,
            bus,
            seen,
            upstream,
            upstream_duration,
            segment,
            position,
            encoder: None,
        }
    }

    /// Like [`with_caps`](Self::with_caps), with a downstream that makes captions of text.
    pub fn with_encoder(properties: &str, caps: &str) -> Self {
        let mut harness = Self::with_caps(properties, caps);
        let captions = "closedcaption/x-cea-708".parse().unwrap();
        let template =
            gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &captions).unwrap();
        let encoder = gst::Bin::new();
        encoder.add_pad(&harness.sink).unwrap();
        encoder
            .add_pad(&gst::Pad::builder_from_template(&template).build())
            .unwrap();
        harness.encoder = Some(encoder);
        harness
    }

    /// A harness in PLAYING, with STREAM_START, CAPS and a segment from 0.
    pub fn play(properties: &str) -> Self {
        let harness = Self::new(properties);
        harness.start();
        harness
    }

    pub fn start(&self) {
        self.forget_position();
        self.element.set_state(gst::State::Playing).unwrap();
        self.begin();
    }

    /// Lets running time start over.
    pub fn forget_position(&self) {
        *lock(&self.position) = gst::ClockTime::ZERO;
    }

    /// Sends STREAM_START, CAPS and a segment from 0.
    pub fn begin(&self) {
        assert!(self.event(gst::event::StreamStart::new("test")));
        assert!(self.event(gst::event::Caps::new(&caps())));
        assert!(self.segment(&gst::FormattedSegment::new()));
    }

    pub fn segment(&self, segment: &gst::FormattedSegment<gst::ClockTime>) -> bool {
        self.event(gst::event::Segment::new(segment))
    }

    /// Like [`segment`](Self::segment), but ignores the result.
    pub fn segment_unchecked(&self, segment: &gst::FormattedSegment<gst::ClockTime>) {
        let _ = self.event(gst::event::Segment::new(segment));
    }

    pub fn set_upstream_duration(&self, duration: Option<gst::ClockTime>) {
        *lock(&self.upstream_duration) = duration;
    }

    pub fn event(&self, event: impl Into<gst::Event>) -> bool {
        self.src.push_event(event)
    }

    pub fn eos(&self) {
        assert!(self.event(gst::event::Eos::new()));
    }

    pub fn flush(&self) {
        assert!(self.event(gst::event::FlushStart::new()));
        assert!(self.event(gst::event::FlushStop::new(true)));
        assert!(self.segment(&gst::FormattedSegment::new()));
    }

    pub fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.src.push(buffer)
    }

    /// Pushes `samples` from `start` on in buffers of `cut` samples.
    pub fn speak_from(&self, start: gst::ClockTime, samples: &[i16], cut: usize) {
        for (i, block) in samples.chunks(cut).enumerate() {
            let pts = start + time_of(i * cut);
            self.push(buffer(block, Some(pts))).unwrap();
        }
    }

    pub fn speak(&self, samples: &[i16], cut: usize) {
        self.speak_from(gst::ClockTime::ZERO, samples, cut);
    }

    /// All output since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut lock(&self.seen))
    }

    pub fn words(&self) -> Vec<TextBuffer> {
        let words = self.take().into_iter().filter_map(|seen| match seen {
            Seen::Word(word) => Some(word),
            _ => None,
        });
        words.collect()
    }

    pub fn text(&self) -> String {
        text(&self.words())
    }

    /// Messages posted since the last call.
    pub fn messages(&self) -> Vec<gst::Message> {
        std::iter::from_fn(|| self.bus.pop()).collect()
    }

    /// Structures of the element messages `nemostt` posted since the last call.
    pub fn word_messages(&self) -> Vec<gst::Structure> {
        let messages = self.messages();
        let structures = messages.iter().filter_map(|message| match message.view() {
            gst::MessageView::Element(element) => element.structure().map(|s| s.to_owned()),
            _ => None,
        });
        structures.collect()
    }

    pub fn set_upstream_latency(&self, live: bool, min: gst::ClockTime) {
        *lock(&self.upstream) = (live, min);
    }

    /// Base of the last segment that was pushed.
    pub fn segment_base(&self) -> Option<gst::ClockTime> {
        lock(&self.segment).as_ref().and_then(|segment| segment.base())
    }

    /// Running time that the output has reached.
    pub fn position(&self) -> gst::ClockTime {
        *lock(&self.position)
    }

    /// Liveness and minimum latency, as reported downstream.
    pub fn latency(&self) -> (bool, gst::ClockTime) {
        let mut query = gst::query::Latency::new();
        assert!(self.sink.peer_query(&mut query));
        let (live, min, _) = query.result();
        (live, min)
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        let _ = self.element.set_state(gst::State::Null);
        let _ = self.src.set_active(false);
        let _ = self.sink.set_active(false);
        // The element owns the bus, and messages on the bus own the element; a pipeline would break the cycle.
        self.bus.set_flushing(true);
    }
}

pub fn text(words: &[TextBuffer]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    words.join(" ")
}

pub fn caps() -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", "S16LE")
        .field("rate", 16_000)
        .field("channels", 1)
        .field("layout", "interleaved")
        .build()
}

pub fn time_of(samples: usize) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(nemostt::sample_time::samples_to_ns(samples as u64, 16_000))
}

pub fn buffer(samples: &[i16], pts: Option<gst::ClockTime>) -> gst::Buffer {
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut buffer = gst::Buffer::from_slice(bytes);
    let writable = buffer.get_mut().unwrap();
    writable.set_pts(pts);
    writable.set_duration(time_of(samples.len()));
    buffer
}
