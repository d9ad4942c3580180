// SPDX-License-Identifier: MIT OR Apache-2.0

//! Queue of everything that leaves the element, in order: text buffers, events and bus messages.
//!
//! The queue guarantees what the source pad promises: text and GAPs cover all time exactly once, running time never
//! goes backward, and a segment is announced with the first text or GAP in it, not while text of the previous one is
//! still pending.

use std::{collections::VecDeque, sync::Arc};

use super::{
    partial_output::{PartialItem, PartialOutput},
    payload::Payload,
    segment::{Segment, signed},
    timestamps::Moment,
};
use nemostt::EndReason;

/// Tells text elements downstream that a sentence is over: gst-plugins-rs' `textaccumulate` and `tttocea608` act on it.
const FINAL_TRANSCRIPT: &str = "rstranscribe/final-transcript";
/// Length of the GAP at the start of a stream. Sinks need it to preroll, and `textoverlay` to release its first
/// picture, which may begin a little after the segment. No word is decoded that early.
const FIRST_GAP: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// With `hold-until-next`, text lasts at most this long beyond its own end.
const LONGEST_STAY: gst::ClockTime = gst::ClockTime::from_seconds(3);

/// Something to push or post.
#[derive(Debug)]
pub(super) enum Item {
    Buffer(gst::Buffer),
    Event(gst::Event),
    /// For the pad of partials.
    Partial(PartialItem),
    /// Contents of an element message.
    Message(gst::Structure),
    /// Text of a warning about a setting.
    Warning(String),
    /// Text of a warning that the device has failed.
    DeviceFailure(Arc<str>),
    /// The stream goes on on another server, on the CPU, or waits.
    #[cfg(feature = "triton")]
    Remote(nemostt::RemoteChange),
    /// A text for the log.
    Log(Payload),
}

/// Collects items and tracks the output position.
#[derive(Debug, Default)]
pub(super) struct OutputQueue {
    queue: VecDeque<Item>,
    /// The segment that was announced last.
    segment: Option<Arc<Segment>>,
    /// Segments that upstream has sent since then.
    expected: VecDeque<Arc<Segment>>,
    /// Shift of running times.
    lateness: gst::ClockTime,
    /// End of the last buffer or GAP, as a timestamp in `segment`: nothing may be emitted before it.
    position: gst::ClockTime,
    /// The next buffer does not continue the previous one.
    discont: bool,
    /// Nothing has followed the first segment yet.
    is_first: bool,
    /// The output of partials, if there is a pad for them.
    partials: Option<PartialOutput>,
}

impl OutputQueue {
    /// Adds `segment` to those that are announced before all later ones.
    pub(super) fn expect(&mut self, segment: Arc<Segment>) {
        self.expected.push_back(segment);
    }

    /// Announces `segment` and all expected ones before it downstream, unless it or a later one already was.
    pub(super) fn announce(&mut self, segment: &Arc<Segment>) {
        while self.expected.front().is_some_and(|next| next.number <= segment.number) {
            if let Some(next) = self.expected.pop_front() {
                self.announce_one(&next);
            }
        }
        self.announce_one(segment);
    }

    fn announce_one(&mut self, segment: &Arc<Segment>) {
        let position = match &self.segment {
            Some(known) if segment.number <= known.number => return,
            Some(known) => {
                // The old segment covers the time up to the new one, unless it stops earlier.
                let boundary = segment.running(segment.start());
                let (known, until) = (known.clone(), known.at_running(boundary));
                if !known.is_reverse() {
                    self.gap_to(known.stop().map_or(until, |stop| until.min(stop)));
                }
                Some(segment.at_running(known.running(self.position)))
            }
            None => None,
        };
        let event = segment.event(self.lateness);
        self.queue.push_back(Item::Event(event.clone()));
        let before = self.segment.replace(segment.clone());
        self.position = position.unwrap_or_else(|| segment.start());
        if let Some(partials) = &mut self.partials {
            let item = partials.segment(event, segment, before.as_ref(), self.position);
            self.queue.push_back(Item::Partial(item));
        }
        self.is_first = position.is_none() && !segment.is_reverse();
    }

    /// Announces the segments after those that stop before the running time `until`, in nanoseconds: sinks drop text after the
    /// stop of its segment.
    fn leave_stopped(&mut self, until: i64) {
        let has_stopped = |segment: &Arc<Segment>| segment.stop().is_some_and(|stop| segment.running(stop) <= until);
        while self.segment.as_ref().is_some_and(has_stopped)
            && let Some(next) = self.expected.pop_front()
        {
            self.announce_one(&next);
        }
    }

    /// Whether nothing has followed the first segment yet.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    /// Queues a short GAP at the start of a stream, so that elements that preroll do not have to wait for text.
    pub(super) fn first_gap(&mut self) {
        if self.is_first {
            self.gap_to(self.position.saturating_add(FIRST_GAP));
        }
    }

    /// The output position: the end of the last buffer or GAP.
    pub(super) fn position(&self) -> Option<Moment> {
        let segment = self.segment.clone()?;
        Some(Moment {
            pts: self.position,
            segment,
        })
    }

    /// Shifts running times by `lateness` from now on. They never go backward: if the shift becomes smaller, the
    /// position advances by the difference.
    pub(super) fn set_lateness(&mut self, lateness: gst::ClockTime) {
        let before = std::mem::replace(&mut self.lateness, lateness);
        let Some(segment) = self.segment.clone().filter(|_| before != lateness) else {
            return;
        };
        let event = segment.event(lateness);
        if self.partials.is_some() {
            self.queue.push_back(Item::Partial(PartialItem::Event(event.clone())));
        }
        self.queue.push_back(Item::Event(event));
        let earlier = before.saturating_sub(lateness);
        let running = segment.running(self.position);
        self.position = segment.at_running(running.saturating_add(signed(earlier)));
        if let Some(partials) = &mut self.partials {
            partials.shift(&segment, signed(earlier));
        }
    }

    /// Marks the next buffer as DISCONT.
    pub(super) fn restart(&mut self) {
        self.discont = true;
    }

    /// Queues a text buffer with these contents and the times of `payload`. Text that is too late for its time moves to the
    /// output position and keeps its length, up to [`LONGEST_STAY`]. `next`: if the text is to last until the next one, a
    /// time before which no other text will begin. Returns whether it was too late.
    pub(super) fn text(&mut self, payload: &Payload, contents: Vec<u8>, next: Option<gst::ClockTime>) -> bool {
        self.announce(&payload.segment);
        self.leave_stopped(payload.segment.running(payload.start));
        let own_start = self.here(payload.start, &payload.segment);
        let is_late = own_start < self.position;
        let start = own_start.max(self.position);
        let own_end = self.here(payload.end, &payload.segment);
        // Late text must stay long enough to be read, but must not delay later text by much.
        let length = payload.end.saturating_sub(payload.start).min(LONGEST_STAY);
        let mut end = own_end.max(start.saturating_add(length));
        if let Some(next) = next {
            end = end.max(self.here(next, &payload.segment).min(end.saturating_add(LONGEST_STAY)));
        }
        self.gap_to(start);
        self.position = end;
        self.is_first = false;
        self.partials_follow();

        let mut buffer = gst::Buffer::from_slice(contents);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(start);
            buffer.set_duration(end - start);
            if std::mem::take(&mut self.discont) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        self.queue.push_back(Item::Buffer(buffer));
        is_late
    }

    /// Queues a warning.
    pub(super) fn warning(&mut self, text: String) {
        self.queue.push_back(Item::Warning(text));
    }

    /// Queues a warning that the device has failed.
    pub(super) fn device_failure(&mut self, text: Arc<str>) {
        self.queue.push_back(Item::DeviceFailure(text));
    }

    /// Queues a message about a server.
    #[cfg(feature = "triton")]
    pub(super) fn remote_change(&mut self, change: nemostt::RemoteChange) {
        self.queue.push_back(Item::Remote(change));
    }

    /// Adds a text for the log.
    pub(super) fn log(&mut self, payload: Payload) {
        self.queue.push_back(Item::Log(payload));
    }

    /// Queues a bus message.
    pub(super) fn message(&mut self, structure: gst::Structure) {
        self.queue.push_back(Item::Message(structure));
    }

    /// Queues the event at the end of an utterance, which says why it ended.
    pub(super) fn final_transcript(&mut self, ending: Option<EndReason>) {
        let structure = gst::Structure::builder(FINAL_TRANSCRIPT)
            .field_if_some("ended-by", ending.map(EndReason::name))
            .build();
        self.queue
            .push_back(Item::Event(gst::event::CustomDownstream::new(structure)));
    }

    /// Queues a GAP up to `moment`: no more text begins before it.
    pub(super) fn gap_until(&mut self, moment: &Moment) {
        self.announce(&moment.segment);
        self.gap_to(self.here(moment.pts, &moment.segment));
    }

    /// Queues a GAP of `duration` from `moment` on. In reverse playback, such GAPs go backward, too.
    pub(super) fn pass(&mut self, moment: &Moment, duration: gst::ClockTime) {
        self.announce(&moment.segment);
        if moment.segment.is_reverse() {
            self.position = moment.pts;
        }
        self.gap_to(moment.pts.saturating_add(duration));
    }

    /// Converts `pts` of `segment` to a timestamp in the announced segment, which may be a later one.
    fn here(&self, pts: gst::ClockTime, segment: &Arc<Segment>) -> gst::ClockTime {
        match &self.segment {
            Some(known) if known.number != segment.number => known.at_running(segment.running(pts)),
            _ => pts,
        }
    }

    fn gap_to(&mut self, pts: gst::ClockTime) {
        if pts <= self.position {
            return;
        }
        let gap = gst::event::Gap::builder(self.position).duration(pts - self.position);
        self.queue.push_back(Item::Event(gap.build()));
        self.position = pts;
        self.is_first = false;
        self.partials_follow();
    }

    /// Sets whether there is a pad for partials.
    pub(super) fn set_partials(&mut self, is_wanted: bool) {
        if self.partials.is_some() != is_wanted {
            self.partials = is_wanted.then(|| PartialOutput::at(self.position));
        }
    }

    /// Whether there is a pad for partials.
    pub(super) fn has_partials(&self) -> bool {
        self.partials.is_some()
    }

    /// Queues an utterance in progress, or its end, for the pad of partials; sound has been processed up to `moment`.
    pub(super) fn partial(&mut self, contents: Vec<u8>, moment: &Moment) {
        self.announce(&moment.segment);
        let pts = self.here(moment.pts, &moment.segment);
        if let Some(partials) = &mut self.partials {
            self.queue.extend(partials.buffer(contents, pts).map(Item::Partial));
        }
    }

    /// The output of partials is at least as far as that of text.
    fn partials_follow(&mut self) {
        let gap = self
            .partials
            .as_mut()
            .and_then(|partials| partials.gap_to(self.position));
        self.queue.extend(gap.map(Item::Partial));
    }

    /// Removes the oldest item.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.queue.pop_front()
    }

    /// Clears everything, including items that were not popped. Further output needs a new segment.
    pub(super) fn flush(&mut self) {
        *self = Self {
            lateness: self.lateness,
            partials: self.partials.as_ref().map(|_| PartialOutput::default()),
            ..Self::default()
        };
    }

    /// Ends the stream; another one may begin at any time.
    pub(super) fn end(&mut self) {
        self.queue.clear();
        self.expected.clear();
        self.segment = None;
        self.discont = false;
        self.is_first = false;
    }
}
