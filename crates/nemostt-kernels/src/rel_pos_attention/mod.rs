// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention with relative positions (Transformer-XL), of a few new frames to cached frames and to themselves:
//!
//! ```text
//! score(i, j) = ((query(i) + u) · key(j) + (query(i) + v) · position(i, j)) / scale + mask(i, j)
//! output(i)   = Σ_j softmax_j(score(i, j)) · value(j)
//! ```
//!
//! for each head. ONNX Runtime runs 20 nodes for this, each of which takes longer to dispatch than to compute.

mod head;
mod kv_ring;
mod micro_gemm;
mod strided_view;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use pulp::Arch;

use self::head::{AttendHead, Head};
pub use self::kv_ring::CachedHead;
use super::{
    fused_op::{FusedOp, InPlace, OutputShape, ProgramError, Signature, Split, Task},
    gemm::Target,
    prefetch::PrefetchStream,
};

/// Floats in the widest vector: rows that are processed in vectors are padded to a multiple.
const LANES: usize = 16;

/// Parameters of relative position attention.
#[derive(Debug, Clone)]
pub struct RelPosAttention {
    /// Sizes.
    pub dims: AttentionDims,
    scale: f32,
    /// Biases of queries for content scores (u) and for position scores (v): \[heads, head_dim\].
    biases: [Vec<f32>; 2],
    /// Position embeddings, \[heads, head_dim, position_count\].
    positions: Vec<f32>,
    /// Positions, padded to a multiple of [`LANES`].
    position_count: usize,
    /// For each frame, the position of its first key; those of the other keys follow.
    first_positions: Vec<usize>,
}

/// Sizes of an attention layer.
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
    /// Values per frame.
    pub fn d_model(self) -> usize {
        self.heads * self.head_dim
    }

    fn key_count(self) -> usize {
        self.left_context + self.frames
    }

    /// Rows of a ring that is not full, in which a step overwrites nothing that it reads: see [`CachedHead`].
    fn spacious_ring(self) -> usize {
        self.left_context + self.frames
    }
}

/// Inputs of one step.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// \[frames, d_model\].
    pub queries: &'a [f32],
    /// \[frames, d_model\].
    pub new_keys: &'a [f32],
    /// \[frames, d_model\].
    pub new_values: &'a [f32],
    /// \[frames, left_context + frames\]: 0, or a large negative number for masked keys.
    pub mask: &'a [f32],
    /// Index of the oldest cached frame in the rings.
    pub ring_head: usize,
}

impl RelPosAttention {
    /// An attention layer with `biases` \[heads, head_dim\], `positions` \[heads, head_dim, positions\] and
    /// `position_indices` \[frames, left_context + frames\]: for each query and key, the flat index of its score in
    /// \[frames, positions\]. Returns `None` if sizes do not match, or the positions of a frame are not consecutive.
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
            let are_consecutive = position_indices
                .iter()
                .enumerate()
                .all(|(key, &index)| index == frame * count + first + key);
            (are_consecutive && first + keys <= count).then_some(first)
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

    /// Whether `inputs` have valid sizes, if a head has `ring_rows` rows in each ring.
    pub fn accepts(&self, inputs: &AttentionInputs<'_>, ring_rows: usize) -> bool {
        let AttentionDims { frames, .. } = self.dims;
        let new = frames * self.dims.d_model();
        [inputs.queries, inputs.new_keys, inputs.new_values]
            .iter()
            .all(|rows| rows.len() == new)
            && inputs.mask.len() == frames * self.dims.key_count()
            && self.accepts_ring(ring_rows)
            && inputs.ring_head < ring_rows.max(1)
    }

    fn accepts_ring(&self, rows: usize) -> bool {
        rows == self.dims.left_context || rows == self.dims.spacious_ring()
    }

    /// Computes head `head` with its rows of the caches of keys and of values, and updates these. All heads together, in any
    /// order and on any threads, write the whole output, \[frames, d_model\].
    ///
    /// # Panics
    /// If `inputs` are not [accepted](Self::accepts) with `cached`, or the output does not contain columns
    /// `head * head_dim..(head + 1) * head_dim`.
    pub fn attend(&self, head: usize, inputs: &AttentionInputs<'_>, cached: [CachedHead<'_>; 2], output: Target<'_>) {
        thread_local! {
            /// Buffer for the intermediate results of one head.
            static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let lengths = cached.each_ref().map(CachedHead::length);
        let ring_rows = lengths[0].unwrap_or_default() / self.dims.head_dim;
        assert!(self.accepts(inputs, ring_rows) && head < self.dims.heads);
        assert!(lengths == [Some(ring_rows * self.dims.head_dim); 2]);
        SCRATCH.with_borrow_mut(|scratch| {
            let head = Head {
                attention: self,
                index: head,
                inputs,
                cached: cached.each_ref().map(CachedHead::rows),
            };
            Arch::new().dispatch(AttendHead { head, output, scratch });
        });
        for (cached, new) in cached.into_iter().zip([inputs.new_keys, inputs.new_values]) {
            cached.push(head, self.dims, new, inputs.ring_head);
        }
    }
}

/// Inputs: queries, cached keys, new keys, cached values, new values, mask, and the ring's head as a scalar: see
/// [`AttentionInputs`]. Outputs: rows \[frames, d_model\], next keys, next values.
impl FusedOp for RelPosAttention {
    fn signature(&self) -> Signature {
        let AttentionDims { head_dim, .. } = self.dims;
        let rows = Some(self.dims.d_model());
        Signature {
            scalars: 1,
            in_place: vec![(1, 1), (3, 2)],
            ..Signature::new(
                [rows, None, rows, None, rows, None],
                [self.dims.d_model(), head_dim, head_dim],
            )
        }
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let rows = OutputShape::Rows {
            rows: self.dims.frames,
            width: self.dims.d_model(),
        };
        let new = self.dims.frames * self.dims.d_model();
        let ring = lengths.get(1).copied().unwrap_or_default();
        let is_ring = ring.is_multiple_of(self.dims.d_model()) && self.accepts_ring(ring / self.dims.d_model());
        match is_ring && lengths == [new, ring, new, ring, new, self.dims.frames * self.dims.key_count()] {
            true => Ok(vec![rows, OutputShape::Like(1), OutputShape::Like(3)]),
            false => Err(ProgramError::ShapeMismatch),
        }
    }

    fn accepts_scalars(&self, scalars: &[usize], lengths: &[usize]) -> bool {
        scalars[0] < (lengths[1] / self.dims.d_model()).max(1)
    }

    /// A task for each head.
    fn split(&self, _: &[usize], _: usize) -> Split {
        Split::Columns {
            block: self.dims.head_dim,
            tasks: self.dims.heads,
        }
    }

    fn run(&self, task: &mut Task<'_>) {
        let head = task.index();
        let inputs = AttentionInputs {
            queries: task.input(0),
            new_keys: task.input(2),
            new_values: task.input(4),
            mask: task.input(5),
            ring_head: task.scalar(0),
        };
        let (output, caches) = task.target_and_in_place();
        let cached = caches.map(|InPlace { current, next }| CachedHead::new(current, next));
        self.attend(head, &inputs, cached, output);
    }

    fn can_pack_output(&self, _: usize) -> bool {
        true
    }

    fn reads_cold_memory(&self) -> bool {
        true
    }

    fn prefetch(&self, first: usize, inputs: &[*const f32], lengths: &[usize]) {
        let (head, size) = (first / self.dims.head_dim, lengths[1] / self.dims.heads);
        PrefetchStream::from_ptr(inputs[1].wrapping_add(head * size), size).advance(usize::MAX);
    }
}
