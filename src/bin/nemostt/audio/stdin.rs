// SPDX-License-Identifier: MIT OR Apache-2.0

//! Standard input: raw samples, or a file of any format, which GStreamer decodes as it arrives.

use std::{
    fs::File,
    io::{self, Chain, Cursor, Read, Seek},
    os::{fd::AsFd, unix::fs::FileExt},
};

use super::{
    Input, Location, container_length, detect_format,
    feed::StdinReader,
    gst_decoder::GstDecoder,
    raw_pcm::RawPcm,
    track::{Channel, TrackName, TrackSelection},
};
use crate::Result;

/// The bytes that were read for detection, followed by the rest.
pub type Bytes = Chain<Cursor<Vec<u8>>, StdinReader>;

/// Opens standard input, to be read at `rate` samples per second.
pub fn open(rate: u32, selection: &TrackSelection) -> Result<Input> {
    let location = Location::StandardInput;
    super::start_gstreamer()?;
    // `nemostt transcribe - < talk.mp4`: GStreamer can seek in it, which some formats need.
    if let Some(head) = file_head().filter(|head| !selection.raw && detect_format::is_file(head)) {
        container_length::check(&head, &location)?;
        let decoded = GstDecoder::open(&location, None, container_length::wav(&head), rate, selection)?;
        return Ok(Input::GstDecoder(Box::new(decoded)));
    }
    let mut feed = StdinReader::standard_input();
    let head = match selection.raw {
        true => Vec::new(),
        false => detect_format::first(&mut feed).map_err(|error| format!("cannot read {location}: {error}"))?,
    };
    let (is_file, declared) = (detect_format::is_file(&head), container_length::wav(&head));
    container_length::check(&head, &location)?;
    let bytes = Cursor::new(head).chain(feed);
    if is_file {
        let decoded = GstDecoder::open(&location, Some(Box::new(bytes)), declared, rate, selection)?;
        return Ok(Input::GstDecoder(Box::new(decoded)));
    }
    if let Some(Channel(2..)) = selection.channel {
        return Err("raw samples on standard input have 1 channel: omit --channel".into());
    }
    if !matches!(selection.track, None | Some(TrackName::Number(1))) {
        return Err("raw samples on standard input have no tracks: omit --audio-track".into());
    }
    Ok(Input::RawPcm(RawPcm::new(bytes)))
}

/// The first bytes, if standard input is a regular file at its beginning.
fn file_head() -> Option<Vec<u8>> {
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    if !file.metadata().ok()?.is_file() || file.stream_position().ok()? != 0 {
        return None;
    }
    let mut head = vec![0; detect_format::FRAME_PROBE_BYTES];
    let read = file.read_at(&mut head, 0).ok()?;
    head.truncate(read);
    Some(head)
}
