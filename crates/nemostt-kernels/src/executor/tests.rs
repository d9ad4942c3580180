// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs give, bit for bit, the same as their operations one after the other.

mod joint;
mod layers;
mod program_errors;
mod reference;
mod stream_io;

use std::thread;

use self::reference::{TestOp, run_reference};
use super::*;
use crate::{
    gemm::{Epilogue, GemmSpec, PackedWeights, tests::in_each_form},
    glu_depthwise_conv::GluDepthwiseConv,
    joint_add_relu::JointAddRelu,
    layer_norm::LayerNorm,
    lstm_cell::LstmCell,
    noise,
    packed_matmul::PackedMatMul,
    rel_pos_attention::{self, RelPosAttention},
    strided_conv::StridedConv,
};

/// An [`OpCall`].
#[derive(Debug, Clone)]
struct TestCall {
    op: TestOp,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

/// An [`Input`].
#[derive(Debug, Clone)]
enum TestInput {
    Tensor(Vec<f32>, usize),
    Scalar(usize),
}

/// Noise, \[rows, width\].
fn rows(rows: usize, width: usize, seed: u32) -> TestInput {
    TestInput::Tensor(noise(rows * width, seed), width)
}

/// On which threads the workers of a team are called.
#[derive(Debug, Clone, Copy)]
enum Threads {
    OneEach,
    /// Each worker on two threads at once, one of which must return.
    TwoEach,
    Single,
    SingleBackwards,
}

const THREADS: &[Threads] = if cfg!(miri) {
    &[Threads::OneEach]
} else {
    &[
        Threads::OneEach,
        Threads::TwoEach,
        Threads::Single,
        Threads::SingleBackwards,
    ]
};

impl Threads {
    fn call(self, workers: usize, work: &(dyn Fn(usize) + Sync)) {
        match self {
            Self::OneEach => thread::scope(|scope| {
                for worker in 0..workers {
                    scope.spawn(move || work(worker));
                }
            }),
            Self::TwoEach => thread::scope(|scope| {
                for worker in (0..workers).chain(0..workers) {
                    scope.spawn(move || work(worker));
                }
            }),
            Self::Single => (0..workers).for_each(work),
            Self::SingleBackwards => (0..workers).rev().for_each(work),
        }
    }
}

fn matmul(weights: Arc<PackedWeights>, inputs: &[usize], output: usize) -> TestCall {
    call(TestOp::PackedMatMul(weights), inputs, &[output])
}

fn call(op: TestOp, inputs: &[usize], outputs: &[usize]) -> TestCall {
    TestCall {
        op,
        inputs: inputs.into(),
        outputs: outputs.into(),
    }
}

fn layer_norm(width: usize, seed: u32, silu: bool) -> TestOp {
    TestOp::LayerNorm(LayerNorm {
        scale: noise(width, seed),
        bias: noise(width, seed + 1),
        epsilon: 1e-5,
        silu,
    })
}

fn program(calls: &[TestCall], inputs: usize, outputs: &[usize], workers: usize) -> Result<Program, ProgramError> {
    let calls = calls.iter().cloned().map(|call| OpCall {
        op: call.op.build(),
        inputs: call.inputs,
        outputs: call.outputs,
    });
    Program::new(calls.collect(), inputs, outputs, workers)
}

/// Weights \[k, n\] with these epilogues, in each format that this processor supports.
fn all_weights(sizes: &[(usize, usize, Epilogue)]) -> Vec<Vec<Arc<PackedWeights>>> {
    let spec = |(seed, &(k, n, epilogue)): (u32, &(usize, usize, Epilogue))| {
        let spec = GemmSpec {
            k,
            n,
            bias: Some(noise(n, 2 * seed)),
            epilogue,
        };
        // So that outputs are about as large as inputs.
        let scale = 1.5 / (k as f32).sqrt();
        let weights = noise(k * n, 2 * seed + 1);
        (spec, weights.into_iter().map(|value| value * scale).collect())
    };
    let specs: Vec<(GemmSpec, Vec<f32>)> = (100..).zip(sizes).map(spec).collect();
    let formats = in_each_form(&specs).into_iter();
    formats
        .map(|weights| weights.into_iter().map(Arc::new).collect())
        .collect()
}

/// Weights \[k, n\] in each format.
fn weights_in_all_formats(k: usize, n: usize) -> Vec<Arc<PackedWeights>> {
    all_weights(&[(k, n, Epilogue::Identity)]).concat()
}

/// Runs a program that writes to `outputs`. `shapes` are those that it asked for.
fn run(
    program: &mut Program,
    inputs: &[TestInput],
    outputs: &mut [Vec<f32>],
    threads: Threads,
    shapes: &mut Vec<OutputShape>,
) -> Result<(), ProgramError> {
    run_batch(program, &[inputs], &mut [outputs], threads, shapes)
}

/// Runs a program for a batch of streams.
fn run_batch(
    program: &mut Program,
    inputs: &[&[TestInput]],
    outputs: &mut [&mut [Vec<f32>]],
    threads: Threads,
    shapes: &mut Vec<OutputShape>,
) -> Result<(), ProgramError> {
    shapes.clear();
    let input = |stream: usize, index: usize| {
        Ok(match &inputs[stream][index] {
            TestInput::Tensor(values, width) => Input::Tensor(&raw const values[..], *width),
            TestInput::Scalar(scalar) => Input::Scalar(*scalar),
        })
    };
    let output = |stream: usize, index: usize, shape| {
        if stream == 0 {
            shapes.push(shape);
        }
        Ok(&raw mut outputs[stream][index][..])
    };
    let parallel_for = |workers: usize, work: &(dyn Fn(usize) + Sync)| {
        threads.call(workers, work);
        Ok(())
    };
    // SAFETY: inputs and outputs are borrowed until the end, and do not overlap.
    #[allow(unsafe_code)]
    unsafe {
        program.run_batch(inputs.len(), input, output, parallel_for)
    }
}

/// Inputs of another stream: other values of the same lengths.
fn other_stream(inputs: &[TestInput], stream: usize) -> Vec<TestInput> {
    let other = |input: &TestInput| match input {
        TestInput::Tensor(values, width) => {
            let factor = 1.0 - 0.07 * stream as f32;
            TestInput::Tensor(values.iter().map(|value| value * factor).collect(), *width)
        }
        // The head of a ring.
        TestInput::Scalar(scalar) => TestInput::Scalar((scalar + 3 * stream) % layers::LEFT),
    };
    inputs.iter().map(other).collect()
}

/// A program that runs several times.
struct TestProgram {
    calls: Vec<TestCall>,
    outputs: Vec<usize>,
    program: Program,
}

impl TestProgram {
    fn new(calls: &[TestCall], inputs: usize, outputs: &[usize], workers: usize) -> Self {
        Self {
            calls: calls.into(),
            outputs: outputs.into(),
            program: program(calls, inputs, outputs, workers).unwrap(),
        }
    }

    /// Compares outputs with those of the reference, bit for bit.
    fn check(&mut self, inputs: &[TestInput], threads: Threads) {
        self.check_batch(&[inputs], threads);
    }

    /// As [`check`](Self::check), for a batch of streams.
    fn check_batch(&mut self, inputs: &[&[TestInput]], threads: Threads) {
        let expected = |inputs: &&[TestInput]| {
            let values = run_reference(&self.calls, inputs);
            self.outputs.iter().map(|&output| values[output].clone()).collect()
        };
        let expected: Vec<Vec<Vec<f32>>> = inputs.iter().map(expected).collect();
        let unset = |values: &Vec<f32>| vec![f32::NAN; values.len()];
        let mut outputs: Vec<Vec<Vec<f32>>> = expected
            .iter()
            .map(|stream| stream.iter().map(unset).collect())
            .collect();
        let mut shapes = Vec::new();
        let mut written: Vec<&mut [Vec<f32>]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        run_batch(&mut self.program, inputs, &mut written, threads, &mut shapes).unwrap();
        for (stream, (outputs, expected)) in outputs.iter().zip(&expected).enumerate() {
            for (number, (got, expected)) in self.outputs.iter().zip(outputs.iter().zip(expected)) {
                let differs = |(got, expected): (&f32, &f32)| got.to_bits() != expected.to_bits();
                let different = got.iter().zip(expected).position(differs);
                assert!(expected.iter().all(|value| value.is_finite()));
                assert_eq!(
                    different,
                    None,
                    "value {number} of stream {stream} of {}, {threads:?}, of {}",
                    inputs.len(),
                    got.len()
                );
            }
        }
        let length = |shape: &OutputShape| match *shape {
            OutputShape::Rows { rows, width } => rows * width,
            OutputShape::Like(input) => match &inputs[0][input] {
                TestInput::Tensor(values, _) => values.len(),
                TestInput::Scalar(_) => 0,
            },
        };
        let lengths: Vec<usize> = shapes.iter().map(length).collect();
        assert_eq!(lengths, expected[0].iter().map(Vec::len).collect::<Vec<_>>());
    }
}

/// Sizes of the batches that [`check`] runs, in this order: they grow and shrink.
const BATCHES: &[usize] = if cfg!(miri) { &[2] } else { &[2, 16, 1, 3] };

/// Checks a program with one to three workers on all kinds of threads, with each of these inputs in turn, and in batches.
fn check(calls: &[TestCall], input_count: usize, outputs: &[usize], inputs: &[Vec<TestInput>]) {
    let workers = if cfg!(miri) { 2..=2 } else { 1..=3 };
    for workers in workers {
        let mut program = TestProgram::new(calls, input_count, outputs, workers);
        for &threads in THREADS {
            inputs.iter().for_each(|inputs| program.check(inputs, threads));
        }
        for (inputs, &count) in inputs.iter().cycle().zip(BATCHES) {
            let streams: Vec<Vec<TestInput>> = (0..count).map(|stream| other_stream(inputs, stream)).collect();
            let streams: Vec<&[TestInput]> = streams.iter().map(Vec::as_slice).collect();
            program.check_batch(&streams, Threads::OneEach);
        }
    }
}
