// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is published when, from what becomes known of media and captions.

use std::{fs, path::Path, time::Duration};

use nemostt::cues::CueRules;

use super::{
    Publisher,
    directory::Directory,
    playlist::Format,
    timelines::Anchor,
    transport_stream::packets,
    update::{MediaSegment, Update},
};
use crate::live::caption::{Caption, TimedWord};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A directory and what writes it.
struct Stream {
    directory: tempfile::TempDir,
    publisher: Publisher,
}

impl Stream {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let opened = Directory::open(&directory.path().join("hls")).unwrap();
        let publisher = Publisher::new(opened, CueRules::default(), Some("en".into())).unwrap();
        Self { directory, publisher }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("hls").join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Samples of a connection, from its beginning, are at `session`.
    fn placed(&mut self, connection: u32, session: u64) {
        let anchor = Anchor {
            media: Duration::ZERO,
            session: ms(session),
        };
        self.publisher.update(Update::Placed { connection, anchor });
    }

    /// The sink announces segment `number` of a connection, of four seconds.
    fn announced(&mut self, connection: u32, number: u64) -> String {
        self.announced_for(connection, number, 4_000)
    }

    /// The same with another duration.
    fn announced_for(&mut self, connection: u32, number: u64, duration: u64) -> String {
        let file = format!("media-{connection}-{number:05}.ts");
        self.publisher.update(Update::Segment(MediaSegment {
            connection,
            file: file.clone(),
            start: ms(number * 4_000),
            duration: ms(duration),
            format: Format::default(),
        }));
        file
    }

    fn segment(&mut self, connection: u32, number: u64) {
        let file = self.announced(connection, number);
        write_segment(&self.path(&file), number * 360_000);
    }

    fn say(&mut self, text: &str, start: u64, end: u64) {
        let word = TimedWord {
            text: text.into(),
            start,
            end,
            confidence: 1.0,
        };
        self.publisher.caption(&Caption {
            utterance: 0,
            text: text.into(),
            is_final: true,
            start,
            end,
            words: vec![word],
        });
    }

    fn publish(&mut self, now: u64) -> bool {
        self.publisher.publish(ms(now)).unwrap()
    }

    /// Lines of a playlist that are no tags.
    fn listed(&self, playlist: &str) -> Vec<String> {
        let text = self.text(playlist);
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(String::from)
            .collect()
    }
}

/// A transport stream in which a frame of audio begins.
fn write_segment(path: &Path, pts: u64) {
    fs::write(path, packets::frame(0xc0, pts, None)).unwrap();
}

#[test]
fn a_segment_is_listed_when_its_captions_are_known_and_it_is_due() {
    let mut stream = Stream::new();
    stream.segment(0, 0);
    assert!(!stream.publish(100_000), "nothing has a place in the session");
    stream.placed(0, 0);
    stream.publisher.settled(ms(3_999));
    assert!(!stream.publish(100_000), "a caption may begin in it");
    stream.say("one", 3_000, 5_000);
    stream.publisher.settled(ms(8_000));
    assert!(!stream.publish(15_999), "it is too early");
    assert!(stream.publish(16_000) && !stream.publish(16_000));
    // The sink announces a segment a moment before it is complete.
    let file = stream.announced(0, 1);
    assert!(!stream.publish(20_000));
    write_segment(&stream.path(&file), 360_000);
    assert!(stream.publish(20_000));

    assert_eq!(stream.listed("media.m3u8"), ["media-0-00000.ts", "media-0-00001.ts"]);
    assert_eq!(
        stream.listed("captions.m3u8"),
        ["captions-00000.vtt", "captions-00001.vtt"]
    );
    let cue = "00:00:03.000 --> 00:00:05.000\none\n\n";
    assert_eq!(
        stream.text("captions-00001.vtt"),
        format!("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:360000,LOCAL:00:00:04.000\n\n{cue}")
    );
    assert!(stream.text("captions-00000.vtt").ends_with(cue));
    assert!(stream.text("master.m3u8").contains("LANGUAGE=\"en\"") && !stream.text("media.m3u8").contains("ENDLIST"));
    stream.publisher.close().unwrap();
    for playlist in ["media.m3u8", "captions.m3u8"] {
        assert!(stream.text(playlist).ends_with("#EXT-X-ENDLIST\n"));
    }
}

#[test]
fn the_target_duration_never_changes() {
    let mut stream = Stream::new();
    stream.placed(0, 0);
    stream.publisher.settled(ms(1_000_000));
    stream.segment(0, 0);
    assert!(stream.publish(1_000_000));
    // A key frame is missing.
    let file = stream.announced_for(0, 1, 10_000);
    let frames =
        (0..100).map(|number| [packets::table(), packets::frame(0xc0, 360_000 + number * 9_000, None)].concat());
    fs::write(stream.path(&file), frames.collect::<Vec<_>>().concat()).unwrap();
    stream.say("in the middle", 8_000, 9_000);
    assert!(stream.publish(1_000_000));
    for playlist in ["media.m3u8", "captions.m3u8"] {
        let text = stream.text(playlist);
        assert!(text.contains("#EXT-X-TARGETDURATION:4\n"), "{text}");
        assert!(!text.contains("DISCONTINUITY"), "{text}");
        let durations: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#EXTINF:")).collect();
        assert_eq!(durations, ["4.000,", "3.300,", "3.300,", "3.400,"]);
    }
    assert_eq!(
        stream.listed("media.m3u8")[1..],
        ["media-0-00001-0.ts", "media-0-00001-1.ts", "media-0-00001-2.ts"]
    );
    // Times are those of each part.
    assert!(
        stream
            .text("captions-00002.vtt")
            .starts_with("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:657000,LOCAL:00:00:07.300\n")
    );
    assert!(
        stream.text("captions-00002.vtt").contains("in the middle")
            && !stream.text("captions-00001.vtt").contains("in")
    );
}

#[test]
fn a_segment_that_is_too_long_and_cannot_be_cut_is_left_out() {
    let mut stream = Stream::new();
    stream.placed(0, 0);
    stream.publisher.settled(ms(1_000_000));
    stream.segment(0, 0);
    assert!(stream.publish(1_000_000));
    let file = stream.announced_for(0, 1, 10_000);
    write_segment(&stream.path(&file), 360_000);
    let error = stream.publisher.publish(ms(1_000_000)).unwrap_err();
    assert!(
        error.contains("10.0 s of the media have no key frame") && error.contains("longer than 4 s"),
        "{error}"
    );
    assert!(!stream.path(&file).exists());
    stream.segment(0, 4);
    assert!(stream.publish(1_000_000));
    let text = stream.text("media.m3u8");
    assert!(
        text.contains("media-0-00000.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:4.000,\nmedia-0-00004.ts"),
        "{text}"
    );
}

#[test]
fn another_connection_is_a_discontinuity_in_both_playlists() {
    let mut stream = Stream::new();
    stream.placed(0, 0);
    stream.segment(0, 0);
    stream.segment(0, 1);
    stream.segment(0, 2);
    // The connection was lost within the second segment: there are no captions of the third.
    stream.publisher.update(Update::Ended {
        connection: 0,
        until: Some(ms(6_000)),
    });
    assert!(!stream.path("media-0-00002.ts").exists());
    stream.placed(1, 30_000);
    stream.segment(1, 0);
    stream.say("again", 31_000, 32_000);
    stream.publisher.close().unwrap();
    for (playlist, after) in [
        ("media.m3u8", "media-1-00000.ts"),
        ("captions.m3u8", "captions-00002.vtt"),
    ] {
        let text = stream.text(playlist);
        assert!(
            text.contains(&format!("#EXT-X-DISCONTINUITY\n#EXTINF:4.000,\n{after}\n")),
            "{text}"
        );
        assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    }
    assert_eq!(
        stream.text("captions-00002.vtt"),
        "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:30.000\n\n00:00:31.000 --> 00:00:32.000\nagain\n\n"
    );
}

#[test]
fn old_files_are_removed_together() {
    let mut stream = Stream::new();
    stream.placed(0, 0);
    stream.publisher.settled(ms(1_000_000));
    for number in 0..20 {
        stream.segment(0, number);
        assert!(stream.publish(1_000_000));
    }
    let count = |extension: &str| {
        let entries = fs::read_dir(stream.path("")).unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|other| other == extension)
            })
            .count()
    };
    // Six are listed, and seven more may still be fetched.
    assert_eq!((count("ts"), count("vtt")), (13, 13));
    assert_eq!(stream.listed("media.m3u8").len(), 6);
    assert!(stream.text("captions.m3u8").contains("#EXT-X-MEDIA-SEQUENCE:14\n"));
}

#[test]
fn a_segment_that_cannot_be_read_is_left_out() {
    let mut stream = Stream::new();
    stream.placed(0, 0);
    stream.publisher.settled(ms(100_000));
    stream.segment(0, 0);
    let file = stream.announced(0, 1);
    fs::write(stream.path(&file), "no transport stream").unwrap();
    let error = stream.publisher.publish(ms(100_000)).unwrap_err();
    assert!(error.contains("media-0-00001.ts"), "{error}");
    assert!(!stream.path(&file).exists());
    stream.segment(0, 2);
    assert!(stream.publish(100_000));
    let text = stream.text("media.m3u8");
    assert!(
        text.contains("media-0-00000.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:4.000,\nmedia-0-00002.ts"),
        "{text}"
    );
}
