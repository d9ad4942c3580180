// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a transcription writes to the user's directories, and whether it accesses the network.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::{Place, files_in};

/// Runs in real time: ONNX Runtime 1.31 resolves a host name after nine seconds.
const PIPELINE: [&str; 9] = [
    "-q",
    "audiotestsrc",
    "is-live=true",
    "num-buffers=190",
    "!",
    "nemostt",
    "!",
    "fakesink",
    "sync=false",
];

/// The built-in model is too small to be cached, so the cache stays empty, too.
pub fn nothing_is_left_or_sent(place: &Place) {
    // This includes files written by child processes of other tests.
    let nothing_is_left = || {
        let found = files_in(&place.path().join("home"));
        assert!(found.is_empty(), "{found:?}");
    };
    transcribe(place);
    nothing_is_left();
}

/// Runs the pipeline, and traces its network access if possible.
fn transcribe(place: &Place) {
    let calls = place.path().join("calls");
    let mut command = match (
        can(&["unshare", "-rn", "true"]),
        can(&["strace", "-qq", "-o", "/dev/null", "true"]),
    ) {
        // In its own network namespace, nothing answers.
        (true, true) => place.command("unshare"),
        (false, true) => place.command("strace"),
        (_, false) => {
            println!("strace is missing or not allowed: network access is not traced");
            let output = place.command("gst-launch-1.0").args(PIPELINE).output().unwrap();
            return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    };
    if command.get_program() == "unshare" {
        command.args(["-rn", "strace"]);
    }
    command
        .args(["-f", "-qq", "-e", "trace=%network,openat", "-o"])
        .arg(&calls);
    let output = command.arg("gst-launch-1.0").args(PIPELINE).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = fs::read_to_string(calls).unwrap();
    assert!(calls.contains("libonnxruntime"), "nothing was traced");
    // Resolving a host name reads these files. GStreamer's threads use socket pairs, which are not network access.
    let network = ["AF_INET", "resolv.conf", "nsswitch.conf", "/etc/hosts"];
    let wrong: Vec<&str> = calls
        .lines()
        .filter(|line| network.iter().any(|word| line.contains(word)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let written: Vec<&str> = calls.lines().filter(|line| writes_elsewhere(line, place)).collect();
    assert!(written.is_empty(), "{written:#?}");
}

/// Whether a traced `openat` opened a file for writing, other than the registry, /dev and /proc.
fn writes_elsewhere(line: &str, place: &Place) -> bool {
    // If another thread's call splits a line in two, the second half has the result.
    let opened = line.contains("openat(") && line.contains(" = ") && !line.contains(" = -1 ");
    let writes = ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
    let own = place.path().join("registry.bin");
    let is_own = [own.to_str().unwrap(), "/dev/", "/proc/"]
        .iter()
        .any(|path| line.contains(&format!("\"{path}")));
    opened && writes && (!is_own || line.contains("/dev/shm"))
}

fn can(command: &[&str]) -> bool {
    let tried = Command::new(command[0])
        .args(&command[1..])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}
