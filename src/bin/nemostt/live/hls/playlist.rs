// SPDX-License-Identifier: MIT OR Apache-2.0

//! The text of playlists (RFC 8216): one of the media and one of the captions, with the same segments, and the multivariant playlist
//! that names both.

use std::{fmt::Write, time::Duration};

/// A segment of both playlists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// File of the media.
    pub media: String,
    /// File of the captions.
    pub captions: String,
    pub duration: Duration,
    /// Its timestamps do not follow those before it: it is the first one of another connection.
    pub is_discontinuous: bool,
}

/// What the two playlists have in common.
#[derive(Debug, Default)]
pub struct Listed<'a> {
    pub segments: Vec<&'a Segment>,
    /// Number of segments before the first one.
    pub sequence: u64,
    /// Number of discontinuities before the first one.
    pub discontinuities: u64,
    /// Whole seconds that no segment is longer than.
    pub target: u64,
    /// No more segments follow.
    pub has_ended: bool,
}

impl Listed<'_> {
    /// A media playlist of the files that `file` says.
    pub fn text(&self, file: impl Fn(&Segment) -> &str) -> String {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n",
            self.target, self.sequence
        );
        if self.discontinuities > 0 {
            text += &format!("#EXT-X-DISCONTINUITY-SEQUENCE:{}\n", self.discontinuities);
        }
        for segment in &self.segments {
            if segment.is_discontinuous {
                text += "#EXT-X-DISCONTINUITY\n";
            }
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "#EXTINF:{:.3},\n{}",
                segment.duration.as_secs_f64(),
                file(segment)
            );
        }
        if self.has_ended {
            text += "#EXT-X-ENDLIST\n";
        }
        text
    }
}

/// What the media is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    pub has_video: bool,
    /// Its codecs as in RFC 6381, if all of them are known.
    pub codecs: Option<String>,
    /// Width and height in pixels.
    pub resolution: Option<(i32, i32)>,
}

/// The multivariant playlist. `bandwidth`: most bits per second of a segment; `language`: that of the captions, as in RFC 5646.
pub fn multivariant(format: &Format, bandwidth: u64, language: Option<&str>) -> String {
    let language = language.map_or(String::new(), |language| format!(",LANGUAGE=\"{language}\""));
    let codecs = format.codecs.as_deref();
    let codecs = codecs.map_or(String::new(), |codecs| format!(",CODECS=\"{codecs}\""));
    let resolution = format.resolution;
    let resolution = resolution.map_or(String::new(), |(width, height)| format!(",RESOLUTION={width}x{height}"));
    format!(
        "#EXTM3U\n#EXT-X-VERSION:4\n\
         #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"captions\",NAME=\"Captions\",DEFAULT=YES,AUTOSELECT=YES,FORCED=NO{language},\
         URI=\"captions.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH={bandwidth}{codecs}{resolution},SUBTITLES=\"captions\"\nmedia.m3u8\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_playlists_list_the_same_segments() {
        let segment = |number: u32, is_discontinuous| Segment {
            media: format!("media-0-{number:05}.ts"),
            captions: format!("captions-{number:05}.vtt"),
            duration: Duration::from_millis(3_960),
            is_discontinuous,
        };
        let segments = [segment(7, false), segment(8, true)];
        let mut listed = Listed {
            segments: segments.iter().collect(),
            sequence: 7,
            discontinuities: 0,
            target: 4,
            has_ended: false,
        };
        let media = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:3.960,\n\
                     media-0-00007.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:3.960,\nmedia-0-00008.ts\n";
        assert_eq!(listed.text(|segment| &segment.media), media);
        let captions = media.replace("media-0-", "captions-").replace(".ts", ".vtt");
        assert_eq!(listed.text(|segment| &segment.captions), captions);
        listed.has_ended = true;
        listed.discontinuities = 2;
        assert_eq!(
            listed.text(|segment| &segment.media),
            media.replace("SEQUENCE:7\n", "SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:2\n") + "#EXT-X-ENDLIST\n"
        );
    }

    #[test]
    fn the_multivariant_playlist_says_what_is_known() {
        let all = Format {
            has_video: true,
            codecs: Some("avc1.42C00D,mp4a.40.2".into()),
            resolution: Some((320, 180)),
        };
        let start = "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"captions\",NAME=\"Captions\",DEFAULT=YES,\
                     AUTOSELECT=YES,FORCED=NO";
        assert_eq!(
            multivariant(&all, 800_000, Some("en-US")),
            format!(
                "{start},LANGUAGE=\"en-US\",URI=\"captions.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=800000,\
                 CODECS=\"avc1.42C00D,mp4a.40.2\",RESOLUTION=320x180,SUBTITLES=\"captions\"\nmedia.m3u8\n"
            )
        );
        assert_eq!(
            multivariant(&Format::default(), 1, None),
            format!(
                "{start},URI=\"captions.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,SUBTITLES=\"captions\"\nmedia.m3u8\n"
            )
        );
    }
}
