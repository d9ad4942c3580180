// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file with metrics in Prometheus' text format, which is written again at intervals while the command runs, and at its
//! end. It is replaced as a whole, because the textfile collector of node_exporter may read it at any time.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use clap::{Args, value_parser};
use nemostt::{Recognizer, metrics::prometheus_text, sync::lock};

use crate::{Result, output_file};

/// Where metrics go.
#[derive(Debug, Clone, Args)]
pub struct MetricsArguments {
    /// Write metrics (streams, batch sizes, queue delays, step times) to this file in Prometheus' text format, for example for
    /// the textfile collector of node_exporter, which reads *.prom
    #[arg(long, value_name = "FILE", value_parser = crate::file())]
    metrics_file: Option<PathBuf>,

    /// Seconds between writes of the metrics file
    #[arg(long, value_name = "S", default_value_t = 10, requires = "metrics_file",
          value_parser = value_parser!(u32).range(1..=86_400))]
    metrics_interval: u32,
}

impl MetricsArguments {
    pub fn is_requested(&self) -> bool {
        self.metrics_file.is_some()
    }

    /// Runs `work`, and writes the file meanwhile and afterwards, if one was requested.
    ///
    /// # Errors
    /// That of `work`; else one that names the file, if it cannot be written.
    pub fn during<T>(&self, work: impl FnOnce(&Watched) -> Result<T>) -> Result<T> {
        let watched = Watched::default();
        let Some(path) = &self.metrics_file else {
            return work(&watched);
        };
        let unwritable = |error: io::Error| output_file::unwritable(path, &error);
        output_file::check(path).map_err(unwritable)?;
        let writer = Writer::start(path, Duration::from_secs(self.metrics_interval.into()), watched.clone());
        let writer = writer.map_err(|error| format!("cannot start a thread: {error}"))?;
        let result = work(&watched);
        let written = writer.finish();
        let value = result?;
        written.map_err(unwritable)?;
        Ok(value)
    }
}

/// The models whose metrics are written.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<Vec<Recognizer>>>);

impl Watched {
    /// Adds a model, which is kept in memory: what it has counted must not be lost before the end.
    pub fn add(&self, recognizer: &Recognizer) {
        lock(&self.0).push(recognizer.clone());
    }

    fn text(&self) -> String {
        let engines = lock(&self.0).clone();
        let metrics: Vec<_> = engines.iter().flat_map(Recognizer::all_metrics).collect();
        prometheus_text(&metrics)
    }
}

/// The thread that writes the file.
struct Writer {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Writer {
    fn start(path: &Path, interval: Duration, watched: Watched) -> io::Result<Self> {
        let path = path.to_owned();
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            loop {
                let written = output_file::store(&path, watched.text().as_bytes());
                match stopped.recv_timeout(interval) {
                    // If a disk is full for a while, later writes may succeed.
                    Err(mpsc::RecvTimeoutError::Timeout) => drop(written),
                    _ => return output_file::store(&path, watched.text().as_bytes()),
                }
            }
        };
        let thread = thread::Builder::new().name("nemostt-metrics".into()).spawn(run)?;
        Ok(Self { stop, thread })
    }

    /// Writes the file for the last time.
    fn finish(self) -> io::Result<()> {
        drop(self.stop);
        let joined = self.thread.join();
        joined.unwrap_or_else(|_| Err(io::Error::other("the thread that writes it panicked")))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    #[test]
    fn file_is_written_at_the_start_at_intervals_and_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.prom");
        let start = Instant::now();
        let wait_for_file = || {
            while !path.exists() {
                assert!(start.elapsed() < Duration::from_secs(30), "it is not written");
                thread::yield_now();
            }
            fs::remove_file(&path).unwrap();
        };
        let writer = Writer::start(&path, Duration::from_millis(1), Watched::default()).unwrap();
        (0..3).for_each(|_| wait_for_file());
        writer.finish().unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.contains("nemostt_build_info{version="), "{written}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        // Between the start and the end, if the interval is long.
        let writer = Writer::start(&path, Duration::from_secs(3_600), Watched::default()).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn the_error_of_the_work_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = MetricsArguments {
            metrics_file: Some(directory.path().join("below/x.prom")),
            metrics_interval: 10,
        };
        // It cannot be written, which is found before anything is done.
        let error = arguments
            .during(|_| -> Result<()> { panic!("not to be called") })
            .unwrap_err();
        assert!(
            error.to_string().contains("cannot write") && error.to_string().contains("below/x.prom"),
            "{error}"
        );
        fs::create_dir(directory.path().join("below")).unwrap();
        let error = arguments
            .during(|_| -> Result<()> { Err("failed".into()) })
            .unwrap_err();
        assert_eq!(error.to_string(), "failed");
        // The disk fails after the first write.
        let remove = |_: &Watched| {
            while !directory.path().join("below/x.prom").exists() {
                thread::yield_now();
            }
            Ok(fs::remove_dir_all(directory.path())?)
        };
        fs::remove_file(directory.path().join("below/x.prom")).unwrap();
        let error = arguments.during(remove).unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
    }
}
