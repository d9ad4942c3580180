// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a model and its streams take of memory, as Linux counts it. Elsewhere nothing is known.

use nemostt::Recognizer;
use serde::Serialize;

use crate::Result;

/// Streams to tell what one more of them takes.
const STREAMS: usize = 8;

/// Bytes of resident memory.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// Of the loaded model with one stream at work.
    pub model: Option<u64>,
    /// Of each stream more.
    pub stream: Option<u64>,
    /// Of the whole process, at most, until the model was loaded.
    pub loading_peak: Option<u64>,
    /// Of the whole process, at most.
    pub peak: Option<u64>,
}

impl Memory {
    /// Measures with a recogniser that was just loaded, when `before` bytes were in use. To be called once and first: memory
    /// that was used before and given back would hide what is taken.
    pub fn measure(
        recognizer: &Recognizer,
        speech: &[f32],
        before: Option<u64>,
        loading_peak: Option<u64>,
    ) -> Result<Self> {
        // The first runs take room for what the graph computes, which all streams share.
        let mut first = recognizer.stream()?;
        first.accept(speech)?;
        let loaded = resident();

        let config = recognizer.config();
        // Two steps write both copies of the caches; three chunks make sure of two steps.
        let chunks = 3 * (config.lookahead + 1) * config.frame_samples() as usize;
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = recognizer.stream()?;
            stream.accept(&speech[..chunks.min(speech.len())])?;
            streams.push(stream);
        }
        Ok(Self {
            model: gained(before, loaded),
            stream: gained(loaded, resident()).map(|bytes| bytes / STREAMS as u64),
            loading_peak,
            peak: None,
        })
    }

    /// With the most there ever was.
    pub fn with_peak(self, peak: Option<u64>) -> Self {
        Self { peak, ..self }
    }
}

/// Resident memory of this process, in bytes.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most it ever was.
pub fn peak() -> Option<u64> {
    status("VmHWM:")
}

fn gained(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
