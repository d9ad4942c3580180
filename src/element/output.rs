// SPDX-License-Identifier: MIT OR Apache-2.0

//! What leaves the element: text buffers, events between them, and bus messages, in the order they were made.

use std::collections::VecDeque;

use super::piece::{Format, Piece};
use crate::text::Ending;

/// Tells text elements downstream that a sentence is over: gst-plugins-rs' `textaccumulate` and `tttocea608` act on it.
const FINAL_TRANSCRIPT: &str = "rstranscribe/final-transcript";

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

    /// Adds a text buffer.
    pub(super) fn buffer(&mut self, piece: &Piece, format: Format) {
        // Pieces come in order and end before the next begins, but two may begin in the same frame.
        let start = self.position.map_or(piece.start, |position| piece.start.max(position));
        let end = piece.end.max(start);
        self.gap_until(start);
        self.position = Some(end);

        let mut buffer = gst::Buffer::from_slice(piece.bytes(format));
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(start);
            buffer.set_duration(end - start);
            if std::mem::take(&mut self.discont) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
        }
        self.queue.push_back(Item::Buffer(buffer));
    }

    /// Adds a bus message.
    pub(super) fn message(&mut self, structure: gst::Structure) {
        self.queue.push_back(Item::Message(structure));
    }

    /// Adds the event at the end of an utterance, which says why it is over.
    pub(super) fn final_transcript(&mut self, ending: Option<Ending>) {
        let structure = gst::Structure::builder(FINAL_TRANSCRIPT)
            .field_if_some("ended-by", ending.map(Ending::name))
            .build();
        self.queue
            .push_back(Item::Event(gst::event::CustomDownstream::new(structure)));
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
