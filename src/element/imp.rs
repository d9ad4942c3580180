// SPDX-License-Identifier: MIT OR Apache-2.0

//! The virtual functions of the element. What they do is in the files beside this one.

use std::{
    sync::{LazyLock, Mutex, MutexGuard},
    time::Instant,
};

use gst::{glib, prelude::*, subclass::prelude::*};
use gst_base::{
    prelude::*,
    subclass::{base_transform::GenerateOutputSuccess, prelude::*},
};

use super::{
    loading::{self, Loader},
    output::Item,
    pace::Pace,
    piece::Format,
    session::{Segment, Session, is_same_segment},
    settings::{MAX_OBSERVED_DELAY, Settings},
};
use crate::{
    error::Error,
    lock::lock,
    model::{LogLevel, set_runtime_logger},
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
const SAMPLE_RATE: u32 = 16_000;

/// The element.
///
/// Locks: `state` before `settings`, none while pushing, posting, waiting for the model or loading it. The streaming
/// thread holds `state` while it computes; properties and queries need only `settings`, `pace` and the loader's own lock,
/// so they never wait for it.
#[derive(Default)]
pub struct NemoStt {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    loader: Loader,
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct State {
    /// From the first buffer on.
    session: Option<Session>,
    segment: Segment,
    format: Format,
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

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let before = self.latency();
        self.settings().set(pspec.name(), value);
        self.announce_latency(before);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            MAX_OBSERVED_DELAY => {
                let delay = lock(&self.pace).max_delay().mseconds();
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
        if transition == gst::StateChange::PausedToReady {
            // The pads can only stop when the streaming thread no longer waits for the model.
            self.loader.set_flushing(true);
        }
        self.parent_change_state(transition)
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
        let settings = self.settings().clone();
        let before = self.latency();
        let request = loading::request(&self.obj(), &settings)?;
        gst::info!(CAT, imp = self, "{request:?}");
        let loaded = move |element: &super::NemoStt| Self::from_obj(element).announce_latency(before);
        self.loader.begin(&self.obj(), request, loaded);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.loader.cancel(&self.obj());
        *self.state() = State::default();
        lock(&self.pace).reset();
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
        // Our order of preference, not that of whoever is downstream: markup only where plain text is not taken.
        let mut preferred = Format::caps().intersect_with_mode(&other, gst::CapsIntersectMode::First);
        preferred.fixate();
        preferred
    }

    fn set_caps(&self, _incaps: &gst::Caps, outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let format = Format::of(outcaps);
        gst::debug!(CAT, imp = self, "output is {format:?}");
        let mut state = self.state();
        state.format = format;
        if let Some(session) = &mut state.session {
            session.set_format(format);
        }
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if direction == gst::PadDirection::Src
            && let gst::QueryViewMut::Latency(latency) = query.view_mut()
        {
            let (live, min, max) = latency.result();
            lock(&self.pace).set_upstream(live, min);
            let ours = self.latency();
            latency.set(live, min.saturating_add(ours), max.map(|max| max.saturating_add(ours)));
        }
        true
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        use gst::EventView;
        gst::log!(CAT, imp = self, "{event:?}");
        match event.view() {
            EventView::FlushStart(_) => self.loader.set_flushing(true),
            EventView::FlushStop(_) => {
                self.loader.set_flushing(false);
                if let Some(session) = &mut self.state().session {
                    session.flush();
                }
                lock(&self.pace).reset();
            }
            EventView::Eos(_) | EventView::SegmentDone(_) | EventView::StreamStart(_) => self.drain(),
            EventView::Caps(caps) => {
                // Upstream may repeat itself in the middle of a word.
                let current = self.obj().sink_pad().current_caps();
                if current.is_none_or(|current| *current != *caps.caps()) {
                    self.drain();
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
                return self.new_segment(time, &event);
            }
            EventView::Gap(gap) => {
                let (pts, duration) = gap.get();
                return self
                    .give(|session, settings| session.gap(pts, duration, settings))
                    .is_ok();
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        // Text that comes late is no reason to drop audio: neither BaseTransform's QoS nor upstream shall hear of it.
        if event.type_() == gst::EventType::Qos {
            return true;
        }
        self.parent_src_event(event)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        if let Some(buffer) = self.take_queued_buffer() {
            gst::trace!(CAT, imp = self, "{buffer:?}");
            if self.is_too_late(&buffer) {
                self.give(|session, settings| session.skip(&buffer, settings))?;
            } else {
                self.give(|session, settings| session.audio(buffer, settings))?;
            }
        }
        // What there was is pushed already, in order with its events.
        Ok(GenerateOutputSuccess::NoOutput)
    }
}

impl NemoStt {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What the element adds to the pipeline's latency.
    fn latency(&self) -> gst::ClockTime {
        let settings = self.settings().clone();
        let chunk = loading::latency(&settings, self.loader.ready().as_ref());
        let ours = chunk + settings.hold() + settings.processing();
        // Text that is shifted by this much may come that much later.
        ours.saturating_sub(settings.lateness())
    }

    fn announce_latency(&self, before: gst::ClockTime) {
        if self.latency() != before {
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }

    /// Waits for the model and makes a session with it, unless there is one.
    fn ensure_session(&self) -> Result<(), gst::FlowError> {
        if self.state().session.is_some() {
            return Ok(());
        }
        let since = Instant::now();
        let waited = self.loader.wait();
        lock(&self.pace).excuse(since.elapsed());
        let recognizer = waited.map_err(|reason| {
            // What went wrong is on the bus already. `Error` would make the source post a second, meaningless error.
            gst::debug!(CAT, imp = self, "no model: {reason:?}");
            gst::FlowError::Flushing
        })?;
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
        let made = {
            let mut state = self.state();
            let made = Session::new(&recognizer, state.segment.clone(), state.format);
            made.map(|session| state.session = Some(session))
        };
        made.map_err(|error| self.fail(&error))
    }

    fn fail(&self, error: &Error) -> gst::FlowError {
        gst::element_imp_error!(self, gst::StreamError::Failed, ("{error}"));
        gst::FlowError::Error
    }

    /// Lets the session do something and gives out what comes of it; an error ends the stream.
    fn give(&self, act: impl FnOnce(&mut Session, &Settings) -> Result<(), Error>) -> Result<(), gst::FlowError> {
        self.ensure_session()?;
        let settings = self.settings().clone();
        let result = match &mut self.state().session {
            Some(session) => act(session, &settings),
            None => return Err(gst::FlowError::Flushing),
        };
        result.map_err(|error| self.fail(&error))?;
        // The lock is let go before anything leaves.
        while let Some(item) = self.pop() {
            let since = Instant::now();
            self.give_out(item)?;
            lock(&self.pace).excuse(since.elapsed());
        }
        Ok(())
    }

    fn pop(&self) -> Option<Item> {
        self.state().session.as_mut()?.pop()
    }

    fn give_out(&self, item: Item) -> Result<(), gst::FlowError> {
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
        }
        Ok(())
    }

    /// Says everything heard so far. What becomes of it does not change what happens next, so errors are only noted.
    fn drain(&self) {
        if self.state().session.is_none() {
            return;
        }
        if let Err(error) = self.give(|session, settings| session.restart(settings)) {
            gst::debug!(CAT, imp = self, "drained into {error:?}");
        }
    }

    /// Takes a segment, and sends it on with its base shifted by `lateness`.
    fn new_segment(&self, segment: &Segment, event: &gst::event::Event) -> bool {
        let same = is_same_segment(&self.state().segment, segment);
        if !same {
            self.drain();
        }
        {
            let mut state = self.state();
            state.segment = segment.clone();
            if let Some(session) = &mut state.session {
                session.set_segment(segment.clone());
            }
        }
        let mut shifted = segment.clone();
        let base = segment.base().unwrap_or_default() + self.settings().lateness();
        shifted.set_base(base);
        let seqnum = event.seqnum();
        self.parent_sink_event(gst::event::Segment::builder(&shifted).seqnum(seqnum).build())
    }

    /// Watches how late audio of a live source is heard; says so when it is too late, and whether to leave it out.
    fn is_too_late(&self, buffer: &gst::BufferRef) -> bool {
        let settings = self.settings().clone();
        let Some(pts) = buffer.pts() else { return false };
        let end = pts + buffer.duration().unwrap_or_default();
        let (running, stream) = {
            let state = self.state();
            (state.segment.to_running_time(end), state.segment.to_stream_time(end))
        };
        let now = self.obj().current_running_time();
        let (verdict, max_delay) = {
            let mut pace = lock(&self.pace);
            let verdict = pace.judge(running, now, settings.processing(), settings.overload);
            (verdict, pace.max_delay())
        };
        if verdict.grew {
            self.obj().notify(MAX_OBSERVED_DELAY);
        }
        if verdict.warn {
            let details = gst::Structure::builder("nemostt/excessive-delay")
                .field("new-observed-max-delay", max_delay)
                .field("latency", settings.processing())
                .build();
            gst::element_imp_warning!(
                self,
                gst::CoreError::Clock,
                (
                    "computing does not keep up: audio is heard {} after it came, property latency allows {}. Use \
                     more threads, a smaller lookahead, a smaller model or the GPU, or raise latency",
                    verdict.delay, settings.processing()
                ),
                details: details
            );
            let obj = self.obj();
            let qos = gst::message::Qos::builder(true)
                .running_time(running)
                .stream_time(stream)
                .timestamp(pts)
                .duration(buffer.duration())
                .src(&*obj);
            let _ = obj.post_message(qos.build());
        }
        verdict.skip
    }
}

fn audio_caps() -> gst::Caps {
    gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::S16le)
        .rate(SAMPLE_RATE as i32)
        .channels(1)
        .build()
}
