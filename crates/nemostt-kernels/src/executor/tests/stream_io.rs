// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams with inputs and outputs of their own.

use super::*;
use crate::row_ops::{LogSoftmax, ReluRows, ScaleRows, SelectRows};

const WIDTH: usize = 6;

/// Selects rows, scales them, and normalizes them. Inputs: rows, indices, factors; outputs: selected rows, log-probabilities.
fn selecting_program() -> Program {
    let width = WIDTH;
    let calls = [
        (Op::from(SelectRows { width }), vec![0, 1], 3),
        (ScaleRows { width }.into(), vec![3, 2], 4),
        (LogSoftmax { width }.into(), vec![4], 5),
    ];
    let calls = calls.map(|(op, inputs, output)| OpCall {
        op,
        inputs,
        outputs: vec![output],
    });
    Program::new(calls.into(), 3, &[3, 5], 2).unwrap()
}

fn tensor(length: usize, width: usize) -> InputSpec {
    InputSpec::Tensor { length, width }
}

fn run_streams(program: &mut Program, streams: &mut [StreamIo]) -> Result<(), ProgramError> {
    let mut streams: Vec<&mut StreamIo> = streams.iter_mut().collect();
    program.run_streams(&mut streams, |workers, work| Threads::OneEach.call(workers, work))
}

#[test]
fn selected_rows_are_scaled_and_normalized() {
    let mut program = selecting_program();
    let inputs = [tensor(5 * WIDTH, WIDTH), tensor(2, 2), tensor(2, 2)];
    for count in [1, 3, 2] {
        let mut streams: Vec<StreamIo> = (0..count).map(|_| program.stream_io(&inputs).unwrap()).collect();
        for (number, io) in streams.iter_mut().enumerate() {
            io.input_mut(0).copy_from_slice(&noise(5 * WIDTH, number as u32));
            io.input_mut(1).copy_from_slice(&[number as f32 + 1.0, -1.0]);
            io.input_mut(2).copy_from_slice(&[2.0, 0.0]);
        }
        run_streams(&mut program, &mut streams).unwrap();
        for (number, io) in streams.iter().enumerate() {
            let row = |index: usize| &io.input(0)[index * WIDTH..][..WIDTH];
            assert_eq!(io.output(0), [row(number + 1), row(4)].concat());
            let sum: f32 = row(number + 1).iter().map(|value| (2.0 * value).exp()).sum();
            for (log_prob, value) in io.output(1).iter().zip(row(number + 1)) {
                assert!((log_prob - (2.0 * value - sum.ln())).abs() < 1e-5);
            }
            // The factor 0 makes all values equal.
            let equal = -(WIDTH as f32).ln();
            assert!(io.output(1)[WIDTH..].iter().all(|value| (value - equal).abs() < 1e-6));
        }
    }
}

#[test]
fn rows_that_do_not_exist_are_nan() {
    let mut program = selecting_program();
    let inputs = [tensor(5 * WIDTH, WIDTH), tensor(2, 2), tensor(2, 2)];
    for index in [5.0, -6.0, 1e9, f32::NAN] {
        let mut io = [program.stream_io(&inputs).unwrap()];
        io[0].input_mut(1).copy_from_slice(&[0.0, index]);
        run_streams(&mut program, &mut io).unwrap();
        let [first, second] = io[0].output(0).as_chunks::<WIDTH>().0 else {
            panic!("there are two rows");
        };
        assert!(
            first == &[0.0; WIDTH] && second.iter().all(|value| value.is_nan()),
            "{index}"
        );
    }
}

#[test]
fn relu_keeps_nan() {
    let call = OpCall {
        op: ReluRows { width: WIDTH }.into(),
        inputs: vec![0],
        outputs: vec![1],
    };
    for (workers, rows) in [(1, 3), (2, 1), (3, 14)] {
        let mut program = Program::new(vec![call.clone()], 1, &[1], workers).unwrap();
        for count in [1, 3] {
            let inputs = [tensor(rows * WIDTH, WIDTH)];
            let mut streams: Vec<StreamIo> = (0..count).map(|_| program.stream_io(&inputs).unwrap()).collect();
            for (number, io) in streams.iter_mut().enumerate() {
                io.input_mut(0).copy_from_slice(&noise(rows * WIDTH, number as u32));
                io.input_mut(0)[2] = f32::NAN;
            }
            run_streams(&mut program, &mut streams).unwrap();
            for io in &streams {
                for (got, value) in io.output(0).iter().zip(io.input(0)) {
                    assert!(
                        *got == value.max(0.0) || (got.is_nan() && value.is_nan()),
                        "{got} of {value}"
                    );
                }
                assert!(io.output(0)[2].is_nan());
            }
        }
    }
}

#[test]
fn tensors_that_are_updated_in_place_are_stored_once() {
    let (heads, head_dim, left) = (2, 4, 3);
    let (frames, d_model) = (1, heads * head_dim);
    let dims = rel_pos_attention::AttentionDims {
        heads,
        head_dim,
        frames,
        left_context: left,
    };
    let keys = left + frames;
    let indices: Vec<usize> = (0..keys).collect();
    let attention = || {
        let biases = [noise(d_model, 1), noise(d_model, 2)];
        RelPosAttention::new(dims, 2.0, biases, &noise(d_model * keys, 3), &indices).unwrap()
    };
    let call = OpCall {
        op: attention().into(),
        inputs: (0..7).collect(),
        outputs: vec![7, 8, 9],
    };
    let mut program = Program::new(vec![call], 7, &[7, 8, 9], 1).unwrap();
    let (rows, cache) = (tensor(d_model, d_model), tensor(left * d_model, head_dim));
    let inputs = [rows, cache, rows, cache, rows, tensor(keys, keys), InputSpec::Scalar];
    let mut io = || program.stream_io(&inputs);
    let mut streams = [io().unwrap(), io().unwrap()];
    let floats = 3 * d_model + 2 * left * d_model + keys + d_model;
    assert_eq!(streams[0].bytes(), 4 * floats);
    for step in 0..2 * left {
        for (number, io) in streams.iter_mut().enumerate() {
            for input in [0, 2, 4] {
                io.input_mut(input).fill((step + input + 10 * number) as f32);
            }
            io.set_scalar(6, step % left);
        }
        run_streams(&mut program, &mut streams).unwrap();
        for (number, io) in streams.iter().enumerate() {
            let row = |head: usize| &io.output(1)[(head * left + step % left) * head_dim..][..head_dim];
            assert_eq!(row(1), [(step + 2 + 10 * number) as f32; 4]);
            assert_eq!(io.output(1), io.input(1));
        }
    }
    // An index that is out of range is rejected before anything is written.
    let before = streams[0].input(1).to_vec();
    streams[1].set_scalar(6, left);
    assert_eq!(
        run_streams(&mut program, &mut streams),
        Err(ProgramError::ShapeMismatch)
    );
    assert_eq!(streams[0].input(1), before);
    streams[0].clear();
    assert!(streams[0].input(1).iter().all(|&value| value == 0.0));
}

#[test]
fn streams_of_another_program_are_rejected() {
    let mut program = selecting_program();
    let inputs = [tensor(5 * WIDTH, WIDTH), tensor(2, 2), tensor(2, 2)];
    let others = [
        [tensor(5 * WIDTH, WIDTH), tensor(3, 3), tensor(3, 3)],
        [tensor(4 * WIDTH, WIDTH), tensor(2, 2), tensor(2, 2)],
    ];
    for other in others {
        let mut streams = [program.stream_io(&inputs).unwrap(), program.stream_io(&other).unwrap()];
        assert_eq!(
            run_streams(&mut program, &mut streams),
            Err(ProgramError::ShapeMismatch)
        );
    }
    assert_eq!(program.stream_io(&inputs[..2]).err(), Some(ProgramError::Arity));
    let call = OpCall {
        op: LogSoftmax { width: WIDTH }.into(),
        inputs: vec![0],
        outputs: vec![1],
    };
    let mut other = Program::new(vec![call], 1, &[1], 1).unwrap();
    let mut streams = [other.stream_io(&inputs[..1]).unwrap()];
    assert_eq!(run_streams(&mut program, &mut streams), Err(ProgramError::Arity));
}

/// Adds one to each row, in a task for each value; can be divided for one stream only, if `fails`.
#[derive(Debug)]
struct AddOne {
    fails: bool,
}

impl FusedOp for AddOne {
    fn signature(&self) -> crate::fused_op::Signature {
        crate::fused_op::Signature::new([Some(1)], [1])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        Ok(vec![OutputShape::Rows {
            rows: lengths[0],
            width: 1,
        }])
    }

    fn split(&self, lengths: &[usize], _: usize) -> crate::fused_op::Split {
        let rows = lengths[0];
        let tasks = if self.fails && rows > 4 { rows + 1 } else { rows };
        crate::fused_op::Split::Rows { rows, tasks }
    }

    fn is_row_wise(&self) -> bool {
        self.fails
    }

    fn run(&self, task: &mut crate::fused_op::Task<'_>) {
        let row = task.range().start;
        let value = task.input(0)[row];
        task.rows_mut()[0] = value + 1.0;
    }
}

/// Operations before the one that fails have been divided for a batch that does not run.
#[test]
fn failed_batch_leaves_nothing_to_the_next_one() {
    let calls = [false, false, true].into_iter().enumerate();
    let calls = calls.map(|(number, fails)| OpCall {
        op: AddOne { fails }.into(),
        inputs: vec![number],
        outputs: vec![number + 1],
    });
    let mut program = Program::new(calls.collect(), 1, &[3], 1).unwrap();
    let mut streams: Vec<StreamIo> = (0..3).map(|_| program.stream_io(&[tensor(4, 1)]).unwrap()).collect();
    for _ in 0..2 {
        run_streams(&mut program, &mut streams[..1]).unwrap();
        assert_eq!(streams[0].output(0), [3.0; 4]);
        streams[0].clear();
        assert_eq!(run_streams(&mut program, &mut streams), Err(ProgramError::InvalidOp));
    }
}

#[test]
fn tensors_are_no_scalars() {
    let mut program = selecting_program();
    let inputs = [tensor(5 * WIDTH, WIDTH), InputSpec::Scalar, tensor(2, 2)];
    assert_eq!(program.stream_io(&inputs).err(), Some(ProgramError::WidthMismatch));
}

#[test]
fn outputs_are_fed_back() {
    let mut program = selecting_program();
    let inputs = [tensor(2 * WIDTH, WIDTH), tensor(2, 2), tensor(2, 2)];
    let mut io = [program.stream_io(&inputs).unwrap()];
    io[0].input_mut(0).copy_from_slice(&noise(2 * WIDTH, 5));
    io[0].input_mut(1).copy_from_slice(&[1.0, 0.0]);
    run_streams(&mut program, &mut io).unwrap();
    let selected = io[0].output(0).to_vec();
    io[0].feed_back(0, 0);
    assert_eq!(io[0].input(0), selected);
}
