// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs like those of transducers.

use super::*;

/// Units of the prediction network, width of the joint, and tokens with blank. The second has no whole vectors; tasks of the
/// third have a remainder.
const SIZES: [(usize, usize, usize); 3] = [(64, 96, 65), (20, 12, 11), (120, 72, 33)];

/// The joint of several frames with a prediction. Outputs: projected frames, logits.
#[test]
fn joint_matches_its_operations() {
    let width = 40;
    for (_, joint, classes) in SIZES {
        for weights in all_weights(&[(width, joint, Epilogue::Identity), (joint, classes, Epilogue::Identity)]) {
            let calls = [
                matmul(weights[0].clone(), &[0], 2),
                call(TestOp::JointAddRelu(joint), &[2, 1], &[3]),
                matmul(weights[1].clone(), &[3], 4),
            ];
            let inputs = |frames: usize, seed: u32| vec![rows(frames, width, seed), rows(1, joint, seed + 1)];
            check(
                &calls,
                2,
                &[2, 4],
                &[inputs(14, 1), inputs(1, 3), inputs(2, 5), inputs(20, 7)],
            );
        }
    }
}

/// A step of the prediction network, and the joint of a few frames. Inputs: pre-activations from the token, hidden state, cell
/// state, projected frames. Outputs: hidden state, cell state, prediction, logits.
#[test]
fn prediction_network_and_joint_match_their_operations() {
    for (units, joint, classes) in SIZES {
        let sizes = [
            (units, 4 * units, Epilogue::Identity),
            (units, joint, Epilogue::Identity),
            (joint, classes, Epilogue::Identity),
        ];
        for weights in all_weights(&sizes) {
            let calls = [
                matmul(weights[0].clone(), &[1], 4),
                call(TestOp::LstmCell(units), &[0, 4, 2], &[5, 6]),
                matmul(weights[1].clone(), &[5], 7),
                call(TestOp::JointAddRelu(joint), &[3, 7], &[8]),
                matmul(weights[2].clone(), &[8], 9),
            ];
            let inputs = |frames: usize, seed: u32| {
                let one = |width: usize, seed: u32| rows(1, width, seed);
                let token_inputs = [one(4 * units, seed), one(units, seed + 1), one(units, seed + 2)];
                [&token_inputs[..], &[rows(frames, joint, seed + 3)]].concat()
            };
            check(&calls, 4, &[5, 6, 7, 9], &[inputs(4, 1), inputs(4, 11), inputs(1, 21)]);
        }
    }
}

/// A state may have more axes than rows have, although a GEMM packs it as rows.
#[test]
fn states_keep_the_shape_of_the_inputs() {
    let units = 64;
    for weights in weights_in_all_formats(units, units) {
        let calls = [
            call(TestOp::LstmCell(units), &[0, 1, 2], &[3, 4]),
            matmul(weights, &[3], 5),
        ];
        let mut program = program(&calls, 3, &[3, 4, 5], 2).unwrap();
        let inputs = [rows(1, 4 * units, 1), rows(1, 4 * units, 2), rows(1, units, 3)];
        let (mut outputs, mut shapes) = (vec![vec![0.0; units]; 3], Vec::new());
        run(&mut program, &inputs, &mut outputs, Threads::Single, &mut shapes).unwrap();
        let prediction = OutputShape::Rows { rows: 1, width: units };
        assert_eq!(shapes, [OutputShape::Like(2), OutputShape::Like(2), prediction]);
    }
}

#[test]
fn mismatched_inputs_are_rejected() {
    let (units, joint) = (16, 8);
    let joint_calls = [
        matmul(weights_in_all_formats(joint, joint)[0].clone(), &[0], 2),
        call(TestOp::JointAddRelu(joint), &[2, 1], &[3]),
    ];
    let lstm_calls = [
        matmul(weights_in_all_formats(units, 4 * units)[0].clone(), &[1], 3),
        call(TestOp::LstmCell(units), &[0, 3, 2], &[4, 5]),
    ];
    let run = |calls: &[TestCall], input_count: usize, outputs: &[usize], inputs: &[TestInput]| {
        let mut program = program(calls, input_count, outputs, 2)?;
        let mut scratch = vec![vec![0.0; units]; outputs.len()];
        run(&mut program, inputs, &mut scratch, Threads::Single, &mut Vec::new())
    };
    // Two predictions, and one of another width.
    for prediction in [rows(2, joint, 1), rows(1, joint + 1, 1)] {
        let result = run(&joint_calls, 2, &[3], &[rows(2, joint, 2), prediction]);
        assert!(
            matches!(result, Err(ProgramError::ShapeMismatch | ProgramError::WidthMismatch)),
            "{result:?}"
        );
    }
    for (gates, state, cells) in [(3 * units, units, units), (4 * units, units, 2 * units)] {
        let inputs = [rows(1, gates, 1), rows(1, state, 2), rows(1, cells, 3)];
        let result = run(&lstm_calls, 3, &[4, 5], &inputs);
        assert!(
            matches!(result, Err(ProgramError::ShapeMismatch | ProgramError::WidthMismatch)),
            "{result:?}"
        );
    }
    // The right width, but two rows.
    let result = run(
        &lstm_calls,
        3,
        &[4, 5],
        &[rows(1, 4 * units, 1), rows(2, units, 2), rows(1, units, 3)],
    );
    assert_eq!(result, Err(ProgramError::ShapeMismatch));
    let result = run(
        &lstm_calls,
        3,
        &[4, 5],
        &[rows(1, 4 * units, 1), rows(1, units, 2), rows(2, units, 3)],
    );
    assert_eq!(result, Err(ProgramError::ShapeMismatch));
}
