// SPDX-License-Identifier: MIT OR Apache-2.0

//! What cannot be made or run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{super::memory_plan::Place, *};
use crate::kernels::{gemm::Layout, strided_conv::Shape};

/// Why there is no such chain.
fn refused(calls: &[Call], inputs: usize, outputs: &[usize]) -> Option<Misfit> {
    Chain::new(calls.into(), inputs, outputs, 2).err()
}

fn attention() -> Work {
    let sizes = rel_pos_attention::Sizes {
        heads: 2,
        width: 4,
        frames: 1,
        left: 3,
    };
    let biases = [vec![0.0; 8], vec![0.0; 8]];
    let made = Attention::new(sizes, 2.0, biases, &[0.0; 32], &[0, 1, 2, 3]);
    Work::Attention(made.unwrap().into())
}

fn convolution() -> Work {
    Work::Convolution(Convolution::new(&[0.5; 16], vec![0.0; 4]).unwrap())
}

fn subsampling() -> Work {
    let shape = Shape {
        kernel: [2, 1],
        strides: [2, 1],
        pads: [[0, 0], [0, 0]],
    };
    Work::Subsampling(Subsampling::new(shape, &[0.5; 8], vec![0.0; 4], true, true).unwrap())
}

#[test]
fn numbers_of_values_that_make_no_sense_are_refused() {
    let step = |input: usize, output: usize| call(normalisation(8, 1, false), &[input], &[output]);
    let reshape = |input: usize, output: usize| call(Work::Reshape(8), &[input], &[output]);
    let twice = call(attention(), &[0, 1, 2, 3, 4, 5, 6], &[7, 8, 8]);
    assert_eq!(refused(&[step(0, 1), step(1, 2)], 1, &[1, 2]), None);
    let cases: [(&str, Vec<Call>, usize, &[usize]); 16] = [
        ("nobody makes it", vec![step(0, 1), step(3, 2)], 1, &[1]),
        ("too large a number", vec![step(0, 7)], 1, &[7]),
        ("the largest number", vec![step(0, usize::MAX)], 1, &[0]),
        ("the largest number", vec![step(usize::MAX, 1)], 1, &[1]),
        ("made twice", vec![step(0, 1), step(0, 1)], 1, &[1]),
        ("made twice by one", vec![twice], 7, &[7]),
        ("made twice, as other rows", vec![step(0, 1), reshape(0, 1)], 1, &[1]),
        ("an input is made", vec![step(0, 1), step(1, 0)], 1, &[1]),
        (
            "an input is made, as other rows",
            vec![step(0, 1), reshape(1, 0)],
            1,
            &[1],
        ),
        ("used before it is made", vec![step(2, 1), step(0, 2)], 1, &[1]),
        ("used where it is made", vec![step(1, 1), step(0, 2)], 1, &[2]),
        ("an input is an output", vec![step(0, 1)], 1, &[0, 1]),
        ("other rows are an output", vec![step(0, 1), reshape(1, 2)], 1, &[2]),
        ("nobody makes the output", vec![step(0, 1)], 1, &[9]),
        ("an output is there twice", vec![step(0, 1)], 1, &[1, 1]),
        (
            "rows without a width",
            vec![call(Work::Reshape(0), &[0], &[1]), step(1, 2)],
            1,
            &[2],
        ),
    ];
    for (what, calls, inputs, outputs) in cases {
        assert_eq!(refused(&calls, inputs, outputs), Some(Misfit::Numbers), "{what}");
    }
}

#[test]
fn calls_without_all_inputs_and_outputs_are_refused() {
    for weights in single(8, 8) {
        let product = || Work::Product(weights.clone());
        let cases: [(Work, &[usize], &[usize]); 15] = [
            (product(), &[], &[7]),
            (product(), &[0, 1, 2], &[7]),
            (product(), &[0], &[]),
            (product(), &[0], &[7, 8]),
            (attention(), &[0, 1, 2, 3, 4, 5], &[7, 8, 9]),
            (attention(), &[0, 1, 2, 3, 4, 5, 6], &[7, 8]),
            (convolution(), &[0], &[7, 8]),
            (convolution(), &[0, 1], &[7]),
            (normalisation(8, 1, false), &[], &[7]),
            (normalisation(8, 1, false), &[0], &[7, 8]),
            (subsampling(), &[0], &[7]),
            (subsampling(), &[0, 1], &[]),
            (Work::Reshape(8), &[], &[7]),
            (Work::Reshape(8), &[0, 1], &[7]),
            (Work::Reshape(8), &[0], &[7, 8]),
        ];
        for (work, inputs, outputs) in cases {
            let what = format!("{work:?}, {inputs:?}, {outputs:?}");
            // Its values are there, whatever it is refused for.
            let others = call(normalisation(8, 1, false), &[3], &[10]);
            let made = (7..10).filter(|value| !outputs.contains(value));
            let fillers = made.map(|value| call(normalisation(8, 1, false), &[3], &[value]));
            let calls: Vec<Call> = [call(work, inputs, outputs), others]
                .into_iter()
                .chain(fillers)
                .collect();
            assert_eq!(refused(&calls, 7, &[10]), Some(Misfit::Missing), "{what}");
        }
    }
}

#[test]
fn values_of_another_width_are_refused() {
    for weights in products(&[(8, 12, Ending::Plain), (12, 8, Ending::Plain)]) {
        let [first, second] = [0, 1].map(|index| Work::Product(weights[index].clone()));
        let made = |work: Work, inputs: &[usize]| {
            let outputs: Vec<usize> = (8..).take(work.outputs()).collect();
            let calls = [call(first.clone(), &[0], &[7]), call(work, inputs, &outputs)];
            refused(&calls, 7, &[8])
        };
        assert_eq!(made(second.clone(), &[7, 0]), None);
        assert_eq!(made(first.clone(), &[0, 7]), None);
        // Of 12 values, where 8 are needed.
        assert_eq!(made(first.clone(), &[7]), Some(Misfit::Width));
        assert_eq!(made(second.clone(), &[7, 7]), Some(Misfit::Width));
        assert_eq!(made(normalisation(8, 1, false), &[7]), Some(Misfit::Width));
        assert_eq!(made(convolution(), &[7, 0]), Some(Misfit::Width));
        for input in [0, 2, 4] {
            let mut inputs = [0, 1, 2, 3, 4, 5, 6];
            inputs[input] = 7;
            assert_eq!(made(attention(), &inputs), Some(Misfit::Width));
        }
        let reshaped = [call(Work::Reshape(12), &[0], &[1]), call(first.clone(), &[1], &[2])];
        assert_eq!(refused(&reshaped, 1, &[2]), Some(Misfit::Width));
    }
}

#[test]
fn rows_that_are_ready_in_one_way_are_not_wanted_in_another() {
    // Of a width that another product has not.
    for weights in products(&[(8, 8, Ending::Plain), (16, 8, Ending::Plain)]) {
        let calls = [
            call(Work::Reshape(16), &[0], &[1]),
            product(weights[0].clone(), &[0], 2),
            product(weights[1].clone(), &[1], 3),
        ];
        let expected = (weights[0].reads() != Layout::Rows).then_some(Misfit::Forms);
        assert_eq!(refused(&calls, 1, &[2, 3]), expected);
    }
    // Of a form that another product has not.
    let weights = single(8, 8);
    let of = |layout: Layout| weights.iter().find(|weights| weights.reads() == layout);
    if let (Some(turned), Some(digits)) = (of(Layout::Turned), of(Layout::Digits)) {
        let calls = [product(turned.clone(), &[0], 1), product(digits.clone(), &[0], 2)];
        assert_eq!(refused(&calls, 1, &[1, 2]), Some(Misfit::Forms));
    }
}

/// Runs a chain of one call with these inputs and as much room for its outputs, and says what is wrong with it.
fn failed(chain: &mut Chain, given: &[Given], rooms: &[usize]) -> Option<Misfit> {
    let mut rooms: Vec<Vec<f32>> = rooms.iter().map(|&count| vec![f32::NAN; count]).collect();
    let result = run(chain, given, &mut rooms, Threads::One, &mut Vec::new());
    // All or nothing of them is written.
    let mut written = rooms.iter().flatten().map(|value| value.is_finite());
    assert!(written.all(|written| written == result.is_ok()));
    result.err()
}

/// Demands that a chain of one call runs with `given`, and fails so with each change of one input, and then runs again.
fn check_changes(work: Work, given: &[Given], rooms: &[usize], changes: &[(usize, Given, Misfit)]) {
    let what = format!("{work:?}");
    let inputs: Vec<usize> = (0..given.len()).collect();
    let outputs: Vec<usize> = (given.len()..).take(work.outputs()).collect();
    let calls = vec![call(work, &inputs, &outputs)];
    let mut chain = Chain::new(calls, inputs.len(), &outputs, 2).unwrap();
    assert_eq!(failed(&mut chain, given, rooms), None, "{what}");
    for (input, changed, misfit) in changes {
        let mut given = given.to_vec();
        given[*input] = changed.clone();
        assert_eq!(
            failed(&mut chain, &given, rooms),
            Some(*misfit),
            "{what}: {input}, {changed:?}"
        );
    }
    assert_eq!(failed(&mut chain, given, rooms), None, "{what}");
    let mut others = rooms.to_vec();
    for output in 0..rooms.len() {
        for count in [rooms[output] - 1, rooms[output] + 1, 0] {
            others[output] = count;
            assert_eq!(
                failed(&mut chain, given, &others),
                Some(Misfit::Sizes),
                "{what}: {count}"
            );
        }
        others[output] = rooms[output];
    }
    assert_eq!(failed(&mut chain, given, rooms), None, "{what}");
}

#[test]
fn inputs_of_other_sizes_are_refused() {
    for weights in single(8, 12) {
        let more = rows(3, 12, 2);
        let changes = [
            (0, rows(3, 12, 1), Misfit::Width),
            (0, Given::Number(3), Misfit::Width),
            // Wide enough, they say.
            (0, Given::Floats(vec![0.0; 25], 8), Misfit::Width),
            (0, rows(4, 8, 1), Misfit::Sizes),
            (1, rows(3, 8, 2), Misfit::Width),
            (1, rows(2, 12, 2), Misfit::Sizes),
        ];
        check_changes(Work::Product(weights), &[rows(3, 8, 1), more], &[36], &changes);
    }
    let changes = [
        (0, rows(3, 12, 1), Misfit::Width),
        (0, Given::Floats(vec![0.0; 25], 8), Misfit::Width),
    ];
    check_changes(normalisation(8, 1, true), &[rows(3, 8, 1)], &[24], &changes);
    let changes = [
        (0, rows(3, 4, 1), Misfit::Width),
        (0, Given::Floats(vec![0.0; 12], 8), Misfit::Width),
        (1, rows(4, 4, 2), Misfit::Sizes),
        (1, rows(0, 3, 2), Misfit::Sizes),
    ];
    check_changes(convolution(), &[rows(2, 8, 1), rows(4, 3, 2)], &[8, 12], &changes);
    let changes = [
        (0, rows(5, 3, 1), Misfit::Sizes),
        (0, rows(0, 3, 1), Misfit::Sizes),
        (1, rows(1, 5, 2), Misfit::Sizes),
        (1, rows(1, 0, 2), Misfit::Sizes),
    ];
    check_changes(subsampling(), &[rows(4, 3, 1), rows(1, 4, 2)], &[24], &changes);
    // One frame is too few for its kernel.
    let given = [rows(1, 3, 1), rows(1, 1, 2)];
    let mut chain = Chain::new(vec![call(subsampling(), &[0, 1], &[2])], 2, &[2], 2).unwrap();
    assert_eq!(failed(&mut chain, &given, &[0]), Some(Misfit::Sizes));
}

#[test]
fn inputs_of_an_attention_that_do_not_fit_each_other_are_refused() {
    let given = [
        rows(1, 8, 1),
        rows(6, 4, 2),
        rows(1, 8, 3),
        rows(6, 4, 4),
        rows(1, 8, 5),
        rows(1, 4, 6),
        Given::Number(2),
    ];
    let changes = [
        (0, rows(1, 4, 1), Misfit::Width),
        (0, rows(2, 8, 1), Misfit::Sizes),
        (1, rows(5, 4, 2), Misfit::Sizes),
        (2, rows(2, 8, 3), Misfit::Sizes),
        (3, rows(7, 4, 4), Misfit::Sizes),
        (4, rows(0, 8, 5), Misfit::Sizes),
        (5, rows(1, 5, 6), Misfit::Sizes),
        (6, Given::Number(3), Misfit::Sizes),
        (6, Given::Number(usize::MAX), Misfit::Sizes),
    ];
    check_changes(attention(), &given, &[8, 24, 24], &changes);
}

#[test]
fn a_number_is_an_input_and_nothing_else() {
    let made = call(normalisation(8, 1, false), &[0], &[6]);
    let attend = |inputs: [usize; 7], first: usize| call(attention(), &inputs, &[first, first + 1, first + 2]);
    // Made by a call; the mask, too.
    let calls = [made, attend([0, 1, 2, 3, 4, 5, 6], 7)];
    assert_eq!(refused(&calls, 6, &[7, 8, 9]), Some(Misfit::Numbers));
    let calls = [attend([0, 1, 2, 3, 4, 5, 5], 6)];
    assert_eq!(refused(&calls, 6, &[6, 7, 8]), Some(Misfit::Numbers));
}

#[test]
fn what_inputs_and_outputs_fail_with_is_what_a_run_fails_with() {
    let calls = vec![call(normalisation(8, 1, false), &[0], &[1])];
    let mut chain = Chain::new(calls, 1, &[1], 2).unwrap();
    let given = noise(8, 1);
    let mut room = [0.0; 8];
    let input = |_: usize| Ok(Input::Floats(&raw const given[..], 8));
    let never = |_: usize, _: &(dyn Fn(usize) + Sync)| panic!("nothing is there to be worked on");
    let only = &raw mut room[..];
    // SAFETY: both are there until the end, and lie apart.
    #[allow(unsafe_code)]
    let results = unsafe {
        [
            chain.run(|_| Err(Misfit::Forms), |_, _| Ok(only), never),
            chain.run(input, |_, _| Err(Misfit::Missing), never),
            chain.run(input, |_, _| Ok(only), |_, _| Err(Misfit::Numbers)),
        ]
    };
    assert_eq!(results, [Misfit::Forms, Misfit::Missing, Misfit::Numbers].map(Err));
}

#[test]
fn what_the_last_run_was_given_is_not_looked_at_again() {
    let calls = vec![call(normalisation(8, 1, false), &[0], &[1])];
    let mut chain = Chain::new(calls, 1, &[1], 2).unwrap();
    let given = [rows(1, 8, 1)];
    let mut rooms = [vec![0.0; 8]];
    run(&mut chain, &given, &mut rooms, Threads::One, &mut Vec::new()).unwrap();
    drop((given, rooms));
    let never = |_: usize, _: &(dyn Fn(usize) + Sync)| panic!("nothing is there to be worked on");
    // SAFETY: nothing is given.
    #[allow(unsafe_code)]
    let result = unsafe { chain.run(|_| Err(Misfit::Forms), |_, _| Err(Misfit::Forms), never) };
    assert_eq!(result, Err(Misfit::Forms));
    for value in [0, 1] {
        let place = catch_unwind(AssertUnwindSafe(|| chain.buffers.place(Place::Rows(value))));
        assert!(place.is_err(), "value {value} is where it was");
    }
}
