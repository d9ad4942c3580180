// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention with relative positions (Transformer-XL), of a few new frames to cached ones and to themselves:
//!
//! ```text
//! score(i, j) = ((query(i) + u) · key(j) + (query(i) + v) · position(i, j)) / scale + mask(i, j)
//! output(i)   = Σ_j softmax_j(score(i, j)) · value(j)
//! ```
//!
//! for each head. ONNX Runtime does it in 20 operations, each of which takes longer to begin than to end.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

use super::{
    matrix::Output,
    vectors::{add_rows, dot, exp},
};

/// What does not change from step to step.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
    /// New frames.
    pub(crate) frames: usize,
    /// Cached frames.
    pub(crate) left: usize,
    pub(crate) scale: f32,
    /// What is added to queries of contents, and to queries of positions: \[heads, width\].
    pub(crate) biases: [Vec<f32>; 2],
    /// Relative positions, \[heads, width, positions\].
    pub(crate) positions: Vec<f32>,
    /// For each query and key, which of the numbers of [frames, positions] is theirs: \[frames, left + frames\].
    pub(crate) places: Vec<usize>,
}

/// What a step gives, and where its result goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// \[frames, heads · width\].
    pub(crate) queries: &'a [f32],
    /// Cached ones and new ones: \[heads, left, width\] and \[heads, frames, width\].
    pub(crate) keys: [&'a [f32]; 2],
    pub(crate) values: [&'a [f32]; 2],
    /// \[frames, left + frames\]: 0, or so small a number that nothing is left.
    pub(crate) mask: &'a [f32],
}

impl Attention {
    /// Whether the sizes of all tables fit each other.
    pub(crate) fn is_whole(&self) -> bool {
        let all = self.heads * self.width;
        let keys = self.left + self.frames;
        let fits = all > 0
            && self.frames > 0
            && self.scale != 0.0
            && self.biases.iter().all(|bias| bias.len() == all)
            && self.places.len() == self.frames * keys
            && self.positions.len() == all * self.position_count();
        fits && self
            .places
            .iter()
            .all(|&place| place < self.frames * self.position_count())
    }

    /// Whether the sizes of `step` fit.
    pub(crate) fn takes(&self, step: &Step<'_>) -> bool {
        let all = self.heads * self.width;
        let rows = [self.left, self.frames].map(|rows| rows * all);
        let fit = |both: &[&[f32]; 2]| both.iter().zip(rows).all(|(part, size)| part.len() == size);
        step.queries.len() == self.frames * all
            && fit(&step.keys)
            && fit(&step.values)
            && step.mask.len() == self.places.len()
    }

    fn position_count(&self) -> usize {
        self.positions.len() / (self.heads * self.width).max(1)
    }

    /// Does head `head`. All heads, in any order and on any threads, write all of `output`: \[frames, heads · width\].
    ///
    /// # Panics
    /// If `step` is not [taken](Self::takes).
    ///
    /// # Safety
    /// No two threads may do the same head for the same output at the same time.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn attend(&self, head: usize, step: &Step<'_>, output: &Output<'_>) {
        thread_local! {
            /// Room for one head, kept for the next one.
            static ROOM: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        assert!(self.takes(step));
        ROOM.with_borrow_mut(|room| {
            let keys = self.left + self.frames;
            room.resize(self.frames * (keys + self.position_count()) + 2 * self.width, 0.0);
            Arch::new().dispatch(Head {
                attention: self,
                head,
                step,
                output,
                room,
            });
        });
    }
}

struct Head<'a> {
    attention: &'a Attention,
    head: usize,
    step: &'a Step<'a>,
    output: &'a Output<'a>,
    room: &'a mut [f32],
}

impl<'a> Head<'a> {
    /// What is this head's of cached and new rows.
    fn parts(&self, [cached, new]: [&'a [f32]; 2]) -> [&'a [f32]; 2] {
        let (a, head) = (self.attention, self.head);
        [
            of_head(cached, head, a.left * a.width),
            of_head(new, head, a.frames * a.width),
        ]
    }
}

/// The values of head `head` of a table that has `size` of them for each.
fn of_head(table: &[f32], head: usize, size: usize) -> &[f32] {
    &table[head * size..][..size]
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (a, step) = (self.attention, self.step);
        let (width, keys, positions) = (a.width, a.left + a.frames, a.position_count());
        let [old_keys, new_keys] = self.parts(step.keys);
        let [old_values, new_values] = self.parts(step.values);
        let (scores, rest) = self.room.split_at_mut(a.frames * keys);
        let (by_position, rest) = rest.split_at_mut(a.frames * positions);
        let (query, sum) = rest.split_at_mut(width);
        let [bias_u, bias_v] = a.biases.each_ref().map(|bias| of_head(bias, self.head, width));
        let table = of_head(&a.positions, self.head, width * positions);

        let with_bias = |query: &mut [f32], frame: usize, bias: &[f32]| {
            let row = &step.queries[(frame * a.heads + self.head) * width..][..width];
            for ((sum, value), bias) in query.iter_mut().zip(row).zip(bias) {
                *sum = value + bias;
            }
        };
        for (frame, scores) in by_position.chunks_exact_mut(positions).enumerate() {
            with_bias(query, frame, bias_v);
            scores.fill(0.0);
            add_rows(simd, scores, query, table);
        }
        for (frame, scores) in scores.chunks_exact_mut(keys).enumerate() {
            with_bias(query, frame, bias_u);
            let rows = old_keys.chunks_exact(width).chain(new_keys.chunks_exact(width));
            let places = &a.places[frame * keys..][..keys];
            let mask = &step.mask[frame * keys..][..keys];
            for (((score, key), &place), mask) in scores.iter_mut().zip(rows).zip(places).zip(mask) {
                *score = (dot(simd, query, key) + by_position[place]) / a.scale + mask;
            }
            softmax(simd, scores);
            sum.fill(0.0);
            let (old, new) = scores.split_at(a.left);
            add_rows(simd, sum, old, old_values);
            add_rows(simd, sum, new, new_values);
            self.output.put(frame, self.head * width, sum);
        }
    }
}

/// In place. The largest is taken off first, so that nothing overflows.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32]) {
    let (vectors, rest) = S::as_mut_simd_f32s(scores);
    let largest = vectors
        .iter()
        .fold(simd.splat_f32s(f32::NEG_INFINITY), |most, &v| simd.max_f32s(most, v));
    let largest = rest.iter().copied().fold(simd.reduce_max_f32s(largest), f32::max);
    let mut sums = simd.splat_f32s(0.0);
    for vector in vectors.iter_mut() {
        *vector = exp(simd, simd.sub_f32s(*vector, simd.splat_f32s(largest)));
        sums = simd.add_f32s(sums, *vector);
    }
    let mut sum = simd.reduce_sum_f32s(sums);
    for score in rest.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for vector in vectors {
        *vector = simd.div_f32s(*vector, simd.splat_f32s(sum));
    }
    for score in rest {
        *score /= sum;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::noise;

    /// The same in double precision, one number at a time.
    fn slowly(a: &Attention, step: &Step<'_>) -> Vec<f64> {
        let (keys, positions) = (a.left + a.frames, a.position_count());
        let mut output = vec![0.0; a.frames * a.heads * a.width];
        for (head, frame) in (0..a.heads).flat_map(|head| (0..a.frames).map(move |frame| (head, frame))) {
            let query = |bias: usize, d: usize| {
                f64::from(step.queries[(frame * a.heads + head) * a.width + d])
                    + f64::from(a.biases[bias][head * a.width + d])
            };
            let row = |both: [&[f32]; 2], key: usize, d: usize| match key.checked_sub(a.left) {
                Some(new) => f64::from(both[1][(head * a.frames + new) * a.width + d]),
                None => f64::from(both[0][(head * a.left + key) * a.width + d]),
            };
            let score = |key: usize| {
                let (row_of, position) = (
                    a.places[frame * keys + key] / positions,
                    a.places[frame * keys + key] % positions,
                );
                assert_eq!(row_of, frame, "every query looks into its own row");
                let content: f64 = (0..a.width).map(|d| query(0, d) * row(step.keys, key, d)).sum();
                let place = |d: usize| f64::from(a.positions[(head * a.width + d) * positions + position]);
                let position: f64 = (0..a.width).map(|d| query(1, d) * place(d)).sum();
                (content + position) / f64::from(a.scale) + f64::from(step.mask[frame * keys + key])
            };
            let scores: Vec<f64> = (0..keys).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let all: f64 = weights.iter().sum();
            for d in 0..a.width {
                let sum: f64 = (0..keys).map(|key| weights[key] * row(step.values, key, d)).sum();
                output[(frame * a.heads + head) * a.width + d] = sum / all;
            }
        }
        output
    }

    fn check(heads: usize, width: usize, frames: usize, left: usize) {
        let (all, keys, positions) = (heads * width, left + frames, left + 2 * frames - 1);
        let place = |frame: usize, key: usize| frame * positions + key + frames - 1 - frame;
        let attention = Attention {
            heads,
            width,
            frames,
            left,
            scale: (width as f32).sqrt(),
            biases: [noise(all, 1), noise(all, 2)],
            positions: noise(all * positions, 3),
            places: (0..frames * keys).map(|i| place(i / keys, i % keys)).collect(),
        };
        assert!(attention.is_whole());
        let mut mask = vec![0.0; frames * keys];
        // Some of the oldest are not there yet.
        mask.iter_mut()
            .enumerate()
            .filter(|(i, _)| i % keys < left / 3)
            .for_each(|(_, m)| *m = -1e30);
        let tables = [frames * all, left * all, frames * all, left * all, frames * all];
        let [queries, old_keys, new_keys, old_values, new_values] =
            std::array::from_fn(|i| noise(tables[i], 4 + i as u32));
        let step = Step {
            queries: &queries,
            keys: [&old_keys, &new_keys],
            values: [&old_values, &new_values],
            mask: &mask,
        };
        let mut got = vec![f32::NAN; frames * all];
        let output = Output::new(&mut got, all);
        for head in (0..heads).rev() {
            // SAFETY: one after the other.
            #[allow(unsafe_code)]
            unsafe {
                attention.attend(head, &step, &output);
            }
        }
        for (got, expected) in got.iter().zip(slowly(&attention, &step)) {
            assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} for {expected}");
        }
        assert!(!attention.takes(&Step {
            mask: &mask[1..],
            ..step
        }));
        let cut = Attention {
            positions: noise(1, 1),
            ..attention
        };
        assert!(!cut.is_whole());
    }

    #[test]
    fn sizes_of_real_layers() {
        for frames in [1, 2, 7, 14] {
            check(8, 64, frames, 70);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_size(heads in 1_usize..4, width in 1_usize..40, frames in 1_usize..5, left in 0_usize..20) {
            check(heads, width, frames, left);
        }
    }
}
