// SPDX-License-Identifier: MIT OR Apache-2.0

//! What leaves the element: text buffers, GAP events between them, and bus messages, in the order they were made.

use std::collections::VecDeque;

use crate::text::Word;

/// Something to push or post.
#[derive(Debug)]
pub(super) enum Item {
    Buffer(gst::Buffer),
    Event(gst::Event),
    /// Contents of an element message.
    Message(gst::Structure),
}

/// Collects items and keeps count of how far the output has come.
#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<Item>,
    /// End of the last buffer or gap: nothing before it may be given out any more.
    position: Option<gst::ClockTime>,
    /// The next buffer does not follow the one before.
    discont: bool,
}

impl Output {
    /// A stream begins at `pts`.
    pub(super) fn begin(&mut self, pts: gst::ClockTime) {
        match self.position {
            // Time went on while nothing was heard.
            Some(position) if position <= pts => self.gap_until(pts),
            _ => self.position = Some(pts),
        }
        self.discont = true;
    }

    /// Adds a word that lasts from `start` to `end`, and its message if `message` is set.
    pub(super) fn word(
        &mut self,
        word: &Word,
        start: gst::ClockTime,
        end: gst::ClockTime,
        segment: &gst::FormattedSegment<gst::ClockTime>,
        message: bool,
    ) {
        // Words come in order and end before the next begins, but two may begin in the same frame.
        let start = self.position.map_or(start, |position| start.max(position));
        let end = end.max(start);
        self.gap_until(start);
        self.position = Some(end);

        let mut buffer = gst::Buffer::from_slice(word.text.clone().into_bytes());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(start);
            buffer.set_duration(end - start);
            if std::mem::take(&mut self.discont) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        if message {
            self.queue
                .push_back(Item::Message(structure(word, start, end, segment)));
        }
        self.queue.push_back(Item::Buffer(buffer));
    }

    /// Nothing more will be said before `time`.
    pub(super) fn gap_until(&mut self, time: gst::ClockTime) {
        let Some(position) = self.position.filter(|&position| position < time) else {
            return;
        };
        let gap = gst::event::Gap::builder(position).duration(time - position).build();
        self.queue.push_back(Item::Event(gap));
        self.position = Some(time);
    }

    /// The oldest item.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.queue.pop_front()
    }

    /// Forgets everything, also what was not popped.
    pub(super) fn flush(&mut self) {
        *self = Self::default();
    }

    /// A new segment begins: times before it mean nothing any more.
    pub(super) fn new_segment(&mut self) {
        self.position = None;
    }
}

/// The message of a word. Times are in nanoseconds; `running-time` and `stream-time` are of the word's start.
fn structure(
    word: &Word,
    start: gst::ClockTime,
    end: gst::ClockTime,
    segment: &gst::FormattedSegment<gst::ClockTime>,
) -> gst::Structure {
    gst::Structure::builder("nemostt")
        .field("text", &word.text)
        .field("start-time", start)
        .field("end-time", end)
        .field("running-time", segment.to_running_time(start))
        .field("stream-time", segment.to_stream_time(start))
        .field("confidence", f64::from(word.confidence))
        .field("is-final", true)
        .build()
}
