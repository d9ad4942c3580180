// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the element does as time passes, with or without data from upstream.

use std::{sync::atomic::Ordering, time::Duration};

use gst::{prelude::*, subclass::prelude::*};
use gst_base::prelude::*;

use super::{
    imp::NemoStt,
    linked::linked_element,
    log::CAT,
    payload::Format,
    segment::Segment,
    segment::signed,
    session::{Now, PLAYBACK_STALL},
    source_pad,
    ticker::{SHORTEST_TICK, TICK, Wake},
};
use nemostt::EndReason;
use nemostt::sync::lock;

impl NemoStt {
    /// Starts the [`Ticker`](super::ticker::Ticker). Its thread holds no reference to the element while it sleeps.
    pub(super) fn start_ticker(&self) -> std::io::Result<()> {
        let weak = self.obj().downgrade();
        self.ticker.start(move |wake| {
            let element = weak.upgrade()?;
            let imp = element.imp();
            // A panic becomes an error message, as in the virtual methods.
            Some(gst::panic_to_error!(imp, TICK, { imp.wake(wake) }))
        })
    }

    /// Called when the ticker wakes up. Returns how long it may sleep next.
    fn wake(&self, wake: Wake) -> Duration {
        let obj = self.obj();
        if lock(&self.lateness).upstream().is_none() {
            self.ask_upstream();
        }
        if wake == Wake::Tick {
            // Whatever the streaming thread waits for.
            self.report_metrics();
        }
        let _stream = obj.sink_pad().stream_lock();
        if self.is_interrupted.load(Ordering::Relaxed) {
            return TICK;
        }
        let result = match wake {
            Wake::Finish => {
                self.drain(EndReason::Request);
                Ok(())
            }
            Wake::Announced => self.first_gap(),
            Wake::Tick => {
                self.send_initial_events();
                self.tick(true)
            }
        };
        if let Err(error) = result {
            // The streaming thread will get the same error with the next buffer.
            gst::debug!(CAT, imp = self, "the clock thread could not push: {error:?}");
        }
        let due = self.now(true).and_then(|now| self.session().due_in(&now));
        let due = due.and_then(|due| u64::try_from(due).ok()).map(Duration::from_nanos);
        due.map_or(TICK, |due| due.clamp(SHORTEST_TICK, TICK))
    }

    /// Pushes a short GAP at the start of the stream, so that a prerolling sink does not have to wait for text. Live
    /// pipelines do not preroll.
    pub(super) fn first_gap(&self) -> Result<(), gst::FlowError> {
        if self.session().awaits_first_gap() && !lock(&self.lateness).upstream().is_some_and(|(live, _)| live) {
            self.session().out.queue.first_gap();
            self.push_output()?;
        }
        Ok(())
    }

    /// Queries upstream for its latency and whether it is live, in case no LATENCY query came from downstream.
    pub(super) fn ask_upstream(&self) {
        let mut query = gst::query::Latency::new();
        if self.obj().sink_pad().peer_query(&mut query) {
            let (live, min, _) = query.result();
            lock(&self.lateness).set_upstream(live, min);
        }
    }

    /// Sends STREAM_START, CAPS and a default segment if a live source has not, so that it does not hold up elements
    /// that wait for text. Most sources send STREAM_START early, but their segment only with the first buffer
    /// (`GstBaseSrc`); behind a closed `valve`, not even STREAM_START arrives.
    pub(super) fn send_initial_events(&self) {
        if lock(&self.published).had_segment || !self.session().needs_segment() {
            return;
        }
        let Some(now) = self.now(true).filter(|now| now.live) else {
            return;
        };
        // After a flush, upstream again has one latency's time to send its segment.
        let since = signed(lock(&self.published).no_segment_since);
        if now.edge() < since {
            return;
        }
        let obj = self.obj();
        let src = obj.src_pad();
        if src.sticky_event::<gst::event::StreamStart>(0).is_none() {
            let id = src.create_stream_id(&*obj, Some("text"));
            let start = gst::event::StreamStart::builder(&id).group_id(gst::GroupId::next());
            src.push_event(source_pad::text_stream(start, &id).build());
        }
        if !src.has_current_caps() {
            let accepted = src.allowed_caps().unwrap_or_else(Format::caps);
            let caps = Format::preferred(&accepted, self.settings().adds_to_screen());
            self.set_format(&caps);
            src.push_event(gst::event::Caps::new(&caps));
        }
        let has_partials = self.partial_pad().is_some();
        let mut session = self.session();
        session.out.queue.set_partials(has_partials);
        session.set_segment(Segment::default());
        session.begin_output();
    }

    /// Does what is due at the current time. `is_idle`: no data is being processed.
    pub(super) fn tick(&self, is_idle: bool) -> Result<(), gst::FlowError> {
        let Some(now) = self.now(is_idle) else { return Ok(()) };
        let settings = self.settings();
        let result = self.session().tick(&now, &settings);
        self.push_output()?;
        result.map_err(|error| self.fail(&error))?;
        if is_idle {
            // The tick may have released withheld audio.
            self.steps(&settings)?;
        }
        self.publish_state();
        Ok(())
    }

    /// The current time, and the time since data last arrived. `None` unless the element is PLAYING with a clock and
    /// upstream has answered a LATENCY query.
    pub(super) fn now(&self, is_idle: bool) -> Option<Now> {
        let obj = self.obj();
        let (live, upstream) = lock(&self.lateness).upstream()?;
        if obj.current_state() != gst::State::Playing {
            return None;
        }
        let running = obj.current_running_time()?;
        let last = *lock(&self.published).last_data.get_or_insert(running);
        let settings = self.settings();
        let active = lock(&self.published).active;
        // The output's running time is shifted, so that sinks show it later by as much.
        let configured = lock(&self.lateness).configured();
        let configured = configured.map(|configured| signed(configured.saturating_add(active.lateness)));
        let idle = match is_idle {
            true => signed(running.saturating_sub(last)),
            false => 0,
        };
        Some(Now {
            running: signed(running),
            idle,
            live,
            upstream: signed(upstream),
            plays: !live && idle >= PLAYBACK_STALL && has_syncing_sink(obj.src_pad()),
            latency: signed(self.processing_latency()),
            cue_delay: signed(active.cue_delay()),
            word_hold_time: signed(settings.word_hold_time(active.output)),
            configured,
        })
    }
}

/// Whether a sink downstream of `pad` synchronizes to the clock. Only the sinks know, so this follows the links to
/// them.
fn has_syncing_sink(pad: &gst::Pad) -> bool {
    let Some(element) = linked_element(pad) else {
        return false;
    };
    if element.element_flags().contains(gst::ElementFlags::SINK) {
        return !element.has_property_with_type("sync", bool::static_type()) || element.property("sync");
    }
    element.src_pads().iter().any(has_syncing_sink)
}
