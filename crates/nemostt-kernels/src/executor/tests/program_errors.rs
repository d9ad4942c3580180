// SPDX-License-Identifier: MIT OR Apache-2.0

//! What cannot be made or run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{super::memory_plan::Slot, *};
use crate::{gemm::LhsLayout, strided_conv::ConvGeometry};

/// Why there is no such chain.
fn refused(calls: &[OpCall], inputs: usize, outputs: &[usize]) -> Option<ProgramError> {
    Program::new(calls.into(), inputs, outputs, 2).err()
}

fn attention() -> Op {
    let sizes = rel_pos_attention::AttentionDims {
        heads: 2,
        head_dim: 4,
        frames: 1,
        left_context: 3,
    };
    let biases = [vec![0.0; 8], vec![0.0; 8]];
    let made = RelPosAttention::new(sizes, 2.0, biases, &[0.0; 32], &[0, 1, 2, 3]);
    Op::RelPosAttention(made.unwrap().into())
}

fn convolution() -> Op {
    Op::GluDepthwiseConv(GluDepthwiseConv::new(&[0.5; 16], vec![0.0; 4]).unwrap())
}

fn subsampling() -> Op {
    let shape = ConvGeometry {
        kernel: [2, 1],
        strides: [2, 1],
        pads: [[0, 0], [0, 0]],
    };
    Op::StridedConv(StridedConv::new(shape, &[0.5; 8], vec![0.0; 4], true, true).unwrap())
}

#[test]
fn numbers_of_values_that_make_no_sense_are_refused() {
    let step = |input: usize, output: usize| call(layer_norm(8, 1, false), &[input], &[output]);
    let reshape = |input: usize, output: usize| call(Op::Reshape(8), &[input], &[output]);
    let twice = call(attention(), &[0, 1, 2, 3, 4, 5, 6], &[7, 8, 8]);
    assert_eq!(refused(&[step(0, 1), step(1, 2)], 1, &[1, 2]), None);
    let cases: [(&str, Vec<OpCall>, usize, &[usize]); 16] = [
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
            vec![call(Op::Reshape(0), &[0], &[1]), step(1, 2)],
            1,
            &[2],
        ),
    ];
    for (what, calls, inputs, outputs) in cases {
        assert_eq!(
            refused(&calls, inputs, outputs),
            Some(ProgramError::UnknownValue),
            "{what}"
        );
    }
}

#[test]
fn calls_without_all_inputs_and_outputs_are_refused() {
    for weights in single(8, 8) {
        let product = || Op::PackedMatMul(weights.clone());
        let cases: [(Op, &[usize], &[usize]); 15] = [
            (product(), &[], &[7]),
            (product(), &[0, 1, 2], &[7]),
            (product(), &[0], &[]),
            (product(), &[0], &[7, 8]),
            (attention(), &[0, 1, 2, 3, 4, 5], &[7, 8, 9]),
            (attention(), &[0, 1, 2, 3, 4, 5, 6], &[7, 8]),
            (convolution(), &[0], &[7, 8]),
            (convolution(), &[0, 1], &[7]),
            (layer_norm(8, 1, false), &[], &[7]),
            (layer_norm(8, 1, false), &[0], &[7, 8]),
            (subsampling(), &[0], &[7]),
            (subsampling(), &[0, 1], &[]),
            (Op::Reshape(8), &[], &[7]),
            (Op::Reshape(8), &[0, 1], &[7]),
            (Op::Reshape(8), &[0], &[7, 8]),
        ];
        for (work, inputs, outputs) in cases {
            let what = format!("{work:?}, {inputs:?}, {outputs:?}");
            // Its values are there, whatever it is refused for.
            let others = call(layer_norm(8, 1, false), &[3], &[10]);
            let made = (7..10).filter(|value| !outputs.contains(value));
            let fillers = made.map(|value| call(layer_norm(8, 1, false), &[3], &[value]));
            let calls: Vec<OpCall> = [call(work, inputs, outputs), others]
                .into_iter()
                .chain(fillers)
                .collect();
            assert_eq!(refused(&calls, 7, &[10]), Some(ProgramError::Arity), "{what}");
        }
    }
}

#[test]
fn values_of_another_width_are_refused() {
    for weights in products(&[(8, 12, Epilogue::Identity), (12, 8, Epilogue::Identity)]) {
        let [first, second] = [0, 1].map(|index| Op::PackedMatMul(weights[index].clone()));
        let made = |work: Op, inputs: &[usize]| {
            let outputs: Vec<usize> = (8..).take(work.outputs()).collect();
            let calls = [call(first.clone(), &[0], &[7]), call(work, inputs, &outputs)];
            refused(&calls, 7, &[8])
        };
        assert_eq!(made(second.clone(), &[7, 0]), None);
        assert_eq!(made(first.clone(), &[0, 7]), None);
        // Of 12 values, where 8 are needed.
        assert_eq!(made(first.clone(), &[7]), Some(ProgramError::WidthMismatch));
        assert_eq!(made(second.clone(), &[7, 7]), Some(ProgramError::WidthMismatch));
        assert_eq!(made(layer_norm(8, 1, false), &[7]), Some(ProgramError::WidthMismatch));
        assert_eq!(made(convolution(), &[7, 0]), Some(ProgramError::WidthMismatch));
        for input in [0, 2, 4] {
            let mut inputs = [0, 1, 2, 3, 4, 5, 6];
            inputs[input] = 7;
            assert_eq!(made(attention(), &inputs), Some(ProgramError::WidthMismatch));
        }
        let reshaped = [call(Op::Reshape(12), &[0], &[1]), call(first.clone(), &[1], &[2])];
        assert_eq!(refused(&reshaped, 1, &[2]), Some(ProgramError::WidthMismatch));
    }
}

#[test]
fn rows_that_are_ready_in_one_way_are_not_wanted_in_another() {
    // Of a width that another product has not.
    for weights in products(&[(8, 8, Epilogue::Identity), (16, 8, Epilogue::Identity)]) {
        let calls = [
            call(Op::Reshape(16), &[0], &[1]),
            product(weights[0].clone(), &[0], 2),
            product(weights[1].clone(), &[1], 3),
        ];
        let expected = (weights[0].lhs_layout() != LhsLayout::RowMajor).then_some(ProgramError::LayoutConflict);
        assert_eq!(refused(&calls, 1, &[2, 3]), expected);
    }
    // Of a form that another product has not.
    let weights = single(8, 8);
    let of = |layout: LhsLayout| weights.iter().find(|weights| weights.lhs_layout() == layout);
    if let (Some(turned), Some(digits)) = (of(LhsLayout::Packed), of(LhsLayout::BytePlanes)) {
        let calls = [product(turned.clone(), &[0], 1), product(digits.clone(), &[0], 2)];
        assert_eq!(refused(&calls, 1, &[1, 2]), Some(ProgramError::LayoutConflict));
    }
}

/// Runs a chain of one call with these inputs and as much room for its outputs, and says what is wrong with it.
fn failed(chain: &mut Program, given: &[Given], scratch: &[usize]) -> Option<ProgramError> {
    let mut scratch: Vec<Vec<f32>> = scratch.iter().map(|&count| vec![f32::NAN; count]).collect();
    let result = run(chain, given, &mut scratch, Threads::One, &mut Vec::new());
    // All or nothing of them is written.
    let mut written = scratch.iter().flatten().map(|value| value.is_finite());
    assert!(written.all(|written| written == result.is_ok()));
    result.err()
}

/// Demands that a chain of one call runs with `given`, and fails so with each change of one input, and then runs again.
fn check_changes(work: Op, given: &[Given], scratch: &[usize], changes: &[(usize, Given, ProgramError)]) {
    let what = format!("{work:?}");
    let inputs: Vec<usize> = (0..given.len()).collect();
    let outputs: Vec<usize> = (given.len()..).take(work.outputs()).collect();
    let calls = vec![call(work, &inputs, &outputs)];
    let mut chain = Program::new(calls, inputs.len(), &outputs, 2).unwrap();
    assert_eq!(failed(&mut chain, given, scratch), None, "{what}");
    for (input, changed, misfit) in changes {
        let mut given = given.to_vec();
        given[*input] = changed.clone();
        assert_eq!(
            failed(&mut chain, &given, scratch),
            Some(*misfit),
            "{what}: {input}, {changed:?}"
        );
    }
    assert_eq!(failed(&mut chain, given, scratch), None, "{what}");
    let mut others = scratch.to_vec();
    for output in 0..scratch.len() {
        for count in [scratch[output] - 1, scratch[output] + 1, 0] {
            others[output] = count;
            assert_eq!(
                failed(&mut chain, given, &others),
                Some(ProgramError::ShapeMismatch),
                "{what}: {count}"
            );
        }
        others[output] = scratch[output];
    }
    assert_eq!(failed(&mut chain, given, scratch), None, "{what}");
}

#[test]
fn inputs_of_other_sizes_are_refused() {
    for weights in single(8, 12) {
        let more = rows(3, 12, 2);
        let changes = [
            (0, rows(3, 12, 1), ProgramError::WidthMismatch),
            (0, Given::Number(3), ProgramError::WidthMismatch),
            // Wide enough, they say.
            (0, Given::Floats(vec![0.0; 25], 8), ProgramError::WidthMismatch),
            (0, rows(4, 8, 1), ProgramError::ShapeMismatch),
            (1, rows(3, 8, 2), ProgramError::WidthMismatch),
            (1, rows(2, 12, 2), ProgramError::ShapeMismatch),
        ];
        check_changes(Op::PackedMatMul(weights), &[rows(3, 8, 1), more], &[36], &changes);
    }
    let changes = [
        (0, rows(3, 12, 1), ProgramError::WidthMismatch),
        (0, Given::Floats(vec![0.0; 25], 8), ProgramError::WidthMismatch),
    ];
    check_changes(layer_norm(8, 1, true), &[rows(3, 8, 1)], &[24], &changes);
    let changes = [
        (0, rows(3, 4, 1), ProgramError::WidthMismatch),
        (0, Given::Floats(vec![0.0; 12], 8), ProgramError::WidthMismatch),
        (1, rows(4, 4, 2), ProgramError::ShapeMismatch),
        (1, rows(0, 3, 2), ProgramError::ShapeMismatch),
    ];
    check_changes(convolution(), &[rows(2, 8, 1), rows(4, 3, 2)], &[8, 12], &changes);
    let changes = [
        (0, rows(5, 3, 1), ProgramError::ShapeMismatch),
        (0, rows(0, 3, 1), ProgramError::ShapeMismatch),
        (1, rows(1, 5, 2), ProgramError::ShapeMismatch),
        (1, rows(1, 0, 2), ProgramError::ShapeMismatch),
    ];
    check_changes(subsampling(), &[rows(4, 3, 1), rows(1, 4, 2)], &[24], &changes);
    // One frame is too few for its kernel.
    let given = [rows(1, 3, 1), rows(1, 1, 2)];
    let mut chain = Program::new(vec![call(subsampling(), &[0, 1], &[2])], 2, &[2], 2).unwrap();
    assert_eq!(failed(&mut chain, &given, &[0]), Some(ProgramError::ShapeMismatch));
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
        (0, rows(1, 4, 1), ProgramError::WidthMismatch),
        (0, rows(2, 8, 1), ProgramError::ShapeMismatch),
        (1, rows(5, 4, 2), ProgramError::ShapeMismatch),
        (2, rows(2, 8, 3), ProgramError::ShapeMismatch),
        (3, rows(7, 4, 4), ProgramError::ShapeMismatch),
        (4, rows(0, 8, 5), ProgramError::ShapeMismatch),
        (5, rows(1, 5, 6), ProgramError::ShapeMismatch),
        (6, Given::Number(3), ProgramError::ShapeMismatch),
        (6, Given::Number(usize::MAX), ProgramError::ShapeMismatch),
    ];
    check_changes(attention(), &given, &[8, 24, 24], &changes);
}

#[test]
fn a_number_is_an_input_and_nothing_else() {
    let made = call(layer_norm(8, 1, false), &[0], &[6]);
    let attend = |inputs: [usize; 7], first: usize| call(attention(), &inputs, &[first, first + 1, first + 2]);
    // Made by a call; the mask, too.
    let calls = [made, attend([0, 1, 2, 3, 4, 5, 6], 7)];
    assert_eq!(refused(&calls, 6, &[7, 8, 9]), Some(ProgramError::UnknownValue));
    let calls = [attend([0, 1, 2, 3, 4, 5, 5], 6)];
    assert_eq!(refused(&calls, 6, &[6, 7, 8]), Some(ProgramError::UnknownValue));
}

#[test]
fn what_inputs_and_outputs_fail_with_is_what_a_run_fails_with() {
    let calls = vec![call(layer_norm(8, 1, false), &[0], &[1])];
    let mut chain = Program::new(calls, 1, &[1], 2).unwrap();
    let given = noise(8, 1);
    let mut scratch = [0.0; 8];
    let input = |_: usize| Ok(Input::Tensor(&raw const given[..], 8));
    let never = |_: usize, _: &(dyn Fn(usize) + Sync)| panic!("nothing is there to be worked on");
    let only = &raw mut scratch[..];
    // SAFETY: both are there until the end, and lie apart.
    #[allow(unsafe_code)]
    let results = unsafe {
        [
            chain.run(|_| Err(ProgramError::LayoutConflict), |_, _| Ok(only), never),
            chain.run(input, |_, _| Err(ProgramError::Arity), never),
            chain.run(input, |_, _| Ok(only), |_, _| Err(ProgramError::UnknownValue)),
        ]
    };
    assert_eq!(
        results,
        [
            ProgramError::LayoutConflict,
            ProgramError::Arity,
            ProgramError::UnknownValue
        ]
        .map(Err)
    );
}

#[test]
fn what_the_last_run_was_given_is_not_looked_at_again() {
    let calls = vec![call(layer_norm(8, 1, false), &[0], &[1])];
    let mut chain = Program::new(calls, 1, &[1], 2).unwrap();
    let given = [rows(1, 8, 1)];
    let mut scratch = [vec![0.0; 8]];
    run(&mut chain, &given, &mut scratch, Threads::One, &mut Vec::new()).unwrap();
    drop((given, scratch));
    let never = |_: usize, _: &(dyn Fn(usize) + Sync)| panic!("nothing is there to be worked on");
    // SAFETY: nothing is given.
    #[allow(unsafe_code)]
    let result = unsafe {
        chain.run(
            |_| Err(ProgramError::LayoutConflict),
            |_, _| Err(ProgramError::LayoutConflict),
            never,
        )
    };
    assert_eq!(result, Err(ProgramError::LayoutConflict));
    for value in [0, 1] {
        let slot = catch_unwind(AssertUnwindSafe(|| chain.memory.raw(Slot::Plain(value))));
        assert!(slot.is_err(), "value {value} is where it was");
    }
}
