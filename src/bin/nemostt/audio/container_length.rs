// SPDX-License-Identifier: MIT OR Apache-2.0

//! The declared length of a file, where GStreamer does not report it: `wavparse` and `avidemux` report the actual length, and
//! Ogg has a length per page only.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Bytes that contain the header of a WAV file, unless large metadata precedes the samples.
pub const HEAD: usize = 4096;
/// Sizes from here on are placeholders of programs that wrote into a pipe.
const UNKNOWN: u64 = 0x7fff_0000;
/// Bytes of audio data that are negligible: a few samples.
const NEGLIGIBLE: usize = 64;
/// The longest Ogg page.
const PAGE: u64 = 65_307;

/// The declared length of the audio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeclaredLength {
    /// Not read here: query GStreamer.
    Unread,
    /// The file does not declare one.
    Open,
    Seconds(f64),
}

/// The length that the WAV file beginning with `head` declares.
pub fn wav(head: &[u8]) -> DeclaredLength {
    let is_large = head.starts_with(b"RF64") || head.starts_with(b"BW64");
    if !(is_large || head.starts_with(b"RIFF")) || head.get(8..12) != Some(b"WAVE") {
        return DeclaredLength::Unread;
    }
    let u32_at = |at: usize| {
        let bytes = head.get(at..)?.first_chunk()?;
        Some(u64::from(u32::from_le_bytes(*bytes)))
    };
    let (mut at, mut bytes_per_second, mut large) = (12, None, None);
    while let (Some(name), Some(size)) = (head.get(at..at + 4), u32_at(at + 4)) {
        match name {
            b"ds64" => {
                large = u32_at(at + 16)
                    .zip(u32_at(at + 20))
                    .map(|(low, high)| low | (high << 32))
            }
            b"fmt " => bytes_per_second = u32_at(at + 16).filter(|&bytes| bytes > 0),
            b"data" => {
                let size = match large {
                    Some(large) if is_large => large,
                    _ if size == 0 || size >= UNKNOWN => return DeclaredLength::Open,
                    _ => size,
                };
                return match bytes_per_second {
                    Some(bytes) => DeclaredLength::Seconds(size as f64 / bytes as f64),
                    None => DeclaredLength::Unread,
                };
            }
            _ => {}
        }
        // Chunks begin at even offsets.
        at = at.saturating_add(8 + size as usize + (size & 1) as usize);
    }
    DeclaredLength::Unread
}

/// The first bytes of the file at `path`.
pub fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    // Errors are reported when the file is decoded.
    let _ = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    head
}

/// The error of a WAV file that ends after its header although it declares data: GStreamer's `wavparse` would wait for it
/// forever. `head` is the beginning of the file, or all of it.
pub fn check(head: &[u8], location: &super::Location) -> crate::Result<()> {
    let is_all = head.len() < HEAD;
    let data = head.windows(4).position(|name| name == b"data");
    match (wav(head), data) {
        (DeclaredLength::Seconds(seconds), Some(data)) if is_all && head.len() < data + 8 + NEGLIGIBLE => Err(format!(
            "{location} is truncated: it declares {seconds:.1} s of audio, but ends after its header"
        )
        .into()),
        _ => Ok(()),
    }
}

/// How the file at `path` shows that it is truncated, if it does: it ends within an Ogg page, or is shorter than the AVI header
/// declares.
pub fn fault(path: &Path) -> Option<&'static str> {
    // Errors were reported when the file was decoded.
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok().filter(|about| about.is_file())?.len();
    let mut head = [0; 12];
    file.read_exact(&mut head).ok()?;
    match head {
        [b'O', b'g', b'g', b'S', ..] => {
            let is_whole = ends_with_a_page(&mut file, length).unwrap_or(true);
            (!is_whole).then_some("it ends within an Ogg page")
        }
        [b'R', b'I', b'F', b'F', a, b, c, d, b'A', b'V', b'I', b' '] => {
            let size = u64::from(u32::from_le_bytes([a, b, c, d]));
            (size < UNKNOWN && size + 8 > length).then_some("it has fewer bytes than its header declares")
        }
        _ => None,
    }
}

fn ends_with_a_page(file: &mut File, length: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(length.saturating_sub(PAGE)))?;
    let mut end = Vec::new();
    file.take(PAGE).read_to_end(&mut end)?;
    let last = end.windows(5).rposition(|bytes| bytes == b"OggS\0");
    Ok(last.is_none_or(|last| is_whole_page(&end[last..])))
}

/// Whether the page at the start of `bytes` ends in them.
fn is_whole_page(bytes: &[u8]) -> bool {
    let Some(&segments) = bytes.get(26) else {
        return false;
    };
    let header = 27 + usize::from(segments);
    match bytes.get(27..header) {
        Some(sizes) => bytes.len() - header >= sizes.iter().map(|&size| usize::from(size)).sum::<usize>(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(data: u32) -> Vec<u8> {
        let mut head = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x01\0".to_vec();
        head.extend(16_000_u32.to_le_bytes());
        head.extend(32_000_u32.to_le_bytes());
        head.extend(*b"\x02\0\x10\0data");
        head.extend(data.to_le_bytes());
        head
    }

    #[test]
    fn a_wav_header_declares_seconds() {
        assert_eq!(wav(&header(48_000)), DeclaredLength::Seconds(1.5));
        // Programs that write into a pipe: GStreamer, FFmpeg, SoX, arecord.
        for unknown in [0, u32::MAX, 0x7fff_f000, 0x7fff_ffff, 0x8000_0000] {
            assert_eq!(wav(&header(unknown)), DeclaredLength::Open, "{unknown}");
        }
    }

    #[test]
    fn an_incomplete_header_declares_nothing() {
        let head = header(48_000);
        for end in 0..head.len() {
            assert_eq!(wav(&head[..end]), DeclaredLength::Unread, "{end}");
        }
        assert_eq!(wav(b"RIFF\0\0\0\0AVI LIST"), DeclaredLength::Unread);
        let mut endless = b"RIFF\0\0\0\0WAVELIST".to_vec();
        endless.extend([0xff; 4]);
        assert_eq!(wav(&endless), DeclaredLength::Unread);
    }

    #[test]
    fn a_large_wav_has_its_size_in_ds64() {
        let mut head = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
        head.extend([0; 8]);
        head.extend((32_000_u64 << 20).to_le_bytes());
        head.extend([0; 12]);
        head.extend(&header(u32::MAX)[12..]);
        assert_eq!(wav(&head), DeclaredLength::Seconds(f64::from(1 << 20)));
    }

    #[test]
    fn the_end_of_an_ogg_page_is_found() {
        let mut page = b"OggS\0\0".to_vec();
        page.resize(26, 0);
        page.extend([2, 255, 3]);
        page.resize(29 + 258, 7);
        assert!(is_whole_page(&page));
        for end in 0..page.len() {
            assert!(!is_whole_page(&page[..end]), "{end}");
        }
    }
}
