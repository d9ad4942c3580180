// SPDX-License-Identifier: MIT OR Apache-2.0

//! Invalid programs and inputs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{super::memory_plan::Slot, *};
use crate::{
    fused_op::{Signature, Split, Task},
    gemm::LhsLayout,
    strided_conv::ConvGeometry,
};

/// Why such a program is invalid; `None` if it is valid.
fn error(calls: &[TestCall], inputs: usize, outputs: &[usize]) -> Option<ProgramError> {
    program(calls, inputs, outputs, 2).err()
}

fn attention() -> TestOp {
    let dims = rel_pos_attention::AttentionDims {
        heads: 2,
        head_dim: 4,
        frames: 1,
        left_context: 3,
    };
    let biases = [vec![0.0; 8], vec![0.0; 8]];
    let attention = RelPosAttention::new(dims, 2.0, biases, &[0.0; 32], &[0, 1, 2, 3]);
    TestOp::RelPosAttention(attention.unwrap().into())
}

fn convolution() -> TestOp {
    TestOp::GluDepthwiseConv(GluDepthwiseConv::new(&[0.5; 16], vec![0.0; 4]).unwrap())
}

fn subsampling() -> TestOp {
    let geometry = ConvGeometry {
        kernel: [2, 1],
        strides: [2, 1],
        pads: [[0, 0], [0, 0]],
    };
    TestOp::StridedConv(StridedConv::new(geometry, &[0.5; 8], vec![0.0; 4], true, true).unwrap())
}

#[test]
fn invalid_value_numbers_are_rejected() {
    let norm = |input: usize, output: usize| call(layer_norm(8, 1, false), &[input], &[output]);
    let reshape = |input: usize, output: usize| call(TestOp::Reshape(8), &[input], &[output]);
    let twice = call(attention(), &[0, 1, 2, 3, 4, 5, 6], &[7, 8, 8]);
    assert_eq!(error(&[norm(0, 1), norm(1, 2)], 1, &[1, 2]), None);
    let cases: [(&str, Vec<TestCall>, usize, &[usize]); 15] = [
        ("input is not written", vec![norm(0, 1), norm(3, 2)], 1, &[1]),
        ("number is too large", vec![norm(0, 7)], 1, &[7]),
        ("number is the largest", vec![norm(0, usize::MAX)], 1, &[0]),
        ("number is the largest", vec![norm(usize::MAX, 1)], 1, &[1]),
        ("written twice", vec![norm(0, 1), norm(0, 1)], 1, &[1]),
        ("written twice by one call", vec![twice], 7, &[7]),
        ("written again by a reshape", vec![norm(0, 1), reshape(0, 1)], 1, &[1]),
        ("input is written", vec![norm(0, 1), norm(1, 0)], 1, &[1]),
        (
            "input is written by a reshape",
            vec![norm(0, 1), reshape(1, 0)],
            1,
            &[1],
        ),
        ("read before it is written", vec![norm(2, 1), norm(0, 2)], 1, &[1]),
        ("read by the call that writes it", vec![norm(1, 1), norm(0, 2)], 1, &[2]),
        ("input is an output", vec![norm(0, 1)], 1, &[0, 1]),
        ("reshaped value is an output", vec![norm(0, 1), reshape(1, 2)], 1, &[2]),
        ("output is not written", vec![norm(0, 1)], 1, &[9]),
        ("output is listed twice", vec![norm(0, 1)], 1, &[1, 1]),
    ];
    for (case, calls, inputs, outputs) in cases {
        assert_eq!(
            error(&calls, inputs, outputs),
            Some(ProgramError::UnknownValue),
            "{case}"
        );
    }
}

#[test]
fn rows_without_values_are_rejected() {
    let calls = [
        call(TestOp::Reshape(0), &[0], &[1]),
        call(layer_norm(8, 1, false), &[1], &[2]),
    ];
    assert_eq!(error(&calls, 1, &[2]), Some(ProgramError::WidthMismatch));
}

#[test]
fn other_readers_of_values_updated_in_place_are_rejected() {
    let attend = call(attention(), &[0, 1, 2, 3, 4, 5, 6], &[7, 8, 9]);
    assert_eq!(error(std::slice::from_ref(&attend), 7, &[7, 8, 9]), None);
    for weights in weights_in_all_formats(4, 4) {
        let reader = matmul(weights, &[1], 10);
        assert_eq!(
            error(&[attend.clone(), reader], 7, &[7, 8, 9, 10]),
            Some(ProgramError::InPlaceConflict)
        );
    }
    let twice = call(attention(), &[0, 1, 2, 1, 4, 5, 6], &[7, 8, 9]);
    assert_eq!(error(&[twice], 7, &[7, 8, 9]), Some(ProgramError::InPlaceConflict));
}

/// An operation whose answers contradict each other.
#[derive(Debug, Clone)]
struct InvalidOp {
    signature: Signature,
    shapes: Vec<OutputShape>,
    split: Split,
}

impl FusedOp for InvalidOp {
    fn signature(&self) -> Signature {
        self.signature.clone()
    }

    fn infer(&self, _: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        Ok(self.shapes.clone())
    }

    fn split(&self, _: &[usize], _: usize) -> Split {
        self.split
    }

    fn run(&self, task: &mut Task<'_>) {
        task.rows_mut().fill(0.0);
    }
}

#[test]
fn contradictions_of_an_operation_are_rejected() {
    let rows = |rows: usize, width: usize| OutputShape::Rows { rows, width };
    let valid = InvalidOp {
        signature: Signature::new([Some(4)], [4]),
        shapes: vec![rows(2, 4)],
        split: Split::Rows { rows: 2, tasks: 2 },
    };
    let result = |op: InvalidOp| {
        let call = OpCall {
            op: op.into(),
            inputs: vec![0],
            outputs: vec![1],
        };
        let mut program = Program::new(vec![call], 1, &[1], 2)?;
        let inputs = [TestInput::Tensor(vec![0.0; 8], 4)];
        run(
            &mut program,
            &inputs,
            &mut [vec![0.0; 8]],
            Threads::Single,
            &mut Vec::new(),
        )
    };
    assert_eq!(result(valid.clone()), Ok(()));
    let shapes = [
        vec![],
        vec![rows(2, 4); 2],
        vec![rows(2, 3)],
        vec![OutputShape::Like(1)],
    ];
    for shapes in shapes {
        let op = InvalidOp {
            shapes,
            ..valid.clone()
        };
        assert_eq!(result(op.clone()), Err(ProgramError::InvalidOp), "{op:?}");
    }
    let splits = [
        Split::Rows { rows: 2, tasks: 3 },
        Split::Rows { rows: 2, tasks: 0 },
        Split::Columns { block: 0, tasks: 1 },
        Split::Columns { block: 2, tasks: 3 },
        Split::Columns { block: 4, tasks: 0 },
    ];
    for split in splits {
        let op = InvalidOp { split, ..valid.clone() };
        assert_eq!(result(op.clone()), Err(ProgramError::InvalidOp), "{op:?}");
    }
    for pair in [(0, 0), (0, 1), (1, 0)] {
        let mut op = valid.clone();
        op.signature.in_place = vec![pair];
        assert_eq!(result(op.clone()), Err(ProgramError::InvalidOp), "{op:?}");
    }
}

#[test]
fn wrong_number_of_inputs_or_outputs_is_rejected() {
    for weights in weights_in_all_formats(8, 8) {
        let matmul = || TestOp::PackedMatMul(weights.clone());
        let cases: [(TestOp, &[usize], &[usize]); 15] = [
            (matmul(), &[], &[7]),
            (matmul(), &[0, 1, 2], &[7]),
            (matmul(), &[0], &[]),
            (matmul(), &[0], &[7, 8]),
            (attention(), &[0, 1, 2, 3, 4, 5], &[7, 8, 9]),
            (attention(), &[0, 1, 2, 3, 4, 5, 6], &[7, 8]),
            (convolution(), &[0], &[7, 8]),
            (convolution(), &[0, 1], &[7]),
            (layer_norm(8, 1, false), &[], &[7]),
            (layer_norm(8, 1, false), &[0], &[7, 8]),
            (subsampling(), &[0], &[7]),
            (subsampling(), &[0, 1], &[]),
            (TestOp::Reshape(8), &[], &[7]),
            (TestOp::Reshape(8), &[0, 1], &[7]),
            (TestOp::Reshape(8), &[0], &[7, 8]),
        ];
        for (op, inputs, outputs) in cases {
            let case = format!("{op:?}, {inputs:?}, {outputs:?}");
            // All values exist, so that nothing else is wrong.
            let norm = |output: usize| call(layer_norm(8, 1, false), &[3], &[output]);
            let others = (7..=10).filter(|value| !outputs.contains(value)).map(norm);
            let calls: Vec<TestCall> = [call(op, inputs, outputs)].into_iter().chain(others).collect();
            assert_eq!(error(&calls, 7, &[10]), Some(ProgramError::Arity), "{case}");
        }
    }
}

#[test]
fn values_of_another_width_are_rejected() {
    for weights in all_weights(&[(8, 12, Epilogue::Identity), (12, 8, Epilogue::Identity)]) {
        let [first, second] = [0, 1].map(|index| TestOp::PackedMatMul(weights[index].clone()));
        let result = |op: TestOp, inputs: &[usize]| {
            let outputs: Vec<usize> = (8..).take(op.output_count()).collect();
            let calls = [call(first.clone(), &[0], &[7]), call(op, inputs, &outputs)];
            error(&calls, 7, &[8])
        };
        assert_eq!(result(second.clone(), &[7, 0]), None);
        assert_eq!(result(first.clone(), &[0, 7]), None);
        // Rows of 12 values instead of 8.
        assert_eq!(result(first.clone(), &[7]), Some(ProgramError::WidthMismatch));
        assert_eq!(result(second.clone(), &[7, 7]), Some(ProgramError::WidthMismatch));
        assert_eq!(result(layer_norm(8, 1, false), &[7]), Some(ProgramError::WidthMismatch));
        assert_eq!(result(convolution(), &[7, 0]), Some(ProgramError::WidthMismatch));
        for input in [0, 2, 4] {
            let mut inputs = [0, 1, 2, 3, 4, 5, 6];
            inputs[input] = 7;
            assert_eq!(result(attention(), &inputs), Some(ProgramError::WidthMismatch));
        }
        let reshaped = [call(TestOp::Reshape(12), &[0], &[1]), call(first.clone(), &[1], &[2])];
        assert_eq!(error(&reshaped, 1, &[2]), Some(ProgramError::WidthMismatch));
    }
}

#[test]
fn rows_needed_in_two_packed_layouts_are_rejected() {
    // Packed as rows of different widths.
    for weights in all_weights(&[(8, 8, Epilogue::Identity), (16, 8, Epilogue::Identity)]) {
        let calls = [
            call(TestOp::Reshape(16), &[0], &[1]),
            matmul(weights[0].clone(), &[0], 2),
            matmul(weights[1].clone(), &[1], 3),
        ];
        let expected = (weights[0].lhs_layout() != LhsLayout::RowMajor).then_some(ProgramError::LayoutConflict);
        assert_eq!(error(&calls, 1, &[2, 3]), expected);
    }
    // For different weight formats.
    let weights = weights_in_all_formats(8, 8);
    let of = |layout: LhsLayout| weights.iter().find(|weights| weights.lhs_layout() == layout);
    if let (Some(packed), Some(byte_planes)) = (of(LhsLayout::Packed), of(LhsLayout::BytePlanes)) {
        let calls = [matmul(packed.clone(), &[0], 1), matmul(byte_planes.clone(), &[0], 2)];
        assert_eq!(error(&calls, 1, &[1, 2]), Some(ProgramError::LayoutConflict));
    }
}

/// Runs a program of one call with outputs of these lengths. Returns the error.
fn run_error(program: &mut Program, inputs: &[TestInput], lengths: &[usize]) -> Option<ProgramError> {
    let mut outputs: Vec<Vec<f32>> = lengths.iter().map(|&count| vec![f32::NAN; count]).collect();
    let result = run(program, inputs, &mut outputs, Threads::Single, &mut Vec::new());
    // All values are written, or none.
    let mut written = outputs.iter().flatten().map(|value| value.is_finite());
    assert!(written.all(|written| written == result.is_ok()));
    result.err()
}

/// Checks that a program of one call runs with `given` and outputs of these lengths, fails with each change of one input or
/// of the lengths, and runs again after that.
fn check_changes(op: TestOp, given: &[TestInput], lengths: &[usize], changes: &[(usize, TestInput, ProgramError)]) {
    let case = format!("{op:?}");
    let inputs: Vec<usize> = (0..given.len()).collect();
    let outputs: Vec<usize> = (given.len()..).take(op.output_count()).collect();
    let mut program = program(&[call(op, &inputs, &outputs)], inputs.len(), &outputs, 2).unwrap();
    assert_eq!(run_error(&mut program, given, lengths), None, "{case}");
    for (input, changed, expected) in changes {
        let mut given = given.to_vec();
        given[*input] = changed.clone();
        assert_eq!(
            run_error(&mut program, &given, lengths),
            Some(*expected),
            "{case}: {input}, {changed:?}"
        );
    }
    assert_eq!(run_error(&mut program, given, lengths), None, "{case}");
    let mut others = lengths.to_vec();
    for output in 0..lengths.len() {
        for count in [lengths[output] - 1, lengths[output] + 1, 0] {
            others[output] = count;
            assert_eq!(
                run_error(&mut program, given, &others),
                Some(ProgramError::ShapeMismatch),
                "{case}: {count}"
            );
        }
        others[output] = lengths[output];
    }
    assert_eq!(run_error(&mut program, given, lengths), None, "{case}");
}

#[test]
fn inputs_of_other_sizes_are_rejected() {
    for weights in weights_in_all_formats(8, 12) {
        let residual = rows(3, 12, 2);
        let changes = [
            (0, rows(3, 12, 1), ProgramError::WidthMismatch),
            (0, TestInput::Scalar(3), ProgramError::WidthMismatch),
            // Not a multiple of the width.
            (0, TestInput::Tensor(vec![0.0; 25], 8), ProgramError::WidthMismatch),
            (0, rows(4, 8, 1), ProgramError::ShapeMismatch),
            (1, rows(3, 8, 2), ProgramError::WidthMismatch),
            (1, rows(2, 12, 2), ProgramError::ShapeMismatch),
        ];
        check_changes(
            TestOp::PackedMatMul(weights),
            &[rows(3, 8, 1), residual],
            &[36],
            &changes,
        );
    }
    let changes = [
        (0, rows(3, 12, 1), ProgramError::WidthMismatch),
        (0, TestInput::Tensor(vec![0.0; 25], 8), ProgramError::WidthMismatch),
    ];
    check_changes(layer_norm(8, 1, true), &[rows(3, 8, 1)], &[24], &changes);
    let changes = [
        (0, rows(3, 4, 1), ProgramError::WidthMismatch),
        (0, TestInput::Tensor(vec![0.0; 12], 8), ProgramError::WidthMismatch),
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
    // One frame is less than the kernel.
    let given = [rows(1, 3, 1), rows(1, 1, 2)];
    let mut program = program(&[call(subsampling(), &[0, 1], &[2])], 2, &[2], 2).unwrap();
    assert_eq!(run_error(&mut program, &given, &[0]), Some(ProgramError::ShapeMismatch));
}

#[test]
fn attention_inputs_of_other_sizes_are_rejected() {
    let given = [
        rows(1, 8, 1),
        rows(6, 4, 2),
        rows(1, 8, 3),
        rows(6, 4, 4),
        rows(1, 8, 5),
        rows(1, 4, 6),
        TestInput::Scalar(2),
    ];
    let changes = [
        (0, rows(1, 4, 1), ProgramError::WidthMismatch),
        (0, rows(2, 8, 1), ProgramError::ShapeMismatch),
        (1, rows(5, 4, 2), ProgramError::ShapeMismatch),
        (2, rows(2, 8, 3), ProgramError::ShapeMismatch),
        (3, rows(7, 4, 4), ProgramError::ShapeMismatch),
        (4, rows(0, 8, 5), ProgramError::ShapeMismatch),
        (5, rows(1, 5, 6), ProgramError::ShapeMismatch),
        (6, TestInput::Scalar(3), ProgramError::ShapeMismatch),
        (6, TestInput::Scalar(usize::MAX), ProgramError::ShapeMismatch),
    ];
    check_changes(attention(), &given, &[8, 24, 24], &changes);
}

#[test]
fn scalars_are_inputs_and_nothing_else() {
    let norm = call(layer_norm(8, 1, false), &[0], &[6]);
    let attend = |inputs: [usize; 7], first: usize| call(attention(), &inputs, &[first, first + 1, first + 2]);
    // Written by a call; also read as a mask.
    let calls = [norm, attend([0, 1, 2, 3, 4, 5, 6], 7)];
    assert_eq!(error(&calls, 6, &[7, 8, 9]), Some(ProgramError::UnknownValue));
    let calls = [attend([0, 1, 2, 3, 4, 5, 5], 6)];
    assert_eq!(error(&calls, 6, &[6, 7, 8]), Some(ProgramError::UnknownValue));
}

#[test]
fn errors_of_callbacks_are_returned() {
    let mut program = program(&[call(layer_norm(8, 1, false), &[0], &[1])], 1, &[1], 2).unwrap();
    let given = noise(8, 1);
    let mut output = [0.0; 8];
    let input = |_: usize| Ok(Input::Tensor(&raw const given[..], 8));
    let never = |_: usize, _: &(dyn Fn(usize) + Sync)| panic!("nothing to run");
    let dst = &raw mut output[..];
    // SAFETY: both are valid until the end, and do not overlap.
    #[allow(unsafe_code)]
    let results = unsafe {
        [
            program.run(|_| Err(ProgramError::LayoutConflict), |_, _| Ok(dst), never),
            program.run(input, |_, _| Err(ProgramError::Arity), never),
            program.run(input, |_, _| Ok(dst), |_, _| Err(ProgramError::UnknownValue)),
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
fn addresses_of_the_last_run_are_forgotten() {
    let mut program = program(&[call(layer_norm(8, 1, false), &[0], &[1])], 1, &[1], 2).unwrap();
    let given = [rows(1, 8, 1)];
    let mut outputs = [vec![0.0; 8]];
    run(&mut program, &given, &mut outputs, Threads::Single, &mut Vec::new()).unwrap();
    drop((given, outputs));
    let never = |_: usize, _: &(dyn Fn(usize) + Sync)| panic!("nothing to run");
    // SAFETY: no addresses are passed.
    #[allow(unsafe_code)]
    let result = unsafe {
        program.run(
            |_| Err(ProgramError::LayoutConflict),
            |_, _| Err(ProgramError::LayoutConflict),
            never,
        )
    };
    assert_eq!(result, Err(ProgramError::LayoutConflict));
    for value in [0, 1] {
        let slot = catch_unwind(AssertUnwindSafe(|| program.memory.raw(Slot::RowMajor(value))));
        assert!(slot.is_err(), "value {value} still has its address");
    }
}
