// SPDX-License-Identifier: MIT OR Apache-2.0

//! Each way in which a server can fail: no stream ends, and no word that was there is lost or doubled.

use std::time::Duration;

use nemostt::{DecoderKind, RemoteFallback, RemoteState, Stream};

use super::{BLOCK, LONG, Setup, Words, accept, changes, finish, local, speech, states, words, words_here};

/// A stream with half of the speech, its words so far, and the other half.
fn half_way(setup: &Setup, fallback: RemoteFallback, timeout: Duration) -> (Stream, Words, Vec<f32>) {
    let recognizer = setup.load(fallback, timeout);
    let mut stream = recognizer.stream().unwrap();
    let speech = speech();
    let (before, after) = speech.split_at(speech.len() / 2 / BLOCK * BLOCK);
    accept(&mut stream, before);
    let words = words(&mut stream);
    assert!(words.len() > 3);
    (stream, words, after.to_vec())
}

/// Adds the rest of the speech: words so far stay, and all words are those of a stream that nothing disturbed.
fn check_rest(stream: &mut Stream, mut all: Words, rest: &[f32]) {
    all.extend(finish(stream, rest));
    assert_eq!(all, words_here(&local(DecoderKind::Rnnt, 80)));
}

#[test]
fn killed_server_is_replaced_by_the_next_one() {
    let mut setup = Setup::new(2, &[]);
    let (mut stream, all, rest) = half_way(&setup, RemoteFallback::None, LONG);
    setup.servers[0].kill();
    check_rest(&mut stream, all, &rest);
    let changes = changes(&mut stream);
    assert_eq!(states(&changes), [RemoteState::Connected]);
    assert_eq!(changes[0].server.as_deref(), Some(setup.servers[1].grpc().as_str()));
}

#[test]
fn terminated_server_is_replaced_by_the_next_one() {
    let setup = Setup::new(2, &[]);
    let (mut stream, mut all, rest) = half_way(&setup, RemoteFallback::None, Duration::from_secs(2));
    setup.servers[0].terminate();
    // Served until the exit timeout of two seconds.
    let (early, late) = rest.split_at(rest.len() / 2 / BLOCK * BLOCK);
    accept(&mut stream, early);
    all.extend(words(&mut stream));
    std::thread::sleep(Duration::from_secs(4));
    check_rest(&mut stream, all, late);
    // A server with open streams may not end by itself after its exit timeout, so it is killed.
    let states = states(&changes(&mut stream));
    assert!(
        states.iter().all(|state| *state == RemoteState::Connected),
        "{states:?}"
    );
}

#[test]
fn server_that_does_not_answer_is_replaced_by_the_next_one() {
    let setup = Setup::new(2, &[]);
    let (mut stream, all, rest) = half_way(&setup, RemoteFallback::None, Duration::from_secs(2));
    setup.servers[0].pause();
    check_rest(&mut stream, all, &rest);
    setup.servers[0].resume();
    let changes = changes(&mut stream);
    assert_eq!(changes[0].state, RemoteState::Connected);
    assert!(changes[0].text.contains("did not answer"), "{}", changes[0].text);
}

#[test]
fn slow_server_is_replaced_by_the_cpu() {
    let setup = Setup::new(1, &[]);
    let (mut stream, all, rest) = half_way(&setup, RemoteFallback::Cpu, Duration::from_secs(2));
    setup.repository.set_delay(&setup.name, Duration::from_secs(4));
    check_rest(&mut stream, all, &rest);
    assert_eq!(changes(&mut stream)[0].state, RemoteState::OnCpu);
}

#[test]
fn restarted_server_is_waited_for() {
    let mut setup = Setup::new(1, &[]);
    let (mut stream, all, rest) = half_way(&setup, RemoteFallback::None, LONG);
    setup.servers[0].kill();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| check_rest(&mut stream, all, &rest));
        setup.servers[0].restart();
        waits.join().unwrap();
    });
    let states = states(&changes(&mut stream));
    assert_eq!(states, [RemoteState::Waiting, RemoteState::Connected]);
}

#[test]
fn reaped_sequence_is_begun_again_there() {
    let (minute, second) = ("idle_microseconds: 60000000", "idle_microseconds: 1000000");
    let setup = Setup::with_config(1, &[], |repository, name| {
        repository.change_config(name, minute, second)
    });
    let (mut stream, all, rest) = half_way(&setup, RemoteFallback::None, LONG);
    // Triton looks for idle sequences less often than that.
    std::thread::sleep(Duration::from_secs(5));
    check_rest(&mut stream, all, &rest);
    let changes = changes(&mut stream);
    assert_eq!(states(&changes), [RemoteState::Connected]);
    assert!(
        changes[0].text.contains("has lost the stream's state"),
        "{}",
        changes[0].text
    );
}

#[test]
fn stream_returns_from_the_cpu_to_a_restarted_server() {
    let mut setup = Setup::new(1, &[]);
    let (mut stream, mut all, rest) = half_way(&setup, RemoteFallback::Cpu, LONG);
    setup.servers[0].kill();
    let (on_cpu, rest) = rest.split_at(rest.len() / 2 / BLOCK * BLOCK);
    accept(&mut stream, on_cpu);
    all.extend(words(&mut stream));
    assert_eq!(states(&changes(&mut stream)), [RemoteState::OnCpu]);
    setup.servers[0].restart();
    let mut blocks = rest.chunks(BLOCK);
    for block in blocks.by_ref() {
        stream.accept(block).unwrap();
        if setup.servers[0].counts(&setup.name).requests > 0 {
            break;
        }
        // The server is found in the background.
        std::thread::sleep(Duration::from_millis(100));
    }
    let rest: Vec<f32> = blocks.flatten().copied().collect();
    check_rest(&mut stream, all, &rest);
    assert_eq!(states(&changes(&mut stream)), [RemoteState::Connected]);
}

#[test]
fn full_server_gives_one_clear_warning() {
    let setup = Setup::new(1, &["--batch", "1", "--streams", "1"]);
    let (mut first, all, rest) = half_way(&setup, RemoteFallback::Cpu, Duration::from_secs(2));
    let recognizer = setup.load(RemoteFallback::Cpu, Duration::from_secs(2));
    let mut second = recognizer.stream().unwrap();
    let expected = words_here(&local(DecoderKind::Rnnt, 80));
    assert_eq!(finish(&mut second, &speech()), expected);
    let changes = changes(&mut second);
    assert_eq!(states(&changes), [RemoteState::OnCpu]);
    assert!(
        changes[0].text.contains("max_candidate_sequences"),
        "{}",
        changes[0].text
    );
    check_rest(&mut first, all, &rest);
    assert_eq!(first.take_remote_change(), None);
}
