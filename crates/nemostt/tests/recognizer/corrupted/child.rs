// SPDX-License-Identifier: MIT OR Apache-2.0

//! This test program as a child process that may die: it runs one of the otherwise ignored tests under a memory limit,
//! and reports its progress.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// Prefix of the child's lines; the test harness writes others.
pub const LINE_PREFIX: &str = "corpus: ";
/// Environment variable with the child's task.
pub const TASK: &str = "NEMOSTT_TEST_TASK";

/// A hundred times longer than a load or a second of audio takes.
const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Runs the ignored test `name` in at most `kilobytes` of address space.
    pub fn start(name: &str, task: &str, kilobytes: u64) -> Self {
        // AddressSanitizer reserves more address space than any limit here, and has its own limit
        // (`hard_rss_limit_mb`).
        let limit = match std::env::var_os("ASAN_OPTIONS") {
            Some(_) => "unlimited".into(),
            None => kilobytes.to_string(),
        };
        // The shell sets the limit for itself, and then replaces itself with the program.
        let script = format!("ulimit -c 0; ulimit -v {limit} && exec \"$0\" \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(TASK, task)
            // One arena is enough; one per thread would reserve 64 MB of address space each.
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
                // The harness writes the test's name without a newline.
                if let Some((_, line)) = line.split_once(LINE_PREFIX)
                    && sender.send(line.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The child's next line. `Err`: how the child ended without one.
    pub fn line(&mut self) -> Result<String, String> {
        match self.lines.recv_timeout(TIMEOUT) {
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
