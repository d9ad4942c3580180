// SPDX-License-Identifier: MIT OR Apache-2.0

//! Loaded models, shared by all elements of the process.
//!
//! While an element holds a model, requests for the same path and options share it. Concurrent requests load it once;
//! if the one that is loading is cancelled, one that waits for it takes over.

use std::{
    sync::{Arc, Condvar, LazyLock, Mutex},
    time::Duration,
};

use nemostt::sync::lock;
use nemostt::{Error, Options, Recognizer, WeakRecognizer};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// A directory or a graph in it, and the property or environment variable that named it.
    Path(String, &'static str),
    /// The model that is compiled in.
    #[cfg(feature = "embedded-model")]
    Embedded,
}

/// Everything that determines what is loaded and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) source: Source,
    pub(super) options: Options,
}

struct Entry {
    request: Request,
    model: Arc<Shared>,
}

/// The model of one request.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when a load ends.
    loaded: Condvar,
}

#[derive(Default)]
struct State {
    is_loading: bool,
    model: Option<WeakRecognizer>,
}

/// How often a request that waits for another one's load checks whether it was cancelled.
const TICK: Duration = Duration::from_millis(10);

static ENTRIES: LazyLock<Mutex<Vec<Entry>>> = LazyLock::new(Mutex::default);

/// Returns the model for `request`, and loads it unless it is already loaded.
///
/// # Errors
/// Those of the load; [`Error::Cancelled`] if `request` is cancelled while it loads or waits.
pub(super) fn get(request: &Request) -> Result<Recognizer, Error> {
    let shared = entry_of(request);
    let mut state = lock(&shared.state);
    while state.is_loading {
        request.options.cancellation.check()?;
        let waited = shared.loaded.wait_timeout(state, TICK);
        state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
    }
    if let Some(recognizer) = state.model.as_ref().and_then(WeakRecognizer::upgrade) {
        return Ok(recognizer);
    }
    state.is_loading = true;
    drop(state);
    let turn = LoadTurn(&shared);
    let recognizer = match &request.source {
        Source::Path(path, _) => Recognizer::load(path, &request.options)?,
        #[cfg(feature = "embedded-model")]
        Source::Embedded => Recognizer::embedded(&request.options)?,
    };
    lock(&shared.state).model = Some(recognizer.downgrade());
    drop(turn);
    Ok(recognizer)
}

/// Marks a model as loading; when dropped, even by a panic, another load may begin.
struct LoadTurn<'a>(&'a Shared);

impl Drop for LoadTurn<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).is_loading = false;
        self.0.loaded.notify_all();
    }
}

fn entry_of(request: &Request) -> Arc<Shared> {
    let mut entries = lock(&ENTRIES);
    // Drop entries whose model is neither in use nor being loaded.
    entries.retain(|entry| {
        let in_use = Arc::strong_count(&entry.model) > 1;
        in_use
            || lock(&entry.model.state)
                .model
                .as_ref()
                .is_some_and(|model| model.upgrade().is_some())
    });
    if let Some(entry) = entries.iter().find(|entry| entry.request == *request) {
        return entry.model.clone();
    }
    let model = Arc::<Shared>::default();
    entries.push(Entry {
        request: request.clone(),
        model: model.clone(),
    });
    model
}

#[cfg(all(test, feature = "embedded-model"))]
mod tests {
    use super::*;

    fn request(lookahead: u32) -> Request {
        Request {
            source: Source::Embedded,
            options: Options {
                lookahead: Some(lookahead),
                threads: 1,
                ..Default::default()
            },
        }
    }

    #[test]
    fn model_is_shared_and_freed_after_its_last_use() {
        let all: Vec<Recognizer> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| get(&request(80)).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|recognizer| recognizer.is_same(&all[0])));
        assert!(!get(&request(480)).unwrap().is_same(&all[0]));

        let weak = all[0].downgrade();
        drop(all);
        assert!(weak.upgrade().is_none(), "an unused model is freed");
    }

    #[test]
    fn waiting_request_takes_over_a_cancelled_load() {
        let [loading, waiting, wanted] = [(); 3].map(|()| request(0));
        std::thread::scope(|scope| {
            let all = [&loading, &waiting, &wanted].map(|request| {
                std::thread::sleep(TICK);
                scope.spawn(|| get(request))
            });
            waiting.options.cancellation.cancel();
            loading.options.cancellation.cancel();
            let [first, second, third] = all.map(|thread| thread.join().unwrap());
            for ended in [first, second] {
                // The load may finish before it is cancelled.
                assert!(matches!(ended, Ok(_) | Err(Error::Cancelled)), "{ended:?}");
            }
            assert!(third.is_ok(), "{third:?}");
        });
        let cancelled = request(1040);
        cancelled.options.cancellation.cancel();
        assert!(matches!(get(&cancelled), Err(Error::Cancelled)));
    }
}
