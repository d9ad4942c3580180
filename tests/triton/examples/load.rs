// SPDX-License-Identifier: MIT OR Apache-2.0

//! Many streams at the pace of real time against a real Triton on this machine: what a request takes beyond the server's own time, what
//! a stream costs here in CPU time and bytes, and whether memory stays as it is. Not a part of the tests, because it takes minutes of a
//! machine that is otherwise idle.
//!
//! `tools/triton.sh --install-only` prints the variables that it needs, and `NEMOSTT` names the command:
//!
//! ```sh
//! cargo run --release --example load -- [STREAMS [SECONDS [quantiles]]]      # default: 200 600
//! ```
//!
//! With `quantiles`, the server prints those of its own times, too. A server that ends is started again, as its supervisor would do.

use std::{
    env, fs,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
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
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |position: usize, default| arguments.get(position).map_or(Ok(default), |text| text.parse());
    let (streams, length) = (number(0, 200)?, Duration::from_secs(number(1, 600)?));
    let quantiles = arguments.get(2).is_some_and(|text| text == "quantiles");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = root.join("crates/nemostt/assets/demo-model");
    let repository = Repository::new();
    let max_streams = (2 * streams).to_string();
    let arguments = ["--lookahead", "480", "--batch", "64", "--streams", &max_streams];
    let name = repository.add_python_model(&model.to_string_lossy(), &arguments);
    let metrics = match quantiles {
        true => &[
            "--metrics-config=summary_latencies=true",
            "--metrics-config=summary_quantiles=0.5:0.01,0.99:0.001",
        ][..],
        false => &[],
    };
    let mut server = Server::start(repository.path(), metrics);
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
    let (changes, times) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let bytes_before = loopback_bytes();
    std::thread::scope(|scope| {
        let (recognizer, speech, changes, times) = (&recognizer, &speech, &changes, &times);
        let run = move |index: u64| pace(recognizer, speech, index, length, (changes, times));
        let threads: Vec<_> = (0..streams).map(|index| scope.spawn(move || run(index))).collect();
        for report in 1..=REPORTS {
            let next = Instant::now() + length / REPORTS;
            while Instant::now() < next {
                sleep(Duration::from_millis(500));
                if server.has_ended() {
                    println!("the server has ended, and is started again");
                    server.restart();
                }
            }
            println!(
                "{} s: {} MB here, {} MB in the server; a request takes {:?} on average",
                (length / REPORTS * report).as_secs(),
                memory(std::process::id()),
                server.processes().into_iter().map(memory).sum::<u64>(),
                recognizer.metrics().total().step_time.mean(),
            );
        }
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a stream panicked".into())))
    })?;
    let seconds = streams * length.as_secs();
    println!("{} changes of state", changes.into_inner());
    println!(
        "per stream and second of audio: {:?} of CPU time here, {} bytes over TCP both ways",
        processor_time() / seconds as u32,
        (loopback_bytes() - bytes_before) / seconds,
    );
    let mut times = times.into_inner().map_err(|_| "a stream panicked")?;
    times.sort_unstable();
    println!("calls with a request, which also compute mel frames and decode, took");
    for share in [50, 99] {
        println!("  {share} %: at most {:?}", times[(times.len() - 1) * share / 100]);
    }
    let counts = server.counts(&name);
    println!("{} requests in {} executions", counts.requests, counts.executions);
    let metrics = ureq::get(format!("{}/metrics", server.endpoint().metrics))
        .call()?
        .body_mut()
        .read_to_string()?;
    // In a minute until now; `_sum` and `_count` are of all requests.
    let own = metrics
        .lines()
        .filter(|line| line.starts_with("nv_inference_request_summary_us"));
    own.for_each(|line| println!("{line}"));
    Ok(())
}

/// Feeds a stream at the pace of real time. Notes how often the stream changed its place, and what calls took in which it sent a
/// request.
fn pace(
    recognizer: &Recognizer,
    speech: &[i16],
    index: u64,
    length: Duration,
    (changes, times): (&AtomicU64, &Mutex<Vec<Duration>>),
) -> Result<(), Error> {
    let (mut own_times, mut steps) = (Vec::new(), 0);
    let mut stream = recognizer.stream()?;
    // Streams are not in step.
    sleep(Duration::from_millis(index * 7 % 560));
    let start = Instant::now();
    let blocks = speech.chunks_exact(BLOCK).cycle().skip(index as usize * 13);
    for (number, block) in blocks.enumerate() {
        let due = start + PERIOD * number as u32;
        if due > start + length {
            break;
        }
        sleep(due.saturating_duration_since(Instant::now()));
        let before = Instant::now();
        stream.accept_s16(block.iter().copied())?;
        let took = before.elapsed();
        if stream.metrics().steps > steps {
            steps = stream.metrics().steps;
            own_times.push(took);
        }
        while stream.next_event().is_some() {}
        while let Some(change) = stream.take_remote_change() {
            println!("{}", change.text);
            changes.fetch_add(1, Ordering::Relaxed);
        }
    }
    times.lock().map_err(|_| "a stream panicked")?.append(&mut own_times);
    Ok(())
}

/// Megabytes of a process in memory.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

/// Bytes that the loopback interface has carried, with the headers of TCP and IP.
fn loopback_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let received = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    received.unwrap_or(0)
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
