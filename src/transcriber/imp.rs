// SPDX-License-Identifier: MIT OR Apache-2.0

//! The element's virtual methods. The work behind them is in the sibling modules.

use std::sync::{
    Arc, LazyLock, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_transform::GenerateOutputSuccess, prelude::*},
};

use super::{
    delivery::ActiveSettings,
    downstream::Downstream,
    enums::NemoSttOutput,
    input,
    lateness::Lateness,
    log::{CAT, forward_runtime_log},
    model_loader::{self, Loader, Wanted},
    partial_pad,
    payload::Format,
    published::PublishedState,
    reporter::Reporter,
    session::Session,
    settings::{HotwordSettings, MAX_OBSERVED_DELAY, METRICS, Settings, TextSettings},
    source_pad,
    ticker::Ticker,
};
use nemostt::EndReason;
use nemostt::sync::lock;

/// The action signal that ends the current utterance.
const FINISH: &str = "finish";
/// Name of the custom events that do the same: in order with the audio if serialized, else immediately.
const FINISH_EVENT: &str = "nemostt/finish";

/// The element.
///
/// Lock order: `session`, then `settings`; `reporter`, then any but `session`. No lock is held while pushing, posting,
/// waiting for the model or loading it; only when a device fails in a step, that step loads the model again, with `session`
/// locked.
/// Work on the session also requires the sink pad's stream lock, held by the streaming thread or by the [`Ticker`] in
/// its place. Properties and queries never take `session`, so they never wait for a chunk.
#[derive(Default)]
pub struct NemoStt {
    pub(super) settings: Mutex<Arc<Settings>>,
    pub(super) session: Mutex<Session>,
    pub(super) loader: Loader,
    pub(super) ticker: Ticker,
    pub(super) lateness: Mutex<Lateness>,
    pub(super) published: Mutex<PublishedState>,
    pub(super) reporter: Mutex<Reporter>,
    /// Work in progress must be abandoned: the element is flushing or on its way to READY.
    pub(super) is_interrupted: AtomicBool,
    /// The element is on its way to READY: FLUSH_STOP must not clear `is_interrupted`.
    is_stopping: AtomicBool,
    /// Ends waiting for an inference server, together with `is_interrupted`.
    #[cfg(feature = "triton")]
    pub(super) interrupt: nemostt::Interrupt,
    pub(super) partial_pad: Mutex<Option<gst::Pad>>,
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
        // An error is reported when the element starts, or with the next chunk.
        if HotwordSettings::has(pspec.name()) {
            let _ = self.read_hotwords();
        } else if TextSettings::is_file(pspec.name()) {
            let _ = self.read_text_files(Some(pspec.name()));
        }
        self.announce_latency(before);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            MAX_OBSERVED_DELAY => {
                let delay = lock(&self.lateness).max_delay().mseconds();
                u32::try_from(delay).unwrap_or(u32::MAX).to_value()
            }
            METRICS => self.metrics().to_value(),
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
                template("sink", gst::PadDirection::Sink, &input::caps()),
                template("src", gst::PadDirection::Src, &Format::caps()),
                partial_pad::template().expect("a valid pad template"),
            ]
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        self.request_partial_pad(template)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        self.release_partial_pad(pad);
    }

    fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => {
                self.is_stopping.store(false, Ordering::Relaxed);
                self.allow_work();
                if let Err(error) = self.start_ticker() {
                    gst::element_imp_error!(
                        self,
                        gst::ResourceError::NoSpaceLeft,
                        ("the clock thread could not be started: {error}")
                    );
                    return Err(gst::StateChangeError);
                }
            }
            gst::StateChange::PlayingToPaused => self.ticker.set_playing(false),
            gst::StateChange::PausedToReady => {
                // The pads can only be deactivated once no thread waits for the model or computes.
                self.ticker.stop();
                self.is_stopping.store(true, Ordering::Relaxed);
                self.interrupt();
            }
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToPlaying => {
                // Running time was paused: earlier measurements say nothing about the delay from now on.
                lock(&self.lateness).reset();
                lock(&self.published).last_data = None;
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
        forward_runtime_log();
        let settings = self.settings();
        if settings.output == NemoSttOutput::Cues
            && let Some(contradiction) = settings.cues.contradiction()
        {
            return Err(gst::error_msg!(gst::LibraryError::Settings, ("{contradiction}")));
        }
        if let Some(contradiction) = settings.decoding.contradiction() {
            return Err(gst::error_msg!(gst::LibraryError::Settings, ("{contradiction}")));
        }
        // Later, when they change in PLAYING or the model lacks a character, it is a warning.
        self.read_hotwords()
            .and_then(|()| self.read_text_files(None))
            .map_err(|text| gst::error_msg!(gst::ResourceError::Settings, ("{text}")))?;
        lock(&self.published).active = ActiveSettings::of(&settings);
        *lock(&self.reporter) = Reporter::default();
        lock(&self.session).out.apply(&settings);
        let before = self.latency();
        let request = model_loader::request(self.obj().upcast_ref(), &settings)?;
        gst::info!(CAT, imp = self, "{request:?}");
        let weak = self.downgrade();
        let loaded = move || {
            if let Some(imp) = weak.upgrade() {
                imp.announce_latency(before);
            }
        };
        let wanted = Wanted {
            request,
            decoding: settings.decoding.clone(),
        };
        self.loader.begin(self.obj().upcast_ref(), wanted, loaded);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.loader.cancel(self.obj().upcast_ref());
        *self.session() = Session::default();
        lock(&self.lateness).forget();
        *lock(&self.published) = PublishedState::default();
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        _caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let other = match direction {
            gst::PadDirection::Src => input::caps(),
            _ => Format::caps(),
        };
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&other, gst::CapsIntersectMode::First),
            None => other,
        })
    }

    fn fixate_caps(&self, _direction: gst::PadDirection, _caps: &gst::Caps, other: gst::Caps) -> gst::Caps {
        Format::preferred(&other, self.settings().adds_to_screen())
    }

    fn set_caps(&self, _incaps: &gst::Caps, outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        self.set_format(outcaps);
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if direction == gst::PadDirection::Src {
            match query.view_mut() {
                gst::QueryViewMut::Position(query) => {
                    let position = lock(&self.published).position.clone();
                    return source_pad::answer_position(query, position.as_ref());
                }
                // Upstream's duration in bytes or samples is that of the audio, not of the text.
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
            let own = self.latency();
            latency.set(live, min.saturating_add(own), max.map(|max| max.saturating_add(own)));
        }
        true
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        use gst::EventView;
        gst::log!(CAT, imp = self, "{event:?}");
        match event.view() {
            EventView::FlushStart(_) => {
                self.forward_to_partials(&event);
                self.interrupt();
            }
            EventView::FlushStop(_) => {
                if !self.is_stopping.load(Ordering::Relaxed) {
                    self.allow_work();
                    self.loader.set_flushing(false);
                }
                self.session().flush();
                self.forward_to_partials(&event);
                lock(&self.lateness).reset();
                let mut published = lock(&self.published);
                published.position = None;
                published.last_data = None;
                published.await_segment(self.obj().current_running_time());
            }
            EventView::StreamStart(start) => {
                // Upstream may repeat its STREAM_START in the middle of a word, for example when pads are relinked.
                let current = self.obj().sink_pad().stream_id();
                if current.is_none_or(|current| current != start.stream_id()) {
                    self.drain(EndReason::EndOfStream);
                }
                self.session().begin();
                return self.obj().src_pad().push_event(source_pad::stream_start(start));
            }
            EventView::Tag(tags) => {
                return source_pad::tags(tags).is_none_or(|event| self.obj().src_pad().push_event(event));
            }
            EventView::SegmentDone(_) => self.drain(EndReason::EndOfStream),
            EventView::Eos(_) => {
                self.drain(EndReason::EndOfStream);
                self.session().end();
                self.report_final_metrics();
                self.forward_to_partials(&event);
                let mut published = lock(&self.published);
                published.await_segment(self.obj().current_running_time());
            }
            // A change of caps needs no handling: all accepted caps have the same sample format, so audio continues.
            EventView::Segment(segment) => {
                let Some(time) = segment.segment().downcast_ref::<gst::ClockTime>() else {
                    gst::element_imp_error!(
                        self,
                        gst::StreamError::Format,
                        (
                            "segment in format {:?}, but nemostt needs a TIME segment",
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
                self.drain(EndReason::Request);
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
            // Late text is no reason to drop audio, so neither BaseTransform nor upstream gets to see QoS events.
            gst::EventType::Qos => true,
            gst::EventType::Latency => {
                if let gst::EventView::Latency(latency) = event.view() {
                    lock(&self.lateness).set_configured(latency.latency());
                }
                self.parent_src_event(event)
            }
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
            self.first_gap()?;
            self.ensure_driver()?;
            let length = self.running_length(&buffer);
            let since = match self.check_lateness(&buffer) {
                true => {
                    lock(&self.lateness).skipped(length);
                    self.process(|session, _| session.skip(&buffer))?
                }
                false => self.process(|session, _| session.buffer(buffer))?,
            };
            lock(&self.lateness).computed(since, length);
            // When buffers follow each other closely, the ticker may wait long for the stream lock.
            self.tick(false)?;
            self.report_metrics();
        }
        // All output has been pushed already, in order with its events.
        Ok(GenerateOutputSuccess::NoOutput)
    }
}

impl NemoStt {
    pub(super) fn settings(&self) -> Arc<Settings> {
        lock(&self.settings).clone()
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    /// Reads the phrases to boost; the streaming thread, which needs the settings, does not have to wait for it.
    ///
    /// # Errors
    /// Why they cannot be used.
    fn read_hotwords(&self) -> Result<(), String> {
        let settings = self.settings();
        let phrases = settings.hotwords.read();
        drop(settings);
        let result = phrases.list.clone().map(drop);
        Arc::make_mut(&mut *lock(&self.settings)).hotwords.accept(phrases);
        result
    }

    /// As [`read_hotwords`](Self::read_hotwords), for the file of the property `name` of text shaping, or both.
    ///
    /// # Errors
    /// Why one of them cannot be used.
    fn read_text_files(&self, name: Option<&str>) -> Result<(), String> {
        let settings = self.settings();
        let files = settings.text.read(name);
        drop(settings);
        let error = files.error();
        Arc::make_mut(&mut *lock(&self.settings)).text.accept(files);
        error.map_or(Ok(()), Err)
    }

    /// Sets the format of buffers to that of `caps`.
    pub(super) fn set_format(&self, caps: &gst::CapsRef) {
        let format = Format::of(caps);
        let obj = self.obj();
        let pad = obj.src_pad();
        let downstream = Downstream::of_peer(pad, &pad.peer_query_caps(Some(&Format::caps())));
        gst::debug!(CAT, imp = self, "output is {format:?}, for {downstream:?}");
        let settings = self.settings();
        self.session().out.set_format(format, downstream, &settings);
    }

    /// Makes all work end soon, and keeps new work from starting.
    pub(super) fn interrupt(&self) {
        self.is_interrupted.store(true, Ordering::Relaxed);
        #[cfg(feature = "triton")]
        self.interrupt.set();
        self.loader.set_flushing(true);
    }

    /// Takes back [`interrupt`](Self::interrupt), except for the loader.
    fn allow_work(&self) {
        self.is_interrupted.store(false, Ordering::Relaxed);
        #[cfg(feature = "triton")]
        self.interrupt.clear();
    }
}

/// Whether an event asks to finish the current utterance.
fn is_finish(event: &gst::EventRef) -> bool {
    event
        .structure()
        .is_some_and(|structure| structure.name() == FINISH_EVENT)
}
