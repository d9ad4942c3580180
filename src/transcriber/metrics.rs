// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the element tells an operator, as the property `metrics` and as messages: what it has done since it was started, and
//! what the model has that it shares with other elements.
//!
//! Messages are posted at an interval of the system's clock, neither of audio nor of the pipeline's clock. For a live source
//! these are the same until something is wrong, and then a message is needed most: while the source stalls there is no audio.
//! A file may be transcribed a hundred times faster than it plays, and would post as many messages. An interval of this clock
//! has the rate that the operator asked for in both cases.

use std::time::{Duration, Instant};

use gst::{prelude::*, subclass::prelude::*};

use super::{imp::NemoStt, input::SAMPLE_RATE, segment::clock_time};
use nemostt::{Device, EngineMetrics, LaneMetrics, metrics::Histogram, sample_time, sync::lock};

/// Name of the structure.
const NAME: &str = "nemostt-metrics";

/// What the element has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SessionMetrics {
    /// Samples that were transcribed, with silence in place of short holes.
    pub(super) samples: u64,
    /// Chunks that were encoded and decoded.
    pub(super) steps: u64,
    pub(super) output: OutputMetrics,
}

/// What left the element.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OutputMetrics {
    /// Final words.
    pub(super) words: u64,
    /// Utterances that have ended.
    pub(super) utterances: u64,
    /// Text buffers that came too late for their time.
    pub(super) late_texts: u64,
}

/// When the next message is due, and what the last one had.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    last: Option<Instant>,
    /// All lanes at the last message, and the device of the model that they are of.
    before: Option<(Device, LaneMetrics)>,
}

impl Reporter {
    /// Whether a message is due at `now`; if so, the next interval begins. The first one begins with the first call.
    fn is_due(&mut self, now: Instant, interval: Duration) -> bool {
        if interval.is_zero() {
            self.last = None;
            return false;
        }
        let last = *self.last.get_or_insert(now);
        let is_due = now.saturating_duration_since(last) >= interval;
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// Lets the first message begin here, when the element gets the model: others may have used it for hours.
    fn begin(&mut self, engine: &EngineMetrics) {
        self.before.get_or_insert_with(|| (engine.device, engine.total()));
    }

    /// What the lanes have done since the last message, or since [`begin`](Self::begin).
    fn since_last(&mut self, engine: &EngineMetrics) -> LaneMetrics {
        let total = engine.total();
        let since = match &self.before {
            Some((device, before)) if *device == engine.device => total.since(before),
            _ => total.clone(),
        };
        self.before = Some((engine.device, total));
        since
    }
}

impl NemoStt {
    /// To be called when the element has got the model.
    pub(super) fn begin_metrics(&self) {
        if let Some(engine) = self.engine() {
            lock(&self.reporter).begin(&engine);
        }
    }

    /// Posts a message if it is due.
    pub(super) fn report_metrics(&self) {
        let interval = self.settings().metrics_interval();
        let structure = {
            let mut reporter = lock(&self.reporter);
            let is_due = reporter.is_due(Instant::now(), interval);
            is_due.then(|| self.report(&mut reporter))
        };
        self.post(structure);
    }

    /// Posts the message at the end of a stream, unless messages are off.
    pub(super) fn report_final_metrics(&self) {
        let is_on = !self.settings().metrics_interval().is_zero();
        let structure = is_on.then(|| self.report(&mut lock(&self.reporter)));
        self.post(structure);
    }

    /// The contents of the next message.
    fn report(&self, reporter: &mut Reporter) -> gst::Structure {
        let mut structure = self.session_structure();
        if let Some(engine) = self.engine() {
            add_engine(&mut structure, &engine, &reporter.since_last(&engine));
        }
        structure
    }

    /// No lock is held meanwhile.
    fn post(&self, structure: Option<gst::Structure>) {
        if let Some(structure) = structure {
            let obj = self.obj();
            let message = gst::message::Element::builder(structure).src(&*obj).build();
            let _ = obj.post_message(message);
        }
    }

    /// The value of the property `metrics`.
    pub(super) fn metrics(&self) -> gst::Structure {
        let mut structure = self.session_structure();
        if let Some(engine) = self.engine() {
            add_engine(&mut structure, &engine, &engine.total());
        }
        structure
    }

    /// Those of the model that streams run on now: the one on the CPU if the device has failed.
    fn engine(&self) -> Option<EngineMetrics> {
        self.loader.ready()?.all_metrics().pop()
    }

    /// The fields of this element.
    fn session_structure(&self) -> gst::Structure {
        let session = lock(&self.published).metrics;
        let overload = lock(&self.lateness).overload();
        let audio = sample_time::samples_to_ns(session.samples, SAMPLE_RATE);
        gst::Structure::builder(NAME)
            .field("running-time", self.obj().current_running_time())
            .field("audio-time", clock_time(audio))
            .field("steps", session.steps)
            .field("words", session.output.words)
            .field("utterances", session.output.utterances)
            .field("late-texts", session.output.late_texts)
            .field("overloads", overload.count)
            .field("skipped-time", overload.skipped)
            .field("delay", overload.delay)
            .field("max-observed-delay", overload.max_delay)
            .build()
    }
}

/// Adds the fields of the model. Times and sizes are of `lanes`.
fn add_engine(structure: &mut gst::StructureRef, engine: &EngineMetrics, lanes: &LaneMetrics) {
    let total = engine.total();
    structure.set("model", &engine.model);
    structure.set("device", engine.device.to_string());
    structure.set("precision", engine.precision.name());
    structure.set("lookahead", saturated(engine.lookahead_ms));
    structure.set("lanes", saturated(engine.lanes.len()));
    structure.set("streams", saturated(engine.streams));
    structure.set("streams-started", engine.streams_started);
    structure.set("spare-slots", saturated(engine.spare_slots));
    structure.set("bytes-per-stream", engine.bytes_per_stream as u64);
    structure.set("pending", saturated(total.pending));
    structure.set("batches", total.batches);
    structure.set("jobs", total.jobs);
    structure.set("errors", engine.errors);
    structure.set("failed-batches", total.failed_batches);
    structure.set("retried-jobs", total.retried_jobs);
    structure.set("failed-jobs", total.failed_jobs);
    structure.set("mean-batch-size", lanes.mean_batch_size());
    let largest = lanes.batch_sizes.iter().rposition(|&count| count > 0);
    structure.set("max-batch-size", saturated(largest.map_or(0, |index| index + 1)));
    add_times(structure, "queue-delay", &lanes.queue_delay);
    add_times(structure, "step-time", &lanes.step_time);
}

fn add_times(structure: &mut gst::StructureRef, name: &str, times: &Histogram) {
    let values = [
        ("mean", times.mean()),
        ("p50", times.quantile(0.5)),
        ("p99", times.quantile(0.99)),
        ("max", times.max()),
    ];
    for (statistic, time) in values {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        structure.set(format!("{name}-{statistic}"), clock_time(ns));
    }
}

fn saturated(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_intervals_of_the_clock() {
        let start = Instant::now();
        let mut reporter = Reporter::default();
        let interval = Duration::from_millis(100);
        let mut is_due = |ms: u64| reporter.is_due(start + Duration::from_millis(ms), interval);
        // The first interval begins with the first call.
        let due = [0, 99, 100, 150, 199, 260, 359, 360].map(&mut is_due);
        assert_eq!(due, [false, false, true, false, false, true, false, true]);
    }

    #[test]
    fn interval_begins_when_messages_are_turned_on() {
        let start = Instant::now();
        let mut reporter = Reporter::default();
        let mut is_due =
            |ms: u64, interval| reporter.is_due(start + Duration::from_millis(ms), Duration::from_millis(interval));
        assert!(!is_due(0, 10) && is_due(10, 10));
        assert!(!is_due(500, 0));
        assert!(!is_due(1_000, 10) && is_due(1_010, 10));
    }

    #[test]
    fn times_are_those_since_the_last_message() {
        let mut engine = EngineMetrics {
            model: "m".into(),
            device: Device::Cpu,
            precision: nemostt::Precision::Fp32,
            lookahead_ms: 80,
            streams: 1,
            streams_started: 1,
            audio: Duration::ZERO,
            words: 0,
            errors: 0,
            bytes_per_stream: 0,
            spare_slots: 0,
            lanes: vec![LaneMetrics::default()],
        };
        let mut reporter = Reporter::default();
        // Of other elements, before this one.
        engine.lanes[0].step_time.record(Duration::from_secs(1));
        reporter.begin(&engine);
        let mut step = |device, ms| {
            engine.device = device;
            engine.lanes[0].step_time.record(Duration::from_millis(ms));
            let times = reporter.since_last(&engine).step_time;
            (times.count(), times.sum())
        };
        assert_eq!(step(Device::Cpu, 10), (1, Duration::from_millis(10)));
        assert_eq!(step(Device::Cpu, 3), (1, Duration::from_millis(3)));
        // Another model: all that it has.
        assert_eq!(step(Device::Cuda(0), 1), (4, Duration::from_millis(1_014)));
    }
}
