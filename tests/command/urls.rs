// SPDX-License-Identifier: MIT OR Apache-2.0

//! URLs as inputs.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
};

use crate::support::{
    process::{complaint, written},
    transcribe::{ONE, TWO, clip_path, line, transcribe, transcribe_all, with_model},
};

/// Serves `body` at any address but /missing, once for each connection, until the test ends.
fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            reader.read_line(&mut request).unwrap();
            let (status, body) = match request.contains("/missing") {
                true => ("404 Not Found", &[][..]),
                false => ("200 OK", &body[..]),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            // The command may know enough already.
            let _ = connection
                .write_all(head.as_bytes())
                .and_then(|()| connection.write_all(body));
        }
    });
    format!("http://{address}")
}

#[test]
fn urls_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let site = serve(fs::read(clip_path(ONE)).unwrap());
    let url = PathBuf::from(format!("{site}/talks/my%20talk.wav?session=1"));
    assert_eq!(written(&transcribe(&[], &url)), line(ONE));

    let target = directory.path().join("texts");
    let output = transcribe_all(&["--output-dir", target.to_str().unwrap()], &[&url, &clip_path(TWO)]);
    assert_eq!(written(&output), "");
    assert_eq!(fs::read_to_string(target.join("my talk.txt")).unwrap(), line(ONE));
    let other = PathBuf::from(format!("{site}/my%20talk.mp3"));
    let output = transcribe_all(&["--output-dir", target.to_str().unwrap()], &[&url, &other]);
    assert!(complaint(&output).contains("would both be written to"));

    let missing = PathBuf::from(format!("{}/missing.wav", site.replace("http://", "http://me:secret@")));
    let output = transcribe(&[], &missing);
    let complaint = complaint(&output);
    assert!(
        complaint.contains("/missing.wav") && complaint.contains("Not Found"),
        "{complaint}"
    );
    assert!(!complaint.contains("secret"), "{complaint}");
}

#[test]
fn urls_of_files_and_files_that_look_like_urls_are_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("my talk 100%.wav");
    fs::copy(clip_path(ONE), &path).unwrap();
    let url = format!("file://{}/my%20talk%20100%25.wav", directory.path().display());
    assert_eq!(written(&transcribe(&[], Path::new(&url))), line(ONE));
    // And so is not overwritten.
    let output = transcribe(&["-o", path.to_str().unwrap()], Path::new(&url));
    assert!(complaint(&output).contains("overwrite"));

    fs::create_dir(directory.path().join("http:")).unwrap();
    fs::copy(&path, directory.path().join("http:/talk.wav")).unwrap();
    let output = with_model(&["http://talk.wav"])
        .current_dir(&directory)
        .output()
        .unwrap();
    assert_eq!(written(&output), line(ONE));
}

#[test]
fn urls_without_a_source_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let output = transcribe(&[], Path::new("nonsense://a/b.wav"));
    let nonsense = complaint(&output);
    assert!(
        nonsense.contains("GStreamer has no source for nonsense://"),
        "{nonsense}"
    );
    // As on a machine without any plugins.
    let mut without = with_model(&["https://127.0.0.1:1/a"]);
    without.envs(["GST_PLUGIN_SYSTEM_PATH", "GST_PLUGIN_SYSTEM_PATH_1_0"].map(|name| (name, "/nowhere")));
    without.env("GST_REGISTRY", directory.path().join("registry"));
    let output = without.output().unwrap();
    let lacking = complaint(&output);
    assert!(
        lacking.contains("https://") && lacking.contains("gstreamer1.0-plugins-good"),
        "{lacking}"
    );
}
