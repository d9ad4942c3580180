// SPDX-License-Identifier: MIT OR Apache-2.0

//! What leaves the pad `partial_src`: the utterance in progress, whenever it changes, as JSON.
//!
//! A buffer has the time up to which sound had been processed, not that of its words, so that buffers never go back. The output
//! is at least as far as that of the pad `src`, whose segments and GAPs it follows.

use std::sync::Arc;

use super::segment::Segment;

/// Something for the pad `partial_src`.
#[derive(Debug)]
pub(super) enum PartialItem {
    Buffer(gst::Buffer),
    Event(gst::Event),
}

/// How far the output is.
#[derive(Debug, Default)]
pub(super) struct PartialOutput {
    /// End of the last buffer or GAP, as a timestamp in the segment announced last.
    position: gst::ClockTime,
}

impl PartialOutput {
    /// Output that is as far as that of `src`.
    pub(super) fn at(position: gst::ClockTime) -> Self {
        Self { position }
    }

    /// Announces a segment, in which `src` is at `position`; `before` was the one before.
    pub(super) fn segment(
        &mut self,
        event: gst::Event,
        segment: &Arc<Segment>,
        before: Option<&Arc<Segment>>,
        position: gst::ClockTime,
    ) -> PartialItem {
        let own = before.map(|before| segment.at_running(before.running(self.position)));
        self.position = own.map_or(position, |own| own.max(position));
        PartialItem::Event(event)
    }

    /// Running times in `segment` are shifted back by `earlier` nanoseconds: the position is that much later.
    pub(super) fn shift(&mut self, segment: &Segment, earlier: i64) {
        let running = segment.running(self.position);
        self.position = segment.at_running(running.saturating_add(earlier));
    }

    /// A GAP up to `pts`, unless the output is there.
    pub(super) fn gap_to(&mut self, pts: gst::ClockTime) -> Option<PartialItem> {
        let duration = pts.checked_sub(self.position).filter(|gap| !gap.is_zero())?;
        let gap = gst::event::Gap::builder(self.position).duration(duration);
        self.position = pts;
        Some(PartialItem::Event(gap.build()))
    }

    /// A buffer at `pts` or, if it is later, where the output is.
    pub(super) fn buffer(&mut self, contents: Vec<u8>, pts: gst::ClockTime) -> impl Iterator<Item = PartialItem> {
        let gap = self.gap_to(pts);
        let mut buffer = gst::Buffer::from_slice(contents);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(self.position);
        }
        gap.into_iter().chain([PartialItem::Buffer(buffer)])
    }
}
