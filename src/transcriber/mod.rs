// SPDX-License-Identifier: MIT OR Apache-2.0

//! The GStreamer element `nemostt`: glue between pads, properties and the recognizer.

mod clock;
mod delivery;
mod imp;
mod input;
mod lateness;
mod model_loader;
mod model_registry;
mod output_queue;
mod payload;
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

use nemostt::{DecoderKind, Device, GraphOptimization, PrecisionChoice};

glib::wrapper! {
    /// SECTION:element-nemostt
    ///
    /// Live speech to text with NVIDIA NeMo's cache-aware streaming models.
    ///
    /// Transcribes 16 kHz mono audio into text buffers of one word (or utterance, #GstNemoStt:output) each, with the
    /// time at which it was spoken. With #GstNemoStt:post-messages, an element message `nemostt` is posted for each as
    /// well. GAP events cover the time in between. The latency is the chunk (#GstNemoStt:lookahead and 80 ms), 12.5 ms
    /// of analysis window, #GstNemoStt:word-hold, and #GstNemoStt:latency for computing.
    ///
    /// The model in #GstNemoStt:model-path is loaded in the background when the element goes to PAUSED, with PROGRESS
    /// messages `loading`; the first buffer waits for it.
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
    pub struct NemoStt(ObjectSubclass<imp::NemoStt>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// Values of property `decoder`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttDecoder")]
pub enum NemoSttDecoder {
    /// RNN-T if the model has it, else CTC.
    #[default]
    #[enum_value(name = "RNN-T if the model has it, else CTC", nick = "auto")]
    Auto,
    /// Greedy RNN-T.
    #[enum_value(name = "Greedy RNN-T: fewest errors", nick = "rnnt")]
    Rnnt,
    /// Greedy CTC.
    #[enum_value(name = "Greedy CTC: least work", nick = "ctc")]
    Ctc,
}

impl From<NemoSttDecoder> for DecoderKind {
    fn from(decoder: NemoSttDecoder) -> Self {
        match decoder {
            NemoSttDecoder::Auto => Self::Auto,
            NemoSttDecoder::Rnnt => Self::Rnnt,
            NemoSttDecoder::Ctc => Self::Ctc,
        }
    }
}

/// Values of property `device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttDevice")]
pub enum NemoSttDevice {
    /// CUDA if ONNX Runtime supports it, else the CPU.
    #[default]
    #[enum_value(name = "CUDA if ONNX Runtime supports it, else the CPU", nick = "auto")]
    Auto,
    /// The CPU.
    #[enum_value(name = "The CPU", nick = "cpu")]
    Cpu,
    /// The first CUDA device.
    #[enum_value(name = "The first CUDA device; an error if there is none", nick = "cuda")]
    Cuda,
}

impl From<NemoSttDevice> for Device {
    fn from(device: NemoSttDevice) -> Self {
        match device {
            NemoSttDevice::Auto => Self::Auto,
            NemoSttDevice::Cpu => Self::Cpu,
            NemoSttDevice::Cuda => Self::Cuda,
        }
    }
}

/// Values of property `graph-optimization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttGraphOptimization")]
pub enum NemoSttGraphOptimization {
    /// All exact rewrites.
    #[default]
    #[enum_value(
        name = "All exact rewrites: fixed shapes, cached keys and values, folded masks and positions",
        nick = "all"
    )]
    All,
    /// The graph as exported.
    #[enum_value(name = "The graph as exported: slower, for comparison", nick = "none")]
    None,
}

impl From<NemoSttGraphOptimization> for GraphOptimization {
    fn from(optimization: NemoSttGraphOptimization) -> Self {
        match optimization {
            NemoSttGraphOptimization::All => Self::All,
            NemoSttGraphOptimization::None => Self::None,
        }
    }
}

/// Values of property `precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttPrecision")]
pub enum NemoSttPrecision {
    /// The precision of the model file.
    #[default]
    #[enum_value(name = "The precision of the model file", nick = "auto")]
    Auto,
    /// Float32.
    #[enum_value(name = "Float32, unless the model file is 8-bit", nick = "fp32")]
    Fp32,
    /// 8-bit integers.
    #[enum_value(
        name = "8-bit matrix products in the encoder, quantized from float32 at load: faster, a few words differ",
        nick = "int8"
    )]
    Int8,
}

impl From<NemoSttPrecision> for PrecisionChoice {
    fn from(precision: NemoSttPrecision) -> Self {
        match precision {
            NemoSttPrecision::Auto => Self::Auto,
            NemoSttPrecision::Fp32 => Self::Fp32,
            NemoSttPrecision::Int8 => Self::Int8,
        }
    }
}

/// Values of property `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttOutput")]
pub enum NemoSttOutput {
    /// One word per buffer.
    #[default]
    #[enum_value(name = "One word per buffer and final message", nick = "words")]
    Words,
    /// One utterance per buffer.
    #[enum_value(name = "One utterance per buffer and final message", nick = "utterances")]
    Utterances,
}

/// Values of property `overload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstNemoSttOverload")]
pub enum NemoSttOverload {
    /// Transcribe everything, however late.
    #[default]
    #[enum_value(name = "Transcribe everything, however late: upstream blocks", nick = "block")]
    Block,
    /// Skip audio until up to date.
    #[enum_value(
        name = "Skip audio until caught up: words are lost, a gap takes their place",
        nick = "skip"
    )]
    Skip,
}

/// Adds the element to `plugin`.
///
/// # Errors
/// If the element's name is already taken.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        NemoSttDecoder::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttDevice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttGraphOptimization::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttOutput::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttPrecision::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        NemoSttOverload::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(Some(plugin), "nemostt", gst::Rank::NONE, NemoStt::static_type())
}
