// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server with captions of the test's own, and clients on real sockets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use nemostt::cues::CueRules;

use super::*;
use crate::live::caption::TimedWord;

fn start() -> Server {
    let arguments = ServeArguments::local();
    Server::start(&arguments, Some("test"), CueRules::default())
        .unwrap()
        .unwrap()
}

fn caption(utterance: u64, text: &str, is_final: bool) -> Caption {
    Caption {
        utterance,
        text: text.into(),
        is_final,
        start: 1_000 * utterance,
        end: 1_000 * utterance + 500,
        words: Vec::new(),
    }
}

impl Server {
    fn address(&self) -> &str {
        self.urls[0].trim_start_matches("http://").trim_end_matches('/')
    }

    /// A response to a request for `path` with `headers`, after its head.
    fn get(&self, path: &str, headers: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let host = self.address();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        while line != "\r\n" {
            line.clear();
            assert_ne!(reader.read_line(&mut line).unwrap(), 0);
        }
        reader
    }
}

/// The value of the next line that begins with `field`; `None` at the end.
fn next(reader: &mut BufReader<TcpStream>, field: &str) -> Option<String> {
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.strip_prefix(field) {
            return Some(value.trim_end().into());
        }
    }
}

/// The texts of the next `count` captions, and the id of the last one.
fn captions(reader: &mut BufReader<TcpStream>, count: usize) -> (Vec<String>, String) {
    let (mut texts, mut last) = (Vec::new(), String::new());
    while texts.len() < count {
        last = next(reader, "id: ").unwrap();
        if next(reader, "event: ").unwrap() == "caption" {
            let data: serde_json::Value = serde_json::from_str(&next(reader, "data: ").unwrap()).unwrap();
            texts.push(data["text"].as_str().unwrap().into());
        }
    }
    (texts, last)
}

#[test]
fn a_client_resumes_after_the_last_event() {
    let server = start();
    server.caption(&caption(0, "one", true));
    server.caption(&caption(1, "two", true));
    let (texts, _) = captions(&mut server.get("/events", ""), 2);
    assert_eq!(texts, ["one", "two"]);

    let mut reader = server.get("/events", "");
    let (_, first) = captions(&mut reader, 1);
    drop(reader);
    server.caption(&caption(2, "thr", false));
    server.caption(&caption(2, "three", true));
    server.caption(&caption(3, "fo", false));
    server.caption(&caption(3, "four", false));
    let expected = ["two", "three", "four"];
    let (texts, last) = captions(&mut server.get("/events", &format!("Last-Event-ID: {first}\r\n")), 3);
    assert_eq!(texts, expected);
    assert_eq!(
        captions(&mut server.get(&format!("/events?last={first}"), ""), 3).0,
        expected
    );
    // An id of another session, and one that is yet to come.
    for id in ["0123456789abcdef-2", &last.replace('-', "-9")] {
        let (texts, _) = captions(&mut server.get(&format!("/events?last={id}"), ""), 4);
        assert_eq!(texts, ["one", "two", "three", "four"]);
    }
}

#[test]
fn clients_learn_how_the_source_is() {
    let server = start();
    let mut reader = server.get("/events", "");
    assert_eq!(next(&mut reader, "event: ").as_deref(), Some("hello"));
    let hello: serde_json::Value = serde_json::from_str(&next(&mut reader, "data: ").unwrap()).unwrap();
    assert_eq!(hello["title"], "test");
    server.status(Status::Listening, "");
    server.status(Status::Reconnecting, "no \"data\"\nfor 10 s");
    drop(server);
    let mut states = Vec::new();
    while let Some(data) = next(&mut reader, "data: ") {
        let data: serde_json::Value = serde_json::from_str(&data).unwrap();
        states.push(data["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["starting", "listening", "reconnecting", "ended"]);
}

#[test]
fn a_slow_client_is_disconnected_and_harms_nobody() {
    let server = start();
    let mut slow = server.get("/events", "");
    let mut healthy = server.get("/events", "");
    let text = "long ".repeat(2_000);
    // Far more than all buffers and the queue hold.
    for number in 0..1_000 {
        server.caption(&caption(number, &format!("{number} {text}"), false));
        let (texts, _) = captions(&mut healthy, 1);
        assert!(texts[0].starts_with(&format!("{number} ")), "{}", &texts[0][..20]);
    }
    let mut received = Vec::new();
    // The connection may be reset.
    let _ = slow.read_to_end(&mut received);
    assert!(received.len() < 1_000 * text.len() / 2, "{}", received.len());
}

#[test]
fn there_is_a_limit_of_clients() {
    let hub = Hub::new("test", CueRules::default()).unwrap();
    let subscribe = || hub.subscribe(None, Arc::default());
    let mut bodies: Vec<_> = (0..hub::MAX_CLIENTS).map(|_| subscribe().unwrap()).collect();
    assert_eq!(subscribe().err(), Some(hub::SubscribeError::TooManyClients));
    bodies.pop();
    assert!(subscribe().is_ok());
    hub.end();
    assert_eq!(subscribe().err(), Some(hub::SubscribeError::Ended));
}

#[test]
fn json_is_one_object_a_line() {
    let server = start();
    server.caption(&caption(0, "one\ntwo", true));
    let mut finals = server.get("/captions.jsonl?history=1", "");
    let mut all = server.get("/captions.jsonl?partials=1", "");
    // Both have been added when their heads have arrived.
    server.caption(&caption(1, "thr", false));
    server.caption(&caption(1, "three", true));
    let texts = |reader: &mut BufReader<TcpStream>| {
        let mut text = || {
            let object = format!("{{{}", next(reader, "{").unwrap());
            let object: serde_json::Value = serde_json::from_str(&object).unwrap();
            object["text"].as_str().unwrap().to_owned()
        };
        [text(), text()]
    };
    assert_eq!(texts(&mut finals), ["one\ntwo", "three"]);
    assert_eq!(texts(&mut all), ["thr", "three"]);
}

#[test]
fn a_client_without_captions_hears_that_the_connection_lives() {
    let server = start();
    let mut events = server.get("/events", "");
    let mut lines = server.get("/captions.jsonl", "");
    server.hub.keep_alive();
    assert_eq!(next(&mut events, ":").as_deref(), Some(""));
    // Chunks have a length: this is an empty line.
    assert_eq!(next(&mut lines, "1").as_deref(), Some(""));
    assert_eq!(next(&mut lines, "\n").as_deref(), Some(""));
}

#[test]
fn kept_captions_are_webvtt() {
    let hub = Hub::new("test", CueRules::default()).unwrap();
    assert_eq!(hub.vtt(), b"WEBVTT\n");
    for number in 0..2 {
        let word = TimedWord {
            text: format!("word{number}"),
            start: 2_000 * number,
            end: 2_000 * number + 1_000,
            confidence: 1.0,
        };
        hub.caption(&Caption {
            words: vec![word],
            ..caption(number, "word", true)
        });
    }
    let text = String::from_utf8(hub.vtt()).unwrap();
    let expected = "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nword0\n\n00:00:02.000 --> 00:00:03.000\nword1\n";
    assert_eq!(text, expected);
}

#[test]
fn a_request_that_does_not_end_occupies_no_other() {
    let server = start();
    let mut stalled = TcpStream::connect(server.address()).unwrap();
    stalled.write_all(b"GET /events HTTP/1.1\r\nHost:").unwrap();
    let other = thread::scope(|scope| scope.spawn(|| server.get("/health", "")).join().is_ok());
    assert!(other);
}
