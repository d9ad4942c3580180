// SPDX-License-Identifier: MIT OR Apache-2.0

use proptest::prelude::*;

use super::*;
use crate::{cases, gemm::ColumnsMut, most, noise};

/// Parameters of a layer.
struct Layer {
    dims: AttentionDims,
    biases: [Vec<f32>; 2],
    positions: Vec<f32>,
    position_indices: Vec<usize>,
}

/// Inputs of a step.
struct Inputs {
    queries: Vec<f32>,
    /// A ring, and new ones.
    keys: [Vec<f32>; 2],
    values: [Vec<f32>; 2],
    mask: Vec<f32>,
}

/// Float64 reference.
fn reference(layer: &Layer, scale: f32, step: &Inputs, ring_head: usize) -> Vec<f64> {
    let AttentionDims {
        heads,
        head_dim,
        frames,
        left_context,
    } = layer.dims;
    let (keys, positions) = (left_context + frames, layer.positions.len() / (heads * head_dim));
    let mut output = vec![0.0; frames * heads * head_dim];
    for (head, frame) in (0..heads).flat_map(|head| (0..frames).map(move |frame| (head, frame))) {
        let query = |bias: usize, d: usize| {
            f64::from(step.queries[(frame * heads + head) * head_dim + d])
                + f64::from(layer.biases[bias][head * head_dim + d])
        };
        let row = |both: &[Vec<f32>; 2], key: usize, d: usize| match key.checked_sub(left_context) {
            Some(new) => f64::from(both[1][(new * heads + head) * head_dim + d]),
            None => {
                let rows = both[0].len() / (heads * head_dim);
                f64::from(both[0][(head * rows + (key + ring_head) % rows) * head_dim + d])
            }
        };
        let score = |key: usize| {
            let index = layer.position_indices[frame * keys + key];
            let (row_of, position) = (index / positions, index % positions);
            assert_eq!(row_of, frame, "a query uses its own row of position scores");
            let content: f64 = (0..head_dim).map(|d| query(0, d) * row(&step.keys, key, d)).sum();
            let embedding = |d: usize| f64::from(layer.positions[(head * head_dim + d) * positions + position]);
            let position: f64 = (0..head_dim).map(|d| query(1, d) * embedding(d)).sum();
            (content + position) / f64::from(scale) + f64::from(step.mask[frame * keys + key])
        };
        let scores: Vec<f64> = (0..keys).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let all: f64 = weights.iter().sum();
        for d in 0..head_dim {
            let sum: f64 = (0..keys).map(|key| weights[key] * row(&step.values, key, d)).sum();
            output[(frame * heads + head) * head_dim + d] = sum / all;
        }
    }
    output
}

fn check(heads: usize, head_dim: usize, frames: usize, left_context: usize) {
    for ring_rows in [left_context, left_context + frames] {
        check_ring(heads, head_dim, frames, left_context, ring_rows);
    }
}

fn check_ring(heads: usize, head_dim: usize, frames: usize, left_context: usize, ring_rows: usize) {
    let (all, keys, positions) = (heads * head_dim, left_context + frames, left_context + 2 * frames - 1);
    let dims = AttentionDims {
        heads,
        head_dim,
        frames,
        left_context,
    };
    let index = |frame: usize, key: usize| frame * positions + key + frames - 1 - frame;
    let layer = Layer {
        dims,
        biases: [noise(all, 1), noise(all, 2)],
        positions: noise(all * positions, 3),
        position_indices: (0..frames * keys).map(|i| index(i / keys, i % keys)).collect(),
    };
    let scale = (head_dim as f32).sqrt();
    let new_attention = |positions: &[f32], position_indices: &[usize]| {
        RelPosAttention::new(dims, scale, layer.biases.clone(), positions, position_indices)
    };
    let attention = new_attention(&layer.positions, &layer.position_indices).unwrap();
    let mut mask = vec![0.0; frames * keys];
    // The oldest are masked.
    mask.iter_mut()
        .enumerate()
        .filter(|(i, _)| i % keys < left_context / 3)
        .for_each(|(_, m)| *m = -1e30);
    let tables = [
        frames * all,
        ring_rows * all,
        frames * all,
        ring_rows * all,
        frames * all,
    ];
    let [queries, old_keys, new_keys, old_values, new_values] = std::array::from_fn(|i| noise(tables[i], 4 + i as u32));
    let inputs = Inputs {
        queries,
        keys: [old_keys, new_keys],
        values: [old_values, new_values],
        mask,
    };
    for (ring_head, in_place) in [0, ring_rows / 2, ring_rows.saturating_sub(1)]
        .into_iter()
        .zip([true, false, true])
    {
        let caches = [&inputs.keys[0], &inputs.values[0]];
        let (mut now, mut next) = (
            caches.map(Clone::clone),
            caches.map(|cache| vec![f32::NAN; cache.len()]),
        );
        let step = AttentionInputs {
            queries: &inputs.queries,
            new_keys: &inputs.keys[1],
            new_values: &inputs.values[1],
            mask: &inputs.mask,
            ring_head,
        };
        let mut got = vec![f32::NAN; frames * all];
        let size = ring_rows * head_dim;
        for head in (0..heads).rev() {
            let rows = head * size..(head + 1) * size;
            let [[old_keys, old_values], [next_keys, next_values]] =
                [&mut now, &mut next].map(|caches| caches.each_mut().map(|cache| &mut cache[rows.clone()]));
            let cached = match in_place {
                true => [CachedHead::new(None, old_keys), CachedHead::new(None, old_values)],
                false => [
                    CachedHead::new(Some(old_keys), next_keys),
                    CachedHead::new(Some(old_values), next_values),
                ],
            };
            attention.attend(head, &step, cached, Target::RowMajor(ColumnsMut::all(&mut got, all)));
        }
        for (got, expected) in got.iter().zip(reference(&layer, scale, &inputs, ring_head)) {
            assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} for {expected}");
        }
        let (mask, no_row) = (&inputs.mask[1..], ring_rows.max(1));
        assert!(attention.accepts(&step, ring_rows) && !attention.accepts(&step, left_context + frames + 1));
        assert!(!attention.accepts(&AttentionInputs { mask, ..step }, ring_rows));
        let outside = AttentionInputs {
            ring_head: no_row,
            ..step
        };
        assert!(!attention.accepts(&outside, ring_rows));
        if in_place && ring_rows > left_context {
            // Nothing that was read has been overwritten, so it can run again.
            let kept = (0..left_context).map(|row| (ring_head + row) % ring_rows);
            let rows = kept.flat_map(|row| (0..heads).map(move |head| head * ring_rows + row));
            for row in rows.map(|row| row * head_dim..(row + 1) * head_dim) {
                assert!(
                    now[0][row.clone()] == inputs.keys[0][row.clone()] && now[1][row.clone()] == inputs.values[0][row]
                );
            }
        }
        let updated = if in_place { now } else { next };
        for (updated, [old, new]) in updated.iter().zip([&inputs.keys, &inputs.values]) {
            let value = |head: usize, row: usize, d: usize| {
                let newest = (0..frames)
                    .rev()
                    .find(|frame| left_context > 0 && (ring_head + left_context + frame) % ring_rows == row);
                match newest {
                    Some(frame) => new[(frame * heads + head) * head_dim + d],
                    None => old[(head * ring_rows + row) * head_dim + d],
                }
            };
            let expected =
                (0..ring_rows * all).map(|i| value(i / head_dim / ring_rows, i / head_dim % ring_rows, i % head_dim));
            assert!(expected.eq(updated.iter().copied()));
        }
    }
    assert!(new_attention(&layer.positions[1..], &layer.position_indices).is_none());
    let mut scattered = layer.position_indices.clone();
    scattered.swap(0, keys - 1);
    assert!(keys == 1 || new_attention(&layer.positions, &scattered).is_none());
}

#[test]
#[cfg_attr(miri, ignore = "sizes of real layers take Miri minutes")]
fn sizes_of_real_layers() {
    for frames in [1, 2, 7, 14] {
        check(8, 64, frames, 70);
    }
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn any_size(heads in 1_usize..4, head_dim in 1_usize..most(40), frames in 1_usize..most(20), left_context in 0_usize..most(20)) {
        check(heads, head_dim, frames, left_context);
    }
}
