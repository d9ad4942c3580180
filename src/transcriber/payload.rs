// SPDX-License-Identifier: MIT OR Apache-2.0

//! Output text with its times, and its forms as a buffer and as a bus message.

use std::{borrow::Cow, sync::Arc};

use gst::{glib, prelude::*};
use serde::Serialize;

use super::{
    cea608,
    downstream::{Downstream, takes_cea608},
    segment::Segment,
    timestamps::{Moment, Timestamps},
};
use nemostt::{
    Alternative, Word,
    cues::{Cue, CueRules},
};

/// Format of text buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Format {
    /// Plain UTF-8.
    #[default]
    Utf8,
    /// UTF-8 in which `&`, `<` and `>` are escaped for Pango.
    PangoMarkup,
    /// One JSON object.
    Json,
    /// The JSON of `tttocea608`.
    Cea608,
}

impl Format {
    /// The caps of all formats, in order of preference.
    pub(super) fn caps() -> gst::Caps {
        let text = gst::Caps::builder("text/x-raw").field("format", gst::List::new(["utf8", "pango-markup"]));
        let json = gst::Structure::new_empty("application/x-json");
        let mut caps = text.build();
        caps.make_mut().append_structure(json);
        caps
    }

    /// Picks a format from `caps` in the element's order of preference, not downstream's: markup only where plain text is
    /// not accepted. `for_cea608`: if `tttocea608` is downstream, it takes its JSON.
    pub(super) fn preferred(caps: &gst::Caps, for_cea608: bool) -> gst::Caps {
        if for_cea608 && takes_cea608(caps) {
            return gst::Caps::builder("application/x-json")
                .field("format", "cea608")
                .build();
        }
        let mut preferred = Self::caps().intersect_with_mode(caps, gst::CapsIntersectMode::First);
        preferred.fixate();
        preferred
    }

    /// What follows each buffer unless the property `separator` is set. Text elements display a buffer as it is. Objects in a
    /// file are one per line, and JSON parsers skip whitespace after an object.
    fn default_separator(self) -> &'static str {
        match self {
            Self::Utf8 | Self::PangoMarkup | Self::Cea608 => "",
            Self::Json => "\n",
        }
    }

    /// The format of negotiated caps.
    pub(super) fn of(caps: &gst::CapsRef) -> Self {
        match caps.structure(0) {
            Some(caps) if caps.name() == "application/x-json" => match caps.get::<&str>("format") {
                Ok("cea608") => Self::Cea608,
                _ => Self::Json,
            },
            Some(caps) if caps.get::<&str>("format") == Ok("pango-markup") => Self::PangoMarkup,
            _ => Self::Utf8,
        }
    }
}

/// One word, or the words of one utterance, with the times at which they were spoken; or a cue, with the times at which it
/// is shown.
///
/// Serialized, it is the object of `application/x-json`; times are timestamps of the stream in nanoseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Payload {
    pub(super) text: String,
    #[serde(serialize_with = "nanoseconds")]
    pub(super) start: gst::ClockTime,
    #[serde(serialize_with = "nanoseconds")]
    pub(super) end: gst::ClockTime,
    /// 0 to 1.
    pub(super) confidence: f32,
    /// Whether it is final, that is, will not change any more.
    pub(super) is_final: bool,
    /// Whether it changes words of the partial before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_revision: Option<bool>,
    /// Number of the utterance it belongs to.
    pub(super) utterance: u64,
    /// The language, if the model reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) language: Option<String>,
    pub(super) words: Vec<TimedWord>,
    /// The best transcripts, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) alternatives: Vec<AlternativeText>,
    /// The segment that its times refer to: that of its first word.
    #[serde(skip)]
    pub(super) segment: Arc<Segment>,
    #[serde(skip)]
    pub(super) cue: Option<Arc<Cue>>,
}

/// A transcript of an utterance in a [`Payload`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct AlternativeText {
    text: String,
    score: f64,
}

impl From<&Alternative> for AlternativeText {
    fn from(alternative: &Alternative) -> Self {
        Self {
            text: alternative.text.clone(),
            score: alternative.score,
        }
    }
}

/// A word in a [`Payload`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TimedWord {
    text: String,
    #[serde(serialize_with = "nanoseconds")]
    start: gst::ClockTime,
    #[serde(serialize_with = "nanoseconds")]
    end: gst::ClockTime,
    confidence: f32,
    /// In a partial, for how many chunks it has been there.
    #[serde(skip_serializing_if = "Option::is_none")]
    stability: Option<u32>,
}

fn nanoseconds<S: serde::Serializer>(time: &gst::ClockTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.nseconds())
}

impl Payload {
    /// A payload of `words` with times from `timestamps`; `None` if there are no words.
    pub(super) fn new(words: &[Word], utterance: u64, is_final: bool, timestamps: &Timestamps) -> Option<Self> {
        let first: Moment = timestamps.at(words.first()?.start)?;
        let segment = first.segment.clone();
        let timed = |word: &Word| {
            let (start, end) = timestamps.span(word.start, word.end)?;
            // Times of a word in a later segment are converted to the segment of the first word.
            let (start, end) = match Arc::ptr_eq(&start.segment, &segment) {
                true => (start.pts, end),
                false => {
                    let start_here = segment.at_running(start.running());
                    (start_here, start_here.saturating_add(end.saturating_sub(start.pts)))
                }
            };
            Some(TimedWord {
                text: word.text.clone(),
                start,
                end,
                confidence: word.confidence,
                stability: None,
            })
        };
        let words: Vec<TimedWord> = words.iter().filter_map(timed).collect();
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        Some(Self {
            text: texts.join(" "),
            start: words.first()?.start,
            end: words.last()?.end.max(words.first()?.end),
            confidence: words.iter().map(|word| word.confidence).sum::<f32>() / words.len() as f32,
            is_final,
            is_revision: None,
            utterance,
            language: None,
            words,
            alternatives: Vec::new(),
            segment,
            cue: None,
        })
    }

    /// A payload without words at `moment`: those of the partial before are gone.
    pub(super) fn empty(moment: &Moment, utterance: u64) -> Self {
        Self {
            text: String::new(),
            start: moment.pts,
            end: moment.pts,
            confidence: 0.0,
            is_final: false,
            is_revision: None,
            utterance,
            language: None,
            words: Vec::new(),
            alternatives: Vec::new(),
            segment: moment.segment.clone(),
            cue: None,
        }
    }

    /// The payload of a partial: `stability` is that of its words.
    pub(super) fn of_partial(mut self, stability: &[u32], is_revision: bool) -> Self {
        self.is_revision = Some(is_revision);
        for (word, &stability) in self.words.iter_mut().zip(stability) {
            word.stability = Some(stability);
        }
        self
    }

    /// Its words, with times in `segment`.
    pub(super) fn words_in(&self, segment: &Arc<Segment>) -> Vec<TimedWord> {
        if Arc::ptr_eq(segment, &self.segment) {
            return self.words.clone();
        }
        let here = |pts| segment.at_running(self.segment.running(pts));
        let words = self.words.iter().map(|word| TimedWord {
            start: here(word.start),
            end: here(word.end),
            ..word.clone()
        });
        words.collect()
    }

    /// Contents of a text buffer that shows its cue, which keeps `rules`, in the way that `downstream` needs.
    pub(super) fn cue_bytes(
        &self,
        format: Format,
        separator: Option<&str>,
        rules: &CueRules,
        downstream: Downstream,
    ) -> Vec<u8> {
        match (format, &self.cue) {
            (Format::Cea608, Some(cue)) => cea608::json(cue, rules.mode, rules.lines),
            (Format::Utf8, Some(cue)) => {
                let separator = separator.unwrap_or(format.default_separator());
                (downstream.text(cue, rules.mode) + separator).into_bytes()
            }
            _ => self.bytes(format, separator),
        }
    }

    /// Contents of a text buffer, with `separator` at its end.
    pub(super) fn bytes(&self, format: Format, separator: Option<&str>) -> Vec<u8> {
        let separator = separator.unwrap_or(format.default_separator());
        match format {
            Format::Utf8 => [&self.text, separator].concat().into_bytes(),
            Format::Cea608 => cea608::plain(&self.text),
            Format::PangoMarkup => {
                let text = [&self.text, separator].concat();
                glib::markup_escape_text(&printable(&text)).as_bytes().to_vec()
            }
            Format::Json => {
                // Serializing strings and numbers cannot fail.
                let mut json = serde_json::to_vec(self).unwrap_or_default();
                json.extend_from_slice(separator.as_bytes());
                json
            }
        }
    }

    /// One line for the log.
    pub(super) fn log_line(&self) -> String {
        let kind = if self.is_final { "final" } else { "partial" };
        format!(
            "{kind} \"{}\", running time {} to {}, utterance {}, confidence {:.2}",
            self.text,
            self.segment.to_running_time(self.start).display(),
            self.segment.to_running_time(self.end).display(),
            self.utterance,
            self.confidence
        )
    }

    /// Contents of a bus message. Times are in nanoseconds; `running-time` and `stream-time` are of the start.
    pub(super) fn structure(&self) -> gst::Structure {
        let word = |word: &TimedWord| {
            gst::Structure::builder("word")
                .field("text", &word.text)
                .field("start-time", word.start)
                .field("end-time", word.end)
                .field("confidence", f64::from(word.confidence))
                .field_if_some("stability", word.stability)
                .build()
                .to_send_value()
        };
        let alternative = |alternative: &AlternativeText| {
            gst::Structure::builder("alternative")
                .field("text", &alternative.text)
                .field("score", alternative.score)
                .build()
                .to_send_value()
        };
        let alternatives =
            (!self.alternatives.is_empty()).then(|| gst::Array::from_values(self.alternatives.iter().map(alternative)));
        gst::Structure::builder("nemostt")
            .field("text", &self.text)
            .field("is-final", self.is_final)
            .field_if_some("is-revision", self.is_revision)
            .field("start-time", self.start)
            .field("end-time", self.end)
            .field("running-time", self.segment.to_running_time(self.start))
            .field("stream-time", self.segment.to_stream_time(self.start))
            .field("confidence", f64::from(self.confidence))
            .field("utterance-id", self.utterance)
            .field_if_some("language", self.language.as_deref())
            .field("words", gst::Array::from_values(self.words.iter().map(word)))
            .field_if_some("alternatives", alternatives)
            .build()
    }
}

/// `text` without the characters that XML 1.0 does not allow even escaped: Pango rejects markup that contains them.
fn printable(text: &str) -> Cow<'_, str> {
    let is_allowed = |char: char| match char {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        char => !char.is_control(),
    };
    match text.chars().all(is_allowed) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(text.chars().filter(|&char| is_allowed(char)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcriber::timestamps::{Arrival, Placement};

    fn payload_of(texts: [&str; 2]) -> Payload {
        let word = |text: &str, start| Word {
            text: text.into(),
            start,
            end: start + 16,
            confidence: 0.5,
            spoken: Vec::new(),
        };
        let mut timestamps = Timestamps::new(16_000);
        let first = Arrival {
            pts: Some(gst::ClockTime::ZERO),
            len: 160,
            confirmed: false,
            fingerprint: None,
        };
        assert_eq!(timestamps.align(&first, &Arc::default(), 0), Placement::First);
        Payload::new(&[word(texts[0], 16), word(texts[1], 32)], 7, true, &timestamps).unwrap()
    }

    #[test]
    fn bytes_are_what_the_caps_promise() {
        gst::init().unwrap();
        let text = |format| String::from_utf8(payload_of(["fish", "<&>"]).bytes(format, None)).unwrap();
        assert_eq!(text(Format::Utf8), "fish <&>");
        assert_eq!(text(Format::PangoMarkup), "fish &lt;&amp;&gt;");
        let json: serde_json::Value = serde_json::from_str(&text(Format::Json)).unwrap();
        assert_eq!(json["text"], "fish <&>");
        assert_eq!(
            (json["start"].as_u64(), json["end"].as_u64()),
            (Some(1_000_000), Some(3_000_000))
        );
        assert_eq!(
            (json["utterance"].as_u64(), json["is_final"].as_bool()),
            (Some(7), Some(true))
        );
        assert_eq!(json["words"][1]["start"], 2_000_000);
    }

    #[test]
    fn the_separator_follows_every_buffer() {
        gst::init().unwrap();
        let bytes = |format, separator| {
            let payload = payload_of(["a", "b"]);
            String::from_utf8(payload.bytes(format, separator)).unwrap()
        };
        assert_eq!(bytes(Format::Utf8, Some(" ")), "a b ");
        assert_eq!(bytes(Format::PangoMarkup, Some(" & ")), "a b &amp; ");
        assert!(bytes(Format::Json, None).ends_with("}\n"));
        assert!(bytes(Format::Json, Some("")).ends_with('}'));
        assert!(bytes(Format::Json, Some(",\n")).ends_with("},\n"));
    }

    #[test]
    fn formats_follow_the_caps() {
        gst::init().unwrap();
        let format = |caps: &str| Format::of(&caps.parse::<gst::Caps>().unwrap());
        assert_eq!(format("text/x-raw,format=utf8"), Format::Utf8);
        assert_eq!(format("text/x-raw,format=pango-markup"), Format::PangoMarkup);
        assert_eq!(format("application/x-json"), Format::Json);
        assert_eq!(format("application/x-json,format=cea608"), Format::Cea608);
    }

    #[test]
    fn the_json_of_tttocea608_is_for_cues_only() {
        gst::init().unwrap();
        let preferred = |caps: &str, for_cea608| {
            let caps = Format::preferred(&caps.parse().unwrap(), for_cea608);
            Format::of(&caps)
        };
        let cea608 = "text/x-raw,format=utf8;application/x-json,format=cea608";
        assert_eq!(preferred(cea608, true), Format::Cea608);
        assert_eq!(preferred(cea608, false), Format::Utf8);
        assert_eq!(preferred("ANY", true), Format::Utf8);
    }

    #[test]
    fn markup_is_valid_xml_for_any_text() {
        gst::init().unwrap();
        let payload = payload_of(["a\u{1}\u{8}b\u{7f}\u{85}", "\u{ffff}<c>\u{1f}é"]);
        let markup = String::from_utf8(payload.bytes(Format::PangoMarkup, None)).unwrap();
        assert_eq!(markup, "ab &lt;c&gt;é");
        assert_eq!(
            String::from_utf8(payload.bytes(Format::Utf8, None)).unwrap(),
            payload.text
        );
    }
}
