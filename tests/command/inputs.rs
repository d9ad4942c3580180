// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `nemostt transcribe` takes beside files: standard input of any format, URLs, one track or channel of several;
//! and errors for truncated and empty files.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    common::{clip_s16, model_path},
    support::{
        media::{make, mux, pictures},
        process::{complaint, complaints, written},
        transcribe::{CLIP, clip_path, command, nemo, nemo_text, transcribe, transcribe_all, wav},
    },
};

const ONE: &str = "u1_command";
const TWO: &str = "u2_digits";

fn with_model(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.arg("--model").arg(model_path("trained"));
    command
}

/// Starts the command with `-` and pipes.
fn start(arguments: &[&str]) -> Child {
    let mut command = with_model(arguments);
    command
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Gives `bytes` to standard input.
fn pipe(arguments: &[&str], bytes: &[u8]) -> Output {
    let mut child = start(arguments);
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

fn raw(clip: &str) -> Vec<u8> {
    clip_s16(clip).into_iter().flat_map(i16::to_le_bytes).collect()
}

fn line(clip: &str) -> String {
    nemo(clip) + "\n"
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
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
fn a_track_is_chosen_by_number_or_language() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = [ONE, TWO].map(clip_path);
    for (name, muxer) in [("two.mkv", "matroskamux"), ("two.ogg", "oggmux")] {
        let path = directory.path().join(name);
        let tracks = [
            (&*one, "flacenc", "language-code=en"),
            (&*two, "flacenc", "language-code=de"),
        ];
        mux(&path, muxer, &tracks);
        let notice = format!("nemostt: {} has 2 audio tracks: 1 (", path.display());

        let output = transcribe(&[], &path);
        assert!(output.status.success());
        let errors = errors(&output);
        assert!(
            errors.starts_with(&notice) && errors.contains("--audio-track"),
            "{errors}"
        );
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(
            errors.contains("en, ") && errors.contains("2 (") && errors.contains("1 channel"),
            "{errors}"
        );
        let chosen = if errors.contains("Track 1 is transcribed") {
            ONE
        } else {
            TWO
        };
        assert_eq!(String::from_utf8(output.stdout).unwrap(), line(chosen));
        assert_eq!(chosen, ONE, "{name}");

        for (wanted, clip) in [
            ("1", ONE),
            ("2", TWO),
            ("eng", ONE),
            ("de", TWO),
            ("ger", TWO),
            ("deu", TWO),
        ] {
            let output = transcribe(&["--audio-track", wanted], &path);
            assert_eq!(written(&output), line(clip), "{name} {wanted}");
        }
        for wanted in ["3", "fr"] {
            let output = transcribe(&["--audio-track", wanted], &path);
            let complaint = complaint(&output);
            assert!(
                complaint.contains(&format!("{wanted} in ")) && complaint.contains("2 ("),
                "{complaint}"
            );
        }
        let piped = pipe(&["--audio-track=de"], &fs::read(&path).unwrap());
        assert_eq!(written(&piped), line(TWO), "{name}");
    }
}

#[test]
fn a_channel_is_heard_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stereo.wav");
    let [one, two] = [ONE, TWO].map(clip_path).map(|path| path.display().to_string());
    let stereo = format!(
        "interleave name=i ! audioconvert ! wavenc ! filesink location={} \
         filesrc location={one} ! wavparse ! queue ! i. filesrc location={two} ! wavparse ! queue ! i.",
        path.display()
    );
    make(&stereo, |_| {});
    for (channel, clip) in [("left", ONE), ("1", ONE), ("right", TWO), ("2", TWO)] {
        let output = transcribe(&["--channel", channel], &path);
        assert!(written(&output).starts_with(&nemo(clip)), "{channel}: {output:?}");
        let output = pipe(&["--channel", channel], &fs::read(&path).unwrap());
        assert!(written(&output).starts_with(&nemo(clip)), "{channel}: {output:?}");
    }
    let output = transcribe(&["--channel", "3"], &path);
    let complaint = complaint(&output);
    assert!(
        complaint.contains("no channel 3") && complaint.contains("2 channels"),
        "{complaint}"
    );
}

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
            // Raw sound in MOV is one piece, which never comes to its end.
            "cut.mov" => {
                assert!(complaint(&pipe(&[], half)).contains("standard input is truncated: it declares 25.0 s"))
            }
            _ => {}
        }
        for (way, output) in outputs {
            let text = String::from_utf8(output.stdout.clone()).unwrap();
            assert!(
                text.len() > 40 && nemo_text().starts_with(text[..text.len() - 12].trim()),
                "{name}, {way}: {text} {}",
                errors(&output)
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

/// Serves `body` at any address but /missing, once for each connection, until the test ends.
fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            reader.read_line(&mut request).unwrap();
            let (status, body) = match request.contains("/missing") {
                true => ("404 Not Found", &[][..]),
                false => ("200 OK", &body[..]),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            // The command may know enough already.
            let _ = connection
                .write_all(head.as_bytes())
                .and_then(|()| connection.write_all(body));
        }
    });
    format!("http://{address}")
}

#[test]
fn urls_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let site = serve(fs::read(clip_path(ONE)).unwrap());
    let url = PathBuf::from(format!("{site}/talks/my%20talk.wav?session=1"));
    assert_eq!(written(&transcribe(&[], &url)), line(ONE));

    let target = directory.path().join("texts");
    let output = transcribe_all(&["--output-dir", target.to_str().unwrap()], &[&url, &clip_path(TWO)]);
    assert_eq!(written(&output), "");
    assert_eq!(fs::read_to_string(target.join("my talk.txt")).unwrap(), line(ONE));
    let other = PathBuf::from(format!("{site}/my%20talk.mp3"));
    let output = transcribe_all(&["--output-dir", target.to_str().unwrap()], &[&url, &other]);
    assert!(complaint(&output).contains("would both be written to"));

    let missing = PathBuf::from(format!("{}/missing.wav", site.replace("http://", "http://me:secret@")));
    let output = transcribe(&[], &missing);
    let complaint = complaint(&output);
    assert!(
        complaint.contains("/missing.wav") && complaint.contains("Not Found"),
        "{complaint}"
    );
    assert!(!complaint.contains("secret"), "{complaint}");
}

#[test]
fn urls_of_files_and_files_that_look_like_urls_are_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("my talk 100%.wav");
    fs::copy(clip_path(ONE), &path).unwrap();
    let url = format!("file://{}/my%20talk%20100%25.wav", directory.path().display());
    assert_eq!(written(&transcribe(&[], Path::new(&url))), line(ONE));
    // And so is not overwritten.
    let output = transcribe(&["-o", path.to_str().unwrap()], Path::new(&url));
    assert!(complaint(&output).contains("overwrite"));

    fs::create_dir(directory.path().join("http:")).unwrap();
    fs::copy(&path, directory.path().join("http:/talk.wav")).unwrap();
    let output = with_model(&["http://talk.wav"])
        .current_dir(&directory)
        .output()
        .unwrap();
    assert_eq!(written(&output), line(ONE));
}

#[test]
fn urls_without_a_source_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let output = transcribe(&[], Path::new("nonsense://a/b.wav"));
    let nonsense = complaint(&output);
    assert!(
        nonsense.contains("GStreamer has no source for nonsense://"),
        "{nonsense}"
    );
    // As on a machine without any plugins.
    let mut without = with_model(&["https://127.0.0.1:1/a"]);
    without.envs(["GST_PLUGIN_SYSTEM_PATH", "GST_PLUGIN_SYSTEM_PATH_1_0"].map(|name| (name, "/nowhere")));
    without.env("GST_REGISTRY", directory.path().join("registry"));
    let output = without.output().unwrap();
    let lacking = complaint(&output);
    assert!(
        lacking.contains("https://") && lacking.contains("gstreamer1.0-plugins-good"),
        "{lacking}"
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

#[test]
fn a_hyphen_is_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_model(&["--srt", "-o", "-"]);
    let output = command.arg(clip_path(ONE)).current_dir(&directory).output().unwrap();
    assert!(written(&output).starts_with("1\n00:00:0"));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}
