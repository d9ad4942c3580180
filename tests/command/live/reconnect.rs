// SPDX-License-Identifier: MIT OR Apache-2.0

//! Connections that are lost.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    str::from_utf8,
    thread,
};

use super::{Running, live};
use crate::{
    common::clip_s16,
    support::{
        process::complaint,
        transcribe::{ONE, TWO, line},
    },
};

/// A WAV stream that says nothing of its length, as a live encoder writes it.
fn stream_of(clip: &str) -> Vec<u8> {
    wav(1, clip_s16(clip).into_iter().flat_map(i16::to_le_bytes).collect())
}

/// The same in floating point, and the first sample is not a number.
fn floats_of(clip: &str) -> Vec<u8> {
    let samples = clip_s16(clip).into_iter().map(|sample| f32::from(sample) / 32_768.0);
    wav(
        3,
        [f32::NAN]
            .into_iter()
            .chain(samples.skip(1))
            .flat_map(f32::to_le_bytes)
            .collect(),
    )
}

/// A WAV stream of a format: 1 for integers of 16 bits, 3 for floating point of 32 bits.
fn wav(format: u8, samples: Vec<u8>) -> Vec<u8> {
    let bytes_per_sample: u8 = if format == 1 { 2 } else { 4 };
    let mut bytes = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0".to_vec();
    bytes.extend([format, 0, 1, 0]);
    bytes.extend(16_000_u32.to_le_bytes());
    bytes.extend((16_000 * u32::from(bytes_per_sample)).to_le_bytes());
    bytes.extend([bytes_per_sample, 0, 8 * bytes_per_sample, 0]);
    bytes.extend(b"data\xff\xff\xff\xff");
    bytes.extend(samples);
    bytes
}

/// A server that treats its connections, counted from 0, with `serve` after their requests. Its URL.
fn server(serve: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            let mut connection = connection.unwrap();
            let reader = BufReader::new(connection.try_clone().unwrap());
            let _ = reader.lines().map_while(Result::ok).find(String::is_empty);
            serve(number, &mut connection);
        }
    });
    format!("http://{address}/live")
}

/// Sends `body`, which ends with the connection.
fn send(connection: &mut TcpStream, body: &[u8]) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: audio/x-wav\r\nConnection: close\r\n\r\n";
    // The command may be gone.
    let _ = connection.write_all(head).and_then(|()| connection.write_all(body));
}

fn refuse(connection: &mut TcpStream, status: &str) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = connection.write_all(head.as_bytes());
}

#[test]
fn a_connection_that_is_lost_or_stalls_is_opened_again() {
    let url = server(|number, connection| match number {
        0 => send(connection, &stream_of(ONE)),
        1 => refuse(connection, "404 Not Found"),
        2 => {
            send(connection, &stream_of(TWO));
            // Nothing more, until the command closes the connection.
            let _ = connection.read_to_end(&mut Vec::new());
        }
        3 => send(connection, &stream_of(ONE)),
        _ => refuse(connection, "401 Unauthorized"),
    });
    let running = Running::start(&["--reconnect-timeout=1", &url]);
    running.wait_for("ended. Connecting again in 0.");
    running.wait_for("Not Found");
    running.wait_for("sent no audio for 1 s");
    let output = running.finish();
    assert_eq!(
        from_utf8(&output.stdout).unwrap(),
        [line(ONE), line(TWO), line(ONE)].concat()
    );
    let errors = from_utf8(&output.stderr).unwrap();
    assert!(errors.lines().last().unwrap().contains("Unauthorized"), "{errors}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn samples_that_are_not_numbers_are_reported_once() {
    let url = server(|number, connection| match number {
        0 | 1 => send(connection, &floats_of(ONE)),
        _ => refuse(connection, "401 Unauthorized"),
    });
    let output = live(&[&url]).output().unwrap();
    assert_eq!(from_utf8(&output.stdout).unwrap(), line(ONE).repeat(2));
    let errors = from_utf8(&output.stderr).unwrap();
    let notice = format!("some samples of {url} are not numbers, or far too large; they are taken for silence");
    assert_eq!(errors.matches(&notice).count(), 1, "{errors}");
}

#[test]
fn an_address_that_is_wrong_is_not_tried_again() {
    for (status, reason) in [("404 Not Found", "Not Found"), ("403 Forbidden", "Forbidden")] {
        let url = server(move |_, connection| refuse(connection, status));
        let output = live(&[&url]).output().unwrap();
        assert!(complaint(&output).contains(reason), "{}", complaint(&output));
    }
}

#[test]
fn a_connection_is_opened_once_if_so_requested() {
    let url = server(|_, connection| send(connection, &stream_of(ONE)));
    let output = live(&["--no-reconnect", &url]).output().unwrap();
    assert_eq!(from_utf8(&output.stdout).unwrap(), line(ONE));
    assert!(complaint(&output).ends_with("ended"), "{}", complaint(&output));
}

#[test]
fn a_server_that_is_not_up_yet_is_waited_for() {
    // Nothing listens at this port.
    let running = Running::start(&["http://127.0.0.1:1/live"]);
    running.wait_for("Connecting again in");
    running.signal("-INT");
    let output = running.finish();
    assert!(output.status.success(), "{output:?}");
}
