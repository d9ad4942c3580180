// SPDX-License-Identifier: MIT OR Apache-2.0

//! Against the same operations, one after the other.

mod joint;
mod layers;
mod program_errors;

use std::{sync::Arc, thread};

use super::*;
use crate::{
    gemm::{ColumnsMut, Epilogue, GemmSpec, Scratch, Target, tests::in_each_form},
    joint_add_relu::add_relu,
    lstm_cell, noise,
    rel_pos_attention::{self, KvRing},
};

/// An input of a test.
#[derive(Debug, Clone)]
enum Given {
    Floats(Vec<f32>, usize),
    Number(usize),
}

/// `rows` rows of noise.
fn rows(rows: usize, width: usize, seed: u32) -> Given {
    Given::Floats(noise(rows * width, seed), width)
}

/// On which threads the members of a team are called.
#[derive(Debug, Clone, Copy)]
enum Threads {
    OfTheirOwn,
    /// Each member on two threads at once, of which one must find that it is not needed.
    Twice,
    One,
    OneBackwards,
}

const THREADS: [Threads; 4] = [Threads::OfTheirOwn, Threads::Twice, Threads::One, Threads::OneBackwards];

impl Threads {
    fn call(self, workers: usize, work: &(dyn Fn(usize) + Sync)) {
        match self {
            Self::OfTheirOwn => thread::scope(|scope| {
                for worker in 0..workers {
                    scope.spawn(move || work(worker));
                }
            }),
            Self::Twice => thread::scope(|scope| {
                for worker in (0..workers).chain(0..workers) {
                    scope.spawn(move || work(worker));
                }
            }),
            Self::One => (0..workers).for_each(work),
            Self::OneBackwards => (0..workers).rev().for_each(work),
        }
    }
}

fn product(weights: Arc<PackedWeights>, inputs: &[usize], output: usize) -> OpCall {
    call(Op::PackedMatMul(weights), inputs, &[output])
}

fn call(work: Op, inputs: &[usize], outputs: &[usize]) -> OpCall {
    OpCall {
        op: work,
        inputs: inputs.into(),
        outputs: outputs.into(),
    }
}

fn layer_norm(width: usize, seed: u32, gates: bool) -> Op {
    Op::LayerNorm(LayerNorm {
        scale: noise(width, seed),
        bias: noise(width, seed + 1),
        epsilon: 1e-5,
        silu: gates,
    })
}

/// Products of such depths, columns and endings, once in each form that this processor has.
fn products(sizes: &[(usize, usize, Epilogue)]) -> Vec<Vec<Arc<PackedWeights>>> {
    let kernel = |(seed, &(depth, columns, epilogue)): (u32, &(usize, usize, Epilogue))| {
        let kernel = GemmSpec {
            k: depth,
            n: columns,
            bias: Some(noise(columns, 2 * seed)),
            epilogue,
        };
        // So that sums stay as large as what they are made of.
        let share = 1.5 / (depth as f32).sqrt();
        let table = noise(depth * columns, 2 * seed + 1);
        (kernel, table.into_iter().map(|value| value * share).collect())
    };
    let kinds: Vec<(GemmSpec, Vec<f32>)> = (100..).zip(sizes).map(kernel).collect();
    let forms = in_each_form(&kinds).into_iter();
    forms
        .map(|weights| weights.into_iter().map(Arc::new).collect())
        .collect()
}

/// One product in each form.
fn single(depth: usize, columns: usize) -> Vec<Arc<PackedWeights>> {
    products(&[(depth, columns, Epilogue::Identity)]).concat()
}

/// What each value is after the operations of `calls`, one after the other on this thread.
fn one_by_one(calls: &[OpCall], given: &[Given]) -> Vec<Vec<f32>> {
    let floats = |given: &Given| match given {
        Given::Floats(floats, _) => floats.clone(),
        Given::Number(_) => Vec::new(),
    };
    let mut values: Vec<Vec<f32>> = given.iter().map(floats).collect();
    for call in calls {
        let input = |index: usize| &values[call.inputs[index]][..];
        let made = match &call.op {
            Op::PackedMatMul(weights) => vec![multiplied(weights, input(0), call.inputs.get(1).map(|_| input(1)))],
            Op::RelPosAttention(attention) => {
                let Given::Number(ring_head) = given[call.inputs[6]] else {
                    panic!("the oldest is a number");
                };
                attended(attention, &std::array::from_fn(input), ring_head)
            }
            Op::GluDepthwiseConv(convolution) => convolved(convolution, input(0), input(1)),
            Op::LayerNorm(layer_norm) => {
                let mut output = vec![f32::NAN; input(0).len()];
                layer_norm.normalize(input(0), &mut output);
                vec![output]
            }
            Op::StridedConv(subsampling) => vec![subsampled(subsampling, input(0), input(1))],
            Op::JointAddRelu(width) => {
                let mut output = vec![f32::NAN; input(0).len()];
                for (frame, output) in input(0).chunks(*width).zip(output.chunks_mut(*width)) {
                    add_relu(frame, input(1), output);
                }
                vec![output]
            }
            Op::LstmCell(units) => {
                let (mut state, mut cells) = (vec![f32::NAN; *units], vec![f32::NAN; *units]);
                let step = lstm_cell::LstmStep {
                    sums: [input(0), input(1)],
                    cells: input(2),
                };
                step.apply(0..*units, &mut state, &mut cells);
                vec![state, cells]
            }
            Op::Reshape(_) => vec![input(0).to_vec()],
        };
        for (&output, made) in call.outputs.iter().zip(made) {
            values.resize(values.len().max(output + 1), Vec::new());
            values[output] = made;
        }
    }
    values
}

fn multiplied(weights: &PackedWeights, input: &[f32], more: Option<&[f32]>) -> Vec<f32> {
    let mut values = vec![f32::NAN; input.len() / weights.k() * weights.n()];
    let mut scratch = Scratch::default();
    let input = weights.pack_lhs(input, &mut scratch);
    for task in 0..weights.task_count() {
        weights.multiply(task, input, more, ColumnsMut::all(&mut values, weights.n()));
    }
    values
}

#[allow(unsafe_code)]
fn attended(attention: &RelPosAttention, input: &[&[f32]; 6], ring_head: usize) -> Vec<Vec<f32>> {
    let all = attention.dims.d_model();
    let mut values = vec![vec![f32::NAN; attention.dims.frames * all]];
    values.extend([1, 3].map(|cache| vec![f32::NAN; input[cache].len()]));
    let [first, next_keys, next_values] = &mut values[..] else {
        unreachable!()
    };
    // SAFETY: all of it lives longer than the step.
    let cache = |now: &[f32], next: &mut [f32]| unsafe { KvRing::new(now.as_ptr(), next.as_mut_ptr(), now.len()) };
    let step = rel_pos_attention::AttentionInputs {
        queries: input[0],
        keys: (cache(input[1], next_keys), input[2]),
        values: (cache(input[3], next_values), input[4]),
        mask: input[5],
        ring_head,
    };
    for head in 0..attention.dims.heads {
        // SAFETY: one head after the other.
        let cached = unsafe { attention.cached(head, &step) };
        attention.attend(head, &step, cached, Target::RowMajor(ColumnsMut::all(first, all)));
    }
    values
}

fn convolved(convolution: &GluDepthwiseConv, input: &[f32], cache: &[f32]) -> Vec<Vec<f32>> {
    let (mut values, mut next) = (vec![f32::NAN; input.len() / 2], vec![f32::NAN; cache.len()]);
    for task in 0..convolution.task_count() {
        let slots = [&mut values, &mut next].map(|values| ColumnsMut::all(values, convolution.channels()));
        convolution.convolve(task, (input, cache), slots.into());
    }
    vec![values, next]
}

fn subsampled(subsampling: &StridedConv, input: &[f32], mask: &[f32]) -> Vec<f32> {
    let [frames, bins] = subsampling.sizes(input.len(), mask.len()).unwrap().output;
    let mut values = vec![f32::NAN; frames * bins * subsampling.channels()];
    for (frame, row) in values.chunks_exact_mut(bins * subsampling.channels()).enumerate() {
        subsampling.convolve(frame, (input, mask), row);
    }
    values
}

/// Runs a chain with room for outputs in `scratch`, and gives the sizes for which it asked.
fn run(
    chain: &mut Program,
    given: &[Given],
    scratch: &mut [Vec<f32>],
    threads: Threads,
    sizes: &mut Vec<OutputShape>,
) -> Result<(), ProgramError> {
    sizes.clear();
    let mut scratch = scratch.iter_mut();
    let input = |index: usize| {
        Ok(match &given[index] {
            Given::Floats(floats, width) => Input::Tensor(&raw const floats[..], *width),
            Given::Number(number) => Input::Scalar(*number),
        })
    };
    let output = |_: usize, size| {
        sizes.push(size);
        Ok(&raw mut scratch.next().unwrap()[..])
    };
    let together = |workers: usize, work: &(dyn Fn(usize) + Sync)| {
        threads.call(workers, work);
        Ok(())
    };
    // SAFETY: all of it is borrowed until the end, and lies apart.
    #[allow(unsafe_code)]
    unsafe {
        chain.run(input, output, together)
    }
}

/// A chain that is run again and again.
struct Tested {
    calls: Vec<OpCall>,
    outputs: Vec<usize>,
    chain: Program,
}

impl Tested {
    fn new(calls: &[OpCall], inputs: usize, outputs: &[usize], workers: usize) -> Self {
        Self {
            calls: calls.into(),
            outputs: outputs.into(),
            chain: Program::new(calls.into(), inputs, outputs, workers).unwrap(),
        }
    }

    /// Demands that it gives, bit for bit, what its operations give.
    fn check(&mut self, given: &[Given], threads: Threads) {
        let values = one_by_one(&self.calls, given);
        let expected = |output: &usize| values[*output].clone();
        let expected: Vec<Vec<f32>> = self.outputs.iter().map(expected).collect();
        let mut got: Vec<Vec<f32>> = expected.iter().map(|values| vec![f32::NAN; values.len()]).collect();
        let mut sizes = Vec::new();
        run(&mut self.chain, given, &mut got, threads, &mut sizes).unwrap();
        for (output, (got, expected)) in self.outputs.iter().zip(got.iter().zip(&expected)) {
            let differs = |(got, expected): (&f32, &f32)| got.to_bits() != expected.to_bits();
            let different = got.iter().zip(expected).position(differs);
            assert!(
                expected.iter().all(|value| value.is_finite()),
                "what is compared is no number"
            );
            assert_eq!(different, None, "value {output}, {threads:?}, of {}", got.len());
        }
        let values = |size: &OutputShape| match *size {
            OutputShape::Rows { rows, width } => rows * width,
            OutputShape::Like(input) => match &given[input] {
                Given::Floats(floats, _) => floats.len(),
                Given::Number(_) => 0,
            },
        };
        let counts: Vec<usize> = sizes.iter().map(values).collect();
        let lengths: Vec<usize> = expected.iter().map(Vec::len).collect();
        assert_eq!(counts, lengths);
    }
}

/// Checks a chain with so many members on all kinds of threads, with each of these inputs in turn.
fn check(calls: &[OpCall], inputs: usize, outputs: &[usize], given: &[Vec<Given>]) {
    let workers = if cfg!(miri) { 2..=2 } else { 1..=3 };
    for workers in workers {
        let mut tested = Tested::new(calls, inputs, outputs, workers);
        for threads in THREADS {
            given.iter().for_each(|given| tested.check(given, threads));
        }
    }
}
