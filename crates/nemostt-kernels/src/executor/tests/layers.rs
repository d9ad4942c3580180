// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs like those of real encoders.

use allocation_counter::measure;

use super::*;
use crate::strided_conv::ConvGeometry;

pub(super) const LEFT: usize = 10;
const KERNEL: usize = 5;

/// Heads, width of a head, and inner width of a feed-forward block. The first cannot be divided evenly among three workers;
/// the second has no whole vectors.
const WIDTHS: [(usize, usize, usize); 2] = if cfg!(miri) {
    [(2, 4, 36), (3, 4, 20)]
} else {
    [(5, 32, 320), (3, 12, 100)]
};

/// The weights of layers, in each format.
fn weights(layers: usize, (heads, width, inner): (usize, usize, usize)) -> Vec<Vec<Arc<PackedWeights>>> {
    let d_model = heads * width;
    let (square, up, down) = (
        (d_model, d_model, Epilogue::Identity),
        (d_model, inner, Epilogue::Silu),
        (inner, d_model, Epilogue::Identity),
    );
    let pointwise = (d_model, 2 * d_model, Epilogue::Identity);
    let layer = [up, down, square, square, square, square, pointwise, square, up, down];
    all_weights(&layer.repeat(layers))
}

fn attention(frames: usize, (heads, head_dim): (usize, usize)) -> TestOp {
    let (d_model, keys, positions) = (heads * head_dim, LEFT + frames, LEFT + 2 * frames - 1);
    let dims = rel_pos_attention::AttentionDims {
        heads,
        head_dim,
        frames,
        left_context: LEFT,
    };
    let position = |index: usize| {
        let (frame, key) = (index / keys, index % keys);
        frame * positions + key + frames - 1 - frame
    };
    let indices: Vec<usize> = (0..frames * keys).map(position).collect();
    let biases = [noise(d_model, 1), noise(d_model, 2)];
    let scale = (head_dim as f32).sqrt();
    let attention = RelPosAttention::new(dims, scale, biases, &noise(d_model * positions, 3), &indices);
    TestOp::RelPosAttention(attention.unwrap().into())
}

/// A stack of Conformer layers. Inputs: frames in rows of half the width, the head of the ring, the mask; for each layer its
/// cached keys, values and frames of the convolution. Outputs: the first feed-forward block of the first layer, which the rest
/// of it reads, too; next keys, values and frames of each layer; the last rows.
struct Layers {
    calls: Vec<TestCall>,
    inputs: usize,
    outputs: Vec<usize>,
    next: usize,
}

impl Layers {
    fn new(weights: &[Arc<PackedWeights>], frames: usize, sizes: (usize, usize, usize)) -> Self {
        let count = weights.len() / 10;
        let inputs = 3 + 3 * count;
        let mut layers = Self {
            calls: Vec::new(),
            inputs,
            outputs: Vec::new(),
            next: inputs,
        };
        let mut rows = layers.add(TestOp::Reshape(sizes.0 * sizes.1), &[0]);
        for (index, weights) in weights.chunks(10).enumerate() {
            rows = layers.layer(weights, frames, sizes, (rows, 3 + 3 * index));
        }
        layers.outputs.push(rows);
        layers
    }

    fn add(&mut self, op: TestOp, inputs: &[usize]) -> usize {
        let outputs: Vec<usize> = (self.next..).take(op.output_count()).collect();
        self.next += outputs.len();
        self.calls.push(call(op, inputs, &outputs));
        outputs[0]
    }

    fn layer(
        &mut self,
        weights: &[Arc<PackedWeights>],
        frames: usize,
        (heads, head_dim, _): (usize, usize, usize),
        (rows, caches): (usize, usize),
    ) -> usize {
        let d_model = heads * head_dim;
        let matmul = |index: usize| TestOp::PackedMatMul(weights[index].clone());
        let normalized = self.add(layer_norm(d_model, 5, false), &[rows]);
        let inner = self.add(matmul(0), &[normalized]);
        let rows = self.add(matmul(1), &[inner, rows]);
        if self.outputs.is_empty() {
            self.outputs.push(rows);
        }
        let normalized = self.add(layer_norm(d_model, 7, false), &[rows]);
        let [queries, keys, values] = [2, 3, 4].map(|index| self.add(matmul(index), &[normalized]));
        let keys = self.add(TestOp::Reshape(d_model), &[keys]);
        let attention = attention(frames, (heads, head_dim));
        let attended = self.add(attention, &[queries, caches, keys, caches + 1, values, 2, 1]);
        self.outputs.extend([attended + 1, attended + 2]);
        let rows = self.add(matmul(5), &[attended, rows]);
        let normalized = self.add(layer_norm(d_model, 9, false), &[rows]);
        let pointwise = self.add(matmul(6), &[normalized]);
        let conv = GluDepthwiseConv::new(&noise(d_model * KERNEL, 11), noise(d_model, 12)).unwrap();
        let convolved = self.add(TestOp::GluDepthwiseConv(conv), &[pointwise, caches + 2]);
        self.outputs.push(convolved + 1);
        let activated = self.add(layer_norm(d_model, 13, true), &[convolved]);
        let activated = self.add(TestOp::Reshape(d_model), &[activated]);
        let rows = self.add(matmul(7), &[activated, rows]);
        let normalized = self.add(layer_norm(d_model, 15, false), &[rows]);
        let inner = self.add(matmul(8), &[normalized]);
        let rows = self.add(matmul(9), &[inner, rows]);
        self.add(layer_norm(d_model, 17, false), &[rows])
    }

    fn random_inputs(&self, frames: usize, (heads, head_dim, _): (usize, usize, usize), seed: u32) -> Vec<TestInput> {
        let d_model = heads * head_dim;
        let mut mask = vec![0.0; frames * (LEFT + frames)];
        let first_keys = mask.iter_mut().step_by(LEFT + frames);
        first_keys.for_each(|masked| *masked = -1e30);
        let first = [
            rows(2 * frames, d_model / 2, seed),
            TestInput::Scalar(seed as usize % LEFT),
            TestInput::Tensor(mask, LEFT + frames),
        ];
        let caches = (seed + 1..).step_by(3).take((self.inputs - 3) / 3).flat_map(|seed| {
            [
                rows(heads * LEFT, head_dim, seed),
                rows(heads * LEFT, head_dim, seed + 1),
                rows(d_model, KERNEL - 1, seed + 2),
            ]
        });
        first.into_iter().chain(caches).collect()
    }
}

fn check_layers(frames: usize) {
    for sizes in WIDTHS {
        for weights in weights(2, sizes) {
            let layers = Layers::new(&weights, frames, sizes);
            let inputs = [21, 34].map(|seed| layers.random_inputs(frames, sizes, seed));
            check(&layers.calls, layers.inputs, &layers.outputs, &inputs);
        }
    }
}

#[test]
fn layers_match_their_operations() {
    [1, 2, 7, 14].into_iter().for_each(check_layers);
}

#[test]
fn layers_with_several_groups_of_rows_match_their_operations() {
    [15, 20].into_iter().for_each(check_layers);
}

/// Each row of a batch is a stream of its own. With several groups of rows, the threads share the normalizations.
#[test]
#[cfg_attr(miri, ignore = "so many rows take Miri minutes")]
fn many_rows_match_single_rows() {
    let sizes = WIDTHS[0];
    for weights in weights(1, sizes) {
        let layers = Layers::new(&weights, 1, sizes);
        let inputs = layers.random_inputs(1, sizes, 21);
        for workers in [1, 2, 3, 8] {
            let mut program = TestProgram::new(&layers.calls, layers.inputs, &layers.outputs, workers);
            for count in [14, 15, 17, 28, 1, 29, 57] {
                let streams: Vec<Vec<TestInput>> = (0..count).map(|stream| other_stream(&inputs, stream)).collect();
                let streams: Vec<&[TestInput]> = streams.iter().map(Vec::as_slice).collect();
                program.check_batch(&streams, Threads::OneEach);
            }
        }
    }
}

/// Tasks of normalizations: none for one group of rows, or for one worker; otherwise one for each worker.
#[test]
fn threads_share_normalizations_of_many_rows() {
    for weights in all_weights(&[(64, 64, Epilogue::Identity)]) {
        let calls = [
            call(layer_norm(64, 1, false), &[0], &[1]),
            matmul(weights[0].clone(), &[1], 2),
        ];
        if weights[0].lhs_layout() != crate::gemm::LhsLayout::Packed {
            continue;
        }
        for (workers, count, tasks) in [
            (1, 28, 0),
            (2, 14, 0),
            (2, 15, 2),
            (2, 28, 2),
            (3, 29, 3),
            (4, 28, 4),
            (8, 28, 4),
        ] {
            let mut program = TestProgram::new(&calls, 1, &[2], workers);
            program.check(&[rows(count, 64, 1)], Threads::OneEach);
            assert_eq!(program.program.task_counts[0], tasks, "{workers}, {count}");
        }
    }
}

/// Tasks that pack the rows that a product reads: by rows as byte planes, otherwise by columns.
#[test]
fn threads_share_the_packing_of_rows() {
    use crate::gemm::LhsLayout;
    for weights in all_weights(&[(96, 64, Epilogue::Identity)]) {
        let calls = [matmul(weights[0].clone(), &[0], 1)];
        let tasks = |workers: usize, count: usize| match weights[0].lhs_layout() {
            LhsLayout::RowMajor => None,
            LhsLayout::Packed => Some(workers.min(3)),
            LhsLayout::BytePlanes => Some(workers.min(count)),
        };
        for (workers, count) in [(1, 28), (2, 1), (2, 2), (3, 14), (3, 17), (8, 28), (4, 40)] {
            let mut program = TestProgram::new(&calls, 1, &[1], workers);
            program.check(&[rows(count, 96, 1)], Threads::OneEach);
            if let Some(tasks) = tasks(workers, count) {
                assert_eq!(program.program.task_counts[0], tasks, "{workers}, {count}");
            }
        }
    }
}

#[test]
fn buffers_do_not_depend_on_the_number_of_layers() {
    let sizes = WIDTHS[0];
    let count = |layers: usize, weights: &[Arc<PackedWeights>]| {
        let layers = Layers::new(&weights[..10 * layers], 2, sizes);
        let program = program(&layers.calls, layers.inputs, &layers.outputs, 2).unwrap();
        program.memory.buffer_count()
    };
    for weights in weights(8, sizes) {
        // Only the first layer reads an input and writes an output where others have a buffer.
        let counts = [2, 3, 8].map(|layers| count(layers, &weights));
        assert!(
            counts[0] <= 8 && counts.iter().all(|count| *count == counts[0]),
            "{counts:?}"
        );
    }
}

#[test]
fn second_run_with_the_same_lengths_does_not_allocate() {
    let sizes = WIDTHS[0];
    for weights in weights(2, sizes) {
        let layers = Layers::new(&weights, 7, sizes);
        let mut program = program(&layers.calls, layers.inputs, &layers.outputs, 2).unwrap();
        let inputs = [1, 2].map(|seed| layers.random_inputs(7, sizes, seed));
        let values = run_reference(&layers.calls, &inputs[0]);
        let mut outputs: Vec<Vec<f32>> = layers.outputs.iter().map(|&output| values[output].clone()).collect();
        let mut shapes = Vec::with_capacity(outputs.len());
        let mut once =
            |inputs: &[TestInput]| run(&mut program, inputs, &mut outputs, Threads::Single, &mut shapes).unwrap();
        once(&inputs[0]);
        let count = measure(|| (0..3).for_each(|_| inputs.iter().for_each(|inputs| once(inputs)))).count_total;
        assert_eq!(count, 0);
    }
}

/// Geometry of the subsampling's convolutions.
const CAUSAL: ConvGeometry = ConvGeometry {
    kernel: [3, 3],
    strides: [2, 2],
    pads: [[2, 2], [1, 1]],
};

/// Two strided convolutions, each followed by a pointwise one, and the output projection. Inputs: frames of 11 frequencies,
/// and the masks of both convolutions.
fn subsampling(weights: &[Arc<PackedWeights>]) -> Vec<TestCall> {
    let channels = weights[0].k();
    let strided = |seed: u32, shared_input: bool| {
        let (weights, bias) = (noise(9 * channels, seed), noise(channels, seed + 1));
        let conv = StridedConv::new(CAUSAL, &weights, bias, shared_input, shared_input);
        TestOp::StridedConv(conv.unwrap())
    };
    vec![
        call(strided(1, true), &[0, 1], &[3]),
        matmul(weights[0].clone(), &[3], 4),
        call(strided(3, false), &[4, 2], &[5]),
        matmul(weights[1].clone(), &[5], 6),
        call(TestOp::Reshape(weights[2].k()), &[6], &[7]),
        matmul(weights[2].clone(), &[7], 8),
    ]
}

fn frames(count: usize, seed: u32) -> Vec<TestInput> {
    let mask = |frames: usize| TestInput::Tensor((0..frames).map(|t| f32::from(t % 4 != 3)).collect(), frames);
    let [half, _] = CAUSAL.output_size([count, 11]).unwrap();
    vec![rows(count, 11, seed), mask(count), mask(half)]
}

#[test]
fn subsampling_matches_its_operations() {
    let [_, bins] = CAUSAL.output_size(CAUSAL.output_size([9, 11]).unwrap()).unwrap();
    for channels in [32, 36] {
        let (inner, outer) = (
            (channels, channels, Epilogue::Relu),
            (bins * channels, 40, Epilogue::Identity),
        );
        for weights in all_weights(&[inner, inner, outer]) {
            let inputs = [9, 25, 9, 1, 57].map(|count| frames(count, count as u32));
            check(&subsampling(&weights), 3, &[8], &inputs);
            check(&subsampling(&weights), 3, &[4, 6, 8], &inputs);
        }
    }
}

#[test]
fn lengths_may_change_between_runs() {
    for weights in all_weights(&[(64, 100, Epilogue::Silu), (100, 64, Epilogue::Identity)]) {
        let calls = [
            call(layer_norm(64, 1, false), &[0], &[1]),
            matmul(weights[0].clone(), &[1], 2),
            matmul(weights[1].clone(), &[2, 0], 3),
            call(layer_norm(64, 3, true), &[3], &[4]),
        ];
        let inputs = [2, 20, 1, 0, 15, 14, 3].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[4], &inputs);
        // A GEMM reads the input.
        check(&[matmul(weights[0].clone(), &[0], 1)], 1, &[1], &inputs);
    }
}

#[test]
fn values_with_other_consumers_are_also_stored_row_major() {
    for weights in all_weights(&[(64, 64, Epilogue::Silu); 3]) {
        // GEMMs read the input and the first normalization as left-hand side and as residual; the latter is an output, too.
        let calls = [
            matmul(weights[0].clone(), &[0], 1),
            call(layer_norm(64, 1, false), &[0], &[2]),
            matmul(weights[1].clone(), &[2, 0], 3),
            matmul(weights[2].clone(), &[2, 2], 4),
            call(layer_norm(64, 3, true), &[4], &[5]),
        ];
        let inputs = [3, 16].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[2, 3, 1, 5], &inputs);
        check(&calls, 1, &[5], &inputs);
    }
}

#[test]
fn gemms_may_follow_each_other() {
    for weights in all_weights(&[(64, 64, Epilogue::Relu); 3]) {
        // The first residual is the left-hand side.
        let calls = [
            matmul(weights[0].clone(), &[0, 0], 1),
            matmul(weights[1].clone(), &[1], 2),
            matmul(weights[2].clone(), &[2, 1], 3),
        ];
        let inputs = [3, 16].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[3], &inputs);
    }
}

#[test]
fn gemm_with_a_residual_writes_row_major_rows() {
    for weights in all_weights(&[(64, 64, Epilogue::Identity); 2]) {
        let calls = [
            matmul(weights[0].clone(), &[0, 0], 1),
            matmul(weights[1].clone(), &[1], 2),
        ];
        let inputs = [3, 16].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[2], &inputs);
    }
}

#[test]
fn reshaped_rows_are_packed_with_their_own_width() {
    for weights in all_weights(&[(64, 96, Epilogue::Identity), (192, 64, Epilogue::Identity)]) {
        let calls = [
            call(layer_norm(64, 1, false), &[0], &[1]),
            matmul(weights[0].clone(), &[1], 2),
            call(TestOp::Reshape(192), &[2], &[3]),
            matmul(weights[1].clone(), &[3], 4),
        ];
        let inputs = [2, 16, 28].map(|count| vec![rows(count, 64, count as u32)]);
        check(&calls, 1, &[4], &inputs);
        let calls = [
            call(layer_norm(192, 1, false), &[0], &[1]),
            call(TestOp::Reshape(64), &[1], &[2]),
            matmul(weights[0].clone(), &[2], 3),
        ];
        let inputs = [1, 5, 9].map(|count| vec![rows(count, 192, count as u32)]);
        check(&calls, 1, &[3], &inputs);
    }
}

#[test]
fn gemms_with_different_weight_formats_read_the_same_rows() {
    let formats = weights_in_all_formats(64, 40);
    let calls = formats
        .iter()
        .zip(1..)
        .map(|(weights, output)| matmul(weights.clone(), &[0], output));
    let calls: Vec<TestCall> = calls.take(2).collect();
    let outputs: Vec<usize> = calls.iter().map(|call| call.outputs[0]).collect();
    check(&calls, 1, &outputs, &[vec![rows(3, 64, 1)], vec![rows(15, 64, 2)]]);
}

#[test]
fn inputs_may_have_no_rows() {
    let conv = GluDepthwiseConv::new(&noise(64 * KERNEL, 11), noise(64, 12)).unwrap();
    let calls = [call(TestOp::GluDepthwiseConv(conv), &[0, 1], &[2, 3])];
    check(&calls, 2, &[2, 3], &[vec![rows(0, 128, 1), rows(KERNEL - 1, 64, 2)]]);
    for weights in weights_in_all_formats(64, 64) {
        let calls = [
            matmul(weights.clone(), &[0], 1),
            matmul(weights.clone(), &[1, 0], 2),
            matmul(weights, &[2, 1], 3),
        ];
        check(&calls, 1, &[3], &[vec![rows(0, 64, 1)]]);
    }
}

/// Each thread runs a normalization before a GEMM reads the result, once for each value.
#[test]
fn calls_may_share_an_operation() {
    for weights in all_weights(&[(64, 64, Epilogue::Identity); 2]) {
        let norm = layer_norm(64, 1, false).build();
        let gemms: Vec<Op> = weights
            .iter()
            .map(|weights| TestOp::PackedMatMul(weights.clone()).build())
            .collect();
        let call = |op: &Op, input: usize, output: usize| OpCall {
            op: op.clone(),
            inputs: vec![input],
            outputs: vec![output],
        };
        let shared = vec![
            call(&norm, 0, 2),
            call(&norm, 1, 3),
            call(&gemms[0], 2, 4),
            call(&gemms[1], 3, 5),
        ];
        let mut program = Program::new(shared, 2, &[4, 5], 1).unwrap();
        let inputs = [rows(3, 64, 1), rows(3, 64, 2)];
        let mut outputs = [vec![0.0; 3 * 64], vec![0.0; 3 * 64]];
        run(&mut program, &inputs, &mut outputs, Threads::Single, &mut Vec::new()).unwrap();
        let calls = [
            super::call(layer_norm(64, 1, false), &[0], &[2]),
            super::call(layer_norm(64, 1, false), &[1], &[3]),
            matmul(weights[0].clone(), &[2], 4),
            matmul(weights[1].clone(), &[3], 5),
        ];
        let values = run_reference(&calls, &inputs);
        assert!(outputs[0] == values[4] && outputs[1] == values[5]);
    }
}
