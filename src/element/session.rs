// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the streaming thread works on: a recogniser stream with its place in time and what it has to say.

use super::{
    NemoSttOutput,
    audio::{Alignment, BYTES_PER_SAMPLE, Follows, samples},
    output::{Item, Output},
    piece::{Format, Piece},
    settings::Settings,
};
use crate::{
    error::Result,
    recognizer::{Recognizer, Stream},
    text::{Ending, Event, Pauses},
};

/// Time segment of the input.
pub(super) type Segment = gst::FormattedSegment<gst::ClockTime>;

/// State of the element from its first buffer until it stops.
pub(super) struct Session {
    stream: Stream,
    /// Milliseconds from one encoder frame to the next.
    frame_ms: u64,
    rate: u32,
    alignment: Alignment,
    segment: Segment,
    format: Format,
    output: Output,
    /// Utterances that are over.
    utterances: u64,
    /// What the stream was told that people speak.
    spoken: Option<String>,
    /// What the model says that people speak.
    language: Option<String>,
}

impl Session {
    pub(super) fn new(recognizer: &Recognizer, segment: Segment, format: Format) -> Result<Self> {
        let config = recognizer.config();
        let rate = config.front_end.sample_rate;
        Ok(Self {
            stream: recognizer.stream()?,
            frame_ms: config.frame_samples() * 1000 / u64::from(rate),
            rate,
            alignment: Alignment::new(rate),
            segment,
            format,
            output: Output::default(),
            utterances: 0,
            spoken: None,
            language: None,
        })
    }

    /// Hears a buffer.
    pub(super) fn audio(&mut self, buffer: gst::Buffer, settings: &Settings) -> Result<()> {
        let clipped =
            gst_audio::audio_buffer_clip(buffer, self.segment.upcast_ref(), self.rate, BYTES_PER_SAMPLE as u32);
        let Some(buffer) = clipped else {
            return Ok(());
        };
        let Ok(map) = buffer.map_readable() else {
            return Ok(());
        };
        let count = (map.size() / BYTES_PER_SAMPLE) as u64;
        if self.is_reverse() {
            // Speech backwards is no speech. Time goes on, so that nobody waits for text.
            self.pass(buffer.pts(), self.alignment.duration(count));
            return Ok(());
        }
        let discont = buffer.flags().contains(gst::BufferFlags::DISCONT);
        let skipped = self.place(buffer.pts(), discont, count, settings)?;
        self.stream.set_pauses(self.pauses(settings));
        if self.spoken.as_deref() != Some(settings.language()) {
            self.stream.set_language(settings.language())?;
            self.spoken = Some(settings.language().into());
        }
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
        if self.is_reverse() || duration > settings.gap_threshold() {
            self.restart(settings)?;
            self.pass(Some(pts), duration);
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

    /// Skips audio that there is no time for: the words so far are finished, and a gap takes the audio's place.
    pub(super) fn skip(&mut self, buffer: &gst::BufferRef, settings: &Settings) -> Result<()> {
        self.restart(settings)?;
        let count = (buffer.size() / BYTES_PER_SAMPLE) as u64;
        self.pass(buffer.pts(), self.alignment.duration(count));
        Ok(())
    }

    /// Forgets everything but the model.
    pub(super) fn flush(&mut self) {
        self.stream.reset();
        self.alignment.reset();
        self.output.flush();
        self.language = None;
    }

    /// Takes a new segment. Before, unless [it is the same](is_same_segment), everything must be said.
    pub(super) fn set_segment(&mut self, segment: Segment) {
        if !is_same_segment(&self.segment, &segment) {
            self.output.new_segment();
        }
        self.segment = segment;
    }

    pub(super) fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    /// The next thing to push or post.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.output.pop()
    }

    fn is_reverse(&self) -> bool {
        self.segment.rate() < 0.0
    }

    /// Lets time go by without hearing anything.
    fn pass(&mut self, pts: Option<gst::ClockTime>, duration: gst::ClockTime) {
        if let Some(pts) = pts {
            self.output.begin(pts);
            self.output.gap_until(pts.saturating_add(duration));
        }
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

    fn pauses(&self, settings: &Settings) -> Pauses {
        let frames = |ms: u32| (ms > 0).then(|| u64::from(ms).div_ceil(self.frame_ms));
        Pauses {
            word: frames(settings.word_hold),
            utterance: frames(settings.endpoint_silence),
            partials: settings.post_partials,
            ..Default::default()
        }
    }

    /// Turns events of the stream into output.
    fn collect(&mut self, settings: &Settings) {
        let by_word = settings.output == NemoSttOutput::Words;
        while let Some(event) = self.stream.next_event() {
            match event {
                Event::Token(_) => {}
                Event::Word(word) if by_word => self.give(std::slice::from_ref(&word), true, settings),
                Event::Word(_) => {}
                Event::Partial(partial) => self.give(&partial.words, false, settings),
                Event::Utterance(utterance) => {
                    if !by_word {
                        self.give(&utterance.words, true, settings);
                    }
                    self.output.final_transcript(utterance.ending);
                    self.utterances += 1;
                }
                Event::Language(language) => self.language = Some(language),
                Event::Turn(ending) if settings.post_messages => self.turn(ending),
                Event::Turn(_) => {}
            }
        }
        let settled = match by_word {
            true => self.stream.settled(),
            false => self.stream.settled_utterance(),
        };
        if let Some(settled) = self.alignment.time(settled) {
            self.output.gap_until(settled);
        }
    }

    /// Tells the application that the model heard the end of a turn.
    fn turn(&mut self, ending: Ending) {
        let time = self.alignment.time(self.stream.settled());
        let structure = gst::Structure::builder("nemostt-turn")
            .field("ended-by", ending.name())
            .field("time", time)
            .field("running-time", time.and_then(|time| self.segment.to_running_time(time)))
            .field("stream-time", time.and_then(|time| self.segment.to_stream_time(time)))
            .build();
        self.output.message(structure);
    }

    fn give(&mut self, words: &[crate::text::Word], is_final: bool, settings: &Settings) {
        let Some(mut piece) = Piece::new(words, self.utterances, is_final, |sample| self.alignment.time(sample)) else {
            return;
        };
        piece.language.clone_from(&self.language);
        if settings.post_messages || !is_final {
            self.output.message(piece.structure(&self.segment));
        }
        if is_final {
            self.output.buffer(&piece, self.format);
        }
    }
}

/// Whether two segments differ in nothing but their position.
pub(super) fn is_same_segment(a: &Segment, b: &Segment) -> bool {
    let mut moved = a.clone();
    moved.set_position(b.position());
    moved == *b
}
