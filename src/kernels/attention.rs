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
    /// Cached ones and new ones: \[heads, left, width\] and \[frames, heads · width\].
    pub(crate) keys: [&'a [f32]; 2],
    pub(crate) values: [&'a [f32]; 2],
    /// \[frames, left + frames\]: 0, or so small a number that nothing is left.
    pub(crate) mask: &'a [f32],
    /// Which of the cached frames is the oldest: those behind it follow it in time, then come those before it.
    pub(crate) oldest: usize,
}

/// Where a step's results go.
#[derive(Debug)]
pub(crate) struct Results<'a> {
    /// \[frames, heads · width\].
    pub(crate) output: Output<'a>,
    /// The new keys and values as the cache keeps them: \[heads, frames, width\].
    pub(crate) rows: [Output<'a>; 2],
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
        let fit = |both: &[&[f32]; 2]| both.iter().zip(rows).all(|(part, size)| part.len() == size);
        step.queries.len() == rows[1]
            && fit(&step.keys)
            && fit(&step.values)
            && step.mask.len() == frames * self.sizes.keys()
            && step.oldest < left.max(1)
    }

    /// Does head `head`. All heads, in any order and on any threads, write all of `results`.
    ///
    /// # Panics
    /// If `step` is not [taken](Self::takes), or there is no room for a result.
    ///
    /// # Safety
    /// No two threads may do the same head for the same results at the same time.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn attend(&self, head: usize, step: &Step<'_>, results: &Results<'_>) {
        thread_local! {
            /// Room for one head, kept for the next one.
            static ROOM: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        assert!(self.takes(step) && head < self.sizes.heads);
        let Sizes { frames, width, .. } = self.sizes;
        ROOM.with_borrow_mut(|room| {
            let scores = frames * self.sizes.keys().next_multiple_of(LANES);
            room.resize(scores + self.position_count + frames * width + width, 0.0);
            Arch::new().dispatch(Head {
                attention: self,
                head,
                step,
                results,
                room,
            });
        });
        for (rows, new) in results.rows.iter().zip([step.keys[1], step.values[1]]) {
            for frame in 0..frames {
                let row = &new[(frame * self.sizes.heads + head) * width..][..width];
                rows.put(head * frames + frame, 0, row);
            }
        }
    }
}

struct Head<'a> {
    attention: &'a Attention,
    head: usize,
    step: &'a Step<'a>,
    results: &'a Results<'a>,
    room: &'a mut [f32],
}

/// Rows of a table, some values apart.
#[derive(Clone, Copy)]
struct Table<'a> {
    values: &'a [f32],
    stride: usize,
    count: usize,
}

impl<'a> Head<'a> {
    /// What is this head's of cached and new rows, in the order of time.
    fn parts(&self, [cached, new]: [&'a [f32]; 2]) -> [Table<'a>; 3] {
        let Sizes {
            width, frames, left, ..
        } = self.attention.sizes;
        let (newer, older) = of_head(cached, self.head, left * width).split_at(self.step.oldest * width);
        let cached = |values: &'a [f32]| Table {
            values,
            stride: width,
            count: values.len() / width,
        };
        let new = Table {
            values: &new[self.head * width..],
            stride: self.attention.sizes.all(),
            count: frames,
        };
        [cached(older), cached(newer), new]
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
        let Sizes { width, frames, .. } = a.sizes;
        let (keys, positions) = (a.sizes.keys(), a.position_count);
        let padded = keys.next_multiple_of(LANES);
        let (key_parts, value_parts) = (self.parts(step.keys), self.parts(step.values));
        let (scores, rest) = self.room.split_at_mut(frames * padded);
        let (by_position, rest) = rest.split_at_mut(positions);
        let (queries, sum) = rest.split_at_mut(frames * width);
        let [bias_u, bias_v] = a.biases.each_ref().map(|bias| of_head(bias, self.head, width));
        let table = of_head(&a.positions, self.head, width * positions);

        let with_bias = |query: &mut [f32], frame: usize, bias: &[f32]| {
            let row = &step.queries[(frame * a.sizes.heads + self.head) * width..][..width];
            for ((sum, value), bias) in query.iter_mut().zip(row).zip(bias) {
                *sum = value + bias;
            }
        };
        // Contents: each key is read once.
        for (frame, query) in queries.chunks_exact_mut(width).enumerate() {
            with_bias(query, frame, bias_u);
        }
        let mut key = 0;
        for part in key_parts {
            for row in part.values.chunks(part.stride.max(1)).take(part.count) {
                for (frame, query) in queries.chunks_exact(width).enumerate() {
                    scores[frame * padded + key] = dot(simd, query, &row[..width]);
                }
                key += 1;
            }
        }
        for (frame, scores) in scores.chunks_exact_mut(padded).enumerate() {
            let query = &mut queries[..width];
            with_bias(query, frame, bias_v);
            by_position.fill(0.0);
            add_rows(simd, by_position, query, table, positions);
            let by_position = &by_position[a.first_positions[frame]..][..keys];
            let mask = &step.mask[frame * keys..][..keys];
            for ((score, position), mask) in scores.iter_mut().zip(by_position).zip(mask) {
                *score = (*score + position) / a.scale + mask;
            }
            scores[keys..].fill(f32::NEG_INFINITY);
            softmax(simd, scores);
            sum.fill(0.0);
            let mut rest = &scores[..keys];
            for part in value_parts {
                let (factors, others) = rest.split_at(part.count);
                rest = others;
                add_rows(simd, sum, factors, part.values, part.stride);
            }
            self.results.output.put(frame, self.head * width, sum);
        }
    }
}

/// In place, of whole vectors. The largest is taken off first, so that nothing overflows.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32]) {
    let vectors = S::as_mut_simd_f32s(scores).0;
    let largest = vectors
        .iter()
        .fold(simd.splat_f32s(f32::NEG_INFINITY), |most, &v| simd.max_f32s(most, v));
    let largest = simd.splat_f32s(simd.reduce_max_f32s(largest));
    let mut sums = simd.splat_f32s(0.0);
    for vector in vectors.iter_mut() {
        *vector = exp(simd, simd.sub_f32s(*vector, largest));
        sums = simd.add_f32s(sums, *vector);
    }
    let sum = simd.splat_f32s(simd.reduce_sum_f32s(sums));
    for vector in vectors {
        *vector = simd.div_f32s(*vector, sum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::noise;

    /// What a layer has, before it is made ready.
    struct Layer {
        sizes: Sizes,
        biases: [Vec<f32>; 2],
        positions: Vec<f32>,
        places: Vec<usize>,
    }

    /// The same in double precision, one number at a time.
    fn slowly(layer: &Layer, scale: f32, step: &Step<'_>) -> Vec<f64> {
        let Sizes {
            heads,
            width,
            frames,
            left,
        } = layer.sizes;
        let (keys, positions) = (left + frames, layer.positions.len() / (heads * width));
        let mut output = vec![0.0; frames * heads * width];
        for (head, frame) in (0..heads).flat_map(|head| (0..frames).map(move |frame| (head, frame))) {
            let query = |bias: usize, d: usize| {
                f64::from(step.queries[(frame * heads + head) * width + d])
                    + f64::from(layer.biases[bias][head * width + d])
            };
            let row = |both: [&[f32]; 2], key: usize, d: usize| match key.checked_sub(left) {
                Some(new) => f64::from(both[1][(new * heads + head) * width + d]),
                None => f64::from(both[0][(head * left + (key + step.oldest) % left) * width + d]),
            };
            let score = |key: usize| {
                let place = layer.places[frame * keys + key];
                let (row_of, position) = (place / positions, place % positions);
                assert_eq!(row_of, frame, "every query looks into its own row");
                let content: f64 = (0..width).map(|d| query(0, d) * row(step.keys, key, d)).sum();
                let place = |d: usize| f64::from(layer.positions[(head * width + d) * positions + position]);
                let position: f64 = (0..width).map(|d| query(1, d) * place(d)).sum();
                (content + position) / f64::from(scale) + f64::from(step.mask[frame * keys + key])
            };
            let scores: Vec<f64> = (0..keys).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let all: f64 = weights.iter().sum();
            for d in 0..width {
                let sum: f64 = (0..keys).map(|key| weights[key] * row(step.values, key, d)).sum();
                output[(frame * heads + head) * width + d] = sum / all;
            }
        }
        output
    }

    fn check(heads: usize, width: usize, frames: usize, left: usize) {
        let (all, keys, positions) = (heads * width, left + frames, left + 2 * frames - 1);
        let sizes = Sizes {
            heads,
            width,
            frames,
            left,
        };
        let place = |frame: usize, key: usize| frame * positions + key + frames - 1 - frame;
        let layer = Layer {
            sizes,
            biases: [noise(all, 1), noise(all, 2)],
            positions: noise(all * positions, 3),
            places: (0..frames * keys).map(|i| place(i / keys, i % keys)).collect(),
        };
        let scale = (width as f32).sqrt();
        let ready =
            |positions: &[f32], places: &[usize]| Attention::new(sizes, scale, layer.biases.clone(), positions, places);
        let attention = ready(&layer.positions, &layer.places).unwrap();
        let mut mask = vec![0.0; frames * keys];
        // Some of the oldest are not there yet.
        mask.iter_mut()
            .enumerate()
            .filter(|(i, _)| i % keys < left / 3)
            .for_each(|(_, m)| *m = -1e30);
        let tables = [frames * all, left * all, frames * all, left * all, frames * all];
        let [queries, old_keys, new_keys, old_values, new_values] =
            std::array::from_fn(|i| noise(tables[i], 4 + i as u32));
        for oldest in [0, left / 2, left.saturating_sub(1)] {
            let step = Step {
                queries: &queries,
                keys: [&old_keys, &new_keys],
                values: [&old_values, &new_values],
                mask: &mask,
                oldest,
            };
            let mut got = vec![f32::NAN; frames * all];
            let mut rows = [vec![f32::NAN; frames * all], vec![f32::NAN; frames * all]];
            let results = Results {
                output: Output::new(&mut got, all),
                rows: rows.each_mut().map(|rows| Output::new(rows, width)),
            };
            for head in (0..heads).rev() {
                // SAFETY: one after the other.
                #[allow(unsafe_code)]
                unsafe {
                    attention.attend(head, &step, &results);
                }
            }
            for (got, expected) in got.iter().zip(slowly(&layer, scale, &step)) {
                assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} for {expected}");
            }
            for (rows, new) in rows.iter().zip([&new_keys, &new_values]) {
                let turned = |i: usize| new[(i / width % frames * heads + i / width / frames) * width + i % width];
                assert!(rows.iter().enumerate().all(|(i, &value)| value == turned(i)));
            }
            assert!(!attention.takes(&Step {
                mask: &mask[1..],
                ..step
            }));
            assert!(!attention.takes(&Step {
                oldest: left.max(1),
                ..step
            }));
        }
        assert!(ready(&noise(1, 1), &layer.places).is_none());
        let mut scattered = layer.places.clone();
        scattered.swap(0, keys - 1);
        assert!(keys == 1 || ready(&layer.positions, &scattered).is_none());
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
