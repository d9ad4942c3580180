// SPDX-License-Identifier: MIT OR Apache-2.0

//! The GStreamer element `nemostt`: glue between pads, properties and the recognizer.

mod captions;
mod cea608;
mod clock;
mod counters;
mod delivery;
mod downstream;
mod early_output;
mod enums;
mod imp;
mod input;
mod latency;
mod lateness;
mod linked;
mod log;
mod metrics;
mod model_loader;
mod model_registry;
mod output_queue;
mod partial_output;
mod partial_pad;
mod payload;
mod published;
mod reporter;
mod segment;
mod session;
mod settings;
mod source_pad;
mod stall;
mod stream_driver;
mod streaming;
mod ticker;
mod timestamps;

use gst::{glib, prelude::*};

glib::wrapper! {
    /// SECTION:element-nemostt
    ///
    /// Live speech to text with NVIDIA NeMo's cache-aware streaming models.
    ///
    /// Transcribes 16 kHz mono audio into text buffers of one word (or utterance or caption cue, #GstNemoStt:output) each,
    /// with the time at which it was spoken. With #GstNemoStt:post-messages, an element message `nemostt` is posted for each as
    /// well. GAP events cover the time in between. The latency is the chunk (#GstNemoStt:lookahead and 80 ms), 12.5 ms
    /// of analysis window, #GstNemoStt:word-hold, and #GstNemoStt:latency for computing.
    ///
    /// The model in #GstNemoStt:model-path is loaded in the background when the element goes to PAUSED, with PROGRESS
    /// messages `loading`; the first buffer waits for it.
    ///
    /// With #GstNemoStt:metrics-interval, element messages `nemostt-metrics` say how many streams there are, how they are
    /// batched, and whether computing keeps up.
    ///
    /// ## Transcribe a file
    ///
    /// ```sh
    /// gst-launch-1.0 -m uridecodebin uri=file:///tmp/speech.ogg ! audioconvert ! audioresample ! nemostt ! fakesink
    /// ```
    ///
    /// ## Transcribe a microphone with low latency
    ///
    /// ```sh
    /// gst-launch-1.0 -m autoaudiosrc ! queue ! audioconvert ! audioresample ! nemostt lookahead=80 ! fakesink
    /// ```
    ///
    /// ## Write utterances as JSON objects
    ///
    /// ```sh
    /// gst-launch-1.0 uridecodebin uri=file:///tmp/speech.ogg ! audioconvert ! audioresample ! nemostt output=utterances ! application/x-json ! filesink location=speech.json
    /// ```
    ///
    /// ## Write subtitles
    ///
    /// ```sh
    /// gst-launch-1.0 uridecodebin uri=file:///tmp/speech.ogg ! audioconvert ! audioresample ! nemostt output=cues ! srtenc ! filesink location=speech.srt
    /// ```
    pub struct NemoStt(ObjectSubclass<imp::NemoStt>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Adds the element to `plugin`.
///
/// # Errors
/// If the element's name is already taken.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use enums::{
            NemoSttCueMode, NemoSttDecoder, NemoSttGraphOptimization, NemoSttOutput, NemoSttOverload, NemoSttPrecision,
        };
        NemoSttCueMode::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttDecoder::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttGraphOptimization::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttOutput::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttPrecision::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttOverload::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(Some(plugin), "nemostt", gst::Rank::NONE, NemoStt::static_type())
}
