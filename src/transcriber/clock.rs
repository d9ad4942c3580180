// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the element does when time passes, whatever upstream does.

use std::{sync::atomic::Ordering, time::Duration};

use gst::{prelude::*, subclass::prelude::*};
use gst_base::prelude::*;

use super::{
    imp::{CAT, NemoStt, preferred},
    payload::Format,
    segment::Segment,
    session::{Now, PLAYBACK_STALL},
    source_pad,
    ticker::{SHORTEST_TICK, TICK, Wake},
    timestamps::signed,
};
use nemostt::EndReason;
use nemostt::sync::lock;

impl NemoStt {
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
            // The next buffer meets it, too.
            gst::debug!(CAT, imp = self, "the clock's thread could not push: {error:?}");
        }
        let due = self.now(true).and_then(|now| self.session().due_in(&now));
        let due = due.and_then(|due| u64::try_from(due).ok()).map(Duration::from_nanos);
        due.map_or(TICK, |due| due.clamp(SHORTEST_TICK, TICK))
    }

    /// What waits for something to start, as a sink that prerolls, need not wait for text. Live, nothing prerolls.
    pub(super) fn first_gap(&self) -> Result<(), gst::FlowError> {
        if self.session().awaits_first_gap() && !lock(&self.lateness).upstream().is_some_and(|(live, _)| live) {
            self.session().out.queue.first_gap();
            self.push_output()?;
        }
        Ok(())
    }

    /// Whether upstream is live, if nothing downstream has asked.
    pub(super) fn ask_upstream(&self) {
        let mut query = gst::query::Latency::new();
        if self.obj().sink_pad().peer_query(&mut query) {
            let (live, min, _) = query.result();
            lock(&self.lateness).set_upstream(live, min);
        }
    }

    /// A live source that sends nothing must not hold up what waits for text. Most announce their stream, but their segment only
    /// with the first buffer (`GstBaseSrc`); behind a closed `valve` not even the stream is known.
    pub(super) fn send_initial_events(&self) {
        if lock(&self.published).had_segment || !self.session().needs_segment() {
            return;
        }
        let Some(now) = self.now(true).filter(|now| now.live) else {
            return;
        };
        // After a flush, upstream has as long.
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
            let caps = preferred(&src.allowed_caps().unwrap_or_else(Format::caps));
            self.session().out.format = Format::of(&caps);
            src.push_event(gst::event::Caps::new(&caps));
        }
        let mut session = self.session();
        session.set_segment(Segment::default());
        session.begin_output();
    }

    /// Time passes. `is_idle`: no data is being processed.
    pub(super) fn tick(&self, is_idle: bool) -> Result<(), gst::FlowError> {
        let Some(now) = self.now(is_idle) else { return Ok(()) };
        let settings = self.settings();
        let result = self.session().tick(&now, &settings);
        self.push_output()?;
        result.map_err(|error| self.fail(&error))?;
        if is_idle {
            // Audio may have been withheld.
            self.steps(&settings)?;
        }
        self.publish_state();
        Ok(())
    }

    /// What time it is. `None` where time does not pass or nothing waits for the clock.
    pub(super) fn now(&self, is_idle: bool) -> Option<Now> {
        let obj = self.obj();
        let (live, upstream) = lock(&self.lateness).upstream()?;
        if obj.current_state() != gst::State::Playing {
            return None;
        }
        let running = obj.current_running_time()?;
        let last = *lock(&self.published).last_data.get_or_insert(running);
        let configured = lock(&self.lateness).configured().map(signed);
        let settings = self.settings();
        let word_hold_time = settings.word_hold_time(lock(&self.published).active.output);
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
            word_hold_time: signed(word_hold_time),
            configured,
        })
    }
}

/// Whether a sink downstream of `pad` waits for the clock. (Nothing in a pipeline says so but its sinks.)
fn has_syncing_sink(pad: &gst::Pad) -> bool {
    let Some(parent) = pad.peer().and_then(|peer| peer.parent()) else {
        return false;
    };
    let element = match parent.downcast::<gst::Element>() {
        Ok(element) => element,
        // Out of a bin, through its ghost pad.
        Err(parent) => {
            return parent
                .downcast::<gst::Pad>()
                .is_ok_and(|ghost| has_syncing_sink(&ghost));
        }
    };
    if element.element_flags().contains(gst::ElementFlags::SINK) {
        return !element.has_property_with_type("sync", bool::static_type()) || element.property("sync");
    }
    element.src_pads().iter().any(has_syncing_sink)
}
