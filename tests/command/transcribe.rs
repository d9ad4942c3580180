// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `nemostt transcribe` hears: formats, rates, and files that are none.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use gst::prelude::*;

use crate::{
    common::{clip_s16, data, model_path},
    support::{
        media::make,
        process::{complaint, written},
        transcribe::{CLIP, clip_path, command, nemo_text, transcribe, transcribe_all, wav},
    },
};

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

/// Writes a WAV file of 16-bit frames.
fn write_wav(path: &Path, channels: u16, sample_rate: u32, frames: impl Iterator<Item = Vec<i16>>) {
    let spec = hound::WavSpec {
        channels,
        sample_rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in frames.flatten() {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
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
    for nothing in [&[][..], &[1]] {
        let output = pipe(nothing);
        assert!(complaint(&output).contains("standard input is empty"));
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn without_a_model_the_demo_model_transcribes_and_says_so_once() {
    let directory = tempfile::tempdir().unwrap();
    let clips = ["u1_command", "u2_digits"].map(clip_path);
    let target = directory.path().to_str().unwrap();
    for (arguments, files) in [
        (&[][..], &[wav()][..]),
        (&["--json"], &[wav()]),
        (&["--jobs=2", "--output-dir", target], &clips),
    ] {
        let output = command(arguments).args(files).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        for words in [
            "demo model",
            "synthetic speech",
            "nemostt models",
            "nemostt fetch",
            "--model",
        ] {
            assert!(errors.contains(words), "{errors}");
        }
        if arguments.is_empty() {
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", nemo_text()));
        }
    }
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
fn files_that_are_no_speech_are_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert!(complaint(&transcribe(&[], &path("missing.wav"))).contains("missing.wav"));
    assert!(complaint(&transcribe(&[], directory.path())).contains("is a directory"));

    let whole = fs::read(wav()).unwrap();
    for (name, bytes, why) in [
        ("empty.wav", &[][..], "is empty"),
        ("header.wav", &whole[..10], "does not know its format"),
        ("text.wav", b"This is not a WAV file.", "does not know its format"),
    ] {
        fs::write(path(name), bytes).unwrap();
        let output = transcribe(&[], &path(name));
        let complaint = complaint(&output);
        assert!(complaint.contains(name) && complaint.contains(why), "{complaint}");
        assert_eq!(output.stdout, b"", "{name}");
    }
}

#[test]
fn any_rate_and_number_of_channels_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    // The same in both channels is the same, to the bit.
    let samples = clip_s16(CLIP);
    write_wav(
        &path("stereo.wav"),
        2,
        16_000,
        samples.iter().map(|&sample| vec![sample; 2]),
    );
    // Three times the rate, by straight lines: as a bad converter does it, but one that keeps the speech.
    let pairs = samples.iter().zip(&samples[1..]);
    let lines =
        pairs.flat_map(|(&a, &b)| (0..3).map(move |i| vec![((i32::from(a) * (3 - i) + i32::from(b) * i) / 3) as i16]));
    write_wav(&path("48k.wav"), 1, 48_000, lines);
    for name in ["stereo.wav", "48k.wav"] {
        let output = transcribe(&["--json"], &path(name));
        let document: serde_json::Value = serde_json::from_str(written(&output)).unwrap();
        assert_eq!(document["text"], nemo_text(), "{name}");
        let seconds = document["duration"].as_f64().unwrap();
        assert!(
            (seconds - samples.len() as f64 / 16_000.0).abs() < 0.01,
            "{name}: {seconds}"
        );
    }
}

#[test]
fn a_compressed_file_will_do_and_one_cut_short_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (whole, cut) = (path("speech.flac"), path("cut.flac"));
    let flac = format!(
        "filesrc location={} ! wavparse ! audioconvert ! flacenc ! filesink location={}",
        wav().display(),
        whole.display()
    );
    make(&flac, |_| {});
    assert_eq!(written(&transcribe(&[], &whole)), format!("{}\n", nemo_text()));

    let bytes = fs::read(&whole).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let output = transcribe(&[], &cut);
    let warning = complaint(&output);
    assert!(
        warning.contains("cut.flac is truncated: its audio ends after ") && warning.contains(" of 25.0 s"),
        "{warning}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.len() > 40 && nemo_text().starts_with(text[..text.len() - 10].trim()),
        "{text}"
    );

    // As on a machine without the plugin.
    let mut without = command(&[]);
    without
        .env("GST_PLUGIN_FEATURE_RANK", "flacdec:NONE,avdec_flac:NONE")
        .arg(&whole);
    let output = without.output().unwrap();
    let complaint = complaint(&output);
    assert!(
        complaint.contains("FLAC") && complaint.contains("gstreamer1.0-plugins-good"),
        "{complaint}"
    );
}

#[test]
fn times_are_those_of_the_picture() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("late.mkv");
    let late = format!(
        "matroskamux name=m ! filesink location={} \
         videotestsrc num-buffers=40 ! video/x-raw,width=64,height=64,framerate=10/1 ! m. \
         filesrc location={} ! wavparse ! audioconvert name=late ! m.",
        path.display(),
        clip_path("u1_command").display()
    );
    make(&late, |pipeline| {
        let pad = pipeline.by_name("late").unwrap().static_pad("src").unwrap();
        pad.set_offset(2 * gst::ClockTime::SECOND.nseconds() as i64);
    });
    let words = |file: &Path| -> Vec<(f64, String)> {
        let output = transcribe(&["--words"], file);
        let lines = written(&output)
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>());
        lines
            .map(|fields| (fields[0].parse().unwrap(), fields[3].into()))
            .collect()
    };
    let (late, plain) = (words(&path), words(&clip_path("u1_command")));
    assert_eq!(late.len(), plain.len());
    for ((late, word), (plain, same)) in late.iter().zip(&plain) {
        assert_eq!(word, same);
        // Rounded to frames of 80 ms.
        assert!((late - plain - 2.0).abs() < 0.1, "{word}: {late} {plain}");
    }
}

#[test]
fn pictures_alone_hold_no_sound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("silent.mkv");
    let video = "videotestsrc num-buffers=10 ! video/x-raw,width=64,height=64 ! matroskamux ! filesink location=";
    make(&format!("{video}{}", path.display()), |_| {});
    let output = transcribe(&[], &path);
    let complaint = complaint(&output);
    assert!(
        complaint.contains("silent.mkv has no audio track, only ") && complaint.contains("(video/x-raw)"),
        "{complaint}"
    );
    assert_eq!(output.stdout, b"");
}

#[test]
fn models_and_lookaheads_that_do_not_exist_are_refused() {
    let unknown = command(&["--model", "/no/such/model"]).arg(wav()).output().unwrap();
    assert!(complaint(&unknown).contains("/no/such/model"));
    let lookahead = transcribe(&["--lookahead", "100"], &wav());
    assert!(complaint(&lookahead).contains("1040 ms"));
}

#[test]
fn hotwords_are_found_more_often() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("list.txt");
    fs::write(&list, "# digits\nnine nine\none eight\t9\n").unwrap();
    let clips = ["u3_long", "u3_long"].map(clip_path);
    let plain = transcribe(&[], &clips[0]);
    let arguments = [
        "--hotwords=kitchen,stop,the bedroom door:9",
        "--hotwords-weight=12",
        "--hotwords-file",
    ];
    let arguments = [&arguments[..], &[list.to_str().unwrap()]].concat();
    let boosted = transcribe(&arguments, &clips[0]);
    assert_ne!(written(&boosted), written(&plain));
    // Several files share a tree.
    let several = transcribe_all(&[&arguments[..], &["--json"]].concat(), &clips);
    let texts: Vec<String> = serde_json::Deserializer::from_slice(&several.stdout)
        .into_iter::<serde_json::Value>()
        .map(|document| document.unwrap()["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts, [written(&boosted).trim_end(); 2]);
}

#[test]
fn hotwords_that_cannot_be_used_are_refused() {
    for (arguments, expected) in [
        (&["--hotwords", "one,zwölf"][..], "characters of \"zwölf\" ('ö')"),
        (&["--hotwords", "one:0"], "\"one\" has weight 0"),
        (&["--hotwords=one", "--hotwords-weight=1000"], "has weight 1000"),
        (&["--hotwords-file", "/no/such/list"], "cannot read /no/such/list"),
    ] {
        let output = transcribe(arguments, &wav());
        let complaint = complaint(&output);
        assert!(complaint.contains(expected), "{complaint}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn text_is_shaped_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let replacements = file("replacements.txt", "red bag|blue train => $0 !\n(\\d+)$$ => x\n");
    let refused = transcribe(&["--replacements-file", &replacements], &wav());
    assert!(complaint(&refused).contains("replacements.txt, line 2: \"(\\d+)$$\": it has an anchor"));
    let replacements = file("replacements.txt", "red bag => bag, red,\n");
    let profanity = file("profanity.txt", "garage\n[de]\nwoman\n");
    let arguments = [
        "--lookahead=80",
        "--inverse-text-normalization",
        "--capitalize=sentence",
        "--replacements-file",
        &replacements,
        "--profanity-file",
        &profanity,
        "--profanity-action=mask-tail",
    ];
    let plain = transcribe(&["--lookahead=80"], &clip_path("u3_long"));
    let plain = written(&plain);
    let expected = plain
        .replace("red bag", "bag, red,")
        .replace("garage", "g*****")
        .replace("twenty", "20")
        .replacen("a woman", "A woman", 1);
    assert_ne!(expected, plain);
    assert_eq!(written(&transcribe(&arguments, &clip_path("u3_long"))), expected);
    let with = |option| -> Vec<&str> { arguments.iter().copied().chain([option]).collect() };
    let json = transcribe(&with("--json"), &clip_path("u3_long"));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["text"].as_str().unwrap(), expected.trim_end());
    let srt = transcribe(&with("--srt"), &clip_path("u3_long"));
    let srt = written(&srt);
    assert!(
        srt.contains("g*****") && srt.contains("20") && !srt.contains("twenty"),
        "{srt}"
    );
}

#[test]
fn confidence_follows_the_method() {
    let confidences = |arguments: &[&str]| -> Vec<f64> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let output = transcribe(&arguments, &clip_path("u3_long"));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let words = json["words"].as_array().unwrap().iter();
        words.map(|word| word["confidence"].as_f64().unwrap()).collect()
    };
    let plain = confidences(&[]);
    let lowest = confidences(&["--confidence-aggregation=min"]);
    assert!(lowest.iter().zip(&plain).all(|(min, mean)| *min <= mean + 1e-3));
    assert_ne!(lowest, plain);
    let nemo = confidences(&[
        "--confidence-method=entropy-tsallis-exp",
        "--confidence-aggregation=min",
    ]);
    assert!(
        nemo.iter().zip(&lowest).any(|(nemo, own)| (nemo - own).abs() > 0.1),
        "{nemo:?}"
    );
    // None of its words is that sure.
    let masked = transcribe(&["--min-confidence=1"], &clip_path("u1_command"));
    assert_eq!(written(&masked), "[…]\n");
    for wrong in [
        "--min-confidence=2",
        "--confidence-alpha=0",
        "--confidence-method=entropy",
    ] {
        assert!(!transcribe(&[wrong], &wav()).status.success(), "{wrong}");
    }
}

#[test]
fn alternatives_of_beam_search_are_in_the_json_document() {
    let arguments = ["--decoding-method=beam", "--beam-size=8", "--n-best=3", "--json"];
    let output = transcribe(&arguments, &clip_path("u3_long"));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let [utterance] = &document["alternatives"].as_array().unwrap()[..] else {
        panic!("{document}");
    };
    assert!(utterance["start"].as_f64().unwrap() < utterance["end"].as_f64().unwrap());
    let transcripts = utterance["transcripts"].as_array().unwrap();
    assert_eq!(transcripts.len(), 3);
    assert_eq!(transcripts[0]["text"], document["text"]);
    assert!(transcripts.iter().all(|one| one["score"].as_f64().unwrap() < 0.0));
    // As text, without.
    let text = transcribe(&arguments[..2], &clip_path("u3_long"));
    assert_eq!(written(&text).trim_end(), document["text"].as_str().unwrap());
}

#[test]
fn decoding_options_that_cannot_be_used_are_refused() {
    for (arguments, expected) in [
        (&["--beam-size=8"][..], "--beam-size applies to beam search"),
        (&["--decoding-method=beam", "--n-best=2"], "add --json"),
        (
            &["--decoding-method=beam", "--language-model=/no/such.arpa"],
            "cannot read /no/such.arpa",
        ),
    ] {
        let output = transcribe(arguments, &wav());
        let complaint = complaint(&output);
        assert!(complaint.contains(expected), "{complaint}");
        assert_eq!(output.stdout, b"");
    }
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

#[cfg(feature = "triton")]
#[test]
fn what_becomes_of_a_server_is_said_once_for_each_file() {
    // Nothing listens there.
    let output = transcribe(&["--remote=triton://127.0.0.1:1/m"], &clip_path(CLIP));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        crate::support::transcribe::line(CLIP)
    );
    let lines: Vec<&str> = errors.lines().collect();
    assert!(
        lines.len() == 1
            && lines[0].contains(CLIP)
            && lines[0].contains("127.0.0.1:1")
            && lines[0].contains("on the CPU"),
        "{errors}"
    );
}
