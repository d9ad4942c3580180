// SPDX-License-Identifier: MIT OR Apache-2.0

//! On how many threads a graph runs.

use super::processors;

/// Graphs with fewer bytes of weights run on one thread unless a number is asked for: handing their small operations around costs more
/// than it saves. (1.7 M parameters: one thread is 1.35 times as fast as two; 114 M: two are 1.25 to 1.4 times as fast.)
const SMALL_GRAPH: usize = 64 << 20;

/// Threads that a large graph gets at most unless a number is asked for. A step of one stream reads every weight once, so
/// it ends when memory has delivered them; a few cores are enough for that, and each more has to be woken and waited for.
const MAX_THREADS: usize = 8;

/// Threads for a graph with this many bytes of weights; `asked` is what the user wants, or 0.
pub(super) fn threads_for(asked: usize, weights: usize) -> usize {
    choose(asked, weights, processors::allowed_processors(), processors::cores)
}

/// How many threads there can be, if `asked` is more: see [`threads_for`].
pub(super) fn most_threads(asked: usize) -> Option<usize> {
    Some(processors::allowed_processors()).filter(|&allowed| asked > allowed)
}

fn choose(asked: usize, weights: usize, allowed: usize, cores: impl FnOnce() -> usize) -> usize {
    match asked {
        0 if weights < SMALL_GRAPH => 1,
        0 => cores().min(MAX_THREADS),
        // Threads that have to take turns on a processor wait for each other: 8 on one take four times as long as one does. A
        // quota is no reason to take fewer than asked for: until it is spent they run side by side.
        threads => threads.min(allowed),
    }
}

/// For how many microseconds workers wait for another run of a graph with this many bytes of weights, before they sleep.
///
/// A transducer runs once for each label, again and again until the chunk is decoded, and waking a worker takes a good part of
/// such a run: without the wait a chunk of 14 frames takes 0.1 ms longer. An encoder has nothing more to do until there
/// is more audio; a small one waits all the same where it was asked to run on several threads.
pub(super) fn wait_for(weights: usize) -> u32 {
    match weights < SMALL_GRAPH {
        true => 50,
        false => 0,
    }
}

/// Transducers with fewer weights run on one thread: what another one takes over is done before it is awake.
const SMALL_TRANSDUCER: u64 = 4 << 20;

/// Chunks of no more frames are decoded on one thread: scoring them is little work, and they come often.
const SHORT_CHUNK: usize = 8;

/// Threads for a transducer with `weights` weights, which gets chunks of `chunk` frames; `asked` as above.
///
/// Its runs are short, and another thread has to be woken for each. With 114M parameters a chunk of 14 frames is decoded in
/// three quarters of the time on two threads, but on cores that other programs keep busy it takes up to three times as long,
/// as does the encoder. Of the 1120 ms until the next one that is little; of the 160 ms that two frames last, where two
/// threads save nothing, it would be more.
pub(super) fn transducer_threads(asked: usize, weights: u64, chunk: usize) -> usize {
    match weights < SMALL_TRANSDUCER || chunk <= SHORT_CHUNK {
        true => 1,
        false => threads_for(asked, SMALL_GRAPH).min(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_graphs_get_a_thread_for_each_core() {
        assert_eq!(choose(0, SMALL_GRAPH - 1, 16, || 8), 1);
        assert_eq!(choose(0, SMALL_GRAPH, 4, || 2), 2);
        assert_eq!(choose(0, SMALL_GRAPH, 64, || 32), MAX_THREADS);
    }

    #[test]
    fn no_more_threads_than_processors_are_taken() {
        let threads = |asked, allowed| choose(asked, 0, allowed, || unreachable!("a number is asked for"));
        assert_eq!(
            (threads(2, 4), threads(4, 4), threads(8, 4), threads(2, 1)),
            (2, 4, 4, 1)
        );
        let allowed = processors::allowed_processors();
        assert_eq!(
            (threads_for(allowed + 1, 0), threads_for(allowed, 0)),
            (allowed, allowed)
        );
        assert_eq!(
            (most_threads(allowed), most_threads(allowed + 1)),
            (None, Some(allowed))
        );
    }
}
