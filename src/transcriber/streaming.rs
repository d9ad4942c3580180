// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the streaming thread does: hands work to the session, runs it step by step, and pushes the output of each step.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use gst::{prelude::*, subclass::prelude::*};
use gst_base::prelude::*;

use super::{
    delivery,
    imp::NemoStt,
    input::{BYTES_PER_SAMPLE, SAMPLE_RATE},
    log::CAT,
    output_queue::Item,
    segment::signed,
    segment::{Segment, Time},
    session::Session,
    settings::{MAX_OBSERVED_DELAY, Settings},
    stream_driver::Boosted,
    ticker::TICK,
};
use nemostt::sample_time;
use nemostt::sync::lock;
use nemostt::{EndReason, Error};

/// Computing that takes longer than this is interrupted by ticks.
const BETWEEN_TICKS: Duration = Duration::from_millis(40);

impl NemoStt {
    /// Waits for the model and creates a stream driver with it, unless there is one. Ticks while waiting.
    pub(super) fn ensure_driver(&self) -> Result<(), gst::FlowError> {
        if self.session().has_driver() {
            return Ok(());
        }
        let loaded = loop {
            match self.loader.wait(TICK) {
                Ok(Some(loaded)) => break loaded,
                Ok(None) => self.tick(false)?,
                Err(reason) => {
                    // The error is already on the bus. `Error` would make the source post a second, meaningless one.
                    gst::debug!(CAT, imp = self, "no model: {reason:?}");
                    return Err(gst::FlowError::Flushing);
                }
            }
        };
        gst::info!(CAT, imp = self, "model {:?}", loaded.recognizer.config());
        let rate = loaded.recognizer.config().front_end.sample_rate;
        if rate != SAMPLE_RATE {
            gst::element_imp_error!(
                self,
                gst::LibraryError::Settings,
                ("the model expects {rate} Hz; nemostt supports {SAMPLE_RATE} Hz only")
            );
            return Err(gst::FlowError::Error);
        }
        let result = self.session().set_recognizer(&loaded.recognizer, &loaded.method);
        result.map_err(|error| self.fail(&error))?;
        #[cfg(feature = "triton")]
        self.session().set_interrupt(&self.interrupt);
        self.begin_metrics();
        Ok(())
    }

    pub(super) fn fail(&self, error: &Error) -> gst::FlowError {
        #[cfg(feature = "triton")]
        if matches!(error, Error::Interrupted) {
            return gst::FlowError::Flushing;
        }
        gst::element_imp_error!(self, gst::StreamError::Failed, ("{error}"));
        gst::FlowError::Error
    }

    /// Hands work to the session with `begin` and runs it step by step, pushing the output of each step at once.
    /// Returns the time that computing took. An error ends the stream.
    pub(super) fn process(&self, begin: impl FnOnce(&mut Session, &Settings)) -> Result<Duration, gst::FlowError> {
        self.first_gap()?;
        self.ensure_driver()?;
        let settings = self.settings();
        let has_partials = self.partial_pad().is_some();
        {
            let mut session = self.session();
            session.out.queue.set_partials(has_partials);
            begin(&mut session, &settings);
        }
        self.work(&settings)
    }

    pub(super) fn work(&self, settings: &Settings) -> Result<Duration, gst::FlowError> {
        let computing = self.steps(settings)?;
        self.publish_state();
        let running = self.obj().current_running_time();
        lock(&self.published).last_data = running;
        if let Some(running) = running {
            self.session().note_processed(signed(running));
        }
        Ok(computing)
    }

    /// Runs all pending work. Returns the time that computing took.
    pub(super) fn steps(&self, settings: &Settings) -> Result<Duration, gst::FlowError> {
        self.update_boosted(settings);
        let mut computing = Duration::ZERO;
        let mut ticks = 1;
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
            #[cfg(feature = "triton")]
            if self.session().is_waiting() {
                // For a server. The output follows the clock meanwhile.
                let since = Instant::now();
                self.interrupt.wait(TICK);
                computing += since.elapsed();
                self.tick(false)?;
                self.report_metrics();
                continue;
            }
            if computing > BETWEEN_TICKS * ticks {
                // A large buffer takes long, and the ticker has to wait for the stream lock meanwhile.
                ticks += 1;
                self.tick(false)?;
                self.report_metrics();
            }
        }
        Ok(computing)
    }

    /// Builds the boosting tree, if phrases have changed. For thousands of them it takes longer than a step, so the session is not
    /// locked.
    fn update_boosted(&self, settings: &Settings) {
        let needed = self.session().needs_boosted(settings);
        if let Some(recognizer) = needed {
            let boosted = Boosted::new(&recognizer, settings.hotwords.phrases());
            self.session().hand_over(boosted);
        }
    }

    pub(super) fn push_output(&self) -> Result<(), gst::FlowError> {
        // The lock is released before anything is pushed.
        loop {
            let item = self.session().pop();
            match item {
                Some(item) => self.push(item)?,
                None => return Ok(()),
            }
        }
    }

    pub(super) fn push(&self, item: Item) -> Result<(), gst::FlowError> {
        let obj = self.obj();
        match item {
            Item::Buffer(buffer) => {
                gst::trace!(CAT, imp = self, "text {buffer:?}");
                obj.src_pad().push(buffer)?;
            }
            Item::Event(event) => {
                let _ = obj.src_pad().push_event(event);
            }
            Item::Partial(item) => self.push_partial(item)?,
            Item::Message(structure) => {
                let message = gst::message::Element::builder(structure).src(&*obj).build();
                let _ = obj.post_message(message);
            }
            Item::Warning(text) => gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{text}")),
            Item::DeviceFailure(text) => gst::element_imp_warning!(self, gst::ResourceError::Failed, ("{text}")),
            #[cfg(feature = "triton")]
            Item::Remote(change) => self.post_remote_change(&change),
            Item::Log(payload) => {
                let level = delivery::log_level(payload.is_final);
                gst::log_with_level!(CAT, level, imp = self, "{}", payload.log_line());
            }
        }
        Ok(())
    }

    /// Posts a message about a change between servers, the CPU and waiting: a warning, or, when a server is used, an info message.
    #[cfg(feature = "triton")]
    fn post_remote_change(&self, change: &nemostt::RemoteChange) {
        let text = &change.text;
        let details = gst::Structure::builder("nemostt/remote")
            .field("state", change.state.name())
            .field("server", change.server.as_deref())
            .build();
        if change.state == nemostt::RemoteState::Connected {
            gst::element_imp_info!(self, gst::ResourceError::Failed, ("{text}"), details: details);
        } else {
            gst::element_imp_warning!(self, gst::ResourceError::Failed, ("{text}"), details: details);
        }
    }

    /// Updates the state that queries report, and posts a LATENCY message if the settings in effect changed the
    /// latency.
    pub(super) fn publish_state(&self) {
        let (active, position, metrics) = {
            let session = self.session();
            (session.out.active(), session.out.queue.position(), session.metrics())
        };
        let before = {
            let mut published = lock(&self.published);
            published.position = position;
            published.metrics = metrics;
            published.active
        };
        if before != active {
            let latency = self.latency();
            lock(&self.published).active = active;
            self.announce_latency(latency);
            if (before.output, before.cues.mode) != (active.output, active.cues.mode) {
                // The format for `tttocea608` depends on it.
                self.obj().reconfigure_src();
            }
        }
    }

    /// Finishes and pushes everything so far. Errors are only logged, because the caller goes on either way.
    pub(super) fn drain(&self, ending: EndReason) {
        if !self.session().has_driver() {
            return;
        }
        if let Err(error) = self.process(|session, _| session.finish(ending)) {
            gst::debug!(CAT, imp = self, "could not drain: {error:?}");
        }
    }

    /// Handles a segment. It is sent downstream, with its base shifted by `lateness`, once the text before it has been.
    pub(super) fn new_segment(&self, segment: &Time, seqnum: gst::Seqnum) -> bool {
        lock(&self.published).had_segment = true;
        {
            let has_partials = self.partial_pad().is_some();
            let mut session = self.session();
            session.out.queue.set_partials(has_partials);
            session.set_segment(Segment::new(segment.clone(), Some(seqnum)));
            session.begin_output();
        }
        self.ticker.announce();
        if let Err(error) = self.push_output() {
            gst::debug!(CAT, imp = self, "could not push after a segment: {error:?}");
        }
        self.publish_state();
        !self.is_interrupted.load(Ordering::Relaxed)
    }

    /// Duration of a buffer in running time.
    pub(super) fn running_length(&self, buffer: &gst::BufferRef) -> gst::ClockTime {
        let samples = (buffer.size() / BYTES_PER_SAMPLE) as u64;
        let length = gst::ClockTime::from_nseconds(sample_time::samples_to_ns(samples, SAMPLE_RATE));
        self.session().segment().running_duration(length)
    }

    /// Checks whether computing keeps up with a live source, and warns if it does not. Returns whether to skip the
    /// buffer.
    pub(super) fn check_lateness(&self, buffer: &gst::BufferRef) -> bool {
        let settings = self.settings();
        let Some(pts) = buffer.pts() else { return false };
        let end = pts.saturating_add(buffer.duration().unwrap_or_default());
        let segment = self.session().segment();
        let now = self.obj().current_running_time();
        let (report, max_delay, is_live) = {
            let mut lateness = lock(&self.lateness);
            let report = lateness.assess(
                segment.running(end),
                now,
                settings.processing_latency(),
                settings.overload,
            );
            let is_live = lateness.upstream().is_none_or(|(is_live, _)| is_live);
            (report, lateness.max_delay(), is_live)
        };
        self.session().set_live(is_live);
        if report.grew {
            self.obj().notify(MAX_OBSERVED_DELAY);
        }
        if report.warn {
            let details = gst::Structure::builder("nemostt/excessive-delay")
                .field("new-observed-max-delay", max_delay)
                .field("latency", settings.processing_latency())
                .build();
            gst::element_imp_warning!(
                self,
                gst::CoreError::Clock,
                (
                    "computing does not keep up: it is {} behind the audio, and {}",
                    report.delay,
                    settings.latency_advice()
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
