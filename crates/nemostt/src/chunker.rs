// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cuts the stream of mel frames into the windows that the encoder was trained with.
//!
//! The encoder's subsampling is three causal convolutions of stride 2: output t depends on mel frames 8t-14 to 8t, and
//! each convolution has `floor(T/2)+1` outputs for T inputs. A window therefore starts with the 9 mel frames before its
//! new ones (NeMo's *pre-encode cache*), and the outputs that belong to those are *dropped*. With lookahead R (in
//! encoder frames):
//!
//! | window | cached | new frames | drop | outputs |
//! |---|---|---|---|---|
//! | first | 0 | 1 + 8R | 0 | R + 1 |
//! | second, R = 0 only | 1 (all there is) | 8 | 1 | 1 |
//! | later | 9 | 8 + 8R | 2 | R + 1 |
//! | last | as above | the rest, at least 1 | as above | as many as follow |
//!
//! This is NeMo's `CacheAwareStreamingAudioBuffer` with `pad_and_drop_preencoded=False`, with two differences that make
//! it equal to the offline encoder on *every* frame: the second window of R = 0 is not padded with zero frames, and the
//! last window is processed however short it is (NeMo discards fewer than 8 frames).

pub use nemostt_compiler::streaming_geometry::{
    PRE_ENCODE_CACHE, SUBSAMPLING_FACTOR, encoder_frames, first_width, full_width,
};

/// A window of mel frames for the encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window<'a> {
    /// `len` consecutive mel frames, the cached ones first.
    pub frames: &'a [f32],
    /// Number of mel frames.
    pub len: usize,
    /// Width of the encoder's input, which is padded with zeros; larger than `len` only in the last window.
    pub width: usize,
    /// Encoder frames of the cached mel frames, to be dropped.
    pub drop_frames: usize,
    /// Encoder frames after the drop.
    pub outputs: usize,
}

/// Collects mel frames until a window is full.
#[derive(Debug)]
pub struct Chunker {
    mels: usize,
    lookahead: usize,
    /// Cached and new frames of the next window.
    frames: Vec<f32>,
    /// Number of cached frames; 0 only in the first window.
    cached: usize,
}

/// The state of a [`Chunker`] between two frames.
#[derive(Debug, Default)]
pub(crate) struct ChunkerSnapshot {
    frames: Vec<f32>,
    cached: usize,
}

impl Chunker {
    /// A chunker for `mels` mel bands and a lookahead of `lookahead` encoder frames.
    pub fn new(mels: usize, lookahead: usize) -> Self {
        Self {
            mels,
            lookahead,
            frames: Vec::with_capacity(mels * full_width(lookahead)),
            cached: 0,
        }
    }

    /// Adds one mel frame. The caller must process the [window](Self::window) and [advance](Self::advance) as soon as
    /// it [is full](Self::is_full).
    pub fn push(&mut self, frame: &[f32]) {
        debug_assert_eq!(frame.len(), self.mels);
        debug_assert!(!self.is_full(), "advance was not called after a full window");
        self.frames.extend_from_slice(frame);
    }

    fn len(&self) -> usize {
        self.frames.len() / self.mels
    }

    fn width(&self) -> usize {
        match self.cached {
            0 => first_width(self.lookahead),
            cached => cached + SUBSAMPLING_FACTOR * (self.lookahead + 1),
        }
    }

    /// Whether the window is complete.
    pub fn is_full(&self) -> bool {
        self.len() == self.width()
    }

    /// Whether the window has new frames. At the end of the stream it is then the last one, however short.
    pub fn has_new(&self) -> bool {
        self.len() > self.cached
    }

    /// The current window. Call [`advance`](Self::advance) after processing it.
    pub fn window(&self) -> Window<'_> {
        let len = self.len();
        let drop = match self.cached {
            0 => 0,
            cached => encoder_frames(cached),
        };
        Window {
            frames: &self.frames,
            len,
            width: self.width(),
            drop_frames: drop,
            outputs: encoder_frames(len) - drop,
        }
    }

    /// Drops the current window, except for the frames that the next one needs.
    pub fn advance(&mut self) {
        let len = self.len();
        self.cached = len.min(PRE_ENCODE_CACHE);
        self.frames.drain(..(len - self.cached) * self.mels);
    }

    /// Resets to the start of a stream.
    pub fn reset(&mut self) {
        self.frames.clear();
        self.cached = 0;
    }

    /// Copies the state that [`reset`](Self::reset) clears.
    pub(crate) fn save(&self, snapshot: &mut ChunkerSnapshot) {
        snapshot.frames.clone_from(&self.frames);
        snapshot.cached = self.cached;
    }

    /// Restores the state saved in `snapshot`.
    pub(crate) fn restore(&mut self, snapshot: &ChunkerSnapshot) {
        self.frames.clone_from(&snapshot.frames);
        self.cached = snapshot.cached;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (frames, width, drop, outputs) of each window of a stream of `total` mel frames, which have one band: their
    /// index.
    fn windows(lookahead: usize, total: usize) -> Vec<(Vec<f32>, usize, usize, usize)> {
        let mut chunker = Chunker::new(1, lookahead);
        let mut seen = Vec::new();
        let mut record = |w: Window<'_>| seen.push((w.frames.to_vec(), w.width, w.drop_frames, w.outputs));
        for frame in 0..total {
            chunker.push(&[frame as f32]);
            if chunker.is_full() {
                record(chunker.window());
                chunker.advance();
            }
        }
        if chunker.has_new() {
            record(chunker.window());
        }
        seen
    }

    fn numbers(range: std::ops::Range<usize>) -> Vec<f32> {
        range.map(|n| n as f32).collect()
    }

    #[test]
    fn encoder_frames_match_nemo() {
        for (frames, outputs) in [(1, 1), (8, 2), (9, 2), (17, 3), (25, 4), (65, 9), (105, 14), (121, 16)] {
            assert_eq!(encoder_frames(frames), outputs, "{frames}");
        }
    }

    #[test]
    fn windows_have_1_plus_8r_then_17_plus_8r_frames() {
        for lookahead in [1, 6, 13] {
            let seen = windows(lookahead, 500);
            let (first, later) = (1 + 8 * lookahead, 8 + 8 * lookahead);
            assert_eq!(seen[0], (numbers(0..first), first, 0, lookahead + 1));
            for (i, window) in seen[1..seen.len() - 1].iter().enumerate() {
                let new = first + i * later;
                let frames = numbers(new - 9..new + later);
                assert_eq!(*window, (frames, 17 + 8 * lookahead, 2, lookahead + 1));
            }
        }
    }

    #[test]
    fn lookahead_0_starts_with_1_then_9_frames() {
        let seen = windows(0, 17);
        assert_eq!(seen[0], (numbers(0..1), 1, 0, 1));
        assert_eq!(seen[1], (numbers(0..9), 9, 1, 1));
        assert_eq!(seen[2], (numbers(0..17), 17, 2, 1));
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn windows_cover_the_offline_encoder_frames() {
        for lookahead in [0, 1, 6, 13] {
            for total in 1..400 {
                let outputs: usize = windows(lookahead, total).iter().map(|w| w.3).sum();
                assert_eq!(outputs, encoder_frames(total), "lookahead {lookahead}, {total} frames");
            }
        }
    }

    #[test]
    fn last_window_keeps_its_width() {
        let seen = windows(1, 9 + 16 + 3);
        let (frames, width, drop, outputs) = seen.last().unwrap();
        assert_eq!((frames.len(), *width, *drop, *outputs), (12, 25, 2, 1));
    }
}
