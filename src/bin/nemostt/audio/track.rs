// SPDX-License-Identifier: MIT OR Apache-2.0

//! The audio tracks of a file, and the selection of a track and channel.

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use gst::prelude::*;

use super::language;

/// Which track and channel of a file to transcribe.
#[derive(Debug, Clone, Default)]
pub struct TrackSelection {
    pub track: Option<TrackName>,
    pub channel: Option<Channel>,
    /// Standard input is raw samples, whatever its first bytes are.
    pub raw: bool,
}

/// A track, by number or language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackName {
    /// From 1.
    Number(usize),
    /// An ISO 639 code.
    Language(String),
}

impl FromStr for TrackName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(1..) => Ok(Self::Number(text.parse().unwrap_or(1))),
            Err(_) if language::is_code(text) => Ok(Self::Language(text.into())),
            _ => Err("expected a number from 1, or a language code such as en or eng".into()),
        }
    }
}

/// A channel, by number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel(pub usize);

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("left", _) => Ok(Self(1)),
            ("right", _) => Ok(Self(2)),
            (_, Ok(number @ 1..)) => Ok(Self(number)),
            _ => Err("expected left, right, or a number from 1".into()),
        }
    }
}

impl Channel {
    /// The error if there are only `count` channels.
    pub fn missing(self, location: &str, count: usize) -> String {
        let Self(number) = self;
        let hint = match count {
            1 => "omit --channel".into(),
            _ => format!("choose one from 1 to {count}"),
        };
        format!(
            "there is no channel {number} in {location}, which has {}: {hint}",
            channels(count)
        )
    }
}

/// One audio track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    pub language: Option<String>,
    pub title: Option<String>,
    pub codec: String,
    pub channels: Option<usize>,
    /// The file marks it as the default track.
    pub is_default: bool,
}

impl Track {
    /// The track of `pad`.
    pub fn of(pad: &gst::Pad) -> Self {
        let mut tags = gst::TagList::new();
        let mut index = 0;
        while let Some(event) = pad.sticky_event::<gst::event::Tag>(index) {
            tags.make_mut().insert(event.tag(), gst::TagMergeMode::Append);
            index += 1;
        }
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let start = pad.sticky_event::<gst::event::StreamStart>(0);
        let channels = caps.structure(0).and_then(|caps| caps.get::<i32>("channels").ok());
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Self {
            language: tags.get::<gst::tags::LanguageCode>().and_then(|tag| text(tag.get())),
            title: tags.get::<gst::tags::Title>().and_then(|tag| text(tag.get())),
            codec: codec(&caps),
            channels: channels.and_then(|channels| usize::try_from(channels).ok()),
            is_default: start.is_some_and(|start| start.stream_flags().contains(gst::StreamFlags::SELECT)),
        }
    }
}

/// GStreamer's name of a format, such as "Opus".
pub fn codec(caps: &gst::CapsRef) -> String {
    match caps.is_fixed() {
        true => gst_pbutils::pb_utils_get_codec_description(caps).into(),
        false => caps.structure(0).map_or("unknown", |caps| caps.name().as_str()).into(),
    }
}

impl Display for Track {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(title) = &self.title {
            write!(f, "“{title}”, ")?;
        }
        let language = self.language.as_deref().unwrap_or("unknown language");
        write!(f, "{language}, {}", self.codec)?;
        match self.channels {
            Some(count) => write!(f, ", {}", channels(count)),
            None => Ok(()),
        }
    }
}

fn channels(count: usize) -> String {
    match count {
        1 => "1 channel".into(),
        _ => format!("{count} channels"),
    }
}

/// Selects one of `tracks`, of which there is at least one. Returns a notice, too, if the choice was not clear.
///
/// # Errors
/// If no track matches.
pub fn choose(location: &str, tracks: &[Track], name: Option<&TrackName>) -> Result<(usize, Option<String>), String> {
    let list = || {
        let tracks = tracks.iter().enumerate();
        let tracks: Vec<String> = tracks.map(|(i, track)| format!("{} ({track})", i + 1)).collect();
        tracks.join(", ")
    };
    let default = tracks.iter().position(|track| track.is_default).unwrap_or(0);
    let (index, is_clear) = match name {
        None => (Some(default), tracks.len() == 1),
        Some(TrackName::Number(number)) => (Some(number - 1).filter(|&index| index < tracks.len()), true),
        Some(TrackName::Language(code)) => {
            let matches = |track: &&Track| {
                track
                    .language
                    .as_deref()
                    .is_some_and(|language| language::same(language, code))
            };
            let index = tracks.iter().position(|track| matches(&track));
            (index, tracks.iter().filter(matches).count() < 2)
        }
    };
    let Some(index) = index else {
        let requested = match name {
            Some(TrackName::Language(code)) => format!("with language {code}"),
            Some(TrackName::Number(number)) => number.to_string(),
            None => String::new(),
        };
        return Err(format!(
            "there is no audio track {requested} in {location}; it has {}",
            list()
        ));
    };
    let notice = (!is_clear).then(|| {
        format!(
            "{location} has {} audio tracks: {}. Track {} is transcribed; select another with --audio-track",
            tracks.len(),
            list(),
            index + 1
        )
    });
    Ok((index, notice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(language: Option<&str>, is_default: bool) -> Track {
        Track {
            language: language.map(Into::into),
            title: None,
            codec: "Opus".into(),
            channels: Some(2),
            is_default,
        }
    }

    #[test]
    fn tracks_are_chosen_by_number_and_language() {
        let tracks = [
            track(None, false),
            track(Some("en"), true),
            track(Some("de"), true),
            track(Some("en"), false),
        ];
        let choose = |wanted: &str| choose("a.mkv", &tracks, Some(&wanted.parse().unwrap()));
        assert_eq!(choose("3"), Ok((2, None)));
        assert_eq!(choose("ger"), Ok((2, None)));
        let (index, notice) = choose("eng").unwrap();
        assert!(index == 1 && notice.unwrap().contains("Track 2 is transcribed"));
        for wanted in ["5", "fr"] {
            let error = choose(wanted).unwrap_err();
            assert!(
                error.contains(wanted) && error.contains("3 (de, Opus, 2 channels)"),
                "{error}"
            );
        }
    }

    #[test]
    fn without_a_name_it_is_the_default_track() {
        let tracks = [track(None, false), track(Some("en"), true)];
        let (index, notice) = choose("a.mkv", &tracks, None).unwrap();
        assert!(
            index == 1
                && notice
                    .unwrap()
                    .starts_with("a.mkv has 2 audio tracks: 1 (unknown language, Opus,")
        );
        assert_eq!(choose("a.mkv", &tracks[..1], None), Ok((0, None)));
    }

    #[test]
    fn other_names_are_rejected() {
        for text in ["0", "-1", "english", "", "1.5"] {
            assert!(text.parse::<TrackName>().is_err(), "{text}");
        }
        for text in ["0", "middle", "", "-1"] {
            assert!(text.parse::<Channel>().is_err(), "{text}");
        }
        assert_eq!(
            ["left", "right", "6"].map(str::parse),
            [Ok(Channel(1)), Ok(Channel(2)), Ok(Channel(6))]
        );
    }
}
