// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention with relative positions (Transformer-XL), of a few new frames to cached ones and to themselves:
//!
//! ```text
//! score(i, j) = ((query(i) + u) · key(j) + (query(i) + v) · position(i, j)) / scale + mask(i, j)
//! output(i)   = Σ_j softmax_j(score(i, j)) · value(j)
//! ```
//!
//! for each head. ONNX Runtime does it in 20 operations, each of which takes longer to begin than to end.

mod cache;
mod head;
mod product;
mod table;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use pulp::Arch;

pub(crate) use self::cache::Cache;
use self::head::{Attend, Head};
use super::{ahead::Ahead, matrix::Target};

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
        let Sizes { frames, left, .. } = self.sizes;
        let rows = [left, frames].map(|rows| rows * self.sizes.all());
        let fit = |(cached, new): &(Cache<'_>, &[f32])| [cached.length(), new.len()] == rows;
        step.queries.len() == rows[1]
            && fit(&step.keys)
            && fit(&step.values)
            && step.mask.len() == frames * self.sizes.keys()
            && step.oldest < left.max(1)
    }

    /// Asks memory for what [`attend`](Self::attend) will read first for a head, if its cached keys are at `keys`.
    pub(super) fn ask_for(&self, head: usize, keys: *const f32) {
        let size = self.sizes.left * self.sizes.width;
        Ahead::at(keys.wrapping_add(head * size), size).fetch(usize::MAX);
    }

    /// Does head `head`. All heads, in any order and on any threads, write all of `output`, \[frames, heads · width\], and the
    /// next caches.
    ///
    /// # Panics
    /// If `step` is not [taken](Self::takes), or there is no room for a result.
    ///
    /// # Safety
    /// No two threads may do the same head for the same output and caches at the same time.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn attend(&self, head: usize, step: &Step<'_>, output: Target<'_>) {
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
            };
            Arch::new().dispatch(Attend { head, output, room });
        });
        for (cached, new) in [step.keys, step.values] {
            // SAFETY: the caller's promise; nothing is borrowed any more.
            unsafe { cached.renew(head, self.sizes, new, step.oldest) };
        }
    }
}
