// SPDX-License-Identifier: MIT OR Apache-2.0

//! Places input in the stream, and withholds audio until its timestamps are understood.

use std::sync::Arc;

use super::{
    super::{
        delivery::Delivery,
        input::{BYTES_PER_SAMPLE, Content, Input},
        settings::Settings,
        timestamps::{JumpCause, Placement},
    },
    StreamDriver, Work,
};
use nemostt::{EndReason, Result};

impl StreamDriver {
    /// Decides where `input` belongs, and queues the work that follows from it.
    pub(super) fn align(&mut self, mut input: Input, out: &mut Delivery, settings: &Settings) -> Result<()> {
        let is_new_segment = self
            .withheld
            .back()
            .is_some_and(|last| !Arc::ptr_eq(&last.segment, &input.segment));
        if self.withholds() && (input.confirmed || is_new_segment) {
            self.work.push_front(Work::Align(input));
            self.stop_withholding();
            return Ok(());
        }
        let waiting: u64 = self.withheld.iter().map(Input::samples).sum();
        let count = self.stream.samples() + waiting;
        let placement = self.timestamps.align(&input.arrival(), &input.segment, count);
        if placement == Placement::Withhold {
            self.withheld.push_back(input);
            if let Some(cause) = self.jump_cause() {
                self.resolve(cause);
            }
            return Ok(());
        }
        if self.withholds() {
            // Timestamps are as expected again: what was withheld was late.
            self.work.push_front(Work::Align(input));
            self.resolve(JumpCause::Late);
            return Ok(());
        }
        let limit = self.samples(settings.gap_threshold());
        let len = input.samples();
        match (placement, &input.content) {
            // Silence does not replace audio that is already there.
            (Placement::Overlap(samples), Content::Gap(len)) if samples >= *len => return Ok(()),
            (Placement::Hole(samples) | Placement::Overlap(samples), _) if samples > limit => {
                input.confirmed = true;
                self.work.push_front(Work::Align(input));
                self.work.push_front(Work::Finish(EndReason::Pause));
                return Ok(());
            }
            _ => {}
        }
        self.resume(out);
        if placement == Placement::First {
            out.queue.restart();
            if let Some(first) = self.timestamps.at(0) {
                out.queue.gap_until(&first);
            }
        }
        let (silence, skipped) = match placement {
            Placement::Hole(samples) => (samples, 0),
            Placement::Overlap(samples) => (0, samples.min(len)),
            _ => (0, 0),
        };
        if silence > 0 || skipped > 0 {
            self.rest = None;
        }
        match input.content {
            Content::Audio(bytes) => self
                .work
                .push_front(Work::Audio(bytes, skipped as usize * BYTES_PER_SAMPLE)),
            Content::Gap(samples) => self.work.push_front(Work::Silence(samples - skipped)),
        }
        if silence > 0 {
            self.work.push_front(Work::Silence(silence));
        }
        Ok(())
    }

    /// Why timestamps of withheld audio jumped, if that can be told by now.
    fn jump_cause(&self) -> Option<JumpCause> {
        let (first, last, between) = self.withheld_stamps()?;
        self.timestamps.jump_cause(first, last, between)
    }

    fn likely_cause(&self) -> JumpCause {
        match self.withheld_stamps() {
            Some((first, last, between)) => self.timestamps.most_likely_cause(first, last, between),
            None => JumpCause::Hole,
        }
    }

    /// Timestamps of the first and the last withheld buffer that has one, and the samples from the start of the first
    /// to that of the last.
    fn withheld_stamps(&self) -> Option<(gst::ClockTime, gst::ClockTime, u64)> {
        let first = self.withheld.front()?.pts?;
        let last = self.withheld.iter().rposition(|input| input.pts.is_some())?;
        let between = self.withheld.iter().take(last).map(Input::samples).sum();
        Some((first, self.withheld.get(last)?.pts?, between))
    }

    /// Queues withheld audio before all other work, placed according to `cause`.
    fn resolve(&mut self, cause: JumpCause) {
        self.timestamps.resolve(cause);
        while let Some(mut input) = self.withheld.pop_back() {
            match cause {
                // Only the first one needs confirmation: the others are off by the same amount.
                JumpCause::Hole => input.confirmed |= self.withheld.is_empty(),
                JumpCause::Late => input.pts = None,
            }
            self.work.push_front(Work::Align(input));
        }
    }

    /// Stops withholding audio, although nothing has arrived that explains its timestamps: the likelier cause is
    /// assumed.
    pub(in crate::transcriber) fn stop_withholding(&mut self) {
        if self.withholds() {
            self.resolve(self.likely_cause());
        }
    }
}
