// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams on a server, and everything that can happen to it.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nemostt_triton::mock::{Faults, Server};

use super::*;
use crate::{
    Interrupt, Recognizer, RemoteFallback, RemoteOptions, RetryDelays, Snapshot, Stream,
    model::{
        DecoderKind, Options,
        twin::{TWIN, serve_twin},
    },
    text::Event,
};

/// Samples per call, of 100 ms.
const BLOCK: usize = 1600;
/// Against tests that hang.
const LONG: Duration = Duration::from_secs(120);

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model")
}

fn options(decoder: DecoderKind, lookahead: u32) -> Options {
    Options {
        lookahead: Some(lookahead),
        threads: 1,
        decoder,
        ..Default::default()
    }
}

fn local() -> Options {
    options(DecoderKind::Rnnt, 80)
}

fn serve() -> Server {
    serve_twin(Some(&demo_model()), &local()).unwrap()
}

/// Options for the model on `servers`, with `timeout` and short delays.
fn remote(servers: &[&Server], fallback: RemoteFallback, timeout: Duration) -> Options {
    let more: String = servers[1..]
        .iter()
        .map(|server| format!(",{}", server.address()))
        .collect();
    let address = format!("triton://{}/{TWIN}{more}", servers[0].address());
    let short = Duration::from_millis(10);
    let remote = RemoteOptions {
        fallback,
        timeout,
        delays: RetryDelays {
            first: short,
            longest: 4 * short,
            first_return: short,
            longest_return: 4 * short,
        },
        ..RemoteOptions::new(address.parse().unwrap())
    };
    Options {
        remote: Some(remote),
        ..local()
    }
}

fn load(options: &Options) -> Recognizer {
    Recognizer::load(demo_model(), options).unwrap()
}

fn speech() -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo.wav");
    let samples = hound::WavReader::open(path).unwrap().into_samples::<i16>();
    samples.map(|sample| f32::from(sample.unwrap()) / 32_768.0).collect()
}

type Words = Vec<(u64, String)>;

/// The words that are pending, with their first samples.
fn words(stream: &mut Stream) -> Words {
    let events = std::iter::from_fn(|| stream.next_event());
    events
        .filter_map(|event| match event {
            Event::Word(word) => Some((word.start, word.text)),
            _ => None,
        })
        .collect()
}

fn accept(stream: &mut Stream, samples: &[f32]) {
    for block in samples.chunks(BLOCK) {
        stream.accept(block).unwrap();
    }
}

fn finish(stream: &mut Stream, samples: &[f32]) -> Words {
    accept(stream, samples);
    stream.finish(0).unwrap();
    words(stream)
}

/// The words of the same model here.
fn words_here(samples: &[f32]) -> Words {
    let words = finish(&mut load(&local()).stream().unwrap(), samples);
    assert!(words.len() > 10, "{words:?}");
    words
}

/// The changes that were not taken yet.
fn changes(stream: &mut Stream) -> Vec<RemoteChange> {
    std::iter::from_fn(|| stream.take_remote_change()).collect()
}

fn states(changes: &[RemoteChange]) -> Vec<RemoteState> {
    changes.iter().map(|change| change.state).collect()
}

/// Half of the speech, which ends between two words or in the middle of one.
fn halves(samples: &[f32]) -> (&[f32], &[f32]) {
    samples.split_at(samples.len() / 2 / BLOCK * BLOCK)
}

#[test]
fn words_are_those_of_the_model_here_at_every_lookahead_with_both_decoders() {
    let speech = speech();
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        for lookahead in [0, 80, 480, 1040] {
            let here = options(decoder, lookahead);
            let server = serve_twin(Some(&demo_model()), &here).unwrap();
            let there = Options {
                remote: remote(&[&server], RemoteFallback::None, LONG).remote,
                ..here.clone()
            };
            let expected = finish(&mut load(&here).stream().unwrap(), &speech);
            let recognizer = load(&there);
            let mut stream = recognizer.stream().unwrap();
            assert_eq!(finish(&mut stream, &speech), expected, "{decoder:?} {lookahead}");
            assert_eq!(changes(&mut stream), []);
            // It is a file here, too, and can be used again.
            stream.reset();
            assert_eq!(finish(&mut stream, &speech), expected);
            let received = server.received();
            assert_eq!(received.iter().filter(|request| request.is_start).count(), 2);
            assert_eq!(recognizer.metrics().streams, 1);
            assert!(
                recognizer
                    .passes()
                    .iter()
                    .all(|graph| graph.graph != "encoder" || graph.passes.is_empty())
            );
        }
    }
}

#[test]
fn streams_do_not_disturb_each_other() {
    let server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::None, LONG));
    let speech = speech();
    let expected = words_here(&speech);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(finish(&mut recognizer.stream().unwrap(), &speech), expected));
        }
    });
}

#[test]
fn lost_sequence_is_begun_again_without_losing_a_word() {
    let server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::None, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let (before, after) = halves(&speech);
    accept(&mut stream, before);
    let mut all = words(&mut stream);
    server.forget_sequences();
    all.extend(finish(&mut stream, after));
    assert_eq!(all, words_here(&speech));
    let changes = changes(&mut stream);
    assert_eq!(states(&changes), [RemoteState::Connected]);
    assert!(changes[0].text.contains("START flag"), "{}", changes[0].text);
    assert_eq!(changes[0].server.as_deref(), Some(server.address().as_str()));
}

#[test]
fn killed_server_is_replaced_by_the_next_one() {
    let mut servers = [serve(), serve()];
    let recognizer = load(&remote(&[&servers[0], &servers[1]], RemoteFallback::None, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let (before, after) = halves(&speech);
    accept(&mut stream, before);
    let mut all = words(&mut stream);
    assert_eq!(servers[1].sequences(), 0);
    servers[0].kill();
    all.extend(finish(&mut stream, after));
    assert_eq!(all, words_here(&speech));
    let changes = changes(&mut stream);
    assert_eq!(states(&changes), [RemoteState::Connected]);
    assert_eq!(changes[0].server.as_deref(), Some(servers[1].address().as_str()));
    // Further streams begin there.
    let mut other = recognizer.stream().unwrap();
    accept(&mut other, before);
    assert_eq!(other.take_remote_change(), None);
}

#[test]
fn server_that_hangs_or_is_full_is_replaced_by_the_next_one() {
    let hangs = Faults {
        hangs: true,
        ..Default::default()
    };
    let full = Faults {
        max_sequences: Some(0),
        ..Default::default()
    };
    let not_ready = Faults {
        is_not_ready: true,
        ..Default::default()
    };
    let speech = speech();
    let (before, after) = halves(&speech);
    let expected = words_here(&speech);
    for faults in [hangs, full, not_ready] {
        let servers = [serve(), serve()];
        let recognizer = load(&remote(
            &[&servers[0], &servers[1]],
            RemoteFallback::None,
            Duration::from_millis(500),
        ));
        let mut stream = recognizer.stream().unwrap();
        accept(&mut stream, before);
        let mut all = words(&mut stream);
        servers[0].set_faults(faults);
        servers[0].forget_sequences();
        all.extend(finish(&mut stream, after));
        assert_eq!(all, expected, "{faults:?}");
        assert_eq!(states(&changes(&mut stream)), [RemoteState::Connected]);
        assert!(servers[1].received().len() > 1);
    }
}

#[test]
fn stream_goes_on_on_the_cpu_and_returns() {
    let mut server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::Cpu, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let (before, after) = halves(&speech);
    accept(&mut stream, before);
    let mut all = words(&mut stream);
    server.kill();
    let (between, after) = halves(after);
    accept(&mut stream, between);
    all.extend(words(&mut stream));
    let left = changes(&mut stream);
    assert_eq!(states(&left), [RemoteState::OnCpu]);
    assert!(
        left[0].text.contains(&server.address()) && left[0].text.contains("CPU"),
        "{}",
        left[0].text
    );

    server.restart().unwrap();
    let received = server.received().len();
    let mut rest = after.chunks(BLOCK);
    // The server is found in the background.
    for block in rest.by_ref() {
        stream.accept(block).unwrap();
        // Also after the trial, which has two.
        if server.received().len() > received + 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for block in rest {
        stream.accept(block).unwrap();
    }
    stream.finish(0).unwrap();
    all.extend(words(&mut stream));
    assert_eq!(all, words_here(&speech));
    assert_eq!(states(&changes(&mut stream)), [RemoteState::Connected]);
    // New streams are on the server, too.
    let received = server.received().len();
    let mut stream = recognizer.stream().unwrap();
    accept(&mut stream, &speech[..4 * BLOCK]);
    assert_eq!(changes(&mut stream), []);
    assert!(server.received().len() > received);
}

#[test]
fn without_a_fallback_the_stream_waits_until_the_server_is_back() {
    let mut server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::None, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let (before, after) = halves(&speech);
    accept(&mut stream, before);
    let mut all = words(&mut stream);
    server.kill();
    let again = std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            accept(&mut stream, after);
            stream.finish(0).unwrap();
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waits.is_finished());
        server.restart().unwrap();
        waits.join()
    });
    again.unwrap();
    all.extend(words(&mut stream));
    assert_eq!(all, words_here(&speech));
    let changes = changes(&mut stream);
    assert_eq!(states(&changes), [RemoteState::Waiting, RemoteState::Connected]);
}

#[test]
fn stream_waits_for_a_server_while_another_has_another_model() {
    let mut servers = [serve(), serve()];
    let recognizer = load(&remote(&[&servers[0], &servers[1]], RemoteFallback::None, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let (before, after) = halves(&speech);
    accept(&mut stream, before);
    let mut all = words(&mut stream);
    servers[0].kill();
    let (between, after) = halves(after);
    accept(&mut stream, between);
    all.extend(words(&mut stream));
    assert_eq!(states(&changes(&mut stream)), [RemoteState::Connected]);
    servers[1].set_info(nemostt_triton::ModelInfo::default());
    servers[1].restart().unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            accept(&mut stream, after);
            stream.finish(0).unwrap();
        });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waits.is_finished());
        servers[0].restart().unwrap();
        waits.join().unwrap();
    });
    all.extend(words(&mut stream));
    assert_eq!(all, words_here(&speech));
    let changes = changes(&mut stream);
    assert_eq!(states(&changes), [RemoteState::Waiting, RemoteState::Connected]);
}

#[test]
fn finished_stream_holds_no_place() {
    let server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::None, LONG));
    let mut stream = recognizer.stream().unwrap();
    accept(&mut stream, &speech()[..20 * BLOCK]);
    assert_eq!(server.sequences(), 1);
    stream.finish(0).unwrap();
    let start = Instant::now();
    while server.sequences() > 0 {
        assert!(start.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(stream);
}

#[test]
fn calls_may_return_while_a_window_waits() {
    let mut server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::None, LONG));
    let mut stream = recognizer.stream().unwrap();
    stream.set_returns_while_waiting(true);
    let speech = speech();
    let (before, after) = halves(&speech);
    accept(&mut stream, before);
    let mut all = words(&mut stream);
    server.kill();
    // Also the end waits.
    accept(&mut stream, after);
    stream.finish(0).unwrap();
    assert!(stream.is_waiting());
    assert_eq!(states(&changes(&mut stream)), [RemoteState::Waiting]);
    let mut snapshot = Snapshot::default();
    stream.save(&mut snapshot);
    all.extend(words(&mut stream));
    server.restart().unwrap();
    stream.restore(&snapshot).unwrap();
    assert!(stream.is_waiting());
    while stream.is_waiting() {
        stream.retry().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    all.extend(words(&mut stream));
    assert_eq!(all, words_here(&speech));
}

#[test]
fn interrupt_ends_requests_and_waiting_at_once() {
    let mut server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::None, 10 * LONG));
    let speech = speech();
    let expected = words_here(&speech);
    let interrupt = Interrupt::default();
    let mut stream = recognizer.stream().unwrap();
    stream.set_interrupt(&interrupt);
    for is_killed in [false, true] {
        accept(&mut stream, &speech[..8 * BLOCK]);
        match is_killed {
            true => server.kill(),
            false => server.set_faults(Faults {
                hangs: true,
                ..Default::default()
            }),
        }
        let error = std::thread::scope(|scope| {
            let waits = scope.spawn(|| stream.accept(&speech[..8 * BLOCK]));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waits.is_finished());
            interrupt.set();
            waits.join().unwrap().unwrap_err()
        });
        assert!(matches!(error, Error::Interrupted), "{error}");
        stream.reset();
        let error = stream.accept(&speech[..8 * BLOCK]).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");

        server.set_faults(Faults::default());
        if is_killed {
            server.restart().unwrap();
        }
        interrupt.clear();
        stream.reset();
        words(&mut stream);
        assert_eq!(finish(&mut stream, &speech), expected);
        stream.reset();
        changes(&mut stream);
    }
}

#[test]
fn snapshot_is_restored_on_the_server() {
    let server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::Cpu, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let (before, after) = halves(&speech);
    accept(&mut stream, before);
    let mut all = words(&mut stream);
    let mut snapshot = Snapshot::default();
    stream.save(&mut snapshot);
    stream.finish(0).unwrap();
    words(&mut stream);
    stream.restore(&snapshot).unwrap();
    all.extend(finish(&mut stream, after));
    assert_eq!(all, words_here(&speech));
    assert_eq!(changes(&mut stream), []);
    // In another stream, as well.
    let mut other = recognizer.stream().unwrap();
    other.restore(&snapshot).unwrap();
    let rest = finish(&mut other, after);
    assert_eq!(rest, all[all.len() - rest.len()..]);
}

#[test]
fn snapshots_cross_between_server_and_cpu() {
    let mut server = serve();
    let mut options = remote(&[&server], RemoteFallback::Cpu, LONG);
    if let Some(remote) = &mut options.remote {
        remote.delays.first_return = LONG;
    }
    let recognizer = load(&options);
    let speech = speech();
    let (before, after) = halves(&speech);
    let mut on_server = recognizer.stream().unwrap();
    accept(&mut on_server, before);
    let mut snapshots = [Snapshot::default(), Snapshot::default()];
    on_server.save(&mut snapshots[0]);
    server.kill();
    let mut on_cpu = recognizer.stream().unwrap();
    accept(&mut on_cpu, before);
    on_cpu.save(&mut snapshots[1]);
    assert_eq!(states(&changes(&mut on_cpu)), [RemoteState::OnCpu]);
    let mut all = words(&mut on_cpu);
    on_cpu.restore(&snapshots[0]).unwrap();
    words(&mut on_cpu);
    all.extend(finish(&mut on_cpu, after));
    assert_eq!(all, words_here(&speech));

    server.restart().unwrap();
    let mut again = recognizer.stream().unwrap();
    again.restore(&snapshots[1]).unwrap();
    words(&mut again);
    let rest = finish(&mut again, after);
    assert_eq!(rest, all[all.len() - rest.len()..]);
    assert!(server.received().iter().filter(|request| request.is_start).count() >= 2);
}

#[test]
fn other_model_on_the_server_is_refused_with_the_cure() {
    let server = serve_twin(Some(&demo_model()), &options(DecoderKind::Rnnt, 480)).unwrap();
    for fallback in [RemoteFallback::None, RemoteFallback::Cpu] {
        let options = remote(&[&server], fallback, LONG);
        let error = Recognizer::load(demo_model(), &options).unwrap_err();
        assert!(matches!(error, Error::OtherRemoteModel { .. }));
        let message = error.to_string();
        for part in [
            "nemostt.lookahead is 6 there and 1 here",
            "audio_signal",
            "triton-repository",
            &server.address(),
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn servers_are_asked_about_the_model() {
    let (good, mut gone) = (serve(), serve());
    let recognizer = load(&remote(&[&good, &gone], RemoteFallback::Cpu, LONG));
    gone.kill();
    let [first, second] = &recognizer.servers()[..] else {
        panic!("there are two servers");
    };
    assert_eq!((&first.server, first.model.as_str()), (&good.address(), TWIN));
    assert_eq!(first.versions, ["1"]);
    assert!(first.usable.is_ok());
    assert!(second.versions.is_empty());
    assert!(
        second
            .usable
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains(&gone.address())
    );
    good.set_info(nemostt_triton::ModelInfo {
        versions: vec!["2".into()],
        inputs: vec![nemostt_triton::TensorSpec {
            name: format!("\u{1b}[2J{}", "x".repeat(100_000)),
            data_type: "FP32".into(),
            shape: Vec::new(),
        }],
        ..Default::default()
    });
    let now = recognizer.servers().swap_remove(0);
    assert_eq!(now.versions, ["2"]);
    let error = now.usable.unwrap_err();
    assert!(matches!(error, Error::OtherRemoteModel { .. }));
    // What the server calls its tensors may be anything.
    let text = error.to_string();
    assert!(
        text.contains("[2Jxxx") && !text.contains('\u{1b}') && text.len() < 20_000,
        "{text}"
    );
    assert!(load(&local()).servers().is_empty());
}

#[test]
fn restarted_server_with_another_model_is_not_used() {
    let mut server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::Cpu, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let (before, after) = halves(&speech);
    accept(&mut stream, before);
    let mut all = words(&mut stream);
    server.set_info(nemostt_triton::ModelInfo::default());
    server.restart().unwrap();
    all.extend(finish(&mut stream, after));
    assert_eq!(all, words_here(&speech));
    let changes = changes(&mut stream);
    assert_eq!(states(&changes), [RemoteState::OnCpu]);
    assert!(changes[0].text.contains("is not the encoder of"), "{}", changes[0].text);
}

#[test]
fn server_that_comes_back_with_another_model_is_reported_once() {
    let mut server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::Cpu, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    accept(&mut stream, &speech[..BLOCK * 10]);
    server.kill();
    accept(&mut stream, &speech[..BLOCK * 10]);
    assert_eq!(states(&changes(&mut stream)), [RemoteState::OnCpu]);
    server.set_info(nemostt_triton::ModelInfo::default());
    server.restart().unwrap();
    let start = Instant::now();
    let mut told = Vec::new();
    while told.is_empty() {
        assert!(start.elapsed() < LONG);
        accept(&mut stream, &speech[..BLOCK]);
        told = changes(&mut stream);
    }
    assert_eq!(states(&told), [RemoteState::OnCpu]);
    for part in [
        "is not the encoder of",
        "triton-repository",
        "the stream stays on the CPU",
    ] {
        assert!(told[0].text.contains(part), "{}", told[0].text);
    }
    // Further probes say nothing.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(200) {
        accept(&mut stream, &speech[..BLOCK]);
    }
    assert_eq!(changes(&mut stream), []);
}

#[test]
fn load_without_a_server_needs_a_fallback() {
    let mut server = serve();
    server.kill();
    let error = Recognizer::load(demo_model(), &remote(&[&server], RemoteFallback::None, LONG)).unwrap_err();
    assert!(error.to_string().contains(&server.address()), "{error}");
    let recognizer = load(&remote(&[&server], RemoteFallback::Cpu, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    assert_eq!(finish(&mut stream, &speech), words_here(&speech));
    assert_eq!(states(&changes(&mut stream)), [RemoteState::OnCpu]);
}

#[test]
fn server_that_computes_nonsense_is_left() {
    let speech = speech();
    let (before, after) = halves(&speech);
    let expected = words_here(&speech);
    let float = |value| Faults {
        float: Some(value),
        ..Default::default()
    };
    let integer = |value| Faults {
        integer: Some(value),
        ..Default::default()
    };
    for faults in [
        float(f32::NAN),
        float(f32::INFINITY),
        integer(0),
        integer(-5),
        integer(i64::MIN),
        integer(1_000),
    ] {
        let server = serve();
        let recognizer = load(&remote(&[&server], RemoteFallback::Cpu, LONG));
        let mut stream = recognizer.stream().unwrap();
        accept(&mut stream, before);
        let mut all = words(&mut stream);
        server.set_faults(faults);
        all.extend(finish(&mut stream, after));
        assert_eq!(all, expected, "{faults:?}");
        let changes = changes(&mut stream);
        assert_eq!(states(&changes), [RemoteState::OnCpu], "{faults:?}");
        assert!(changes[0].text.contains("cannot be used"), "{}", changes[0].text);
    }
}

#[test]
fn stream_on_the_cpu_does_not_wait_for_a_full_server() {
    let mut server = serve();
    // Longer than the test may take.
    let recognizer = load(&remote(&[&server], RemoteFallback::Cpu, Duration::from_secs(600)));
    server.kill();
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    accept(&mut stream, &speech[..8 * BLOCK]);
    assert_eq!(states(&changes(&mut stream)), [RemoteState::OnCpu]);
    server.restart().unwrap();
    server.set_faults(Faults {
        max_sequences: Some(0),
        ..Default::default()
    });
    for block in speech[8 * BLOCK..].chunks(BLOCK) {
        stream.accept(block).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    // It has asked, and nothing more.
    assert!(server.received().iter().any(|request| request.is_start));
    stream.finish(0).unwrap();
    assert_eq!(words(&mut stream), words_here(&speech));
    assert_eq!(changes(&mut stream), []);
}

#[test]
fn full_server_is_reported_once() {
    let server = serve();
    let recognizer = load(&remote(&[&server], RemoteFallback::Cpu, Duration::from_millis(500)));
    server.set_faults(Faults {
        max_sequences: Some(1),
        ..Default::default()
    });
    let speech = speech();
    let expected = words_here(&speech);
    let mut first = recognizer.stream().unwrap();
    accept(&mut first, &speech[..8 * BLOCK]);
    let mut second = recognizer.stream().unwrap();
    assert_eq!(finish(&mut second, &speech), expected);
    let changes = changes(&mut second);
    assert_eq!(states(&changes), [RemoteState::OnCpu]);
    assert!(
        changes[0].text.contains("max_candidate_sequences"),
        "{}",
        changes[0].text
    );
    assert_eq!(first.take_remote_change(), None);
}

/// All encoder frames of three times the speech; the server loses its state after two of them, if `loses`.
fn frames(server: &Server, loses: bool) -> Vec<f32> {
    let recognizer = load(&remote(&[server], RemoteFallback::None, LONG));
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let mut frames = Vec::new();
    for round in 0..3 {
        if loses && round == 2 {
            server.forget_sequences();
        }
        let mut observe = |_: &crate::chunker::Window<'_>, outputs: &[f32]| frames.extend_from_slice(outputs);
        stream.accept_observed(&speech, &mut observe).unwrap();
    }
    assert_eq!(changes(&mut stream).len(), usize::from(loses));
    frames
}

#[test]
fn restored_context_is_nearly_the_lost_one() {
    let server = serve();
    let [exact, restored] = [false, true].map(|loses| frames(&server, loses));
    assert_eq!(exact.len(), restored.len());
    let squares = |values: &[f32]| values.iter().map(|value| f64::from(value * value)).sum::<f64>();
    let difference: Vec<f32> = exact.iter().zip(&restored).map(|(a, b)| a - b).collect();
    let rms = (squares(&exact) / exact.len() as f64).sqrt();
    let largest = difference
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    println!("frames differ by {largest:.1e} at most; their root mean square is {rms:.2}");
    // Before it, nothing differs.
    assert!(
        difference[..exact.len() / 3 * 2 - exact.len() / 30]
            .iter()
            .all(|value| *value == 0.0)
    );
    assert!(f64::from(largest) < rms / 20.0, "{largest} of {rms}");
}
