// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory of a model and its streams, as Linux reports it. Unknown on other systems.

use nemostt::Recognizer;
use serde::Serialize;

use super::process;
use crate::Result;

/// Streams over which the memory of one is averaged.
const STREAMS: usize = 8;

/// Bytes of resident memory.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// The loaded model with one active stream.
    pub model: Option<u64>,
    /// Each additional stream.
    pub stream: Option<u64>,
    /// Peak of the process until the model was loaded.
    pub loading_peak: Option<u64>,
    /// Peak of the process.
    pub peak: Option<u64>,
}

impl Memory {
    /// Measures with a recognizer that was just loaded, when `before` bytes were in use. Must be called once and first: memory
    /// that was allocated and freed before would hide new allocations.
    pub fn measure(
        recognizer: &Recognizer,
        speech: &[f32],
        before: Option<u64>,
        loading_peak: Option<u64>,
    ) -> Result<Self> {
        // The first runs allocate ONNX Runtime's arena, which all streams share.
        let mut first = recognizer.stream()?;
        first.accept(speech)?;
        let loaded = resident();

        let config = recognizer.config();
        // Two steps write both copies of the caches, and three chunks guarantee two steps.
        let chunks = 3 * (config.lookahead + 1) * config.frame_samples() as usize;
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = recognizer.stream()?;
            stream.accept(&speech[..chunks.min(speech.len())])?;
            streams.push(stream);
        }
        Ok(Self {
            model: increase(before, loaded),
            stream: increase(loaded, resident()).map(|bytes| bytes / STREAMS as u64),
            loading_peak,
            peak: None,
        })
    }

    /// Adds the peak of the process.
    pub fn with_peak(self, peak: Option<u64>) -> Self {
        Self { peak, ..self }
    }
}

/// Resident memory of this process in bytes.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// Peak of the resident memory of this process in bytes.
pub fn peak() -> Option<u64> {
    status("VmHWM:")
}

fn increase(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

fn status(key: &str) -> Option<u64> {
    let kibibytes: u64 = process::status(key)?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
