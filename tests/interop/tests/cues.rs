// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt output=cues` directly before subtitle encoders and caption encoders.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nemostt_interop::{Captions, Cea708, Emitted, Run, STT, Screen608, speech, transcript, words};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the clip through `nemostt output=cues` and `tail`; `take` gets each buffer at the end.
fn run(tail: &str, take: impl FnMut(&[u8]) + Send + 'static) -> Emitted {
    let run = Run::new(&format!(
        "{} ! {STT} output=cues {tail} ! appsink name=out sync=false",
        speech()
    ));
    let mut take = take;
    run.each_sample("out", move |sample| {
        take(&sample.buffer().unwrap().map_readable().unwrap())
    });
    let emitted = run.emitted();
    run.play();
    run.wait(TIMEOUT);
    drop(run);
    Arc::into_inner(emitted).unwrap().into_inner().unwrap()
}

/// The file that `tail` writes.
fn file(tail: &str) -> String {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let file = bytes.clone();
    run(tail, move |buffer| file.lock().unwrap().extend_from_slice(buffer));
    let bytes = bytes.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// Texts of the cues, line by line.
fn lines(cues: &[String]) -> Vec<Vec<String>> {
    cues.iter()
        .map(|cue| cue.lines().map(str::to_owned).collect())
        .collect()
}

/// All texts that a decoder of CEA-608 showed, and the output of nemostt.
fn shown608(tail: &str) -> (Vec<Vec<String>>, Emitted) {
    let screen = Arc::new(Mutex::new(Screen608::default()));
    let decoder = screen.clone();
    let emitted = run(tail, move |pair| decoder.lock().unwrap().push(pair.try_into().unwrap()));
    let shown = screen.lock().unwrap().all();
    (shown, emitted)
}

/// The text of `file`, whose cues are in blocks with a line of times.
fn text_of(file: &str) -> Vec<String> {
    let blocks = file.split("\n\n").filter(|block| block.contains(" --> "));
    let texts = blocks.flat_map(|block| block.lines().skip_while(|line| !line.contains(" --> ")).skip(1));
    texts.flat_map(words).collect()
}

#[test]
fn srtenc_writes_the_transcript() {
    let file = file("! srtenc");
    assert!(file.starts_with("1\n00:00:0"), "{file}");
    assert_eq!(text_of(&file), transcript(), "{file}");
}

#[test]
fn webvttenc_writes_the_transcript() {
    let file = file("! webvttenc");
    assert!(file.starts_with("WEBVTT\n\n"), "{file}");
    assert_eq!(text_of(&file), transcript(), "{file}");
}

#[test]
fn cea608_pop_on_shows_the_cues() {
    let (shown, emitted) = shown608("! tttocea608 mode=pop-on");
    assert_eq!(shown, lines(&emitted.words));
    let text: Vec<String> = shown.concat().iter().flat_map(|line| words(line)).collect();
    assert_eq!(text, transcript());
}

#[test]
fn cea608_roll_up_shows_a_line_at_a_time() {
    for rows in 2..=4 {
        let (shown, _) = shown608(&format!(
            "cue-mode=roll-up cue-lines={rows} ! tttocea608 mode=roll-up{rows}"
        ));
        assert!(shown.iter().all(|lines| lines.len() <= rows), "{shown:?}");
        assert!(shown.iter().any(|lines| lines.len() == rows), "{shown:?}");
        // The last line of each state of the screen is new.
        let new = shown
            .iter()
            .filter_map(|lines| lines.last())
            .flat_map(|line| words(line));
        assert_eq!(new.collect::<Vec<_>>(), transcript(), "{shown:?}");
    }
}

#[test]
fn cea608_paint_on_shows_words_where_they_belong() {
    let (shown, _) = shown608("cue-mode=paint-on ! tttocea608 mode=paint-on");
    let text: Vec<String> = shown.concat().iter().flat_map(|line| words(line)).collect();
    assert_eq!(text, transcript(), "{shown:?}");
    assert!(shown.iter().all(|lines| lines.len() <= 2), "{shown:?}");
}

#[test]
fn cea608_is_decoded_by_cea608tott() {
    let captions = Arc::new(Mutex::new(Vec::new()));
    let texts = captions.clone();
    run("! tttocea608 mode=pop-on ! cea608tott ! text/x-raw", move |text| {
        texts.lock().unwrap().extend(words(std::str::from_utf8(text).unwrap()));
    });
    assert_eq!(*captions.lock().unwrap(), transcript());
}

#[test]
fn cea708_shows_the_transcript() {
    for tail in ["! tttocea708 mode=pop-on", "cue-mode=roll-up ! tttocea708 mode=roll-up"] {
        let decoder = Arc::new(Mutex::new(Cea708::default()));
        let sink = decoder.clone();
        run(tail, move |cc_data| sink.lock().unwrap().push(cc_data));
        let shown = decoder.lock().unwrap().shown.words();
        assert_eq!(shown, transcript(), "{tail}");
    }
}

#[test]
fn tttojson_gets_the_cues() {
    let run = Run::new(&format!(
        "{} ! {STT} output=cues ! tttojson ! appsink name=out sync=false",
        speech()
    ));
    let captions: Arc<Mutex<Captions>> = run.captions("out");
    run.play();
    run.wait(TIMEOUT);
    assert_eq!(captions.lock().unwrap().words(), transcript());
}
