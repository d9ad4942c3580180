// SPDX-License-Identifier: MIT OR Apache-2.0

//! WebVTT segments (RFC 8216, 3.5).

use std::{ops::Range, time::Duration};

use nemostt::cues::Cue;

use crate::cues;

/// The text of a segment with those of `cues` that are seen in `span` of the session. One that is seen in several segments is in
/// each of them, whole, so that players that begin with any of them show it. `pts` is the timestamp of the media at the beginning
/// of `span`, in 90 kHz.
pub fn text(cues: &[Cue], span: &Range<Duration>, pts: u64) -> String {
    // The two times mean the same moment: players subtract one from a cue's time and add the other.
    let local = cues::time(nanoseconds(span.start), '.');
    let mut text = format!("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{pts},LOCAL:{local}\n\n");
    for cue in cues.iter().filter(|cue| is_in(cue, span)) {
        text += &cues::vtt(cue);
        text.push('\n');
    }
    text
}

fn is_in(cue: &Cue, span: &Range<Duration>) -> bool {
    cue.start < nanoseconds(span.end) && cue.end > nanoseconds(span.start)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cue(text: &str, start: u64, end: u64) -> Cue {
        Cue {
            start: start * 1_000_000,
            end: end * 1_000_000,
            lines: vec![text.into()],
            added: Vec::new(),
            clears: true,
            words: 1,
            delayed: 0,
        }
    }

    #[test]
    fn a_cue_is_in_each_segment_in_which_it_is_seen() {
        let cues = [
            cue("before", 500, 4_000),
            cue("across & <both>", 3_900, 8_100),
            cue("inside", 5_000, 6_000),
            cue("after", 8_000, 9_000),
        ];
        let text = |start, end, pts| text(&cues, &(Duration::from_millis(start)..Duration::from_millis(end)), pts);
        assert_eq!(
            text(4_000, 8_000, 324_360_000),
            "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:324360000,LOCAL:00:00:04.000\n\n00:00:03.900 --> 00:00:08.100\nacross &amp; \
             &lt;both&gt;\n\n00:00:05.000 --> 00:00:06.000\ninside\n\n"
        );
        assert!(text(0, 4_000, 0).contains("before") && text(0, 4_000, 0).contains("across"));
        assert!(text(8_000, 9_000, 0).contains("across") && text(8_000, 9_000, 0).contains("after"));
        // Without speech there is a segment, too.
        assert_eq!(
            text(3_600_000, 3_604_000, 7),
            "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:7,LOCAL:01:00:00.000\n\n"
        );
    }
}
