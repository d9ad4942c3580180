// SPDX-License-Identifier: MIT OR Apache-2.0

//! Loaded models, shared by all elements of the process.
//!
//! A model that some element still holds is not loaded again for the same path and options; two elements that ask for it
//! at the same time load it once.

use std::sync::{Arc, LazyLock, Mutex};

use crate::{
    error::Error,
    lock::lock,
    model::Options,
    recognizer::{Recognizer, WeakRecognizer},
};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// A directory or a graph in it, and what named it.
    Path(String, &'static str),
    /// The model that is compiled in.
    #[cfg(feature = "embedded-model")]
    Embedded,
}

/// All that decides how a model is loaded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) source: Source,
    pub(super) options: Options,
}

struct Entry {
    request: Request,
    /// Locked while the model is loading.
    model: Arc<Mutex<Option<WeakRecognizer>>>,
}

static ENTRIES: LazyLock<Mutex<Vec<Entry>>> = LazyLock::new(Mutex::default);

/// The model of `request`: one that is loaded, or else it is loaded now.
pub(super) fn get(request: &Request) -> Result<Recognizer, Error> {
    let entry = entry_of(request);
    let mut model = lock(&entry);
    if let Some(recognizer) = model.as_ref().and_then(WeakRecognizer::upgrade) {
        return Ok(recognizer);
    }
    let recognizer = match &request.source {
        Source::Path(path, _) => Recognizer::load(path, &request.options)?,
        #[cfg(feature = "embedded-model")]
        Source::Embedded => Recognizer::embedded(&request.options)?,
    };
    *model = Some(recognizer.downgrade());
    Ok(recognizer)
}

fn entry_of(request: &Request) -> Arc<Mutex<Option<WeakRecognizer>>> {
    let mut entries = lock(&ENTRIES);
    // Models that nobody holds or loads any more are forgotten.
    entries.retain(|entry| {
        let in_use = Arc::strong_count(&entry.model) > 1;
        in_use
            || lock(&entry.model)
                .as_ref()
                .is_some_and(|model| model.upgrade().is_some())
    });
    if let Some(entry) = entries.iter().find(|entry| entry.request == *request) {
        return entry.model.clone();
    }
    let model = Arc::new(Mutex::new(None));
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
    fn a_model_is_loaded_once_while_it_is_held() {
        let all: Vec<Recognizer> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| get(&request(80)).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|recognizer| recognizer.is_same(&all[0])));
        assert!(!get(&request(480)).unwrap().is_same(&all[0]));

        let weak = all[0].downgrade();
        drop(all);
        assert!(weak.upgrade().is_none(), "a model that nobody holds is freed");
    }
}
