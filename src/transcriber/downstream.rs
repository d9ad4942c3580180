// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is downstream of the element, and what it needs of caption cues.

use nemostt::cues::{Cue, CueMode, CueRules};

/// What takes the cues, as far as its caps tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Downstream {
    /// It shows or stores a buffer as it is, as `textoverlay` and `srtenc` do.
    #[default]
    Display,
    /// It takes plain text only, no markup: a caption encoder such as `tttocea708`.
    PlainText,
    /// `tttocea608`.
    Cea608,
}

impl Downstream {
    /// Of caps that downstream accepts.
    pub(super) fn of(caps: &gst::CapsRef) -> Self {
        let is_cea608 = |caps: &gst::StructureRef| {
            caps.name() == "application/x-json" && caps.get::<&str>("format") == Ok("cea608")
        };
        let takes = |format| {
            let text = gst::Caps::builder("text/x-raw").field("format", format).build();
            caps.can_intersect(&text)
        };
        if caps.iter().any(is_cea608) {
            Self::Cea608
        } else if takes("utf8") && !takes("pango-markup") {
            Self::PlainText
        } else {
            Self::Display
        }
    }

    /// Most columns of a line. `tttocea608` begins a new line after the 31st in roll-up; `tttocea708` puts a space before
    /// each line.
    pub(super) fn columns(self, mode: CueMode) -> usize {
        match (self, mode) {
            (Self::Display, _) => CueRules::default().columns,
            (Self::Cea608, CueMode::PopOn | CueMode::PaintOn) => CueRules::CEA608_COLUMNS,
            (Self::Cea608, CueMode::RollUp) | (Self::PlainText, _) => CueRules::CEA608_COLUMNS - 1,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn downstream(caps: &str) -> Downstream {
        gst::init().unwrap();
        Downstream::of(&caps.parse::<gst::Caps>().unwrap())
    }

    #[test]
    fn caps_tell_what_is_downstream() {
        assert_eq!(downstream("ANY"), Downstream::Display);
        assert_eq!(downstream("text/x-raw,format={utf8,pango-markup}"), Downstream::Display);
        assert_eq!(downstream("application/x-json"), Downstream::Display);
        assert_eq!(downstream("text/x-raw,format=utf8"), Downstream::PlainText);
        // The caps of tttocea608.
        assert_eq!(
            downstream("text/x-raw,format=utf8;application/x-json,format=cea608"),
            Downstream::Cea608
        );
    }
}
