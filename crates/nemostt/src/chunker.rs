// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cuts the stream of mel frames into the windows that the encoder was trained on.
//!
//! The encoder's subsampling is three causal convolutions of stride 2: output t sees the mel frames 8t-14 to 8t, and T
//! frames in a row give `floor(T/2)+1`, three times over. A window therefore begins with the 9 mel frames before its
//! new ones (the *carry*), and the outputs that belong to the carry are *dropped*. With lookahead R (in encoder frames):
//!
//! | window | carry | new frames | drop | outputs |
//! |---|---|---|---|---|
//! | first | 0 | 1 + 8R | 0 | R + 1 |
//! | second, R = 0 only | 1 (all there is) | 8 | 1 | 1 |
//! | later | 9 | 8 + 8R | 2 | R + 1 |
//! | last | as above | what is left, at least 1 | as above | what they give |
//!
//! This is NeMo's `CacheAwareStreamingAudioBuffer` with `pad_and_drop_preencoded=False`, with two differences that make
//! it equal to the offline encoder on *every* frame: the second window of R = 0 is not filled up with zero frames, and
//! the last window is used however short it is (NeMo throws fewer than 8 frames away).

pub use nemostt_compiler::streaming_geometry::{
    PRE_ENCODE_CACHE, SUBSAMPLING_FACTOR, encoder_frames, first_width, full_width,
};

/// One window, ready for the encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window<'a> {
    /// `len` mel frames one after the other, the carry first.
    pub frames: &'a [f32],
    /// How many they are.
    pub len: usize,
    /// To how many frames the encoder's input is filled up with zeros; more than `len` in the last window only.
    pub width: usize,
    /// Encoder frames that belong to the carry.
    pub drop_frames: usize,
    /// Encoder frames that the window gives after the drop.
    pub outputs: usize,
}

/// Collects mel frames until a window is full.
#[derive(Debug)]
pub struct Chunker {
    mels: usize,
    lookahead: usize,
    /// Carry and new frames of the window to come, frame after frame.
    frames: Vec<f32>,
    /// How many of them are carried over: none in the first window only.
    carry: usize,
}

/// What a [`Chunker`] holds between two frames.
#[derive(Debug, Default)]
pub(crate) struct ChunkerSnapshot {
    frames: Vec<f32>,
    carry: usize,
}

impl Chunker {
    /// Windows for `mels` bands and a lookahead of `lookahead` encoder frames.
    pub fn new(mels: usize, lookahead: usize) -> Self {
        Self {
            mels,
            lookahead,
            frames: Vec::with_capacity(mels * full_width(lookahead)),
            carry: 0,
        }
    }

    /// Adds one mel frame. The caller takes the [window](Self::window) as soon as it [is full](Self::is_full).
    pub fn push(&mut self, frame: &[f32]) {
        debug_assert_eq!(frame.len(), self.mels);
        debug_assert!(!self.is_full(), "a full window was not taken");
        self.frames.extend_from_slice(frame);
    }

    fn len(&self) -> usize {
        self.frames.len() / self.mels
    }

    fn width(&self) -> usize {
        match self.carry {
            0 => first_width(self.lookahead),
            carry => carry + SUBSAMPLING_FACTOR * (self.lookahead + 1),
        }
    }

    /// Whether the window has all its frames.
    pub fn is_full(&self) -> bool {
        self.len() == self.width()
    }

    /// Whether the window has any new frame: at the end of a stream it is the last one then, however short.
    pub fn has_new(&self) -> bool {
        self.len() > self.carry
    }

    /// The window as it is. [`advance`](Self::advance) then makes room for the next one.
    pub fn window(&self) -> Window<'_> {
        let len = self.len();
        let drop = match self.carry {
            0 => 0,
            carry => encoder_frames(carry),
        };
        Window {
            frames: &self.frames,
            len,
            width: self.width(),
            drop_frames: drop,
            outputs: encoder_frames(len) - drop,
        }
    }

    /// Forgets a window that was taken, but for the carry of the next one.
    pub fn advance(&mut self) {
        let len = self.len();
        self.carry = len.min(PRE_ENCODE_CACHE);
        self.frames.drain(..(len - self.carry) * self.mels);
    }

    /// Back to the start of a stream.
    pub fn reset(&mut self) {
        self.frames.clear();
        self.carry = 0;
    }

    /// Copies what [`reset`](Self::reset) clears.
    pub(crate) fn save(&self, snapshot: &mut ChunkerSnapshot) {
        snapshot.frames.clone_from(&self.frames);
        snapshot.carry = self.carry;
    }

    /// Back to where `snapshot` was taken.
    pub(crate) fn restore(&mut self, snapshot: &ChunkerSnapshot) {
        self.frames.clone_from(&snapshot.frames);
        self.carry = snapshot.carry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (frames, width, drop, outputs) of every window of a stream of `total` mel frames, whose one band is their number.
    fn windows(lookahead: usize, total: usize) -> Vec<(Vec<f32>, usize, usize, usize)> {
        let mut chunker = Chunker::new(1, lookahead);
        let mut seen = Vec::new();
        let mut note = |w: Window<'_>| seen.push((w.frames.to_vec(), w.width, w.drop_frames, w.outputs));
        for frame in 0..total {
            chunker.push(&[frame as f32]);
            if chunker.is_full() {
                note(chunker.window());
                chunker.advance();
            }
        }
        if chunker.has_new() {
            note(chunker.window());
        }
        seen
    }

    fn numbers(range: std::ops::Range<usize>) -> Vec<f32> {
        range.map(|n| n as f32).collect()
    }

    #[test]
    fn the_table_of_nemo_streaming() {
        for (frames, outputs) in [(1, 1), (8, 2), (9, 2), (17, 3), (25, 4), (65, 9), (105, 14), (121, 16)] {
            assert_eq!(encoder_frames(frames), outputs, "{frames}");
        }
    }

    #[test]
    fn windows_are_1_plus_8r_then_17_plus_8r_with_9_carried() {
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
    fn lookahead_0_begins_with_1_then_9_frames() {
        let seen = windows(0, 17);
        assert_eq!(seen[0], (numbers(0..1), 1, 0, 1));
        assert_eq!(seen[1], (numbers(0..9), 9, 1, 1));
        assert_eq!(seen[2], (numbers(0..17), 17, 2, 1));
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn no_frame_of_the_offline_encoder_is_missing_or_doubled() {
        for lookahead in [0, 1, 6, 13] {
            for total in 1..400 {
                let outputs: usize = windows(lookahead, total).iter().map(|w| w.3).sum();
                assert_eq!(outputs, encoder_frames(total), "lookahead {lookahead}, {total} frames");
            }
        }
    }

    #[test]
    fn the_last_window_keeps_its_width() {
        let seen = windows(1, 9 + 16 + 3);
        let (frames, width, drop, outputs) = seen.last().unwrap();
        assert_eq!((frames.len(), *width, *drop, *outputs), (12, 25, 2, 1));
    }
}
