// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processes that exit while a model is loading, computing or being flushed: none crashes, none hangs, and nothing is
//! left in the user's directories.
//!
//! Child processes are this program, `gst-launch-1.0` and Python. `NEMOSTT_EXITS=200 cargo test --test exit` tries more
//! of them than the 96 of `make test`. The test has its own `main`, because children return from it.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

mod child;
mod home;

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// A child that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Children that run concurrently: this slows loads down, so that some exit at unusual moments.
const CONCURRENT: usize = 4;
/// Children exit within this time: an unoptimized build loads the model in 200 ms.
const SPREAD_MS: usize = 350;

/// Kind of child, and how it exits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// This program: see [`child`].
    Own(&'static str),
    Launch(Signal),
    Python(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Signal {
    Interrupt = 2,
    Terminate = 15,
}

const KINDS: [Kind; 12] = [
    Kind::Own("return"),
    Kind::Own("return null"),
    Kind::Own("return null deinit"),
    Kind::Own("return flush"),
    Kind::Own("exit"),
    Kind::Own("exit thread"),
    Kind::Own("return library"),
    Kind::Launch(Signal::Interrupt),
    Kind::Launch(Signal::Terminate),
    Kind::Python("pass"),
    Kind::Python("import sys; sys.exit()"),
    Kind::Python("pipeline.set_state(Gst.State.NULL)"),
];

const PYTHON: &str = "
import gi, sys, time
gi.require_version('Gst', '1.0')
from gi.repository import Gst
Gst.init(None)
pipeline = Gst.parse_launch('audiotestsrc ! nemostt ! fakesink')
pipeline.set_state(Gst.State.PLAYING)
time.sleep(int(sys.argv[1]) / 1000)
";

/// The environment of child processes: the plugin, and directories that they may write to.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plugins = directory.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        // Cargo puts the plugin next to this program.
        let plugin = std::env::current_exe().unwrap().with_file_name("libgstnemostt.so");
        assert!(plugin.exists(), "{} is missing", plugin.display());
        std::os::unix::fs::symlink(plugin, plugins.join("libgstnemostt.so")).unwrap();
        let place = Self { directory };
        // Write the registry once, before children read it.
        let found = place.command("gst-inspect-1.0").arg("nemostt").output().unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        place
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A command without the user's environment.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let path = self.path();
        let mut command = Command::new(program);
        for variable in [
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_STATE_HOME",
            "TMPDIR",
        ] {
            command.env_remove(variable);
        }
        command
            .env("HOME", path.join("home"))
            .env("GST_REGISTRY", path.join("registry.bin"))
            .env("GST_PLUGIN_PATH", path.join("plugins"))
            .env_remove("NEMOSTT_MODEL")
            .env_remove("GST_TRACERS")
            .stdin(Stdio::null());
        command
    }
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < TIMEOUT {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// Runs a child that exits after `ms` milliseconds; returns what went wrong, if anything.
fn failure(place: &Place, kind: Kind, ms: usize) -> Option<String> {
    let errors = place
        .path()
        .join(format!("errors-{kind:?}-{ms}").replace(['/', ' ', '(', ')', '"', ';'], "_"));
    let mut command = match kind {
        Kind::Own(task) => {
            let mut command = place.command(std::env::current_exe().unwrap());
            command.env(child::TASK, task).env(child::DELAY, ms.to_string());
            command
        }
        Kind::Launch(_) => {
            // Shells start background jobs with signals ignored, which children inherit. Before gst-launch has installed its
            // handlers, it would then ignore the signal.
            let mut command = place.command("env");
            command.args(["--default-signal=INT,TERM", "gst-launch-1.0"]);
            command.args(["-q", "audiotestsrc", "!", "nemostt", "!", "fakesink"]);
            command
        }
        Kind::Python(end) => {
            let mut command = place.command("/usr/bin/python3");
            command.args(["-c", &format!("{PYTHON}{end}"), &ms.to_string()]);
            command
        }
    };
    let mut process = command
        .stdout(Stdio::null())
        .stderr(File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    let mut sent = None;
    if let Kind::Launch(signal) = kind {
        std::thread::sleep(Duration::from_millis(ms as u64));
        sent = Some(signal as i32);
        let kill = Command::new("kill")
            .args([format!("-{}", signal as i32), process.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }
    let status = wait(&mut process);
    let stderr = || std::fs::read_to_string(&errors).unwrap_or_default();
    match status {
        None => Some(format!("{kind:?} after {ms} ms hangs: {}", stderr())),
        Some(status) if status.signal().is_some() && status.signal() != sent => {
            Some(format!("{kind:?} after {ms} ms: {status}: {}", stderr()))
        }
        Some(status) if sent.is_none() && status.code() != Some(0) => {
            Some(format!("{kind:?} after {ms} ms: {status}: {}", stderr()))
        }
        Some(_) => None,
    }
}

fn has_python() -> bool {
    let import = "import gi; gi.require_version('Gst', '1.0')";
    let tried = Command::new("/usr/bin/python3").args(["-c", import]).output();
    tried.is_ok_and(|output| output.status.success())
}

fn no_child_crashes(place: &Place) {
    let count = std::env::var("NEMOSTT_EXITS").ok().and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(96);
    let mut kinds = KINDS.to_vec();
    if !has_python() {
        println!("python3 has no gi: its exits are not tested");
        kinds.retain(|kind| !matches!(kind, Kind::Python(_)));
    }
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONCURRENT)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return failures;
                        }
                        let (round, kind) = (number / kinds.len(), kinds[number % kinds.len()]);
                        let rounds = count.div_ceil(kinds.len());
                        // Each kind at different times.
                        let ms = (round * SPREAD_MS + number % kinds.len() * SPREAD_MS / kinds.len()) / rounds;
                        failures.extend(failure(place, kind, ms));
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {count}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// All files below a directory; none if it does not exist.
pub fn files_in(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    let below = |path: PathBuf| match path.is_dir() {
        true => files_in(&path),
        false => vec![path],
    };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}

fn main() {
    if let Ok(task) = std::env::var(child::TASK) {
        return child::run(&task);
    }
    // Support `cargo test NAME` and `cargo test -- --list`.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    type Test = (&'static str, fn(&Place));
    let tests: [Test; 3] = [
        ("exit_during_load_does_not_crash", no_child_crashes),
        ("quick_restarts_leave_no_threads", child::quick_restarts),
        (
            "no_files_are_left_and_no_network_is_used",
            home::nothing_is_left_or_sent,
        ),
    ];
    if std::env::args().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let place = Place::new();
    for (name, test) in tests {
        if filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            test(&place);
            println!("test {name} ... ok");
        }
    }
}
