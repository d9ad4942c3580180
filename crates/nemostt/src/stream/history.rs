// SPDX-License-Identifier: MIT OR Apache-2.0

//! The last windows of a stream whose device may fail. Encoding them again on another device restores the context of the
//! encoder, whatever is left of its caches.
//!
//! How close that comes: a layer attends to `left_context` frames of the layer before, so what the last of L layers knows
//! reaches L times as far back. Two contexts are kept: the cached frames themselves get at least one context of their own,
//! and what is missing is the influence of older audio through them, which fades with each layer. With the built-in model,
//! words and times are those of an undisturbed stream.

use std::collections::VecDeque;

use crate::chunker::Window;

/// The last windows, with the language prompt of each.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    windows: VecDeque<Recorded>,
    limit: usize,
}

/// A [`Window`] with its own frames.
#[derive(Debug, Clone, Default)]
struct Recorded {
    frames: Vec<f32>,
    len: usize,
    width: usize,
    drop_frames: usize,
    outputs: usize,
    prompt: i64,
}

impl History {
    /// Of at most `limit` windows.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            windows: VecDeque::with_capacity(limit),
            limit,
        }
    }

    /// Adds a window that was encoded with `prompt`, in place of the oldest one.
    pub(super) fn push(&mut self, window: &Window<'_>, prompt: i64) {
        if self.limit == 0 {
            return;
        }
        let mut recorded = match self.windows.len() < self.limit {
            true => Recorded::default(),
            false => self.windows.pop_front().unwrap_or_default(),
        };
        recorded.frames.clear();
        recorded.frames.extend_from_slice(window.frames);
        let &Window {
            len,
            width,
            drop_frames,
            outputs,
            ..
        } = window;
        (recorded.len, recorded.width) = (len, width);
        (recorded.drop_frames, recorded.outputs) = (drop_frames, outputs);
        recorded.prompt = prompt;
        self.windows.push_back(recorded);
    }

    /// The windows and prompts, oldest first.
    pub(super) fn windows(&self) -> impl Iterator<Item = (Window<'_>, i64)> {
        self.windows.iter().map(|recorded| {
            let window = Window {
                frames: &recorded.frames,
                len: recorded.len,
                width: recorded.width,
                drop_frames: recorded.drop_frames,
                outputs: recorded.outputs,
            };
            (window, recorded.prompt)
        })
    }

    /// Number of windows.
    #[cfg(feature = "triton")]
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    pub(super) fn clear(&mut self) {
        self.windows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_windows_are_kept_in_order() {
        let mut history = History::new(2);
        let frames = [1.0, 2.0, 3.0];
        let window = |len: usize| Window {
            frames: &frames[..len],
            len,
            width: 10 * len,
            drop_frames: len - 1,
            outputs: 2 * len,
        };
        for len in [2, 3, 1] {
            history.push(&window(len), 5 + len as i64);
        }
        let kept: Vec<_> = history.windows().collect();
        assert_eq!(kept, [(window(3), 8), (window(1), 6)]);
        history.clear();
        assert_eq!(history.windows().count(), 0);
        let mut none = History::default();
        none.push(&window(1), 0);
        assert_eq!(none.windows().count(), 0);
    }
}
