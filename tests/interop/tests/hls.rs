// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt live --hls` with hlssink3: the segments and their captions.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use nemostt_interop::{clip, encode, transcript, words};

/// The command, which finds hlssink3.
fn nemostt(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var("NEMOSTT").expect("no command: run tools/interop.sh"));
    let plugins = env::var("HLS_PLUGIN_PATH").expect("no plugin: run tools/interop.sh");
    command
        .args(arguments)
        .env("GST_PLUGIN_PATH", plugins)
        // The test's own has other plugins.
        .env("GST_REGISTRY", format!("{}.command", env::var("GST_REGISTRY").unwrap()))
        .env_remove("NEMOSTT_MODEL");
    command
}

/// Milliseconds of hours:minutes:seconds.milliseconds.
fn milliseconds(time: &str) -> i64 {
    let parts: Vec<i64> = time.split([':', '.']).map(|part| part.parse().unwrap()).collect();
    ((parts[0] * 60 + parts[1]) * 60 + parts[2]) * 1000 + parts[3]
}

/// A segment as a player sees it.
#[derive(Debug)]
struct Segment {
    media: PathBuf,
    is_discontinuous: bool,
    /// Milliseconds.
    duration: i64,
    /// The same moment in the media, in 90 kHz, and in the captions, in milliseconds.
    mpegts: i64,
    local: i64,
    /// Start, end and text.
    cues: Vec<(i64, i64, String)>,
}

/// Files, durations and discontinuities of a playlist.
fn entries(path: &Path) -> Vec<(String, i64, bool)> {
    let (mut duration, mut is_discontinuous, mut entries) = (0.0, false, Vec::new());
    for line in fs::read_to_string(path).unwrap().lines() {
        if let Some(text) = line.strip_prefix("#EXTINF:") {
            duration = text.trim_end_matches(',').parse().unwrap();
        } else if line == "#EXT-X-DISCONTINUITY" {
            is_discontinuous = true;
        } else if !line.starts_with('#') {
            entries.push((line.into(), (duration * 1000.0_f64).round() as i64, is_discontinuous));
            is_discontinuous = false;
        }
    }
    entries
}

fn cues(text: &str) -> Vec<(i64, i64, String)> {
    let mut cues = Vec::new();
    for block in text.split("\n\n") {
        if let Some((times, text)) = block.split_once('\n')
            && let Some((start, end)) = times.split_once(" --> ")
        {
            cues.push((milliseconds(start), milliseconds(end), text.trim().replace('\n', " ")));
        }
    }
    cues
}

/// The segments of the playlists in `directory`, which must agree.
fn segments(directory: &Path) -> Vec<Segment> {
    let (media, captions) = (
        entries(&directory.join("media.m3u8")),
        entries(&directory.join("captions.m3u8")),
    );
    assert_eq!(media.len(), captions.len());
    let header = |name| {
        let text = fs::read_to_string(directory.join(name)).unwrap();
        assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
        text.lines()
            .take_while(|line| !line.starts_with("#EXTINF"))
            .map(String::from)
            .collect::<Vec<_>>()
    };
    assert_eq!(header("media.m3u8"), header("captions.m3u8"));
    let segment = |((file, duration, is_discontinuous), captions): ((String, i64, bool), (String, i64, bool))| {
        assert_eq!((duration, is_discontinuous), (captions.1, captions.2));
        let text = fs::read_to_string(directory.join(&captions.0)).unwrap();
        let map = text
            .lines()
            .nth(1)
            .unwrap()
            .strip_prefix("X-TIMESTAMP-MAP=MPEGTS:")
            .unwrap();
        let (mpegts, local) = map.split_once(",LOCAL:").unwrap();
        Segment {
            media: directory.join(file),
            is_discontinuous,
            duration,
            mpegts: mpegts.parse().unwrap(),
            local: milliseconds(local),
            cues: cues(&text),
        }
    };
    media.into_iter().zip(captions).map(segment).collect()
}

/// The cues of all segments, each once.
fn all_cues(segments: &[Segment]) -> Vec<(i64, i64, String)> {
    let mut all: Vec<_> = segments.iter().flat_map(|segment| segment.cues.clone()).collect();
    all.dedup();
    all
}

#[test]
fn a_file_becomes_a_stream_with_captions_at_the_right_times() {
    let directory = tempfile::tempdir().unwrap();
    let (movie, hls) = (directory.path().join("movie.mp4"), directory.path().join("100% hls"));
    encode(&clip("u5_eight_sentences"), "mp4mux", &movie);
    let output = nemostt(&[
        "live",
        "--threads=1",
        "--lookahead=1040",
        "--language",
        "en-US",
        "--hls",
    ])
    .arg(&hls)
    .arg(&movie)
    .output()
    .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("cannot"), "{errors}");

    let master = fs::read_to_string(hls.join("master.m3u8")).unwrap();
    for part in [
        "URI=\"captions.m3u8\"",
        "DEFAULT=YES,AUTOSELECT=YES",
        "CODECS=\"avc1.",
        ",mp4a.40.2\"",
        "RESOLUTION=320x180",
        "SUBTITLES=\"captions\"\nmedia.m3u8\n",
    ] {
        assert!(master.contains(part), "{part}: {master}");
    }

    let segments = segments(&hls);
    assert_eq!(segments.len(), 6, "of seven: {segments:?}");
    // The first one is not listed any more, and still there.
    let first = cues(&fs::read_to_string(hls.join("captions-00000.vtt")).unwrap());
    let mut all = first;
    all.extend(all_cues(&segments));
    all.dedup();
    let said: Vec<String> = all.iter().flat_map(|(_, _, text)| words(text)).collect();
    let file = nemostt(&["transcribe", "--threads=1", "--lookahead=1040", "--vtt"])
        .arg(&movie)
        .output()
        .unwrap();
    let file = cues(std::str::from_utf8(&file.stdout).unwrap());
    assert_eq!(
        said,
        file.iter().flat_map(|(_, _, text)| words(text)).collect::<Vec<_>>()
    );
    // AAC is lossy, and with it one of the digits is another one.
    let differing = said
        .iter()
        .zip(transcript())
        .filter(|(one, other)| *one != other)
        .count();
    assert!(differing <= 1 && said.len() == transcript().len(), "{said:?}");

    let mut expected = 4_000;
    for segment in &segments {
        assert!(!segment.is_discontinuous && segment.media.metadata().unwrap().len() > 10_000);
        // GStreamer's muxer begins at an hour.
        assert_eq!((segment.local, segment.mpegts), (expected, (3_600_000 + expected) * 90));
        let end = segment.local + segment.duration;
        assert!(
            segment
                .cues
                .iter()
                .all(|(start, until, _)| *start < end && *until > segment.local)
        );
        expected = end;
    }

    // The same times as in the file.
    for (start, _, text) in &all {
        let same = file.iter().find(|(_, _, other)| other == text);
        let (other, ..) = same.unwrap_or_else(|| panic!("no {text:?} in {file:?}"));
        assert!((start - other).abs() <= 120, "{text}: {start} and {other} ms");
    }
}

/// A server that sends `body` to each connection and closes it. Its URL.
fn server(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/live.ts", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection: TcpStream = connection.unwrap();
            let reader = BufReader::new(connection.try_clone().unwrap());
            let _ = reader.lines().map_while(Result::ok).find(String::is_empty);
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n";
            let _ = connection.write_all(head).and_then(|()| connection.write_all(&body));
        }
    });
    url
}

#[test]
fn a_connection_that_was_lost_goes_on_after_a_discontinuity() {
    let directory = tempfile::tempdir().unwrap();
    let (movie, hls) = (directory.path().join("movie.ts"), directory.path().join("hls"));
    encode(&clip("u1_command"), "mpegtsmux", &movie);
    let url = server(fs::read(&movie).unwrap());
    let mut child = nemostt(&["live", "--threads=1", "--lookahead=1040", "--hls"])
        .arg(&hls)
        .arg(&url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()];
    assert_eq!(said[0], said[1]);
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    let mut rest = String::new();
    let _ = lines.next().map(|line| rest += &line.unwrap());
    assert!(child.wait().unwrap().success());

    let segments = segments(&hls);
    let discontinuities = segments.iter().filter(|segment| segment.is_discontinuous).count();
    assert!(discontinuities >= 1 && !segments[0].is_discontinuous, "{segments:?}");
    for segment in &segments {
        // Each connection has timestamps of its own.
        let is_first = segment.mpegts < (3_600_000 + 1_000) * 90;
        assert!(is_first || !segment.is_discontinuous, "{segments:?}");
    }
    let cues = all_cues(&segments);
    assert_eq!((&cues[0].2, &cues[1].2), (&said[0], &said[1]));
    // Both say it 0.4 s after the beginning of their segment.
    for (cue, segment) in cues.iter().zip([
        &segments[0],
        segments.iter().find(|segment| segment.is_discontinuous).unwrap(),
    ]) {
        assert!((300..600).contains(&(cue.0 - segment.local)), "{cue:?} {segment:?}");
    }
}
