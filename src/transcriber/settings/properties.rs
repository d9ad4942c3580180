// SPDX-License-Identifier: MIT OR Apache-2.0

//! The properties as GObject sees them: descriptions, `set` and `get`.

use gst::{glib, prelude::*};

use nemostt::Hotwords;

#[cfg(feature = "triton")]
use super::RemoteSettings;
use super::{
    CueSettings, DecodingSettings, HotwordSettings, LOOKAHEAD_OF_MODEL, MAX_OBSERVED_DELAY, METRICS, Settings,
    TextSettings,
};

impl Settings {
    /// The descriptions of all properties.
    pub(in crate::transcriber) fn param_specs() -> Vec<glib::ParamSpec> {
        let default = Self::default();
        let mut specs = vec![
            glib::ParamSpecString::builder("model-path")
                .nick("Model Path")
                .blurb(
                    "Directory with a streaming export of NeMo, sherpa-onnx, parakeet-rs or onnxruntime-genai (graphs and \
                     vocabulary), or one of several encoder or CTC graphs in it. Unset: the environment variable \
                     NEMOSTT_MODEL, else the built-in demo model",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecInt::builder("lookahead")
                .nick("Lookahead")
                .blurb(
                    "Right context in milliseconds that the encoder sees before a frame is decoded (NeMo's att_context_size): \
                     lower is faster, higher is more accurate. A multiple of 80 that the model allows (most: 0, 80, 480, \
                     1040); -1 is the one the model was exported with",
                )
                .minimum(LOOKAHEAD_OF_MODEL)
                .maximum(10_000)
                .default_value(default.lookahead)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("decoder", default.decoder)
                .nick("Decoder")
                .blurb("How tokens are decoded")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("device")
                .nick("Device")
                .blurb(
                    "Where the model runs: cpu; cuda, tensorrt, openvino, openvino:gpu, openvino:npu, coreml or directml, if \
                     ONNX Runtime was built with it (cuda:1, tensorrt:1, openvino:gpu.1, directml:1: the second one); auto: \
                     CUDA if there is a GPU, else the CPU, on which it goes on if the GPU fails",
                )
                .default_value(default.device.as_deref())
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb(
                    "Threads that compute one chunk, at most one per available processor; 0 uses one for a small model and \
                     one per core for a large one",
                )
                .maximum(256)
                .default_value(default.threads)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-batch")
                .nick("Maximum Batch")
                .blurb(
                    "Streams of one model whose chunks are computed together at most; 0: as many as take little longer than \
                     one",
                )
                .maximum(4096)
                .default_value(default.max_batch)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-streams")
                .nick("Maximum Streams")
                .blurb(
                    "Streams of one model that there may be at the same time on a GPU, which gets memory for all of them; 0: as \
                     many as fit in 512 MiB",
                )
                .maximum(65_536)
                .default_value(default.max_streams)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("graph-optimization", default.graph_optimization)
                .nick("Graph Optimization")
                .blurb("How the model's graph is optimized when it is loaded; the text is the same either way")
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("precision", default.precision)
                .nick("Precision")
                .blurb("Precision in which the encoder computes; only int8 changes the text, and only for float32 models")
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("cache-directory")
                .nick("Cache Directory")
                .blurb(
                    "Where the optimized encoders of large models are cached, so that the next start is faster. Unset: \
                     nemostt/graphs in XDG_CACHE_HOME, else in ~/.cache; empty: no cache",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-symbols")
                .nick("Maximum Symbols")
                .blurb("Tokens that RNN-T decoding may emit in one frame of 80 ms; NeMo's greedy decoding allows 10")
                .minimum(1)
                .maximum(1000)
                .default_value(default.max_symbols)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("eos-padding")
                .nick("End Of Stream Padding")
                .blurb(
                    "Silence in milliseconds that is added after the last sample, for speech that is cut off in its last \
                     word; 0 decodes exactly as NeMo does",
                )
                .maximum(60_000)
                .default_value(default.eos_padding)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("latency")
                .nick("Latency")
                .blurb(
                    "Time in milliseconds that computing may take; the reported latency is this, the chunk (lookahead and \
                     80 ms), the 12.5 ms that the last analysis window reaches beyond it, and word-hold",
                )
                .maximum(60_000)
                .default_value(default.latency)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("gap-threshold")
                .nick("Gap Threshold")
                .blurb(
                    "Holes in the audio of up to this many milliseconds are treated as silence; at a longer one the words so \
                     far are finished and recognition restarts",
                )
                .maximum(3_600_000)
                .default_value(default.gap_threshold)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("word-hold")
                .nick("Word Hold")
                .blurb(
                    "Silence in milliseconds after which a word is emitted without waiting for the next one; 0 waits for the \
                     next word or the end of the utterance",
                )
                .maximum(60_000)
                .default_value(default.word_hold)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("endpoint-silence")
                .nick("Endpoint Silence")
                .blurb(
                    "Silence in milliseconds after which an utterance ends; 0 ends it with the stream",
                )
                .maximum(600_000)
                .default_value(default.endpoint_silence)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("output", default.output)
                .nick("Output")
                .blurb("What a text buffer and a final message contain")
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("post-messages")
                .nick("Post Messages")
                .blurb("Post an element message `nemostt` with is-final=true for every text buffer")
                .default_value(default.post_messages)
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("post-partials")
                .nick("Post Partials")
                .blurb("Post an element message `nemostt` with is-final=false whenever the current utterance grows")
                .default_value(default.post_partials)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("overload", default.overload)
                .nick("Overload")
                .blurb("What to do when computing does not keep up with a live source")
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("lateness")
                .nick("Lateness")
                .blurb(
                    "Time in milliseconds by which the output's running time is shifted, for live pipelines that would \
                     rather show text late than wait for it",
                )
                .maximum(600_000)
                .default_value(default.lateness)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("language-code")
                .nick("Language Code")
                .blurb(
                    "Language of the speech, such as en-US, or auto, for multilingual models; models of one language ignore \
                     it",
                )
                .default_value(default.language_code.as_deref())
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("hotwords")
                .nick("Hotwords")
                .blurb(
                    "Phrases that are recognized more often, separated by commas, each with a weight after a colon if it is not \
                     hotwords-weight: Kubernetes, Ada Lovelace:3.5",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("hotwords-file")
                .nick("Hotwords File")
                .blurb(
                    "File with more of them: a phrase on each line, with a tab or a colon before its weight; lines that begin \
                     with # are ignored. Read when it or another property of hotwords is set, and when the element starts",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecFloat::builder("hotwords-weight")
                .nick("Hotwords Weight")
                .blurb(
                    "Weight of phrases that have none of their own (NeMo's context_score): a higher one finds more of them, \
                     also where they were not said",
                )
                .minimum(0.01)
                .maximum(100.0)
                .default_value(Hotwords::DEFAULT_WEIGHT)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("max-utterance")
                .nick("Maximum Utterance")
                .blurb(
                    "Longest utterance in milliseconds; a longer one is cut at its best pause between words. 0: no limit",
                )
                .maximum(3_600_000)
                .default_value(default.max_utterance)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("max-utterance-chars")
                .nick("Maximum Utterance Characters")
                .blurb(
                    "Most characters of an utterance, including spaces; a longer one is cut at its best pause between words. \
                     0: no limit",
                )
                .maximum(1_000_000)
                .default_value(default.max_utterance_chars)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("min-word-duration")
                .nick("Minimum Word Duration")
                .blurb("Shortest duration in milliseconds of a word, where there is room before the next one")
                .maximum(10_000)
                .default_value(default.min_word_duration)
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("hold-until-next")
                .nick("Hold Until Next")
                .blurb(
                    "Text buffers last until the next text begins, as far as that is known when they are pushed, but at \
                     most 3 s longer than the sound: for text that is shown over video",
                )
                .default_value(default.hold_until_next)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("separator")
                .nick("Separator")
                .blurb(
                    "Text appended to every text buffer, such as a space between the words in a file; escaped in Pango \
                     markup. Unset: a newline after each JSON object, nothing after text",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("metrics-interval")
                .nick("Metrics Interval")
                .blurb(
                    "Time in milliseconds, of the system's clock, between element messages `nemostt-metrics` in PLAYING; one \
                     more is posted at the end of the stream. 0: none",
                )
                .maximum(3_600_000)
                .default_value(default.metrics_interval)
                .mutable_playing()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>(METRICS)
                .nick("Metrics")
                .blurb(
                    "What the element has done since it was started, and its model since it was loaded: the fields of \
                     messages `nemostt-metrics`",
                )
                .read_only()
                .build(),
            glib::ParamSpecUInt::builder(MAX_OBSERVED_DELAY)
                .nick("Maximum Observed Delay")
                .blurb("Largest processing backlog in milliseconds observed with a live source")
                .read_only()
                .build(),
        ];
        specs.extend(CueSettings::param_specs());
        specs.extend(TextSettings::param_specs());
        specs.extend(DecodingSettings::param_specs());
        #[cfg(feature = "triton")]
        specs.extend(RemoteSettings::param_specs());
        specs
    }

    /// Sets the property `name`, which is one of [`param_specs`](Self::param_specs).
    pub(in crate::transcriber) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            name if HotwordSettings::has(name) => self.hotwords.set(name, value),
            name if TextSettings::has(name) => self.text.set(name, value),
            name if DecodingSettings::has(name) => self.decoding.set(name, value),
            #[cfg(feature = "triton")]
            name if RemoteSettings::has(name) => self.remote.set(name, value),
            "model-path" => self.model_path = read::<Option<String>>(value).filter(|path| !path.is_empty()),
            "lookahead" => self.lookahead = read(value),
            "decoder" => self.decoder = read(value),
            "device" => self.device = read(value),
            "threads" => self.threads = read(value),
            "max-batch" => self.max_batch = read(value),
            "max-streams" => self.max_streams = read(value),
            "graph-optimization" => self.graph_optimization = read(value),
            "precision" => self.precision = read(value),
            "cache-directory" => self.cache_directory = read(value),
            "max-symbols" => self.max_symbols = read(value),
            "eos-padding" => self.eos_padding = read(value),
            "latency" => self.latency = read(value),
            "gap-threshold" => self.gap_threshold = read(value),
            "word-hold" => self.word_hold = read(value),
            "endpoint-silence" => self.endpoint_silence = read(value),
            "output" => self.output = read(value),
            "post-messages" => self.post_messages = read(value),
            "post-partials" => self.post_partials = read(value),
            "overload" => self.overload = read(value),
            "lateness" => self.lateness = read(value),
            "language-code" => self.language_code = read(value),
            "max-utterance" => self.max_utterance = read(value),
            "max-utterance-chars" => self.max_utterance_chars = read(value),
            "min-word-duration" => self.min_word_duration = read(value),
            "hold-until-next" => self.hold_until_next = read(value),
            "separator" => self.separator = read(value),
            "metrics-interval" => self.metrics_interval = read(value),
            name => self.cues.set(name, value),
        }
    }

    /// The value of the property `name`.
    pub(in crate::transcriber) fn get(&self, name: &str) -> glib::Value {
        match name {
            name if HotwordSettings::has(name) => self.hotwords.get(name),
            name if DecodingSettings::has(name) => self.decoding.get(name),
            #[cfg(feature = "triton")]
            name if RemoteSettings::has(name) => self.remote.get(name),
            "model-path" => self.model_path.to_value(),
            "lookahead" => self.lookahead.to_value(),
            "decoder" => self.decoder.to_value(),
            "device" => self.device.to_value(),
            "threads" => self.threads.to_value(),
            "max-batch" => self.max_batch.to_value(),
            "max-streams" => self.max_streams.to_value(),
            "graph-optimization" => self.graph_optimization.to_value(),
            "precision" => self.precision.to_value(),
            "cache-directory" => self.cache_directory.to_value(),
            "max-symbols" => self.max_symbols.to_value(),
            "eos-padding" => self.eos_padding.to_value(),
            "latency" => self.latency.to_value(),
            "gap-threshold" => self.gap_threshold.to_value(),
            "word-hold" => self.word_hold.to_value(),
            "endpoint-silence" => self.endpoint_silence.to_value(),
            "output" => self.output.to_value(),
            "post-messages" => self.post_messages.to_value(),
            "post-partials" => self.post_partials.to_value(),
            "overload" => self.overload.to_value(),
            "lateness" => self.lateness.to_value(),
            "language-code" => self.language_code.to_value(),
            "max-utterance" => self.max_utterance.to_value(),
            "max-utterance-chars" => self.max_utterance_chars.to_value(),
            "min-word-duration" => self.min_word_duration.to_value(),
            "hold-until-next" => self.hold_until_next.to_value(),
            "separator" => self.separator.to_value(),
            "metrics-interval" => self.metrics_interval.to_value(),
            name => self.text.get(name).unwrap_or_else(|| self.cues.get(name)),
        }
    }
}

pub(super) fn read<'v, T: glib::value::FromValue<'v>>(value: &'v glib::Value) -> T {
    // GObject checks the type before it calls us.
    value.get().expect("type checked upstream")
}
