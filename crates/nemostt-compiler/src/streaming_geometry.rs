// SPDX-License-Identifier: MIT OR Apache-2.0

//! The relation between mel frames and encoder frames. The encoder's subsampling consists of three causal convolutions
//! of stride 2, each of which turns T frames into `floor(T / 2) + 1`. Encoder frame t depends on mel frames 8t - 14 to
//! 8t. NeMo's `CacheAwareStreamingConfig` has the same numbers.

/// Mel frames carried over from one window to the next (`pre_encode_cache_size`).
pub const PRE_ENCODE_CACHE: usize = 9;
/// Mel frames per encoder frame.
pub const SUBSAMPLING_FACTOR: usize = 8;

/// Number of encoder frames that `frames` consecutive mel frames are subsampled to.
pub const fn encoder_frames(frames: usize) -> usize {
    let halved = frames / 2 + 1;
    let quartered = halved / 2 + 1;
    quartered / 2 + 1
}

/// Mel frames of the first window, for a lookahead in encoder frames.
pub const fn first_width(lookahead: usize) -> usize {
    1 + SUBSAMPLING_FACTOR * lookahead
}

/// Mel frames of every window after the first (and, for lookahead 0, the second one), including cached ones.
pub const fn full_width(lookahead: usize) -> usize {
    PRE_ENCODE_CACHE + SUBSAMPLING_FACTOR * (lookahead + 1)
}
