// SPDX-License-Identifier: MIT OR Apache-2.0

//! Timestamps in an MPEG transport stream (ISO/IEC 13818-1), and where it can be cut.
//!
//! They are read from the file because muxers add an offset of their own: GStreamer's begins at an hour.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read},
    path::Path,
};

use super::update::MediaSegment;

const PACKET: usize = 188;
/// A segment begins with tables and then media, so the first timestamp is in the first few packets.
const MAX_BYTES: u64 = (PACKET * 2_000) as u64;

/// A stream of the program, by its stream id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Audio,
    Video,
}

impl Kind {
    /// That by which a segment begins.
    pub fn of(segment: &MediaSegment) -> Self {
        match segment.format.has_video {
            true => Self::Video,
            false => Self::Audio,
        }
    }

    fn has(self, stream_id: u8) -> bool {
        match self {
            Self::Audio => (0xc0..=0xdf).contains(&stream_id),
            Self::Video => (0xe0..=0xef).contains(&stream_id),
        }
    }
}

/// The timestamp of the first frame of `kind` in the file, in 90 kHz.
///
/// # Errors
/// If it cannot be read, or has none.
pub fn first_pts(path: &Path, kind: Kind) -> io::Result<u64> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let mut packets = bytes.chunks_exact(PACKET);
    let missing = || io::Error::new(ErrorKind::InvalidData, "it is no transport stream with timestamps");
    packets.find_map(|packet| pts(packet, kind)).ok_or_else(missing)
}

/// A place at which a file can be cut in two that both play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Bytes before it.
    pub offset: u64,
    /// Timestamp of the first frame after it, in 90 kHz.
    pub pts: u64,
}

/// The places at which a file can be cut: before tables, without which no player finds the streams, if a frame of any stream begins
/// after them. So no frame is cut in two, as muxers write one after the other.
///
/// # Errors
/// If it cannot be read.
pub fn cuts(file: impl Read, kind: Kind) -> io::Result<Vec<Cut>> {
    let (mut cuts, mut tables, mut place) = (Vec::new(), None, None);
    // Packet by packet: without key frames, a file can have gigabytes.
    let mut reader = BufReader::new(file);
    let (mut packet, mut offset) = ([0; PACKET], 0);
    loop {
        match reader.read_exact(&mut packet) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(cuts),
            other => other?,
        }
        let is_first_table = packet[1] & 0x1f == 0 && packet[2] == 0;
        if is_first_table {
            tables = Some(offset);
        } else if !is_table(&packet)
            && let Some(offset) = tables.take()
            && beginning(&packet).is_some()
        {
            place = Some(offset);
        }
        if let Some(pts) = pts(&packet, kind) {
            cuts.extend(place.take().map(|offset| Cut { offset, pts }));
        }
        offset += PACKET as u64;
    }
}

/// Whether a table begins in a packet, rather than anything of a frame.
fn is_table(packet: &[u8]) -> bool {
    beginning(packet).is_some_and(|payload| !payload.starts_with(&[0, 0, 1]))
}

/// The payload of a packet, if a frame or a table begins in it.
fn beginning(packet: &[u8]) -> Option<&[u8]> {
    let [0x47, flags, _, control, ..] = packet else {
        return None;
    };
    let (begins, has_adaptation, has_payload) = (flags & 0x40 != 0, control & 0x20 != 0, control & 0x10 != 0);
    if !begins || !has_payload {
        return None;
    }
    let adaptation = match has_adaptation {
        true => 1 + usize::from(*packet.get(4)?),
        false => 0,
    };
    packet.get(4 + adaptation..)
}

/// The timestamp in a packet, if a frame of `kind` begins in it.
fn pts(packet: &[u8], kind: Kind) -> Option<u64> {
    let [0, 0, 1, stream_id, _, _, _, pts_flags, _, a, b, c, d, e, ..] = beginning(packet)? else {
        return None;
    };
    if !kind.has(*stream_id) || pts_flags & 0x80 == 0 {
        return None;
    }
    // 33 bits in three parts, each with a marker bit after it.
    let [a, b, c, d, e] = [a, b, c, d, e].map(|&byte| u64::from(byte));
    Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

/// Packets for tests.
#[cfg(test)]
pub mod packets {
    use super::PACKET;

    /// The first table of a stream.
    pub fn table() -> Vec<u8> {
        let mut packet = vec![0x47, 0x40, 0x00, 0x10];
        packet.resize(PACKET, 0xff);
        packet
    }

    /// What follows the first packet of a frame.
    pub fn rest() -> Vec<u8> {
        let mut packet = vec![0x47, 0x01, 0x00, 0x10];
        packet.resize(PACKET, 0);
        packet
    }

    /// The beginning of a frame after `adaptation` bytes.
    pub fn frame(stream_id: u8, pts: u64, adaptation: Option<u8>) -> Vec<u8> {
        let mut packet = vec![0x47, 0x41, 0x00, if adaptation.is_some() { 0x30 } else { 0x10 }];
        if let Some(length) = adaptation {
            packet.push(length);
            packet.resize(packet.len() + usize::from(length), 0xff);
        }
        packet.extend([0, 0, 1, stream_id, 0, 0, 0x80, 0x80, 5]);
        packet.push(0x21 | (pts >> 29) as u8 & 0x0e);
        packet.extend([
            (pts >> 22) as u8,
            (pts >> 14) as u8 | 1,
            (pts >> 7) as u8,
            (pts << 1) as u8 | 1,
        ]);
        packet.resize(PACKET, 0);
        packet
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        packets::{frame, rest, table},
        *,
    };

    #[test]
    fn a_file_is_cut_before_tables_that_a_frame_follows() {
        let program_map = [&[0x47, 0x40, 0x20, 0x10][..], &[0xff; 184]].concat();
        let video = |pts| frame(0xe0, pts, None);
        let packets = [
            table(),
            program_map.clone(),
            video(90_000),
            rest(),
            // Within a frame.
            table(),
            rest(),
            table(),
            // What follows counts from the first frame of its kind.
            frame(0xc0, 99_000, None),
            video(100_000),
            table(),
            program_map,
            video(108_000),
        ];
        let cut = |packets, pts| Cut {
            offset: packets * PACKET as u64,
            pts,
        };
        assert_eq!(
            cuts(&packets.concat()[..], Kind::Video).unwrap(),
            [cut(0, 90_000), cut(6, 100_000), cut(9, 108_000)]
        );
        assert_eq!(cuts(&packets.concat()[..], Kind::Audio).unwrap(), [cut(6, 99_000)]);
    }

    #[test]
    fn the_first_timestamp_of_each_kind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.ts");
        let largest = (1 << 33) - 1;
        let packets = [
            table(),
            frame(0xc0, 324_000_123, None),
            frame(0xe0, largest, Some(7)),
            frame(0xe0, 0, None),
        ];
        fs::write(&path, packets.concat()).unwrap();
        assert_eq!(first_pts(&path, Kind::Audio).unwrap(), 324_000_123);
        assert_eq!(first_pts(&path, Kind::Video).unwrap(), largest);
        for bytes in [&b""[..], &[0x47; 3 * PACKET], &[0; PACKET]] {
            fs::write(&path, bytes).unwrap();
            let error = first_pts(&path, Kind::Video).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        }
    }
}
