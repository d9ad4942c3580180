// SPDX-License-Identifier: MIT OR Apache-2.0

//! Against the same operations, one after the other.

mod joint;
mod layers;
mod program_errors;

use std::{sync::Arc, thread};

use super::*;
use crate::kernels::{
    gemm::{Columns, Ending, Kind, Room, Target, tests::in_each_form},
    joint_add_relu::meet,
    lstm_cell, noise,
    rel_pos_attention::{self, Cache},
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
    fn call(self, members: usize, work: &(dyn Fn(usize) + Sync)) {
        match self {
            Self::OfTheirOwn => thread::scope(|scope| {
                for member in 0..members {
                    scope.spawn(move || work(member));
                }
            }),
            Self::Twice => thread::scope(|scope| {
                for member in (0..members).chain(0..members) {
                    scope.spawn(move || work(member));
                }
            }),
            Self::One => (0..members).for_each(work),
            Self::OneBackwards => (0..members).rev().for_each(work),
        }
    }
}

fn product(weights: Arc<Weights>, inputs: &[usize], output: usize) -> Call {
    call(Work::Product(weights), inputs, &[output])
}

fn call(work: Work, inputs: &[usize], outputs: &[usize]) -> Call {
    Call {
        work,
        inputs: inputs.into(),
        outputs: outputs.into(),
    }
}

fn normalisation(width: usize, seed: u32, gates: bool) -> Work {
    Work::Normalisation(Normalisation {
        scale: noise(width, seed),
        bias: noise(width, seed + 1),
        epsilon: 1e-5,
        gates,
    })
}

/// Products of such depths, columns and endings, once in each form that this processor has.
fn products(sizes: &[(usize, usize, Ending)]) -> Vec<Vec<Arc<Weights>>> {
    let kind = |(seed, &(depth, columns, ending)): (u32, &(usize, usize, Ending))| {
        let kind = Kind {
            depth,
            columns,
            bias: Some(noise(columns, 2 * seed)),
            ending,
        };
        // So that sums stay as large as what they are made of.
        let share = 1.5 / (depth as f32).sqrt();
        let table = noise(depth * columns, 2 * seed + 1);
        (kind, table.into_iter().map(|value| value * share).collect())
    };
    let kinds: Vec<(Kind, Vec<f32>)> = (100..).zip(sizes).map(kind).collect();
    let forms = in_each_form(&kinds).into_iter();
    forms
        .map(|weights| weights.into_iter().map(Arc::new).collect())
        .collect()
}

/// One product in each form.
fn single(depth: usize, columns: usize) -> Vec<Arc<Weights>> {
    products(&[(depth, columns, Ending::Plain)]).concat()
}

/// What each value is after the operations of `calls`, one after the other on this thread.
fn one_by_one(calls: &[Call], given: &[Given]) -> Vec<Vec<f32>> {
    let floats = |given: &Given| match given {
        Given::Floats(floats, _) => floats.clone(),
        Given::Number(_) => Vec::new(),
    };
    let mut values: Vec<Vec<f32>> = given.iter().map(floats).collect();
    for call in calls {
        let input = |index: usize| &values[call.inputs[index]][..];
        let made = match &call.work {
            Work::Product(weights) => vec![multiplied(weights, input(0), call.inputs.get(1).map(|_| input(1)))],
            Work::Attention(attention) => {
                let Given::Number(oldest) = given[call.inputs[6]] else {
                    panic!("the oldest is a number");
                };
                attended(attention, &std::array::from_fn(input), oldest)
            }
            Work::Convolution(convolution) => convolved(convolution, input(0), input(1)),
            Work::Normalisation(normalisation) => {
                let mut output = vec![f32::NAN; input(0).len()];
                normalisation.normalise(input(0), &mut output);
                vec![output]
            }
            Work::Subsampling(subsampling) => vec![subsampled(subsampling, input(0), input(1))],
            Work::Meeting(width) => {
                let mut output = vec![f32::NAN; input(0).len()];
                for (frame, output) in input(0).chunks(*width).zip(output.chunks_mut(*width)) {
                    meet(frame, input(1), output);
                }
                vec![output]
            }
            Work::Gates(units) => {
                let (mut state, mut cells) = (vec![f32::NAN; *units], vec![f32::NAN; *units]);
                let step = lstm_cell::Step {
                    sums: [input(0), input(1)],
                    cells: input(2),
                };
                step.apply(0..*units, &mut state, &mut cells);
                vec![state, cells]
            }
            Work::Reshape(_) => vec![input(0).to_vec()],
        };
        for (&output, made) in call.outputs.iter().zip(made) {
            values.resize(values.len().max(output + 1), Vec::new());
            values[output] = made;
        }
    }
    values
}

fn multiplied(weights: &Weights, input: &[f32], more: Option<&[f32]>) -> Vec<f32> {
    let mut values = vec![f32::NAN; input.len() / weights.depth() * weights.columns()];
    let mut room = Room::default();
    let input = weights.prepare(input, &mut room);
    for piece in 0..weights.pieces() {
        weights.multiply(piece, input, more, Columns::all(&mut values, weights.columns()));
    }
    values
}

#[allow(unsafe_code)]
fn attended(attention: &Attention, input: &[&[f32]; 6], oldest: usize) -> Vec<Vec<f32>> {
    let all = attention.sizes.all();
    let mut values = vec![vec![f32::NAN; attention.sizes.frames * all]];
    values.extend([1, 3].map(|cache| vec![f32::NAN; input[cache].len()]));
    let [first, next_keys, next_values] = &mut values[..] else {
        unreachable!()
    };
    // SAFETY: all of it lives longer than the step.
    let cache = |now: &[f32], next: &mut [f32]| unsafe { Cache::new(now.as_ptr(), next.as_mut_ptr(), now.len()) };
    let step = rel_pos_attention::Step {
        queries: input[0],
        keys: (cache(input[1], next_keys), input[2]),
        values: (cache(input[3], next_values), input[4]),
        mask: input[5],
        oldest,
    };
    for head in 0..attention.sizes.heads {
        // SAFETY: one head after the other.
        let cached = unsafe { attention.cached(head, &step) };
        attention.attend(head, &step, cached, Target::Rows(Columns::all(first, all)));
    }
    values
}

fn convolved(convolution: &Convolution, input: &[f32], cache: &[f32]) -> Vec<Vec<f32>> {
    let (mut values, mut next) = (vec![f32::NAN; input.len() / 2], vec![f32::NAN; cache.len()]);
    for piece in 0..convolution.pieces() {
        let places = [&mut values, &mut next].map(|values| Columns::all(values, convolution.channels()));
        convolution.convolve(piece, (input, cache), places.into());
    }
    vec![values, next]
}

fn subsampled(subsampling: &Subsampling, input: &[f32], mask: &[f32]) -> Vec<f32> {
    let [frames, bins] = subsampling.sizes(input.len(), mask.len()).unwrap().output;
    let mut values = vec![f32::NAN; frames * bins * subsampling.channels()];
    for (frame, row) in values.chunks_exact_mut(bins * subsampling.channels()).enumerate() {
        subsampling.convolve(frame, (input, mask), row);
    }
    values
}

/// Runs a chain with room for outputs in `rooms`, and gives the sizes for which it asked.
fn run(
    chain: &mut Chain,
    given: &[Given],
    rooms: &mut [Vec<f32>],
    threads: Threads,
    sizes: &mut Vec<Sizes>,
) -> Result<(), Misfit> {
    sizes.clear();
    let mut rooms = rooms.iter_mut();
    let input = |index: usize| {
        Ok(match &given[index] {
            Given::Floats(floats, width) => Input::Floats(&raw const floats[..], *width),
            Given::Number(number) => Input::Number(*number),
        })
    };
    let output = |_: usize, size| {
        sizes.push(size);
        Ok(&raw mut rooms.next().unwrap()[..])
    };
    let together = |members: usize, work: &(dyn Fn(usize) + Sync)| {
        threads.call(members, work);
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
    calls: Vec<Call>,
    outputs: Vec<usize>,
    chain: Chain,
}

impl Tested {
    fn new(calls: &[Call], inputs: usize, outputs: &[usize], members: usize) -> Self {
        Self {
            calls: calls.into(),
            outputs: outputs.into(),
            chain: Chain::new(calls.into(), inputs, outputs, members).unwrap(),
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
        let values = |size: &Sizes| match *size {
            Sizes::Rows { rows, width } => rows * width,
            Sizes::Like(input) => match &given[input] {
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
fn check(calls: &[Call], inputs: usize, outputs: &[usize], given: &[Vec<Given>]) {
    let members = if cfg!(miri) { 2..=2 } else { 1..=3 };
    for members in members {
        let mut tested = Tested::new(calls, inputs, outputs, members);
        for threads in THREADS {
            given.iter().for_each(|given| tested.check(given, threads));
        }
    }
}
