// SPDX-License-Identifier: MIT OR Apache-2.0

//! The examples in Python, with receivers of what they send. They are those of the repository, and run as users run them.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    env, fs,
    io::Read,
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nemostt_interop::{Cea708, Run, transcript, words};

/// The clip takes 25 s.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Extracts the captions of H.264.
const CAPTIONS: &str = "video/x-h264 ! queue ! h264parse ! ccextractor name=cc ! fakesink sync=false async=false \
                        cc.caption ! appsink name=out sync=false async=false";

/// A process that is killed with the test.
struct Process {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Process {
    /// Takes a process whose output is read as it comes: a full pipe would stop it.
    fn new(mut child: Child) -> Self {
        fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
            thread::spawn(move || {
                let mut text = Vec::new();
                let _ = pipe.read_to_end(&mut text);
                text
            })
        }
        Self {
            stdout: child.stdout.take().map(read),
            stderr: child.stderr.take().map(read),
            child,
        }
    }

    fn wait(mut self) -> Output {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < TIMEOUT, "it has not ended");
            thread::sleep(Duration::from_millis(50));
        };
        let text = |reader: Option<JoinHandle<Vec<u8>>>| reader.map_or(Vec::new(), |reader| reader.join().unwrap());
        Output {
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            status,
        }
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_process_that_prints_more_than_a_pipe_holds_ends() {
    let child = Command::new("/usr/bin/python3")
        .args(["-c", "import sys; sys.stderr.write('x' * 1_000_000); print('end')"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = Process::new(child.unwrap()).wait();
    assert_eq!((output.stdout, output.stderr.len()), (b"end\n".to_vec(), 1_000_000));
}

/// Starts an example with its test source. It has the plugins that were built for these tests.
fn example(name: &str, arguments: &[&str]) -> Process {
    python(&format!("../../examples/{name}"), &[&["--test"], arguments].concat())
}

/// Starts a program in Python.
fn python(path: &str, arguments: &[&str]) -> Process {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let plugins = [env::var("GST_PLUGIN_PATH"), env::var("HLS_PLUGIN_PATH")].map(Result::unwrap);
    let child = Command::new("/usr/bin/python3")
        .arg(path)
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
    Process::new(child.unwrap())
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
        thread::sleep(Duration::from_millis(50));
    }
    let shown = decoder.lock().unwrap().cea608.shown.words();
    assert_shown(&output, &shown);
}

/// Whether a socket of TCP listens at `port` of this machine.
fn is_listening(port: u16) -> bool {
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    // Columns: number, local address, remote address, state (proc_net_tcp.txt of Linux); 0A is LISTEN.
    sockets.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.len() > 3 && columns[1].ends_with(&format!(":{port:04X}")) && columns[3] == "0A"
    })
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
    let mut server = Process::new(server.expect("no ffmpeg: run tools/interop.sh"));
    // It accepts one connection, so another one that only tries would end it: what the system lists is read.
    let begun = Instant::now();
    while !is_listening(port) {
        assert!(begun.elapsed() < TIMEOUT && server.is_running(), "FFmpeg does not listen");
        thread::sleep(Duration::from_millis(50));
    }
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

#[test]
fn captions_reach_a_peer_of_webrtc() {
    const SIGNALLING: &str = "127.0.0.1:8443";
    let sender = example("webrtc_captions.py", &[]);
    let begun = Instant::now();
    while TcpStream::connect(SIGNALLING).is_err() {
        assert!(begun.elapsed() < TIMEOUT, "there is no signalling server");
        thread::sleep(Duration::from_millis(50));
    }
    // webrtcsrc finds only a sender that is registered, which follows.
    thread::sleep(Duration::from_secs(4));
    let peer = python("webrtc_peer.py", &[&format!("ws://{SIGNALLING}")]);
    let output = sender.wait();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It may have ended with the stream.
    let _ = Command::new("kill").args(["-INT", &peer.child.id().to_string()]).status();
    let received = peer.wait();
    let errors = String::from_utf8_lossy(&received.stderr);
    let sent = String::from_utf8_lossy(&output.stdout);
    let received = String::from_utf8_lossy(&received.stdout);
    let (captions, counts) = received
        .trim_end()
        .rsplit_once('\n')
        .unwrap_or_else(|| panic!("{errors}"));
    // Some of the first ones were said before the connection was made, which can take ten seconds.
    assert!(sent.trim_end().ends_with(captions), "{sent}: {captions}");
    assert!(words(captions).len() >= 8, "{captions}: {errors}");
    let counts: serde_json::Value = serde_json::from_str(counts).unwrap();
    for kind in ["video", "audio"] {
        assert!(counts[kind].as_u64() > Some(100), "{counts}");
    }
}
