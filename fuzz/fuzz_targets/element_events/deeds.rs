// SPDX-License-Identifier: MIT OR Apache-2.0

//! Actions of application, downstream and clock, at any time and from any thread.

use gst::prelude::*;

use crate::{
    acts::{Deed, State},
    build,
    player::{Player, lock},
};

impl Player {
    pub fn do_deed(&self, deed: Deed) {
        match deed {
            Deed::Flush { reset, segment } => {
                self.harness.event(gst::event::FlushStart::new());
                let upstream = &mut *lock(&self.upstream);
                self.harness.event(gst::event::FlushStop::new(reset));
                upstream.due = 0;
                // Sent by upstream's thread, because it may block on downstream.
                upstream.segment = segment;
            }
            Deed::FlushStart => {
                self.harness.event(gst::event::FlushStart::new());
            }
            Deed::Property(property) => crate::property::set(self.element(), property),
            Deed::Query(query) => {
                let mut query = build::query(query);
                // Only upstream can send serialized queries.
                if query.is_upstream() && !query.is_serialized() {
                    self.sink.peer_query(query.make_mut());
                }
            }
            Deed::Seek {
                rate,
                flags,
                kind,
                start,
                stop,
            } => {
                // GStreamer warns if snap flags are used without KEY_UNIT.
                let snaps = gst::SeekFlags::SNAP_BEFORE | gst::SeekFlags::SNAP_AFTER;
                let event = gst::event::Seek::new(
                    build::rate(rate),
                    gst::SeekFlags::from_bits_truncate(flags.into()) - snaps,
                    gst::SeekType::Set,
                    build::value(kind, start),
                    gst::SeekType::Set,
                    build::value(kind, stop),
                );
                self.sink.push_event(event);
            }
            Deed::Qos { proportion, diff, time } => {
                // The difference must not be below minus the timestamp.
                let time = self.time(time, 0);
                let diff = match time {
                    Some(time) => diff.max(-i64::try_from(time.nseconds()).unwrap_or(i64::MAX)),
                    None => diff,
                };
                let proportion = f64::from(proportion) / 64.0;
                self.sink
                    .push_event(gst::event::Qos::new(gst::QOSType::Underflow, proportion, diff, time));
            }
            Deed::Latency(time) => {
                let latency = self.time(time, 200_000_000).unwrap_or_default();
                self.sink.push_event(gst::event::Latency::new(latency));
            }
            Deed::Navigation => {
                let structure = gst::Structure::new_empty("application/x-gst-navigation");
                self.sink.push_event(gst::event::Navigation::new(structure));
            }
            Deed::Reconfigure => {
                self.sink.push_event(gst::event::Reconfigure::new());
            }
            Deed::Step(amount) => {
                let amount = gst::ClockTime::from_nseconds(amount.into());
                self.sink.push_event(gst::event::Step::new(amount, 1.0, true, false));
            }
            Deed::Finish(way) => self.finish(way),
            Deed::Pass(ms) => self.pass(gst::ClockTime::from_mseconds(ms.into())),
            Deed::Jump(to) => self.clock.set(build::time(to)),
            Deed::Clock(clock) => self.set_clock(clock),
            Deed::BaseTime(time) => self.element().set_base_time(build::time(time)),
            Deed::Upstream(live, ms) => {
                self.harness
                    .set_upstream_latency(live, gst::ClockTime::from_mseconds(ms.into()));
            }
            Deed::Downstream(flow) => *lock(&self.flow) = flow,
            Deed::Play(plays) => {
                // To leave READY, upstream would have to be started, too.
                if self.element().current_state() >= gst::State::Paused {
                    let state = if plays { gst::State::Playing } else { gst::State::Paused };
                    let _ = self.element().set_state(state);
                }
            }
            Deed::Stop(fully) => self.stop(if fully { State::Null } else { State::Ready }),
            Deed::Messages => lock(&self.messages).extend(self.harness.messages()),
        }
    }

    fn pass(&self, time: gst::ClockTime) {
        self.clock.set(self.clock.internal_time().saturating_add(time));
    }

    fn finish(&self, way: u8) {
        let structure = gst::Structure::new_empty("nemostt/finish");
        match way % 3 {
            0 => self.element().emit_by_name::<()>("finish", &[]),
            1 => {
                self.sink.push_event(gst::event::CustomUpstream::new(structure));
            }
            _ => {
                self.harness.event(gst::event::CustomDownstreamOob::new(structure));
            }
        }
    }
}
