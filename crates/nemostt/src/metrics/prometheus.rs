// SPDX-License-Identifier: MIT OR Apache-2.0

//! Engines as Prometheus reads them: names, units and labels of all metrics. `docs/metrics.md` explains them.

use super::{
    EngineMetrics, Histogram, LaneMetrics,
    exposition::{Buckets, Exposition, Kind, Labels},
};

/// Bounds of batch sizes: powers of two, which a GPU fills batches up to, as far as batches of a GPU go if no option says
/// otherwise, and one more.
const BATCH_SIZES: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// A metric with one number for each engine.
struct Scalar {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&Engine) -> f64,
}

/// A histogram of each engine.
struct Times {
    name: &'static str,
    help: &'static str,
    value: fn(&LaneMetrics) -> &Histogram,
}

/// An engine, or all that are alike.
struct Engine {
    metrics: EngineMetrics,
    /// All of its lanes.
    total: LaneMetrics,
    labels: Labels,
}

const SCALARS: [Scalar; 13] = [
    Scalar {
        name: "nemostt_streams",
        kind: Kind::Gauge,
        help: "Streams at the moment.",
        value: |engine| engine.metrics.streams as f64,
    },
    Scalar {
        name: "nemostt_streams_started_total",
        kind: Kind::Counter,
        help: "Streams that were created.",
        value: |engine| engine.metrics.streams_started as f64,
    },
    Scalar {
        name: "nemostt_audio_seconds_total",
        kind: Kind::Counter,
        help: "Audio that all streams were given, in seconds.",
        value: |engine| engine.metrics.audio.as_secs_f64(),
    },
    Scalar {
        name: "nemostt_words_total",
        kind: Kind::Counter,
        help: "Words that all streams have emitted.",
        value: |engine| engine.metrics.words as f64,
    },
    Scalar {
        name: "nemostt_errors_total",
        kind: Kind::Counter,
        help: "Steps of streams that failed, whatever the reason.",
        value: |engine| engine.metrics.errors as f64,
    },
    Scalar {
        name: "nemostt_lanes",
        kind: Kind::Gauge,
        help: "Lanes: each computes the steps of a share of the streams.",
        value: |engine| engine.metrics.lanes.len() as f64,
    },
    Scalar {
        name: "nemostt_stream_bytes",
        kind: Kind::Gauge,
        help: "Memory of the encoder's caches, inputs and outputs of each stream, in bytes.",
        value: |engine| engine.metrics.bytes_per_stream as f64,
    },
    Scalar {
        name: "nemostt_spare_slots",
        kind: Kind::Gauge,
        help: "Memory of this many streams that have ended is kept for others.",
        value: |engine| engine.metrics.spare_slots as f64,
    },
    Scalar {
        name: "nemostt_pending_steps",
        kind: Kind::Gauge,
        help: "Steps of the encoder that wait for a batch.",
        value: |engine| engine.total.pending as f64,
    },
    Scalar {
        name: "nemostt_pending_steps_max",
        kind: Kind::Gauge,
        help: "The most steps that waited in a lane at the same time.",
        value: |engine| engine.total.max_pending as f64,
    },
    Scalar {
        name: "nemostt_failed_batches_total",
        kind: Kind::Counter,
        help: "Batches that failed.",
        value: |engine| engine.total.failed_batches as f64,
    },
    Scalar {
        name: "nemostt_retried_steps_total",
        kind: Kind::Counter,
        help: "Steps that ran again, alone, because their batch failed.",
        value: |engine| engine.total.retried_jobs as f64,
    },
    Scalar {
        name: "nemostt_failed_steps_total",
        kind: Kind::Counter,
        help: "Steps that panicked alone, too.",
        value: |engine| engine.total.failed_jobs as f64,
    },
];

const TIMES: [Times; 2] = [
    Times {
        name: "nemostt_queue_delay_seconds",
        help: "How long each step of a stream waited for its batch to begin.",
        value: |total| &total.queue_delay,
    },
    Times {
        name: "nemostt_batch_duration_seconds",
        help: "How long each batch of steps took.",
        value: |total| &total.step_time,
    },
];

/// The metrics of `engines` in Prometheus' text format, version 0.0.4.
///
/// Each sample has the labels `model`, `device`, `precision` and `lookahead_ms`. Engines in which these are the same are
/// added up.
pub fn prometheus_text(engines: &[EngineMetrics]) -> String {
    let mut text = Exposition::default();
    let build = Labels::default().with("version", env!("CARGO_PKG_VERSION"));
    text.family("nemostt_build_info", Kind::Gauge, "Always 1; the version is a label.");
    text.sample("nemostt_build_info", &build, 1);
    let engines = unlike(engines);
    if engines.is_empty() {
        return text.into_text();
    }
    for scalar in &SCALARS {
        text.family(scalar.name, scalar.kind, scalar.help);
        for engine in &engines {
            text.sample(scalar.name, &engine.labels, (scalar.value)(engine));
        }
    }
    let name = "nemostt_batch_size";
    text.family(name, Kind::Histogram, "Streams whose steps were computed together.");
    for engine in &engines {
        let buckets = Buckets {
            bounds: &BATCH_SIZES.map(f64::from),
            counts: &batch_sizes(&engine.total),
            sum: engine.total.jobs as f64,
        };
        text.histogram(name, &engine.labels, &buckets);
    }
    for times in &TIMES {
        text.family(times.name, Kind::Histogram, times.help);
        for engine in &engines {
            let histogram = (times.value)(&engine.total);
            let buckets = Buckets {
                bounds: &Histogram::bounds().map(|bound| bound.as_secs_f64()),
                counts: histogram.counts(),
                sum: histogram.sum().as_secs_f64(),
            };
            text.histogram(times.name, &engine.labels, &buckets);
        }
    }
    text.into_text()
}

/// Engines with those that are alike added up: each combination of labels may occur once.
fn unlike(engines: &[EngineMetrics]) -> Vec<Engine> {
    let mut merged: Vec<EngineMetrics> = Vec::new();
    for engine in engines {
        match merged.iter_mut().find(|other| other.is_alike(engine)) {
            Some(other) => other.merge(engine),
            None => merged.push(engine.clone()),
        }
    }
    let with_labels = |metrics: EngineMetrics| Engine {
        total: metrics.total(),
        labels: Labels::default()
            .with("model", &metrics.model)
            .with("device", metrics.device)
            .with("precision", metrics.precision.name())
            .with("lookahead_ms", metrics.lookahead_ms),
        metrics,
    };
    merged.into_iter().map(with_labels).collect()
}

/// Batches by [size](BATCH_SIZES), and those that are larger.
fn batch_sizes(total: &LaneMetrics) -> [u64; BATCH_SIZES.len() + 1] {
    let mut counts = [0; BATCH_SIZES.len() + 1];
    for (size, count) in (1..).zip(&total.batch_sizes) {
        counts[BATCH_SIZES.partition_point(|&bound| usize::from(bound) < size)] += count;
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use nemostt_compiler::Precision;

    use super::*;
    use crate::{device::Device, metrics::Failures};

    fn engine(model: &str, device: Device) -> EngineMetrics {
        let mut lane = LaneMetrics::default();
        lane.expect_batches_of(200);
        for size in [1, 1, 3, 200] {
            lane.count_batch(size, Failures::default(), Duration::from_millis(3));
        }
        let failures = Failures {
            batch: true,
            retried_jobs: 2,
            failed_jobs: 1,
        };
        lane.count_batch(2, failures, Duration::from_secs(20));
        lane.count_pending(4);
        lane.queue_delay.record(Duration::from_micros(150));
        EngineMetrics {
            model: model.into(),
            device,
            precision: Precision::Fp32,
            lookahead_ms: 80,
            streams: 2,
            streams_started: 5,
            audio: Duration::from_millis(2_500),
            words: 7,
            errors: 6,
            bytes_per_stream: 4_096,
            spare_slots: 3,
            lanes: vec![lane],
        }
    }

    #[test]
    fn text_is_that_of_the_golden_file() {
        let text = prometheus_text(&[engine("models/small", Device::Cpu)]);
        let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        assert_eq!(text, include_str!("prometheus/golden.txt"));
    }

    /// As the format demands: one group for each family, with its type first, and no sample twice.
    #[test]
    fn families_are_groups_and_samples_are_unique() {
        let [cpu, cuda, other] = [("a", Device::Cpu), ("a", Device::Cuda(1)), ("b \"c\"\n", Device::Cpu)]
            .map(|(model, device)| engine(model, device));
        let text = prometheus_text(&[cpu.clone(), cuda, cpu, other]);
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
        let (mut families, mut samples) = (HashSet::new(), HashSet::new());
        let mut family = "";
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                family = declared.split(' ').next().unwrap();
                assert!(families.insert(family), "{family} is declared again");
            } else if !line.starts_with("# HELP ") {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert!(sample.starts_with(family) && samples.insert(sample), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert_eq!(families.len(), SCALARS.len() + TIMES.len() + 2);
        // Two that are alike.
        let streams = r#"nemostt_streams{model="a",device="cpu",precision="fp32",lookahead_ms="80"} 4"#;
        assert!(text.contains(streams), "{text}");
        assert!(text.contains(r#"{model="b \"c\"\n",device="cpu""#), "{text}");
    }

    #[test]
    fn without_engines_there_is_only_the_version() {
        assert_eq!(prometheus_text(&[]).lines().count(), 3);
    }
}
