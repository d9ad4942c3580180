// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt live` as its users meet it: a process, with real sockets and files.

mod hls;
mod reconnect;
mod record;
#[cfg(feature = "serve")]
mod serve;
mod terminal;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use crate::{
    common::{clip_s16, model_path},
    support::process::nemostt,
};

/// Far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The subcommand with the demo model, loaded from its directory.
fn live(arguments: &[&str]) -> Command {
    let mut command = nemostt(&["live", "--threads=1"]);
    command.arg("--model").arg(model_path("trained")).args(arguments);
    command
}

/// A running process.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Lines of standard error, as they come.
    errors: Receiver<String>,
}

impl Running {
    /// Starts the subcommand; all streams are pipes.
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(live(arguments))
    }

    fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, errors) = mpsc::channel();
        thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let stdin = child.stdin.take();
        Self { child, stdin, errors }
    }

    /// Says a clip, on standard input. Whether all of it is read depends on the process.
    fn say(&mut self, clip: &str) {
        let bytes: Vec<u8> = clip_s16(clip).into_iter().flat_map(i16::to_le_bytes).collect();
        self.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
    }

    /// Waits for a line of standard error with `text`.
    fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self
                .errors
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end. Standard error of the output is what was not waited for.
    fn finish(mut self) -> Output {
        drop(self.stdin.take());
        let mut output = self.child.wait_with_output().unwrap();
        output.stderr = self
            .errors
            .iter()
            .map(|line| line + "\n")
            .collect::<String>()
            .into_bytes();
        output
    }
}

/// Waits until `condition` holds.
fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 20 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("it took longer than {PATIENCE:?}");
}
