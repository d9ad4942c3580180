// SPDX-License-Identifier: MIT OR Apache-2.0

//! The values of the element's properties, and their meaning for the recognizer.

mod cues;
mod decoding;
mod hotwords;
mod properties;
#[cfg(feature = "triton")]
mod remote;
mod text;

use std::time::Duration;

pub(super) use cues::CueSettings;
pub(super) use decoding::DecodingSettings;
pub(super) use hotwords::{HotwordSettings, Phrases};
#[cfg(feature = "triton")]
pub(super) use remote::RemoteSettings;
pub(super) use text::TextSettings;

use super::enums::{
    NemoSttCueMode, NemoSttDecoder, NemoSttGraphOptimization, NemoSttOutput, NemoSttOverload, NemoSttPrecision,
};
use nemostt::{Cache, CacheDirectory, Device, Options, Result};

/// `lookahead`: use the model's own.
const LOOKAHEAD_OF_MODEL: i32 = -1;
/// Longer than any spoken word, in milliseconds. A word that does not end, as in scripts without spaces, is emitted in
/// parts of this length.
const LONGEST_WORD: u32 = 2_000;
/// The properties that are not settings.
pub(super) const MAX_OBSERVED_DELAY: &str = "max-observed-delay";
pub(super) const METRICS: &str = "metrics";
/// Environment variable that names the model if `model-path` is not set.
pub(super) const MODEL_VARIABLE: &str = "NEMOSTT_MODEL";

/// The values of all properties. Users take a snapshot and release the lock.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) model_path: Option<String>,
    lookahead: i32,
    decoder: NemoSttDecoder,
    /// Name of the device. `None`: the default.
    device: Option<String>,
    threads: u32,
    /// Streams per batch; 0: chosen by the recognizer.
    max_batch: u32,
    /// Places for streams on a GPU; 0: chosen by the recognizer.
    max_streams: u32,
    graph_optimization: NemoSttGraphOptimization,
    precision: NemoSttPrecision,
    /// Empty: no cache.
    cache_directory: Option<String>,
    max_symbols: u32,
    /// Silence appended after the last sample, in milliseconds.
    pub(super) eos_padding: u32,
    /// Time that computing a chunk may take, in milliseconds.
    latency: u32,
    /// Longest hole that is treated as silence, in milliseconds.
    gap_threshold: u32,
    /// Time without a token after which a word is emitted, in milliseconds; 0: when the next one begins.
    pub(super) word_hold: u32,
    /// Time without a token after which an utterance ends, in milliseconds; 0: at the end of the stream.
    pub(super) endpoint_silence: u32,
    pub(super) output: NemoSttOutput,
    pub(super) post_messages: bool,
    pub(super) post_partials: bool,
    pub(super) overload: NemoSttOverload,
    /// Shift of the output's running time, in milliseconds.
    lateness: u32,
    language_code: Option<String>,
    /// Phrases to boost.
    pub(super) hotwords: HotwordSettings,
    /// Longest utterance in milliseconds; longer ones are cut. 0: no limit.
    pub(super) max_utterance: u32,
    /// Most characters of an utterance; longer ones are cut. 0: no limit.
    pub(super) max_utterance_chars: u32,
    /// Shortest duration of a word in milliseconds, where there is room.
    pub(super) min_word_duration: u32,
    /// Whether text buffers last until the next text.
    pub(super) hold_until_next: bool,
    /// Appended to every text buffer. `None`: depends on the format.
    pub(super) separator: Option<String>,
    /// Time between messages with metrics, in milliseconds; 0: none.
    metrics_interval: u32,
    pub(super) cues: CueSettings,
    /// What is done to words, and their confidence.
    pub(super) text: TextSettings,
    pub(super) decoding: DecodingSettings,
    #[cfg(feature = "triton")]
    remote: RemoteSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model_path: None,
            lookahead: LOOKAHEAD_OF_MODEL,
            decoder: NemoSttDecoder::default(),
            device: Some(Device::default().to_string()),
            threads: 0,
            max_batch: 0,
            max_streams: 0,
            graph_optimization: NemoSttGraphOptimization::default(),
            precision: NemoSttPrecision::default(),
            cache_directory: None,
            max_symbols: 10,
            eos_padding: 0,
            latency: 100,
            gap_threshold: 1000,
            word_hold: 320,
            endpoint_silence: 800,
            output: NemoSttOutput::default(),
            post_messages: true,
            post_partials: false,
            overload: NemoSttOverload::default(),
            lateness: 0,
            language_code: Some("en-US".into()),
            hotwords: HotwordSettings::default(),
            max_utterance: 60_000,
            max_utterance_chars: 0,
            min_word_duration: 80,
            hold_until_next: false,
            separator: None,
            metrics_interval: 0,
            cues: CueSettings::default(),
            text: TextSettings::default(),
            decoding: DecodingSettings::default(),
            #[cfg(feature = "triton")]
            remote: RemoteSettings::default(),
        }
    }
}

impl Settings {
    /// Options to load the recognizer with.
    ///
    /// # Errors
    /// If there is no device of that name, or the address of a server cannot be used.
    pub(super) fn options(&self) -> Result<Options> {
        Ok(Options {
            lookahead: self.lookahead(),
            decoder: self.decoder.into(),
            device: self.device.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            threads: self.threads as usize,
            max_batch: (self.max_batch > 0).then_some(self.max_batch as usize),
            max_streams: (self.max_streams > 0).then_some(self.max_streams as usize),
            graph_optimization: self.graph_optimization.into(),
            precision: self.precision.into(),
            #[cfg(feature = "triton")]
            remote: self.remote.options()?,
            max_symbols: self.max_symbols as usize,
            cache: Cache {
                directory: match self.cache_directory.as_deref() {
                    None => CacheDirectory::Standard,
                    Some("") => CacheDirectory::Off,
                    Some(path) => CacheDirectory::At(path.into()),
                },
                ..Default::default()
            },
            ..Default::default()
        })
    }

    /// The requested lookahead in milliseconds; `None` for the model's own.
    pub(super) fn lookahead(&self) -> Option<u32> {
        u32::try_from(self.lookahead).ok()
    }

    /// Longest time that a decoded word is held back in case it continues, with `output` in effect.
    pub(super) fn word_hold_time(&self, output: NemoSttOutput) -> gst::ClockTime {
        let longest = match output {
            NemoSttOutput::Words | NemoSttOutput::Cues => {
                let word_hold = if self.word_hold > 0 {
                    self.word_hold
                } else {
                    self.endpoint_silence
                };
                let phrase_hold = self.phrase_hold(output).filter(|_| self.text.holds_words());
                // By then, a beam has decided on it.
                let beam = if self.decoding.is_beam() { LONGEST_WORD } else { 0 };
                word_hold.max(phrase_hold.unwrap_or_default()).max(beam)
            }
            NemoSttOutput::Utterances => self.endpoint_silence,
        };
        gst::ClockTime::from_mseconds(longest.into())
    }

    /// Longest time in milliseconds that a word waits for those after it that may change it; `None`: until the utterance ends.
    pub(super) fn phrase_hold(&self, output: NemoSttOutput) -> Option<u32> {
        match output {
            NemoSttOutput::Words | NemoSttOutput::Cues => Some(self.text.phrase_hold),
            NemoSttOutput::Utterances => None,
        }
    }

    /// Length in milliseconds from which a word that does not end is emitted in parts.
    pub(super) fn longest_word(&self) -> Option<u32> {
        (self.word_hold > 0).then_some(LONGEST_WORD)
    }

    /// Whether buffers add to what is on the screen, which plain text cannot express for `tttocea608`.
    pub(super) fn adds_to_screen(&self) -> bool {
        self.output == NemoSttOutput::Cues && self.cues.mode != NemoSttCueMode::PopOn
    }

    /// Shift of the output's running time.
    pub(super) fn lateness(&self) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(self.lateness.into())
    }

    /// Language of the speech.
    pub(super) fn language(&self) -> &str {
        self.language_code.as_deref().unwrap_or_default()
    }

    /// Time that computing a chunk may take, with the way to a server and back.
    pub(super) fn processing_latency(&self) -> gst::ClockTime {
        #[cfg(feature = "triton")]
        let remote = self.remote.latency();
        #[cfg(not(feature = "triton"))]
        let remote = 0_u32;
        gst::ClockTime::from_mseconds(u64::from(self.latency) + u64::from(remote))
    }

    /// What to do if computing takes longer.
    pub(super) fn latency_advice(&self) -> String {
        let allowed = self.processing_latency();
        #[cfg(feature = "triton")]
        if self.remote.is_used() {
            return format!(
                "latency and remote-latency allow {allowed}. A server was slow, or has failed; if that is often so, raise \
                 remote-latency, or use other servers"
            );
        }
        format!(
            "property latency allows {allowed}. Use more threads, a smaller lookahead, a smaller model or the GPU, or raise latency"
        )
    }

    /// Time between messages with metrics; zero: none.
    pub(super) fn metrics_interval(&self) -> Duration {
        Duration::from_millis(self.metrics_interval.into())
    }

    /// Longest hole that is treated as silence.
    pub(super) fn gap_threshold(&self) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(self.gap_threshold.into())
    }
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;

    use super::*;

    #[test]
    fn a_directory_for_the_cache_reaches_the_recognizer() {
        let mut settings = Settings::default();
        let mut directory = |value: Option<&str>| {
            settings.set("cache-directory", &value.to_value());
            assert_eq!(
                settings
                    .get("cache-directory")
                    .get::<Option<String>>()
                    .unwrap()
                    .as_deref(),
                value
            );
            settings.options().unwrap().cache.directory
        };
        assert_eq!(directory(Some("/x")), CacheDirectory::At("/x".into()));
        assert_eq!(directory(Some("")), CacheDirectory::Off);
        assert_eq!(directory(None), CacheDirectory::Standard);
        assert_eq!(Settings::default().options().unwrap(), Options::default());
    }

    #[test]
    fn a_device_reaches_the_recognizer() {
        let mut settings = Settings::default();
        let mut device = |name: Option<&str>| {
            settings.set("device", &name.to_value());
            settings.options().map(|options| options.device)
        };
        assert_eq!(device(Some("cuda:1")).unwrap(), Device::Cuda(1));
        assert_eq!(device(None).unwrap(), Device::Auto);
        let error = device(Some("gpu")).unwrap_err().to_string();
        assert!(error.contains("device \"gpu\""), "{error}");
        assert_eq!(
            settings.get("device").get::<Option<String>>().unwrap().as_deref(),
            Some("gpu")
        );
    }
}
