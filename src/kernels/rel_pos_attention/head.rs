// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done for one head.

use pulp::{Simd, WithSimd};

use super::{
    Attention, LANES, Sizes, Step,
    micro_gemm::multiply,
    strided_view::{Room, SQUARE, Table},
};
use crate::kernels::{
    gemm::Target,
    prefetch::Ahead,
    simd_math::{dot, exp},
};

/// One head of a step.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) attention: &'a Attention,
    pub(super) index: usize,
    pub(super) step: &'a Step<'a>,
    /// What is this head's of cached keys and values.
    pub(super) cached: [&'a [f32]; 2],
}

/// Does one head.
pub(super) struct Attend<'a> {
    pub(super) head: Head<'a>,
    pub(super) output: Target<'a>,
    /// Kept for the next one.
    pub(super) room: &'a mut Vec<f32>,
}

/// What comes between inputs and results.
struct Rooms<'a> {
    /// \[frames, width\].
    queries: Room<'a>,
    /// \[width, frames\].
    turned_queries: Room<'a>,
    /// \[keys, frames\].
    turned_scores: Room<'a>,
    /// \[frames, keys\].
    scores: Room<'a>,
    /// \[frames, positions\].
    by_position: Room<'a>,
    /// \[frames, width\].
    sums: Room<'a>,
    /// Of each frame's scores, after their softmax.
    totals: Room<'a>,
}

impl<'a> Rooms<'a> {
    /// Rows that are worked on in vectors are padded to a multiple, and so are rows and columns of what is turned. What is
    /// in the padding goes nowhere.
    fn new<S: Simd>(attention: &Attention, room: &'a mut Vec<f32>) -> Self {
        let Sizes { width, frames, .. } = attention.sizes;
        let squares = |count: usize| count.next_multiple_of(SQUARE);
        let keys = attention.sizes.keys().next_multiple_of(LANES);
        let lanes = squares(frames).next_multiple_of(S::F32_LANES);
        let sizes = [
            (squares(frames), squares(width)),
            (squares(width), lanes),
            (keys, lanes),
            (squares(frames), keys),
            (frames, attention.position_count),
            (frames, width),
            (frames, 1),
        ];
        room.resize(sizes.iter().map(|(rows, length)| rows * length).sum(), 0.0);
        let mut rest = &mut room[..];
        let [
            queries,
            turned_queries,
            turned_scores,
            scores,
            by_position,
            sums,
            totals,
        ] = sizes.map(|(rows, length)| Room {
            values: rest.split_off_mut(..rows * length).unwrap_or_default(),
            length,
        });
        Self {
            queries,
            turned_queries,
            turned_scores,
            scores,
            by_position,
            sums,
            totals,
        }
    }
}

impl<'a> Head<'a> {
    /// What is this head's of cached and new rows, in the order of time.
    fn parts(self, cached: &'a [f32], new: &'a [f32]) -> [Table<'a>; 3] {
        let Sizes { width, frames, .. } = self.attention.sizes;
        let (newer, older) = cached.split_at(self.step.oldest * width);
        let cached = |values: &'a [f32]| Table {
            values,
            stride: width,
            count: values.len() / width,
        };
        let new = Table {
            values: &new[self.index * width..],
            stride: self.attention.sizes.all(),
            count: frames,
        };
        [cached(older), cached(newer), new]
    }

    /// What is this head's of a table that has `size` values for each.
    fn part(self, table: &[f32], size: usize) -> &[f32] {
        &table[self.index * size..][..size]
    }

    /// The keys that are probably read next on this thread: those of the next head.
    fn next_keys(self) -> Ahead {
        let Sizes { width, left, heads, .. } = self.attention.sizes;
        let head = self.index + 1;
        match head < heads {
            true => Ahead::at(self.step.keys.0.place(head, self.attention.sizes), left * width),
            false => Ahead::nothing(),
        }
    }

    /// This head's positions.
    fn position_table(self) -> &'a [f32] {
        let Attention {
            sizes, position_count, ..
        } = self.attention;
        self.part(&self.attention.positions, sizes.width * position_count)
    }

    /// This head's queries with one of the biases. Scores are scaled with them, for they are fewer.
    #[inline(always)]
    fn queries(self, bias: &'a [f32], queries: &mut Room<'_>) {
        let Attention { sizes, scale, .. } = self.attention;
        let (bias, factor) = (self.part(bias, sizes.width), 1.0 / scale);
        let rows = self.step.queries.chunks_exact(sizes.all());
        for (query, row) in queries.rows_mut().zip(rows) {
            let row = self.part(row, sizes.width);
            for ((query, value), bias) in query.iter_mut().zip(row).zip(bias) {
                *query = (value + bias) * factor;
            }
        }
    }

    /// Scores of contents.
    #[inline(always)]
    fn contents<S: Simd>(self, simd: S, rooms: &mut Rooms<'_>) {
        let Sizes { width, frames, .. } = self.attention.sizes;
        let parts = self.parts(self.cached[0], self.step.keys.1);
        let mut ahead = Ahead::of(self.position_table());
        self.queries(&self.attention.biases[0], &mut rooms.queries);
        // A query's product with a key is a vector whose numbers have to be summed up, which takes longer than the product.
        // With frames side by side there is no such sum, but vectors are filled by many frames only.
        if frames * 4 <= S::F32_LANES {
            let keys = parts.iter().flat_map(|part| part.rows_from(0));
            let part = ahead.lines().div_ceil(self.attention.sizes.keys());
            for (index, key) in keys.enumerate() {
                ahead.fetch(part);
                for frame in 0..frames {
                    let query = &rooms.queries.row(frame)[..width];
                    rooms.scores.values[frame * rooms.scores.length + index] = dot(simd, query, &key[..width]);
                }
            }
            return;
        }
        let key = |mut index: usize| {
            for part in &parts {
                if index < part.count {
                    return &part.values[index * part.stride..][..width];
                }
                index -= part.count;
            }
            &[]
        };
        rooms.queries.turn(&mut rooms.turned_queries);
        let queries = rooms.turned_queries.as_table(width);
        let size = (self.attention.sizes.keys(), queries.stride);
        multiply(simd, key, &[queries], &mut rooms.turned_scores, size, ahead);
        rooms.turned_scores.turn(&mut rooms.scores);
    }

    /// Adds scores of positions, and the mask.
    #[inline(always)]
    fn positions<S: Simd>(self, simd: S, rooms: &mut Rooms<'_>) {
        let a = self.attention;
        let (width, frames, keys) = (a.sizes.width, a.sizes.frames, a.sizes.keys());
        self.queries(&a.biases[1], &mut rooms.queries);
        let table = Table {
            values: self.position_table(),
            stride: a.position_count,
            count: width,
        };
        let query = |frame: usize| &rooms.queries.row(frame)[..width];
        let size = (frames, a.position_count);
        // No thread has looked at them since the last step, and all weights were read since.
        let ahead = Ahead::of(self.cached[1]);
        multiply(simd, query, &[table], &mut rooms.by_position, size, ahead);
        for (frame, scores) in rooms.scores.rows_mut().take(frames).enumerate() {
            let by_position = &rooms.by_position.row(frame)[a.first_positions[frame]..][..keys];
            let mask = &self.step.mask[frame * keys..][..keys];
            for ((score, position), mask) in scores.iter_mut().zip(by_position).zip(mask) {
                *score += position + mask;
            }
            scores[keys..].fill(f32::NEG_INFINITY);
        }
    }
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (head, Sizes { width, frames, .. }) = (self.head, self.head.attention.sizes);
        let keys = head.attention.sizes.keys();
        let mut rooms = Rooms::new::<S>(head.attention, self.room);
        head.contents(simd, &mut rooms);
        head.positions(simd, &mut rooms);
        for (scores, total) in rooms.scores.rows_mut().zip(&mut *rooms.totals.values) {
            *total = softmax(simd, scores);
        }
        let values = head.parts(head.cached[1], head.step.values.1);
        let weights = |frame: usize| &rooms.scores.row(frame)[..keys];
        multiply(
            simd,
            weights,
            &values,
            &mut rooms.sums,
            (frames, width),
            head.next_keys(),
        );
        for (frame, (sums, total)) in rooms.sums.rows_mut().zip(&*rooms.totals.values).enumerate() {
            let factor = 1.0 / total;
            sums.iter_mut().for_each(|sum| *sum *= factor);
            if let Target::Rows(output) = &mut self.output {
                output.put(frame, head.index * width, sums);
            }
        }
        if let Target::Turned(output) = &mut self.output {
            output.put_all(head.index * width, (rooms.sums.values, rooms.sums.length), width);
        }
    }
}

/// In place, of whole vectors; gives the sum by which they are yet to be divided. The largest is taken off first, so that
/// nothing overflows.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32]) -> f32 {
    let vectors = S::as_mut_simd_f32s(scores).0;
    let largest = vectors
        .iter()
        .fold(simd.splat_f32s(f32::NEG_INFINITY), |most, &v| simd.max_f32s(most, v));
    let largest = simd.splat_f32s(simd.reduce_max_f32s(largest));
    let mut sums = simd.splat_f32s(0.0);
    for vector in vectors {
        *vector = exp(simd, simd.sub_f32s(*vector, largest));
        sums = simd.add_f32s(sums, *vector);
    }
    simd.reduce_sum_f32s(sums)
}
