// SPDX-License-Identifier: MIT OR Apache-2.0

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::path::Path;

use super::super::Runner;
use super::{lanes::BatchExecutor, *};
use crate::lane::{Executor as _, JobFailed, run_batch};
use crate::model::{GraphOptimization, Model, Options, PrecisionChoice};
use nemostt_kernels::{
    executor::{Fault, WorkerThreads, with_fault},
    gemm,
};

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

/// The demo model, or `None` if its encoder does not run as a program here.
fn demo_program(lookahead: u32) -> Option<Arc<EncoderProgram>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
    let options = Options {
        lookahead: Some(lookahead),
        ..Default::default()
    };
    let model = Model::load(&path, &options).unwrap();
    if let Runner::Program(program) = &model.encoder.runner {
        return Some(program.clone());
    }
    eprintln!("NOT TESTED on this processor: encoders as programs");
    None
}

fn executor(program: &EncoderProgram, threads: usize) -> BatchExecutor {
    BatchExecutor {
        program: program.linked.program(threads).unwrap(),
        workers: WorkerThreads::new(threads - 1, || ()).unwrap(),
    }
}

#[test]
fn invalid_stream_does_not_fail_others() {
    let Some(program) = demo_program(80) else {
        return;
    };
    let batch = |ring_heads: &[usize]| {
        let slot = |&ring_head: &usize| {
            let (mut io, _) = program.stream().unwrap();
            io.input_mut(program.ports.audio).fill(0.25);
            io.set_scalar(program.ports.ring_head.unwrap(), ring_head);
            io
        };
        let (_, done) = run_batch(executor(&program, 2), ring_heads.iter().map(slot).collect());
        let outputs = |io: &StreamIo| io.output(program.ports.outputs).to_vec();
        let done = done.into_iter().map(|(io, result)| (result.unwrap(), outputs(&io)));
        done.unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let (alone, expected) = batch(&[3]);
    assert!(alone == [Ok(())] && expected[0].iter().any(|value| *value != 0.0));
    let (results, outputs) = batch(&[3, 72, 3, usize::MAX]);
    let invalid = Err(ProgramError::ShapeMismatch);
    assert_eq!(results, [Ok(()), invalid, Ok(()), invalid]);
    assert!(outputs[0] == expected[0] && outputs[2] == expected[0]);
    assert!(outputs[1].iter().all(|value| *value == 0.0));
}

/// What a step of a stream reads, or what it has written.
type Tensors = Vec<Vec<f32>>;

/// A step of a stream.
struct Step {
    inputs: Tensors,
    ring_head: usize,
}

impl Step {
    /// The step of stream `stream`, with other values in all caches and inputs than those of others.
    fn new(io: &StreamIo, inputs: usize, stream: usize) -> Self {
        let noise = |number: usize, index: usize| ((index * 7 + number * 13 + stream * 101) as f32).sin();
        let values = |number: usize| (0..io.input(number).len()).map(|index| noise(number, index)).collect();
        Self {
            inputs: (0..inputs).map(values).collect(),
            ring_head: 70 - 3 * stream,
        }
    }

    fn write(&self, io: &mut StreamIo, ports: &Ports) {
        for (number, values) in self.inputs.iter().enumerate() {
            io.input_mut(number).copy_from_slice(values);
        }
        // They are indices and masks.
        ports.lengths.iter().for_each(|&number| io.input_mut(number).fill(0.0));
        io.set_scalar(ports.ring_head.unwrap(), self.ring_head);
    }
}

/// All that a step has written.
fn results(io: &StreamIo, ports: &Ports) -> Tensors {
    let states = ports.states.iter().map(|state| state.output);
    let head = ports.head.iter().flat_map(|head| [head.projected, head.scores]);
    let outputs = states.chain(head).chain([ports.outputs]);
    outputs.map(|output| io.output(output).to_vec()).collect()
}

/// A stream whose run fails in any task of any operation, alone and in a batch, fails alone: the others get, bit for bit,
/// what they would get without it, and so does it if it runs again.
fn check_faults(lookahead: u32, threads: usize, faults: impl Fn(usize) -> Vec<Fault>) {
    const STREAMS: usize = 3;
    const AT_FAULT: usize = 1;
    let Some(program) = demo_program(lookahead) else {
        return;
    };
    let ports = &program.ports;
    let slots = [(); STREAMS].map(|()| program.stream().unwrap().0);
    let inputs = program.linked.inputs().len();
    let steps: Vec<Step> = (0..STREAMS)
        .map(|stream| Step::new(&slots[stream], inputs, stream))
        .collect();
    let mut executor = executor(&program, threads);
    let mut alone = Vec::new();
    let mut slots: Vec<StreamIo> = slots.into();
    for (step, io) in steps.iter().zip(&mut slots) {
        step.write(io, ports);
        let mut results_of_batch = Vec::new();
        executor.run(std::slice::from_mut(io), &mut results_of_batch);
        assert_eq!(results_of_batch, [Ok(())]);
        alone.push(results(io, ports));
    }
    assert!(alone[0] != alone[1] && alone[1] != alone[2]);
    let mut batch = |executor: BatchExecutor, fault: Option<Fault>| {
        for (stream, (step, io)) in steps.iter().zip(&mut slots).enumerate() {
            match fault {
                Some(fault) if stream == AT_FAULT => with_fault(fault, || step.write(io, ports)),
                _ => step.write(io, ports),
            }
        }
        let (executor, done) = run_batch(executor, std::mem::take(&mut slots));
        let mut outcomes = Vec::new();
        for (io, outcome) in done {
            outcomes.push(outcome);
            slots.push(io);
        }
        for (stream, io) in slots.iter().enumerate() {
            if stream != AT_FAULT || fault.is_none() {
                assert!(
                    outcomes[stream] == Ok(Ok(())) && results(io, ports) == alone[stream],
                    "{fault:?}"
                );
            }
        }
        if fault.is_some() {
            // Without writing its inputs again, but the one that ends the fault.
            let io = &mut slots[AT_FAULT];
            let _ = io.input_mut(ports.audio);
            let (again, done) = run_batch(executor, vec![slots.remove(AT_FAULT)]);
            for (io, outcome) in done {
                assert!(
                    outcome == Ok(Ok(())) && results(&io, ports) == alone[AT_FAULT],
                    "{fault:?}"
                );
                slots.insert(AT_FAULT, io);
            }
            return (again, outcomes.swap_remove(AT_FAULT));
        }
        (executor, outcomes.swap_remove(AT_FAULT))
    };
    (executor, _) = batch(executor, None);
    let tasks = executor.program.task_count();
    assert!(tasks > 100);
    let mut outcome;
    for fault in faults(tasks) {
        (executor, outcome) = batch(executor, Some(fault));
        let expected = match fault {
            Fault::Error => Ok(Err(ProgramError::ShapeMismatch)),
            Fault::Panic { .. } => Err(JobFailed),
        };
        assert_eq!(outcome, expected, "{fault:?}");
    }
    assert_eq!(batch(executor, None).1, Ok(Ok(())));
}

#[test]
fn stream_that_fails_in_any_task_takes_no_other_with_it() {
    let all = |tasks: usize| {
        println!("{tasks} tasks");
        let panics = (0..tasks).map(|task| Fault::Panic { task });
        panics.chain([Fault::Error]).collect()
    };
    check_faults(80, 1, all);
}

/// The panic is on either thread, and the other one stops wherever it is.
#[test]
fn team_survives_panics_in_any_phase() {
    for lookahead in [0, 480] {
        check_faults(lookahead, 3, |tasks| {
            (0..tasks).step_by(7).map(|task| Fault::Panic { task }).collect()
        });
    }
}
