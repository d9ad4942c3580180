// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the source pad describes its stream: events and queries about the text rather than upstream's audio.

use gst::{event, query};

use super::timestamps::Moment;

/// Tags that describe the audio, not the text.
const AUDIO_TAGS: [&str; 14] = [
    "audio-codec",
    "codec",
    "encoder",
    "encoder-version",
    "container-format",
    "bitrate",
    "nominal-bitrate",
    "minimum-bitrate",
    "maximum-bitrate",
    "replaygain-track-gain",
    "replaygain-track-peak",
    "replaygain-album-gain",
    "replaygain-album-peak",
    "replaygain-reference-level",
];

/// The STREAM_START of the text stream that belongs to the audio stream of `audio`.
pub(super) fn stream_start(audio: &event::StreamStart) -> gst::Event {
    let id = format!("{}/text", audio.stream_id());
    let start = text_stream(event::StreamStart::builder(&id).seqnum(audio.seqnum()), &id);
    match audio.group_id() {
        Some(group) => start.group_id(group).build(),
        None => start.build(),
    }
}

/// Makes `start` the STREAM_START of a sparse text stream.
pub(super) fn text_stream<'a>(start: event::StreamStartBuilder<'a>, id: &str) -> event::StreamStartBuilder<'a> {
    let flags = gst::StreamFlags::SPARSE;
    let stream = gst::Stream::new(Some(id), None, gst::StreamType::TEXT, flags);
    start.flags(flags).stream(stream)
}

/// Upstream's tags without those that describe the audio only; `None` if no others are left.
pub(super) fn tags(event: &event::Tag) -> Option<gst::Event> {
    let mut tags = event.tag_owned();
    {
        let tags = tags.make_mut();
        for name in AUDIO_TAGS {
            tags.remove_generic(name);
        }
    }
    (tags.n_tags() > 0).then(|| event::Tag::builder(tags).seqnum(event.seqnum()).build())
}

/// Answers a POSITION query with the output position.
pub(super) fn answer_position(query: &mut query::Position, position: Option<&Moment>) -> bool {
    let time = position.filter(|_| query.format() == gst::Format::Time);
    let Some(time) = time.and_then(|moment| moment.segment.to_stream_time(moment.pts)) else {
        return false;
    };
    query.set(time);
    true
}
