// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory of this process, as reported by Linux.

use crate::Result;

const MIB: f64 = 1_048_576.0;

/// Memory after the first hour of audio and now, in bytes.
pub struct Memory {
    first: Option<u64>,
    last: u64,
    /// Allowed growth in MiB.
    growth: u32,
}

impl Memory {
    pub fn new(growth: u32) -> Self {
        Self {
            first: None,
            last: 0,
            growth,
        }
    }

    /// Measures the memory and describes the result.
    pub fn measure(&mut self) -> Result<String> {
        self.last = anonymous()?;
        let first = *self.first.get_or_insert(self.last);
        Ok(format!(
            "{:.1} MiB, {:+.1} since the first hour",
            self.last as f64 / MIB,
            (self.last as f64 - first as f64) / MIB
        ))
    }

    /// # Errors
    ///
    /// If memory grew by more than the limit.
    pub fn check(&self) -> Result<()> {
        let Some(first) = self.first else { return Ok(()) };
        let grown = self.last.saturating_sub(first) as f64 / MIB;
        match grown > self.growth.into() {
            true => Err(format!("memory grew by {grown:.1} MiB, more than {} MiB", self.growth).into()),
            false => Ok(()),
        }
    }
}

/// Anonymous memory in bytes: without file-backed pages, which the kernel can drop at any time, but with swapped pages.
fn anonymous() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kibibytes = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.trim().strip_suffix("kB"));
        let value = value.ok_or_else(|| format!("no {name} in /proc/self/status"))?;
        Ok(value.trim().parse()?)
    };
    Ok((kibibytes("RssAnon:")? + kibibytes("VmSwap:")?) * 1024)
}
