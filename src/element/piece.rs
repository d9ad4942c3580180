// SPDX-License-Identifier: MIT OR Apache-2.0

//! A piece of text on its way out, as bytes of a buffer and as a bus message.

use gst::{glib, prelude::*};
use serde::Serialize;

use crate::text::Word;

/// What text buffers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Format {
    /// Plain UTF-8.
    #[default]
    Utf8,
    /// UTF-8 in which `&`, `<` and `>` are escaped for Pango.
    PangoMarkup,
    /// One JSON object.
    Json,
}

impl Format {
    /// The caps of each format, the preferred first.
    pub(super) fn caps() -> gst::Caps {
        let text = gst::Caps::builder("text/x-raw").field("format", gst::List::new(["utf8", "pango-markup"]));
        let json = gst::Structure::new_empty("application/x-json");
        let mut caps = text.build();
        caps.make_mut().append_structure(json);
        caps
    }

    /// The format that negotiated caps ask for.
    pub(super) fn of(caps: &gst::CapsRef) -> Self {
        match caps.structure(0) {
            Some(caps) if caps.name() == "application/x-json" => Self::Json,
            Some(caps) if caps.get::<&str>("format") == Ok("pango-markup") => Self::PangoMarkup,
            _ => Self::Utf8,
        }
    }
}

/// One word, or several that belong together, with the times at which they were said.
///
/// Serialised, it is the object of `application/x-json`: times in nanoseconds of the stream's timestamps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Piece {
    pub(super) text: String,
    #[serde(serialize_with = "nanoseconds")]
    pub(super) start: gst::ClockTime,
    #[serde(serialize_with = "nanoseconds")]
    pub(super) end: gst::ClockTime,
    /// 0 to 1.
    pub(super) confidence: f32,
    /// Whether it will not change any more.
    pub(super) is_final: bool,
    /// Number of the utterance it belongs to.
    pub(super) utterance: u64,
    /// The language, where the model writes it down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) language: Option<String>,
    pub(super) words: Vec<TimedWord>,
}

/// A word in a [`Piece`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TimedWord {
    text: String,
    #[serde(serialize_with = "nanoseconds")]
    start: gst::ClockTime,
    #[serde(serialize_with = "nanoseconds")]
    end: gst::ClockTime,
    confidence: f32,
}

fn nanoseconds<S: serde::Serializer>(time: &gst::ClockTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.nseconds())
}

impl Piece {
    /// `words`, of which there is at least one; `time` gives the time of a sample.
    pub(super) fn new(
        words: &[Word],
        utterance: u64,
        is_final: bool,
        time: impl Fn(u64) -> Option<gst::ClockTime>,
    ) -> Option<Self> {
        let timed = |word: &Word| {
            Some(TimedWord {
                text: word.text.clone(),
                start: time(word.start)?,
                end: time(word.end)?,
                confidence: word.confidence,
            })
        };
        let words: Vec<TimedWord> = words.iter().filter_map(timed).collect();
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        Some(Self {
            text: texts.join(" "),
            start: words.first()?.start,
            end: words.last()?.end,
            confidence: words.iter().map(|word| word.confidence).sum::<f32>() / words.len() as f32,
            is_final,
            utterance,
            language: None,
            words,
        })
    }

    /// Contents of a text buffer.
    pub(super) fn bytes(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Utf8 => self.text.clone().into_bytes(),
            Format::PangoMarkup => glib::markup_escape_text(&self.text).as_bytes().to_vec(),
            // Strings and numbers cannot fail to be written.
            Format::Json => serde_json::to_vec(self).unwrap_or_default(),
        }
    }

    /// Contents of a bus message. Times are in nanoseconds; `running-time` and `stream-time` are of the start.
    pub(super) fn structure(&self, segment: &gst::FormattedSegment<gst::ClockTime>) -> gst::Structure {
        let word = |word: &TimedWord| {
            gst::Structure::builder("word")
                .field("text", &word.text)
                .field("start-time", word.start)
                .field("end-time", word.end)
                .field("confidence", f64::from(word.confidence))
                .build()
                .to_send_value()
        };
        gst::Structure::builder("nemostt")
            .field("text", &self.text)
            .field("is-final", self.is_final)
            .field("start-time", self.start)
            .field("end-time", self.end)
            .field("running-time", segment.to_running_time(self.start))
            .field("stream-time", segment.to_stream_time(self.start))
            .field("confidence", f64::from(self.confidence))
            .field("utterance-id", self.utterance)
            .field_if_some("language", self.language.as_deref())
            .field("words", gst::Array::from_values(self.words.iter().map(word)))
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece() -> Piece {
        let word = |text: &str, start| Word {
            text: text.into(),
            start,
            end: start + 1_000,
            confidence: 0.5,
        };
        let time = |sample| Some(gst::ClockTime::from_nseconds(sample));
        Piece::new(&[word("fish", 1_000), word("<&>", 2_000)], 7, true, time).unwrap()
    }

    #[test]
    fn bytes_are_what_the_caps_promise() {
        let text = |format| String::from_utf8(piece().bytes(format)).unwrap();
        assert_eq!(text(Format::Utf8), "fish <&>");
        assert_eq!(text(Format::PangoMarkup), "fish &lt;&amp;&gt;");
        let json: serde_json::Value = serde_json::from_str(&text(Format::Json)).unwrap();
        assert_eq!(json["text"], "fish <&>");
        assert_eq!(
            (json["start"].as_u64(), json["end"].as_u64()),
            (Some(1_000), Some(3_000))
        );
        assert_eq!(
            (json["utterance"].as_u64(), json["is_final"].as_bool()),
            (Some(7), Some(true))
        );
        assert_eq!(json["words"][1]["start"], 2_000);
    }

    #[test]
    fn formats_follow_the_caps() {
        gst::init().unwrap();
        let format = |caps: &str| Format::of(&caps.parse::<gst::Caps>().unwrap());
        assert_eq!(format("text/x-raw,format=utf8"), Format::Utf8);
        assert_eq!(format("text/x-raw,format=pango-markup"), Format::PangoMarkup);
        assert_eq!(format("application/x-json"), Format::Json);
    }
}
