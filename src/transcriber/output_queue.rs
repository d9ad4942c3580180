// SPDX-License-Identifier: MIT OR Apache-2.0

//! What leaves the element: text buffers, events between them, and bus messages, in the order they were made.
//!
//! The queue keeps the promises of the source pad: text and GAPs cover all time once, running time never steps back, and a
//! segment is announced when the first text or GAP in it comes, not while text of the one before is still pending.

use std::{collections::VecDeque, sync::Arc};

use super::{
    payload::{Format, Payload},
    segment::Segment,
    timestamps::{Moment, signed},
};
use crate::text::EndReason;

/// Tells text elements downstream that a sentence is over: gst-plugins-rs' `textaccumulate` and `tttocea608` act on it.
const FINAL_TRANSCRIPT: &str = "rstranscribe/final-transcript";
/// Length of the GAP at the start of a stream. Sinks need it to preroll, and `textoverlay` to let the first picture go, which may
/// begin a little after the segment does; no word is decided that early.
const FIRST_GAP: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// With `word_hold_time-until-next`, text stays at most this long after its end.
const LONGEST_STAY: gst::ClockTime = gst::ClockTime::from_seconds(3);

/// Something to push or post.
#[derive(Debug)]
pub(super) enum Item {
    Buffer(gst::Buffer),
    Event(gst::Event),
    /// Contents of an element message.
    Message(gst::Structure),
    /// Text of a warning.
    Warning(String),
    /// A text for the log.
    Log(Payload),
}

/// Collects items and keeps count of how far the output has come.
#[derive(Debug, Default)]
pub(super) struct OutputQueue {
    queue: VecDeque<Item>,
    /// The segment that downstream knows.
    segment: Option<Arc<Segment>>,
    /// Those that upstream sent since.
    expected: VecDeque<Arc<Segment>>,
    /// Shift of its running times.
    lateness: gst::ClockTime,
    /// End of the last buffer or gap, as a timestamp of the segment: nothing before it may be given out any more.
    position: gst::ClockTime,
    /// The next buffer does not follow the one before.
    discont: bool,
    /// Nothing followed the first segment yet.
    is_first: bool,
}

impl OutputQueue {
    /// `segment` will be announced before all later ones.
    pub(super) fn expect(&mut self, segment: Arc<Segment>) {
        self.expected.push_back(segment);
    }

    /// Sends `segment` downstream, unless it or a later one is there, and all that come before it.
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
                // Time up to the new segment belongs to the one before, as far as that goes.
                let boundary = segment.running(segment.start());
                let (known, until) = (known.clone(), known.at_running(boundary));
                if !known.is_reverse() {
                    self.gap_to(known.stop().map_or(until, |stop| until.min(stop)));
                }
                Some(segment.at_running(known.running(self.position)))
            }
            None => None,
        };
        self.queue.push_back(Item::Event(segment.event(self.lateness)));
        self.segment = Some(segment.clone());
        self.position = position.unwrap_or_else(|| segment.start());
        self.is_first = position.is_none() && !segment.is_reverse();
    }

    /// Whether nothing followed the first segment yet.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    /// Gives a short GAP at the start of a stream, so that what waits for something to start need not wait for text.
    pub(super) fn first_gap(&mut self) {
        if self.is_first {
            self.gap_to(self.position.saturating_add(FIRST_GAP));
        }
    }

    /// How far the output has come.
    pub(super) fn position(&self) -> Option<Moment> {
        let segment = self.segment.clone()?;
        Some(Moment {
            pts: self.position,
            segment,
        })
    }

    /// Shifts running times by `lateness` from now on. They do not step back: what would be before the position comes with it.
    pub(super) fn set_lateness(&mut self, lateness: gst::ClockTime) {
        let before = std::mem::replace(&mut self.lateness, lateness);
        let Some(segment) = self.segment.clone().filter(|_| before != lateness) else {
            return;
        };
        self.queue.push_back(Item::Event(segment.event(lateness)));
        let earlier = before.saturating_sub(lateness);
        let running = segment.running(self.position);
        self.position = segment.at_running(running.saturating_add(signed(earlier)));
    }

    /// The next text does not follow what came before.
    pub(super) fn restart(&mut self) {
        self.discont = true;
    }

    /// Adds a text buffer. Text that comes too late for its time keeps its length, up to [`LONGEST_STAY`]. `next`: a time before
    /// which no other text will begin, if the text is to stay until then. `separator` ends the buffer's text.
    pub(super) fn text(
        &mut self,
        payload: &Payload,
        next: Option<gst::ClockTime>,
        format: Format,
        separator: Option<&str>,
    ) {
        self.announce(&payload.segment);
        let start = self.here(payload.start, &payload.segment).max(self.position);
        let own_end = self.here(payload.end, &payload.segment);
        // Late text is there to be read, but does not push what comes after it far into the future.
        let length = payload.end.saturating_sub(payload.start).min(LONGEST_STAY);
        let mut end = own_end.max(start.saturating_add(length));
        if let Some(next) = next {
            end = end.max(self.here(next, &payload.segment).min(end.saturating_add(LONGEST_STAY)));
        }
        self.gap_to(start);
        self.position = end;
        self.is_first = false;

        let mut buffer = gst::Buffer::from_slice(payload.bytes(format, separator));
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(start);
            buffer.set_duration(end - start);
            if std::mem::take(&mut self.discont) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        self.queue.push_back(Item::Buffer(buffer));
    }

    /// Adds a warning.
    pub(super) fn warning(&mut self, text: String) {
        self.queue.push_back(Item::Warning(text));
    }

    /// Adds a text for the log.
    pub(super) fn log(&mut self, payload: Payload) {
        self.queue.push_back(Item::Log(payload));
    }

    /// Adds a bus message.
    pub(super) fn message(&mut self, structure: gst::Structure) {
        self.queue.push_back(Item::Message(structure));
    }

    /// Adds the event at the end of an utterance, which says why it is over.
    pub(super) fn final_transcript(&mut self, ending: Option<EndReason>) {
        let structure = gst::Structure::builder(FINAL_TRANSCRIPT)
            .field_if_some("ended-by", ending.map(EndReason::name))
            .build();
        self.queue
            .push_back(Item::Event(gst::event::CustomDownstream::new(structure)));
    }

    /// There will be no text before `moment`.
    pub(super) fn gap_until(&mut self, moment: &Moment) {
        self.announce(&moment.segment);
        self.gap_to(self.here(moment.pts, &moment.segment));
    }

    /// There is no text for `duration` from `moment` on. Where time goes backwards, so do these.
    pub(super) fn pass(&mut self, moment: &Moment, duration: gst::ClockTime) {
        self.announce(&moment.segment);
        if moment.segment.is_reverse() {
            self.position = moment.pts;
        }
        self.gap_to(moment.pts.saturating_add(duration));
    }

    /// `pts` of `segment` as a timestamp of the segment that downstream knows, which may be a later one.
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
    }

    /// The oldest item.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.queue.pop_front()
    }

    /// Forgets everything, also what was not popped. Whatever comes next needs a segment.
    pub(super) fn flush(&mut self) {
        *self = Self {
            lateness: self.lateness,
            ..Self::default()
        };
    }

    /// After the end of the stream another one may begin at any time.
    pub(super) fn end(&mut self) {
        self.queue.clear();
        self.expected.clear();
        self.segment = None;
        self.discont = false;
        self.is_first = false;
    }
}
