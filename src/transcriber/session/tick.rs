// SPDX-License-Identifier: MIT OR Apache-2.0

//! What happens to a session as time passes.

use super::{
    super::{settings::Settings, stall::Due, timestamps::Moment},
    Session,
};
use nemostt::Result;

/// A live source counts as stalled if the next buffer does not arrive within the length of the last one plus this, in
/// nanoseconds. How late its timestamp is does not matter.
const STALL_TIMEOUT: i64 = 150_000_000;
/// A file in playback counts as stalled if the next buffer does not arrive within the length of the last one plus this,
/// in nanoseconds. Longer than `STALL_TIMEOUT`, because its container may interleave audio in large blocks.
pub(in crate::transcriber) const PLAYBACK_STALL: i64 = 1_000_000_000;
/// Audio is withheld at most this long, in nanoseconds, if nothing arrives that explains its timestamps.
const WITHHOLD_TIMEOUT: i64 = 1_000_000_000;
/// How long a word that a stall cut in two waits for its other half, in nanoseconds: networks stall for up to 2 s.
const CUT_WORD_WAIT: i64 = 2_500_000_000;
/// How far a GAP reaches beyond the time that is due, in nanoseconds: this makes one every 100 ms instead of one per
/// buffer. (A GAP that is not due would block a sink that synchronizes, and with it the streaming thread.)
const GAP_LEAD: i64 = 100_000_000;
/// The same, in nanoseconds, if a pending word may begin there: up to the next tick.
const GAP_LEAD_BEFORE_TEXT: i64 = 50_000_000;

/// The current time and the latencies that matter, in nanoseconds of running time.
#[derive(Debug, Clone, Copy)]
pub(in crate::transcriber) struct Now {
    pub(in crate::transcriber) running: i64,
    /// Time since data last arrived.
    pub(in crate::transcriber) idle: i64,
    /// Whether upstream is live.
    pub(in crate::transcriber) live: bool,
    /// Upstream's latency.
    pub(in crate::transcriber) upstream: i64,
    /// Whether input that is not live has paused and a sink downstream synchronizes to the clock.
    pub(in crate::transcriber) plays: bool,
    /// The latency of words.
    pub(in crate::transcriber) latency: i64,
    /// How long cues wait for their words; 0 if there are none.
    pub(in crate::transcriber) cue_delay: i64,
    /// The part of it for which words are held back.
    pub(in crate::transcriber) word_hold_time: i64,
    /// The latency that sinks wait for, if known, with the `lateness` of the output.
    pub(in crate::transcriber) configured: Option<i64>,
}

impl Now {
    /// The running time that sinks show now, if they wait for the reported latency or less: all text before it is due.
    pub(in crate::transcriber) fn edge(&self) -> i64 {
        if !self.live {
            return self.running;
        }
        let reported = self.words_latency().saturating_add(self.cue_delay);
        // `transcriberbin`, for example, reports less latency than its transcriber does.
        let waited = match self.configured.filter(|&configured| configured < reported) {
            Some(configured) => configured.saturating_sub(GAP_LEAD),
            None => reported,
        };
        self.running.saturating_sub(waited)
    }

    /// The running time before which all words are due: [`edge`](Self::edge), or later if cues wait for words.
    pub(in crate::transcriber) fn word_edge(&self) -> i64 {
        match self.live {
            true => self.running.saturating_sub(self.words_latency()).max(self.edge()),
            false => self.running,
        }
    }

    fn words_latency(&self) -> i64 {
        self.upstream.saturating_add(self.latency)
    }
}

impl Session {
    /// Moves the output along with the clock. Called periodically and after each buffer.
    ///
    /// If no input arrives and text is due by the latency, the audio so far is decoded as if it ended there: words are
    /// emitted when they are due, then the utterance. In a live pipeline, the output then follows the clock: GAPs reach
    /// the time that sinks show now, whatever upstream does and whatever word is still pending. Text that is too late
    /// for its time is moved to the output position. If upstream is not live, this applies to playback only: text of a
    /// file that is read slowly keeps its times.
    pub(in crate::transcriber) fn tick(&mut self, now: &Now, settings: &Settings) -> Result<()> {
        if self.is_ended {
            return Ok(());
        }
        let edge = now.edge();
        let input_end = *self.input_end.get_or_insert(now.running);
        let is_idle = match now.live {
            true => now.idle >= STALL_TIMEOUT.saturating_add(self.last_length),
            false => self.was_ahead && now.plays && now.idle >= PLAYBACK_STALL.saturating_add(self.last_length),
        };
        let word_edge = now.word_edge();
        let is_due = self.out.words_until().is_some_and(|until| until <= word_edge);
        if let Some(driver) = &mut self.driver {
            if driver.withholds() {
                if now.idle >= WITHHOLD_TIMEOUT {
                    driver.stop_withholding();
                }
            } else if is_idle && is_due {
                let begun = driver.begin_stall(settings);
                if begun.is_err() {
                    // Report the error only once: nothing more can come of this stream.
                    self.is_ended = true;
                }
                begun?;
            }
            if let Some(since) = driver.stalled_since() {
                let silence = now.running.saturating_sub(now.upstream).saturating_sub(since);
                let pause = i64::from(settings.endpoint_silence) * 1_000_000;
                let due = Due {
                    before: if is_due {
                        driver.sample_at(word_edge.saturating_add(GAP_LEAD))
                    } else {
                        0
                    },
                    cut_word: silence >= CUT_WORD_WAIT.max(now.latency),
                    utterance: pause > 0 && silence >= (now.latency - now.word_hold_time).max(0) + pause,
                };
                driver.release(due, &mut self.out, settings);
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
        // Cues that begin before `edge` are due, whatever words may still come; those that begin soon after it would be late at
        // the next tick.
        let due = edge.saturating_add(now.cue_delay).saturating_add(GAP_LEAD);
        self.out.advance_cues(due, settings);
        self.follow_clock(edge, now);
        Ok(())
    }

    /// Time from `now` until the next GAP is due, in nanoseconds.
    pub(in crate::transcriber) fn due_in(&self, now: &Now) -> Option<i64> {
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
        let pending = self.driver.as_ref().and_then(|driver| driver.pending(&self.out));
        let pending = pending
            .unwrap_or(i64::MAX)
            .min(self.out.next_cue().unwrap_or(i64::MAX))
            .max(edge.saturating_add(GAP_LEAD_BEFORE_TEXT));
        let known = now.running.saturating_sub(now.upstream);
        let until = edge.saturating_add(GAP_LEAD).min(pending).min(known).max(edge);
        let pts = segment.at_running(until);
        let pts = segment.stop().map_or(pts, |stop| pts.min(stop));
        self.out.queue.gap_until(&Moment { pts, segment });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcriber::segment::Segment;

    #[test]
    fn due_in_saturates_for_segment_at_max_running_time() {
        gst::init().unwrap();
        let mut time = crate::transcriber::segment::Time::new();
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
            cue_delay: 0,
            word_hold_time: 0,
            configured: None,
        };
        assert_eq!(session.due_in(&now), Some(i64::MAX));
    }
}
