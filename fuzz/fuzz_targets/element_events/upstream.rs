// SPDX-License-Identifier: MIT OR Apache-2.0

//! Serialized data, events and queries from upstream. Anything is possible, but like a real source it sends no data
//! without a stream start and a segment, because GStreamer would warn about that.

use gst::prelude::*;

use crate::{
    acts::{Segment, Served},
    build,
    harness::time_of,
    player::{MOST, MOST_BUFFERS, Player, Upstream, lock},
};

impl Player {
    fn has<T: gst::event::StickyEventType>(&self) -> bool {
        self.src.sticky_event::<T>(0).is_some()
    }

    pub fn serve(&self, served: Served) {
        // Everything is sent with the lock held.
        let upstream = &mut *lock(&self.upstream);
        if let Some(segment) = upstream.segment.take() {
            self.segment(segment, upstream);
        }
        let can_flow = self.has::<gst::event::StreamStart>() && self.has::<gst::event::Segment>();
        match served {
            Served::Audio {
                sound,
                count,
                cut,
                stamp,
                is_discont,
            } if can_flow => {
                let count = usize::from(count).min(MOST - upstream.heard);
                upstream.heard += count;
                let cut = usize::from(cut).max(count / MOST_BUFFERS) + 1;
                for piece in sound.samples(count).chunks(cut) {
                    let mut buffer = crate::harness::buffer(piece, self.time(stamp, upstream.due));
                    if is_discont {
                        buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
                    }
                    upstream.due = upstream.due.saturating_add(time_of(piece.len()).nseconds());
                    let _ = self.harness.push(buffer);
                }
            }
            Served::Buffer {
                sound,
                bytes,
                pts,
                dts,
                duration,
                offset,
                flags,
            } if can_flow => {
                let samples = usize::from(bytes).div_ceil(2).min(MOST - upstream.heard);
                upstream.heard += samples;
                let mut data: Vec<u8> = sound.samples(samples).into_iter().flat_map(i16::to_le_bytes).collect();
                data.truncate(bytes.into());
                let mut buffer = gst::Buffer::from_slice(data);
                let writable = buffer.make_mut();
                writable.set_pts(self.time(pts, upstream.due));
                writable.set_dts(self.time(dts, upstream.due));
                writable.set_duration(self.time(duration, time_of(samples).nseconds()));
                writable.set_offset(offset.map_or(u64::MAX, u64::from));
                writable.set_flags(gst::BufferFlags::from_bits_truncate(flags));
                upstream.due = upstream.due.saturating_add(time_of(samples).nseconds());
                let _ = self.harness.push(buffer);
            }
            Served::Audio { .. } | Served::Buffer { .. } => {}
            Served::Gap(start, duration) => {
                if let Some(start) = self.time(start, upstream.due).filter(|_| can_flow) {
                    let duration = self.time(duration, 20_000_000);
                    upstream.due = start.saturating_add(duration.unwrap_or_default()).nseconds();
                    self.harness
                        .event(gst::event::Gap::builder(start).duration(duration).build());
                }
            }
            Served::Segment(segment) => self.segment(segment, upstream),
            Served::StreamStart(number) => {
                let id = format!("stream-{}", number % 3);
                self.harness.event(gst::event::StreamStart::new(&id));
            }
            Served::Caps(caps) => {
                // The first caps precede the segment.
                if self.has::<gst::event::StreamStart>()
                    && (self.has::<gst::event::Caps>() || !self.has::<gst::event::Segment>())
                {
                    self.harness.event(gst::event::Caps::new(&build::caps(caps)));
                }
            }
            Served::Tags(number) => {
                let mut tags = gst::TagList::new();
                let writable = tags.make_mut();
                writable.add::<gst::tags::Title>(&"a title", gst::TagMergeMode::Append);
                if number % 2 == 0 {
                    writable.add::<gst::tags::Bitrate>(&64_000, gst::TagMergeMode::Append);
                }
                if number % 3 == 0 {
                    writable.remove::<gst::tags::Title>();
                }
                if can_flow {
                    self.harness.event(gst::event::Tag::new(tags));
                }
            }
            Served::SegmentDone(kind, value) if can_flow => {
                self.harness
                    .event(gst::event::SegmentDone::new(build::value(kind, value)));
            }
            Served::Finish if can_flow => {
                let structure = gst::Structure::new_empty("nemostt/finish");
                self.harness.event(gst::event::CustomDownstream::new(structure));
            }
            Served::Other(other) if can_flow => {
                self.harness.event(build::event(other));
            }
            Served::Query(query) if can_flow => {
                let mut query = build::query(query);
                if query.is_downstream() {
                    self.src.peer_query(query.make_mut());
                }
            }
            Served::Eos if can_flow => {
                self.harness.event(gst::event::Eos::new());
            }
            Served::SegmentDone(..) | Served::Finish | Served::Other(_) | Served::Query(_) | Served::Eos => {}
            Served::FlushStop(reset) => {
                self.harness.event(gst::event::FlushStop::new(reset));
                upstream.due = 0;
            }
        }
    }

    fn segment(&self, segment: Segment, upstream: &mut Upstream) {
        if !self.has::<gst::event::StreamStart>() {
            return;
        }
        let due = upstream.due;
        let event = match segment {
            Segment::Plain => gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()),
            Segment::Shifted(ms) => {
                let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
                let start = gst::ClockTime::from_mseconds(ms.into());
                segment.set_start(start);
                segment.set_base(build::time(due));
                upstream.due = start.nseconds();
                gst::event::Segment::new(&segment)
            }
            Segment::Any {
                rate,
                applied_rate,
                flags,
                base,
                offset,
                start,
                stop,
                time,
                position,
                duration,
            } => {
                let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
                segment.set_rate(build::rate(rate));
                segment.set_applied_rate(build::rate(applied_rate));
                segment.set_flags(gst::SegmentFlags::from_bits_truncate(flags.into()));
                segment.set_base(self.time(base, due));
                segment.set_offset(self.time(offset, 0));
                segment.set_start(self.time(start, due));
                segment.set_stop(self.time(stop, due));
                segment.set_time(self.time(time, due));
                segment.set_position(self.time(position, due));
                segment.set_duration(self.time(duration, due));
                gst::event::Segment::new(&segment)
            }
            Segment::Of(kind, numbers, rate) => {
                let mut segment = gst::Segment::new();
                segment.reset_with_format(build::format(kind));
                segment.set_rate(build::rate(rate));
                let [start, stop, base, time] = numbers.map(|number| build::value(kind, number.into()));
                segment.set_start(start);
                segment.set_stop(stop);
                segment.set_base(base);
                segment.set_time(time);
                gst::event::Segment::new(&segment)
            }
        };
        self.harness.event(event);
    }
}
