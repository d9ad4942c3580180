// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds and loads the model that the settings ask for.

use std::path::PathBuf;

use gst::prelude::*;

use super::settings::{MODEL_VARIABLE, Settings};
use crate::{error::Error, model::latency_samples, recognizer::Recognizer, timeline};

/// The largest lookahead that NVIDIA's streaming models are trained with: what is assumed of a model that is not loaded.
const LARGEST_LOOKAHEAD: u32 = 1040;

/// Where the model comes from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    Path(String),
    #[cfg(feature = "embedded-model")]
    Embedded,
}

impl Source {
    fn of(settings: &Settings) -> Option<Self> {
        let variable = || std::env::var(MODEL_VARIABLE).ok().filter(|path| !path.is_empty());
        let path = settings.model_path.clone().or_else(variable);
        #[cfg(feature = "embedded-model")]
        let fallback = Some(Self::Embedded);
        #[cfg(not(feature = "embedded-model"))]
        let fallback = None;
        path.map(Self::Path).or(fallback)
    }
}

/// Loads the model for `element`. This takes seconds for a large one; no lock may be held.
pub(super) fn load(element: &super::NemoStt, settings: &Settings) -> Result<Recognizer, gst::ErrorMessage> {
    let Some(source) = Source::of(settings) else {
        return Err(gst::error_msg!(
            gst::ResourceError::Settings,
            ("no model: set property model-path (or the environment variable {MODEL_VARIABLE}) to a model directory")
        ));
    };
    let mut options = settings.options();
    options.runtime_directories = plugin_directory(element).into_iter().collect();
    let (what, loaded) = match &source {
        Source::Path(path) => (format!("model-path \"{path}\""), Recognizer::load(path, &options)),
        #[cfg(feature = "embedded-model")]
        Source::Embedded => ("the embedded model".to_owned(), Recognizer::embedded(&options)),
    };
    loaded.map_err(|error| explain(&what, &error))
}

/// Latency of the element without computing time: exact for a lookahead that was asked for, else that of the model or,
/// before there is one, the largest that it can be.
pub(super) fn latency(settings: &Settings, loaded: Option<&Recognizer>) -> gst::ClockTime {
    if let Some(recognizer) = loaded {
        let config = recognizer.config();
        return gst::ClockTime::from_nseconds(timeline::samples_to_ns(
            config.latency_samples(),
            config.front_end.sample_rate,
        ));
    }
    let unknown = match Source::of(settings) {
        #[cfg(feature = "embedded-model")]
        Some(Source::Embedded) => crate::model::EMBEDDED_LOOKAHEAD,
        _ => LARGEST_LOOKAHEAD,
    };
    let front_end = crate::features::FrontEndConfig::nemo(1);
    let frame_ms = 80;
    let frames = settings.lookahead().unwrap_or(unknown) / frame_ms;
    let samples = latency_samples(&front_end, frames as usize);
    gst::ClockTime::from_nseconds(timeline::samples_to_ns(samples, front_end.sample_rate))
}

/// ONNX Runtime may lie beside the plugin's file.
fn plugin_directory(element: &super::NemoStt) -> Option<PathBuf> {
    let file = element.factory()?.plugin()?.filename()?;
    file.parent().map(Into::into)
}

/// The one message that a failed start posts. Its text, not its debug details, says it all: that is what users see.
fn explain(what: &str, error: &Error) -> gst::ErrorMessage {
    match error {
        Error::Read { .. } | Error::NoModel { .. } => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{what}: {error}"))
        }
        Error::RuntimeMissing { .. } => gst::error_msg!(gst::LibraryError::Init, ("{error}")),
        Error::Lookahead { .. } | Error::Decoder { .. } | Error::Device { .. } | Error::Ambiguous { .. } => {
            gst::error_msg!(gst::LibraryError::Settings, ("{what}: {error}"))
        }
        _ => gst::error_msg!(gst::LibraryError::Init, ("{what}: {error}")),
    }
}
