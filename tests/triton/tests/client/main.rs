// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams of the recognizer whose encoder is on a real Triton: their words, and each way in which a server can fail.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

mod failures;
mod tls;
mod words;

use std::{path::PathBuf, time::Duration};

use nemostt::{
    DecoderKind, Event, Options, Recognizer, RemoteChange, RemoteFallback, RemoteOptions, RemoteState, RetryDelays,
    Stream,
};
use nemostt_triton_tests::{Repository, Server};

/// Samples per call, of 100 ms.
const BLOCK: usize = 1600;
/// What a request may take, unless a test says otherwise: the machine may be busy.
const LONG: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The model in the directory of test data.
fn model() -> PathBuf {
    root().join("crates/nemostt/assets/demo-model")
}

fn speech() -> Vec<f32> {
    let reader = hound::WavReader::open(root().join("assets/demo.wav")).unwrap();
    let samples = reader.into_samples::<i16>();
    samples.map(|sample| f32::from(sample.unwrap()) / 32_768.0).collect()
}

fn local(decoder: DecoderKind, lookahead: u32) -> Options {
    Options {
        lookahead: Some(lookahead),
        threads: 1,
        decoder,
        ..Default::default()
    }
}

/// Servers with one repository, whose model has a lookahead of 80 ms and RNN-T.
struct Setup {
    repository: Repository,
    name: String,
    servers: Vec<Server>,
}

impl Setup {
    /// `arguments`: of `nemostt triton-repository`.
    fn new(servers: usize, arguments: &[&str]) -> Self {
        Self::with_config(servers, arguments, |_, _| ())
    }

    /// `change` may change the configuration of the model with this name.
    fn with_config(servers: usize, arguments: &[&str], change: impl FnOnce(&Repository, &str)) -> Self {
        let repository = Repository::new();
        let arguments = [arguments, &["--lookahead", "80"]].concat();
        let name = repository.add_python_model(model().to_str().unwrap(), &arguments);
        change(&repository, &name);
        let servers = (0..servers).map(|_| Server::start(repository.path(), &[])).collect();
        Self {
            repository,
            name,
            servers,
        }
    }

    fn load(&self, fallback: RemoteFallback, timeout: Duration) -> Recognizer {
        let servers: Vec<&Server> = self.servers.iter().collect();
        load(&servers, &self.name, local(DecoderKind::Rnnt, 80), fallback, timeout)
    }
}

/// The model named `name` on `servers`.
fn load(servers: &[&Server], name: &str, options: Options, fallback: RemoteFallback, timeout: Duration) -> Recognizer {
    let more: String = servers[1..]
        .iter()
        .map(|server| format!(",{}", server.grpc()))
        .collect();
    let address = format!("triton://{}/{name}{more}", servers[0].grpc());
    let short = Duration::from_millis(50);
    // Where requests fail by their timeout, attempts to return would take long.
    let first_return = if timeout < LONG { LONG } else { short };
    let remote = RemoteOptions {
        fallback,
        timeout,
        delays: RetryDelays {
            first: short,
            longest: 10 * short,
            first_return,
            longest_return: 10 * first_return,
        },
        ..RemoteOptions::new(address.parse().unwrap())
    };
    let options = Options {
        remote: Some(remote),
        ..options
    };
    Recognizer::load(model(), &options).unwrap()
}

type Words = Vec<(u64, String)>;

fn words(stream: &mut Stream) -> Words {
    let events = std::iter::from_fn(|| stream.next_event());
    let words = events.filter_map(|event| match event {
        Event::Word(word) => Some((word.start, word.text)),
        _ => None,
    });
    words.collect()
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
fn words_here(options: &Options) -> Words {
    let recognizer = Recognizer::load(model(), options).unwrap();
    let words = finish(&mut recognizer.stream().unwrap(), &speech());
    assert!(words.len() > 10, "{words:?}");
    words
}

fn changes(stream: &mut Stream) -> Vec<RemoteChange> {
    std::iter::from_fn(|| stream.take_remote_change()).collect()
}

fn states(changes: &[RemoteChange]) -> Vec<RemoteState> {
    changes.iter().map(|change| change.state).collect()
}
