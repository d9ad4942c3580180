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

mod decode;
mod error;
pub mod features;
pub mod graph;
mod model;
mod recognizer;
pub mod text;
pub mod timeline;
pub mod window;

pub use decode::Token;
pub use error::{Error, Result};
#[cfg(feature = "embedded-model")]
pub use model::EMBEDDED_LOOKAHEAD;
pub use model::{DecoderKind, Device, ModelConfig, Options};
pub use recognizer::{Event, Observer, Recognizer, Stream};
pub use text::Word;
