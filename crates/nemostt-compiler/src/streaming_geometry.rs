// SPDX-License-Identifier: MIT OR Apache-2.0

//! How mel frames become encoder frames. The encoder's subsampling is three causal convolutions of stride 2: output t sees the mel
//! frames 8t-14 to 8t, and T frames in a row give `floor(T/2)+1`, three times over. NeMo's `CacheAwareStreamingConfig`
//! has the same numbers.

/// Mel frames carried over from one window to the next (`pre_encode_cache_size`).
pub const PRE_ENCODE_CACHE: usize = 9;
/// Mel frames per encoder frame.
pub const SUBSAMPLING_FACTOR: usize = 8;

/// Encoder frames that `frames` mel frames in a row give.
pub const fn encoder_frames(frames: usize) -> usize {
    let halved = frames / 2 + 1;
    let quartered = halved / 2 + 1;
    quartered / 2 + 1
}

/// Width of the first window for lookahead `lookahead`.
pub const fn first_width(lookahead: usize) -> usize {
    1 + SUBSAMPLING_FACTOR * lookahead
}

/// Width of every window after the first (and, for lookahead 0, the second).
pub const fn full_width(lookahead: usize) -> usize {
    PRE_ENCODE_CACHE + SUBSAMPLING_FACTOR * (lookahead + 1)
}
