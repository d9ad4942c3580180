// SPDX-License-Identifier: MIT OR Apache-2.0

//! The virtual functions of the element. What they do is in the files beside this one.

use std::{
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_transform::GenerateOutputSuccess, prelude::*},
};

use super::{
    delivery::InEffect,
    lateness::Lateness,
    loading::{self, Loader},
    output_queue::Item,
    payload::Format,
    segment::{Segment, Time},
    session::{Now, Session},
    settings::{MAX_OBSERVED_DELAY, Settings},
    source_pad,
    ticker::{SHORTEST_TICK, TICK, Ticker, Wake},
    timestamps::{Moment, signed},
};
use crate::{
    error::Error,
    lock::lock,
    model::{LogLevel, set_runtime_logger},
    text::Ending,
};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "nemostt",
        gst::DebugColorFlags::empty(),
        Some("NeMo streaming speech to text"),
    )
});

/// ONNX Runtime's own log.
static RUNTIME_CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "nemostt-ort",
        gst::DebugColorFlags::empty(),
        Some("ONNX Runtime under nemostt"),
    )
});

/// Sample rate of the sink pad; models with another one are refused.
pub(super) const SAMPLE_RATE: u32 = 16_000;
/// The action signal that ends the current utterance.
const FINISH: &str = "finish";
/// Name of the custom event that does the same, from upstream in order with the audio or from downstream at once.
const FINISH_EVENT: &str = "nemostt/finish";

/// The element.
///
/// Locks: `session` before `settings`, none while pushing, posting, waiting for the model or loading it. Whoever works on the
/// session holds the sink pad's stream lock, too: the streaming thread, or the [`Ticker`] in its place. Properties and queries
/// take none of the two and never wait for a chunk.
#[derive(Default)]
pub struct NemoStt {
    settings: Mutex<Arc<Settings>>,
    session: Mutex<Session>,
    loader: Loader,
    ticker: Ticker,
    lateness: Mutex<Lateness>,
    known: Mutex<Known>,
    /// Work is to be given up: a flush, or the way to READY.
    is_interrupted: AtomicBool,
}

/// What queries and properties tell of the session.
#[derive(Debug, Default)]
struct Known {
    in_effect: InEffect,
    position: Option<Moment>,
    /// Running time when data came last.
    last_data: Option<gst::ClockTime>,
    /// Whether a segment came from upstream since the start.
    had_segment: bool,
}

#[glib::object_subclass]
impl ObjectSubclass for NemoStt {
    const NAME: &'static str = "GstNemoStt";
    type Type = super::NemoStt;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for NemoStt {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(Settings::param_specs);
        &PROPERTIES
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            let finish = glib::subclass::Signal::builder(FINISH)
                .action()
                .class_handler(|values| {
                    if let Some(Ok(element)) = values.first().map(|value| value.get::<super::NemoStt>()) {
                        element.imp().ticker.finish();
                    }
                    None
                });
            vec![finish.build()]
        });
        &SIGNALS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let before = self.latency();
        Arc::make_mut(&mut *lock(&self.settings)).set(pspec.name(), value);
        self.announce_latency(before);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            MAX_OBSERVED_DELAY => {
                let delay = lock(&self.lateness).max_delay().mseconds();
                u32::try_from(delay).unwrap_or(u32::MAX).to_value()
            }
            name => self.settings().get(name),
        }
    }
}

impl GstObjectImpl for NemoStt {}

impl ElementImpl for NemoStt {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "NeMo speech to text",
                "Audio/Text/Filter",
                "Turns live speech into words with NVIDIA NeMo's streaming models",
                "the nemostt developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name, direction, caps| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).expect("a valid pad template")
            };
            vec![
                template("sink", gst::PadDirection::Sink, &audio_caps()),
                template("src", gst::PadDirection::Src, &Format::caps()),
            ]
        });
        &TEMPLATES
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => {
                self.is_interrupted.store(false, Ordering::Relaxed);
                if let Err(error) = self.ticker.start(&self.obj()) {
                    gst::element_imp_error!(
                        self,
                        gst::ResourceError::NoSpaceLeft,
                        ("no thread for the clock: {error}")
                    );
                    return Err(gst::StateChangeError);
                }
            }
            gst::StateChange::PlayingToPaused => self.ticker.set_playing(false),
            gst::StateChange::PausedToReady => {
                // The pads can only stop when nothing waits for the model or computes.
                self.ticker.stop();
                self.interrupt();
            }
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToPlaying => {
                // Running time stood still: what came before says nothing about how late it is now.
                lock(&self.lateness).reset();
                lock(&self.known).last_data = None;
                self.ticker.set_playing(true);
            }
            gst::StateChange::PausedToReady => self.ticker.join(),
            gst::StateChange::ReadyToPaused if result.is_err() => {
                self.ticker.stop();
                self.ticker.join();
            }
            _ => {}
        }
        result
    }
}

impl BaseTransformImpl for NemoStt {
    const MODE: gst_base::subclass::BaseTransformMode = gst_base::subclass::BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        set_runtime_logger(|level, line| match level {
            LogLevel::Error => gst::error!(RUNTIME_CAT, "{line}"),
            LogLevel::Warning => gst::warning!(RUNTIME_CAT, "{line}"),
            LogLevel::Info => gst::info!(RUNTIME_CAT, "{line}"),
            LogLevel::Verbose => gst::log!(RUNTIME_CAT, "{line}"),
        });
        let settings = self.settings();
        lock(&self.known).in_effect = InEffect::of(&settings);
        lock(&self.session).out.apply(&settings);
        let before = self.latency();
        let request = loading::request(&self.obj(), &settings)?;
        gst::info!(CAT, imp = self, "{request:?}");
        let loaded = move |element: &super::NemoStt| Self::from_obj(element).announce_latency(before);
        self.loader.begin(&self.obj(), request, loaded);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.loader.cancel(&self.obj());
        *self.session() = Session::default();
        lock(&self.lateness).forget();
        *lock(&self.known) = Known::default();
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        _caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let other = match direction {
            gst::PadDirection::Src => audio_caps(),
            _ => Format::caps(),
        };
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&other, gst::CapsIntersectMode::First),
            None => other,
        })
    }

    fn fixate_caps(&self, _direction: gst::PadDirection, _caps: &gst::Caps, other: gst::Caps) -> gst::Caps {
        preferred(&other)
    }

    fn set_caps(&self, _incaps: &gst::Caps, outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let format = Format::of(outcaps);
        gst::debug!(CAT, imp = self, "output is {format:?}");
        self.session().out.format = format;
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if direction == gst::PadDirection::Src {
            match query.view_mut() {
                gst::QueryViewMut::Position(query) => {
                    let position = lock(&self.known).position.clone();
                    return source_pad::answer_position(query, position.as_ref());
                }
                // Upstream's bytes and samples are not those of the text.
                gst::QueryViewMut::Duration(query) if query.format() != gst::Format::Time => return false,
                _ => {}
            }
        }
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if direction == gst::PadDirection::Src
            && let gst::QueryViewMut::Latency(latency) = query.view_mut()
        {
            let (live, min, max) = latency.result();
            lock(&self.lateness).set_upstream(live, min);
            let ours = self.latency();
            latency.set(live, min.saturating_add(ours), max.map(|max| max.saturating_add(ours)));
        }
        true
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        use gst::EventView;
        gst::log!(CAT, imp = self, "{event:?}");
        match event.view() {
            EventView::FlushStart(_) => self.interrupt(),
            EventView::FlushStop(_) => {
                self.is_interrupted.store(false, Ordering::Relaxed);
                self.loader.set_flushing(false);
                self.session().flush();
                lock(&self.lateness).reset();
                let mut known = lock(&self.known);
                known.position = None;
                known.last_data = None;
            }
            EventView::StreamStart(start) => {
                self.drain(Ending::EndOfStream);
                self.session().begin();
                return self.obj().src_pad().push_event(source_pad::stream_start(start));
            }
            EventView::Tag(tags) => {
                return source_pad::tags(tags).is_none_or(|event| self.obj().src_pad().push_event(event));
            }
            EventView::SegmentDone(_) => self.drain(Ending::EndOfStream),
            EventView::Eos(_) => {
                self.drain(Ending::EndOfStream);
                self.session().end();
            }
            EventView::Caps(caps) => {
                // Upstream may repeat itself in the middle of a word.
                let current = self.obj().sink_pad().current_caps();
                if current.is_none_or(|current| *current != *caps.caps()) {
                    self.drain(Ending::EndOfStream);
                }
            }
            EventView::Segment(segment) => {
                let Some(time) = segment.segment().downcast_ref::<gst::ClockTime>() else {
                    gst::element_imp_error!(
                        self,
                        gst::StreamError::Format,
                        (
                            "segment in format {:?}; nemostt needs one in time",
                            segment.segment().format()
                        )
                    );
                    return false;
                };
                return self.new_segment(time, event.seqnum());
            }
            EventView::Gap(gap) => {
                let (pts, duration) = gap.get();
                return self
                    .process(|session, settings| session.gap(pts, duration, settings))
                    .is_ok();
            }
            EventView::CustomDownstream(_) if is_finish(&event) => {
                self.drain(Ending::Request);
                return true;
            }
            EventView::CustomDownstreamOob(_) if is_finish(&event) => {
                self.ticker.finish();
                return true;
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            // Text that comes late is no reason to drop audio: neither BaseTransform's QoS nor upstream must know of it.
            gst::EventType::Qos => true,
            gst::EventType::CustomUpstream if is_finish(&event) => {
                self.ticker.finish();
                true
            }
            _ => self.parent_src_event(event),
        }
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        if let Some(buffer) = self.take_queued_buffer() {
            gst::trace!(CAT, imp = self, "{buffer:?}");
            self.ensure_transcriber()?;
            let length = self.running_length(&buffer);
            let since = match self.is_too_late(&buffer) {
                true => self.process(|session, _| session.skip(&buffer))?,
                false => self.process(|session, _| session.buffer(buffer))?,
            };
            lock(&self.lateness).computed(since, length);
            // The ticker may get the stream lock late where one buffer follows another.
            self.tick(false)?;
        }
        // What there was is pushed already, in order with its events.
        Ok(GenerateOutputSuccess::NoOutput)
    }
}

impl NemoStt {
    fn settings(&self) -> Arc<Settings> {
        lock(&self.settings).clone()
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    /// Time from sound to text, of computing, chunks and holding words back.
    fn processing_latency(&self) -> gst::ClockTime {
        let settings = self.settings();
        let output = lock(&self.known).in_effect.output;
        let chunk = loading::latency(&settings, self.loader.ready().as_ref());
        chunk + settings.hold(output) + settings.processing()
    }

    /// What the element adds to the pipeline's latency.
    fn latency(&self) -> gst::ClockTime {
        let lateness = lock(&self.known).in_effect.lateness;
        // Text that is shifted by this much may come that much later.
        self.processing_latency().saturating_sub(lateness)
    }

    fn announce_latency(&self, before: gst::ClockTime) {
        if self.latency() != before {
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }

    /// Lets all work end soon, and no other begin.
    fn interrupt(&self) {
        self.is_interrupted.store(true, Ordering::Relaxed);
        self.loader.set_flushing(true);
    }

    /// Waits for the model and makes a transcriber with it, unless there is one. Meanwhile time passes.
    fn ensure_transcriber(&self) -> Result<(), gst::FlowError> {
        if self.session().has_transcriber() {
            return Ok(());
        }
        let recognizer = loop {
            match self.loader.wait(TICK) {
                Ok(Some(recognizer)) => break recognizer,
                Ok(None) => self.tick(false)?,
                Err(reason) => {
                    // What went wrong is on the bus already. `Error` would make the source post a second, meaningless error.
                    gst::debug!(CAT, imp = self, "no model: {reason:?}");
                    return Err(gst::FlowError::Flushing);
                }
            }
        };
        gst::info!(CAT, imp = self, "model {:?}", recognizer.config());
        let rate = recognizer.config().front_end.sample_rate;
        if rate != SAMPLE_RATE {
            gst::element_imp_error!(
                self,
                gst::LibraryError::Settings,
                ("the model hears {rate} Hz; nemostt serves models of {SAMPLE_RATE} Hz only")
            );
            return Err(gst::FlowError::Error);
        }
        let made = self.session().set_recognizer(&recognizer);
        made.map_err(|error| self.fail(&error))
    }

    fn fail(&self, error: &Error) -> gst::FlowError {
        gst::element_imp_error!(self, gst::StreamError::Failed, ("{error}"));
        gst::FlowError::Error
    }

    /// Gives the session something to do and does it, step by step; gives out what comes of each at once. Returns the time
    /// that computing took. An error ends the stream.
    fn process(&self, begin: impl FnOnce(&mut Session, &Settings)) -> Result<Duration, gst::FlowError> {
        self.ensure_transcriber()?;
        let settings = self.settings();
        begin(&mut self.session(), &settings);
        self.work(&settings)
    }

    fn work(&self, settings: &Settings) -> Result<Duration, gst::FlowError> {
        let mut computing = Duration::ZERO;
        loop {
            let since = Instant::now();
            let more = self.session().step(settings);
            computing += since.elapsed();
            self.push_output()?;
            if !more.map_err(|error| self.fail(&error))? {
                break;
            }
            if self.is_interrupted.load(Ordering::Relaxed) {
                return Err(gst::FlowError::Flushing);
            }
        }
        self.keep_known();
        let running = self.obj().current_running_time();
        lock(&self.known).last_data = running;
        if let Some(running) = running {
            self.session().worked(signed(running));
        }
        Ok(computing)
    }

    /// Time passes. `is_idle`: no data is being worked on.
    fn tick(&self, is_idle: bool) -> Result<(), gst::FlowError> {
        let Some(now) = self.now(is_idle) else { return Ok(()) };
        let settings = self.settings();
        let result = self.session().tick(&now, &settings);
        self.push_output()?;
        result.map_err(|error| self.fail(&error))?;
        self.keep_known();
        Ok(())
    }

    /// What time it is. `None` where time does not pass or nothing waits for the clock.
    fn now(&self, is_idle: bool) -> Option<Now> {
        let obj = self.obj();
        let (live, upstream) = lock(&self.lateness).upstream()?;
        if obj.current_state() != gst::State::Playing {
            return None;
        }
        let running = obj.current_running_time()?;
        let last = *lock(&self.known).last_data.get_or_insert(running);
        let settings = self.settings();
        let hold = settings.hold(lock(&self.known).in_effect.output);
        Some(Now {
            running: signed(running),
            idle: if is_idle {
                signed(running.saturating_sub(last))
            } else {
                0
            },
            live,
            upstream: signed(upstream),
            latency: signed(self.processing_latency()),
            hold: signed(hold),
        })
    }

    /// The [`Ticker`] woke up. Gives how long it may sleep.
    pub(super) fn wake(&self, wake: Wake) -> Duration {
        let obj = self.obj();
        if lock(&self.lateness).upstream().is_none() {
            self.ask_upstream();
        }
        let _stream = obj.sink_pad().stream_lock();
        if self.is_interrupted.load(Ordering::Relaxed) {
            return TICK;
        }
        let result = match wake {
            Wake::Finish => {
                self.drain(Ending::Request);
                Ok(())
            }
            Wake::Tick => {
                self.stand_in_for_upstream();
                self.tick(true)
            }
        };
        if let Err(error) = result {
            // The next buffer meets it, too.
            gst::debug!(CAT, imp = self, "the clock's thread could not push: {error:?}");
        }
        let due = self.now(true).and_then(|now| self.session().due_in(&now));
        let due = due.and_then(|due| u64::try_from(due).ok()).map(Duration::from_nanos);
        // A clock that stands still is asked again after the usual time.
        due.filter(|due| *due >= SHORTEST_TICK)
            .map_or(TICK, |due| due.min(TICK))
    }

    /// Whether upstream is live, if nothing downstream has asked.
    fn ask_upstream(&self) {
        let mut query = gst::query::Latency::new();
        if self.obj().sink_pad().peer_query(&mut query) {
            let (live, min, _) = query.result();
            lock(&self.lateness).set_upstream(live, min);
        }
    }

    /// A live source that sends nothing must not hold up what waits for text. Most announce their stream, but their segment only
    /// with the first buffer (`GstBaseSrc`); behind a closed `valve` not even the stream is known.
    fn stand_in_for_upstream(&self) {
        let is_needed = !lock(&self.known).had_segment && !self.session().has_segment();
        let Some(now) = self.now(true).filter(|now| is_needed && now.live) else {
            return;
        };
        if now.running < now.upstream + now.latency {
            return;
        }
        let obj = self.obj();
        let src = obj.src_pad();
        if src.sticky_event::<gst::event::StreamStart>(0).is_none() {
            let id = src.create_stream_id(&*obj, Some("text"));
            src.push_event(source_pad::text_stream(gst::event::StreamStart::builder(&id)).build());
        }
        if !src.has_current_caps() {
            let caps = preferred(&src.allowed_caps().unwrap_or_else(Format::caps));
            self.session().out.format = Format::of(&caps);
            src.push_event(gst::event::Caps::new(&caps));
        }
        self.session().set_segment(Segment::default());
    }

    fn push_output(&self) -> Result<(), gst::FlowError> {
        // The lock is let go before anything leaves.
        loop {
            let item = self.session().pop();
            match item {
                Some(item) => self.push(item)?,
                None => return Ok(()),
            }
        }
    }

    fn push(&self, item: Item) -> Result<(), gst::FlowError> {
        let obj = self.obj();
        match item {
            Item::Buffer(buffer) => {
                gst::debug!(CAT, imp = self, "text {buffer:?}");
                obj.src_pad().push(buffer)?;
            }
            Item::Event(event) => {
                let _ = obj.src_pad().push_event(event);
            }
            Item::Message(structure) => {
                let message = gst::message::Element::builder(structure).src(&*obj).build();
                let _ = obj.post_message(message);
            }
            Item::Warning(text) => gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{text}")),
        }
        Ok(())
    }

    /// Notes what queries tell, and announces a latency that has changed with what is in effect.
    fn keep_known(&self) {
        let (in_effect, position) = {
            let session = self.session();
            (session.out.in_effect(), session.out.queue.position())
        };
        let is_changed = {
            let mut known = lock(&self.known);
            known.position = position;
            known.in_effect != in_effect
        };
        if is_changed {
            let before = self.latency();
            lock(&self.known).in_effect = in_effect;
            self.announce_latency(before);
        }
    }

    /// Says everything so far. What becomes of it does not change what happens next, so errors are only noted.
    fn drain(&self, ending: Ending) {
        if !self.session().has_transcriber() {
            return;
        }
        if let Err(error) = self.process(|session, _| session.finish(ending)) {
            gst::debug!(CAT, imp = self, "drained into {error:?}");
        }
    }

    /// Takes a segment. It is sent on, with its base shifted by `lateness`, when the text before it is.
    fn new_segment(&self, segment: &Time, seqnum: gst::Seqnum) -> bool {
        lock(&self.known).had_segment = true;
        self.session().set_segment(Segment::new(segment.clone(), Some(seqnum)));
        match self.work(&self.settings()) {
            Ok(_) => true,
            Err(error) => {
                gst::debug!(CAT, imp = self, "a segment brought {error:?}");
                !self.is_interrupted.load(Ordering::Relaxed)
            }
        }
    }

    /// How long a buffer lasts in running time.
    fn running_length(&self, buffer: &gst::BufferRef) -> gst::ClockTime {
        let samples = (buffer.size() / super::timestamps::BYTES_PER_SAMPLE) as u64;
        let length = gst::ClockTime::from_nseconds(crate::timeline::samples_to_ns(samples, SAMPLE_RATE));
        self.session().segment().running_duration(length)
    }

    /// Watches whether computing keeps up with a live source; says so when it does not, and whether to leave audio out.
    fn is_too_late(&self, buffer: &gst::BufferRef) -> bool {
        let settings = self.settings();
        let Some(pts) = buffer.pts() else { return false };
        let end = pts.saturating_add(buffer.duration().unwrap_or_default());
        let segment = self.session().segment();
        let now = self.obj().current_running_time();
        let (report, max_delay) = {
            let mut lateness = lock(&self.lateness);
            let report = lateness.assess(
                Some(segment.running(end)),
                now,
                settings.processing(),
                settings.overload,
            );
            (report, lateness.max_delay())
        };
        if report.grew {
            self.obj().notify(MAX_OBSERVED_DELAY);
        }
        if report.warn {
            let details = gst::Structure::builder("nemostt/excessive-delay")
                .field("new-observed-max-delay", max_delay)
                .field("latency", settings.processing())
                .build();
            gst::element_imp_warning!(
                self,
                gst::CoreError::Clock,
                (
                    "computing does not keep up: it is {} behind the audio, property latency allows {}. Use more                      threads, a smaller lookahead, a smaller model or the GPU, or raise latency",
                    report.delay, settings.processing()
                ),
                details: details
            );
            let obj = self.obj();
            let qos = gst::message::Qos::builder(true)
                .running_time(segment.to_running_time(end))
                .stream_time(segment.to_stream_time(end))
                .timestamp(pts)
                .duration(buffer.duration())
                .src(&*obj);
            let _ = obj.post_message(qos.build());
        }
        report.skip
    }
}

/// Whether an event asks for what there is.
fn is_finish(event: &gst::EventRef) -> bool {
    event
        .structure()
        .is_some_and(|structure| structure.name() == FINISH_EVENT)
}

/// The caps of `caps` that we would rather give: markup only where plain text is not taken, whatever downstream's order.
fn preferred(caps: &gst::Caps) -> gst::Caps {
    let mut preferred = Format::caps().intersect_with_mode(caps, gst::CapsIntersectMode::First);
    preferred.fixate();
    preferred
}

fn audio_caps() -> gst::Caps {
    gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::S16le)
        .rate(SAMPLE_RATE as i32)
        .channels(1)
        .build()
}
