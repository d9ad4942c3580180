// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt fetch` with a hub on loopback whose responses are the fuzzer's input.
//!
//! The parts of the input are separated by lines of four dashes. The first part contains the arguments of `fetch`. Each
//! of the others is the response to one request (head, empty line, body), in order, regardless of which server gets the
//! request. `@HUB@` and `@STORAGE@` stand for the addresses of the servers, `@LENGTH@`, `@SHA256@` and `@GIT@` for
//! length and checksums of the last body.

#![no_main]
#![allow(dead_code, unused_imports)] // the subcommand `models` is not used here

#[path = "../../src/bin/nemostt/hub/mod.rs"]
mod hub;

use std::{
    collections::VecDeque,
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
};

use clap::Parser;
use libfuzzer_sys::fuzz_target;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The module `hub` expects this type in the crate root.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    fetch: hub::Fetch,
}

const SECRET: &str = "hf_secret";
/// Responses that have not been sent yet.
static ANSWERS: Mutex<VecDeque<Vec<u8>>> = Mutex::new(VecDeque::new());
static ADDRESSES: OnceLock<[String; 2]> = OnceLock::new();

fuzz_target!(init: start(), |input: &[u8]| {
    let root = tempfile::tempdir().expect("a directory for temporary files");
    // If a name with `..` escapes, its file appears in one of these directories.
    let home = root.path().join("1/2/3/4");
    let directory = home.join("directory");
    fs::create_dir_all(&directory).expect("enough disk space");
    // SAFETY: the threads of the hub do not read environment variables.
    unsafe { env::set_var("HF_HOME", home.join("home")) };

    let mut parts = split(input, b"\n----\n").into_iter();
    let Some(arguments) = parts.next().and_then(|part| arguments(part, &directory)) else {
        return;
    };
    *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) = answers(parts.collect());
    if let Err(error) = arguments.fetch.run() {
        assert!(!error.to_string().is_empty());
    }
    for (path, names) in [("", &["1"][..]), ("1", &["2"]), ("1/2", &["3"]), ("1/2/3", &["4"]), ("1/2/3/4", &["directory", "home"])] {
        for entry in fs::read_dir(root.path().join(path)).expect("the directory exists").flatten() {
            assert!(names.iter().any(|name| entry.file_name() == *name), "{}", entry.path().display());
        }
    }
    are_right(&home.join("home"));
});

/// Starts the hub and its storage server, and sets the environment variables with their addresses.
fn start() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port on loopback"));
    let addresses =
        [0, 1].map(|index: usize| format!("http://{}", listeners[index].local_addr().expect("the listener is bound")));
    // SAFETY: there are no other threads yet.
    unsafe {
        env::set_var("HF_ENDPOINT", &addresses[0]);
        env::set_var("HF_TOKEN", SECRET);
        env::set_var("HF_HUB_DOWNLOAD_TIMEOUT", "1");
        env::set_var("NO_PROXY", "*");
        // Connections are not encrypted, and reading the system's certificates would dominate the run time.
        env::set_var("SSL_CERT_FILE", "/dev/null");
        for name in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "SSL_CERT_DIR",
        ] {
            env::remove_var(name);
        }
    }
    ADDRESSES.set(addresses).expect("`start` is called once");
    for (listener, is_storage) in listeners.into_iter().zip([false, true]) {
        thread::spawn(move || {
            listener
                .incoming()
                .flatten()
                .for_each(|stream| drop(answer(stream, is_storage)))
        });
    }
}

fn answer(mut stream: TcpStream, is_storage: bool) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut block = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut block)? {
            0 => return Ok(()),
            read => head.extend_from_slice(&block[..read]),
        }
    }
    let tells = head.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    assert!(!(is_storage && tells), "the token was sent to another host");
    let answer = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    stream.write_all(&answer.unwrap_or_else(|| b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n".to_vec()))
}

/// Parses the name of the model, optionally followed by `dir` and by the name of a precision.
fn arguments(part: &[u8], directory: &Path) -> Option<Arguments> {
    let text = std::str::from_utf8(part).ok()?;
    let mut words = text.split_whitespace();
    let mut arguments = vec!["fetch".to_owned()];
    let name = words.next().filter(|name| !name.starts_with('-'))?.to_owned();
    for word in words {
        match word {
            "dir" => arguments.push(format!("--dir={}", directory.display())),
            precision => arguments.push(format!("--precision={precision}")),
        }
    }
    arguments.push(name);
    Arguments::try_parse_from(arguments).ok()
}

/// The responses with their placeholders replaced.
fn answers(parts: Vec<&[u8]>) -> VecDeque<Vec<u8>> {
    let body = |part: &[u8]| split_once(part, b"\n\n").map_or(Vec::new(), |(_, body)| body.to_vec());
    let last = parts.last().map(|part| body(part)).unwrap_or_default();
    let [hub, storage] = ADDRESSES.get().expect("`start` was called");
    let git = Sha1::new()
        .chain_update(format!("blob {}\0", last.len()))
        .chain_update(&last)
        .finalize();
    let filled: [(&str, String); 5] = [
        ("@HUB@", hub.clone()),
        ("@STORAGE@", storage.clone()),
        ("@LENGTH@", last.len().to_string()),
        ("@SHA256@", hex(&Sha256::digest(&last))),
        ("@GIT@", hex(&git)),
    ];
    let fill = |part: &[u8]| {
        let (head, body) = split_once(part, b"\n\n").unwrap_or((part, b""));
        let mut text = String::from_utf8_lossy(head).into_owned();
        for (name, value) in &filled {
            text = text.replace(name, value);
        }
        [text.replace('\n', "\r\n").as_bytes(), b"\r\n\r\n", body].concat()
    };
    parts.into_iter().map(fill).collect()
}

/// Asserts that files named by a git hash have that hash.
fn are_right(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        if path.is_dir() {
            are_right(&path);
        } else if path.parent().is_some_and(|parent| parent.ends_with("blobs"))
            && name.len() == 40
            && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            let bytes = fs::read(&path).expect("the file exists");
            let git = Sha1::new()
                .chain_update(format!("blob {}\0", bytes.len()))
                .chain_update(&bytes)
                .finalize();
            assert_eq!(hex(&git), name);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn split_once<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = bytes.windows(at.len()).position(|part| part == at)?;
    Some((&bytes[..place], &bytes[place + at.len()..]))
}

fn split<'a>(mut bytes: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some((part, rest)) = split_once(bytes, at) {
        parts.push(part);
        bytes = rest;
    }
    parts.push(bytes);
    parts
}
