// SPDX-License-Identifier: MIT OR Apache-2.0

//! One run from READY to PAUSED and back: a recogniser stream with its place in time and what it has to say.

use super::{
    audio::{Alignment, BYTES_PER_SAMPLE, Follows, samples},
    output::{Item, Output},
    settings::Settings,
};
use crate::{
    error::Result,
    recognizer::{Recognizer, Stream},
    text::Event,
};

/// State of the element while it is started.
pub(super) struct Session {
    recognizer: Recognizer,
    stream: Stream,
    alignment: Alignment,
    segment: gst::FormattedSegment<gst::ClockTime>,
    output: Output,
}

impl Session {
    pub(super) fn new(recognizer: Recognizer) -> Result<Self> {
        Ok(Self {
            stream: recognizer.stream()?,
            alignment: Alignment::new(recognizer.config().front_end.sample_rate),
            recognizer,
            segment: gst::FormattedSegment::new(),
            output: Output::default(),
        })
    }

    /// Hears a buffer.
    pub(super) fn audio(&mut self, buffer: gst::Buffer, settings: &Settings) -> Result<()> {
        let rate = self.recognizer.config().front_end.sample_rate;
        let Some(buffer) =
            gst_audio::audio_buffer_clip(buffer, self.segment.upcast_ref(), rate, BYTES_PER_SAMPLE as u32)
        else {
            return Ok(());
        };
        let Ok(map) = buffer.map_readable() else {
            return Ok(());
        };
        let discont = buffer.flags().contains(gst::BufferFlags::DISCONT);
        let count = (map.size() / BYTES_PER_SAMPLE) as u64;
        let skipped = self.place(buffer.pts(), discont, count, settings)?;
        self.stream.accept_s16(samples(&map).skip(skipped as usize))?;
        self.collect(settings);
        Ok(())
    }

    /// Hears silence in place of audio that upstream says there is none of.
    pub(super) fn gap(
        &mut self,
        pts: gst::ClockTime,
        duration: Option<gst::ClockTime>,
        settings: &Settings,
    ) -> Result<()> {
        let duration = duration.unwrap_or(gst::ClockTime::ZERO);
        if duration > settings.gap_threshold() {
            self.restart(settings)?;
            self.output.begin(pts);
            self.output.gap_until(pts.saturating_add(duration));
            return Ok(());
        }
        let count = self.alignment.samples(duration);
        let skipped = self.place(Some(pts), false, count, settings)?;
        self.silence(count.saturating_sub(skipped))?;
        self.collect(settings);
        Ok(())
    }

    /// Says everything heard so far and is ready to hear something new.
    pub(super) fn restart(&mut self, settings: &Settings) -> Result<()> {
        if self.stream.samples() == 0 {
            return Ok(());
        }
        let padding = gst::ClockTime::from_mseconds(settings.eos_padding.into());
        self.stream.finish(self.alignment.samples(padding))?;
        self.collect(settings);
        if let Some(end) = self.alignment.time(self.stream.samples()) {
            self.output.gap_until(end);
        }
        self.stream.reset();
        self.alignment.reset();
        Ok(())
    }

    /// Forgets everything but the model.
    pub(super) fn flush(&mut self) {
        self.stream.reset();
        self.alignment.reset();
        self.output.flush();
    }

    /// Takes a new segment. Before, unless it is the one there is but for its position, everything must be said.
    pub(super) fn set_segment(&mut self, segment: gst::FormattedSegment<gst::ClockTime>) {
        if !self.is_same_segment(&segment) {
            self.output.new_segment();
        }
        self.segment = segment;
    }

    /// Whether `segment` differs from the present one in nothing but its position.
    pub(super) fn is_same_segment(&self, segment: &gst::FormattedSegment<gst::ClockTime>) -> bool {
        let mut moved = self.segment.clone();
        moved.set_position(segment.position());
        moved == *segment
    }

    /// The next thing to push or post.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.output.pop()
    }

    /// Makes the stream end where the buffer begins, and returns how many samples of it were heard already.
    fn place(&mut self, pts: Option<gst::ClockTime>, discont: bool, count: u64, settings: &Settings) -> Result<u64> {
        let limit = self.alignment.samples(settings.gap_threshold());
        match self.alignment.place(pts, discont, count, self.stream.samples()) {
            Follows::Directly => Ok(0),
            Follows::First(pts) => {
                self.output.begin(pts);
                Ok(0)
            }
            Follows::Hole(hole) if hole <= limit => {
                self.silence(hole)?;
                Ok(0)
            }
            Follows::Overlap(overlap) if overlap <= limit => Ok(overlap),
            Follows::Hole(_) | Follows::Overlap(_) => {
                self.restart(settings)?;
                if let Follows::First(pts) = self.alignment.place(pts, true, count, 0) {
                    self.output.begin(pts);
                }
                Ok(0)
            }
        }
    }

    fn silence(&mut self, samples: u64) -> Result<()> {
        self.stream.accept_s16((0..samples).map(|_| 0))
    }

    /// Turns events of the stream into output.
    fn collect(&mut self, settings: &Settings) {
        while let Some(event) = self.stream.next_event() {
            let Event::Word(word) = event else { continue };
            let times = self.alignment.time(word.start).zip(self.alignment.time(word.end));
            if let Some((start, end)) = times {
                self.output
                    .word(&word, start, end, &self.segment, settings.post_messages);
            }
        }
        if let Some(settled) = self.alignment.time(self.stream.settled()) {
            self.output.gap_until(settled);
        }
    }
}
