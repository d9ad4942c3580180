// SPDX-License-Identifier: MIT OR Apache-2.0

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use allocation_counter::measure;

use super::{
    executor::{BatchExecutor, EngineThread},
    job::{StepInputs, StepJob},
    *,
};
use crate::{
    chunker::Window,
    lane::{Executor as _, JobFailed, run_batch},
    model::{
        Options,
        compile::{compile_specialized, specialize},
        encoder::{EncoderState, Runner},
        failing_device::FailingDevice,
        tests::graph_in,
    },
};
use nemostt_compiler::{Component, StreamingConfig, import};

const LOOKAHEAD: usize = 1;

fn options() -> Options {
    Options {
        device: Device::Cpu,
        batch_on_cpu: true,
        max_streams: Some(4),
        max_batch: Some(4),
        lookahead: Some(80),
        threads: 1,
        ..Default::default()
    }
}

/// An engine with eight slots and batches of up to four streams.
fn engine() -> (Engine, Layout, Arc<SlotPool>) {
    engine_on(None)
}

/// As [`engine`], on this device.
fn engine_on(device: Option<Arc<FailingDevice>>) -> (Engine, Layout, Arc<SlotPool>) {
    let path = "../../tests/data/tiny_random/encoder-rnnt_la13.onnx";
    let Component::Encoder(graph, _) = import(graph_in(path)).unwrap().1 else {
        panic!("{path} is an encoder");
    };
    let streaming = StreamingConfig::read(&graph).unwrap();
    let mut target = Target::resolve(&options()).unwrap();
    target.failing = device;
    let specialized = specialize(&graph, &streaming, LOOKAHEAD, &target).unwrap();
    let mut encoder = compile_specialized(specialized, path, &streaming, &target).unwrap();
    assert!(encoder.batch_streams(path));
    let layout = Layout {
        mels: streaming.mels,
        width: full_width(LOOKAHEAD),
        output: "outputs",
        output_dims: vec![streaming.d_model, LOOKAHEAD + 1],
        has_prompt: false,
    };
    let pool = SlotPool::new(8);
    let session = Session::load_batched(encoder.encoded, path, &target, false).unwrap();
    (
        Engine::new(session, &layout, &encoder.states, &pool, 4, &target.cancellation).unwrap(),
        layout,
        pool,
    )
}

/// A step of stream `stream`, whose caches have `cached` valid frames.
fn job(layout: &Layout, pool: &SlotPool, stream: usize, cached: i64) -> StepJob {
    let mut job = layout.job();
    for (number, value) in job.audio.iter_mut().enumerate() {
        *value = ((number * (stream + 3)) % 17) as f32 - 8.0;
    }
    job.inputs = StepInputs {
        length: layout.width as i64,
        drop: 2,
        cached,
        read: if cached == 0 {
            pool.zeros() as i64
        } else {
            stream as i64
        },
        write: stream as i64,
        ..Default::default()
    };
    job
}

/// The outputs of five steps of streams 0, 1 and 2 in one batch. Stream 2 begins two steps later.
fn outputs(executor: &mut BatchExecutor, layout: &Layout, pool: &SlotPool) -> Vec<Vec<f32>> {
    let mut cached = [0; 3];
    let mut found = Vec::new();
    for step in 0..5 {
        let streams = if step < 2 { 2 } else { 3 };
        let mut jobs: Vec<StepJob> = (0..streams)
            .map(|stream| job(layout, pool, stream, cached[stream]))
            .collect();
        let mut results = Vec::new();
        executor.run(&mut jobs, &mut results);
        assert!(
            results.len() == streams && results.iter().all(Result::is_ok),
            "{results:?}"
        );
        for (stream, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.lengths, [2, cached[stream] + 2]);
            cached[stream] = job.lengths[1];
            found.push(job.outputs);
        }
    }
    found
}

#[test]
fn thread_of_its_own_computes_the_same() {
    let (engine, layout, pool) = engine();
    let here = outputs(&mut BatchExecutor::Here(engine), &layout, &pool);
    assert!(here.iter().all(|values| values.iter().any(|value| *value != 0.0)));
    let thread = EngineThread::start(|| Ok(self::engine().0)).unwrap();
    let mut there = BatchExecutor::There(thread);
    assert!(outputs(&mut there, &layout, &pool) == here);
}

#[test]
fn failure_to_start_the_thread_is_an_error() {
    let fails = || Err(Error::Exiting);
    assert!(matches!(EngineThread::start(fails), Err(Error::Exiting)));
}

/// A batch that is too large fails as a whole, on either thread, and the next one runs.
#[test]
fn jobs_of_a_batch_that_fails_come_back() {
    let (engine, layout, pool) = engine();
    let there = BatchExecutor::There(EngineThread::start(|| Ok(self::engine().0)).unwrap());
    for mut executor in [BatchExecutor::Here(engine), there] {
        let mut jobs: Vec<StepJob> = (0..5).map(|stream| job(&layout, &pool, stream, 0)).collect();
        let mut results = Vec::new();
        executor.run(&mut jobs, &mut results);
        assert!(results.len() == 5 && results.iter().all(Result::is_err));
        assert!(jobs.iter().all(|job| job.audio.len() == layout.mels * layout.width));
        assert_eq!(outputs(&mut executor, &layout, &pool).len(), 13);
    }
}

/// On the thread that leads the lane, and on one of their own.
fn executors(device: &Arc<FailingDevice>) -> [BatchExecutor; 2] {
    let here = engine_on(Some(device.clone())).0;
    let device = device.clone();
    let there = EngineThread::start(move || Ok(engine_on(Some(device)).0)).unwrap();
    [BatchExecutor::Here(here), BatchExecutor::There(there)]
}

fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (a, b) in got.iter().zip(expected) {
        // ONNX Runtime may sum in another order in batches of another size.
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} instead of {b}");
    }
}

/// When a batch panics after the graph has run, its slots have been written. Another run would compute a step from its own
/// result.
#[test]
fn batch_that_panics_after_its_run_fails() {
    let device = FailingDevice::of_model(std::path::Path::new("no model"));
    let (engine, layout, pool) = engine();
    let jobs = |cached: i64| -> Vec<StepJob> { (0..2).map(|stream| job(&layout, &pool, stream, cached)).collect() };
    let mut plain = BatchExecutor::Here(engine);
    let mut expected = Vec::new();
    for cached in [0, 2, 4] {
        let (again, done) = run_batch(plain, jobs(cached));
        plain = again;
        expected.push(done.into_iter().map(|(job, _)| job.outputs).collect::<Vec<_>>());
    }
    for mut executor in executors(&device) {
        for (number, cached) in [0, 2, 4].into_iter().enumerate() {
            if number == 1 {
                device.panic_after_run();
            }
            let (again, done) = run_batch(executor, jobs(cached));
            executor = again;
            for (stream, (job, result)) in done.into_iter().enumerate() {
                assert_eq!(job.audio.len(), layout.mels * layout.width);
                if number == 1 {
                    // Not `JobFailed`: then the lane would have run it again.
                    assert!(matches!(result, Ok(Err(Error::Runtime { .. }))), "{result:?}");
                    continue;
                }
                assert!(matches!(result, Ok(Ok(()))), "{result:?}");
                // Also of the step after the one that failed: its slot has been written once.
                assert_close(&job.outputs, &expected[number][stream]);
            }
        }
    }
}

/// When a batch panics before that, because of one of its jobs, the others have results.
#[test]
fn batch_that_panics_before_its_run_is_run_again() {
    let device = FailingDevice::of_model(std::path::Path::new("no model"));
    let (engine, layout, pool) = engine();
    let jobs = || {
        (0..3)
            .map(|stream| job(&layout, &pool, stream, 0))
            .collect::<Vec<StepJob>>()
    };
    let (_, expected) = run_batch(BatchExecutor::Here(engine), jobs());
    for executor in executors(&device) {
        let mut jobs = jobs();
        jobs[1].audio.pop();
        let (executor, done) = run_batch(executor, jobs);
        for (stream, ((job, result), (expected, _))) in done.into_iter().zip(&expected).enumerate() {
            if stream == 1 {
                assert!(matches!(result, Err(JobFailed)), "{result:?}");
                continue;
            }
            assert!(matches!(result, Ok(Ok(()))), "{result:?}");
            assert_close(&job.outputs, &expected.outputs);
        }
        drop(executor);
    }
}

/// Rows that belong to no stream, and what earlier batches have left in them, change nothing.
#[test]
fn padding_has_no_effect() {
    let (engine, layout, pool) = engine();
    let mut executor = BatchExecutor::Here(engine);
    let expected = outputs(&mut executor, &layout, &pool);
    let mut noise: Vec<StepJob> = (4..8).map(|stream| job(&layout, &pool, stream, 0)).collect();
    for job in &mut noise {
        job.audio.fill(f32::NAN);
        job.inputs.write = pool.padding() as i64;
    }
    executor.run(&mut noise, &mut Vec::new());
    assert!(noise[0].outputs.iter().any(|value| value.is_nan()));
    assert!(outputs(&mut executor, &layout, &pool) == expected);
}

#[test]
fn steps_do_not_grow_memory() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny_random");
    let model = crate::model::Model::load(&path, &options()).unwrap();
    assert!(matches!(model.encoder.runner, Runner::Batched(_)));
    let mut state = EncoderState::new(&model.encoder).unwrap();
    let frames = vec![-10.0; model.config.streaming.mels * full_width(LOOKAHEAD)];
    let window = Window {
        frames: &frames,
        len: full_width(LOOKAHEAD),
        width: full_width(LOOKAHEAD),
        drop_frames: 2,
        outputs: LOOKAHEAD + 1,
    };
    let mut step = || assert_eq!(state.step(&model.encoder, &window, None).unwrap(), 2);
    step();
    let [one, many] = [1, 50].map(|steps| measure(|| (0..steps).for_each(|_| step())));
    assert_eq!((one.bytes_current, many.bytes_current), (0, 0));
    assert_eq!(many.count_total, 50 * one.count_total);
}
