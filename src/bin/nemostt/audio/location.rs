// SPDX-License-Identifier: MIT OR Apache-2.0

//! The location of an input: standard input, a file or a URL.

use std::{
    ffi::OsString,
    fmt::{self, Display, Formatter},
    fs::File,
    io,
    path::{self, Path, PathBuf},
};

use gst::glib;
use percent_encoding::percent_decode_str;

use crate::Result;

/// The location of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    StandardInput,
    File(PathBuf),
    /// Any other URL that GStreamer has a source for.
    Url(String),
}

impl Location {
    /// Parses an argument. A path that exists is always a file.
    pub fn of(argument: &Path) -> Self {
        if argument.as_os_str() == "-" {
            return Self::StandardInput;
        }
        match argument.to_str().filter(|text| scheme(text).is_some()) {
            Some(url) if argument.symlink_metadata().is_err() => match glib::filename_from_uri(url) {
                // A file URL of this machine is a file in every respect.
                Ok((path, None)) => Self::File(path),
                _ => Self::Url(url.into()),
            },
            _ => Self::File(argument.into()),
        }
    }

    /// Its name in `--json` and in the output of several files.
    pub fn name(&self) -> String {
        match self {
            Self::StandardInput => "-".into(),
            _ => self.to_string(),
        }
    }

    /// The name of its output file without the extension.
    pub fn stem(&self) -> OsString {
        match self {
            Self::StandardInput => "stdin".into(),
            Self::File(path) => path.file_stem().unwrap_or(path.as_os_str()).into(),
            Self::Url(url) => url_stem(url).into(),
        }
    }

    /// Its URI, for GStreamer.
    pub fn uri(&self) -> Result<String> {
        let path = match self {
            Self::Url(url) => return Ok(url.clone()),
            Self::File(path) => path,
            Self::StandardInput => Path::new("/dev/stdin"),
        };
        let unreadable = |error: &dyn Display| format!("cannot read {self}: {error}");
        let absolute = path::absolute(path).map_err(|error| unreadable(&error))?;
        let uri = glib::filename_to_uri(absolute, None).map_err(|error| unreadable(&error))?;
        Ok(uri.into())
    }

    /// Checks that it can be read, before a model is loaded for nothing.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::StandardInput => Ok(()),
            Self::File(path) => check_file(path),
            Self::Url(url) => self.check_url(url),
        }
    }

    fn check_url(&self, url: &str) -> Result<()> {
        super::start_gstreamer()?;
        let Err(error) = gst::Element::make_from_uri(gst::URIType::Src, url, None) else {
            return Ok(());
        };
        if !error.matches(gst::URIError::UnsupportedProtocol) {
            return Err(format!("cannot open {self}: {}", error.message()).into());
        }
        let scheme = scheme(url).unwrap_or_default();
        let plugin = match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" | "rtsp" | "rtsps" | "rtspt" | "rtspu" | "rtsph" | "udp" => "gst-plugins-good",
            "srt" | "rtmp" | "rtmps" | "rtmp2" | "rist" | "mms" | "mmsh" | "mmst" | "rtp" | "sftp" | "smb" => {
                "gst-plugins-bad"
            }
            "ftp" | "ftps" => "gst-plugins-bad (its element curlftpsrc)",
            _ => {
                return Err(format!(
                    "cannot open {self}: GStreamer has no source for {scheme}://, and there is no file of that name. Is the \
                     address correct?"
                )
                .into());
            }
        };
        Err(format!(
            "cannot open {self}: the GStreamer source for {scheme}:// is not installed. Install {plugin} (on Debian and \
             Ubuntu: gstreamer1.0-{})",
            plugin.trim_start_matches("gst-").split(' ').next().unwrap_or_default()
        )
        .into())
    }
}

/// For messages. The password of a URL is hidden, and the passphrase of SRT.
impl Display for Location {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::StandardInput => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(&without_passphrase(&without_password(url))),
        }
    }
}

fn without_password(url: &str) -> String {
    let split = || {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (login, host) = rest.get(..end)?.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}{}", rest.get(end..)?))
    };
    split().unwrap_or_else(|| url.into())
}

/// The name of SRT's passphrase in the query, at the beginning of `pair`.
fn passphrase_name(pair: &str) -> Option<&str> {
    const NAME: &str = "passphrase=";
    pair.get(..NAME.len()).filter(|name| name.eq_ignore_ascii_case(NAME))
}

/// Whether the query of a URL of SRT has a passphrase.
pub fn has_passphrase(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| passphrase_name(pair).is_some())
}

fn without_passphrase(url: &str) -> String {
    let Some((address, query)) = url.split_once('?') else {
        return url.into();
    };
    let hidden = |pair: &str| match passphrase_name(pair) {
        Some(name) => format!("{name}***"),
        None => pair.into(),
    };
    let pairs: Vec<String> = query.split('&').map(hidden).collect();
    format!("{address}?{}", pairs.join("&"))
}

/// The part before `://`, if it is a valid URL scheme.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let mut letters = scheme.chars();
    let is_one = letters.next()?.is_ascii_alphabetic()
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    is_one.then_some(scheme)
}

/// The last component of the path, else the host: http://a.b/talks/my%20talk.mp4?x=1 → "my talk".
fn url_stem(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let last = path.split('/').rfind(|part| !part.is_empty());
    let (name, is_host) = match last {
        Some(last) => (percent_decode_str(last).decode_utf8_lossy().into_owned(), false),
        None => (host.rsplit('@').next().unwrap_or_default().to_owned(), true),
    };
    let clean: String = name
        .chars()
        .map(|letter| match letter {
            '/' | '\\' | ':' => '_',
            letter if letter.is_control() => '_',
            letter => letter,
        })
        .collect();
    // Not a hidden file, `.` or `..`.
    let clean = clean.trim_start_matches('.');
    let stem = match clean.rsplit_once('.') {
        Some((stem, extension)) if !is_host && extension.chars().all(char::is_alphanumeric) => stem,
        _ => clean,
    };
    match stem {
        "" => "url".into(),
        // File names have at most 255 bytes, including the extension.
        stem => stem.chars().take(60).collect(),
    }
}

fn check_file(path: &Path) -> Result<()> {
    let unreadable = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let about = path.metadata().map_err(unreadable)?;
    if about.is_dir() {
        return Err(format!(
            "cannot read {}: it is a directory; pass the files in it",
            path.display()
        )
        .into());
    }
    // Opening anything else, such as a named pipe, could block or consume data.
    if about.is_file() {
        File::open(path).map_err(unreadable)?;
        if about.len() == 0 {
            return Err(format!("{} is empty", path.display()).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart() {
        let of = |argument: &str| Location::of(Path::new(argument));
        assert_eq!(of("-"), Location::StandardInput);
        assert_eq!(of("./-"), Location::File("./-".into()));
        assert_eq!(of("a.wav"), Location::File("a.wav".into()));
        assert_eq!(of("C:/a.wav"), Location::File("C:/a.wav".into()));
        assert_eq!(of("1x://a"), Location::File("1x://a".into()));
        assert_eq!(of("://a"), Location::File("://a".into()));
        assert_eq!(of("file:///a%20b%25.wav"), Location::File("/a b%.wav".into()));
        assert_eq!(of("http://a/b.mp3"), Location::Url("http://a/b.mp3".into()));
        assert_eq!(of("srt+x://:7000"), Location::Url("srt+x://:7000".into()));
    }

    #[test]
    fn a_path_that_exists_is_a_file() {
        let directory = tempfile::tempdir().unwrap();
        // Two slashes count as one: the directory `http:` with `talk.wav` in it.
        std::fs::create_dir(directory.path().join("http:")).unwrap();
        let path = format!("{}/http://talk.wav", directory.path().display());
        std::fs::write(&path, "x").unwrap();
        assert_eq!(Location::of(Path::new(&path)), Location::File(path.clone().into()));
    }

    #[test]
    fn names_of_texts_are_those_of_the_last_part() {
        for (url, stem) in [
            ("http://a.b/talks/my%20talk.mp4?x=1/2#y", "my talk"),
            ("http://a.b/live/", "live"),
            ("rtsp://u:p@cam.example:554", "cam.example_554"),
            ("rtsp://cam", "cam"),
            ("http://a/..%2F..%2Fetc%2Fpasswd", "_.._etc_passwd"),
            ("http://a/.hidden", "hidden"),
            ("http://a/..", "url"),
            ("http://a/x%00y.wav", "x_y"),
            ("srt://:7000", "_7000"),
        ] {
            assert_eq!(url_stem(url), stem, "{url}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = |url: &str| Location::Url(url.into()).to_string();
        assert_eq!(shown("rtsp://u:p@h:1/x@y"), "rtsp://u:***@h:1/x@y");
        assert_eq!(shown("http://h/a:b@c"), "http://h/a:b@c");
        assert_eq!(
            shown("srt://:7000?mode=listener&passphrase=p%26q&x=?passphrase=1"),
            "srt://:7000?mode=listener&passphrase=***&x=?passphrase=1"
        );
        assert!(
            has_passphrase("srt://:7000?mode=listener&passphrase=p") && !has_passphrase("srt://:7000?x=passphrase=p")
        );
    }
}
