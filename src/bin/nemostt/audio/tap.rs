// SPDX-License-Identifier: MIT OR Apache-2.0

//! What takes the encoded streams of a source besides the decoder, as they come from the container.

use crate::Result;

/// Takes encoded streams. Its methods are called by one thread, that of the source.
pub trait Tap: Send + Sync {
    /// Adds elements to `pipeline` that take the audio, and the video if there is one. Whatever they are called with next is not
    /// waited for, so they must not block for long.
    ///
    /// # Errors
    /// One line, if a stream with such caps cannot be taken.
    fn attach(&self, pipeline: &gst::Pipeline, video: Option<&gst::Caps>, audio: &gst::Caps) -> Result<TapPads>;

    /// A message on the bus of the pipeline.
    fn message(&self, message: &gst::MessageRef);

    /// No more data is needed: what was taken is finished.
    fn end(&self);

    /// Whether everything that was taken is finished, or nothing was.
    fn has_ended(&self) -> bool;
}

/// Sink pads for encoded streams.
pub struct TapPads {
    pub audio: gst::Pad,
    pub video: Option<gst::Pad>,
}
