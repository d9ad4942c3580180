// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table, and the same as JSON.

use std::{
    fmt::{self, Display},
    thread,
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use nemostt::{DecoderKind, Device, ModelConfig};
use serde::Serialize;

use super::{memory::Memory, stages::Stages};

/// Times are true to a few percent while other programs have the processor for less than this.
const BUSY: f64 = 0.05;

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    version: &'static str,
    model: String,
    decoder: &'static str,
    device: &'static str,
    /// 0: one per physical core.
    threads: usize,
    processor: Option<String>,
    cores: usize,
    /// With ONNX Runtime's own start.
    first_load_ms: f64,
    /// The median of the others.
    load_ms: Option<f64>,
    memory_bytes: Memory,
    /// Share of the time, 0 to 1, in which other programs had the processor.
    waiting: Option<f64>,
    lookaheads: Vec<Row>,
}

/// One lookahead. Times are in milliseconds, those of stages per chunk.
#[derive(Debug, Serialize)]
pub struct Row {
    lookahead_ms: u32,
    chunk_ms: f64,
    real_time_factor: f64,
    front_end_ms: f64,
    encoder_ms: f64,
    decoder_ms: f64,
    rest_ms: f64,
    step_median_ms: f64,
    step_p95_ms: f64,
    streams_per_core: usize,
}

impl Row {
    pub fn new(config: &ModelConfig, lookahead: u32, stages: &Stages, streams: usize) -> Self {
        let rate = f64::from(config.front_end.sample_rate);
        let frame = config.frame_samples() as f64 * 1000.0 / rate;
        let count = stages.steps.len().max(1) as f64;
        let mean = |sum: Duration| milliseconds(sum) / count;
        Self {
            lookahead_ms: lookahead,
            chunk_ms: f64::from(lookahead) + frame,
            real_time_factor: stages.used.as_secs_f64() / stages.seconds,
            front_end_ms: mean(stages.front_end),
            encoder_ms: mean(stages.encoder),
            decoder_ms: mean(stages.decoder),
            rest_ms: mean(stages.rest),
            step_median_ms: quantile(&stages.steps, 0.5),
            step_p95_ms: quantile(&stages.steps, 0.95),
            streams_per_core: streams,
        }
    }

    fn cells(&self) -> [String; 10] {
        let ms = |value: f64| digits(value);
        [
            format!("{} ms", self.lookahead_ms),
            format!("{:.0} ms", self.chunk_ms),
            digits(self.real_time_factor),
            ms(self.front_end_ms),
            ms(self.encoder_ms),
            ms(self.decoder_ms),
            ms(self.rest_ms),
            ms(self.step_median_ms),
            ms(self.step_p95_ms),
            self.streams_per_core.to_string(),
        ]
    }
}

impl Report {
    pub fn new(
        model: String,
        config: &ModelConfig,
        (first_load, loads): (Duration, Vec<Duration>),
        memory: Memory,
        waiting: Option<f64>,
        rows: Vec<Row>,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            model,
            decoder: if config.decoder == DecoderKind::Ctc {
                "ctc"
            } else {
                "rnnt"
            },
            device: if config.device == Device::Cuda { "cuda" } else { "cpu" },
            threads: config.threads,
            processor: processor(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            first_load_ms: milliseconds(first_load),
            load_ms: (!loads.is_empty()).then(|| quantile(&loads, 0.5)),
            memory_bytes: memory,
            waiting,
            lookaheads: rows,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = match self.threads {
            0 => "a thread per core".into(),
            1 => "1 thread".into(),
            n => format!("{n} threads"),
        };
        writeln!(
            f,
            "model    {}: {} on {}, {threads}",
            self.model, self.decoder, self.device
        )?;
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        writeln!(f, "machine  {processor}, {} cores", self.cores)?;
        let again = self
            .load_ms
            .map_or(String::new(), |ms| format!(", {} s again", digits(ms / 1000.0)));
        writeln!(f, "loading  {} s{again}", digits(self.first_load_ms / 1000.0))?;
        let memory = &self.memory_bytes;
        writeln!(
            f,
            "memory   {} for the model, {} for each stream more; at most {} while loading, {} in all\n",
            mebibytes(memory.model),
            mebibytes(memory.stream),
            mebibytes(memory.loading_peak),
            mebibytes(memory.peak)
        )?;
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header([
            "lookahead",
            "chunk",
            "RTF",
            "front end",
            "encoder",
            "decoder",
            "rest",
            "step",
            "p95",
            "streams/core",
        ]);
        for row in &self.lookaheads {
            table.add_row(row.cells());
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}\n")?;
        if let Some(waiting) = self.waiting.filter(|&waiting| waiting > BUSY) {
            writeln!(
                f,
                "This machine was busy: other programs had the processor for {:.0} % of the time. Measure again when it rests.",
                100.0 * waiting
            )?;
        }
        writeln!(
            f,
            "RTF: computing per second of audio. Stages: mean ms per chunk. Step: ms from a chunk's end to its words,"
        )?;
        writeln!(
            f,
            "median and 95th percentile. `nemostt bench --help` says how all this is measured."
        )
    }
}

/// What Linux calls the processor.
fn processor() -> Option<String> {
    let about = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = about.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start().strip_prefix(':')?.trim().into())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// In milliseconds; the nearest of the times, 0 of none.
fn quantile(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    let nearest = (last as f64 * share).round() as usize;
    sorted.get(nearest).map_or(0.0, |&time| milliseconds(time))
}

/// About three digits, as far as three decimals.
fn digits(value: f64) -> String {
    let decimals = match value {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.9995 => 2,
        value if value >= 0.09995 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or("unknown".into(), |bytes| {
        format!("{} MiB", digits(bytes as f64 / 1_048_576.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let times: Vec<Duration> = (1..=21).rev().map(Duration::from_millis).collect();
        assert_eq!((quantile(&times, 0.5), quantile(&times, 0.95)), (11.0, 20.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn numbers_have_about_three_digits() {
        let texts = [0.00349, 0.123_4, 1.234, 12.34, 99.96, 1234.5].map(digits);
        assert_eq!(texts, ["0.0035", "0.123", "1.23", "12.3", "100", "1234"]);
    }
}
