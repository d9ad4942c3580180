// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds the model that the settings ask for and loads it on a thread of its own.
//!
//! Loading a large model takes seconds. It starts when the element goes to PAUSED, and the state change does not wait
//! for it. The streaming thread waits for the model at the first buffer; a flush or stop interrupts the wait. An
//! element keeps its model until it needs a different one or is freed, even in NULL: `transcriberbin` takes its
//! transcriber to PAUSED and back only to query the latency. A load that is unfinished on the way back is cancelled and
//! its thread joined, because the process may be about to exit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use gst::prelude::*;

use super::{
    model_registry::{self, Request, Source},
    settings::{DecodingSettings, MODEL_VARIABLE, Settings},
};
use nemostt::{
    Cancellation, DecodingMethod, Error, Recognizer, features::FrontEndConfig, guard_thread, latency_samples,
    sample_time, sync::lock,
};

/// The largest lookahead in milliseconds that NVIDIA's streaming models are trained with; assumed until the model is
/// loaded.
const LARGEST_LOOKAHEAD: u32 = 1040;
/// Length of these models' encoder frames, in milliseconds.
const FRAME_MS: u32 = 80;
/// What applications and users are told when the demo model is loaded: on real speech it writes nonsense with high confidence.
#[cfg(feature = "embedded-model")]
const DEMO_NOTICE: &str = "this is the built-in demo model: trained on synthetic speech, about 100 words, for demonstration \
     only. For real speech, list models with `nemostt models`, download one with `nemostt fetch NAME`, and set property \
     model-path (or the environment variable NEMOSTT_MODEL) to its directory";
/// Code of the PROGRESS messages, the same as `whispertranscriber`'s.
const PROGRESS: &str = "loading";

/// An element's model, loading or loaded.
pub(super) struct Loader {
    inner: Arc<(Mutex<Inner>, Condvar)>,
    job: Mutex<Option<Job>>,
}

/// A model and how its scores are decoded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) request: Request,
    pub(super) decoding: DecodingSettings,
}

/// What was [wanted](Wanted).
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) recognizer: Recognizer,
    pub(super) method: DecodingMethod,
}

impl Wanted {
    fn load(&self) -> Result<Loaded, Error> {
        let recognizer = model_registry::get(&self.request)?;
        let method = self.decoding.method(&recognizer, &self.request.options.cancellation)?;
        Ok(Loaded { recognizer, method })
    }
}

/// The most recent load, which may have finished.
struct Job {
    cancellation: Cancellation,
    thread: JoinHandle<()>,
}

impl Default for Loader {
    fn default() -> Self {
        // This thread may call `exit` while the model is being loaded.
        guard_thread();
        Self {
            inner: Arc::default(),
            job: Mutex::default(),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.end_job();
    }
}

#[derive(Default)]
struct Inner {
    state: State,
    /// Number of the current load, so that the result of a cancelled one is ignored.
    load: u64,
    /// Waiting for the model is not allowed.
    flushing: bool,
}

#[derive(Default)]
enum State {
    #[default]
    Nothing,
    Loading,
    Ready(Box<Wanted>, Loaded),
    Failed,
}

/// Why no model is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoModel {
    /// The wait was interrupted.
    Flushing,
    /// Loading failed; the error was posted.
    Failed,
}

impl Loader {
    /// Starts to load what is `wanted` for `element`, unless it is already loaded; calls `done` once it is.
    pub(super) fn begin(&self, element: &gst::Element, wanted: Wanted, done: impl FnOnce() + Send + 'static) {
        guard_thread();
        let load = {
            let mut inner = self.lock();
            inner.flushing = false;
            match &inner.state {
                State::Ready(known, _) if **known == wanted => {
                    drop(inner);
                    return done();
                }
                _ => {}
            }
            inner.state = State::Loading;
            inner.load += 1;
            inner.load
        };
        self.end_job();
        post_progress(element, gst::ProgressType::Start, "loading the model");
        let cancellation = wanted.request.options.cancellation.clone();
        let inner = self.inner.clone();
        let weak = element.downgrade();
        let job = move || {
            let loaded = catch_unwind(AssertUnwindSafe(|| wanted.load()));
            finish(&inner, load, &wanted, loaded.ok(), &weak, done);
        };
        let spawned = std::thread::Builder::new().name("nemostt-load".into()).spawn(job);
        match spawned {
            Ok(thread) => *lock(&self.job) = Some(Job { cancellation, thread }),
            Err(error) => {
                // The job was dropped with the thread that could not be spawned, so waiters have to be woken here.
                self.lock().state = State::Failed;
                self.inner.1.notify_all();
                element.post_error_message(gst::error_msg!(
                    gst::ResourceError::NoSpaceLeft,
                    ("the loading thread could not be started: {error}")
                ));
            }
        }
    }

    /// The model, if it is loaded.
    pub(super) fn ready(&self) -> Option<Loaded> {
        match &self.lock().state {
            State::Ready(_, loaded) => Some(loaded.clone()),
            _ => None,
        }
    }

    /// Waits up to `timeout` for the model; `None` if it is still loading then.
    ///
    /// # Errors
    /// If there is no model to wait for; see [`NoModel`].
    pub(super) fn wait(&self, timeout: Duration) -> Result<Option<Loaded>, NoModel> {
        let inner = self.lock();
        let is_waiting = |inner: &mut Inner| !inner.flushing && matches!(inner.state, State::Loading);
        let (inner, _) = self
            .inner
            .1
            .wait_timeout_while(inner, timeout, is_waiting)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match &inner.state {
            _ if inner.flushing => Err(NoModel::Flushing),
            State::Ready(_, loaded) => Ok(Some(loaded.clone())),
            State::Loading => Ok(None),
            State::Nothing => Err(NoModel::Flushing),
            State::Failed => Err(NoModel::Failed),
        }
    }

    /// Allows or disallows waiting for the model. Disallowing it wakes all waiters.
    pub(super) fn set_flushing(&self, flushing: bool) {
        self.lock().flushing = flushing;
        self.inner.1.notify_all();
    }

    /// Cancels a load in progress and joins its thread.
    pub(super) fn cancel(&self, element: &gst::Element) {
        let loading = {
            let mut inner = self.lock();
            let loading = matches!(inner.state, State::Loading);
            if loading {
                inner.state = State::Nothing;
                inner.load += 1;
            }
            loading
        };
        self.inner.1.notify_all();
        self.end_job();
        if loading {
            post_progress(element, gst::ProgressType::Canceled, "loading was cancelled");
        }
    }

    /// Cancels the last load, if it is unfinished, and joins its thread. Does not join if called on that thread, which
    /// then has loaded the model and is only posting messages.
    fn end_job(&self) {
        let Some(Job { cancellation, thread }) = lock(&self.job).take() else {
            return;
        };
        cancellation.cancel();
        if thread.thread().id() != std::thread::current().id() {
            // A panic on that thread has already been posted as an error.
            let _ = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner.0)
    }
}

/// Runs on the loading thread: stores the result and posts messages, unless the load was cancelled or the element is
/// gone.
fn finish(
    inner: &(Mutex<Inner>, Condvar),
    load: u64,
    wanted: &Wanted,
    loaded: Option<Result<Loaded, Error>>,
    element: &gst::glib::WeakRef<gst::Element>,
    done: impl FnOnce(),
) {
    let Some(element) = element.upgrade() else { return };
    let error = {
        let mut state = lock(&inner.0);
        if state.load != load {
            return;
        }
        match loaded {
            Some(Ok(loaded)) => {
                state.state = State::Ready(Box::new(wanted.clone()), loaded);
                None
            }
            // The process is exiting: there is nothing left to notify.
            Some(Err(Error::Exiting)) => {
                state.state = State::Failed;
                return;
            }
            Some(Err(error)) => {
                state.state = State::Failed;
                Some(explain(&wanted.request.source, &error))
            }
            None => {
                state.state = State::Failed;
                Some(gst::error_msg!(
                    gst::LibraryError::Init,
                    ("ONNX Runtime panicked while loading the model")
                ))
            }
        }
    };
    // Post before waking the waiters, so that messages come in order.
    match error {
        None => {
            done();
            post_progress(&element, gst::ProgressType::Complete, "the model is loaded");
            #[cfg(feature = "embedded-model")]
            if wanted.request.source == Source::Embedded {
                post_demo_notice(&element);
            }
        }
        Some(message) => {
            post_progress(&element, gst::ProgressType::Error, "the model could not be loaded");
            element.post_error_message(message);
        }
    }
    inner.1.notify_all();
}

fn post_progress(element: &gst::Element, kind: gst::ProgressType, text: &str) {
    let message = gst::message::Progress::builder(kind, PROGRESS, text)
        .src(element)
        .build();
    let _ = element.post_message(message);
}

/// Posts the notice once per load, as an info message: the demo model is the documented default, and applications and test
/// pipelines treat a warning as a fault. The log, which is read when the text is wrong, has it as a warning.
#[cfg(feature = "embedded-model")]
fn post_demo_notice(element: &gst::Element) {
    gst::warning!(super::log::CAT, obj = element, "{DEMO_NOTICE}");
    // As debug details, too: of an info message, gst-launch-1.0 prints only these.
    gst::element_info!(
        element,
        gst::ResourceError::Settings,
        ("{DEMO_NOTICE}"),
        ["{DEMO_NOTICE}"]
    );
}

/// The model that `settings` ask for.
///
/// # Errors
/// What can be checked without loading: no model is named, or its path cannot be read.
pub(super) fn request(element: &gst::Element, settings: &Settings) -> Result<Request, gst::ErrorMessage> {
    let Some(source) = source(settings) else {
        return Err(gst::error_msg!(
            gst::ResourceError::Settings,
            ("no model: set property model-path (or the environment variable {MODEL_VARIABLE}) to a model directory")
        ));
    };
    if let Source::Path(path, _) = &source
        && let Err(error) = std::fs::metadata(path)
    {
        let unreadable = Error::Read {
            path: path.into(),
            source: error,
        };
        return Err(explain(&source, &unreadable));
    }
    let unknown = |error: Error| gst::error_msg!(gst::ResourceError::Settings, ("{error}"));
    let mut options = settings.options().map_err(unknown)?;
    options.runtime_directories = plugin_directories(element);
    Ok(Request { source, options })
}

fn source(settings: &Settings) -> Option<Source> {
    let variable = || std::env::var(MODEL_VARIABLE).ok().filter(|path| !path.is_empty());
    let property = settings.model_path.clone().map(|path| Source::Path(path, "model-path"));
    let path = property.or_else(|| variable().map(|path| Source::Path(path, MODEL_VARIABLE)));
    #[cfg(feature = "embedded-model")]
    let fallback = Some(Source::Embedded);
    #[cfg(not(feature = "embedded-model"))]
    let fallback = None;
    path.or(fallback)
}

/// Time from a sample to its decision, without computing time. Exact once the model is loaded or if a lookahead is set;
/// until then, the largest lookahead is assumed.
pub(super) fn latency(settings: &Settings, loaded: Option<&Recognizer>) -> gst::ClockTime {
    let (samples, rate) = match loaded {
        Some(recognizer) => {
            let config = recognizer.config();
            (config.latency_samples(), config.front_end.sample_rate)
        }
        None => {
            let unknown = match source(settings) {
                #[cfg(feature = "embedded-model")]
                Some(Source::Embedded) => nemostt::EMBEDDED_LOOKAHEAD,
                _ => LARGEST_LOOKAHEAD,
            };
            let front_end = FrontEndConfig::nemo(1);
            let frames = settings.lookahead().unwrap_or(unknown) / FRAME_MS;
            (latency_samples(&front_end, frames as usize), front_end.sample_rate)
        }
    };
    gst::ClockTime::from_nseconds(sample_time::samples_to_ns(samples, rate))
}

/// The directory of the plugin's file, where ONNX Runtime may be as well; those that programs search if the plugin is compiled
/// into one.
fn plugin_directories(element: &gst::Element) -> Vec<PathBuf> {
    let file = element.factory().and_then(|factory| factory.plugin()?.filename());
    match file {
        Some(file) => file.parent().map(Into::into).into_iter().collect(),
        None => crate::runtime_directories(),
    }
}

/// The error message for a failed load. Everything is in its text rather than its debug details, because that is what
/// users see.
fn explain(source: &Source, error: &Error) -> gst::ErrorMessage {
    let what = match source {
        Source::Path(path, named_by) => format!("{named_by} \"{path}\""),
        #[cfg(feature = "embedded-model")]
        Source::Embedded => "the built-in demo model".to_owned(),
    };
    match error {
        Error::Read { .. } | Error::NoModel { .. } => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{what}: {error}"))
        }
        Error::RuntimeMissing { .. } => gst::error_msg!(gst::LibraryError::Init, ("{error}")),
        Error::Lookahead { .. } | Error::Decoder { .. } | Error::Device { .. } | Error::Ambiguous { .. } => {
            gst::error_msg!(gst::LibraryError::Settings, ("{what}: {error}"))
        }
        Error::LanguageModel { .. } => gst::error_msg!(gst::ResourceError::Settings, ("{error}")),
        _ => gst::error_msg!(gst::LibraryError::Init, ("{what}: {error}")),
    }
}
