// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention of one head.

use pulp::{Simd, WithSimd};

use super::{
    AttentionDims, AttentionInputs, LANES, RelPosAttention,
    micro_gemm::multiply,
    strided_view::{MatrixMut, StridedView, TRANSPOSE_TILE},
};
use crate::{
    gemm::Target,
    prefetch::PrefetchStream,
    simd_math::{dot, exp},
};

/// One head of a step.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) attention: &'a RelPosAttention,
    pub(super) index: usize,
    pub(super) inputs: &'a AttentionInputs<'a>,
    /// Rows of this head in the rings of keys and values.
    pub(super) cached: [&'a [f32]; 2],
}

/// Computes one head.
pub(super) struct AttendHead<'a> {
    pub(super) head: Head<'a>,
    pub(super) output: Target<'a>,
    /// Reused by the next head.
    pub(super) scratch: &'a mut Vec<f32>,
}

/// Intermediate results.
struct HeadScratch<'a> {
    /// \[frames, width\].
    queries: MatrixMut<'a>,
    /// \[width, frames\].
    queries_t: MatrixMut<'a>,
    /// \[keys, frames\].
    scores_t: MatrixMut<'a>,
    /// \[frames, keys\].
    scores: MatrixMut<'a>,
    /// \[frames, positions\].
    position_scores: MatrixMut<'a>,
    /// \[frames, width\].
    weighted_values: MatrixMut<'a>,
    /// Of each frame: the sum of the exponentials, by which weighted values are divided.
    softmax_sums: MatrixMut<'a>,
}

impl<'a> HeadScratch<'a> {
    /// Rows are padded to whole vectors where they are processed in vectors, and rows and columns are padded to whole
    /// tiles where they are transposed. The padding is never read into results.
    fn new<S: Simd>(attention: &RelPosAttention, scratch: &'a mut Vec<f32>) -> Self {
        let AttentionDims { head_dim, frames, .. } = attention.dims;
        let padded = |count: usize| count.next_multiple_of(TRANSPOSE_TILE);
        let keys = attention.dims.key_count().next_multiple_of(LANES);
        let lanes = padded(frames).next_multiple_of(S::F32_LANES);
        let dims = [
            (padded(frames), padded(head_dim)),
            (padded(head_dim), lanes),
            (keys, lanes),
            (padded(frames), keys),
            (frames, attention.position_count),
            (frames, head_dim),
            (frames, 1),
        ];
        scratch.resize(dims.iter().map(|(rows, row_stride)| rows * row_stride).sum(), 0.0);
        let mut rest = &mut scratch[..];
        let [
            queries,
            queries_t,
            scores_t,
            scores,
            position_scores,
            weighted_values,
            softmax_sums,
        ] = dims.map(|(rows, row_stride)| MatrixMut {
            values: rest.split_off_mut(..rows * row_stride).unwrap_or_default(),
            row_stride,
        });
        Self {
            queries,
            queries_t,
            scores_t,
            scores,
            position_scores,
            weighted_values,
            softmax_sums,
        }
    }
}

impl<'a> Head<'a> {
    /// Cached and new rows of this head, in chronological order.
    fn segments(self, cached: &'a [f32], new: &'a [f32]) -> [StridedView<'a>; 3] {
        let AttentionDims {
            head_dim,
            frames,
            left_context,
            ..
        } = self.attention.dims;
        let (start, end) = (self.inputs.ring_head, self.inputs.ring_head + left_context);
        let rows = cached.len() / head_dim;
        let older = &cached[start * head_dim..end.min(rows) * head_dim];
        let newer = &cached[..end.saturating_sub(rows) * head_dim];
        let cached = |values: &'a [f32]| StridedView {
            values,
            stride: head_dim,
            count: values.len() / head_dim,
        };
        let new = StridedView {
            values: &new[self.index * head_dim..],
            stride: self.attention.dims.d_model(),
            count: frames,
        };
        [cached(older), cached(newer), new]
    }

    /// This head's slice of a table with `size` values per head.
    fn head_slice(self, table: &[f32], size: usize) -> &[f32] {
        &table[self.index * size..][..size]
    }

    /// The keys that this thread will probably read next: those of the next head.
    fn next_keys(self) -> PrefetchStream {
        match self.index + 1 < self.attention.dims.heads {
            // Behind the keys of this head.
            true => {
                let size = self.cached[0].len();
                PrefetchStream::from_ptr(self.cached[0].as_ptr().wrapping_add(size), size)
            }
            false => PrefetchStream::empty(),
        }
    }

    /// This head's position embeddings, \[head_dim, positions\].
    fn position_table(self) -> &'a [f32] {
        let RelPosAttention {
            dims, position_count, ..
        } = self.attention;
        self.head_slice(&self.attention.positions, dims.head_dim * position_count)
    }

    /// Adds a bias to this head's queries. They are also scaled here, because there are fewer queries than scores.
    #[inline(always)]
    fn add_query_bias(self, bias: &'a [f32], queries: &mut MatrixMut<'_>) {
        let RelPosAttention { dims, scale, .. } = self.attention;
        let (bias, factor) = (self.head_slice(bias, dims.head_dim), 1.0 / scale);
        let rows = self.inputs.queries.chunks_exact(dims.d_model());
        for (query, row) in queries.rows_mut().zip(rows) {
            let row = self.head_slice(row, dims.head_dim);
            for ((query, value), bias) in query.iter_mut().zip(row).zip(bias) {
                *query = (value + bias) * factor;
            }
        }
    }

    /// Content scores: queries times keys.
    #[inline(always)]
    fn content_scores<S: Simd>(self, simd: S, scratch: &mut HeadScratch<'_>) {
        let AttentionDims { head_dim, frames, .. } = self.attention.dims;
        let segments = self.segments(self.cached[0], self.inputs.new_keys);
        let mut ahead = PrefetchStream::of_slice(self.position_table());
        self.add_query_bias(&self.attention.biases[0], &mut scratch.queries);
        // A dot product of query and key needs a horizontal sum, which takes longer than the product. With frames in
        // lanes there is none, but a vector is only filled by many frames.
        if frames * 4 <= S::F32_LANES {
            let keys = segments.iter().flat_map(|part| part.rows_from(0));
            let part = ahead.lines().div_ceil(self.attention.dims.key_count());
            for (index, key) in keys.enumerate() {
                ahead.advance(part);
                for frame in 0..frames {
                    let query = &scratch.queries.row(frame)[..head_dim];
                    scratch.scores.values[frame * scratch.scores.row_stride + index] =
                        dot(simd, query, &key[..head_dim]);
                }
            }
            return;
        }
        let key = |mut index: usize| {
            for part in &segments {
                if index < part.count {
                    return &part.values[index * part.stride..][..head_dim];
                }
                index -= part.count;
            }
            &[]
        };
        scratch.queries.transpose_into(&mut scratch.queries_t);
        let queries = scratch.queries_t.as_view(head_dim);
        let size = (self.attention.dims.key_count(), queries.stride);
        multiply(simd, key, &[queries], &mut scratch.scores_t, size, ahead);
        scratch.scores_t.transpose_into(&mut scratch.scores);
    }

    /// Adds position scores and mask.
    #[inline(always)]
    fn add_position_scores<S: Simd>(self, simd: S, scratch: &mut HeadScratch<'_>) {
        let a = self.attention;
        let (head_dim, frames, keys) = (a.dims.head_dim, a.dims.frames, a.dims.key_count());
        self.add_query_bias(&a.biases[1], &mut scratch.queries);
        let table = StridedView {
            values: self.position_table(),
            stride: a.position_count,
            count: head_dim,
        };
        let query = |frame: usize| &scratch.queries.row(frame)[..head_dim];
        let size = (frames, a.position_count);
        // Cached values were last read in the previous step, and all weights since.
        let ahead = PrefetchStream::of_slice(self.cached[1]);
        multiply(simd, query, &[table], &mut scratch.position_scores, size, ahead);
        for (frame, scores) in scratch.scores.rows_mut().take(frames).enumerate() {
            let position_scores = &scratch.position_scores.row(frame)[a.first_positions[frame]..][..keys];
            let mask = &self.inputs.mask[frame * keys..][..keys];
            for ((score, position), mask) in scores.iter_mut().zip(position_scores).zip(mask) {
                *score += position + mask;
            }
            scores[keys..].fill(f32::NEG_INFINITY);
        }
    }
}

impl WithSimd for AttendHead<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (head, AttentionDims { head_dim, frames, .. }) = (self.head, self.head.attention.dims);
        let keys = head.attention.dims.key_count();
        let mut scratch = HeadScratch::new::<S>(head.attention, self.scratch);
        head.content_scores(simd, &mut scratch);
        head.add_position_scores(simd, &mut scratch);
        for (scores, total) in scratch.scores.rows_mut().zip(&mut *scratch.softmax_sums.values) {
            *total = softmax(simd, scores);
        }
        let values = head.segments(head.cached[1], head.inputs.new_values);
        let weights = |frame: usize| &scratch.scores.row(frame)[..keys];
        multiply(
            simd,
            weights,
            &values,
            &mut scratch.weighted_values,
            (frames, head_dim),
            head.next_keys(),
        );
        for (frame, (weighted_values, total)) in scratch
            .weighted_values
            .rows_mut()
            .zip(&*scratch.softmax_sums.values)
            .enumerate()
        {
            let factor = 1.0 / total;
            weighted_values.iter_mut().for_each(|sum| *sum *= factor);
            if let Target::RowMajor(output) = &mut self.output {
                output.put(frame, head.index * head_dim, weighted_values);
            }
        }
        if let Target::Packed(output) = &mut self.output {
            output.put_all(
                head.index * head_dim,
                (scratch.weighted_values.values, scratch.weighted_values.row_stride),
                head_dim,
            );
        }
    }
}

/// Exponentials, in place, of whole vectors; returns their sum, by which they are not yet divided. Subtracts the
/// maximum first to avoid overflow.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32]) -> f32 {
    let vectors = S::as_mut_simd_f32s(scores).0;
    let max = vectors
        .iter()
        .fold(simd.splat_f32s(f32::NEG_INFINITY), |max, &v| simd.max_f32s(max, v));
    let max = simd.splat_f32s(simd.reduce_max_f32s(max));
    let mut sum = simd.splat_f32s(0.0);
    for vector in vectors {
        *vector = exp(simd, simd.sub_f32s(*vector, max));
        sum = simd.add_f32s(sum, *vector);
    }
    simd.reduce_sum_f32s(sum)
}
