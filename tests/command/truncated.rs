// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files that are empty, cut short or corrupt, or only seem to be.

use std::fs;

use crate::{
    common::clip_s16,
    support::{
        media::{make, mux, pictures},
        process::{complaint, complaints, written},
        transcribe::{CLIP, ONE, clip_path, line, nemo_text, pipe, transcribe, transcribe_all, wav},
    },
};

#[test]
fn a_file_without_samples_fails() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nothing.wav");
    let mut header = fs::read(wav()).unwrap();
    header.truncate(44);
    header[40..44].fill(0);
    header[4..8].copy_from_slice(&36_u32.to_le_bytes());
    fs::write(&path, &header).unwrap();
    for format in ["--json", "--vtt", "--words"] {
        let output = transcribe(&[format], &path);
        let complaint = complaint(&output);
        assert!(
            complaint.contains("nothing.wav has an audio track (") && complaint.contains("no samples in it"),
            "{complaint}"
        );
        assert_eq!(output.stdout, b"", "{format}");
    }
    let output = pipe(&[], &header);
    assert!(complaint(&output).contains("standard input has an audio track ("));
}

#[test]
fn a_header_without_the_samples_that_it_declares_fails() {
    let directory = tempfile::tempdir().unwrap();
    for length in [44, 46] {
        let path = directory.path().join("header.wav");
        let header = &fs::read(wav()).unwrap()[..length];
        fs::write(&path, header).unwrap();
        let output = transcribe(&[], &path);
        let error = complaint(&output);
        assert!(
            error.contains("header.wav is truncated") && error.contains("after its header"),
            "{error}"
        );
        let output = pipe(&[], header);
        let error = complaint(&output);
        assert!(error.contains("standard input is truncated"), "{error}");
    }
}

#[test]
fn what_is_cut_short_is_transcribed_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let clip = wav();
    let mut cases = vec![("cut.wav", fs::read(&clip).unwrap(), true)];
    for (name, muxer, encoder) in [
        ("cut.mov", "qtmux faststart=true", "identity"),
        ("cut.mkv", "matroskamux", "flacenc"),
        ("cut.avi", "avimux", "identity"),
        ("cut.ogg", "oggmux", "flacenc"),
    ] {
        let path = directory.path().join(name);
        mux(&path, muxer, &[(&clip, encoder, "")]);
        assert_eq!(written(&transcribe(&[], &path)), line(CLIP), "{name}");
        // GStreamer counts what there is in AVI, and Ogg has no length.
        cases.push((name, fs::read(&path).unwrap(), name == "cut.mov" || name == "cut.mkv"));
    }
    for (name, bytes, is_promised) in cases {
        let path = directory.path().join(name);
        let half = &bytes[..bytes.len() / 2 + 7];
        fs::write(&path, half).unwrap();
        let mut outputs = vec![("file", transcribe(&[], &path))];
        match name {
            "cut.wav" | "cut.mkv" => outputs.push(("pipe", pipe(&[], half))),
            // The audio of this MOV file is a single chunk, which is never complete.
            "cut.mov" => {
                assert!(complaint(&pipe(&[], half)).contains("standard input is truncated: it declares 25.0 s"))
            }
            _ => {}
        }
        for (way, output) in outputs {
            let text = String::from_utf8(output.stdout.clone()).unwrap();
            assert!(
                text.len() > 40 && nemo_text().starts_with(text[..text.len() - 12].trim()),
                "{name}, {way}: {text} {output:?}"
            );
            let complaint = complaint(&output);
            assert!(complaint.contains("is truncated"), "{name}, {way}: {complaint}");
            assert_eq!(
                complaint.contains("of 25.0 s"),
                is_promised,
                "{name}, {way}: {complaint}"
            );
        }
        let target = directory.path().join("texts");
        let output = transcribe_all(&["--output-dir", target.to_str().unwrap()], &[path, clip_path(ONE)]);
        let lines = complaints(&output);
        assert!(
            lines[0].contains("is truncated") && lines[1] == "1 of 2 files failed",
            "{lines:?}"
        );
        assert!(fs::read_to_string(target.join("cut.txt")).unwrap().len() > 40);
        fs::remove_dir_all(target).unwrap();
    }
}

#[test]
fn a_film_whose_sound_ends_early_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("film.mkv");
    let film = format!(
        "matroskamux name=m ! filesink location={} {} ! queue ! m. \
         filesrc location={} ! wavparse ! audioconvert ! flacenc ! queue ! m.",
        path.display(),
        pictures(100),
        clip_path(ONE).display()
    );
    make(&film, |_| {});
    assert_eq!(written(&transcribe(&[], &path)), line(ONE));
    // The size of a file that a program wrote into a pipe is no promise.
    for size in [0, u32::MAX, 0x7fff_f000] {
        let mut endless = fs::read(clip_path(ONE)).unwrap();
        endless[40..44].copy_from_slice(&size.to_le_bytes());
        assert_eq!(written(&pipe(&[], &endless)), line(ONE), "{size:x}");
    }
}

#[test]
fn samples_that_are_not_numbers_are_silence_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let audio: Vec<f32> = clip_s16(CLIP)
        .iter()
        .map(|&sample| f32::from(sample) / 32_768.0)
        .collect();
    let silence = 100_000..100_400;
    let write = |name: &str, replacement: f32| {
        let path = directory.path().join(name);
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for (index, &sample) in audio.iter().enumerate() {
            let sample = if silence.contains(&index) { replacement } else { sample };
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        path
    };
    let silent = transcribe(&[], &write("silent.wav", 0.0));
    let expected = written(&silent);
    assert!(expected.split_whitespace().count() > 20, "{expected}");
    for invalid in [f32::NAN, f32::INFINITY, f32::MIN] {
        let path = write("corrupt.wav", invalid);
        let output = transcribe(&[], &path);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{invalid}");
        let complaint = complaint(&output);
        assert!(
            complaint.contains("corrupt.wav is corrupt: some of its samples are not numbers"),
            "{complaint}"
        );
    }
}
