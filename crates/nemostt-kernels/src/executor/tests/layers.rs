// SPDX-License-Identifier: MIT OR Apache-2.0

//! Chains like those of real models.

use allocation_counter::measure;

use super::*;
use crate::strided_conv::ConvGeometry;

const LEFT: usize = 10;
const KERNEL: usize = 5;

/// Heads, the width of one, and the width between the two products of a feed-forward block. Pieces of the first are uneven
/// for three members; the second has no whole vectors.
const WIDTHS: [(usize, usize, usize); 2] = if cfg!(miri) {
    [(2, 4, 36), (3, 4, 20)]
} else {
    [(5, 32, 320), (3, 12, 100)]
};

/// The products of layers, once in each form.
fn weights(layers: usize, (heads, width, inner): (usize, usize, usize)) -> Vec<Vec<Arc<PackedWeights>>> {
    let all = heads * width;
    let (square, widen, narrow) = (
        (all, all, Epilogue::Identity),
        (all, inner, Epilogue::Silu),
        (inner, all, Epilogue::Identity),
    );
    let double = (all, 2 * all, Epilogue::Identity);
    let layer = [
        widen, narrow, square, square, square, square, double, square, widen, narrow,
    ];
    products(&layer.repeat(layers))
}

fn attention(frames: usize, (heads, width): (usize, usize)) -> Op {
    let (all, keys, positions) = (heads * width, LEFT + frames, LEFT + 2 * frames - 1);
    let sizes = rel_pos_attention::AttentionDims {
        heads,
        head_dim: width,
        frames,
        left_context: LEFT,
    };
    let slot = |index: usize| {
        let (frame, key) = (index / keys, index % keys);
        frame * positions + key + frames - 1 - frame
    };
    let slots: Vec<usize> = (0..frames * keys).map(slot).collect();
    let biases = [noise(all, 1), noise(all, 2)];
    let made = RelPosAttention::new(sizes, (width as f32).sqrt(), biases, &noise(all * positions, 3), &slots);
    Op::RelPosAttention(made.unwrap().into())
}

/// Conformer layers, one after the other. Inputs: frames in rows of half the width, the oldest, the mask; for each layer its
/// cached keys, values and frames. Outputs: what the first layer's first block gives, which the rest of it reads, too; keys,
/// values and next cache of each layer; and rows.
struct Layers {
    calls: Vec<OpCall>,
    inputs: usize,
    outputs: Vec<usize>,
    next: usize,
}

impl Layers {
    fn new(weights: &[Arc<PackedWeights>], frames: usize, sizes: (usize, usize, usize)) -> Self {
        let all = sizes.0 * sizes.1;
        let count = weights.len() / 10;
        let inputs = 3 + 3 * count;
        let mut layers = Self {
            calls: Vec::new(),
            inputs,
            outputs: Vec::new(),
            next: inputs,
        };
        let mut rows = layers.add(Op::Reshape(all), &[0]);
        for (index, weights) in weights.chunks(10).enumerate() {
            rows = layers.layer(weights, frames, sizes, (rows, 3 + 3 * index));
        }
        layers.outputs.push(rows);
        layers
    }

    fn add(&mut self, work: Op, inputs: &[usize]) -> usize {
        let outputs: Vec<usize> = (self.next..).take(work.outputs()).collect();
        self.next += outputs.len();
        self.calls.push(call(work, inputs, &outputs));
        outputs[0]
    }

    fn layer(
        &mut self,
        weights: &[Arc<PackedWeights>],
        frames: usize,
        (heads, width, _): (usize, usize, usize),
        (rows, caches): (usize, usize),
    ) -> usize {
        let all = heads * width;
        let product = |index: usize| Op::PackedMatMul(weights[index].clone());
        let normal = self.add(layer_norm(all, 5, false), &[rows]);
        let inner = self.add(product(0), &[normal]);
        let rows = self.add(product(1), &[inner, rows]);
        if self.outputs.is_empty() {
            self.outputs.push(rows);
        }
        let normal = self.add(layer_norm(all, 7, false), &[rows]);
        let [queries, keys, values] = [2, 3, 4].map(|index| self.add(product(index), &[normal]));
        let keys = self.add(Op::Reshape(all), &[keys]);
        let attention = attention(frames, (heads, width));
        let mixed = self.add(attention, &[queries, caches, keys, caches + 1, values, 2, 1]);
        self.outputs.extend([mixed + 1, mixed + 2]);
        let rows = self.add(product(5), &[mixed, rows]);
        let normal = self.add(layer_norm(all, 9, false), &[rows]);
        let double = self.add(product(6), &[normal]);
        let convolution = GluDepthwiseConv::new(&noise(all * KERNEL, 11), noise(all, 12)).unwrap();
        let over_time = self.add(Op::GluDepthwiseConv(convolution), &[double, caches + 2]);
        self.outputs.push(over_time + 1);
        let gated = self.add(layer_norm(all, 13, true), &[over_time]);
        let gated = self.add(Op::Reshape(all), &[gated]);
        let rows = self.add(product(7), &[gated, rows]);
        let normal = self.add(layer_norm(all, 15, false), &[rows]);
        let inner = self.add(product(8), &[normal]);
        let rows = self.add(product(9), &[inner, rows]);
        self.add(layer_norm(all, 17, false), &[rows])
    }

    /// Inputs of a run.
    fn given(&self, frames: usize, (heads, width, _): (usize, usize, usize), seed: u32) -> Vec<Given> {
        let all = heads * width;
        let mut mask = vec![0.0; frames * (LEFT + frames)];
        mask.iter_mut()
            .step_by(LEFT + frames)
            .for_each(|masked| *masked = -1e30);
        let ring_head = seed as usize % LEFT;
        let first = [
            rows(2 * frames, all / 2, seed),
            Given::Number(ring_head),
            Given::Floats(mask, LEFT + frames),
        ];
        let caches = (seed + 1..).step_by(3).take((self.inputs - 3) / 3).flat_map(|seed| {
            [
                rows(heads * LEFT, width, seed),
                rows(heads * LEFT, width, seed + 1),
                rows(all, KERNEL - 1, seed + 2),
            ]
        });
        first.into_iter().chain(caches).collect()
    }
}

fn layers_of(frames: usize) {
    for sizes in WIDTHS {
        for weights in weights(2, sizes) {
            let layers = Layers::new(&weights, frames, sizes);
            let given: Vec<Vec<Given>> = [21, 34].map(|seed| layers.given(frames, sizes, seed)).into();
            check(&layers.calls, layers.inputs, &layers.outputs, &given);
        }
    }
}

#[test]
fn layers_give_what_their_operations_give() {
    [1, 2, 7, 14].into_iter().for_each(layers_of);
}

#[test]
fn layers_of_more_rows_than_a_pass_has_give_what_their_operations_give() {
    [15, 20].into_iter().for_each(layers_of);
}

#[test]
fn a_long_chain_needs_no_more_buffers_than_a_short_one() {
    let sizes = WIDTHS[0];
    let count = |layers: usize, weights: &[Arc<PackedWeights>]| {
        let layers = Layers::new(&weights[..10 * layers], 2, sizes);
        Tested::new(&layers.calls, layers.inputs, &layers.outputs, 2)
            .chain
            .memory
            .count()
    };
    for weights in weights(8, sizes) {
        // The first layer alone has an input and an output where others have a buffer.
        let counts = [2, 3, 8].map(|layers| count(layers, &weights));
        assert!(
            counts[0] <= 8 && counts.iter().all(|count| *count == counts[0]),
            "{counts:?}"
        );
    }
}

#[test]
fn a_run_like_the_last_one_allocates_nothing() {
    let sizes = WIDTHS[0];
    for weights in weights(2, sizes) {
        let layers = Layers::new(&weights, 7, sizes);
        let mut chain = Tested::new(&layers.calls, layers.inputs, &layers.outputs, 2).chain;
        let given = [1, 2].map(|seed| layers.given(7, sizes, seed));
        let values = one_by_one(&layers.calls, &given[0]);
        let mut scratch: Vec<Vec<f32>> = layers.outputs.iter().map(|&output| values[output].clone()).collect();
        let mut asked = Vec::with_capacity(scratch.len());
        let mut once = |given: &[Given]| run(&mut chain, given, &mut scratch, Threads::One, &mut asked).unwrap();
        once(&given[0]);
        let count = measure(|| (0..3).for_each(|_| given.iter().for_each(|given| once(given)))).count_total;
        assert_eq!(count, 0);
    }
}

/// How convolutions of the subsampling go over their inputs.
const CAUSAL: ConvGeometry = ConvGeometry {
    kernel: [3, 3],
    strides: [2, 2],
    pads: [[2, 2], [1, 1]],
};

/// Two strided convolutions with a product behind each, and the product that makes frames of what they give. Inputs: frames
/// of 11 frequencies and the masks of the two.
fn subsampling(weights: &[Arc<PackedWeights>]) -> Vec<OpCall> {
    let channels = weights[0].k();
    let strided = |seed: u32, shared: bool| {
        let weights = noise(9 * channels, seed);
        let made = StridedConv::new(CAUSAL, &weights, noise(channels, seed + 1), shared, shared);
        Op::StridedConv(made.unwrap())
    };
    vec![
        call(strided(1, true), &[0, 1], &[3]),
        product(weights[0].clone(), &[3], 4),
        call(strided(3, false), &[4, 2], &[5]),
        product(weights[1].clone(), &[5], 6),
        call(Op::Reshape(weights[2].k()), &[6], &[7]),
        product(weights[2].clone(), &[7], 8),
    ]
}

fn frames(count: usize, seed: u32) -> Vec<Given> {
    let mask = |frames: usize| Given::Floats((0..frames).map(|t| f32::from(t % 4 != 3)).collect(), frames);
    let [half, _] = CAUSAL.output_size([count, 11]).unwrap();
    vec![rows(count, 11, seed), mask(count), mask(half)]
}

#[test]
fn a_subsampling_gives_what_its_operations_give() {
    let [_, bins] = CAUSAL.output_size(CAUSAL.output_size([9, 11]).unwrap()).unwrap();
    for channels in [32, 36] {
        let (inner, outer) = (
            (channels, channels, Epilogue::Relu),
            (bins * channels, 40, Epilogue::Identity),
        );
        for weights in products(&[inner, inner, outer]) {
            let given = [9, 25, 9, 1, 57].map(|count| frames(count, count as u32));
            check(&subsampling(&weights), 3, &[8], &given);
            check(&subsampling(&weights), 3, &[4, 6, 8], &given);
        }
    }
}

#[test]
fn inputs_may_be_longer_or_shorter_than_before() {
    for weights in products(&[(64, 100, Epilogue::Silu), (100, 64, Epilogue::Identity)]) {
        let calls = [
            call(layer_norm(64, 1, false), &[0], &[1]),
            product(weights[0].clone(), &[1], 2),
            product(weights[1].clone(), &[2, 0], 3),
            call(layer_norm(64, 3, true), &[3], &[4]),
        ];
        let given = [2, 20, 1, 0, 15, 14, 3].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[4], &given);
        // The input goes to a product as it is.
        check(&[product(weights[0].clone(), &[0], 1)], 1, &[1], &given);
    }
}

#[test]
fn what_is_an_output_or_is_read_in_two_ways_is_whole() {
    for weights in products(&[(64, 64, Epilogue::Silu); 3]) {
        // The input and the first normalisation go to products and are read as they are; the latter is an output, too.
        let calls = [
            product(weights[0].clone(), &[0], 1),
            call(layer_norm(64, 1, false), &[0], &[2]),
            product(weights[1].clone(), &[2, 0], 3),
            product(weights[2].clone(), &[2, 2], 4),
            call(layer_norm(64, 3, true), &[4], &[5]),
        ];
        let given = [3, 16].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[2, 3, 1, 5], &given);
        check(&calls, 1, &[5], &given);
    }
}

#[test]
fn products_may_follow_each_other() {
    for weights in products(&[(64, 64, Epilogue::Relu); 3]) {
        // Sums, of which one has the input itself in it.
        let calls = [
            product(weights[0].clone(), &[0, 0], 1),
            product(weights[1].clone(), &[1], 2),
            product(weights[2].clone(), &[2, 1], 3),
        ];
        let given = [3, 16].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[3], &given);
    }
}

#[test]
fn a_sum_that_only_products_read_is_whole() {
    for weights in products(&[(64, 64, Epilogue::Identity); 2]) {
        let calls = [
            product(weights[0].clone(), &[0, 0], 1),
            product(weights[1].clone(), &[1], 2),
        ];
        let given = [3, 16].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[2], &given);
    }
}

#[test]
fn rows_of_another_width_are_other_rows_to_products_too() {
    for weights in products(&[(64, 96, Epilogue::Identity), (192, 64, Epilogue::Identity)]) {
        let calls = [
            call(layer_norm(64, 1, false), &[0], &[1]),
            product(weights[0].clone(), &[1], 2),
            call(Op::Reshape(192), &[2], &[3]),
            product(weights[1].clone(), &[3], 4),
        ];
        let given = [2, 16, 28].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[4], &given);
        let calls = [
            call(layer_norm(192, 1, false), &[0], &[1]),
            call(Op::Reshape(64), &[1], &[2]),
            product(weights[0].clone(), &[2], 3),
        ];
        let given = [1, 5, 9].map(|count| vec![rows(count, 192, count as u32)]);
        check(&calls, 1, &[3], &given);
    }
}

#[test]
fn products_of_different_forms_read_the_same_rows() {
    let forms = single(64, 40);
    let products = forms
        .iter()
        .zip(1..)
        .map(|(weights, output)| product(weights.clone(), &[0], output));
    let calls: Vec<OpCall> = products.take(2).collect();
    let outputs: Vec<usize> = calls.iter().map(|call| call.outputs[0]).collect();
    check(&calls, 1, &outputs, &[vec![rows(3, 64, 1)], vec![rows(15, 64, 2)]]);
}
