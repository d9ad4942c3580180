// SPDX-License-Identifier: MIT OR Apache-2.0

//! A thread that acts on the clock when no data arrives, and on requests from the application.
//!
//! It polls the pipeline's clock rather than waiting on it: a clock may be lost, stopped or replaced at any time, and
//! then a wait on it would never end.

use std::{
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nemostt::sync::lock;

/// Longest interval between ticks; it is shorter when a GAP is due.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// Shortest interval between ticks.
pub(super) const SHORTEST_TICK: Duration = Duration::from_millis(2);
/// If no data follows a segment for this long, the stream is sparse, or a prerolling sink is waiting for it.
const ANNOUNCED: Duration = Duration::from_millis(50);

/// The thread of one element.
#[derive(Default)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    is_playing: bool,
    finish: bool,
    announced: Option<Instant>,
}

/// Why the thread wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// Time passed.
    Tick,
    /// The application asked to finish the current utterance.
    Finish,
    /// [`ANNOUNCED`] has passed since a segment arrived.
    Announced,
}

impl Ticker {
    /// Starts the thread, which calls `wake` each time it wakes up. `wake` returns how long the thread may sleep next, or
    /// `None` to end it.
    pub(super) fn start(&self, mut wake: impl FnMut(Wake) -> Option<Duration> + Send + 'static) -> std::io::Result<()> {
        *lock(&self.shared.state) = State::default();
        let shared = self.shared.clone();
        let run = move || {
            let mut sleep = TICK;
            while let Some(reason) = shared.next(sleep) {
                let Some(next) = wake(reason) else { break };
                sleep = next;
            }
        };
        let thread = std::thread::Builder::new().name("nemostt-clock".into()).spawn(run)?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Turns ticks on or off; time passes only in PLAYING.
    pub(super) fn set_playing(&self, is_playing: bool) {
        lock(&self.shared.state).is_playing = is_playing;
        self.shared.changed.notify_all();
    }

    /// Asks to finish the current utterance, from any thread and without waiting.
    pub(super) fn finish(&self) {
        lock(&self.shared.state).finish = true;
        self.shared.changed.notify_all();
    }

    /// Notes that a segment arrived. If no data follows soon, downstream needs a GAP.
    pub(super) fn announce(&self) {
        lock(&self.shared.state).announced = Some(Instant::now());
        self.shared.changed.notify_all();
    }

    /// Tells the thread to end. It may still be pushing.
    pub(super) fn stop(&self) {
        lock(&self.shared.state).is_stopped = true;
        self.shared.changed.notify_all();
    }

    /// Joins the thread. The pads must be flushing, so that it cannot block in a push.
    pub(super) fn join(&self) {
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Waits for the next reason to wake up, and up to `sleep` for a tick; `None` when stopped.
    fn next(&self, sleep: Duration) -> Option<Wake> {
        let mut state = lock(&self.state);
        let mut is_due = false;
        loop {
            if state.is_stopped {
                return None;
            }
            if std::mem::take(&mut state.finish) {
                return Some(Wake::Finish);
            }
            if state.announced.is_some_and(|since| since.elapsed() >= ANNOUNCED) {
                state.announced = None;
                return Some(Wake::Announced);
            }
            if is_due && state.is_playing {
                return Some(Wake::Tick);
            }
            state = match state.is_playing || state.announced.is_some() {
                true => {
                    let (state, timeout) = self
                        .changed
                        .wait_timeout(state, sleep)
                        .unwrap_or_else(|poisoned| poisoned.into_inner());
                    is_due = timeout.timed_out();
                    state
                }
                false => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(|poisoned| poisoned.into_inner()),
            };
        }
    }
}
