// SPDX-License-Identifier: MIT OR Apache-2.0

//! Progress bars on standard error, which indicatif hides where that is no terminal.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Files shorter than this, in seconds, are done before anyone looks at a progress bar.
const WORTH_A_BAR: u64 = 10;
/// Characters of a file's name beside its bar.
const NAME: usize = 28;

/// The bar of the only file.
pub fn alone(samples: Option<u64>, rate: u32) -> ProgressBar {
    match samples.filter(|samples| samples / u64::from(rate) >= WORTH_A_BAR) {
        Some(samples) => ProgressBar::new(samples).with_style(style("{bar:40} {percent:>3} %, {eta} left")),
        None => ProgressBar::hidden(),
    }
}

/// The bars of several files: one for each that is being heard, and one for all.
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
            // Its own bar says as much.
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

    /// A file is done.
    pub fn advance(&self) {
        self.files.inc(1);
    }

    /// Takes the bars out of the way while `write` writes.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.all.suspend(write)
    }

    /// All is done.
    pub fn clear(&self) {
        // What cannot be cleared stays.
        let _ = self.all.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
