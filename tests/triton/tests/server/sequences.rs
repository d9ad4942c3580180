// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sequences of windows on the server give the frames of the local model, one at a time and many at once.

use std::{thread, time::Duration};

use nemostt::{DecoderKind, Device, Options, Recognizer, chunker::Window, chunker::full_width};
use nemostt_triton_tests::{Endpoint, Repository, Server};
use serde_json::{Value, json};

use crate::http::{floats, infer, output};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data");
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/nemostt/assets/demo-model");

/// Streams at once.
const STREAMS: u64 = 20;

/// A window, and the frames that the local model computed of it.
struct Step {
    audio: Vec<f32>,
    len: usize,
    drop: usize,
    frames: Vec<f32>,
    valid: usize,
}

struct Model {
    mels: usize,
    width: usize,
    chunk: usize,
    output: &'static str,
    steps: Vec<Step>,
}

/// The steps of a clip of the tests.
fn steps(model: &str, decoder: DecoderKind, lookahead: u32) -> Model {
    let options = Options {
        decoder,
        lookahead: Some(lookahead),
        device: Device::Cpu,
        ..Default::default()
    };
    let recognizer = Recognizer::load(model, &options).unwrap();
    let mels = recognizer.config().streaming.mels;
    let width = full_width(recognizer.config().lookahead);
    let mut steps = Vec::new();
    let mut keep = |window: &Window<'_>, frames: &[f32]| {
        let mut audio = vec![0.0; mels * width];
        for (t, frame) in window.frames.chunks_exact(mels).enumerate() {
            frame
                .iter()
                .enumerate()
                .for_each(|(m, &value)| audio[m * width + t] = value);
        }
        steps.push(Step {
            audio,
            len: window.len,
            drop: window.drop_frames,
            frames: frames.to_vec(),
            valid: window.outputs,
        });
    };
    let mut clip = hound::WavReader::open(format!("{DATA}/wav/u2_digits.wav")).unwrap();
    let samples: Vec<f32> = clip
        .samples::<i16>()
        .map(|sample| f32::from(sample.unwrap()) / 32768.0)
        .collect();
    let mut stream = recognizer.stream().unwrap();
    stream.accept_observed(&samples, &mut keep).unwrap();
    stream.finish_observed(0, &mut keep).unwrap();
    Model {
        mels,
        width,
        chunk: recognizer.config().lookahead + 1,
        output: if decoder == DecoderKind::Ctc {
            "logprobs"
        } else {
            "outputs"
        },
        steps,
    }
}

impl Model {
    /// Sends all steps as one sequence, and compares each response.
    fn run(&self, server: &Endpoint, name: &str, sequence: u64) {
        let mut cached = 0;
        for (number, step) in self.steps.iter().enumerate() {
            let flags = (sequence, number == 0, number + 1 == self.steps.len());
            let response = infer(server, name, flags, self.inputs(step, cached)).unwrap();
            let single = |name: &str| output(&response, name)[0] as usize;
            assert_eq!(single("encoded_lengths"), step.valid);
            cached = single("cache_last_channel_next_len");
            let [found, expected] =
                [&output(&response, self.output), &step.frames].map(|frames| self.valid(frames, step));
            let differences = found
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
            let worst = differences.fold(0.0, f32::max);
            assert!(
                found.len() == expected.len() && worst < 2e-4,
                "sequence {sequence}, step {number}: {worst}"
            );
        }
    }

    fn inputs(&self, step: &Step, cached: usize) -> Vec<Value> {
        let number =
            |name: &str, value: usize| json!({"name": name, "datatype": "INT64", "shape": [1, 1], "data": [value]});
        let shape = [1, self.mels, self.width];
        vec![
            json!({"name": "audio_signal", "datatype": "FP32", "shape": shape, "data": floats(&step.audio)}),
            number("length", step.len),
            number("drop_extra_pre_encoded", step.drop),
            number("cache_last_channel_len", cached),
        ]
    }

    /// The valid frames among all of a chunk.
    fn valid(&self, frames: &[f32], step: &Step) -> Vec<f32> {
        let width = frames.len() / self.chunk;
        match self.output {
            "logprobs" => frames[..step.valid * width].to_vec(),
            _ => frames
                .chunks_exact(self.chunk)
                .flat_map(|row| &row[..step.valid])
                .copied()
                .collect(),
        }
    }
}

/// Compares the frames of a stream alone, and of many at once, with those of the local model. `before_many` may make the server slow
/// for them.
fn check_frames(server: &Endpoint, name: &str, decoder: DecoderKind, before_many: impl FnOnce()) {
    let model = steps(DEMO, decoder, 80);
    let before = server.counts(name);
    model.run(server, name, 1);
    let steps = model.steps.len() as u64;
    let alone = server.counts_after(name, before.requests + steps);
    assert_eq!(
        (alone.requests, alone.executions),
        (before.requests + steps, before.executions + steps)
    );

    before_many();
    // The id of a sequence that has ended may be used again.
    thread::scope(|scope| {
        for sequence in 1..=STREAMS {
            let model = &model;
            scope.spawn(move || model.run(server, name, sequence));
        }
    });
    let all = server.counts_after(name, alone.requests + STREAMS * steps);
    let (requests, executions) = (all.requests - alone.requests, all.executions - alone.executions);
    assert_eq!(requests, STREAMS * steps);
    println!("{name}: {requests} requests of {STREAMS} streams in {executions} executions");
    // Threads that write and read JSON on the same processors are not in step.
    assert!(
        executions * 2 < requests,
        "{requests} requests in {executions} executions"
    );
    assert_eq!(all.failures, before.failures);
}

#[test]
fn frames_are_those_of_the_local_model() {
    for (decoder, decoder_name) in [(DecoderKind::Rnnt, "rnnt"), (DecoderKind::Ctc, "ctc")] {
        let repository = Repository::new();
        let arguments = [
            "--lookahead",
            "80",
            "--decoder",
            decoder_name,
            "--batch",
            "16",
            "--streams",
            "40",
        ];
        let name = repository.add_python_model(DEMO, &arguments);
        let server = Server::start(repository.path(), &[]);
        // Requests come together while an execution takes its time, however busy the machine is.
        let slow = || repository.set_delay(&name, Duration::from_millis(50));
        check_frames(&server.endpoint(), &name, decoder, slow);
    }
}

/// With its own ONNX Runtime backend. `tools/triton_container.sh` starts the server.
#[test]
#[ignore = "needs a stock server"]
fn a_stock_server_gives_the_frames_of_the_local_model() {
    let [http, metrics] = ["TRITON_HTTP", "TRITON_METRICS"].map(|name| std::env::var(name).unwrap());
    let server = Endpoint { http, metrics };
    assert!(server.is_ready());
    for (decoder, name) in [
        (DecoderKind::Rnnt, "demo-80ms-rnnt"),
        (DecoderKind::Ctc, "demo-80ms-ctc"),
    ] {
        check_frames(&server, name, decoder, || {});
    }
}

#[test]
fn a_sequence_must_start() {
    let repository = Repository::new();
    let name = repository.add_python_model(DEMO, &["--lookahead", "80"]);
    let model = steps(DEMO, DecoderKind::Rnnt, 80);
    let mut server = Server::start(repository.path(), &[]);
    let inputs = || model.inputs(&model.steps[0], 0);
    let endpoint = server.endpoint();
    let error = infer(&endpoint, &name, (7, false, false), inputs()).unwrap_err();
    assert!(error.contains("must specify the START flag"), "{error}");
    infer(&endpoint, &name, (7, true, false), inputs()).unwrap();
    server.kill();
    assert!(infer(&endpoint, &name, (7, false, false), inputs()).is_err());
    server.restart();
    let error = infer(&endpoint, &name, (7, false, false), inputs()).unwrap_err();
    assert!(error.contains("must specify the START flag"), "{error}");
    assert_eq!(server.counts(&name).requests, 0);
    model.run(&endpoint, &name, 7);
    server.terminate();
    server.restart();
    model.run(&endpoint, &name, 8);
}
