// SPDX-License-Identifier: MIT OR Apache-2.0

//! Words are those of the model here, and streams share executions.

use std::{sync::Barrier, time::Duration};

use nemostt::{DecoderKind, RemoteFallback};
use nemostt_triton_tests::{Repository, Server};

use super::{LONG, Setup, finish, load, local, model, speech, words_here};

#[test]
fn words_are_those_of_the_model_here_at_every_lookahead_with_both_decoders() {
    let repository = Repository::new();
    let mut models = Vec::new();
    for (decoder, name) in [(DecoderKind::Rnnt, "rnnt"), (DecoderKind::Ctc, "ctc")] {
        for lookahead in [0, 80, 480, 1040] {
            let (text, served) = (lookahead.to_string(), format!("{name}-{lookahead}"));
            let arguments = ["--decoder", name, "--lookahead", &text, "--name", &served];
            let served = repository.add_python_model(model().to_str().unwrap(), &arguments);
            models.push((served, local(decoder, lookahead)));
        }
    }
    let server = Server::start(repository.path(), &[]);
    for (name, options) in models {
        let recognizer = load(&[&server], &name, options.clone(), RemoteFallback::None, LONG);
        let mut stream = recognizer.stream().unwrap();
        assert_eq!(finish(&mut stream, &speech()), words_here(&options), "{name}");
        assert_eq!(stream.take_remote_change(), None, "{name}");
    }
}

#[test]
fn forty_streams_at_once_share_executions() {
    let setup = Setup::new(1, &["--batch", "32", "--streams", "64"]);
    let recognizer = setup.load(RemoteFallback::None, LONG);
    let expected = words_here(&local(DecoderKind::Rnnt, 80));
    let speech = speech();
    // As with a large model: otherwise what these streams decode here takes more of the processors than their encoder.
    setup.repository.set_delay(&setup.name, Duration::from_millis(100));
    for streams in [16, 40] {
        let before = setup.servers[0].counts(&setup.name);
        let start = Barrier::new(streams);
        std::thread::scope(|scope| {
            for _ in 0..streams {
                scope.spawn(|| {
                    let mut stream = recognizer.stream().unwrap();
                    start.wait();
                    assert_eq!(finish(&mut stream, &speech), expected);
                    assert_eq!(stream.take_remote_change(), None);
                });
            }
        });
        let after = setup.servers[0].counts(&setup.name);
        let (requests, executions) = (after.requests - before.requests, after.executions - before.executions);
        println!("{streams} streams: {requests} requests in {executions} executions");
        assert!(
            executions * 8 <= requests,
            "{requests} requests in {executions} executions"
        );
    }
}
