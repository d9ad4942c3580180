// SPDX-License-Identifier: MIT OR Apache-2.0

//! State of the element from one start to the next stop: the segment, the [transcriber](StreamDriver) once there is a
//! model, and the pending output. It is driven by data and by the clock: see [`Session::tick`].

use std::sync::Arc;

use super::{
    delivery::Delivery,
    input::{BYTES_PER_SAMPLE, Content, Input, SAMPLE_RATE},
    output_queue::Item,
    segment::Segment,
    segment::{clock_time, signed},
    settings::Settings,
    stall::Due,
    stream_driver::StreamDriver,
    timestamps::Moment,
};
use nemostt::{EndReason, Recognizer, Result};

/// A live source counts as stalled if the next buffer does not arrive within the length of the last one plus this, in
/// nanoseconds. How late its timestamp is does not matter.
const STALL_TIMEOUT: i64 = 150_000_000;
/// The same for a file in playback, in nanoseconds: its container may interleave audio in large blocks.
pub(super) const PLAYBACK_STALL: i64 = 1_000_000_000;
/// Audio is withheld at most this long, in nanoseconds, if nothing arrives that explains its timestamps.
const WITHHOLD_TIMEOUT: i64 = 1_000_000_000;
/// Audio does not continue in a segment that begins more than this after its end, in nanoseconds.
const MAX_SEGMENT_JUMP: i64 = 1_000_000_000;
/// How long a word that a stall cut in two waits for its other half, in nanoseconds: networks stall for up to 2 s.
const CUT_WORD_WAIT: i64 = 2_500_000_000;
/// How far a GAP reaches beyond the time that is due, in nanoseconds: this makes one every 100 ms instead of one per
/// buffer. (A GAP that is not due would block a sink that synchronizes, and with it the streaming thread.)
const GAP_LEAD: i64 = 100_000_000;
/// The same, in nanoseconds, if a pending word may begin there: up to the next tick.
const GAP_LEAD_BEFORE_TEXT: i64 = 50_000_000;

/// The current time and the latencies that matter, in nanoseconds of running time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) running: i64,
    /// Time since data last arrived.
    pub(super) idle: i64,
    /// Whether upstream is live.
    pub(super) live: bool,
    /// Upstream's latency.
    pub(super) upstream: i64,
    /// Whether input that is not live has paused and a sink downstream synchronizes to the clock.
    pub(super) plays: bool,
    /// This element's latency.
    pub(super) latency: i64,
    /// The part of it for which words are held back.
    pub(super) word_hold_time: i64,
    /// The latency that sinks wait for, if known.
    pub(super) configured: Option<i64>,
}

impl Now {
    /// The running time that sinks show now, if they wait for the reported latency or less: all text before it is due.
    pub(super) fn edge(&self) -> i64 {
        if !self.live {
            return self.running;
        }
        let reported = self.upstream.saturating_add(self.latency);
        // `transcriberbin`, for example, reports less latency than its transcriber does.
        let waited = match self.configured.filter(|&configured| configured < reported) {
            Some(configured) => configured.saturating_sub(GAP_LEAD),
            None => reported,
        };
        self.running.saturating_sub(waited)
    }
}

/// The state that the streaming thread works on.
#[derive(Default)]
pub(super) struct Session {
    pub(super) out: Delivery,
    transcriber: Option<StreamDriver>,
    /// The latest segment.
    segment: Option<Arc<Segment>>,
    /// Number of segments received.
    segments: u64,
    /// Whether the previous buffer was flagged DISCONT. If all buffers are, the flag means nothing.
    was_flagged: bool,
    /// Running time at which the last buffer ended according to its timestamp, in nanoseconds.
    stamped_end: i64,
    /// Running time of the last buffer's duration, in nanoseconds.
    last_length: i64,
    /// Running time at which the input ended, in nanoseconds; set by the first input or the first tick.
    input_end: Option<i64>,
    /// Whether the last input was ahead of the clock once it had been processed.
    was_ahead: bool,
    /// Whether input is stalled, which was reported.
    is_stalled: bool,
    /// Nothing more is emitted before a new stream or a flush.
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

    /// Whether a segment is needed before anything can be emitted.
    pub(super) fn needs_segment(&self) -> bool {
        self.segment.is_none() && !self.is_ended
    }

    /// The current segment, or one that starts at 0 if upstream has sent none.
    pub(super) fn segment(&mut self) -> Arc<Segment> {
        self.segment.get_or_insert_default().clone()
    }

    /// Handles a segment. Whether audio continues in it without a hole shows when audio arrives. The segment is
    /// announced downstream once everything before it has been emitted.
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
        // For audio that is withheld, only its timestamps tell where it ends.
        let end = end.running().max(self.stamped_end);
        let starts_later = segment.running(segment.start()) > end.saturating_add(MAX_SEGMENT_JUMP);
        if segment.is_reverse() != before.is_reverse() || (starts_later && !is_same_timeline) {
            transcriber.finish(EndReason::Pause);
            return;
        }
        // If timestamps keep their meaning, the segment can be announced at once.
        let position = self.out.queue.position();
        let holds_position = position.is_some_and(|position| segment.start() <= position.pts);
        if is_same_timeline && holds_position && !segment.is_reverse() && same_stream_time(&segment, &before) {
            self.out.queue.announce(&segment);
        }
    }

    /// Handles a buffer.
    pub(super) fn buffer(&mut self, buffer: gst::Buffer) {
        let segment = self.segment();
        let is_flagged = buffer.flags().contains(gst::BufferFlags::DISCONT);
        let was_flagged = std::mem::replace(&mut self.was_flagged, is_flagged);
        let confirmed = is_flagged && !was_flagged;
        let Some(transcriber) = &mut self.transcriber else {
            return;
        };
        let clipped = gst_audio::audio_buffer_clip(buffer, segment.upcast_ref(), SAMPLE_RATE, BYTES_PER_SAMPLE as u32);
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
            // Reversed speech cannot be transcribed. Its time passes as GAPs, so that downstream does not wait for
            // text.
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

    /// Handles a GAP event: a short one is silence, a long one restarts recognition.
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

    /// Skips audio during overload: finishes the words so far and replaces the audio with a GAP.
    pub(super) fn skip(&mut self, buffer: &gst::BufferRef) {
        let Some(transcriber) = &mut self.transcriber else {
            return;
        };
        transcriber.finish(EndReason::Pause);
        let length = transcriber.duration((buffer.size() / BYTES_PER_SAMPLE) as u64);
        self.pass(buffer.pts(), length);
        self.input_came();
    }

    /// Finishes everything so far; `ending` is the reason.
    pub(super) fn finish(&mut self, ending: EndReason) {
        if let Some(transcriber) = &mut self.transcriber {
            transcriber.finish(ending);
        }
    }

    /// Announces the first segment. Everything else may block in a sink, which must not happen while `GstBaseSrc` holds
    /// a lock to send its segment: it is emitted when data arrives or the clock ticks.
    pub(super) fn begin_output(&mut self) {
        if self.is_drained() && self.out.queue.position().is_none() {
            self.announce();
        }
    }

    /// Whether nothing has followed the first segment yet.
    pub(super) fn awaits_first_gap(&self) -> bool {
        !self.is_ended && self.out.queue.is_first()
    }

    /// Does one step of the work. Returns whether there is more.
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

    /// Records that all input so far has been processed at running time `running`, in nanoseconds.
    pub(super) fn note_processed(&mut self, running: i64) {
        self.was_ahead = self.input_end.is_some_and(|end| end >= running);
    }

    /// Moves the output along with the clock. Called periodically and after each buffer.
    ///
    /// If no input arrives and text is due by the latency, the audio so far is decoded as if it ended there: words are
    /// emitted when they are due, then the utterance. In a live pipeline, the output then follows the clock: GAPs reach
    /// the time that sinks show now, whatever upstream does and whatever word is still pending. Text that is too late
    /// for its time is moved to the output position. If upstream is not live, this applies to playback only: text of a
    /// file that is read slowly keeps its times.
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
                    // Report the error only once: nothing more can come of this stream.
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

    /// Time from `now` until the next GAP is due, in nanoseconds.
    pub(super) fn due_in(&self, now: &Now) -> Option<i64> {
        let position = self.out.queue.position()?;
        Some(position.running().saturating_sub(now.edge()))
    }

    /// Queues a GAP up to what sinks show now and a little beyond, but not into time in which text may still begin.
    fn follow_clock(&mut self, edge: i64, now: &Now) {
        let Some(position) = self.out.queue.position().filter(|position| position.running() <= edge) else {
            return;
        };
        let segment = position.segment;
        if segment.is_reverse() {
            return;
        }
        // Text may still begin from there on.
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

    /// Clears everything except the model.
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

    /// Ends the stream.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
        self.out.queue.end();
        self.forget_input();
    }

    /// Clears the state of the input; what follows has its own segment.
    fn forget_input(&mut self) {
        self.segment = None;
        self.was_flagged = false;
        self.stamped_end = 0;
        self.input_end = None;
        self.is_stalled = false;
    }

    /// Begins another stream.
    pub(super) fn begin(&mut self) {
        self.is_ended = false;
    }

    /// Removes the next item to push or post.
    pub(super) fn pop(&mut self) -> Option<Item> {
        self.out.queue.pop()
    }

    /// Announces the current segment downstream, unless it already was.
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

    /// Lets `duration` pass without audio.
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

    /// Queues a message that says that input has stalled or resumed.
    fn post_input_stalled(&mut self, stalled: bool, end: i64) {
        let structure = gst::Structure::builder("nemostt-input")
            .field("stalled", stalled)
            .field("running-time", clock_time(end.max(0) as u64))
            .build();
        self.out.queue.message(structure);
    }
}

/// Whether timestamps map to the same stream time in both segments.
fn same_stream_time(a: &Segment, b: &Segment) -> bool {
    let pts = a.start().max(b.start());
    a.applied_rate() == b.applied_rate() && a.to_stream_time_full(pts) == b.to_stream_time_full(pts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_in_saturates_for_segment_at_max_running_time() {
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
