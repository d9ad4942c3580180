// SPDX-License-Identifier: MIT OR Apache-2.0

//! Splits a segment that is longer than the target duration of the playlists, which must not change (RFC 8216, 6.2.1). Parts after
//! the first do not begin with a key frame: a player that begins with one waits for the next.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    time::Duration,
};

use super::{
    directory::Directory,
    transport_stream::{self, Cut, Kind},
    update::MediaSegment,
};

/// Timestamps have 33 bits.
const WRAP: u64 = 1 << 33;

/// Splits `segment` into parts of about the same length, and of at most `target` if its media can be cut where that is needed.
/// Without any such place, it stays whole.
///
/// # Errors
/// If a file cannot be read or written. Then no part is left.
pub fn split(directory: &Directory, segment: MediaSegment, target: Duration) -> Result<Vec<MediaSegment>, String> {
    let path = directory.file(&segment.file);
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = File::open(&path).map_err(failed)?;
    let cuts = transport_stream::cuts(&mut file, Kind::of(&segment)).map_err(failed)?;
    let starts = starts(&cuts, segment.duration, target);
    if starts.len() < 2 {
        return Ok(vec![segment]);
    }
    let size = file.metadata().map_err(failed)?.len();
    let mut parts: Vec<MediaSegment> = Vec::new();
    for (number, start) in starts.iter().enumerate() {
        let next = starts.get(number + 1);
        let until = next.map_or(size, |next| next.offset);
        let end = next.map_or(segment.duration, |next| next.time);
        let stem = segment.file.strip_suffix(".ts").unwrap_or(&segment.file);
        let part = MediaSegment {
            file: format!("{stem}-{number}.ts"),
            start: segment.start + start.time,
            duration: end.saturating_sub(start.time),
            ..segment.clone()
        };
        let stored = file
            .seek(SeekFrom::Start(start.offset))
            .map_err(failed)
            .and_then(|_| directory.store_from(&part.file, &mut (&mut file).take(until - start.offset)));
        if let Err(error) = stored {
            for part in parts {
                directory.remove(&part.file);
            }
            return Err(error);
        }
        parts.push(part);
    }
    directory.remove(&segment.file);
    Ok(parts)
}

/// Where a part begins: in the file, and in the time of the segment.
#[derive(Debug, Clone, Copy)]
struct PartStart {
    offset: u64,
    time: Duration,
}

/// The beginnings of all parts of a segment of `duration`.
fn starts(cuts: &[Cut], duration: Duration, target: Duration) -> Vec<PartStart> {
    let mut last = PartStart {
        offset: 0,
        time: Duration::ZERO,
    };
    let mut starts = vec![last];
    let first = cuts.first().map_or(0, |cut| cut.pts);
    let possible: Vec<PartStart> = cuts
        .iter()
        // Frames before the first one in time, though after it in the file, are at its beginning.
        .filter_map(|cut| Some((cut.offset, cut.pts.wrapping_sub(first) % WRAP)).filter(|(_, ticks)| *ticks < WRAP / 2))
        .map(|(offset, ticks)| PartStart {
            offset,
            time: Duration::from_micros(ticks * 100 / 9),
        })
        .collect();
    loop {
        let rest = duration.saturating_sub(last.time);
        let count = rest.as_nanos().div_ceil(target.as_nanos().max(1)).max(1) as u32;
        let due = last.time + rest / count;
        // Frames that are reordered can come later in the file, and earlier in time.
        let is_later = |start: &&PartStart| start.time > last.time && start.offset > last.offset;
        let later: Vec<&PartStart> = possible.iter().filter(is_later).collect();
        let next = later.iter().rfind(|start| start.time <= due).or(later.first());
        match next {
            Some(&&next) if count > 1 && next.time < duration => last = next,
            _ => return starts,
        }
        starts.push(last);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    fn no_part_is_longer_than_it_must_be() {
        let starts = |cuts: &[(u64, u64)], milliseconds| {
            let cuts: Vec<Cut> = cuts
                .iter()
                .map(|&(offset, milliseconds)| Cut {
                    offset,
                    pts: (WRAP - 90_000 + milliseconds * 90) % WRAP,
                })
                .collect();
            let starts = super::starts(&cuts, Duration::from_millis(milliseconds), Duration::from_secs(4));
            let numbers = starts.iter().map(|start| (start.offset, start.time.as_millis()));
            numbers.collect::<Vec<_>>()
        };
        // With a cut each second, the same share for each part would leave 4.9 s to the last one.
        let seconds: Vec<(u64, u64)> = (0..12).map(|second| (second, second * 1_000)).collect();
        assert_eq!(starts(&seconds, 11_900), [(0, 0), (3, 3_000), (5, 5_000), (8, 8_000)]);
        // Where there is none for long, the next one is taken.
        let gap = [(0, 0), (1, 6_000), (2, 9_000)];
        assert_eq!(starts(&gap, 10_000), [(0, 0), (1, 6_000)]);
        // Frames are reordered.
        let reordered = [(0, 0), (1, 3_400), (2, 3_300), (3, 7_000)];
        assert_eq!(starts(&reordered, 10_000), [(0, 0), (2, 3_300), (3, 7_000)]);
    }

    #[test]
    fn no_part_stays_if_one_cannot_be_written() {
        let (_parent, directory, whole) = segment(11);
        fs::create_dir(directory.file("media-0-00003-1.ts")).unwrap();
        let error = split(&directory, whole, Duration::from_secs(4)).unwrap_err();
        assert!(error.contains("media-0-00003-1.ts"), "{error}");
        assert!(!directory.file("media-0-00003-0.ts").exists());
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
