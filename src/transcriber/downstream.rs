// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is downstream of the element, and what it needs of caption cues.

use gst::prelude::*;

use super::linked::linked_element;
use nemostt::cues::{Cue, CueMode, CueRules};

/// What takes the cues, as far as its caps and source pads tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Downstream {
    /// It shows or stores a buffer as it is, as `textoverlay`, `srtenc` and `mp4mux` do.
    #[default]
    Display,
    /// A caption encoder that takes plain text, such as `tttocea708`.
    PlainText,
    /// `tttocea608`.
    Cea608,
}

impl Downstream {
    /// Of `caps`, which downstream accepts. `is_encoder`: it makes captions of text.
    pub(super) fn of(caps: &gst::CapsRef, is_encoder: bool) -> Self {
        let takes = |format| {
            let text = gst::Caps::builder("text/x-raw").field("format", format).build();
            caps.can_intersect(&text)
        };
        if takes_cea608(caps) {
            Self::Cea608
        } else if is_encoder && takes("utf8") && !takes("pango-markup") {
            Self::PlainText
        } else {
            Self::Display
        }
    }

    /// Of what is linked to `pad`, which accepts `caps`.
    pub(super) fn of_peer(pad: &gst::Pad, caps: &gst::CapsRef) -> Self {
        Self::of(caps, leads_to_captions(pad))
    }

    /// Columns of a line, unless a property says otherwise.
    pub(super) fn columns(self, mode: CueMode) -> usize {
        self.limit(mode).unwrap_or(CueRules::default().columns)
    }

    /// Most columns of a line, if there is a limit. `tttocea608` begins a new line after the 31st in roll-up; `tttocea708`
    /// puts a space before each line. Both drop what is beyond the last column.
    pub(super) fn limit(self, mode: CueMode) -> Option<usize> {
        match (self, mode) {
            (Self::Display, _) => None,
            (Self::Cea608, CueMode::PopOn | CueMode::PaintOn) => Some(CueRules::CEA608_COLUMNS),
            (Self::Cea608, CueMode::RollUp) | (Self::PlainText, _) => Some(CueRules::CEA608_COLUMNS - 1),
        }
    }

    /// The text of a buffer for `cue`.
    pub(super) fn text(self, cue: &Cue, mode: CueMode) -> String {
        match (mode, self) {
            // Encoders keep the lines before it themselves.
            (CueMode::RollUp, Self::PlainText | Self::Cea608) => {
                cue.added.iter().map(|added| added.text.as_str()).collect()
            }
            _ => cue.text(),
        }
    }
}

/// Whether `caps` have the JSON of `tttocea608`.
pub(super) fn takes_cea608(caps: &gst::CapsRef) -> bool {
    caps.iter()
        .any(|caps| caps.name() == "application/x-json" && caps.get::<&str>("format") == Ok("cea608"))
}

/// Whether what is linked to `pad` makes captions of text. Muxers accept the same caps as caption encoders, but store text
/// as it is: only an encoder has a source pad for captions. It may follow elements that pass text on, such as a queue.
fn leads_to_captions(pad: &gst::Pad) -> bool {
    let Some(element) = linked_element(pad) else {
        return false;
    };
    let makes_captions = |caps: gst::Caps| caps.iter().any(|caps| caps.name().starts_with("closedcaption/"));
    let pads = element.src_pads();
    pads.iter().any(|pad| makes_captions(pad.pad_template_caps())) || pads.iter().any(leads_to_captions)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a caption encoder with these caps is.
    fn encoder(caps: &str) -> Downstream {
        gst::init().unwrap();
        Downstream::of(&caps.parse::<gst::Caps>().unwrap(), true)
    }

    #[test]
    fn caps_tell_what_is_downstream() {
        assert_eq!(encoder("ANY"), Downstream::Display);
        assert_eq!(encoder("text/x-raw,format={utf8,pango-markup}"), Downstream::Display);
        assert_eq!(encoder("application/x-json"), Downstream::Display);
        assert_eq!(encoder("text/x-raw,format=utf8"), Downstream::PlainText);
        // The caps of tttocea608.
        assert_eq!(
            encoder("text/x-raw,format=utf8;application/x-json,format=cea608"),
            Downstream::Cea608
        );
    }

    #[test]
    fn only_what_makes_captions_is_an_encoder() {
        gst::init().unwrap();
        let text: gst::Caps = "text/x-raw,format=utf8".parse().unwrap();
        // An element with a pad for text and one for `output`, behind a queue.
        let behind_queue = |output: &str| {
            let template = |name: &str, direction, caps: &gst::Caps| {
                let template = gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).unwrap();
                gst::Pad::builder_from_template(&template).build()
            };
            let element = gst::Bin::new();
            let input = template("sink", gst::PadDirection::Sink, &text);
            element.add_pad(&input).unwrap();
            let output = template("src", gst::PadDirection::Src, &output.parse().unwrap());
            element.add_pad(&output).unwrap();
            let queue = gst::ElementFactory::make("queue").build().unwrap();
            let source = gst::Pad::new(gst::PadDirection::Src);
            source.link(&queue.static_pad("sink").unwrap()).unwrap();
            queue.static_pad("src").unwrap().link(&input).unwrap();
            Downstream::of_peer(&source, &text)
        };
        assert_eq!(
            behind_queue("closedcaption/x-cea-708,format=cc_data"),
            Downstream::PlainText
        );
        // A muxer.
        assert_eq!(behind_queue("video/quicktime,variant=iso"), Downstream::Display);
        let unlinked = gst::Pad::new(gst::PadDirection::Src);
        assert_eq!(Downstream::of_peer(&unlinked, &text), Downstream::Display);
    }
}
