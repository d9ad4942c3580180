// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the element tells an operator, as the property `metrics` and as messages: what it has done since it was started, and
//! what the model has that it shares with other elements.
//!
//! Messages are posted at an interval of the system's clock, neither of audio nor of the pipeline's clock. For a live source
//! these are the same until something is wrong, and then a message is needed most: while the source stalls there is no audio.
//! A file may be transcribed a hundred times faster than it plays, and would post as many messages. An interval of this clock
//! has the rate that the operator asked for in both cases.

use std::time::Instant;

use gst::{prelude::*, subclass::prelude::*};

use super::{imp::NemoStt, input::SAMPLE_RATE, reporter::Reporter, segment::clock_time};
use nemostt::{EngineMetrics, LaneMetrics, metrics::Histogram, sample_time, sync::lock};

/// Name of the structure.
const NAME: &str = "nemostt-metrics";

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
        self.loader.ready()?.recognizer.all_metrics().pop()
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
