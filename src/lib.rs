// SPDX-License-Identifier: MIT OR Apache-2.0

//! Live speech to text with NVIDIA NeMo's cache-aware streaming FastConformer models on ONNX Runtime.
//!
//! Two things are in this crate:
//! * the recogniser, which knows nothing of GStreamer: [`Recognizer`] and [`Stream`];
//! * with feature `plugin` (the default), the GStreamer element `nemostt` around it.
//!
//! Data flows one way, and the folders follow it: samples → [`features`] (log-mel frames) → [`window`] (encoder
//! windows) → `model` (encoder, prediction network and joint) → `decode` (labels) → [`text`] (words) →
//! [`Event`]s → `element` (buffers and messages). `docs/design.md` has the tour.

pub mod chunker;
mod decode;
mod error;
pub mod features;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
pub mod graph;
mod memory_guard;
mod model;
mod recognizer;
mod regular_file;
pub mod sample_time;
mod sync;
pub mod text;

pub use decode::Token;
pub use error::{Error, Result};
#[cfg(feature = "embedded-model")]
pub use model::EMBEDDED_LOOKAHEAD;
pub use model::{
    Cache, CacheDirectory, Cancellation, DecoderKind, Device, GraphFile, GraphOptimization, Languages, LogLevel,
    ModelConfig, Options, PrecisionChoice, set_runtime_logger,
};
pub use recognizer::{Observer, Recognizer, Snapshot, Stream, WeakRecognizer};
pub use text::{EndReason, EndpointConfig, Event, Utterance, Word};

#[cfg(feature = "plugin")]
mod transcriber;

#[cfg(feature = "plugin")]
mod plugin {
    #![allow(missing_docs, unsafe_code)] // what the macro writes

    fn init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
        super::transcriber::register(plugin)
    }

    gst::plugin_define!(
        nemostt,
        env!("CARGO_PKG_DESCRIPTION"),
        init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_HOMEPAGE"),
        env!("BUILD_REL_DATE")
    );
}

#[cfg(feature = "plugin")]
pub use plugin::plugin_register_static;
