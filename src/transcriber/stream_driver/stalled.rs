// SPDX-License-Identifier: MIT OR Apache-2.0

//! What happens while input stalls: the stream is saved and decoded as if its audio ended here; when input resumes, it goes on
//! from where it was.

use super::StreamDriver;
use crate::transcriber::{
    delivery::Delivery,
    settings::Settings,
    stall::{Due, Stall},
};
use nemostt::{EndReason, Event, Result};

/// Encoder frames by which a word may be later when it is decoded again.
const RECOGNIZABLE: u64 = 4;

impl StreamDriver {
    /// Input has stalled: saves the stream, and decodes the audio so far as if it ended here.
    pub(in crate::transcriber) fn begin_stall(&mut self, settings: &Settings) -> Result<()> {
        let Some(end) = self.end().filter(|_| self.stall.is_none() && !self.stream.is_waiting()) else {
            return Ok(());
        };
        let samples = self.stream.samples();
        self.stream.save(&mut self.snapshot);
        self.stream
            .finish_with_reason(EndReason::Pause, self.padding(settings))?;
        if self.stream.is_waiting() {
            // There is nothing to emit early without a server.
            return self.stream.restore(&self.snapshot);
        }
        self.take_events();
        let mut events = std::mem::take(&mut self.events);
        // What is in progress is as it was with the audio so far.
        events.retain(|event| !matches!(event, Event::Partial(_)));
        let is_cut = self.loudness.ends_in_speech();
        self.stall = Some(Stall::new(events, end.running(), samples, is_cut, self.frame));
        Ok(())
    }

    /// Running time at which audio ended, in nanoseconds, if input is stalled.
    pub(in crate::transcriber) fn stalled_since(&self) -> Option<i64> {
        self.stall.as_ref().map(|stall| stall.end)
    }

    /// Emits what is due while input stalls.
    pub(in crate::transcriber) fn release(&mut self, due: Due, out: &mut Delivery, settings: &Settings) {
        let Some(stall) = &mut self.stall else { return };
        let samples = self.stream.samples();
        out.processed_until(self.timestamps.at(samples));
        while let Some(event) = stall.next(due, out.is_by_word()) {
            out.event_early(event, samples, &self.timestamps, settings);
        }
        if !stall.has_words(out.is_by_word())
            && let Some(end) = self.timestamps.at(samples)
        {
            out.advance(&end, settings);
        }
    }

    /// Input has resumed: restores the stream to where it was.
    pub(super) fn resume(&mut self, out: &mut Delivery) {
        if self.stall.take().is_none() {
            return;
        }
        let until = self.stream.samples();
        if self.stream.restore(&self.snapshot).is_err() {
            // Unreachable: the snapshot is of this stream. Starting over at least emits nothing twice.
            self.start_over(out, None);
            return;
        }
        if out.has_emitted_early() {
            // Words that were emitted cannot become a part of a number or phrase any more. With all of their audio, they may be
            // a little later.
            self.stream.separate_words_until(until + RECOGNIZABLE * self.frame);
        }
    }
}
