// SPDX-License-Identifier: MIT OR Apache-2.0

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::path::Path;

use super::super::Runner;
use super::{lanes::BatchExecutor, *};
use crate::lane::Executor as _;
use crate::model::{GraphOptimization, Model, Options, PrecisionChoice};
use nemostt_kernels::{executor::WorkerThreads, gemm};

/// Whether the encoder of a model in the repository runs as a program.
fn is_program(model: &str, options: Options) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(model);
    let model = Model::load(&path, &options).unwrap();
    matches!(model.encoder.runner, Runner::Program(_))
}

#[test]
fn encoders_run_as_programs() {
    if !gemm::is_supported() {
        eprintln!("NOT TESTED on this processor: encoders as programs");
        return;
    }
    // Rows of the other models are too short for the kernels.
    let models = ["tests/data/tiny_random", "tests/data/nemotron_shape"];
    let models = models.map(|model| format!("../../{model}"));
    for lookahead in [Some(0), Some(80), None] {
        for model in models.iter().map(String::as_str).chain(["assets/demo-model"]) {
            let options = Options {
                lookahead,
                ..Default::default()
            };
            assert!(is_program(model, options), "{model}, {lookahead:?}");
        }
    }
    let int8 = Options {
        precision: PrecisionChoice::Int8,
        ..Default::default()
    };
    let exported = Options {
        graph_optimization: GraphOptimization::None,
        ..Default::default()
    };
    for options in [int8, exported] {
        assert!(!is_program("assets/demo-model", options));
    }
}

#[test]
fn invalid_stream_does_not_fail_others() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
    let model = Model::load(&path, &Options::default()).unwrap();
    let Runner::Program(program) = &model.encoder.runner else {
        eprintln!("NOT TESTED on this processor: encoders as programs");
        return;
    };
    let mut executor = BatchExecutor {
        program: program.linked.program(2).unwrap(),
        workers: WorkerThreads::new(1, || ()).unwrap(),
    };
    let mut batch = |ring_heads: &[usize]| {
        let slot = |&ring_head: &usize| {
            let (mut io, _) = program.stream().unwrap();
            io.input_mut(program.ports.audio).fill(0.25);
            io.set_scalar(program.ports.ring_head.unwrap(), ring_head);
            io
        };
        let mut slots: Vec<StreamIo> = ring_heads.iter().map(slot).collect();
        let mut results = Vec::new();
        executor.run(&mut slots, &mut results);
        let outputs = slots.iter().map(|slot| slot.output(program.ports.outputs).to_vec());
        (results, outputs.collect::<Vec<_>>())
    };
    let (alone, expected) = batch(&[3]);
    assert!(alone == [Ok(())] && expected[0].iter().any(|value| *value != 0.0));
    let (results, outputs) = batch(&[3, 72, 3, usize::MAX]);
    let invalid = Err(ProgramError::ShapeMismatch);
    assert_eq!(results, [Ok(()), invalid, Ok(()), invalid]);
    assert!(outputs[0] == expected[0] && outputs[2] == expected[0]);
    assert!(outputs[1].iter().all(|value| *value == 0.0));
}
