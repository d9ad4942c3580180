// SPDX-License-Identifier: MIT OR Apache-2.0

//! How many threads a graph runs on.

use super::processors;

/// Graphs with fewer bytes of weights run on one thread by default: distributing their small operators costs more than
/// it saves. (1.7 M parameters: one thread is 1.35 times as fast as two; 114 M: two are 1.25 to 1.4 times as fast.)
const SMALL_GRAPH: usize = 64 << 20;

/// Maximum threads of a large graph by default. A step of one stream reads every weight once and is bounded by memory
/// bandwidth; a few cores saturate that, and every further one must be woken and waited for.
const MAX_THREADS: usize = 8;

/// Threads for a graph with this many bytes of weights; `requested` is the option, or 0.
pub(super) fn threads_for(requested: usize, weights: usize) -> usize {
    choose(requested, weights, processors::allowed_processors(), processors::cores)
}

/// The maximum number of threads, if `requested` is larger: see [`threads_for`].
pub(super) fn max_threads(requested: usize) -> Option<usize> {
    Some(processors::allowed_processors()).filter(|&allowed| requested > allowed)
}

fn choose(requested: usize, weights: usize, allowed: usize, cores: impl FnOnce() -> usize) -> usize {
    match requested {
        0 if weights < SMALL_GRAPH => 1,
        0 => cores().min(MAX_THREADS),
        // Threads that share a processor wait for each other: 8 on one take four times as long as one. A quota is no
        // reason to use fewer than requested: until it is used up, they run in parallel.
        threads => threads.min(allowed),
    }
}

/// How many microseconds workers spin after a run of a graph with this many bytes of weights, before they sleep.
///
/// A transducer runs once per token until the chunk is decoded, and waking a worker takes a significant part of such a
/// run: without spinning, a chunk of 14 frames takes 0.1 ms longer. An encoder has nothing to do until there is more
/// audio; a small one spins all the same if several threads were requested.
pub(super) fn wait_for(weights: usize) -> u32 {
    match weights < SMALL_GRAPH {
        true => 50,
        false => 0,
    }
}

/// Transducers with fewer weights run on one thread: a second one would wake up after the work is done.
const SMALL_TRANSDUCER: u64 = 4 << 20;

/// Chunks with at most this many frames are decoded on one thread: scoring them is little work, and they are frequent.
const SHORT_CHUNK: usize = 8;

/// Threads for a transducer with `weights` weights and chunks of `chunk` frames; `requested` as above.
///
/// Its runs are short, and each must wake the second thread. With 114M parameters, two threads decode a chunk of 14
/// frames in three quarters of the time, but on cores that other programs keep busy it takes up to three times as long,
/// as does the encoder. That is little compared to the 1120 ms until the next chunk; of the 160 ms that two frames
/// last, where two threads save nothing, it would be more.
pub(super) fn transducer_threads(requested: usize, weights: u64, chunk: usize) -> usize {
    match weights < SMALL_TRANSDUCER || chunk <= SHORT_CHUNK {
        true => 1,
        false => threads_for(requested, SMALL_GRAPH).min(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_graphs_get_one_thread_per_core() {
        assert_eq!(choose(0, SMALL_GRAPH - 1, 16, || 8), 1);
        assert_eq!(choose(0, SMALL_GRAPH, 4, || 2), 2);
        assert_eq!(choose(0, SMALL_GRAPH, 64, || 32), MAX_THREADS);
    }

    #[test]
    fn threads_are_limited_to_available_processors() {
        let threads = |requested, allowed| choose(requested, 0, allowed, || unreachable!("a number is requested"));
        assert_eq!(
            (threads(2, 4), threads(4, 4), threads(8, 4), threads(2, 1)),
            (2, 4, 4, 1)
        );
        let allowed = processors::allowed_processors();
        assert_eq!(
            (threads_for(allowed + 1, 0), threads_for(allowed, 0)),
            (allowed, allowed)
        );
        assert_eq!((max_threads(allowed), max_threads(allowed + 1)), (None, Some(allowed)));
    }
}
