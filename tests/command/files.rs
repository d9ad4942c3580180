// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where `nemostt transcribe` writes: several files at once, output files, and what becomes of them when things fail.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    common::{clip_s16, model_path},
    support::{
        process::{complaint, complaints, written},
        transcribe::{CLIP, ONE, clip_path, command, nemo, nemo_text, transcribe, transcribe_all, wav, with_model},
    },
};

/// Files in a directory of their own, and the names in it.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn several_files_come_in_order_and_one_failure_stops_none() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken.wav");
    fs::write(&broken, "This is not a WAV file.").unwrap();
    let clips = ["u5_eight_sentences", "u1_command", "u2_digits", "e2_clip20ms"];
    let mut files: Vec<PathBuf> = clips.into_iter().map(clip_path).collect();
    files.insert(2, broken.clone());
    files.insert(3, directory.path().join("missing.wav"));
    for jobs in ["--jobs=1", "--jobs=3"] {
        let output = transcribe_all(&[jobs], &files);
        let lines = complaints(&output);
        assert!(lines[0].starts_with(broken.to_str().unwrap()), "{lines:?}");
        assert!(lines[1].contains("missing.wav"), "{lines:?}");
        assert_eq!(lines[2..], ["2 of 6 files failed"]);
        let lines = clips.map(|clip| format!("{}: {}\n", clip_path(clip).display(), nemo(clip)));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), lines.concat());
    }

    let output = transcribe_all(&["--json"], &files[..2]);
    let documents: Vec<serde_json::Value> = written(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (document, clip) in documents.iter().zip(clips) {
        assert_eq!(
            (&document["file"], &document["text"]),
            (&clip_path(clip).to_str().unwrap().into(), &nemo(clip).into())
        );
    }
    let output = transcribe_all(&["--words"], &files[..2]);
    let name = format!("{}\t", files[1].display());
    assert_eq!(
        written(&output).lines().filter(|line| line.starts_with(&name)).count(),
        nemo("u1_command").split(' ').count()
    );
}

#[test]
fn a_directory_takes_a_file_for_each() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("new/texts");
    let files = ["u1_command", "u2_digits"].map(clip_path);
    let output = transcribe_all(&["--output-dir", target.to_str().unwrap(), "--jobs=2"], &files);
    assert_eq!(written(&output), "");
    assert_eq!(names(&target), ["u1_command.txt", "u2_digits.txt"]);
    for clip in ["u1_command", "u2_digits"] {
        let text = fs::read_to_string(target.join(clip).with_extension("txt")).unwrap();
        assert_eq!(text, nemo(clip) + "\n");
    }

    // Two talks of one name.
    let other = directory.path().join("u1_command.flac");
    fs::write(&other, "").unwrap();
    let output = transcribe_all(&["--output-dir", target.to_str().unwrap()], &[&files[0], &other]);
    assert!(complaint(&output).contains("would both be written to"));
    for (arguments, option) in [
        (&["--srt"][..], "--srt of 2 inputs"),
        (&["--vtt", "-o", "-"], "--output -: --vtt of 2 inputs"),
        (&["-o", "one.txt"], "--output one.txt"),
    ] {
        let output = transcribe_all(arguments, &files);
        let complaint = complaint(&output);
        assert!(
            complaint.starts_with(option) && complaint.contains("--output-dir DIR"),
            "{complaint}"
        );
    }
    let output = transcribe(&["--output-dir", "/proc/nowhere"], &files[0]);
    assert!(complaint(&output).starts_with("cannot create the directory /proc/nowhere"));
}

#[test]
fn a_hyphen_is_standard_output_for_every_option() {
    let directory = tempfile::tempdir().unwrap();
    let files = ["u1_command", "u2_digits"].map(clip_path);
    let model = model_path("trained");
    let run = |arguments: &[&str]| {
        let mut command = command(&["--model"]);
        command.arg(&model).args(arguments).args(&files);
        command.current_dir(&directory).output().unwrap()
    };
    let lines = ["u1_command", "u2_digits"].map(|clip| format!("{}: {}\n", clip_path(clip).display(), nemo(clip)));
    assert_eq!(written(&run(&["-o", "-"])), lines.concat());

    // It is no directory.
    let output = run(&["--output-dir", "-"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("'-' for '--output-dir <DIR>': expected a directory") && errors.contains("./-"),
        "{errors}"
    );
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn what_cannot_be_written_leaves_nothing_half_done() {
    let clip = clip_path("u1_command");
    let output = transcribe(&["-o", "/proc/nowhere.txt"], &clip);
    assert!(complaint(&output).starts_with("cannot write /proc/nowhere.txt"));
    let directory = tempfile::tempdir().unwrap();
    let output = transcribe(&["-o", directory.path().to_str().unwrap()], &clip);
    assert!(complaint(&output).contains("is a directory"));

    let full = PathBuf::from("/dev/full");
    if full.exists() {
        let output = transcribe(&["-o", "/dev/full"], &clip);
        assert!(complaint(&output).starts_with("cannot write /dev/full: No space left"));
        let output = command(&["--model"])
            .args([&model_path("trained"), &clip])
            .stdout(fs::File::options().write(true).open(&full).unwrap())
            .output();
        assert!(complaint(&output.unwrap()).starts_with("cannot write standard output: No space left"));
    }

    // A disk that is full, as far as this process can tell: it may write no byte to any file.
    let old = directory.path().join("old.txt");
    fs::write(&old, "what was there before").unwrap();
    let mut shell = Command::new("bash");
    shell.args([
        "-c",
        "trap '' XFSZ; ulimit -f 0; exec \"$@\"",
        "bash",
        env!("CARGO_BIN_EXE_nemostt"),
        "transcribe",
        "-o",
    ]);
    let output = shell
        .arg(&old)
        .arg(&clip)
        .env_remove("NEMOSTT_MODEL")
        .env("GST_REGISTRY_UPDATE", "no")
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains(&format!("cannot write {}: File too large", old.display())),
        "{errors}"
    );
    assert_eq!(fs::read_to_string(&old).unwrap(), "what was there before");
    assert_eq!(names(directory.path()), ["old.txt"]);
}

#[test]
fn killed_at_any_moment_it_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("text.txt");
    let mut child = command(&["-o"])
        .arg(&path)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = clip_s16(CLIP).into_iter().flat_map(i16::to_le_bytes).collect();
    // More than a pipe holds: by now most of it was heard, and the rest is still to come.
    child.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(names(directory.path()), [""; 0]);
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

#[test]
fn rules_of_subtitles_can_be_set() {
    let output = transcribe(&["--srt", "--cue-columns", "20", "--cue-lines", "1"], &wav());
    let cues = written(&output);
    let texts: Vec<&str> = cues
        .trim_end()
        .split("\n\n")
        .map(|cue| cue.splitn(3, '\n').nth(2).unwrap())
        .collect();
    assert!(
        texts.iter().all(|text| text.len() <= 20 && !text.contains('\n')),
        "{cues}"
    );
    assert_eq!(texts.join(" "), nemo_text());
    for (arguments, expected) in [
        (
            &["--srt", "--cue-lines", "0"][..],
            "--cue-lines: cue rule lines is 0, but must be 1 to 15",
        ),
        (&["--cue-lines", "1"], "add --srt or --vtt"),
    ] {
        let output = transcribe(arguments, &wav());
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(expected), "{error}");
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
fn a_hyphen_is_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_model(&["--srt", "-o", "-"]);
    let output = command.arg(clip_path(ONE)).current_dir(&directory).output().unwrap();
    assert!(written(&output).starts_with("1\n00:00:0"));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}
