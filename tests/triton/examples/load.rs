// SPDX-License-Identifier: MIT OR Apache-2.0

//! Many streams at the pace of real time against a real Triton on this machine: what a step takes, beyond the server's own time, and
//! whether memory stays as it is. Not a part of the tests, because it takes minutes of a machine that is otherwise idle.
//!
//! `tools/triton.sh --install-only` prints the variables that it needs, and `NEMOSTT` names the command:
//!
//! ```sh
//! cargo run --release --example load -- [STREAMS [SECONDS]]      # default: 200 600
//! ```

use std::{
    env, fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nemostt::{Options, Recognizer, RemoteFallback, RemoteOptions};
use nemostt_triton_tests::{Repository, Server};

/// Samples per call, of 20 ms.
const BLOCK: usize = 320;
const PERIOD: Duration = Duration::from_millis(20);
/// Reports per run.
const REPORTS: u32 = 10;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let arguments: Vec<u64> = env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let streams = arguments.first().copied().unwrap_or(200);
    let length = Duration::from_secs(arguments.get(1).copied().unwrap_or(600));
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = root.join("crates/nemostt/assets/demo-model");
    let repository = Repository::new();
    let max_streams = (2 * streams).to_string();
    let arguments = ["--lookahead", "480", "--batch", "64", "--streams", &max_streams];
    let name = repository.add_python_model(&model.to_string_lossy(), &arguments);
    let server = Server::start(repository.path(), &["--metrics-config=summary_latencies=true"]);
    let address = format!("triton://{}/{name}", server.grpc());
    let options = Options {
        lookahead: Some(480),
        remote: Some(RemoteOptions {
            fallback: RemoteFallback::None,
            timeout: Duration::from_secs(10),
            ..RemoteOptions::new(address.parse()?)
        }),
        ..Default::default()
    };
    let recognizer = Recognizer::load(&model, &options)?;
    let reader = hound::WavReader::open(root.join("assets/demo.wav"))?;
    let speech: Vec<i16> = reader.into_samples().collect::<Result<_, _>>()?;
    let changes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (recognizer, speech, changes) = (&recognizer, &speech, &changes);
        let run = move |index: u64| pace(recognizer, speech, index, length, changes);
        let threads: Vec<_> = (0..streams).map(|index| scope.spawn(move || run(index))).collect();
        for report in 1..=REPORTS {
            std::thread::sleep(length / REPORTS);
            let metrics = recognizer.metrics().total();
            println!(
                "{} s: memory {} MB here; a step {:?} on average, 99 % below {:?}",
                (length / REPORTS * report).as_secs(),
                memory(),
                metrics.step_time.mean(),
                metrics.step_time.quantile(0.99),
            );
        }
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a stream panicked".into())))
    })?;
    println!("{} changes of a server", changes.into_inner());
    println!(
        "processor time here: {:?} per stream and second of audio",
        processor_time() / (streams * length.as_secs()) as u32
    );
    let metrics = ureq::get(format!("{}/metrics", server.endpoint().metrics))
        .call()?
        .body_mut()
        .read_to_string()?;
    let own = metrics
        .lines()
        .filter(|line| line.starts_with("nv_inference_request_summary_us{"));
    own.for_each(|line| println!("{line}"));
    Ok(())
}

/// Feeds a stream at the pace of real time.
fn pace(
    recognizer: &Recognizer,
    speech: &[i16],
    index: u64,
    length: Duration,
    changes: &AtomicU64,
) -> Result<(), Error> {
    let mut stream = recognizer.stream()?;
    // Streams are not in step.
    std::thread::sleep(Duration::from_millis(index * 7 % 560));
    let start = Instant::now();
    let blocks = speech.chunks_exact(BLOCK).cycle().skip(index as usize * 13);
    for (number, block) in blocks.enumerate() {
        let due = start + PERIOD * number as u32;
        if due > start + length {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.accept_s16(block.iter().copied())?;
        while stream.next_event().is_some() {}
        while stream.take_remote_change().is_some() {
            changes.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Megabytes of this process in memory.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

/// Time that this process has computed.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may contain spaces; user and system time are fields 14 and 15, in ticks of 10 ms.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
