// SPDX-License-Identifier: MIT OR Apache-2.0

//! The examples in Python, with receivers of what they send. They are those of the repository, and run as users run them.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    env, fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nemostt_interop::{Cea708, Run, transcript, words};

/// The clip takes 25 s.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Extracts the captions of H.264.
const CAPTIONS: &str = "video/x-h264 ! queue ! h264parse ! ccextractor name=cc ! fakesink sync=false async=false \
                        cc.caption ! appsink name=out sync=false async=false";

/// A process that is killed with the test.
struct Process(Child);

impl Process {
    fn wait(mut self) -> Output {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < TIMEOUT, "it has not ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Both pipes are short: one line for each caption.
        let read = |pipe: Option<&mut dyn std::io::Read>| {
            let mut text = Vec::new();
            let _ = pipe.map(|pipe| pipe.read_to_end(&mut text));
            text
        };
        Output {
            stdout: read(self.0.stdout.as_mut().map(|pipe| pipe as _)),
            stderr: read(self.0.stderr.as_mut().map(|pipe| pipe as _)),
            status: self.0.wait().unwrap(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an example with its test source. It has the plugins that were built for these tests.
fn example(name: &str, arguments: &[&str]) -> Process {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name);
    let plugins = [env::var("GST_PLUGIN_PATH"), env::var("HLS_PLUGIN_PATH")].map(Result::unwrap);
    let child = Command::new("/usr/bin/python3")
        .arg(path)
        .arg("--test")
        .args(arguments)
        .env("GST_PLUGIN_PATH", plugins.join(":"))
        // The test's own has other plugins.
        .env(
            "GST_REGISTRY",
            format!("{}.examples", env::var("GST_REGISTRY").unwrap()),
        )
        .env_remove("NEMOSTT_MODEL")
        // rtmp2sink of GStreamer 1.22 has a critical warning about FFmpeg's answers.
        .env_remove("G_DEBUG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Process(child.unwrap())
}

/// Decodes the captions that reach the appsink of [`CAPTIONS`].
fn decode(run: &Run) -> Arc<Mutex<Cea708>> {
    let decoder = Arc::new(Mutex::new(Cea708::default()));
    let sink = decoder.clone();
    run.each_sample("out", move |sample| {
        let buffer = sample.buffer().unwrap();
        sink.lock().unwrap().push(&buffer.map_readable().unwrap());
    });
    decoder
}

/// Checks that an example has ended well, and that its captions were `shown` elsewhere.
fn assert_shown(output: &Output, shown: &[String]) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8_lossy(&output.stdout);
    // It prints the line that it has rolled up again.
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.dedup();
    assert_eq!(words(&lines.join(" ")), shown);
    assert_eq!(shown, transcript());
}

/// The words of the captions in a file.
fn words_of(path: &Path) -> Vec<String> {
    let run = Run::new(&format!(
        "filesrc location=\"{}\" ! tsdemux ! {CAPTIONS}",
        path.display()
    ));
    let decoder = decode(&run);
    run.play();
    run.wait(TIMEOUT);
    let shown = decoder.lock().unwrap().cea608.shown.words();
    shown
}

#[test]
fn cea608_reaches_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("captions.ts");
    let output = example("cea608_stream.py", &[path.to_str().unwrap()]).wait();
    assert_shown(&output, &words_of(&path));
}

#[test]
fn cea608_reaches_a_receiver_of_srt() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = Run::new(&format!(
        "srtsrc uri=srt://127.0.0.1:{port}?mode=listener ! tsdemux ! {CAPTIONS}"
    ));
    let decoder = decode(&run);
    run.play();
    let output = example("cea608_stream.py", &[&format!("srt://127.0.0.1:{port}")]).wait();
    let has_all = || decoder.lock().unwrap().cea608.shown.words().len() >= transcript().len();
    let begun = Instant::now();
    while !has_all() && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let shown = decoder.lock().unwrap().cea608.shown.words();
    assert_shown(&output, &shown);
}

/// With FFmpeg as the server.
#[test]
fn cea608_reaches_a_server_of_rtmp() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (url, directory) = (
        format!("rtmp://127.0.0.1:{port}/live/key"),
        tempfile::tempdir().unwrap(),
    );
    let path = directory.path().join("received.ts");
    let server = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-listen", "1", "-i", &url, "-c", "copy"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let server = Process(server.expect("no ffmpeg: run tools/interop.sh"));
    // It says nothing when it listens.
    std::thread::sleep(Duration::from_secs(2));
    let output = example("cea608_stream.py", &[&url]).wait();
    // The end of a live stream is the end of its connection, which FFmpeg calls an error.
    let received = server.wait();
    let errors = String::from_utf8_lossy(&received.stderr);
    assert!(fs::metadata(&path).is_ok(), "{errors} {output:?}");
    assert_shown(&output, &words_of(&path));
}

#[test]
fn transcriberbin_captions_a_window() {
    let output = example("transcriberbin_window.py", &[]).wait();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8_lossy(&output.stdout);
    // The built-in model takes a coat for a hat with another lookahead.
    let (said, expected) = (words(&printed), transcript());
    let differing = said.iter().zip(&expected).filter(|(one, other)| one != other).count();
    assert!(differing <= 1 && said.len() == expected.len(), "{said:?}");
}
