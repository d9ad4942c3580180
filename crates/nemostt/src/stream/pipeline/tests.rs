// SPDX-License-Identifier: MIT OR Apache-2.0

//! A device fails, and streams go on on the CPU.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{fs, path::Path, sync::Arc};

use super::*;
use crate::{
    BeamConfig, DecodingMethod, Device, Hotwords, Recognizer,
    model::{DecoderKind, GraphOptimization, Options, failing_device::FailingDevice},
    stream::Stream,
    text::Event,
};

/// Samples per call, of 100 ms.
const BLOCK: usize = 1600;

/// The demo model in a directory of its own, on a device that will fail.
struct Setup {
    // Removed with it; the fallback is loaded from there.
    directory: tempfile::TempDir,
    device: Arc<FailingDevice>,
    recognizer: Recognizer,
}

impl Setup {
    fn new(decoder: DecoderKind) -> Self {
        Self::with(decoder, Device::Auto)
    }

    fn with(decoder: DecoderKind, device: Device) -> Self {
        Self::load(&options(decoder, device))
    }

    fn load(options: &Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        for file in fs::read_dir(model).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), directory.path().join(file.file_name())).unwrap();
        }
        let failing = FailingDevice::of_model(directory.path());
        let recognizer = Recognizer::load(directory.path(), options).unwrap();
        assert_eq!(recognizer.config().device, Device::Cuda(0));
        Self {
            directory,
            device: failing,
            recognizer,
        }
    }
}

fn options(decoder: DecoderKind, device: Device) -> Options {
    Options {
        lookahead: Some(80),
        threads: 1,
        decoder,
        device,
        ..Default::default()
    }
}

fn speech() -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo.wav");
    let samples = hound::WavReader::open(path).unwrap().into_samples::<i16>();
    samples.map(|sample| f32::from(sample.unwrap()) / 32_768.0).collect()
}

/// The words that are pending, with their first samples.
fn words(stream: &mut Stream) -> Vec<(u64, String)> {
    let events = std::iter::from_fn(|| stream.next_event());
    events
        .filter_map(|event| match event {
            Event::Word(word) => Some((word.start, word.text)),
            _ => None,
        })
        .collect()
}

/// What a stream of `recognizer` makes of `samples`.
fn transcribe(recognizer: &Recognizer, samples: &[f32]) -> Vec<(u64, String)> {
    let mut stream = recognizer.stream().unwrap();
    for block in samples.chunks(BLOCK) {
        stream.accept(block).unwrap();
    }
    stream.finish(0).unwrap();
    words(&mut stream)
}

/// The words of the same model on the CPU.
fn on_cpu(decoder: DecoderKind, samples: &[f32]) -> Vec<(u64, String)> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
    let words = transcribe(
        &Recognizer::load(model, &options(decoder, Device::Cpu)).unwrap(),
        samples,
    );
    assert!(words.len() > 10, "{words:?}");
    words
}

/// Adds `samples` to `stream`; the device fails `runs` runs after the first `working` of them. Returns the words until then,
/// and all words.
fn fail_at(
    setup: &Setup,
    stream: &mut Stream,
    samples: &[f32],
    (working, runs): (usize, usize),
) -> [Vec<(u64, String)>; 2] {
    for block in samples[..working].chunks(BLOCK) {
        stream.accept(block).unwrap();
    }
    assert_eq!(stream.take_device_failure(), None);
    let before = words(stream);
    setup.device.fail_after(runs);
    for block in samples[working..].chunks(BLOCK) {
        stream.accept(block).unwrap();
    }
    stream.finish(0).unwrap();
    let mut all = before.clone();
    all.extend(words(stream));
    [before, all]
}

#[test]
fn words_go_on_on_the_cpu_after_the_device_has_failed() {
    let samples = speech();
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        let expected = on_cpu(decoder, &samples);
        // In any of the next runs.
        for runs in 0..3 {
            let setup = Setup::new(decoder);
            let mut stream = setup.recognizer.stream().unwrap();
            let [before, all] = fail_at(&setup, &mut stream, &samples, (samples.len() / 2, runs));
            let case = format!("{decoder:?}, failure after {runs} runs: {all:?} instead of {expected:?}");
            assert_eq!(before, expected[..before.len()], "{case}");
            assert!(before.len() > 3, "{case}");
            // Of two contexts of the encoder, so that its caches are as good as those of the device.
            assert_eq!(all, expected, "{case}");

            let notice = stream.take_device_failure();
            let notice = notice.as_deref().unwrap_or_default();
            assert!(notice.contains("device \"cuda\" failed"), "{notice}");
            assert!(notice.contains("unspecified launch failure"), "{notice}");
            assert_eq!(stream.take_device_failure(), None);
            assert_eq!(stream.device(), Device::Cpu);
        }
    }
}

#[test]
fn device_with_memory_of_its_own_reads_what_each_step_writes() {
    let samples = speech();
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        let expected = on_cpu(decoder, &samples);
        for (graph_optimization, is_batched) in [(GraphOptimization::All, true), (GraphOptimization::None, false)] {
            let setup = Setup::load(&Options {
                graph_optimization,
                ..options(decoder, Device::Cuda(0))
            });
            assert_eq!(setup.recognizer.parallel_streams() > 1, is_batched);
            let case = format!("{decoder:?}, {graph_optimization:?}");
            assert_eq!(transcribe(&setup.recognizer, &samples), expected, "{case}");
        }
    }
}

#[test]
fn boosting_goes_on_on_the_cpu() {
    let samples = speech();
    let hotwords = Hotwords::parse(
        "nine nine:12, kitchen:12, stop:12, one eight:9, the bedroom door:9",
        1.0,
    )
    .unwrap();
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let recognizer = Recognizer::load(model, &options(decoder, Device::Cpu)).unwrap();
        let mut stream = recognizer.stream().unwrap();
        stream.set_hotwords(&hotwords).unwrap();
        stream.accept(&samples).unwrap();
        stream.finish(0).unwrap();
        let expected = words(&mut stream);
        assert_ne!(expected, on_cpu(decoder, &samples));
        for working in [0, samples.len() / 3, samples.len() / 2] {
            let setup = Setup::new(decoder);
            let mut stream = setup.recognizer.stream().unwrap();
            stream.set_hotwords(&hotwords).unwrap();
            let [_, all] = fail_at(&setup, &mut stream, &samples, (working, 1));
            assert_eq!(all, expected, "{decoder:?}, failure after {working} samples");
            assert!(stream.take_device_failure().is_some());
        }
    }
}

#[test]
fn beam_search_goes_on_on_the_cpu_also_from_a_snapshot() {
    let samples = speech();
    let method = DecodingMethod::Beam(BeamConfig::default());
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let recognizer = Recognizer::load(model, &options(decoder, Device::Cpu)).unwrap();
        let mut stream = recognizer.stream().unwrap();
        stream.set_decoding_method(&method).unwrap();
        stream.accept(&samples).unwrap();
        stream.finish(0).unwrap();
        let expected = words(&mut stream);
        for working in [0, samples.len() / 3, samples.len() / 2] {
            let setup = Setup::new(decoder);
            let mut stream = setup.recognizer.stream().unwrap();
            stream.set_decoding_method(&method).unwrap();
            let [_, all] = fail_at(&setup, &mut stream, &samples, (working, 1));
            assert_eq!(all, expected, "{decoder:?}, failure after {working} samples");
            assert!(stream.take_device_failure().is_some());
        }
        let setup = Setup::new(decoder);
        let mut stream = setup.recognizer.stream().unwrap();
        stream.set_decoding_method(&method).unwrap();
        let (early, late) = samples.split_at(samples.len() / 2);
        stream.accept(early).unwrap();
        let mut snapshot = Snapshot::default();
        stream.save(&mut snapshot);
        let before = words(&mut stream);
        setup.device.fail_after(0);
        stream.accept(late).unwrap();
        stream.restore(&snapshot).unwrap();
        assert_eq!(words(&mut stream), before, "{decoder:?}");
        stream.accept(late).unwrap();
        stream.finish(0).unwrap();
        assert_eq!([before, words(&mut stream)].concat(), expected, "{decoder:?}");
    }
}

#[test]
fn stream_that_starts_after_the_failure_starts_on_the_cpu() {
    let samples = speech();
    // Its tensors are bound when it is created.
    let setup = Setup::load(&Options {
        graph_optimization: GraphOptimization::None,
        ..options(DecoderKind::Rnnt, Device::Auto)
    });
    setup.device.fail_after(0);
    let mut stream = setup.recognizer.stream().unwrap();
    assert!(stream.take_device_failure().is_some());
    assert_eq!(stream.device(), Device::Cpu);
    stream.accept(&samples).unwrap();
    stream.finish(0).unwrap();
    assert_eq!(words(&mut stream), on_cpu(DecoderKind::Rnnt, &samples));
}

#[test]
fn failure_at_the_first_window_loses_nothing() {
    let samples = speech();
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        let setup = Setup::new(decoder);
        let mut stream = setup.recognizer.stream().unwrap();
        let [_, all] = fail_at(&setup, &mut stream, &samples, (0, 0));
        assert_eq!(all, on_cpu(decoder, &samples));
        assert!(stream.take_device_failure().is_some());
    }
}

#[test]
fn failure_while_finishing_keeps_all_words() {
    let samples = speech();
    let setup = Setup::new(DecoderKind::Rnnt);
    let mut stream = setup.recognizer.stream().unwrap();
    let [before, all] = fail_at(&setup, &mut stream, &samples, (samples.len(), 0));
    assert_eq!(all[..before.len()], before);
    let expected = on_cpu(DecoderKind::Rnnt, &samples);
    assert_eq!(all, expected);
    assert!(stream.take_device_failure().is_some());
}

#[test]
fn streams_of_a_model_move_to_one_copy_of_it() {
    let samples = speech();
    let (early, late) = samples.split_at(samples.len() / 2);
    let setup = Setup::new(DecoderKind::Rnnt);
    let mut streams = [(); 3].map(|()| setup.recognizer.stream().unwrap());
    for stream in &mut streams {
        stream.accept(early).unwrap();
    }
    setup.device.fail_after(0);
    // All at once: one loads, the others wait for it.
    std::thread::scope(|scope| {
        for stream in &mut streams {
            scope.spawn(|| {
                stream.accept(late).unwrap();
                stream.finish(0).unwrap();
            });
        }
    });
    let [first, second, third] = &mut streams;
    let all = words(first);
    assert!(all.len() > 10);
    for other in [&mut *second, third] {
        assert!(Arc::ptr_eq(&first.pipeline.model, &other.pipeline.model));
        assert_eq!(words(other), all);
        assert!(other.take_device_failure().is_some());
    }
    // What starts later starts there.
    let mut later = setup.recognizer.stream().unwrap();
    assert_eq!(later.device(), Device::Cpu);
    assert_eq!(
        transcribe(&setup.recognizer, &samples),
        on_cpu(DecoderKind::Rnnt, &samples)
    );
    assert_eq!(later.take_device_failure(), None);
}

#[test]
fn streams_move_when_another_one_has_found_the_failure() {
    let samples = speech();
    let setup = Setup::new(DecoderKind::Rnnt);
    let [mut one, mut other] = [(); 2].map(|()| setup.recognizer.stream().unwrap());
    setup.device.fail_after(0);
    one.accept(&samples).unwrap();
    // Even if it recovers, because it may not last.
    setup.device.fail_after(usize::MAX);
    assert_eq!(other.device(), Device::Cuda(0));
    other.accept(&samples).unwrap();
    assert_eq!(other.device(), Device::Cpu);
    assert!(other.take_device_failure().is_some());
}

#[test]
fn snapshots_outlive_the_device() {
    let samples = speech();
    let (early, late) = samples.split_at(samples.len() / 2);
    let setup = Setup::new(DecoderKind::Rnnt);
    let [mut stream, mut other] = [(); 2].map(|()| setup.recognizer.stream().unwrap());
    stream.accept(early).unwrap();
    let mut of_device = Snapshot::default();
    stream.save(&mut of_device);
    setup.device.fail_after(0);
    stream.accept(late).unwrap();
    stream.finish(0).unwrap();
    let all = words(&mut stream);

    // From the device, into a stream on the CPU: as if the failure were there.
    stream.restore(&of_device).unwrap();
    stream.accept(late).unwrap();
    stream.finish(0).unwrap();
    assert_eq!(words(&mut stream), all);

    // From the CPU, into a stream on the device.
    stream.reset();
    stream.accept(early).unwrap();
    let mut of_cpu = Snapshot::default();
    stream.save(&mut of_cpu);
    stream.accept(late).unwrap();
    stream.finish(0).unwrap();
    let all = words(&mut stream);
    assert_eq!(other.device(), Device::Cuda(0));
    other.restore(&of_cpu).unwrap();
    other.accept(late).unwrap();
    other.finish(0).unwrap();
    assert_eq!(words(&mut other), all);

    let foreign = Setup::new(DecoderKind::Rnnt);
    let mut foreign = foreign.recognizer.stream().unwrap();
    assert!(matches!(foreign.restore(&of_device), Err(Error::OtherSnapshot)));
}

#[test]
fn failure_of_a_device_that_was_asked_for_is_an_error() {
    let setup = Setup::with(DecoderKind::Rnnt, Device::Cuda(0));
    let mut stream = setup.recognizer.stream().unwrap();
    setup.device.fail_after(0);
    let error = stream.accept(&speech()).unwrap_err().to_string();
    assert!(error.contains("unspecified launch failure"), "{error}");
    assert_eq!(stream.take_device_failure(), None);
    assert_eq!(stream.device(), Device::Cuda(0));
}

#[test]
fn model_that_is_gone_is_an_error_that_names_both_failures() {
    let setup = Setup::new(DecoderKind::Rnnt);
    let mut stream = setup.recognizer.stream().unwrap();
    fs::remove_file(setup.directory.path().join("tokens.txt")).unwrap();
    setup.device.fail_after(0);
    let error = stream.accept(&speech()).unwrap_err().to_string();
    for part in ["device \"cuda\" failed", "unspecified launch failure", "tokens.txt"] {
        assert!(error.contains(part), "\"{part}\" is not in: {error}");
    }
}

#[test]
fn metrics_are_of_the_device_that_did_the_work() {
    let samples = &speech()[..64_000];
    let (early, late) = samples.split_at(32_000);
    let setup = Setup::new(DecoderKind::Rnnt);
    let mut stream = setup.recognizer.stream().unwrap();
    stream.accept(early).unwrap();
    let steps = stream.metrics().steps;
    let all = setup.recognizer.all_metrics();
    assert_eq!((all.len(), &all[0]), (1, &setup.recognizer.metrics()));
    assert_eq!(all[0].model, setup.directory.path().display().to_string());
    assert_eq!((all[0].device, all[0].lookahead_ms), (Device::Cuda(0), 80));
    assert_eq!((all[0].streams, all[0].streams_started), (1, 1));
    assert_eq!(all[0].audio, std::time::Duration::from_secs(2));
    let lane = all[0].total();
    // With that of the warm-up. Chunks are of 160 ms, and the analysis window of the last one is not complete.
    assert_eq!((steps, lane.jobs), (12, 13));
    assert_eq!((lane.step_time.count(), all[0].errors), (lane.batches, 0));

    setup.device.fail_after(0);
    stream.accept(late).unwrap();
    stream.finish(0).unwrap();
    let words = words(&mut stream).len() as u64;
    assert!(words > 0);
    let found = stream.metrics();
    assert_eq!((found.samples, found.words), (64_000, words));
    let all = setup.recognizer.all_metrics();
    assert_eq!((all[0].streams, all[0].total().jobs), (0, 13 + 1));
    // The step that failed was done again.
    assert_eq!((all[0].errors, all[1].errors), (1, 0));
    assert_eq!((all[1].device, all[1].streams, all[1].words), (Device::Cpu, 1, words));
    assert!(all[1].total().jobs > found.steps - steps);
    stream.reset();
    assert_eq!(stream.metrics(), found, "a reset takes nothing back");
    drop(stream);
    assert!(setup.recognizer.all_metrics().iter().all(|engine| engine.streams == 0));
}
