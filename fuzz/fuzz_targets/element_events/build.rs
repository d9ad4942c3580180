// SPDX-License-Identifier: MIT OR Apache-2.0

//! Creates GStreamer objects from their descriptions in `acts`.

use crate::acts::{Caps, Kind, OtherEvent, Query, Rate};

/// Any number is a valid time, except the largest, which means "none".
pub fn time(ns: u64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(ns.min(gst::ClockTime::MAX.nseconds()))
}

pub fn format(kind: Kind) -> gst::Format {
    match kind {
        Kind::Time => gst::Format::Time,
        Kind::Bytes => gst::Format::Bytes,
        Kind::Default => gst::Format::Default,
        Kind::Percent => gst::Format::Percent,
        Kind::Buffers => gst::Format::Buffers,
    }
}

/// Limits percentages to their valid range.
pub fn value(kind: Kind, value: i64) -> gst::GenericFormattedValue {
    let value = match kind {
        Kind::Percent => value.rem_euclid(1_000_001),
        _ => value,
    };
    gst::GenericFormattedValue::new(format(kind), value)
}

/// Any rate except 0, which GStreamer does not allow.
pub fn rate(rate: Rate) -> f64 {
    match rate {
        Rate::One => 1.0,
        Rate::Reverse => -1.0,
        Rate::Fast(by) => 1.0 + f64::from(by) / 16.0,
        Rate::Slow(by) => 1.0 / (1.0 + f64::from(by) / 16.0),
        Rate::Raw(rate) if rate.is_finite() && rate != 0.0 => rate,
        Rate::Raw(_) => 1.0,
    }
}

pub fn caps(caps: Caps) -> gst::Caps {
    let audio = |format: &str, rate: i32, channels: i32| {
        gst::Caps::builder("audio/x-raw")
            .field("format", format)
            .field("rate", rate.max(1))
            .field("channels", channels.max(1))
            .field("layout", "interleaved")
            .build()
    };
    match caps {
        Caps::Plain => audio("S16LE", 16_000, 1),
        Caps::Masked(mask) => {
            let mut caps = audio("S16LE", 16_000, 1);
            caps.make_mut().set("channel-mask", gst::Bitmask::new(1 << (mask % 12)));
            caps
        }
        Caps::Rate(rate) => audio("S16LE", rate.into(), 1),
        Caps::Channels(channels) => audio("S16LE", 16_000, channels.into()),
        Caps::Float => audio("F32LE", 16_000, 1),
        Caps::Text => gst::Caps::builder("text/x-raw").field("format", "utf8").build(),
    }
}

pub fn query(query: Query) -> gst::Query {
    match query {
        Query::Latency => gst::query::Latency::new().into(),
        Query::Position(kind) => gst::query::Position::new(format(kind)).into(),
        Query::Duration(kind) => gst::query::Duration::new(format(kind)).into(),
        Query::Seeking(kind) => gst::query::Seeking::new(format(kind)).into(),
        Query::Segment(kind) => gst::query::Segment::new(format(kind)).into(),
        Query::Convert(from, number, to) => gst::query::Convert::new(value(from, number), format(to)).into(),
        Query::Formats => gst::query::Formats::new().into(),
        Query::Caps(filter) => gst::query::Caps::new(filter.map(caps).as_ref()).into(),
        Query::AcceptCaps(asked) => gst::query::AcceptCaps::new(&caps(asked)).into(),
        Query::Allocation(asked) => gst::query::Allocation::new(asked.map(caps).as_ref(), asked.is_some()).into(),
        Query::Scheduling => gst::query::Scheduling::new().into(),
        Query::Drain => gst::query::Drain::new().into(),
        Query::Uri => gst::query::Uri::new().into(),
        Query::Context => gst::query::Context::new("a.context").into(),
        Query::Bitrate => gst::query::Bitrate::new().into(),
        Query::Custom => gst::query::Custom::new(gst::Structure::new_empty("a-query")).into(),
    }
}

pub fn event(event: OtherEvent) -> gst::Event {
    let structure = || gst::Structure::new_empty("an-event");
    match event {
        OtherEvent::BufferSize => gst::event::Buffersize::new(value(Kind::Bytes, 1), value(Kind::Bytes, 2), false),
        OtherEvent::Toc => {
            let mut toc = gst::Toc::new(gst::TocScope::Global);
            let entry = gst::TocEntry::new(gst::TocEntryType::Chapter, "one");
            toc.make_mut().append_entry(entry);
            gst::event::Toc::new(&toc, false)
        }
        OtherEvent::Collection => {
            let stream = gst::Stream::new(Some("a"), None, gst::StreamType::AUDIO, gst::StreamFlags::empty());
            gst::event::StreamCollection::new(&gst::StreamCollection::builder(None).stream(stream).build())
        }
        OtherEvent::GroupDone => gst::event::StreamGroupDone::new(gst::GroupId::next()),
        OtherEvent::Protection => {
            let data = gst::Buffer::from_slice([1, 2, 3]);
            gst::event::Protection::new("a-system", &data)
        }
        OtherEvent::Custom => gst::event::CustomDownstream::new(structure()),
        OtherEvent::CustomSticky => gst::event::CustomDownstreamSticky::new(structure()),
        OtherEvent::CustomBoth => gst::event::CustomBoth::new(structure()),
        OtherEvent::SinkMessage => {
            let message = gst::message::Application::new(structure());
            gst::event::SinkMessage::new("a-message", &message)
        }
        OtherEvent::InstantRateChange(fast) => {
            gst::event::InstantRateChange::new(if fast { 2.0 } else { 0.5 }, gst::SegmentFlags::empty())
        }
    }
}
