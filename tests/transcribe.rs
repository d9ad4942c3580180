// SPDX-License-Identifier: MIT OR Apache-2.0

//! `examples/transcribe` as its users meet it: a process.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

mod common;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use common::{Texts, clip_s16, data, model_path};
use gstnemostt::DecoderKind;

const CLIP: &str = "u5_eight_sentences";

/// The example, which `cargo test` builds beside the tests: `target/<profile>/examples`. Cargo has no variable for it.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples/transcribe");
    assert!(
        program.exists(),
        "{} is missing: cargo test --test builds no examples; run cargo build --example transcribe first",
        program.display()
    );
    program
}

/// The command on the demo model, with nothing from the environment.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.env_remove("NEMOSTT_MODEL").arg("--threads=1").args(arguments);
    command
}

fn transcribe(arguments: &[&str], file: &Path) -> Output {
    let model = model_path("trained");
    command(arguments).arg("--model").arg(model).arg(file).output().unwrap()
}

/// What it writes when nothing fails.
fn written(output: &Output) -> &str {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The one line it ends with when something fails.
fn complaint(output: &Output) -> &str {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors.strip_prefix("transcribe: ").unwrap().trim_end()
}

fn wav() -> PathBuf {
    data(&format!("wav/{CLIP}.wav"))
}

fn nemo_text() -> String {
    Texts::open().get("trained", CLIP, 13, DecoderKind::Rnnt).into()
}

/// Gives `bytes` to standard input.
fn pipe(bytes: &[u8]) -> Output {
    let mut child = command(&["--model"])
        .arg(model_path("trained"))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Dropped, and so closed, at the end of the statement. The output is far shorter than what a pipe holds.
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_file_gives_nemos_text() {
    let output = transcribe(&[], &wav());
    assert_eq!(written(&output), format!("{}\n", nemo_text()));
}

#[test]
fn standard_input_gives_the_same() {
    let mut bytes: Vec<u8> = clip_s16(CLIP).into_iter().flat_map(i16::to_le_bytes).collect();
    // Half a sample at the end is no reason to fail.
    bytes.push(1);
    assert_eq!(written(&pipe(&bytes)), format!("{}\n", nemo_text()));
    assert_eq!(written(&pipe(&[])), "\n");
}

#[cfg(feature = "embedded-model")]
#[test]
fn without_a_model_the_embedded_one_serves() {
    let output = command(&[]).arg(wav()).output().unwrap();
    assert_eq!(written(&output), format!("{}\n", nemo_text()));
}

#[cfg(not(feature = "embedded-model"))]
#[test]
fn without_a_model_it_asks_for_one() {
    let output = command(&[]).arg(wav()).output().unwrap();
    assert!(complaint(&output).contains("--model"));
}

#[test]
fn the_environment_names_a_model() {
    let output = command(&[])
        .env("NEMOSTT_MODEL", "/no/such/model")
        .arg(wav())
        .output()
        .unwrap();
    assert!(complaint(&output).contains("/no/such/model"));
}

#[test]
fn json_holds_the_words_with_their_times() {
    let output = transcribe(&["--json"], &wav());
    let document: serde_json::Value = serde_json::from_str(written(&output)).unwrap();
    let text = nemo_text();
    assert_eq!(document["text"], text);
    assert_eq!(document["sample_rate"], 16_000);
    assert_eq!(document["lookahead_ms"], 1040);
    assert_eq!(document["decoder"], "rnnt");
    assert_eq!(document["duration"], clip_s16(CLIP).len() as f64 / 16_000.0);

    let words = document["words"].as_array().unwrap();
    let texts: Vec<&str> = words.iter().map(|word| word["text"].as_str().unwrap()).collect();
    assert_eq!(texts.join(" "), text);
    let mut previous = 0.0;
    for word in words {
        let [start, end, confidence] = ["start", "end", "confidence"].map(|key| word[key].as_f64().unwrap());
        assert!(previous <= start && start <= end, "{word}");
        assert!((0.0..=1.0).contains(&confidence), "{word}");
        previous = end;
    }
}

#[test]
fn words_are_a_table() {
    let output = transcribe(&["--words"], &wav());
    let words: Vec<&str> = written(&output)
        .lines()
        .map(|line| {
            let [start, end, confidence, word] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            assert!(
                [start, end, confidence]
                    .iter()
                    .all(|number| number.parse::<f64>().is_ok()),
                "{line}"
            );
            word
        })
        .collect();
    assert_eq!(words.join(" "), nemo_text());
}

#[test]
fn subtitles_go_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    for (flag, point) in [("--srt", ','), ("--vtt", '.')] {
        let path = directory.path().join("subtitles");
        let output = transcribe(&[flag, "-o", path.to_str().unwrap()], &wav());
        assert_eq!(written(&output), "");
        let file = fs::read_to_string(&path).unwrap();
        let cues = match flag {
            "--vtt" => file.strip_prefix("WEBVTT\n\n").unwrap(),
            _ => &file,
        };
        assert_eq!(subtitles(cues.trim_end(), flag == "--srt", point), nemo_text());
    }
}

/// The text of cues that are in order and no larger than they may be.
fn subtitles(cues: &str, numbered: bool, point: char) -> String {
    let mut text = Vec::new();
    let mut previous = 0;
    for (i, cue) in cues.split("\n\n").enumerate() {
        let mut lines = cue.lines();
        if numbered {
            assert_eq!(lines.next(), Some((i + 1).to_string().as_str()), "{cue}");
        }
        let (start, end) = lines.next().unwrap().split_once(" --> ").unwrap();
        let (start, end) = (milliseconds(start, point), milliseconds(end, point));
        assert!(previous <= start && start < end, "{cue}");
        previous = end;
        let lines: Vec<&str> = lines.collect();
        assert!((1..=2).contains(&lines.len()), "{cue}");
        assert!(lines.iter().all(|line| (1..=42).contains(&line.len())), "{cue}");
        text.extend(lines);
    }
    assert!(
        text.len() > 4,
        "eight sentences with pauses between them give several cues"
    );
    text.join(" ")
}

fn milliseconds(time: &str, point: char) -> u64 {
    let (clock, fraction) = time.split_once(point).unwrap();
    assert_eq!((clock.len(), fraction.len()), ("00:00:00".len(), 3), "{time}");
    let seconds = clock
        .split(':')
        .fold(0, |sum, part| sum * 60 + part.parse::<u64>().unwrap());
    seconds * 1000 + fraction.parse::<u64>().unwrap()
}

#[test]
fn files_that_are_no_speech_are_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert!(complaint(&transcribe(&[], &path("missing.wav"))).contains("missing.wav"));
    assert!(complaint(&transcribe(&[], directory.path())).starts_with("cannot read"));

    let whole = fs::read(wav()).unwrap();
    for (name, bytes) in [
        ("empty.wav", &[][..]),
        ("header.wav", &whole[..30]),
        ("text.wav", b"This is not a WAV file."),
    ] {
        fs::write(path(name), bytes).unwrap();
        let output = transcribe(&[], &path(name));
        assert!(complaint(&output).contains("is not a WAV file"), "{name}");
        assert_eq!(output.stdout, b"", "{name}");
    }

    fs::write(path("truncated.wav"), &whole[..44 + 2 * 16_000 * 3 + 1]).unwrap();
    let output = transcribe(&["--json"], &path("truncated.wav"));
    assert!(complaint(&output).contains("ends after 3.00 of 25.0"));
    assert_eq!(output.stdout, b"");
}

#[test]
fn another_sample_rate_is_refused_with_the_cure() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("8k.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for _ in 0..8000 {
        writer.write_sample(0_i16).unwrap();
    }
    writer.finalize().unwrap();
    let output = transcribe(&[], &path);
    let complaint = complaint(&output);
    assert!(complaint.contains("8000") && complaint.contains("16000"), "{complaint}");
    assert!(complaint.contains("gst-launch-1.0"), "{complaint}");
}

#[test]
fn models_and_lookaheads_that_do_not_exist_are_refused() {
    let unknown = command(&["--model", "/no/such/model"]).arg(wav()).output().unwrap();
    assert!(complaint(&unknown).contains("/no/such/model"));
    let lookahead = transcribe(&["--lookahead", "100"], &wav());
    assert!(complaint(&lookahead).contains("1040 ms"));
}

#[test]
fn the_input_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("speech.wav");
    fs::copy(wav(), &path).unwrap();
    let output = transcribe(&["-o", path.to_str().unwrap()], &path);
    assert!(complaint(&output).contains("overwrite"));
    assert_eq!(fs::read(&path).unwrap(), fs::read(wav()).unwrap());
}

#[test]
fn statistics_are_one_line() {
    let output = transcribe(&["--stats"], &data("wav/u1_command.wav"));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(
        errors.lines().count() == 1 && errors.contains("real-time factor"),
        "{errors}"
    );
}
