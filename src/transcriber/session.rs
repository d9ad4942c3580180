// SPDX-License-Identifier: MIT OR Apache-2.0

//! State of the element from one start to the next stop: the segment, the [transcriber](StreamDriver) once there is a model, and
//! what is given out. Data drives it, and so does the clock: see [`Session::tick`].

use std::sync::Arc;

use super::{
    delivery::Delivery,
    input::{Content, Input},
    output_queue::Item,
    segment::Segment,
    settings::Settings,
    stall::Due,
    stream_driver::StreamDriver,
    timestamps::{BYTES_PER_SAMPLE, Moment, clock_time, signed},
};
use nemostt::{EndReason, Recognizer, Result};

/// A live source does not stall if the next buffer comes within the length of the last one and this, in nanoseconds, however late
/// it is.
const STALL_TIMEOUT: i64 = 150_000_000;
/// Nor does a file that is played: its container may hold audio in pieces.
pub(super) const PLAYBACK_STALL: i64 = 1_000_000_000;
/// Audio is not withheld longer than this if nothing comes that explains its timestamps, in nanoseconds.
const WITHHOLD_TIMEOUT: i64 = 1_000_000_000;
/// Audio cannot go on in a segment that begins later than this, in nanoseconds.
const MAX_SEGMENT_JUMP: i64 = 1_000_000_000;
/// A word that a stall cut in two waits for its other half for so long, in nanoseconds: networks stall for up to 2 s.
const CUT_WORD_WAIT: i64 = 2_500_000_000;
/// When a GAP is due, it reaches this much further than it must: there is one every 100 ms, not one for each buffer. (One that
/// is not due would hold up a sink that synchronizes, and with it the streaming thread.) In nanoseconds.
const GAP_LEAD: i64 = 100_000_000;
/// So far, if a word is pending that may begin there: up to the next tick.
const GAP_LEAD_BEFORE_TEXT: i64 = 50_000_000;

/// What time it is, in nanoseconds of running time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) running: i64,
    /// Time since data came last.
    pub(super) idle: i64,
    /// Whether upstream is live, and its latency.
    pub(super) live: bool,
    pub(super) upstream: i64,
    /// Whether a sink downstream waits for the clock.
    pub(super) plays: bool,
    /// Latency of this element.
    pub(super) latency: i64,
    /// Part of it for which words are held back.
    pub(super) word_hold_time: i64,
    /// What sinks wait for, if that is known.
    pub(super) configured: Option<i64>,
}

impl Now {
    /// What sinks show now, if they wait for the latency that is reported, or for less: all text before it must be there.
    pub(super) fn edge(&self) -> i64 {
        if !self.live {
            return self.running;
        }
        let reported = self.upstream.saturating_add(self.latency);
        // `transcriberbin` for one reports less than its transcriber does.
        let waited = match self.configured.filter(|&configured| configured < reported) {
            Some(configured) => configured.saturating_sub(GAP_LEAD),
            None => reported,
        };
        self.running.saturating_sub(waited)
    }
}

/// What the streaming thread works on.
#[derive(Default)]
pub(super) struct Session {
    pub(super) out: Delivery,
    transcriber: Option<StreamDriver>,
    /// The last one that came, and how many did.
    segment: Option<Arc<Segment>>,
    segments: u64,
    /// The buffer before was flagged DISCONT. Where all are, the flag says nothing.
    was_flagged: bool,
    /// Running time at which the last buffer ended, as it was stamped, and how long it lasted, in nanoseconds.
    stamped_end: i64,
    last_length: i64,
    /// Running time up to which there was input, in nanoseconds, once there was any or the clock asked.
    input_end: Option<i64>,
    /// Whether the last input was ahead of the clock on arrival.
    was_ahead: bool,
    /// Whether input stalls, and that was said.
    is_stalled: bool,
    /// Nothing is given out any more before a new stream or a flush.
    is_ended: bool,
}

impl Session {
    pub(super) fn has_transcriber(&self) -> bool {
        self.transcriber.is_some()
    }

    pub(super) fn set_recognizer(&mut self, recognizer: &Recognizer) -> Result<()> {
        self.transcriber = Some(StreamDriver::new(recognizer)?);
        Ok(())
    }

    /// Whether a segment is needed before anything can be given out.
    pub(super) fn needs_segment(&self) -> bool {
        self.segment.is_none() && !self.is_ended
    }

    /// The current segment, or one from 0 where upstream sends none.
    pub(super) fn segment(&mut self) -> Arc<Segment> {
        self.segment.get_or_insert_default().clone()
    }

    /// Takes a segment. Whether audio goes on in it without a hole is seen when it comes; downstream is told of the segment
    /// once everything before it is given out.
    pub(super) fn set_segment(&mut self, mut segment: Segment) {
        self.is_ended = false;
        self.segments += 1;
        segment.number = self.segments;
        let segment = Arc::new(segment);
        self.out.queue.expect(segment.clone());
        let before = self.segment.replace(segment.clone());
        let Some(transcriber) = &mut self.transcriber else {
            return;
        };
        let (Some(end), Some(before)) = (transcriber.end(), before) else {
            return;
        };
        let is_same_timeline = segment.runs_as(&before);
        // Audio may be withheld: its timestamps are all that is known of where it ends.
        let end = end.running().max(self.stamped_end);
        let starts_later = segment.running(segment.start()) > end.saturating_add(MAX_SEGMENT_JUMP);
        if segment.is_reverse() != before.is_reverse() || (starts_later && !is_same_timeline) {
            transcriber.finish(EndReason::Pause);
            return;
        }
        // Where timestamps mean what they meant, downstream may know at once.
        let position = self.out.queue.position();
        let holds_position = position.is_some_and(|position| segment.start() <= position.pts);
        if is_same_timeline && holds_position && !segment.is_reverse() && same_stream_time(&segment, &before) {
            self.out.queue.announce(&segment);
        }
    }

    /// Takes a buffer.
    pub(super) fn buffer(&mut self, buffer: gst::Buffer) {
        let segment = self.segment();
        let is_flagged = buffer.flags().contains(gst::BufferFlags::DISCONT);
        let was_flagged = std::mem::replace(&mut self.was_flagged, is_flagged);
        let confirmed = is_flagged && !was_flagged;
        let Some(transcriber) = &mut self.transcriber else {
            return;
        };
        let rate = super::imp::SAMPLE_RATE;
        let clipped = gst_audio::audio_buffer_clip(buffer, segment.upcast_ref(), rate, BYTES_PER_SAMPLE as u32);
        let Some(buffer) = clipped else { return };
        let pts = buffer.pts();
        let Ok(bytes) = buffer.into_mapped_buffer_readable() else {
            return;
        };
        let length = transcriber.duration((bytes.len() / BYTES_PER_SAMPLE) as u64);
        self.last_length = signed(segment.running_duration(length));
        if let Some(pts) = pts {
            self.stamped_end = segment.running(pts.saturating_add(length));
        }
        if segment.is_reverse() {
            // Speech backwards is not speech. Time goes on, so that downstream does not wait for text.
            self.pass(pts, length);
            return;
        }
        transcriber.push(Input {
            pts,
            segment,
            confirmed,
            content: Content::Audio(bytes),
        });
        self.input_came();
    }

    /// Takes a GAP event: there is silence, or after a long gap a new start.
    pub(super) fn gap(&mut self, pts: gst::ClockTime, duration: Option<gst::ClockTime>, settings: &Settings) {
        let segment = self.segment();
        let duration = duration.unwrap_or(gst::ClockTime::ZERO);
        self.was_flagged = false;
        let Some(transcriber) = &mut self.transcriber else {
            return;
        };
        if segment.is_reverse() || duration > settings.gap_threshold() {
            transcriber.finish(EndReason::Pause);
            self.pass(Some(pts), duration);
        } else {
            let samples = transcriber.samples(duration);
            transcriber.push(Input {
                pts: Some(pts),
                segment,
                confirmed: true,
                content: Content::Gap(samples),
            });
        }
        self.input_came();
    }

    /// Skips audio that there is no time for: the words so far are finished, and a gap takes the audio's place.
    pub(super) fn skip(&mut self, buffer: &gst::BufferRef) {
        let Some(transcriber) = &mut self.transcriber else {
            return;
        };
        transcriber.finish(EndReason::Pause);
        let length = transcriber.duration((buffer.size() / BYTES_PER_SAMPLE) as u64);
        self.pass(buffer.pts(), length);
        self.input_came();
    }

    /// Decides everything so far, because of `ending`.
    pub(super) fn finish(&mut self, ending: EndReason) {
        if let Some(transcriber) = &mut self.transcriber {
            transcriber.finish(ending);
        }
    }

    /// Tells downstream of the first segment. Everything else may have to wait for a sink, and so for the source that holds a
    /// lock while it sends a segment (`GstBaseSrc`): it is given out when data comes, or when time passes.
    pub(super) fn begin_output(&mut self) {
        if self.is_drained() && self.out.queue.position().is_none() {
            self.announce();
        }
    }

    /// Whether nothing followed the first segment yet.
    pub(super) fn awaits_first_gap(&self) -> bool {
        !self.is_ended && self.out.queue.is_first()
    }

    /// Does a part of the work. Gives whether there is more.
    pub(super) fn step(&mut self, settings: &Settings) -> Result<bool> {
        if let Some(transcriber) = &mut self.transcriber {
            if transcriber.step(&mut self.out, settings)? {
                return Ok(true);
            }
            if let Some(end) = transcriber.end() {
                self.input_end = Some(end.running());
            }
        }
        if self.is_drained() {
            self.announce();
        }
        Ok(false)
    }

    /// All that came is processed at running time `running`, in nanoseconds.
    pub(super) fn note_processed(&mut self, running: i64) {
        self.was_ahead = self.input_end.is_some_and(|end| end >= running);
    }

    /// Called periodically and after each buffer.
    ///
    /// Where nothing comes and text is due by the latency, everything is decided that can be, as if the audio ended there:
    /// words go when they are due, then the utterance. Live, the output then follows the clock: whatever upstream does, and
    /// whatever word is still pending, GAPs reach what sinks show now. What comes too late for its time comes at the time that
    /// is reached. Where upstream is not live, that holds in playback only: text of a file that is read slowly keeps its times.
    pub(super) fn tick(&mut self, now: &Now, settings: &Settings) -> Result<()> {
        if self.is_ended {
            return Ok(());
        }
        let edge = now.edge();
        let input_end = *self.input_end.get_or_insert(now.running);
        let is_idle = match now.live {
            true => now.idle >= STALL_TIMEOUT.saturating_add(self.last_length),
            false => self.was_ahead && now.plays && now.idle >= PLAYBACK_STALL.saturating_add(self.last_length),
        };
        let position = self.out.queue.position().map(|position| position.running());
        let is_due = position.is_some_and(|position| position <= edge);
        if let Some(transcriber) = &mut self.transcriber {
            if transcriber.withholds() {
                if now.idle >= WITHHOLD_TIMEOUT {
                    transcriber.stop_withholding();
                }
            } else if is_idle && is_due {
                let begun = transcriber.begin_stall(settings);
                if begun.is_err() {
                    // Said once; nothing can come of this stream any more.
                    self.is_ended = true;
                }
                begun?;
            }
            if let Some(since) = transcriber.stalled_since() {
                let silence = now.running.saturating_sub(now.upstream).saturating_sub(since);
                let pause = i64::from(settings.endpoint_silence) * 1_000_000;
                let due = Due {
                    before: if is_due {
                        transcriber.sample_at(edge.saturating_add(GAP_LEAD))
                    } else {
                        0
                    },
                    cut_word: silence >= CUT_WORD_WAIT.max(now.latency),
                    utterance: pause > 0 && silence >= (now.latency - now.word_hold_time).max(0) + pause,
                };
                transcriber.release(due, &mut self.out, settings);
            }
        }
        if self.is_between_utterances() {
            self.out.apply(settings);
        }
        if !now.live && !is_idle {
            return Ok(());
        }
        if is_idle && input_end < edge && !std::mem::replace(&mut self.is_stalled, true) {
            self.post_input_stalled(true, input_end);
        }
        if self.is_drained() {
            self.announce();
        }
        self.follow_clock(edge, now);
        Ok(())
    }

    /// When the next GAP is due, in nanoseconds from `now` on.
    pub(super) fn due_in(&self, now: &Now) -> Option<i64> {
        let position = self.out.queue.position()?;
        Some(position.running().saturating_sub(now.edge()))
    }

    /// Lets GAPs come up to what sinks show and a little beyond, but not into time that may still bring text.
    fn follow_clock(&mut self, edge: i64, now: &Now) {
        let Some(position) = self.out.queue.position().filter(|position| position.running() <= edge) else {
            return;
        };
        let segment = position.segment;
        if segment.is_reverse() {
            return;
        }
        // Text may still come from there on.
        let pending = self
            .transcriber
            .as_ref()
            .and_then(|transcriber| transcriber.pending(&self.out));
        let pending = pending
            .unwrap_or(i64::MAX)
            .max(edge.saturating_add(GAP_LEAD_BEFORE_TEXT));
        let known = now.running.saturating_sub(now.upstream);
        let until = edge.saturating_add(GAP_LEAD).min(pending).min(known).max(edge);
        let pts = segment.at_running(until);
        let pts = segment.stop().map_or(pts, |stop| pts.min(stop));
        self.out.queue.gap_until(&Moment { pts, segment });
    }

    /// Forgets everything but the model.
    pub(super) fn flush(&mut self) {
        if let Some(transcriber) = &mut self.transcriber {
            transcriber.flush(&mut self.out);
        }
        self.out.flush();
        self.forget_input();
        self.last_length = 0;
        self.was_ahead = false;
        self.is_ended = false;
    }

    /// The stream is over.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
        self.out.queue.end();
        self.forget_input();
    }

    /// What comes next has a segment of its own.
    fn forget_input(&mut self) {
        self.segment = None;
        self.was_flagged = false;
        self.stamped_end = 0;
        self.input_end = None;
        self.is_stalled = false;
    }

    /// Another stream begins.
    pub(super) fn begin(&mut self) {
        self.is_ended = false;
    }

    /// The next thing to push or post.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.out.queue.pop()
    }

    /// Tells downstream of the current segment, if it does not know.
    fn announce(&mut self) {
        if let Some(segment) = self.segment.as_ref().filter(|_| !self.is_ended) {
            self.out.queue.announce(segment);
        }
    }

    fn is_between_utterances(&self) -> bool {
        self.transcriber
            .as_ref()
            .is_none_or(StreamDriver::is_between_utterances)
    }

    fn is_drained(&self) -> bool {
        self.transcriber.as_ref().is_none_or(StreamDriver::is_drained)
    }

    /// Lets time go by without audio.
    fn pass(&mut self, pts: Option<gst::ClockTime>, duration: gst::ClockTime) {
        let segment = self.segment();
        if let (Some(transcriber), Some(pts)) = (&mut self.transcriber, pts) {
            self.input_end = Some(segment.running(pts.saturating_add(duration)));
            transcriber.pass(Moment { pts, segment }, duration);
        }
    }

    fn input_came(&mut self) {
        if std::mem::take(&mut self.is_stalled) {
            let end = self.input_end.unwrap_or_default();
            self.post_input_stalled(false, end);
        }
    }

    /// Tells the application that input stalls, or that it came again.
    fn post_input_stalled(&mut self, stalled: bool, end: i64) {
        let structure = gst::Structure::builder("nemostt-input")
            .field("stalled", stalled)
            .field("running-time", clock_time(end.max(0) as u64))
            .build();
        self.out.queue.message(structure);
    }
}

/// Whether timestamps mean the same stream time in both.
fn same_stream_time(a: &Segment, b: &Segment) -> bool {
    let pts = a.start().max(b.start());
    a.applied_rate() == b.applied_rate() && a.to_stream_time_full(pts) == b.to_stream_time_full(pts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_at_the_end_of_time_is_not_due() {
        gst::init().unwrap();
        let mut time = super::super::segment::Time::new();
        time.set_base(gst::ClockTime::from_nseconds(i64::MAX as u64));
        let mut session = Session::default();
        session.set_segment(Segment::new(time, None));
        session.begin_output();
        let now = Now {
            running: 0,
            idle: 0,
            live: true,
            upstream: 20_000_000,
            plays: false,
            latency: 500_000_000,
            word_hold_time: 0,
            configured: None,
        };
        assert_eq!(session.due_in(&now), Some(i64::MAX));
    }
}
