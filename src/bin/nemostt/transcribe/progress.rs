// SPDX-License-Identifier: MIT OR Apache-2.0

//! Progress bars on standard error. indicatif hides them if it is not a terminal.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Files shorter than this many seconds get no progress bar.
const WORTH_A_BAR: u64 = 10;
/// Characters of the file name next to its bar.
const NAME: usize = 28;

/// The bar of a single file.
pub fn alone(samples: Option<u64>, rate: u32) -> ProgressBar {
    match samples.filter(|samples| samples / u64::from(rate) >= WORTH_A_BAR) {
        Some(samples) => ProgressBar::new(samples).with_style(style("{bar:40} {percent:>3} %, {eta} left")),
        None => ProgressBar::hidden(),
    }
}

/// The bars of several files: one per file in progress, and one for all.
pub struct Bars {
    all: MultiProgress,
    files: ProgressBar,
}

impl Bars {
    /// Bars for `count` files.
    pub fn new(count: usize) -> Self {
        let all = MultiProgress::new();
        let files = ProgressBar::new(count as u64).with_style(style("{pos} of {len} files {bar:40}, {eta} left"));
        let files = match count {
            // The file's own bar is enough.
            1 => ProgressBar::hidden(),
            _ => all.add(files),
        };
        Self { all, files }
    }

    /// A bar for a file of so many samples.
    pub fn file(&self, name: String, samples: Option<u64>) -> ProgressBar {
        let name = match name.char_indices().nth_back(NAME - 1) {
            Some((from, _)) if from > 0 => format!("…{}", name.get(from..).unwrap_or_default()),
            _ => name,
        };
        let bar = match samples {
            Some(samples) => ProgressBar::new(samples).with_style(style("{prefix:<29} {bar:30} {percent:>3} %")),
            None => ProgressBar::new_spinner().with_style(style("{prefix:<29} {spinner}")),
        };
        self.all.insert_before(&self.files, bar.with_prefix(name))
    }

    /// Marks a file as done.
    pub fn advance(&self) {
        self.files.inc(1);
    }

    /// Hides the bars while `write` writes.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.all.suspend(write)
    }

    /// Removes the bars.
    pub fn clear(&self) {
        // A bar that cannot be cleared is harmless.
        let _ = self.all.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
