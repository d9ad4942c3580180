// SPDX-License-Identifier: MIT OR Apache-2.0

//! Splits a segment that is longer than the target duration of the playlists, which must not change (RFC 8216, 6.2.1). Parts after
//! the first do not begin with a key frame: a player that begins with one waits for the next.

use std::{fs, io, time::Duration};

use super::{
    directory::Directory,
    transport_stream::{self, Kind},
    update::MediaSegment,
};

/// Most bytes of a segment that is split, for which it is read into memory: a minute of 32 Mbit/s, and hours of sound.
const MAX_BYTES: u64 = 256 << 20;

/// Timestamps have 33 bits.
const WRAP: u64 = 1 << 33;

/// Splits `segment` into parts of about the same length, and of at most `target` and a little more. It stays whole if its media
/// cannot be cut, or is very large.
///
/// # Errors
/// If a file cannot be read or written. No part is left then.
pub fn split(directory: &Directory, segment: MediaSegment, target: Duration) -> Result<Vec<MediaSegment>, String> {
    let path = directory.file(&segment.file);
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    if fs::metadata(&path).map_err(failed)?.len() > MAX_BYTES {
        return Ok(vec![segment]);
    }
    let bytes = fs::read(&path).map_err(failed)?;
    let starts = starts(&bytes, &segment, target);
    if starts.is_empty() {
        return Ok(vec![segment]);
    }
    let first = PartStart {
        offset: 0,
        time: Duration::ZERO,
    };
    let starts: Vec<PartStart> = [first].into_iter().chain(starts).collect();
    let mut parts = Vec::new();
    for (number, start) in starts.iter().enumerate() {
        let next = starts.get(number + 1);
        let until = next.map_or(bytes.len(), |next| next.offset);
        let end = next.map_or(segment.duration, |next| next.time);
        let stem = segment.file.strip_suffix(".ts").unwrap_or(&segment.file);
        let file = format!("{stem}-{number}.ts");
        if let Err(error) = directory.store(&file, &bytes[start.offset..until]) {
            // The disk may be full, and nobody would remove them.
            parts
                .iter()
                .for_each(|part: &MediaSegment| directory.remove(&part.file));
            return Err(error);
        }
        parts.push(MediaSegment {
            file,
            start: segment.start + start.time,
            duration: end.saturating_sub(start.time),
            ..segment.clone()
        });
    }
    directory.remove(&segment.file);
    Ok(parts)
}

/// Where a part begins: in the file, and in the time of the segment.
#[derive(Debug, Clone, Copy)]
struct PartStart {
    offset: usize,
    time: Duration,
}

/// The beginnings of all parts but the first.
fn starts(bytes: &[u8], segment: &MediaSegment, target: Duration) -> Vec<PartStart> {
    let cuts = transport_stream::cuts(bytes, Kind::of(segment));
    let Some(first) = cuts.first().map(|cut| cut.pts) else {
        return Vec::new();
    };
    let possible: Vec<PartStart> = cuts
        .iter()
        // Frames before the first one in time, though after it in the file, are at its beginning.
        .filter_map(|cut| Some((cut.offset, cut.pts.wrapping_sub(first) % WRAP)).filter(|(_, ticks)| *ticks < WRAP / 2))
        .map(|(offset, ticks)| PartStart {
            offset,
            time: Duration::from_micros(ticks * 100 / 9),
        })
        .collect();
    let count = segment.duration.as_nanos().div_ceil(target.as_nanos().max(1)) as u32;
    let mut starts: Vec<PartStart> = Vec::new();
    for number in 1..count {
        let due = segment.duration * number / count;
        let start = possible.iter().rev().find(|start| start.time <= due);
        let after = starts.last().map_or(Duration::ZERO, |last| last.time);
        starts.extend(start.filter(|start| start.time > after));
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            playlist::Format,
            transport_stream::packets::{frame, rest, table},
        },
        *,
    };

    /// A segment of `seconds` in which a picture comes every 100 ms, after tables and sound, as GStreamer's muxer writes them, and its
    /// directory.
    fn segment(seconds: u64) -> (tempfile::TempDir, Directory, MediaSegment) {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(&parent.path().join("hls")).unwrap();
        // Timestamps wrap around in it.
        let begin = WRAP - 90_000;
        let frames = (0..seconds * 10).map(|number| {
            let pts = (begin + number * 9_000) % WRAP;
            [
                table(),
                frame(0xc0, pts + 7, None),
                rest(),
                frame(0xe0, pts, None),
                rest(),
            ]
            .concat()
        });
        let segment = MediaSegment {
            connection: 0,
            file: "media-0-00003.ts".into(),
            start: Duration::from_secs(100),
            duration: Duration::from_secs(seconds),
            format: Format {
                has_video: true,
                ..Format::default()
            },
        };
        let bytes: Vec<u8> = frames.flatten().collect();
        directory.store(&segment.file, &bytes).unwrap();
        (parent, directory, segment)
    }

    #[test]
    fn parts_are_of_the_same_length_and_complete() {
        let (_parent, directory, whole) = segment(11);
        let bytes = fs::read(directory.file(&whole.file)).unwrap();
        let parts = split(&directory, whole.clone(), Duration::from_secs(4)).unwrap();
        let times: Vec<(u128, u128)> = parts
            .iter()
            .map(|part| (part.start.as_millis(), part.duration.as_millis()))
            .collect();
        assert_eq!(times, [(100_000, 3_600), (103_600, 3_700), (107_300, 3_700)]);
        let files: Vec<&str> = parts.iter().map(|part| part.file.as_str()).collect();
        assert_eq!(
            files,
            ["media-0-00003-0.ts", "media-0-00003-1.ts", "media-0-00003-2.ts"]
        );
        let written: Vec<Vec<u8>> = files
            .iter()
            .map(|file| fs::read(directory.file(file)).unwrap())
            .collect();
        assert_eq!(written.concat(), bytes);
        assert!(!directory.file(&whole.file).exists());
        // The times of each part are those of its media.
        for (file, part) in files.iter().zip(&parts) {
            let pts = transport_stream::first_pts(&directory.file(file), Kind::Video).unwrap();
            let ticks = (WRAP - 90_000 + (part.start.as_millis() as u64 - 100_000) * 90) % WRAP;
            assert_eq!(pts, ticks);
        }
    }

    #[test]
    fn what_cannot_be_cut_stays_whole() {
        let (_parent, directory, whole) = segment(11);
        directory.store(&whole.file, rest().repeat(9)).unwrap();
        let parts = split(&directory, whole.clone(), Duration::from_secs(4)).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].file, whole.file);
        assert!(directory.file(&whole.file).exists());
    }
}
