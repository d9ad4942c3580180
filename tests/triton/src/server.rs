// SPDX-License-Identifier: MIT OR Apache-2.0

//! A `tritonserver` process on free ports of the loopback interface.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::{Counts, Endpoint, variable};

/// How long anything may take: against tests that hang, on the slowest machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A server; killed when it is dropped.
pub struct Server {
    repository: PathBuf,
    arguments: Vec<String>,
    ports: Ports,
    log: TempDir,
    child: Child,
}

#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    grpc: u16,
    metrics: u16,
}

impl Server {
    /// Starts a server for the models in `repository`, with further arguments of `tritonserver`, and waits until it is
    /// ready.
    pub fn start(repository: &Path, arguments: &[&str]) -> Self {
        let server = Self::start_without_waiting(repository, arguments);
        server.wait_until_ready();
        server
    }

    /// As [`start`](Self::start), without waiting, for servers that cannot become ready.
    pub fn start_without_waiting(repository: &Path, arguments: &[&str]) -> Self {
        let log = tempfile::tempdir().expect("a temporary directory can be made");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let ports = Ports::free();
        let child = spawn(repository, &arguments, ports, log.path());
        Self {
            repository: repository.into(),
            arguments,
            ports,
            log,
            child,
        }
    }

    /// Address of gRPC: `127.0.0.1:port`.
    pub fn grpc(&self) -> String {
        format!("127.0.0.1:{}", self.ports.grpc)
    }

    /// Its addresses for HTTP.
    pub fn endpoint(&self) -> Endpoint {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        Endpoint {
            http: url(self.ports.http),
            metrics: url(self.ports.metrics),
        }
    }

    /// Waits until it serves all its models.
    pub fn wait_until_ready(&self) {
        let endpoint = self.endpoint();
        self.wait("is not ready", || endpoint.is_ready());
    }

    /// See [`Endpoint::counts`].
    pub fn counts(&self, model: &str) -> Counts {
        self.endpoint().counts(model)
    }

    /// Its process and those of its backends.
    pub fn processes(&self) -> Vec<u32> {
        let group = self.child.id();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.filter(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // After the name, which may contain spaces: the state, the parent and the group.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            fields.split_whitespace().nth(2) == Some(&group.to_string())
        })
        .collect()
    }

    /// Kills it at once, with the processes of its backends, as when a machine fails.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Asks it to end; it serves requests until its exit timeout. Returns at once.
    pub fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    }

    /// Stops it: connections stay, and nobody answers. As a partition or an overloaded machine.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again on the same ports after [`kill`](Self::kill) or [`terminate`](Self::terminate), and waits until it is
    /// ready.
    pub fn restart(&mut self) {
        self.wait_for_end();
        self.child = spawn(&self.repository, &self.arguments, self.ports, self.log.path());
        self.wait_until_ready();
    }

    /// Whether it has ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until it has ended.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let end = Instant::now() + TIMEOUT;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                _ if Instant::now() > end => panic!("the server does not end\n{}", self.log()),
                _ => sleep(Duration::from_millis(20)),
            }
        }
    }

    /// All that it printed, since the first start.
    pub fn log(&self) -> String {
        let text = fs::read(self.log.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn wait(&self, what: &str, is_done: impl Fn() -> bool) {
        let end = Instant::now() + TIMEOUT;
        while !is_done() {
            let state = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
            let has_ended = state.is_empty() || state.contains(") Z ");
            assert!(!has_ended && Instant::now() < end, "the server {what}:\n{}", self.log());
            sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, signal: Signal) {
        // The group of `spawn`. It may have ended.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // A backend that is killed leaves its shared memory, of some MB, until the machine starts again.
        let prefix = shared_memory(self.ports);
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// What the names of a server's regions of shared memory begin with.
fn shared_memory(ports: Ports) -> String {
    format!("nemostt_test_{}_{}_", std::process::id(), ports.grpc)
}

impl Ports {
    /// Ports that were free a moment ago.
    fn free() -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("there are free ports"));
        let [http, grpc, metrics] = listeners.map(|listener| listener.local_addr().expect("it is bound").port());
        Self { http, grpc, metrics }
    }
}

fn spawn(repository: &Path, arguments: &[String], ports: Ports, log: &Path) -> Child {
    let root = variable("TRITON_ROOT");
    let log = File::options().create(true).append(true).open(log.join("log"));
    let log = log.expect("the log can be written");
    let mut command = Command::new(root.join("bin/tritonserver"));
    for (service, port) in [("http", ports.http), ("grpc", ports.grpc), ("metrics", ports.metrics)] {
        // All interfaces by default.
        command.arg(format!("--{service}-address=127.0.0.1"));
        command.arg(format!("--{service}-port={port}"));
    }
    command
        .arg(format!("--model-repository={}", repository.display()))
        .arg(format!("--backend-directory={}", root.join("backends").display()))
        // Pinned memory needs a GPU's driver.
        .arg("--pinned-memory-pool-byte-size=0")
        .arg("--exit-timeout-secs=2")
        .arg(format!(
            "--backend-config=python,shm-region-prefix-name={}",
            shared_memory(ports)
        ))
        // Default: each two seconds.
        .arg("--metrics-interval-ms=100")
        .args(arguments)
        .env("PYTHONPATH", variable("TRITON_PYTHONPATH"))
        .env("LD_LIBRARY_PATH", variable("TRITON_LIBRARY_PATH"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("files can be duplicated"))
        .stderr(log)
        // With the processes of its backends.
        .process_group(0);
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
}
