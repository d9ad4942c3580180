// SPDX-License-Identifier: MIT OR Apache-2.0

//! Chains like those of transducers.

use super::*;

/// Units of the prediction network, width of the joint, and labels with blank; the second have no whole vectors, and equal shares
/// of the third have some and a rest.
const SIZES: [(usize, usize, usize); 3] = [(64, 96, 65), (20, 12, 11), (120, 72, 33)];

/// Encoder frames projected, met with a prediction and scored. Outputs: projected frames and scores.
#[test]
fn frames_are_projected_and_scored() {
    let width = 40;
    for (_, joint, classes) in SIZES {
        for weights in products(&[(width, joint, Epilogue::Identity), (joint, classes, Epilogue::Identity)]) {
            let calls = [
                product(weights[0].clone(), &[0], 2),
                call(Op::JointAddRelu(joint), &[2, 1], &[3]),
                product(weights[1].clone(), &[3], 4),
            ];
            let given = |frames: usize, seed: u32| vec![rows(frames, width, seed), rows(1, joint, seed + 1)];
            check(
                &calls,
                2,
                &[2, 4],
                &[given(14, 1), given(1, 3), given(2, 5), given(20, 7)],
            );
        }
    }
}

/// A label's step of the prediction network, and the scores of a few frames behind it. Inputs: what the label gives the gates,
/// state, cells, projected frames. Outputs: state, cells, prediction, scores.
#[test]
fn a_label_is_predicted_and_scored() {
    for (units, joint, classes) in SIZES {
        let sizes = [
            (units, 4 * units, Epilogue::Identity),
            (units, joint, Epilogue::Identity),
            (joint, classes, Epilogue::Identity),
        ];
        for weights in products(&sizes) {
            let calls = [
                product(weights[0].clone(), &[1], 4),
                call(Op::LstmCell(units), &[0, 4, 2], &[5, 6]),
                product(weights[1].clone(), &[5], 7),
                call(Op::JointAddRelu(joint), &[3, 7], &[8]),
                product(weights[2].clone(), &[8], 9),
            ];
            let given = |frames: usize, seed: u32| {
                let one = |width: usize, seed: u32| rows(1, width, seed);
                let of_label = [one(4 * units, seed), one(units, seed + 1), one(units, seed + 2)];
                [&of_label[..], &[rows(frames, joint, seed + 3)]].concat()
            };
            check(&calls, 4, &[5, 6, 7, 9], &[given(4, 1), given(4, 11), given(1, 21)]);
        }
    }
}

#[test]
fn mismatched_inputs_are_rejected() {
    let (units, joint) = (16, 8);
    let meeting = [
        product(single(joint, joint)[0].clone(), &[0], 2),
        call(Op::JointAddRelu(joint), &[2, 1], &[3]),
    ];
    let gates = [
        product(single(units, 4 * units)[0].clone(), &[1], 3),
        call(Op::LstmCell(units), &[0, 3, 2], &[4, 5]),
    ];
    let run = |calls: &[OpCall], inputs: usize, outputs: &[usize], given: &[Given]| {
        let mut chain = Program::new(calls.into(), inputs, outputs, 2)?;
        let mut scratch = vec![vec![0.0; units]; outputs.len()];
        run(&mut chain, given, &mut scratch, Threads::One, &mut Vec::new())
    };
    // Two predictions, and one of another width.
    for prediction in [rows(2, joint, 1), rows(1, joint + 1, 1)] {
        let refused = run(&meeting, 2, &[3], &[rows(2, joint, 2), prediction]);
        assert!(
            matches!(refused, Err(ProgramError::ShapeMismatch | ProgramError::WidthMismatch)),
            "{refused:?}"
        );
    }
    for (of_label, state, cells) in [(3 * units, units, units), (4 * units, units, 2 * units)] {
        let given = [rows(1, of_label, 1), rows(1, state, 2), rows(1, cells, 3)];
        let refused = run(&gates, 3, &[4, 5], &given);
        assert!(
            matches!(refused, Err(ProgramError::ShapeMismatch | ProgramError::WidthMismatch)),
            "{refused:?}"
        );
    }
    // The right width, but two rows.
    let refused = run(
        &gates,
        3,
        &[4, 5],
        &[rows(1, 4 * units, 1), rows(2, units, 2), rows(1, units, 3)],
    );
    assert_eq!(refused, Err(ProgramError::ShapeMismatch));
    let refused = run(
        &gates,
        3,
        &[4, 5],
        &[rows(1, 4 * units, 1), rows(1, units, 2), rows(2, units, 3)],
    );
    assert_eq!(refused, Err(ProgramError::ShapeMismatch));
}
