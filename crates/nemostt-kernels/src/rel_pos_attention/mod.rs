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

use self::head::{AttendHead, Head};
pub use self::kv_ring::{CachedHead, KvRing};
use super::{gemm::Target, prefetch::PrefetchStream};

/// Values in the longest vector: rows that are worked on in vectors are padded to a multiple.
const LANES: usize = 16;

/// Parameters of a relative attention, which do not change from step to step.
#[derive(Debug, Clone)]
pub struct RelPosAttention {
    /// Its sizes.
    pub dims: AttentionDims,
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
pub struct AttentionDims {
    /// Number of heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// New frames.
    pub frames: usize,
    /// Cached frames.
    pub left_context: usize,
}

impl AttentionDims {
    /// Values of a frame.
    pub fn d_model(self) -> usize {
        self.heads * self.head_dim
    }

    fn key_count(self) -> usize {
        self.left_context + self.frames
    }
}

/// What a step gives.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// \[frames, heads · width\].
    pub queries: &'a [f32],
    /// Cached and new keys, \[frames, heads · width\].
    pub keys: (KvRing<'a>, &'a [f32]),
    /// Cached and new values, \[frames, heads · width\].
    pub values: (KvRing<'a>, &'a [f32]),
    /// \[frames, left_context + frames\]: 0, or so small a number that nothing is left.
    pub mask: &'a [f32],
    /// Which of the cached frames is the oldest: those behind it follow it in time, then come those before it.
    pub ring_head: usize,
}

impl RelPosAttention {
    /// With `biases` \[heads, width\], `positions` \[heads, width, positions\] and `position_indices` \[frames, left_context + frames\]: for each
    /// query and key, which of the numbers of \[frames, positions\] is theirs. `None`, if sizes do not fit each other, or
    /// places of one frame do not follow each other.
    pub fn new(
        dims: AttentionDims,
        scale: f32,
        biases: [Vec<f32>; 2],
        positions: &[f32],
        position_indices: &[usize],
    ) -> Option<Self> {
        let (all, keys) = (dims.d_model(), dims.key_count());
        let count = positions.len().checked_div(all)?;
        let fits = dims.frames > 0
            && count > 0
            && scale != 0.0
            && biases.iter().all(|bias| bias.len() == all)
            && positions.len() == all * count
            && position_indices.len() == dims.frames * keys;
        if !fits {
            return None;
        }
        let first = |(frame, position_indices): (usize, &[usize])| {
            let first = position_indices.first()?.checked_sub(frame * count)?;
            let follow = position_indices
                .iter()
                .enumerate()
                .all(|(key, &place)| place == frame * count + first + key);
            (follow && first + keys <= count).then_some(first)
        };
        let first_positions = position_indices
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
            dims,
            scale,
            biases,
            positions: padded,
            position_count,
            first_positions,
        })
    }

    /// Whether the sizes of `inputs` fit.
    pub fn accepts(&self, inputs: &AttentionInputs<'_>) -> bool {
        let lengths = |(cached, new): (KvRing<'_>, &[f32])| [cached.length(), new.len()];
        let ([old_keys, new_keys], [old_values, new_values]) = (lengths(inputs.keys), lengths(inputs.values));
        let [queries, mask] = [inputs.queries.len(), inputs.mask.len()];
        self.takes_lengths(
            [queries, old_keys, new_keys, old_values, new_values, mask],
            inputs.ring_head,
        )
    }

    /// As [`accepts`](Self::accepts): how many queries, cached and new keys, cached and new values, and numbers of the mask there
    /// are.
    pub(super) fn takes_lengths(&self, lengths: [usize; 6], ring_head: usize) -> bool {
        let AttentionDims {
            frames, left_context, ..
        } = self.dims;
        let [old, new] = [left_context, frames].map(|rows| rows * self.dims.d_model());
        lengths == [new, old, new, old, new, frames * self.dims.key_count()] && ring_head < left_context.max(1)
    }

    /// Asks memory for what [`attend`](Self::attend) will read first for a head, if its cached keys are at `keys`.
    pub(super) fn prefetch(&self, head: usize, keys: *const f32) {
        let size = self.dims.left_context * self.dims.head_dim;
        PrefetchStream::from_ptr(keys.wrapping_add(head * size), size).advance(usize::MAX);
    }

    /// The columns of the output that head `head` writes: no two heads have one in common.
    pub fn columns_of(&self, head: usize) -> Range<usize> {
        head * self.dims.head_dim..(head + 1) * self.dims.head_dim
    }

    /// The parts of the caches of `inputs` that head `head` reads and writes.
    ///
    /// # Panics
    /// If there is no such head.
    ///
    /// # Safety
    /// As for [`KvRing::head`], of both caches.
    #[allow(unsafe_code)]
    pub unsafe fn cached<'a>(&self, head: usize, inputs: &AttentionInputs<'a>) -> [CachedHead<'a>; 2] {
        // SAFETY: the caller's promise.
        [inputs.keys, inputs.values].map(|(cache, _)| unsafe { cache.head(head, self.dims) })
    }

    /// Does head `head`, with [what is its](Self::cached) of the caches. All heads, in any order and on any threads, write all
    /// of an output, \[frames, heads · width\], and the next caches.
    ///
    /// # Panics
    /// If `inputs` is not [taken](Self::accepts), or what is cached is of another size; if the output has not the
    /// [columns](Self::columns_of) of the head.
    pub fn attend(&self, head: usize, inputs: &AttentionInputs<'_>, cached: [CachedHead<'_>; 2], output: Target<'_>) {
        thread_local! {
            /// Room for one head, kept for the next one.
            static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        assert!(self.accepts(inputs) && head < self.dims.heads);
        SCRATCH.with_borrow_mut(|scratch| {
            let head = Head {
                attention: self,
                index: head,
                inputs,
                cached: cached.each_ref().map(CachedHead::rows),
            };
            Arch::new().dispatch(AttendHead { head, output, scratch });
        });
        for (cached, (_, new)) in cached.into_iter().zip([inputs.keys, inputs.values]) {
            cached.push(head, self.dims, new, inputs.ring_head);
        }
    }
}
