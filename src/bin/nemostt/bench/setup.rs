// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a report begins with: model and machine.

use std::{
    fmt::{self, Display},
    thread,
};

use nemostt::{DecoderKind, ModelConfig};
use serde::Serialize;

/// A model, how it runs, and on what.
#[derive(Debug, Serialize)]
pub struct Setup {
    version: &'static str,
    pub model: String,
    decoder: &'static str,
    device: String,
    /// 0: one per physical core.
    threads: usize,
    processor: Option<String>,
    cores: usize,
}

impl Setup {
    pub fn new(model: String, config: &ModelConfig) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            model,
            decoder: if config.decoder == DecoderKind::Ctc {
                "ctc"
            } else {
                "rnnt"
            },
            device: config.device.to_string(),
            threads: config.threads,
            processor: processor(),
            cores: thread::available_parallelism().map_or(1, usize::from),
        }
    }

    pub fn machine(&self) -> String {
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        format!("{processor}, {} cores", self.cores)
    }
}

impl Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = match self.threads {
            0 => "one thread per core".into(),
            1 => "1 thread".into(),
            n => format!("{n} threads"),
        };
        writeln!(
            f,
            "model      {}: {} on {}, {threads}",
            self.model, self.decoder, self.device
        )?;
        writeln!(f, "machine    {}", self.machine())
    }
}

#[cfg(test)]
impl Setup {
    pub fn for_test(model: &str) -> Self {
        Self {
            version: "1",
            model: model.into(),
            decoder: "rnnt",
            device: "cpu".into(),
            threads: 1,
            processor: None,
            cores: 2,
        }
    }
}

/// The name of the processor, on Linux.
fn processor() -> Option<String> {
    let about = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = about.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start().strip_prefix(':')?.trim().into())
}
