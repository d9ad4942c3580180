// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the sound comes from.

use std::{
    fmt::{self, Display, Formatter},
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::microphone::Microphone;
use crate::{
    Result,
    audio::{self, Channel, Input, Location, Tap, TrackSelection},
};

/// The argument that means the default microphone.
pub const MICROPHONE: &str = "mic";
/// Samples per second that the element takes.
pub const RATE: u32 = 16_000;

/// A source of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The default microphone, or that with this in its name.
    Microphone(Option<String>),
    Location(Location),
}

/// A source that is open.
pub enum Opened {
    Microphone(Microphone),
    Input(Input),
}

impl Source {
    /// Parses an argument. `./mic` is a file.
    pub fn of(argument: &Path) -> Self {
        let name = argument.to_str().and_then(|text| text.strip_prefix(MICROPHONE));
        match name {
            Some("") => Self::Microphone(None),
            Some(name) if name.starts_with(':') && name.len() > 1 => Self::Microphone(Some(name[1..].into())),
            _ => Self::Location(Location::of(argument)),
        }
    }

    /// Checks what can be checked before a model is loaded.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Microphone(_) => Ok(()),
            Self::Location(location) => location.check(),
        }
    }

    /// Whether it can be opened again: a file or a pipe only ends.
    pub fn can_be_reopened(&self) -> bool {
        matches!(self, Self::Microphone(_) | Self::Location(Location::Url(_)))
    }

    /// Its name for viewers: that of a file. Nothing of a URL, which may have a secret in any part: many
    /// cameras take a key in the path. Only used by the server.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub fn title(&self) -> Option<String> {
        match self {
            Self::Location(Location::File(path)) => Some(path.file_name()?.to_string_lossy().into_owned()),
            _ => None,
        }
    }

    /// Opens it; no data from a connection within `timeout` is an error. `tap` takes its encoded streams, too.
    pub fn open(&self, selection: &TrackSelection, timeout: Duration, tap: Option<Arc<dyn Tap>>) -> Result<Opened> {
        match self {
            Self::Microphone(name) => {
                if let Some(Channel(number @ 2..)) = selection.channel {
                    return Err(
                        format!("a microphone is recorded in mono, without channel {number}: omit --channel").into(),
                    );
                }
                Ok(Opened::Microphone(Microphone::open(name.as_deref(), timeout)?))
            }
            Self::Location(location) => {
                let live = audio::Live {
                    timeout: Some(timeout),
                    tap,
                };
                let input = Input::open_live(location, RATE, selection, live)?;
                Ok(Opened::Input(input))
            }
        }
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Microphone(None) => write!(f, "microphone"),
            Self::Microphone(Some(name)) => write!(f, "microphone {name}"),
            Self::Location(location) => write!(f, "{location}"),
        }
    }
}

impl Opened {
    /// A notice about the tracks, if there is a choice.
    pub fn notice(&self) -> Option<&str> {
        match self {
            Self::Microphone(_) => None,
            Self::Input(input) => input.notice(),
        }
    }

    /// Whether samples arrive as they are recorded, so that they need not be paced.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Microphone(microphone) => microphone.is_live(),
            Self::Input(input) => input.is_live(),
        }
    }

    /// At the end: whether only a connection has ended, and more would follow in another one. A microphone always counts as one: it
    /// was unplugged, and may be plugged in again.
    pub fn is_connection(&self) -> bool {
        match self {
            Self::Microphone(_) => true,
            Self::Input(input) => !input.is_complete(),
        }
    }

    /// Whether it is one that works, if it has given no samples: a connection may give some later.
    pub fn may_be_silent(&self) -> bool {
        match self {
            Self::Microphone(_) => false,
            Self::Input(input) => !input.is_complete(),
        }
    }

    /// The error if there is no sample.
    pub fn no_samples_error(&self) -> String {
        match self {
            Self::Microphone(_) => "the microphone gives no sound: is it in use by another program?".into(),
            Self::Input(input) => input.no_samples_error(),
        }
    }

    /// Whether any sample so far was not a number, or far too large. These were read as silence.
    pub fn has_invalid_samples(&self) -> bool {
        match self {
            // Sound cards give integers.
            Self::Microphone(_) => false,
            Self::Input(input) => input.has_invalid_samples(),
        }
    }

    /// Replaces `mono` with the next samples, -1.0 to 1.0. It is empty at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Microphone(microphone) => microphone.read(mono),
            Self::Input(input) => input.read(mono),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart() {
        let of = |argument: &str| Source::of(Path::new(argument));
        assert_eq!(of("mic"), Source::Microphone(None));
        assert_eq!(of("mic:USB"), Source::Microphone(Some("USB".into())));
        for file in ["./mic", "mic:", "mic.wav", "microphone"] {
            assert_eq!(of(file), Source::Location(Location::File(file.into())));
        }
        assert!(of("rtsp://camera/").can_be_reopened() && of("mic").can_be_reopened());
        assert!(!of("talk.wav").can_be_reopened() && !of("-").can_be_reopened());
    }

    #[test]
    fn viewers_see_nothing_of_an_address() {
        let title = |argument: &str| Source::of(Path::new(argument)).title();
        for argument in [
            "rtsp://user:secret@camera.local/secret?token=secret#1",
            "mic:USB",
            "mic",
            "-",
        ] {
            assert_eq!(title(argument), None, "{argument}");
        }
        assert_eq!(title("/home/user/talk.mp4").as_deref(), Some("talk.mp4"));
    }
}
