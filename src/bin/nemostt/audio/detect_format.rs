// SPDX-License-Identifier: MIT OR Apache-2.0

//! Detects by its first bytes whether standard input is raw samples or a media file.

use std::io::{self, Read};

use gst::glib::translate::IntoGlib;
use gst_pbutils::PbUtilsCapsDescriptionFlags as Kind;

/// Bytes for detection. As raw samples at 16 kHz they last 128 ms.
const PROBE_BYTES: usize = 4096;
/// Bytes for frames without a file header, which samples could resemble by chance.
pub const FRAME_PROBE_BYTES: usize = 16 * 1024;
/// Minimum probability of GStreamer's type detection, in percent: a few matching bytes are not enough.
const MIN_PROBABILITY: i32 = 99;

/// Reads the first bytes of `reader`, as many as [`is_file`] needs.
pub fn first(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut block = [0; PROBE_BYTES];
    loop {
        let enough = match may_be_frames(&bytes) {
            true => FRAME_PROBE_BYTES,
            false => PROBE_BYTES,
        };
        if bytes.len() >= enough {
            return Ok(bytes);
        }
        match reader.read(&mut block) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes.extend_from_slice(&block[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether `bytes` are the beginning of a media file, not raw samples.
pub fn is_file(bytes: &[u8]) -> bool {
    let Ok((caps, probability)) = gst_base::type_find_helper_for_data(gst::Object::NONE, bytes) else {
        return false;
    };
    if probability.into_glib() < MIN_PROBABILITY {
        return false;
    }
    let kind = gst_pbutils::pb_utils_get_caps_description_flags(&caps);
    let is_strong = match caps.structure(0).map(|caps| caps.name().as_str()) {
        Some("audio/mpeg" | "audio/x-ac3" | "audio/x-eac3" | "video/mpegts") => may_be_frames(bytes),
        _ => has_magic(bytes),
    };
    is_strong && kind.intersects(Kind::CONTAINER | Kind::AUDIO | Kind::TAG)
}

/// For some formats two bytes are enough for GStreamer, and any sample could match. These formats have at least four fixed
/// bytes, or consecutive frames.
fn has_magic(bytes: &[u8]) -> bool {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let starts: [&[u8]; 15] = [
        b"RIFF",
        b"RF64",
        b"BW64",
        b"riff",
        b"FORM",
        b"OggS",
        b"fLaC",
        b".snd",
        b"caff",
        b"wvPK",
        b"MAC ",
        b"#!AMR",
        b"\x1a\x45\xdf\xa3", // Matroska, WebM
        b"\x30\x26\xb2\x75", // ASF, WMA
        b"\x00\x00\x01\xba", // MPEG program stream
    ];
    starts.iter().any(|magic| at(0, magic))
        || [&b"ftyp"[..], b"moov", b"mdat", b"wide", b"free", b"skip"]
            .iter()
            .any(|magic| at(4, magic))
        || (at(0, b"ID3") && bytes.get(3..10).is_some_and(is_id3))
        || (at(0, b"FLV\x01") && at(5, b"\0\0\0\x09"))
        || at(0, b"APETAGEX")
}

/// Version, flags and size after "ID3".
fn is_id3(header: &[u8]) -> bool {
    matches!(header, [2..=4, _, flags, size @ ..] if flags & 0x0f == 0 && size.iter().all(|byte| byte & 0x80 == 0))
}

/// Whether `bytes` begin like frames of MP3, AAC or AC-3, or packets of an MPEG transport stream. GStreamer then checks the
/// following ones.
fn may_be_frames(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, second, ..] => second & 0xe0 == 0xe0 && *second != 0xff,
        [0x0b, 0x77, ..] => true,
        [0x47, ..] | [_, _, _, _, 0x47, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    /// Samples as from a microphone: noise of any loudness.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let samples = proptest::collection::vec(any::<i16>(), PROBE_BYTES / 2);
        (samples, 0..16_u32).prop_map(|(samples, quiet)| {
            let samples = samples.into_iter().map(|sample| sample >> quiet);
            samples.flat_map(i16::to_le_bytes).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn noise_is_raw(bytes in noise()) {
            gst::init().unwrap();
            prop_assert!(!is_file(&bytes));
        }

        /// Samples that begin with a short magic number.
        #[test]
        fn a_short_magic_number_makes_no_file(
            magic in proptest::sample::select(vec![
                &b"BM"[..], b"MZ", b"BZh", b"\x1f\x8b", b"PK", b"\xff\xfb", b"\xff\xf1", b"\x0b\x77", b"G", b"ID3", b"FLV",
                b"\0\0\x01", b"\0\0\0\x01", b"RI", b"Og",
            ]),
            mut bytes in noise(),
        ) {
            gst::init().unwrap();
            bytes[..magic.len()].copy_from_slice(magic);
            // A valid ID3 header does not occur by chance.
            prop_assume!(magic != b"ID3" || !is_id3(&bytes[3..10]));
            prop_assert!(!is_file(&bytes));
        }
    }

    #[test]
    fn speech_silence_tones_and_text_are_raw() {
        gst::init().unwrap();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wav");
        let mut count = 0;
        for entry in fs::read_dir(directory).unwrap() {
            let samples = &fs::read(entry.unwrap().path()).unwrap()[44..];
            // From any sample: a recording can begin anywhere.
            for start in (0..samples.len()).step_by(1022) {
                let bytes = &samples[start..samples.len().min(start + PROBE_BYTES)];
                assert!(!is_file(bytes), "{start}");
                count += 1;
            }
        }
        assert!(count > 1000);
        for byte in 0..=255 {
            assert!(!is_file(&[byte; PROBE_BYTES]), "{byte}");
        }
        for step in 1..2000_i16 {
            let tone: Vec<u8> = (0..2048_i16).flat_map(|i| i.wrapping_mul(step).to_le_bytes()).collect();
            assert!(!is_file(&tone), "{step}");
        }
        let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
        for start in 0..text.len().min(4000) {
            let bytes = &text[start..text.len().min(start + PROBE_BYTES)];
            assert!(!is_file(bytes), "{start}");
        }
        for few in 0..8 {
            assert!(!is_file(&vec![0; few]));
        }
    }

    #[test]
    fn a_wav_file_is_one() {
        gst::init().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo.wav");
        assert!(is_file(&fs::read(path).unwrap()[..PROBE_BYTES]));
    }
}
