// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention with relative positions (Transformer-XL), of a few new frames to cached ones and to themselves:
//!
//! ```text
//! score(i, j) = ((query(i) + u) · key(j) + (query(i) + v) · position(i, j)) / scale + mask(i, j)
//! output(i)   = Σ_j softmax_j(score(i, j)) · value(j)
//! ```
//!
//! for each head. ONNX Runtime does it in 20 operations, each of which takes longer to begin than to end.

mod head;
mod kv_ring;
mod micro_gemm;
mod strided_view;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, ops::Range};

use pulp::Arch;

use self::head::{Attend, Head};
pub(crate) use self::kv_ring::{Cache, Cached};
use super::{gemm::Target, prefetch::Ahead};

/// Values in the longest vector: rows that are worked on in vectors are padded to a multiple.
const LANES: usize = 16;

/// What does not change from step to step.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub(crate) sizes: Sizes,
    scale: f32,
    /// What is added to queries of contents, and to queries of positions: \[heads, width\].
    biases: [Vec<f32>; 2],
    /// Relative positions, \[heads, width, positions\], where rows are padded.
    positions: Vec<f32>,
    /// Positions with their padding.
    position_count: usize,
    /// For each new frame, the position of the first key; that of the others follow it.
    first_positions: Vec<usize>,
}

/// Sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
    /// New frames.
    pub(crate) frames: usize,
    /// Cached frames.
    pub(crate) left: usize,
}

impl Sizes {
    /// Values of a frame.
    pub(crate) fn all(self) -> usize {
        self.heads * self.width
    }

    fn keys(self) -> usize {
        self.left + self.frames
    }
}

/// What a step gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// \[frames, heads · width\].
    pub(crate) queries: &'a [f32],
    /// Cached ones and new ones, \[frames, heads · width\].
    pub(crate) keys: (Cache<'a>, &'a [f32]),
    pub(crate) values: (Cache<'a>, &'a [f32]),
    /// \[frames, left + frames\]: 0, or so small a number that nothing is left.
    pub(crate) mask: &'a [f32],
    /// Which of the cached frames is the oldest: those behind it follow it in time, then come those before it.
    pub(crate) oldest: usize,
}

impl Attention {
    /// With `biases` \[heads, width\], `positions` \[heads, width, positions\] and `places` \[frames, left + frames\]: for each
    /// query and key, which of the numbers of \[frames, positions\] is theirs. `None`, if sizes do not fit each other, or
    /// places of one frame do not follow each other.
    pub(crate) fn new(
        sizes: Sizes,
        scale: f32,
        biases: [Vec<f32>; 2],
        positions: &[f32],
        places: &[usize],
    ) -> Option<Self> {
        let (all, keys) = (sizes.all(), sizes.keys());
        let count = positions.len().checked_div(all)?;
        let fits = sizes.frames > 0
            && count > 0
            && scale != 0.0
            && biases.iter().all(|bias| bias.len() == all)
            && positions.len() == all * count
            && places.len() == sizes.frames * keys;
        if !fits {
            return None;
        }
        let first = |(frame, places): (usize, &[usize])| {
            let first = places.first()?.checked_sub(frame * count)?;
            let follow = places
                .iter()
                .enumerate()
                .all(|(key, &place)| place == frame * count + first + key);
            (follow && first + keys <= count).then_some(first)
        };
        let first_positions = places
            .chunks_exact(keys)
            .enumerate()
            .map(first)
            .collect::<Option<_>>()?;
        let position_count = count.next_multiple_of(LANES);
        let mut padded = vec![0.0; all * position_count];
        for (padded, row) in padded
            .chunks_exact_mut(position_count)
            .zip(positions.chunks_exact(count))
        {
            padded[..count].copy_from_slice(row);
        }
        Some(Self {
            sizes,
            scale,
            biases,
            positions: padded,
            position_count,
            first_positions,
        })
    }

    /// Whether the sizes of `step` fit.
    pub(crate) fn takes(&self, step: &Step<'_>) -> bool {
        let lengths = |(cached, new): (Cache<'_>, &[f32])| [cached.length(), new.len()];
        let ([old_keys, new_keys], [old_values, new_values]) = (lengths(step.keys), lengths(step.values));
        let [queries, mask] = [step.queries.len(), step.mask.len()];
        self.takes_lengths([queries, old_keys, new_keys, old_values, new_values, mask], step.oldest)
    }

    /// As [`takes`](Self::takes): how many queries, cached and new keys, cached and new values, and numbers of the mask there
    /// are.
    pub(super) fn takes_lengths(&self, lengths: [usize; 6], oldest: usize) -> bool {
        let Sizes { frames, left, .. } = self.sizes;
        let [old, new] = [left, frames].map(|rows| rows * self.sizes.all());
        lengths == [new, old, new, old, new, frames * self.sizes.keys()] && oldest < left.max(1)
    }

    /// Asks memory for what [`attend`](Self::attend) will read first for a head, if its cached keys are at `keys`.
    pub(super) fn ask_for(&self, head: usize, keys: *const f32) {
        let size = self.sizes.left * self.sizes.width;
        Ahead::at(keys.wrapping_add(head * size), size).fetch(usize::MAX);
    }

    /// The columns of the output that head `head` writes: no two heads have one in common.
    pub(crate) fn columns_of(&self, head: usize) -> Range<usize> {
        head * self.sizes.width..(head + 1) * self.sizes.width
    }

    /// The parts of the caches of `step` that head `head` reads and writes.
    ///
    /// # Panics
    /// If there is no such head.
    ///
    /// # Safety
    /// As for [`Cache::head`], of both caches.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn cached<'a>(&self, head: usize, step: &Step<'a>) -> [Cached<'a>; 2] {
        // SAFETY: the caller's promise.
        [step.keys, step.values].map(|(cache, _)| unsafe { cache.head(head, self.sizes) })
    }

    /// Does head `head`, with [what is its](Self::cached) of the caches. All heads, in any order and on any threads, write all
    /// of an output, \[frames, heads · width\], and the next caches.
    ///
    /// # Panics
    /// If `step` is not [taken](Self::takes), or what is cached is of another size; if the output has not the
    /// [columns](Self::columns_of) of the head.
    pub(crate) fn attend(&self, head: usize, step: &Step<'_>, cached: [Cached<'_>; 2], output: Target<'_>) {
        thread_local! {
            /// Room for one head, kept for the next one.
            static ROOM: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        assert!(self.takes(step) && head < self.sizes.heads);
        ROOM.with_borrow_mut(|room| {
            let head = Head {
                attention: self,
                index: head,
                step,
                cached: cached.each_ref().map(Cached::rows),
            };
            Arch::new().dispatch(Attend { head, output, room });
        });
        for (cached, (_, new)) in cached.into_iter().zip([step.keys, step.values]) {
            cached.renew(head, self.sizes, new, step.oldest);
        }
    }
}
