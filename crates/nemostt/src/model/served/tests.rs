// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::{
    DecoderKind, Device, Recognizer,
    chunker::{Window, full_width},
    model::{
        options::{Cache, CacheDirectory},
        runtime::{Binding, Session, StagedTensor},
    },
};
use bytes::Bytes;
use nemostt_compiler::{ElementType, Graph, ModelProto, NodeProto, TensorInfo};
use prost::Message;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tiny_random");
const FP16: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/layouts/fp16");
const FP16_IO32: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/layouts/fp16_io32");
const MULTILINGUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/kinds/nemotron_multi");
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo-model");

fn options(decoder: DecoderKind, lookahead: u32) -> Options {
    Options {
        decoder,
        lookahead: Some(lookahead),
        ..Default::default()
    }
}

/// The declaration of a tensor in the graph of a server: its first axis is the batch.
fn declared(name: &str, element: ElementType, dims: &[usize]) -> TensorInfo {
    TensorInfo {
        name: name.into(),
        element,
        dims: [None].into_iter().chain(dims.iter().copied().map(Some)).collect(),
    }
}

fn sorted(mut infos: Vec<TensorInfo>) -> Vec<TensorInfo> {
    infos.sort_by(|a, b| a.name.cmp(&b.name));
    infos
}

#[test]
fn graph_has_the_declared_tensors() {
    for (path, decoder, lookahead, gpu) in [
        (TINY, DecoderKind::Rnnt, 0, false),
        (TINY, DecoderKind::Rnnt, 1040, false),
        (TINY, DecoderKind::Ctc, 480, false),
        (DEMO, DecoderKind::Rnnt, 80, false),
        (DEMO, DecoderKind::Ctc, 1040, false),
        // Requests are fp32, also if inputs and outputs of the export are fp16, and caches too.
        (FP16, DecoderKind::Rnnt, 80, true),
        (FP16_IO32, DecoderKind::Rnnt, 80, true),
    ] {
        let served = ServedEncoder::compile(path, &options(decoder, lookahead), gpu).unwrap();
        let files = served.files().unwrap();
        let [(name, model)] = &files[..] else {
            panic!("{} files", files.len());
        };
        assert_eq!(name, "model.onnx");
        if gpu {
            assert_eq!(served.precision, Precision::Fp16, "{path}");
        }
        let graph = Graph::decode(Bytes::from(model.concat())).unwrap();
        let tensors = |tensors: &[ServedTensor]| -> Vec<TensorInfo> {
            let declare = |tensor: &ServedTensor| declared(&tensor.name, tensor.element, &tensor.dims);
            tensors.iter().map(declare).collect()
        };
        let states = |name: fn(&ServedState) -> &str| -> Vec<TensorInfo> {
            let declare = |state: &ServedState| declared(name(state), ElementType::F32, &state.dims);
            served.states.iter().map(declare).collect()
        };
        let inputs = [tensors(&served.tensors.inputs), states(|state| &state.input)].concat();
        let outputs = [tensors(&served.tensors.outputs), states(|state| &state.output)].concat();
        assert_eq!(sorted(graph.inputs()), sorted(inputs), "{path}");
        assert_eq!(sorted(graph.outputs()), sorted(outputs), "{path}");
        let names: Vec<&str> = served.states.iter().map(|state| state.input.as_str()).collect();
        // Triton 2.51 pairs inputs and outputs of states by their order among the sorted names (`SequenceStates::OutputState`).
        assert_eq!(names, ["cache_last_channel", "cache_last_time"]);
        assert!(served.states.iter().is_sorted_by_key(|state| &state.output));
        assert_eq!(
            (served.lookahead_ms, served.chunk_ms),
            (lookahead.into(), u64::from(lookahead) + 80)
        );
    }
}

/// A window of the local model, and the frames that it computed of it.
struct Step {
    audio: Vec<f32>,
    /// Length, dropped frames, and prompt.
    numbers: [i64; 3],
    frames: Vec<f32>,
    valid: usize,
}

/// The steps of a stream, and the number of its channels.
fn local_steps(recognizer: &Recognizer, samples: &[f32], language: Option<(&str, i64)>) -> Vec<Step> {
    let mut stream = recognizer.stream().unwrap();
    if let Some((code, _)) = language {
        stream.set_language(code).unwrap();
    }
    let prompt = language.map_or(0, |(_, prompt)| prompt);
    let (mels, width) = (
        recognizer.config().streaming.mels,
        full_width(recognizer.config().lookahead),
    );
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
            numbers: [window.len as i64, window.drop_frames as i64, prompt],
            frames: frames.to_vec(),
            valid: window.outputs,
        });
    };
    stream.accept_observed(samples, &mut keep).unwrap();
    stream.finish_observed(0, &mut keep).unwrap();
    steps
}

/// Runs the graph for batches of a size, and keeps the caches as a server does.
struct Rows {
    session: Session,
    binding: Binding,
    audio: StagedTensor<f32>,
    numbers: Vec<StagedTensor<i64>>,
    states: Vec<[StagedTensor<f32>; 2]>,
    frames: StagedTensor<f32>,
    lengths: Vec<StagedTensor<i64>>,
}

impl Rows {
    fn new(served: &ServedEncoder, size: usize) -> Self {
        let model = served.files().unwrap().remove(0).1.concat();
        let options = Options {
            device: Device::Cpu,
            batch_on_cpu: true,
            ..Default::default()
        };
        let target = Target::resolve(&options).unwrap();
        let session = Session::load(Graph::decode(Bytes::from(model)).unwrap(), "served", &target).unwrap();
        let mut binding = session.bind().unwrap();
        let dims = |dims: &[usize]| [&[size], dims].concat();
        let [audio, numbers @ ..] = &served.tensors.inputs[..] else {
            panic!("there is no audio");
        };
        let audio_tensor = session.staged_tensor(&dims(&audio.dims)).unwrap();
        binding.staged_input(&audio.name, &audio_tensor).unwrap();
        let input = |number: &ServedTensor| {
            let tensor = session.staged_tensor(&[size]).unwrap();
            binding.staged_input(&number.name, &tensor).unwrap();
            tensor
        };
        let numbers = numbers.iter().map(input).collect();
        let [frames, lengths @ ..] = &served.tensors.outputs[..] else {
            panic!("there are no frames");
        };
        let mut frames_tensor = session.staged_tensor(&dims(&frames.dims)).unwrap();
        binding.staged_output(&frames.name, &mut frames_tensor).unwrap();
        let output = |number: &ServedTensor| {
            let mut tensor = session.staged_tensor(&[size]).unwrap();
            binding.staged_output(&number.name, &mut tensor).unwrap();
            tensor
        };
        let lengths = lengths.iter().map(output).collect();
        let states = served.states.iter().map(|state| {
            let cached = session.staged_tensor(&dims(&state.dims)).unwrap();
            binding.staged_input(&state.input, &cached).unwrap();
            let mut next = session.staged_tensor(&dims(&state.dims)).unwrap();
            binding.staged_output(&state.output, &mut next).unwrap();
            [cached, next]
        });
        let states = states.collect();
        Self {
            audio: audio_tensor,
            numbers,
            states,
            frames: frames_tensor,
            lengths,
            session,
            binding,
        }
    }

    /// Runs a step of each of `rows`; the caches of rows without one are not kept. Returns the frames of each.
    fn run(&mut self, rows: &[Option<&Step>]) -> Vec<Vec<f32>> {
        let size = rows.len();
        let row = self.audio.data().len() / size;
        let before: Vec<Vec<f32>> = self.states.iter().map(|[cached, _]| cached.data().to_vec()).collect();
        for (number, step) in rows.iter().enumerate() {
            let Some(step) = step else { continue };
            self.audio.data_mut()[number * row..][..row].copy_from_slice(&step.audio);
            let [length, drop, prompt] = step.numbers;
            // After the valid frames of the cache, which come from the last step.
            for (place, value) in [(0, length), (1, drop), (3, prompt)] {
                if let Some(tensor) = self.numbers.get_mut(place) {
                    tensor.data_mut()[number] = value;
                }
            }
        }
        self.session.run(&self.binding, "run the encoder").unwrap();
        let [encoded, cached_len] = &self.lengths[..] else {
            panic!("there are two lengths");
        };
        for (number, step) in rows.iter().enumerate() {
            let Some(step) = step else { continue };
            assert_eq!(encoded.data()[number], step.valid as i64);
            self.numbers[2].data_mut()[number] = cached_len.data()[number];
        }
        for ([cached, next], before) in self.states.iter_mut().zip(before) {
            let row = before.len() / size;
            for (number, step) in rows.iter().enumerate() {
                let place = number * row..(number + 1) * row;
                match step {
                    Some(_) => cached.data_mut()[place.clone()].copy_from_slice(&next.data()[place]),
                    None => cached.data_mut()[place.clone()].copy_from_slice(&before[place]),
                }
            }
        }
        let frames = self.frames.data().chunks_exact(self.frames.data().len() / size);
        frames.map(<[f32]>::to_vec).collect()
    }
}

/// Valid frames of a step; `is_ctc`: each frame is a row.
fn valid(values: &[f32], step: &Step, chunk: usize, is_ctc: bool) -> Vec<f32> {
    let width = values.len() / chunk;
    match is_ctc {
        true => values[..step.valid * width].to_vec(),
        false => values
            .chunks_exact(chunk)
            .flat_map(|row| &row[..step.valid])
            .copied()
            .collect(),
    }
}

/// The largest difference between frames of a stream, which are up to about 10.
fn assert_close(step: usize, found: &[f32], expected: &[f32]) {
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs() / b.abs().max(1.0))
        .fold(0.0, f32::max);
    assert!(found.len() == expected.len() && worst < 2e-4, "step {step}: {worst}");
}

#[test]
fn frames_are_those_of_the_local_model_alone_and_in_mixed_batches() {
    for (path, decoder, lookahead) in [
        (TINY, DecoderKind::Rnnt, 0),
        (TINY, DecoderKind::Ctc, 480),
        (DEMO, DecoderKind::Rnnt, 80),
        (DEMO, DecoderKind::Rnnt, 1040),
        (DEMO, DecoderKind::Ctc, 80),
        (MULTILINGUAL, DecoderKind::Rnnt, 80),
    ] {
        let options = options(decoder, lookahead);
        let recognizer = Recognizer::load(path, &options).unwrap();
        let samples = |count: usize, pitch: f32| -> Vec<f32> {
            (0..count)
                .map(|i| 0.3 * (i as f32 * pitch * (1.0 + i as f32 / 30_000.0)).sin())
                .collect()
        };
        let languages = recognizer
            .config()
            .languages
            .iter()
            .flat_map(|languages| &languages.dictionary);
        let languages: Vec<(&str, i64)> = languages.map(|(code, prompt)| (code.as_str(), *prompt)).collect();
        assert!(path != MULTILINGUAL || languages.len() > 1);
        let stream = |number: usize, count: usize, pitch: f32| {
            let language = languages.get(number % languages.len().max(1)).copied();
            local_steps(&recognizer, &samples(count, pitch), language)
        };
        let streams = [
            stream(0, 70_000, 0.11),
            stream(1, 40_123, 0.23),
            stream(2, 52_000, 0.31),
        ];
        let served = ServedEncoder::compile(path, &options, false).unwrap();
        let (chunk, is_ctc) = (recognizer.config().lookahead + 1, decoder == DecoderKind::Ctc);
        let check = |number: usize, step: &Step, frames: &[f32]| {
            let [found, expected] = [frames, &step.frames].map(|values| valid(values, step, chunk, is_ctc));
            assert_close(number, &found, &expected);
        };
        let mut alone = Rows::new(&served, 1);
        for (number, step) in streams[0].iter().enumerate() {
            check(number, step, &alone.run(&[Some(step)])[0]);
        }
        // The second stream begins later than the first, and the third pauses.
        let mut together = Rows::new(&served, 3);
        let mut next = [0; 3];
        for turn in 0.. {
            let takes_part = [true, turn >= 2, turn % 3 != 1];
            let rows: Vec<Option<&Step>> = (0..3)
                .map(|stream| streams[stream].get(next[stream]).filter(|_| takes_part[stream]))
                .collect();
            let frames = together.run(&rows);
            for (stream, step) in rows.iter().enumerate() {
                if let Some(step) = step {
                    check(next[stream], step, &frames[stream]);
                    next[stream] += 1;
                }
            }
            if streams.iter().zip(next).all(|(steps, next)| next == steps.len()) {
                break;
            }
        }
    }
}

#[test]
fn large_models_keep_their_weights_in_a_file() {
    let served = ServedEncoder::compile(DEMO, &options(DecoderKind::Rnnt, 80), false).unwrap();
    let whole = served.files().unwrap();
    let apart = served.files_below(0).unwrap();
    let [(_, model), (file, parts)] = &apart[..] else {
        panic!("{} files", apart.len());
    };
    // They may be larger than what is free.
    assert!(parts.iter().all(|part| matches!(part, Cow::Borrowed(_))));
    let [whole, model, weights] = [&whole[0].1, model, parts].map(|parts| parts.concat());
    assert!(weights.len() > 1 << 20 && model.len() < whole.len() - weights.len() + (64 << 10));
    let mut graph = Graph::decode(Bytes::from(model)).unwrap();
    graph
        .attach(|location| {
            assert_eq!(location, file);
            Ok(weights.clone().into())
        })
        .unwrap();
    assert_eq!(graph.encode().self_contained().unwrap(), whole);
}

#[test]
fn model_that_does_not_fit_into_memory_is_an_error() {
    let mut served = ServedEncoder::compile(DEMO, &options(DecoderKind::Rnnt, 80), false).unwrap();
    served.encoded.weights = 1 << 60;
    let error = served.files_below(usize::MAX).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
}

#[test]
fn graph_that_cannot_be_specialized_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(TINY).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if path.ends_with("encoder-rnnt_la13.onnx") {
            // A node with graphs of its own.
            let mut model = ModelProto::decode(&bytes[..]).unwrap();
            let mut branch = NodeProto {
                op_type: Some("If".into()),
                input: vec!["length".into()],
                output: vec!["unused".into()],
                ..Default::default()
            };
            for name in ["then_branch", "else_branch"] {
                branch.attribute.push(Default::default());
                let attribute = branch.attribute.last_mut().unwrap();
                attribute.name = Some(name.into());
                attribute.g = Some(Default::default());
                attribute.r#type = Some(5);
            }
            model.graph.as_mut().unwrap().node.push(branch);
            bytes = model.encode_to_vec();
        }
        std::fs::write(directory.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    let error = ServedEncoder::compile(directory.path(), &options(DecoderKind::Rnnt, 80), false).err();
    let text = error.unwrap().to_string();
    assert!(
        text.contains("its shapes cannot be fixed: it has branches or loops"),
        "{text}"
    );
}

#[test]
fn identity_depends_on_the_files_only() {
    let identity = |path: &str, options: &Options| Checked::open(path.as_ref(), options).unwrap().identity().unwrap();
    let plain = options(DecoderKind::Rnnt, 80);
    // Weights are not read, because they may be in the cache.
    let directory = tempfile::tempdir().unwrap();
    let lazy = Options {
        cache: Cache {
            directory: CacheDirectory::At(directory.path().into()),
            smallest: 0,
            size: None,
        },
        ..plain.clone()
    };
    let demo = identity(DEMO, &plain);
    let checked = Checked::open(DEMO.as_ref(), &lazy).unwrap();
    assert!(checked.encoder.part.unread.is_some());
    assert_eq!(checked.identity().unwrap(), demo);
    #[cfg(feature = "embedded-model")]
    assert_eq!(Checked::embedded(&plain).unwrap().identity().unwrap(), demo);
    let served = ServedEncoder::compile(DEMO, &lazy, true).unwrap();
    assert_eq!(served.identity, demo);
    assert_eq!(demo.differences(served.identity.parameters()), []);

    let names = |other: &ModelIdentity| -> Vec<String> {
        let differences = demo.differences(other.parameters());
        differences.into_iter().map(|difference| difference.name).collect()
    };
    let other = identity(DEMO, &options(DecoderKind::Rnnt, 1040));
    assert_eq!(names(&other), ["nemostt.lookahead"]);
    let other = identity(DEMO, &options(DecoderKind::Ctc, 80));
    assert_eq!(names(&other), ["nemostt.decoder", "nemostt.encoder"]);
    let other = names(&identity(TINY, &plain));
    for name in ["nemostt.d_model", "nemostt.encoder", "nemostt.layers"] {
        assert!(other.contains(&name.to_owned()), "{other:?}");
    }
}

#[test]
fn a_graph_that_mixes_streams_is_refused() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/layouts/sherpa_int8");
    let error = ServedEncoder::compile(path, &Options::default(), false).err().unwrap();
    let text = error.to_string();
    assert!(
        text.contains("cannot run on an inference server: its int8 weights quantize activations with one scale for the whole batch")
            && text.contains("Dynamic"),
        "{text}"
    );
}
