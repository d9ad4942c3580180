// SPDX-License-Identifier: MIT OR Apache-2.0

//! This test program again, as a process that may die: it runs one of the tests that are ignored otherwise, under a limit
//! of memory, and says what it is doing.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// What the child's lines begin with; the test harness writes others.
pub const MARK: &str = "corpus: ";
/// Variable that tells the child what to do.
pub const TASK: &str = "NEMOSTT_TEST_TASK";

/// No load and no second of audio takes a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Runs the ignored test `name` in no more than `kilobytes` of addresses.
    pub fn start(name: &str, task: &str, kilobytes: u64) -> Self {
        // AddressSanitizer reserves more addresses than any limit here, and has one of its own (`hard_rss_limit_mb`).
        let limit = match std::env::var_os("ASAN_OPTIONS") {
            Some(_) => "unlimited".into(),
            None => kilobytes.to_string(),
        };
        // The shell sets the limit for itself and becomes the program.
        let script = format!("ulimit -c 0; ulimit -v {limit} && exec \"$0\" \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(TASK, task)
            // One arena is enough; each thread's own would reserve 64 MB of addresses.
            .env("MALLOC_ARENA_MAX", "1")
            .stdout(Stdio::piped())
            .stderr(if std::env::var_os("NEMOSTT_TEST_LOUD").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The harness writes the test's name without an end of line.
                if let Some((_, line)) = line.split_once(MARK)
                    && sender.send(line.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Its next line. `Err`: how it ended without one.
    pub fn line(&mut self) -> Result<String, String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Disconnected) => Err(self.child.wait().unwrap().to_string()),
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                Err("it hangs".into())
            }
        }
    }
}
