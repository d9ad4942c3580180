// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was said: the text of an utterance, as it is in all outputs.

use std::time::Duration;

use nemostt::cues::CueBuilder;
use serde::Serialize;

/// Name of the element's messages with text.
pub const MESSAGE: &str = "nemostt";

/// An utterance. Times are in milliseconds since the session began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Caption {
    /// Number of the utterance.
    pub utterance: u64,
    pub text: String,
    /// It will not change any more. One that is not final is replaced by the next one.
    #[serde(rename = "final")]
    pub is_final: bool,
    pub start: u64,
    pub end: u64,
    pub words: Vec<TimedWord>,
}

/// A word of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimedWord {
    pub text: String,
    pub start: u64,
    pub end: u64,
    /// 0 to 1, with three digits.
    pub confidence: f64,
}

impl Caption {
    /// The caption in a message of the element, whose running time at the beginning of the session was `zero`. `None` for
    /// other messages.
    pub fn of(message: &gst::StructureRef, zero: Duration) -> Option<Self> {
        if message.name() != MESSAGE {
            return None;
        }
        let since = |structure: &gst::StructureRef, field: &str| {
            let time: gst::ClockTime = structure.get(field).ok()?;
            let time = Duration::from(time).saturating_sub(zero);
            u64::try_from(time.as_millis()).ok()
        };
        let word = |structure: &gst::Structure| {
            Some(TimedWord {
                text: structure.get("text").ok()?,
                start: since(structure, "start-time")?,
                end: since(structure, "end-time")?,
                confidence: (structure.get::<f64>("confidence").ok()? * 1000.0).round() / 1000.0,
            })
        };
        let words: gst::Array = message.get("words").ok()?;
        let words = words
            .iter()
            .filter_map(|value| word(&value.get::<gst::Structure>().ok()?));
        Some(Self {
            utterance: message.get("utterance-id").ok()?,
            text: message.get("text").ok()?,
            is_final: message.get("is-final").ok()?,
            start: since(message, "start-time")?,
            end: since(message, "end-time")?,
            words: words.collect(),
        })
    }

    /// Adds its words to `cues`, `offset` milliseconds later: a whole utterance.
    pub fn add_to(&self, cues: &mut CueBuilder, offset: u64) {
        let nanoseconds = |milliseconds: u64| milliseconds.saturating_add(offset).saturating_mul(1_000_000);
        for word in &self.words {
            cues.push(&word.text, nanoseconds(word.start), nanoseconds(word.end));
        }
        cues.end_utterance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_a_caption() {
        gst::init().unwrap();
        let time = gst::ClockTime::from_mseconds;
        let word = gst::Structure::builder("word")
            .field("text", "two")
            .field("start-time", time(1_500))
            .field("end-time", time(1_740))
            .field("confidence", 0.98765)
            .build();
        let message = gst::Structure::builder(MESSAGE)
            .field("text", "two")
            .field("is-final", true)
            .field("start-time", time(1_500))
            .field("end-time", time(1_740))
            .field("utterance-id", 3_u64)
            .field("words", gst::Array::new([word]))
            .build();
        let caption = Caption::of(&message, Duration::from_millis(500)).unwrap();
        assert_eq!(
            serde_json::to_string(&caption).unwrap(),
            r#"{"utterance":3,"text":"two","final":true,"start":1000,"end":1240,"words":[{"text":"two","start":1000,"end":1240,"confidence":0.988}]}"#
        );
        assert_eq!(Caption::of(&gst::Structure::new_empty("other"), Duration::ZERO), None);
    }
}
