// SPDX-License-Identifier: MIT OR Apache-2.0

//! State of the element from one start to the next stop: the segment, the [stream driver](StreamDriver) once there is a
//! model, and the pending output. It is driven by data and by the clock: see [`Session::tick`].

mod tick;

use std::sync::Arc;

pub(super) use tick::{Now, PLAYBACK_STALL};

use super::{
    counters::SessionMetrics,
    delivery::Delivery,
    input::{BYTES_PER_SAMPLE, Content, Input, SAMPLE_RATE},
    output_queue::Item,
    segment::{Segment, clock_time, signed},
    settings::Settings,
    stream_driver::{Boosted, StreamDriver},
    timestamps::Moment,
};
use nemostt::{DecodingMethod, EndReason, Recognizer, Result};

/// Audio does not continue in a segment that begins more than this after its end, in nanoseconds.
const MAX_SEGMENT_JUMP: i64 = 1_000_000_000;

/// The state that the streaming thread works on.
#[derive(Default)]
pub(super) struct Session {
    pub(super) out: Delivery,
    driver: Option<StreamDriver>,
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
    /// What has been done since the element was started.
    pub(super) fn metrics(&self) -> SessionMetrics {
        let stream = self.driver.as_ref().map(StreamDriver::metrics).unwrap_or_default();
        SessionMetrics {
            samples: stream.samples,
            steps: stream.steps,
            output: self.out.metrics(),
        }
    }

    pub(super) fn has_driver(&self) -> bool {
        self.driver.is_some()
    }

    pub(super) fn set_recognizer(&mut self, recognizer: &Recognizer, method: &DecodingMethod) -> Result<()> {
        self.driver = Some(StreamDriver::new(recognizer, method)?);
        Ok(())
    }

    /// What ends waiting for an inference server.
    #[cfg(feature = "triton")]
    pub(super) fn set_interrupt(&mut self, interrupt: &nemostt::Interrupt) {
        if let Some(driver) = &mut self.driver {
            driver.set_interrupt(interrupt);
        }
    }

    /// Whether audio waits for an inference server.
    #[cfg(feature = "triton")]
    pub(super) fn is_waiting(&self) -> bool {
        self.driver.as_ref().is_some_and(StreamDriver::is_waiting)
    }

    /// The model to build a boosting tree with, if the phrases to boost have changed since those that were handed over.
    pub(super) fn needs_boosted(&self, settings: &Settings) -> Option<Recognizer> {
        let revision = settings.hotwords.phrases().revision;
        self.driver.as_ref().and_then(|driver| driver.needs_boosted(revision))
    }

    /// Hands over phrases to boost from the next audio on.
    pub(super) fn hand_over(&mut self, boosted: Boosted) {
        if let Some(driver) = &mut self.driver {
            driver.hand_over(boosted);
        }
    }

    /// Sets whether audio arrives at the pace of real time, so that its chunks are more urgent than those of files.
    pub(super) fn set_live(&mut self, is_live: bool) {
        if let Some(driver) = &mut self.driver {
            driver.set_live(is_live);
        }
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
        let Some(driver) = &mut self.driver else {
            return;
        };
        let (Some(end), Some(before)) = (driver.end(), before) else {
            return;
        };
        let is_same_timeline = segment.runs_as(&before);
        // For audio that is withheld, only its timestamps tell where it ends.
        let end = end.running().max(self.stamped_end);
        let starts_later = segment.running(segment.start()) > end.saturating_add(MAX_SEGMENT_JUMP);
        if segment.is_reverse() != before.is_reverse() || (starts_later && !is_same_timeline) {
            driver.finish(EndReason::Pause);
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
        let Some(driver) = &mut self.driver else {
            return;
        };
        let clipped = gst_audio::audio_buffer_clip(buffer, segment.upcast_ref(), SAMPLE_RATE, BYTES_PER_SAMPLE as u32);
        let Some(buffer) = clipped else { return };
        let pts = buffer.pts();
        let Ok(bytes) = buffer.into_mapped_buffer_readable() else {
            return;
        };
        let length = driver.duration((bytes.len() / BYTES_PER_SAMPLE) as u64);
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
        driver.push(Input {
            pts,
            segment,
            confirmed,
            content: Content::Audio(bytes),
        });
        self.end_input_stall();
    }

    /// Handles a GAP event: a short one is silence, a long one restarts recognition.
    pub(super) fn gap(&mut self, pts: gst::ClockTime, duration: Option<gst::ClockTime>, settings: &Settings) {
        let segment = self.segment();
        let duration = duration.unwrap_or(gst::ClockTime::ZERO);
        self.was_flagged = false;
        let Some(driver) = &mut self.driver else {
            return;
        };
        if segment.is_reverse() || duration > settings.gap_threshold() {
            driver.finish(EndReason::Pause);
            self.pass(Some(pts), duration);
        } else {
            let samples = driver.samples(duration);
            driver.push(Input {
                pts: Some(pts),
                segment,
                confirmed: true,
                content: Content::Gap(samples),
            });
        }
        self.end_input_stall();
    }

    /// Skips audio during overload: finishes the words so far and replaces the audio with a GAP.
    pub(super) fn skip(&mut self, buffer: &gst::BufferRef) {
        let Some(driver) = &mut self.driver else {
            return;
        };
        driver.finish(EndReason::Pause);
        let length = driver.duration((buffer.size() / BYTES_PER_SAMPLE) as u64);
        self.pass(buffer.pts(), length);
        self.end_input_stall();
    }

    /// Finishes everything so far; `ending` is the reason.
    pub(super) fn finish(&mut self, ending: EndReason) {
        if let Some(driver) = &mut self.driver {
            driver.finish(ending);
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
        if let Some(driver) = &mut self.driver {
            if driver.step(&mut self.out, settings)? {
                return Ok(true);
            }
            if let Some(end) = driver.end() {
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

    /// Clears everything except the model.
    pub(super) fn flush(&mut self) {
        if let Some(driver) = &mut self.driver {
            driver.flush(&mut self.out);
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
        self.out.end();
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
        self.driver.as_ref().is_none_or(StreamDriver::is_between_utterances)
    }

    fn is_drained(&self) -> bool {
        self.driver.as_ref().is_none_or(StreamDriver::is_drained)
    }

    /// Lets `duration` pass without audio.
    fn pass(&mut self, pts: Option<gst::ClockTime>, duration: gst::ClockTime) {
        let segment = self.segment();
        if let (Some(driver), Some(pts)) = (&mut self.driver, pts) {
            self.input_end = Some(segment.running(pts.saturating_add(duration)));
            driver.pass(Moment { pts, segment }, duration);
        }
    }

    /// Input has arrived: reports that it is no longer stalled, if it was.
    fn end_input_stall(&mut self) {
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
