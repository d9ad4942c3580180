// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is needed to pass media through, and which media can be.

use gst::prelude::*;

use super::playlist::Format;
use crate::{Result, audio};

/// The element that writes segments.
pub const SINK: &str = "hlssink3";
/// The first version of its plugin that announces segments.
const SINK_VERSION: (u32, u32) = (0, 13);
/// Elements that are needed, the sink's own among them, and where they are.
const OTHERS: [(&str, &str); 6] = [
    ("giostreamsink", "plugins-base"),
    ("aacparse", "plugins-good"),
    ("mpegaudioparse", "plugins-good"),
    ("splitmuxsink", "plugins-good"),
    ("h264parse", "plugins-bad"),
    ("mpegtsmux", "plugins-bad"),
];

/// Checks that all elements are installed.
///
/// # Errors
/// One line that says what is missing and where it is.
pub fn check() -> Result<()> {
    audio::start_gstreamer()?;
    let get = "install the plugin hlssink3 of gst-plugins-rs, which is a package of its own in some distributions, and is else built \
               with cargo (see docs/live.md)";
    let Some(sink) = gst::ElementFactory::find(SINK) else {
        return Err(format!("--hls needs the GStreamer element {SINK}, which is missing: {get}").into());
    };
    let version = sink
        .plugin()
        .map(|plugin| plugin.version().to_string())
        .unwrap_or_default();
    if parse_version(&version).is_some_and(|version| version < SINK_VERSION) {
        let (major, minor) = SINK_VERSION;
        return Err(
            format!("--hls needs {SINK} {major}.{minor} or newer, but version {version} is installed: {get}").into(),
        );
    }
    for (name, package) in OTHERS {
        if gst::ElementFactory::find(name).is_none() {
            return Err(format!(
                "--hls needs the GStreamer element {name}, which is missing: install gst-{package} (on Debian and Ubuntu: \
                 gstreamer1.0-{package})"
            )
            .into());
        }
    }
    Ok(())
}

/// Major and minor version, of 0.14.5-1a2b3c4 for example.
fn parse_version(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The elements that parse media, by the streams.
pub struct Parsers {
    pub audio: &'static str,
    pub video: Option<&'static str>,
}

impl Parsers {
    /// Those of streams with these caps.
    ///
    /// # Errors
    /// One line, if HLS cannot carry one of them.
    pub fn of(video: Option<&gst::Caps>, audio: &gst::Caps) -> Result<Self> {
        let refused = |what: &str, caps: &gst::Caps| {
            let codec = gst_pbutils::pb_utils_get_codec_description(caps);
            let name = caps
                .structure(0)
                .map_or("unknown", |structure| structure.name().as_str());
            format!(
                "--hls passes H.264 video, and AAC or MP3 audio, through as they are, but the {what} is {codec} ({name}). Convert it \
                 before, for example with: ffmpeg -i INPUT -c:v libx264 -c:a aac OUTPUT.mp4"
            )
        };
        let audio = audio_parser(audio).ok_or_else(|| refused("audio", audio))?;
        let video = match video {
            Some(caps) if is(caps, "video/x-h264") => Some("h264parse"),
            Some(caps) => return Err(refused("video", caps).into()),
            None => None,
        };
        Ok(Self { audio, video })
    }
}

fn audio_parser(caps: &gst::Caps) -> Option<&'static str> {
    let version = caps.structure(0)?.get::<i32>("mpegversion").ok();
    match version.filter(|_| is(caps, "audio/mpeg"))? {
        2 | 4 => Some("aacparse"),
        1 => Some("mpegaudioparse"),
        _ => None,
    }
}

fn is(caps: &gst::Caps, name: &str) -> bool {
    caps.structure(0).is_some_and(|structure| structure.name() == name)
}

/// What the multivariant playlist says of streams with these caps.
pub fn format(video: Option<&gst::Caps>, audio: &gst::Caps) -> Format {
    // Known where the caps have the codec's configuration, as those of MP4.
    let codec = |caps: &gst::Caps| {
        let caps = Some(caps).filter(|caps| caps.is_fixed())?;
        let codec = gst_pbutils::codec_utils_caps_get_mime_codec(caps).ok()?;
        // Without it, GStreamer names H.264 and not its profile, as players need.
        Some(codec).filter(|codec| codec != "avc1")
    };
    let codecs: Option<Vec<_>> = video.into_iter().chain([audio]).map(codec).collect();
    let size = || {
        let structure = video?.structure(0)?;
        Some((structure.get("width").ok()?, structure.get("height").ok()?))
    };
    Format {
        has_video: video.is_some(),
        codecs: codecs.map(|codecs| codecs.join(",")),
        resolution: size(),
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn caps(text: &str) -> gst::Caps {
        gst::init().unwrap();
        gst::Caps::from_str(text).unwrap()
    }

    #[test]
    fn media_that_hls_carries() {
        let (aac, mp3) = (
            caps("audio/mpeg,mpegversion=4"),
            caps("audio/mpeg,mpegversion=1,layer=3"),
        );
        let h264 = caps("video/x-h264,width=320,height=180");
        let both = Parsers::of(Some(&h264), &aac).unwrap();
        assert_eq!((both.audio, both.video), ("aacparse", Some("h264parse")));
        let only = Parsers::of(None, &mp3).unwrap();
        assert_eq!((only.audio, only.video), ("mpegaudioparse", None));
        for (video, audio, found) in [
            (Some(&caps("video/x-vp8")), &aac, "the video is VP8 (video/x-vp8)"),
            (Some(&h264), &caps("audio/x-opus"), "the audio is Opus (audio/x-opus)"),
            (
                None,
                &caps("audio/x-raw,format=S16LE,rate=16000,channels=1"),
                "(audio/x-raw)",
            ),
        ] {
            let error = Parsers::of(video, audio).err().unwrap().to_string();
            assert!(error.contains(found) && error.contains("libx264"), "{error}");
        }
    }

    #[test]
    fn codecs_are_named_if_all_are_known() {
        let aac = caps("audio/mpeg,mpegversion=4,stream-format=raw,codec_data=(buffer)1408,rate=16000,channels=1");
        let h264 = "video/x-h264,stream-format=avc,alignment=au,width=320,height=180";
        let known = caps(&format!("{h264},codec_data=(buffer)0142c00dffe10000"));
        assert_eq!(
            format(Some(&known), &aac),
            Format {
                has_video: true,
                codecs: Some("avc1.42C00D,mp4a.40.2".into()),
                resolution: Some((320, 180)),
            }
        );
        assert_eq!(
            format(Some(&caps("video/x-h264,stream-format=byte-stream")), &aac).codecs,
            None
        );
        assert_eq!(format(None, &aac).codecs.unwrap(), "mp4a.40.2");
    }

    #[test]
    fn versions() {
        assert_eq!(parse_version("0.14.5-1a2b3c4"), Some((0, 14)));
        assert!(parse_version("0.9.13").unwrap() < SINK_VERSION && parse_version("1.0.0").unwrap() > SINK_VERSION);
        assert_eq!(parse_version("unknown"), None);
    }
}
