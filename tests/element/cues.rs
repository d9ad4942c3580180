// SPDX-License-Identifier: MIT OR Apache-2.0

//! `output=cues`: captions from a file, as every element downstream would get them. Live sources are in `live/cues.rs`.

use gst::prelude::*;

use crate::{
    MS, SECOND,
    common::{clip_s16, data},
    harness::{Harness, Seen, TextBuffer, time_of},
    nemo_text,
};

const CLIP: &str = "u5_eight_sentences";
const PROPERTIES: &str = "lookahead=80 output=cues";

/// A cue in milliseconds, with `/` between lines.
fn shown(cue: &TextBuffer) -> (u64, u64, String) {
    let end = cue.pts + cue.duration;
    (cue.pts.mseconds(), end.mseconds(), cue.text.replace('\n', "/"))
}

fn all_shown(cues: &[TextBuffer]) -> Vec<(u64, u64, String)> {
    cues.iter().map(shown).collect()
}

/// Words of cues that replace each other.
fn words(cues: &[TextBuffer]) -> String {
    let words: Vec<&str> = cues.iter().flat_map(|cue| cue.text.split_whitespace()).collect();
    words.join(" ")
}

/// The cues of the clip with more properties, in buffers of `cut` samples.
fn cues(properties: &str, cut: usize) -> Vec<TextBuffer> {
    let harness = Harness::play(&format!("{PROPERTIES} {properties}"));
    harness.speak(&clip_s16(CLIP), cut);
    harness.eos();
    harness.words()
}

#[test]
fn pop_on_cues_begin_with_their_first_word() {
    let cues = cues("", 1_600);
    assert_eq!(words(&cues), nemo_text(CLIP, 1));
    let harness = Harness::play("lookahead=80");
    harness.speak(&clip_s16(CLIP), 1_600);
    harness.eos();
    let spoken = harness.words();
    let mut first = 0;
    for cue in &cues {
        let word = &spoken[first];
        assert!(
            (word.pts..=word.pts + 1_500 * MS).contains(&cue.pts),
            "{cue:?} {word:?}"
        );
        assert!(
            cue.text.lines().count() <= 2 && cue.text.lines().all(|line| line.len() <= 42),
            "{cue:?}"
        );
        first += cue.text.split_whitespace().count();
    }
    assert_eq!(cues[0].pts, spoken[0].pts);
    assert!(cues.len() >= 8, "eight sentences with pauses between them: {cues:?}");
}

#[test]
fn roll_up_cues_show_the_line_before() {
    let cues = cues("cue-mode=roll-up cue-columns=24", 1_600);
    let new: Vec<&str> = cues.iter().filter_map(|cue| cue.text.lines().last()).collect();
    assert_eq!(new.join(" "), nemo_text(CLIP, 1));
    let mut with_two = 0;
    for pair in cues.windows(2) {
        let lines: Vec<&str> = pair[1].text.lines().collect();
        if lines.len() == 2 {
            with_two += 1;
            assert_eq!(Some(lines[0]), pair[0].text.lines().last(), "{pair:?}");
        }
    }
    assert!(with_two > 4, "{cues:?}");
}

#[test]
fn paint_on_cues_grow_by_words() {
    let cues = cues("cue-mode=paint-on", 1_600);
    let mut painted = Vec::new();
    for pair in cues.windows(2) {
        let (before, after) = (pair[0].text.replace('\n', " "), pair[1].text.replace('\n', " "));
        if !after.starts_with(&before) {
            painted.push(before);
        }
    }
    painted.extend(cues.last().map(|cue| cue.text.replace('\n', " ")));
    assert_eq!(painted.join(" "), nemo_text(CLIP, 1));
    assert!(cues.len() > 20, "a cue per word: {cues:?}");
}

#[test]
fn cues_do_not_depend_on_the_size_of_buffers() {
    let expected = cues("", 1_600);
    for cut in [1, 160, 1_000, 48_000] {
        assert_eq!(all_shown(&cues("", cut)), all_shown(&expected), "{cut}");
    }
    assert_eq!(words(&expected), nemo_text(CLIP, 1));
}

#[test]
fn rules_are_kept() {
    let properties = "cue-columns=16 cue-lines=3 cue-min-duration=1000 cue-max-duration=2000 cue-gap=200 \
                      cue-reading-speed=15 cue-delay=5000";
    let cues = cues(properties, 1_600);
    assert_eq!(words(&cues), nemo_text(CLIP, 1));
    for cue in &cues {
        let lines: Vec<&str> = cue.text.lines().collect();
        assert!(lines.len() <= 3 && lines.iter().all(|line| line.len() <= 16), "{cue:?}");
        assert!((1_000 * MS..=2_000 * MS).contains(&cue.duration), "{cue:?}");
    }
    for pair in cues.windows(2) {
        assert!(pair[0].pts + pair[0].duration + 200 * MS <= pair[1].pts, "{pair:?}");
    }
}

#[test]
fn gaps_and_cues_are_contiguous() {
    for mode in ["pop-on", "roll-up", "paint-on"] {
        let harness = Harness::play(&format!("{PROPERTIES} cue-mode={mode}"));
        let samples = clip_s16(CLIP);
        harness.speak(&samples, 1_600);
        harness.eos();
        let mut position = gst::ClockTime::ZERO;
        for seen in harness.take() {
            let (pts, duration) = match seen {
                Seen::Gap { pts, duration } => (pts, duration),
                Seen::Word(cue) => (cue.pts, cue.duration),
                Seen::Event(_) | Seen::Custom(_) => continue,
            };
            assert_eq!(pts, position, "{mode}");
            position += duration;
        }
        assert!(position >= time_of(samples.len()), "{mode}");
    }
}

#[test]
fn eos_ends_the_last_cue() {
    let harness = Harness::play(PROPERTIES);
    harness.eos();
    assert_eq!(harness.words(), [], "EOS at once");
    harness.flush();
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    let seen = harness.take();
    let last = seen.iter().rposition(|seen| matches!(seen, Seen::Word(_))).unwrap();
    let ended = seen
        .iter()
        .position(|seen| matches!(seen, Seen::Custom(name) if name == "rstranscribe/final-transcript"))
        .unwrap();
    let eos = seen
        .iter()
        .position(|seen| *seen == Seen::Event(gst::EventType::Eos))
        .unwrap();
    assert!(last < ended && ended < eos, "{seen:?}");
}

#[test]
fn a_flush_discards_what_waits() {
    let expected = cues("", 1_600);
    let harness = Harness::play(PROPERTIES);
    let samples = clip_s16(CLIP);
    // Within the first cue, and after it.
    for cut in [24_000, samples.len() / 2] {
        harness.speak(&samples[..cut], 1_600);
        harness.flush();
        harness.take();
        harness.forget_position();
        harness.speak(&samples, 1_600);
        harness.eos();
        assert_eq!(all_shown(&harness.words()), all_shown(&expected), "{cut}");
        harness.flush();
        harness.take();
        harness.forget_position();
    }
}

#[test]
fn finish_completes_cues() {
    let harness = Harness::play(PROPERTIES);
    harness.speak(&clip_s16("u1_command"), 1_600);
    assert_eq!(harness.words(), [], "a cue waits for its words");
    let finish = gst::Structure::new_empty("nemostt/finish");
    harness.event(gst::event::CustomDownstream::new(finish));
    assert_eq!(words(&harness.words()), nemo_text("u1_command", 1));
}

#[test]
fn a_message_is_posted_for_every_cue() {
    let harness = Harness::play(PROPERTIES);
    harness.speak(&clip_s16(CLIP), 1_600);
    harness.eos();
    let (cues, messages) = (harness.words(), harness.word_messages());
    assert_eq!(cues.len(), messages.len());
    for (cue, message) in cues.iter().zip(&messages) {
        assert_eq!(message.get::<&str>("text").unwrap(), cue.text);
        assert_eq!(message.get::<gst::ClockTime>("start-time").unwrap(), cue.pts);
        assert_eq!(
            message.get::<gst::ClockTime>("end-time").unwrap(),
            cue.pts + cue.duration
        );
        let words = message.get::<gst::Array>("words").unwrap();
        let texts = words
            .iter()
            .map(|word| word.get::<gst::Structure>().unwrap().get::<String>("text").unwrap());
        let texts: Vec<String> = texts.collect();
        assert_eq!(texts.join(" "), cue.text.replace('\n', " "));
    }
}

#[test]
fn caption_encoders_get_what_they_can_show() {
    let run = |properties: &str, caps: &str| {
        let harness = Harness::with_encoder(&format!("{PROPERTIES} {properties}"), caps);
        harness.start();
        harness.speak(&clip_s16(CLIP), 1_600);
        harness.eos();
        harness.words()
    };
    let text = "text/x-raw,format=utf8";
    let cea608 = "text/x-raw,format=utf8;application/x-json,format=cea608";
    let widest = |cues: &[TextBuffer]| cues.iter().flat_map(|cue| cue.text.lines().map(str::len)).max();

    let cues = run("", text);
    assert!(widest(&cues) <= Some(31));
    assert_eq!(words(&cues), nemo_text(CLIP, 1));
    let cues = run("", cea608);
    assert!(widest(&cues) <= Some(32));
    assert_eq!(words(&cues), nemo_text(CLIP, 1));
    // An encoder keeps the line before it itself.
    let cues = run("cue-mode=roll-up", text);
    assert!(cues.iter().all(|cue| !cue.text.contains('\n')));
    assert_eq!(words(&cues), nemo_text(CLIP, 1));

    let cues = run("cue-mode=roll-up", cea608);
    let lines: Vec<String> = cues.iter().map(json_line).collect();
    assert_eq!(lines.join(" "), nemo_text(CLIP, 1));
    assert!(cues.iter().all(|cue| cue.text.contains("\"carriage_return\":true")));
    assert!(
        run("cue-mode=paint-on", cea608)
            .iter()
            .all(|cue| cue.text.contains("\"mode\":\"PaintOn\""))
    );
}

#[test]
fn a_muxer_gets_cues_as_they_are() {
    // The caps of a subtitle pad of mp4mux.
    let harness = Harness::with_caps(&format!("{PROPERTIES} cue-mode=roll-up"), "text/x-raw,format=utf8");
    harness.start();
    harness.speak(&clip_s16(CLIP), 1_600);
    harness.eos();
    let cues = harness.words();
    assert!(cues.iter().any(|cue| cue.text.contains('\n')), "{cues:?}");
    assert!(
        cues.iter().any(|cue| cue.text.lines().any(|line| line.len() > 31)),
        "{cues:?}"
    );
}

/// Texts of warnings since the last call.
fn warnings(harness: &Harness) -> Vec<String> {
    let messages = harness.messages().into_iter();
    let texts = messages.filter_map(|message| match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.error().message().to_owned()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn lines_are_no_longer_than_an_encoder_takes() {
    for (caps, columns) in [
        ("text/x-raw,format=utf8", 31),
        ("text/x-raw,format=utf8;application/x-json,format=cea608", 32),
    ] {
        let harness = Harness::with_encoder(&format!("{PROPERTIES} cue-columns=60"), caps);
        harness.start();
        harness.speak(&clip_s16(CLIP), 1_600);
        harness.eos();
        let cues = harness.words();
        let warnings = warnings(&harness);
        assert!(
            warnings.len() == 1
                && warnings[0].contains(&format!(
                    "cue-columns is 60, but the caption encoder downstream takes {columns}"
                )),
            "{warnings:?}"
        );
        let fits = |cue: &TextBuffer| cue.text.lines().all(|line| line.len() <= columns);
        assert!(cues.iter().all(fits), "{cues:?}");
        assert_eq!(words(&cues), nemo_text(CLIP, 1));
    }
}

#[test]
fn cues_begin_before_the_stop_of_the_segment() {
    let samples = clip_s16(CLIP);
    let until = |output: &str, stop: gst::ClockTime| {
        let harness = Harness::new(&format!("lookahead=80 {output}"));
        harness.element.set_state(gst::State::Playing).unwrap();
        harness.begin();
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_stop(stop);
        assert!(harness.segment(&segment));
        // Some of it is after the stop.
        harness.speak(&samples, 1_600);
        harness.eos();
        harness.words()
    };
    let end = time_of(samples.len());
    for tenth in [4, 7, 9] {
        let stop = end * tenth / 10;
        let spoken = words(&until("", stop));
        // Fast cues: each is longer than its words.
        for mode in [
            "pop-on cue-min-duration=1500 cue-columns=16",
            "pop-on",
            "pop-on cue-lines=1 cue-columns=10",
        ] {
            let cues = until(&format!("output=cues cue-mode={mode}"), stop);
            assert!(cues.iter().all(|cue| cue.pts < stop), "{mode} {stop}: {cues:?}");
            assert_eq!(words(&cues), spoken, "{mode} {stop}");
        }
    }
}

#[test]
fn new_rules_keep_the_gap_between_cues() {
    let harness = Harness::play(&format!("{PROPERTIES} cue-reading-speed=8"));
    let samples = clip_s16(CLIP);
    for (index, block) in samples.chunks(8_000).enumerate() {
        harness.element.set_property("cue-columns", 30 + index as u32 % 2);
        harness.speak_from(time_of(index * 8_000), block, 1_600);
    }
    harness.eos();
    let cues = harness.words();
    assert_eq!(words(&cues), nemo_text(CLIP, 1));
    for pair in cues.windows(2) {
        assert!(pair[0].pts + pair[0].duration + 80 * MS <= pair[1].pts, "{pair:?}");
    }
}

/// The text of a cue in the JSON of `tttocea608`.
fn json_line(cue: &TextBuffer) -> String {
    let json: serde_json::Value = serde_json::from_str(&cue.text).unwrap();
    assert_eq!(json["mode"], "RollUp2");
    json["lines"][0]["chunks"][0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn latency_includes_the_delay() {
    let words = Harness::new("lookahead=80").latency().1;
    let harness = Harness::play("lookahead=80 output=cues");
    assert_eq!(harness.latency().1, words + 3 * SECOND);
    harness.messages();
    harness.element.set_property("cue-delay", 1_000_u32);
    harness.speak(&[0; 1_600], 1_600);
    assert_eq!(harness.latency().1, words + SECOND, "the next utterance has not begun");
    let messages = harness.messages();
    assert!(
        messages
            .iter()
            .any(|message| message.type_() == gst::MessageType::Latency)
    );
    harness.element.set_property("lateness", 400_u32);
    harness.speak(&[0; 1_600], 1_600);
    assert_eq!(harness.latency().1, words + 600 * MS);
}

#[test]
fn changing_the_output_loses_no_word() {
    let harness = Harness::play(PROPERTIES);
    let samples = clip_s16(CLIP);
    let mut text = Vec::new();
    for (index, output) in ["words", "cues", "utterances", "cues"].iter().enumerate() {
        let part = samples.len().div_ceil(4);
        let range = index * part..((index + 1) * part).min(samples.len());
        harness.speak_from(time_of(range.start), &samples[range], 1_600);
        harness.element.set_property_from_str("output", output);
        text.push(words(&harness.words()));
    }
    harness.eos();
    text.push(words(&harness.words()));
    text.retain(|text| !text.is_empty());
    assert_eq!(text.join(" "), nemo_text(CLIP, 1));
}

#[test]
fn rules_that_contradict_each_other_are_reported() {
    let contradiction = "cue-min-duration is 2000 ms, longer than cue-max-duration, 1000 ms";
    let harness = Harness::new("output=cues cue-min-duration=2000 cue-max-duration=1000");
    assert!(harness.element.set_state(gst::State::Paused).is_err());
    let errors = harness
        .messages()
        .into_iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Error(error) => Some(error.error().message().to_owned()),
            _ => None,
        });
    let errors: Vec<String> = errors.collect();
    assert!(errors.len() == 1 && errors[0].contains(contradiction), "{errors:?}");

    // While playing, the rules before stay.
    let harness = Harness::play(&format!("{PROPERTIES} cue-max-duration=4000"));
    harness.element.set_property("cue-min-duration", 2_000_u32);
    harness.element.set_property("cue-max-duration", 1_000_u32);
    harness.speak(&clip_s16(CLIP), 1_600);
    harness.eos();
    let reported = warnings(&harness);
    assert!(
        reported.len() == 1 && reported[0].contains(contradiction),
        "{reported:?}"
    );
    let cues = harness.words();
    assert!(cues.iter().any(|cue| cue.duration < 2 * SECOND), "{cues:?}");
    assert_eq!(words(&cues), nemo_text(CLIP, 1));

    // Once they are mended, the same contradiction is another one.
    harness.flush();
    for (index, duration) in [1_000_u32, 4_000, 1_000, 1_000].into_iter().enumerate() {
        harness.element.set_property("cue-max-duration", duration);
        harness.speak_from(time_of(index * 1_600), &[0; 1_600], 1_600);
    }
    let reported = warnings(&harness);
    assert!(
        reported.len() == 1 && reported[0].contains(contradiction),
        "{reported:?}"
    );
}

#[test]
fn properties_round_trip() {
    let element = Harness::new("").element.clone();
    for (name, value) in [
        ("cue-lines", 3_u32),
        ("cue-columns", 32),
        ("cue-min-duration", 1_001),
        ("cue-max-duration", 6_001),
        ("cue-reading-speed", 17),
        ("cue-gap", 120),
        ("cue-delay", 1_002),
    ] {
        element.set_property(name, value);
        assert_eq!(element.property::<u32>(name), value);
    }
    element.set_property_from_str("cue-mode", "roll-up");
    let value = element.property_value("cue-mode");
    let (_, value) = gst::glib::EnumValue::from_value(&value).unwrap();
    assert_eq!(value.nick(), "roll-up");
}

/// The picture with captions at each time in ms, drawn by `textoverlay`, and how many pixels of each row have text.
fn pictures(properties: &str, times: &[u64]) -> Vec<Vec<usize>> {
    const WIDTH: usize = 320;
    let line = format!(
        "videotestsrc pattern=black num-buffers=270 ! video/x-raw,format=GRAY8,width={WIDTH},height=240,framerate=10/1 \
         ! textoverlay name=captions font-desc=\"Sans,10\" ! fakesink name=out sync=false \
         filesrc location=\"{}\" ! wavparse ! queue ! nemostt threads=1 {PROPERTIES} {properties} ! captions.text_sink",
        data(&format!("wav/{CLIP}.wav")).display()
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let rows = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (drawn, wanted) = (rows.clone(), times.to_vec());
    let pad = pipeline.by_name("out").unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let buffer = info.buffer().unwrap();
        if wanted.contains(&buffer.pts().unwrap().mseconds()) {
            let map = buffer.map_readable().unwrap();
            // Black is 16.
            let rows = map
                .chunks(WIDTH)
                .map(|row| row.iter().filter(|&&pixel| pixel > 60).count());
            drawn.lock().unwrap().push(rows.collect());
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(60 * SECOND, &wanted)
        .unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    std::mem::take(&mut *rows.lock().unwrap())
}

/// Number of lines of text in a picture: groups of rows with text.
fn lines(picture: &[usize]) -> usize {
    let has_text = |row: &usize| *row > 0;
    picture
        .windows(2)
        .filter(|pair| !has_text(&pair[0]) && has_text(&pair[1]))
        .count()
}

#[test]
fn textoverlay_shows_cues() {
    crate::harness::init();
    let cues = cues("cue-columns=20", 1_600);
    let two = cues.iter().find(|cue| cue.text.contains('\n')).unwrap();
    let middle = |cue: &TextBuffer| (cue.pts + cue.duration / 2).mseconds() / 100 * 100;
    let pauses = cues
        .windows(2)
        .find(|pair| pair[0].pts + pair[0].duration + 300 * MS < pair[1].pts)
        .unwrap();
    let pause = (pauses[0].pts + pauses[0].duration).mseconds() / 100 * 100 + 200;
    let mut times = [middle(two), pause];
    let first_is_text = times[0] < times[1];
    times.sort_unstable();
    let pictures = pictures("cue-columns=20", &times);
    let (text, empty) = match first_is_text {
        true => (&pictures[0], &pictures[1]),
        false => (&pictures[1], &pictures[0]),
    };
    assert!(lines(text) >= 2, "{two:?} {text:?}");
    assert_eq!(lines(empty), 0, "between {pauses:?}");
}
