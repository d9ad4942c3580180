// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt transcribe -`: standard input of any format, raw samples, streams without an end.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    common::clip_s16,
    support::{
        media::mux,
        process::{complaint, written},
        transcribe::{CLIP, ONE, TWO, clip_path, line, nemo_text, pipe, start, transcribe, wav, with_model},
    },
};

/// The samples of a clip, without a header.
fn raw(clip: &str) -> Vec<u8> {
    clip_s16(clip).into_iter().flat_map(i16::to_le_bytes).collect()
}

/// The clip in formats whose text is the same, by their extensions.
fn formats(directory: &Path) -> Vec<PathBuf> {
    let clip = clip_path(ONE);
    let elements = [
        ("flac", "identity", "flacenc"),
        ("ogg", "oggmux", "flacenc"),
        ("mkv", "matroskamux", "flacenc"),
        ("avi", "avimux", "identity"),
        ("mov", "qtmux faststart=true", "identity"),
    ];
    let mut files = vec![clip.clone()];
    for (extension, muxer, encoder) in elements {
        let path = directory.join("clip").with_extension(extension);
        mux(&path, muxer, &[(&clip, encoder, "")]);
        files.push(path);
    }
    files
}

#[test]
fn standard_input_of_any_format_is_decoded() {
    let directory = tempfile::tempdir().unwrap();
    for path in formats(directory.path()) {
        let output = pipe(&[], &fs::read(&path).unwrap());
        assert_eq!(written(&output), line(ONE), "{}", path.display());
        // Redirected from the file, it can be read back and forth.
        let mut command = with_model(&[]);
        let output = command.arg("-").stdin(fs::File::open(&path).unwrap()).output();
        assert_eq!(written(&output.unwrap()), line(ONE), "{}", path.display());
    }
    // Not to the bit the same, but all of it.
    for (name, muxer, encoder) in [("a.mp3", "identity", "lamemp3enc"), ("a.ogg", "oggmux", "vorbisenc")] {
        let path = directory.path().join(name);
        mux(&path, muxer, &[(&clip_path(ONE), encoder, "")]);
        let output = pipe(&["--json"], &fs::read(&path).unwrap());
        let document: serde_json::Value = serde_json::from_str(written(&output)).unwrap();
        let seconds = document["duration"].as_f64().unwrap();
        assert!((1.7..2.1).contains(&seconds), "{name}: {seconds}");
    }
}

#[test]
fn words_of_a_piped_file_come_before_its_end() {
    let mut child = start(&["--words"]);
    let bytes = fs::read(wav()).unwrap();
    let (most, rest) = bytes.split_at(bytes.len() * 3 / 4);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(most).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Waits for ever if nothing comes before the end.
    let first = lines.next().unwrap().unwrap();
    assert!(first.ends_with(nemo_text().split(' ').next().unwrap()), "{first}");
    stdin.write_all(rest).unwrap();
    drop(stdin);
    assert_eq!(lines.count() + 1, nemo_text().split(' ').count());
    assert!(child.wait().unwrap().success());
}

#[test]
fn raw_stays_raw() {
    // 0.128 s of each: any that were taken for a file would be refused.
    let seconds = |bytes: &[u8], arguments: &[&str]| {
        let output = pipe(&[&["--json"], arguments].concat(), bytes);
        let document: serde_json::Value = serde_json::from_str(written(&output)).unwrap();
        document["duration"].as_f64().unwrap()
    };
    for bytes in [
        vec![0; 8192],
        b"This is text. ".repeat(600),
        vec![0xff; 8192],
        vec![0x47; 8192],
    ] {
        assert_eq!(seconds(&bytes, &[]), bytes.len() as f64 / 32_000.0);
    }
    // A file, heard as the noise that it is.
    let file = fs::read(clip_path(ONE)).unwrap();
    assert_eq!(seconds(&file, &["--raw"]), (file.len() / 2) as f64 / 16_000.0);
    let output = transcribe(&["--raw"], &clip_path(ONE));
    assert!(complaint(&output).contains("--raw applies to standard input"));

    for (arguments, why) in [
        (["--channel", "right"], "--channel"),
        (["--audio-track", "2"], "--audio-track"),
    ] {
        assert!(complaint(&pipe(&arguments, &raw(ONE))).contains(why));
    }
    assert_eq!(
        written(&pipe(&["--channel", "1", "--audio-track", "1"], &raw(ONE))),
        line(ONE)
    );
}

#[test]
fn a_radio_station_goes_on_after_each_song() {
    let directory = tempfile::tempdir().unwrap();
    let songs = [ONE, TWO].map(|clip| {
        let path = directory.path().join(clip);
        mux(&path, "oggmux", &[(&clip_path(clip), "flacenc", "")]);
        fs::read(path).unwrap()
    });
    let output = pipe(&["--json"], &songs.concat());
    let document: serde_json::Value = serde_json::from_str(written(&output)).unwrap();
    let samples = [ONE, TWO].map(|clip| clip_s16(clip).len() as f64);
    let seconds = document["duration"].as_f64().unwrap();
    assert!(
        (seconds - samples.iter().sum::<f64>() / 16_000.0).abs() < 0.2,
        "{seconds}"
    );
}

#[test]
fn ctrl_c_ends_a_source_without_an_end() {
    for bytes in [raw(CLIP), fs::read(wav()).unwrap()] {
        let mut child = start(&["--words"]);
        // Stays open, as a microphone does.
        let mut stdin = child.stdin.take().unwrap();
        // Without a promise of its length.
        let mut bytes = bytes;
        if bytes.starts_with(b"RIFF") {
            bytes[40..44].fill(0xff);
        }
        stdin.write_all(&bytes).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        stdout.read_line(&mut text).unwrap();
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        stdout.read_to_string(&mut text).unwrap();
        let since = Instant::now();
        assert!(child.wait().unwrap().success());
        assert!(since.elapsed() < Duration::from_secs(5));
        let words: Vec<&str> = text.lines().filter_map(|line| line.split('\t').nth(3)).collect();
        assert!(
            !words.is_empty() && nemo_text().starts_with(words[..words.len() - 1].join(" ").as_str()),
            "{text}"
        );
    }
}
