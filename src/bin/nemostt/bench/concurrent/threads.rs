// SPDX-License-Identifier: MIT OR Apache-2.0

//! A thread per stream, all from the same instant on.

use std::{
    panic,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Builder},
    time::{Duration, Instant},
};

use crate::{
    Result,
    bench::{
        memory,
        process::{self, CpuTime},
    },
};

/// With the demo model, 64 kB are enough for our kernels, and 128 kB for those of ONNX Runtime, which has buffers on the
/// stack. More is only address space until it is used.
const STACK: usize = 512 << 10;
/// How often to look whether all streams are done.
const POLL: Duration = Duration::from_millis(5);

/// The process when all streams are done, with their threads.
pub struct AtEnd {
    pub cpu: Option<CpuTime>,
    pub threads: Option<usize>,
    /// Resident memory in bytes.
    pub resident: Option<u64>,
}

/// Runs `feed` for each of `streams` on a thread of its own, with its index and the instant at which all of them began.
/// `observe` runs meanwhile on this thread.
///
/// Returns the results in the order of the streams.
pub fn feed_all<S: Send, T: Send, O>(
    streams: &mut [S],
    feed: impl Fn(&mut S, usize, Instant) -> nemostt::Result<T> + Sync,
    observe: impl FnOnce(Instant) -> O,
) -> Result<(Vec<T>, O, AtEnd)> {
    let running = AtomicUsize::new(streams.len());
    // Threads wait until they can read these. The first one then has the instant, or nothing if a thread could not be
    // started; the second one keeps them until they are counted.
    let (begin, exit) = (RwLock::new(None), RwLock::new(()));
    let thread = |stream: &mut S, index| {
        let begin = (*begin.read().unwrap_or_else(PoisonError::into_inner))?;
        let running = Running(&running);
        let result = feed(stream, index, begin);
        drop(running);
        drop(exit.read());
        Some(result)
    };
    let thread = &thread;
    thread::scope(|scope| {
        let mut begin = begin.write().unwrap_or_else(PoisonError::into_inner);
        let exit = exit.write();
        let mut threads = Vec::new();
        for (index, stream) in streams.iter_mut().enumerate() {
            let builder = Builder::new().name(format!("stream {index}")).stack_size(STACK);
            let started = builder.spawn_scoped(scope, move || thread(stream, index));
            threads.push(started.map_err(|error| {
                format!(
                    "cannot start the thread of stream {}: {error}; measure fewer streams",
                    index + 1
                )
            })?);
        }
        let now = Instant::now();
        *begin = Some(now);
        drop(begin);

        let observed = observe(now);
        while running.load(Ordering::Acquire) > 0 {
            thread::sleep(POLL);
        }
        let at_end = AtEnd {
            cpu: CpuTime::now(),
            threads: process::threads(),
            resident: memory::resident(),
        };
        drop(exit);
        let results = threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload)));
        let results: nemostt::Result<Vec<T>> = results.collect();
        Ok((results?, observed, at_end))
    })
}

/// A thread that is counted until it is done, even if it panics.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_begin_together_and_are_counted_at_the_end() {
        let mut streams = vec![1, 2, 3];
        let feed = |stream: &mut usize, index: usize, begin: Instant| {
            *stream *= 10;
            Ok((index, begin))
        };
        let (results, observed, at_end) = feed_all(&mut streams, feed, |begin| begin).unwrap();
        assert_eq!(streams, [10, 20, 30]);
        assert_eq!(results, [(0, observed), (1, observed), (2, observed)]);
        assert!(at_end.threads.is_none_or(|threads| threads >= 4));
    }

    #[test]
    fn an_error_is_that_of_the_whole() {
        let feed = |stream: &mut usize, _: usize, _: Instant| match stream {
            2 => Err(nemostt::Error::Finished),
            other => Ok(*other),
        };
        let result = feed_all(&mut [1, 2, 3], feed, |_| ());
        let expected = nemostt::Error::Finished.to_string();
        assert_eq!(result.err().map(|error| error.to_string()), Some(expected));
    }
}
